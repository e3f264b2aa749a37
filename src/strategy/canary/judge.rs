//! What a canary's calls and feedback prove: one guard's evidence beside the other, each in a room of its own.
//!
//! The chance of a false failure is split evenly over the guards, for any of them may fail the candidate. A pass
//! needs all of them at once, so each may be wrong on its own level there, [`PASS`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::feedback::Feedback;
use super::latency::Latency;
use super::rate::{Count, Rate};
use super::resources::Resources;
use crate::config::{Canary, FeedbackGuard, LatencyGuard, Margin, OnFail, ResourcesGuard};
use crate::evidence::{ArmGain, Gain, Readings, Scores};
use crate::verdict::{Aim, Finding, Scale, Verdict};

/// Chance that a guard is ever passed by a candidate that breaks its margin.
pub(super) const PASS: f64 = 0.05;

/// Everything that the guards of one canary remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    errors: Option<Rate>,
    rejections: Option<Rate>,
    latency: Latency,
    feedback: Vec<Feedback>,
    resources: Option<Box<Resources>>,
    /// The candidate's first call, and its calls since: its latency counts when it is warm.
    first_call: Option<Duration>,
    calls: u64,
    /// The last share that calls were split by.
    share: f64,
}

impl Evidence {
    pub(super) fn new(canary: &Canary, now: Duration) -> Self {
        let guards = &canary.guards;
        Evidence {
            errors: guards.errors.map(|margin| Rate::new(&margin, now)),
            rejections: guards.rejections.map(|margin| Rate::new(&margin, now)),
            latency: Latency::new(guards.latency.len(), now),
            feedback: vec![Feedback::default(); guards.feedback.len()],
            resources: guards.resources.map(|_| Box::new(Resources::new())),
            first_call: None,
            calls: 0,
            share: 0.0,
        }
    }

    /// Adds what was seen while the candidate's share was `share`, above 0 and below 1; `late`: it is not any more.
    pub(super) fn add(&mut self, canary: &Canary, share: f64, late: bool, gain: &Gain, now: Duration) {
        let (Some(baseline), Some(candidate)) =
            (gain.arms.get(canary.baseline), gain.arms.get(canary.candidate))
        else {
            return;
        };
        let rate = |rate: &mut Option<Rate>, margin: &Option<Margin>, hits: fn(&ArmGain) -> u64| {
            if let (Some(rate), Some(margin)) = (rate, margin) {
                let count = |arm: &ArmGain| Count { calls: arm.calls, hits: hits(arm) };
                rate.add(margin, share, count(candidate), count(baseline), now);
            }
        };
        rate(&mut self.errors, &canary.guards.errors, |arm| arm.errors);
        rate(&mut self.rejections, &canary.guards.rejections, |arm| arm.rejections);
        if !late {
            self.share = share;
            if self.is_warm(canary, now) {
                self.latency.add(&canary.guards.latency, share, &candidate.latency, &baseline.latency);
            }
        }
        if candidate.calls > 0 {
            self.first_call.get_or_insert(now);
            self.calls += candidate.calls;
        }
    }

    fn is_warm(&self, canary: &Canary, now: Duration) -> bool {
        let warmup = &canary.warmup;
        self.calls >= warmup.calls
            && self.first_call.is_some_and(|first| now.saturating_sub(first) >= warmup.time)
    }

    /// Adds what the feedback of one guard showed.
    pub(super) fn add_feedback(&mut self, guard: usize, scores: &Scores) {
        if let Some(feedback) = self.feedback.get_mut(guard) {
            feedback.add(scores);
        }
    }

    /// Adds what both servers said of themselves; `calls` of the baseline and the candidate so far.
    pub(super) fn add_readings(
        &mut self,
        canary: &Canary,
        readings: &Readings,
        calls: [u64; 2],
        now: Duration,
    ) {
        let warm = self.is_warm(canary, now);
        if let (Some(resources), Some(guard)) = (&mut self.resources, &canary.guards.resources) {
            resources.add(guard, readings, calls, warm, now);
        }
    }

