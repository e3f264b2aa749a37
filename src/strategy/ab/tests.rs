use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Progress;
use crate::config::units::Percent;
use crate::config::{
    Ab, Arm, Guards, Judge, Margin, Match, Metric, OnFail, OnPass, Segment, Source, Test, Warmup,
};
use crate::evidence::{ArmGain, Batch, Gain, Scores, Total};
use crate::stats::hash;
use crate::stats::mean_difference::{Difference, Moments, rho_squared};
use crate::stats::overlap::{Observation, Sums};
use crate::strategy::course::Learnt;
use crate::strategy::{Out, Split};
use crate::verdict::{Action, Aim, Change, Command, Finding, Refused, State, Verdict};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

fn percent(whole: u32) -> Percent {
    Percent::from_thousandths(whole * 1000).unwrap()
}

fn ready(_: usize) -> Result<(), Refused> {
    Ok(())
}

fn metric(source: Source, relative: f64, lower_is_better: bool) -> Metric {
    Metric { source, least: Margin { absolute: 0.0, relative }, lower_is_better }
}

fn approved() -> Metric {
    metric(Source::Feedback { name: "approved".into(), binary: true, width: Some(1.0) }, 0.02, false)
}

/// A split between v1, which is the baseline, and as many others as there are weights behind the first.
fn split(weights: &[u32], metrics: Vec<Metric>) -> Ab {
    let name = |variant: usize| Arc::from(format!("v{}", variant + 1));
    let arms = (1..weights.len()).map(|variant| Arm { variant, name: name(variant) });
    let guards = Guards {
        errors: None,
        rejections: None,
        latency: Vec::new(),
        feedback: Vec::new(),
        resources: None,
        shadow: false,
    };
    Ab {
        baseline: 0,
        salt: "m/2".into(),
        hash: Default::default(),
        weights: weights.iter().enumerate().map(|(variant, share)| (variant, percent(*share))).collect(),
        segments: Vec::new(),
        judge: Some(Judge {
            arms: arms.collect(),
            metrics,
            guards,
            warmup: Warmup { time: Duration::ZERO, calls: 0 },
            test: Default::default(),
            alpha: 0.05,
            min_units: 100,
            max_duration: Duration::from_secs(86_400),
            on_pass: OnPass::Wait,
            on_fail: OnFail::Rollback,
        }),
    }
}

fn terms(ab: &Ab) -> (&Ab, &Judge) {
    (ab, ab.judge.as_ref().unwrap())
}

fn edit(ab: &mut Ab) -> &mut Judge {
    ab.judge.as_mut().unwrap()
}

fn begun(ab: &Ab) -> Progress {
    let mut progress = Progress::begin(terms(ab).1, Out::NONE, seconds(0));
    let change = progress.look(terms(ab), &ready, seconds(0)).unwrap();
    assert_eq!((change.action, change.to), (Action::Began, State::Running));
    progress
}

/// Numbers that are as good as drawn, the same in every run.
struct Draws(u32);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 += 1;
        f64::from(hash::murmur3_x86_32(7, &[&self.0.to_be_bytes()])) / 4_294_967_296.0
    }

    fn byte(&mut self) -> u8 {
        (self.next() * 256.0) as u8
    }
}

/// So many units of two arms at even odds, whose values are 1 with these probabilities.
fn scores(draws: &mut Draws, units: u64, rates: [f64; 2]) -> Scores {
    let mut scores = Scores::default();
    for _ in 0..units {
        let treated = draws.next() < 0.5;
        let reward = f64::from(u8::from(draws.next() < rates[usize::from(treated)]));
        let bucket = draws.byte();
        let observed = Observation { treated, propensity: 0.5, reward, predicted: 0.1 };
        scores.sums.add_clustered(&observed, bucket);
        let came = Observation { reward: 1.0, predicted: 0.0, ..observed };
        scores.joined.add_clustered(&came, bucket);
        let total = if treated { &mut scores.candidate } else { &mut scores.baseline };
        total.add(Total { n: 1, sum: reward });
    }
    scores
}

