//! What happened to a call, said once, after the response: everything recorded elsewhere is made from it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::uri::PathAndQuery;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::config::Model;
use crate::fault::{Blame, Code};

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
    /// Index of the segment that matched, among those of the model's strategy.
    pub segment: Option<usize>,
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
