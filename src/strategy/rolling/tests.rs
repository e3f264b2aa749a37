use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;
use crate::config::{FixedLimits, Reporting, Warming};
use crate::evidence::{ArmGain, Gain};
use crate::verdict::{Command, Verdict};

const NAMES: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

fn rolling(report: Reporting) -> Rolling {
    Rolling {
        variant: 0,
        version: "2".into(),
        batch: 1,
        min_ready: 3,
        drain_timeout: Duration::from_secs(30),
        replace_timeout: Duration::from_secs(60),
        report,
        warming: Warming::NONE,
        hold: Duration::ZERO,
        guards: FixedLimits::default(),
        alpha: 0.01,
        on_fail: OnFail::Rollback,
    }
}

/// Servers that do what they are told, and a clock.
struct World {
    rolling: Rolling,
    progress: Progress,
    seen: Vec<Seen>,
    now: Duration,
    changes: Vec<Change>,
}

impl World {
    fn new(rolling: Rolling) -> Self {
        let now = Duration::from_secs(1_000_000);
        let seen = NAMES.map(|name| Seen {
            address: name.into(),
            ready: true,
            changes: 1,
            versions: (rolling.report != Reporting::Connection).then(|| says("1")),
            in_flight: 0,
            warm: true,
        });
        let progress = Progress::begin(&rolling, now);
        World { rolling, progress, seen: seen.to_vec(), now, changes: Vec::new() }
    }

    /// Looks until nothing moves.
    fn look(&mut self) {
        self.progress.observe(&self.rolling, &self.seen, self.now);
        while let Some(change) = self.progress.look(&self.rolling, self.now) {
            self.changes.push(change);
        }
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.look();
    }

    fn replace(&mut self, place: usize, version: &str) {
        self.seen[place].changes += 2;
        if self.rolling.report != Reporting::Connection {
            self.seen[place].versions = Some(says(version));
        }
    }

    /// Whom somebody must replace now.
    fn drained(&self) -> Vec<usize> {
        let endpoints = self.progress.endpoints();
        (0..4).filter(|place| endpoints[*place].place == Place::Drained).collect()
    }

    fn actions(&self) -> Vec<Action> {
        self.changes.iter().map(|change| change.action).collect()
    }

    /// Replaces whatever is drained by what it wants, until nothing is.
    fn replace_all(&mut self) {
        for _ in 0..20 {
            self.after(1);
            for place in self.drained() {
                let wanted = self.progress.endpoints()[place].wanted.clone();
                self.replace(place, &wanted.unwrap());
            }
        }
    }
}

fn says(version: &str) -> Arc<[Arc<str>]> {
    [Arc::from(version)].into()
}

#[test]
fn endpoints_are_replaced_one_after_the_other() {
    for report in Reporting::ALL {
        let mut world = World::new(rolling(report));
        world.progress.suppose(NAMES.into_iter().map(Arc::from), &"1".into());
        world.look();
        assert_eq!(world.actions(), [Action::Began, Action::Cordoned], "{report:?}");
        assert_eq!(world.progress.cordoned().map(|name| &**name).collect::<Vec<_>>(), ["a:1"]);
        assert!(world.drained().is_empty(), "a cordon needs its time");
        world.after(1);
        assert_eq!(world.drained(), [0]);
        let why = &world.changes.last().unwrap().why;
        assert!(why.contains("a:1 is drained: replace its server by version 2"), "{why}");
        world.after(1);
        assert_eq!(world.drained(), [0], "it waits");
        world.replace_all();
        let one = [Action::Cordoned, Action::Drained, Action::Readmitted];
        let all = [&[Action::Began][..], &one.repeat(4), &[Action::Promoted]].concat();
        assert_eq!(world.actions(), all, "{report:?}");
        assert_eq!(world.changes.last().unwrap().share, 1.0);
        assert_eq!(world.progress.report(&world.rolling, 1, world.now).waits_for, "");
    }
}

#[test]
fn what_runs_the_version_already_stays() {
    let mut world = World::new(rolling(Reporting::Model));
    (0..4).for_each(|place| world.replace(place, "2"));
    world.look();
    assert_eq!((world.actions(), world.progress.state()), (vec![Action::Settled], State::Steady));
    let mut world = World::new(rolling(Reporting::Model));
    world.replace(0, "2");
    world.replace_all();
    let drained = world.actions().into_iter().filter(|action| *action == Action::Drained);
    assert_eq!((drained.count(), world.progress.state()), (3, State::Promoted));
}

