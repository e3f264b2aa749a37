use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::stats::oracle::{Case, number, numbers};

#[test]
fn published_sums_effect_and_interval() {
    let case = Case::named("overlap_score");
    let mut sums = Sums::default();
    for row in case.input()["data"].as_array().unwrap() {
        let row = numbers(row);
        sums.add(&Observation {
            treated: row[0] == 1.0,
            propensity: row[1],
            predicted: row[2],
            reward: row[3],
        });
    }
    let want = case.expected();
    case.check(sums.score(), &want["S"]);
    case.check(sums.variance(), &want["V"]);
    case.check(sums.information(), &want["I"]);
    case.check(sums.effect().unwrap(), &want["effect"]);
    let alpha = number(&case.input()["alpha"]);
    let mixture = TwoSided::new(number(&case.input()["v_opt"]), alpha);
    case.check(mixture.rho(), &want["rho"]);
    let (low, high) = sums.interval(&mixture, alpha).unwrap();
    case.check((high - low) / 2.0, &want["half_width"]);
    let mut later = Sums::default();
    later.add_sums(40.0, 100.0, 900.0);
    let want = &want["at_S_40_V_100_I_900"];
    let (low, high) = later.interval(&mixture, alpha).unwrap();
    case.check(later.effect().unwrap(), &want["effect"]);
    case.check((high - low) / 2.0, &want["half_width"]);
    case.check(later.ln_e_effect(&mixture).exp(), &want["e_value"]);
}

fn observations(seed: u64, count: usize) -> Vec<(Observation, u8)> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut one = |_| {
        let propensity = [0.01, 0.1, 0.5][chance.random_range(0..3)];
        let treated = chance.random_bool(propensity);
        let reward = f64::from(u8::from(chance.random_bool(0.1)));
        (Observation { treated, propensity, reward, predicted: 0.1 }, chance.random())
    };
    (0..count).map(&mut one).collect()
}

#[test]
fn shards_add_up_in_any_order() {
    let all = observations(1, 4_000);
    let mut whole = Sums::default();
    let mut shards = vec![Sums::default(); 8];
    for (at, (observation, bucket)) in all.iter().enumerate() {
        whole.add_clustered(observation, *bucket);
        shards[at * 7 % 8].add_clustered(observation, *bucket);
    }
    let mut chance = StdRng::seed_from_u64(2);
    for _ in 0..10 {
        shards.shuffle(&mut chance);
        let mut merged = Sums::default();
        shards.iter().for_each(|shard| merged += shard);
        for (got, want) in [
            (merged.score(), whole.score()),
            (merged.variance(), whole.variance()),
            (merged.information(), whole.information()),
        ] {
            assert!((got - want).abs() < 1e-9, "{got} {want}");
        }
        assert_eq!(merged.may_decide(), whole.may_decide());
    }
}

#[test]
fn sums_are_kept_as_they_are() {
    let mut sums = Sums::default();
    sums.add_sums(0.5, 0.25, 0.125);
    sums.add_to_bucket(255, 0.5);
    let kept: Sums = serde_json::from_str(&serde_json::to_string(&sums).unwrap()).unwrap();
    assert_eq!(kept, sums);
}

#[test]
fn few_buckets_or_little_variance_decide_nothing() {
    let observation = Observation { treated: true, propensity: 0.5, reward: 10.0, predicted: 0.0 };
    let fill = |buckets: u8| {
        let mut sums = Sums::default();
        (0..buckets).for_each(|bucket| sums.add_clustered(&observation, bucket));
        sums
    };
    assert!(!fill(63).may_decide());
    assert!(fill(64).may_decide());
    let mut alone = Sums::default();
    alone.add_sums(0.0, 9.9, 1.0);
    assert!(!alone.may_decide());
    alone.add_sums(0.0, 0.1, 0.0);
    assert!(alone.may_decide());
}

#[test]
fn a_certain_assignment_weighs_nothing() {
    let mut sums = Sums::default();
    sums.add(&Observation { treated: true, propensity: 1.0, reward: 1.0, predicted: 0.0 });
    sums.add(&Observation { treated: false, propensity: 0.0, reward: 1.0, predicted: 0.0 });
    assert_eq!(sums, Sums::default());
    assert_eq!(sums.effect(), None);
    assert_eq!(sums.interval(&TwoSided::new(100.0, 0.05), 0.05), None);
}

#[test]
fn a_ramp_with_drift_and_no_effect_is_seldom_called_an_effect() {
    // Shares 1 → 50 % while the rate doubles: looked at after every unit. A pooled comparison is wrong in most runs.
    let mixture = TwoSided::new(5_000.0 * 0.25 * 0.09, 0.05);
    let (mut overlap, mut pooled) = (0, 0);
    for seed in 0..60 {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut sums = Sums::default();
        let (mut reward_sum, mut wrong, mut naive) = (0.0, false, false);
        let mut arms = [[0.0_f64; 2]; 2];
        for t in 0..4_000_u32 {
            let propensity = [0.01, 0.05, 0.1, 0.25, 0.5][(t / 800) as usize];
            let rate = 0.05 + 0.05 * f64::from(t) / 4_000.0;
            let treated = chance.random_bool(propensity);
            let reward = f64::from(u8::from(chance.random_bool(rate)));
            let predicted = reward_sum / f64::from(t.max(1));
            sums.add(&Observation { treated, propensity, reward, predicted });
            reward_sum += reward;
            wrong |= sums.may_decide() && sums.ln_e_effect(&mixture) >= -f64::ln(0.05);
            let arm = &mut arms[usize::from(treated)];
            *arm = [arm[0] + 1.0, arm[1] + reward];
            let [[n0, y0], [n1, y1]] = arms;
            let mean = (y0 + y1) / (n0 + n1);
            let error = (mean * (1.0 - mean) * (1.0 / n0 + 1.0 / n1)).sqrt();
            naive |= n1 > 50.0 && (y1 / n1 - y0 / n0).abs() > 1.96 * error;
        }
        overlap += u32::from(wrong);
        pooled += u32::from(naive);
    }
    assert!(overlap <= 6, "{overlap} of 60");
    assert!(pooled >= 20, "{pooled} of 60: the harness would not see a bad test");
}

proptest! {
    #[test]
    fn margins_only_help(scores in vec(-2.0..2.0f64, 1..50), margin in 0.0..1.0f64) {
        let mut sums = Sums::default();
        scores.iter().for_each(|score| sums.add_sums(*score, score * score, 0.25));
        let one = OneSided::new(100.0, 0.05);
        prop_assert!(sums.ln_e_above(margin, &one) >= sums.ln_e_above(0.0, &one) - 1e-12);
        prop_assert!(sums.ln_e_below(margin, &one) >= sums.ln_e_below(0.0, &one) - 1e-12);
    }
}
