//! One connection and the calls made on it.
//!
//! A proxy may end a connection in good order (GOAWAY); calls that were not sent on it yet go to a new one and are
//! no failures. A call that was sent and lost is one.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderValue, Request, Uri, header};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::answer::{self, Body, Failure};
use crate::tls::{self, Socket};
use crate::wire::{Cork, Wire};

const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How many messages go each way in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Method {
    /// One and one.
    Unary,
    /// One, and many answers.
    ServerStream,
    /// Many, and an answer to each.
    Bidi,
}

/// Tells our model server how many answers a message of a stream gets.
pub(crate) const ANSWERS: &str = "bench-answers";

/// What is sent in each call and what must come back, both framed.
pub(crate) struct Exchange {
    /// One for each user, taken in turn.
    requests: Vec<Request<()>>,
    turn: AtomicUsize,
    message: Bytes,
    expected: Bytes,
    /// Messages each way.
    sends: usize,
    receives: usize,
}

impl Exchange {
    /// Calls of `method` at the server, with `messages` messages where it has many; `users` put their number in
    /// `x-user-id`, none where there are none.
    ///
    /// # Errors
    /// A server that cannot be an authority.
    pub(crate) fn new(
        server: SocketAddr,
        (method, messages): (Method, usize),
        users: usize,
        (message, expected): (Bytes, Bytes),
    ) -> Result<Self, http::Error> {
        let (name, sends, receives) = match method {
            Method::Unary => ("ModelInfer", 1, 1),
            Method::ServerStream => ("ModelStreamInfer", 1, messages),
            Method::Bidi => ("ModelStreamInfer", messages, messages),
        };
        let path = format!("/inference.GRPCInferenceService/{name}");
        let uri = Uri::builder().scheme("http").authority(server.to_string()).path_and_query(path).build()?;
        let request = |user: usize| {
            let mut request = Request::builder()
                .method(http::Method::POST)
                .uri(uri.clone())
                .header(header::TE, HeaderValue::from_static("trailers"))
                .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
                .header(header::USER_AGENT, HeaderValue::from_static("parhelion-bench"));
            if users > 0 {
                request = request.header("x-user-id", format!("user-{user}"));
            }
            if method != Method::Unary {
                request = request.header(ANSWERS, receives / sends);
            }
            request.body(())
        };
        let requests = (0..users.max(1)).map(request).collect::<Result<_, _>>()?;
        Ok(Self { requests, turn: AtomicUsize::new(0), message, expected, sends, receives })
    }

    /// One call, checked to its last trailer.
    ///
    /// # Errors
    /// The first way in which the answer was not the expected one.
    pub(crate) async fn call(&self, sender: &mut SendRequest<Bytes>) -> Result<(), Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.requests.len();
        let (response, mut stream) = sender.send_request(self.requests[turn].clone(), false)?;
        for left in (0..self.sends).rev() {
            stream.send_data(self.message.clone(), left == 0)?;
        }
        let (head, mut body) = response.await?.into_parts();
        answer::head(&head)?;
        let mut compared = Body::new(self.expected.clone(), self.receives);
        while let Some(piece) = body.data().await {
            let piece = piece?;
            compared.piece(&piece);
            body.flow_control().release_capacity(piece.len())?;
        }
        answer::status(body.trailers().await?.as_ref())?;
        compared.end()
    }
}

/// A connection shared by the streams on it, opened again when the server ends it.
pub(crate) struct Link {
    server: SocketAddr,
    tls: Option<TlsConnector>,
    open: Mutex<Open>,
}

/// The newest connection, its number, and what drives it (and the ones before it, to their end).
struct Open {
    number: u64,
    sender: Option<SendRequest<Bytes>>,
    drivers: JoinSet<()>,
}

impl Link {
    pub(crate) fn new(server: SocketAddr, tls: Option<TlsConnector>) -> Self {
        Self { server, tls, open: Mutex::new(Open { number: 0, sender: None, drivers: JoinSet::new() }) }
    }

    /// A sender of a connection newer than number `than`, and that connection's number.
    ///
    /// # Errors
    /// The server cannot be connected to.
    pub(crate) async fn newer(&self, than: u64) -> Result<(u64, SendRequest<Bytes>), Failure> {
        let mut open = self.open.lock().await;
        if let (true, Some(sender)) = (open.number > than, &open.sender) {
            return Ok((open.number, sender.clone()));
        }
        let socket = TcpStream::connect(self.server).await.map_err(|error| Failure::Connect(error.kind()))?;
        let socket = tls::connect(socket, self.tls.as_ref()).await;
        let (wire, cork) = Wire::new(socket.map_err(|error| Failure::Connect(error.kind()))?);
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(wire)
            .await?;
        open.drivers.spawn(drive(connection, cork));
        while open.drivers.try_join_next().is_some() {}
        open.number += 1;
        open.sender = Some(sender.clone());
        Ok((open.number, sender))
    }
}

/// Runs a connection to its end and writes what each poll of it produced.
async fn drive(mut connection: Connection<Wire<Socket>, Bytes>, cork: Cork<Socket>) {
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx).is_ready();
        match cork.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ if ended => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}