    /// Forgets what servers used: a person looked at it, and lets the candidate go on.
    pub(super) fn excuse_resources(&mut self) {
        self.resources = self.resources.as_ref().map(|_| Box::new(Resources::new()));
    }

    /// Why a guard on resources has nothing to judge, where that is so.
    pub(super) fn blind(&self) -> Option<&str> {
        self.resources.as_ref()?.trouble()
    }

    /// What becomes of the candidate by the guards that fail, if any does.
    pub(super) fn failure(&self, canary: &Canary) -> Option<OnFail> {
        let calls = self.fails(canary).then_some(canary.on_fail);
        let resources = self.resources.as_ref().zip(canary.guards.resources.as_ref());
        let resources = resources.and_then(|(resources, guard)| {
            resources.fails(guard, threshold(canary)).then_some(guard.on_fail)
        });
        match (calls, resources) {
            (Some(OnFail::Rollback), _) | (_, Some(OnFail::Rollback)) => Some(OnFail::Rollback),
            (calls, resources) => calls.or(resources),
        }
    }

    /// Weighs what is too costly to weigh at every call.
    pub(super) fn weigh(&mut self, canary: &Canary, now: Duration) {
        self.latency.weigh(&canary.guards.latency, now);
    }

    /// Whether a guard fails that is on calls or feedback. Cheap: at each error event.
    pub(super) fn fails(&self, canary: &Canary) -> bool {
        let threshold = threshold(canary);
        self.rates(canary).any(|(_, _, rate)| rate.ln_worse() >= threshold)
            || self.latency.weighed().iter().any(|weighed| weighed.ln_worse >= threshold)
            || self
                .feedbacks(canary)
                .any(|(guard, feedback)| feedback.ln_worse(guard, (-threshold).exp()) >= threshold)
    }

    /// Whether all guards pass that a step asks for; the `last` one asks for feedback too.
    pub(super) fn passes(&self, canary: &Canary, last: bool) -> bool {
        let enough = -PASS.ln();
        self.rates(canary).all(|(_, _, rate)| rate.ln_sound() >= enough)
            && self.latency.weighed().iter().all(|weighed| weighed.ln_sound >= enough)
            && (!last || self.feedbacks(canary).all(|(guard, feedback)| feedback.ln_sound(guard) >= enough))
    }

    /// What each guard finds: errors, rejections, latency, feedback, in the order of the file; then resources.
    pub(super) fn findings(&self, canary: &Canary) -> Vec<Finding> {
        let rates = self.rates(canary).map(|(name, margin, rate)| self.of_rate(canary, name, margin, rate));
        let latency = canary.guards.latency.iter().enumerate();
        let latency = latency.map(|(index, guard)| self.of_latency(canary, index, guard));
        let feedback = self.feedbacks(canary).map(|(guard, feedback)| of_feedback(canary, guard, feedback));
        let resources = self.resources.as_ref().zip(canary.guards.resources.as_ref());
        let resources = resources.map(|(resources, guard)| resources.findings(guard, threshold(canary)));
        rates.chain(latency).chain(feedback).chain(resources.into_iter().flatten()).collect()
    }

