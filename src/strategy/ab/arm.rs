//! What one arm's calls and feedback prove beside the baseline's: the same guards as a canary's, and a score of each
//! metric.
//!
//! A call's value comes by its unit's analysis bucket: of the calls of a bucket only counts and sums are needed, for the
//! score is linear in values. They are measured against what was expected before they came, so that one does not
//! expect itself; only the very first lot is measured against its own mean.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metric::{Score, step};
use crate::config::{Ab, Arm as Of, Judge, Source};
use crate::evidence::{ArmGain, Batch, Gain, Scores, Total};
use crate::stats::mixture::TwoSided;
use crate::stats::overlap::Sums;
use crate::strategy::guards::{Evidence as Guards, Terms};

/// Chance that a guard ever fails an arm that is within its margins, over all guards of that arm.
const HARM: f64 = 0.01;
/// Reports at which the test of their ratio is sharpest, and the least information it says anything on.
const REPORTS: f64 = 5000.0;
const LEAST: f64 = 40.0;

/// All that is remembered of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Arm {
    pub(super) guards: Guards,
    /// By metric.
    pub(super) scores: Vec<Score>,
    /// Of metrics of feedback: whether reports came in the proportions that were meant. By metric.
    joined: Vec<(Sums, u64)>,
}

/// What calls of one stratum showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) gain: &'a Gain,
    /// How likely the arm was, given that it was that or the baseline.
    pub(super) propensity: f64,
    /// Whether it is of another time, or of another split than most: latency of such is not compared.
    pub(super) aside: bool,
    /// What was expected of a value, by metric.
    pub(super) expected: &'a [f64],
}

impl Arm {
    pub(super) fn new(judge: &Judge, now: Duration) -> Self {
        Arm {
            guards: Guards::new(&judge.guards, now),
            scores: vec![Score::default(); judge.metrics.len()],
            joined: vec![(Sums::default(), 0); judge.metrics.len()],
        }
    }

    /// Adds what calls showed.
    pub(super) fn absorb(&mut self, (ab, judge, of): (&Ab, &Judge, &Of), shown: &Shown<'_>, now: Duration) {
        let terms = terms(ab, judge, of);
        let warm = self.guards.is_warm(&terms, now);
        self.guards.add(&terms, shown.propensity, shown.aside, shown.gain, now);
        let arms = &shown.gain.arms;
        let (Some(control), Some(treated)) = (arms.get(ab.baseline), arms.get(of.variant)) else { return };
        for ((metric, score), expected) in judge.metrics.iter().zip(&mut self.scores).zip(shown.expected) {
            if metric.source == Source::Latency && !warm {
                continue;
            }
            let both = [control, treated].map(|arm| values(&metric.source, arm));
            let [Some(control), Some(treated)] = both else { continue };
            let hits = matches!(metric.source, Source::Errors | Source::Rejections);
            score.add(&scores((shown.propensity, hits), *expected, &control, &treated));
        }
    }

    /// Adds what feedback showed of that metric.
    pub(super) fn learn(&mut self, metric: usize, learnt: &Scores) {
        if let Some(score) = self.scores.get_mut(metric) {
            score.add(learnt);
        }
        if let Some((joined, reports)) =
            self.joined.get_mut(metric).filter(|_| learnt.joined.information() != 0.0)
        {
            *joined += &learnt.joined;
            *reports += learnt.baseline.n + learnt.candidate.n;
        }
    }

    /// ln of the evidence that reports of that metric did not come as chance gave the calls.
    pub(super) fn ln_joined(&self, metric: usize) -> f64 {
        let Some((joined, reports)) = self.joined.get(metric) else { return 0.0 };
        if joined.information() < LEAST || !joined.enough_buckets() || joined.variance() <= 0.0 {
            return 0.0;
        }
        let usual = joined.variance() * REPORTS / (*reports).max(1) as f64;
        joined.ln_e_effect(&TwoSided::new(usual, super::judge::BROKEN))
    }

    /// Whether reports are needed at all for that metric.
    pub(super) fn joins(&self, metric: usize) -> bool {
        self.joined.get(metric).is_some_and(|(_, reports)| *reports > 0)
    }
}

/// The terms of an arm's guards.
pub(super) fn terms<'a>(ab: &Ab, judge: &'a Judge, of: &Of) -> Terms<'a> {
    Terms {
        guards: &judge.guards,
        baseline: ab.baseline,
        candidate: of.variant,
        warmup: judge.warmup,
        alpha: HARM,
        on_fail: judge.on_fail,
    }
}

/// Values of one arm's calls by analysis bucket; none where they are no calls'.
fn values(source: &Source, arm: &ArmGain) -> Option<Vec<(u8, Total)>> {
    let of: fn(&Batch) -> Total = match source {
        Source::Feedback { .. } => return None,
        Source::Errors => |batch| Total { n: batch.calls, sum: batch.errors as f64 },
        Source::Rejections => |batch| Total { n: batch.calls, sum: batch.rejections as f64 },
        Source::Latency => |batch| Total { n: batch.timed, sum: batch.places as f64 * step() },
    };
    Some(arm.batches.iter().map(|(bucket, batch)| (*bucket, of(batch))).collect())
}

/// All values of calls that a gain holds, of every arm.
pub(super) fn all_values(source: &Source, gain: &Gain) -> Total {
    let mut all = Total::default();
    for arm in &gain.arms {
        values(source, arm).into_iter().flatten().for_each(|(_, total)| all.add(total));
    }
    all
}

/// The overlap score of calls by bucket: S_b = (1 − π)(y₁ − μn₁) − π(y₀ − μn₀), I = π(1 − π)(n₀ + n₁). Of values that
/// are hits, 1 or 0, the squares are known as well.
fn scores(
    (propensity, hits): (f64, bool),
    expected: f64,
    control: &[(u8, Total)],
    treated: &[(u8, Total)],
) -> Scores {
    let mut scores = Scores::default();
    let mut add = |(bucket, total): &(u8, Total), weight: f64| {
        let n = total.n as f64;
        let score = weight * (total.sum - expected * n);
        let squares = total.sum * (1.0 - expected).powi(2) + (n - total.sum) * expected * expected;
        let squares = if hits { weight * weight * squares } else { 0.0 };
        scores.sums.add_sums(score, squares, propensity * (1.0 - propensity) * n);
        scores.sums.add_to_bucket(*bucket, score);
    };
    control.iter().for_each(|values| add(values, -propensity));
    treated.iter().for_each(|values| add(values, 1.0 - propensity));
    control.iter().for_each(|(_, total)| scores.baseline.add(*total));
    treated.iter().for_each(|(_, total)| scores.candidate.add(*total));
    scores
}
