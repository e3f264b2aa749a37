//! What the demo counts, and the one object it says at the end. Pure.
//!
//! Quantiles are exact, over the last values of each kind: many where the result hangs on them, fewer where they are
//! only shown while calls run, for finding them must not delay those. The latency that the sidecar adds is a
//! quantile of calls through it less the same quantile of calls made directly, in between, to the same servers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::caller::{Answer, Called};
use super::shadow::{Copies, Shadow};

/// How many latencies are kept for the result.
const KEPT: usize = 100_000;
/// How many are kept of each variant, to be shown.
const SHOWN: usize = 5_000;

/// The last latencies of a kind.
#[derive(Debug)]
pub struct Latencies {
    values: Vec<Duration>,
    next: usize,
    kept: usize,
}

impl Latencies {
    /// None yet; the last `kept` of them, at least one, will be kept.
    pub fn new(kept: usize) -> Latencies {
        Latencies { values: Vec::new(), next: 0, kept: kept.max(1) }
    }

    /// Adds one, in the place of the oldest where there are as many as are kept.
    pub fn add(&mut self, value: Duration) {
        if self.values.len() < self.kept {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
            self.next = (self.next + 1) % self.kept;
        }
    }

    /// The smallest kept value that at least `share` (0 to 1) of them do not exceed; `None` where there is none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.values.len() as f64).ceil() as usize;
        let index = rank.max(1).min(self.values.len()).checked_sub(1)?;
        let mut values = self.values.clone();
        Some(*values.select_nth_unstable(index).1)
    }
}

/// One variant's part.
#[derive(Debug)]
pub struct Arm {
    /// As the sidecar says it.
    pub version: String,
    /// Answers.
    pub calls: u64,
    /// Answers with the true label.
    pub right: u64,
    /// Of its answers.
    pub latencies: Latencies,
}

impl Arm {
    fn new(version: &str) -> Arm {
        Arm { version: version.to_owned(), calls: 0, right: 0, latencies: Latencies::new(SHOWN) }
    }

    /// Share of right answers; `None` where there is none.
    pub fn accuracy(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.right as f64 / self.calls as f64)
    }
}

/// Everything that was counted.
#[derive(Debug)]
pub struct Tally {
    /// By variant.
    pub arms: BTreeMap<String, Arm>,
    /// Answers by one variant in the place of another.
    pub fallbacks: u64,
    /// Calls without an answer that can be relied on.
    pub failed: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
    /// The shadow, as the sidecar counted it last.
    pub shadow: Shadow,
    through: Latencies,
    direct: Latencies,
}

impl Tally {
    /// Nothing counted yet, of variants with these names and versions, and of this shadow.
    pub fn new<'a>(variants: impl IntoIterator<Item = (&'a str, &'a str)>, shadow: Shadow) -> Tally {
        let arms = variants.into_iter().map(|(name, version)| (name.to_owned(), Arm::new(version)));
        Tally {
            arms: arms.collect(),
            fallbacks: 0,
            failed: 0,
            first_failure: None,
            shadow,
            through: Latencies::new(KEPT),
            direct: Latencies::new(KEPT),
        }
    }

    /// Counts one call.
    pub fn add(&mut self, called: Called) {
        match called {
            Ok(answer) => self.answered(&answer),
            Err(reason) => {
                self.failed += 1;
                self.first_failure.get_or_insert(reason);
            }
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let arm = self.arms.entry(answer.variant.clone()).or_insert_with(|| Arm::new(&answer.version));
        arm.calls += 1;
        arm.right += u64::from(answer.said == answer.label);
        arm.latencies.add(answer.latency);
        self.fallbacks += u64::from(answer.instead_of.is_some());
        if let Some(direct) = answer.direct {
            self.through.add(answer.latency);
            self.direct.add(direct);
        }
    }

    /// Calls, failed ones included.
    pub fn calls(&self) -> u64 {
        self.answers() + self.failed
    }

    /// Calls that were answered.
    pub fn answers(&self) -> u64 {
        self.arms.values().map(|arm| arm.calls).sum()
    }

    /// In milliseconds, as a quantile of the calls through the sidecar less that of the direct ones.
    fn added(&self, share: f64) -> Option<f64> {
        let (through, direct) = (self.through.quantile(share)?, self.direct.quantile(share)?);
        Some(rounded((through.as_secs_f64() - direct.as_secs_f64()) * 1e3, 3))
    }

    /// The result, once it is known what became of the spans.
    pub fn summary(&self, spans: SpanCounts) -> Summary {
        let variants = self.arms.iter().map(|(name, arm)| {
            let accuracy = arm.accuracy().map(|share| rounded(share, 4));
            (name.clone(), ArmSummary { calls: arm.calls, version: arm.version.clone(), accuracy })
        });
        Summary {
            calls: self.calls(),
            failed: self.failed,
            variants: variants.collect(),
            shadow: self.shadow.copies.clone(),
            spans,
            added_latency_ms: AddedLatency { p50: self.added(0.5), p99: self.added(0.99) },
        }
    }
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10_f64.powi(decimals);
    (value * factor).round() / factor
}

