//! What came of a replay.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::candidate::Answered;
use super::judged::Verdict;
use crate::control;
use crate::ctl;
use crate::fault::Code;
use crate::shadow::judges::Judged;

/// What was sent, and what the answers prove.
#[derive(Debug)]
pub(super) struct Summary {
    /// Calls that could not be sent, by why.
    skipped: BTreeMap<&'static str, u64>,
    sent: u64,
    statuses: BTreeMap<&'static str, u64>,
    pub(super) verdict: Verdict,
    took: Duration,
}

impl Summary {
    pub(super) fn new(skipped: BTreeMap<&'static str, u64>, verdict: Verdict) -> Self {
        Summary { skipped, sent: 0, statuses: BTreeMap::new(), verdict, took: Duration::ZERO }
    }

    /// Counts a call that was sent.
    pub(super) fn count(&mut self, candidate: &Answered) {
        self.sent += 1;
        let code = candidate.answer.as_ref().err().map_or(Code::OK, |status| Code(status.code() as u32));
        *self.statuses.entry(code.name()).or_default() += 1;
    }

    /// Says how long all of it took.
    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(super) fn json(&self, judged: &Judged) -> Value {
        json!({
            "verdict": judged.report.verdict.name(),
            "sent": self.sent,
            "seconds": self.took.as_secs_f64(),
            "rate": self.rate(),
            "statuses": self.statuses,
            "skipped": self.skipped,
            "not_compared": self.verdict.not_compared(),
            "candidate": ctl::judged_json(&control::judged(judged)),
        })
    }

    pub(super) fn tell(&self, judged: &Judged, out: &mut impl Write) -> io::Result<()> {
        let (sent, seconds) = (self.sent, self.took.as_secs_f64());
        writeln!(out, "{sent} calls in {seconds:.1} s, {:.0} a second", self.rate())?;
        for (why, count) in &self.skipped {
            writeln!(out, "  not sent: {count} {}", why.replace('_', " "))?;
        }
        for (status, count) in self.statuses.iter().filter(|(status, _)| **status != "OK") {
            writeln!(out, "  {count} ended with {status}")?;
        }
        if self.verdict.not_compared() > 0 {
            writeln!(
                out,
                "  not compared: {}, for what was served is not in the log",
                self.verdict.not_compared()
            )?;
        }
        for line in ctl::judged_lines(&control::judged(judged)) {
            writeln!(out, "{line}")?;
        }
        if let Some(worst) = judged.offenders.first() {
            writeln!(out, "  look at it: parhelion log show --log DIR {}", worst.prediction)?;
        }
        Ok(())
    }
}
