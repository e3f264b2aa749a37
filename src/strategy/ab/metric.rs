//! One metric of one arm beside the baseline: the overlap-weighted score of its mean.
//!
//! The score weighs every unit by the chance it had to get either, so nothing that changes over time biases it, and
//! takes its variance over buckets of units, so one that comes back does not count as many. The boundary is that of
//! the normal mixture, tightest when 5,000 values are there; its width is in units of the variance seen so far, which
//! is the asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024) on that score. So all of
//! it hangs on sums alone: parts that were gathered elsewhere may be added in any order.

use serde::{Deserialize, Serialize};

use crate::config::{Margin, Metric, Source};
use crate::evidence::{Moments, Scores, Total};
use crate::stats::mixture::{OneSided, TwoSided};
use crate::stats::overlap::Sums;
use crate::stats::quantile::GROWTH;
use crate::verdict::{Estimate, Interval, Scale, Verdict};

/// Values at which the test is sharpest.
const UNITS: f64 = 5000.0;
/// The least information, in values whose arm was open, and variance where values are 0 or 1, on which it decides.
const LEAST: f64 = 40.0;
const LEAST_VARIANCE: f64 = 10.0;
/// Of values that are 0 or 1, so many of each in either arm.
const EACH: f64 = 10.0;
/// Chance that a metric on which an arm is no worse ever says it is.
pub(in crate::strategy) const HARM: f64 = 0.01;

/// All that is remembered of one metric of one arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Score {
    sums: Sums,
    baseline: Total,
    arm: Total,
}

/// How one metric is judged.
#[derive(Debug, Clone, Copy)]
pub(in crate::strategy) struct Rule<'a> {
    pub(in crate::strategy) metric: &'a Metric,
    /// This metric's and arm's part of the chance of a false winner.
    pub(in crate::strategy) alpha: f64,
    /// In either arm.
    pub(in crate::strategy) min_units: u64,
}

impl Rule<'_> {
    fn is_binary(&self) -> bool {
        match self.metric.source {
            Source::Feedback { binary, .. } => binary,
            Source::Errors | Source::Rejections => true,
            Source::Latency => false,
        }
    }

    /// 1 where more is better.
    fn sign(&self) -> f64 {
        if self.metric.lower_is_better { -1.0 } else { 1.0 }
    }
}

impl Score {
    pub(in crate::strategy) fn add(&mut self, scores: &Scores) {
        self.sums += &scores.sums;
        self.baseline.add(scores.baseline);
        self.arm.add(scores.candidate);
    }

    /// (baseline, arm): values, their sum, and their squares as far as the variance of the score tells: V/I is the
    /// variance of a value, or more where units come back.
    pub(in crate::strategy) fn moments(&self) -> (Moments, Moments) {
        let spread = match self.sums.information() {
            information if information > 0.0 => self.sums.variance() / information,
            _ => 0.0,
        };
        let of = |total: &Total| {
            let n = total.n as f64;
            let mean = total.mean().unwrap_or(0.0);
            Moments { n, sum: total.sum, squares: n * (mean * mean + spread), ..Moments::default() }
        };
        (of(&self.baseline), of(&self.arm))
    }

    fn values(&self) -> f64 {
        (self.baseline.n + self.arm.n) as f64
    }

    /// The variance that UNITS values of this kind have.
    fn usual(&self) -> f64 {
        self.sums.variance() * UNITS / self.values().max(1.0)
    }

    /// What it says of the arm.
    pub(in crate::strategy) fn verdict(&self, rule: &Rule<'_>) -> Verdict {
        if self.ln_worse(rule) >= -HARM.ln() {
            return Verdict::Fail;
        }
        if !self.may_decide(rule, true) {
            return Verdict::NotEnoughData;
        }
        let good = self.sums.score() * rule.sign() > 0.0;
        if good && self.ln_effect(rule) >= -rule.alpha.ln() {
            return Verdict::Pass;
        }
        let least = self.least(rule.metric);
        match self.interval(rule) {
            Some((low, high)) if -least < low && high < least => Verdict::Equivalent,
            _ => Verdict::NotEnoughData,
        }
    }

    /// Whether there is enough of it. Values that an arm never has are no reason to keep it, so for harm only the
    /// baseline must have both.
    fn may_decide(&self, rule: &Rule<'_>, both: bool) -> bool {
        let enough = |total: &Total| {
            let (ones, zeros) = (total.sum, total.n as f64 - total.sum);
            !rule.is_binary() || (ones >= EACH && zeros >= EACH)
        };
        self.baseline.n.min(self.arm.n) >= rule.min_units
            && enough(&self.baseline)
            && (!both || enough(&self.arm))
            && self.sums.information() >= LEAST
            && (!rule.is_binary() || self.sums.variance() >= LEAST_VARIANCE)
            && self.sums.enough_buckets()
    }

