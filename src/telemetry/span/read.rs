//! Reads back what was written, with the decoder that collectors are made with.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_proto::tonic::common::v1::{KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ScopeSpans};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prost::Message;

use super::Writer;
use crate::outcome::Outcome;
use crate::shadow::record::CopyOutcome;

impl Writer {
    /// A call's spans, the server span first.
    pub(super) fn spans(&self, outcome: &Outcome) -> Vec<SpanData> {
        let mut out = Vec::new();
        for which in 0..Writer::count(outcome) {
            self.write_call(outcome, which, &mut out);
        }
        read(&out)
    }

    /// The span of a copy.
    pub(super) fn copy(&self, copy: &CopyOutcome) -> SpanData {
        let mut out = Vec::new();
        self.write_copy(copy, &mut out);
        read(&out).remove(0)
    }
}

/// What stands in a buffer of spans.
pub(in crate::telemetry) fn read(buffer: &[u8]) -> Vec<SpanData> {
    let scope = ScopeSpans::decode(buffer).unwrap();
    assert_eq!((scope.scope, scope.schema_url.as_str()), (None, ""));
    scope.spans.into_iter().map(span).collect()
}

fn span(span: proto::Span) -> SpanData {
    assert!(span.flags & 0x100 != 0, "whether the parent is remote is known: {:#x}", span.flags);
    let parent = if span.parent_span_id.is_empty() { SpanId::INVALID } else { span_id(&span.parent_span_id) };
    SpanData {
        span_context: context(&span.trace_id, &span.span_id, span.flags, &span.trace_state),
        parent_span_id: parent,
        parent_span_is_remote: span.flags & 0x200 != 0,
        span_kind: match span.kind() {
            proto::span::SpanKind::Server => SpanKind::Server,
            proto::span::SpanKind::Client => SpanKind::Client,
            other => panic!("{other:?}"),
        },
        start_time: UNIX_EPOCH + Duration::from_nanos(span.start_time_unix_nano),
        end_time: UNIX_EPOCH + Duration::from_nanos(span.end_time_unix_nano),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: span.dropped_attributes_count,
        events: SpanEvents::default(),
        links: links(&span.links),
        status: match span.status {
            None => Status::Unset,
            Some(status) => {
                assert_eq!(status.code, 2, "an error");
                Status::error(status.message)
            }
        },
        name: span.name.into(),
        instrumentation_scope: InstrumentationScope::default(),
    }
}

fn links(written: &[proto::span::Link]) -> SpanLinks {
    let mut links = SpanLinks::default();
    for link in written {
        let context = context(&link.trace_id, &link.span_id, link.flags, &link.trace_state);
        links.links.push(Link::new(context, Vec::new(), 0));
    }
    links
}

fn context(trace: &[u8], span: &[u8], flags: u32, state: &str) -> SpanContext {
    let trace = TraceId::from_bytes(trace.try_into().unwrap());
    let state: TraceState = state.parse().unwrap();
    SpanContext::new(trace, span_id(span), TraceFlags::new(flags as u8), false, state)
}

fn span_id(bytes: &[u8]) -> SpanId {
    SpanId::from_bytes(bytes.try_into().unwrap())
}

fn attribute(attribute: ProtoKeyValue) -> KeyValue {
    let value = match attribute.value.unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => Value::String(text.into()),
        any_value::Value::IntValue(number) => Value::I64(number),
        any_value::Value::DoubleValue(number) => Value::F64(number),
        other => panic!("{other:?}"),
    };
    KeyValue::new(attribute.key, value)
}
