//! Which endpoints may get calls: set by the prober, read by every worker, asked for a second look by a worker that
//! saw an endpoint fail.
//!
//! The reason is kept as text beside the flag, for people only: no code decides by it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dashmap::DashMap;
use tokio::sync::{Notify, watch};

use crate::config::{Config, Endpoint, Model, Reporting, Strategy, Variant};
use crate::protocol::oip::ranking::Outputs;

/// What is known of one endpoint of one variant.
#[derive(Debug, Default)]
pub struct Readiness {
    ready: AtomicBool,
    changes: AtomicU64,
    why: Mutex<Option<Arc<str>>>,
    doubted: Notify,
    addresses: Mutex<Addresses>,
    moves: AtomicU64,
    cordoned: AtomicBool,
    suspected: AtomicBool,
    /// What the prober shall ask beside: 0 nothing, else one more than the place in [`QUESTIONS`].
    asked: AtomicU8,
    said: Mutex<Option<Versions>>,
    runs: Mutex<Option<Arc<str>>>,
    declared: Mutex<Option<Outputs>>,
    /// What the server says otherwise, since it is ready; none: it was not asked yet.
    mismatch: Mutex<Option<Option<Arc<str>>>>,
    /// One of each worker.
    traffic: Mutex<Vec<Weak<Traffic>>>,
}

/// Calls of one worker to one endpoint: written by that worker alone, read by others.
#[derive(Debug, Default)]
pub struct Traffic {
    under_way: AtomicUsize,
    answered: AtomicU64,
}

impl Traffic {
    /// Calls under way, those that wait for a connection too.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// A call begins. Only one thread may write, so no locked instruction is needed.
    pub fn enter(&self) {
        self.under_way.store(self.under_way() + 1, Ordering::Relaxed);
    }

    /// A call ends.
    pub fn leave(&self) {
        self.under_way.store(self.under_way() - 1, Ordering::Relaxed);
    }

