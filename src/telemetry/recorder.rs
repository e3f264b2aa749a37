//! One worker's way to telemetry: counts always, and hands an outcome on only where somebody wants its span.
//!
//! A span is wanted where the trace is sampled, where the call failed by a server's or the sidecar's fault and errors
//! are kept, or where it was slower than the bound. Everything else ends here, in a few dozen plain additions. An
//! outcome is handed on without waiting and without waking anybody: the exporter looks by itself. A full queue is
//! counted, and nothing but the span is lost.

use std::cell::{Ref, RefCell};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use crossbeam_queue::ArrayQueue;
use http::HeaderMap;
use rand::Rng;

use super::copies::Pairs;
use super::counter::{Counter, Counters};
use super::propagate::Propagator;
use super::shard::{InFlight, Series, Shard};
use crate::config::Model;
use crate::config::units::Percent;
use crate::fault::Blame;
use crate::log;
use crate::outcome::{Outcome, Trace};
use crate::shadow::pair::Pair;

/// Outcomes of one worker that wait for the exporter. In boxes, for a queue touches all its places when it is made: as
/// they are they would take a megabyte of each worker that never makes a span.
pub(super) type Queue = ArrayQueue<Box<Outcome>>;

/// Outcomes that may wait, per worker; the exporter looks every few milliseconds.
pub(super) const QUEUE: usize = 2048;

/// What a worker does with trace context and with outcomes; replaced as a whole at a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How trace context is read and written.
    pub propagator: Propagator,
    /// Keep the spans of calls that failed by a server's or the sidecar's fault, those that the baseline answered too.
    pub keep_errors: bool,
    /// Keep the spans of calls that took longer.
    pub keep_slower_than: Option<Duration>,
    /// Keep the spans of calls that a shadow answered differently.
    pub keep_disagreements: bool,
}

impl Rules {
    /// Whether the span of a call is wanted, whatever its copies show.
    pub fn want(&self, outcome: &Outcome) -> bool {
        self.propagator.recording
            && (outcome.trace.sampled
                || self.keep_errors && failed(outcome)
                || self.keep_slower_than.is_some_and(|bound| outcome.latency.total > bound))
    }

    /// Whether it may be wanted by what its copies show.
    fn may_want(&self, outcome: &Outcome) -> bool {
        self.propagator.recording && self.keep_disagreements && outcome.copies > 0
    }
}

/// Whether a server or the sidecar failed, be it that another server answered instead. What both variants refuse is the
/// caller's own mistake.
fn failed(outcome: &Outcome) -> bool {
    let rescued = outcome.fallback.is_some() && outcome.blame != Blame::Rejection;
    rescued || matches!(outcome.blame, Blame::Upstream | Blame::Sidecar)
}

/// What a worker holds of telemetry. It may be moved to the worker's thread, but not shared.
#[derive(Debug)]
pub struct Recorder {
    shard: Arc<Shard>,
    unrouted: Arc<Series>,
    queue: Arc<Queue>,
    pairs: Arc<Pairs>,
    rules: RefCell<Cache<Arc<ArcSwap<Rules>>, Arc<Rules>>>,
    counters: Arc<Counters>,
    /// Where every outcome goes that is logged, whether or not its span is wanted.
    log: Option<log::Door>,
    /// By the model's address.
    known: RefCell<Vec<Known>>,
}

/// The series of a model's variants, so that no call looks them up by name. It holds the model, so that no other can
/// take its address.
#[derive(Debug)]
struct Known {
    model: Arc<Model>,
    variants: Vec<Arc<Series>>,
}

impl Recorder {
    pub(super) fn new(
        shard: Arc<Shard>,
        (queue, pairs): (Arc<Queue>, Arc<Pairs>),
        rules: &Arc<ArcSwap<Rules>>,
        counters: Arc<Counters>,
    ) -> Self {
        Recorder {
            unrouted: shard.unrouted(),
            shard,
            queue,
            pairs,
            rules: RefCell::new(Cache::new(Arc::clone(rules))),
            counters,
            log: None,
            known: RefCell::default(),
        }
    }

    /// The same, and every outcome goes to the prediction log too, where there is one.
    pub fn with_log(self, log: Option<log::Door>) -> Self {
        Recorder { log, ..self }
    }

