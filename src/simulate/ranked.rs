//! People who are shown lists, and what they click on: the same people for rankers whose lists are merged, and for a
//! split that counts how many calls bring a click.
//!
//! Lists are merged, credited and judged by the very code that does it live; a world says only what each ranker would
//! show, where people look, and what they click on.

use std::time::Duration;

use rand::{Rng, RngExt};
use uuid::Uuid;

use super::chance::poisson;
use super::file::Scenario;
use super::judged::{Judged, arm};
use super::stream::Stretch;
use super::world::{Looks, Rankings};
use crate::assignment::{Odds, Reason};
use crate::config::{Interleave, Model, Strategy};
use crate::evidence::Votes;
use crate::feedback::shown::{Shown, item};
use crate::feedback::{At, Book, Report, Value};
use crate::prediction::slots::Slots;
use crate::prediction::{self, Prediction};
use crate::strategy::Decision;
use crate::strategy::interleave::{Chance, Lists, Round, Sources};

/// Lists and clicks of one run.
pub(super) struct Ranked<'a> {
    model: &'a Model,
    world: &'a Rankings,
    book: Book,
    report: Report,
    /// Decisive sessions so far, and those that preferred the candidate.
    pub(super) decisive: (u64, u64),
}

impl<'a> Ranked<'a> {
    /// None where a world has no lists.
    pub(super) fn new(scenario: &'a Scenario) -> Option<Self> {
        let (model, world) = (&scenario.model, scenario.world.rankings.as_ref()?);
        let feedback = match &model.strategy {
            Strategy::Interleave(interleave) => interleave.credit.feedback.to_string(),
            _ => model.feedback.first()?.name.to_string(),
        };
        let report = Report { name: feedback, ..Report::default() };
        Some(Ranked { model, world, book: Book::new(model), report, decisive: (0, 0) })
    }

    /// Calls of that time, and their clicks; what that shows is told to `judged`. Returns how many values, or decisive
    /// sessions, became evidence.
    pub(super) fn pass(&mut self, stretch: Stretch, judged: &mut Judged<'_>, rng: &mut impl Rng) -> u64 {
        let length = stretch.until - stretch.from;
        let mut times: Vec<f64> = (0..poisson(rng, stretch.calls * length))
            .map(|_| stretch.from + length * rng.random::<f64>())
            .collect();
        times.sort_by(f64::total_cmp);
        for at in times {
            match &self.model.strategy {
                Strategy::Interleave(interleave) => self.merged(interleave, at, judged, rng),
                _ => self.split(at, judged, rng),
            }
        }
        let drained = self.book.drain(Duration::from_secs_f64(stretch.until));
        let mut values: u64 = drained.gains.iter().map(|gain| judged.learn(gain)).sum();
        for ballot in &drained.ballots {
            let Votes { wins, losses, .. } = judged.vote(ballot);
            values += wins + losses;
            self.decisive = (self.decisive.0 + wins + losses, self.decisive.1 + wins);
        }
        values
    }

    /// What a ranker shows: items by how they attract.
    fn list(&self, candidate: bool, rng: &mut impl Rng) -> Vec<usize> {
        let mut list: Vec<usize> = (0..self.world.attraction.len()).collect();
        if self.world.shuffled {
            for last in (1..list.len()).rev() {
                list.swap(last, rng.random_range(0..=last));
            }
        }
        if let Some((one, other)) = self.world.swap.filter(|_| candidate) {
            list.swap(one, other);
        }
        list
    }

    /// Slots that are clicked on, of those that hold these items; `of` says whose each is.
    fn clicks(&self, shown: &[usize], of: &dyn Fn(usize) -> Option<bool>, rng: &mut impl Rng) -> Vec<usize> {
        let attracts = |rng: &mut dyn FnMut() -> f64, item: usize| {
            rng() < self.world.attraction.get(item).copied().unwrap_or(0.0)
        };
        let mut draw = || rng.random::<f64>();
        match self.world.looks {
            Looks::Cascade(goes_on) => {
                for (slot, item) in shown.iter().enumerate() {
                    if attracts(&mut draw, *item) {
                        return vec![slot];
                    }
                    if draw() >= goes_on {
                        break;
                    }
                }
                Vec::new()
            }
            Looks::Places(first) => {
                let looked = |draw: &mut dyn FnMut() -> f64, slot: usize| draw() < first / (slot + 1) as f64;
                let places = shown.iter().enumerate();
                let clicked =
                    places.filter(|(slot, item)| looked(&mut draw, *slot) && attracts(&mut draw, **item));
                clicked.map(|(slot, _)| slot).collect()
            }
            Looks::Prefers(part) => {
                let candidate = draw() < part;
                let own: Vec<usize> = (0..shown.len()).filter(|slot| of(*slot) == Some(candidate)).collect();
                let place = (draw() * own.len() as f64) as usize;
                own.get(place).copied().into_iter().collect()
            }
        }
    }

