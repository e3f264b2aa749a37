//! One outcome → its spans: a server span for the call, and below it a client span for each attempt.
//!
//! Pure. Names follow the OpenTelemetry conventions for RPC and feature flags where there is one, and begin with
//! `parhelion.` where there is none. The version that a call was routed to and the version which the server named are
//! two attributes, for only together do they prove anything. Everything is on the span and nothing on the resource, which
//! some backends throw away.

use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use uuid::Uuid;

use super::names::attribute as name;
use super::otlp::{Place, Span};
use crate::config::Variant;
use crate::fault::{Blame, Code};
use crate::outcome::{Attempt, Outcome, Route, Runs};
use crate::shadow::record::Disagreement;

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

/// How spans are written: each after what is in a buffer of spans already, as `telemetry::otlp` says.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// Which names they have.
    pub conventions: Conventions,
    /// How much they may hold.
    pub limits: Limits,
}

impl Writer {
    /// A writer of spans with these names and bounds.
    pub fn new(conventions: Conventions, limits: Limits) -> Self {
        Writer { conventions, limits }
    }

    /// How many spans a call has.
    pub fn count(outcome: &Outcome) -> usize {
        1 + outcome.attempts.len()
    }

    /// Writes one of a call's spans: the first is the server's, then comes each attempt's. There are
    /// [`Writer::count`] of them, and none beyond.
    pub fn write_call(&self, outcome: &Outcome, which: usize, out: &mut Vec<u8>) {
        match which.checked_sub(1) {
            None => self.server(outcome, out),
            Some(index) => {
                if let Some(attempt) = outcome.attempts.get(index) {
                    self.client(outcome, attempt, which, out);
                }
            }
        }
    }

    fn server(&self, outcome: &Outcome, out: &mut Vec<u8>) {
        let failed = server_failed(outcome.status);
        let mut span = Span::begin(out, self.limits);
        let name = self.rpc(&mut span, &Method::of(outcome), outcome.status, failed);
        if let Some(authority) = &outcome.authority {
            span.server(authority);
        }
        if let Some(id) = outcome.told.as_ref().and_then(|told| told.to_str().ok()) {
            span.text(name::PREDICTION_ID, id);
        }
        span.uuid(outcome.prediction);
        span.text(name::PROTOCOL, outcome.protocol);
        span.text(name::BLAME, outcome.blame.name());
        if let Some(route) = &outcome.route {
            let served = outcome.attempts.iter().rfind(|attempt| route.served == Some(attempt.variant));
            span.route(route, served.map_or(&Runs::File, |attempt| &attempt.runs));
        }
        span.fallback(outcome);
        if let Some(disagreement) = &outcome.disagreement {
            span.disagreement(disagreement);
        }
        span.merged(outcome);
        if let Some(version) = &outcome.reported_version {
            span.text(name::REPORTED_VERSION, version);
        }
        if let Some(id) = &outcome.request_id {
            span.text(name::REQUEST_ID, id);
        }
        span.sizes(outcome);
        let parent = outcome.trace.parent.unwrap_or(0);
        let place = Place {
            name,
            span: outcome.trace.span_id,
            parent,
            remote: parent != 0,
            kind: SpanKind::Server,
            start: outcome.started,
            elapsed: outcome.latency.total,
        };
        span.end(&place, &outcome.trace, failed.then(|| outcome.message.as_deref().unwrap_or_default()));
    }

    fn client(&self, outcome: &Outcome, attempt: &Attempt, number: usize, out: &mut Vec<u8>) {
        // A server can fail with OK: by an error inside its answer, or an answer that is none.
        let failed = attempt.status != Code::OK || attempt.blame == Blame::Upstream;
        let mut span = Span::begin(out, self.limits);
        let name = self.rpc(&mut span, &Method::of(outcome), attempt.status, failed);
        span.server(&attempt.endpoint);
        span.uuid(outcome.prediction);
        span.text(name::BLAME, attempt.blame.name());
        span.whole(name::ATTEMPT, number as u64);
        if let Some(route) = &outcome.route {
            span.text(name::MODEL, &route.model.name);
            if let Some(variant) = route.model.variants.get(attempt.variant) {
                span.text(name::VARIANT, &variant.name);
                span.version(variant, &attempt.runs);
            }
        }
        let place = Place {
            name,
            span: attempt.span,
            parent: outcome.trace.span_id,
            remote: false,
            kind: SpanKind::Client,
            start: outcome.started + attempt.offset,
            elapsed: attempt.elapsed,
        };
        span.end(&place, &outcome.trace, failed.then_some(""));
    }

