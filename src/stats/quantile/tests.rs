use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::stats::beta_mixture::TUNED_FOR;
use crate::stats::oracle::{Case, counts, number, numbers};

/// Every edge computed, none left out.
fn per_edge(test: &QuantileTest, candidate: &[u64], baseline: &[u64]) -> Vec<f64> {
    let all = totals(candidate, baseline);
    let row = |j: usize| {
        let at_or_below: u64 = candidate.iter().take(j + 1).sum();
        let below: u64 = baseline.iter().take(j.saturating_sub(test.shift)).sum();
        test.mixture.ln_e_below(at_or_below, all.0 - at_or_below)
            + test.mixture.ln_e_above(below, all.1 - below)
    };
    (0..candidate.len()).map(row).collect()
}

#[test]
fn e_values_of_the_formula() {
    let case = Case::named("quantile_one_sided_e");
    assert_eq!((number(&case.input()["n_opt"]), number(&case.input()["alpha_opt"])), (CALLS, TUNED_FOR));
    let (candidate, baseline) = (counts(&case.input()["canary_hist"]), counts(&case.input()["base_hist"]));
    for row in case.rows() {
        let test = QuantileTest::new(number(&row["q"]), 0.0);
        case.check(test.mixture.prior().0, &row["a"]);
        case.check(test.mixture.prior().1, &row["b"]);
        for (got, want) in
            per_edge(&test, &candidate, &baseline).iter().zip(row["per_edge"].as_array().unwrap())
        {
            case.check(*got, want);
        }
        assert_eq!(numbers(&row["per_edge"]).len(), candidate.len());
        case.check(test.ln_e(&candidate, &baseline), &row["log_e"]);
    }
}

#[test]
fn buckets_cover_a_microsecond_to_a_hundred_seconds() {
    assert_eq!(bucket(Duration::ZERO), 0);
    assert_eq!(bucket(Duration::from_micros(1)), 0);
    assert_eq!(bucket(Duration::from_nanos(1001)), 1);
    assert!(usize::from(bucket(Duration::from_secs(100))) < BUCKETS - 1);
    assert_eq!(usize::from(bucket(Duration::MAX)), BUCKETS - 1);
}

#[test]
fn a_tolerance_is_taken_to_whole_buckets() {
    assert!((QuantileTest::new(0.5, 0.10).tolerance() - 0.104).abs() < 1e-3);
    assert!((QuantileTest::new(0.99, 0.15).tolerance() - 0.1487).abs() < 1e-3);
    assert_eq!(QuantileTest::new(0.99, 0.0).tolerance(), 0.0);
}

#[test]
fn no_calls_are_no_evidence() {
    let test = QuantileTest::new(0.95, 0.15);
    assert_eq!(test.ln_e(&[], &[]), 0.0);
    assert_eq!(test.ln_e(&[0; BUCKETS], &[0; BUCKETS]), 0.0);
    assert!(test.ln_e(&[0; BUCKETS], &[3; BUCKETS]) <= 0.0);
    assert!(test.ln_e(&[3; BUCKETS], &[0; BUCKETS]) <= 0.0);
}

#[test]
fn a_shift_of_the_tolerance_is_no_evidence_and_twice_as_slow_is() {
    // A lognormal latency of 5 ms, rather precisely, in expected counts.
    let shape = |slower: f64, calls: f64| -> Vec<u64> {
        let centre = (5000.0 * slower).ln() / GROWTH.ln();
        let weight = |j: usize| (-0.5 * ((j as f64 - centre) * GROWTH.ln() / 0.5).powi(2)).exp();
        let all: f64 = (0..BUCKETS).map(weight).sum();
        (0..BUCKETS).map(|j| (calls * weight(j) / all).round() as u64).collect()
    };
    let baseline = shape(1.0, 1e6);
    let test = QuantileTest::new(0.95, 0.15);
    assert!(test.ln_e(&shape(1.0, 1e5), &baseline) < 0.0);
    assert!(test.ln_e(&shape(1.14, 1e5), &baseline) < 0.0);
    assert!(test.ln_e(&shape(2.0, 1e4), &baseline) > f64::ln(1e6));
}

proptest! {
    #[test]
    fn a_bucket_holds_what_falls_into_it(nanos in 1001u64..100_000_000_000) {
        let latency = Duration::from_nanos(nanos);
        let at = bucket(latency);
        // An edge is rounded to a nanosecond.
        prop_assert!(latency <= upper_edge(at) + Duration::from_nanos(1));
        prop_assert!(latency + Duration::from_nanos(1) >= upper_edge(at - 1));
        prop_assert!(bucket(latency + Duration::from_nanos(nanos / 49)) > at);
    }

    #[test]
    fn the_search_finds_the_least_of_all_edges(
        candidate in vec(0u64..60, 0..40), baseline in vec(0u64..400, 0..40), q in 0.05..0.99f64, tolerance in 0.0..0.3f64) {
        let test = QuantileTest::new(q, tolerance);
        let least = per_edge(&test, &candidate, &baseline).into_iter().fold(f64::INFINITY, f64::min);
        let least = if candidate.iter().all(|count| *count == 0) { 0.0 } else { least };
        let got = test.ln_e(&candidate, &baseline);
        prop_assert!((got - least).abs() < 1e-9 * (1.0 + least.abs()), "{} {}", got, least);
    }
}
