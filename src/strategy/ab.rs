//! A split by weight that sticks to the unit.
//!
//! `murmur3(salt ++ unit)` says where a unit falls, and it falls there as long as the salt stays; a call without a
//! unit falls where the draw says. The first segment that matches a call replaces the weights, not the hash, so a
//! unit keeps its place in every segment. What a variant cannot take because it is not ready goes to the baseline,
//! and the propensity says what was true at that moment: the baseline's is then its own share and that of every
//! variant it stands in for. A variant that was taken out has no share any more: what it had is the baseline's own.
//!
//! Who is taken out, and who wins, is decided by [`Progress`]: a state machine over what calls and feedback show.

use std::ops::Range;
use std::sync::Arc;

use super::ranges::Ranges;
use super::{Out, matches};
use crate::assignment::{Assignment, Reason};
use crate::call::Call;
use crate::config::units::Percent;
use crate::config::{self, Match};
use crate::stats::hash;
use crate::stats::hash::platforms::{PLACES, Platform};

mod arm;
mod judge;
pub(super) mod metric;
pub mod plan;
mod progress;
mod ratio;
mod shares;

pub use progress::Progress;
pub use shares::split_of;

/// The segment that a call matched, and who is out.
type Place = (Option<usize>, Out);

#[derive(Debug, Clone)]
pub(super) struct Ab {
    baseline: usize,
    salt: Arc<str>,
    hash: Platform,
    split: Ranges,
    segments: Vec<(Match, Ranges)>,
}

impl Ab {
    pub(super) fn new(config: &config::Ab) -> Self {
        let listed = |weights: &[(usize, Percent)]| {
            Ranges::cumulative(weights.iter().map(|(variant, share)| (*variant, share.thousandths())))
        };
        let ranges = |weights: &[(usize, Percent)]| match config.hash {
            Platform::Flagd => Ranges::around(config.baseline, weights),
            _ => listed(weights),
        };
        let segments = config.segments.iter();
        Ab {
            baseline: config.baseline,
            salt: Arc::clone(&config.salt),
            hash: config.hash,
            split: ranges(&config.weights),
            segments: segments.map(|found| (found.matches.clone(), ranges(&found.weights))).collect(),
        }
    }

    /// The rules that choose a segment.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Match> {
        self.segments.iter().map(|(rule, _)| rule)
    }

    /// Where a unit falls.
    pub(super) fn place(&self, unit: &str) -> u32 {
        self.hash.place(&self.salt, unit)
    }

    /// Which places belong to whom.
    pub(super) fn intervals(&self, (segment, out): Place) -> Vec<(usize, Range<u32>)> {
        let mut merged: Vec<(usize, Range<u32>)> = Vec::new();
        for (variant, places) in self.ranges(segment).intervals() {
            let variant = self.owner(variant, out);
            match merged.last_mut().filter(|(last, _)| *last == variant) {
                Some((_, last)) => last.end = places.end,
                None => merged.push((variant, places)),
            }
        }
        merged
    }

    fn ranges(&self, segment: Option<usize>) -> &Ranges {
        segment.and_then(|segment| self.segments.get(segment)).map_or(&self.split, |(_, ranges)| ranges)
    }

    /// Whose the variant's share is.
    fn owner(&self, variant: usize, out: Out) -> usize {
        if out.has(variant) { self.baseline } else { variant }
    }

    /// Whether every variant with a share there can take it.
    pub(super) fn is_whole(&self, (segment, out): Place, ready: &dyn Fn(usize) -> bool) -> bool {
        let mut whole = true;
        self.ranges(segment).each(|variant, _| {
            whole &= variant == self.baseline || out.has(variant) || ready(variant);
        });
        whole
    }

    /// The first segment that matches.
    pub(super) fn segment(&self, call: &Call<'_>) -> Option<usize> {
        self.segments.iter().position(|(rule, _)| matches(rule, call))
    }

    /// Tells how likely each variant with a share is in that segment.
    pub(super) fn each(
        &self,
        (segment, out): Place,
        ready: &dyn Fn(usize) -> bool,
        tell: &mut impl FnMut(usize, f64),
    ) {
        let mut others = 0.0;
        self.ranges(segment).each(|variant, share| {
            if variant != self.baseline && !out.has(variant) && ready(variant) {
                others += share;
                tell(variant, share);
            }
        });
        tell(self.baseline, 1.0 - others);
    }

    pub(super) fn assign(
        &self,
        (segment, out): Place,
        unit: Option<&str>,
        draw: u32,
        ready: &dyn Fn(usize) -> bool,
    ) -> Assignment {
        let place = unit.map_or_else(|| hash::bucket(draw, PLACES), |unit| self.place(unit));
        let (ranges, reason) = match segment.and_then(|segment| self.segments.get(segment)) {
            Some((_, ranges)) => (ranges, Reason::Segment),
            None if unit.is_some() => (&self.split, Reason::Split),
            None => (&self.split, Reason::Draw),
        };
        let chosen = self.owner(ranges.at(place).unwrap_or(self.baseline), out);
        if chosen != self.baseline && ready(chosen) {
            let propensity = ranges.share(|variant| variant == chosen);
            return Assignment { variant: chosen, reason, propensity };
        }
        Assignment {
            variant: self.baseline,
            reason: if chosen == self.baseline { reason } else { Reason::NotReady },
            propensity: ranges.share(|variant| {
                self.owner(variant, out) == self.baseline || variant == chosen || !ready(variant)
            }),
        }
    }
}

#[cfg(test)]
mod tests;