    /// ln of the evidence of any effect.
    pub(in crate::strategy) fn ln_effect(&self, rule: &Rule<'_>) -> f64 {
        match self.usual() {
            usual if usual > 0.0 => self.sums.ln_e_effect(&TwoSided::new(usual, rule.alpha)),
            _ => 0.0,
        }
    }

    /// ln of the evidence that the arm is worse.
    fn ln_worse(&self, rule: &Rule<'_>) -> f64 {
        let usual = self.usual();
        if usual <= 0.0 || !self.may_decide(rule, false) {
            return 0.0;
        }
        OneSided::new(usual, HARM).ln_e(-self.sums.score() * rule.sign(), self.sums.variance())
    }

    /// The effect in the metric's own unit, for all times together.
    fn interval(&self, rule: &Rule<'_>) -> Option<(f64, f64)> {
        let usual = self.usual();
        (usual > 0.0).then(|| self.sums.interval(&TwoSided::new(usual, rule.alpha), rule.alpha))?
    }

    /// The least effect of interest: the larger of both parts, the relative one of the baseline's mean so far.
    fn least(&self, metric: &Metric) -> f64 {
        let Margin { absolute, relative } = metric.least;
        match metric.source {
            Source::Latency => relative.ln_1p(),
            _ => absolute.max(relative * self.baseline.mean().unwrap_or(0.0).abs()),
        }
    }

    /// [`Score::least`] in the scale that people are told.
    pub(in crate::strategy) fn margin(&self, metric: &Metric) -> f64 {
        match metric.source {
            Source::Latency => metric.least.relative,
            _ => self.least(metric),
        }
    }

    /// How much worse the arm is, in the scale that people are told.
    pub(in crate::strategy) fn harm(&self, rule: &Rule<'_>) -> Option<Interval> {
        let middle = self.sums.effect()?;
        let (low, high) = match self.may_decide(rule, true) {
            true => self.interval(rule)?,
            false => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let told = |effect: f64| match rule.metric.source {
            Source::Latency => effect.exp_m1(),
            _ => effect,
        };
        let (low, middle, high) = (told(low), told(middle), told(high));
        Some(match rule.metric.lower_is_better {
            true => Interval { low, middle, high },
            false => Interval { low: -high, middle: -middle, high: -low },
        })
    }

    /// (baseline, arm), in the metric's own unit; latency in seconds.
    pub(in crate::strategy) fn estimates(&self, metric: &Metric) -> (Estimate, Estimate) {
        let told = |mean: f64| match metric.source {
            Source::Latency => mean.exp() * 1e-6,
            _ => mean,
        };
        let of = |total: &Total| Estimate { n: total.n, value: total.mean().map(told) };
        (of(&self.baseline), of(&self.arm))
    }

    /// Values of the arm that it still needs to see the least effect of interest, were there one; at least 1.
    pub(in crate::strategy) fn missing(&self, rule: &Rule<'_>) -> u64 {
        let (least, seen) = (self.least(rule.metric), self.arm.n.max(1) as f64);
        let (information, variance) = (self.sums.information(), self.sums.variance());
        if variance <= 0.0 || information <= 0.0 || least <= 0.0 {
            return rule.min_units.saturating_sub(self.arm.n).max(1);
        }
        let mixture = TwoSided::new(self.usual(), rule.alpha);
        let shows =
            |times: f64| mixture.ln_e(least * information * times, variance * times) >= -rule.alpha.ln();
        let mut times = 1.0 + 1.0 / seen;
        while !shows(times) {
            times *= 1.1;
            if times * seen > 1e12 {
                return u64::MAX;
            }
        }
        (((times - 1.0) * seen).ceil() as u64).max(rule.min_units.saturating_sub(self.arm.n)).max(1)
    }
}

/// What a metric is called in findings.
pub(in crate::strategy) fn name(source: &Source) -> String {
    match source {
        Source::Feedback { name, .. } => format!("feedback {name}"),
        Source::Errors => "errors".to_owned(),
        Source::Rejections => "rejections".to_owned(),
        Source::Latency => "latency mean".to_owned(),
    }
}

/// What its difference is measured in.
pub(in crate::strategy) fn scale(source: &Source) -> Scale {
    match source {
        Source::Feedback { .. } => Scale::Mean,
        Source::Errors | Source::Rejections => Scale::Share,
        Source::Latency => Scale::Ratio,
    }
}

/// What one latency bucket's step adds to the logarithm.
pub(in crate::strategy) fn step() -> f64 {
    GROWTH.ln()
}
