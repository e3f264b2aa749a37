//! A caller that sees what comes back frame by frame, or as near to it as HTTP/2 allows.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::{Deframer, frame, push};
use super::{pairs, soon};

/// One connection.
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    /// Ends the connection when it is dropped.
    _driver: JoinSet<Result<(), h2::Error>>,
}

impl Client {
    /// Connects, with windows so large that only the other side's matter.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut builder = Builder::new();
        builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
        Self::with(address, builder).await
    }

    pub(crate) async fn with(address: SocketAddr, builder: Builder) -> Self {
        let socket = soon("connecting", TcpStream::connect(address)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket, builder).await
    }

    /// Over a socket of any kind.
    pub(crate) async fn over(
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: Builder,
    ) -> Self {
        let (send, connection) = soon("the handshake", builder.handshake(socket)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Client { send, _driver: driver }
    }

    /// Opens a call with `extra` metadata.
    pub(crate) async fn open(&self, path: &str, extra: &[(&str, &str)]) -> Call {
        let mut headers = pairs(&[("content-type", "application/grpc"), ("te", "trailers")]);
        headers.extend(pairs(extra));
        self.open_as(path, headers).await
    }

    /// Opens a call with exactly these headers.
    pub(crate) async fn open_as(&self, path: &str, headers: HeaderMap) -> Call {
        let mut request = Request::post(format!("http://model.example{path}")).body(()).unwrap();
        *request.headers_mut() = headers;
        self.request(request).await
    }

    /// Sends any request's headers.
    pub(crate) async fn request(&self, request: Request<()>) -> Call {
        let mut send = soon("a turn", self.send.clone().ready()).await.unwrap();
        let (response, up) = send.send_request(request, false).unwrap();
        Call { up, down: Down::Waiting(response), deframer: Deframer::default() }
    }

    /// A call with one message.
    pub(crate) async fn unary(&self, path: &str, extra: &[(&str, &str)], message: &[u8]) -> Answer {
        let mut call = self.open(path, extra).await;
        call.send_last(message).await;
        call.answer().await
    }
}

enum Down {
    Waiting(ResponseFuture),
    Open(RecvStream),
}

/// One call under way.
pub(crate) struct Call {
    pub(crate) up: SendStream<Bytes>,
    down: Down,
    deframer: Deframer,
}

/// All that came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) headers: HeaderMap,
    /// With their flags.
    pub(crate) messages: Vec<(u8, Bytes)>,
    /// `None` for a response that was headers only, or that ended without.
    pub(crate) trailers: Option<HeaderMap>,
    /// How the stream was broken off, if it was.
    pub(crate) broken: Option<Reason>,
}

impl Call {
    /// Sends bytes as they are; false where the other side takes no more.
    pub(crate) async fn send_raw(&mut self, bytes: impl Into<Bytes>, end: bool) -> bool {
        soon("sending", push(&mut self.up, bytes.into(), end)).await.is_ok()
    }

    pub(crate) async fn send(&mut self, message: &[u8]) {
        assert!(self.send_raw(frame(0, message), false).await, "the stream is closed");
    }

    pub(crate) async fn send_last(&mut self, message: &[u8]) {
        assert!(self.send_raw(frame(0, message), true).await, "the stream is closed");
    }

    /// Closes this half. A call that has ended already says so by its answer.
    pub(crate) fn end(&mut self) {
        let _ = self.up.send_data(Bytes::new(), true);
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.up.send_reset(reason);
    }

    /// The response's headers.
    pub(crate) async fn head(&mut self) -> Result<(u16, HeaderMap), h2::Error> {
        let Down::Waiting(response) = &mut self.down else { panic!("headers come once") };
        let (head, body) = soon("response headers", response).await?.into_parts();
        self.down = Down::Open(body);
        Ok((head.status.as_u16(), head.headers))
    }

    /// The next message with its flag; `None` at the end of messages.
    pub(crate) async fn next(&mut self) -> Result<Option<(u8, Bytes)>, h2::Error> {
        let Down::Open(body) = &mut self.down else { panic!("headers come first") };
        loop {
            if let Some(message) = self.deframer.next() {
                return Ok(Some(message));
            }
            match soon("a message", body.data()).await.transpose()? {
                Some(data) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    self.deframer.push(&data);
                }
                None => return Ok(None),
            }
        }
    }

    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        let Down::Open(body) = &mut self.down else { panic!("headers come first") };
        soon("trailers", poll_fn(|cx| body.poll_trailers(cx))).await
    }

    /// The response's body, to be read, or not, as the test likes.
    pub(crate) fn body(&mut self) -> &mut RecvStream {
        let Down::Open(body) = &mut self.down else { panic!("headers come first") };
        body
    }

    /// Everything up to the end.
    pub(crate) async fn answer(mut self) -> Answer {
        let mut answer =
            Answer { http: 0, headers: HeaderMap::new(), messages: Vec::new(), trailers: None, broken: None };
        if let Err(error) = self.collect(&mut answer).await {
            // A connection that broke has no reason of its own.
            answer.broken = Some(error.reason().unwrap_or(Reason::CONNECT_ERROR));
        }
        answer
    }

    async fn collect(&mut self, answer: &mut Answer) -> Result<(), h2::Error> {
        if matches!(self.down, Down::Waiting(_)) {
            (answer.http, answer.headers) = self.head().await?;
        }
        while let Some(message) = self.next().await? {
            answer.messages.push(message);
        }
        answer.trailers = self.trailers().await?;
        Ok(())
    }
}

impl Answer {
    /// `grpc-status`, wherever it stands; `None` where there is none or it is no number.
    pub(crate) fn status(&self) -> Option<u32> {
        self.end("grpc-status")?.parse().ok()
    }

    /// `grpc-message` as it came.
    pub(crate) fn message(&self) -> &str {
        self.end("grpc-message").unwrap_or_default()
    }

    fn end(&self, name: &str) -> Option<&str> {
        let place = self.trailers.as_ref().unwrap_or(&self.headers);
        place.get(name)?.to_str().ok()
    }

    /// A value of the headers.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Messages without their flags.
    pub(crate) fn texts(&self) -> Vec<&[u8]> {
        self.messages.iter().map(|(_, bytes)| &bytes[..]).collect()
    }

    /// Without what the sidecar adds, to be compared with what the server itself sent.
    pub(crate) fn untagged(mut self) -> Self {
        for name in ["variant", "model-version", "rollout", "prediction-id"] {
            self.headers.remove(format!("parhelion-{name}"));
        }
        self
    }
}
