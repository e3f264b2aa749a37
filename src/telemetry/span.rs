//! One outcome → its spans: a server span for the call, and below it a client span for each attempt.
//!
//! Pure. Names follow the OpenTelemetry conventions for RPC and feature flags where there is one, and begin with
//! `parhelion.` where there is none. The version that a call was routed to and the version which the server named are
//! two attributes, for only together do they prove anything. Everything is on the span and nothing on the resource, which
//! some backends throw away.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, Key, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use http::uri::PathAndQuery;

use super::names::attribute as name;
use crate::config::Variant;
use crate::fault::{Blame, Code};
use crate::outcome::{Attempt, Outcome, Route, Trace};

mod copy;
mod feedback;

/// Which generation of the RPC conventions a span is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conventions {
    /// `rpc.system.name`, `rpc.method` in full, `rpc.status_code` by name.
    New,
    /// `rpc.system`, `rpc.service` and `rpc.method` apart, `rpc.grpc.status_code` as a number.
    Old,
    /// Both; `rpc.method`, which both have, in full.
    Both,
}

/// How much one span may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attributes; those after are counted and left out.
    pub attributes: usize,
    /// Characters in one text; longer ones are cut.
    pub value_length: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { attributes: 128, value_length: None }
    }
}

/// How spans are written.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Which names they have.
    pub conventions: Conventions,
    /// How much they may hold.
    pub limits: Limits,
    scope: InstrumentationScope,
}

impl Writer {
    /// A writer of spans with these names and bounds.
    pub fn new(conventions: Conventions, limits: Limits) -> Self {
        let scope =
            InstrumentationScope::builder("parhelion").with_version(env!("CARGO_PKG_VERSION")).build();
        Writer { conventions, limits, scope }
    }

    /// The spans of a call, the server span first.
    pub fn spans(&self, outcome: &Outcome) -> Vec<SpanData> {
        let mut spans = Vec::with_capacity(1 + outcome.attempts.len());
        spans.push(self.server(outcome));
        for (index, attempt) in outcome.attempts.iter().enumerate() {
            spans.push(self.client(outcome, attempt, index + 1));
        }
        spans
    }

    fn server(&self, outcome: &Outcome) -> SpanData {
        let failed = server_failed(outcome.status);
        let mut list = Attributes::new(self.limits);
        let method = self.rpc(&mut list, &Method::of(outcome), outcome.status, failed);
        if let Some(authority) = &outcome.authority {
            list.server(authority);
        }
        if let Some(id) = outcome.told.as_ref().and_then(|told| told.to_str().ok()) {
            list.text(name::PREDICTION_ID, id.to_owned());
        }
        list.text(name::PREDICTION_UUID, outcome.prediction.to_string());
        list.text(name::PROTOCOL, outcome.protocol);
        list.text(name::BLAME, outcome.blame.name());
        if let Some(route) = &outcome.route {
            list.route(route);
        }
        list.fallback(outcome);
        if let Some(version) = &outcome.reported_version {
            list.text(name::REPORTED_VERSION, version.to_string());
        }
        if let Some(id) = &outcome.request_id {
            list.text(name::REQUEST_ID, id.to_string());
        }
        list.sizes(outcome);
        let parent = outcome.trace.parent.unwrap_or(0);
        let status = status(failed, outcome.message.as_deref());
        let place = Place {
            name: method,
            span: outcome.trace.span_id,
            parent,
            remote: parent != 0,
            kind: SpanKind::Server,
            start: outcome.started,
            elapsed: outcome.latency.total,
        };
        self.finish(place, &outcome.trace, list, status)
    }

    fn client(&self, outcome: &Outcome, attempt: &Attempt, number: usize) -> SpanData {
        // A server can fail with OK: by an error inside its answer, or an answer that is none.
        let failed = attempt.status != Code::OK || attempt.blame == Blame::Upstream;
        let mut list = Attributes::new(self.limits);
        let method = self.rpc(&mut list, &Method::of(outcome), attempt.status, failed);
        list.server(&attempt.endpoint);
        list.text(name::PREDICTION_UUID, outcome.prediction.to_string());
        list.text(name::BLAME, attempt.blame.name());
        list.put(name::ATTEMPT, Value::I64(whole(number as u64)));
        if let Some(route) = &outcome.route {
            list.text(name::MODEL, Arc::clone(&route.model.name));
            if let Some(variant) = route.model.variants.get(attempt.variant) {
                list.text(name::VARIANT, Arc::clone(&variant.name));
                list.version(variant);
            }
        }
        let place = Place {
            name: method,
            span: attempt.span,
            parent: outcome.trace.span_id,
            remote: false,
            kind: SpanKind::Client,
            start: outcome.started + attempt.offset,
            elapsed: attempt.elapsed,
        };
        self.finish(place, &outcome.trace, list, status(failed, None))
    }

