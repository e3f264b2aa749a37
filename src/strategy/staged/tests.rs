use std::sync::Arc;

use super::*;
use crate::assignment::Odds;
use crate::config::units::Percent;
use crate::config::{self, Ab, Canary, Guards, Margin, OnFail, OnPass, Step, Warmup};
use crate::evidence::{ArmGain, Earned};
use crate::strategy::Shares;

const SOUND: Margin = Margin { absolute: 0.02, relative: 0.25 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

fn percent(whole: u32) -> Percent {
    Percent::from_thousandths(whole * 1000).unwrap()
}

fn canary(shares: &[u32]) -> Arc<Canary> {
    let step = |share: &u32| Step { share: percent(*share), hold: Duration::from_secs(10), calls: 100 };
    Arc::new(Canary {
        baseline: 0,
        candidate: 1,
        salt: "m/2".into(),
        steps: shares.iter().map(step).collect(),
        guards: Guards {
            errors: Some(SOUND),
            rejections: None,
            latency: vec![],
            feedback: vec![],
            resources: None,
            shadow: false,
        },
        warmup: Warmup { time: Duration::ZERO, calls: 0 },
        warming: crate::config::Warming::NONE,
        alpha: 0.01,
        max_step_time: Duration::from_secs(3600),
        on_pass: OnPass::Promote,
        on_fail: OnFail::Rollback,
    })
}

/// Copies, then a canary to 50 %, then half and half until a person decides.
fn staged(last: bool) -> Staged {
    let stage = |name: &str, strategy| Stage { name: name.into(), strategy };
    let weights = vec![(0, percent(40)), (1, percent(60))];
    let mut stages = vec![
        stage("shadow", Strategy::Shadow(canary(&[50]))),
        stage("canary", Strategy::Canary(canary(&[10, 50]))),
    ];
    if last {
        let hash = Default::default();
        let ab = Ab { baseline: 0, salt: "m/2".into(), hash, weights, segments: vec![], judge: None };
        stages.push(stage("ab", Strategy::Ab(Arc::new(ab))));
    } else {
        stages.push(stage("pinned", Strategy::pinned(1)));
    }
    Staged { baseline: 0, candidate: 1, salt: "m/2".into(), stages }
}

fn ready(_: usize) -> Result<(), Refused> {
    Ok(())
}

fn copies(errors: [u64; 2]) -> Copies {
    Copies { calls: 5_000, errors, rejections: [0, 0] }
}

fn gain(progress: &Progress, errors: [u64; 2]) -> Gain {
    let arm = |errors| ArmGain { calls: 5_000, errors, ..ArmGain::default() };
    Gain { epoch: progress.standing().epoch, segment: None, arms: errors.map(arm).to_vec() }
}

/// Everything that becomes due at `now`.
fn moves(progress: &mut Progress, staged: &Staged, now: Duration) -> Vec<Change> {
    std::iter::from_fn(|| progress.look(staged, &ready, now)).collect()
}

#[test]
fn a_sound_candidate_goes_from_stage_to_stage_and_no_epoch_comes_twice() {
    let staged = staged(false);
    let mut progress = Progress::begin(&staged, seconds(0));
    let mut epochs = vec![progress.standing().epoch];
    assert_eq!(progress.standing(), Standing { split: Split::Only(0), ..Standing::CONFIGURED });
    assert_eq!(moves(&mut progress, &staged, seconds(0)).len(), 1, "the stage begins");
    assert_eq!(progress.standing().split, Split::Only(0), "the baseline answers while copies are judged");
    progress.absorb_copies(&staged, &copies([3, 2]), seconds(5));
    assert_eq!(moves(&mut progress, &staged, seconds(9)), [], "not before its time");
    let passed = moves(&mut progress, &staged, seconds(11));
    let actions: Vec<Action> = passed.iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::Advanced, Action::Began], "{passed:?}");
    assert!(
        passed[0].why.contains("stage shadow is passed") && passed[0].why.contains("canary"),
        "{passed:?}"
    );
    assert_eq!((progress.standing().stage, progress.standing().split), (1, Split::Candidate(percent(10))));
    for now in [30, 60] {
        epochs.push(progress.standing().epoch);
        let gain = gain(&progress, [4, 3]);
        progress.absorb(&staged, &gain, seconds(now));
        moves(&mut progress, &staged, seconds(now + 11));
    }
    epochs.push(progress.standing().epoch);
    assert_eq!(progress.state(), State::Promoted);
    assert_eq!((progress.standing().stage, progress.standing().split), (u32::MAX, Split::Only(1)));
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
    let report = progress.report(&staged, 3, seconds(100));
    assert_eq!((report.shares, report.calls), (vec![0.0, 1.0, 0.0], vec![15_000, 15_000, 0]));
}

