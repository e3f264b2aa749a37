//! The real program as a child process, and model servers for it to stand before.
//!
//! The child gets ports from the system and tells them in its log; it is killed by its id when the test lets it go.
//! A model server runs on a thread of its own, so that ending it closes its sockets as the end of a process would.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parhelion::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use parhelion::pb::inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use parhelion::pb::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::codegen::tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Longer than anything here takes, on a machine that is busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A client of the Open Inference Protocol.
pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

/// Runs `future` beside the test.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
pub(crate) fn beside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// Waits until `what` holds; panics with `name` when it never does.
pub(crate) async fn until<F: Future<Output = bool>>(name: &str, mut what: impl FnMut() -> F) {
    let start = Instant::now();
    while !what().await {
        assert!(start.elapsed() < LONG, "never came: {name}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The program, not yet started.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parhelion"));
    forget_surroundings(&mut command);
    command
}

/// Takes out whatever the surroundings of the test would tell the program.
fn forget_surroundings(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if ["OTEL_", "PARHELION_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Runs the program to its end.
pub(crate) fn run_to_end(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// `check` or `run` are told about this file.
pub(crate) fn file(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("parhelion.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Ports that the system chooses, and one worker.
pub(crate) const PORTS: &str = "listen: 127.0.0.1:0\nhealth: 127.0.0.1:0\nadmin: 127.0.0.1:0\nworkers: 1\n";

/// One model `m` with one variant `v1` at `endpoint`.
pub(crate) fn one(endpoint: SocketAddr) -> String {
    format!("models:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{endpoint}', version: 1.0.0}}\n")
}

/// A sidecar in a process of its own.
pub(crate) struct Sidecar {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Where callers reach it.
    pub(crate) data: SocketAddr,
    /// Where probes reach it.
    pub(crate) health: SocketAddr,
    /// Where people reach it.
    pub(crate) admin: SocketAddr,
    /// What its configuration is in.
    pub(crate) directory: tempfile::TempDir,
}

impl Sidecar {
    /// Starts one with [`PORTS`] and `config`, and waits until it serves.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, &[], None).await
    }

    /// As [`Sidecar::start`], and waits until it is ready for calls.
    pub(crate) async fn ready(config: &str) -> Self {
        let sidecar = Self::start(config).await;
        sidecar.become_ready().await;
        sidecar
    }

    /// With environment variables, and perhaps a bound on file descriptors.
    pub(crate) async fn start_with(config: &str, set: &[(&str, &str)], descriptors: Option<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), &format!("{PORTS}{config}"));
        Self::follow(directory, &path, set, descriptors).await
    }

    /// Starts one on a file or directory that stands already.
    pub(crate) async fn follow(
        directory: tempfile::TempDir,
        path: &Path,
        set: &[(&str, &str)],
        descriptors: Option<u32>,
    ) -> Self {
        let mut command = match descriptors {
            None => program(),
            Some(most) => {
                let mut shell = Command::new("sh");
                forget_surroundings(&mut shell);
                let script = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, env!("CARGO_BIN_EXE_parhelion")]);
                shell
            }
        };
        command.args(["run", "-c"]).arg(path).envs(set.iter().copied());
        Self::serve(directory, command).await
    }

    /// As [`Sidecar::start`], with a file system of its own at `at` that only this process sees: a tmpfs with these
    /// `options` of `mount`. None where the system does not let users mount.
    pub(crate) async fn start_on(at: &Path, options: &str, config: &str) -> Option<Self> {
        let allowed = Command::new("unshare").args(["-rm", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), &format!("{PORTS}{config}"));
        let mut command = Command::new("unshare");
        forget_surroundings(&mut command);
        let script = "mount -t tmpfs -o \"$1\" none \"$2\" && exec \"$0\" run -c \"$3\"";
        command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_parhelion"), options]).arg(at).arg(path);
        Some(Self::serve(directory, command).await)
    }

    /// A path as the process of [`Sidecar::start_on`] sees it.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// Mounts again what [`Sidecar::start_on`] mounted, with other options.
    pub(crate) fn remount(&self, at: &Path, options: &str) {
        let id = self.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &id, "-U", "-m", "--preserve-credentials", "mount", "-o"]);
        let output = command.arg(format!("remount,{options}")).arg(at).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts it, and waits until its log says where it serves.
    async fn serve(directory: tempfile::TempDir, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let start = Instant::now();
        let ports = loop {
            if let Some(ports) = ports(&log.lock().unwrap()) {
                break ports;
            }
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < LONG,
                "it does not serve: {ended:?}\n{}",
                log.lock().unwrap()
            );
            sleep(Duration::from_millis(10)).await;
        };
        let [data, health, admin] = ports;
        Sidecar { child, log, data, health, admin, directory }
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn become_ready(&self) {
        until("readiness", || async { get(self.health, "/readyz").await.0 == 200 }).await;
    }

    /// The file it follows.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("parhelion.yaml")
    }

    /// Writes that file anew: what it says of its ports stays.
    pub(crate) fn rewrite(&self, config: &str) {
        std::fs::write(self.file(), format!("{PORTS}{config}")).unwrap();
    }

    /// Asks it by `parhelion ctl`: the exit code, and all that was said.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> (i32, String) {
        let admin = self.admin.to_string();
        let output = run_to_end(&[&["ctl", "--admin", &admin], arguments].concat(), &[]);
        let all = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(all).unwrap())
    }

    /// What `ctl status` says of a model's rollout.
    pub(crate) fn rollout(&self, model: &str) -> serde_json::Value {
        serde_json::from_str(&self.ctl(&["status", model, "--json"]).1).unwrap()
    }

    /// Waits until a model's rollout is in that state.
    pub(crate) async fn rollout_is(&self, model: &str, state: &str) {
        until(state, || async { self.rollout(model)["state"] == state }).await;
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    /// How it ended, and how long that took from now; panics if it does not within `within`.
    pub(crate) async fn ended(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < within, "still runs after {within:?}:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// A client with a connection of its own, made at the first call.
    pub(crate) fn client(&self) -> Client {
        client(self.data)
    }

    /// The sum of all samples whose name and labels begin with `prefix`; 0 where there are none.
    pub(crate) async fn metric(&self, prefix: &str) -> u64 {
        let (status, text) = get(self.health, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        let samples = text.lines().filter_map(|line| line.strip_prefix(prefix));
        samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits until that sum is at least `least`.
    pub(crate) async fn counts(&self, prefix: &str, least: u64) {
        until(&format!("{least} of {prefix}"), || async { self.metric(prefix).await >= least }).await;
    }

    /// `/status` of the admin port.
    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&get(self.admin, "/status").await.1).unwrap()
    }

    /// Processor time it has used, from `/proc`.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // Fields 14 and 15 of the whole line, in hundredths of a second.
        let ticks: u64 = fields[11..13].iter().map(|text| text.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in KiB, from `/proc`.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // A process that is stopped, or has ended, is killed just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the sidecar's log:\n{}", self.log());
        }
    }
}

