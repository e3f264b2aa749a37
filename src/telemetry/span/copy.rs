//! The span of a copy: the root of a trace of its own, with a link to its call's server span.
//!
//! Not a child, for it is no part of the answer, and a trace view would show its time as the caller's. Since some
//! backends drop links, the call's ids are attributes too.

use opentelemetry::Value;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::SpanData;

use super::{Attributes, Method, Place, Writer, name, status, whole};
use crate::fault::Code;
use crate::shadow::record::CopyOutcome;

impl Writer {
    /// The span of a copy.
    pub fn copy(&self, copy: &CopyOutcome) -> SpanData {
        let failed = copy.status != Code::OK;
        let mut list = Attributes::new(self.limits);
        let method = Method::new(&copy.path, copy.protocol, copy.status);
        let method = self.rpc(&mut list, &method, copy.status, failed);
        if let Some(endpoint) = &copy.endpoint {
            list.server(endpoint);
        }
        list.text(name::ROLE, "shadow");
        list.copied(copy);
        list.beside(copy);
        list.put(name::REQUEST_BYTES, Value::I64(whole(copy.request_bytes)));
        list.put(name::RESPONSE_BYTES, Value::I64(whole(copy.response_bytes)));
        list.put(name::RESPONSE_MESSAGES, Value::I64(whole(copy.response_messages)));
        let place = Place {
            name: method,
            span: copy.trace.span_id,
            parent: 0,
            remote: false,
            kind: SpanKind::Client,
            start: copy.started,
            elapsed: copy.latency,
        };
        let mut span = self.finish(place, &copy.trace, list, status(failed, copy.cause));
        let (trace, server) = copy.primary;
        let context = SpanContext::new(
            TraceId::from(trace),
            SpanId::from(server),
            TraceFlags::default(),
            false,
            TraceState::default(),
        );
        span.links.links.push(Link::new(context, Vec::new(), 0));
        span
    }
}

impl Attributes {
    fn copied(&mut self, copy: &CopyOutcome) {
        self.text(name::PREDICTION_UUID, copy.prediction.to_string());
        self.text(name::PROTOCOL, copy.protocol);
        self.text(name::BLAME, copy.blame.name());
        self.text(name::MODEL, copy.model.name.clone());
        if let Some(variant) = copy.model.variants.get(copy.variant) {
            self.text(name::VARIANT, variant.name.clone());
            self.version(variant);
        }
        if let Some(version) = &copy.reported_version {
            self.text(name::REPORTED_VERSION, version.to_string());
        }
        if let Some(skip) = copy.skipped {
            self.text(name::SKIPPED, skip.name());
        }
        if let Some(cause) = copy.cause {
            self.text(name::CAUSE, cause);
        }
        self.text(name::COMPARISON, copy.comparison.name());
    }

    fn beside(&mut self, copy: &CopyOutcome) {
        let (trace, server) = copy.primary;
        self.text(name::PRIMARY_TRACE_ID, format!("{trace:032x}"));
        self.text(name::PRIMARY_SPAN_ID, format!("{server:016x}"));
        let Some(end) = &copy.primary_end else { return };
        if let Some(variant) = end.variant.and_then(|index| copy.model.variants.get(index)) {
            self.text(name::PRIMARY_VARIANT, variant.name.clone());
        }
        self.text(name::PRIMARY_STATUS, end.status.name());
        self.put(name::PRIMARY_LATENCY, Value::F64(end.latency.as_secs_f64()));
        self.put(name::PRIMARY_RESPONSE_BYTES, Value::I64(whole(end.response_bytes)));
    }
}
