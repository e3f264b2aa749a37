//! Many replicas in one world, on the same virtual clock: each counts its own calls, and tells and hears what a live one
//! tells and hears, when a live one does.
//!
//! What a replica says and makes of an answer is the sidecar's own code, and so is what the store does with it. A world
//! says only how long a message is on its way, how long the store takes for one, and when it is away.

use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::judged::{is_over, roles};
use crate::config::Model;
use crate::evidence::Gain;
use crate::feedback::{Ballot, FeedbackGain};
use crate::fleet::Answer;
use crate::fleet::ledger::Ledger;
use crate::fleet::pace::{INTERVAL, ROUNDS};
use crate::fleet::seat::World as _;
use crate::rollout::Machine;
use crate::strategy::{Standing, Strategy};
use crate::verdict::{Report, State};

mod decisions;
mod letter;
mod replica;
mod rules;

use decisions::Decisions;
use letter::{Letter, What};
use replica::Replica;
use rules::Rules;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How replicas stand together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Together {
    /// How many there are, at least one.
    pub(super) replicas: usize,
    /// How long a message is on its way, on average: evenly from half of it to one and a half.
    pub(super) delay: Duration,
    /// How long the store takes for one exchange; one after the other.
    pub(super) takes: Duration,
    /// Whether it tells replicas that there is something to hear; else they ask once a second.
    pub(super) channels: bool,
    /// When it gives no answer: from then on, and how long.
    pub(super) away: Option<(Duration, Duration)>,
}

/// One rollout that many replicas are.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    model: &'a Model,
    together: &'a Together,
    rules: Rules<'a>,
    split: Strategy,
    candidate: usize,
    store: Ledger,
    /// Until when it has something to do already.
    busy: Duration,
    replicas: Vec<Replica>,
    mail: BinaryHeap<Letter>,
    sent: u64,
    rng: StdRng,
    now: Duration,
    /// Whose calls are looked at one by one.
    face: usize,
    /// How often anybody's split has changed.
    splits: u64,
    /// The candidate's shares at all replicas, and the largest that there was of them, in thousandths of a percent.
    shares: u64,
    most: u32,
    /// Replicas at which all is over.
    over: usize,
    began: Option<Duration>,
    decisions: Decisions,
}

impl<'a> Fleet<'a> {
    /// Replicas that start within one second, and know nothing yet.
    pub(super) fn begin(model: &'a Model, together: &'a Together, rng: &mut impl Rng) -> Self {
        let mut fleet = Fleet {
            model,
            together,
            rules: Rules::new(model),
            split: Strategy::new(model, &[0; 32]),
            candidate: roles(model)[1],
            store: Ledger::default(),
            busy: Duration::ZERO,
            replicas: Vec::new(),
            mail: BinaryHeap::new(),
            sent: 0,
            now: Duration::ZERO,
            face: 0,
            splits: 0,
            shares: 0,
            most: 0,
            over: 0,
            began: None,
            decisions: Decisions::new(together.replicas),
            rng: StdRng::from_seed(rng.random()),
        };
        for index in 0..together.replicas {
            fleet.replicas.push(Replica::new(index, model));
            fleet.post(INTERVAL.mul_f64(rng.random()), What::Tick(index));
        }
        fleet
    }

    /// When something happens next, in seconds.
    pub(super) fn next(&self) -> f64 {
        self.mail.peek().map_or(f64::INFINITY, |letter| letter.at.as_secs_f64())
    }

    /// Lets that happen.
    pub(super) fn pass(&mut self) {
        if let Some(Letter { at, what, .. }) = self.mail.pop() {
            self.now = self.now.max(at);
            self.deliver(what);
        }
    }

