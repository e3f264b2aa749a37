//! Whole runs, with a stand-in for the sidecar that gives every third user to the second variant.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tonic::codegen::tokio_stream::Empty;
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Request, Response};

use super::rows::Row;
use super::split::world::{VARIANTS, World};
use super::*;
use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::pb::inference::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::pb::inference::*;

/// What the stand-in does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// Every tenth call fails.
    Fails,
    /// Tags the other variant than the one that answered.
    Lies,
    /// No prediction id.
    Untagged,
}

struct Relay {
    servers: Vec<GrpcInferenceServiceClient<Channel>>,
    collector: Option<TraceServiceClient<Channel>>,
    calls: AtomicU64,
    bug: Bug,
}

#[tonic::async_trait]
impl GrpcInferenceService for Relay {
    type ModelStreamInferStream = Empty<Result<ModelStreamInferResponse, tonic::Status>>;

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, tonic::Status> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.bug == Bug::Fails && number % 10 == 9 {
            return Err(tonic::Status::unavailable("on purpose"));
        }
        let user = request.metadata().get("x-user-id").unwrap().to_str().unwrap();
        let user: u64 = user.strip_prefix("user-").unwrap().parse().unwrap();
        let index = usize::from(user % 3 == 2);
        let mut response = self.servers[index].clone().model_infer(request.into_inner()).await?;
        let said = if self.bug == Bug::Lies { 1 - index } else { index };
        let prediction = format!("prediction-{number}");
        let tags = response.metadata_mut();
        tags.insert("parhelion-variant", VARIANTS[said].parse().unwrap());
        tags.insert("parhelion-model-version", ["1.0.0", "2.0.0"][said].parse().unwrap());
        if self.bug != Bug::Untagged {
            tags.insert("parhelion-prediction-id", prediction.parse().unwrap());
        }
        if let Some(collector) = &self.collector {
            collector.clone().export(spans(number, prediction)).await?;
        }
        Ok(response)
    }

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
    async fn model_stream_infer(
        &self,
        _: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
}

