//! The fuzz targets' checks over their committed corpus, so that what a fuzzer once found stays found without one.

use std::fs;
use std::path::Path;

use crate::{config, hop, keys, prediction, protocol, tls, wire};

#[path = "../../fuzz/checks.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "{} holds {count} files", folder.display());
}

#[test]
fn frames() {
    replay("frames", checks::frames);
}

#[test]
fn predictions() {
    replay("prediction", checks::prediction);
}

#[test]
fn requests() {
    replay("request", checks::request);
}

#[test]
fn timeouts() {
    replay("timeout", checks::timeout);
}

#[test]
fn hops() {
    replay("hop", checks::hop);
}

#[test]
fn configurations() {
    replay("config", checks::config);
}

#[test]
fn watches() {
    replay("watch", checks::watch);
}

#[test]
fn certificates() {
    replay("certificate", checks::certificate);
}

#[test]
fn files_of_keys() {
    replay("keys", checks::keys);
}

#[test]
fn every_target_has_a_corpus_that_is_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let here = include_str!("corpus.rs");
    let targets: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    for target in &targets {
        assert!(here.contains(&format!("replay(\"{target}\"")), "{target} is not replayed");
    }
    assert!(targets.len() >= 8, "{targets:?}");
}