#[test]
fn calls_under_way_are_waited_for_and_not_for_ever() {
    let mut world = World::new(rolling(Reporting::Model));
    world.seen[0].in_flight = 3;
    world.look();
    world.after(29);
    let waits = world.progress.report(&world.rolling, 1, world.now).waits_for;
    assert_eq!((world.drained(), &*waits), (vec![], "3 calls at a:1 to end"));
    world.after(1);
    assert_eq!(world.drained(), [0]);
    let why = &world.changes.last().unwrap().why;
    assert!(why.contains("but for 3 calls that outlast drain_timeout"), "{why}");
}

#[test]
fn what_is_not_replaced_in_time_walks_all_back() {
    let mut world = World::new(rolling(Reporting::Model));
    world.look();
    world.after(1);
    world.replace(0, "2");
    // The first is done; the second is drained and forgotten.
    (0..3).for_each(|_| world.after(1));
    assert_eq!(world.drained(), [1]);
    world.after(60);
    let failed = world.changes.iter().find(|change| change.action == Action::RolledBack).unwrap();
    assert!(failed.why.contains("b:1 was not replaced within 1m"), "{}", failed.why);
    assert_eq!(world.progress.state(), State::RolledBack);
    // What was never replaced serves at once, what was is next.
    (0..3).for_each(|_| world.after(1));
    assert_eq!(world.drained(), [0]);
    assert_eq!(world.progress.endpoints()[0].wanted.as_deref(), Some("1"));
    world.replace_all();
    assert_eq!(world.changes.last().unwrap().action, Action::Restored);
    let runs: Vec<_> = world.progress.endpoints().into_iter().map(|endpoint| endpoint.runs).collect();
    assert_eq!(runs, vec![Some("1".into()); 4]);
}

#[test]
fn another_version_than_asked_for_fails_and_may_hold() {
    let mut world = World::new(Rolling { on_fail: OnFail::Hold, ..rolling(Reporting::Model) });
    world.look();
    world.after(1);
    world.replace(0, "3");
    world.after(1);
    let held = world.changes.last().unwrap();
    assert_eq!((held.action, &*held.why), (Action::Held, "a:1 reports version 3, not 2"));
    // Put right, it is readmitted, and a person lets the rest begin.
    world.replace(0, "2");
    world.after(1);
    world.after(1);
    assert_eq!((world.progress.state(), world.progress.cordoned().count()), (State::Held, 0));
    world.progress.command(&world.rolling, &Command::Resume, world.now).unwrap();
    world.replace_all();
    assert_eq!(world.progress.state(), State::Promoted);
}

#[test]
fn commands_have_a_meaning_or_a_remedy() {
    let mut world = World::new(rolling(Reporting::Model));
    let refused =
        |world: &mut World, command| world.progress.command(&world.rolling, &command, world.now).unwrap_err();
    assert!(refused(&mut world, Command::Rollback).to_string().contains("nothing is left to revert to"));
    world.look();
    assert!(refused(&mut world, Command::Promote).to_string().contains("say themselves what they run"));
    assert!(refused(&mut world, Command::Pin(0)).to_string().contains("rolling"));
    world.progress.command(&world.rolling, &Command::Pause, world.now).unwrap();
    // What has begun goes to its end, and no other batch begins.
    world.replace_all();
    assert_eq!((world.progress.state(), world.progress.cordoned().count()), (State::Paused, 0));
    assert_eq!(world.progress.report(&world.rolling, 1, world.now).step, Some((1, 4)));
    world.progress.command(&world.rolling, &Command::Rollback, world.now).unwrap();
    world.replace_all();
    assert_eq!(world.changes.last().unwrap().action, Action::Restored);
    world.progress.command(&world.rolling, &Command::Resume, world.now).unwrap();
    world.replace_all();
    assert_eq!(world.progress.state(), State::Promoted);
    world.progress.command(&world.rolling, &Command::Rollback, world.now).unwrap();
    world.replace_all();
    assert!(world.progress.endpoints().iter().all(|endpoint| endpoint.runs.as_deref() == Some("1")));
}

