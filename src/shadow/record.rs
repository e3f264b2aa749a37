//! What happened to a copy, said once, beside what happened to its call: plain data.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use uuid::Uuid;

use crate::config::Model;
use crate::fault::{Blame, Code};
use crate::outcome::Trace;

/// Why an eligible call was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The draw said no.
    SampledOut,
    /// No endpoint of the shadow is ready.
    NotReady,
    /// The shadow fails in a row and is left alone for a while.
    Breaker,
    /// As many copies are under way as may be.
    CallsCap,
    /// The copies hold as many bytes as they may.
    BytesCap,
    /// This request alone is larger than all copies together may be.
    TooLarge,
    /// The shadow took no connection, or said that it never looked at the call.
    Unreachable,
    /// The copy's deadline fell before its request was sent.
    Deadline,
    /// The caller gave up before the request was sent.
    Cancelled,
    /// The call ended, not by its caller's will, before its request was whole.
    Incomplete,
    /// The sidecar ended first.
    Aborted,
}

impl Skip {
    /// Every reason, in the order of [`Skip::index`].
    pub const ALL: [Skip; 11] = [
        Skip::SampledOut,
        Skip::NotReady,
        Skip::Breaker,
        Skip::CallsCap,
        Skip::BytesCap,
        Skip::TooLarge,
        Skip::Unreachable,
        Skip::Deadline,
        Skip::Cancelled,
        Skip::Incomplete,
        Skip::Aborted,
    ];

    /// Position in [`Skip::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Skip::SampledOut => "sampled_out",
            Skip::NotReady => "not_ready",
            Skip::Breaker => "breaker",
            Skip::CallsCap => "calls_cap",
            Skip::BytesCap => "bytes_cap",
            Skip::TooLarge => "too_large",
            Skip::Unreachable => "unreachable",
            Skip::Deadline => "deadline",
            Skip::Cancelled => "cancelled",
            Skip::Incomplete => "incomplete",
            Skip::Aborted => "aborted",
        }
    }
}

/// The first thing in which a copy's answer differs from its call's, both as their servers sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Nothing: status, messages and all bytes are equal.
    Same,
    /// The gRPC status.
    Status,
    /// How many messages there are.
    Messages,
    /// How many bytes.
    Size,
    /// The bytes.
    Bytes,
    /// One of the two was not there in time, was broken off by its caller, or could not be held.
    NotCompared,
}

impl Comparison {
    /// Every result, in the order of [`Comparison::index`].
    pub const ALL: [Comparison; 6] = [
        Comparison::Same,
        Comparison::Status,
        Comparison::Messages,
        Comparison::Size,
        Comparison::Bytes,
        Comparison::NotCompared,
    ];

    /// Position in [`Comparison::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Comparison::Same => "same",
            Comparison::Status => "status",
            Comparison::Messages => "messages",
            Comparison::Size => "size",
            Comparison::Bytes => "bytes",
            Comparison::NotCompared => "not_compared",
        }
    }
}

/// How the call itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrimaryEnd {
    /// Index of the variant that answered; `None` where none did.
    pub variant: Option<usize>,
    /// What the caller was told.
    pub status: Code,
    /// Whether the caller gave up.
    pub cancelled: bool,
    /// How long its last attempt took.
    pub latency: Duration,
    /// Message bytes of the answer as its server sent them, prefixes included.
    pub response_bytes: u64,
    /// Messages of the answer.
    pub response_messages: u64,
}

impl PrimaryEnd {
    /// Whose fault it is that it ended so, as far as its status tells.
    pub fn blame(&self) -> Blame {
        if self.cancelled { Blame::Client } else { self.status.blame(self.variant.is_some()) }
    }
}

/// The end of one copy that was begun to be sent, joined with its call.
#[derive(Debug, Clone)]
pub struct CopyOutcome {
    /// The id that the caller was told.
    pub prediction: Uuid,
    /// The call's trace and its server span.
    pub primary: (u128, u64),
    /// How the call ended; `None` where it had not by the copy's deadline.
    pub primary_end: Option<PrimaryEnd>,
    /// The copy's own trace, of which its span is the root.
    pub trace: Trace,
    /// When it was begun to be sent.
    pub started: SystemTime,
    /// `/pkg.Service/Method`.
    pub path: PathAndQuery,
    /// The adapter that read the call.
    pub protocol: &'static str,
    /// The model.
    pub model: Arc<Model>,
    /// The shadow, an index into the model's variants.
    pub variant: usize,
    /// Where it was sent.
    pub endpoint: Option<Arc<str>>,
    /// Why it does not count as copied after all.
    pub skipped: Option<Skip>,
    /// How it ended.
    pub status: Code,
    /// Why the sidecar ended it, where it did: `deadline`, `cancelled`, `response_cap`, `framing`.
    pub cause: Option<&'static str>,
    /// Whose fault that is.
    pub blame: Blame,
    /// From its start to its end.
    pub latency: Duration,
    /// Message bytes of the request, prefixes included, before any renaming.
    pub request_bytes: u64,
    /// Message bytes of the answer.
    pub response_bytes: u64,
    /// Messages of the answer.
    pub response_messages: u64,
    /// The model version that the shadow itself named.
    pub reported_version: Option<Box<str>>,
    /// Its answer beside the call's.
    pub comparison: Comparison,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_positions() {
        for (index, skip) in Skip::ALL.into_iter().enumerate() {
            assert_eq!(skip.index(), index);
        }
        for (index, comparison) in Comparison::ALL.into_iter().enumerate() {
            assert_eq!(comparison.index(), index);
        }
    }
}
