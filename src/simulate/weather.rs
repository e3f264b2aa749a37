//! What changes with time in a world: how many calls come, what the candidate does, and outages that hit all.

use rand::Rng;

use super::chance::gap;
use super::world::{Arrivals, Change, Failing};

const DAY: f64 = 86_400.0;

/// Calls now, as a multiple of the average.
pub(super) fn busy(arrivals: Arrivals, now: f64) -> f64 {
    match arrivals {
        Arrivals::Steady => 1.0,
        Arrivals::Day => 1.0 + 0.8 * (std::f64::consts::TAU * now / DAY).sin(),
        Arrivals::Bursts => {
            let (often, busy, times) = (300.0, 10.0, 10.0);
            let quiet = often / (often + busy * (times - 1.0));
            if now % often < busy { times * quiet } else { quiet }
        }
    }
}

/// What the candidate's rate is multiplied by now.
pub(super) fn times(change: &Change, now: f64) -> f64 {
    if now >= change.after.as_secs_f64() { change.times } else { 1.0 }
}

/// When the next outage begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outages {
    every: f64,
    last: f64,
    rate: f64,
    next: f64,
}

impl Outages {
    pub(super) fn new(failing: &Failing, rng: &mut impl Rng) -> Self {
        let Some((every, last, rate)) = failing.outages else {
            return Outages { every: 0.0, last: 0.0, rate: 0.0, next: f64::INFINITY };
        };
        let every = every.as_secs_f64();
        Outages { every, last: last.as_secs_f64(), rate, next: gap(rng, 1.0 / every) }
    }

    /// Part of all calls that fails now.
    pub(super) fn rate(&mut self, now: f64, rng: &mut impl Rng) -> Option<f64> {
        while now > self.next + self.last {
            self.next += self.last + gap(rng, 1.0 / self.every);
        }
        (now >= self.next).then_some(self.rate)
    }
}
