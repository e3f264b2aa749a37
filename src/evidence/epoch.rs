//! What the calls of one epoch are counted in, by worker and variant.
//!
//! A call keeps the epoch it was assigned in and is counted there, however late it ends: a step that begins meanwhile
//! never mixes two splits. Who counts is the rule of [`counts`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposed::Exposed;
use super::measured::Measured;
use super::once::{Failed, Kind};
use super::tally::Tally;
use crate::assignment::{Assignment, Reason};
use crate::fault::Blame;

/// One epoch of one rollout.
#[derive(Debug)]
pub struct Epoch {
    pub(super) number: u32,
    pub(super) arms: Box<[Arm]>,
    measured: Arc<Measured>,
    pub(super) failed: Arc<Failed>,
    /// Whose failures are not urgent.
    baseline: Option<usize>,
    alone: bool,
    /// Whether calls under way are watched for outliving the others.
    watched: bool,
    /// The segment whose calls are counted here.
    pub(super) segment: Option<usize>,
    /// Where means over units and the ratio of units are judged: who was exposed already.
    exposed: Option<Arc<Exposed>>,
}

/// One variant of it.
#[derive(Debug)]
pub(super) struct Arm {
    /// By worker.
    pub(super) tallies: Box<[Tally]>,
    /// First exposures.
    pub(super) units: AtomicU64,
}

/// A call that counts, from its assignment to its end. Dropped without [`Counted::end`] it never was.
#[derive(Debug)]
pub struct Counted {
    epoch: Arc<Epoch>,
    worker: usize,
    variant: usize,
    unit: Option<u64>,
    measured: bool,
    place: Option<u32>,
    /// The analysis bucket, where calls are counted by it.
    bucket: Option<u8>,
}

/// How the assigned variant did by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing that is its fault.
    Well,
    /// It failed.
    Error,
    /// It refused what was asked.
    Rejection,
}

impl From<Blame> for How {
    fn from(blame: Blame) -> Self {
        match blame {
            Blame::Upstream => How::Error,
            Blame::Rejection => How::Rejection,
            Blame::Nobody | Blame::Client | Blame::Sidecar => How::Well,
        }
    }
}

/// Whether a call enters its arm's evidence: where chance gave it to one of several, and to no stand-in. Forced calls,
/// hops, calls that name no model and whatever one variant gets alone compare nothing.
pub fn counts(assignment: &Assignment) -> bool {
    matches!(assignment.reason, Reason::Split | Reason::Draw)
        && assignment.propensity > 0.0
        && assignment.propensity < 1.0
}

impl Epoch {
    /// Nothing counted yet. `variants` are all of the model, `workers` at least 1; failures of any but the
    /// `baseline` are urgent.
    pub fn new(number: u32, variants: usize, workers: usize, baseline: usize) -> Self {
        let arm =
            || Arm { tallies: (0..workers).map(|_| Tally::default()).collect(), units: AtomicU64::new(0) };
        Epoch {
            number,
            arms: (0..variants).map(|_| arm()).collect(),
            measured: Arc::new(Measured::new(variants)),
            failed: Arc::default(),
            baseline: Some(baseline),
            alone: false,
            watched: true,
            segment: None,
            exposed: None,
        }
    }

    /// The same for one variant that gets everything and is judged by itself: all its failures are urgent.
    #[must_use]
    pub fn alone(self) -> Self {
        Epoch { baseline: None, alone: true, ..self }
    }

    /// The same for a replica among others: all failures are urgent. What whoever decides sees must not hang on whose failure
    /// it is, or replicas whose candidate failed by chance are seen before all others.
    #[must_use]
    pub fn shared(self) -> Self {
        Epoch { baseline: None, ..self }
    }

