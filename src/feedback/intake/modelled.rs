//! One model's feedback: what each of its reports must be to be taken, and what it then counts for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::said::{key, mark, placed_mark, short, track_id, value};
use crate::config::{Feedback, FeedbackKind, Model, Strategy};
use crate::feedback::claims::{Claimed, Claims, Waiting};
use crate::feedback::credit::{Credits, Spot};
use crate::feedback::ledger::Entry;
use crate::feedback::rate::UNIT;
use crate::feedback::session::Heard;
use crate::feedback::shown::Exposures;
use crate::feedback::track::{Noted, Told, Track};
use crate::feedback::weigh::Who;
use crate::feedback::{Drained, Evidence, FeedbackGain, Receipt, Refusal, Report, Taken};
use crate::fleet::reports::{Batch, Found, Known};
use crate::prediction::Prediction;

/// What became of a report that was taken.
#[derive(Debug, Clone, Copy)]
pub(in crate::feedback) struct Took {
    /// Index into [`Model::feedback`].
    pub(in crate::feedback) feedback: usize,
    pub(in crate::feedback) receipt: Receipt,
    /// The slot that it is about, counted over all lists.
    pub(in crate::feedback) slot: Option<usize>,
}

/// One model's feedback.
#[derive(Debug)]
pub(in crate::feedback) struct Modelled {
    model: Arc<Model>,
    arms: Vec<usize>,
    /// The baseline's arm.
    baseline: usize,
    /// Of [`Model::feedback`]: what the strategy learns from.
    reward: Option<usize>,
    /// In the order of [`Model::feedback`].
    tracks: Vec<Track>,
    /// Who credits rankers, where it has any.
    credits: Option<Credits>,
    /// Those that wait for the store, where replicas share the rollout.
    claims: Option<Claims>,
}

impl Modelled {
    pub(in crate::feedback) fn new(
        model: &Arc<Model>,
        before: Option<Modelled>,
        (sources, shown, shared): (usize, Option<Arc<Exposures>>, bool),
    ) -> Self {
        let arms = model.arms();
        let baseline = arms.iter().position(|variant| *variant == model.baseline()).unwrap_or(0);
        let (old, credits, claims, mut known) = match before {
            Some(before) => {
                let known: HashMap<u32, Track> =
                    before.tracks.into_iter().map(|track| (track.id(), track)).collect();
                (Some(before.model), before.credits, before.claims, known)
            }
            None => (None, None, None, HashMap::new()),
        };
        let same = old.is_none_or(|old| old.revision == model.revision);
        let reward = model.strategy.reward();
        let reward = reward.and_then(|name| model.feedback.iter().position(|known| known.name == *name));
        let tracks = model.feedback.iter().map(|feedback| {
            let id = track_id(&model.name, feedback);
            let mut track = known.remove(&id).unwrap_or_else(|| Track::new(id, sources));
            if !same {
                track.begin_anew();
            }
            track.set_coarse(reward.is_some());
            track
        });
        let tracks = tracks.collect();
        let credits = Credits::new(model, credits.filter(|_| same), shown);
        let mut claims = shared.then(|| claims.unwrap_or_default());
        if let Some(claims) = claims.as_mut().filter(|_| !same) {
            claims.begin_anew();
        }
        Modelled { tracks, model: Arc::clone(model), arms, baseline, reward, credits, claims }
    }

    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(super) fn tracks_mut(&mut self) -> &mut Vec<Track> {
        &mut self.tracks
    }

    /// Who credits rankers, where it has any.
    pub(super) fn credits_mut(&mut self) -> Option<&mut Credits> {
        self.credits.as_mut()
    }

    /// Entries that it remembers.
    pub(super) fn entries(&self) -> usize {
        self.tracks.iter().map(Track::len).sum()
    }

    /// Whether a report that was taken should have taught a regression, and needs the call's context for that.
    pub(super) fn misses_context(&self, took: &Took) -> bool {
        let counts = matches!(took.receipt.evidence, Evidence::Now | Evidence::AtClose);
        let new = matches!(took.receipt.taken, Taken::First | Taken::Joined);
        self.is_contextual() && self.reward == Some(took.feedback) && counts && new
    }

