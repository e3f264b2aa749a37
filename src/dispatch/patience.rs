//! How long another variant than the baseline may take: a few times what the baseline takes itself.
//!
//! The baseline's answers of the last one to two minutes are counted by how long they took, in buckets that grow by a
//! fourth root of two, in two generations: one that fills, and the one before it. A quantile is read from both, at its
//! bucket's upper bound, so it is at most 19 % too high and never too low. It is read anew at most once a second.
//!
//! Pure: time is given.

use std::time::{Duration, Instant};

/// Answers without which nothing is known of the baseline.
const ENOUGH: u64 = 100;
/// The bound until then.
pub const UNKNOWN: Duration = Duration::from_secs(5);
/// The bound is never less: below it a failure would say nothing about the variant.
const LEAST: Duration = Duration::from_millis(100);
/// Times the baseline's 99th percentile.
const TIMES: u32 = 4;
/// How long a generation fills.
const GENERATION: Duration = Duration::from_secs(60);
/// How long a quantile is good for.
const FRESH: Duration = Duration::from_secs(1);
/// The upper bound of the first bucket.
const FIRST: f64 = 100e-6;
/// 100 µs × 2^(79 ÷ 4): 88 s, which the last bucket has no end to.
const BUCKETS: usize = 80;

/// What one worker knows of how long one model's baseline takes.
#[derive(Debug)]
pub struct Patience {
    filling: Generation,
    before: Generation,
    /// Since when the first of them fills.
    since: Instant,
    /// The bound, and when it was last made.
    bound: Duration,
    made: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Generation([u32; BUCKETS]);

impl Patience {
    /// One that knows nothing.
    pub fn new(now: Instant) -> Self {
        let empty = Generation([0; BUCKETS]);
        Patience { filling: empty.clone(), before: empty, since: now, bound: UNKNOWN, made: None }
    }

    /// The baseline answered after `elapsed`.
    pub fn answered(&mut self, elapsed: Duration, now: Instant) {
        self.turn(now);
        let count = &mut self.filling.0[bucket(elapsed)];
        *count = count.saturating_add(1);
    }

    /// What another variant may take at most: four times the 99th percentile of the baseline, at least 100 ms;
    /// [`UNKNOWN`] before 100 answers are known.
    pub fn bound(&mut self, now: Instant) -> Duration {
        let fresh = self.made.is_some_and(|made| now.saturating_duration_since(made) < FRESH);
        if !fresh {
            self.turn(now);
            self.bound = self.p99().map_or(UNKNOWN, |p99| (p99 * TIMES).max(LEAST));
            self.made = Some(now);
        }
        self.bound
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < GENERATION {
            return;
        }
        let empty = Generation([0; BUCKETS]);
        let filled = std::mem::replace(&mut self.filling, empty.clone());
        self.before = if age < 2 * GENERATION { filled } else { empty };
        self.since = now;
    }

    /// The 99th percentile of what is known; `None` while that is too little.
    fn p99(&self) -> Option<Duration> {
        let counts =
            self.filling.0.iter().zip(&self.before.0).map(|(now, then)| u64::from(*now) + u64::from(*then));
        let total: u64 = counts.clone().sum();
        if total < ENOUGH {
            return None;
        }
        let wanted = (total * 99).div_ceil(100);
        let mut seen = 0;
        let found = counts.into_iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(upper)
    }
}

/// The bucket that a duration falls into.
fn bucket(elapsed: Duration) -> usize {
    let steps = (elapsed.as_secs_f64() / FIRST).log2() * 4.0;
    // What is no number above zero is below the first bound.
    (steps.ceil().max(0.0) as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket.
fn upper(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST * (bucket as f64 / 4.0).exp2())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(answers: impl IntoIterator<Item = Duration>, now: Instant) -> Patience {
        let mut patience = Patience::new(now);
        answers.into_iter().for_each(|elapsed| patience.answered(elapsed, now));
        patience
    }

    #[test]
    fn nothing_is_known_before_enough_answers() {
        let now = Instant::now();
        let answer = Duration::from_millis(40);
        assert_eq!(fed([answer; 99], now).bound(now), UNKNOWN);
        assert!(fed([answer; 100], now).bound(now) < UNKNOWN);
    }

    #[test]
    fn four_times_the_slowest_hundredth() {
        let now = Instant::now();
        let slow = |count: usize| {
            let fast = std::iter::repeat_n(Duration::from_millis(2), 1000 - count);
            let slow = std::iter::repeat_n(Duration::from_millis(200), count);
            fed(fast.chain(slow), now).bound(now)
        };
        let bound = slow(20);
        assert!(bound >= Duration::from_millis(800) && bound < Duration::from_millis(960), "{bound:?}");
        assert_eq!(slow(5), LEAST, "fewer than a hundredth say nothing");
    }

    #[test]
    fn it_follows_the_baseline_within_two_minutes() {
        let began = Instant::now();
        let mut patience = fed([Duration::from_millis(500); 1000], began);
        assert!(patience.bound(began) >= Duration::from_secs(2));
        let mut now = began;
        for _ in 0..121 {
            now += Duration::from_secs(1);
            for _ in 0..10 {
                patience.answered(Duration::from_millis(50), now);
            }
        }
        let bound = patience.bound(now);
        assert!(bound >= Duration::from_millis(200) && bound < Duration::from_millis(240), "{bound:?}");
        assert_eq!(patience.bound(now + Duration::from_secs(600)), UNKNOWN, "nothing was heard for long");
    }

    #[test]
    fn it_is_read_anew_once_a_second() {
        let now = Instant::now();
        let mut patience = fed([Duration::from_millis(100); 100], now);
        let first = patience.bound(now);
        for _ in 0..1000 {
            patience.answered(Duration::from_millis(800), now);
        }
        assert_eq!(patience.bound(now + Duration::from_millis(999)), first);
        assert!(patience.bound(now + Duration::from_secs(1)) > first);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_falls_into_it(micros in 1_u64..80_000_000) {
            let elapsed = Duration::from_micros(micros);
            let index = bucket(elapsed);
            // A nanosecond for the rounding.
            let least = if index == 0 { Duration::ZERO } else { upper(index - 1) };
            prop_assert!(elapsed <= upper(index) + Duration::from_nanos(1));
            prop_assert!(elapsed + Duration::from_nanos(1) >= least);
        }
    }

    #[test]
    fn no_time_and_all_time_have_a_bucket() {
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
    }
}
