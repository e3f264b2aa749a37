//! What is learnt later about predictions: reports that come after their delay, and go the way of a live one.
//!
//! A world draws who brings which report when; what it counts for is read from the prediction, by the code that reads
//! the ids of live ones: see [`Book`]. Where shares follow what was earned each call is drawn by the code that draws live
//! ones; elsewhere a unit has its place for good, and no call need be made up for it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use rand::{Rng, RngExt};

use super::chance::{normal, poisson};
use super::file::Scenario;
use super::judged::{Judged, arm};
use super::naive::Means;
use super::stream::Stretch;
use super::world::{Law, Learnt};
use crate::assignment::{Odds, Reason};
use crate::call::Call;
use crate::config::{Feedback, FeedbackKind, Key, Model, Strategy};
use crate::evidence::{ArmGain, Gain};
use crate::feedback::{Book, Report, Value};
use crate::prediction::{self, Prediction};
use crate::strategy::Decision;

/// Feedback of one run.
pub(super) struct Learning<'a> {
    model: &'a Model,
    worlds: &'a [Learnt],
    /// Of the candidate's share, what it really gets.
    kept: f64,
    until: f64,
    /// The world that is asked of first.
    first: usize,
    /// Of that.
    naive: Means,
    book: Book,
    /// Of each world.
    people: Vec<Vec<Person>>,
    reports: Vec<Report>,
    due: BinaryHeap<Reverse<Due>>,
    drawn: u64,
    /// [`prediction::rollout`] of the model's name.
    rollout: u64,
    /// Where shares follow what was earned.
    earned: Option<Earned>,
}

/// What became of calls that were drawn one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Earned {
    /// Of all variants, and of those that are not the baseline.
    pub(super) calls: u64,
    pub(super) of_others: u64,
    /// What was lost against always taking the best.
    pub(super) lost: f64,
}

/// Who is given a call, and how likely that was.
#[derive(Debug, Clone, Copy)]
struct Given {
    /// 0 the baseline, 1 the candidate, and so on.
    role: usize,
    unit: Option<u64>,
    odds: Odds,
}

/// A unit that comes back.
#[derive(Debug, Clone, Copy)]
struct Person {
    unit: u64,
    /// Where it falls, 0 to 1.
    place: f64,
    /// How far its own mean is from that of all.
    off: f64,
    /// Whether it has been here before.
    known: bool,
}

/// A report that is on its way.
#[derive(Debug)]
struct Due {
    at: Duration,
    /// Tells it from others that come at the same time.
    number: u64,
    world: usize,
    value: f64,
    prediction: Prediction,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl Person {
    fn draw(spread: f64, rng: &mut impl Rng) -> Self {
        Person { unit: rng.random(), place: rng.random(), off: spread * normal(rng), known: false }
    }
}

impl<'a> Learning<'a> {
    /// None where nothing is learnt.
    pub(super) fn new(scenario: &'a Scenario, rng: &mut impl Rng) -> Option<Self> {
        let (model, worlds) = (&scenario.model, &scenario.world.feedback[..]);
        let mut people = Vec::new();
        for world in worlds {
            let (n, spread) = world.units.unwrap_or((0, 0.0));
            people.push((0..n).map(|_| Person::draw(spread, rng)).collect());
        }
        let report = |world: &Learnt| Report {
            name: model.feedback[world.feedback].name.to_string(),
            ..Report::default()
        };
        (!worlds.is_empty()).then(|| Learning {
            model,
            worlds,
            kept: 1.0 - scenario.world.strays,
            until: scenario.until.as_secs_f64(),
            first: first(model, worlds),
            naive: Means::default(),
            book: Book::new(model),
            people,
            reports: worlds.iter().map(report).collect(),
            due: BinaryHeap::new(),
            drawn: 0,
            rollout: prediction::rollout(&model.name),
            earned: matches!(model.strategy, Strategy::Bandit(_)).then(Earned::default),
        })
    }