#[test]
fn copies_that_fail_end_it_before_anybody_was_answered() {
    let staged = staged(false);
    let mut progress = Progress::begin(&staged, seconds(0));
    moves(&mut progress, &staged, seconds(0));
    progress.absorb_copies(&staged, &copies([3, 900]), seconds(1));
    let changes = moves(&mut progress, &staged, seconds(1));
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].action, changes[0].share), (Action::RolledBack, 0.0));
    assert_eq!(changes[0].findings.len(), 1);
    assert_eq!(progress.standing().split, Split::Only(0));
    assert_eq!(progress.standing().stage, u32::MAX, "nothing is copied any more");
}

#[test]
fn a_failure_in_a_later_stage_ends_the_whole() {
    let staged = staged(false);
    let mut progress = Progress::begin(&staged, seconds(0));
    moves(&mut progress, &staged, seconds(0));
    progress.command(&staged, &Command::Promote, &ready, seconds(1)).unwrap();
    moves(&mut progress, &staged, seconds(1));
    assert_eq!(progress.standing().stage, 1, "a person ends a stage by promoting");
    let gain = gain(&progress, [4, 800]);
    progress.absorb(&staged, &gain, seconds(2));
    assert_eq!(moves(&mut progress, &staged, seconds(2))[0].action, Action::RolledBack);
    assert_eq!((progress.state(), progress.standing().split), (State::RolledBack, Split::Only(0)));
    assert!(progress.report(&staged, 2, seconds(3)).stage.is_none());
}

#[test]
fn a_last_stage_that_decides_nothing_waits_for_a_person() {
    let staged = staged(true);
    let mut progress = Progress::begin(&staged, seconds(0));
    for now in [1, 2] {
        moves(&mut progress, &staged, seconds(now));
        progress.command(&staged, &Command::Promote, &ready, seconds(now)).unwrap();
    }
    assert_eq!((progress.state(), progress.standing().stage), (State::Running, 2));
    let report = progress.report(&staged, 2, seconds(3));
    assert_eq!((report.shares, report.waits_for.as_str()), (vec![0.4, 0.6], "a person to promote it"));
    assert_eq!(report.stage.map(|stage| (stage.index, stage.of, stage.name)), Some((2, 3, "ab".into())));
    let no = |_: usize| Err(Refused::NotReady { variant: "v2".into(), why: "it is out".into() });
    assert!(progress.command(&staged, &Command::Promote, &no, seconds(4)).is_err());
    progress.command(&staged, &Command::Promote, &ready, seconds(4)).unwrap();
    assert_eq!(progress.state(), State::Promoted);
    let error = progress.command(&staged, &Command::Pause, &ready, seconds(5)).unwrap_err();
    assert!(error.to_string().contains("all stages are over"), "{error}");
    progress.command(&staged, &Command::Rollback, &ready, seconds(6)).unwrap();
    assert_eq!(progress.state(), State::RolledBack);
}

