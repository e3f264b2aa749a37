//! Two model servers on a thread of their own, whose manner changes while they run.
//!
//! They decode every request as a model server does, and refuse what they cannot read, whatever their manner: so a
//! rubbish call is refused by both. Whether they are ready they say in every manner, for a model that fails at its
//! inputs is ready all the same.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use parhelion::pb::inference::{
    ModelInferRequest, ModelReadyResponse, ServerLiveResponse, ServerReadyResponse,
};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::message::{PREFIX, framed, response};
use crate::ranked::ranking;
use crate::wire::{Cork, Wire};

/// How long a model takes.
const WORK: Duration = Duration::from_millis(2);
/// How long a slow one does.
const SLOW: Duration = Duration::from_millis(150);
const WINDOW: u32 = 8 << 20;
const STREAMS: u32 = 4096;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Manner {
    /// It answers.
    Well,
    /// INTERNAL to every call.
    Fails,
    /// INVALID_ARGUMENT to every call.
    Refuses,
    /// Nothing to any call.
    Hangs,
    /// It answers, and takes its time.
    Slow,
    /// It answers a ranking; the second server takes twice as long for it as the first.
    Ranks,
}

/// One server, as its bench sees it. Times are in nanoseconds since 1970, none of them 0.
#[derive(Debug, Default)]
pub(crate) struct Server {
    manner: AtomicU8,
    calls: AtomicU64,
    spoilt: AtomicU64,
    first_spoilt: AtomicU64,
    last: AtomicU64,
    arrivals: Mutex<Vec<u64>>,
}

impl Server {
    pub(crate) fn become_(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::Release);
    }

    /// Inference calls that came.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    /// Readable calls that met another manner than [`Manner::Well`], and when the first of them came.
    pub(crate) fn spoilt(&self) -> (u64, Option<Duration>) {
        (self.spoilt.load(Ordering::Acquire), moment(&self.first_spoilt))
    }

    /// When the last inference call came.
    pub(crate) fn last(&self) -> Option<Duration> {
        moment(&self.last)
    }

    /// When each inference call came.
    pub(crate) fn arrivals(&self) -> Vec<Duration> {
        let all = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().copied().map(Duration::from_nanos).collect()
    }

    /// Counts a call that came.
    fn arrived(&self) {
        let now = now();
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.last.store(now, Ordering::Release);
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(now);
    }

    /// Counts a call that meets a bad manner.
    fn spoil(&self) {
        self.spoilt.fetch_add(1, Ordering::AcqRel);
        // The first keeps its place.
        let _ = self.first_spoilt.compare_exchange(0, now(), Ordering::AcqRel, Ordering::Acquire);
    }
}

fn moment(of: &AtomicU64) -> Option<Duration> {
    let nanos = of.load(Ordering::Acquire);
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// A server, and where it listens.
type Standing = (Arc<Server>, SocketAddr);

/// Both servers: baseline and candidate. They run until the process ends.
pub(crate) fn start() -> Result<[Standing; 2], Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut listeners = Vec::new();
    let mut servers = Vec::new();
    for version in ["1", "2"] {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let server = Arc::new(Server::default());
        servers.push((Arc::clone(&server), listener.local_addr()?));
        listeners.push((listener, server, version));
    }
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            for (listener, server, version) in listeners {
                all.spawn(listen(listener, server, version));
            }
            all.join_all().await;
        });
    });
    servers.try_into().map_err(|_| "there are two servers".into())
}

async fn listen(listener: TcpListener, server: Arc<Server>, version: &'static str) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(socket, Arc::clone(&server), version));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection until the peer leaves it. Its errors are the peer's affair.
async fn serve(socket: TcpStream, server: Arc<Server>, version: &'static str) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let (wire, cork) = Wire::new(socket);
    let mut handshake = Box::pin(
        h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(STREAMS)
            .handshake::<_, Bytes>(wire),
    );
    let opened = poll_fn(|cx| {
        let opened = Pin::new(&mut handshake).poll(cx);
        drained(&cork, cx, opened)
    });
    let Some(Ok(mut connection)) = opened.await else { return };
    let mut calls = JoinSet::new();
    while let Some(Some(Ok((request, respond)))) = next(&mut connection, &cork).await {
        calls.spawn(call(request, respond, Arc::clone(&server), version));
        while calls.try_join_next().is_some() {}
    }
}

/// The next call of the connection, which is driven meanwhile.
async fn next(
    connection: &mut Connection<Wire, Bytes>,
    cork: &Cork,
) -> Option<Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>> {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        drained(cork, cx, accepted)
    })
    .await
}

/// What the poll gave, after its bytes were written; nothing if they cannot be.
fn drained<T>(cork: &Cork, cx: &mut std::task::Context<'_>, polled: Poll<T>) -> Poll<Option<T>> {
    match cork.poll_drain(cx) {
        Poll::Ready(Err(_)) => Poll::Ready(None),
        _ => polled.map(Some),
    }
}

/// One call. One that the peer gave up needs no answer, and its error is told to nobody.
async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    server: Arc<Server>,
    version: &'static str,
) {
    let (head, body) = request.into_parts();
    let message = match head.uri.path().rsplit('/').next() {
        Some("ModelInfer") => {
            // Who is only warmed was not called.
            if !head.headers.contains_key("parhelion-warmup") {
                server.arrived();
            }
            return infer(body, respond, &server, version).await;
        }
        Some("ModelReady") => framed(&ModelReadyResponse { ready: true }),
        Some("ServerReady") => framed(&ServerReadyResponse { ready: true }),
        Some("ServerLive") => framed(&ServerLiveResponse { live: true }),
        _ => return refuse(&mut respond, "12"),
    };
    if read(body).await.is_some() {
        answer(&mut respond, message);
    }
}

async fn infer(body: RecvStream, mut respond: SendResponse<Bytes>, server: &Server, version: &'static str) {
    let Some(request) = read(body).await else { return };
    let request = request.get(PREFIX..).and_then(|bytes| ModelInferRequest::decode(bytes).ok());
    let Some(request) = request else { return refuse(&mut respond, "3") };
    let manner = server.manner.load(Ordering::Acquire);
    if manner != Manner::Well as u8 {
        server.spoil();
    }
    if manner == Manner::Fails as u8 {
        refuse(&mut respond, "13");
    } else if manner == Manner::Refuses as u8 {
        refuse(&mut respond, "3");
    } else if manner == Manner::Hangs as u8 {
        let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
    } else if manner == Manner::Ranks as u8 {
        tokio::time::sleep(if version == "2" { 2 * WORK } else { WORK }).await;
        answer(&mut respond, ranking(&request.model_name, version));
    } else {
        tokio::time::sleep(if manner == Manner::Slow as u8 { SLOW } else { WORK }).await;
        answer(&mut respond, response(&request.model_name, version, 300));
    }
}

/// A request to its end; none where its peer gave it up.
async fn read(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        all.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).ok()?;
    }
    Some(all)
}

fn answer(respond: &mut SendResponse<Bytes>, message: Bytes) {
    let Ok(mut stream) = respond.send_response(head(), false) else { return };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // Whom the peer has left needs no answer.
    let _ = stream.send_data(message, false).and_then(|()| stream.send_trailers(trailers));
}

/// A trailers-only answer.
fn refuse(respond: &mut SendResponse<Bytes>, status: &'static str) {
    let mut response = head();
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
    // Likewise.
    let _ = respond.send_response(response, true);
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