    /// The trace a call belongs to, see [`Propagator::extract`].
    pub fn extract(&self, headers: &HeaderMap, chance: &mut impl Rng) -> Trace {
        self.propagator().extract(headers, chance)
    }

    /// Tells one upstream attempt its trace, see [`Propagator::inject`].
    pub fn inject(&self, headers: &mut HeaderMap, trace: &Trace, span: u64) {
        self.propagator().inject(headers, trace, span);
    }

    /// A trace of its own for a copy of a call, see [`Propagator::beside`].
    pub fn beside(&self, call: &Trace, share: Option<Percent>, chance: &mut impl Rng) -> Trace {
        self.propagator().beside(call, share, chance)
    }

    /// Begins to keep the messages of a call, where they are logged.
    pub fn capture(&self, prediction: uuid::Uuid) -> Option<log::payload::Capture> {
        self.log.as_ref()?.capture(prediction)
    }

    /// The worker's counts.
    pub fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// Hands a copy that has ended to who compares its answer. False where there was no room; then it is logged as it is.
    pub fn hand_over(&self, pair: Pair) -> bool {
        let left = self.pairs.push(Box::new(pair)).err();
        if let (Some(log), Some(pair)) = (&self.log, &left) {
            log.copy(&pair.outcome);
        }
        left.is_none()
    }

    /// Says that a call is under way at a variant, until the guard is dropped. `variant` is its index in the model.
    pub fn enter(&self, model: &Arc<Model>, variant: usize) -> InFlight {
        let series = self.series(model);
        InFlight::new(Arc::clone(series.get(variant).unwrap_or(&self.unrouted)))
    }

    /// Says that a call is under way which is not routed yet, until the guard is dropped.
    pub fn enter_unrouted(&self) -> InFlight {
        InFlight::new(Arc::clone(&self.unrouted))
    }

    /// Counts a call that has ended, and hands it on where its span is wanted. Never waits.
    ///
    /// It counts for the variant that was assigned, whoever answered: else a variant that fails over would look well.
    pub fn observe(&self, outcome: Outcome) {
        match &outcome.route {
            Some(route) => {
                let series = self.series(&route.model);
                let of = |variant: usize| series.get(variant).unwrap_or(&self.unrouted);
                of(route.assigned.variant).observe(&outcome);
                if let Some(merged) = &outcome.merged {
                    of(route.assigned.variant).observe_merged(merged);
                    merged.rankers.iter().for_each(|ranker| of(ranker.variant).observe_ranking(ranker));
                }
                for attempt in &outcome.attempts {
                    of(attempt.variant).observe_attempt(attempt);
                }
            }
            None => self.unrouted.observe(&outcome),
        }
        let wanted = {
            let mut rules = self.rules.borrow_mut();
            let rules = rules.load();
            rules.want(&outcome) || rules.may_want(&outcome)
        };
        let Some(log) = &self.log else {
            if wanted && self.queue.push(Box::new(outcome)).is_err() {
                self.counters.add(Counter::OutcomesDropped);
            }
            return;
        };
        if wanted && self.queue.push(Box::new(outcome.clone())).is_err() {
            self.counters.add(Counter::OutcomesDropped);
        }
        log.call(outcome);
    }

    fn propagator(&self) -> Propagator {
        self.rules.borrow_mut().load().propagator
    }

    /// The series of a model's variants.
    fn series(&self, model: &Arc<Model>) -> Ref<'_, [Arc<Series>]> {
        let place =
            |known: &Vec<Known>| known.binary_search_by_key(&address(model), |known| address(&known.model));
        let mut found = place(&self.known.borrow());
        if found.is_err() {
            self.learn(model);
            found = place(&self.known.borrow());
        }
        let place = found.unwrap_or_else(|place| place);
        Ref::map(self.known.borrow(), |known| known.get(place).map_or(&[][..], |known| &known.variants))
    }

    /// Remembers a model, in the place of the older generation of the same name.
    fn learn(&self, model: &Arc<Model>) {
        let variants = model.variants.iter().map(|v| self.shard.series(&model.name, &v.name)).collect();
        let mut known = self.known.borrow_mut();
        known.retain(|known| known.model.name != model.name);
        known.push(Known { model: Arc::clone(model), variants });
        known.sort_by_key(|known| address(&known.model));
    }
}

fn address(model: &Arc<Model>) -> usize {
    Arc::as_ptr(model).addr()
}

#[cfg(test)]
mod tests;
