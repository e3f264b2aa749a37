//! What is told of copies: metrics of their own, and a span that is linked to the call's.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Scene, yaml};
use crate::support::oip;
use crate::support::{Client, Sidecar, Upstream};

#[tokio::test]
async fn the_metrics_tell_it_and_live_calls_are_apart() {
    let scene = Scene::new("", oip::serve).await;
    for _ in 0..4 {
        scene.infer().await;
    }
    scene.shadow.set_ready(false);
    scene.sidecar.until_ready(|variant, ready| ready == (variant == "v1")).await;
    for _ in 0..4 {
        scene.infer().await;
    }
    scene.settled().await;
    let state = parhelion::telemetry::metrics::State::default();
    let text = scene.sidecar.telemetry.render(&state, parhelion::telemetry::metrics::Format::Prometheus);
    for line in [
        r#"parhelion_shadow_eligible_total{model="m",variant="v2"} 8"#,
        r#"parhelion_shadow_copied_total{model="m",variant="v2"} 4"#,
        r#"parhelion_shadow_skipped_total{model="m",variant="v2",reason="not_ready"} 4"#,
        r#"parhelion_shadow_coverage_ratio{model="m",variant="v2"} 0.5"#,
        r#"parhelion_shadow_calls_total{model="m",variant="v2",code="OK",blame="nobody"} 4"#,
        r#"parhelion_shadow_duration_seconds_count{model="m",variant="v2"} 4"#,
        r#"parhelion_shadow_primary_duration_seconds_count{model="m",variant="v2"} 4"#,
        r#"parhelion_shadow_pinned_bytes{model="m",variant="v2"} 0"#,
        r#"parhelion_shadow_connections_total{event="connected"} 1"#,
        r#"parhelion_upstream_connections_total{event="connected"} 1"#,
        r#"parhelion_calls_total{model="m",variant="v1",code="OK",blame="nobody"} 8"#,
    ] {
        assert!(text.lines().any(|one| one == line), "no {line}\n{text}");
    }
    assert!(!text.contains(r#"parhelion_calls_total{model="m",variant="v2""#), "{text}");
}

/// A collector that remembers the spans it was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Collector(Arc<std::sync::Mutex<Vec<Span>>>);

impl Collector {
    /// With its address, and what serves it until it is dropped.
    pub(super) async fn start() -> (Self, String, tokio::task::JoinSet<Result<(), tonic::transport::Error>>) {
        let collector = Collector::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let otlp = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)),
        );
        (collector, otlp, serving)
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

pub(super) fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == name)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_copys_span_is_linked_to_its_calls_and_the_shadows_server_joins_it() {
    let (collector, otlp, _serving) = Collector::start().await;
    let primary = Upstream::start(oip::serve).await;
    let shadow = Upstream::start(oip::serve).await;
    let text = yaml(&primary, &shadow, "");
    let sidecar = Sidecar::start(&format!("{text}telemetry: {{otlp: \"{otlp}\", sample: 100%}}\n")).await;
    let client = Client::connect(sidecar.address).await;
    let scene = Scene { primary, shadow, sidecar, client };
    scene.infer().await;
    scene.settled().await;
    let told = scene.shadow.requests()[0].headers["traceparent"].to_str().unwrap().to_owned();
    let flush = scene.sidecar.telemetry.flush(Duration::from_secs(5));
    // The exporter looks every few milliseconds; asked once the copy is written down, it has it.
    flush.await;
    let spans = collector.spans();
    let role = |span: &&Span| attribute(span, "parhelion.role").as_deref() == Some("shadow");
    let [copy] = &spans.iter().filter(role).collect::<Vec<_>>()[..] else { panic!("{spans:#?}") };
    let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert_eq!((copy.kind, copy.parent_span_id.len()), (SpanKind::Client as i32, 0));
    assert_ne!(copy.trace_id, server.trace_id);
    let [link] = &copy.links[..] else { panic!("{copy:#?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&server.trace_id, &server.span_id));
    let expected = [
        ("parhelion.primary.trace_id", hex(&server.trace_id)),
        ("parhelion.primary.span_id", hex(&server.span_id)),
        ("parhelion.prediction_uuid", attribute(server, "parhelion.prediction_uuid").unwrap()),
        ("parhelion.variant", "v2".to_owned()),
        ("parhelion.primary.variant", "v1".to_owned()),
        ("parhelion.reported_version", "7".to_owned()),
        ("parhelion.comparison", "same".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(attribute(copy, name), Some(value), "{name}");
    }
    assert_eq!(told, format!("00-{}-{}-01", hex(&copy.trace_id), hex(&copy.span_id)));
}