    /// Predictions are made and reports come; what that shows is told to `judged`. Returns how many values of both arms
    /// became evidence.
    pub(super) fn pass(&mut self, stretch: Stretch, judged: &mut Judged<'_>, rng: &mut impl Rng) -> u64 {
        for world in 0..self.worlds.len() {
            self.predict(world, stretch, judged, rng);
        }
        let now = Duration::from_secs_f64(stretch.until);
        while let Some(Reverse(due)) = self.due.peek().filter(|Reverse(due)| due.at <= now) {
            let report = &mut self.reports[due.world];
            report.value = Some(Value::Number(due.value));
            if due.world == self.first {
                let of = |candidate| due.prediction.assigned == arm(self.model, judged.variant(candidate));
                if of(true) || of(false) {
                    self.naive.add(of(true), due.value);
                }
            }
            // What is refused here is refused live as well: a report after its window, or one of too many.
            let _ = self.book.take(&due.prediction, report, due.at);
            self.due.pop();
        }
        self.naive.look();
        let gains = self.book.drain(now).gains;
        gains.iter().map(|gain| judged.learn(gain)).sum()
    }

    /// Whether a test that is read over and over ever said that the first feedback differs.
    pub(super) fn naive_differs(&self) -> bool {
        self.naive.differ()
    }

    /// Whether units are told apart here, and not where calls are counted.
    pub(super) fn counts_units(&self) -> bool {
        self.people.iter().any(|people| !people.is_empty())
    }

    /// What became of calls, where they are drawn one by one.
    pub(super) fn earned(&self) -> Option<Earned> {
        self.earned
    }

    /// Predictions of that time, those that matter for one feedback.
    fn predict(&mut self, world: usize, stretch: Stretch, judged: &mut Judged<'_>, rng: &mut impl Rng) {
        let (worlds, model) = (self.worlds, self.model);
        let learnt = &worlds[world];
        let feedback = &model.feedback[learnt.feedback];
        // Without a default a prediction that brings no report says nothing, so none is drawn but where calls count.
        let (drawn, reporting) = match feedback.default {
            None if !judged.learns() => (learnt.share, 1.0),
            _ => (1.0, learnt.share),
        };
        let settled = (!judged.learns()).then(|| {
            let anybody = Decision::certain(judged.variant(false), Reason::Split);
            judged.split().odds(&judged.standing(), &anybody, &|_| true)
        });
        let length = stretch.until - stretch.from;
        let (mut units, mut calls) = (vec![0; judged.count()], vec![0; judged.count()]);
        for _ in 0..poisson(rng, stretch.calls * drawn * length) {
            let at = stretch.from + length * rng.random::<f64>();
            let person = self.person(world, rng);
            let given = match settled {
                Some(odds) => self.settled(&person, odds, judged),
                None => self.draw(&person, judged, rng),
            };
            units[given.role] += u64::from(!person.known);
            calls[given.role] += 1;
            self.lose(world, given.role, at);
            let prediction = self.prediction(at, given, judged, rng);
            self.book.expose(&prediction, feedback);
            if rng.random::<f64>() < reporting {
                let mean = learnt.means_at(at, self.until).nth(given.role).unwrap_or(f64::NAN);
                let value = value(learnt, feedback, mean, person.off, rng);
                let delay = learnt.delay.0.mul_f64((learnt.delay.1 * normal(rng)).exp());
                let at = Duration::from_secs_f64(at) + delay;
                self.drawn += 1;
                self.due.push(Reverse(Due { at, number: self.drawn, world, value, prediction }));
            }
        }
        if world != self.first {
            return;
        }
        let now = Duration::from_secs_f64(stretch.until);
        if judged.learns() {
            judged.absorb(&counted(judged, &units, &calls), now);
        } else if self.counts_units() {
            judged.absorb(&counted(judged, &units, &[]), now);
        }
    }

    /// Counts a call, and what it cost that it was not given to the best.
    fn lose(&mut self, world: usize, role: usize, at: f64) {
        let (learnt, until, first) = (&self.worlds[world], self.until, self.first);
        let Some(earned) = self.earned.as_mut().filter(|_| world == first) else { return };
        let Strategy::Bandit(bandit) = &self.model.strategy else { return };
        let sign = if bandit.reward.lower_is_better { -1.0 } else { 1.0 };
        let worth = learnt.means_at(at, until).map(|mean| sign * mean);
        let (mut best, mut own) = (f64::NEG_INFINITY, 0.0);
        for (place, worth) in worth.enumerate() {
            best = best.max(worth);
            own = if place == role { worth } else { own };
        }
        earned.calls += 1;
        earned.of_others += u64::from(role != 0);
        earned.lost += best - own;
    }

