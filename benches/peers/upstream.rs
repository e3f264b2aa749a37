//! A model server that is always ready and always says the same.
//!
//! It reads a whole call before it answers, as a model does, and refuses one whose length prefix does not fit what
//! came: a proxy that loses or adds a byte is seen. Windows are wide enough never to hold a proxy back.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use parhelion::pb::inference::{ModelReadyResponse, ServerLiveResponse, ServerReadyResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::message::{PREFIX, framed, response};
use crate::wire::{Cork, Wire};

const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const STREAMS: u32 = 4096;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Model name in the answer.
    #[arg(long, default_value = "bench")]
    model: String,
    /// Model version in the answer.
    #[arg(long, default_value = "1")]
    version: String,
    /// Bytes of the answer's message.
    #[arg(long, default_value_t = 300)]
    answer: usize,
}

/// The framed answer of each method that has one.
struct Answers {
    infer: Bytes,
    model_ready: Bytes,
    server_ready: Bytes,
    server_live: Bytes,
}

/// Prints `{"listening": ADDRESS}` and serves until the process is ended.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let answers = Arc::new(Answers {
        infer: response(&arguments.model, &arguments.version, arguments.answer),
        model_ready: framed(&ModelReadyResponse { ready: true }),
        server_ready: framed(&ServerReadyResponse { ready: true }),
        server_live: framed(&ServerLiveResponse { live: true }),
    });
    let listener = TcpListener::bind(arguments.listen).await?;
    crate::say(&serde_json::json!({ "listening": listener.local_addr()? }).to_string())?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        connections.spawn(serve(socket, Arc::clone(&answers)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection until the peer leaves it. Its errors are the peer's affair.
async fn serve(socket: TcpStream, answers: Arc<Answers>) {
    let Ok((wire, cork)) = Wire::new(socket) else { return };
    let mut handshake = Box::pin(
        h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
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
        calls.spawn(answer(request, respond, Arc::clone(&answers)));
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

/// One call: the whole request, then the answer. A call the peer gave up needs none.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, answers: Arc<Answers>) {
    let (head, body) = request.into_parts();
    let sent = match read(body).await {
        Ok(true) => match answers.to(head.uri.path()) {
            Some(message) => reply(&mut respond, message),
            None => refuse(&mut respond, "12", "no such method here"),
        },
        Ok(false) => refuse(&mut respond, "13", "the message is not as long as it says"),
        Err(_) => return,
    };
    if sent.is_err() {
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

impl Answers {
    fn to(&self, path: &str) -> Option<&Bytes> {
        match path.strip_prefix("/inference.GRPCInferenceService/")? {
            "ModelInfer" => Some(&self.infer),
            "ModelReady" => Some(&self.model_ready),
            "ServerReady" => Some(&self.server_ready),
            "ServerLive" => Some(&self.server_live),
            _ => None,
        }
    }
}

/// Reads a request to its end; whether it is one message of the length it declares.
async fn read(mut body: RecvStream) -> Result<bool, h2::Error> {
    let mut prefix = Vec::with_capacity(PREFIX);
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let missing = PREFIX - prefix.len();
        prefix.extend_from_slice(&piece[..missing.min(piece.len())]);
        length += piece.len();
        body.flow_control().release_capacity(piece.len())?;
    }
    let declared = match prefix[..] {
        [_, a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize,
        _ => return Ok(false),
    };
    Ok(length == PREFIX + declared)
}

fn reply(respond: &mut SendResponse<Bytes>, message: &Bytes) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(message.clone(), false)?;
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
