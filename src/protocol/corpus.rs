//! The fuzz targets' checks over their committed corpus, so that what a fuzzer once found stays found without one.

use std::fs;
use std::path::Path;

use crate::{keys, prediction, protocol};

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
