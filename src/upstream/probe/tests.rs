use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use super::*;
use crate::config::Address;
use crate::pb::inference::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::pb::inference::{self as pb};
use crate::upstream::readiness::sample;

const LONG: Duration = Duration::from_secs(20);

type Answer = Result<bool, Code>;

/// Answers readiness as it is told to.
#[derive(Clone)]
struct Fake(Arc<Mutex<State>>);

struct State {
    model: Answer,
    server: Answer,
    asked: Vec<String>,
}

impl Fake {
    fn new(model: Answer, server: Answer) -> Self {
        Fake(Arc::new(Mutex::new(State { model, server, asked: Vec::new() })))
    }

    fn router(&self) -> Router {
        Routes::new(GrpcInferenceServiceServer::new(self.clone())).into_axum_router()
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Fake {
    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.asked.push("server".to_owned());
        let ready = state.server.map_err(|code| Status::new(code, "as told"))?;
        Ok(Response::new(pb::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.asked.push(format!("{}:{}", request.get_ref().name, request.get_ref().version));
        let ready = state.model.map_err(|code| Status::new(code, "as told"))?;
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_live(
        &self,
        _: Request<pb::ServerLiveRequest>,
    ) -> Result<Response<pb::ServerLiveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn model_metadata(
        &self,
        _: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn model_infer(
        &self,
        _: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type ModelStreamInferStream = BoxStream<pb::ModelStreamInferResponse>;
    async fn model_stream_infer(
        &self,
        _: Request<tonic::Streaming<pb::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn tcp(address: SocketAddr) -> Address {
    Address::Tcp { host: address.ip().to_string().into(), port: address.port() }
}

/// Serves on a free port; with the sender dropped or used, connections end gracefully.
async fn serve(tasks: &Tasks, router: Router) -> (Address, tokio::sync::oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve_on(tasks, listener, router)
}

fn serve_on(
    tasks: &Tasks,
    listener: TcpListener,
    router: Router,
) -> (Address, tokio::sync::oneshot::Sender<()>) {
    let address = tcp(listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    tasks.spawn("server", async move { server.await.unwrap() });
    (address, stop)
}

/// A peer that is no HTTP/2 server: reads, sends `answer`, and then hangs up or keeps silent for ever.
async fn odd(tasks: &Tasks, answer: &'static [u8], hang_up: bool) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp(listener.local_addr().unwrap());
    tasks.spawn("odd peer", async move {
        let mut kept = Vec::new();
        loop {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            let _ = peer.read_exact(&mut request).await;
            // One that knows no HTTP/2 may just hang up at its preface.
            if !answer.is_empty() && (hang_up || &request == b"GET ") {
                let _ = peer.write_all(answer).await;
            }
            if !hang_up && answer.is_empty() {
                kept.push(peer);
            }
        }
    });
    address
}

/// A prober of one variant `v1` of a model `m`, and what it finds.
struct Probed {
    config: watch::Sender<Arc<Config>>,
    board: Arc<Board>,
    counters: Arc<Counters>,
}

impl Probed {
    fn start(tasks: &Tasks, address: Address) -> Self {
        let variant = sample::variant("v1", address);
        let config = watch::Sender::new(sample::config(vec![("m", vec![variant])]));
        let (board, counters) = (Arc::new(Board::default()), Arc::<Counters>::default());
        let shared = (Arc::clone(&counters), Default::default());
        tasks.spawn("prober", run(config.subscribe(), Arc::clone(&board), shared));
        Probed { config, board, counters }
    }

    fn suspicions(&self) -> u64 {
        self.counters.get(Counter::Suspicions)
    }

    fn readiness(&self) -> Arc<Readiness> {
        let (_, _, target) = Target::all(&self.config.borrow()).next().unwrap();
        self.board.get(&target)
    }

    /// Waits for that state; returns the reason.
    async fn until(&self, ready: bool) -> String {
        let readiness = self.readiness();
        let mut watched = self.board.watch();
        let state = async {
            while readiness.is_ready() != ready || readiness.why().is_none() {
                watched.changed().await.unwrap();
            }
        };
        timeout(LONG, state).await.unwrap();
        readiness.why().unwrap().to_string()
    }
}

fn tasks() -> Tasks {
    Tasks::new(Arc::default())
}

#[test]
fn a_failure_is_believed_the_second_time_and_then_backed_off() {
    let mut pace = Pace::default();
    assert_eq!(pace.next(false, true, 0.5), (true, READY_INTERVAL));
    assert_eq!(pace.next(true, false, 0.5), (true, SHORTEST_INTERVAL));
    assert_eq!(pace.next(true, true, 0.5), (true, READY_INTERVAL));
    assert_eq!(pace.next(true, false, 0.5), (true, SHORTEST_INTERVAL));
    for millis in [250, 500, 1000, 1000, 1000] {
        let ready = millis == 250;
        assert_eq!(pace.next(ready, false, 0.5), (false, Duration::from_millis(millis)));
    }
    let (first, last) = (pace.next(false, true, 0.0).1, pace.next(false, true, 1.0).1);
    assert!(first >= READY_INTERVAL.mul_f64(0.89) && last <= READY_INTERVAL.mul_f64(1.11) && first < last);
}

#[tokio::test]
async fn model_ready_decides_whatever_the_server_says_of_itself() {
    let tasks = tasks();
    for no in [Ok(false), Err(Code::NotFound), Err(Code::Unknown)] {
        let fake = Fake::new(no, Ok(true));
        let (address, _stop) = serve(&tasks, fake.router()).await;
        let probed = Probed::start(&tasks, address);
        let why = probed.until(false).await;
        assert!(why.starts_with("the server says that model m is not ready"), "{why}");
        assert!(!fake.asked().contains(&"server".to_owned()));
        fake.0.lock().unwrap().model = Ok(true);
        probed.until(true).await;
    }
}

#[tokio::test]
async fn the_servers_own_name_and_version_are_asked_for() {
    let tasks = tasks();
    let fake = Fake::new(Ok(true), Ok(true));
    let (address, _stop) = serve(&tasks, fake.router()).await;
    let mut variant = sample::variant("v2", address);
    variant.model_name = Some("fraud-next".into());
    variant.model_version = Some("7".into());
    let config = watch::Sender::new(sample::config(vec![("fraud", vec![variant])]));
    let board = Arc::new(Board::default());
    tasks.spawn("prober", run(config.subscribe(), Arc::clone(&board), Default::default()));
    Probed { config, board, counters: Arc::default() }.until(true).await;
    assert_eq!(fake.asked()[0], "fraud-next:7");
}

#[tokio::test]
async fn what_a_server_does_not_implement_is_asked_once() {
    let tasks = tasks();
    let fake = Fake::new(Err(Code::Unimplemented), Ok(true));
    let (address, _stop) = serve(&tasks, fake.router()).await;
    let probed = Probed::start(&tasks, address);
    assert!(probed.until(true).await.starts_with("ServerReady"));
    fake.0.lock().unwrap().server = Ok(false);
    probed.readiness().doubt();
    assert_eq!(probed.until(false).await, "the server says that it is not ready");
    let asked = fake.asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "m:").count(), 1, "{asked:?}");
}

#[tokio::test]
async fn grpc_health_counts_where_there_is_no_oip() {
    let tasks = tasks();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let (address, _stop) = serve(&tasks, Routes::new(service).into_axum_router()).await;
    let probed = Probed::start(&tasks, address);
    assert_eq!(probed.until(false).await, "grpc.health.v1 does not say SERVING");
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    assert!(probed.until(true).await.starts_with("grpc.health.v1 says SERVING"));
}

#[tokio::test]
async fn any_grpc_answer_counts_where_there_is_no_check_and_no_other_does() {
    let tasks = tasks();
    let unimplemented = Routes::builder().routes().into_axum_router();
    let (address, _stop) = serve(&tasks, unimplemented).await;
    assert!(Probed::start(&tasks, address).until(true).await.starts_with("answers gRPC calls"));

    let (address, _stop) = serve(&tasks, Router::new()).await;
    let why = Probed::start(&tasks, address).until(false).await;
    assert!(why.starts_with("answers HTTP/2, but not gRPC"), "{why}");
}

#[tokio::test]
async fn a_model_that_comes_later_is_found_and_one_that_goes_is_lost() {
    let tasks = tasks();
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = place.local_addr().unwrap();
    drop(place);
    let probed = Probed::start(&tasks, tcp(at));
    let why = probed.until(false).await;
    assert!(why.starts_with("cannot connect"), "{why}");
    let fake = Fake::new(Ok(true), Ok(true));
    let (_, stop) = serve_on(&tasks, TcpListener::bind(at).await.unwrap(), fake.router());
    assert_eq!(probed.until(true).await, "ModelReady says ready");
    stop.send(()).unwrap();
    probed.readiness().doubt();
    probed.until(false).await;
    assert_eq!(probed.readiness().changes(), 2);
}

#[tokio::test]
async fn a_silent_socket_is_not_ready_and_says_so() {
    let tasks = tasks();
    let address = odd(&tasks, b"", false).await;
    assert_eq!(Probed::start(&tasks, address).until(false).await, "does not answer within 1s");
}

#[tokio::test]
async fn silence_is_no_failure_while_calls_are_answered() {
    let tasks = tasks();
    let (fake, hushed) = (Fake::new(Ok(true), Ok(true)), Arc::new(tokio::sync::Semaphore::new(0)));
    let gate = Arc::clone(&hushed);
    let quiet =
        fake.router().layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            let gate = Arc::clone(&gate);
            async move {
                // While there is a permit, nobody is answered.
                if gate.available_permits() > 0 {
                    std::future::pending::<()>().await;
                }
                next.run(request).await
            }
        }));
    let (address, _stop) = serve(&tasks, quiet).await;
    let probed = Probed::start(&tasks, address);
    probed.until(true).await;
    let (readiness, traffic) = (probed.readiness(), probed.readiness().traffic());
    hushed.add_permits(1);
    let calls = tasks.spawn("calls", async move {
        loop {
            traffic.answer();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    // Without calls two silent probes take no longer than this.
    tokio::time::sleep((READY_INTERVAL + PATIENCE * 2 + SHORTEST_INTERVAL).mul_f64(1.2)).await;
    assert!(readiness.is_ready(), "{:?}", readiness.why());
    assert_eq!((readiness.changes(), probed.suspicions()), (1, 0));
    calls.abort();
    assert_eq!(probed.until(false).await, "does not answer within 1s");
}

#[tokio::test]
async fn who_answers_nobody_is_passed_over_before_it_is_given_up() {
    let tasks = tasks();
    let (fake, hushed) = (Fake::new(Ok(true), Ok(true)), watch::Sender::new(false));
    let gate = hushed.subscribe();
    let quiet =
        fake.router().layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|hushed| !hushed).await;
                next.run(request).await
            }
        }));
    let (address, _stop) = serve(&tasks, quiet).await;
    let probed = Probed::start(&tasks, address);
    probed.until(true).await;
    let readiness = probed.readiness();
    let suspected = async |want: bool| {
        let seen = async {
            while readiness.is_suspected() != want {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, seen).await.unwrap();
    };
    hushed.send_replace(true);
    suspected(true).await;
    assert_eq!((readiness.is_ready(), readiness.changes()), (true, 1), "no verdict yet");
    hushed.send_replace(false);
    suspected(false).await;
    assert_eq!((readiness.is_ready(), readiness.changes(), probed.suspicions()), (true, 1, 1));
    hushed.send_replace(true);
    suspected(true).await;
    assert_eq!(probed.until(false).await, "does not answer within 1s");
    assert!(!readiness.is_suspected(), "it gets no calls at all");
    hushed.send_replace(false);
    probed.until(true).await;
    assert_eq!((readiness.is_suspected(), probed.suspicions()), (false, 2));
}

#[tokio::test]
async fn an_http1_server_is_recognised() {
    let tasks = tasks();
    for hang_up in [true, false] {
        let address = odd(&tasks, b"HTTP/1.1 400 Bad Request\r\n\r\n", hang_up).await;
        let why = Probed::start(&tasks, address).until(false).await;
        assert_eq!(why, look::advice("answers HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_unix_socket_is_probed() {
    let tasks = tasks();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let fake = Fake::new(Ok(true), Ok(true));
    let server = axum::serve(listener, fake.router());
    tasks.spawn("server", async move { server.await.unwrap() });
    Probed::start(&tasks, Address::Unix(path)).until(true).await;
}

#[tokio::test]
async fn a_doubt_makes_it_look_at_once() {
    let tasks = tasks();
    let fake = Fake::new(Ok(true), Ok(true));
    let (address, _stop) = serve(&tasks, fake.router()).await;
    let probed = Probed::start(&tasks, address);
    probed.until(true).await;
    fake.0.lock().unwrap().model = Ok(false);
    let doubted = Instant::now();
    probed.readiness().doubt();
    probed.until(false).await;
    assert!(doubted.elapsed() < READY_INTERVAL.mul_f64(0.85), "{:?}", doubted.elapsed());
}

#[tokio::test]
async fn a_target_that_leaves_is_neither_asked_nor_kept() {
    let tasks = tasks();
    let fake = Fake::new(Ok(true), Ok(true));
    let (address, _stop) = serve(&tasks, fake.router()).await;
    let probed = Probed::start(&tasks, address.clone());
    probed.until(true).await;
    let (_, _, old) = Target::all(&probed.config.borrow()).next().unwrap();
    let (next, _next_stop) = serve(&tasks, fake.router()).await;
    let variant = sample::variant("v1", next.clone());
    probed.config.send(sample::config(vec![("m", vec![variant])])).unwrap();
    probed.until(true).await;
    assert!(probed.board.find(&old).is_none());
    // A new one under the old target's name starts not ready, and is found again.
    probed.config.send(sample::config(vec![("m", vec![sample::variant("v1", address)])])).unwrap();
    probed.until(true).await;
}

#[tokio::test]
async fn the_start_refuses_http1_and_nothing_else() {
    let tasks = tasks();
    let fake = Fake::new(Ok(true), Ok(true));
    let (good, _stop) = serve(&tasks, fake.router()).await;
    let old = odd(&tasks, b"HTTP/1.0 505 Version Not Supported\r\n\r\n", true).await;
    let shy = odd(&tasks, b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    let silent = odd(&tasks, b"", false).await;
    let refused = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
    let nowhere = Address::Unix("/no/such/socket".into());
    let names = ["good", "old", "shy", "silent", "refused", "nowhere"];
    let addresses = [good, old.clone(), shy.clone(), silent, refused, nowhere];
    let variants = names.iter().zip(addresses).map(|(name, address)| sample::variant(name, address));
    let config = sample::config(vec![("m", variants.collect())]);
    let started = Instant::now();
    let problems = refuse_http1(&config).await;
    assert!(started.elapsed() < LOOK_BOUND, "{:?}", started.elapsed());
    let advice = look::advice("answers HTTP/1.1");
    let expected = [
        format!("models.m.variants.old.endpoint: {old} {advice}"),
        format!("models.m.variants.shy.endpoint: {shy} {advice}"),
    ];
    assert_eq!(problems, expected);
}
const LOOK_BOUND: Duration = Duration::from_secs(3);

/// Keeps what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_http1_server_is_warned_of_once_with_its_names() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let tasks = tasks();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp(listener.local_addr().unwrap());
    let (seen, mut looks) = watch::channel(0);
    tasks.spawn("http1", async move {
        loop {
            let (mut peer, _) = listener.accept().await.unwrap();
            let _ = peer.read(&mut [0; 64]).await;
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            seen.send_modify(|seen| *seen += 1);
        }
    });
    let probed = Probed::start(&tasks, address.clone());
    probed.until(false).await;
    // Each probe takes two connections, or three.
    timeout(LONG, looks.wait_for(|looks| *looks >= 9)).await.unwrap().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(warned[0].contains(&format!("{address} answers HTTP/1.1; Parhelion")), "{log}");
    assert!(warned[0].contains("model=m variant=v1"), "{log}");
}
