use proptest::prelude::*;

use super::*;
use crate::assignment::Odds;
use crate::stats::overlap::{Observation, Sums};

const NOON: Duration = Duration::from_secs(1_700_000_000);
const WINDOW: Duration = Duration::from_secs(600);

fn declared(default: Option<f64>, join: Join) -> Feedback {
    Feedback {
        name: "f".into(),
        kind: FeedbackKind::Bounded { min: 0.0, max: 4.0 },
        window: WINDOW,
        default,
        join,
        max_rate: 10,
    }
}

fn half() -> Odds {
    let mut odds = Odds::new(2);
    odds.set(0, 0.5);
    odds.set(1, 0.5);
    odds
}

fn told(odds: &Odds, key: u64, value: f64, at: u32) -> Told<'_> {
    Told {
        made: NOON,
        epoch: 3,
        who: Who { arm: (key % 2) as usize, baseline: 0, odds, bucket: None, learns: false, context: None },
        key,
        mark: None,
        value,
        at,
        evidence: Evidence::Now,
    }
}

fn sums(track: &mut Track) -> Sums {
    let mut all = Gathered::default();
    track.gained().values().for_each(|gathered| all.merge(gathered));
    all.by_variant(&[0, 1], 2).pop().unwrap().sums
}

#[test]
fn without_a_default_a_report_counts_at_once_and_once() {
    let (feedback, odds) = (declared(None, Join::Last), half());
    let mut track = Track::new(1, 1);
    let first = track.take(&feedback, &told(&odds, 1, 4.0, 10), true).unwrap();
    assert_eq!((first.taken, first.value), (Taken::First, Some(4.0)));
    let again = track.take(&feedback, &told(&odds, 1, 4.0, 10), true).unwrap();
    assert_eq!(again.taken, Taken::Unchanged);
    let late = track.take(&feedback, &told(&odds, 1, 1.0, 5), true).unwrap();
    assert_eq!((late.taken, late.value), (Taken::Unchanged, Some(4.0)), "learnt before");
    let next = track.take(&feedback, &told(&odds, 1, 3.0, 20), true).unwrap();
    assert_eq!((next.taken, next.value), (Taken::Joined, Some(3.0)));
    // Expected was the middle, 2, for nothing was known: half of 3 − 2.
    assert_eq!(sums(&mut track).score(), 0.5);
    assert!(track.gained().is_empty(), "told once");
}

#[test]
fn a_summed_report_with_a_mark_counts_once() {
    let (feedback, odds) = (declared(None, Join::Sum), half());
    let mut track = Track::new(1, 1);
    let marked = |value, mark| Told { mark: Some(mark), ..told(&odds, 1, value, 0) };
    for (value, mark, taken, sum) in [
        (1.0, 50, Taken::First, 1.0),
        (1.0, 50, Taken::Repeated, 1.0),
        (1.0, 51, Taken::Joined, 2.0),
        (1.0, 50, Taken::Repeated, 2.0),
        (0.0, 52, Taken::Unchanged, 2.0),
    ] {
        let receipt = track.take(&feedback, &marked(value, mark), true).unwrap();
        assert_eq!((receipt.taken, receipt.value), (taken, Some(sum)), "{mark}");
    }
}

#[test]
fn with_a_default_nothing_is_evidence_before_the_window_closes() {
    let (feedback, odds) = (declared(Some(1.0), Join::First), half());
    let mut track = Track::new(1, 1);
    let who = |arm| Who { arm, baseline: 0, odds: &odds, bucket: None, learns: false, context: None };
    for arm in [0, 0, 1, 1] {
        track.expose(&feedback, NOON, 3, &who(arm));
    }
    let report = Told { evidence: Evidence::AtClose, ..told(&odds, 1, 4.0, 0) };
    track.take(&feedback, &report, true).unwrap();
    track.close(&feedback, NOON + WINDOW);
    assert!(track.gained().is_empty());
    track.close(&feedback, NOON + WINDOW + WINDOW / BINS + Duration::from_secs(1));
    let gained = track.gained();
    assert_eq!(gained.keys().collect::<Vec<_>>(), [&3]);
    let scores = gained[&3].clone().by_variant(&[0, 1], 2).pop().unwrap();
    assert_eq!(scores.baseline, Total { n: 2, sum: 2.0 });
    assert_eq!(scores.candidate, Total { n: 2, sum: 5.0 });
    // The default was expected of all, so the reward alone scores: half of 4 − 1.
    assert_eq!((scores.sums.score(), scores.sums.information()), (1.5, 1.0));
    assert_eq!(track.len(), 0, "and what was remembered of it is gone");
}