    /// The same, where only some of the calls that begin will count in the end: none is taken for one before it has ended.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Epoch { watched: false, ..self }
    }

    /// The same, going on with what the epoch before remembers of units: where epochs are shorter than the minute in which
    /// a unit counts once.
    #[must_use]
    pub fn remembering(mut self, before: &Option<Arc<Epoch>>) -> Self {
        if let Some(before) = before {
            self.failed = Arc::clone(&before.failed);
            if before.arms.len() == self.arms.len() {
                self.measured = Arc::clone(&before.measured);
            }
        }
        self
    }

    /// The same, of one segment's calls or of those without, where means over units and the ratio of units are judged
    /// too. `exposed`: one for all epochs of a rollout.
    #[must_use]
    pub fn analysed(self, segment: Option<usize>, exposed: &Arc<Exposed>) -> Self {
        Epoch { segment, exposed: Some(Arc::clone(exposed)), ..self }
    }

    /// Whether one variant's calls are counted here, as the strategy gave them; where several are compared, what counts
    /// is for [`crate::strategy::Strategy::is_evidence`] to say.
    pub fn takes_alone(&self, assignment: &Assignment) -> Option<bool> {
        self.alone.then_some(matches!(assignment.reason, Reason::Pinned | Reason::Decided))
    }

    /// Who was exposed, where that is asked.
    pub(super) fn exposed(&self) -> Option<&Exposed> {
        self.exposed.as_deref()
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Failures that were not counted, for there were too many at once.
    pub fn uncounted(&self) -> u64 {
        self.failed.refused()
    }

    /// A call that counts begins on `worker` at `now`, time since any fixed moment. None: no such worker or variant.
    pub fn begin(
        self: &Arc<Self>,
        worker: usize,
        variant: usize,
        unit: Option<u64>,
        now: Duration,
    ) -> Option<Counted> {
        let arm = self.arms.get(variant)?;
        let tally = arm.tallies.get(worker)?;
        let measured = unit.is_none_or(|unit| self.measured.take(variant, unit, minute(now)));
        let place = if measured && self.watched { tally.enter(now) } else { None };
        Some(Counted { epoch: Arc::clone(self), worker, variant, unit, measured, place, bucket: None })
    }
}

impl Counted {
    /// Counts its unit's exposure, and the call itself by the unit's analysis bucket, where that is asked; `bucket` is
    /// not worked out where it is not.
    pub fn exposed(mut self, bucket: impl FnOnce() -> u8) -> Self {
        let Some(exposed) = &self.epoch.exposed else { return self };
        if self.unit.is_none_or(|unit| exposed.first(unit))
            && let Some(arm) = self.epoch.arms.get(self.variant)
        {
            arm.units.fetch_add(1, Ordering::Relaxed);
        }
        self.bucket = Some(bucket());
        self
    }

    /// Counts the call, that took the variant `latency`; whether somebody should look at once.
    pub fn end(mut self, how: How, latency: Option<Duration>, now: Duration) -> bool {
        let epoch = Arc::clone(&self.epoch);
        let Some(tally) = epoch.arms.get(self.variant).and_then(|arm| arm.tallies.get(self.worker)) else {
            return false;
        };
        let uncounted = self.place.take().is_none_or(|place| tally.leave(place));
        if let Some(latency) = latency.filter(|_| self.measured && uncounted) {
            tally.latency(latency);
        }
        tally.call();
        if let Some(bucket) = self.bucket {
            tally.batch(bucket, how, latency);
        }
        let kind = match how {
            How::Well => return false,
            How::Error => Kind::Error,
            How::Rejection => Kind::Rejection,
        };
        if !self.unit.is_none_or(|unit| epoch.failed.first(unit, minute(now), kind)) {
            return false;
        }
        match kind {
            Kind::Error => tally.error(),
            Kind::Rejection => tally.rejection(),
        }
        epoch.baseline != Some(self.variant)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let arm = self.epoch.arms.get(self.variant);
        if let (Some(place), Some(tally)) = (self.place, arm.and_then(|arm| arm.tallies.get(self.worker))) {
            tally.leave(place);
        }
    }
}

pub(super) fn minute(now: Duration) -> u32 {
    (now.as_secs() / 60) as u32
}
