//! Where reports come in: who reports what about which prediction is checked here, in this order: the id, its model,
//! the name, the value, the window, the rates; and then it counts.
//!
//! One for the process, behind one lock that is held for a few microseconds: reports are far fewer than calls, and no
//! call waits for it. Predictions that count without a report come by a queue of their worker's own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::Uuid;

use super::contexts::Contexts;
use super::credit::Credits;
use super::kept::Place;
use super::rate::{UNIT, Units};
use super::session::Heard;
use super::shown::Exposures;
use super::track::{Told, Track, needs_mark};
use super::weigh::Who;
use super::{Door, Drained, Evidence, Exposed, FeedbackGain, MAX_WORD, Receipt, Refusal, Report, Value};
use super::{ledger, lock};
use crate::config::{By, Config, Feedback, FeedbackKind, Join, Model, Strategy};
use crate::keys::Keys;
use crate::outcome::Trace;
use crate::prediction::{self, Prediction};
use crate::telemetry::feedback::{Seen, Side};

/// Bytes that the ledgers of all feedback may take together.
pub const BYTES: usize = 64 << 20;

/// Beyond it sums of squares would be none any more.
const MAX_NUMBER: f64 = 1e100;

/// The way in, and what is kept of all feedback.
#[derive(Debug)]
pub struct Intake {
    keys: Arc<Keys>,
    config: watch::Receiver<Arc<Config>>,
    side: Arc<Side>,
    exposed: Vec<Arc<Mutex<Exposed>>>,
    contexts: Contexts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<Config>,
    /// By [`prediction::rollout`] of their names.
    models: HashMap<u64, Modelled>,
    /// By model; they outlive a reload.
    shown: HashMap<Arc<str>, Arc<Exposures>>,
    longest: Duration,
    units: Units,
    sources: usize,
}

/// One model's feedback.
#[derive(Debug)]
pub(super) struct Modelled {
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
}

impl Intake {
    /// For as many workers, and the admin port.
    pub fn new(
        keys: Arc<Keys>,
        config: watch::Receiver<Arc<Config>>,
        side: Arc<Side>,
        workers: usize,
    ) -> Arc<Self> {
        let sources = workers + 1;
        let now = Arc::clone(&config.borrow());
        let mut state = State {
            config: Arc::clone(&now),
            models: HashMap::new(),
            shown: HashMap::new(),
            longest: Duration::ZERO,
            units: Units::default(),
            sources,
        };
        state.follow(&now);
        let exposed = (0..sources).map(|_| Arc::default()).collect();
        let contexts = Contexts::default();
        Arc::new(Intake { keys, config, side, exposed, contexts, state: Mutex::new(state) })
    }

    /// The way in of that worker, counted from 0, or of the admin port: the number of workers.
    pub fn door(self: &Arc<Self>, source: usize) -> Door {
        let exposed = self.exposed.get(source).map(Arc::clone).unwrap_or_default();
        Door { intake: Arc::clone(self), source, exposed }
    }

    /// Keeps what a prediction's call was told apart by.
    pub(super) fn remember(&self, prediction: &Prediction, context: Box<[f64]>) {
        let config = self.config.borrow();
        let model = config.models.iter().find(|model| prediction::rollout(&model.name) == prediction.rollout);
        let window = model.and_then(|model| {
            let name = model.strategy.reward()?;
            model.feedback.iter().find(|feedback| feedback.name == *name).map(|feedback| feedback.window)
        });
        if let Some(window) = window {
            let until = prediction.made().saturating_add(window).saturating_add(prediction::GRACE);
            self.contexts.keep(prediction.uuid, context, until);
        }
    }

    /// What the model's calls have shown, where its strategy needs that: the same one as long as the process lives.
    pub fn shown(&self, model: &Model) -> Option<Arc<Exposures>> {
        exposures(model, &mut lock(&self.state).shown)
    }