#[test]
fn feedback_of_an_earlier_stage_counts_in_a_later_one() {
    let guard = config::FeedbackGuard {
        feedback: 0,
        name: "approved".into(),
        margin: Margin { absolute: 0.05, relative: 0.0 },
        lower_is_better: false,
    };
    let mut staged = staged(false);
    let mut judged = (*canary(&[10, 50])).clone();
    judged.guards.feedback = vec![guard];
    staged.stages[1].strategy = Strategy::Canary(Arc::new(judged));
    let mut progress = Progress::begin(&staged, seconds(0));
    moves(&mut progress, &staged, seconds(0));
    let mut bad = Scores::default();
    for unit in 0..20_000_u64 {
        let treated = unit % 10 == 0;
        let reward = if treated { 0.3 } else { 0.5 } + if unit % 4 < 2 { 0.3 } else { -0.3 };
        let seen = crate::stats::overlap::Observation { treated, propensity: 0.1, reward, predicted: 0.5 };
        bad.sums.add_clustered(&seen, (unit * 7 % 251) as u8);
        let total = if treated { &mut bad.candidate } else { &mut bad.baseline };
        total.add(crate::evidence::Total { n: 1, sum: reward });
    }
    let learnt =
        Learnt { feedback: "approved", epoch: 0, variants: &[Scores::default(), bad], rewards: None };
    assert!(progress.learn(&staged, &learnt));
    assert_eq!(moves(&mut progress, &staged, seconds(1)), [], "copies are not judged by it");
    progress.command(&staged, &Command::Promote, &ready, seconds(2)).unwrap();
    let changes = moves(&mut progress, &staged, seconds(3));
    let actions: Vec<Action> = changes.iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::Began, Action::RolledBack], "{changes:?}");
    assert!(changes[1].why.contains("feedback approved"), "{changes:?}");
}

#[test]
fn it_is_written_down_and_read_again() {
    let staged = staged(false);
    let mut progress = Progress::begin(&staged, seconds(0));
    moves(&mut progress, &staged, seconds(0));
    progress.absorb_copies(&staged, &copies([3, 2]), seconds(5));
    moves(&mut progress, &staged, seconds(11));
    let text = serde_json::to_string(&progress).unwrap();
    let mut again: Progress = serde_json::from_str(&text).unwrap();
    assert_eq!(again.standing(), progress.standing());
    let more = gain(&again, [4, 800]);
    again.absorb(&staged, &more, seconds(12));
    assert_eq!(moves(&mut again, &staged, seconds(12))[0].action, Action::RolledBack);
}

/// A split of 60 to 40, then a bandit of both, then everything.
fn learning() -> Arc<Staged> {
    let text = "models: {m: {variants: {v1: {endpoint: 'http://127.0.0.1:1'}, v2: {endpoint: 'http://127.0.0.1:2'}}, \
        unit: [metadata:x-user], feedback: {bought: {kind: binary}}, strategy: {kind: staged, salt: m/2, stages: [\
        {kind: ab, weights: {v1: 60%, v2: 40%}, metrics: {feedback: {name: bought}}, \
        guards: {errors: off, rejections: off, latency: off}}, \
        {kind: bandit, reward: {name: bought}, on_pass: promote, guards: {errors: off, rejections: off, latency: off}}, \
        {kind: pinned}]}}}";
    let loaded = config::read("staged", text, &config::Environment::default());
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let Strategy::Staged(staged) = &loaded.config.models[0].strategy else { panic!("{:?}", loaded.config) };
    Arc::clone(staged)
}

/// 300 values of each, half of the candidate's and a fifth of the baseline's are 1.
fn bought(chances: [f64; 2]) -> Rewards {
    let (mut rewards, mut odds) = (Rewards::default(), Odds::new(2));
    chances.iter().enumerate().for_each(|(arm, chance)| odds.set(arm, *chance));
    for number in 0..600_u32 {
        let (arm, turn) = ((number % 2) as usize, number / 2);
        let to = f64::from(u8::from(turn % 10 < if arm == 1 { 5 } else { 2 }));
        let bucket = Some((number % 256) as u8);
        rewards.add(&Earned { arm, odds: &odds, bucket, context: None, from: None, to, expected: 0.35 });
    }
    rewards
}