fn learn(progress: &mut Progress, ab: &Ab, variant: usize, scores: Scores) {
    let mut variants = vec![Scores::default(); variant + 1];
    variants[variant] = scores;
    let learnt = Learnt { feedback: "approved", epoch: 0, variants: &variants, rewards: None };
    assert!(progress.learn(terms(ab).1, &learnt));
}

fn look(progress: &mut Progress, ab: &Ab, now: u64) -> Option<Change> {
    progress.look(terms(ab), &ready, seconds(now))
}

fn verdict(progress: &Progress, ab: &Ab, now: u64) -> Verdict {
    progress.report(terms(ab), 4, seconds(now)).verdict
}

#[test]
fn the_better_one_wins_and_a_person_promotes_it() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 10_000, [0.10, 0.13]));
    let change = look(&mut progress, &ab, 1).unwrap();
    assert_eq!((change.action, change.to, change.share), (Action::Passed, State::Passed, 0.5));
    assert_eq!(
        (&*change.why, &*change.variants),
        ("v2 is better: feedback approved; a person must promote it", &["v2".into()][..])
    );
    let found = change.findings.iter().find(|found| found.aim == Aim::Success).unwrap();
    assert!(found.ln_e >= found.threshold && found.harm.unwrap().high < 0.0, "{found:?}");
    assert_eq!(progress.standing().split, Split::Configured);
    let change = progress.command(terms(&ab), &Command::Promote, &ready, seconds(2)).unwrap();
    assert_eq!((change.action, change.share), (Action::Promoted, 1.0));
    assert_eq!(progress.standing().split, Split::Only(1));
    assert_eq!(verdict(&progress, &ab, 3), Verdict::Pass);
}

#[test]
fn a_winner_is_promoted_where_the_file_says_so_and_only_once_it_can_take_calls() {
    let mut ab = split(&[50, 50], vec![approved()]);
    edit(&mut ab).on_pass = OnPass::Promote;
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 10_000, [0.10, 0.13]));
    let away =
        |variant: usize| Err(Refused::NotReady { variant: variant.to_string().into(), why: String::new() });
    assert_eq!(progress.look(terms(&ab), &away, seconds(1)), None);
    assert_eq!(look(&mut progress, &ab, 2).unwrap().action, Action::Promoted);
    assert_eq!(look(&mut progress, &ab, 3), None);
}

#[test]
fn the_strongest_of_several_wins() {
    let mut ab = split(&[40, 30, 30], vec![approved()]);
    edit(&mut ab).on_pass = OnPass::Promote;
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 20_000, [0.10, 0.13]));
    learn(&mut progress, &ab, 2, scores(&mut Draws(9_000_000), 20_000, [0.10, 0.16]));
    let change = look(&mut progress, &ab, 1).unwrap();
    assert_eq!((change.action, &*change.variants[0]), (Action::Promoted, "v3"));
}

#[test]
fn a_worse_one_is_taken_out_and_the_others_go_on() {
    let ab = split(&[40, 30, 30], vec![approved()]);
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 2, scores(&mut Draws(0), 20_000, [0.10, 0.07]));
    let change = look(&mut progress, &ab, 1).unwrap();
    assert_eq!((change.action, change.from, change.to), (Action::RolledBack, State::Running, State::Running));
    assert_eq!((&*change.variants[0], change.share), ("v3", 0.0));
    let standing = progress.standing();
    assert_eq!((standing.epoch, standing.split), (1, Split::Without(Out::NONE.with(2))));
    let report = progress.report(terms(&ab), 3, seconds(2));
    assert_eq!(report.shares, [0.7, 0.3, 0.0]);
    assert_eq!(report.verdict, Verdict::NotEnoughData);
    learn(&mut progress, &ab, 1, scores(&mut Draws(5_000_000), 20_000, [0.10, 0.07]));
    let change = look(&mut progress, &ab, 3).unwrap();
    assert_eq!((change.to, progress.standing().split), (State::RolledBack, Split::Only(0)));
    assert_eq!(verdict(&progress, &ab, 4), Verdict::Fail);
}

