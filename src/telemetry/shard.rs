//! What one worker has counted, by model and variant: evidence first, metrics second.
//!
//! One thread writes a block, any thread may read it, so an addition is a plain load and store and nothing is ever
//! lost because a queue was full. A reader may see one call half counted; sums are never wrong for longer than that.
//!
//! Labels are bounded: models and variants come from the configuration alone, never from what a caller says. A call that
//! was never routed counts for the series without names, and so does whatever a worker meets beyond
//! [`SERIES_LIMIT`] pairs, which only years of reloads can reach.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::counter::Counters;
use super::shadow;
use crate::assignment::Reason;
use crate::fault::{Blame, Code};
use crate::outcome::merged::{Dropped, Merged, Ranker, Unanalysed};
use crate::outcome::{Attempt, Fallback, Outcome};

/// Pairs of model and variant that a worker counts apart.
pub const SERIES_LIMIT: usize = 4096;

/// Upper bounds of the latency buckets; there is one more bucket for what is longer than the last.
pub const BOUNDS: [Duration; 19] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Status codes counted apart: the 17 of the specification, and all others together.
pub const CODES: usize = 18;

/// A count that one thread adds to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// For what goes up and down.
    pub(super) fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations, by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Histogram {
    pub(crate) fn add(&self, duration: Duration) {
        self.buckets[bucket(duration)].add(1);
        self.nanoseconds.add(nanoseconds(duration));
    }

    /// How many fell into each bucket, not added up.
    pub fn buckets(&self) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|index| self.buckets[index].get())
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }
}

/// The bucket a duration falls into: the first whose bound it does not exceed.
pub fn bucket(duration: Duration) -> usize {
    const NANOSECONDS: [u64; BOUNDS.len()] = {
        let mut bounds = [0; BOUNDS.len()];
        let mut at = 0;
        while at < bounds.len() {
            bounds[at] = nanoseconds(BOUNDS[at]);
            at += 1;
        }
        bounds
    };
    let duration = nanoseconds(duration);
    NANOSECONDS.partition_point(|bound| *bound < duration)
}

/// As many as 64 bits hold, which is 584 years.
const fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

/// What was counted for one model and variant by one worker.
#[derive(Debug, Default)]
pub struct Series {
    calls: [[Count; Blame::ALL.len()]; CODES],
    reasons: [Count; Reason::ALL.len()],
    attempts: [Count; Blame::ALL.len()],
    fallbacks: [Count; Fallback::ALL.len()],
    /// Calls that several were asked for, and this one as the baseline: evidence, and why not.
    interleaved: [Count; Unanalysed::ALL.len() + 1],
    /// Rankings that this one was asked for: in the answer, and why not.
    rankings: [Count; Dropped::ALL.len() + 1],
    duplicates: Count,
    entered: Count,
    left: Count,
    /// Headers read to the end of the response.
    pub total: Histogram,
    /// Each attempt, from its start to its end.
    pub upstream: Histogram,
    /// What the sidecar added; calls of which something was sent upstream.
    pub own: Histogram,
    /// Message bytes from callers.
    pub request_bytes: Count,
    /// Message bytes to callers.
    pub response_bytes: Count,
    /// Messages from callers.
    pub request_messages: Count,
    /// Messages to callers.
    pub response_messages: Count,
}

impl Series {
    /// Adds a call. Its attempts are added by [`Series::observe_attempt`], each to its own variant.
    ///
    /// Only the worker that owns the shard may do so.
    pub(super) fn observe(&self, outcome: &Outcome) {
        let code = (outcome.status.0 as usize).min(CODES - 1);
        self.calls[code][outcome.blame.index()].add(1);
        if let Some(route) = &outcome.route {
            self.reasons[route.assigned.reason.index()].add(1);
        }
        if let Some(fallback) = outcome.fallback {
            self.fallbacks[fallback.index()].add(1);
        }
        self.total.add(outcome.latency.total);
        if !outcome.attempts.is_empty() {
            self.own.add(outcome.latency.own);
        }
        self.request_bytes.add(outcome.traffic.request_bytes);
        self.response_bytes.add(outcome.traffic.response_bytes);
        self.request_messages.add(outcome.traffic.request_messages);
        self.response_messages.add(outcome.traffic.response_messages);
    }

    /// Adds a call that several were asked for, this one as the baseline.
    ///
    /// Only the worker that owns the shard may do so.
    pub(super) fn observe_merged(&self, merged: &Merged) {
        self.interleaved[merged.unanalysed.map_or(0, |why| why as usize + 1)].add(1);
    }

    /// Adds a ranking that this one was asked for.
    ///
    /// Only the worker that owns the shard may do so.
    pub(super) fn observe_ranking(&self, ranker: &Ranker) {
        self.rankings[ranker.dropped.map_or(0, |why| why as usize + 1)].add(1);
        self.duplicates.add(ranker.duplicates as u64);
    }