fn shares(progress: &Progress) -> Shares {
    match progress.standing().split {
        Split::Shares(shares) => shares,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bandit_begins_with_what_was_earned_in_the_stages_before() {
    let staged = learning();
    let mut progress = Progress::begin(&staged, seconds(0));
    moves(&mut progress, &staged, seconds(0));
    let before = progress.standing();
    assert_eq!((before.stage, before.split), (0, Split::Configured));
    let earned = bought([0.6, 0.4]);
    let learnt = |epoch, rewards| Learnt { feedback: "bought", epoch, variants: &[], rewards: Some(rewards) };
    progress.learn(&staged, &learnt(before.epoch, &earned));
    assert!(!progress.refresh(&staged, seconds(5)), "a split changes no share by itself");
    let passed = progress.command(&staged, &Command::Promote, &ready, seconds(10)).unwrap();
    assert_eq!(passed.action, Action::Advanced);
    assert!(passed.share > 0.9, "what the candidate begins with is told: {passed:?}");
    let standing = progress.standing();
    assert!((standing.stage, standing.epoch > before.epoch) == (1, true), "{standing:?}");
    assert!(shares(&progress).get(1) > 0.9, "{standing:?}");
    let report = progress.report(&staged, 2, seconds(10));
    let known = report.learning.unwrap();
    assert_eq!(known.arms.iter().map(|arm| arm.values).collect::<Vec<_>>(), [300, 300]);
    assert_eq!(report.stage.unwrap().index, 1);
    // What is late of the stage before counts as well, and what the baseline earns from now on turns shares back.
    moves(&mut progress, &staged, seconds(10));
    progress.learn(&staged, &learnt(before.epoch, &earned));
    let (mut turned, mut odds) = (Rewards::default(), Odds::new(2));
    odds.set(0, 0.5);
    odds.set(1, 0.5);
    for _ in 0..900 {
        let arm = 0;
        turned.add(&Earned {
            arm,
            odds: &odds,
            bucket: None,
            context: None,
            from: None,
            to: 1.0,
            expected: 0.5,
        });
    }
    progress.learn(&staged, &learnt(standing.epoch, &turned));
    assert!(progress.refresh(&staged, seconds(12)));
    let later = progress.standing();
    assert!(later.epoch == standing.epoch + 1 && shares(&progress).get(1) < 0.1, "{later:?}");
    let known = progress.report(&staged, 2, seconds(12)).learning.unwrap();
    assert_eq!(known.arms.iter().map(|arm| arm.values).collect::<Vec<_>>(), [1_500, 600]);
    // It is remembered as it is.
    let text = serde_json::to_string(&progress).unwrap();
    let mut again: Progress = serde_json::from_str(&text).unwrap();
    again.recall(&staged, seconds(13));
    assert_eq!(again, progress);
    let ended = progress.command(&staged, &Command::Pin(1), &ready, seconds(14)).unwrap();
    assert_eq!(ended.to, State::Pinned);
}

#[test]
fn the_best_of_a_bandit_gets_everything_and_the_baseline_as_the_best_ends_the_rollout() {
    for (better, state, variant) in [(1, State::Promoted, 1), (0, State::RolledBack, 0)] {
        let staged = learning();
        let mut progress = Progress::begin(&staged, seconds(0));
        moves(&mut progress, &staged, seconds(0));
        progress.command(&staged, &Command::Promote, &ready, seconds(1)).unwrap();
        moves(&mut progress, &staged, seconds(1));
        let epoch = progress.standing().epoch;
        let (mut rewards, mut odds) = (Rewards::default(), Odds::new(2));
        odds.set(0, 0.5);
        odds.set(1, 0.5);
        for number in 0..8_000_u32 {
            let arm = (number % 2) as usize;
            let to = f64::from(u8::from(number / 2 % 10 < if arm == better { 8 } else { 2 }));
            let bucket = Some((number / 2 % 256) as u8);
            rewards.add(&Earned { arm, odds: &odds, bucket, context: None, from: None, to, expected: 0.5 });
        }
        progress
            .learn(&staged, &Learnt { feedback: "bought", epoch, variants: &[], rewards: Some(&rewards) });
        progress.refresh(&staged, seconds(3));
        let changes = moves(&mut progress, &staged, seconds(3));
        assert_eq!(progress.state(), state, "{changes:?}");
        assert_eq!(progress.standing().split, Split::Only(variant));
    }
}
