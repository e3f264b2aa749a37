//! What one worker has counted of one variant in one epoch.
//!
//! The worker alone adds, so an addition is a load and a store; whoever gathers reads beside it. What only a rollout
//! with calls needs is made at its first call, so an idle one is a few hundred bytes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Batch;
use super::epoch::How;
use crate::stats::overlap;
use crate::stats::quantile::{BUCKETS, bucket};

/// Calls under way that are watched for outliving their arm; beyond it they are seen at their end only.
const OPEN: usize = 256;
/// How many places a call that begins looks at.
const PROBES: usize = 4;
/// A place nobody has.
const FREE: u64 = 0;
/// A call under way that was counted already.
const COUNTED: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: AtomicU64,
    errors: AtomicU64,
    rejections: AtomicU64,
    latency: OnceLock<Box<[AtomicU32]>>,
    /// When each began, in microseconds and one more.
    open: OnceLock<Box<[AtomicU64]>>,
    next: AtomicU32,
    /// By analysis bucket.
    batches: OnceLock<Box<[Counts]>>,
}

/// A [`Batch`] that is added to.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    errors: AtomicU64,
    rejections: AtomicU64,
    timed: AtomicU64,
    places: AtomicU64,
}

/// Adds one; for the one thread that may.
fn add(count: &AtomicU64) {
    // Release: who sees a failure sees its call, and who sees a call sees how long it took.
    count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

impl Tally {
    pub(super) fn call(&self) {
        add(&self.calls);
    }

    pub(super) fn error(&self) {
        add(&self.errors);
    }

    pub(super) fn rejection(&self) {
        add(&self.rejections);
    }

    pub(super) fn latency(&self, latency: Duration) {
        let buckets = self.latency.get_or_init(|| (0..BUCKETS).map(|_| AtomicU32::new(0)).collect());
        if let Some(count) = buckets.get(usize::from(bucket(latency))) {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Counts a call by its unit's analysis bucket.
    pub(super) fn batch(&self, place: u8, how: How, latency: Option<Duration>) {
        let batches = self.batches.get_or_init(|| (0..overlap::BUCKETS).map(|_| Counts::default()).collect());
        let Some(batch) = batches.get(usize::from(place)) else { return };
        match how {
            How::Well => {}
            How::Error => add(&batch.errors),
            How::Rejection => add(&batch.rejections),
        }
        if let Some(latency) = latency {
            let places = batch.places.load(Ordering::Relaxed).wrapping_add(u64::from(bucket(latency)));
            batch.places.store(places, Ordering::Relaxed);
            add(&batch.timed);
        }
        add(&batch.calls);
    }

    /// Adds what was counted so far to `sums`, by analysis bucket.
    pub(super) fn add_batches(&self, sums: &mut [Batch]) {
        for (sum, batch) in sums.iter_mut().zip(self.batches.get().into_iter().flatten()) {
            // A call that ends meanwhile is read in halves, the other one with the next look: both only add up.
            sum.calls += batch.calls.load(Ordering::Acquire);
            sum.timed += batch.timed.load(Ordering::Acquire);
            sum.places += batch.places.load(Ordering::Relaxed);
            sum.errors += batch.errors.load(Ordering::Relaxed);
            sum.rejections += batch.rejections.load(Ordering::Relaxed);
        }
    }

    /// Watches a call that begins at `now`; the place to give back at its end.
    pub(super) fn enter(&self, now: Duration) -> Option<u32> {
        let open = self.open.get_or_init(|| (0..OPEN).map(|_| AtomicU64::new(FREE)).collect());
        let first = self.next.load(Ordering::Relaxed);
        self.next.store(first.wrapping_add(1), Ordering::Relaxed);
        let places = (0..PROBES as u32).map(|step| first.wrapping_add(step) % OPEN as u32);
        let mut free = places.filter(|place| open[*place as usize].load(Ordering::Relaxed) == FREE);
        let place = free.next()?;
        open[place as usize].store(mark(now), Ordering::Relaxed);
        Some(place)
    }

    /// Gives a place back; whether its call still has to be counted.
    pub(super) fn leave(&self, place: u32) -> bool {
        let Some(open) = self.open.get() else { return true };
        open.get(place as usize).is_none_or(|slot| slot.swap(FREE, Ordering::Relaxed) != COUNTED)
    }

    /// (calls, errors, rejections) so far; no error is seen without its call.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let errors = self.errors.load(Ordering::Acquire);
        let rejections = self.rejections.load(Ordering::Acquire);
        (self.calls.load(Ordering::Acquire), errors, rejections)
    }

    /// Adds what was counted so far to `sums`, by bucket.
    pub(super) fn add_latency(&self, sums: &mut [u32]) {
        for (sum, count) in sums.iter_mut().zip(self.latency.get().into_iter().flatten()) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
    }

    /// Calls under way for at least `bound`, each told once; they are not counted again at their end.
    pub(super) fn outlived(&self, now: Duration, bound: Duration) -> u32 {
        let before = now.checked_sub(bound).map_or(FREE, mark);
        let old = |slot: &&AtomicU64| {
            let began = slot.load(Ordering::Relaxed);
            let over = (1..=before).contains(&began);
            // Another call may have the place by now: then it is none of ours.
            over && slot.compare_exchange(began, COUNTED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        self.open.get().map_or(0, |open| open.iter().filter(old).count() as u32)
    }
}

/// A point in time as a place keeps it: neither [`FREE`] nor [`COUNTED`].
fn mark(now: Duration) -> u64 {
    (now.as_micros() as u64).saturating_add(1).min(COUNTED - 1)
}