#[test]
fn on_fail_hold_leaves_the_split_as_it_is() {
    let mut ab = split(&[50, 50], vec![approved()]);
    edit(&mut ab).on_fail = OnFail::Hold;
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 20_000, [0.10, 0.07]));
    assert_eq!(look(&mut progress, &ab, 1).unwrap().to, State::Held);
    assert_eq!((look(&mut progress, &ab, 2), progress.standing().split), (None, Split::Configured));
    let refused = progress.command(terms(&ab), &Command::Resume, &ready, seconds(3)).unwrap_err();
    assert!(refused.to_string().contains("a variant is worse"), "{refused}");
}

/// Units of both arms that were exposed, and calls by bucket where any.
fn gain(progress: &Progress, units: [u64; 2], batches: [Vec<(u8, Batch)>; 2]) -> Gain {
    let mut arms = vec![ArmGain::default(); 3];
    for ((arm, units), batches) in arms.iter_mut().zip(units).zip(batches) {
        let calls = batches.iter().map(|(_, batch)| batch.calls).sum();
        *arm = ArmGain { calls, units, batches, ..ArmGain::default() };
    }
    Gain { epoch: progress.standing().epoch, segment: None, arms }
}

#[test]
fn samples_that_are_not_as_meant_block_every_verdict() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 10_000, [0.10, 0.13]));
    let units = gain(&progress, [1_150, 850], Default::default());
    progress.absorb(terms(&ab), &units, seconds(1));
    let change = look(&mut progress, &ab, 2).unwrap();
    assert_eq!((change.action, change.to), (Action::Held, State::Held));
    let found = &change.findings[0];
    assert_eq!((&*found.guard, found.aim, found.verdict), ("sample ratio", Aim::Validity, Verdict::Invalid));
    assert_eq!((found.baseline.n, found.candidate.n, found.margin), (1_150, 850, 0.5));
    assert_eq!(verdict(&progress, &ab, 3), Verdict::Invalid);
    let refused = progress.command(terms(&ab), &Command::Resume, &ready, seconds(3)).unwrap_err();
    assert!(refused.to_string().contains("another salt"), "{refused}");
}

#[test]
fn reports_that_did_not_come_alike_block_it_too() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    let mut all = scores(&mut Draws(0), 4_000, [0.3, 0.5]);
    // Half of what the arm's callers should have told was never told.
    let mut joined = Sums::default();
    let mut draws = Draws(77);
    for unit in 0..4_000 {
        let treated = unit % 3 == 0;
        let came = Observation { treated, propensity: 0.5, reward: 1.0, predicted: 0.0 };
        joined.add_clustered(&came, draws.byte());
    }
    all.joined = joined;
    learn(&mut progress, &ab, 1, all);
    assert_eq!(look(&mut progress, &ab, 1).unwrap().to, State::Held);
    let report = progress.report(terms(&ab), 2, seconds(2));
    let found = report.findings.iter().find(|found| &*found.guard == "reports approved").unwrap();
    assert_eq!((found.verdict, report.verdict), (Verdict::Invalid, Verdict::Invalid));
}

#[test]
fn equals_are_said_to_be_equals() {
    let mut ab = split(&[50, 50], vec![approved()]);
    edit(&mut ab).metrics[0].least = Margin { absolute: 0.04, relative: 0.0 };
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(1), 20_000, [0.1, 0.1]));
    let change = look(&mut progress, &ab, 1).unwrap();
    assert_eq!((change.to, verdict(&progress, &ab, 2)), (State::Held, Verdict::Equivalent));
}

#[test]
fn without_a_winner_in_time_it_is_inconclusive_and_a_person_may_give_it_more() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(1), 2_000, [0.1, 0.1]));
    assert_eq!(look(&mut progress, &ab, 86_399), None);
    assert_eq!(verdict(&progress, &ab, 86_399), Verdict::NotEnoughData);
    assert_eq!(look(&mut progress, &ab, 86_400).unwrap().to, State::Held);
    assert_eq!(verdict(&progress, &ab, 86_400), Verdict::Inconclusive);
    progress.command(terms(&ab), &Command::Resume, &ready, seconds(90_000)).unwrap();
    assert_eq!((progress.state(), look(&mut progress, &ab, 90_001)), (State::Running, None));
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 10_000, [0.10, 0.14]));
    assert_eq!(look(&mut progress, &ab, 90_002).unwrap().to, State::Passed);
}

