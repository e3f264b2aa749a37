//! Which part of the hash each variant owns.
//!
//! The hash is scaled to `0..total` and every variant owns intervals of it. In cumulative form, which is flagd's, the
//! intervals follow one another in the order given, each as wide as its weight.
//!
//! For a rollout the order matters, for when a weight grows no unit should move that need not. The candidates lie
//! around the baseline, by turns: the first grows from the bottom upwards, the second from the top downwards, the
//! third above the first, and so on:
//!
//! ```text
//! 0 ├ first ┤ third ┤ →      baseline      ← ├ fourth ┤ second ┤ 100,000
//! ```
//!
//! So what a candidate gains comes from the baseline, and a candidate that grows never loses a unit. With one or two
//! candidates nobody else moves at all. With more, those further in shift when one further out changes: no layout
//! that knows the weights alone can avoid that. The order is that of the list, with zero weights in their places, so
//! a candidate is added at the end and removed by the weight zero.

use std::ops::Range;

use crate::config::units::Percent;

/// Variants by intervals of the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges {
    total: u32,
    /// (end, variant): each interval begins where the one before ends.
    ends: Vec<(u32, usize)>,
}

impl Ranges {
    /// Intervals in the order given, as wide as their weights; the total is their sum, saturating.
    pub(super) fn cumulative(weights: impl IntoIterator<Item = (usize, u32)>) -> Self {
        let mut end = 0_u32;
        let ends = weights
            .into_iter()
            .map(|(variant, weight)| {
                end = end.saturating_add(weight);
                (end, variant)
            })
            .collect();
        Ranges { total: end, ends }
    }

    /// Candidates around the baseline, which gets whatever is left of 100 %.
    pub(super) fn around(baseline: usize, weights: &[(usize, Percent)]) -> Self {
        let candidates = || weights.iter().filter(|(variant, _)| *variant != baseline);
        let width = |(variant, share): &(usize, Percent)| (*variant, share.thousandths());
        let below = candidates().step_by(2).map(width);
        let mut above: Vec<_> = candidates().skip(1).step_by(2).map(width).collect();
        above.reverse();
        let taken = candidates().fold(0_u32, |sum, (_, share)| sum.saturating_add(share.thousandths()));
        let rest = Percent::ALL.thousandths().saturating_sub(taken);
        Ranges::cumulative(below.chain([(baseline, rest)]).chain(above))
    }

    /// The owner of a place in `0..total`; `None` only where all weights are zero.
    pub(super) fn at(&self, place: u32) -> Option<usize> {
        self.ends.iter().find(|(end, _)| *end > place).map(|(_, variant)| *variant)
    }

    /// Tells the share of each variant that has one.
    pub(super) fn each(&self, mut tell: impl FnMut(usize, f64)) {
        let mut start = 0;
        for (end, variant) in &self.ends {
            if *end > start {
                tell(*variant, f64::from(end - start) / f64::from(self.total.max(1)));
            }
            start = *end;
        }
    }

    /// Each owner's interval, without those that have no width.
    pub(super) fn intervals(&self) -> Vec<(usize, Range<u32>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let intervals = starts.zip(&self.ends).map(|(start, (end, variant))| (*variant, start..*end));
        intervals.filter(|(_, places)| !places.is_empty()).collect()
    }

    /// The share of all variants that `counts` chooses, summed before it is divided so that all of them are 1.0.
    pub(super) fn share(&self, counts: impl Fn(usize) -> bool) -> f64 {
        let mut start = 0;
        let mut sum = 0;
        for (end, variant) in &self.ends {
            // An interval without width is nobody's concern, so its variant is not asked about.
            if *end > start && counts(*variant) {
                sum += end - start;
            }
            start = *end;
        }
        f64::from(sum) / f64::from(self.total.max(1))
    }
}

#[cfg(test)]
mod tests;
