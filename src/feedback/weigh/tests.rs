use proptest::prelude::*;

use super::*;
use crate::stats::overlap::{Observation, Sums};

fn odds(of: &[f64]) -> Odds {
    let mut odds = Odds::new(of.len());
    of.iter().enumerate().for_each(|(arm, share)| odds.set(arm, *share));
    odds
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * (1.0 + one.abs().max(other.abs()))
}

fn same(one: &Sums, other: &Sums) -> bool {
    close(one.score(), other.score())
        && close(one.variance(), other.variance())
        && close(one.information(), other.information())
}

#[test]
fn the_candidate_is_weighed_beside_the_baseline_by_its_odds() {
    let odds = odds(&[0.9, 0.1]);
    let mut gathered = Gathered::default();
    let who = |arm| Who { arm, baseline: 0, odds: &odds, bucket: None, learns: false, context: None };
    gathered.add(&who(1), &Change { from: None, to: 1.0, expected: 0.5 });
    gathered.add(&who(0), &Change { from: None, to: 0.0, expected: 0.5 });
    assert_eq!(gathered.total(), Total { n: 2, sum: 1.0 });
    let scores = gathered.by_variant(&[2, 0], 3);
    assert_eq!((&scores[1], &scores[2]), (&Scores::default(), &Scores::default()), "nobody else has any");
    let candidate = &scores[0];
    // (1 − 0.1)(1 − 0.5) for the candidate, (0 − 0.1)(0 − 0.5) for the baseline.
    assert!(close(candidate.sums.score(), 0.45 + 0.05), "{candidate:?}");
    assert!(close(candidate.sums.information(), 2.0 * 0.09), "{candidate:?}");
    assert_eq!(
        (candidate.candidate, candidate.baseline),
        (Total { n: 1, sum: 1.0 }, Total { n: 1, sum: 0.0 })
    );
}

#[test]
fn what_was_certain_weighs_nothing() {
    for (arm, shares) in [(0, vec![1.0, 0.0]), (0, vec![]), (255, vec![0.5, 0.5]), (1, vec![0.0, 1.0])] {
        let odds = odds(&shares);
        let who = Who { arm, baseline: 0, odds: &odds, bucket: None, learns: false, context: None };
        assert!(!who.counts(), "{who:?}");
        let mut gathered = Gathered::default();
        gathered.add(&who, &Change { from: None, to: 1.0, expected: 0.0 });
        assert_eq!(gathered.total(), Total::default(), "{who:?}");
    }
}

#[test]
fn who_learns_learns_from_what_was_given_everything_too() {
    let odds = odds(&[0.0, 1.0]);
    let who = Who { arm: 1, baseline: 0, odds: &odds, bucket: None, learns: true, context: None };
    assert!(who.counts() && !Who { arm: 0, ..who }.counts() && !Who { odds: &Odds::NONE, ..who }.counts());
    let mut gathered = Gathered::default();
    gathered.add(&who, &Change { from: None, to: 1.0, expected: 0.0 });
    let rewards = gathered.take_rewards().unwrap();
    assert_eq!((rewards.arms[1].n, rewards.arms[1].sum), (1.0, 1.0));
    assert_eq!(
        gathered.by_variant(&[0, 1], 2),
        [Scores::default(), Scores::default()],
        "it compares nothing"
    );
}

#[test]
fn among_three_each_arm_has_the_baseline_for_itself() {
    let odds = odds(&[0.5, 0.25, 0.25]);
    let mut gathered = Gathered::default();
    for arm in 0..3 {
        let who = Who { arm, baseline: 0, odds: &odds, bucket: Some(7), learns: false, context: None };
        assert!(who.counts());
        gathered.add(&who, &Change { from: None, to: 1.0, expected: 0.0 });
    }
    for pair in &gathered.by_variant(&[0, 1, 2], 3)[1..] {
        assert_eq!((pair.baseline.n, pair.candidate.n), (1, 1));
        // 0.25 of 0.75 is the propensity given one of the two.
        assert!(close(pair.sums.information(), 2.0 * 2.0 / 9.0), "{pair:?}");
    }
}

proptest! {
    /// However often values change, in whatever parts they are gathered, the sums are those of the last values.
    #[test]
    fn changes_add_up_to_the_last_value(
        units in prop::collection::vec(
            (any::<bool>(), 0.05..0.95_f64, prop::collection::vec(-4.0..4.0_f64, 1..4), any::<u8>()), 1..30),
        clustered: bool, expected in -1.0..1.0_f64, cut: prop::sample::Index,
    ) {
        let mut whole = Sums::default();
        let mut parts = [Gathered::default(), Gathered::default()];
        for (index, (treated, share, values, bucket)) in units.iter().enumerate() {
            let odds = odds(&[1.0 - share, *share]);
            let who = Who {
                arm: usize::from(*treated), baseline: 0, odds: &odds, bucket: clustered.then_some(*bucket),
                learns: false, context: None,
            };
            let mut from = None;
            for (step, to) in values.iter().enumerate() {
                let part = usize::from(index + step > cut.index(units.len()));
                parts[part].add(&who, &Change { from, to: *to, expected });
                from = Some(*to);
            }
            let observation = Observation {
                treated: *treated, propensity: *share, reward: from.unwrap(), predicted: expected,
            };
            if clustered { whole.add_clustered(&observation, *bucket) } else { whole.add(&observation) }
        }
        let [mut one, other] = parts;
        one.merge(&other);
        let scores = one.by_variant(&[0, 1], 2).pop().unwrap();
        prop_assert!(same(&scores.sums, &whole), "{:?} {whole:?}", scores.sums);
        prop_assert_eq!(scores.baseline.n + scores.candidate.n, units.len() as u64);
    }
}
