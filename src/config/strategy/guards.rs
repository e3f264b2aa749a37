//! What a candidate, or an arm, must not be worse at than the baseline.

use std::sync::Arc;
use std::time::Duration;

use super::OnFail;

/// What a canary is judged on.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Share of calls that fail by the variant's own fault.
    pub errors: Option<Margin>,
    /// Share of calls that the variant refuses for what they ask.
    pub rejections: Option<Margin>,
    /// Quantiles of latency.
    pub latency: Vec<LatencyGuard>,
    /// Means of feedback.
    pub feedback: Vec<FeedbackGuard>,
    /// What its server uses; none: nobody asks.
    pub resources: Option<ResourcesGuard>,
    /// Whether its answers to copies must be equivalent, as its shadow judges them.
    pub shadow: bool,
}

/// How much worse a candidate may be: by the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// In the guard's own unit: a share for errors, the feedback's unit for feedback; at least 0.
    pub absolute: f64,
    /// As part of the baseline's value, 0.25 for 25 %; at least 0.
    pub relative: f64,
}

/// A quantile of latency that may grow so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyGuard {
    /// Above 0, below 1.
    pub quantile: f64,
    /// As part of the baseline's, 0.15 for 15 %.
    pub relative: f64,
}

/// A feedback whose mean may become so much worse.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackGuard {
    /// Index into [`crate::config::Model::feedback`]; neither a label nor clicks.
    pub feedback: usize,
    /// Its name there.
    pub name: Arc<str>,
    /// How much.
    pub margin: Margin,
    /// Whether less is better.
    pub lower_is_better: bool,
}

/// What a candidate's server may use beside the baseline's; at least one of both parts is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourcesGuard {
    /// How much more its resident memory may grow than the baseline's, as part of what is resident; above 0.
    pub memory: Option<f64>,
    /// How much more processor time a call may take than the baseline's, as part of it; above 0.
    pub cpu: Option<f64>,
    /// What is compared at once; at least a second.
    pub window: Duration,
    /// What becomes of a candidate that fails this guard.
    pub on_fail: OnFail,
}

/// When a candidate's latency begins to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warmup {
    /// After its first call.
    pub time: Duration,
    /// And after so many calls of it.
    pub calls: u64,
}
