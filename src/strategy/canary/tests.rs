use std::time::Duration;

use proptest::prelude::*;

use super::plan::{Expected, needs};
use super::*;
use crate::config::{Canary, FeedbackGuard, Guards, LatencyGuard, Margin, OnFail, OnPass, Step, Warmup};
use crate::evidence::{ArmGain, Gain, Scores, Total};
use crate::stats::overlap::{Observation, Sums};
use crate::strategy::course::Learnt;
use crate::strategy::{Split, Standing};
use crate::verdict::{Action, Change, Command, Refused, Scale, State, Verdict};

const NONE: Margin = Margin { absolute: 0.0, relative: 0.0 };
const USUAL: Margin = Margin { absolute: 0.001, relative: 0.25 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

fn percent(whole: u32) -> Percent {
    Percent::from_thousandths(whole * 1000).unwrap()
}

fn canary() -> config::Canary {
    let step = |share| Step { share: percent(share), hold: Duration::from_secs(60), calls: 100 };
    Canary {
        baseline: 0,
        candidate: 1,
        salt: "fraud/2".into(),
        steps: vec![step(10), step(50)],
        guards: Guards {
            errors: Some(USUAL),
            rejections: None,
            latency: vec![],
            feedback: vec![],
            resources: None,
            shadow: false,
        },
        warmup: Warmup { time: Duration::from_secs(30), calls: 50 },
        warming: crate::config::Warming::NONE,
        alpha: 0.01,
        max_step_time: Duration::from_secs(3600),
        on_pass: OnPass::Promote,
        on_fail: OnFail::Rollback,
    }
}

/// Calls and errors of (baseline, candidate), in the epoch that the canary is in.
fn gain(progress: &Progress, baseline: (u64, u64), candidate: (u64, u64)) -> Gain {
    let arm = |(calls, errors)| ArmGain { calls, errors, ..ArmGain::default() };
    let arms = vec![arm(baseline), arm(candidate), ArmGain::default()];
    Gain { epoch: progress.standing().epoch, segment: None, arms }
}

fn begun(canary: &config::Canary) -> Progress {
    let mut progress = Progress::begin(canary, seconds(0));
    let change = progress.look(canary, true, seconds(0)).unwrap();
    assert_eq!((change.action, change.from, change.to), (Action::Began, State::Waiting, State::Running));
    progress
}

/// As many calls as any guard needs, nearly all of them good.
fn prove(progress: &mut Progress, canary: &config::Canary, now: Duration) {
    let share = match progress.standing().split {
        Split::Candidate(share) => share.probability(),
        other => panic!("{other:?}"),
    };
    let calls = (20_000.0 * (1.0 - share) / share) as u64;
    let gain = gain(progress, (calls, calls / 1000), (20_000, 20));
    progress.absorb(canary, &gain, now);
}

fn ready(_: usize) -> Result<(), Refused> {
    Ok(())
}

fn split(progress: &Progress) -> (u32, Split) {
    let Standing { epoch, split, .. } = progress.standing();
    (epoch, split)
}

#[test]
fn a_sound_candidate_goes_from_step_to_step_and_gets_everything() {
    let canary = canary();
    let mut progress = Progress::begin(&canary, seconds(0));
    assert_eq!(split(&progress), (0, Split::Candidate(Percent::NONE)));
    assert_eq!(progress.look(&canary, false, seconds(1)), None);
    assert_eq!(progress.look(&canary, true, seconds(2)).unwrap().share, 0.1);
    assert_eq!(split(&progress), (1, Split::Candidate(percent(10))));
    prove(&mut progress, &canary, seconds(10));
    assert_eq!(progress.look(&canary, true, seconds(61)), None, "its hold is not over");
    assert_eq!(progress.look(&canary, false, seconds(62)), None, "it is not ready");
    let change = progress.look(&canary, true, seconds(62)).unwrap();
    assert_eq!((change.action, change.step, change.share), (Action::Advanced, Some(1), 0.5));
    assert_eq!(change.findings[0].verdict, Verdict::Pass);
    assert_eq!(progress.look(&canary, true, seconds(200)), None, "it had no calls at this step");
    prove(&mut progress, &canary, seconds(200));
    let change = progress.look(&canary, true, seconds(200)).unwrap();
    assert_eq!((change.action, change.to, change.share), (Action::Promoted, State::Promoted, 1.0));
    assert_eq!(split(&progress), (3, Split::Only(1)));
    assert_eq!(progress.look(&canary, true, seconds(9000)), None);
}

#[test]
fn a_failing_candidate_is_out_whatever_state_it_is_in() {
    let canary = config::Canary { on_pass: OnPass::Wait, ..canary() };
    let running = begun(&canary);
    let mut paused = running.clone();
    paused.command(&canary, &Command::Pause, &ready, seconds(1)).unwrap();
    let mut held = running.clone();
    assert_eq!(held.look(&canary, true, seconds(3600)).unwrap().action, Action::Held);
    let mut passed = running.clone();
    for now in [100, 200] {
        prove(&mut passed, &canary, seconds(now));
        passed.look(&canary, true, seconds(now)).unwrap();
    }
    let states = [State::Running, State::Paused, State::Held, State::Passed];
    for (mut progress, state) in [running, paused, held, passed].into_iter().zip(states) {
        assert_eq!(progress.state(), state);
        let failures = if state == State::Passed { 2_000 } else { 10 };
        let bad = gain(&progress, (failures, 0), (failures, failures));
        progress.absorb(&canary, &bad, seconds(4000));
        let change = progress.look(&canary, true, seconds(4000)).unwrap();
        assert_eq!((change.action, change.from, change.to), (Action::RolledBack, state, State::RolledBack));
        assert_eq!(change.why, "the candidate is worse than its margin allows: errors");
        assert!(change.findings[0].ln_e >= change.findings[0].threshold);
        assert_eq!(progress.standing().split, Split::Only(0));
        assert_eq!(progress.look(&canary, true, seconds(5000)), None);
        for command in [Command::Promote, Command::Resume, Command::Pin(1), Command::Rollback] {
            let refused = progress.command(&canary, &command, &ready, seconds(5000)).unwrap_err();
            assert!(refused.to_string().contains("rolled_back"), "{refused}");
        }
    }
}

#[test]
fn errors_of_an_earlier_epoch_count_when_they_come_late() {
    let canary = canary();
    let mut progress = begun(&canary);
    prove(&mut progress, &canary, seconds(60));
    let late = gain(&progress, (0, 0), (600, 600));
    progress.look(&canary, true, seconds(60)).unwrap();
    progress.absorb(&canary, &late, seconds(61));
    assert_eq!(progress.look(&canary, true, seconds(61)).unwrap().action, Action::RolledBack);
}

#[test]
fn an_outage_of_both_harms_nobody() {
    let canary = config::Canary { guards: Guards { errors: Some(NONE), ..canary().guards }, ..canary() };
    let mut progress = begun(&canary);
    for now in 0..100 {
        let outage = gain(&progress, (900, 450), (100, 50));
        progress.absorb(&canary, &outage, seconds(now));
        assert_eq!(progress.look(&canary, true, seconds(now)), None);
    }
}

#[test]
fn where_failing_holds_a_person_decides() {
    let canary = config::Canary { on_fail: OnFail::Hold, ..canary() };
    let mut progress = begun(&canary);
    let bad = gain(&progress, (100, 0), (10, 10));
    progress.absorb(&canary, &bad, seconds(1));
    let change = progress.look(&canary, true, seconds(1)).unwrap();
    assert_eq!((change.action, change.share), (Action::Held, 0.1));
    assert_eq!(progress.look(&canary, true, seconds(2)), None, "said once");
    let refused = progress.command(&canary, &Command::Resume, &ready, seconds(3)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "resume is not possible while the rollout is held: a guard fails; roll it back, or promote it all the same"
    );
    let change = progress.command(&canary, &Command::Rollback, &ready, seconds(3)).unwrap();
    assert_eq!((change.to, change.share), (State::RolledBack, 0.0));
}

#[test]
fn a_pin_is_left_to_where_it_was() {
    let canary = canary();
    let mut progress = begun(&canary);
    let changes = |progress: &mut Progress, command, now| -> Change {
        progress.command(&canary, &command, &ready, seconds(now)).unwrap()
    };
    assert_eq!(changes(&mut progress, Command::Pin(2), 5).share, 0.0);
    assert_eq!(split(&progress), (2, Split::Only(2)));
    let bad = gain(&progress, (0, 0), (100, 100));
    progress.absorb(&canary, &bad, seconds(6));
    assert_eq!(progress.look(&canary, true, seconds(6)), None, "nothing is compared");
    let change = changes(&mut progress, Command::Resume, 7);
    assert_eq!((change.to, change.step, change.share), (State::Running, Some(0), 0.1));
    assert_eq!(split(&progress), (3, Split::Candidate(percent(10))));
    assert_eq!(changes(&mut progress, Command::Promote, 8).to, State::Promoted);
    assert!(progress.command(&canary, &Command::Pause, &ready, seconds(9)).is_err());
    assert_eq!(changes(&mut progress, Command::Rollback, 9).to, State::RolledBack);
}

#[test]
fn who_waits_can_be_paused_and_waits_again() {
    let canary = canary();
    let mut progress = Progress::begin(&canary, seconds(0));
    progress.command(&canary, &Command::Pause, &ready, seconds(1)).unwrap();
    assert_eq!(progress.look(&canary, true, seconds(2)), None);
    assert_eq!(progress.report(&canary, 3, seconds(2)).waits_for, "a person to resume it");
    let change = progress.command(&canary, &Command::Resume, &ready, seconds(3)).unwrap();
    assert_eq!(change.to, State::Waiting);
    assert_eq!(progress.look(&canary, true, seconds(4)).unwrap().to, State::Running);
}

#[test]
fn what_is_not_ready_is_neither_promoted_nor_pinned() {
    let canary = canary();
    let mut progress = begun(&canary);
    let away = |variant: usize| match variant {
        0 => Ok(()),
        _ => Err(Refused::NotReady { variant: "v2".into(), why: "connection refused".into() }),
    };
    for command in [Command::Promote, Command::Pin(1)] {
        let refused = progress.command(&canary, &command, &away, seconds(1)).unwrap_err();
        assert!(refused.to_string().contains("v2 is not ready (connection refused)"), "{refused}");
    }
    assert_eq!(split(&progress), (1, Split::Candidate(percent(10))));
    progress.command(&canary, &Command::Pin(0), &away, seconds(2)).unwrap();
}

#[test]
fn a_stalled_step_is_held_and_goes_on_when_it_is_resumed() {
    let canary = canary();
    let mut progress = begun(&canary);
    assert_eq!(progress.look(&canary, true, seconds(3599)), None);
    let change = progress.look(&canary, true, seconds(3600)).unwrap();
    assert_eq!((change.action, change.to, change.share), (Action::Held, State::Held, 0.1));
    assert!(change.why.starts_with("no verdict within 1h"), "{}", change.why);
    prove(&mut progress, &canary, seconds(4000));
    assert_eq!(progress.look(&canary, true, seconds(4000)), None, "a person decides");
    progress.command(&canary, &Command::Resume, &ready, seconds(4001)).unwrap();
    assert_eq!(progress.look(&canary, true, seconds(4001)).unwrap().action, Action::Advanced);
}

#[test]
fn a_report_says_where_it_stands_and_what_it_waits_for() {
    let canary = canary();
    let mut progress = begun(&canary);
    let some = gain(&progress, (900, 9), (100, 1));
    progress.absorb(&canary, &some, seconds(10));
    let report = progress.report(&canary, 3, seconds(20));
    assert_eq!(
        (report.state, report.step, report.since),
        (State::Running, Some((0, 2)), Duration::from_secs(20))
    );
    assert_eq!((report.shares, report.calls), (vec![0.9, 0.1, 0.0], vec![900, 100, 0]));
    assert_eq!(report.verdict, Verdict::NotEnoughData);
    assert_eq!(report.waits_for, "40 s of its hold, a verdict on errors");
    let finding = &report.findings[0];
    let harm = finding.harm.unwrap();
    assert!(harm.low < 0.0 && harm.middle == 0.0 && harm.high > finding.margin, "{harm:?}");
    assert_eq!((finding.margin, finding.scale), (0.0025, Scale::Share));
    assert!(finding.missing > 1000, "{}", finding.missing);
}

/// A latency for every per mille, from 10 ms on, each 2 % above the one before at the far end.
fn latency(calls: u32, shift: u16) -> Vec<(u16, u32)> {
    (0..100).map(|bucket| (400 + bucket + shift, calls)).collect()
}

#[test]
fn latency_is_judged_once_the_candidate_is_warm() {
    let guard = LatencyGuard { quantile: 0.95, relative: 0.15 };
    let guards = Guards {
        errors: None,
        rejections: None,
        latency: vec![guard],
        feedback: vec![],
        resources: None,
        shadow: false,
    };
    let canary = config::Canary { guards, ..canary() };
    let feed = |progress: &mut Progress, shift: u16, now: u64| {
        let mut gain = gain(progress, (10_000, 0), (1_000, 0));
        gain.arms[0].latency = latency(100, 0);
        gain.arms[1].latency = latency(10, shift);
        progress.absorb(&canary, &gain, seconds(now));
    };
    let mut progress = begun(&canary);
    // Cold: as slow as can be, and nobody minds.
    (0..30).for_each(|now| feed(&mut progress, 300, now));
    assert_eq!(progress.look(&canary, true, seconds(30)), None);
    assert_eq!(progress.report(&canary, 2, seconds(30)).findings[0].candidate.n, 0);
    feed(&mut progress, 300, 30);
    assert_eq!(progress.report(&canary, 2, seconds(30)).findings[0].candidate.n, 1000, "now it is warm");
    let mut slow = begun(&canary);
    for (progress, shift, action) in
        [(&mut begun(&canary), 0, Action::Advanced), (&mut slow, 40, Action::RolledBack)]
    {
        feed(progress, shift, 0);
        (60..70).for_each(|now| feed(progress, shift, now));
        let change = progress.look(&canary, true, seconds(70)).unwrap();
        assert_eq!(change.action, action);
        let finding = &change.findings[0];
        assert_eq!((&*finding.guard, finding.scale), ("latency p95", Scale::Ratio));
        let harm = finding.harm.unwrap();
        assert!(harm.low <= harm.middle && harm.middle <= harm.high, "{harm:?}");
        assert!((harm.middle - (1.02f64.powi(shift.into()) - 1.0)).abs() < 1e-9, "{harm:?}");
    }
}

fn scores(effect: f64, units: u64) -> Scores {
    let mut scores = Scores::default();
    for unit in 0..units {
        let treated = unit % 10 == 0;
        let reward = if treated { 0.5 + effect } else { 0.5 } + if unit % 4 < 2 { 0.3 } else { -0.3 };
        let observation = Observation { treated, propensity: 0.1, reward, predicted: 0.5 };
        scores.sums.add_clustered(&observation, (unit * 7 % 251) as u8);
        let total = if treated { &mut scores.candidate } else { &mut scores.baseline };
        total.add(Total { n: 1, sum: reward });
    }
    scores
}

#[test]
fn feedback_rolls_back_at_any_time_and_gates_the_last_step_alone() {
    let guard = |lower_is_better| FeedbackGuard {
        feedback: 0,
        name: "approved".into(),
        margin: Margin { absolute: 0.05, relative: 0.0 },
        lower_is_better,
    };
    let canary_of = |lower| config::Canary {
        guards: Guards {
            errors: None,
            rejections: None,
            latency: vec![],
            feedback: vec![guard(lower)],
            resources: None,
            shadow: false,
        },
        ..canary()
    };
    let canary = canary_of(false);
    let mut progress = begun(&canary);
    prove(&mut progress, &canary, seconds(60));
    assert_eq!(
        progress.look(&canary, true, seconds(60)).unwrap().action,
        Action::Advanced,
        "a step is not gated"
    );
    prove(&mut progress, &canary, seconds(200));
    assert_eq!(progress.look(&canary, true, seconds(200)), None, "the promotion is");
    learn(&mut progress, &canary, scores(0.0, 20_000));
    assert_eq!(progress.clone().look(&canary, true, seconds(200)).unwrap().action, Action::Promoted);
    learn(&mut progress, &canary, scores(-0.2, 20_000));
    let change = progress.look(&canary, true, seconds(201)).unwrap();
    assert_eq!(change.action, Action::RolledBack);
    assert_eq!((&*change.findings[0].guard, change.findings[0].scale), ("feedback approved", Scale::Mean));
    let harm = change.findings[0].harm.unwrap();
    assert!(harm.low > 0.05 && harm.low < harm.middle && harm.middle < harm.high, "{harm:?}");
    // The same scores where less is better, and where the sign is turned.
    for (effect, fails) in [(-0.2, false), (0.2, true)] {
        let canary = canary_of(true);
        let mut progress = begun(&canary);
        learn(&mut progress, &canary, scores(effect, 20_000));
        assert_eq!(progress.look(&canary, true, seconds(1)).is_some(), fails, "{effect}");
    }
}

fn learn(progress: &mut Progress, canary: &config::Canary, scores: Scores) {
    let mut variants = vec![Scores::default(); canary.candidate + 1];
    variants[canary.candidate] = scores;
    progress.learn(canary, &Learnt { feedback: "approved", epoch: 0, variants: &variants, rewards: None });
}

#[test]
fn a_plan_says_what_each_guard_needs() {
    let mut canary = canary();
    canary.guards.rejections = Some(NONE);
    canary.guards.latency = vec![LatencyGuard { quantile: 0.999, relative: 0.15 }];
    let needs = needs(&canary, &Expected { rate: 0.01, spread: 0.5 });
    let names: Vec<&str> = needs.iter().map(|need| &*need.guard).collect();
    assert_eq!(names, ["errors", "rejections", "latency p99.9"]);
    assert!((10_000..25_000).contains(&needs[0].calls.unwrap()), "{:?}", needs[0]);
    assert_eq!(needs[1].calls, None);
    assert!((10_000..100_000).contains(&needs[2].calls.unwrap()), "{:?}", needs[2]);
}

proptest! {
    #[test]
    fn a_unit_that_has_the_candidate_keeps_it_as_the_share_grows(
        shares in proptest::collection::vec(0..=100_000_u32, 2..8),
        units in proptest::collection::vec("[a-z0-9]{1,12}", 50),
        salt in "[a-z]{0,6}",
        draws in any::<[u32; 2]>(),
    ) {
        let mut shares = shares;
        shares.sort_unstable();
        let split = super::Canary::new(&config::Canary { salt: salt.into(), ..canary() });
        let of = |share, unit: &str, draw| {
            let share = Percent::from_thousandths(share).unwrap();
            split.assign(share, Some(unit), draw, &|_| true).variant
        };
        for unit in &units {
            let had: Vec<bool> = shares.iter().map(|share| of(*share, unit, draws[0]) == 1).collect();
            prop_assert!(had.is_sorted(), "{unit} left the candidate: {shares:?} {had:?}");
            let again: Vec<bool> = shares.iter().map(|share| of(*share, unit, draws[1]) == 1).collect();
            prop_assert_eq!(had, again, "whatever is drawn, in whichever process");
        }
    }
}

proptest! {
    #[test]
    fn it_is_written_down_and_read_again(
        gains in proptest::collection::vec((0..2000u64, 0..40u64, 0..300u64, 0..10u64, 0..900u16), 1..40),
        pinned in any::<bool>(),
    ) {
        let latency = vec![LatencyGuard { quantile: 0.5, relative: 0.1 }];
        let guards = Guards { rejections: Some(NONE), latency, ..canary().guards };
        let canary = config::Canary { guards, ..canary() };
        let mut progress = begun(&canary);
        let mut now = 0;
        for (calls, errors, of_candidate, errors_of_candidate, bucket) in gains {
            now += calls;
            let mut gain = gain(&progress, (calls.max(errors), errors), (of_candidate.max(errors_of_candidate), errors_of_candidate));
            gain.arms[0].latency = vec![(bucket, 3)];
            gain.arms[1].latency = vec![(bucket, 1), (bucket + 1, 2)];
            progress.absorb(&canary, &gain, seconds(now));
            learn(&mut progress, &canary, Scores { sums: Sums::default(), ..Scores::default() });
            progress.look(&canary, true, seconds(now));
        }
        if pinned {
            let _ = progress.command(&canary, &Command::Pin(2), &ready, seconds(now));
        }
        let text = serde_json::to_string(&progress).unwrap();
        let again: Progress = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(again.standing(), progress.standing());
        let report = progress.report(&canary, 3, seconds(now));
        let written = serde_json::to_string(&report).unwrap();
        let read: crate::verdict::Report = serde_json::from_str(&written).unwrap();
        let again = again.report(&canary, 3, seconds(now));
        prop_assert_eq!((read.state, again.state, &again.calls), (report.state, report.state, &report.calls));
        // Decimal digits may lose the last bit.
        for (again, finding) in again.findings.iter().zip(&report.findings) {
            prop_assert!((again.ln_e - finding.ln_e).abs() <= 1e-9 * finding.ln_e.abs().max(1.0));
            prop_assert_eq!((again.verdict, again.missing, again.baseline.n), (finding.verdict, finding.missing, finding.baseline.n));
        }
    }

    #[test]
    fn evidence_adds_up_in_any_order(errors in 0..30u64, of_candidate in 0..30u64, parts in 1..6u64) {
        let canary = canary();
        let mut whole = begun(&canary);
        let all = gain(&whole, (1000 * parts, errors * parts), (100 * parts, of_candidate * parts));
        whole.absorb(&canary, &all, seconds(1));
        let mut bit_by_bit = begun(&canary);
        for _ in 0..parts {
            let part = gain(&bit_by_bit, (1000, errors), (100, of_candidate));
            bit_by_bit.absorb(&canary, &part, seconds(1));
        }
        let ln_e = |progress: &Progress| progress.report(&canary, 2, seconds(1)).findings[0].ln_e;
        // More capital is put in after some hundred failures, which a whole gain passes over.
        if (errors + of_candidate) * parts < 100 {
            prop_assert!((ln_e(&whole) - ln_e(&bit_by_bit)).abs() < 1e-9);
        }
    }
}

#[test]
fn what_an_idle_rollout_remembers_is_small() {
    let latency = [0.5, 0.95, 0.99].map(|quantile| LatencyGuard { quantile, relative: 0.15 });
    let guards = Guards { rejections: Some(USUAL), latency: latency.to_vec(), ..canary().guards };
    let canary = config::Canary { guards, ..canary() };
    let mut progress = begun(&canary);
    for now in 0..2000u64 {
        let mut gain = gain(&progress, (9_000, 9), (1_000, 1));
        let spread = |calls: u32| (0..200).map(|bucket| (350 + bucket, calls)).collect::<Vec<_>>();
        (gain.arms[0].latency, gain.arms[1].latency) = (spread(45), spread(5));
        progress.absorb(&canary, &gain, seconds(now));
    }
    let bytes = serde_json::to_vec(&progress).unwrap().len();
    assert!(bytes < 64 * 1024, "{bytes} bytes");
}
