//! What a canary asks of its candidate before any call: how many calls each guard needs until it can pass.
//!
//! The numbers are of a candidate that is exactly as good as the baseline, at the share of the first step, and come
//! from the very bets that will judge it, played on what is to be expected.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Canary;
use crate::config::units::Percent;
use crate::stats::quantile::{BUCKETS, upper_edge};
use crate::strategy::guards::latency::needed;
use crate::strategy::guards::{PASS, name_of, rate};

/// What one guard needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// As in [`crate::verdict::Finding::guard`].
    pub guard: Arc<str>,
    /// Calls of a candidate as good as the baseline until the guard can pass; none: no number is enough, for its
    /// margin allows nothing.
    pub calls: Option<u64>,
}

/// What a baseline is like, where nobody has seen it yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Share of calls that fail, and that are refused.
    pub rate: f64,
    /// Spread of latency: the standard deviation of its natural logarithm.
    pub spread: f64,
}

/// What the guards on errors, rejections and latency need at the canary's first step.
pub fn needs(canary: &Canary, expected: &Expected) -> Vec<Need> {
    let share = canary.steps.first().map_or(0.5, |step| step.share.probability());
    let guards = &canary.guards;
    let rates = [("errors", guards.errors), ("rejections", guards.rejections)];
    let rates = rates.into_iter().filter_map(|(name, margin)| {
        let calls = rate::needed(&margin?, share, expected.rate, -PASS.ln());
        Some(Need { guard: Arc::from(name), calls })
    });
    let law = lognormal(expected.spread);
    let latency = guards
        .latency
        .iter()
        .map(|guard| Need { guard: name_of(guard), calls: needed(guard, &law, share, -PASS.ln()) });
    rates.chain(latency).collect()
}

/// What a candidate goes through at one share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Its share.
    pub share: Percent,
    /// Calls of it.
    pub calls: u64,
    /// How long that takes.
    pub time: Duration,
}

/// All steps of a candidate as good as the baseline, at `rate` calls a second of both: its slowest guard passes at the
/// first step, and the others last as long as they hold. None where a guard can never pass. Feedback is not in it.
pub fn legs(canary: &Canary, expected: &Expected, rate: f64) -> Option<Vec<Leg>> {
    let needs = needs(canary, expected);
    let slowest = needs.iter().map(|need| need.calls).try_fold(0, |most, calls| Some(most.max(calls?)))?;
    let leg = |(index, step): (usize, &crate::config::Step)| {
        let own = rate * step.share.probability();
        // A step takes its hold's calls, however soon it has passed.
        let least = step.calls.max((own * step.hold.as_secs_f64()) as u64);
        let calls = if index == 0 { slowest.max(least) } else { least };
        let time = step.hold.max(Duration::try_from_secs_f64(calls as f64 / own).unwrap_or(Duration::MAX));
        Leg { share: step.share, calls, time }
    };
    Some(canary.steps.iter().enumerate().map(leg).collect())
}

/// A million latencies around 10 ms, by bucket.
fn lognormal(spread: f64) -> Vec<u64> {
    let below = |bucket: u16| {
        let z = (upper_edge(bucket).as_secs_f64() / 0.010).ln() / spread;
        (1e6 * 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)).round() as u64
    };
    (0..BUCKETS as u16).map(|bucket| below(bucket) - bucket.checked_sub(1).map_or(0, below)).collect()
}
