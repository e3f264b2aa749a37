use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::stats::error_share::ErrorShare;

fn one(candidate: bool) -> Pair {
    Pair { candidate: u64::from(candidate), baseline: u64::from(!candidate) }
}

fn ln_e(test: &ErrorShare) -> impl Fn(&Pair) -> f64 {
    |errors| test.ln_e(errors.candidate, errors.baseline)
}

#[test]
fn a_single_window_weighs_a_half() {
    let test = ErrorShare::new(0.5, 0.0);
    let mut restarts = Restarts::new(64);
    assert!(restarts.ln_e(ln_e(&test)).abs() < 1e-12);
    restarts.count(&Pair { candidate: 20, baseline: 0 });
    let want = (0.5 * test.ln_e(20, 0).exp() + 0.5).ln();
    assert!((restarts.ln_e(ln_e(&test)) - want).abs() < 1e-9);
}

#[test]
fn epochs_multiply_within_a_start() {
    let (first, second) = (ErrorShare::new(0.05, 0.0), ErrorShare::new(0.5, 0.0));
    let mut restarts = Restarts::new(64);
    restarts.count(&Pair { candidate: 3, baseline: 20 });
    restarts.open_window();
    restarts.count(&Pair { candidate: 2, baseline: 5 });
    restarts.end_epoch(ln_e(&first));
    restarts.count(&Pair { candidate: 4, baseline: 1 });
    let whole = first.ln_e(5, 25) + second.ln_e(4, 1);
    let since = first.ln_e(2, 5) + second.ln_e(4, 1);
    let want = (whole.exp() / 2.0 + since.exp() / 6.0 + 1.0 / 3.0).ln();
    assert!((restarts.ln_e(ln_e(&second)) - want).abs() < 1e-9);
}

#[test]
fn windows_without_events_start_nothing() {
    let mut restarts = Restarts::<Pair>::new(64);
    (0..10).for_each(|_| restarts.open_window());
    assert_eq!(restarts.starts(), 1);
    restarts.count(&one(false));
    (0..10).for_each(|_| restarts.open_window());
    assert_eq!((restarts.starts(), restarts.in_window()), (2, Pair::default()));
}

#[test]
fn old_starts_are_kept_ever_wider_apart() {
    let mut restarts = Restarts::new(64);
    for _ in 0..5_000 {
        restarts.count(&one(false));
        restarts.open_window();
    }
    assert_eq!(restarts.starts(), 64);
    let ages: Vec<u64> = restarts.starts.iter().map(|start| 5_000 - start.window).collect();
    assert_eq!((ages[0], ages[63]), (5_000, 0));
    // Whenever a regression began, there is a start not much older than it.
    for pair in ages.windows(2) {
        assert!(pair[0] - pair[1] <= 1 + pair[1] / 3, "{ages:?}");
    }
    let bytes = serde_json::to_string(&restarts).unwrap();
    assert_eq!(serde_json::from_str::<Restarts<Pair>>(&bytes).unwrap(), restarts);
}

/// Errors until the mixture and the plain test reject at 1 %, when a candidate at a share of 5 % turns bad after
/// `clean` errors.
fn delays(ratio: f64, clean: u64, seed: u64) -> (u64, u64) {
    let test = ErrorShare::new(0.05, 0.0);
    let mut chance = StdRng::seed_from_u64(seed);
    let mut restarts = Restarts::new(64);
    let mut found = (None, None);
    for event in 0..clean + 3_000 {
        let theta = if event < clean { 0.05 } else { 0.05 * ratio / (0.05 * ratio + 0.95) };
        restarts.count(&one(chance.random_bool(theta)));
        if event >= clean {
            let all = restarts.in_epoch();
            let after = Some(event - clean);
            found.0 = found.0.or_else(|| (restarts.ln_e(ln_e(&test)) >= f64::ln(100.0)).then_some(after)?);
            found.1 = found.1.or_else(|| (ln_e(&test)(all) >= f64::ln(100.0)).then_some(after)?);
        }
        if found.0.is_some() && found.1.is_some() {
            break;
        }
        if event % WINDOW_EVENTS == WINDOW_EVENTS - 1 {
            restarts.open_window();
        }
    }
    (found.0.unwrap_or(3_000), found.1.unwrap_or(3_000))
}

#[test]
fn a_late_regression_is_found_sooner_than_by_one_test() {
    let mut runs: Vec<(u64, u64)> = (0..15).map(|seed| delays(3.0, 2_000, seed)).collect();
    runs.sort_unstable_by_key(|run| run.0);
    let mixture = runs[7].0;
    runs.sort_unstable_by_key(|run| run.1);
    let plain = runs[7].1;
    assert!(mixture < 280 && plain > 350, "{mixture} {plain}");
}

#[test]
fn healthy_candidates_are_seldom_rejected() {
    // 300 runs of 600 errors over a ramp of three steps, at a level of 5 %: Ville's bound allows 15 of them.
    let mut rejected = 0;
    for seed in 0..300 {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut restarts = Restarts::new(8);
        let mut highest = f64::NEG_INFINITY;
        for share in [0.05, 0.25, 0.5] {
            let test = ErrorShare::new(share, 0.0);
            for event in 0..200 {
                restarts.count(&one(chance.random_bool(share)));
                highest = highest.max(restarts.ln_e(ln_e(&test)));
                if event % 20 == 19 {
                    restarts.open_window();
                }
            }
            restarts.end_epoch(ln_e(&test));
        }
        rejected += u32::from(highest >= f64::ln(20.0));
    }
    assert!(rejected <= 15, "{rejected} of 300");
}
