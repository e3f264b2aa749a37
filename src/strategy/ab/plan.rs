//! What a comparison asks for before any call: how many values it needs to see a difference, or which it can see in so
//! many.
//!
//! The numbers come from the very score that will judge, played on what is to be expected. Chance makes half of all
//! comparisons end somewhat sooner than that, and a few much later.

use super::judge::rules;
use super::metric::{Rule, Score};
use super::shares::{propensity, split_of};
use crate::config::{Ab, Arm, Judge, Margin, Metric, Source};
use crate::evidence::{Scores, Total};
use crate::strategy::Split;

/// Values of the arm that are played; none needs fewer.
const PLAYED: u64 = 100;
/// Steps of a bisection: the difference is then known to a millionth.
const HALVINGS: u32 = 24;

/// What the baseline's values of a metric are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation; of latency that of its natural logarithm.
    pub deviation: f64,
}

/// One metric of one arm, before it has any values.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    rule: Rule<'a>,
    propensity: f64,
    /// The arm's share of all calls that are split, 0 to 1.
    pub share: f64,
    expected: Expected,
}

impl<'a> Outlook<'a> {
    /// Of that metric, by its index in the judge's; none where chance does not decide between the arm and the baseline
    /// outside of segments.
    pub fn new((ab, judge): (&Ab, &'a Judge), arm: &Arm, metric: usize, expected: Expected) -> Option<Self> {
        let shares = split_of(ab, Split::Configured, None);
        let propensity = propensity(&shares, ab.baseline, arm.variant)?;
        let share = shares.iter().find(|(variant, _)| *variant == arm.variant)?.1;
        Some(Outlook { rule: rules(judge).nth(metric)?, propensity, share, expected })
    }

    /// The least difference of interest: in the metric's own unit, of latency as part of it.
    pub fn least(&self) -> f64 {
        let Metric { source, least, .. } = self.rule.metric;
        match source {
            Source::Latency => least.relative,
            _ => least.absolute.max(least.relative * self.expected.mean.abs()),
        }
    }

    /// Values of the arm until a difference of `difference` is seen; none: no number is enough.
    pub fn values(&self, difference: f64) -> Option<u64> {
        let least = match self.rule.metric.source {
            Source::Latency => Margin { absolute: 0.0, relative: difference },
            _ => Margin { absolute: difference, relative: 0.0 },
        };
        let metric = Metric { least, ..self.rule.metric.clone() };
        let missing = self.played().missing(&Rule { metric: &metric, ..self.rule });
        (difference > 0.0 && missing < u64::MAX).then(|| missing.saturating_add(PLAYED))
    }

    /// The least difference that is seen in so many values of the arm; none: no difference is.
    pub fn smallest(&self, values: u64) -> Option<f64> {
        let seen = |difference: f64| self.values(difference).is_some_and(|needed| needed <= values);
        let (mut low, mut high) = (0.0, 10.0 * self.expected.deviation);
        if !seen(high) {
            return None;
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            *(if seen(middle) { &mut high } else { &mut low }) = middle;
        }
        Some(high)
    }

    fn played(&self) -> Score {
        let all = PLAYED as f64 / self.propensity;
        let baseline = (all - PLAYED as f64).round();
        let total = |n: f64| Total { n: n as u64, sum: n * self.expected.mean };
        let information = all * self.propensity * (1.0 - self.propensity);
        let mut scores =
            Scores { baseline: total(baseline), candidate: total(PLAYED as f64), ..Scores::default() };
        scores.sums.add_sums(0.0, information * self.expected.deviation.powi(2), information);
        let mut score = Score::default();
        score.add(&scores);
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Percent;
    use crate::config::{Guards, OnFail, OnPass, Warmup};
    use crate::stats::hash::platforms::Platform;
    use std::time::Duration;

    fn half(relative: f64) -> Ab {
        let half = Percent::from_thousandths(50_000).unwrap();
        let source = Source::Feedback { name: "bought".into(), binary: true, width: Some(1.0) };
        let least = Margin { absolute: 0.0, relative };
        Ab {
            hash: Platform::Flagd,
            baseline: 0,
            salt: "m/1".into(),
            weights: vec![(0, half), (1, half)],
            segments: Vec::new(),
            judge: Some(Judge {
                arms: vec![Arm { variant: 1, name: "next".into() }],
                metrics: vec![Metric { source, least, lower_is_better: false }],
                guards: Guards {
                    errors: None,
                    rejections: None,
                    latency: Vec::new(),
                    feedback: Vec::new(),
                    resources: None,
                    shadow: false,
                },
                warmup: Warmup { time: Duration::ZERO, calls: 0 },
                test: Default::default(),
                alpha: 0.05,
                min_units: 100,
                max_duration: Duration::from_secs(86_400),
                on_pass: OnPass::Wait,
                on_fail: OnFail::Rollback,
            }),
        }
    }

    #[test]
    fn what_is_announced_is_what_the_score_needs_on_what_is_expected() {
        let ab = half(0.2);
        let judge = ab.judge.as_ref().unwrap();
        let expected = Expected { mean: 0.1, deviation: 0.3 };
        let outlook = Outlook::new((&ab, judge), &judge.arms[0], 0, expected).unwrap();
        assert!((outlook.least() - 0.02).abs() < 1e-12 && outlook.share == 0.5);
        // By hand: with 8,400 values of both V = 189, S = 42 and ρ = 14.2, so ln E = 3.0 = ln 20.
        let values = outlook.values(0.02).unwrap();
        assert!((3_800..4_650).contains(&values), "{values}");
        let smallest = outlook.smallest(values).unwrap();
        assert!((smallest / 0.02 - 1.0).abs() < 0.06, "{smallest}");
        assert!(outlook.values(0.01).unwrap() > 3 * values);
        assert_eq!(outlook.values(0.0), None);
        assert!(outlook.values(5.0).unwrap() <= PLAYED + 2, "the first look sees what is so large");
    }
}
