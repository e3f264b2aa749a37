//! What a canary's calls and feedback prove: one guard's evidence beside the other, each in a room of its own.
//!
//! The chance of a false failure is split evenly over the guards, for any of them may fail the candidate. A pass
//! needs all of them at once, so each may be wrong on its own level there, [`PASS`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate::{Count, Rate};
use crate::config::{Canary, Margin};
use crate::evidence::Gain;
use crate::verdict::{Finding, Scale, Verdict};

/// Chance that a guard is ever passed by a candidate that breaks its margin.
pub(super) const PASS: f64 = 0.05;

/// Everything that the guards of one canary remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    errors: Rate,
    rejections: Rate,
}

impl Evidence {
    pub(super) fn new(now: Duration) -> Self {
        Evidence { errors: Rate::new(now), rejections: Rate::new(now) }
    }

    /// Adds what was seen while the candidate's share was `share`, above 0 and below 1.
    pub(super) fn add(&mut self, canary: &Canary, share: f64, gain: &Gain, now: Duration) {
        let (Some(baseline), Some(candidate)) =
            (gain.arms.get(canary.baseline), gain.arms.get(canary.candidate))
        else {
            return;
        };
        if let Some(margin) = &canary.guards.errors {
            let count = |arm: &crate::evidence::ArmGain| Count { calls: arm.calls, hits: arm.errors };
            self.errors.add(margin, share, count(candidate), count(baseline), now);
        }
        if let Some(margin) = &canary.guards.rejections {
            let count = |arm: &crate::evidence::ArmGain| Count { calls: arm.calls, hits: arm.rejections };
            self.rejections.add(margin, share, count(candidate), count(baseline), now);
        }
    }

    /// Whether a guard fails. Cheap: at each error event.
    pub(super) fn fails(&self, canary: &Canary) -> bool {
        let threshold = threshold(canary);
        self.rates(canary).any(|(_, _, rate)| rate.ln_worse() >= threshold)
    }

    /// Whether all guards pass that a step asks for; the `last` one asks for feedback too.
    pub(super) fn passes(&self, canary: &Canary, _last: bool) -> bool {
        self.rates(canary).all(|(_, _, rate)| rate.ln_sound() >= -PASS.ln())
    }

    /// What each guard finds.
    pub(super) fn findings(&self, canary: &Canary) -> Vec<Finding> {
        self.rates(canary).map(|(name, margin, rate)| of_rate(canary, name, margin, rate)).collect()
    }

    fn rates<'a>(&'a self, canary: &'a Canary) -> impl Iterator<Item = (&'static str, &'a Margin, &'a Rate)> {
        let errors = canary.guards.errors.as_ref().map(|margin| ("errors", margin, &self.errors));
        let rejections =
            canary.guards.rejections.as_ref().map(|margin| ("rejections", margin, &self.rejections));
        errors.into_iter().chain(rejections)
    }
}

/// ln of the evidence at which one guard fails.
pub(super) fn threshold(canary: &Canary) -> f64 {
    (guards(canary) as f64 / canary.alpha).ln()
}

fn guards(canary: &Canary) -> usize {
    let guards = &canary.guards;
    let rates = usize::from(guards.errors.is_some()) + usize::from(guards.rejections.is_some());
    (rates + guards.latency.len() + guards.feedback.len()).max(1)
}

fn of_rate(canary: &Canary, name: &str, margin: &Margin, rate: &Rate) -> Finding {
    let threshold = threshold(canary);
    let (baseline, candidate) = rate.estimates();
    let ln_e = rate.ln_worse();
    Finding {
        guard: Arc::from(name),
        verdict: verdict(ln_e >= threshold, rate.ln_sound() >= -PASS.ln()),
        baseline,
        candidate,
        harm: rate.harm((-threshold).exp(), PASS),
        margin: margin.absolute.max(margin.relative * baseline.value.unwrap_or(0.0)),
        scale: Scale::Share,
        ln_e,
        threshold,
        missing: 0,
    }
}

fn verdict(fails: bool, passes: bool) -> Verdict {
    match (fails, passes) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::NotEnoughData,
    }
}
