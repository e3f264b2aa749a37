//! Evidence that sees a late regression: a mixture of tests that started at different times.
//!
//! A test that watched a thousand clean errors needs long to be turned around. So a new one starts with each window,
//! and all are mixed with weights fixed beforehand: the j-th has 1/((j + 1)(j + 2)), and what is not given out yet
//! stays as it is. The mixture is an e-process as each of its parts is.
//! A start needs no more than what had been counted when it began: its test sees the counts since. When the split
//! changes, an epoch ends: the evidence of each start up to there is kept as a factor, and counting begins anew, so
//! the e-value of a start is the product over the steps since. Of old starts only ever wider spaced ones are kept;
//! leaving one out gives up its weight and so is on the safe side.
//! Kin: e-detectors of Shin, Ramdas, Rinaldo (2022).

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::special::ln_add_exp;

/// A window ends after so many events or so much time, whichever comes first.
pub const WINDOW_EVENTS: u64 = 100;
/// See [`WINDOW_EVENTS`].
pub const WINDOW: Duration = Duration::from_secs(60);

/// What evidence is computed from: counts that add up.
pub trait Tally: Clone + Default + PartialEq + for<'a> AddAssign<&'a Self> {
    /// What was counted since an earlier state of the same tally.
    fn since(&self, earlier: &Self) -> Self;
}

/// Events of either arm, such as their errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Those of the candidate.
    pub candidate: u64,
    /// Those of the baseline.
    pub baseline: u64,
}

impl AddAssign<&Self> for Pair {
    fn add_assign(&mut self, other: &Self) {
        self.candidate += other.candidate;
        self.baseline += other.baseline;
    }
}

impl Tally for Pair {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            candidate: self.candidate.saturating_sub(earlier.candidate),
            baseline: self.baseline.saturating_sub(earlier.baseline),
        }
    }
}

/// The starts of one test, with what each of them has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restarts<T> {
    most: usize,
    /// Windows opened so far, the first included.
    opened: u64,
    /// What was counted in this epoch.
    total: T,
    starts: Vec<Start<T>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Start<T> {
    window: u64,
    /// ln of its evidence from epochs that ended.
    ln_ended: f64,
    /// What had been counted in this epoch when it began.
    before: T,
}

impl<T: Tally> Restarts<T> {
    /// Starts the first test; keeps at most `most` starts, at least 2.
    pub fn new(most: usize) -> Self {
        let first = Start { window: 0, ln_ended: 0.0, before: T::default() };
        Self { most: most.max(2), opened: 1, total: T::default(), starts: vec![first] }
    }

    /// Counts, for all starts.
    pub fn count(&mut self, more: &T) {
        self.total += more;
    }

    /// What was counted since this epoch began.
    pub fn in_epoch(&self) -> &T {
        &self.total
    }

    /// What was counted since the last window was opened.
    pub fn in_window(&self) -> T {
        self.starts.last().map_or_else(T::default, |last| self.total.since(&last.before))
    }

    /// How many starts are kept.
    pub fn starts(&self) -> usize {
        self.starts.len()
    }

    /// Opens a window: a new start, unless the last one has seen nothing yet.
    pub fn open_window(&mut self) {
        if self.starts.last().is_some_and(|last| last.before == self.total) {
            return;
        }
        self.starts.push(Start { window: self.opened, ln_ended: 0.0, before: self.total.clone() });
        self.opened += 1;
        if self.starts.len() > self.most {
            self.leave_one_out();
        }
    }

    /// Leaves out the start whose neighbours are closest to each other for their age; never the first nor the last.
    fn leave_one_out(&mut self) {
        let gap = |neighbours: &[Start<T>]| match neighbours {
            [before, this, after] => {
                (after.window - before.window) as f64 / (self.opened - this.window) as f64
            }
            _ => f64::INFINITY,
        };
        let gaps = self.starts.windows(3).map(gap);
        if let Some((at, _)) = gaps.enumerate().min_by(|one, other| one.1.total_cmp(&other.1)) {
            self.starts.remove(at + 1);
        }
    }

    /// Ends an epoch, since the split changes: `ln_e` is the test at the split that was.
    pub fn end_epoch(&mut self, ln_e: impl Fn(&T) -> f64) {
        for start in &mut self.starts {
            start.ln_ended += ln_e(&self.total.since(&start.before));
            start.before = T::default();
        }
        self.total = T::default();
    }

    /// ln of the mixture, with the test at the present split.
    pub fn ln_e(&self, ln_e: impl Fn(&T) -> f64) -> f64 {
        let unspent = -((self.opened + 1) as f64).ln();
        self.starts.iter().fold(unspent, |sum, start| {
            let j = start.window as f64;
            let ln_weight = -((j + 1.0) * (j + 2.0)).ln();
            ln_add_exp(sum, ln_weight + start.ln_ended + ln_e(&self.total.since(&start.before)))
        })
    }
}

#[cfg(test)]
mod tests;
