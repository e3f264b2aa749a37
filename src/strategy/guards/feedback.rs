//! Whether the candidate earns worse feedback than it may: the overlap-weighted score of its mean beside the
//! baseline's.
//!
//! The score weighs every unit by the chance it had to get either variant, so ramps and drift do not bias it, and
//! takes its variance over buckets of units, so a unit that comes back does not count as many. How the score comes
//! from exposures and rewards is not known here; what is known is that it adds up. The test is asymptotic, and
//! decides nothing before its variance is that of forty units or so, and 64 buckets are in use where units are known.

use serde::{Deserialize, Serialize};

use super::PASS;
use crate::config::FeedbackGuard;
use crate::evidence::{Scores, Total};
use crate::stats::mixture::{OneSided, TwoSided};
use crate::stats::overlap::Sums;
use crate::verdict::{Estimate, Interval};

/// Units at which the test is sharpest.
const UNITS: f64 = 5000.0;
/// The least information, in units that could go either way, on which it decides.
const LEAST: f64 = 40.0;

/// All that is remembered of one feedback.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Feedback {
    sums: Sums,
    baseline: Total,
    candidate: Total,
    /// Variance of one unit's reward, and its weight, as the first scores had them. It sets where the test is
    /// sharpest, and says nothing of the effect's sign.
    first: Option<(f64, f64)>,
}

impl Feedback {
    pub(in crate::strategy) fn add(&mut self, scores: &Scores) {
        self.sums += &scores.sums;
        self.baseline.add(scores.baseline);
        self.candidate.add(scores.candidate);
        let units = self.baseline.n + self.candidate.n;
        if self.first.is_none() && self.sums.variance() > 0.0 && self.sums.information() > 0.0 && units > 0 {
            let variance = self.sums.variance() / self.sums.information();
            self.first = Some((variance, self.sums.information() / units as f64));
        }
    }

    /// ln of the evidence that the candidate is worse than allowed.
    pub(in crate::strategy) fn ln_worse(&self, guard: &FeedbackGuard, alpha: f64) -> f64 {
        let margin = self.margin(guard);
        self.judge(alpha, |mixture| match guard.lower_is_better {
            false => self.sums.ln_e_below(-margin, mixture),
            true => self.sums.ln_e_above(-margin, mixture),
        })
    }

    /// ln of the evidence that it is not.
    pub(in crate::strategy) fn ln_sound(&self, guard: &FeedbackGuard) -> f64 {
        let margin = self.margin(guard);
        self.judge(PASS, |mixture| match guard.lower_is_better {
            false => self.sums.ln_e_above(margin, mixture),
            true => self.sums.ln_e_below(margin, mixture),
        })
    }

    fn judge(&self, alpha: f64, ln_e: impl Fn(&OneSided) -> f64) -> f64 {
        match self.first {
            Some((variance, weight)) if self.may_decide(variance) => {
                ln_e(&OneSided::new(UNITS * weight * variance, alpha))
            }
            _ => 0.0,
        }
    }

    fn may_decide(&self, variance: f64) -> bool {
        self.sums.variance() >= LEAST * variance && self.sums.enough_buckets()
    }

    /// The larger of both parts; the relative one is of the baseline's mean so far.
    pub(in crate::strategy) fn margin(&self, guard: &FeedbackGuard) -> f64 {
        let mean = self.baseline.mean().unwrap_or(0.0).abs();
        guard.margin.absolute.max(guard.margin.relative * mean)
    }

    /// Both arms: (baseline, candidate).
    pub(in crate::strategy) fn estimates(&self) -> (Estimate, Estimate) {
        let estimate = |total: &Total| Estimate { n: total.n, value: total.mean() };
        (estimate(&self.baseline), estimate(&self.candidate))
    }

    /// How much worse the candidate's mean is, in the feedback's unit, at level `alpha` for all time.
    pub(in crate::strategy) fn harm(&self, guard: &FeedbackGuard, alpha: f64) -> Option<Interval> {
        let (variance, weight) = self.first?;
        let middle = self.sums.effect()?;
        let (low, high) = match self.may_decide(variance) {
            true => self.sums.interval(&TwoSided::new(UNITS * weight * variance, alpha), alpha)?,
            false => (f64::NEG_INFINITY, f64::INFINITY),
        };
        Some(match guard.lower_is_better {
            true => Interval { low, middle, high },
            false => Interval { low: -high, middle: -middle, high: -low },
        })
    }

    /// Feedback of a candidate as good as the baseline that the guard still needs before it can pass.
    pub(in crate::strategy) fn missing(&self, guard: &FeedbackGuard) -> u64 {
        let Some((variance, _)) = self.first else { return 1 };
        let margin = self.margin(guard);
        let seen = self.candidate.n.max(1) as f64;
        let information = self.sums.information();
        let passes = |more: f64| {
            // As many more units of the same kind, without an effect.
            let (score, all) = (margin * (information * (1.0 + more)), self.sums.variance() * (1.0 + more));
            let mixture =
                OneSided::new(UNITS * information / (seen + self.baseline.n as f64) * variance, PASS);
            mixture.ln_e(self.worst_score(guard) + score, all) >= -PASS.ln()
        };
        let mut more = 1.0 / seen;
        while !passes(more) {
            more *= 1.1;
            if more * seen > 1e12 {
                return u64::MAX;
            }
        }
        (more * seen).ceil() as u64
    }

    /// The score so far, negative when the candidate is worse.
    fn worst_score(&self, guard: &FeedbackGuard) -> f64 {
        if guard.lower_is_better { -self.sums.score() } else { self.sums.score() }
    }
}
