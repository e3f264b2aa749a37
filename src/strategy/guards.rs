//! Guards: what a variant's calls and feedback prove beside the baseline's, one guard's evidence beside the other, each
//! in a room of its own. Every strategy that takes a variant out by evidence uses them as they are.
//!
//! The chance of a false failure is split evenly over the guards, for any of them may fail the candidate. A pass
//! needs all of them at once, so each may be wrong on its own level there, [`PASS`].

pub(in crate::strategy) mod feedback;
pub(in crate::strategy) mod latency;
pub(in crate::strategy) mod rate;
pub(in crate::strategy) mod resources;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::feedback::Feedback;
use self::latency::Latency;
use self::rate::{Count, Rate};
use self::resources::Resources;
use crate::config::{FeedbackGuard, Guards, LatencyGuard, Margin, OnFail, ResourcesGuard, Warmup};
use crate::evidence::{ArmGain, Gain, Readings, Scores};
use crate::verdict::{Aim, Estimate, Finding, Scale, Verdict};

/// Chance that a guard is ever passed by a candidate that breaks its margin.
pub(in crate::strategy) const PASS: f64 = 0.05;

/// What the guard on copies is called. Its chance of a false failure is the shadow's own `alpha`.
pub(crate) const SHADOW: &str = "shadow";

/// Who is judged, and by what.
#[derive(Debug, Clone, Copy)]
pub(in crate::strategy) struct Terms<'a> {
    pub(in crate::strategy) guards: &'a Guards,
    /// Indices of the model's variants.
    pub(in crate::strategy) baseline: usize,
    pub(in crate::strategy) candidate: usize,
    /// The candidate's latency counts after it.
    pub(in crate::strategy) warmup: Warmup,
    /// Chance that a candidate as good as its margins allow ever fails, over all guards.
    pub(in crate::strategy) alpha: f64,
    /// What becomes of a candidate that fails a guard on calls or feedback.
    pub(in crate::strategy) on_fail: OnFail,
}

/// Everything that the guards on one candidate remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Evidence {
    errors: Option<Rate>,
    rejections: Option<Rate>,
    latency: Latency,
    feedback: Vec<Feedback>,
    resources: Option<Box<Resources>>,
    /// What its answers to copies proved, as its shadow judged them last.
    #[serde(default)]
    judged: Option<Box<Finding>>,
    /// The candidate's first call, and its calls since: its latency counts when it is warm.
    first_call: Option<Duration>,
    calls: u64,
    /// The last share that calls were split by.
    share: f64,
}

impl Evidence {
    pub(in crate::strategy) fn new(guards: &Guards, now: Duration) -> Self {
        Evidence {
            errors: guards.errors.map(|margin| Rate::new(&margin, now)),
            rejections: guards.rejections.map(|margin| Rate::new(&margin, now)),
            latency: Latency::new(guards.latency.len(), now),
            feedback: vec![Feedback::default(); guards.feedback.len()],
            resources: guards.resources.map(|_| Box::new(Resources::new())),
            judged: None,
            first_call: None,
            calls: 0,
            share: 0.0,
        }
    }

    /// Adds what was seen while the candidate's share was `share`, above 0 and below 1; `late`: it is not any more.
    pub(in crate::strategy) fn add(
        &mut self,
        terms: &Terms<'_>,
        share: f64,
        late: bool,
        gain: &Gain,
        now: Duration,
    ) {
        let of = |variant: usize| gain.arms.get(variant).map_or(&[][..], |arm| &arm.latency);
        let latency = [of(terms.baseline), of(terms.candidate)];
        self.add_at(terms, share, late, gain, (share, latency), now);
    }

