//! Telemetry's side of feedback: what was reported is counted, and gets a span that is linked to its prediction's.
//!
//! A prediction's trace and span are remembered when its spans are exported, in two generations of so many entries: the
//! young one becomes the old one when it is full, and the old one is forgotten. A report of a prediction that is not
//! remembered, for it was not sampled, long ago, or made by another replica, has a span without a link, where the
//! report's own trace is sampled.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use super::recorder::Rules;
use crate::config::Model;
use crate::feedback::{Evidence, Receipt, Refusal, Taken, Value};
use crate::log;
use crate::outcome::{Outcome, Trace};
use crate::prediction::Prediction;

/// Reports whose span may wait for the exporter.
const WAITING: usize = 512;
/// Predictions in one generation; an entry takes about 64 bytes, so both take 8 MiB at most.
const GENERATION: usize = 1 << 16;

/// A report that was taken.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it is about.
    pub prediction: Prediction,
    /// Its model.
    pub model: Arc<Model>,
    /// Index into [`Model::feedback`].
    pub feedback: usize,
    /// As reported.
    pub value: Option<Value>,
    /// What became of it.
    pub receipt: Receipt,
    /// The slot of a merged list that it is about, counted over all lists.
    pub slot: Option<usize>,
    /// When it came.
    pub at: SystemTime,
}

/// A report whose span is wanted.
#[derive(Debug, Clone)]
pub struct Spanned {
    /// The report.
    pub seen: Seen,
    /// The trace that its span is part of, and its span.
    pub trace: Trace,
    /// Trace and server span of the prediction.
    pub link: Option<(u128, u64)>,
}

/// Why a reward taught no regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// There was no room for what its call was told apart by.
    NoRoom,
    /// That is not known here: another replica served the call, or it was lost.
    Unknown,
}

impl Lost {
    /// Every value.
    pub const ALL: [Lost; 2] = [Lost::NoRoom, Lost::Unknown];

    /// The word used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lost::NoRoom => "no_room",
            Lost::Unknown => "unknown",
        }
    }
}

type Results = [u64; Taken::ALL.len() * Evidence::ALL.len()];

/// Model and feedback.
type Names = (Arc<str>, Arc<str>);

/// Where feedback is counted, and its spans begin.
#[derive(Debug)]
pub struct Side {
    rules: Arc<ArcSwap<Rules>>,
    taken: Mutex<BTreeMap<Names, Results>>,
    refused: [AtomicU64; Refusal::CAUSES.len()],
    bytes: AtomicUsize,
    shown: AtomicU64,
    uncounted: AtomicU64,
    contexts: [AtomicU64; Lost::ALL.len()],
    dropped: AtomicU64,
    known: Mutex<Known>,
    log: OnceLock<log::Door>,
    queue: ArrayQueue<Box<Spanned>>,
}

#[derive(Debug, Default)]
struct Known {
    young: HashMap<u128, (u128, u64)>,
    old: HashMap<u128, (u128, u64)>,
}

impl Side {
    pub(super) fn new(rules: &Arc<ArcSwap<Rules>>) -> Self {
        Side {
            rules: Arc::clone(rules),
            taken: Mutex::default(),
            refused: Default::default(),
            bytes: AtomicUsize::new(0),
            shown: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            contexts: Default::default(),
            dropped: AtomicU64::new(0),
            known: Mutex::default(),
            log: OnceLock::new(),
            queue: ArrayQueue::new(WAITING),
        }
    }

    /// From now on reports go to the prediction log too.
    pub fn log_to(&self, door: log::Door) {
        // There is one log in a process, so a second door is the first.
        let _ = self.log.set(door);
    }

    /// Counts a report that was taken.
    pub fn count(&self, model: &Arc<str>, feedback: &Arc<str>, receipt: &Receipt) {
        let place = receipt.taken as usize * Evidence::ALL.len() + receipt.evidence as usize;
        let mut taken = lock(&self.taken);
        taken.entry((Arc::clone(model), Arc::clone(feedback))).or_insert([0; _])[place] += 1;
    }

    /// Counts a report that was refused.
    pub fn refuse(&self, refusal: &Refusal) {
        self.refused[refusal.cause()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts predictions that were not counted.
    pub fn lose(&self, predictions: u64) {
        self.uncounted.fetch_add(predictions, Ordering::Relaxed);
    }

    /// Counts contexts without which rewards teach no regression.
    pub fn lose_contexts(&self, why: Lost, contexts: u64) {
        self.contexts[why as usize].fetch_add(contexts, Ordering::Relaxed);
    }

    /// Contexts that were lost so.
    pub fn lost_contexts(&self, why: Lost) -> u64 {
        self.contexts[why as usize].load(Ordering::Relaxed)
    }

    /// Says how much is remembered.
    pub fn remember(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says how much is remembered of lists that were shown.
    pub fn remember_shown(&self, bytes: u64) {
        self.shown.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are remembered of lists that were shown.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }

    /// Logs a report, and hands it on where its span is wanted: that of its prediction was exported, or the trace of the call that
    /// brought it is sampled.
    pub fn see(&self, seen: Seen, call: Option<&Trace>) {
        if let Some(log) = self.log.get() {
            log.report(&seen);
        }
        if !self.rules.load().propagator.recording {
            return;
        }
        let link = self.find(seen.prediction.uuid.as_u128());
        if link.is_none() && !call.is_some_and(|call| call.sampled) {
            return;
        }
        let span_id = super::propagate::span_id(&mut rand::rng());
        let trace = match call {
            Some(call) => Trace { span_id, ..call.clone() },
            None => Trace {
                trace_id: u128::from(seen.prediction.uuid.as_u128() as u64) << 64 | u128::from(span_id),
                span_id,
                parent: None,
                sampled: true,
                state: None,
            },
        };
        if self.queue.push(Box::new(Spanned { seen, trace, link })).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Remembers the spans of a prediction that something may be learnt about.
    pub(super) fn link(&self, outcome: &Outcome) {
        if outcome.route.as_ref().is_none_or(|route| route.model.feedback.is_empty()) {
            return;
        }
        let mut known = lock(&self.known);
        if known.young.len() >= GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
        let place = (outcome.trace.trace_id, outcome.trace.span_id);
        known.young.insert(outcome.prediction.as_u128(), place);
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn take(&self) -> Option<Box<Spanned>> {
        self.queue.pop()
    }

    /// Reports by model and feedback, and what became of them, all that were counted.
    pub(super) fn each_taken(&self) -> Vec<(Names, Taken, Evidence, u64)> {
        let taken = lock(&self.taken).clone();
        let results = taken.into_iter().flat_map(|(names, counts)| {
            let pairs =
                Taken::ALL.into_iter().flat_map(|taken| Evidence::ALL.map(|evidence| (taken, evidence)));
            pairs.zip(counts).map(move |((taken, evidence), count)| (names.clone(), taken, evidence, count))
        });
        results.collect()
    }

    /// Reports that were refused for the cause of that index.
    pub fn refused(&self, cause: usize) -> u64 {
        self.refused.get(cause).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn figures(&self) -> (u64, u64, u64) {
        let bytes = self.bytes.load(Ordering::Relaxed) as u64;
        (bytes, self.uncounted.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    fn find(&self, prediction: u128) -> Option<(u128, u64)> {
        let known = lock(&self.known);
        known.young.get(&prediction).or_else(|| known.old.get(&prediction)).copied()
    }
}

/// What is guarded is whole between any two statements, so a panic elsewhere spoils nothing.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