#[test]
fn a_restart_and_another_file_go_on_where_it_was() {
    let mut world = World::new(rolling(Reporting::Model));
    world.look();
    world.after(1);
    assert_eq!(world.drained(), [0]);
    let text = serde_json::to_string(&world.progress).unwrap();
    world.progress = serde_json::from_str(&text).unwrap();
    assert_eq!(world.progress.cordoned().count(), 1, "also before anything is seen");
    let next = Rolling { version: "3".into(), ..rolling(Reporting::Model) };
    let mut progress = Progress::begin(&next, world.now);
    progress.inherit(&world.progress);
    (world.rolling, world.progress) = (next, progress);
    world.look();
    assert_eq!(world.drained(), [0]);
    assert_eq!(world.progress.endpoints()[0].wanted.as_deref(), Some("3"));
    world.replace_all();
    assert_eq!(world.progress.state(), State::Promoted);
}

#[derive(Debug, Clone)]
enum Event {
    Ready(usize, bool),
    Says(usize, u8),
    Calls(usize, u64),
    Warm(usize, bool),
    Wait(u64),
    Command(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4usize, any::<bool>()).prop_map(|(place, ready)| Event::Ready(place, ready)),
        (0..4usize, 1..4u8).prop_map(|(place, version)| Event::Says(place, version)),
        (0..4usize, 0..3u64).prop_map(|(place, calls)| Event::Calls(place, calls)),
        (0..4usize, any::<bool>()).prop_map(|(place, warm)| Event::Warm(place, warm)),
        (0..90u64).prop_map(Event::Wait),
        (0..4u8).prop_map(Event::Command),
    ]
}

proptest! {
    /// Whatever servers and people do: no cordon leaves fewer than `min_ready` that are ready and get calls, no batch
    /// is larger than allowed, and one is over before the next.
    #[test]
    fn no_cordon_takes_what_must_stay(
        events in prop::collection::vec(event(), 1..80),
        report in prop::sample::select(Reporting::ALL.to_vec()),
        batch in 1..3usize,
        min_ready in 1..4usize,
    ) {
        let mut world = World::new(Rolling { batch, min_ready, ..rolling(report) });
        world.progress.suppose(NAMES.into_iter().map(Arc::from), &"1".into());
        for event in events {
            match event {
                Event::Ready(place, ready) => {
                    world.seen[place].changes += u64::from(world.seen[place].ready != ready);
                    world.seen[place].ready = ready;
                }
                Event::Says(place, version) if report != Reporting::Connection => {
                    world.seen[place].versions = Some(says(&version.to_string()));
                }
                Event::Says(..) => {}
                Event::Calls(place, calls) => world.seen[place].in_flight = calls,
                Event::Warm(place, warm) => world.seen[place].warm = warm,
                Event::Wait(seconds) => world.now += Duration::from_secs(seconds),
                Event::Command(which) => {
                    let commands = [Command::Pause, Command::Resume, Command::Rollback, Command::Promote];
                    let _ = world.progress.command(&world.rolling, &commands[usize::from(which)], world.now);
                }
            }
            world.progress.observe(&world.rolling, &world.seen, world.now);
            let out = |world: &World| world.progress.cordoned().cloned().collect::<Vec<_>>();
            let mut before = out(&world);
            let mut moves = 0;
            while world.progress.look(&world.rolling, world.now).is_some() {
                moves += 1;
                prop_assert!(moves < 50, "it moves for ever");
                let after = out(&world);
                let new = after.iter().filter(|address| !before.contains(address)).count();
                if new > 0 {
                    prop_assert!(before.is_empty(), "a batch begins while another is under way");
                    prop_assert!(new <= batch);
                    let serve = |seen: &&Seen| seen.ready && !after.contains(&seen.address);
                    let taken = world.seen.iter().any(|seen| seen.ready && after.contains(&seen.address));
                    prop_assert!(!taken || world.seen.iter().filter(serve).count() >= min_ready);
                }
                before = after;
            }
        }
    }
}

fn guarded(on_fail: OnFail) -> Rolling {
    let guards = FixedLimits { errors: Some(0.1), slow: Vec::new() };
    Rolling { guards, on_fail, hold: Duration::from_secs(10), ..rolling(Reporting::Model) }
}

