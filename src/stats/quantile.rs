//! Latency in logarithmic buckets, and an e-value on one of its quantiles.
//!
//! A bucket is 2 % wide: [`bucket`] is the only way in, so that counts of any two processes add up. The test asks
//! whether the candidate's q-quantile is above (1 + tolerance) times the baseline's. For the bucket j that holds the
//! baseline's (shifted) quantile two things must be true under the hypothesis: at least q of the candidate's calls
//! are at or below j, and at most q of the baseline's are below j. Each has its own e-value, the two are about
//! different calls, so their product is one as well; the smallest product over all j is valid whichever j is true.
//! It is exact for the bucketed latency, deterministic, and needs nothing but counts.
//! Source: the one-sided form of Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B
//! testing and best-arm identification" (2022).

use std::time::Duration;

use crate::stats::beta_mixture::BetaMixture;

/// How many buckets there are: 1 µs and below falls into the first, more than 100 s into the last.
pub const BUCKETS: usize = 933;
/// The upper edge of a bucket over that of the one before it.
pub const GROWTH: f64 = 1.02;
/// At how many calls the mixtures of [`QuantileTest`] are tightest.
const CALLS: f64 = 1000.0;

/// The bucket that a latency falls into: ceil(log_1.02 of it in µs), within `0..BUCKETS`.
pub fn bucket(latency: Duration) -> u16 {
    let micros = latency.as_nanos() as f64 / 1e3;
    if micros <= 1.0 {
        return 0;
    }
    // A latency on an edge belongs to the bucket that it ends.
    let place = (micros.ln() / GROWTH.ln() - 1e-9).ceil();
    place.min((BUCKETS - 1) as f64) as u16
}

/// The upper edge of a bucket: a latency in it is at most that, and at most 2 % less (but for the last one).
pub fn upper_edge(bucket: u16) -> Duration {
    Duration::from_nanos((GROWTH.powi(i32::from(bucket)) * 1e3).round() as u64)
}

/// "The candidate's q-quantile is at most (1 + tolerance) times the baseline's."
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileTest {
    mixture: BetaMixture,
    shift: usize,
}

impl QuantileTest {
    /// `q` in (0, 1), such as 0.99; `tolerance`: how much slower is allowed, 0.15 for 15 % more, taken to the nearest
    /// whole bucket (see [`Self::tolerance`]).
    pub fn new(q: f64, tolerance: f64) -> Self {
        let shift = (tolerance.ln_1p() / GROWTH.ln()).round().max(0.0) as usize;
        Self { mixture: BetaMixture::new(q, CALLS), shift }
    }

    /// The tolerance that whole buckets make of the one asked for.
    pub fn tolerance(&self) -> f64 {
        GROWTH.powi(self.shift as i32) - 1.0
    }

    /// ln E from the calls of either arm per bucket. At ln(1/α) and more the candidate is slower, at level α.
    pub fn ln_e(&self, candidate: &[u64], baseline: &[u64]) -> f64 {
        let edges = self.edges(candidate, baseline);
        let Some(last) = edges.len().checked_sub(1) else { return 0.0 };
        let mut search =
            Search { test: self, edges: &edges, all: totals(candidate, baseline), least: f64::INFINITY };
        let (low, high) = (search.candidate(0), search.baseline(last));
        search.least = search.least.min(low + search.baseline(0)).min(search.candidate(last) + high);
        search.between(0, last);
        search.least
    }

    /// Per bucket j that could hold the quantile: calls of the candidate at or below j, and of the baseline below it.
    /// Of neighbours that no call parts only one is kept, since their values are the same.
    fn edges(&self, candidate: &[u64], baseline: &[u64]) -> Vec<(u64, u64)> {
        let filled = candidate.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let mut edges: Vec<(u64, u64)> = Vec::new();
        let (mut at_or_below, mut below) = (0, 0);
        for (j, count) in candidate.iter().take(filled).enumerate() {
            at_or_below += count;
            if let Some(from) = j.checked_sub(self.shift + 1) {
                below += baseline.get(from).copied().unwrap_or(0);
            }
            if edges.last() != Some(&(at_or_below, below)) {
                edges.push((at_or_below, below));
            }
        }
        edges
    }
}

fn totals(candidate: &[u64], baseline: &[u64]) -> (u64, u64) {
    (candidate.iter().sum(), baseline.iter().sum())
}

/// The smallest product over all edges without computing most of them: from left to right the candidate's part
/// falls and the baseline's part grows, so between two edges nothing is below the right one's first part plus the
/// left one's second.
struct Search<'a> {
    test: &'a QuantileTest,
    edges: &'a [(u64, u64)],
    all: (u64, u64),
    least: f64,
}

impl Search<'_> {
    fn candidate(&self, at: usize) -> f64 {
        let hits = self.edges[at].0;
        self.test.mixture.ln_e_below(hits, self.all.0 - hits)
    }

    fn baseline(&self, at: usize) -> f64 {
        let hits = self.edges[at].1;
        self.test.mixture.ln_e_above(hits, self.all.1 - hits)
    }

    fn between(&mut self, left: usize, right: usize) {
        let mut open = vec![(left, self.baseline(left), right, self.candidate(right))];
        while let Some((left, least_baseline, right, least_candidate)) = open.pop() {
            if right - left < 2 || least_baseline + least_candidate >= self.least {
                continue;
            }
            let middle = left.midpoint(right);
            let (candidate, baseline) = (self.candidate(middle), self.baseline(middle));
            self.least = self.least.min(candidate + baseline);
            open.push((left, least_baseline, middle, candidate));
            open.push((middle, baseline, right, least_candidate));
        }
    }
}

#[cfg(test)]
mod tests;
