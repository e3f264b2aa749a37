//! What all arms prove together, and what that makes of each: the rule of Spotify's experiment platform (2024). An arm
//! wins when it is better on a metric, no worse than its guards allow on any, worse on none, and the samples are as
//! they were meant.
//!
//! The chance of a false winner is split evenly over metrics and arms. The guards' is not: all of them must pass, and
//! each may be wrong on its own level. Whether the samples are right is asked before all else.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::arm::{self, Arm, Shown, terms};
use super::metric::{Rule, Score, name, scale};
use super::ratio::Ratio;
use super::shares::{propensity, split_of};
use crate::config::{Ab, Arm as Of, Judge, Metric, Source, Test};
use crate::evidence::{Gain, Moments, Total};
use crate::strategy::course::Learnt;
use crate::strategy::{Out, Split};
use crate::verdict::{Aim, Estimate, Finding, Scale, Verdict};

/// Chance that sound samples ever block a verdict, and that they are ever looked at with suspicion.
pub(super) const BROKEN: f64 = 0.001;
const SUSPECT: f64 = 0.01;
/// The part of it that is the units', the rest is the reports'.
const UNITS: f64 = 0.9;

/// Everything that is remembered of all arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// In the order of the judge's.
    arms: Vec<Arm>,
    /// Values of calls so far, by metric.
    known: Vec<Total>,
    ratio: Ratio,
}

impl Evidence {
    pub(super) fn new(judge: &Judge, now: Duration) -> Self {
        Evidence {
            arms: judge.arms.iter().map(|_| Arm::new(judge, now)).collect(),
            known: vec![Total::default(); judge.metrics.len()],
            ratio: Ratio::default(),
        }
    }

    /// Adds what calls showed that were split so; `late`: they are not any more.
    pub(super) fn absorb(
        &mut self,
        (ab, judge): (&Ab, &Judge),
        split: Split,
        late: bool,
        gain: &Gain,
        now: Duration,
    ) {
        let shares = split_of(ab, split, gain.segment);
        let mut expected = Vec::with_capacity(self.known.len());
        for (metric, known) in judge.metrics.iter().zip(&mut self.known) {
            let now = arm::all_values(&metric.source, gain);
            // A value may not expect itself where the test is to be exact.
            let first = now.mean().filter(|_| judge.test != Test::Bounded);
            expected.push(known.mean().or(first).unwrap_or(0.0));
            known.add(now);
        }
        let aside = late || gain.segment != home(ab, split);
        for (of, arm) in judge.arms.iter().zip(&mut self.arms) {
            let Some(propensity) = propensity(&shares, ab.baseline, of.variant) else { continue };
            let shown = Shown { gain, propensity, aside, expected: &expected };
            arm.absorb((ab, judge, of), &shown, now);
        }
        self.ratio.add(&shares, gain);
    }

    /// Adds what feedback showed; whether anything asks for it.
    pub(super) fn learn(&mut self, judge: &Judge, learnt: &Learnt<'_>) -> bool {
        let mut asked = false;
        for (of, arm) in judge.arms.iter().zip(&mut self.arms) {
            let Some(scores) = learnt.variants.get(of.variant) else { continue };
            for (index, guard) in judge.guards.feedback.iter().enumerate() {
                if *guard.name == *learnt.feedback {
                    arm.guards.add_feedback(index, scores);
                    asked = true;
                }
            }
            for (index, metric) in judge.metrics.iter().enumerate() {
                if matches!(&metric.source, Source::Feedback { name, .. } if **name == *learnt.feedback) {
                    arm.learn(index, scores);
                    asked = true;
                }
            }
        }
        asked
    }

    /// What was seen of a feedback's values, by variant: the baseline from the arm beside which it has the most.
    pub(super) fn leave(&self, (ab, judge): (&Ab, &Judge), feedback: &str) -> Vec<(usize, Moments)> {
        let asked =
            |metric: &Metric| matches!(&metric.source, Source::Feedback { name, .. } if **name == *feedback);
        let Some(index) = judge.metrics.iter().position(asked) else { return Vec::new() };
        let mut baseline = Moments::default();
        let mut left = Vec::new();
        for (of, arm) in judge.arms.iter().zip(&self.arms) {
            let Some((control, treated)) = arm.scores.get(index).map(Score::moments) else { continue };
            if control.n > baseline.n {
                baseline = control;
            }
            left.push((of.variant, treated));
        }
        left.push((ab.baseline, baseline));
        left
    }

