//! Telemetry as it leaves the real process: calls never feel the collector, and what arrives is what happened.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use crate::support::attack::{Hostile, Mischief, reset};
use crate::support::process::{self, Client, Model, Sidecar, beside, get, get_as, infer, one, request};

/// A collector that keeps all spans; it ends with the test.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    kept: Kept,
}

#[derive(Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Span>>>,
    slow: Duration,
}

impl Stub {
    pub(crate) fn start() -> Self {
        Self::start_slow(Duration::ZERO)
    }

    /// One that takes so long for each export.
    fn start_slow(slow: Duration) -> Self {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let kept = Kept { spans: Arc::default(), slow };
        let service = TraceServiceServer::new(kept.clone());
        beside(Server::builder().add_service(service).serve_with_incoming(incoming));
        Stub { address, kept }
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        sleep(self.slow).await;
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The text of an attribute; numbers too.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

const QUICK: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "100");

fn traced(model: SocketAddr, collector: SocketAddr, more: &str) -> String {
    format!("{}telemetry: {{otlp: 'http://{collector}'{more}}}\ndrain: {{grace: 2s}}\n", one(model))
}

/// Makes that many calls, four at a time; none may fail. Returns the time of each.
async fn calls(sidecar: &Sidecar, count: usize) -> Vec<Duration> {
    let caller = |client: Client| {
        beside(async move {
            let mut times = Vec::new();
            for _ in 0..count / 4 {
                let start = Instant::now();
                infer(&client, "").await.unwrap();
                times.push(start.elapsed());
            }
            times
        })
    };
    let callers: Vec<_> = (0..4).map(|_| caller(sidecar.client())).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.unwrap());
    }
    times.sort();
    times
}

#[tokio::test]
async fn no_call_feels_a_collector_that_does_not_work() {
    let model = Model::start("1.0.0");
    let gone = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let hung = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let hung_at = hung.local_addr().unwrap();
    beside(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = hung.accept().await {
            held.push(stream);
        }
    });
    let slow = Stub::start_slow(Duration::from_secs(3));
    for (what, address) in [("absent", gone), ("hung", hung_at), ("slow", slow.address)] {
        let set = [QUICK, ("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")];
        let config = traced(model.address, address, ", sample: 100%");
        let mut sidecar = Sidecar::start_with(&config, &set, None).await;
        sidecar.become_ready().await;
        let times = calls(&sidecar, 400).await;
        let median = times[times.len() / 2];
        assert!(median < Duration::from_millis(100), "{what}: {median:?}");
        sidecar.counts("parhelion_spans_dropped_total", 300).await;
        // Whoever comes after the queue is full is served as well as the first.
        calls(&sidecar, 40).await;
        assert_eq!(sidecar.metric("parhelion_calls_total{model=\"m\",variant=\"v1\",code=\"OK\"").await, 440);
        sidecar.signal("TERM");
        let (status, took) = sidecar.ended(Duration::from_secs(8)).await;
        assert_eq!(status.code(), Some(0), "{what}");
        assert!(took < Duration::from_secs(5), "{what}: {took:?}");
    }
}

#[tokio::test]
async fn what_was_counted_last_leaves_before_the_end() {
    let model = Model::start("1.0.0");
    let stub = Stub::start();
    // Nothing leaves by itself within the test.
    let set = [("OTEL_BSP_SCHEDULE_DELAY", "60000")];
    let mut sidecar =
        Sidecar::start_with(&traced(model.address, stub.address, ", sample: 100%"), &set, None).await;
    sidecar.become_ready().await;
    calls(&sidecar, 20).await;
    assert!(stub.spans().is_empty());
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended(Duration::from_secs(6)).await.0.code(), Some(0));
    assert_eq!(stub.spans().len(), 40, "a server and a client span of each call");
}

#[tokio::test]
async fn a_call_that_was_sent_twice_is_one_trace_of_three_spans() {
    let stub = Stub::start();
    let refusal = Mischief { opened: false, bytes: |id| reset(id, 7), hang_up: false, times: 1 };
    let server = Hostile::start(refusal).await;
    let config = traced(server.address, stub.address, ", sample: 100%");
    let sidecar = Sidecar::start_with(&config, &[QUICK], None).await;
    sidecar.become_ready().await;
    let mut asked = Request::new(request("r-1"));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    asked.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let answer = sidecar.client().model_infer(asked).await.unwrap();
    let prediction = answer.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap();

    process::until("three spans", || async { stub.spans().len() >= 3 }).await;
    let spans = stub.spans();
    assert_eq!(spans.len(), 3);
    let trace: Vec<u8> = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes().to_vec();
    assert!(spans.iter().all(|span| span.trace_id == trace));
    let (servers, mut clients): (Vec<Span>, Vec<Span>) =
        spans.into_iter().partition(|span| span.kind == SpanKind::Server as i32);
    let [top] = &servers[..] else { panic!("{servers:?}") };
    assert_eq!(top.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(attribute(top, "parhelion.prediction_id").as_deref(), Some(prediction));
    assert_eq!(attribute(top, "parhelion.version").as_deref(), Some("1.0.0"));
    assert_eq!(attribute(top, "parhelion.variant").as_deref(), Some("v1"));
    assert_eq!(attribute(top, "parhelion.request_id").as_deref(), Some("r-1"));
    assert_eq!(attribute(top, "rpc.status_code").as_deref(), Some("OK"));

    clients.sort_by_key(|span| span.start_time_unix_nano);
    let [refused, answered] = &clients[..] else { panic!("{clients:?}") };
    for (attempt, span) in clients.iter().enumerate() {
        assert_eq!(span.kind, SpanKind::Client as i32);
        assert_eq!(span.parent_span_id, top.span_id);
        assert_eq!(attribute(span, "parhelion.attempt"), Some((attempt + 1).to_string()));
        assert_eq!(attribute(span, "server.port"), Some(server.address.port().to_string()));
        assert!(span.start_time_unix_nano >= top.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= top.end_time_unix_nano);
    }
    assert_ne!(refused.span_id, answered.span_id);
    assert_eq!(attribute(refused, "rpc.status_code").as_deref(), Some("UNAVAILABLE"));
    assert_eq!(attribute(answered, "rpc.status_code").as_deref(), Some("OK"));
}

#[tokio::test]
async fn failures_are_kept_where_nothing_else_is() {
    let model = Model::start("1.0.0");
    let stub = Stub::start();
    let config = traced(model.address, stub.address, ", sample: 0%, keep: {errors: true}");
    let sidecar = Sidecar::start_with(&config, &[QUICK], None).await;
    sidecar.become_ready().await;
    calls(&sidecar, 20).await;
    let status = infer(&sidecar.client(), "fail:13").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "as asked"));
    let prediction = status.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap();
    // The caller's own mistake is nobody's failure.
    assert_eq!(infer(&sidecar.client(), "fail:3").await.unwrap_err().code(), Code::InvalidArgument);
    process::until("the spans", || async { !stub.spans().is_empty() }).await;
    sleep(Duration::from_millis(400)).await;
    let spans = stub.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let top = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert_eq!(attribute(top, "parhelion.prediction_id").as_deref(), Some(prediction));
    assert_eq!(attribute(top, "parhelion.blame").as_deref(), Some("upstream"));
    assert_eq!(attribute(top, "error.type").as_deref(), Some("INTERNAL"));
    assert_eq!(top.status.as_ref().unwrap().code, 2, "ERROR");
}

