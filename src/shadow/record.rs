//! What happened to a copy, said once, beside what happened to its call: plain data.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use uuid::Uuid;

use crate::comparison::judge::Judgement;
use crate::comparison::{Comparison, Kind};
use crate::config::{Model, Variant};
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

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its answer is compared with what was served.
    Shadow,
    /// Its answer says how far the served version is from itself.
    Control,
}

impl Role {
    /// The word used in spans and logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Shadow => "shadow",
            Role::Control => "control",
        }
    }
}

/// How a shadow's answer differs from what was served.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    /// Who answered so.
    pub shadow: Arc<str>,
    /// In which output most; empty: as a whole.
    pub output: Arc<str>,
    /// In what way.
    pub kind: &'static str,
    /// By how much, in a few words.
    pub how: String,
    /// How far apart, in the measure's own number.
    pub distance: f64,
}

/// Words for what became of comparisons, as metrics have them: the first is that nothing differs, the last that one
/// of both answers was not there in time, was broken off by its caller, or could not be held; between them the kinds.
pub const RESULTS: usize = Kind::ALL.len() + 2;

/// The place of a comparison among [`RESULTS`]; none: it could not be made.
pub fn result(comparison: Option<&Comparison>) -> usize {
    let Some(comparison) = comparison else { return RESULTS - 1 };
    let kind = comparison.kind.or_else(|| comparison.outputs.iter().find_map(|output| output.kind));
    kind.map_or(0, |kind| 1 + kind.index())
}

/// The word at that place.
pub fn result_name(place: usize) -> &'static str {
    match place.checked_sub(1).map(|place| Kind::ALL.get(place)) {
        None => "same",
        Some(Some(kind)) => kind.name(),
        Some(None) => "not_compared",
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
    /// Who got it; of an address that is no variant's one that has it for a name.
    pub variant: Arc<Variant>,
    /// What for.
    pub role: Role,
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
    /// Its answer beside the call's; none: they could not be compared.
    pub comparison: Option<Arc<Comparison>>,
    /// What all answers of the shadow prove with this one; none where it is not compared.
    pub verdict: Option<Judgement>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_positions() {
        for (index, skip) in Skip::ALL.into_iter().enumerate() {
            assert_eq!(skip.index(), index);
        }
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
        assert_eq!((result(None), result(Some(&Comparison::default()))), (RESULTS - 1, 0));
        let words = [0, 1, RESULTS - 2, RESULTS - 1].map(result_name);
        assert_eq!(words, ["same", "status", "values", "not_compared"]);
    }
}
