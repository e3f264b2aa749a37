//! The way of copies that have ended: from workers to who compares them, and on to spans.
//!
//! Bounded queues that nobody waits for. A span of a copy is wanted where its trace is sampled, or where its answer
//! differs from what was served and such spans are kept; then the call's own span is told too.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use uuid::Uuid;

use super::recorder::Rules;
use crate::outcome::Outcome;
use crate::shadow::offenders::how;
use crate::shadow::pair::Pair;
use crate::shadow::record::{CopyOutcome, Disagreement, Role};
use crate::telemetry::shadow::Series;

/// Pairs of one worker that wait to be compared.
pub(super) type Pairs = ArrayQueue<Box<Pair>>;

/// Copies of one worker whose spans wait for the exporter; apart from calls, so that they can never crowd one out.
pub(super) type Ended = ArrayQueue<Box<CopyOutcome>>;

/// How many may wait, per worker.
pub(super) const WAITING: usize = 512;

/// Results that may wait for the exporter.
const TOLD: usize = 4096;

/// What one copy of a call showed, for the call's own span.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The call.
    pub prediction: Uuid,
    /// How the answers differ; none: they do not, or could not be compared.
    pub disagreement: Option<Box<Disagreement>>,
}

/// All queues, and what spans are kept by.
#[derive(Debug)]
pub struct Copies {
    pairs: Vec<Arc<Pairs>>,
    ended: Vec<Arc<Ended>>,
    told: Arc<ArrayQueue<Told>>,
    rules: Arc<ArcSwap<Rules>>,
}

impl Copies {
    pub(super) fn new(workers: usize, rules: &Arc<ArcSwap<Rules>>) -> Self {
        Copies {
            pairs: (0..workers).map(|_| Arc::new(ArrayQueue::new(WAITING))).collect(),
            ended: (0..workers).map(|_| Arc::new(ArrayQueue::new(WAITING))).collect(),
            told: Arc::new(ArrayQueue::new(TOLD)),
            rules: Arc::clone(rules),
        }
    }

    /// Where a worker puts its pairs.
    pub(super) fn pairs(&self, worker: usize) -> Arc<Pairs> {
        self.pairs.get(worker).map_or_else(|| Arc::new(ArrayQueue::new(1)), Arc::clone)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.pairs.len()
    }

    /// Pairs of a worker that wait.
    pub fn waiting(&self, worker: usize) -> usize {
        self.pairs.get(worker).map_or(0, |pairs| pairs.len())
    }

    /// The next of them.
    pub fn take(&self, worker: usize) -> Option<Box<Pair>> {
        self.pairs.get(worker)?.pop()
    }

    /// A copy was compared, or could not be: on to its span, and to that of its call.
    pub fn ended(&self, worker: usize, copy: CopyOutcome, series: &Series) {
        let rules = self.rules.load();
        if !rules.propagator.recording {
            return;
        }
        let differs = copy.comparison.as_ref().is_some_and(|found| !found.agrees());
        let kept = differs && rules.keep_disagreements && copy.role == Role::Shadow;
        if copy.role == Role::Shadow {
            let disagreement = kept.then(|| Box::new(disagreement(&copy)));
            // A call whose span was not kept is none that asks; one that waits in vain waits for a while only.
            let _ = self.told.push(Told { prediction: copy.prediction, disagreement });
        }
        if (copy.trace.sampled || kept)
            && let Some(queue) = self.ended.get(worker)
            && queue.push(Box::new(copy)).is_err()
        {
            series.add_lost();
        }
    }

    /// Whether the span of a call is wanted whatever its copies show.
    pub(super) fn wants(&self, outcome: &Outcome) -> bool {
        self.rules.load().want(outcome)
    }

    /// The next copy whose span is wanted.
    pub(super) fn next_ended(&self) -> Option<Box<CopyOutcome>> {
        self.ended.iter().find_map(|queue| queue.pop())
    }

    /// The next result.
    pub(super) fn next_told(&self) -> Option<Told> {
        self.told.pop()
    }
}

fn disagreement(copy: &CopyOutcome) -> Disagreement {
    let found = copy.comparison.as_deref();
    let (output, how) = found.map(how).unwrap_or_default();
    Disagreement {
        shadow: Arc::clone(&copy.variant.name),
        output,
        kind: found.map_or("", |found| found.name()),
        how,
        distance: found.and_then(|found| found.worst()).map_or(0.0, |output| output.distance),
    }
}