type Labels = Vec<(String, String)>;

/// A sample's name, labels and what follows them.
fn sample(line: &str) -> (String, Labels, &str) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    let well =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
    assert!(!name.is_empty() && well(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(well(key), "{line}");
            let mut end = 0;
            let bytes = value.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            labels.push((key.to_owned(), value[..end].to_owned()));
            rest = &value[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let rest = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name.to_owned(), labels, rest)
}

/// Reads a whole page and checks what holds of every page; returns its samples.
fn parse(text: &str, open: bool) -> Vec<(String, Labels, String)> {
    let mut kinds: HashMap<String, String> = HashMap::new();
    let mut samples = Vec::new();
    let mut seen = std::collections::HashSet::new();
    assert!(text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(open && lines.peek().is_none(), "EOF is the end of OpenMetrics, and of nothing else");
            break;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            continue;
        }
        if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
            continue;
        }
        let (name, labels, rest) = sample(line);
        assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
        let value = rest.split(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let ends = ["", "_total", "_bucket", "_sum", "_count", "_info", "_created"];
        let known =
            ends.iter().any(|end| name.strip_suffix(end).is_some_and(|name| kinds.contains_key(name)));
        assert!(known, "no TYPE before {line}");
        samples.push((name, labels, rest.to_owned()));
    }
    assert_eq!(open, text.ends_with("# EOF\n"));
    samples
}

#[tokio::test]
async fn the_metrics_page_can_be_read_in_both_forms() {
    let model = Model::start("1.0.0");
    let stub = Stub::start();
    let config = traced(model.address, stub.address, ", sample: 100%");
    let sidecar = Sidecar::start_with(&config, &[QUICK], None).await;
    sidecar.become_ready().await;
    calls(&sidecar, 20).await;
    assert!(infer(&sidecar.client(), "fail:13").await.is_err());
    sidecar.counts("parhelion_spans_exported_total", 42).await;

    let (status, plain) = get(sidecar.health, "/metrics").await;
    assert_eq!(status, 200);
    let samples = parse(&plain, false);
    assert!(samples.iter().all(|(_, _, rest)| !rest.contains(" # ")), "exemplars are OpenMetrics only");
    let names: Vec<&str> = samples.iter().map(|(name, ..)| name.as_str()).collect();
    for name in ["parhelion_calls_total", "parhelion_own_duration_seconds_bucket", "parhelion_build_info"] {
        assert!(names.contains(&name), "{name}");
    }
    let of = |name: &str, label: (&str, &str)| {
        let label = (label.0.to_owned(), label.1.to_owned());
        let found = samples.iter().filter(|(one, labels, _)| one == name && labels.contains(&label));
        found.map(|(.., rest)| rest.parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!(of("parhelion_calls_total", ("code", "OK")), 20);
    assert_eq!(of("parhelion_calls_total", ("blame", "upstream")), 1);
    assert_eq!(of("parhelion_call_duration_seconds_count", ("variant", "v1")), 21);
    assert_eq!(of("parhelion_call_duration_seconds_bucket", ("le", "+Inf")), 21);

    let (_, open) = get_as(sidecar.health, "/metrics", "application/openmetrics-text").await;
    let samples = parse(&open, true);
    let exemplars: Vec<&str> = samples
        .iter()
        .filter_map(|(.., rest)| rest.split_once(" # ").map(|(_, exemplar)| exemplar))
        .collect();
    assert!(!exemplars.is_empty(), "{open}");
    let traces: Vec<String> = stub.spans().iter().map(|span| hex(&span.trace_id)).collect();
    for exemplar in exemplars {
        let line = format!("exemplar{exemplar}");
        let (_, labels, rest) = sample(&line);
        let trace = &labels.iter().find(|(key, _)| key == "trace_id").unwrap().1;
        assert!(traces.contains(trace), "an exemplar's trace is one that was exported: {exemplar}");
        assert!(rest.split(' ').all(|number| number.parse::<f64>().is_ok()), "{exemplar}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