    /// Whether a prediction that counts without a report teaches a regression.
    pub(super) fn tells_apart(&self, prediction: &Prediction) -> bool {
        let default = self.reward.and_then(|reward| self.model.feedback[reward].default);
        let who = Who { learns: true, ..who(&self.model, self.baseline, prediction) };
        let counts = prediction.revision == self.model.revision && who.counts();
        self.is_contextual() && default.is_some() && counts
    }

    fn is_contextual(&self) -> bool {
        let told = |stage: &Strategy| matches!(stage, Strategy::Bandit(bandit) if !bandit.context.is_empty());
        self.model.strategy.stages().any(told)
    }

    /// What predictions have shown, where that is remembered.
    pub(in crate::feedback) fn shown(&self) -> Option<&Arc<Exposures>> {
        self.credits.as_ref().and_then(Credits::shown)
    }

    /// Counts a prediction for `only` that feedback, or for all, where it has a default.
    pub(in crate::feedback) fn expose(
        &mut self,
        prediction: &Prediction,
        only: Option<&Feedback>,
        context: Option<&[f64]>,
    ) {
        let Modelled { model, tracks, baseline, reward, .. } = self;
        let who = Who { context, ..who(model, *baseline, prediction) };
        if prediction.revision != model.revision {
            return;
        }
        for (index, (track, feedback)) in tracks.iter_mut().zip(&model.feedback).enumerate() {
            let who = Who { learns: *reward == Some(index), ..who };
            let asked = only.is_none_or(|only| only.name == feedback.name);
            if asked && compares(feedback.kind) && who.counts() {
                track.expose(feedback, prediction.made(), prediction.epoch, &who);
            }
        }
    }

    /// Takes one report that came in by a source at `now`; `fits` says whether one more about a unit does. Returns
    /// which feedback it is about.
    pub(in crate::feedback) fn take(
        &mut self,
        (source, prediction, report, context): (usize, &Prediction, &Report, Option<&[f64]>),
        now: Duration,
        fits: &mut dyn FnMut(u64) -> bool,
        room: bool,
    ) -> Result<Took, Refusal> {
        let model = Arc::clone(&self.model);
        let index = find(&model, &report.name)?;
        let feedback = &model.feedback[index];
        let mut told = self.told(index, prediction, report, now)?;
        told.who.context = context;
        let place = match &self.credits {
            Some(credits) => credits.place(feedback, prediction, report)?,
            None => None,
        };
        if let Some(place) = &place {
            told.key = key(prediction.uuid, &[b"slot", &place.key()]);
            told.mark = placed_mark(feedback, prediction.uuid, report, &place.key())?;
        }
        let name = || Arc::clone(&feedback.name);
        let track = &mut self.tracks[index];
        if !track.admits(source, feedback.max_rate, now) {
            return Err(Refusal::Rate { name: name(), most: feedback.max_rate });
        }
        if prediction.unit.is_some_and(|unit| !fits(unit)) {
            return Err(Refusal::Unit { name: name(), most: UNIT });
        }
        let counts = matches!(told.evidence, Evidence::Now | Evidence::AtClose);
        if let Some(claims) = self.claims.as_ref().filter(|_| counts) {
            if claims.is_full() {
                return Err(Refusal::Away(name()));
            }
            if claims.is_at_rest(now) {
                return Err(Refusal::Full(name()));
            }
            return self.claim((index, prediction), told, place, now, room);
        }
        let before = track.value(feedback, &told);
        let (Some(credits), Some(place)) = (&mut self.credits, place) else {
            let receipt = track.take(feedback, &told, room).ok_or_else(|| Refusal::Full(name()))?;
            return Ok(Took { feedback: index, receipt, slot: None });
        };
        // Whether it is evidence is not for its own value to say, but for its session's.
        let whole = told.evidence;
        let heard = credits.hears(prediction, whole, now);
        if heard == Heard::Full {
            return Err(Refusal::Full(name()));
        }
        told.evidence = Evidence::Kind;
        let receipt = track.take(feedback, &told, room).ok_or_else(|| Refusal::Full(name()))?;
        let evidence =
            credits.take(prediction, &place, (before, &receipt, told.made, told.at), (whole, heard), now);
        let slot = slot_of(&place);
        Ok(Took { feedback: index, receipt: Receipt { evidence, ..receipt }, slot })
    }

