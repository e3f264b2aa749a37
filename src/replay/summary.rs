//! What came of a replay.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tonic::Status;

use super::beside::Beside;
use super::recorded::Recorded;
use crate::fault::Code;

/// Predictions that are named of those that differ.
const NAMED: usize = 10;

/// Sums, and both sides' latencies.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    /// Calls that could not be sent, by why.
    skipped: BTreeMap<&'static str, u64>,
    sent: u64,
    same: u64,
    /// By what differs: `status`, `unread`, or an output's name.
    different: BTreeMap<String, u64>,
    pairs_different: u64,
    statuses: BTreeMap<String, u64>,
    /// Microseconds, of calls that both answered.
    latencies: Vec<(i64, i64)>,
    named: Vec<String>,
    took: Duration,
}

impl Summary {
    pub(super) fn new(skipped: BTreeMap<&'static str, u64>) -> Self {
        Summary { skipped, ..Summary::default() }
    }

    pub(super) fn add(
        &mut self,
        served: &Recorded,
        answer: &Result<Bytes, Status>,
        took: Duration,
        beside: &Beside,
    ) {
        self.sent += 1;
        let code = answer.as_ref().err().map_or(Code::OK, |status| Code(status.code() as u32));
        *self.statuses.entry(code.name().to_owned()).or_default() += 1;
        if code == Code::OK && served.status == "OK" {
            self.latencies.push((served.latency, i64::try_from(took.as_micros()).unwrap_or(i64::MAX)));
        }
        let what: Vec<String> = match beside {
            Beside::Same => {
                self.same += 1;
                return;
            }
            Beside::Outputs(names) => names.iter().cloned().collect(),
            Beside::Status => vec!["status".to_owned()],
            Beside::Unread => vec!["unread".to_owned()],
        };
        self.pairs_different += 1;
        for one in what {
            *self.different.entry(one).or_default() += 1;
        }
        if self.named.len() < NAMED {
            self.named.push(served.prediction.clone());
        }
    }

    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The share of answers that differ, 0 to 1.
    pub(super) fn different(&self) -> f64 {
        self.pairs_different as f64 / self.sent.max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Milliseconds that the served variant and the candidate stay below, of a share of the calls.
    fn quantile(&self, share: f64) -> Option<(f64, f64)> {
        let pick = |side: fn(&(i64, i64)) -> i64| {
            let mut all: Vec<i64> = self.latencies.iter().map(side).collect();
            all.sort_unstable();
            let at = ((all.len() as f64 * share).ceil() as usize).max(1);
            all.get(at - 1).map(|micros| *micros as f64 / 1e3)
        };
        pick(|(served, _)| *served).zip(pick(|(_, candidate)| *candidate))
    }

    pub(super) fn json(&self) -> Value {
        let pair = |share| {
            self.quantile(share).map(|(served, candidate)| json!({"served": served, "candidate": candidate}))
        };
        json!({
            "sent": self.sent,
            "same": self.same,
            "different": self.pairs_different,
            "by": self.different,
            "statuses": self.statuses,
            "skipped": self.skipped,
            "seconds": self.took.as_secs_f64(),
            "rate": self.rate(),
            "latency_ms": {"p50": pair(0.5), "p99": pair(0.99)},
            "predictions": self.named,
        })
    }

    pub(super) fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{} calls in {:.1} s, {:.0} a second",
            self.sent,
            self.took.as_secs_f64(),
            self.rate()
        )?;
        for (why, count) in &self.skipped {
            writeln!(out, "  not sent: {count} {}", why.replace('_', " "))?;
        }
        for (status, count) in self.statuses.iter().filter(|(status, _)| *status != "OK") {
            writeln!(out, "  {count} ended with {status}")?;
        }
        writeln!(
            out,
            "  {} answers are the same, {} differ ({:.2} %)",
            self.same,
            self.pairs_different,
            self.different() * 100.0
        )?;
        for (what, count) in &self.different {
            writeln!(out, "    in {what}: {count}")?;
        }
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some((served, candidate)) = self.quantile(share) {
                writeln!(out, "  {name}: served {served:.1} ms, candidate {candidate:.1} ms")?;
            }
        }
        if !self.named.is_empty() {
            writeln!(out, "  look at: parhelion log show --log DIR {}", self.named.join(" | "))?;
        }
        Ok(())
    }
}