    /// The same, with the latencies of (baseline, candidate) as they would be at a share of their own.
    pub(in crate::strategy) fn add_at(
        &mut self,
        terms: &Terms<'_>,
        share: f64,
        late: bool,
        gain: &Gain,
        latency: (f64, [&[(u16, u32)]; 2]),
        now: Duration,
    ) {
        let (Some(baseline), Some(candidate)) =
            (gain.arms.get(terms.baseline), gain.arms.get(terms.candidate))
        else {
            return;
        };
        let rate = |rate: &mut Option<Rate>, margin: &Option<Margin>, hits: fn(&ArmGain) -> u64| {
            if let (Some(rate), Some(margin)) = (rate, margin) {
                let count = |arm: &ArmGain| Count { calls: arm.calls, hits: hits(arm) };
                rate.add(margin, share, count(candidate), count(baseline), now);
            }
        };
        rate(&mut self.errors, &terms.guards.errors, |arm| arm.errors);
        rate(&mut self.rejections, &terms.guards.rejections, |arm| arm.rejections);
        if !late {
            self.share = share;
            let (at, [slow_baseline, slow_candidate]) = latency;
            if self.is_warm(terms, now) {
                self.latency.add(&terms.guards.latency, at, slow_candidate, slow_baseline);
            }
        }
        if candidate.calls > 0 {
            self.first_call.get_or_insert(now);
            self.calls += candidate.calls;
        }
    }

    /// Whether the candidate's latency counts.
    pub(in crate::strategy) fn is_warm(&self, terms: &Terms<'_>, now: Duration) -> bool {
        let warmup = terms.warmup;
        self.calls >= warmup.calls
            && self.first_call.is_some_and(|first| now.saturating_sub(first) >= warmup.time)
    }

    /// Adds what the feedback of one guard showed.
    pub(in crate::strategy) fn add_feedback(&mut self, guard: usize, scores: &Scores) {
        if let Some(feedback) = self.feedback.get_mut(guard) {
            feedback.add(scores);
        }
    }

    /// Adds what both servers said of themselves; `calls` of the baseline and the candidate so far.
    pub(in crate::strategy) fn add_readings(
        &mut self,
        terms: &Terms<'_>,
        readings: &Readings,
        calls: [u64; 2],
        now: Duration,
    ) {
        let warm = self.is_warm(terms, now);
        if let (Some(resources), Some(guard)) = (&mut self.resources, &terms.guards.resources) {
            resources.add(guard, readings, calls, warm, now);
        }
    }

    /// Takes what the candidate's answers to copies prove by now.
    pub(in crate::strategy) fn set_judged(&mut self, finding: &Finding) {
        self.judged = Some(Box::new(finding.clone()));
    }

    /// Forgets what servers used: a person looked at it, and lets the candidate go on.
    pub(in crate::strategy) fn excuse_resources(&mut self) {
        self.resources = self.resources.as_ref().map(|_| Box::new(Resources::new()));
    }

    /// Why a guard on resources has nothing to judge, where that is so.
    pub(in crate::strategy) fn blind(&self) -> Option<&str> {
        self.resources.as_ref()?.trouble()
    }

    /// What becomes of the candidate by the guards that fail, if any does.
    pub(in crate::strategy) fn failure(&self, terms: &Terms<'_>) -> Option<OnFail> {
        let calls = self.fails(terms).then_some(terms.on_fail);
        let resources = self.resources.as_ref().zip(terms.guards.resources.as_ref());
        let resources = resources
            .and_then(|(resources, guard)| resources.fails(guard, threshold(terms)).then_some(guard.on_fail));
        match (calls, resources) {
            (Some(OnFail::Rollback), _) | (_, Some(OnFail::Rollback)) => Some(OnFail::Rollback),
            (calls, resources) => calls.or(resources),
        }
    }

    /// Weighs what is too costly to weigh at every call.
    pub(in crate::strategy) fn weigh(&mut self, terms: &Terms<'_>, now: Duration) {
        self.latency.weigh(&terms.guards.latency, now);
    }

    /// Whether a guard fails that is on calls or feedback. Cheap: at each error event.
    pub(in crate::strategy) fn fails(&self, terms: &Terms<'_>) -> bool {
        let threshold = threshold(terms);
        self.rates(terms).any(|(_, _, rate)| rate.ln_worse() >= threshold)
            || self.latency.weighed().iter().any(|weighed| weighed.ln_worse >= threshold)
            || self
                .feedbacks(terms)
                .any(|(guard, feedback)| feedback.ln_worse(guard, (-threshold).exp()) >= threshold)
            || self.copies(terms).is_some_and(|finding| finding.verdict == Verdict::Fail)
    }

    /// Whether all guards pass that a step asks for; the `last` one asks for feedback too.
    pub(in crate::strategy) fn passes(&self, terms: &Terms<'_>, last: bool) -> bool {
        let enough = -PASS.ln();
        self.rates(terms).all(|(_, _, rate)| rate.ln_sound() >= enough)
            && self.latency.weighed().iter().all(|weighed| weighed.ln_sound >= enough)
            && (!last || self.feedbacks(terms).all(|(guard, feedback)| feedback.ln_sound(guard) >= enough))
            && self.copies(terms).is_none_or(|finding| finding.verdict == Verdict::Pass)
    }