    /// Remembers a report that would count, and lets its evidence wait until the store says what others know of it.
    fn claim(
        &mut self,
        (index, prediction): (usize, &Prediction),
        mut told: Told<'_>,
        place: Option<Spot>,
        now: Duration,
        room: bool,
    ) -> Result<Took, Refusal> {
        let Modelled { model, tracks, credits, claims, .. } = self;
        let (feedback, track) = (&model.feedback[index], &mut tracks[index]);
        let full = || Refusal::Full(Arc::clone(&feedback.name));
        let mut evidence = told.evidence;
        if let Some((credits, _)) = credits.as_ref().zip(place.as_ref()) {
            match credits.hears(prediction, evidence, now) {
                Heard::Full => return Err(full()),
                Heard::Closed => evidence = Evidence::Session,
                Heard::Open => {}
            }
            told.evidence = Evidence::Kind;
        }
        let Noted { mut receipt, before, now } = track.note(feedback, &told, room).ok_or_else(full)?;
        let slot = place.as_ref().and_then(slot_of);
        if place.is_some() {
            receipt.evidence = evidence;
        }
        let elsewhere = place.is_some() && (slot.is_none() || evidence != Evidence::AtClose);
        if let (Some(entry), Some(claims), false) = (now, claims, elsewhere)
            && (place.is_some() || !entry.expected.is_nan())
        {
            let (bin, closes) = Track::bin_of(feedback, told.made);
            claims.push(Waiting {
                track: track.id(),
                bin,
                closes,
                prediction: *prediction,
                key: told.key,
                mark: told.mark,
                join: feedback.join,
                told: Entry { value: told.value, at: told.at, expected: entry.expected },
                known: before,
                context: told.who.context.map(Into::into),
                spot: place,
            });
        }
        Ok(Took { feedback: index, receipt, slot })
    }

    /// What the store is to be told at `now`; none: nothing.
    pub(super) fn batch(&mut self, now: Duration) -> Option<Batch> {
        self.claims.as_mut()?.batch(now)
    }

    /// What became of reports that waited; none where they need not.
    pub(super) fn claimed(&self) -> Option<Claimed> {
        self.claims.as_ref().map(|claims| claims.tally)
    }

    /// What was told under that number; none of another.
    pub(super) fn told_under(&mut self, number: u64) -> Vec<Waiting> {
        self.claims.as_mut().map(|claims| claims.told(number)).unwrap_or_default()
    }

    /// Makes a report that was told evidence, by what the store found.
    pub(super) fn settle(&mut self, waiting: &Waiting, found: &Found, now: Duration) {
        let changed = match found {
            Found::First => self.settle_one(waiting, None, now),
            Found::Before(Known { value, at, expected }) => {
                let before = Entry { value: *value, at: *at, expected: *expected };
                self.settle_one(waiting, Some(before), now)
            }
            Found::Repeated | Found::Full => false,
        };
        let Some(claims) = &mut self.claims else { return };
        match (found, changed) {
            (Found::Full, _) => {
                claims.tally.full += 1;
                claims.rest(now);
            }
            (_, true) => claims.tally.counted += 1,
            (_, false) => claims.tally.repeated += 1,
        }
    }

    /// Whether it changed anything.
    fn settle_one(&mut self, waiting: &Waiting, before: Option<Entry>, now: Duration) -> bool {
        let Modelled { model, tracks, credits, baseline, reward, .. } = self;
        let current = waiting.prediction.revision == model.revision;
        let index = tracks.iter().position(|track| track.id() == waiting.track).filter(|_| current);
        let Some(index) = index else { return false };
        let (feedback, track, prediction) = (&model.feedback[index], &mut tracks[index], &waiting.prediction);
        let context = waiting.context.as_deref();
        let told = Told {
            made: prediction.made(),
            epoch: prediction.epoch,
            who: Who { learns: *reward == Some(index), context, ..who(model, *baseline, prediction) },
            key: waiting.key,
            mark: waiting.mark,
            value: waiting.told.value,
            at: waiting.told.at,
            evidence: Evidence::Now,
        };
        let Some(entry) = track.settle(feedback, &told, before, waiting.told.expected) else { return false };
        if let (Some(credits), Some(spot)) = (credits, &waiting.spot) {
            let taken = if before.is_some() { Taken::Joined } else { Taken::First };
            let receipt = Receipt { taken, evidence: Evidence::AtClose, value: Some(entry.value) };
            let heard = credits.hears(prediction, Evidence::AtClose, now);
            let told = (before.map(|before| before.value), &receipt, told.made, told.at);
            credits.take(prediction, spot, told, (Evidence::AtClose, heard), now);
        }
        true
    }