    /// Takes one report that came in by `source`.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(super) fn report(
        &self,
        source: usize,
        report: &Report,
        trace: Option<&Trace>,
    ) -> Result<Receipt, Refusal> {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let taken = self.take(source, report, since);
        match taken {
            Ok((prediction, model, feedback, receipt)) => {
                self.side.count(&model.name, &model.feedback[feedback].name, &receipt);
                self.side.see(
                    Seen { prediction, model, feedback, value: report.value.clone(), receipt, at: now },
                    trace,
                );
                Ok(receipt)
            }
            Err(refusal) => {
                self.side.refuse(&refusal);
                Err(refusal)
            }
        }
    }

    fn take(
        &self,
        source: usize,
        report: &Report,
        now: Duration,
    ) -> Result<(Prediction, Arc<Model>, usize, Receipt), Refusal> {
        let config = Arc::clone(&self.config.borrow());
        let mut state = lock(&self.state);
        state.follow(&config);
        let longest = state.longest + prediction::GRACE;
        let prediction = Prediction::open(&report.prediction, &self.keys, now, longest)?;
        let room = state.room();
        let State { models, units, .. } = &mut *state;
        let modelled = models.get_mut(&prediction.rollout).ok_or(Refusal::Model)?;
        let mut fits = |unit| units.take(unit, now);
        let context = self.contexts.of(prediction.uuid);
        let about = (source, &prediction, report, context.as_deref());
        let (index, receipt) = modelled.take(about, now, &mut fits, room)?;
        Ok((prediction, Arc::clone(&modelled.model), index, receipt))
    }

    /// What was gained and must be kept since the last time. To be called every second or so.
    pub fn drain(&self) -> Drained {
        self.drain_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    pub(super) fn drain_at(&self, now: Duration) -> Drained {
        let waiting: Vec<Exposed> =
            self.exposed.iter().map(|exposed| std::mem::take(&mut *lock(exposed))).collect();
        let config = Arc::clone(&self.config.borrow());
        let mut state = lock(&self.state);
        state.follow(&config);
        for exposed in waiting {
            self.side.lose(exposed.lost);
            for prediction in &exposed.waiting {
                state.expose(prediction, self.contexts.of(prediction.uuid).as_deref());
            }
        }
        let mut drained = Drained::default();
        for modelled in state.models.values_mut() {
            modelled.drain(now, &mut drained);
        }
        self.side.lose(self.contexts.take_lost());
        self.contexts.forget(now);
        self.side.remember(state.entries() * ledger::BYTES);
        self.side.remember_shown(state.shown.values().map(|shown| shown.bytes()).sum());
        drained
    }

    /// Takes back what an earlier process kept. To be called before reports come.
    pub fn restore(&self, key: &[u8; 16], value: &[u8]) {
        let place = Place::read(key);
        let mut state = lock(&self.state);
        if let Some(shown) = state.shown.values().find(|shown| shown.track() == place.track) {
            return shown.restore(place, value);
        }
        let credits = state.models.values_mut().filter_map(|modelled| modelled.credits.as_mut());
        if let Some(credits) = credits.into_iter().find(|credits| credits.track() == place.track) {
            return credits.restore(value);
        }
        let mut tracks = state.models.values_mut().flat_map(|modelled| &mut modelled.tracks);
        if let Some(track) = tracks.find(|track| track.id() == place.track) {
            track.restore(place, value);
        }
    }
}

impl State {
    /// Goes on with another configuration: what is declared as before keeps what it knows.
    fn follow(&mut self, config: &Arc<Config>) {
        if Arc::ptr_eq(&self.config, config) && !self.models.is_empty() {
            return;
        }
        self.config = Arc::clone(config);
        let mut before = std::mem::take(&mut self.models);
        let windows = config.models.iter().flat_map(|model| &model.feedback).map(|feedback| feedback.window);
        self.longest = windows.max().unwrap_or_default();
        let (sources, shown) = (self.sources, &mut self.shown);
        self.models = config
            .models
            .iter()
            .map(|model| {
                let id = prediction::rollout(&model.name);
                let shown = exposures(model, shown);
                (id, Modelled::new(model, before.remove(&id), (sources, shown)))
            })
            .collect();
    }

