//! What a rollout's calls show: counts that add up, in any order, late or early.
//!
//! Arms are compared as assigned, whoever answered. Nothing here is an estimate or a verdict, so that parts of it may
//! come from several threads, and be kept and summed without ever being wrong. [`epoch`] is what calls are counted
//! in, [`gather`] reads it.

mod counts;
pub mod epoch;
pub mod exposed;
pub mod gather;
mod measured;
mod once;
mod rewards;
mod tally;

use serde::{Deserialize, Serialize};

pub use rewards::{Earned, Moments, Rewards};

use crate::stats::overlap::Sums;

/// What one epoch of a rollout gained between two looks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The epoch that the calls were assigned in.
    pub epoch: u32,
    /// The segment that they matched, an index into the strategy's; none: its own weights split them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<usize>,
    /// By the index of the model's variants.
    pub arms: Vec<ArmGain>,
}

/// What one variant's calls added. What is nothing is not written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArmGain {
    /// Calls that ended and count: neither forced, nor hops, nor given elsewhere because a variant was not ready.
    #[serde(skip_serializing_if = "is_none")]
    pub calls: u64,
    /// Those that failed by the variant's own fault, at most one per unit and minute.
    #[serde(skip_serializing_if = "is_none")]
    pub errors: u64,
    /// Those that the variant refused for what they asked, likewise.
    #[serde(skip_serializing_if = "is_none")]
    pub rejections: u64,
    /// Latency as (bucket, count), in growing order of buckets; where units are known at most one per unit and minute.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "counts")]
    pub latency: Vec<(u16, u32)>,
    /// Units that were exposed for the first time, of the sample that is kept of them; calls without a unit are each
    /// one. Counted only where a sample ratio is judged, as is what follows.
    #[serde(skip_serializing_if = "is_none")]
    pub units: u64,
    /// All calls by their units' analysis bucket, in growing order of buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<(u8, Batch)>,
}

/// Calls of one analysis bucket: what means over units that come back are made of. Whole numbers, so that no order of
/// adding makes a difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 5]", into = "[u64; 5]")]
pub struct Batch {
    /// How many.
    pub calls: u64,
    /// Those that failed by the variant's own fault, all of them.
    pub errors: u64,
    /// Those that were refused for what they asked.
    pub rejections: u64,
    /// Those whose latency is known.
    pub timed: u64,
    /// The sum of the buckets their latencies fall into, see [`crate::stats::quantile::bucket`].
    pub places: u64,
}

/// What one feedback gained between two looks: windows that closed, and rewards that changed what they closed with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The candidate is the treatment, the baseline the control.
    pub sums: Sums,
    /// Of units that had the baseline.
    pub baseline: Total,
    /// Of units that had the candidate.
    pub candidate: Total,
    /// The same score of "something was reported", with every value taken for 1: whether reports came as chance gave
    /// the calls. Empty for feedback with a default, which needs no report.
    #[serde(default)]
    pub joined: Sums,
}

/// What sessions said of one ranker beside the baseline. It adds up, in any order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Votes {
    /// Sessions that credited the ranker more.
    pub wins: u64,
    /// Those that credited the baseline more.
    pub losses: u64,
    /// Those that credited both alike, though something was reported.
    pub ties: u64,
    /// By how much more the ranker was credited, of sessions that were no tie, in the bucket of their unit.
    pub sums: Sums,
    /// What the baseline was credited in those.
    pub baseline: Total,
    /// What the ranker was credited in them.
    pub candidate: Total,
}

/// What copies of calls showed between two looks, each beside its call: of calls whose copy has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Calls that were copied.
    pub calls: u64,
    /// Failures of the call's own variant, and of the candidate that got the copy.
    pub errors: [u64; 2],
    /// Refusals, likewise.
    pub rejections: [u64; 2],
}

/// Rewards that add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// How many.
    pub n: u64,
    /// Their sum.
    pub sum: f64,
}

/// What the servers of a canary's two variants said of themselves at one moment; where nothing, why.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// Of the baseline.
    pub baseline: Result<Reading, String>,
    /// Of the candidate.
    pub candidate: Result<Reading, String>,
}

/// What one process said it uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// Processor time since it began, in seconds; none: it does not say.
    pub cpu: Option<f64>,
    /// Resident memory, in bytes.
    pub resident: Option<f64>,
    /// When it began, in seconds since 1970.
    pub started: Option<f64>,
}

impl Reading {
    /// Whether this is of another process than `before`: one that began at another time, or took less so far.
    pub fn restarted(&self, before: &Reading) -> bool {
        // Clocks that are set may move what a process says of its beginning by a little.
        let began = |(now, then): (f64, f64)| (now - then).abs() > 1.0;
        let less = |(now, then): (f64, f64)| now < then;
        self.started.zip(before.started).is_some_and(began) || self.cpu.zip(before.cpu).is_some_and(less)
    }
}

