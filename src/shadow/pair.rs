//! A copy that has ended, with both answers, on its way from a worker to who compares them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::ledger::Beside;
use super::link::Answers;
use super::record::CopyOutcome;
use crate::comparison::{Answer, Reading};
use crate::config::Compare;
use crate::fault::Code;
use crate::protocol::Peek;
use crate::telemetry::shadow::Series;

/// One copy and what is known of it.
#[derive(Debug)]
pub struct Pair {
    /// Its end, with that of its call; not compared yet.
    pub outcome: CopyOutcome,
    /// Whether both ended in a way that can be compared.
    pub comparable: bool,
    /// Both answers, where they could be held, and what they count as held by.
    pub answers: Option<(Answers, Beside)>,
    /// How they are read.
    pub peek: Option<Peek>,
    /// Bytes that one message may have.
    pub limit: usize,
    /// Whether a control got a copy of the call too.
    pub controlled: bool,
    /// Where the comparison is counted.
    pub series: Arc<Series>,
}

impl Pair {
    /// How both are read by these rules.
    pub fn reading<'a>(&self, rules: &'a [Compare]) -> Reading<'a> {
        let peek = self.peek.filter(|_| self.outcome.protocol == "oip");
        Reading { peek, rules, limit: self.limit }
    }

    /// What was served, and the copy's answer; none where they cannot be compared.
    pub fn answers(&self) -> Option<[Answer<'_>; 2]> {
        let outcome = &self.outcome;
        let end = outcome.primary_end.as_ref().filter(|_| self.comparable)?;
        let held = self.answers.as_ref().map(|(answers, _)| answers);
        let answer = |status: Code, (messages, bytes): (u64, u64), latency: Duration, place: usize| Answer {
            status,
            messages,
            bytes,
            chunks: held.map(|answers| chunks(answers, place)),
            encoding: held.and_then(|answers| answers.encodings[place].as_ref()).map(HeaderValue::as_bytes),
            latency,
        };
        Some([
            answer(end.status, (end.response_messages, end.response_bytes), end.latency, 0),
            answer(outcome.status, (outcome.response_messages, outcome.response_bytes), outcome.latency, 1),
        ])
    }
}

fn chunks(answers: &Answers, place: usize) -> &[Bytes] {
    if place == 0 { &answers.primary } else { &answers.shadow }
}
