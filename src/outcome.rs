//! What happened to a call, said once, after the response: everything recorded elsewhere is made from it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::uri::PathAndQuery;
use uuid::Uuid;

use crate::assignment::{Assignment, Odds};
use crate::config::Model;
use crate::fault::{Blame, Code};
use crate::log::payload::Taken;
use crate::shadow::record::Disagreement;

pub mod merged;

use merged::Merged;

/// The end of one call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What ties together all that is recorded of it.
    pub prediction: Uuid,
    /// The signed id that the caller was told, where it was told one.
    pub told: Option<HeaderValue>,
    /// The sidecar's server span.
    pub trace: Trace,
    /// When the request's headers were read.
    pub started: SystemTime,
    /// `/pkg.Service/Method`, as the caller sent it.
    pub path: PathAndQuery,
    /// The adapter that read it: `oip` or `opaque`.
    pub protocol: &'static str,
    /// The caller's `:authority`, where it sent one.
    pub authority: Option<Box<str>>,
    /// How the call was routed; `None` where it ended before that.
    pub route: Option<Route>,
    /// In the order they were made; empty where nothing was sent.
    pub attempts: Vec<Attempt>,
    /// What became of the baseline's answering instead of the assigned variant; `None` where that did not fail, or
    /// nobody could answer instead.
    pub fallback: Option<Fallback>,
    /// What several rankers made of it together; none where one variant was asked.
    pub merged: Option<Box<Merged>>,
    /// What the caller was told.
    pub status: Code,
    /// The status message, where the sidecar made it or the failure is worth reading.
    pub message: Option<Box<str>>,
    /// Whose fault it is.
    pub blame: Blame,
    /// Where the time went.
    pub latency: Latency,
    /// What crossed the sidecar.
    pub traffic: Traffic,
    /// The model version which the server itself named in its answer; may be empty where it names none.
    pub reported_version: Option<Box<str>>,
    /// The request's own id (`id` of an inference request).
    pub request_id: Option<Box<str>>,
    /// Its messages, where they are logged.
    pub payload: Option<Arc<Taken>>,
    /// Copies that were made of it, those for controls apart.
    pub copies: usize,
    /// How a shadow answered it differently; `None` until that is known.
    pub disagreement: Option<Box<Disagreement>>,
}

impl Outcome {
    /// How the assigned variant did by itself: its own last attempt, whatever the baseline then did for the caller.
    /// `None` where nothing was sent to it.
    pub fn assigned_attempt(&self) -> Option<&Attempt> {
        let assigned = self.route.as_ref()?.assigned.variant;
        self.attempts.iter().rev().find(|attempt| attempt.variant == assigned)
    }

    /// The variant that failed where the baseline was asked instead.
    pub fn fell_back_from(&self) -> Option<usize> {
        self.fallback.filter(|fallback| fallback.was_tried())?;
        self.route.as_ref().map(|route| route.assigned.variant)
    }
}

/// What became of the baseline's answering what another variant failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The caller got the baseline's good answer.
    Answered,
    /// The baseline failed too, or refused the input too: the caller got that.
    Failed,
    /// The caller left before the baseline had answered.
    Cancelled,
    /// Not asked: the budget was spent.
    Budget,
    /// Not asked: more had been sent than is kept.
    TooLarge,
    /// Not asked: the deadline had fallen.
    NoTime,
    /// Not asked: it was not ready.
    NotReady,
    /// Not asked: the answer had begun, for it was too large to be held.
    Committed,
}

impl Fallback {
    /// Every value, in the order of [`Fallback::index`].
    pub const ALL: [Fallback; 8] = [
        Fallback::Answered,
        Fallback::Failed,
        Fallback::Cancelled,
        Fallback::Budget,
        Fallback::TooLarge,
        Fallback::NoTime,
        Fallback::NotReady,
        Fallback::Committed,
    ];

    /// The word used in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Fallback::Answered => "answered",
            Fallback::Failed => "failed",
            Fallback::Cancelled => "cancelled",
            Fallback::Budget => "budget",
            Fallback::TooLarge => "too_large",
            Fallback::NoTime => "no_time",
            Fallback::NotReady => "not_ready",
            Fallback::Committed => "committed",
        }
    }

    /// Position in [`Fallback::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether the baseline was asked at all.
    pub fn was_tried(self) -> bool {
        matches!(self, Fallback::Answered | Fallback::Failed | Fallback::Cancelled)
    }
}

/// How a call was routed.
#[derive(Debug, Clone)]
pub struct Route {
    /// The model whose rollout got it.
    pub model: Arc<Model>,
    /// The revision of the configuration that decided.
    pub revision: Arc<str>,
    /// The model name the caller asked for, where it is not the model's.
    pub asked: Option<Box<str>>,
    /// Which variant it was given to, and why.
    pub assigned: Assignment,
    /// Which variant's answer the caller got, as index into the model's variants; `None` where none answered.
    pub served: Option<usize>,
    /// Keyed hash of the unit, never the unit itself.
    pub unit: Option<u64>,
    /// What an apprentice would have given it to, an index into the model's variants, and how likely that would have been.
    pub wished: Option<(usize, f64)>,
    /// Index of the segment that matched, among those of the model's strategy.
    pub segment: Option<usize>,
    /// How likely each arm was.
    pub odds: Odds,
    /// Of the rollout's split.
    pub epoch: u32,
}

/// Which version of a variant an endpoint runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Runs {
    /// The file's.
    #[default]
    File,
    /// Another one, while servers are replaced in place.
    Other(Arc<str>),
    /// Its server has not said so yet.
    Unknown,
}

impl Runs {
    /// In words, where `file` is the file's; none where none is known.
    pub fn version<'a>(&'a self, file: Option<&'a Arc<str>>) -> Option<&'a Arc<str>> {
        match self {
            Runs::File => file,
            Runs::Other(version) => Some(version),
            Runs::Unknown => None,
        }
    }
}

/// One try at an endpoint.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its client span.
    pub span: u64,
    /// Index into the model's variants.
    pub variant: usize,
    /// The endpoint, as configured: `host:port` or `unix:/path`.
    pub endpoint: Arc<str>,
    /// What its server ran then.
    pub runs: Runs,
    /// From the start of the call to the start of this attempt.
    pub offset: Duration,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended.
    pub status: Code,
    /// Whose fault that is.
    pub blame: Blame,
}

/// The identity of the sidecar's span, in W3C terms.
#[derive(Debug, Clone)]
pub struct Trace {
    /// 16 bytes, never zero.
    pub trace_id: u128,
    /// 8 bytes, never zero: the server span of this call.
    pub span_id: u64,
    /// The caller's span.
    pub parent: Option<u64>,
    /// The flag that was sent upstream: the caller's, else drawn by the ratio.
    pub sampled: bool,
    /// `tracestate`, passed on as it came.
    pub state: Option<HeaderValue>,
}

/// Where the time of a call went; all from one monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    /// Headers read to the end of the response, or to whatever ended the call.
    pub total: Duration,
    /// Start of the last attempt to its end; zero where nothing was sent.
    pub upstream: Duration,
    /// What the sidecar added before anything was sent: headers read to the first attempt, less waiting for the
    /// caller's own bytes.
    pub own: Duration,
}

/// What crossed the sidecar in one call, as gRPC message bytes including their 5-byte prefixes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes from the caller.
    pub request_bytes: u64,
    /// Bytes to the caller.
    pub response_bytes: u64,
    /// Messages from the caller.
    pub request_messages: u64,
    /// Messages to the caller.
    pub response_messages: u64,
}