impl Readings {
    /// Why there is nothing to compare, where that is so.
    pub fn trouble(&self) -> Option<String> {
        let of = |arm: &str, reading: &Result<Reading, String>| {
            reading.as_ref().err().map(|why| format!("the {arm}'s metrics: {why}"))
        };
        let both = [of("baseline", &self.baseline), of("candidate", &self.candidate)];
        let troubles: Vec<String> = both.into_iter().flatten().collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }
}

impl Scores {
    /// Adds others.
    pub fn merge(&mut self, more: &Scores) {
        self.sums += &more.sums;
        self.baseline.add(more.baseline);
        self.candidate.add(more.candidate);
        self.joined += &more.joined;
    }
}

impl Votes {
    /// Adds a session in which both were credited so; `bucket`: its unit's, where units come back.
    pub fn add(&mut self, baseline: f64, candidate: f64, bucket: Option<u8>) {
        let more = candidate - baseline;
        // What sums of parts leave is no preference.
        if more.abs() < 1e-9 {
            self.ties += 1;
            return;
        }
        *(if more > 0.0 { &mut self.wins } else { &mut self.losses }) += 1;
        self.sums.add_sums(more, more * more, 1.0);
        if let Some(bucket) = bucket {
            self.sums.add_to_bucket(bucket, more);
        }
        self.baseline.add(Total { n: 1, sum: baseline });
        self.candidate.add(Total { n: 1, sum: candidate });
    }

    /// Adds others.
    pub fn merge(&mut self, more: &Votes) {
        self.wins += more.wins;
        self.losses += more.losses;
        self.ties += more.ties;
        self.sums += &more.sums;
        self.baseline.add(more.baseline);
        self.candidate.add(more.candidate);
    }
}

impl Copies {
    /// Both together.
    pub fn plus(&self, more: &Copies) -> Copies {
        let sum = |one: [u64; 2], other: [u64; 2]| [one[0] + other[0], one[1] + other[1]];
        Copies {
            calls: self.calls + more.calls,
            errors: sum(self.errors, more.errors),
            rejections: sum(self.rejections, more.rejections),
        }
    }

    /// What came since `before`, all of it being part of this.
    pub fn since(&self, before: &Copies) -> Copies {
        let less = |now: [u64; 2], then: [u64; 2]| [now[0] - then[0], now[1] - then[1]];
        Copies {
            calls: self.calls - before.calls,
            errors: less(self.errors, before.errors),
            rejections: less(self.rejections, before.rejections),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Gain {
    /// Whether a call failed.
    pub fn fails(&self) -> bool {
        self.arms.iter().any(|arm| arm.errors + arm.rejections > 0)
    }

    /// Adds what the same epoch gained, of the same segment.
    pub fn merge(&mut self, more: &Gain) {
        self.arms.resize_with(self.arms.len().max(more.arms.len()), ArmGain::default);
        self.arms.iter_mut().zip(&more.arms).for_each(|(arm, more)| arm.merge(more));
    }
}

impl ArmGain {
    fn merge(&mut self, more: &ArmGain) {
        self.calls += more.calls;
        self.errors += more.errors;
        self.rejections += more.rejections;
        self.units += more.units;
        add_sorted(&mut self.latency, &more.latency, |count, more| *count += more);
        add_sorted(&mut self.batches, &more.batches, |batch, more| *batch = batch.plus(&more));
    }
}

/// Adds to a list in growing order of its keys; `add` is for keys that both have.
fn add_sorted<K: Copy + Ord, V: Copy>(list: &mut Vec<(K, V)>, more: &[(K, V)], add: impl Fn(&mut V, V)) {
    for (key, value) in more {
        match list.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(place) => add(&mut list[place].1, *value),
            Err(place) => list.insert(place, (*key, *value)),
        }
    }
}

impl From<[u64; 5]> for Batch {
    fn from([calls, errors, rejections, timed, places]: [u64; 5]) -> Self {
        Batch { calls, errors, rejections, timed, places }
    }
}

impl From<Batch> for [u64; 5] {
    fn from(Batch { calls, errors, rejections, timed, places }: Batch) -> Self {
        [calls, errors, rejections, timed, places]
    }
}

impl Batch {
    /// Both together.
    fn plus(&self, more: &Batch) -> Batch {
        Batch {
            calls: self.calls + more.calls,
            errors: self.errors + more.errors,
            rejections: self.rejections + more.rejections,
            timed: self.timed + more.timed,
            places: self.places + more.places,
        }
    }

    /// What was added to `before`.
    fn since(&self, before: &Batch) -> Batch {
        Batch {
            calls: self.calls - before.calls,
            errors: self.errors - before.errors,
            rejections: self.rejections - before.rejections,
            timed: self.timed - before.timed,
            places: self.places - before.places,
        }
    }
}

impl Total {
    /// Adds others.
    pub fn add(&mut self, more: Total) {
        self.n += more.n;
        self.sum += more.sum;
    }

    /// None without any.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}