    /// Weighs what is too costly to weigh at every call.
    pub(super) fn weigh(&mut self, (ab, judge): (&Ab, &Judge), now: Duration) {
        for (of, arm) in judge.arms.iter().zip(&mut self.arms) {
            arm.guards.weigh(&terms(ab, judge, of), now);
        }
    }

    /// What becomes of that arm by the evidence, whatever the samples are.
    pub(super) fn verdict(&self, (ab, judge): (&Ab, &Judge), index: usize) -> Verdict {
        let (Some(of), Some(arm)) = (judge.arms.get(index), self.arms.get(index)) else {
            return Verdict::NotEnoughData;
        };
        let terms = terms(ab, judge, of);
        let metrics: Vec<Verdict> =
            rules(judge).zip(&arm.scores).map(|(rule, score)| score.verdict(&rule)).collect();
        if arm.guards.fails(&terms) || metrics.contains(&Verdict::Fail) {
            Verdict::Fail
        } else if metrics.contains(&Verdict::Pass) && arm.guards.passes(&terms, true) {
            Verdict::Pass
        } else if !metrics.is_empty() && metrics.iter().all(|metric| *metric == Verdict::Equivalent) {
            Verdict::Equivalent
        } else {
            Verdict::NotEnoughData
        }
    }

    /// Whether the samples are so far from what was meant that nothing can be said.
    pub(super) fn is_broken(&self, judge: &Judge) -> bool {
        self.validity(judge) == Verdict::Invalid
    }

    fn validity(&self, judge: &Judge) -> Verdict {
        let reports = self.reports(judge);
        let units = self.ratio.ln_e();
        let joined = self.joined(judge).map(|(_, _, ln_e)| ln_e).fold(f64::NEG_INFINITY, f64::max);
        let of = |level: f64| units >= -(level * UNITS).ln() || joined >= threshold(level, reports);
        match (of(BROKEN), of(SUSPECT)) {
            (true, _) => Verdict::Invalid,
            (false, true) => Verdict::Inconclusive,
            (false, false) => Verdict::Pass,
        }
    }

    /// Tests of reports that there are.
    fn reports(&self, judge: &Judge) -> usize {
        let metrics = 0..judge.metrics.len();
        self.arms.iter().map(|of| metrics.clone().filter(|metric| of.joins(*metric)).count()).sum()
    }

    /// (arm, metric, ln E) of each test of reports.
    fn joined(&self, judge: &Judge) -> impl Iterator<Item = (usize, usize, f64)> {
        let metrics = judge.metrics.len();
        self.arms.iter().enumerate().flat_map(move |(arm, of)| {
            let asked = (0..metrics).filter(|metric| of.joins(*metric));
            asked.map(move |metric| (arm, metric, of.ln_joined(metric)))
        })
    }

    /// How much better an arm is on its best metric, in standard errors: who of several winners is given everything.
    pub(super) fn strength(&self, judge: &Judge, index: usize) -> f64 {
        let Some(arm) = self.arms.get(index) else { return 0.0 };
        let of = |(rule, score): (Rule<'_>, &Score)| {
            (score.verdict(&rule) == Verdict::Pass).then(|| score.ln_effect(&rule))
        };
        rules(judge).zip(&arm.scores).filter_map(of).fold(0.0, f64::max)
    }

    /// How much better an arm is on the metrics it wins by, in words.
    pub(super) fn wins_by(&self, judge: &Judge, index: usize) -> String {
        let Some(arm) = self.arms.get(index) else { return String::new() };
        let won = rules(judge).zip(&arm.scores).filter(|(rule, score)| score.verdict(rule) == Verdict::Pass);
        won.map(|(rule, _)| name(&rule.metric.source)).collect::<Vec<_>>().join(", ")
    }

    /// What is found: first whether the samples are right, then each arm's metrics and its guards. Arms that are out
    /// keep what was found of them.
    pub(super) fn findings(&self, (ab, judge): (&Ab, &Judge), out: Out) -> Vec<Finding> {
        let mut findings = self.samples(ab, judge, out);
        for (of, arm) in judge.arms.iter().zip(&self.arms) {
            let scores = rules(judge).zip(&arm.scores);
            findings.extend(scores.map(|(rule, score)| of_score(of, &rule, score)));
            let guards = arm.guards.findings(&terms(ab, judge, of)).into_iter();
            findings.extend(guards.map(|found| Finding { variant: Arc::clone(&of.name), ..found }));
        }
        findings
    }

