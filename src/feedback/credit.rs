//! From a report about a slot, or an item, to the credit of rankers: who is credited what for it, and in which session.
//!
//! By the slot the prediction's own id says whose it is, so that any replica credits it. By the item, and where credit
//! hangs on where each ranker had put things, what was shown must be known here.

use std::sync::Arc;
use std::time::Duration;

use super::session::{Effect, Heard, Sessions, Whose};
use super::shown::{Exposures, Shown, item};
use super::{At, Ballot, Drained, Evidence, Receipt, Refusal, Report, Taken};
use crate::config::{By, Count, Feedback, Interleave, Model, Strategy, Weigh};
use crate::prediction::Prediction;

/// What becomes of reports of one model that credit rankers.
#[derive(Debug)]
pub(super) struct Credits {
    config: Arc<Interleave>,
    /// By ranker, the baseline first: its arm.
    arms: Vec<u8>,
    shown: Option<Arc<Exposures>>,
    sessions: Sessions,
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// That slot, counted over all lists.
    Slot(usize),
    /// Something that no list of several rankers has: the answer was one's alone, or is no evidence.
    Elsewhere(Vec<u8>),
}

/// A report's value before it, what became of it, when its prediction was made, and when it was learnt, in milliseconds
/// after that.
pub(super) type Told<'a> = (Option<f64>, &'a Receipt, Duration, u32);

impl Spot {
    /// Tells it from others of its prediction.
    pub(super) fn key(&self) -> Vec<u8> {
        match self {
            Spot::Slot(slot) => (*slot as u64).to_be_bytes().to_vec(),
            Spot::Elsewhere(text) => [b"elsewhere ", &text[..]].concat(),
        }
    }
}

impl Credits {
    /// Of `model`, going on from `before`; none where nothing is credited.
    pub(super) fn new(model: &Model, before: Option<Credits>, shown: Option<Arc<Exposures>>) -> Option<Self> {
        let Strategy::Interleave(config) = &model.strategy else { return None };
        let all = model.arms();
        let arm = |variant: usize| {
            let place = all.iter().position(|arm| *arm == variant);
            place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
        };
        // Sessions of another revision are none of this one's evidence.
        let said = format!("sessions {:?} {}", model.name, model.revision);
        let track = (item(said.as_bytes()) >> 32) as u32;
        let sessions = before.map_or_else(|| Sessions::new(track), |before| before.sessions);
        Some(Credits {
            config: Arc::clone(config),
            arms: config.rankers().map(arm).collect(),
            shown,
            sessions,
        })
    }

    /// What its sessions are known by on disk.
    pub(super) fn track(&self) -> u32 {
        self.sessions.track()
    }

    /// Takes back a session.
    pub(super) fn restore(&mut self, value: &[u8]) {
        self.sessions.restore(value);
    }

    /// What predictions have shown, where that is remembered.
    pub(super) fn shown(&self) -> Option<&Arc<Exposures>> {
        self.shown.as_ref()
    }

    /// Whether that feedback credits.
    pub(super) fn is_of(&self, feedback: &Feedback) -> bool {
        feedback.name == self.config.credit.feedback
    }

    /// What a report is about; none where its feedback credits nobody.
    ///
    /// # Errors
    /// When it does not say, or says something that was not shown.
    pub(super) fn place(
        &self,
        feedback: &Feedback,
        prediction: &Prediction,
        report: &Report,
    ) -> Result<Option<Spot>, Refusal> {
        if !self.is_of(feedback) {
            return Ok(None);
        }
        let name = || Arc::clone(&feedback.name);
        let place = report.place.as_ref().ok_or_else(|| Refusal::Place(name()))?;
        let row = report.row;
        let Some(slots) = &prediction.slots else {
            let text = match place {
                At::Slot(slot) => format!("{row} {slot}"),
                At::Item(item) => format!("{row} item {item}"),
            };
            return Ok(Some(Spot::Elsewhere(text.into_bytes())));
        };
        let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        match place {
            At::Slot(slot) => {
                let found = slots.index(index(row), index(*slot));
                let (rows, length) = (slots.rows(), slots.length());
                let found =
                    found.ok_or_else(|| Refusal::Slot { name: name(), slot: *slot, row, rows, length })?;
                Ok(Some(Spot::Slot(found)))
            }
            At::Item(text) => {
                let forgotten = |why, instead| Refusal::Forgotten { name: name(), why, instead };
                let memory = match (&self.shown, self.config.credit.by) {
                    (Some(shown), By::Item) => shown,
                    _ => {
                        let why = "for `credit.by` is slot and items are not remembered";
                        return Err(forgotten(why, "report its `slot`"));
                    }
                };
                let found = memory
                    .with(prediction.uuid, |shown| (shown.slot(index(row), item(text.as_bytes())), false));
                match found {
                    Some(Some(slot)) => Ok(Some(Spot::Slot(slot))),
                    Some(None) => {
                        Err(Refusal::Item { name: name(), item: text.chars().take(64).collect(), row })
                    }
                    None => Err(forgotten(ELSEWHERE, self.instead())),
                }
            }
        }
    }