    /// What each guard finds: errors, rejections, latency, feedback, in the order of the file; then resources, and
    /// what copies show.
    pub(in crate::strategy) fn findings(&self, terms: &Terms<'_>) -> Vec<Finding> {
        let rates = self.rates(terms).map(|(name, margin, rate)| self.of_rate(terms, name, margin, rate));
        let latency = terms.guards.latency.iter().enumerate();
        let latency = latency.map(|(index, guard)| self.of_latency(terms, index, guard));
        let feedback = self.feedbacks(terms).map(|(guard, feedback)| of_feedback(terms, guard, feedback));
        let resources = self.resources.as_ref().zip(terms.guards.resources.as_ref());
        let resources = resources.map(|(resources, guard)| resources.findings(guard, threshold(terms)));
        let resources = resources.into_iter().flatten();
        rates.chain(latency).chain(feedback).chain(resources).chain(self.copies(terms)).collect()
    }

    /// What the guard on copies finds, where there is one.
    fn copies(&self, terms: &Terms<'_>) -> Option<Finding> {
        let nothing = || Finding {
            guard: SHADOW.into(),
            aim: Aim::Guardrail,
            variant: Arc::default(),
            verdict: Verdict::NotEnoughData,
            baseline: Estimate::default(),
            candidate: Estimate::default(),
            harm: None,
            margin: 0.0,
            scale: Scale::Share,
            ln_e: 0.0,
            threshold: 0.0,
            missing: 0,
        };
        terms.guards.shadow.then(|| self.judged.as_deref().cloned().unwrap_or_else(nothing))
    }

    fn rates<'a>(&'a self, terms: &Terms<'a>) -> impl Iterator<Item = (&'static str, &'a Margin, &'a Rate)> {
        let guards = terms.guards;
        let errors = guards.errors.as_ref().zip(self.errors.as_ref());
        let rejections = guards.rejections.as_ref().zip(self.rejections.as_ref());
        let errors = errors.map(|(margin, rate)| ("errors", margin, rate));
        errors.into_iter().chain(rejections.map(|(margin, rate)| ("rejections", margin, rate)))
    }

    fn feedbacks<'a>(&'a self, terms: &Terms<'a>) -> impl Iterator<Item = (&'a FeedbackGuard, &'a Feedback)> {
        terms.guards.feedback.iter().zip(&self.feedback)
    }

    fn of_rate(&self, terms: &Terms<'_>, name: &str, margin: &Margin, rate: &Rate) -> Finding {
        let threshold = threshold(terms);
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

    fn of_latency(&self, terms: &Terms<'_>, index: usize, guard: &LatencyGuard) -> Finding {
        let threshold = threshold(terms);
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

fn of_feedback(terms: &Terms<'_>, guard: &FeedbackGuard, feedback: &Feedback) -> Finding {
    let threshold = threshold(terms);
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
pub(in crate::strategy) fn name_of(guard: &LatencyGuard) -> Arc<str> {
    // Parts of a thousandth of a percent are noise of the representation.
    let thousandths = (guard.quantile * 1e5).round();
    Arc::from(format!("latency p{}", thousandths / 1e3))
}

/// ln of the evidence at which one guard fails.
pub(in crate::strategy) fn threshold(terms: &Terms<'_>) -> f64 {
    let guards = terms.guards;
    let rates = usize::from(guards.errors.is_some()) + usize::from(guards.rejections.is_some());
    let parts =
        |guard: &ResourcesGuard| usize::from(guard.memory.is_some()) + usize::from(guard.cpu.is_some());
    let resources = guards.resources.as_ref().map_or(0, parts);
    let all = (rates + guards.latency.len() + guards.feedback.len() + resources).max(1);
    (all as f64 / terms.alpha).ln()
}

fn verdict(fails: bool, passes: bool) -> Verdict {
    match (fails, passes) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::NotEnoughData,
    }
}

/// ln Σ eˣ, for any size of x.
pub(in crate::strategy) fn ln_sum(terms: Vec<f64>) -> f64 {
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()
}