    /// Whether units and reports came as they were meant, by arm.
    fn samples(&self, ab: &Ab, judge: &Judge, out: Out) -> Vec<Finding> {
        let reports = self.reports(judge);
        let verdict = |ln_e: f64, threshold: &dyn Fn(f64) -> f64, n: u64| match n {
            _ if ln_e >= threshold(BROKEN) => Verdict::Invalid,
            _ if ln_e >= threshold(SUSPECT) => Verdict::Inconclusive,
            0 => Verdict::NotEnoughData,
            _ => Verdict::Pass,
        };
        let found = |of: &Of,
                     guard: String,
                     (n0, n1, meant): (u64, u64, f64),
                     ln_e: f64,
                     level: &dyn Fn(f64) -> f64| {
            let part = |n: u64| Estimate { n, value: (n0 + n1 > 0).then(|| n as f64 / (n0 + n1) as f64) };
            Finding {
                guard: Arc::from(guard),
                aim: Aim::Validity,
                variant: Arc::clone(&of.name),
                verdict: verdict(ln_e, level, n0 + n1),
                baseline: part(n0),
                candidate: part(n1),
                harm: None,
                margin: meant,
                scale: Scale::Share,
                ln_e,
                threshold: level(BROKEN),
                missing: 0,
            }
        };
        let units = |level: f64| -(level * UNITS).ln();
        let live = judge.arms.iter().filter(|of| !out.has(of.variant));
        let mut findings: Vec<Finding> = live
            .map(|of| {
                let pair = self.ratio.pair(ab.baseline, of.variant);
                found(of, "sample ratio".to_owned(), pair, self.ratio.ln_e(), &units)
            })
            .collect();
        for (arm, metric, ln_e) in self.joined(judge) {
            let (Some(of), Some(metric_of)) = (judge.arms.get(arm), judge.metrics.get(metric)) else {
                continue;
            };
            let (baseline, treated) = match self.arms.get(arm).and_then(|arm| arm.scores.get(metric)) {
                Some(score) => score.estimates(metric_of),
                None => continue,
            };
            let (_, _, meant) = self.ratio.pair(ab.baseline, of.variant);
            let guard = format!("reports {}", feedback(metric_of));
            let level = |level: f64| threshold(level, reports);
            findings.push(found(of, guard, (baseline.n, treated.n, meant), ln_e, &level));
        }
        findings
    }
}

/// Where a test of reports says that they are not as meant.
fn threshold(level: f64, tests: usize) -> f64 {
    (tests.max(1) as f64 / (level * (1.0 - UNITS))).ln()
}

fn feedback(metric: &Metric) -> &str {
    match &metric.source {
        Source::Feedback { name, .. } => name,
        Source::Errors | Source::Rejections | Source::Latency => "",
    }
}

/// How each metric is judged.
pub(super) fn rules(judge: &Judge) -> impl Iterator<Item = Rule<'_>> {
    let alpha = judge.alpha / (judge.metrics.len() * judge.arms.len()).max(1) as f64;
    judge.metrics.iter().map(move |metric| Rule {
        metric,
        test: judge.test,
        alpha,
        min_units: judge.min_units,
    })
}

/// The stratum that latency is compared in, for it is in one alone: the strategy's own, where that splits calls.
fn home(ab: &Ab, split: Split) -> Option<usize> {
    let splits = |segment: &Option<usize>| split_of(ab, split, *segment).len() > 1;
    let segments = (0..ab.segments.len()).map(Some);
    std::iter::once(None).chain(segments).find(splits).flatten()
}

fn of_score(of: &Of, rule: &Rule<'_>, score: &Score) -> Finding {
    let verdict = score.verdict(rule);
    let (baseline, candidate) = score.estimates(rule.metric);
    Finding {
        guard: Arc::from(match rule.test {
            Test::Overlap => name(&rule.metric.source),
            test => format!("{} by {}", name(&rule.metric.source), test.name()),
        }),
        aim: Aim::Success,
        variant: Arc::clone(&of.name),
        verdict,
        baseline,
        candidate,
        harm: score.harm(rule),
        margin: score.margin(rule.metric),
        scale: scale(&rule.metric.source),
        ln_e: score.ln_effect(rule),
        threshold: -rule.alpha.ln(),
        missing: if verdict == Verdict::NotEnoughData { score.missing(rule) } else { 0 },
    }
}