#[test]
fn who_is_better_must_be_no_worse_on_what_is_guarded() {
    let mut ab = split(&[50, 50], vec![approved()]);
    edit(&mut ab).guards.errors = Some(Margin { absolute: 0.01, relative: 0.0 });
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 10_000, [0.10, 0.13]));
    assert_eq!(look(&mut progress, &ab, 1), None, "nothing is known of its errors");
    let waits = progress.report(terms(&ab), 2, seconds(1)).waits_for;
    assert!(waits.starts_with("v2 to be no worse on errors"), "{waits}");
    let calls = |calls| vec![(1, Batch { calls, ..Batch::default() })];
    let sound = gain(&progress, [0, 0], [calls(5_000), calls(5_000)]);
    progress.absorb(terms(&ab), &sound, seconds(2));
    assert_eq!(look(&mut progress, &ab, 3).unwrap().to, State::Passed);
}

/// Calls of both arms over all buckets, with failures in so many of a hundred, and latency buckets around these.
fn calls(draws: &mut Draws, lots: u64, failing: [f64; 2], places: [u64; 2]) -> [Vec<(u8, Batch)>; 2] {
    let mut arm = |failing: f64, place: u64| {
        let batch = |bucket: u8| {
            let mut batch = Batch { calls: lots, timed: lots, ..Batch::default() };
            for _ in 0..lots {
                batch.errors += u64::from(draws.next() < failing);
                batch.places += place + (draws.next() * 60.0) as u64;
            }
            (bucket, batch)
        };
        (0..=u8::MAX).map(batch).collect::<Vec<_>>()
    };
    [arm(failing[0], places[0]), arm(failing[1], places[1])]
}

#[test]
fn fewer_errors_and_a_lower_latency_win_as_well() {
    for (metrics, failing, places, name) in [
        (vec![metric(Source::Errors, 0.02, true)], [0.2, 0.1], [400, 400], "errors"),
        (vec![metric(Source::Latency, 0.02, true)], [0.1, 0.1], [400, 395], "latency mean"),
    ] {
        let ab = split(&[50, 50], metrics);
        let mut progress = begun(&ab);
        let mut draws = Draws(3);
        for now in 1..=20 {
            let lots = calls(&mut draws, 2, failing, places);
            let gain = gain(&progress, [512, 512], lots);
            progress.absorb(terms(&ab), &gain, seconds(now));
        }
        let change = look(&mut progress, &ab, 21).unwrap();
        assert_eq!(change.why, format!("v2 is better: {name}; a person must promote it"));
        let found = change.findings.iter().find(|found| found.aim == Aim::Success).unwrap();
        let value = |one: crate::verdict::Estimate| one.value.unwrap();
        assert!(value(found.candidate) < value(found.baseline), "{found:?}");
        if name == "errors" {
            assert!((found.harm.unwrap().middle + 0.1).abs() < 0.02, "{found:?}");
        } else {
            // Five buckets of 2 %.
            assert!((found.harm.unwrap().middle + 0.094).abs() < 0.02, "{found:?}");
        }
    }
}

#[test]
fn calls_of_a_segment_are_weighed_by_its_own_shares() {
    let mut ab = split(&[50, 50], vec![metric(Source::Errors, 0.02, true)]);
    let weights = vec![(0, percent(95)), (1, percent(5))];
    ab.segments.push(Segment { name: "few".into(), matches: Match(Vec::new()), weights });
    let mut progress = begun(&ab);
    // In the segment nearly all have the baseline, and all fail alike: no effect, though pooled shares would show one.
    let mut draws = Draws(5);
    for now in 1..=20 {
        let main = calls(&mut draws, 2, [0.05, 0.05], [400, 400]);
        let main = gain(&progress, [512, 512], main);
        let [baseline, _] = calls(&mut draws, 19, [0.5, 0.5], [400, 400]);
        let [_, arm] = calls(&mut draws, 1, [0.5, 0.5], [400, 400]);
        let few = Gain { segment: Some(0), ..gain(&progress, [4_864, 256], [baseline, arm]) };
        progress.absorb(terms(&ab), &main, seconds(now));
        progress.absorb(terms(&ab), &few, seconds(now));
    }
    let report = progress.report(terms(&ab), 2, seconds(21));
    let found = report.findings.iter().find(|found| found.aim == Aim::Success).unwrap();
    assert!(found.harm.unwrap().middle.abs() < 0.03, "{found:?}");
    assert!(found.baseline.value.unwrap() - found.candidate.value.unwrap() > 0.2, "what both simply had");
    assert_eq!(report.findings[0].verdict, Verdict::Pass, "{:?}", report.findings[0]);
    assert_eq!(look(&mut progress, &ab, 22), None);
}

