//! Faults by the hundred: whatever happens, the fleet ends as one, and nothing is counted twice or forgotten.

use std::ops::Range;

use super::world::Fleet;

/// How many worlds are played where `PARHELION_SEEDS` does not say: `PARHELION_SEEDS=10000 cargo test --test it --
/// fleet::seeds` plays more, `PARHELION_SEEDS=5000..10000` those of them, `PARHELION_SEED=7` that one alone.
const SEEDS: u64 = 500;

/// Worlds as they are asked for.
fn asked() -> Range<u64> {
    let said = |name: &str| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(seed) = said("PARHELION_SEED").as_deref().and_then(number) {
        return seed..seed + 1;
    }
    let seeds = said("PARHELION_SEEDS").unwrap_or_default();
    let (from, end) = seeds.split_once("..").unwrap_or(("0", &seeds));
    number(from).unwrap_or(0)..number(end).unwrap_or(SEEDS)
}

#[test]
fn a_fleet_ends_as_one_whatever_happened() {
    let seeds = asked();
    let many = seeds.end - seeds.start >= SEEDS;
    let (mut wrong, mut alone, mut lossy, mut crashes, mut versions) = (Vec::new(), 0, 0, 0, 0);
    for seed in seeds {
        let end = Fleet::new(seed).play();
        alone += end.alone;
        lossy += u64::from(end.lossy);
        crashes += end.crashes;
        versions += end.version;
        if let Some(first) = end.wrong.first() {
            wrong.push(format!("seed {seed}: {first}"));
        }
    }
    assert!(wrong.is_empty(), "{} worlds went wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    // The worlds must hold what they are to be proof against.
    assert!(!many || alone > 20 && lossy > 100 && crashes > 50 && versions > 500);
}

#[test]
fn the_same_number_plays_the_same_world() {
    let (one, again, other) = (Fleet::new(7).play(), Fleet::new(7).play(), Fleet::new(8).play());
    assert_eq!(one, again);
    assert_ne!(one.trace, other.trace);
}
