use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const DEFAULT: Margin = Margin { absolute: 0.001, relative: 0.25 };

/// Events of Poisson with a small mean, by multiplication of uniforms.
fn poisson(chance: &mut StdRng, mean: f64) -> u64 {
    let (mut product, mut count) = (chance.random::<f64>(), 0);
    while product > (-mean).exp() {
        product *= chance.random::<f64>();
        count += 1;
    }
    count
}

/// After how many of its calls a candidate passes, looked at after every block of some calls.
fn passes_after(
    test: &Inferiority,
    share: f64,
    rates: (f64, f64),
    alpha: f64,
    most: f64,
    seed: u64,
) -> Option<f64> {
    let mut chance = StdRng::seed_from_u64(seed);
    let block = 1.0 / (share * rates.0 + (1.0 - share) * rates.1).max(share * 1e-3);
    let mut calls = Calls::default();
    let mut exact = 0.0;
    while exact * share < most {
        exact += block;
        calls.all = exact as u64;
        calls.candidate_errors += poisson(&mut chance, block * share * rates.0);
        calls.baseline_errors += poisson(&mut chance, block * (1.0 - share) * rates.1);
        if test.ln_e(&calls) >= -f64::ln(alpha) {
            return Some(exact * share);
        }
    }
    None
}

fn median(test: &Inferiority, share: f64, rate: f64, alpha: f64) -> f64 {
    let runs = 61;
    let mut after: Vec<f64> = (0..runs)
        .map(|seed| passes_after(test, share, (rate, rate), alpha, 1e7, seed).unwrap_or(f64::INFINITY))
        .collect();
    after.sort_unstable_by(f64::total_cmp);
    after[runs as usize / 2]
}

#[test]
fn a_flawless_candidate_passes_the_floor_after_some_four_thousand_calls() {
    let test = Inferiority::new(0.05, DEFAULT);
    let needed = test.calls_needed(0.0, 0.05).unwrap();
    assert!((3_800..4_100).contains(&needed), "{needed}");
    let calls = |candidate: u64| Calls { all: candidate * 20, candidate_errors: 0, baseline_errors: 0 };
    assert!(test.ln_e(&calls(needed)) >= f64::ln(20.0));
    assert!(test.ln_e(&calls(needed - 10)) < f64::ln(20.0));
}

#[test]
fn healthy_candidates_pass_when_it_was_said() {
    for (rate, share) in [(0.001, 0.05), (0.001, 0.5), (0.01, 0.05), (0.01, 0.25), (0.05, 0.5)] {
        let test = Inferiority::new(share, DEFAULT);
        let said = test.calls_needed(rate, 0.05).unwrap() as f64;
        let seen = median(&test, share, rate, 0.05);
        assert!((seen / said - 1.0).abs() < 0.2, "rate {rate}, share {share}: {said}, then {seen}");
    }
}

#[test]
fn candidates_at_the_margin_seldom_pass() {
    // At exactly the margin, the worst case: looked at all the time, at a level of 5 %.
    let mut passed = 0;
    for (candidate, baseline) in [(0.001, 0.0), (0.002, 0.001), (0.0125, 0.01), (0.0625, 0.05)] {
        for share in [0.05, 0.5] {
            let test = Inferiority::new(share, DEFAULT);
            let most = 3.0 * test.calls_needed(baseline, 0.05).unwrap() as f64;
            let pass =
                |seed: &u64| passes_after(&test, share, (candidate, baseline), 0.05, most, *seed).is_some();
            passed += (200..230).filter(pass).count();
        }
    }
    assert!(passed <= 12, "{passed} of 240");
}

#[test]
fn bets_are_fair_at_their_margin() {
    // The mean factor of one call, exactly, for each bet: 1 at its own margin, at any rate of the baseline.
    for share in [0.01, 0.05, 0.3, 0.5, 0.9] {
        let test = Inferiority::new(share, DEFAULT);
        assert!((test.bets.iter().map(|bet| bet.ln_weight.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        for (at, bet) in test.bets.iter().enumerate() {
            for baseline in [0.0, 0.001, 0.02, 0.5] {
                let candidate =
                    if at < 4 { baseline + DEFAULT.absolute } else { baseline * (1.0 + DEFAULT.relative) };
                let (c, b) = (share * candidate, (1.0 - share) * baseline);
                let mean = c * bet.candidate_error.exp()
                    + b * bet.baseline_error.exp()
                    + (1.0 - c - b) * bet.other.exp();
                assert!((mean - 1.0).abs() < 1e-12, "{share} {bet:?} {baseline}: {mean}");
            }
        }
    }
}

#[test]
fn an_outage_of_both_arms_is_no_evidence_against_the_candidate() {
    let test = Inferiority::new(0.2, DEFAULT);
    let before = Calls { all: 100_000, candidate_errors: 20, baseline_errors: 80 };
    assert!(test.ln_e(&before) > f64::ln(20.0));
    let mut after = before;
    after += &Calls { all: 5_000, candidate_errors: 500, baseline_errors: 2_000 };
    assert!(test.ln_e(&after) > f64::ln(20.0));
}

#[test]
fn the_bound_says_what_the_test_decides() {
    let test = Inferiority::new(0.05, Margin { absolute: 0.001, relative: 0.0 });
    let calls = |all| Calls { all, candidate_errors: 0, baseline_errors: 0 };
    assert!((test.upper_excess(&calls(0), 0.05) - 1.0).abs() < 1e-9);
    let needed = test.calls_needed(0.0, 0.05).unwrap() * 20;
    let bound = test.upper_excess(&calls(needed), 0.05);
    assert!((bound - 0.001).abs() < 1e-5, "{bound}");
    let worse = Calls { all: 100_000, candidate_errors: 150, baseline_errors: 950 };
    let bound = test.upper_excess(&worse, 0.05);
    assert!(bound > 0.02 && bound < 0.04, "{bound}");
}

#[test]
fn without_a_margin_or_a_split_nothing_is_shown() {
    let calls = Calls { all: 1_000_000, candidate_errors: 0, baseline_errors: 10_000 };
    assert_eq!(Inferiority::new(0.5, Margin { absolute: 0.0, relative: 0.0 }).ln_e(&calls), 0.0);
    assert_eq!(Inferiority::new(0.0, DEFAULT).ln_e(&calls), 0.0);
    assert_eq!(Inferiority::new(1.0, DEFAULT).calls_needed(0.01, 0.05), None);
    let relative = Inferiority::new(0.5, Margin { absolute: 0.0, relative: 0.25 });
    assert_eq!(relative.calls_needed(0.0, 0.05), None);
}
