//! Where a unit falls by the hash of another platform, so that a test that ran there goes on here with everybody in
//! the variant that they had.
//!
//! Each has its own hash and its own number of places; here all of them are scaled to 100,000 without rounding, for
//! each of them divides that. Published vectors of each platform hold its formula in place.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{bucket, murmur3_x86_32, salted};

/// Places that a split has: steps of 0.001 %.
pub const PLACES: u32 = 100_000;

/// Whose hash says where a unit falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Platform {
    /// flagd's fractional evaluation, version 2 (OpenFeature): MurmurHash3 of salt and unit, 100,000 places.
    #[default]
    Flagd,
    /// GrowthBook, hash version 2: FNV-1a of the digits of the FNV-1a of seed and value, 10,000 places. The salt is its
    /// seed.
    GrowthBook,
    /// Optimizely: MurmurHash3 with seed 1 of unit and salt, 10,000 places. The salt is the experiment's id.
    Optimizely,
    /// Statsig: SHA-256 of salt, a dot and unit, its first eight bytes, 10,000 places. The salt is that of the
    /// configuration, a dot, and that of the rule.
    Statsig,
}

impl Platform {
    /// All of them.
    pub const ALL: [Platform; 4] =
        [Platform::Flagd, Platform::GrowthBook, Platform::Optimizely, Platform::Statsig];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Flagd => "flagd",
            Platform::GrowthBook => "growthbook",
            Platform::Optimizely => "optimizely",
            Platform::Statsig => "statsig",
        }
    }

    /// Where a unit falls under a salt, in `0..PLACES`.
    pub fn place(self, salt: &str, unit: &str) -> u32 {
        match self {
            Platform::Flagd => bucket(salted(salt, unit), PLACES),
            Platform::GrowthBook => growthbook(salt, unit) * 10,
            Platform::Optimizely => {
                bucket(murmur3_x86_32(1, &[unit.as_bytes(), salt.as_bytes()]), 10_000) * 10
            }
            Platform::Statsig => statsig(salt, unit, 10_000) * 10,
        }
    }

    /// Where a unit falls in a layer of that name, in `0..PLACES`: the layer's own hash, which no rollout's has to do
    /// with.
    pub fn layer_place(self, layer: &str, unit: &str) -> u32 {
        match self {
            // A namespace of GrowthBook's has its first version of the hash.
            Platform::GrowthBook => fnv1a([unit.as_bytes(), b"__", layer.as_bytes()]) % 1000 * 100,
            Platform::Statsig => statsig(layer, unit, 1000) * 100,
            Platform::Flagd | Platform::Optimizely => {
                let key = [b"layer/".as_slice(), layer.as_bytes(), b"/", unit.as_bytes()];
                bucket(murmur3_x86_32(0, &key), PLACES)
            }
        }
    }
}

/// Version 2, in `0..10_000`.
fn growthbook(seed: &str, value: &str) -> u32 {
    let first = fnv1a([seed.as_bytes(), value.as_bytes(), b""]);
    let mut digits = [0; 10];
    let mut begin = digits.len();
    let mut rest = first;
    loop {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    fnv1a([&digits[begin..], b"", b""]) % 10_000
}

/// FNV-1a of 32 bits, by Fowler, Noll and Vo, in the public domain.
fn fnv1a(parts: [&[u8]; 3]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    parts.into_iter().flatten().fold(0x811c_9dc5, step)
}

fn statsig(salt: &str, unit: &str, places: u64) -> u32 {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(b".");
    hash.update(unit.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    (u64::from_be_bytes(first) % places) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number};

    #[test]
    fn growthbook_hashes() {
        for row in Case::named("growthbook_hash").rows() {
            let (seed, value, want) = (row[0].as_str().unwrap(), row[1].as_str().unwrap(), number(&row[3]));
            let got = match row[2].as_u64().unwrap() {
                1 => f64::from(fnv1a([value.as_bytes(), seed.as_bytes(), b""]) % 1000) / 1000.0,
                _ => f64::from(Platform::GrowthBook.place(seed, value)) / f64::from(PLACES),
            };
            assert!((got - want).abs() < 1e-12, "{row}: {got}");
        }
    }

    #[test]
    fn growthbook_namespaces() {
        let rows = Case::named("growthbook_namespace");
        for row in rows.rows() {
            let (unit, space) = (row[1].as_str().unwrap(), row[2].as_array().unwrap());
            let place = Platform::GrowthBook.layer_place(space[0].as_str().unwrap(), unit);
            let place = f64::from(place) / f64::from(PLACES);
            let inside = (number(&space[1])..number(&space[2])).contains(&place);
            assert_eq!(inside, row[3].as_bool().unwrap(), "{row}: {place}");
        }
    }

    #[test]
    fn optimizely_buckets() {
        for row in Case::named("optimizely_bucket").rows() {
            let (unit, salt) = (row["id"].as_str().unwrap(), row["parent"].as_str().unwrap());
            assert_eq!(
                u64::from(Platform::Optimizely.place(salt, unit) / 10),
                row["bucket"].as_u64().unwrap()
            );
        }
    }

    #[test]
    fn statsig_hashes() {
        for row in Case::named("statsig_hash").rows() {
            let (salt, unit) = row["s"].as_str().unwrap().rsplit_once('.').unwrap();
            assert_eq!(
                u64::from(Platform::Statsig.place(salt, unit) / 10),
                row["mod_10000"].as_u64().unwrap()
            );
        }
    }

    /// Pearson's statistic of how many of `counts` there are, which should be equally many; its mean is one less than
    /// there are, its variance twice that.
    fn too_uneven(counts: &[u64]) -> bool {
        let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let off: f64 = counts.iter().map(|count| (*count as f64 - mean).powi(2) / mean).sum();
        let free = counts.len() as f64 - 1.0;
        off > free + 5.0 * (2.0 * free).sqrt()
    }

    #[test]
    fn places_are_even_and_two_salts_have_nothing_to_do_with_each_other() {
        for platform in Platform::ALL {
            let units = if platform == Platform::Flagd { 1_000_000 } else { 200_000 };
            let mut even = vec![0; 1000];
            let mut both = vec![0; 100];
            for unit in 0..units {
                let unit = format!("user-{unit}");
                let (one, other) = (platform.place("checkout", &unit), platform.place("search", &unit));
                even[(one / 100) as usize] += 1;
                both[(one / 10_000 * 10 + other / 10_000) as usize] += 1;
            }
            assert!(!too_uneven(&even) && !too_uneven(&both), "{platform:?}");
        }
    }

    #[test]
    #[ignore = "long: cargo test --release --lib even_over_a_million -- --ignored"]
    fn even_over_a_million_units_and_for_fifty_salts_in_pairs() {
        let mut even = vec![0; 1000];
        let mut places: Vec<Vec<u8>> = vec![Vec::new(); 50];
        for unit in 0..1_000_000 {
            let unit = format!("user-{unit}");
            for (salt, places) in places.iter_mut().enumerate() {
                let place = Platform::Flagd.place(&format!("salt-{salt}"), &unit);
                places.push((place / 10_000) as u8);
                even[(place / 100) as usize] += u64::from(salt == 0);
            }
        }
        assert!(!too_uneven(&even));
        for one in 0..50 {
            for other in 0..one {
                let mut both = vec![0; 100];
                for (one, other) in places[one].iter().zip(&places[other]) {
                    both[usize::from(*one) * 10 + usize::from(*other)] += 1;
                }
                assert!(!too_uneven(&both), "salts {one} and {other}");
            }
        }
    }
}