#[test]
fn where_there_is_no_room_nothing_changes() {
    let (feedback, odds) = (declared(None, Join::Last), half());
    let mut track = Track::new(1, 1);
    assert_eq!(track.take(&feedback, &told(&odds, 1, 4.0, 10), false), None);
    track.take(&feedback, &told(&odds, 1, 4.0, 10), true).unwrap();
    let known = track.take(&feedback, &told(&odds, 1, 2.0, 11), false).unwrap();
    assert_eq!(known.taken, Taken::Joined, "what is known needs no room");
    assert_eq!(track.len(), 1);
}

#[test]
fn what_was_no_evidence_never_becomes_any() {
    let (feedback, odds) = (declared(None, Join::Last), half());
    let mut track = Track::new(1, 1);
    let before = Told { evidence: Evidence::Revision, ..told(&odds, 1, 4.0, 1) };
    track.take(&feedback, &before, true).unwrap();
    let after = track.take(&feedback, &told(&odds, 1, 0.0, 2), true).unwrap();
    assert_eq!((after.taken, after.evidence), (Taken::Joined, Evidence::Revision));
    assert!(track.gained().is_empty());
}

#[test]
fn a_new_rollout_begins_without_the_old_ones_evidence_but_still_knows_what_came() {
    let (feedback, odds) = (declared(Some(0.0), Join::First), half());
    let mut track = Track::new(1, 1);
    track.expose(&feedback, NOON, 3, &told(&odds, 1, 0.0, 0).who);
    let report = Told { evidence: Evidence::AtClose, ..told(&odds, 1, 4.0, 0) };
    track.take(&feedback, &report, true).unwrap();
    track.begin_anew();
    assert_eq!(track.take(&feedback, &report, true).unwrap().taken, Taken::Unchanged);
    track.close(&feedback, NOON + 3 * WINDOW);
    assert!(track.gained().is_empty());
}

proptest! {
    /// Reports in any order, some of them twice, with a restart in between: the evidence is that of each prediction's
    /// last value, and of the default where none came.
    #[test]
    fn order_repetition_and_a_restart_change_nothing(
        rewards in prop::collection::vec((any::<bool>(), 0..5_u8), 1..40),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8), 0..80), cut: prop::sample::Index,
        with_default: bool,
    ) {
        let default = with_default.then_some(0.0);
        let (feedback, odds) = (declared(default, Join::Max), half());
        let evidence = if with_default { Evidence::AtClose } else { Evidence::Now };
        let mut track = Track::new(9, 1);
        let mut gained = Gathered::default();
        let mut gather = |track: &mut Track| track.gained().values().for_each(|more| gained.merge(more));
        for key in 0..rewards.len() as u64 {
            track.expose(&feedback, NOON, 3, &told(&odds, key, 0.0, 0).who);
        }
        let mut last = vec![None; rewards.len()];
        for (step, (at, more)) in order.iter().enumerate() {
            if step == cut.index(order.len()) {
                gather(&mut track);
                let kept = track.kept(&feedback);
                let known = track.known;
                track = Track::new(9, 1);
                // Only what is expected of new values rests on it, never what is remembered of old ones.
                track.known = known;
                for kept in kept {
                    track.restore(Place::read(&kept.key), &kept.value);
                }
            }
            let index = at.index(rewards.len());
            let value = f64::from((rewards[index].1 + more) % 5);
            let told = Told { evidence, ..told(&odds, index as u64, value, 0) };
            track.take(&feedback, &told, true).unwrap();
            let best: &mut Option<f64> = &mut last[index];
            *best = Some(best.map_or(value, |best| best.max(value)));
        }
        track.close(&feedback, NOON + 3 * WINDOW);
        gather(&mut track);
        let mut score = 0.0;
        let mut total = 0.0;
        for (index, value) in last.iter().enumerate() {
            let Some(reward) = value.or(default) else { continue };
            let observation = Observation { treated: index % 2 == 1, propensity: 0.5, reward, predicted: 0.0 };
            score += observation.score();
            total += reward;
        }
        prop_assert!((gained.total().sum - total).abs() < 1e-9);
        let sums = gained.by_variant(&[0, 1], 2).pop().unwrap_or_default().sums;
        if with_default {
            prop_assert!((sums.score() - score).abs() < 1e-6, "{} {score}", sums.score());
        }
    }
}
