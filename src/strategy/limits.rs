//! What a variant is judged on that nobody stands beside: the share of its calls that fail, or are slow, against a
//! fixed limit.
//!
//! Each call is a trial; a beta-binomial mixture bets that the rate of hits is above the limit, and its capital is an
//! e-value that holds at every look (Howard et al. 2021; stated for a fixed rate where no concurrent baseline is to be
//! had). An outage that would have hit any variant counts against this one: that is what a fixed limit means. Failures
//! are counted at most once per unit and minute while calls are counted all, so the rate is never overstated.

use serde::{Deserialize, Serialize};

use crate::config::units::write_duration;
use crate::config::{FixedLimits, SlowLimit};
use crate::evidence::ArmGain;
use crate::stats::beta_mixture::BetaMixture;
use crate::stats::quantile::bucket;
use crate::stats::rate::rate_interval;
use crate::verdict::{Aim, Estimate, Finding, Interval, Scale, Verdict};

/// Chance that "within the limit" is ever said of a variant that is not.
const PASS: f64 = 0.05;
/// Hits at which the bets are best, whatever the limit is.
const HITS: f64 = 30.0;

/// All that the guards of one variant remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::strategy) struct Evidence {
    errors: Trials,
    /// In the order of the file.
    slow: Vec<Trials>,
}

/// Trials, and how many of them were hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trials {
    hits: u64,
    misses: u64,
}

impl Trials {
    fn add(&mut self, hits: u64, all: u64) {
        self.hits += hits;
        self.misses += all.saturating_sub(hits);
    }
}

impl Evidence {
    /// Adds what calls of the new variant showed.
    pub(in crate::strategy) fn add(&mut self, guards: &FixedLimits, gain: &ArmGain) {
        self.errors.add(gain.errors, gain.calls);
        self.slow.resize(guards.slow.len(), Trials::default());
        for (trials, limit) in self.slow.iter_mut().zip(&guards.slow) {
            // Of the bucket that the limit falls into nobody knows which side: it counts as fast.
            let edge = bucket(limit.slower_than);
            let count = |counted: &mut dyn Iterator<Item = &(u16, u32)>| -> u64 {
                counted.map(|(_, count)| u64::from(*count)).sum()
            };
            let hits = count(&mut gain.latency.iter().filter(|(bucket, _)| *bucket > edge));
            trials.add(hits, count(&mut gain.latency.iter()));
        }
    }

    /// What each guard finds, errors first, in the order of the file. `alpha`: chance that a variant within its limits
    /// ever fails, over all guards.
    pub(in crate::strategy) fn findings(&self, guards: &FixedLimits, alpha: f64) -> Vec<Finding> {
        let threshold = (guards.count().max(1) as f64 / alpha).ln();
        let errors = guards.errors.map(|limit| finding("errors".to_owned(), limit, self.errors, threshold));
        let slow = guards.slow.iter().enumerate().map(|(index, limit)| {
            let trials = self.slow.get(index).copied().unwrap_or_default();
            finding(name(limit), limit.at_most, trials, threshold)
        });
        errors.into_iter().chain(slow).collect()
    }
}

/// All guards together.
pub(in crate::strategy) fn together(findings: &[Finding]) -> Verdict {
    let all = |verdict| findings.iter().all(|finding| finding.verdict == verdict);
    match findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
        true => Verdict::Fail,
        false if !findings.is_empty() && all(Verdict::Pass) => Verdict::Pass,
        false => Verdict::NotEnoughData,
    }
}

/// Which guards fail, in words; none where none does.
pub(in crate::strategy) fn failing(findings: &[Finding]) -> Option<String> {
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
    let failed: Vec<&str> = failed.map(|finding| &*finding.guard).collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

/// `slower than 250ms`.
fn name(limit: &SlowLimit) -> String {
    format!("slower than {}", write_duration(limit.slower_than))
}

fn finding(guard: String, limit: f64, trials: Trials, threshold: f64) -> Finding {
    let Trials { hits, misses } = trials;
    let all = hits + misses;
    let mixture = BetaMixture::new(limit, HITS / limit);
    let (ln_e, ln_sound) = match all {
        0 => (0.0, 0.0),
        _ => (mixture.ln_e_above(hits, misses), mixture.ln_e_below(hits, misses)),
    };
    let verdict = match (ln_e >= threshold, ln_sound >= -PASS.ln()) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::NotEnoughData,
    };
    let value = (all > 0).then(|| hits as f64 / all as f64);
    let (low, high) = rate_interval(hits, misses, HITS / limit, (-threshold).exp());
    Finding {
        guard: guard.into(),
        aim: Aim::Guardrail,
        variant: std::sync::Arc::default(),
        verdict,
        baseline: Estimate::default(),
        candidate: Estimate { n: all, value },
        harm: value.map(|middle| Interval { low, middle, high }),
        margin: limit,
        scale: Scale::Share,
        ln_e,
        threshold,
        missing: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALPHA: f64 = 0.01;

    fn guards() -> FixedLimits {
        let slow = vec![SlowLimit { slower_than: Duration::from_millis(100), at_most: 0.05 }];
        FixedLimits { errors: Some(0.01), slow }
    }

    fn gain(calls: u64, errors: u64, slow: u32) -> ArmGain {
        let (fast, late) = (bucket(Duration::from_millis(10)), bucket(Duration::from_millis(500)));
        let latency = vec![(fast, calls as u32 - slow), (late, slow)];
        ArmGain { calls, errors, latency, ..ArmGain::default() }
    }

    fn verdicts(gain: &ArmGain) -> Vec<Verdict> {
        let mut evidence = Evidence::default();
        evidence.add(&guards(), gain);
        evidence.findings(&guards(), ALPHA).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn each_limit_is_judged_by_itself() {
        assert_eq!(verdicts(&gain(0, 0, 0)), [Verdict::NotEnoughData; 2]);
        assert_eq!(verdicts(&gain(20, 10, 0)), [Verdict::Fail, Verdict::NotEnoughData]);
        assert_eq!(verdicts(&gain(5_000, 5, 1_000)), [Verdict::Pass, Verdict::Fail]);
        assert_eq!(verdicts(&gain(5_000, 5, 20)), [Verdict::Pass, Verdict::Pass]);
    }

    #[test]
    fn in_one_part_or_many_the_evidence_is_the_same() {
        let (mut whole, mut parts) = (Evidence::default(), Evidence::default());
        whole.add(&guards(), &gain(1_000, 30, 70));
        for _ in 0..10 {
            parts.add(&guards(), &gain(100, 3, 7));
        }
        assert_eq!(whole, parts);
    }

    /// A variant exactly at its limit, looked at after every call, is judged worse in no more than alpha of all runs.
    #[test]
    fn a_variant_at_its_limit_is_seldom_reverted() {
        use rand::rngs::SmallRng;
        use rand::{RngExt, SeedableRng};
        let mut chance = SmallRng::seed_from_u64(7);
        let threshold = (1.0_f64 / 0.05).ln();
        let mut reverted = 0;
        for _ in 0..400 {
            let mut trials = Trials::default();
            let mixture = BetaMixture::new(0.1, HITS / 0.1);
            reverted += u32::from((0..1_000).any(|_| {
                trials.add(u64::from(chance.random_bool(0.1)), 1);
                mixture.ln_e_above(trials.hits, trials.misses) >= threshold
            }));
        }
        // 5 % of 400 is 20; three standard deviations above it are 33.
        assert!(reverted <= 33, "{reverted}");
    }
}