#[test]
fn a_person_may_pause_pin_and_end_it() {
    let ab = split(&[40, 30, 30], vec![approved()]);
    let mut progress = begun(&ab);
    let mut told = |command: Command| progress.command(terms(&ab), &command, &ready, seconds(1));
    let refused = told(Command::Promote).unwrap_err();
    assert!(refused.to_string().contains("no variant has won yet"), "{refused}");
    assert_eq!(told(Command::Pause).unwrap().to, State::Paused);
    assert_eq!(told(Command::Resume).unwrap().to, State::Running);
    assert_eq!(told(Command::Pin(2)).unwrap().to, State::Pinned);
    assert_eq!(told(Command::Resume).unwrap().to, State::Running);
    let change = told(Command::Rollback).unwrap();
    assert_eq!((change.to, change.variants.len()), (State::RolledBack, 0));
    assert_eq!(progress.standing().split, Split::Only(0));
    let epochs = progress.standing().epoch;
    assert_eq!(epochs, 3, "pinned, resumed, rolled back");
}

#[test]
fn a_paused_one_still_loses_who_is_worse() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    progress.command(terms(&ab), &Command::Pause, &ready, seconds(1)).unwrap();
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 20_000, [0.10, 0.13]));
    assert_eq!(look(&mut progress, &ab, 2), None, "nobody wins while it is paused");
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 90_000, [0.10, 0.05]));
    assert_eq!(look(&mut progress, &ab, 3).unwrap().to, State::RolledBack);
}

#[test]
fn a_restart_loses_nothing() {
    let ab = split(&[50, 50], vec![approved()]);
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores(&mut Draws(0), 4_000, [0.10, 0.11]));
    let units = gain(&progress, [300, 310], calls(&mut Draws(4), 2, [0.1, 0.1], [400, 400]));
    progress.absorb(terms(&ab), &units, seconds(1));
    let written = serde_json::to_string(&progress).unwrap();
    let read: Progress = serde_json::from_str(&written).unwrap();
    assert_eq!((read.standing(), read.state()), (progress.standing(), progress.state()));
    let (left, right) = (read.report(terms(&ab), 2, seconds(9)), progress.report(terms(&ab), 2, seconds(9)));
    assert_eq!((left.calls, left.waits_for), (right.calls, right.waits_for));
    for (left, right) in left.findings.iter().zip(&right.findings) {
        // Numbers are written in the decimal system, so the last of their bits may change.
        assert!((left.ln_e - right.ln_e).abs() < 1e-9, "{left:?}, {right:?}");
        assert_eq!(
            (left.verdict, left.baseline, left.candidate),
            (right.verdict, right.baseline, right.candidate)
        );
    }
}

#[test]
fn equals_rarely_win_however_often_one_looks() {
    let ab = split(&[50, 50], vec![approved()]);
    let (mut decided, streams) = (0, 200);
    for stream in 0..streams {
        let mut draws = Draws(stream * 20_000_000 / streams);
        let mut progress = begun(&ab);
        for now in 1..=60 {
            learn(&mut progress, &ab, 1, scores(&mut draws, 100, [0.2, 0.2]));
            if look(&mut progress, &ab, now).is_some() {
                decided += 1;
                break;
            }
        }
    }
    // 5 % to win and 1 % to be worse, at most.
    assert!(decided <= 20, "{decided} of {streams}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn parts_of_the_evidence_may_come_in_any_order(seed in 0_u32..1000, order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle()) {
        let ab = split(&[50, 50], vec![approved()]);
        let mut draws = Draws(seed * 1_000_000);
        let shards: Vec<Scores> = (0..8).map(|_| scores(&mut draws, 700, [0.1, 0.13])).collect();
        let (mut one, mut other) = (begun(&ab), begun(&ab));
        shards.iter().for_each(|shard| learn(&mut one, &ab, 1, shard.clone()));
        order.iter().for_each(|shard| learn(&mut other, &ab, 1, shards[*shard].clone()));
        let (left, right) = (one.report(terms(&ab), 2, seconds(1)), other.report(terms(&ab), 2, seconds(1)));
        for (left, right) in left.findings.iter().zip(&right.findings) {
            prop_assert!((left.ln_e - right.ln_e).abs() < 1e-9);
            prop_assert_eq!((left.verdict, left.baseline, left.missing), (right.verdict, right.baseline, right.missing));
        }
        prop_assert_eq!(look(&mut one, &ab, 2).map(|change| change.why), look(&mut other, &ab, 2).map(|change| change.why));
    }
}