    fn entries(&self) -> usize {
        self.models.values().flat_map(|modelled| &modelled.tracks).map(Track::len).sum()
    }

    fn room(&self) -> bool {
        self.entries() * ledger::BYTES < BYTES
    }

    fn expose(&mut self, prediction: &Prediction, context: Option<&[f64]>) {
        let Some(modelled) = self.models.get_mut(&prediction.rollout) else { return };
        modelled.expose(prediction, None, context);
    }
}

impl Modelled {
    pub(super) fn new(
        model: &Arc<Model>,
        before: Option<Modelled>,
        (sources, shown): (usize, Option<Arc<Exposures>>),
    ) -> Self {
        let arms = model.arms();
        let baseline = arms.iter().position(|variant| *variant == model.baseline()).unwrap_or(0);
        let (old, credits, mut known) = match before {
            Some(before) => {
                let known: HashMap<u32, Track> =
                    before.tracks.into_iter().map(|track| (track.id(), track)).collect();
                (Some(before.model), before.credits, known)
            }
            None => (None, None, HashMap::new()),
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
        Modelled { tracks, model: Arc::clone(model), arms, baseline, reward, credits }
    }

    /// What predictions have shown, where that is remembered.
    pub(super) fn shown(&self) -> Option<&Arc<Exposures>> {
        self.credits.as_ref().and_then(Credits::shown)
    }

    /// Counts a prediction for `only` that feedback, or for all, where it has a default.
    pub(super) fn expose(
        &mut self,
        prediction: &Prediction,
        only: Option<&Feedback>,
        context: Option<&[f64]>,
    ) {
        let Modelled { model, tracks, baseline, reward, .. } = self;
        let who = Who { context, ..who(model, *baseline, prediction) };
        if prediction.revision != model.revision || !who.counts() {
            return;
        }
        for (index, (track, feedback)) in tracks.iter_mut().zip(&model.feedback).enumerate() {
            if compares(feedback.kind) && only.is_none_or(|only| only.name == feedback.name) {
                let who = Who { learns: *reward == Some(index), ..who };
                track.expose(feedback, prediction.made(), prediction.epoch, &who);
            }
        }
    }

    /// Takes one report that came in by a source at `now`; `fits` says whether one more about a unit does. Returns
    /// which feedback it is about.
    pub(super) fn take(
        &mut self,
        (source, prediction, report, context): (usize, &Prediction, &Report, Option<&[f64]>),
        now: Duration,
        fits: &mut dyn FnMut(u64) -> bool,
        room: bool,
    ) -> Result<(usize, Receipt), Refusal> {
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
        let before = track.value(feedback, &told);
        let (Some(credits), Some(place)) = (&mut self.credits, place) else {
            let receipt = track.take(feedback, &told, room).ok_or_else(|| Refusal::Full(name()))?;
            return Ok((index, receipt));
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
        Ok((index, Receipt { evidence, ..receipt }))
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

    pub(super) fn drain(&mut self, now: Duration, drained: &mut Drained) {
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

/// What a model's calls have shown, where its strategy needs that; those that are known go on.
fn exposures(model: &Model, known: &mut HashMap<Arc<str>, Arc<Exposures>>) -> Option<Arc<Exposures>> {
    let Strategy::Interleave(interleave) = &model.strategy else { return None };
    if interleave.credit.by == By::Slot && interleave.draft.is_none() {
        return None;
    }
    let most = interleave.credit.memory.0;
    let shown = known.entry(Arc::clone(&model.name)).or_insert_with(|| Exposures::new(&model.name, most));
    shown.bound(most);
    Some(Arc::clone(shown))
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

/// The value as a number; of a label the bits of its hash.
fn value(feedback: &Feedback, value: Option<&Value>) -> Result<f64, Refusal> {
    let refuse = |value: String, wrong| {
        let kind = in_words(feedback.kind);
        Err(Refusal::Value { name: Arc::clone(&feedback.name), value, wrong, kind })
    };
    match (feedback.kind, value) {
        (_, None) => refuse("the value".to_owned(), "is missing"),
        (FeedbackKind::Label, Some(Value::Label(label))) if label.is_empty() => {
            refuse("\"\"".to_owned(), "is empty")
        }
        (FeedbackKind::Label, Some(Value::Label(label))) if label.len() > MAX_WORD => {
            refuse(format!("{:?}", short(label)), "is longer than 256 bytes")
        }
        (FeedbackKind::Label, Some(Value::Label(label))) => {
            Ok(f64::from_bits(hash(&[label.as_bytes()]) >> 2))
        }
        (_, Some(Value::Label(label))) => refuse(format!("{:?}", short(label)), "is a word"),
        (kind, Some(Value::Number(number))) => match kind.admits(*number) {
            Ok(()) if number.abs() > MAX_NUMBER => refuse(number.to_string(), "is beyond 1e100"),
            Ok(()) => Ok(*number),
            Err(wrong) => refuse(number.to_string(), wrong),
        },
    }
}

fn in_words(kind: FeedbackKind) -> String {
    let mut words = kind.name().to_owned();
    let written = match kind {
        FeedbackKind::Binary => write!(words, ": 0 or 1"),
        FeedbackKind::Bounded { min, max } => write!(words, ": {min} to {max}"),
        FeedbackKind::Real | FeedbackKind::Clicks => write!(words, ": a finite number"),
        FeedbackKind::Label => write!(words, ": a word"),
    };
    // Writing to a String cannot fail.
    let _ = written;
    words
}

/// What tells a report from others about its prediction, where that must be remembered: the first and the largest are
/// the same however often they are sent.
fn mark(feedback: &Feedback, uuid: Uuid, report: &Report) -> Result<Option<u64>, Refusal> {
    if report.id.len() > MAX_WORD {
        return Err(Refusal::Value {
            name: Arc::clone(&feedback.name),
            value: format!("id {:?}", short(&report.id)),
            wrong: "is longer than 256 bytes",
            kind: in_words(feedback.kind),
        });
    }
    let at = report.at.map(u64::to_be_bytes);
    match (feedback.join, report.id.is_empty(), at) {
        (Join::Sum | Join::Last, false, _) => Ok(Some(key(uuid, &[b"id", report.id.as_bytes()]))),
        (Join::Sum, true, Some(at)) => Ok(Some(key(uuid, &[b"at", &at]))),
        (join, true, None) if needs_mark(join) => Err(Refusal::Anonymous(Arc::clone(&feedback.name))),
        _ => Ok(None),
    }
}

/// The same of a report about a slot, of which there is one at most that has no id and no time of its own.
fn placed_mark(
    feedback: &Feedback,
    uuid: Uuid,
    report: &Report,
    place: &[u8],
) -> Result<Option<u64>, Refusal> {
    if feedback.join == Join::Sum && report.id.is_empty() {
        let at = report.at.map(u64::to_be_bytes).unwrap_or_default();
        return Ok(Some(key(uuid, &[b"place", place, &at])));
    }
    let mark = mark(feedback, uuid, report)?;
    Ok(mark.map(|mark| hash(&[&mark.to_be_bytes(), place]) >> 1))
}

/// What a feedback is known by on disk: another one where a value would mean something else.
fn track_id(model: &str, feedback: &Feedback) -> u32 {
    let Feedback { name, kind, window, default, join, max_rate: _ } = feedback;
    let said = format!("{model:?} {name:?} {kind:?} {window:?} {default:?} {join:?}");
    (hash(&[said.as_bytes()]) >> 32) as u32
}

/// The highest bit is not set: that is for bins.
pub(super) fn key(uuid: Uuid, parts: &[&[u8]]) -> u64 {
    let mut all = vec![&uuid.as_bytes()[..]];
    all.extend_from_slice(parts);
    hash(&all) >> 1
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The beginning of what somebody sent.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
