use proptest::prelude::*;

use super::*;
use crate::stats::beta_mixture::TUNED_FOR;
use crate::stats::oracle::{Case, number};

#[test]
fn published_e_values() {
    let case = Case::named("error_share_e_value");
    let trials = number(&case.input()["n_opt"]);
    assert_eq!(number(&case.input()["alpha_opt"]), TUNED_FOR);
    for row in case.rows() {
        let theta = number(&row["theta0"]);
        let test = ErrorShare::tuned(theta, 0.0, trials);
        let (a, b) = test.mixture.unwrap().prior();
        case.check(a, &row["a"]);
        case.check(b, &row["b"]);
        let counts = (row["n_canary"].as_u64().unwrap(), row["n_base"].as_u64().unwrap());
        case.check(test.ln_e(counts.0, counts.1), &row["log_e"]);
    }
}

#[test]
fn the_tolerance_moves_the_allowed_share() {
    let theta = ErrorShare::new(0.05, 0.25).largest_share().unwrap();
    assert!((theta - 0.0625 / 1.0125).abs() < 1e-15);
    assert_eq!(ErrorShare::new(0.0, 0.25).largest_share(), None);
    assert_eq!(ErrorShare::new(1.0, 0.25).ln_e(50, 0), 0.0);
}

/// The mean of E at a stopping time, computed exactly: all paths of trials, stopped at E ≥ 1/α or at the end.
fn mean_at_stop(ln_e: impl Fn(u64, u64) -> f64, theta: f64, last: u64) -> f64 {
    let mut mass = vec![1.0_f64];
    let mut mean = 0.0;
    for trials in 0..=last {
        let mut next = vec![0.0; mass.len() + 1];
        for (hits, part) in mass.iter().enumerate() {
            let e = ln_e(hits as u64, trials - hits as u64).exp();
            if e >= 20.0 || trials == last {
                mean += part * e;
            } else {
                next[hits + 1] += part * theta;
                next[hits] += part * (1.0 - theta);
            }
        }
        mass = next;
    }
    mean
}

#[test]
fn under_the_hypothesis_the_mean_at_a_stop_is_one_and_less_inside_it() {
    for (share, tolerance) in [(0.05, 0.0), (0.2, 0.25), (0.5, 0.0)] {
        let test = ErrorShare::new(share, tolerance);
        let theta = test.largest_share().unwrap();
        let mean = |theta| mean_at_stop(|candidate, baseline| test.ln_e(candidate, baseline), theta, 120);
        assert!((mean(theta) - 1.0).abs() < 1e-9, "{}", mean(theta));
        assert!(mean(theta * 0.8) < 1.0);
        assert!(mean(theta * 1.5) > 1.0);
    }
    let below = BetaMixture::new(0.1, 100.0);
    let mean = |theta| mean_at_stop(|hits, misses| below.ln_e_below(hits, misses), theta, 120);
    assert!((mean(0.1) - 1.0).abs() < 1e-9);
    assert!(mean(0.15) < 1.0);
}

/// At which candidate error the test first reaches 1/α when every error falls in expectation: the median of the
/// stopping time, computed exactly.
fn median_errors(share: f64, ratio: f64, tolerance: f64, alpha: f64) -> u64 {
    let test = ErrorShare::new(share, tolerance);
    let theta = share * ratio / (share * ratio + 1.0 - share);
    let mut mass = vec![1.0_f64];
    let mut stopped = std::collections::BTreeMap::new();
    for trials in 0..3_000_u64 {
        let mut next = vec![0.0; mass.len() + 1];
        for (hits, part) in mass.iter().enumerate().filter(|(_, part)| **part > 1e-9) {
            if test.ln_e(hits as u64, trials - hits as u64) >= -f64::ln(alpha) {
                *stopped.entry(hits as u64).or_insert(0.0) += part;
            } else {
                next[hits + 1] += part * theta;
                next[hits] += part * (1.0 - theta);
            }
        }
        if stopped.values().sum::<f64>() > 0.999 {
            break;
        }
        mass = next;
    }
    let mut sum = 0.0;
    *stopped
        .iter()
        .find(|(_, part)| {
            sum += **part;
            sum >= 0.5
        })
        .unwrap()
        .0
}

#[test]
fn a_worse_candidate_is_seen_after_few_of_its_errors() {
    let medians: Vec<u64> = [3.0, 10.0].iter().map(|ratio| median_errors(0.05, *ratio, 0.0, 0.01)).collect();
    assert!(medians[0] <= 15 && medians[1] <= 6, "{medians:?}");
    assert!(medians[1] >= 3, "{medians:?}");
}

#[test]
fn a_fixed_rate_is_judged_by_calls() {
    let test = FixedRate::new(0.01);
    assert!(test.ln_e(10, 990) < 0.0);
    assert!(test.ln_e(60, 940) > f64::ln(1000.0));
}

proptest! {
    #[test]
    fn evidence_grows_with_the_candidates_errors_and_falls_with_the_baselines(
        share in 0.01..0.99f64, tolerance in 0.0..2.0f64, candidate in 0u64..2_000, baseline in 0u64..200_000) {
        let test = ErrorShare::new(share, tolerance);
        let here = test.ln_e(candidate, baseline);
        prop_assert!(here.is_finite());
        prop_assert!(test.ln_e(candidate + 1, baseline) > here);
        prop_assert!(test.ln_e(candidate, baseline + 1) < here);
    }

    #[test]
    fn above_and_below_are_mirror_images(theta in 0.01..0.99f64, hits in 0u64..500, misses in 0u64..500) {
        let (this, mirrored) = (BetaMixture::new(theta, 100.0), BetaMixture::new(1.0 - theta, 100.0));
        let (above, below) = (this.ln_e_above(hits, misses), mirrored.ln_e_below(misses, hits));
        prop_assert!((above - below).abs() < 1e-9 * (1.0 + above.abs()), "{} {}", above, below);
    }
}