/// The result of a run, as `--json` says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Calls through the sidecar, failed ones included.
    pub calls: u64,
    /// Calls that ended with an error, without tags, or with an answer that is not the tagged version's.
    pub failed: u64,
    /// By name.
    pub variants: BTreeMap<String, ArmSummary>,
    /// What became of the copies.
    pub shadow: Copies,
    /// What became of the spans.
    pub spans: SpanCounts,
    /// What the sidecar adds to a call; null where nothing was measured.
    pub added_latency_ms: AddedLatency,
}

/// One variant's part of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmSummary {
    /// Answers.
    pub calls: u64,
    /// As the sidecar said it.
    pub version: String,
    /// Share of right answers, 0 to 1; null without answers.
    pub accuracy: Option<f64>,
}

/// What became of the spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SpanCounts {
    /// Reached the collector.
    pub exported: u64,
    /// Were given up by the sidecar.
    pub dropped: u64,
}

/// Milliseconds; may be below zero where noise is larger than what is added.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AddedLatency {
    /// Of the medians.
    pub p50: Option<f64>,
    /// Of the 99th percentiles.
    pub p99: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_and_of_the_last_values() {
        let mut latencies = Latencies::new(200);
        assert_eq!(latencies.quantile(0.5), None);
        for millis in (1..=100).rev() {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.quantile(0.5), Some(Duration::from_millis(50)));
        assert_eq!(latencies.quantile(0.99), Some(Duration::from_millis(99)));
        assert_eq!(latencies.quantile(1.0), Some(Duration::from_millis(100)));
        for _ in 0..200 {
            latencies.add(Duration::from_millis(7));
        }
        assert_eq!(latencies.quantile(0.0), Some(Duration::from_millis(7)));
        assert_eq!(latencies.quantile(1.0), Some(Duration::from_millis(7)));
    }

    #[test]
    fn the_summary_is_the_documented_object() {
        let skipped = BTreeMap::from([("sampled_out", 3)]);
        let copies = Copies { eligible: 5, copied: 2, skipped, compared: 2, ..Copies::default() };
        let shadow = Shadow { copies, ..Shadow::default() };
        let mut tally = Tally::new([("v1", "1.0.0"), ("v2", "2.0.0")], shadow);
        for (number, micros) in [400, 500, 600].into_iter().enumerate() {
            let direct = Some(Duration::from_micros(150));
            let label = if number == 0 { 3 } else { 8 };
            let latency = Duration::from_micros(micros);
            tally.add(Ok(Answer { label, said: 8, latency, direct, ..Answer::example() }));
        }
        tally.add(Err("the first".into()));
        tally.add(Err("the second".into()));
        assert_eq!(tally.first_failure.as_deref(), Some("the first"));
        let said = serde_json::to_value(tally.summary(SpanCounts { exported: 9, dropped: 1 })).unwrap();
        let expected = serde_json::json!({
            "calls": 5,
            "failed": 2,
            "variants": {
                "v1": {"calls": 0, "version": "1.0.0", "accuracy": null},
                "v2": {"calls": 3, "version": "2.0.0", "accuracy": 0.6667},
            },
            "shadow": {"eligible": 5, "copied": 2, "skipped": {"sampled_out": 3}},
            "spans": {"exported": 9, "dropped": 1},
            "added_latency_ms": {"p50": 0.35, "p99": 0.45},
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn nothing_measured_is_said_as_such() {
        let summary = Tally::new([], Shadow::default()).summary(SpanCounts::default());
        assert_eq!(summary.added_latency_ms, AddedLatency { p50: None, p99: None });
        assert_eq!(summary.calls, 0);
    }
}
