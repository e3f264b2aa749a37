use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue as ProtoKeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::*;
use crate::telemetry::counter::{Counter, Counters};
use crate::telemetry::environment::Environment;
use crate::telemetry::example::{file, outcome};
use crate::telemetry::shard::{Label, bucket};
use crate::telemetry::{Started, start};

/// A collector that remembers what it was sent.
#[derive(Debug, Clone, Default)]
struct Stub {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    keys: Arc<Mutex<Vec<String>>>,
    refusing: Arc<AtomicBool>,
    /// What the next exports meet, before any is taken.
    failing: Arc<Mutex<Vec<Status>>>,
}

#[tonic::async_trait]
impl TraceService for Stub {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some(status) = self.failing.lock().unwrap().pop() {
            return Err(status);
        }
        if self.refusing.load(Ordering::Relaxed) {
            return Err(Status::permission_denied("no"));
        }
        let key = request.metadata().get("api-key").map(|key| key.to_str().unwrap().to_owned());
        self.keys.lock().unwrap().extend(key);
        self.requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

impl Stub {
    fn serve(&self, listener: TcpListener, tasks: &mut JoinSet<()>) {
        let service = TraceServiceServer::new(self.clone());
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        tasks.spawn(async { serving.await.unwrap() });
    }

    fn batches(&self) -> Vec<Vec<Span>> {
        let requests = self.requests.lock().unwrap();
        let spans = |request: &ExportTraceServiceRequest| {
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            scopes.flat_map(|scope| scope.spans.clone()).collect()
        };
        requests.iter().map(spans).collect()
    }

    fn resource(&self) -> Vec<ProtoKeyValue> {
        self.requests.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap().attributes
    }
}

fn text(attributes: &[ProtoKeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|one| one.key == name)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        other => panic!("{name} is {other:?}"),
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// The levels of what the exporter writes to the log.
#[derive(Debug, Clone, Default)]
struct Records(Arc<Mutex<Vec<tracing::Level>>>);

impl<S: tracing::Subscriber> Layer<S> for Records {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target().starts_with("parhelion") {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }
}

struct Bench {
    telemetry: crate::telemetry::Telemetry,
    recorder: crate::telemetry::Recorder,
    counters: Arc<Counters>,
    tasks: JoinSet<()>,
}

fn bench(endpoint: &str, more: &[(&str, &str)]) -> Bench {
    let environment = Environment::read(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some("30".to_owned()),
        _ => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    });
    let counters = Arc::new(Counters::default());
    let started = start(&file(), environment.unwrap(), NonZeroUsize::MIN, Arc::clone(&counters)).unwrap();
    let Started { telemetry, mut recorders, exporter } = started;
    let mut tasks = JoinSet::new();
    tasks.spawn(exporter.run());
    Bench { telemetry, recorder: recorders.pop().unwrap(), counters, tasks }
}

impl Bench {
    /// Outcomes of two spans each, in handfuls that leave the exporter its turn.
    async fn observe(&self, count: usize) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..count / 100 {
            let calls: Vec<_> = (0..100).map(|_| outcome()).collect();
            let begun = Instant::now();
            for call in calls {
                self.recorder.observe(call);
            }
            spent += begun.elapsed();
            tokio::task::yield_now().await;
        }
        spent
    }

    fn lost(&self, cause: Cause) -> u64 {
        self.telemetry.spans().get_dropped(cause)
    }

    /// Every span is somewhere: with the collector, or dropped and counted.
    fn accounted(&self) -> u64 {
        let dropped: u64 = Cause::ALL.iter().map(|cause| self.lost(*cause)).sum();
        let never_built = 2 * self.counters.get(Counter::OutcomesDropped);
        self.telemetry.spans().get_exported() + dropped + never_built
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !reached(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }
}

#[tokio::test]
async fn a_prediction_reaches_the_collector() {
    let (listener, endpoint) = listener().await;
    let mut bench = bench(
        &endpoint,
        &[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k"), ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=p1")],
    );
    let stub = Stub::default();
    stub.serve(listener, &mut bench.tasks);
    bench.recorder.observe(outcome());
    bench.until(|bench| bench.telemetry.spans().get_exported() == 2).await;
    let spans = stub.batches().concat();
    let [server, client] = spans.as_slice() else { panic!("{} spans", spans.len()) };
    assert_eq!(server.trace_id, 0xabc_u128.to_be_bytes());
    assert_eq!(server.span_id, 0x11_u64.to_be_bytes());
    assert_eq!(server.parent_span_id, 0x10_u64.to_be_bytes());
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(text(&server.attributes, "parhelion.version").unwrap(), "2.0.0");
    assert_eq!(text(&server.attributes, "parhelion.reported_version").unwrap(), "2");
    assert_eq!(text(&stub.resource(), "service.name").unwrap(), "parhelion");
    assert_eq!(text(&stub.resource(), "k8s.pod.name").unwrap(), "p1");
    assert_eq!(*stub.keys.lock().unwrap(), ["k"]);
    let label = Label { model: Arc::from("fraud"), variant: Arc::from("v2") };
    let exemplar = bench.telemetry.shared.exemplars.get(&label, bucket(Duration::from_millis(12)));
    assert_eq!(exemplar.unwrap().trace_id, 0xabc);
}

