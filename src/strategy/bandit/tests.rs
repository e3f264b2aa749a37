//! A bandit's draw.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::config::{
    Arm, ContextSource, Guards, Key, Margin, Memory, Metric, OnFail, OnPass, Reward, Source, Stop, Warmup,
};
use crate::stats::ridge::Sums;

/// Three arms, the first the baseline.
pub(in crate::strategy) fn config() -> config::Bandit {
    let arm = |variant, name: &str| Arm { variant, name: name.into() };
    let source = Source::Feedback { name: "bought".into(), binary: true, width: None };
    config::Bandit {
        baseline: 0,
        salt: "m/2".into(),
        arms: vec![arm(0, "a"), arm(1, "b"), arm(2, "c")],
        reward: Reward {
            name: "bought".into(),
            range: Some((0.0, 1.0)),
            binary: true,
            lower_is_better: false,
            gaussian: false,
        },
        metric: Metric { source, least: Margin { absolute: 0.0, relative: 0.02 }, lower_is_better: false },
        policy: Policy::Thompson,
        context: Vec::new(),
        floor: 0.01,
        min_units: 100,
        refresh: (Duration::from_secs(1), 500),
        memory: Memory::Whole,
        guards: Guards {
            errors: Some(Margin { absolute: 0.001, relative: 0.25 }),
            rejections: None,
            latency: Vec::new(),
            feedback: Vec::new(),
            resources: None,
            shadow: false,
        },
        warmup: Warmup { time: Duration::ZERO, calls: 0 },
        alpha: 0.05,
        stop: Some(Stop { value_remaining: 0.01 }),
        on_pass: OnPass::Promote,
        on_fail: OnFail::Rollback,
        apprentice: false,
    }
}

fn call(metadata: &HeaderMap) -> Call<'_> {
    Call { metadata, parameters: &[], input: None }
}

#[test]
fn a_unit_is_drawn_anew_in_each_epoch_by_the_shares_that_are_logged() {
    let bandit = Bandit::new(&config());
    let shares = Shares::new(&[0.2, 0.7, 0.1]);
    let (nobody, mut moved, mut counts) = (HeaderMap::new(), 0, [0_u32; 3]);
    for user in 0..20_000 {
        let unit = format!("u{user}");
        let at = |epoch| bandit.assign((epoch, &shares, None), (&call(&nobody), Some(&unit)), 0, &|_| true);
        let (one, other) = (at(7), at(8));
        assert_eq!(one, at(7));
        assert_eq!((one.0.reason, one.0.propensity), (Reason::Split, shares.get(one.0.variant)));
        counts[one.0.variant] += 1;
        moved += u32::from(one.0.variant != other.0.variant);
    }
    for (count, want) in counts.iter().zip([4_000.0, 14_000.0, 2_000.0]) {
        assert!((f64::from(*count) - want).abs() < 250.0, "{counts:?}");
    }
    // Two draws differ with probability 1 − (0.04 + 0.49 + 0.01).
    assert!((8_900..9_500).contains(&moved), "{moved}");
}

#[test]
fn the_place_is_the_hash_that_the_page_says() {
    let bandit = Bandit::new(&config());
    for (epoch, unit, text) in [(0, "ann", "m/2/0/ann"), (4_294_967_295, "", "m/2/4294967295/")] {
        let want = hash::bucket(hash::murmur3_x86_32(0, &[text.as_bytes()]), 100_000);
        assert_eq!(bandit.place(epoch, unit), want);
    }
}

#[test]
fn an_arm_that_is_not_ready_leaves_its_share_to_the_baseline_and_the_propensity_says_so() {
    let bandit = Bandit::new(&config());
    let shares = Shares::new(&[0.2, 0.7, 0.1]);
    let (nobody, ready) = (HeaderMap::new(), |variant: usize| variant != 1);
    let mut odds = [0.0; 3];
    bandit.each(&shares, &ready, &mut |variant, likely| odds[variant] = likely);
    assert_eq!(odds, [0.9, 0.0, 0.1]);
    assert!(!bandit.is_whole(&shares, &ready) && bandit.is_whole(&Shares::new(&[0.5, 0.0, 0.5]), &ready));
    for draw in [0, u32::MAX / 2, u32::MAX] {
        let (got, _) = bandit.assign((0, &shares, None), (&call(&nobody), None), draw, &ready);
        let (variant, reason, propensity) = match draw {
            0 => (0, Reason::Draw, 0.9),
            u32::MAX => (2, Reason::Draw, 0.1),
            _ => (0, Reason::NotReady, 0.9),
        };
        assert_eq!((got.variant, got.reason, got.propensity), (variant, reason, propensity), "{draw}");
    }
}

fn contextual(apprentice: bool) -> (Bandit, Beliefs) {
    let key = Key::Metadata(http::HeaderName::from_static("x-age"));
    let context = vec![ContextSource::Number { key, offset: 0.0, scale: 1.0 }];
    let policy = Policy::LinTs { deviation: 0.5, ridge: 1.0 };
    let mut lines = [Sums::default(), Sums::default(), Sums::default()];
    for age in [-1.0, -0.5, 0.5, 1.0] {
        for (arm, line) in lines.iter_mut().enumerate() {
            for _ in 0..200 {
                line.see(&[1.0, age], 1.0);
                // The second earns where the feature is above 0, the third where it is below.
                line.earn(&[1.0, age], [0.0, age, -age][arm]);
            }
        }
    }
    let lines = lines.iter().map(|line| line.model(2, 1.0)).collect();
    let config = config::Bandit { context, policy, apprentice, ..config() };
    (Bandit::new(&config), Beliefs { wished: Shares::even(&[true; 3]), lines })
}

fn aged(age: &str) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert("x-age", HeaderValue::from_str(age).unwrap());
    metadata
}

#[test]
fn calls_are_told_apart_by_their_context_and_one_without_is_the_baselines() {
    let (bandit, beliefs) = contextual(false);
    let even = Shares::even(&[true; 3]);
    let shares = |age: &str| {
        let metadata = aged(age);
        let given = (0, &even, Some(&beliefs));
        bandit.assign(given, (&call(&metadata), Some("u")), 0, &|_| true)
    };
    let of = |age: &str| shares(age).1.unwrap().shares.as_slice().to_vec();
    assert_eq!((of("0.9"), of("-0.9")), (vec![1_000, 98_000, 1_000], vec![1_000, 1_000, 98_000]));
    for age in ["old", "nan", "inf"] {
        let (got, drawn) = shares(age);
        assert_eq!(
            (got.variant, got.reason, got.propensity, drawn),
            (0, Reason::NoContext, 1.0, None),
            "{age}"
        );
    }
}

#[test]
fn an_apprentice_tells_what_it_would_do_and_does_what_it_is_told() {
    let (bandit, beliefs) = contextual(true);
    let given = Shares::new(&[0.98, 0.01, 0.01]);
    let metadata = aged("0.9");
    let mut served = [0; 3];
    for user in 0..2_000 {
        let unit = user.to_string();
        let (got, drawn) =
            bandit.assign((0, &given, Some(&beliefs)), (&call(&metadata), Some(&unit)), 0, &|_| true);
        let drawn = drawn.unwrap();
        assert_eq!((drawn.shares, got.propensity), (given, given.get(got.variant)));
        let (wished, likely) = drawn.wished.unwrap();
        assert!((wished == 1) == (likely == 0.98), "{drawn:?}");
        served[got.variant] += 1;
    }
    assert!(served[0] > 1_900 && served[1] > 5 && served[2] > 5, "{served:?}");
}
