//! One metric of one arm beside the baseline: the overlap-weighted score of its mean.
//!
//! The score weighs every unit by the chance it had to get either, so nothing that changes over time biases it, and
//! takes its variance over buckets of units, so one that comes back does not count as many. The boundary is that of
//! the normal mixture, tightest when 5,000 values are there; its width is in units of the variance seen so far, which
//! is the asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024) on that score. So all of
//! it hangs on sums alone: parts that were gathered elsewhere may be added in any order. Two other tests of the same sums
//! are offered for splits that never change, see [`Test`].

use serde::{Deserialize, Serialize};

use crate::config::{Margin, Metric, Source, Test};
use crate::evidence::{Moments, Scores, Total};
use crate::stats::gamma_mixture::GammaMixture;
use crate::stats::mixture::{OneSided, TwoSided};
use crate::stats::overlap::Sums;
use crate::stats::quantile::GROWTH;
use crate::verdict::{Estimate, Interval, Scale, Verdict};

/// Values at which the test is sharpest.
const UNITS: f64 = 5000.0;
/// The least information, in values whose arm was open, and variance where values are 0 or 1, on which it decides.
const LEAST: f64 = 40.0;
const LEAST_VARIANCE: f64 = 10.0;
/// For the exact test, which must know it beforehand: the variance of values over the square of their width, as far as one
/// can guess. It is sharpest there, and right everywhere.
const USUAL: f64 = 0.1;
/// Steps of a bisection: an end of an interval is known to a 16-millionth of the width of the values.
const HALVINGS: u32 = 24;
/// Counts that are still needed are told within this factor.
const ROUGHLY: f64 = 1.1;
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
    pub(in crate::strategy) test: Test,
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

    /// How far apart two values can be; 1 where nobody asks.
    fn width(&self) -> f64 {
        match self.metric.source {
            Source::Feedback { width, .. } => width.unwrap_or(1.0),
            Source::Errors | Source::Rejections | Source::Latency => 1.0,
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
        let good = self.score(rule) * rule.sign() > 0.0;
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
        if rule.test == Test::Bounded {
            // No limit theorem has to hold.
            return self.baseline.n.min(self.arm.n) >= rule.min_units;
        }
        self.baseline.n.min(self.arm.n) >= rule.min_units
            && enough(&self.baseline)
            && (!both || enough(&self.arm))
            && self.sums.information() >= LEAST
            && (!rule.is_binary() || self.sums.variance() >= LEAST_VARIANCE)
            && self.sums.enough_buckets()
    }

    /// The effect, whatever it is worth.
    fn effect(&self, rule: &Rule<'_>) -> Option<f64> {
        match rule.test {
            Test::Overlap | Test::Bounded => self.sums.effect(),
            Test::Asympcs => Some(self.arm.mean()? - self.baseline.mean()?),
        }
    }

    /// S, or what it would be for the difference of the means.
    fn score(&self, rule: &Rule<'_>) -> f64 {
        self.effect(rule).map_or(0.0, |effect| effect * self.sums.information())
    }

    /// ln of the evidence of any effect.
    pub(in crate::strategy) fn ln_effect(&self, rule: &Rule<'_>) -> f64 {
        if rule.test == Test::Bounded {
            return self.ln_beside(rule, 0.0);
        }
        match self.usual() {
            usual if usual > 0.0 => {
                TwoSided::new(usual, rule.alpha).ln_e(self.score(rule), self.sums.variance())
            }
            _ => 0.0,
        }
    }

    /// ln of the exact evidence that the effect is not `effect`: the better of two bets, each with half of the capital.
    fn ln_beside(&self, rule: &Rule<'_>, effect: f64) -> f64 {
        let above = self.ln_exact(rule, (effect, 1.0), rule.alpha / 2.0);
        let below = self.ln_exact(rule, (effect, -1.0), rule.alpha / 2.0);
        above.max(below) - std::f64::consts::LN_2
    }

    /// ln of the exact evidence that the effect is more than `effect` (`side` 1), or less (−1). With one share π all the
    /// time D − π(1 − π)·effect has no mean, and its squares follow from those of D.
    fn ln_exact(&self, rule: &Rule<'_>, (effect, side): (f64, f64), alpha: f64) -> f64 {
        let (n, width) = (self.values(), rule.width());
        if n == 0.0 {
            return 0.0;
        }
        let open = self.sums.information() / n;
        let off = effect * open / width;
        let (sum, squares) = (self.sums.score() / width, self.sums.squares() / (width * width));
        let (sum, squares) = (sum - n * off, squares - 2.0 * off * sum + n * off * off);
        let mixture = GammaMixture::new(UNITS * open * USUAL, alpha, 1.0 + off.abs());
        mixture.ln_e(side * sum, squares.max(0.0))
    }

    /// ln of the evidence that the arm is worse.
    fn ln_worse(&self, rule: &Rule<'_>) -> f64 {
        let usual = self.usual();
        if usual <= 0.0 || !self.may_decide(rule, false) {
            return 0.0;
        }
        if rule.test == Test::Bounded {
            return self.ln_exact(rule, (0.0, -rule.sign()), HARM);
        }
        OneSided::new(usual, HARM).ln_e(-self.score(rule) * rule.sign(), self.sums.variance())
    }

    /// The effect in the metric's own unit, for all times together.
    fn interval(&self, rule: &Rule<'_>) -> Option<(f64, f64)> {
        if rule.test == Test::Bounded {
            return self.exact_interval(rule);
        }
        let (usual, middle) = (self.usual(), self.effect(rule)?);
        let half = TwoSided::new(usual, rule.alpha).bound(self.sums.variance(), rule.alpha)
            / self.sums.information();
        (usual > 0.0).then_some((middle - half, middle + half))
    }

    /// Effects that the exact evidence does not speak against.
    fn exact_interval(&self, rule: &Rule<'_>) -> Option<(f64, f64)> {
        let (middle, width) = (self.effect(rule)?, rule.width());
        let refuted = |effect: f64| self.ln_beside(rule, effect) >= -rule.alpha.ln();
        let end = |side: f64| {
            let (mut inside, mut outside) = (middle.clamp(-width, width), side * width);
            if !refuted(outside) {
                return outside;
            }
            for _ in 0..HALVINGS {
                let between = f64::midpoint(inside, outside);
                *(if refuted(between) { &mut outside } else { &mut inside }) = between;
            }
            outside
        };
        Some((end(-1.0), end(1.0)))
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
        let middle = self.effect(rule)?;
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
        let exact = {
            let (width, open) = (rule.width(), information / self.values());
            let mixture = GammaMixture::new(UNITS * open * USUAL, rule.alpha / 2.0, 1.0);
            let squares = self.sums.squares() / (width * width);
            move |times: f64| {
                mixture.ln_e(least * information * times / width, squares * times) - std::f64::consts::LN_2
            }
        };
        let shows = |times: f64| {
            let ln_e = match rule.test {
                Test::Bounded => exact(times),
                Test::Overlap | Test::Asympcs => mixture.ln_e(least * information * times, variance * times),
            };
            ln_e >= -rule.alpha.ln()
        };
        let (mut short, mut times) = (1.0, 1.0 + 1.0 / seen);
        while !shows(times) {
            (short, times) = (times, times * 2.0);
            if times * seen > 1e12 {
                return u64::MAX;
            }
        }
        while times > short * ROUGHLY {
            let between = (short * times).sqrt();
            *(if shows(between) { &mut times } else { &mut short }) = between;
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