    /// Adds what the RPC conventions ask for, and returns the span's name.
    fn rpc(&self, list: &mut Attributes, method: &Method<'_>, code: Code, failed: bool) -> String {
        let Method { sent, unknown } = *method;
        let method = if unknown { "_OTHER" } else { sent };
        if self.conventions != Conventions::Old {
            list.text(name::RPC_SYSTEM_NAME, "grpc");
            list.text(name::RPC_METHOD, method.to_owned());
            list.text(name::RPC_STATUS_CODE, code.name());
        }
        if unknown {
            list.text(name::RPC_METHOD_ORIGINAL, sent.to_owned());
        }
        if self.conventions != Conventions::New {
            let (service, short) = sent.rsplit_once('/').unwrap_or(("", sent));
            list.text(name::RPC_SYSTEM, "grpc");
            list.text(name::RPC_SERVICE, service.to_owned());
            if self.conventions == Conventions::Old {
                list.text(name::RPC_METHOD, short.to_owned());
            }
            list.put(name::RPC_GRPC_STATUS_CODE, Value::I64(i64::from(code.0)));
        }
        if failed {
            list.text(name::ERROR_TYPE, if code == Code::OK { "_OTHER" } else { code.name() });
        }
        method.to_owned()
    }

    fn finish(&self, place: Place, trace: &Trace, list: Attributes, status: Status) -> SpanData {
        let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(trace.trace_id),
                SpanId::from(place.span),
                flags,
                false,
                state(trace),
            ),
            parent_span_id: SpanId::from(place.parent),
            parent_span_is_remote: place.remote,
            span_kind: place.kind,
            name: place.name.into(),
            start_time: place.start,
            end_time: place.start + place.elapsed,
            attributes: list.kept,
            dropped_attributes_count: list.dropped,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// The method of a call.
struct Method<'a> {
    /// `pkg.Service/Method`, as sent.
    sent: &'a str,
    /// Nobody bounds the names that callers make up, and names of spans are grouped by.
    unknown: bool,
}

impl<'a> Method<'a> {
    fn new(path: &'a PathAndQuery, protocol: &str, status: Code) -> Self {
        let path = path.path();
        Method {
            sent: path.strip_prefix('/').unwrap_or(path),
            unknown: protocol == "opaque" && status == Code::UNIMPLEMENTED,
        }
    }

    fn of(outcome: &'a Outcome) -> Self {
        Method::new(&outcome.path, outcome.protocol, outcome.status)
    }
}

/// Where a span stands in its trace, and when; parent 0 is none.
struct Place {
    name: String,
    span: u64,
    parent: u64,
    remote: bool,
    kind: SpanKind,
    start: SystemTime,
    elapsed: Duration,
}

/// What the conventions call an error of the server: its own, not the caller's.
fn server_failed(code: Code) -> bool {
    matches!(
        code,
        Code::UNKNOWN
            | Code::DEADLINE_EXCEEDED
            | Code::UNIMPLEMENTED
            | Code::INTERNAL
            | Code::UNAVAILABLE
            | Code::DATA_LOSS
    )
}

fn status(failed: bool, message: Option<&str>) -> Status {
    if failed { Status::error(message.unwrap_or_default().to_owned()) } else { Status::Unset }
}