/// Values whose units come once, so that their squares are exact.
fn once(draws: &mut Draws, units: u64, rates: [f64; 2]) -> Scores {
    let mut scores = Scores::default();
    for _ in 0..units {
        let treated = draws.next() < 0.5;
        let reward = f64::from(u8::from(draws.next() < rates[usize::from(treated)]));
        scores.sums.add(&Observation { treated, propensity: 0.5, reward, predicted: 0.1 });
        let total = if treated { &mut scores.candidate } else { &mut scores.baseline };
        total.add(Total { n: 1, sum: reward });
    }
    scores
}

fn judged_by(test: Test, scores: &Scores) -> Finding {
    let mut ab = split(&[50, 50], vec![approved()]);
    edit(&mut ab).test = test;
    let mut progress = begun(&ab);
    learn(&mut progress, &ab, 1, scores.clone());
    let findings = progress.report(terms(&ab), 2, seconds(1)).findings;
    findings.into_iter().find(|found| found.aim == Aim::Success).unwrap()
}

#[test]
fn the_difference_of_means_is_the_sequence_that_other_platforms_report() {
    let scores = once(&mut Draws(5), 20_000, [0.10, 0.11]);
    let found = judged_by(Test::Asympcs, &scores);
    let moments = |total: &Total| Moments { count: total.n as f64, sum: total.sum, squares: total.sum };
    let means = Difference::absolute(&moments(&scores.baseline), &moments(&scores.candidate));
    let (low, high) = means.interval(5_000.0, 0.05);
    let harm = found.harm.unwrap();
    assert_eq!(&*found.guard, "feedback approved by asympcs");
    assert!((-harm.middle - means.value).abs() < 1e-12, "{harm:?} {means:?}");
    // Their variance is that of either arm, ours that of the score: they meet as values come in.
    let width = high - low;
    assert!(
        (-harm.high - low).abs() < 0.02 * width && (-harm.low - high).abs() < 0.02 * width,
        "{harm:?} {low} {high}"
    );
    let ln_e = means.ln_e(rho_squared(5_000.0, 0.05));
    assert!((found.ln_e - ln_e).abs() < 0.05 * ln_e.abs().max(1.0), "{} {ln_e}", found.ln_e);
}

#[test]
fn the_exact_test_needs_more_and_no_limit_theorem() {
    let scores = once(&mut Draws(6), 16_000, [0.10, 0.13]);
    let (exact, overlap) = (judged_by(Test::Bounded, &scores), judged_by(Test::Overlap, &scores));
    assert_eq!((exact.verdict, overlap.verdict), (Verdict::Pass, Verdict::Pass));
    assert!(exact.ln_e < overlap.ln_e, "{} {}", exact.ln_e, overlap.ln_e);
    let (of, inner) = (exact.harm.unwrap(), overlap.harm.unwrap());
    assert!(
        of.low < inner.low && of.high > inner.high && of.low < -0.03 && of.high > -0.03,
        "{of:?} {inner:?}"
    );
    assert!(of.high - of.low < 2.0 * (inner.high - inner.low), "{of:?} {inner:?}");
    // Hits in one arm alone: the normal law has nothing to say, and this has.
    let scores = once(&mut Draws(7), 600, [0.0, 0.25]);
    let (exact, overlap) = (judged_by(Test::Bounded, &scores), judged_by(Test::Overlap, &scores));
    assert_eq!((exact.verdict, overlap.verdict), (Verdict::Pass, Verdict::NotEnoughData));
}