    /// The candidate's share of all calls, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        self.shares as f64 / (1e5 * self.replicas.len() as f64)
    }

    /// How often any replica's split has changed.
    pub(super) fn splits(&self) -> u64 {
        self.splits
    }

    /// Looks at the calls of one replica for a while: where it stands, and the candidate's share there.
    pub(super) fn turn(&mut self) -> (Standing, f64) {
        self.face = self.rng.random_range(0..self.replicas.len());
        let replica = &self.replicas[self.face];
        (replica.standing(self.model), f64::from(replica.share) / 1e5)
    }

    /// Calls of the replica that is looked at.
    pub(super) fn absorb(&mut self, gain: &Gain, now: Duration) {
        self.now = self.now.max(now);
        let (replica, now) = (&mut self.replicas[self.face], self.now);
        replica.learn(self.model, now, |part| part.gain(gain));
        if gain.fails() {
            self.press(self.face);
        }
    }

    /// What was reported, to any of them.
    pub(super) fn learn(&mut self, gain: &FeedbackGain) {
        let (index, now) = (self.rng.random_range(0..self.replicas.len()), self.now);
        self.replicas[index].learn(self.model, now, |part| part.learn(gain));
    }

    /// What sessions said, at any of them.
    pub(super) fn vote(&mut self, ballot: &Ballot) {
        let (index, now) = (self.rng.random_range(0..self.replicas.len()), self.now);
        self.replicas[index].learn(self.model, now, |part| part.vote(ballot));
    }

    /// Calls of all replicas: each is given to one of those that give calls to its variant, as much as they do.
    pub(super) fn spread(&mut self, gain: &Gain, now: Duration) {
        self.now = self.now.max(now);
        for (variant, arm) in gain.arms.iter().enumerate() {
            let failed = arm.errors + arm.rejections > 0;
            let of_units = u64::from(arm.units > 0);
            for call in 0..arm.calls {
                let Some(index) = self.pick(variant) else { break };
                let counted = self.replicas[index].counted(variant);
                counted.calls += 1;
                counted.units += of_units;
                if failed && call == 0 {
                    counted.errors += arm.errors;
                    counted.rejections += arm.rejections;
                    self.press(index);
                }
            }
            for (bucket, calls) in &arm.latency {
                for _ in 0..*calls {
                    let Some(index) = self.pick(variant) else { break };
                    self.replicas[index].time(variant, *bucket);
                }
            }
        }
    }

    /// Who has a call of that variant; none where nobody gives it any.
    fn pick(&mut self, variant: usize) -> Option<usize> {
        const ALL: u32 = 100_000;
        let candidate = variant == self.candidate;
        let (sum, most) = match candidate {
            true => (self.shares, self.most),
            false => (u64::from(ALL) * self.replicas.len() as u64 - self.shares, ALL),
        };
        if sum == 0 {
            return None;
        }
        loop {
            let index = self.rng.random_range(0..self.replicas.len());
            let share = self.replicas[index].share;
            let own = if candidate { share } else { ALL - share };
            if self.rng.random_range(0..most) < own {
                return Some(index);
            }
        }
    }

    /// A call failed there: whoever decides is to hear of it.
    fn press(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.gather(self.model, self.now);
        replica.seat.member().press();
        self.alone(index);
        self.wake(index);
    }

    /// Guards of one that is parted from the others.
    fn alone(&mut self, index: usize) {
        let Replica { seat, view, .. } = &mut self.replicas[index];
        if seat.look_alone(&mut self.rules, view, self.now).is_some() {
            self.follow(index);
        }
    }

    fn post(&mut self, at: Duration, what: What) {
        self.sent += 1;
        self.mail.push(Letter { at, number: self.sent, what });
    }

    /// When a message arrives that is sent now.
    fn arrival(&mut self) -> Duration {
        self.now + self.together.delay.mul_f64(0.5 + self.rng.random::<f64>())
    }

    fn deliver(&mut self, what: What) {
        match what {
            What::Tick(index) => {
                self.post(self.now + INTERVAL, What::Tick(index));
                self.wake(index);
            }
            What::News(index) => self.wake(index),
            What::Turn(index) => {
                self.replicas[index].rounds = 0;
                self.say(index, false);
            }
            What::Ask { replica, question, ask } => {
                let away = |(from, last): (Duration, Duration)| self.now >= from && self.now < from + last;
                if self.together.away.is_some_and(away) {
                    return;
                }
                self.busy = self.busy.max(self.now) + self.together.takes;
                let answer = self.store.exchange(&ask, self.busy.as_millis() as u64);
                self.decisions.decided(self.store.mark().version, self.busy);
                let at = self.arrival() + (self.busy - self.now);
                self.post(at, What::Answer { replica, question, answer: Box::new(answer) });
                self.tell();
            }
            What::Answer { replica, question, answer } => {
                if self.replicas[replica].waits == Some(question) {
                    self.hear(replica, *answer);
                }
            }
            What::Silence { replica, question } => {
                if self.replicas[replica].waits == Some(question) {
                    self.replicas[replica].seat.member().unheard();
                    self.alone(replica);
                    self.rest(replica);
                }
            }
        }
    }

    /// Lets those know whom the last exchange concerns.
    fn tell(&mut self) {
        let told = self.store.told();
        if !self.together.channels {
            return;
        }
        let whom = match (told.everybody, told.holder) {
            (true, _) => 0..self.replicas.len(),
            (false, true) => {
                let holder = self.store.holder();
                let Some(index) = self.replicas.iter().position(|one| **one.seat.seen().name() == *holder)
                else {
                    return;
                };
                index..index + 1
            }
            (false, false) => return,
        };
        for index in whom {
            let at = self.arrival() + (self.busy - self.now);
            self.post(at, What::News(index));
        }
    }

    /// It has something to say, or to hear.
    fn wake(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if replica.busy {
            replica.woken = true;
            return;
        }
        (replica.busy, replica.woken) = (true, false);
        let at = self.now + replica.pace.turn(self.now);
        self.post(at, What::Turn(index));
    }

    fn say(&mut self, index: usize, refill: bool) {
        let at = self.arrival();
        let (replica, now) = (&mut self.replicas[index], self.now);
        replica.gather(self.model, now);
        let ask = match refill {
            true => replica.seat.member().refill(now),
            false => replica.seat.member().ask(now),
        };
        replica.question += 1;
        replica.asked = now;
        replica.waits = Some(replica.question);
        let question = replica.question;
        self.post(at, What::Ask { replica: index, question, ask: Box::new(ask) });
        self.post(now + PATIENCE, What::Silence { replica: index, question });
    }

    fn hear(&mut self, index: usize, answer: Answer) {
        let (replica, now) = (&mut self.replicas[index], self.now);
        replica.waits = None;
        replica.gather(self.model, now);
        self.rules.now = now;
        let middle = replica.asked + (now - replica.asked) / 2;
        let outcome = replica.seat.hear(&mut self.rules, &mut replica.view, answer, middle);
        replica.rounds += 1;
        let again = (outcome.again || outcome.refill) && replica.rounds < ROUNDS;
        self.follow(index);
        match again {
            true => self.say(index, outcome.refill),
            false => self.rest(index),
        }
    }

    /// Its turn is over.
    fn rest(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        (replica.busy, replica.waits) = (false, None);
        if replica.woken {
            self.wake(index);
        }
    }

    /// Serves what its machine says.
    fn follow(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let version = replica.seat.seen().plan().map_or(0, |plan| plan.mark.version);
        self.decisions.held(std::mem::replace(&mut replica.version, version), version, self.now);
        let state = replica.view.as_ref().map_or(State::Waiting, Machine::state);
        let over = is_over(&self.model.strategy, state);
        let was_over = std::mem::replace(&mut replica.over, over);
        self.over = self.over - usize::from(was_over) + usize::from(over);
        let standing = replica.standing(self.model);
        if replica.view.is_none() || replica.served.as_ref() == Some(&standing) {
            return;
        }
        let places = self.split.intervals(&standing, None).into_iter();
        let own = places.filter(|(variant, _)| *variant == self.candidate);
        let share: u32 = own.map(|(_, places)| places.end - places.start).sum();
        let before = std::mem::replace(&mut replica.share, share);
        replica.served = Some(standing);
        self.shares = self.shares - u64::from(before) + u64::from(share);
        self.most = self.most.max(share);
        self.splits += 1;
        if share > 0 && self.began.is_none() {
            self.began = Some(self.now);
        }
    }

    /// Whether all is over everywhere.
    pub(super) fn is_over(&self) -> bool {
        self.over == self.replicas.len()
    }

    /// When the candidate had its first share.
    pub(super) fn began(&self) -> Duration {
        self.began.unwrap_or_default()
    }

    /// The longest that any decision took until it was served by all; none where none was made.
    pub(super) fn told(&self) -> Option<Duration> {
        self.decisions.longest()
    }

    /// Rolled back where anybody did, else what the plan says.
    pub(super) fn state(&self) -> State {
        let rolled = |replica: &Replica| {
            replica.view.as_ref().is_some_and(|machine| machine.state() == State::RolledBack)
        };
        match self.replicas.iter().any(rolled) {
            true => State::RolledBack,
            false => self.plan().map_or(State::Waiting, |machine| machine.state()),
        }
    }

    /// Name of the variant that won.
    pub(super) fn winner(&self) -> Option<&str> {
        self.rules.winner.as_deref()
    }

    /// What all of it says, as far as whoever decides knows.
    pub(super) fn report(&self, now: Duration) -> Option<Report> {
        let leads = self.replicas.iter().find_map(|replica| replica.seat.leading());
        match leads {
            Some(machine) => Some(machine.report(self.model, now)),
            None => self.plan().map(|machine| machine.report(self.model, now)),
        }
    }

    fn plan(&self) -> Option<Machine> {
        self.rules.read(&self.store.plan()?.saved, self.now)
    }
}