/// A server span with the prediction's id, a client span below it, and that of a copy.
fn spans(number: u64, prediction: String) -> ExportTraceServiceRequest {
    let id = (number + 1).to_be_bytes();
    let value = Some(AnyValue { value: Some(Value::StringValue(prediction)) });
    let attribute = KeyValue { key: "prediction".into(), value, ..KeyValue::default() };
    let span = |kind: i32, span_id: Vec<u8>, parent_span_id: Vec<u8>| Span {
        trace_id: vec![9; 16],
        span_id,
        parent_span_id,
        kind,
        attributes: vec![attribute.clone()],
        ..Span::default()
    };
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let role = KeyValue { key: "parhelion.role".into(), value: text("shadow"), ..KeyValue::default() };
    let copy = Span {
        trace_id: vec![8; 16],
        attributes: vec![role],
        links: vec![Link { trace_id: vec![9; 16], span_id: id.to_vec(), ..Link::default() }],
        ..span(3, id.to_vec(), Vec::new())
    };
    let spans = vec![span(2, id.to_vec(), Vec::new()), span(3, vec![0xff; 8], id.to_vec()), copy];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

fn copies() -> Copies {
    let skipped = [("sampled_out", 1)].into();
    Copies { eligible: 2, copied: 1, skipped, compared: 1, differed: 1, ..Copies::default() }
}

struct Stand {
    at: SocketAddr,
    asked: AtomicU64,
    _tasks: Tasks,
}

impl Sidecar for Stand {
    fn data(&self) -> SocketAddr {
        self.at
    }
    fn health(&self) -> SocketAddr {
        self.at
    }
    fn admin(&self) -> SocketAddr {
        self.at
    }
    async fn ready(&self) {}
    /// One copy is under way when it is asked first.
    fn copies(&self) -> Copies {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Copies { eligible: 2, copied: u64::from(asked > 0), under_way: u64::from(asked == 0), ..copies() }
    }
    async fn resume(&self, _: &str, _: &str) -> Result<(), String> {
        Err("nothing was rolled back".to_owned())
    }
    fn rollout(&self, _: &str) -> Option<Status> {
        None
    }
    fn audit(&self, _: &str) -> Vec<Arc<AuditRecord>> {
        Vec::new()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    async fn stop(self) -> Ended {
        // Whoever ends it has waited for its copy.
        assert!(self.asked.load(Ordering::Relaxed) > 1);
        Ended { spans: SpanCounts { exported: 0, dropped: 3 }, copies: copies() }
    }
}

/// Starts the stand-in before whatever servers the configuration names.
async fn stand(configuration: Configuration, bug: Bug) -> Result<Stand, String> {
    let Configuration::Text(configuration) = configuration else { return Err(format!("{configuration:?}")) };
    let addresses = configuration.split("http://").skip(1);
    let addresses: Vec<SocketAddr> =
        addresses.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
    let [first, second, _, ref collector @ ..] = addresses[..] else { return Err(configuration) };
    let servers = vec![caller::connect(first).await.unwrap(), caller::connect(second).await.unwrap()];
    let collector = match collector.first() {
        Some(at) => Some(TraceServiceClient::connect(format!("http://{at}")).await.unwrap()),
        None => None,
    };
    let relay = Relay { servers, collector, calls: AtomicU64::new(0), bug };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = incoming.local_addr().unwrap();
    let tasks = Tasks::new(Arc::default());
    let service = GrpcInferenceServiceServer::new(relay);
    tasks.spawn("stand-in", async move {
        Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    Ok(Stand { at, asked: AtomicU64::new(0), _tasks: tasks })
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    let words = std::iter::once("demo").chain(line.split_whitespace());
    <Arguments as clap::Parser>::try_parse_from(words).unwrap().options
}

/// Runs it on a buffer; returns whether all was well, and the text.
async fn told(line: &str, live: bool, bug: Bug) -> (bool, String) {
    let (_interrupt, interrupts) = mpsc::channel(1);
    let mut text = Vec::new();
    let screen = Screen::new(&mut text, live);
    let demo = Demo { options: options(line), screen, interrupts };
    let well = demo.run(async |configuration| stand(configuration, bug).await).await.unwrap();
    (well, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn json_is_one_object_and_every_number_is_a_counted_one() {
    let (well, text) = told("--calls 300 --rate 0 --json", false, Bug::None).await;
    assert!(well);
    assert_eq!(text.lines().count(), 1);
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["calls"], &said["failed"]), (&300.into(), &0.into()));
    assert_eq!(said["variants"]["v1"]["calls"], 200);
    assert_eq!(said["variants"]["v2"]["calls"], 100);
    assert_eq!(said["variants"]["v2"]["version"], "2.0.0");
    // Of the rows 2, 5, 8, … up to 299, which went to the second version.
    let rows = Row::bundled().unwrap();
    let right = rows.iter().take(300).skip(2).step_by(3).filter(|row| row.said[1] == row.label).count();
    assert_eq!(said["variants"]["v2"]["accuracy"], right as f64 / 100.0);
    assert_eq!(said["spans"], serde_json::json!({"exported": 900, "dropped": 3}));
    let shadow = serde_json::json!({"eligible": 2, "copied": 1, "skipped": {"sampled_out": 1}});
    assert_eq!(said["shadow"], shadow);
    assert!(said["added_latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{text}");
}

#[tokio::test]
async fn the_text_tells_split_story_and_what_is_next() {
    let (well, text) = told("--calls 60 --rate 0 --users 3", false, Bug::None).await;
    assert!(well);
    for part in [
        "curl http://",
        "60 calls, 0 failed",
        "v2 2.0.0",
        "33.3 %",
        "server span",
        "client span",
        "shadow span",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("unit     x-user-id: user-2"), "{text}");
    assert!(text.contains("v3 3.0.0-rc1  shadow, answers nobody: 1 of 2 calls copied (50.0 %)"), "{text}");
    assert!(text.contains("answers differ in 1 of 1"), "{text}");
    assert_eq!(text.matches("One prediction").count(), 1);
    assert!(!text.contains('\x1b'));
}

#[tokio::test]
async fn failures_are_counted_and_make_the_run_fail() {
    let (well, text) = told("--calls 100 --rate 0 --json", false, Bug::Fails).await;
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!well);
    assert_eq!((&said["calls"], &said["failed"]), (&100.into(), &10.into()));
    let (_, text) = told("--calls 100 --rate 0", false, Bug::Fails).await;
    assert!(text.contains("Unavailable: on purpose"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_tagged_versions_is_a_failure() {
    let (well, text) = told("--calls 20 --rate 0", false, Bug::Lies).await;
    assert!(!well);
    assert!(text.contains("20 calls, 20 failed"), "{text}");
    assert!(text.contains(" is tagged \"") && text.contains("\", its server says \""), "{text}");
    let (well, text) = told("--calls 20 --rate 0", false, Bug::Untagged).await;
    assert!(!well);
    assert!(text.contains("the answer has no parhelion-prediction-id"), "{text}");
}

#[tokio::test]
async fn an_interrupt_ends_it_with_the_summary() {
    let (interrupt, interrupts) = mpsc::channel(1);
    let mut text = Vec::new();
    let screen = Screen::new(&mut text, true);
    let demo = Demo { options: options(""), screen, interrupts };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        interrupt.send(()).await.unwrap();
    };
    let run = demo.run(async |configuration| stand(configuration, Bug::None).await);
    let (well, ()) = tokio::join!(run, stop);
    assert!(well.unwrap());
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("Ctrl-C ends it") && text.contains("What to try next"), "{text}");
    assert!(text.contains("server span"), "{text}");
}

#[tokio::test]
async fn models_only_prints_a_configuration_and_waits() {
    let (interrupt, interrupts) = mpsc::channel(1);
    let mut text = Vec::new();
    let screen = Screen::new(&mut text, false);
    let demo = Demo { options: options("--models-only"), screen, interrupts };
    interrupt.send(()).await.unwrap();
    let started = demo.run(async |_| Err::<Stand, String>("no sidecar is needed".into())).await;
    assert!(started.unwrap());
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("listen: 127.0.0.1:9000") && text.contains("telemetry: {sample: 100%}"), "{text}");
    assert_eq!(text.matches("endpoint: \"http://127.0.0.1:").count(), 3);
    assert!(text.contains("- {variant: v3, sample: 50%}"), "{text}");
}

#[tokio::test]
async fn one_model_server_stands_alone() {
    let (interrupt, interrupts) = mpsc::channel(1);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = format!("--models-only --model 3.0.0-rc1 --port {}", free.port());
    let mut text = Vec::new();
    let demo = Demo { options: options(&line), screen: Screen::new(&mut text, false), interrupts };
    let ask = async {
        let row = Row::bundled().unwrap().remove(0);
        let mut client = loop {
            match caller::connect(free).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let request = tensor::request("digits", String::new(), &row.pixels);
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!((answer.model_version.as_str(), tensor::label(&answer)), ("3.0.0-rc1", Some(row.said[2])));
        interrupt.send(()).await.unwrap();
    };
    let run = demo.run(async |_| Err::<Stand, String>("no sidecar is needed".into()));
    let (well, ()) = tokio::join!(run, ask);
    assert!(well.unwrap());
    assert_eq!(String::from_utf8(text).unwrap(), format!("digits 3.0.0-rc1: http://{free}\n"));
}

#[tokio::test]
async fn a_sidecar_that_does_not_start_is_said() {
    let (_interrupt, interrupts) = mpsc::channel(1);
    let demo = Demo { options: options("--calls 1"), screen: Screen::new(Vec::new(), false), interrupts };
    let error = demo.run(async |_| Err::<Stand, String>("the port is in use".into())).await.unwrap_err();
    assert_eq!(error.to_string(), "the sidecar did not start: the port is in use");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let parse = |line: &str| {
        let words = std::iter::once("demo").chain(line.split_whitespace());
        <Arguments as clap::Parser>::try_parse_from(words).is_ok()
    };
    assert!(parse("--calls 1 --rate 0 --users 1 --json"));
    assert!(parse("--scenario canary-good --rate 100 --stay --json"));
    assert!(parse("--scenario switch --json") && parse("--scenario interleave"));
    assert!(parse("--scenario fleet --json --stay --rate 100"));
    assert!(parse("--models-only --model 3.0.0-rc1 --port 8003"));
    for line in [
        "--scenario canary-bad",
        "--scenario canary-good --calls 5",
        "--scenario canary-good --users 5",
        "--scenario switch --users 5",
        "--scenario canary-good --models-only",
        "--scenario fleet --users 5",
        "--scenario canary-good --shadow 127.0.0.1:1",
        "--stay",
        "--models-only --model 1.0.0 --shadow 127.0.0.1:1",
        "--shadow x",
        "--model 1.0.0",
        "--models-only --port 1",
        "--models-only --model 4",
    ] {
        assert!(!parse(line), "{line}");
    }
    for line in ["--calls 0", "--users 0", "--rate -1", "--models-only --json", "--calls x"] {
        assert!(!parse(line), "{line}");
    }
}

#[tokio::test]
async fn the_configuration_is_accepted_and_says_what_the_demo_says() {
    let tasks = Tasks::new(Arc::default());
    let elsewhere: SocketAddr = "127.0.0.1:8003".parse().unwrap();
    for (collect, ports, shadow) in [(true, Ports::Free, None), (false, Ports::Usual, Some(elsewhere))] {
        let world = World::start(&tasks, collect, shadow).unwrap();
        assert_eq!(world.shadow.server == elsewhere, shadow.is_some());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), world.configuration(ports)).unwrap();
        let loaded = crate::config::load(file.path(), &crate::config::Environment::default()).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let model = loaded.config.model("digits").unwrap();
        let known = world.variants.iter().chain([&world.shadow]);
        assert_eq!(model.variants.len(), 3);
        for (variant, known) in model.variants.iter().zip(known) {
            assert_eq!((&*variant.name, variant.version.as_deref()), (&*known.name, Some(&*known.version)));
            assert_eq!(variant.endpoints[0].address.to_string(), known.server.to_string());
        }
        assert_eq!(loaded.config.telemetry.otlp.is_some(), collect);
        let shadows: Vec<usize> = model.shadows.iter().map(|shadow| shadow.variant).collect();
        assert_eq!(shadows, [2]);
    }
}
