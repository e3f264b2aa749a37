//! Where reports come in: who reports what about which prediction is checked here, in this order: the id, its model,
//! the name, the value, the window, the rates; and then it counts.
//!
//! One for the process, behind one lock that is held for a few microseconds: reports are far fewer than calls, and no
//! call waits for it. Predictions that count without a report come by a queue of their worker's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::contexts::Contexts;
use super::kept::Place;
use super::rate::Units;
use super::shown::Exposures;
use super::{Claimed, Door, Drained, Exposed, Receipt, Refusal, Report, ledger, lock};
use crate::config::{By, Config, Model, Strategy};
use crate::fleet::reports::{Batch, Found};
use crate::keys::Keys;
use crate::outcome::Trace;
use crate::prediction::{self, Prediction};
use crate::telemetry::feedback::{Lost, Seen, Side};

mod modelled;
mod said;

pub(super) use modelled::{Modelled, Took};
pub(super) use said::key;

/// Bytes that the ledgers of all feedback may take together.
pub const BYTES: usize = 64 << 20;

/// Reports that are settled while the lock is held.
const AT_ONCE: usize = 128;

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
            Ok((prediction, model, Took { feedback, receipt, slot })) => {
                self.side.count(&model.name, &model.feedback[feedback].name, &receipt);
                let value = report.value.clone();
                self.side.see(Seen { prediction, model, feedback, value, receipt, slot, at: now }, trace);
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
    ) -> Result<(Prediction, Arc<Model>, Took), Refusal> {
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
        let took = modelled.take(about, now, &mut fits, room)?;
        if context.is_none() && modelled.misses_context(&took) {
            self.side.lose_contexts(Lost::Unknown, 1);
        }
        Ok((prediction, Arc::clone(modelled.model()), took))
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
                let context = self.contexts.of(prediction.uuid);
                if state.expose(prediction, context.as_deref()) && context.is_none() {
                    self.side.lose_contexts(Lost::Unknown, 1);
                }
            }
        }
        let mut drained = Drained::default();
        for modelled in state.models.values_mut() {
            modelled.drain(now, &mut drained);
        }
        self.side.lose_contexts(Lost::NoRoom, self.contexts.take_lost());
        drained.kept.extend(self.contexts.kept(now));
        self.side.remember(state.entries() * ledger::BYTES);
        self.side.remember_shown(state.shown.values().map(|shown| shown.bytes()).sum());
        drained
    }

    /// What the store that replicas share is to be told of a model's reports; none: nothing waits for it.
    pub fn batch(&self, model: &str) -> Option<Batch> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        lock(&self.state).models.get_mut(&prediction::rollout(model))?.batch(now)
    }

    /// Makes the batch of that number evidence, by what the store found of each.
    pub fn settle(&self, model: &str, number: u64, found: &[Found]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let model = prediction::rollout(model);
        let told = lock(&self.state).models.get_mut(&model).map(|modelled| modelled.told_under(number));
        let all: Vec<_> = told.unwrap_or_default().into_iter().zip(found).collect();
        // Reports that come meanwhile do not wait for all of them.
        for some in all.chunks(AT_ONCE) {
            let mut state = lock(&self.state);
            let Some(modelled) = state.models.get_mut(&model) else { return };
            some.iter().for_each(|(waiting, found)| modelled.settle(waiting, found, now));
        }
    }

    /// What became of a model's reports that waited for that store; none where they need not.
    pub fn claimed(&self, model: &str) -> Option<Claimed> {
        lock(&self.state).models.get(&prediction::rollout(model))?.claimed()
    }

    /// Takes back what an earlier process kept. To be called before reports come.
    pub fn restore(&self, key: &[u8; 16], value: &[u8]) {
        let place = Place::read(key);
        if self.contexts.track() == place.track {
            return self.contexts.restore(place, value);
        }
        let mut state = lock(&self.state);
        if let Some(shown) = state.shown.values().find(|shown| shown.track() == place.track) {
            return shown.restore(place, value);
        }
        let credits = state.models.values_mut().filter_map(|modelled| modelled.credits_mut());
        if let Some(credits) = credits.into_iter().find(|credits| credits.track() == place.track) {
            return credits.restore(value);
        }
        let mut tracks = state.models.values_mut().flat_map(Modelled::tracks_mut);
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
                let shared = config.fleet.is_some() && model.strategy.is_shared();
                (id, Modelled::new(model, before.remove(&id), (sources, shown, shared)))
            })
            .collect();
    }

    fn entries(&self) -> usize {
        self.models.values().map(Modelled::entries).sum()
    }

    fn room(&self) -> bool {
        self.entries() * ledger::BYTES < BYTES
    }

    /// Counts a prediction that was told to a caller; whether it should have had a context.
    fn expose(&mut self, prediction: &Prediction, context: Option<&[f64]>) -> bool {
        let Some(modelled) = self.models.get_mut(&prediction.rollout) else { return false };
        modelled.expose(prediction, None, context);
        modelled.tells_apart(prediction)
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
