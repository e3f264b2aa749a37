//! A model server that always says the same, and a collector that counts spans.
//!
//! It reads a whole call before it answers, as a model does, and refuses one whose length prefix does not fit what
//! came: a proxy that loses or adds a byte is seen. Each message of a stream is answered as it comes. Windows are wide
//! enough never to hold a proxy back. It may be slow, or [in trouble](Trouble) with every inference while it still says
//! that it is ready. What it counted is printed when it has changed.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use parhelion::pb::inference::{ModelReadyResponse, ServerLiveResponse, ServerReadyResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::call::ANSWERS;
use crate::framing::Framing;
use crate::message::{framed, response};
use crate::tls::{self, Socket};
use crate::wire::{Cork, Wire};
use crate::{spans, streamed};

/// Between two looks at whether the counts have changed.
const SAY: Duration = Duration::from_millis(50);
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Of who never reads: what HTTP/2 begins with.
const SMALL_WINDOW: u32 = 65_535;
const STREAMS: u32 = 4096;
/// Between two bytes of a dripping answer.
const DRIP: Duration = Duration::from_millis(20);
/// The message of an answer that floods, as large as a message may be, and a piece of it.
const FLOOD: u32 = 64 << 20;
const PIECE: usize = 64 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Speak TLS, with the certificates that lie there.
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    /// Model name in the answer.
    #[arg(long, default_value = "bench")]
    model: String,
    /// Model version in the answer.
    #[arg(long, default_value = "1")]
    version: String,
    /// Bytes of the answer's message.
    #[arg(long, default_value_t = 300)]
    answer: usize,
    /// Bytes of the answer to a message of a stream.
    #[arg(long, default_value_t = 100)]
    stream_answer: usize,
    /// Milliseconds before an inference is answered.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// What it does to inferences instead of answering them.
    #[arg(long, value_enum)]
    trouble: Option<Trouble>,
}

/// What a server may do to an inference; it still says that it is ready.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Trouble {
    /// Read it, and never answer.
    Hung,
    /// Never read it.
    Deaf,
    /// Answer a byte in [`DRIP`].
    Dripping,
    /// Answer and never end.
    Flooding,
}

/// The framed answer of each method that has one, and what was counted.
struct Model {
    infer: Bytes,
    stream_infer: Bytes,
    model_ready: Bytes,
    server_ready: Bytes,
    server_live: Bytes,
    delay: Duration,
    trouble: Option<Trouble>,
    inferences: AtomicU64,
    spans: AtomicU64,
}

/// Prints `{"listening": ADDRESS}`, then `{"inferences", "spans"}` as they change, until the process is ended.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { model: name, version, .. } = &arguments;
    let model = Arc::new(Model {
        infer: response(name, version, arguments.answer),
        stream_infer: streamed::response(name, version, arguments.stream_answer),
        model_ready: framed(&ModelReadyResponse { ready: true }),
        server_ready: framed(&ServerReadyResponse { ready: true }),
        server_live: framed(&ServerLiveResponse { live: true }),
        delay: Duration::from_millis(arguments.delay),
        trouble: arguments.trouble,
        inferences: AtomicU64::new(0),
        spans: AtomicU64::new(0),
    });
    let tls = arguments.tls.as_deref().map(tls::acceptor).transpose()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    crate::say(&serde_json::json!({ "listening": listener.local_addr()? }).to_string())?;
    let mut connections = JoinSet::new();
    let mut ticks = tokio::time::interval(SAY);
    let mut said = (0, 0);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(serve(accepted?.0, tls.clone(), Arc::clone(&model)));
                while connections.try_join_next().is_some() {}
            }
            _ = ticks.tick() => {
                let counted = (model.inferences.load(Ordering::Relaxed), model.spans.load(Ordering::Relaxed));
                if counted != said {
                    said = counted;
                    crate::say(&serde_json::json!({ "inferences": said.0, "spans": said.1 }).to_string())?;
                }
            }
        }
    }
}

/// One connection until the peer leaves it. Its errors are the peer's affair.
async fn serve(socket: TcpStream, tls: Option<TlsAcceptor>, model: Arc<Model>) {
    let Ok(socket) = tls::accept(socket, tls.as_ref()).await else { return };
    let (wire, cork) = Wire::new(socket);
    let (stream, connection) = match model.trouble {
        Some(Trouble::Deaf) => (SMALL_WINDOW, SMALL_WINDOW),
        _ => (STREAM_WINDOW, CONNECTION_WINDOW),
    };
    let mut handshake = Box::pin(
        h2::server::Builder::new()
            .initial_window_size(stream)
            .initial_connection_window_size(connection)
            .max_concurrent_streams(STREAMS)
            .handshake::<_, Bytes>(wire),
    );
    let opened = poll_fn(|cx| {
        let opened = handshake.as_mut().poll(cx);
        drained(&cork, cx, opened)
    });
    let Some(Ok(mut connection)) = opened.await else { return };
    let mut calls = JoinSet::new();
    while let Some(Some(Ok((request, respond)))) = next(&mut connection, &cork).await {
        calls.spawn(answer(request, respond, Arc::clone(&model)));
        while calls.try_join_next().is_some() {}
    }
}

