//! One variant for everybody, how it is switched to, and what a variant is warmed by.

use std::path::PathBuf;
use std::time::Duration;

use super::OnFail;

/// One variant for everybody. When the file names another one, everything is switched to it at once, as soon as it is
/// ready and warm.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// The variant that answers.
    pub variant: usize,
    /// How long after a switch the variant before is kept for an instant way back.
    pub revert_window: Duration,
    /// What a variant is sent before it is given calls.
    pub warming: Warming,
    /// What the new variant is judged on within the window.
    pub guards: FixedLimits,
    /// Chance that a variant within its limits is ever reverted, over all guards; above 0, at most 0.2.
    pub alpha: f64,
    /// A switch whose variant is not ready and warm for so long holds and alerts.
    pub max_wait: Duration,
    /// What becomes of a variant that breaks a limit.
    pub on_fail: OnFail,
}

/// What a variant is judged on that has nobody beside it: fixed limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FixedLimits {
    /// The largest share of calls that may fail by the variant's own fault; above 0, below 1.
    pub errors: Option<f64>,
    /// The largest share of calls that may take longer.
    pub slow: Vec<SlowLimit>,
}

/// How many calls may be slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowLimit {
    /// Slow is what takes longer than this; above 0.
    pub slower_than: Duration,
    /// The largest share of slow calls; above 0, below 1.
    pub at_most: f64,
}

/// What a variant is sent before it is given calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warming {
    /// So many requests must have been answered OK by each of its endpoints; 0: none is sent.
    pub requests: u64,
    /// After this an endpoint counts as warm without them, unless it fails at all of them.
    pub timeout: Duration,
    /// Where the requests come from; none: kept from live calls.
    pub file: Option<PathBuf>,
}

impl FixedLimits {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.errors.is_some()) + self.slow.len()
    }
}

impl Warming {
    /// Nothing is sent.
    pub const NONE: Warming = Warming { requests: 0, timeout: Duration::from_secs(60), file: None };
}

impl Pinned {
    /// That variant, and everything else as where the file says nothing.
    pub fn new(variant: usize) -> Self {
        Pinned {
            variant,
            revert_window: Duration::from_secs(30 * 60),
            warming: Warming { requests: 20, ..Warming::NONE },
            guards: FixedLimits::default(),
            alpha: 0.01,
            max_wait: Duration::from_secs(3600),
            on_fail: OnFail::Rollback,
        }
    }
}