    fn instead(&self) -> &'static str {
        match self.config.method.has_teams() {
            true => "report its `slot`, which any replica can credit",
            false => "send it to the replica that answered, before `credit.memory` is full",
        }
    }

    /// Whether a report that comes at `now` is heard.
    pub(super) fn hears(&self, prediction: &Prediction, evidence: Evidence, now: Duration) -> Heard {
        match evidence {
            Evidence::AtClose => self.sessions.hears(&self.config.credit, &whose(prediction), now),
            _ => Heard::Closed,
        }
    }

    /// Takes a report that was joined; what it is evidence of.
    pub(super) fn take(
        &mut self,
        prediction: &Prediction,
        place: &Spot,
        told: Told<'_>,
        (evidence, heard): (Evidence, Heard),
        now: Duration,
    ) -> Evidence {
        let Spot::Slot(slot) = place else { return evidence };
        if evidence != Evidence::AtClose {
            return evidence;
        }
        if heard == Heard::Closed {
            return Evidence::Session;
        }
        if matches!(told.1.taken, Taken::Repeated | Taken::Unchanged) {
            return Evidence::AtClose;
        }
        let Some(effect) = self.effect(prediction, *slot, told) else { return Evidence::Certain };
        self.sessions.take(&self.config.credit, &whose(prediction), &effect, now);
        if effect == Effect::Nothing { Evidence::Certain } else { Evidence::AtClose }
    }

    /// What a value is worth.
    fn worth(&self, value: f64) -> f64 {
        let credit = &self.config.credit;
        let value = match credit.at_least {
            Some(least) if value >= 0.0 => f64::from(u8::from(value >= least)),
            _ => value,
        };
        match credit.weigh {
            Weigh::Rewards => value,
            Weigh::Votes if value == 0.0 => 0.0,
            Weigh::Votes => value.signum(),
        }
    }

    /// What a report changes; none where what was shown is not known here any more.
    fn effect(
        &self,
        prediction: &Prediction,
        slot: usize,
        (before, receipt, made, at): Told<'_>,
    ) -> Option<Effect> {
        let now = self.worth(receipt.value.unwrap_or(0.0));
        let before = self.worth(before.unwrap_or(0.0));
        if !self.config.method.has_teams() {
            return self.by_sources(prediction, slot, now);
        }
        let arm = prediction.slots.and_then(|slots| slots.get(slot));
        let ranker = arm.and_then(|arm| self.arms.iter().position(|known| *known == arm));
        let Some(ranker) = ranker else { return Some(Effect::Nothing) };
        if self.config.credit.count != Count::All {
            if now == 0.0 {
                return Some(Effect::Nothing);
            }
            let at = (made + Duration::from_millis(u64::from(at))).as_millis();
            return Some(Effect::Event { at: u64::try_from(at).unwrap_or(u64::MAX), ranker, worth: now });
        }
        let mut credit = vec![0.0; self.arms.len()];
        if let Some(place) = credit.get_mut(ranker) {
            *place = now - before;
        }
        Some(Effect::Credit(credit))
    }

    /// By where each ranker had put what was shown.
    fn by_sources(&self, prediction: &Prediction, slot: usize, worth: f64) -> Option<Effect> {
        let credit = |shown: &Shown| {
            let mut sum = vec![0.0; self.arms.len()];
            for (row, sources) in shown.sources.iter().enumerate() {
                for (slots, sign) in [(shown.liked, 1.0), (shown.disliked, -1.0)] {
                    let first = row * shown.length;
                    let own = |slot: &usize| slots >> (first + slot) & 1 == 1;
                    let clicks: Vec<usize> = (0..sources.slots().min(64)).filter(own).collect();
                    let credit = self.config.method.credit(sources, &clicks).unwrap_or_default();
                    sum.iter_mut().zip(credit).for_each(|(sum, credit)| *sum += sign * credit);
                }
            }
            sum
        };
        let changed = self.shown.as_ref()?.with(prediction.uuid, |shown| {
            let before = credit(shown);
            let bit = 1_u64 << slot.min(63);
            let set = |mask: &mut u64, on: bool| *mask = if on { *mask | bit } else { *mask & !bit };
            set(&mut shown.liked, worth > 0.0);
            set(&mut shown.disliked, worth < 0.0);
            let more: Vec<f64> = credit(shown).iter().zip(&before).map(|(now, then)| now - then).collect();
            (more, true)
        })?;
        Some(Effect::Credit(changed))
    }

    /// What closed, and what must be remembered.
    pub(super) fn drain(&mut self, model: &Model, now: Duration, drained: &mut Drained) {
        let window = model.feedback.iter().find(|feedback| self.is_of(feedback)).map(|one| one.window);
        self.sessions.close(&self.config.credit, now);
        let rankers: Vec<usize> = self.config.rankers().collect();
        for (epoch, by_ranker) in self.sessions.voted() {
            let mut votes = vec![Default::default(); model.variants.len()];
            for (ranker, of) in rankers.iter().zip(by_ranker).skip(1) {
                if let Some(place) = votes.get_mut(*ranker) {
                    *place = of;
                }
            }
            let (model, revision) = (Arc::clone(&model.name), model.revision);
            drained.ballots.push(Ballot { model, revision, epoch, votes });
        }
        drained.kept.extend(self.sessions.kept(window.unwrap_or_default()));
        if let Some(shown) = &self.shown {
            shown.expire(now);
            drained.kept.extend(shown.kept());
        }
    }
}

const ELSEWHERE: &str = "for another replica answered, or it was forgotten";

fn whose(prediction: &Prediction) -> Whose {
    let made = prediction.made();
    let alone = (prediction.uuid.as_u128() >> 64) as u64 ^ prediction.uuid.as_u128() as u64;
    Whose {
        who: prediction.unit.unwrap_or(alone),
        unit: prediction.unit.is_some(),
        bucket: prediction.bucket,
        epoch: prediction.epoch,
        made,
    }
}

#[cfg(test)]
mod tests;
