//! E-values on the rate of hits among trials: beta-binomial mixtures.
//!
//! Each alternative rate θ has a likelihood ratio against θ₀; a beta law over the alternatives mixes them. Cut off at
//! θ₀ it bets on one side only, whole it bets on both. The parameters make it tightest at a number of trials that is
//! set before the data. All is written by the tails of a beta law over their common scale, so nothing cancels.
//! Source: the beta-binomial mixtures of Howard, Ramdas, McAuliffe, Sekhon (2021).

use serde::{Deserialize, Serialize};

use crate::stats::mixture;
use crate::stats::special::{beta_cut, ln_front};

/// The level for which mixtures are tuned. Decisions may be at any other.
pub const TUNED_FOR: f64 = 0.05;

/// "At most θ₀ of the trials are hits" (or, mirrored, "at least"): a beta-binomial mixture on one side of θ₀.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BetaMixture {
    theta: f64,
    a: f64,
    b: f64,
    /// ln of the mass above θ₀ over the front there, before any trial; and of the mass below.
    above: f64,
    below: f64,
}

impl BetaMixture {
    /// For a rate θ₀ in (0, 1), tightest at `trials` trials.
    pub fn new(theta: f64, trials: f64) -> Self {
        let (a, b) = parameters(theta, trials, 2.0 * TUNED_FOR);
        let cut = beta_cut(a, b, theta);
        Self { theta, a, b, above: cut.ln_upper - cut.ln_front, below: cut.ln_lower - cut.ln_front }
    }

    /// The parameters of the beta law before any trial.
    pub fn prior(&self) -> (f64, f64) {
        (self.a, self.b)
    }

    /// θ₀.
    pub fn theta(&self) -> f64 {
        self.theta
    }

    /// ln E against "at most θ₀": large when there are too many hits.
    pub fn ln_e_above(&self, hits: u64, misses: u64) -> f64 {
        self.ln_e_above_at(hits as f64, misses as f64)
    }

    fn ln_e_above_at(&self, hits: f64, misses: f64) -> f64 {
        let cut = beta_cut(self.a + hits, self.b + misses, self.theta);
        cut.ln_upper - cut.ln_front - self.above
    }

    /// How far above θ₀ the part of hits among `trials` may be, at level α; at most 1 − θ₀.
    pub fn bound(&self, trials: f64, alpha: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0 - self.theta);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            let hits = trials * (self.theta + middle);
            let inside = self.ln_e_above_at(hits, (trials - hits).max(0.0)) < -alpha.ln();
            *(if inside { &mut low } else { &mut high }) = middle;
        }
        high
    }

    /// ln E against "at least θ₀": large when there are too few hits.
    pub fn ln_e_below(&self, hits: u64, misses: u64) -> f64 {
        let cut = beta_cut(self.a + hits as f64, self.b + misses as f64, self.theta);
        cut.ln_lower - cut.ln_front - self.below
    }
}

/// "θ₀ of the trials are hits", against both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TwoSidedBeta {
    theta: f64,
    a: f64,
    b: f64,
    ln_front: f64,
}

impl TwoSidedBeta {
    /// For a rate θ₀ in (0, 1), tightest at `trials` trials.
    pub fn new(theta: f64, trials: f64) -> Self {
        let (a, b) = parameters(theta, trials, TUNED_FOR);
        Self { theta, a, b, ln_front: ln_front(a, b, theta) }
    }

    /// ln E: large when there are too many hits or too few.
    pub fn ln_e(&self, hits: u64, misses: u64) -> f64 {
        self.ln_front - ln_front(self.a + hits as f64, self.b + misses as f64, self.theta)
    }
}

/// a = r/(1 − θ₀) and b = r/θ₀, with r = ρ − θ₀(1 − θ₀) from the best ρ of the normal mixture, kept above zero.
fn parameters(theta: f64, trials: f64, alpha: f64) -> (f64, f64) {
    let one = theta * (1.0 - theta);
    let r = (mixture::rho(trials * one, alpha) - one).max(0.001 * one);
    (r / (1.0 - theta), r / theta)
}
