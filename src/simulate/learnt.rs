//! What is learnt later about predictions: reports that come after their delay, and go the way of a live one.
//!
//! A world draws who brings which report when; what it counts for is read from the prediction, by the code that reads
//! the ids of live ones: see [`Book`].

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::VARIANTS;
use super::chance::{normal, poisson};
use super::file::Scenario;
use super::judged::{Judged, arm};
use super::naive::Means;
use super::stream::Stretch;
use super::world::{Law, Learnt};
use crate::assignment::{Odds, Reason};
use crate::config::{Feedback, FeedbackKind, Model};
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
    /// Of the first of them.
    naive: Means,
    book: Book,
    /// Of each world.
    people: Vec<Vec<Person>>,
    reports: Vec<Report>,
    due: BinaryHeap<Reverse<Due>>,
    drawn: u64,
    /// [`prediction::rollout`] of the model's name.
    rollout: u64,
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
            naive: Means::default(),
            book: Book::new(model),
            people,
            reports: worlds.iter().map(report).collect(),
            due: BinaryHeap::new(),
            drawn: 0,
            rollout: prediction::rollout(&model.name),
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
            if due.world == 0 {
                self.naive.add(due.prediction.assigned == arm(self.model, judged.variant(true)), due.value);
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

    /// Predictions of that time, those that matter for one feedback.
    fn predict(&mut self, world: usize, stretch: Stretch, judged: &mut Judged<'_>, rng: &mut impl Rng) {
        let (worlds, model) = (self.worlds, self.model);
        let learnt = &worlds[world];
        let feedback = &model.feedback[learnt.feedback];
        let anybody = Decision::certain(judged.variant(false), Reason::Split);
        let odds = judged.split().odds(&judged.standing(), &anybody, &|_| true);
        // Without a default a prediction that brings no report says nothing, so none is drawn.
        let (drawn, reporting) = match feedback.default {
            Some(_) => (1.0, learnt.share),
            None => (learnt.share, 1.0),
        };
        let length = stretch.until - stretch.from;
        let mut units = [0; 2];
        for _ in 0..poisson(rng, stretch.calls * drawn * length) {
            let at = stretch.from + length * rng.random::<f64>();
            let person = self.person(world, rng);
            let candidate = person.place < self.kept * judged.share();
            units[usize::from(candidate)] += u64::from(!person.known);
            let prediction = self.prediction(at, &person, judged, candidate, odds, rng);
            self.book.expose(&prediction, feedback);
            if rng.random::<f64>() < reporting {
                let value = value(learnt, feedback, (candidate, at / self.until, at), person.off, rng);
                let delay = learnt.delay.0.mul_f64((learnt.delay.1 * normal(rng)).exp());
                let at = Duration::from_secs_f64(at) + delay;
                self.drawn += 1;
                self.due.push(Reverse(Due { at, number: self.drawn, world, value, prediction }));
            }
        }
        if world == 0 && self.counts_units() {
            judged.absorb(&exposed(judged, units), Duration::from_secs_f64(stretch.until));
        }
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

    fn prediction(
        &self,
        at: f64,
        person: &Person,
        judged: &Judged<'_>,
        candidate: bool,
        odds: Odds,
        rng: &mut impl Rng,
    ) -> Prediction {
        let millis = (at * 1e3) as u64;
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &rng.random()).into_uuid();
        let unit = (!self.model.unit.is_empty()).then_some(person.unit);
        let arm = arm(self.model, judged.variant(candidate));
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

/// Units of the baseline and the candidate that came for the first time.
fn exposed(judged: &Judged<'_>, units: [u64; 2]) -> Gain {
    let mut arms = vec![ArmGain::default(); VARIANTS.len()];
    for (candidate, units) in [false, true].into_iter().zip(units) {
        arms[judged.variant(candidate)].units = units;
    }
    Gain { epoch: judged.standing().epoch, segment: None, arms }
}

/// A value of the baseline, or of the candidate; `off` is what its unit adds.
fn value(
    learnt: &Learnt,
    feedback: &Feedback,
    (candidate, over, at): (bool, f64, f64),
    off: f64,
    rng: &mut impl Rng,
) -> f64 {
    let (other, after) = learnt.candidate;
    let mean = if candidate && at >= after.as_secs_f64() { other } else { learnt.mean };
    let mean = mean * (1.0 + (learnt.drift - 1.0) * over) + off;
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