    /// The server answered a call.
    pub fn answer(&self) {
        self.answered.store(self.answered.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// What a server says that it runs; empty where it says nothing.
pub type Versions = Arc<[Arc<str>]>;

/// How a server can be asked for that.
const QUESTIONS: [Reporting; 2] = [Reporting::Model, Reporting::Server];

/// What a DNS name resolves to; empty before the first look-up and where there is no name.
type Addresses = Arc<HashSet<SocketAddr>>;

impl Readiness {
    /// Whether the endpoint may get calls; false until a probe has succeeded.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says what a probe found; returns whether that is a change.
    pub fn set(&self, ready: bool) -> bool {
        let changed = self.ready.swap(ready, Ordering::Relaxed) != ready;
        if changed {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    /// How often it changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Keeps the reason for the state it is in; returns whether that is another one than before.
    pub fn explain(&self, why: &str) -> bool {
        let mut kept = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = kept.as_deref() != Some(why);
        if changed {
            *kept = Some(why.into());
        }
        changed
    }

    /// The reason for the state it is in; `None` before the first probe.
    pub fn why(&self) -> Option<Arc<str>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what the endpoint's name resolves to now.
    pub fn set_addresses(&self, found: HashSet<SocketAddr>) {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != found {
            *known = Arc::new(found);
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the addresses changed.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// What the endpoint's name resolved to at the latest look-up.
    pub fn addresses(&self) -> Arc<HashSet<SocketAddr>> {
        Arc::clone(&self.addresses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether new calls shall go elsewhere, where there is anybody else.
    pub fn is_cordoned(&self) -> bool {
        self.cordoned.load(Ordering::Relaxed)
    }

    /// Lets new calls go elsewhere, or come again.
    pub fn set_cordoned(&self, cordoned: bool) {
        self.cordoned.store(cordoned, Ordering::Relaxed);
    }

    /// Whether its server answers neither probes nor calls just now, so that calls go elsewhere where there is anybody else.
    pub fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Relaxed)
    }

    /// Says whether its server is silent; returns whether that is a change.
    pub fn suspect(&self, suspected: bool) -> bool {
        self.suspected.swap(suspected, Ordering::Relaxed) != suspected
    }

    /// Has the prober ask the server what it runs, at each probe from now on.
    pub fn ask(&self, report: Reporting) {
        let place = QUESTIONS.iter().position(|known| *known == report).map_or(0, |place| place + 1);
        let place = u8::try_from(place).unwrap_or(0);
        if self.asked.swap(place, Ordering::Relaxed) != place {
            self.doubt();
        }
    }

    /// How the server is to be asked what it runs; none: it is not.
    pub fn question(&self) -> Option<Reporting> {
        let place = usize::from(self.asked.load(Ordering::Relaxed)).checked_sub(1)?;
        QUESTIONS.get(place).copied()
    }

    /// Keeps what the server said that it runs; none: it is not known any more.
    pub fn hear(&self, versions: Option<Versions>) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }

    /// What the server said that it runs, since it is ready.
    pub fn said(&self) -> Option<Versions> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which version the server runs, where servers are replaced in place; none: it is not known.
    pub fn set_runs(&self, version: Option<Arc<str>>) {
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// Which version the server runs, as far as that is known.
    pub fn runs(&self) -> Option<Arc<str>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which outputs its answers must have; none: any.
    pub fn declare(&self, outputs: Option<&Outputs>) {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.as_ref() != outputs {
            *declared = outputs.cloned();
            drop(declared);
            self.set_mismatch(None);
            self.doubt();
        }
    }

    /// Which outputs its answers must have, where the server was not asked yet whether they do.
    pub fn unasked(&self) -> Option<Outputs> {
        let asked = self.mismatch.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.clone().filter(|_| !asked)
    }

    /// Keeps what the server's metadata says otherwise; none: that is not known any more.
    pub fn set_mismatch(&self, mismatch: Option<Option<Arc<str>>>) {
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner) = mismatch;
    }

    /// What the server's own metadata says otherwise than the file, where anything.
    pub fn mismatch(&self) -> Option<Arc<str>> {
        self.mismatch.lock().unwrap_or_else(PoisonError::into_inner).clone().flatten()
    }

    /// A new count of one worker's calls there, which that worker alone writes.
    pub fn traffic(&self) -> Arc<Traffic> {
        let own = Arc::default();
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.retain(|known| known.strong_count() > 0);
        traffic.push(Arc::downgrade(&own));
        own
    }

    /// Calls under way there, over all workers.
    pub fn in_flight(&self) -> usize {
        self.sum(|traffic| traffic.under_way())
    }

    /// Calls that the server answered, over all workers that are there now.
    pub fn answered(&self) -> u64 {
        self.sum(|traffic| traffic.answered.load(Ordering::Relaxed))
    }

    fn sum<N: std::iter::Sum>(&self, of: impl Fn(&Traffic) -> N) -> N {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.iter().filter_map(Weak::upgrade).map(|one| of(&one)).sum()
    }

    /// Asks the prober to look at once, for calls to the endpoint fail.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until somebody doubts it.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }
}

/// An endpoint as a variant's server: the same address may hold one model and not another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is reached.
    pub endpoint: Endpoint,
    /// What the server calls the model.
    pub model: Arc<str>,
    /// The version it is asked for; empty where none is.
    pub version: Arc<str>,
}

impl Target {
    /// `endpoint` as a server of that variant of that model.
    pub fn new(model: &Model, variant: &Variant, endpoint: &Endpoint) -> Self {
        Target {
            endpoint: endpoint.clone(),
            model: Arc::clone(variant.model_name.as_ref().unwrap_or(&model.name)),
            version: variant.model_version.clone().unwrap_or_default(),
        }
    }

    /// Which outputs the answers of that variant must have, by its model's strategy.
    pub fn outputs<'m>(model: &'m Model, variant: &Variant) -> Option<&'m Outputs> {
        let Strategy::Interleave(interleave) = &model.strategy else { return None };
        let asked = interleave
            .rankers()
            .any(|index| model.variants.get(index).is_some_and(|known| known.name == variant.name));
        asked.then_some(&interleave.outputs)
    }

    /// All of a configuration, with the model and the variant that each serves.
    pub fn all(config: &Config) -> impl Iterator<Item = (&Model, &Variant, Target)> {
        config.models.iter().flat_map(|model| {
            model.variants.iter().flat_map(move |variant| {
                let target = move |endpoint| (&**model, variant, Target::new(model, variant, endpoint));
                variant.endpoints.iter().map(target)
            })
        })
    }

    /// Those of controls that are no variant of their model: looked at as all others are.
    pub fn controls(config: &Config) -> impl Iterator<Item = (&Model, &Variant, Target)> {
        config.models.iter().flat_map(|model| {
            let judging = model.shadows.iter().filter_map(|shadow| shadow.judging.as_ref());
            let controls = judging.filter_map(|judging| judging.control.as_ref());
            controls.filter(|control| control.index.is_none()).flat_map(move |control| {
                let variant = &control.variant;
                let target = move |endpoint| (&**model, variant, Target::new(model, variant, endpoint));
                variant.endpoints.iter().map(target)
            })
        })
    }
}

/// Every target's readiness, kept over reloads as long as a target stays in the configuration.
#[derive(Debug, Default)]
pub struct Board {
    targets: DashMap<Target, Arc<Readiness>>,
    /// By model: who has all its calls, where that is not for the file alone to say.
    answering: DashMap<Arc<str>, Arc<str>>,
    changed: watch::Sender<()>,
}

impl Board {
    /// The readiness of `target`, new and not ready where it was not known.
    pub fn get(&self, target: &Target) -> Arc<Readiness> {
        if let Some(known) = self.targets.get(target) {
            return Arc::clone(&known);
        }
        Arc::clone(&self.targets.entry(target.clone()).or_default())
    }

    /// The readiness of `target`, where somebody asked for it before.
    pub fn find(&self, target: &Target) -> Option<Arc<Readiness>> {
        self.targets.get(target).map(|known| Arc::clone(&known))
    }

    /// Forgets all targets that `keep` refuses and that nobody holds: whoever took one for a newer configuration,
    /// which the caller has not seen yet, must go on seeing its changes.
    pub fn retain(&self, keep: impl Fn(&Target) -> bool) {
        self.targets.retain(|target, readiness| keep(target) || Arc::strong_count(readiness) > 1);
    }

    /// Says which variant has all calls of `model`.
    pub fn set_answering(&self, model: &Arc<str>, variant: &Arc<str>) {
        if self.answering.get(model).is_none_or(|known| *known != *variant) {
            self.answering.insert(Arc::clone(model), Arc::clone(variant));
        }
    }

    /// Which variant has all calls of `model`, where that was said.
    pub fn answering(&self, model: &str) -> Option<Arc<str>> {
        self.answering.get(model).map(|known| Arc::clone(&known))
    }

    /// Tells those who watch that some target's state is another one.
    pub fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Sees every later [`Board::announce`].
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    fn target(port: u16) -> Target {
        let address = Address::Tcp { host: "127.0.0.1".into(), port };
        Target {
            endpoint: Endpoint { address, hop: false, tls: None },
            model: "m".into(),
            version: "".into(),
        }
    }

    #[test]
    fn forgetting_spares_what_is_held() {
        let board = Board::default();
        let held = board.get(&target(1));
        held.set(true);
        drop(board.get(&target(2)));
        board.retain(|_| false);
        assert!(Arc::ptr_eq(&held, &board.get(&target(1))));
        assert!(board.find(&target(2)).is_none());
    }

    #[test]
    fn changes_are_told_apart_from_repetitions() {
        let readiness = Readiness::default();
        assert!(!readiness.set(false) && readiness.set(true) && !readiness.set(true) && readiness.set(false));
        assert_eq!(readiness.changes(), 2);
        assert!(readiness.explain("a") && !readiness.explain("a") && readiness.explain("b"));
        assert_eq!(readiness.why().as_deref(), Some("b"));
    }
}