    /// Adds what the RPC conventions ask for, and returns the span's name.
    fn rpc<'m>(&self, span: &mut Span<'_>, method: &Method<'m>, code: Code, failed: bool) -> &'m str {
        let Method { sent, unknown } = *method;
        let method = if unknown { "_OTHER" } else { sent };
        if self.conventions != Conventions::Old {
            span.text(name::RPC_SYSTEM_NAME, "grpc");
            span.text(name::RPC_METHOD, method);
            span.text(name::RPC_STATUS_CODE, code.name());
        }
        if unknown {
            span.text(name::RPC_METHOD_ORIGINAL, sent);
        }
        if self.conventions != Conventions::New {
            let (service, short) = sent.rsplit_once('/').unwrap_or(("", sent));
            span.text(name::RPC_SYSTEM, "grpc");
            span.text(name::RPC_SERVICE, service);
            if self.conventions == Conventions::Old {
                span.text(name::RPC_METHOD, short);
            }
            span.whole(name::RPC_GRPC_STATUS_CODE, u64::from(code.0));
        }
        if failed {
            span.text(name::ERROR_TYPE, if code == Code::OK { "_OTHER" } else { code.name() });
        }
        method
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

impl Span<'_> {
    fn uuid(&mut self, prediction: Uuid) {
        self.text(name::PREDICTION_UUID, prediction.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }

    /// `host`, `host:port`, `[v6]:port` or `unix:/path`.
    fn server(&mut self, place: &str) {
        if let Some(path) = place.strip_prefix("unix:") {
            self.text(name::SERVER_ADDRESS, path);
            return;
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
            _ => (place, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.text(name::SERVER_ADDRESS, host);
        if let Some(port) = port {
            self.whole(name::SERVER_PORT, u64::from(port));
        }
    }

    fn route(&mut self, route: &Route, runs: &Runs) {
        let model = &route.model;
        let assigned = &route.assigned;
        self.text(name::MODEL, &model.name);
        if let Some(asked) = &route.asked {
            self.text(name::MODEL_ASKED, asked);
        }
        if let Some(variant) = route.served.and_then(|index| model.variants.get(index)) {
            self.text(name::VARIANT, &variant.name);
        }
        if let Some(variant) = model.variants.get(route.served.unwrap_or(assigned.variant)) {
            self.version(variant, runs);
        }
        self.text(name::STRATEGY, model.strategy.kind());
        self.text(name::REASON, assigned.reason.name());
        if let Some(segment) = route.segment.and_then(|index| model.strategy.segments().get(index)) {
            self.text(name::SEGMENT, &segment.name);
        }
        self.float(name::PROPENSITY, assigned.propensity);
        if let Some((wished, likely)) = route.wished
            && let Some(variant) = model.variants.get(wished)
        {
            self.text(name::CHOICE, &variant.name);
            self.float(name::CHOICE_PROPENSITY, likely);
        }
        self.text(name::FLAG_KEY, &model.name);
        if let Some(variant) = model.variants.get(assigned.variant) {
            self.text(name::ASSIGNED, &variant.name);
            self.text(name::FLAG_VARIANT, &variant.name);
        }
        self.text(name::FLAG_REASON, assigned.reason.flag_reason());
        self.text(name::FLAG_VERSION, &route.revision);
        self.text(name::FLAG_PROVIDER, "parhelion");
        if let Some(unit) = route.unit {
            self.hex(name::UNIT_HASH, u128::from(unit), 16);
            self.hex(name::FLAG_CONTEXT_ID, u128::from(unit), 16);
        }
    }

    fn fallback(&mut self, outcome: &Outcome) {
        let Some(fallback) = outcome.fallback else { return };
        self.text(name::FALLBACK, fallback.name());
        let variants = outcome.route.as_ref().map(|route| &route.model.variants);
        let from = outcome.fell_back_from().and_then(|failed| variants?.get(failed));
        if let Some(failed) = from {
            self.text(name::FALLBACK_FROM, &failed.name);
        }
    }

    fn disagreement(&mut self, disagreement: &Disagreement) {
        self.text(name::DISAGREEMENT_SHADOW, &disagreement.shadow);
        self.text(name::DISAGREEMENT_OUTPUT, &disagreement.output);
        self.text(name::DISAGREEMENT_KIND, disagreement.kind);
        self.text(name::DISAGREEMENT_HOW, &disagreement.how);
        self.float(name::DISAGREEMENT_DISTANCE, disagreement.distance);
    }

    /// Whose lists the answer is made of, and what became of the others.
    fn merged(&mut self, outcome: &Outcome) {
        let (Some(merged), Some(route)) = (&outcome.merged, &outcome.route) else { return };
        let model = &route.model;
        let name = |index: usize| model.variants.get(index).map_or("", |variant| &*variant.name);
        self.text(name::MERGE, merged.method.name());
        if merged.is_merged() {
            let within = merged.rankers.iter().filter(|ranker| ranker.dropped.is_none());
            self.text(
                name::INTERLEAVED,
                &within.map(|ranker| name(ranker.variant)).collect::<Vec<_>>().join(","),
            );
            self.whole(name::ROWS, merged.rows as u64);
            self.whole(name::SLOTS, merged.length as u64);
        }
        if let Some(teams) = merged.teams(model) {
            self.text(name::TEAMS, &teams);
        }
        let dropped = merged.rankers.iter().filter_map(|ranker| Some((ranker.variant, ranker.dropped?)));
        let dropped: Vec<String> =
            dropped.map(|(who, why)| format!("{}:{}", name(who), why.name())).collect();
        if !dropped.is_empty() {
            self.text(name::DROPPED, &dropped.join(","));
        }
        if let Some(why) = merged.unanalysed {
            self.text(name::UNANALYSED, why.name());
        }
    }

    fn version(&mut self, variant: &Variant, runs: &Runs) {
        if let Some(version) = runs.version(variant.version.as_ref()) {
            self.text(name::VERSION, version);
        }
        // Of what another version is made the file says nothing.
        if let Some(digest) = variant.digest.as_ref().filter(|_| *runs == Runs::File) {
            self.text(name::DIGEST, digest);
        }
    }

    fn sizes(&mut self, outcome: &Outcome) {
        if !outcome.attempts.is_empty() {
            self.float(name::LATENCY_UPSTREAM, outcome.latency.upstream.as_secs_f64());
            self.float(name::LATENCY_OWN, outcome.latency.own.as_secs_f64());
        }
        let traffic = &outcome.traffic;
        self.whole(name::REQUEST_BYTES, traffic.request_bytes);
        self.whole(name::RESPONSE_BYTES, traffic.response_bytes);
        self.whole(name::REQUEST_MESSAGES, traffic.request_messages);
        self.whole(name::RESPONSE_MESSAGES, traffic.response_messages);
    }
}

#[cfg(test)]
pub(super) mod read;
#[cfg(test)]
mod tests;
