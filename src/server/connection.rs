//! One caller's connection: greets it, takes its streams, and sees to it that it ends when it should.
//!
//! What a peer owes is due: the preface and the acknowledgement of our SETTINGS after `limits.handshake`, and so is
//! every header block that it began; and to read something of what waits for it after `limits.stall`. A drain sends GOAWAY
//! and waits for the calls that run; a cut ends those too. Peers that are silent then are not waited for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Cx, Poll};
use std::time::{Duration, Instant as StdInstant, SystemTime};

use h2::{RecvStream, server};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::Service;

use super::layers::{Admission, Deadline};
use super::parting::{Age, Parting, farewell, last_chance, last_words, next_phase};
use super::respond::Responder;
use super::watchdog::Watchdog;
use super::{Inbound, Phase};
use crate::config::Limits;
use crate::proxy::Proxy;
use crate::tasks::Local;
use crate::telemetry::counter::Counter;
use crate::tls::refusal::Refusal;
use crate::tls::server::Server;
use crate::tls::{self, Port};
use crate::wire::piece::Piece;
use crate::wire::socket::Socket;
use crate::wire::watch::FrameWatch;
use crate::wire::windows::Windows;
use crate::wire::{Cork, Corked, FRAME, Scratch, cork};
use crate::worker::Worker;

/// How long, and for how many bytes more, a request may go on that was answered before it ended.
const ENDING: Duration = Duration::from_millis(500);
const ENDING_BYTES: usize = 64 * 1024;
/// Streams that the peer reset and nobody accepted yet; beyond that the connection is a flood.
const PENDING_RESETS: usize = 100;
/// Streams that the peer made us reset, over a connection's life; beyond that the connection is a flood.
const PROVOKED_RESETS: usize = 256;
/// Bytes of one response that wait for the peer's window.
const SEND_BUFFER: usize = 256 * 1024;
/// What somebody who speaks HTTP/1 is told.
const NOT_HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n\
    connection: close\r\ncontent-length: 38\r\n\r\nThis port speaks gRPC over HTTP/2 only";

/// What all connections of a worker share.
#[derive(Debug)]
pub struct Context {
    /// The way to the proxy, through the layers.
    pub service: RefCell<Admission<Deadline<Proxy>>>,
    /// The worker.
    pub worker: Rc<Worker>,
    /// Its buffers.
    pub scratch: Rc<Scratch>,
    /// Its calls.
    pub calls: Local,
    /// Its connections.
    pub connections: Local,
    /// Certificates.
    pub tls: Arc<tls::Store>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
}

/// Why a connection ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Peer,
    TimedOut,
    Violated,
    Aged,
    Drained,
}

impl Context {
    /// Takes a socket that was accepted; refuses it where there are as many as allowed.
    pub fn open(self: &Rc<Self>, socket: Socket) {
        // The configuration only: a connection must not keep a whole generation, upstreams and all.
        let config = Arc::clone(&self.worker.serving().config);
        if self.connections.live() >= config.limits.connections || self.worker.pressure.is_dire() {
            self.worker.counters.add(Counter::ConnectionsRefused);
            return;
        }
        let context = Rc::clone(self);
        self.connections.spawn("connection", async move {
            let close = serve(&context, socket, &config.limits).await;
            context.worker.counters.add(match close {
                Close::Peer | Close::Drained => Counter::ConnectionsClosed,
                Close::TimedOut => Counter::ConnectionsTimedOut,
                Close::Violated => Counter::ConnectionsViolated,
                Close::Aged => Counter::ConnectionsAged,
            });
        });
    }

    fn call(&self, request: http::Request<RecvStream>, respond: server::SendResponse<Piece>) {
        let (head, body) = request.into_parts();
        let inbound = Inbound {
            head,
            body,
            respond: Responder::new(respond),
            arrived: StdInstant::now(),
            started: SystemTime::now(),
        };
        let call = self.service.borrow_mut().call(inbound);
        self.calls.spawn("call", async move {
            // The service never fails: every error was told to the caller as a status.
            if let Ok(Some(rest)) = call.await {
                // In a box of its own, so that no other call's future has room for it.
                Box::pin(let_end(rest)).await;
            }
        });
    }
}

/// Waits for the end of a request that was answered before it. Many callers end theirs by a frame of its own, which is on
/// its way then. A stream that is let go of is reset, and that frame would find it closed: a caller who does nothing wrong
/// would soon be one whose connection has provoked too many resets.
async fn let_end(mut request: RecvStream) {
    let end = async {
        let mut left = ENDING_BYTES;
        while let Some(Ok(data)) = request.data().await {
            let Some(less) = left.checked_sub(data.len()) else { return };
            left = less;
            // Fails only for a stream that is closed, which the next read shows.
            let _ = request.flow_control().release_capacity(data.len());
        }
        let _ = request.trailers().await;
    };
    // Who goes on sending for longer is told to stop, by the reset.
    let _ = tokio::time::timeout(ENDING, end).await;
}

