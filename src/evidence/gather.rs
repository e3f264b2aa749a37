//! Reads what an epoch gained since the last look.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::epoch::{Arm, Epoch, minute};
use super::{ArmGain, Batch, Gain};
use crate::stats::overlap;
use crate::stats::quantile::{BUCKETS, bucket, upper_edge};

/// No call is taken for hung before this.
const LEAST: Duration = Duration::from_secs(1);
/// And where too little is known of how long they take, not before this.
const UNKNOWN: Duration = Duration::from_secs(60);
/// How many calls of an arm tell how long they take.
const ENOUGH: u64 = 100;

/// One reader of one epoch.
#[derive(Debug)]
pub struct Gatherer {
    epoch: Arc<Epoch>,
    seen: Vec<Seen>,
    baseline: usize,
}

/// What was read of one arm so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    counts: (u64, u64, u64),
    /// By bucket; empty before the first call.
    latency: Vec<u32>,
    /// How many calls there were when `latency` was read.
    measured: u64,
    units: u64,
    /// By analysis bucket; empty where nobody asks.
    batches: Vec<Batch>,
}

impl Gatherer {
    /// Everything in `epoch` is new. `baseline`: the variant whose calls tell how long one may take.
    pub fn new(epoch: Arc<Epoch>, baseline: usize) -> Self {
        let seen = vec![Seen::default(); epoch.arms.len()];
        Gatherer { epoch, seen, baseline }
    }

    /// Its epoch.
    pub fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// Whether somebody else may still add to it.
    pub fn is_open(&self) -> bool {
        Arc::strong_count(&self.epoch) > 1
    }

    /// What was added since the last look, without latency: a look at failures alone. None: nothing.
    pub fn failures(&mut self) -> Option<Gain> {
        let mut gain = self.nothing();
        self.counts(&mut gain);
        (!is_nothing(&gain)).then_some(gain)
    }

    /// What was added since the last look. None: nothing.
    ///
    /// A call under way for so long that hardly any of the baseline's took a quarter of it counts now, as one that
    /// took that long: both arms are cut at the same length, so neither gains by calls that never end.
    pub fn all(&mut self, now: Duration) -> Option<Gain> {
        self.epoch.failed.forget(minute(now));
        let bound = self.bound();
        let mut gain = self.nothing();
        self.counts(&mut gain);
        for ((arm, seen), gained) in self.epoch.arms.iter().zip(&mut self.seen).zip(&mut gain.arms) {
            latency(arm, seen, gained, (now, bound));
        }
        if let Some(exposed) = self.epoch.exposed() {
            exposed.thin();
            let arms = self.epoch.arms.iter().zip(&mut self.seen).zip(&mut gain.arms);
            arms.for_each(|((arm, seen), gained)| analysis(arm, seen, gained));
        }
        (!is_nothing(&gain)).then_some(gain)
    }

    fn nothing(&self) -> Gain {
        let arms = vec![ArmGain::default(); self.seen.len()];
        Gain { epoch: self.epoch.number, segment: self.epoch.segment, arms }
    }

    fn counts(&mut self, gain: &mut Gain) {
        for ((arm, seen), gained) in self.epoch.arms.iter().zip(&mut self.seen).zip(&mut gain.arms) {
            let now = arm
                .tallies
                .iter()
                .map(|tally| tally.counts())
                .fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
            gained.calls = now.0 - seen.counts.0;
            gained.errors = now.1 - seen.counts.1;
            gained.rejections = now.2 - seen.counts.2;
            seen.counts = now;
        }
    }

    /// When a call under way is counted as one of that length: four times what 99 % of the baseline's took.
    fn bound(&self) -> Duration {
        let Some(seen) = self.seen.get(self.baseline) else { return UNKNOWN };
        let all: u64 = seen.latency.iter().map(|count| u64::from(*count)).sum();
        if all < ENOUGH {
            return UNKNOWN;
        }
        let mut left = all / 100;
        let slow = seen.latency.iter().rposition(|count| {
            let over = left < u64::from(*count);
            left = left.saturating_sub(u64::from(*count));
            over
        });
        slow.map_or(UNKNOWN, |slow| (upper_edge(slow as u16) * 4).max(LEAST))
    }
}

/// Reads one arm's latency, calls under way for longer than the bound included.
fn latency(arm: &Arm, seen: &mut Seen, gained: &mut ArmGain, (now, bound): (Duration, Duration)) {
    let outlived: u32 = arm.tallies.iter().map(|tally| tally.outlived(now, bound)).sum();
    if seen.counts.0 == seen.measured && outlived == 0 {
        return;
    }
    seen.measured = seen.counts.0;
    let mut sums = vec![0; BUCKETS];
    arm.tallies.iter().for_each(|tally| tally.add_latency(&mut sums));
    seen.latency.resize(BUCKETS, 0);
    let longest = bucket(bound);
    for (place, (sum, seen)) in sums.iter().zip(&mut seen.latency).enumerate() {
        let mut count = sum.wrapping_sub(*seen);
        *seen = *sum;
        if place == usize::from(longest) {
            count += outlived;
        }
        if count > 0 {
            gained.latency.push((place as u16, count));
        }
    }
}

/// Reads one arm's first exposures, and its calls by analysis bucket.
fn analysis(arm: &Arm, seen: &mut Seen, gained: &mut ArmGain) {
    let units = arm.units.load(Ordering::Relaxed);
    gained.units = units - seen.units;
    seen.units = units;
    let mut sums = vec![Batch::default(); overlap::BUCKETS];
    arm.tallies.iter().for_each(|tally| tally.add_batches(&mut sums));
    seen.batches.resize(overlap::BUCKETS, Batch::default());
    for (place, (sum, seen)) in (0..=u8::MAX).zip(sums.into_iter().zip(&mut seen.batches)) {
        let gain = sum.since(seen);
        if gain != Batch::default() {
            gained.batches.push((place, gain));
        }
        *seen = sum;
    }
}

fn is_nothing(gain: &Gain) -> bool {
    gain.arms.iter().all(|arm| *arm == ArmGain::default())
}

#[cfg(test)]
mod tests;
