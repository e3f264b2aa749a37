//! No dependency is older than a version that mends a hole or a fault which callers would meet.

use std::collections::BTreeMap;
use std::path::Path;

/// The least version of each, and why.
const FLOORS: [(&str, [u64; 3], &str); 6] = [
    (
        "h2",
        [0, 4, 20],
        "floods of empty DATA, the false alarm of their first cure, and a budget that follows windows",
    ),
    ("hyper", [1, 12, 0], "the oldest that was tested with this h2"),
    ("tonic", [0, 14, 9], "drops its listener before it drains, and lets reset streams be bounded"),
    ("rustls", [0, 23, 18], "a panic of the acceptor that a client hello can cause"),
    ("tokio", [1, 44, 2], "unsound broadcast channels"),
    ("ring", [0, 17, 12], "a panic on long inputs where overflow is checked"),
];

fn locked() -> BTreeMap<String, Vec<[u64; 3]>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let mut found: BTreeMap<String, Vec<[u64; 3]>> = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = Some(value.trim_matches('"').to_owned());
        }
        if let (Some(value), Some(name)) = (line.strip_prefix("version = "), &name) {
            let plain = value.trim_matches('"').split(['-', '+']).next().unwrap();
            let mut numbers = plain.split('.').map(|number| number.parse().unwrap());
            let version = std::array::from_fn(|_| numbers.next().unwrap_or(0));
            found.entry(name.clone()).or_default().push(version);
        }
    }
    found
}

#[test]
fn no_version_is_below_its_floor() {
    let locked = locked();
    for (name, floor, why) in FLOORS {
        let versions = locked.get(name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
        for version in versions {
            assert!(*version >= floor, "{name} {version:?} is below {floor:?}: {why}");
        }
    }
    assert!(locked.len() > 100, "{}", locked.len());
}

#[test]
fn there_is_one_provider_of_cryptography_and_one_of_each_that_must_be_one() {
    let locked = locked();
    for one in ["h2", "hyper", "http", "rustls", "tokio", "tonic", "ring"] {
        assert_eq!(locked[one].len(), 1, "{one}: {:?}", locked[one]);
    }
    for none in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!locked.contains_key(none), "{none} came in");
    }
}