    fn rates<'a>(&'a self, canary: &'a Canary) -> impl Iterator<Item = (&'static str, &'a Margin, &'a Rate)> {
        let guards = &canary.guards;
        let errors = guards.errors.as_ref().zip(self.errors.as_ref());
        let rejections = guards.rejections.as_ref().zip(self.rejections.as_ref());
        let errors = errors.map(|(margin, rate)| ("errors", margin, rate));
        errors.into_iter().chain(rejections.map(|(margin, rate)| ("rejections", margin, rate)))
    }

    fn feedbacks<'a>(
        &'a self,
        canary: &'a Canary,
    ) -> impl Iterator<Item = (&'a FeedbackGuard, &'a Feedback)> {
        canary.guards.feedback.iter().zip(&self.feedback)
    }

    fn of_rate(&self, canary: &Canary, name: &str, margin: &Margin, rate: &Rate) -> Finding {
        let threshold = threshold(canary);
        let (baseline, candidate) = rate.estimates();
        let (ln_e, ln_sound) = (rate.ln_worse(), rate.ln_sound());
        let verdict = verdict(ln_e >= threshold, ln_sound >= -PASS.ln());
        Finding {
            guard: Arc::from(name),
            aim: Aim::Guardrail,
            variant: Arc::default(),
            verdict,
            baseline,
            candidate,
            harm: rate.harm((-threshold).exp(), PASS),
            margin: margin.absolute.max(margin.relative * baseline.value.unwrap_or(0.0)),
            scale: Scale::Share,
            ln_e,
            threshold,
            missing: if verdict == Verdict::Pass { 0 } else { rate.missing(margin, self.share) },
        }
    }

    fn of_latency(&self, canary: &Canary, index: usize, guard: &LatencyGuard) -> Finding {
        let threshold = threshold(canary);
        let (baseline, candidate) = self.latency.estimates(guard);
        let weighed = self.latency.weighed().get(index);
        let (ln_e, ln_sound) = weighed.map_or((0.0, 0.0), |weighed| (weighed.ln_worse, weighed.ln_sound));
        let verdict = verdict(ln_e >= threshold, ln_sound >= -PASS.ln());
        let missing = || self.latency.missing(guard, self.share, -PASS.ln());
        Finding {
            guard: name_of(guard),
            aim: Aim::Guardrail,
            variant: Arc::default(),
            verdict,
            baseline,
            candidate,
            harm: self.latency.harm(guard, (-threshold).exp(), PASS),
            margin: guard.relative,
            scale: Scale::Ratio,
            ln_e,
            threshold,
            missing: if verdict == Verdict::Pass { 0 } else { missing() },
        }
    }
}

fn of_feedback(canary: &Canary, guard: &FeedbackGuard, feedback: &Feedback) -> Finding {
    let threshold = threshold(canary);
    let alpha = (-threshold).exp();
    let (baseline, candidate) = feedback.estimates();
    let ln_e = feedback.ln_worse(guard, alpha);
    let verdict = verdict(ln_e >= threshold, feedback.ln_sound(guard) >= -PASS.ln());
    Finding {
        guard: Arc::from(format!("feedback {}", guard.name)),
        aim: Aim::Guardrail,
        variant: Arc::default(),
        verdict,
        baseline,
        candidate,
        harm: feedback.harm(guard, alpha),
        margin: feedback.margin(guard),
        scale: Scale::Mean,
        ln_e,
        threshold,
        missing: if verdict == Verdict::Pass { 0 } else { feedback.missing(guard) },
    }
}

/// `latency p99`, `latency p99.9`.
pub(super) fn name_of(guard: &LatencyGuard) -> Arc<str> {
    // Parts of a thousandth of a percent are noise of the representation.
    let thousandths = (guard.quantile * 1e5).round();
    Arc::from(format!("latency p{}", thousandths / 1e3))
}

/// ln of the evidence at which one guard fails.
pub(super) fn threshold(canary: &Canary) -> f64 {
    let guards = &canary.guards;
    let rates = usize::from(guards.errors.is_some()) + usize::from(guards.rejections.is_some());
    let parts =
        |guard: &ResourcesGuard| usize::from(guard.memory.is_some()) + usize::from(guard.cpu.is_some());
    let resources = guards.resources.as_ref().map_or(0, parts);
    let all = (rates + guards.latency.len() + guards.feedback.len() + resources).max(1);
    (all as f64 / canary.alpha).ln()
}

fn verdict(fails: bool, passes: bool) -> Verdict {
    match (fails, passes) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::NotEnoughData,
    }
}

/// ln Σ eˣ, for any size of x.
pub(super) fn ln_sum(terms: Vec<f64>) -> f64 {
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()
}
