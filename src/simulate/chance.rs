//! Draws that a simulated world is made of. All chance comes from the generator that is passed in, so a seed is a
//! world.

use rand::{Rng, RngExt};

use crate::stats::quantile;
use std::time::Duration;

/// Uniform in (0, 1].
fn above_zero(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

/// Seconds until the next event, of events that come at `rate` a second; infinite where none comes.
pub(super) fn gap(rng: &mut impl Rng, rate: f64) -> f64 {
    if rate > 0.0 { -above_zero(rng).ln() / rate } else { f64::INFINITY }
}

/// How many events come where `mean` are expected. Above 200 by the normal law, which is then within 1 % of it.
pub(super) fn poisson(rng: &mut impl Rng, mean: f64) -> u64 {
    if mean > 200.0 {
        return (mean + mean.sqrt() * normal(rng) + 0.5).max(0.0) as u64;
    }
    let (mut left, mut events) = (mean, 0);
    loop {
        left += above_zero(rng).ln();
        if left < 0.0 {
            return events;
        }
        events += 1;
    }
}

/// Standard normal, by Box and Muller.
pub(super) fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * above_zero(rng).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// A law of latency, as equally likely buckets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Law(Vec<u16>);

/// How a variant's latency is spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lognormal {
    pub(super) median: Duration,
    /// Standard deviation of the natural logarithm.
    pub(super) spread: f64,
    /// This part of the calls takes so many times as long.
    pub(super) tail: (f64, f64),
}

impl Law {
    pub(super) fn new(law: &Lognormal) -> Self {
        const PLACES: u32 = 1 << 16;
        let (tail, times) = law.tail;
        let cut = (f64::from(PLACES) * (1.0 - tail)).round() as u32;
        let part = |from: u32, until: u32, times: f64| {
            (from..until).map(move |place| {
                let p = (f64::from(place - from) + 0.5) / f64::from(until - from);
                let seconds = law.median.as_secs_f64() * times * (law.spread * normal_quantile(p)).exp();
                quantile::bucket(Duration::from_secs_f64(seconds))
            })
        };
        Law(part(0, cut, 1.0).chain(part(cut, PLACES, times)).collect())
    }

    /// Draws `calls` latencies, counted by bucket in growing order.
    pub(super) fn draw(&self, rng: &mut impl Rng, calls: u64, counts: &mut [u32]) -> Vec<(u16, u32)> {
        if calls == 0 {
            return Vec::new();
        }
        let mut left = calls;
        while left > 0 {
            let mut bits = rng.next_u64();
            for _ in 0..left.min(4) {
                let bucket = self.0[usize::from(bits as u16)];
                counts[usize::from(bucket)] += 1;
                bits >>= 16;
            }
            left -= left.min(4);
        }
        let filled = counts.iter_mut().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (bucket as u16, std::mem::take(count))).collect()
    }
}

/// The normal quantile, by bisection of its distribution function: a table is made of it once.
fn normal_quantile(p: f64) -> f64 {
    let below = |z: f64| 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-9.0, 9.0);
    while high - low > 1e-9 {
        let middle = f64::midpoint(low, high);
        *(if below(middle) < p { &mut low } else { &mut high }) = middle;
    }
    low
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn counts_and_gaps_have_their_means() {
        let rng = &mut StdRng::seed_from_u64(1);
        for mean in [0.3, 7.0, 150.0, 3000.0] {
            let draws: Vec<f64> = (0..20_000).map(|_| poisson(rng, mean) as f64).collect();
            let average = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|draw| (draw - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average / mean - 1.0).abs() < 5.0 / (mean * 20_000.0).sqrt(), "{average} for {mean}");
            assert!((variance / mean - 1.0).abs() < 0.06, "{variance} for {mean}");
        }
        let mean = (0..20_000).map(|_| gap(rng, 4.0)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.25).abs() < 0.01, "{mean}");
        assert_eq!(gap(rng, 0.0), f64::INFINITY);
    }

    #[test]
    fn latencies_have_their_median_and_their_tail() {
        let law = Lognormal { median: Duration::from_millis(20), spread: 0.5, tail: (0.02, 50.0) };
        let rng = &mut StdRng::seed_from_u64(2);
        let drawn = Law::new(&law).draw(rng, 100_000, &mut vec![0; quantile::BUCKETS]);
        let above = |limit: u64| {
            let limit = quantile::bucket(Duration::from_millis(limit));
            drawn
                .iter()
                .filter(|(bucket, _)| *bucket > limit)
                .map(|(_, count)| u64::from(*count))
                .sum::<u64>()
        };
        assert_eq!(drawn.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), 100_000);
        assert!((49_000..52_000).contains(&above(20)), "{}", above(20));
        assert!((1_800..2_200).contains(&above(200)), "{}", above(200));
    }
}
