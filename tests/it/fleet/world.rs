//! A fleet on a virtual clock: replicas whose clocks disagree, a store that loses what it wrote, and a network that
//! loses, delays and repeats. One number decides everything that happens, so a run can be played again as it was.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parhelion::evidence::{ArmGain, Gain};
use parhelion::fleet::ledger::Ledger;
use parhelion::fleet::member::{Kept, Member};
use parhelion::fleet::seat::{Record, Seat, World};
use parhelion::fleet::{Answer, Ask, Part};
use serde::{Deserialize, Serialize};

use super::chance::Chance;

/// Virtual milliseconds that faults happen in, and that follow without any.
const FAULTS: u64 = 60_000;
const PEACE: u64 = 40_000;
/// How fast the world goes on.
const TICK: u64 = 20;
/// How long an answer is waited for, and the time between two exchanges.
const PATIENCE: u64 = 1_000;
const INTERVAL: u64 = 1_000;
/// When all clocks began.
const ORIGIN: u64 = 1_800_000_000_000;

/// A rollout that can be counted by hand: it advances by calls, and is rolled back by failures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Toy {
    generation: u32,
    step: u32,
    rolled_back: bool,
    errors: u64,
    /// By replica.
    pub(super) calls: BTreeMap<usize, u64>,
}

struct Rules;

impl World for Rules {
    type Machine = Toy;
    type Change = String;

    fn read(&self, saved: &str, _: Duration) -> Option<Toy> {
        serde_json::from_str(saved).ok()
    }

    fn write(&self, machine: &Toy) -> Arc<str> {
        serde_json::to_string(machine).unwrap().into()
    }

    fn begin(&mut self) -> Option<Toy> {
        Some(Toy::default())
    }

    fn generation(&self, machine: &Toy) -> u32 {
        machine.generation
    }

    fn is_rolled_back(&self, machine: &Toy) -> bool {
        machine.rolled_back
    }

    fn absorb(&self, machine: &mut Toy, part: &Part, _: Duration) {
        for gain in &part.gains {
            let arm = &gain.arms[0];
            machine.errors += arm.errors;
            *machine.calls.entry(gain.segment.unwrap()).or_default() += arm.calls;
        }
    }

    fn look(&mut self, machine: &mut Toy, _: Duration) -> Option<String> {
        if machine.rolled_back {
            return None;
        }
        if machine.errors >= 40 {
            machine.rolled_back = true;
            return Some("failures".to_owned());
        }
        let calls: u64 = machine.calls.values().sum();
        let advances = machine.step < 4 && calls > 400 * u64::from(machine.step + 1);
        machine.step += u32::from(advances);
        advances.then(|| "calls".to_owned())
    }

    fn refresh(&self, _: &mut Toy, _: Duration) -> bool {
        false
    }

    fn look_alone(&mut self, machine: &mut Toy, others: usize, _: Duration) -> Option<String> {
        let rolls = !machine.rolled_back && machine.errors >= 20 + others as u64;
        machine.rolled_back |= rolls;
        rolls.then(|| "failures, alone".to_owned())
    }

    fn roll_back(&mut self, machine: &mut Toy, why: &str, _: bool, _: Duration) -> String {
        machine.rolled_back = true;
        why.to_owned()
    }

    fn why(&self, change: &String) -> String {
        change.clone()
    }

    fn record(&self, _: &Toy, change: &String, _: Duration) -> Record {
        (change.as_str().into(), Vec::new())
    }
}

struct Replica {
    seat: Seat<Toy>,
    view: Option<Toy>,
    disk: Kept,
    /// Its clock less the world's.
    skew: i64,
    /// When it says something next, and until when it waits for an answer, to which question.
    next: u64,
    waits: Option<(u64, u64)>,
    question: u64,
    /// What is to be said is the plan.
    refills: bool,
    cut: bool,
    starts: u32,
    /// Calls that it counted in this life, and in those before.
    counted: u64,
    before: u64,
    fails: u64,
}

enum Message {
    Ask { replica: usize, life: u32, question: u64, ask: Box<Ask> },
    Answer { replica: usize, life: u32, question: u64, answer: Box<Answer> },
}

/// What is to be the case at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The same for the same number, and for hardly any other.
    pub(super) trace: u64,
    /// How many replicas rolled back alone.
    pub(super) alone: usize,
    /// Decisions in the audit trail of the last plan.
    pub(super) version: u64,
    /// Whether the store ever lost something.
    pub(super) lossy: bool,
    pub(super) crashes: u32,
    /// What is not as it should be, in words.
    pub(super) wrong: Vec<String>,
}

pub(super) struct Fleet {
    chance: Chance,
    now: u64,
    store: Ledger,
    /// Older states of it.
    copies: Vec<Ledger>,
    away_until: u64,
    store_skew: i64,
    replicas: Vec<Replica>,
    mail: BTreeMap<(u64, u64), Message>,
    sent: u64,
    trace: DefaultHasher,
    alone: usize,
    lossy: bool,
    crashes: u32,
    may_crash: bool,
    wrong: Vec<String>,
}

