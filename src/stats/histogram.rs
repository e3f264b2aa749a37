//! Latencies counted per bucket, and quantiles of them for reports.
//!
//! Only the buckets between the first and the last one in use take room, so an idle rollout's evidence is small; two
//! histograms add up whoever counted them. The buckets are those of the quantile test.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::quantile::{BUCKETS, bucket, upper_edge};
use crate::stats::rate::rate_interval;
use crate::stats::restarts::Tally;

/// Calls per latency bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    first: usize,
    counts: Vec<u64>,
}

/// A quantile of latencies with what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantile {
    /// The upper edge of the bucket that holds it: at most 2 % too high.
    pub value: Duration,
    /// The ends of its confidence sequence; the upper one is `None` as long as there are too few calls for one.
    pub low: Duration,
    /// See [`Self::low`].
    pub high: Option<Duration>,
}

impl Histogram {
    /// Counts one call.
    pub fn record(&mut self, latency: Duration) {
        self.add(bucket(latency), 1);
    }

    /// Adds calls to a bucket; past the last bucket they count there.
    pub fn add(&mut self, bucket: u16, calls: u64) {
        if calls == 0 {
            return;
        }
        let at = usize::from(bucket).min(BUCKETS - 1);
        if self.counts.is_empty() {
            self.first = at;
        }
        if at < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - at));
            self.first = at;
        }
        let place = at - self.first;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += calls;
        }
    }

    /// Calls in all buckets.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The counts of all buckets from the first on, as the quantile test takes them.
    pub fn dense(&self) -> Vec<u64> {
        let mut dense = vec![0; self.first];
        dense.extend_from_slice(&self.counts);
        dense
    }

    /// The q-quantile, with its confidence sequence at level 1 − α; `None` without calls.
    pub fn quantile(&self, q: f64, alpha: f64) -> Option<Quantile> {
        let all = self.total();
        let rank = (q * all as f64).ceil().max(1.0) as u64;
        let value = upper_edge(self.bucket_of_rank(rank)?);
        // The bound of the rate below a point is the bound of which ranks the point may have.
        let hits = (q * all as f64).round() as u64;
        let (low, high) = rate_interval(hits, all - hits, 1000.0, alpha);
        let low = self.bucket_of_rank((low * all as f64).floor().max(1.0) as u64)?;
        let high = (high < 1.0).then(|| self.bucket_of_rank((high * all as f64).ceil() as u64)).flatten();
        Some(Quantile { value, low: upper_edge(low), high: high.map(upper_edge) })
    }

    /// The bucket of the call that is the `rank`-th from below, beginning at 1.
    fn bucket_of_rank(&self, rank: u64) -> Option<u16> {
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        u16::try_from(self.first + place).ok()
    }
}

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        for (place, count) in other.counts.iter().enumerate() {
            self.add((other.first + place) as u16, *count);
        }
    }
}

impl Tally for Histogram {
    fn since(&self, earlier: &Self) -> Self {
        let mut since = Self::default();
        for (place, count) in self.counts.iter().enumerate() {
            let at = self.first + place;
            let before = at.checked_sub(earlier.first).and_then(|place| earlier.counts.get(place)).copied();
            since.add(at as u16, count.saturating_sub(before.unwrap_or(0)));
        }
        since
    }
}

/// The latencies of either arm.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histograms {
    /// Those of the candidate.
    pub candidate: Histogram,
    /// Those of the baseline.
    pub baseline: Histogram,
}

impl AddAssign<&Self> for Histograms {
    fn add_assign(&mut self, other: &Self) {
        self.candidate += &other.candidate;
        self.baseline += &other.baseline;
    }
}

impl Tally for Histograms {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            candidate: self.candidate.since(&earlier.candidate),
            baseline: self.baseline.since(&earlier.baseline),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        latencies.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
        histogram
    }

    #[test]
    fn quantiles_and_what_is_known_of_them() {
        assert_eq!(Histogram::default().quantile(0.5, 0.05), None);
        let histogram = of(&(1..=1000).map(|at| at * 10).collect::<Vec<_>>());
        let p95 = histogram.quantile(0.95, 0.05).unwrap();
        let near = |got: Duration, low: u64, high: u64| {
            assert!((low..=high).contains(&(got.as_micros() as u64)), "{got:?}");
        };
        near(p95.value, 9_500, 9_690);
        near(p95.low, 9_000, 9_500);
        near(p95.high.unwrap(), 9_600, 10_000);
        let few = of(&[10, 20, 30]).quantile(0.99, 0.05).unwrap();
        assert_eq!(few.high, None);
        assert_eq!(few.value, upper_edge(bucket(Duration::from_micros(30))));
    }

    #[test]
    fn only_the_range_in_use_takes_room() {
        let histogram = of(&[1_000, 2_000]);
        assert!(histogram.counts.len() < 40);
        assert_eq!(histogram.dense().iter().sum::<u64>(), 2);
    }

    proptest! {
        #[test]
        fn parts_add_up_in_any_order_and_come_apart_again(
            one in vec(1u64..1_000_000, 0..60), other in vec(1u64..1_000_000, 0..60)) {
            let whole = of(&[one.clone(), other.clone()].concat());
            let (mut forth, mut back) = (of(&one), of(&other));
            let early = forth.clone();
            forth += &back.clone();
            back += &early;
            prop_assert_eq!(&forth, &whole);
            prop_assert_eq!(&back, &whole);
            prop_assert_eq!(whole.since(&early), of(&other));
            prop_assert_eq!(whole.total() as usize, one.len() + other.len());
        }
    }
}