    /// Calls that several were asked for that are no evidence for this reason; none: that are.
    pub fn interleaved(&self, why: Option<Unanalysed>) -> u64 {
        self.interleaved[why.map_or(0, |why| why as usize + 1)].get()
    }

    /// Rankings that are not in their answer for this reason; none: that are.
    pub fn rankings(&self, why: Option<Dropped>) -> u64 {
        self.rankings[why.map_or(0, |why| why as usize + 1)].get()
    }

    /// Items that stood in its rankings a second time.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.get()
    }

    /// Adds an attempt.
    ///
    /// Only the worker that owns the shard may do so.
    pub(super) fn observe_attempt(&self, attempt: &Attempt) {
        self.attempts[attempt.blame.index()].add(1);
        self.upstream.add(attempt.elapsed);
    }

    /// Calls that ended with `code` (all unknown numbers are one) by this fault.
    pub fn calls(&self, code: Code, blame: Blame) -> u64 {
        self.calls[(code.0 as usize).min(CODES - 1)][blame.index()].get()
    }

    /// Calls that were assigned for this reason.
    pub fn assigned(&self, reason: Reason) -> u64 {
        self.reasons[reason.index()].get()
    }

    /// Attempts that ended by this fault.
    pub fn attempts(&self, blame: Blame) -> u64 {
        self.attempts[blame.index()].get()
    }

    /// Calls that the variant failed at, of which this became.
    pub fn fallbacks(&self, fallback: Fallback) -> u64 {
        self.fallbacks[fallback.index()].get()
    }

    /// Calls that were begun and have not ended.
    pub fn in_flight(&self) -> u64 {
        self.entered.get().wrapping_sub(self.left.get())
    }
}

/// A call under way; dropping it says that the call has ended. It stays on its worker's thread.
#[derive(Debug)]
pub struct InFlight {
    series: Arc<Series>,
    _same_thread: std::marker::PhantomData<Rc<()>>,
}

impl InFlight {
    pub(super) fn new(series: Arc<Series>) -> Self {
        series.entered.add(1);
        InFlight { series, _same_thread: std::marker::PhantomData }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.series.left.add(1);
    }
}

/// The names a series is found under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The model; empty for calls that were never routed.
    pub model: Arc<str>,
    /// The variant; empty likewise.
    pub variant: Arc<str>,
}

/// All series of one worker. They outlive reloads, for a counter must never go back.
#[derive(Debug)]
pub struct Shard {
    series: DashMap<Label, Arc<Series>>,
    unrouted: Arc<Series>,
    shadows: DashMap<Label, Arc<shadow::Series>>,
    /// What happened to connections that carry copies, apart from all others.
    shadow_counters: Arc<Counters>,
}

impl Default for Shard {
    fn default() -> Self {
        Shard {
            series: DashMap::with_shard_amount(2),
            unrouted: Arc::default(),
            shadows: DashMap::with_shard_amount(2),
            shadow_counters: Arc::default(),
        }
    }
}

impl Shard {
    /// The series of a model and variant, the same one for as long as the process lives.
    pub fn series(&self, model: &Arc<str>, variant: &Arc<str>) -> Arc<Series> {
        let label = Label { model: Arc::clone(model), variant: Arc::clone(variant) };
        if let Some(known) = self.series.get(&label) {
            return Arc::clone(&known);
        }
        if self.series.len() >= SERIES_LIMIT {
            return self.unrouted();
        }
        Arc::clone(&self.series.entry(label).or_default())
    }

    /// The series of calls that ended before they were routed.
    pub fn unrouted(&self) -> Arc<Series> {
        Arc::clone(&self.unrouted)
    }

    /// The series of a model's shadow, the same one for as long as the process lives.
    pub fn shadow(&self, model: &Arc<str>, variant: &Arc<str>) -> Arc<shadow::Series> {
        let mut label = Label { model: Arc::clone(model), variant: Arc::clone(variant) };
        if !self.shadows.contains_key(&label) && self.shadows.len() >= SERIES_LIMIT {
            label = Label { model: Arc::from(""), variant: Arc::from("") };
        }
        Arc::clone(&self.shadows.entry(label).or_default())
    }

    /// Counters of what happens to connections that carry copies.
    pub fn shadow_counters(&self) -> &Arc<Counters> {
        &self.shadow_counters
    }

    /// Every shadow's series with its names, in no order.
    pub fn each_shadow(&self) -> Vec<(Label, Arc<shadow::Series>)> {
        self.shadows.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect()
    }

    /// Every series with its names, in no order.
    pub fn each(&self) -> Vec<(Label, Arc<Series>)> {
        let none: Arc<str> = Arc::from("");
        let unrouted = (Label { model: Arc::clone(&none), variant: none }, self.unrouted());
        let named = self.series.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value())));
        std::iter::once(unrouted).chain(named).collect()
    }
}

#[cfg(test)]
mod tests;
