//! Whether the candidate has more errors than it may: an e-value on its share of all errors.
//!
//! As long as the candidate's error rate is at most (1 + tolerance) times the baseline's, an error is the candidate's
//! with a probability of at most θ₀ = w(1 + tol) / (w(1 + tol) + 1 − w), where w is the share of calls that chance
//! gave it. Successes need not be counted, and an outage that hits both arms cancels out.
//! The alternatives θ > θ₀ are mixed by a beta law cut off at θ₀, so the e-value holds at any stopping time.
//! Sources: Lindon & Malek, "Anytime-valid inference for multinomial count data" (2022), and the one-sided
//! beta-binomial mixture of Howard et al. (2021).

use serde::{Deserialize, Serialize};

use crate::stats::beta_mixture::BetaMixture;

/// At how many errors the mixture of [`ErrorShare`] is tightest: decisions fall after some 5 to 60.
pub const EVENTS: f64 = 30.0;

/// "The candidate's error rate is at most (1 + tolerance) times the baseline's", at one share of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorShare {
    mixture: Option<BetaMixture>,
}

impl ErrorShare {
    /// `share`: the part of all calls that chance gives to the candidate; at 0 or 1 there is nothing to compare, and
    /// E stays 1. `tolerance`: how much more errors are allowed, 0.25 for a quarter more.
    pub fn new(share: f64, tolerance: f64) -> Self {
        Self::tuned(share, tolerance, EVENTS)
    }

    /// As [`Self::new`], tightest at another number of errors than [`EVENTS`].
    pub fn tuned(share: f64, tolerance: f64, events: f64) -> Self {
        let weighted = share * (1.0 + tolerance);
        let theta = weighted / (weighted + 1.0 - share);
        let comparable = theta > 0.0 && theta < 1.0;
        Self { mixture: comparable.then(|| BetaMixture::new(theta, events)) }
    }

    /// The largest part of all errors that may be the candidate's; `None` where there is nothing to compare.
    pub fn largest_share(&self) -> Option<f64> {
        self.mixture.map(|mixture| mixture.theta())
    }

    /// ln E from the errors of either arm. At ln(1/α) and more the candidate is worse, at level α.
    pub fn ln_e(&self, candidate: u64, baseline: u64) -> f64 {
        self.mixture.map_or(0.0, |mixture| mixture.ln_e_above(candidate, baseline))
    }
}

/// "At most `rate` of the candidate's calls fail": for a candidate without a baseline beside it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FixedRate {
    mixture: BetaMixture,
}

impl FixedRate {
    /// `rate` in (0, 1): what the candidate may reach, such as the error budget of its service level. Tightest when
    /// some [`EVENTS`] errors were to be expected.
    pub fn new(rate: f64) -> Self {
        Self { mixture: BetaMixture::new(rate, EVENTS / rate) }
    }

    /// ln E from the failed calls and all the others.
    pub fn ln_e(&self, failed: u64, others: u64) -> f64 {
        self.mixture.ln_e_above(failed, others)
    }
}

#[cfg(test)]
mod tests;
