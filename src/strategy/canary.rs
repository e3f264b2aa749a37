//! A growing share for one candidate.
//!
//! `murmur3(salt ++ unit)` says where a unit falls among 100,000 places, and the candidate owns the lowest of them: as
//! its share grows it takes from the baseline only, so no unit ever leaves it but by its rollback. A call without a
//! unit falls where the draw says. While the candidate is not ready the baseline answers for it, and the propensity
//! says so. Whether the share grows is decided by [`Progress`]: a state machine over what the calls show.

use std::ops::Range;
use std::sync::Arc;

use crate::assignment::{Assignment, Reason};
use crate::config;
use crate::config::units::Percent;
use crate::stats::hash;

pub mod plan;
mod progress;

pub use progress::Progress;

#[derive(Debug, Clone)]
pub(super) struct Canary {
    baseline: usize,
    candidate: usize,
    salt: Arc<str>,
}

impl Canary {
    pub(super) fn new(config: &config::Canary) -> Self {
        Canary { baseline: config.baseline, candidate: config.candidate, salt: Arc::clone(&config.salt) }
    }

    /// Tells how likely each of the two is.
    pub(super) fn each(
        &self,
        share: Percent,
        ready: &dyn Fn(usize) -> bool,
        tell: &mut impl FnMut(usize, f64),
    ) {
        let candidate =
            if share != Percent::NONE && ready(self.candidate) { share.probability() } else { 0.0 };
        tell(self.candidate, candidate);
        tell(self.baseline, 1.0 - candidate);
    }

    /// Where a unit falls.
    pub(super) fn place(&self, unit: &str) -> u32 {
        hash::bucket(hash::salted(&self.salt, unit), Percent::ALL.thousandths())
    }

    /// Which places belong to whom.
    pub(super) fn intervals(&self, share: Percent) -> Vec<(usize, Range<u32>)> {
        let end = share.thousandths();
        let all = [(self.candidate, 0..end), (self.baseline, end..Percent::ALL.thousandths())];
        all.into_iter().filter(|(_, places)| !places.is_empty()).collect()
    }

    pub(super) fn assign(
        &self,
        share: Percent,
        unit: Option<&str>,
        draw: u32,
        ready: &dyn Fn(usize) -> bool,
    ) -> Assignment {
        let drawn = || hash::bucket(draw, Percent::ALL.thousandths());
        let chosen = unit.map_or_else(drawn, |unit| self.place(unit)) < share.thousandths();
        let reason = if unit.is_some() { Reason::Split } else { Reason::Draw };
        // Nobody asks about a candidate that gets nothing.
        let ready = share == Percent::NONE || ready(self.candidate);
        match (chosen, ready) {
            (true, true) => Assignment { variant: self.candidate, reason, propensity: share.probability() },
            (true, false) => Assignment { variant: self.baseline, reason: Reason::NotReady, propensity: 1.0 },
            (false, true) => {
                Assignment { variant: self.baseline, reason, propensity: 1.0 - share.probability() }
            }
            (false, false) => Assignment { variant: self.baseline, reason, propensity: 1.0 },
        }
    }
}

#[cfg(test)]
mod tests;
