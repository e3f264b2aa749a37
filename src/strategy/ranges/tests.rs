use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::stats::hash;

fn percent(thousandths: u32) -> Percent {
    Percent::from_thousandths(thousandths).unwrap()
}

/// The owner of a hash.
fn find(ranges: &Ranges, hash: u32) -> Option<usize> {
    ranges.at(hash::bucket(hash, ranges.total))
}

#[test]
fn published_splits_of_flagd() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/data/oracles.json")).unwrap();
    let case =
        file["cases"].as_array().unwrap().iter().find(|case| case["id"] == "flagd_fractional_v2").unwrap();
    let rows = case["expected"].as_array().unwrap();
    assert_eq!(rows.len(), 11);
    for row in rows {
        let key = row["key"].as_str().unwrap();
        let weights = row["weights"].as_array().unwrap();
        let widths: Vec<u32> = weights.iter().map(|pair| pair[1].as_u64().unwrap() as u32).collect();
        let ranges = Ranges::cumulative(widths.iter().copied().enumerate());
        // Split anywhere into salt and unit, the key is the same.
        for (at, _) in key.char_indices() {
            let (salt, unit) = key.split_at(at);
            let place = hash::murmur3_x86_32(0, &[salt.as_bytes(), unit.as_bytes()]);
            assert_eq!(u64::from(place), row["hash"].as_u64().unwrap(), "{key}");
            assert_eq!(
                u64::from(hash::bucket(place, ranges.total)),
                row["bucket"].as_u64().unwrap(),
                "{key}"
            );
            let variant = find(&ranges, place).unwrap();
            assert_eq!(weights[variant][0], row["variant"], "{key}");
        }
    }
}

#[test]
fn candidates_lie_around_the_baseline() {
    let weights =
        [(0, 50_000), (1, 10_000), (2, 20_000), (3, 5_000), (4, 15_000)].map(|(v, w)| (v, percent(w)));
    let ranges = Ranges::around(0, &weights);
    assert_eq!(
        ranges.ends,
        [(10_000, 1), (15_000, 3), (65_000, 0), (80_000, 4), (100_000, 2)],
        "first and third below, fourth and second above"
    );
    assert_eq!(ranges.share(|variant| variant == 2), 0.2);
    assert_eq!(ranges.share(|_| true), 1.0);
}

#[test]
fn a_baseline_without_a_weight_gets_the_rest() {
    let ranges = Ranges::around(7, &[(1, percent(1))]);
    assert_eq!((find(&ranges, 0), find(&ranges, u32::MAX)), (Some(1), Some(7)));
    assert_eq!(ranges.share(|variant| variant == 7), 0.99999);
    assert_eq!(find(&Ranges::around(0, &[(1, Percent::ALL)]), u32::MAX), Some(1));
    assert_eq!(find(&Ranges::cumulative([]), 5), None);
}

/// Shares of up to five candidates and a baseline, together 100 %, the baseline first.
fn weights() -> impl Strategy<Value = Vec<u32>> {
    vec(0..100_001_u32, 1..6).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let mut start = 0;
        let mut widths: Vec<u32> = Vec::new();
        for cut in cuts.into_iter().chain([100_000]) {
            widths.push(cut - start);
            start = cut;
        }
        widths
    })
}

fn listed(widths: &[u32]) -> Vec<(usize, Percent)> {
    widths.iter().map(|width| percent(*width)).enumerate().collect()
}

proptest! {
    #[test]
    fn a_candidate_that_grows_loses_no_unit_and_takes_from_the_baseline(
        mut widths in weights(),
        grower in any::<usize>(),
        more in any::<u32>(),
        places in vec(any::<u32>(), 200),
    ) {
        let before = Ranges::around(0, &listed(&widths));
        let grower = 1 + grower % (widths.len() - 1);
        let more = more % (widths[0] + 1);
        widths[0] -= more;
        widths[grower] += more;
        let after = Ranges::around(0, &listed(&widths));
        for place in places {
            let (was, is) = (find(&before, place).unwrap(), find(&after, place).unwrap());
            prop_assert!(was != grower || is == grower);
            if widths.len() <= 3 && was != is {
                prop_assert_eq!((was, is), (0, grower));
            }
        }
    }

    #[test]
    fn each_owns_as_much_as_its_share(widths in weights(), place in any::<u32>()) {
        let ranges = Ranges::around(0, &listed(&widths));
        let owned = |variant: usize| {
            let mut start = 0;
            let mut sum = 0;
            for (end, owner) in &ranges.ends {
                if *owner == variant { sum += end - start; }
                start = *end;
            }
            sum
        };
        for (variant, width) in widths.iter().enumerate() {
            prop_assert_eq!(owned(variant), *width);
            prop_assert_eq!(ranges.share(|other| other == variant), f64::from(*width) / 100_000.0);
        }
        prop_assert!(widths[find(&ranges, place).unwrap()] > 0);
    }
}