impl World {
    /// So many calls that replaced servers answered, and how many of them failed.
    fn answered(&mut self, calls: u64, errors: u64) {
        let arms = vec![ArmGain { calls, errors, ..ArmGain::default() }];
        self.progress.absorb(&self.rolling, &Gain { epoch: 0, segment: None, arms });
        self.look();
    }

    /// Until the first server runs the new version and serves.
    fn first_replaced(rolling: Rolling) -> World {
        let mut world = World::new(rolling);
        world.look();
        world.after(1);
        world.replace(0, "2");
        (0..2).for_each(|_| world.look());
        assert_eq!(world.changes.last().unwrap().action, Action::Readmitted);
        world
    }

    fn waits(&self) -> String {
        self.progress.report(&self.rolling, 1, self.now).waits_for
    }
}

#[test]
fn a_version_that_fails_walks_back_before_the_next_batch() {
    let mut world = World::first_replaced(guarded(OnFail::Rollback));
    world.after(3);
    assert_eq!(world.waits(), "the replaced to have served for 7s more");
    world.answered(20, 20);
    let failed = world.changes.iter().find(|change| change.action == Action::RolledBack).unwrap();
    assert_eq!(failed.why, "what runs version 2 breaks its limit: errors");
    assert_eq!((failed.findings[0].verdict, failed.findings[0].candidate.n), (Verdict::Fail, 20));
    world.replace_all();
    assert_eq!(world.changes.last().unwrap().action, Action::Restored);
    let drained = world.changes.iter().filter(|change| change.action == Action::Drained);
    assert_eq!(drained.count(), 2, "the first there and back, and no other");
    // What was found of it is forgotten where a person lets it try again.
    world.progress.command(&world.rolling, &Command::Resume, world.now).unwrap();
    assert_eq!(world.progress.report(&world.rolling, 1, world.now).verdict, Verdict::NotEnoughData);
}

#[test]
fn or_it_holds_where_the_file_says_so() {
    let mut world = World::first_replaced(guarded(OnFail::Hold));
    world.answered(20, 20);
    assert_eq!((world.changes.last().unwrap().action, world.progress.state()), (Action::Held, State::Held));
    assert_eq!(world.progress.report(&world.rolling, 1, world.now).verdict, Verdict::Fail);
}

#[test]
fn a_sound_version_waits_for_its_hold_and_is_told_to_pass() {
    let mut world = World::first_replaced(guarded(OnFail::Rollback));
    world.answered(500, 2);
    world.after(9);
    assert!(world.progress.cordoned().next().is_none());
    world.after(1);
    assert_eq!(world.progress.cordoned().count(), 1, "the next batch");
    for _ in 0..4 {
        world.replace_all();
    }
    let promoted = world.changes.last().unwrap();
    assert_eq!((promoted.action, promoted.findings[0].verdict), (Action::Promoted, Verdict::Pass));
    // Nothing more counts: the update is over.
    world.answered(100, 100);
    assert_eq!(world.progress.state(), State::Promoted);
}

#[test]
fn a_version_that_was_rolled_back_replaces_nothing_until_a_person_lets_it() {
    let mut world = World::new(guarded(OnFail::Rollback));
    world.progress.block("its build was rolled back before".to_owned());
    (0..3).for_each(|_| world.after(1));
    assert_eq!((world.actions(), world.progress.state()), (Vec::new(), State::RolledBack));
    assert!(world.waits().contains("for its build was rolled back before: resume it"), "{}", world.waits());
    world.progress.command(&world.rolling, &Command::Resume, world.now).unwrap();
    world.look();
    assert_eq!((world.actions(), world.waits().contains("resume")), (vec![Action::Cordoned], false));
    // What runs it already goes back.
    let mut world = World::new(guarded(OnFail::Rollback));
    world.replace(0, "2");
    world.progress.block("its build was rolled back before".to_owned());
    world.look();
    world.replace_all();
    let all = [Action::Cordoned, Action::Drained, Action::Readmitted, Action::Restored];
    assert_eq!(world.actions(), all);
    assert_eq!(world.progress.endpoints()[0].runs.as_deref(), Some("1"));
}