/// The next call of the connection, which is driven meanwhile.
async fn next(
    connection: &mut Connection<Wire<Socket>, Bytes>,
    cork: &Cork<Socket>,
) -> Option<Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>> {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        drained(cork, cx, accepted)
    })
    .await
}

/// What the poll gave, after its bytes were written; nothing if they cannot be.
fn drained<T>(cork: &Cork<Socket>, cx: &mut std::task::Context<'_>, polled: Poll<T>) -> Poll<Option<T>> {
    match cork.poll_drain(cx) {
        Poll::Ready(Err(_)) => Poll::Ready(None),
        _ => polled.map(Some),
    }
}

/// One call. A call the peer gave up needs no answer.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, model: Arc<Model>) {
    let (head, body) = request.into_parts();
    let sent = match head.uri.path() {
        "/inference.GRPCInferenceService/ModelStreamInfer" => stream(&model, &head, body, &mut respond).await,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            export(&model, body, &mut respond).await
        }
        path => unary(&model, path, body, &mut respond).await,
    };
    if sent.is_err() {
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// The whole request, then the answer.
async fn unary(
    model: &Model,
    path: &str,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let Some(message) = model.answer(path) else { return refuse(respond, "12", "no such method here") };
    let infers = path.ends_with("/ModelInfer");
    if infers && model.trouble == Some(Trouble::Deaf) {
        model.infer().await;
    }
    let mut framing = Framing::default();
    read(body, |piece| framing.feed(piece)).await?;
    if framing.messages() != Some(1) {
        return refuse(respond, "13", "the message is not as long as it says");
    }
    if infers {
        model.infer().await;
        match model.trouble {
            Some(Trouble::Dripping) => return drip(message.clone(), respond).await,
            Some(Trouble::Flooding) => return flood(respond).await,
            _ => {}
        }
    }
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(message.clone(), false)?;
    end(stream)
}

/// The answer, byte by byte.
async fn drip(mut message: Bytes, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    while !message.is_empty() {
        tokio::time::sleep(DRIP).await;
        stream.send_data(message.split_to(1), false)?;
    }
    end(stream)
}

/// One message as large as is taken, and another one, as fast as it is taken, until the caller has had enough.
async fn flood(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    let mut prefix = vec![0];
    prefix.extend_from_slice(&FLOOD.to_be_bytes());
    let (prefix, piece) = (Bytes::from(prefix), Bytes::from(vec![0; PIECE]));
    loop {
        stream.send_data(prefix.clone(), false)?;
        for _ in 0..FLOOD as usize / PIECE {
            stream.reserve_capacity(PIECE);
            let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
            // Whatever room there is, the whole piece is queued: the next one waits for it.
            room?;
            stream.send_data(piece.clone(), false)?;
        }
    }
}

/// So many answers to each message as the caller wants, as the messages come.
async fn stream(
    model: &Model,
    asked: &http::request::Parts,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let answers = asked.headers.get(ANSWERS).and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(1);
    model.infer().await;
    let mut stream = respond.send_response(head(), false)?;
    let (mut framing, mut seen, mut broken) = (Framing::default(), 0, None);
    read(body, |piece| {
        framing.feed(piece);
        for _ in 0..(framing.whole() - seen) * answers {
            broken = stream.send_data(model.stream_infer.clone(), false).err();
        }
        seen = framing.whole();
    })
    .await?;
    match broken {
        Some(error) => Err(error),
        None if framing.messages().is_some() => end(stream),
        None => Err(Reason::PROTOCOL_ERROR.into()),
    }
}

/// Spans, which are counted and forgotten.
async fn export(model: &Model, body: RecvStream, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut message = Vec::new();
    read(body, |piece| message.extend_from_slice(piece)).await?;
    let Some(spans) = spans::count(&message) else { return refuse(respond, "3", "these are no spans") };
    model.spans.fetch_add(spans, Ordering::Relaxed);
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    end(stream)
}

impl Model {
    fn answer(&self, path: &str) -> Option<&Bytes> {
        match path.strip_prefix("/inference.GRPCInferenceService/")? {
            "ModelInfer" => Some(&self.infer),
            "ModelReady" => Some(&self.model_ready),
            "ServerReady" => Some(&self.server_ready),
            "ServerLive" => Some(&self.server_live),
            _ => None,
        }
    }

    /// Counts an inference, and takes the time it is told to take.
    async fn infer(&self) {
        self.inferences.fetch_add(1, Ordering::Relaxed);
        if matches!(self.trouble, Some(Trouble::Hung | Trouble::Deaf)) {
            std::future::pending::<()>().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

/// Reads a request to its end.
async fn read(mut body: RecvStream, mut take: impl FnMut(&[u8])) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        let piece = piece?;
        take(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(())
}

fn end(mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// A trailers-only answer.
fn refuse(
    respond: &mut SendResponse<Bytes>,
    status: &'static str,
    why: &'static str,
) -> Result<(), h2::Error> {
    let mut response = head();
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(why));
    respond.send_response(response, true).map(drop)
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