async fn serve(context: &Rc<Context>, socket: Socket, limits: &Limits) -> Close {
    let due = Instant::now() + limits.handshake;
    let socket = match context.tls.port(Port::Listen) {
        None => socket,
        Some(server) => match Box::pin(shake(context, &server, socket, due)).await {
            Ok(socket) => socket,
            Err(close) => return close,
        },
    };
    let (corked, cork) = cork(socket, &context.scratch, FrameWatch::of_client());
    let mut handshake = builder(limits).handshake::<_, Piece>(corked);
    let shaking = poll_fn(|cx| drive(&cork, cx, |cx| Pin::new(&mut handshake).poll(cx)));
    let shaken = tokio::select! {
        shaken = tokio::time::timeout_at(due, shaking) => shaken,
        () = last_chance(context.phase.clone()) => return Close::Drained,
    };
    let mut connection = match shaken {
        Err(_) => return Close::TimedOut,
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => {
            if !cork.watch().is_http2() {
                cork.last_word(NOT_HTTP2);
                return Close::Violated;
            }
            return if cork.watch().has_started() { Close::Violated } else { Close::Peer };
        }
    };
    let mut watchdog = Watchdog::new(due);
    let mut age = Age::new(limits);
    let mut phase = context.phase.clone();
    let mut leaving: Option<Instant> = None;
    let mut parting = Parting::default();
    let mut why = Close::Drained;
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| {
                parting.poll(&cork, &mut connection, cx, |connection, cx| {
                    take_streams(context, &cork, connection, cx)
                })
            }) => {
                let violated = ended.is_err() && !ended.is_err_and(|error| error.is_io());
                return if violated { Close::Violated } else if leaving.is_some() { why } else { Close::Peer };
            }
            () = poll_fn(|cx| watchdog.poll(cx, &cork, limits)) => return Close::TimedOut,
            () = age.next() => {
                if leaving.is_some() {
                    return Close::Aged;
                }
                (leaving, why) = (Some(Instant::now()), Close::Aged);
                parting.begin(&cork, &mut connection);
            }
            () = farewell(leaving) => {
                // Nothing runs, and the peer leaves our PING unanswered: it is not there any more.
                if !connection.has_streams() {
                    return why;
                }
                leaving = Some(Instant::now());
            }
            now = next_phase(&mut phase, leaving.is_some()) => {
                if now == Phase::Cut {
                    last_words(&cork, &mut connection).await;
                    return Close::Drained;
                }
                (leaving, why) = (Some(Instant::now()), Close::Drained);
                parting.begin(&cork, &mut connection);
            }
        }
    }
}

/// Shakes hands by TLS.
async fn shake(
    context: &Rc<Context>,
    server: &Server,
    socket: Socket,
    due: Instant,
) -> Result<Socket, Close> {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout_at(due, server.accept(socket)) => shaken,
        () = last_chance(context.phase.clone()) => return Err(Close::Drained),
    };
    let refusal = match shaken {
        Ok(Ok(socket)) => return Ok(socket),
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::TimedOut,
    };
    context.worker.counters.add(refusal.counter());
    tracing::debug!(?refusal, "a caller's handshake failed");
    Err(if refusal == Refusal::TimedOut { Close::TimedOut } else { Close::Violated })
}

fn builder(limits: &Limits) -> server::Builder {
    let windows = Windows::new(limits);
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_frame_size(FRAME)
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        // What small frames cost beyond their bytes, which the windows do not see. Left to itself h2 would grow this
        // with the connection's window.
        .data_frame_budget(limits.connection_window.bytes() / 2)
        .max_header_list_size(windows.headers)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS));
    builder
}

/// Polls with writes gathered; an error of the socket is the connection's error.
pub(super) fn drive<T>(
    cork: &Cork<Socket>,
    cx: &mut Cx<'_>,
    poll: impl FnOnce(&mut Cx<'_>) -> Poll<Result<T, h2::Error>>,
) -> Poll<Result<T, h2::Error>> {
    match cork.drive(cx, poll) {
        Ok(polled) => polled,
        Err(error) => Poll::Ready(Err(gone(error))),
    }
}

fn gone(error: io::Error) -> h2::Error {
    tracing::debug!(%error, "a caller's connection broke");
    h2::Error::from(h2::Reason::CONNECT_ERROR)
}

/// Reads all that is there, starts a task for each new stream, and sends all that there is to send.
fn take_streams(
    context: &Rc<Context>,
    cork: &Cork<Socket>,
    connection: &mut server::Connection<Corked<Socket>, Piece>,
    cx: &mut Cx<'_>,
) -> Poll<Result<(), h2::Error>> {
    drive(cork, cx, |cx| {
        loop {
            match std::task::ready!(connection.poll_accept(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok((request, respond))) => context.call(request, respond),
                Some(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    })
}