fn state(trace: &Trace) -> TraceState {
    let text = trace.state.as_ref().and_then(|state| state.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The attributes of one span, within its bounds.
struct Attributes {
    kept: Vec<KeyValue>,
    dropped: u32,
    limits: Limits,
}

impl Attributes {
    fn new(limits: Limits) -> Self {
        Attributes { kept: Vec::with_capacity(limits.attributes.min(32)), dropped: 0, limits }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        if self.kept.len() >= self.limits.attributes {
            self.dropped += 1;
        } else {
            self.kept.push(KeyValue::new(Key::from_static_str(name), value));
        }
    }

    fn text(&mut self, name: &'static str, text: impl Into<StringValue>) {
        let text = text.into();
        let cut = self.limits.value_length.and_then(|most| text.as_str().char_indices().nth(most));
        let text = match cut {
            Some((end, _)) => StringValue::from(text.as_str()[..end].to_owned()),
            None => text,
        };
        self.put(name, Value::String(text));
    }

    /// `host`, `host:port`, `[v6]:port` or `unix:/path`.
    fn server(&mut self, place: &str) {
        if let Some(path) = place.strip_prefix("unix:") {
            self.text(name::SERVER_ADDRESS, path.to_owned());
            return;
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
            _ => (place, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.text(name::SERVER_ADDRESS, host.to_owned());
        if let Some(port) = port {
            self.put(name::SERVER_PORT, Value::I64(i64::from(port)));
        }
    }

    fn route(&mut self, route: &Route) {
        let model = &route.model;
        let assigned = &route.assigned;
        self.text(name::MODEL, Arc::clone(&model.name));
        if let Some(asked) = &route.asked {
            self.text(name::MODEL_ASKED, asked.to_string());
        }
        if let Some(variant) = route.served.and_then(|index| model.variants.get(index)) {
            self.text(name::VARIANT, Arc::clone(&variant.name));
        }
        if let Some(variant) = model.variants.get(route.served.unwrap_or(assigned.variant)) {
            self.version(variant);
        }
        self.text(name::STRATEGY, model.strategy.kind());
        self.text(name::REASON, assigned.reason.name());
        if let Some(segment) = route.segment.and_then(|index| model.strategy.segments().get(index)) {
            self.text(name::SEGMENT, Arc::clone(&segment.name));
        }
        self.put(name::PROPENSITY, Value::F64(assigned.propensity));
        self.text(name::FLAG_KEY, Arc::clone(&model.name));
        if let Some(variant) = model.variants.get(assigned.variant) {
            self.text(name::ASSIGNED, Arc::clone(&variant.name));
            self.text(name::FLAG_VARIANT, Arc::clone(&variant.name));
        }
        self.text(name::FLAG_REASON, assigned.reason.flag_reason());
        self.text(name::FLAG_VERSION, Arc::clone(&route.revision));
        self.text(name::FLAG_PROVIDER, "parhelion");
        if let Some(unit) = route.unit {
            let hash = format!("{unit:016x}");
            self.text(name::UNIT_HASH, hash.clone());
            self.text(name::FLAG_CONTEXT_ID, hash);
        }
    }

    fn fallback(&mut self, outcome: &Outcome) {
        let Some(fallback) = outcome.fallback else { return };
        self.text(name::FALLBACK, fallback.name());
        let variants = outcome.route.as_ref().map(|route| &route.model.variants);
        let from = outcome.fell_back_from().and_then(|failed| variants?.get(failed));
        if let Some(failed) = from {
            self.text(name::FALLBACK_FROM, Arc::clone(&failed.name));
        }
    }

    fn version(&mut self, variant: &Variant) {
        if let Some(version) = &variant.version {
            self.text(name::VERSION, Arc::clone(version));
        }
        if let Some(digest) = &variant.digest {
            self.text(name::DIGEST, Arc::clone(digest));
        }
    }

    fn sizes(&mut self, outcome: &Outcome) {
        if !outcome.attempts.is_empty() {
            self.put(name::LATENCY_UPSTREAM, Value::F64(outcome.latency.upstream.as_secs_f64()));
            self.put(name::LATENCY_OWN, Value::F64(outcome.latency.own.as_secs_f64()));
        }
        let traffic = &outcome.traffic;
        self.put(name::REQUEST_BYTES, Value::I64(whole(traffic.request_bytes)));
        self.put(name::RESPONSE_BYTES, Value::I64(whole(traffic.response_bytes)));
        self.put(name::REQUEST_MESSAGES, Value::I64(whole(traffic.request_messages)));
        self.put(name::RESPONSE_MESSAGES, Value::I64(whole(traffic.response_messages)));
    }
}

#[cfg(test)]
mod tests;