#[tokio::test]
async fn batches_keep_their_size_and_a_flush_sends_all() {
    let (listener, endpoint) = listener().await;
    let mut bench =
        bench(&endpoint, &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64"), ("OTEL_BSP_MAX_QUEUE_SIZE", "5000")]);
    let stub = Stub::default();
    stub.serve(listener, &mut bench.tasks);
    bench.observe(1000).await;
    bench.telemetry.flush(Duration::from_secs(20)).await;
    assert_eq!(bench.telemetry.spans().get_exported(), 2000);
    assert!(stub.batches().iter().all(|batch| batch.len() <= 64));
    assert_eq!(stub.batches().concat().len(), 2000);
}

#[tokio::test]
async fn a_batch_of_many_pieces_arrives_whole() {
    let (listener, endpoint) = listener().await;
    let mut bench = bench(&endpoint, &[]);
    let stub = Stub::default();
    stub.serve(listener, &mut bench.tasks);
    bench.observe(1000).await;
    bench.telemetry.flush(Duration::from_secs(20)).await;
    let batches = stub.batches();
    assert!(batches.iter().any(|batch| batch.len() == 512), "more than fits into one piece");
    for pair in batches.concat().chunks(2) {
        assert_eq!(pair[1].parent_span_id, pair[0].span_id);
        assert_eq!(text(&pair[0].attributes, "parhelion.version").unwrap(), "2.0.0");
    }
    assert_eq!(bench.telemetry.spans().get_exported(), 2000);
}

#[tokio::test]
async fn an_export_is_tried_again_where_that_may_help() {
    let exhausted = Status::resource_exhausted("for good");
    let delay = Some(Duration::from_millis(1));
    let details = tonic_types::ErrorDetails::with_retry_info(delay);
    let busy = Status::with_error_details(tonic::Code::ResourceExhausted, "for now", details);
    let away = Status::unavailable("soon");
    for (met, exported) in [
        (vec![away.clone(); 3], 2),
        (vec![busy, away.clone()], 2),
        (vec![away; 4], 0),
        (vec![exhausted], 0),
        (vec![Status::invalid_argument("no")], 0),
    ] {
        let (listener, endpoint) = listener().await;
        let mut bench = bench(&endpoint, &[]);
        let stub = Stub::default();
        *stub.failing.lock().unwrap() = met.clone();
        stub.serve(listener, &mut bench.tasks);
        bench.recorder.observe(outcome());
        bench.until(|bench| bench.accounted() == 2).await;
        assert_eq!(bench.telemetry.spans().get_exported(), exported, "{met:?}");
        assert_eq!(bench.lost(Cause::ExportFailed), 2 - exported, "{met:?}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_time() {
    let (_open, endpoint) = listener().await;
    let bench = bench(&endpoint, &[]);
    let mut spent = bench.observe(10_000).await;
    // The exporter has to be hanging in an export, and its queue full behind it.
    bench.until(|bench| bench.lost(Cause::QueueFull) > 0 || bench.accounted() > 0).await;
    spent += bench.observe(10_000).await;
    assert!(spent < Duration::from_secs(2), "20,000 outcomes took {spent:?}");
    let begun = Instant::now();
    bench.telemetry.flush(Duration::from_millis(300)).await;
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    assert_eq!(bench.telemetry.spans().get_exported(), 0);
    assert!(bench.lost(Cause::Shutdown) >= 512, "what hung, at least");
    assert_eq!(bench.accounted(), 40_000);
}

#[tokio::test]
async fn a_collector_may_come_later_and_go() {
    let (first, endpoint) = listener().await;
    let address = first.local_addr().unwrap();
    drop(first);
    let records = Records::default();
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(records.clone()));
    let settings = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")];
    let bench = bench(&endpoint, &settings);
    bench.observe(100).await;
    bench.until(|bench| bench.lost(Cause::ExportFailed) == 200).await;
    let stub = Stub::default();
    let mut serving = JoinSet::new();
    stub.serve(TcpListener::bind(address).await.unwrap(), &mut serving);
    bench.observe(100).await;
    bench.until(|bench| bench.telemetry.spans().get_exported() == 200).await;
    stub.refusing.store(true, Ordering::Relaxed);
    bench.observe(100).await;
    bench.telemetry.flush(Duration::from_secs(5)).await;
    assert_eq!(bench.accounted(), 600);
    assert_eq!(bench.telemetry.spans().get_exported(), 200);
    let levels: Vec<_> = records.0.lock().unwrap().iter().map(|level| level.as_str()).collect();
    assert_eq!(levels, ["WARN", "INFO", "WARN"], "once for each change, however many batches fail");
}

#[tokio::test]
async fn a_flush_that_nobody_answers_returns_in_time() {
    let (_, endpoint) = listener().await;
    let mut bench = bench(&endpoint, &[]);
    bench.tasks.abort_all();
    while bench.tasks.join_next().await.is_some() {}
    let begun = Instant::now();
    bench.telemetry.flush(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_millis(300));
}

#[tokio::test]
async fn a_reload_moves_to_another_collector() {
    let (first, endpoint) = listener().await;
    let (second, other) = listener().await;
    let mut before = file();
    before.otlp = Some(endpoint);
    let environment = Environment::read(|name| (name == "OTEL_BSP_SCHEDULE_DELAY").then(|| "30".to_owned()));
    let started =
        start(&before, environment.unwrap(), NonZeroUsize::MIN, Arc::new(Counters::default())).unwrap();
    let (old, new) = (Stub::default(), Stub::default());
    let mut tasks = JoinSet::new();
    old.serve(first, &mut tasks);
    new.serve(second, &mut tasks);
    tasks.spawn(started.exporter.run());
    let observe = async |wanted| {
        started.recorders[0].observe(outcome());
        while started.telemetry.spans().get_exported() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), observe(2)).await.unwrap();
    let mut after = before.clone();
    after.otlp = Some(other);
    started.telemetry.reload(&after).unwrap();
    tokio::time::timeout(Duration::from_secs(10), observe(4)).await.unwrap();
    assert_eq!((old.batches().concat().len(), new.batches().concat().len()), (2, 2));
    after.otlp = Some("ftp://x".to_owned());
    assert!(started.telemetry.reload(&after).is_err());
}