    /// Who has a person's calls for good.
    fn settled(&self, person: &Person, odds: Odds, judged: &Judged<'_>) -> Given {
        let candidate = person.place < self.kept * judged.share();
        let unit = (!self.model.unit.is_empty()).then_some(person.unit);
        Given { role: usize::from(candidate), unit, odds }
    }

    /// Who is given this call of a person.
    fn draw(&self, person: &Person, judged: &Judged<'_>, rng: &mut impl Rng) -> Given {
        let standing = judged.standing();
        let name = person.unit.to_string();
        let (mut metadata, mut parameters) = (HeaderMap::new(), Vec::new());
        match self.model.unit.first() {
            Some(Key::Metadata(key)) => {
                metadata.extend(HeaderValue::from_str(&name).ok().map(|value| (key.clone(), value)));
            }
            Some(Key::Parameter(key)) => parameters.push((key.to_string(), name)),
            None => {}
        }
        let call = Call { metadata: &metadata, parameters: &parameters, input: None };
        let decided = judged.split().assign(&standing, &call, rng.random(), &|_| true);
        let odds = judged.split().odds(&standing, &decided, &|_| true);
        Given { role: judged.role(decided.assignment.variant), unit: decided.unit, odds }
    }

    /// Who comes: somebody who comes back, and is known from then on, or somebody new.
    fn person(&mut self, world: usize, rng: &mut impl Rng) -> Person {
        let people = &mut self.people[world];
        if people.is_empty() {
            return Person::draw(0.0, rng);
        }
        let place = rng.random_range(0..people.len());
        let person = people[place];
        people[place].known = true;
        person
    }

    fn prediction(&self, at: f64, given: Given, judged: &Judged<'_>, rng: &mut impl Rng) -> Prediction {
        let millis = (at * 1e3) as u64;
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &rng.random()).into_uuid();
        let Given { role, unit, odds } = given;
        let arm = arm(self.model, judged.variant_of(role));
        Prediction {
            uuid,
            rollout: self.rollout,
            revision: self.model.revision,
            epoch: judged.standing().epoch,
            assigned: arm,
            served: arm,
            reason: if unit.is_some() { Reason::Split } else { Reason::Draw },
            unit,
            bucket: prediction::bucket(unit, uuid),
            odds,
            slots: None,
        }
    }
}

/// The world of what a strategy learns from; the first one, where it learns from none.
fn first(model: &Model, worlds: &[Learnt]) -> usize {
    let of =
        |reward: &Arc<str>| worlds.iter().position(|world| model.feedback[world.feedback].name == *reward);
    model.strategy.reward().and_then(of).unwrap_or(0)
}

/// Units that came for the first time, and calls where they are counted here; by what variants are.
fn counted(judged: &Judged<'_>, units: &[u64], calls: &[u64]) -> Gain {
    let mut arms = vec![ArmGain::default(); judged.count()];
    for (role, units) in units.iter().enumerate() {
        arms[judged.variant_of(role)].units = *units;
    }
    for (role, calls) in calls.iter().enumerate() {
        arms[judged.variant_of(role)].calls = *calls;
    }
    Gain { epoch: judged.standing().epoch, segment: None, arms }
}

/// A value around `mean`; `off` is what its unit adds.
fn value(learnt: &Learnt, feedback: &Feedback, mean: f64, off: f64, rng: &mut impl Rng) -> f64 {
    let mean = mean + off;
    match feedback.kind {
        FeedbackKind::Binary => f64::from(u8::from(rng.random::<f64>() < mean)),
        FeedbackKind::Bounded { min, max } => {
            // Even between two ends, which has this spread.
            let reach = learnt.spread * 3_f64.sqrt();
            (mean + reach * (2.0 * rng.random::<f64>() - 1.0)).clamp(min, max)
        }
        FeedbackKind::Real if learnt.law == Law::Lognormal => {
            // Of the logarithm, so that values have this mean and this spread.
            let variance = (learnt.spread / (mean - off)).powi(2).ln_1p();
            let middle = (mean - off).ln() - variance / 2.0;
            off + variance.sqrt().mul_add(normal(rng), middle).exp()
        }
        FeedbackKind::Real | FeedbackKind::Label | FeedbackKind::Clicks => mean + learnt.spread * normal(rng),
    }
}