    /// The report as its feedback takes it.
    fn told<'p>(
        &self,
        index: usize,
        prediction: &'p Prediction,
        report: &Report,
        now: Duration,
    ) -> Result<Told<'p>, Refusal> {
        let feedback = &self.model.feedback[index];
        let value = value(feedback, report.value.as_ref())?;
        let made = prediction.made();
        let age = now.saturating_sub(made);
        if age > feedback.window {
            let (age, window) = (age.as_secs(), feedback.window.as_secs());
            return Err(Refusal::Late { name: Arc::clone(&feedback.name), age, window });
        }
        let who = Who { learns: self.reward == Some(index), ..who(&self.model, self.baseline, prediction) };
        let marked = self.credits.as_ref().is_some_and(|credits| credits.is_of(feedback));
        let evidence = if marked && prediction.revision != self.model.revision {
            Evidence::Revision
        } else if marked && prediction.slots.is_none() {
            Evidence::Certain
        } else if marked {
            Evidence::AtClose
        } else if !compares(feedback.kind) {
            Evidence::Kind
        } else if prediction.revision != self.model.revision {
            Evidence::Revision
        } else if !who.counts() {
            Evidence::Certain
        } else if feedback.default.is_some() {
            Evidence::AtClose
        } else {
            Evidence::Now
        };
        let at = report.at.map_or(now, Duration::from_millis).saturating_sub(made);
        Ok(Told {
            made,
            epoch: prediction.epoch,
            who,
            key: key(prediction.uuid, &[]),
            mark: if marked { None } else { mark(feedback, prediction.uuid, report)? },
            value,
            at: u32::try_from(at.as_millis()).unwrap_or(u32::MAX),
            evidence,
        })
    }

    pub(in crate::feedback) fn drain(&mut self, now: Duration, drained: &mut Drained) {
        if let Some(credits) = &mut self.credits {
            credits.drain(&self.model, now, drained);
        }
        for (track, feedback) in self.tracks.iter_mut().zip(&self.model.feedback) {
            track.close(feedback, now);
            drained.kept.extend(track.kept(feedback));
            for (epoch, mut gathered) in track.gained() {
                drained.gains.push(FeedbackGain {
                    model: Arc::clone(&self.model.name),
                    revision: self.model.revision,
                    epoch,
                    feedback: Arc::clone(&feedback.name),
                    rewards: gathered.take_rewards(),
                    variants: gathered.by_variant(&self.arms, self.model.variants.len()),
                });
            }
        }
    }
}

/// The slot of a merged list, counted over all lists.
fn slot_of(place: &Spot) -> Option<usize> {
    match place {
        Spot::Slot(slot) => Some(*slot),
        Spot::Elsewhere(_) => None,
    }
}

/// Whether values of that kind compare variants.
fn compares(kind: FeedbackKind) -> bool {
    match kind {
        FeedbackKind::Binary | FeedbackKind::Bounded { .. } | FeedbackKind::Real => true,
        FeedbackKind::Label | FeedbackKind::Clicks => false,
    }
}

fn who<'p>(model: &Model, baseline: usize, prediction: &'p Prediction) -> Who<'p> {
    Who {
        arm: usize::from(prediction.assigned),
        baseline,
        odds: &prediction.odds,
        // A call without a unit, among calls with one, is a unit of its own.
        bucket: (!model.unit.is_empty()).then_some(prediction.bucket),
        learns: false,
        context: None,
    }
}

/// The declared feedback of that name.
fn find(model: &Model, name: &str) -> Result<usize, Refusal> {
    model.feedback.iter().position(|feedback| *feedback.name == *name).ok_or_else(|| {
        let known: Vec<&str> = model.feedback.iter().map(|feedback| &*feedback.name).collect();
        let known = match known.is_empty() {
            true => "it declares none: see `feedback` in its configuration".to_owned(),
            false => format!("it declares {}", known.join(", ")),
        };
        Refusal::Name { model: Arc::clone(&model.name), name: short(name), known }
    })
}
