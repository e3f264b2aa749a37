//! A tiny OpenTelemetry collector, so that the demo needs none: it counts the spans that reach it and keeps the first
//! few, from which one prediction's story is told.
//!
//! What the demo says of spans is thus what was received, not what was meant to be sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::story::SeenSpan;
use crate::tasks::Tasks;

/// How many spans are kept; later ones are only counted.
const KEPT: usize = 1024;

/// What has reached the collector. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Collector(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    spans: u64,
    kept: Vec<SeenSpan>,
}

impl Collector {
    /// Starts it among `tasks`, which ends it by being dropped; returns where it listens.
    ///
    /// # Errors
    /// Where no loopback port can be bound.
    pub fn start(&self, tasks: &Tasks) -> std::io::Result<SocketAddr> {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?.with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        let service = TraceServiceServer::new(self.clone());
        tasks.spawn("demo collector", async move {
            let served = Server::builder().add_service(service).serve_with_incoming(incoming).await;
            if let Err(error) = served {
                tracing::error!(%address, %error, "the collector of the demo ended");
            }
        });
        Ok(address)
    }

    /// Spans received so far.
    pub fn spans(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spans
    }

    /// The sidecar's spans of a prediction: the one that carries its id and those below it, and that of its copy;
    /// empty while it has not been received, or when it came after the first few.
    pub fn of(&self, prediction: &str) -> Vec<SeenSpan> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(top) = seen.kept.iter().find(|span| span.server && span.has_value(prediction)) else {
            return Vec::new();
        };
        let below = seen.kept.iter().filter(|span| span.parent == top.span && span.trace == top.trace);
        let copies = seen.kept.iter().filter(|span| span.shadows(top));
        std::iter::once(top).chain(below).chain(copies).cloned().collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans {
            seen.spans += 1;
            if seen.kept.len() < KEPT {
                seen.kept.push(keep(span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn keep(span: Span) -> SeenSpan {
    let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    SeenSpan {
        server: span.kind == SpanKind::Server as i32,
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        took: Duration::from_nanos(nanos),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        name: span.name,
    }
}

fn attribute(pair: KeyValue) -> (String, String) {
    (pair.key, pair.value.map(text).unwrap_or_default())
}

fn text(value: AnyValue) -> String {
    match value.value {
        None => String::new(),
        Some(Value::StringValue(value)) => value,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(value)) => hex(&value),
        Some(Value::ArrayValue(array)) => {
            let values: Vec<String> = array.values.into_iter().map(text).collect();
            format!("[{}]", values.join(", "))
        }
        Some(other) => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;

    fn span(kind: SpanKind, id: u8, parent: Option<u8>, prediction: Option<&str>) -> Span {
        let value = |text: &str| AnyValue { value: Some(Value::StringValue(text.to_owned())) };
        let pair = |text: &str| KeyValue {
            key: "prediction".into(),
            value: Some(value(text)),
            ..KeyValue::default()
        };
        Span {
            trace_id: vec![7; 16],
            span_id: vec![id; 8],
            parent_span_id: parent.map_or_else(Vec::new, |id| vec![id; 8]),
            kind: kind as i32,
            start_time_unix_nano: 1_000,
            end_time_unix_nano: 3_500,
            attributes: prediction.map(pair).into_iter().collect(),
            ..Span::default()
        }
    }

    fn export(spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = ScopeSpans { spans, ..ScopeSpans::default() };
        let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![resource] }
    }

    #[tokio::test]
    async fn spans_are_counted_and_a_predictions_found() {
        let (collector, tasks) = (Collector::default(), Tasks::new(Arc::default()));
        let address = collector.start(&tasks).unwrap();
        let mut client = TraceServiceClient::connect(format!("http://{address}")).await.unwrap();
        let child = span(SpanKind::Client, 2, Some(1), Some("p-1"));
        client.export(export(vec![child, span(SpanKind::Server, 9, None, Some("p-2"))])).await.unwrap();
        assert_eq!((collector.spans(), collector.of("p-1").len()), (2, 0));
        client.export(export(vec![span(SpanKind::Server, 1, None, Some("p-1"))])).await.unwrap();
        let found = collector.of("p-1");
        assert_eq!(collector.spans(), 3);
        assert_eq!(found.iter().map(|span| span.server).collect::<Vec<_>>(), [true, false]);
        assert_eq!(found[1].parent, found[0].span);
        assert_eq!(found[0].span, "0101010101010101");
        assert_eq!(found[0].took, Duration::from_nanos(2_500));
    }

    #[tokio::test]
    async fn only_the_first_spans_are_kept_but_all_are_counted() {
        let collector = Collector::default();
        let many = vec![span(SpanKind::Internal, 3, None, None); KEPT + 5];
        collector.export(Request::new(export(many))).await.unwrap();
        collector
            .export(Request::new(export(vec![span(SpanKind::Server, 1, None, Some("p"))])))
            .await
            .unwrap();
        assert_eq!(collector.spans(), KEPT as u64 + 6);
        assert!(collector.of("p").is_empty());
    }
}