/// A client of whatever listens at `address`.
pub(crate) fn client(address: SocketAddr) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    GrpcInferenceServiceClient::new(endpoint.connect_lazy())
}

/// Adds what comes of `stream` to `into`, until it ends.
pub(crate) fn collect(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&std::mem::take(&mut line));
        }
    });
}

/// The ports, once the log tells them.
fn ports(log: &str) -> Option<[SocketAddr; 3]> {
    let records = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut serving = records.filter(|record| record["message"] == "serving");
    let record = serving.next()?;
    let port = |name: &str| record[name].as_str().and_then(|text| text.parse().ok());
    Some([port("listen")?, port("health")?, port("admin")?])
}

/// Status and body of a page.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    get_as(address, path, "*/*").await
}

/// Status and body of a page in another form.
pub(crate) async fn get_as(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    let done = timeout(LONG, exchange).await;
    if !matches!(done, Ok(Ok(_))) {
        return (0, format!("{done:?}"));
    }
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// A request for `m` whose id says what the model server shall do: see [`Model`].
pub(crate) fn request(id: &str) -> ModelInferRequest {
    ModelInferRequest { model_name: "m".to_owned(), id: id.to_owned(), ..ModelInferRequest::default() }
}

/// Calls `m`.
pub(crate) async fn infer(client: &Client, id: &str) -> Result<Response<ModelInferResponse>, Status> {
    timeout(LONG, client.clone().model_infer(request(id))).await.unwrap()
}

/// A model server. What it does with a request stands in the request's id: `sleep:MS` answers later, `size:BYTES`
/// answers more, `fail:CODE` answers a status; in a stream, `endless` answers until it is stopped.
pub(crate) struct Model {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    service: Service,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Model {
    /// Starts one that calls itself `version`; what ends in `-broken` fails every unary inference call.
    pub(crate) fn start(version: &str) -> Self {
        Self::start_at(version, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one at an address.
    pub(crate) fn start_at(version: &str, address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind(address).unwrap().with_nodelay(Some(true))
        };
        let address = incoming.local_addr().unwrap();
        let service = Service {
            version: version.to_owned(),
            calls: Arc::default(),
            open: Arc::default(),
            headers: Arc::default(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = GrpcInferenceServiceServer::new(service.clone()).max_decoding_message_size(usize::MAX);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = Server::builder().add_service(served).serve_with_incoming(incoming) => served.unwrap(),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Model { address, service, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends it, as the end of its process would.
    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Calls that reached it.
    pub(crate) fn calls(&self) -> usize {
        self.service.calls.load(Ordering::Relaxed)
    }

    /// Calls it is at.
    pub(crate) fn open(&self) -> usize {
        self.service.open.load(Ordering::Relaxed)
    }

    /// Names and values of the metadata of all calls that reached it.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.service.headers.lock().unwrap().clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone)]
struct Service {
    version: String,
    calls: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    headers: Arc<Mutex<Vec<(String, String)>>>,
}

/// One call that is counted as open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    fn enter<T>(&self, request: &Request<T>) -> Open {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let headers = request.metadata().clone().into_headers();
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        self.headers.lock().unwrap().extend(headers.iter().map(text));
        Open(Arc::clone(&self.open))
    }

    async fn answer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let (verb, number) = request.id.split_once(':').unwrap_or((&request.id, "0"));
        let number: u64 = number.parse().unwrap_or(0);
        match verb {
            "sleep" => sleep(Duration::from_millis(number)).await,
            "fail" => return Err(Status::new(Code::from_i32(number as i32), "as asked")),
            _ if request.model_name == "refuse" => return Err(Status::not_found("no such model")),
            _ => {}
        }
        let size = if verb == "size" { number as usize } else { 8 };
        Ok(ModelInferResponse {
            model_name: request.model_name,
            model_version: self.version.clone(),
            id: request.id,
            raw_output_contents: vec![vec![7; size].into()],
            ..ModelInferResponse::default()
        })
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = Answers;

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse::default()))
    }

    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let versions = vec![self.version.clone()];
        Ok(Response::new(ModelMetadataResponse { versions, ..ModelMetadataResponse::default() }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let _open = self.enter(&request);
        if self.version.ends_with("-broken") {
            return Err(Status::internal("broken on purpose"));
        }
        self.answer(request.into_inner()).await.map(Response::new)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let open = self.enter(&request);
        let service = self.clone();
        let mut requests = request.into_inner();
        let (send, receive) = tokio::sync::mpsc::channel(4);
        beside(async move {
            let _open = open;
            let work = async {
                while let Some(Ok(request)) = requests.next().await {
                    let endless = request.id == "endless";
                    loop {
                        let answer =
                            service.answer(request.clone()).await.map(|infer| ModelStreamInferResponse {
                                error_message: String::new(),
                                infer_response: Some(infer),
                            });
                        if send.send(answer).await.is_err() {
                            return;
                        }
                        if !endless {
                            break;
                        }
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            };
            tokio::select! {
                () = work => {}
                () = send.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(Receiving(receive))))
    }
}

struct Receiving(tokio::sync::mpsc::Receiver<Result<ModelStreamInferResponse, Status>>);

impl Stream for Receiving {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// A stream of requests that the test feeds; closed when the sender goes.
pub(crate) fn requests()
-> (tokio::sync::mpsc::Sender<ModelInferRequest>, impl Stream<Item = ModelInferRequest> + Send + 'static) {
    struct Feed(tokio::sync::mpsc::Receiver<ModelInferRequest>);
    impl Stream for Feed {
        type Item = ModelInferRequest;
        fn poll_next(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }
    let (send, receive) = tokio::sync::mpsc::channel(4);
    (send, Feed(receive))
}
