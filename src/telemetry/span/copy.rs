//! The span of a copy: the root of a trace of its own, with a link to its call's server span.
//!
//! Not a child, for it is no part of the answer, and a trace view would show its time as the caller's. Since some
//! backends drop links, the call's ids are attributes too.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Method, Place, Span, Writer, name};
use crate::fault::Code;
use crate::outcome::Runs;
use crate::shadow::offenders::how;
use crate::shadow::record::CopyOutcome;

impl Writer {
    /// Writes the span of a copy.
    pub fn write_copy(&self, copy: &CopyOutcome, out: &mut Vec<u8>) {
        let failed = copy.status != Code::OK;
        let mut span = Span::begin(out, self.limits);
        let method = Method::new(&copy.path, copy.protocol, copy.status);
        let name = self.rpc(&mut span, &method, copy.status, failed);
        if let Some(endpoint) = &copy.endpoint {
            span.server(endpoint);
        }
        span.text(name::ROLE, copy.role.name());
        span.copied(copy);
        span.beside(copy);
        span.whole(name::REQUEST_BYTES, copy.request_bytes);
        span.whole(name::RESPONSE_BYTES, copy.response_bytes);
        span.whole(name::RESPONSE_MESSAGES, copy.response_messages);
        span.link(copy.primary);
        let place = Place {
            name,
            span: copy.trace.span_id,
            parent: 0,
            remote: false,
            kind: SpanKind::Client,
            start: copy.started,
            elapsed: copy.latency,
        };
        span.end(&place, &copy.trace, failed.then(|| copy.cause.unwrap_or_default()));
    }
}

impl Span<'_> {
    fn copied(&mut self, copy: &CopyOutcome) {
        self.uuid(copy.prediction);
        self.text(name::PROTOCOL, copy.protocol);
        self.text(name::BLAME, copy.blame.name());
        self.text(name::MODEL, &copy.model.name);
        self.text(name::VARIANT, &copy.variant.name);
        self.version(&copy.variant, &Runs::File);
        if let Some(version) = &copy.reported_version {
            self.text(name::REPORTED_VERSION, version);
        }
        if let Some(skip) = copy.skipped {
            self.text(name::SKIPPED, skip.name());
        }
        if let Some(cause) = copy.cause {
            self.text(name::CAUSE, cause);
        }
        let found = copy.comparison.as_deref();
        self.text(name::COMPARISON, found.map_or("not_compared", |found| found.name()));
        if let Some(found) = found.filter(|found| !found.agrees()) {
            let (output, how) = how(found);
            self.text(name::DISAGREEMENT_OUTPUT, &output);
            self.text(name::DISAGREEMENT_HOW, &how);
        }
    }

    fn beside(&mut self, copy: &CopyOutcome) {
        let (trace, server) = copy.primary;
        self.hex(name::PRIMARY_TRACE_ID, trace, 32);
        self.hex(name::PRIMARY_SPAN_ID, u128::from(server), 16);
        let Some(end) = &copy.primary_end else { return };
        if let Some(variant) = end.variant.and_then(|index| copy.model.variants.get(index)) {
            self.text(name::PRIMARY_VARIANT, &variant.name);
        }
        self.text(name::PRIMARY_STATUS, end.status.name());
        self.float(name::PRIMARY_LATENCY, end.latency.as_secs_f64());
        self.whole(name::PRIMARY_RESPONSE_BYTES, end.response_bytes);
    }
}