fn name(replica: usize, starts: u32) -> Arc<str> {
    format!("replica-{replica}.{starts}").into()
}

impl Fleet {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let replicas = 3 + chance.below(5) as usize;
        let bad = chance.often(600);
        let (store_skew, may_crash) = (chance.below(7_200_000) as i64 - 3_600_000, chance.often(500));
        let mut fleet = Fleet {
            now: ORIGIN,
            store: Ledger::default(),
            copies: Vec::new(),
            away_until: 0,
            store_skew,
            replicas: Vec::new(),
            mail: BTreeMap::new(),
            sent: 0,
            trace: DefaultHasher::new(),
            alone: 0,
            lossy: false,
            crashes: 0,
            may_crash,
            wrong: Vec::new(),
            chance,
        };
        for index in 0..replicas {
            let skew = fleet.chance.below(7_200_000) as i64 - 3_600_000;
            let next = ORIGIN + fleet.chance.below(INTERVAL);
            let fails = if bad { fleet.chance.below(60) } else { 0 };
            let now = Duration::from_millis(ORIGIN.saturating_add_signed(skew));
            fleet.replicas.push(Replica {
                seat: Seat::new(Member::new(name(index, 0), Kept::default(), now)),
                view: None,
                disk: Kept::default(),
                skew,
                next,
                waits: None,
                question: 0,
                refills: false,
                cut: false,
                starts: 0,
                counted: 0,
                before: 0,
                fails,
            });
        }
        fleet
    }

    pub(super) fn play(mut self) -> End {
        while self.now < ORIGIN + FAULTS {
            self.fault();
            self.step();
        }
        self.away_until = 0;
        self.replicas.iter_mut().for_each(|replica| replica.cut = false);
        let healed = self.now;
        let mut checked = false;
        while self.now < healed + PEACE {
            self.step();
            if !checked && self.now >= healed + 5_000 {
                checked = true;
                self.check_rolled();
            }
            // The last seconds are for what was counted to arrive.
        }
        self.check_end();
        let version = self.store.mark().version;
        let (alone, lossy, crashes, wrong) = (self.alone, self.lossy, self.crashes, self.wrong);
        End { trace: self.trace.finish(), alone, version, lossy, crashes, wrong }
    }

    fn clock(&self, replica: usize) -> Duration {
        Duration::from_millis(self.now.saturating_add_signed(self.replicas[replica].skew))
    }

    /// One of all that can go wrong, now and then.
    fn fault(&mut self) {
        if self.now.is_multiple_of(500) {
            self.copies.push(self.store.clone());
        }
        if !self.chance.often(12) {
            return;
        }
        let replica = self.chance.below(self.replicas.len() as u64) as usize;
        match self.chance.below(8) {
            0..=2 => self.replicas[replica].cut ^= true,
            3 => self.away_until = self.now + self.chance.below(8_000),
            4 => {
                self.lossy = true;
                self.store = Ledger::default();
            }
            5 if !self.copies.is_empty() => {
                self.lossy = true;
                let oldest = self.copies.len().saturating_sub(8);
                let which = oldest + self.chance.below((self.copies.len() - oldest) as u64) as usize;
                self.store = self.copies[which].clone();
                self.copies.truncate(which + 1);
            }
            6 if self.may_crash => self.crash(replica),
            _ => self.replicas.iter_mut().for_each(|replica| replica.cut = false),
        }
    }

    /// Ends a replica at once and starts it again from its disk.
    fn crash(&mut self, index: usize) {
        self.crashes += 1;
        let now = self.clock(index);
        let replica = &mut self.replicas[index];
        replica.starts += 1;
        replica.seat = Seat::new(Member::new(name(index, replica.starts), replica.disk.clone(), now));
        replica.view = replica.seat.recall(&mut Rules, now);
        replica.waits = None;
        replica.refills = false;
        replica.before += std::mem::take(&mut replica.counted);
    }

    fn step(&mut self) {
        self.now += TICK;
        while let Some(((at, _), _)) = self.mail.first_key_value()
            && *at <= self.now
        {
            let Some((_, message)) = self.mail.pop_first() else { return };
            self.deliver(message);
        }
        for index in 0..self.replicas.len() {
            self.live(index);
        }
    }

    /// What a replica does by itself: serves, waits in vain, looks, says something.
    fn live(&mut self, index: usize) {
        let now = self.clock(index);
        let quiet = self.now > ORIGIN + FAULTS + PEACE - 14_000;
        let replica = &mut self.replicas[index];
        let serves = replica.view.as_ref().is_some_and(|view| !view.rolled_back) && !quiet;
        if serves && self.chance.often(300) {
            let calls = 1 + self.chance.below(3);
            let errors = u64::from(self.chance.often(replica.fails));
            replica.counted += calls;
            let arm = ArmGain { calls, errors, ..ArmGain::default() };
            let gain = Gain { epoch: 0, segment: Some(index), arms: vec![arm] };
            replica.seat.member().gained(|part| part.gain(&gain));
            if errors > 0 {
                replica.seat.member().press();
            }
            let mut part = Part::default();
            part.gain(&gain);
            if let Some(view) = &mut replica.view {
                Rules.absorb(view, &part, now);
            }
        }
        if replica.waits.is_some_and(|(_, until)| until <= self.now) {
            replica.waits = None;
            replica.seat.member().unheard();
        }
        if replica.seat.look_alone(&mut Rules, &mut replica.view, now).is_some() {
            self.alone += 1;
            replica.disk = replica.seat.seen().kept();
        }
        let due = replica.next <= self.now || replica.seat.seen().is_urgent();
        if replica.waits.is_none() && due {
            self.say(index);
        }
    }

    fn say(&mut self, index: usize) {
        let now = self.clock(index);
        let replica = &mut self.replicas[index];
        replica.seat.member().set_status("here".to_owned());
        let ask = match std::mem::take(&mut replica.refills) {
            true => replica.seat.member().refill(now),
            false => replica.seat.member().ask(now),
        };
        replica.next = self.now + INTERVAL;
        replica.question += 1;
        replica.waits = Some((replica.question, self.now + PATIENCE));
        let (question, life) = (replica.question, replica.starts);
        let times = 1 + u64::from(self.chance.often(30));
        for _ in 0..times {
            let ask = Box::new(ask.clone());
            self.post(Message::Ask { replica: index, life, question, ask });
        }
    }

    /// Loses a message now and then, and delays it else; some by long.
    fn post(&mut self, message: Message) {
        let faulty = self.now < ORIGIN + FAULTS;
        if faulty && self.chance.often(20) {
            return;
        }
        let delay = if faulty && self.chance.often(20) { 4_000 } else { 60 };
        let at = self.now + 1 + self.chance.below(delay);
        self.sent += 1;
        self.mail.insert((at, self.sent), message);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask { replica, life, question, ask } => {
                if self.replicas[replica].cut || self.now < self.away_until {
                    return;
                }
                let now = self.now.saturating_add_signed(self.store_skew);
                let answer = Box::new(self.store.exchange(&ask, now));
                (replica, self.store.mark()).hash(&mut self.trace);
                self.post(Message::Answer { replica, life, question, answer });
            }
            Message::Answer { replica: index, life, question, answer } => {
                let now = self.clock(index);
                let replica = &mut self.replicas[index];
                let current = replica.waits.is_some_and(|(waits, _)| waits == question);
                if replica.cut || life != replica.starts || !current {
                    return;
                }
                replica.waits = None;
                let outcome = replica.seat.hear(&mut Rules, &mut replica.view, *answer, now);
                replica.disk = replica.seat.seen().kept();
                replica.refills = outcome.refill;
                if outcome.again || outcome.refill {
                    replica.next = self.now;
                }
                self.check_counts();
            }
        }
    }

    /// Nothing was ever counted twice.
    fn check_counts(&mut self) {
        let Some(plan) = self.store.plan() else { return };
        let toy: Toy = serde_json::from_str(&plan.saved).unwrap();
        for (index, counted) in &toy.calls {
            let replica = &self.replicas[*index];
            let all = replica.counted + replica.before;
            if *counted > all {
                self.wrong.push(format!("replica {index} counted {all}, the plan has {counted}"));
            }
        }
    }

    /// Five seconds after the last fault nobody serves what anybody rolled back.
    fn check_rolled(&mut self) {
        let rolled: Vec<u32> = self
            .replicas
            .iter()
            .flat_map(|replica| replica.disk.rolled.clone())
            .map(|one| one.generation)
            .collect();
        for (index, replica) in self.replicas.iter().enumerate() {
            let serves = replica.view.as_ref().filter(|view| !view.rolled_back);
            if let Some(view) = serves.filter(|view| rolled.contains(&view.generation)) {
                self.wrong.push(format!("replica {index} serves {view:?} after its rollback"));
            }
        }
    }

    /// In the end all hold one plan, which has what all of them counted.
    fn check_end(&mut self) {
        let Some(plan) = self.store.plan().cloned() else {
            self.wrong.push("there is no plan".to_owned());
            return;
        };
        let toy: Toy = serde_json::from_str(&plan.saved).unwrap();
        for (index, replica) in self.replicas.iter().enumerate() {
            let held = replica.seat.seen().plan().map(|plan| &plan.id);
            if held != Some(&plan.id) {
                self.wrong.push(format!("replica {index} holds {held:?}, not {}", plan.id));
            }
            let counted = toy.calls.get(&index).copied().unwrap_or(0);
            let lost = replica.seat.seen().lost();
            // A crash takes along what was not told yet; nothing else takes anything.
            if replica.starts == 0 && self.crashes == 0 && (counted != replica.counted || lost > 0) {
                let own = replica.counted;
                self.wrong
                    .push(format!("replica {index} counted {own}, the plan has {counted}; lost {lost}"));
            }
        }
        let agree = self.replicas.iter().all(|replica| {
            replica
                .view
                .as_ref()
                .is_some_and(|view| (view.step, view.rolled_back) == (toy.step, toy.rolled_back))
        });
        if !agree {
            self.wrong.push("not all serve what the plan says".to_owned());
        }
    }
}