    /// A call that both rankers answer.
    fn merged(&mut self, config: &Interleave, at: f64, judged: &Judged<'_>, rng: &mut impl Rng) {
        let (uuid, unit) = identity(at, rng);
        let both = [self.list(false, rng), self.list(true, rng)];
        let lists = Lists::number(&both);
        let chance = Chance { salt: &config.salt, key: uuid.as_bytes() };
        let length = config.length.unwrap_or(both[0].len());
        let picks = config.method.merge(&lists, length, &chance, &mut Round::default());
        let Some(mut slots) = Slots::new(1, picks.len()) else { return };
        for (slot, pick) in picks.iter().enumerate() {
            if let Some(team) = pick.team {
                slots.set(slot, arm(self.model, judged.variant(team == 1)));
            }
        }
        let shown: Vec<usize> = picks.iter().map(|pick| both[pick.ranker][pick.place]).collect();
        if let Some(memory) = self.book.shown() {
            let items = shown.iter().map(|one| item(one.to_string().as_bytes())).collect();
            let sources =
                if config.method.has_teams() { Vec::new() } else { vec![Sources::of(&lists, &picks)] };
            let window = self.model.feedback.iter().map(|feedback| feedback.window).max().unwrap_or_default();
            let entry = Shown { length: shown.len(), items, sources, ..Shown::default() };
            memory.remember(uuid, entry, Duration::from_secs_f64(at) + window);
        }
        let prediction = Prediction {
            slots: Some(slots),
            reason: Reason::Interleaved,
            ..self.prediction((uuid, unit), judged, false)
        };
        let of = |slot: usize| picks.get(slot).and_then(|pick| pick.team).map(|team| team == 1);
        for slot in self.clicks(&shown, &of, rng) {
            self.report.value = Some(Value::Number(1.0));
            self.report.place = Some(At::Slot(slot as u32));
            // What is refused here is refused live as well.
            let _ = self.book.take(&prediction, &self.report, Duration::from_secs_f64(at));
        }
    }

    /// A call that one of both answers.
    fn split(&mut self, at: f64, judged: &Judged<'_>, rng: &mut impl Rng) {
        let candidate = rng.random::<f64>() < judged.share();
        let shown = self.list(candidate, rng);
        let clicked = !self.clicks(&shown, &|_| Some(candidate), rng).is_empty();
        let anybody = Decision::certain(judged.variant(candidate), Reason::Split);
        let odds = judged.split().odds(&judged.standing(), &anybody, &|_| true);
        let prediction = Prediction { odds, ..self.prediction(identity(at, rng), judged, candidate) };
        self.report.value = Some(Value::Number(f64::from(u8::from(clicked))));
        // What is refused here is refused live as well.
        let _ = self.book.take(&prediction, &self.report, Duration::from_secs_f64(at));
    }

    /// Of a call of somebody new.
    fn prediction(&self, (uuid, unit): (Uuid, u64), judged: &Judged<'_>, candidate: bool) -> Prediction {
        let unit = (!self.model.unit.is_empty()).then_some(unit);
        let arm = arm(self.model, judged.variant(candidate));
        Prediction {
            uuid,
            rollout: prediction::rollout(&self.model.name),
            revision: self.model.revision,
            epoch: judged.standing().epoch,
            assigned: arm,
            served: arm,
            reason: if unit.is_some() { Reason::Split } else { Reason::Draw },
            unit,
            bucket: prediction::bucket(unit, uuid),
            odds: Odds::NONE,
            slots: None,
        }
    }
}

fn identity(at: f64, rng: &mut impl Rng) -> (Uuid, u64) {
    let millis = (at * 1e3) as u64;
    (uuid::Builder::from_unix_timestamp_millis(millis, &rng.random()).into_uuid(), rng.random())
}
