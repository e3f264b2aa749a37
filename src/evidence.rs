//! What a rollout's calls show: counts that add up, in any order, late or early.
//!
//! Arms are compared as assigned, whoever answered. Nothing here is an estimate or a verdict, so that parts of it may
//! come from several threads, and be kept and summed without ever being wrong. [`epoch`] is what calls are counted
//! in, [`gather`] reads it.

pub mod epoch;
pub mod gather;
mod once;
mod tally;

use serde::{Deserialize, Serialize};

use crate::stats::overlap::Sums;

/// What one epoch of a rollout gained between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gain {
    /// The epoch that the calls were assigned in.
    pub epoch: u32,
    /// By the index of the model's variants.
    pub arms: Vec<ArmGain>,
}

/// What one variant's calls added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArmGain {
    /// Calls that ended and count: neither forced, nor hops, nor given elsewhere because a variant was not ready.
    pub calls: u64,
    /// Those that failed by the variant's own fault, at most one per unit and minute.
    pub errors: u64,
    /// Those that the variant refused for what they asked, likewise.
    pub rejections: u64,
    /// Latency as (bucket, count), in growing order of buckets; where units are known at most one per unit and minute.
    pub latency: Vec<(u16, u32)>,
}

/// What one feedback gained between two looks: windows that closed, and rewards that changed what they closed with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// The candidate is the treatment, the baseline the control.
    pub sums: Sums,
    /// Of units that had the baseline.
    pub baseline: Total,
    /// Of units that had the candidate.
    pub candidate: Total,
}

/// Rewards that add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// How many.
    pub n: u64,
    /// Their sum.
    pub sum: f64,
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
