//! One connection and the calls made on it.
//!
//! A proxy may end a connection in good order (GOAWAY); calls that were not sent on it yet go to a new one and are
//! no failures. A call that was sent and lost is one.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderValue, Method, Request, Uri, header};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::answer::{self, Body, Failure};
use crate::wire::{Cork, Wire};

const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What is sent in each call and what must come back, both framed.
pub(crate) struct Exchange {
    request: Request<()>,
    message: Bytes,
    expected: Bytes,
}

impl Exchange {
    /// A unary call of `path` at the server.
    ///
    /// # Errors
    /// A path that is none.
    pub(crate) fn new(
        server: SocketAddr,
        path: &str,
        message: Bytes,
        expected: Bytes,
    ) -> Result<Self, http::Error> {
        let uri = Uri::builder().scheme("http").authority(server.to_string()).path_and_query(path).build()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::TE, HeaderValue::from_static("trailers"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::USER_AGENT, HeaderValue::from_static("parhelion-bench"))
            .body(())?;
        Ok(Self { request, message, expected })
    }

    /// One unary call, checked to its last trailer.
    ///
    /// # Errors
    /// The first way in which the answer was not the expected one.
    pub(crate) async fn unary(&self, sender: &mut SendRequest<Bytes>) -> Result<(), Failure> {
        let (response, mut stream) = sender.send_request(self.request.clone(), false)?;
        stream.send_data(self.message.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        answer::head(&head)?;
        let mut compared = Body::new(self.expected.clone());
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
    open: Mutex<Open>,
}

/// The newest connection, its number, and what drives it (and the ones before it, to their end).
struct Open {
    number: u64,
    sender: Option<SendRequest<Bytes>>,
    drivers: JoinSet<()>,
}

impl Link {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { server, open: Mutex::new(Open { number: 0, sender: None, drivers: JoinSet::new() }) }
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
        let (wire, cork) = Wire::new(socket).map_err(|error| Failure::Connect(error.kind()))?;
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
async fn drive(mut connection: Connection<Wire, Bytes>, cork: Cork) {
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
