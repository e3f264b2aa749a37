//! A bandit's life.

use super::*;
use crate::assignment::Odds;
use crate::evidence::{ArmGain, Earned, Rewards, Scores, Total};
use crate::strategy::bandit::tests::config;
use crate::verdict::{Aim, Command, Refused, Report};

const SECOND: Duration = Duration::from_secs(1);

fn ready(_: usize) -> Result<(), Refused> {
    Ok(())
}

/// A bandit of [`config`], and a way to let calls of it earn.
struct House {
    bandit: Bandit,
    progress: Progress,
    now: Duration,
    drawn: u64,
}

impl House {
    fn new(bandit: Bandit) -> Self {
        let progress = Progress::begin(&bandit, Out::NONE, Duration::ZERO);
        let mut house = House { bandit, progress, now: Duration::ZERO, drawn: 0 };
        assert_eq!(house.look().unwrap().action, Action::Began);
        house
    }

    fn look(&mut self) -> Option<Change> {
        self.progress.refresh(&self.bandit, self.now);
        self.progress.look(&self.bandit, &ready, self.now)
    }

    fn uniform(&mut self) -> f64 {
        // SplitMix64: the same in every run.
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.drawn;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// So many calls, each worth 1 with its arm's probability, in one second.
    fn serve(&mut self, calls: u32, means: [f64; 3]) -> Option<Change> {
        let Split::Shares(shares) = self.progress.standing().split else { panic!("no shares") };
        let mut odds = Odds::new(3);
        (0..3).for_each(|arm| odds.set(arm, shares.get(arm)));
        let mut rewards = Rewards::default();
        let mut pairs = vec![Scores::default(); 3];
        for call in 0..calls {
            let place = (self.uniform() * 100_000.0) as u32;
            let arm = shares.at(place).unwrap();
            let value = f64::from(u8::from(self.uniform() < means[arm]));
            let bucket = Some((call % 256) as u8);
            let earned =
                Earned { arm, odds: &odds, bucket, context: None, from: None, to: value, expected: 0.3 };
            rewards.add(&earned);
            for (other, pair) in pairs.iter_mut().enumerate().skip(1) {
                if arm == other || arm == 0 {
                    let p = shares.get(other) / (shares.get(other) + shares.get(0));
                    let treated = f64::from(u8::from(arm == other));
                    let score = (treated - p) * (value - 0.3);
                    pair.sums.add_sums(score, score * score, p * (1.0 - p));
                    pair.sums.add_to_bucket((call % 256) as u8, score);
                    let total = if arm == other { &mut pair.candidate } else { &mut pair.baseline };
                    total.add(Total { n: 1, sum: value });
                }
            }
        }
        let epoch = self.progress.standing().epoch;
        let learnt = Learnt { feedback: "bought", epoch, variants: &pairs, rewards: Some(&rewards) };
        assert!(self.progress.learn(&self.bandit, &learnt));
        self.now += SECOND;
        self.look()
    }

    fn until(&mut self, means: [f64; 3]) -> Change {
        (0..3_000).find_map(|_| self.serve(100, means)).unwrap_or_else(|| panic!("{:#?}", self.report()))
    }

    fn report(&self) -> Report {
        self.progress.report(&self.bandit, 3, self.now)
    }

    fn share(&self, arm: usize) -> f64 {
        let Split::Shares(shares) = self.progress.standing().split else { panic!("no shares") };
        shares.get(arm)
    }
}

#[test]
fn it_shares_evenly_until_each_arm_has_enough_and_then_gives_more_to_who_earns_more() {
    let mut house = House::new(config());
    assert_eq!([0, 1, 2].map(|arm| house.share(arm)), [0.33334, 0.33333, 0.33333]);
    house.serve(100, [0.2, 0.5, 0.2]);
    assert_eq!(house.progress.standing().epoch, 0, "33 values of each are not enough");
    for _ in 0..6 {
        house.serve(100, [0.2, 0.5, 0.2]);
    }
    assert!(house.share(1) > 0.9, "{:#?}", house.report());
    assert!(house.share(0) >= 0.01 && house.share(2) >= 0.01, "the floor");
    let report = house.report();
    let learning = report.learning.unwrap();
    assert_eq!((learning.policy.as_str(), learning.arms.len()), ("thompson", 3));
    assert!(
        learning.arms[1].best > 0.9 && (learning.arms[1].mean.unwrap() - 0.5).abs() < 0.1,
        "{learning:?}"
    );
    assert!((report.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn the_best_is_promoted_when_it_is_known_for_certain() {
    let mut house = House::new(config());
    let change = house.until([0.2, 0.4, 0.2]);
    assert_eq!((change.action, change.to), (Action::Promoted, State::Promoted), "{change:?}");
    assert_eq!(change.variants.iter().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(house.progress.standing().split, Split::Only(1));
    let found =
        change.findings.iter().find(|found| found.aim == Aim::Success && &*found.variant == "b").unwrap();
    let harm = found.harm.unwrap();
    assert!(harm.low < -0.2 && harm.high < 0.0, "the effect of 0.2 is in it, and 0 is not: {harm:?}");
    assert!((found.baseline.value.unwrap() - 0.2).abs() < 0.05, "weighted by their chances: {found:?}");
    assert_eq!(house.report().verdict, Verdict::Pass);
}

#[test]
fn the_baseline_wins_too_and_a_person_may_have_the_last_word() {
    let mut house = House::new(Bandit { on_pass: OnPass::Wait, ..config() });
    let change = house.until([0.5, 0.2, 0.3]);
    assert_eq!((change.action, change.to), (Action::Passed, State::Passed), "{change:?}");
    assert!(change.why.contains("the baseline, is the best"), "{}", change.why);
    assert!(house.share(0) > 0.9, "it goes on learning");
    let promoted = house.progress.command(&house.bandit, &Command::Promote, &ready, house.now).unwrap();
    assert_eq!((promoted.to, house.progress.standing().split), (State::Promoted, Split::Only(0)));
}

#[test]
fn equals_are_said_to_be_equal_and_nobody_wins() {
    let least = crate::config::Margin { absolute: 0.05, relative: 0.0 };
    let metric = crate::config::Metric { least, ..config().metric };
    let stop = Some(crate::config::Stop { value_remaining: 0.1 });
    let mut house = House::new(Bandit { metric, stop, floor: 0.1, ..config() });
    let change = house.until([0.5, 0.5, 0.5]);
    assert_eq!((change.action, change.to), (Action::Held, State::Held), "{change:?}");
    assert_eq!(house.report().verdict, Verdict::Equivalent);
    let mut resumed = house.progress.command(&house.bandit, &Command::Resume, &ready, house.now).unwrap();
    assert_eq!(resumed.to, State::Running);
    resumed = house.progress.command(&house.bandit, &Command::Rollback, &ready, house.now).unwrap();
    assert_eq!((resumed.to, house.progress.standing().split), (State::RolledBack, Split::Only(0)));
}

#[test]
fn an_arm_that_fails_is_taken_out_and_the_others_go_on() {
    let mut house = House::new(Bandit { min_units: 1 << 20, ..config() });
    for _ in 0..6 {
        house.serve(100, [0.3, 0.3, 0.5]);
    }
    let epoch = house.progress.standing().epoch;
    let arm = |calls: u64, errors: u64| ArmGain { calls, errors, ..ArmGain::default() };
    let gain = Gain { epoch, segment: None, arms: vec![arm(200, 1), arm(200, 1), arm(200, 80)] };
    house.progress.absorb(&house.bandit, &gain, house.now);
    let change = house.look().unwrap();
    assert_eq!((change.action, change.to), (Action::RolledBack, State::Running), "{change:?}");
    assert_eq!(change.variants.iter().map(|name| &**name).collect::<Vec<_>>(), ["c"]);
    assert_eq!(house.share(2), 0.0);
    assert!((house.share(0) + house.share(1) - 1.0).abs() < 1e-9);
    let known = house.report().learning.unwrap();
    assert!(known.arms[2].out && known.arms[1].values > 100, "{known:?}");
    let gain = Gain {
        epoch: house.progress.standing().epoch,
        segment: None,
        arms: vec![arm(200, 1), arm(200, 90), arm(0, 0)],
    };
    house.progress.absorb(&house.bandit, &gain, house.now);
    let change = house.look().unwrap();
    assert_eq!((change.to, house.progress.standing().split), (State::RolledBack, Split::Only(0)));
}

#[test]
fn what_it_knows_outlives_the_process() {
    let mut house = House::new(config());
    (0..8).for_each(|_| drop(house.serve(100, [0.2, 0.4, 0.3])));
    let text = serde_json::to_string(&house.progress).unwrap();
    let read: Progress = serde_json::from_str(&text).unwrap();
    assert_eq!(read, house.progress);
    assert_eq!(read.standing(), house.progress.standing());
    assert!(text.len() < 64 * 1024, "{} bytes", text.len());
}

#[test]
fn another_set_of_arms_begins_with_what_is_known_of_those_that_stay() {
    let mut house = House::new(config());
    (0..8).for_each(|_| drop(house.serve(100, [0.2, 0.5, 0.2])));
    let mut next = Progress::begin(&house.bandit, Out::NONE, house.now);
    for (name, moments, line) in house.progress.leave(&house.bandit, house.now) {
        if &*name != "c" {
            next.inherit(&house.bandit, &name, (&moments, Some(&line)), house.now);
        }
    }
    let Split::Shares(shares) = next.standing().split else { panic!("no shares") };
    // The one that is new has an even share until it has values of its own; of the rest the better one has nearly all.
    assert!((shares.get(2) - 1.0 / 3.0).abs() < 1e-4 && shares.get(1) > 0.6, "{shares:?}");
}

#[test]
fn an_apprentice_serves_the_baseline_and_knows_what_its_choices_were_worth() {
    let mut house = House::new(Bandit { apprentice: true, stop: None, floor: 0.05, ..config() });
    assert_eq!([0, 1, 2].map(|arm| house.share(arm)), [0.9, 0.05, 0.05]);
    for _ in 0..100 {
        assert!(house.serve(100, [0.2, 0.5, 0.2]).is_none());
    }
    assert_eq!([0, 1, 2].map(|arm| house.share(arm)), [0.9, 0.05, 0.05]);
    let learning = house.report().learning.unwrap();
    assert!(learning.apprentice && learning.arms[1].wished > 0.89, "{learning:?}");
    let worth = learning.worth.unwrap();
    assert!((worth.baseline.0 - 0.2).abs() < 0.02 && worth.own.0 > 0.35, "{worth:?}");
    assert!(worth.own.1 > 0.0 && worth.own.1 < 0.1 && worth.n == 10_000, "{worth:?}");
}

#[test]
fn a_person_stops_it_and_lets_it_go_on() {
    let mut house = House::new(config());
    (0..8).for_each(|_| drop(house.serve(100, [0.2, 0.5, 0.2])));
    let (bandit, now) = (house.bandit.clone(), house.now);
    let mut command = |command: Command| house.progress.command(&bandit, &command, &ready, now);
    assert_eq!(command(Command::Pause).unwrap().to, State::Paused);
    assert_eq!(command(Command::Pin(2)).unwrap().to, State::Pinned);
    assert!(command(Command::Pause).is_err());
    assert_eq!(command(Command::Resume).unwrap().to, State::Running);
    assert!(house.share(1) > 0.9, "what it knew is still known");
    let mut fresh = Progress::begin(&bandit, Out::NONE, now);
    let refused = fresh.command(&bandit, &Command::Promote, &ready, now).unwrap_err();
    assert!(refused.to_string().contains("too little is known"), "{refused}");
}
