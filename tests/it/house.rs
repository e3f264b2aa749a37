//! Rules of the house that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files under `path`, or the one that it is.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| files(&entry)).filter(|file| file.extension() == Some("rs".as_ref())).collect()
}

/// A file's code: without its comments, and without what only tests see.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a file is part of the tests alone.
fn is_test(file: &Path) -> bool {
    let name = file.strip_prefix(sources()).unwrap().to_string_lossy().into_owned();
    ["tests.rs", "tests/", "corpus.rs", "example.rs", "sample.rs"].iter().any(|part| name.contains(part))
}

/// Whether `word` stands in `code` with nothing before or behind it that would make it part of another.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(part)
            && !code[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn the_pure_rooms_know_no_runtime_no_clock_and_no_chance() {
    let rooms = [
        "stats.rs",
        "stats",
        "comparison.rs",
        "comparison",
        "strategy.rs",
        "strategy",
        "protocol.rs",
        "protocol",
        "call.rs",
        "assignment.rs",
        "prediction.rs",
        "outcome.rs",
        "fault.rs",
        "fleet/exchange.rs",
        "fleet/ledger.rs",
        "fleet/member.rs",
        "fleet/pace.rs",
        "fleet/part.rs",
        "fleet/reports.rs",
        "fleet/seat.rs",
        "dispatch/budget.rs",
        "dispatch/patience.rs",
        "drift/evidence.rs",
        "drift/units.rs",
    ];
    let foreign = [
        "tokio",
        "tonic",
        "tracing",
        "opentelemetry",
        "Instant::now",
        "SystemTime::now",
        "rand",
        "rng",
        "thread_rng",
        "std::net",
        "std::fs",
        "std::env",
    ];
    let mut looked = 0;
    for room in rooms {
        for file in files(&sources().join(room)).iter().filter(|file| !is_test(file)) {
            looked += 1;
            let code = code(file);
            for word in foreign {
                assert!(!names(&code, word), "{} names {word}", file.display());
            }
        }
    }
    assert!(looked >= 18, "only {looked} files were looked at");
    // The check itself must be able to fail.
    assert!(names(&code(&sources().join("worker.rs")), "tokio"));
}

#[test]
fn only_tasks_starts_tasks() {
    let mut starters = Vec::new();
    for file in files(&sources()).iter().filter(|file| !is_test(file)) {
        let code = code(file);
        if ["tokio::spawn(", "spawn_local(", "spawn_blocking(", "task::spawn("]
            .iter()
            .any(|way| code.contains(way))
        {
            starters.push(file.strip_prefix(sources()).unwrap().to_string_lossy().into_owned());
        }
    }
    assert_eq!(starters, ["tasks.rs"]);
}

#[test]
fn every_room_is_in_the_table_of_the_house() {
    let house = fs::read_to_string(sources().join("lib.rs")).unwrap();
    let mut missing = Vec::new();
    for entry in fs::read_dir(sources()).unwrap() {
        let path = entry.unwrap().path();
        let Some(room) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
        if !["lib", "main"].contains(&room) && !house.contains(&format!("[`{room}`]")) {
            missing.push(room.to_owned());
        }
    }
    missing.sort();
    assert_eq!(missing, Vec::<String>::new(), "rooms that the table in lib.rs does not name");
}

#[test]
fn every_file_says_what_it_is() {
    for file in files(&sources()).iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with what it is", file.display());
    }
}
