//! One HTTP/2 connection to an endpoint, owned by one worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use h2::SendStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;

use crate::failpoint;
use crate::wire::piece::Piece;
use crate::wire::socket::Socket;
use crate::wire::watch::FrameWatch;
use crate::wire::windows::Windows;
use crate::wire::{Cork, FRAME, Scratch, cork};

/// How long the other side may take to speak HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// How long what a peer sent before its connection broke may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// After as many resets of ours the connection is replaced: `h2` counts them over a connection's whole life and
/// ends it, with every call on it, at [`RESETS_ENFORCED`].
const RESETS_ALLOWED: u64 = 5_000;
const RESETS_ENFORCED: usize = 20_000;
/// Streams are numbered by odd 31-bit numbers; one this high is the last of its connection.
const LAST_STREAM: u32 = (1 << 31) - 1_000_000;
/// What small DATA frames that wait for slow callers may cost beyond their bytes. Over it `h2` ends the connection with
/// every call on it, so it must fit many streams of tokens at once: 256 bytes a frame are counted.
const SMALL_FRAMES: usize = 64 * 1024 * 1024;
/// See [`Connection::ahead`]: small calls whole, and no more than a stream's smallest usual window.
const AHEAD: usize = 4 * 1024;
/// What a stream may hold unsent.
const SEND_BUFFER: usize = 256 * 1024;

/// One connection; cheap to hold.
#[derive(Debug)]
pub struct Connection {
    /// The connection ends once all of these are dropped and no stream is left.
    send: SendRequest<Piece>,
    peer: Option<SocketAddr>,
    in_flight: Cell<usize>,
    resets: Cell<u64>,
    retired: Cell<bool>,
    last_stream: u32,
    seen: Rc<Seen>,
}

/// What the driver sees of the peer; apart from [`Connection`], which the driver must not keep alive.
#[derive(Debug, Default)]
struct Seen {
    goaway: Cell<Option<u32>>,
    /// The newest stream whose headers were written.
    sent: Cell<u32>,
    /// The largest header list that the peer takes.
    header_list: Cell<Option<u32>>,
    closed: Cell<bool>,
}

impl Connection {
    /// Whether new streams may be opened.
    pub fn is_open(&self) -> bool {
        !self.retired.get() && !self.seen.closed.get() && self.seen.goaway.get().is_none()
    }

    /// Takes no new streams from now on; returns whether that is news.
    pub fn retire(&self) -> bool {
        !self.retired.replace(true)
    }

    /// Whether its numbers of streams or resets run out.
    pub fn is_worn(&self) -> bool {
        self.resets.get() >= RESETS_ALLOWED
    }

    /// The address it was made to, for TCP.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Streams open now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Whether the peer allows another stream at once; beyond that streams wait for their turn.
    pub fn has_room(&self) -> bool {
        self.in_flight.get() < self.send.current_max_send_streams()
    }

    /// Bytes that may be handed to a stream that is opened now before it has a window. `h2` gives it none until the
    /// connection is polled next, and waiting for that would cost a small call a turn of its own.
    pub fn ahead(&self) -> usize {
        if self.has_room() { AHEAD } else { 0 }
    }

    /// Opens a stream for a request that may have a body.
    ///
    /// # Errors
    /// When it has more headers than the peer takes: sent all the same, they could cost the connection and every call on
    /// it. Or when the connection takes no stream any more.
    pub fn open(&self, request: Request<()>) -> Result<(ResponseFuture, SendStream<Piece>), Unopened> {
        if let Some(most) = self.seen.header_list.get() {
            let size = header_list(&request);
            if size > most as usize {
                return Err(Unopened::TooLarge { size, most });
            }
        }
        self.send.clone().send_request(request, false).map_err(Unopened::Closed)
    }

    /// Whether the peer never processed `stream`, which has failed: it said so by GOAWAY, or the stream was still
    /// waiting for its turn.
    pub fn never_processed(&self, stream: u32) -> bool {
        stream > self.seen.sent.get() || self.seen.goaway.get().is_some_and(|last| stream > last)
    }

    /// Holds a place among the streams in flight.
    pub fn enter(self: &Rc<Self>, stream: u32) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        if stream >= self.last_stream {
            self.retire();
        }
        InFlight { connection: Rc::clone(self), complete: Cell::new(false) }
    }
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// It would have had more headers than the peer takes.
    #[error("the call's metadata has {size} bytes as HTTP/2 counts them, and the model server takes {most}")]
    TooLarge {
        /// Bytes of its header list.
        size: usize,
        /// The peer's SETTINGS_MAX_HEADER_LIST_SIZE.
        most: u32,
    },
    /// The connection takes none.
    #[error("{0}")]
    Closed(h2::Error),
}

/// The size of a request's header list: names, values, and 32 bytes each (RFC 9113, section 6.5.2).
fn header_list(request: &Request<()>) -> usize {
    const EACH: usize = 32;
    const PSEUDO: usize = ":method".len() + ":scheme".len() + ":path".len() + ":authority".len() + 4 * EACH;
    let uri = request.uri();
    let own = request.method().as_str().len()
        + uri.scheme_str().map_or(0, str::len)
        + uri.path_and_query().map_or(1, |path| path.as_str().len())
        + uri.authority().map_or(0, |authority| authority.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + EACH);
    PSEUDO + own + fields.sum::<usize>()
}

/// A stream in flight; counted until it is dropped, and as reset from this side if it is not complete by then.
#[derive(Debug)]
pub struct InFlight {
    connection: Rc<Connection>,
    complete: Cell<bool>,
}

impl InFlight {
    /// The connection it is on.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Says that the peer ended the stream.
    pub fn complete(&self) {
        self.complete.set(true);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.in_flight.set(connection.in_flight.get() - 1);
        if !self.complete.get() {
            connection.resets.set(connection.resets.get() + 1);
        }
    }
}

/// Speaks HTTP/2 over `socket`; `paced` where nobody waits for its answers. The second part is the connection's driver: a future to be run until it ends.
///
/// # Errors
/// When the other side does not speak HTTP/2 within two seconds; `ConnectionAborted` when it sent GOAWAY at once.
pub async fn handshake(
    socket: Socket,
    peer: Option<SocketAddr>,
    windows: Windows,
    paced: bool,
    scratch: &Rc<Scratch>,
) -> io::Result<(Rc<Connection>, impl Future<Output = ()> + use<>)> {
    let (corked, cork) = cork(socket, scratch, FrameWatch::of_server());
    if paced {
        cork.keep_pace();
    }
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .max_frame_size(FRAME)
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .data_frame_budget(SMALL_FRAMES)
        .max_header_list_size(windows.headers)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(1_000)
        .max_local_error_reset_streams(Some(RESETS_ENFORCED));
    let mut handshake = Box::pin(builder.handshake::<_, Piece>(corked));
    let (send, mut driver) = poll_fn(|cx| match cork.drive(cx, |cx| handshake.as_mut().poll(cx)) {
        Ok(poll) => poll.map_err(io::Error::other),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await?;
    // The client's half of the handshake never waits for the server; its SETTINGS must come before we trust it.
    let greeted = poll_fn(|cx| match cork.drive(cx, |cx| std::pin::Pin::new(&mut driver).poll(cx)) {
        Err(error) => Poll::Ready(Err(error)),
        Ok(Poll::Ready(end)) => Poll::Ready(Err(ended(end, &cork))),
        Ok(Poll::Pending) if !cork.watch().is_http2() => Poll::Ready(Err(not_http2())),
        Ok(Poll::Pending) if cork.watch().settings_acked() => Poll::Ready(Ok(())),
        Ok(Poll::Pending) => Poll::Pending,
    });
    match tokio::time::timeout(HANDSHAKE, greeted).await {
        Ok(greeted) => greeted?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 SETTINGS within 2 s")),
    }
    let seen = Rc::new(Seen::default());
    seen.header_list.set(cork.watch().header_list());
    let connection = Rc::new(Connection {
        send,
        peer,
        in_flight: Cell::new(0),
        resets: Cell::new(0),
        retired: Cell::new(false),
        last_stream: if failpoint::fails("upstream.streams").is_ok() { LAST_STREAM } else { 40 },
        seen: Rc::clone(&seen),
    });
    Ok((connection, async move { drive(driver, cork, seen).await }))
}

async fn drive<T>(mut driver: T, cork: Cork<Socket>, seen: Rc<Seen>)
where
    T: Future<Output = Result<(), h2::Error>> + Unpin,
{
    let end = poll_fn(|cx| {
        let polled = cork.drive(cx, |cx| std::pin::Pin::new(&mut driver).poll(cx));
        seen.goaway.set(cork.watch().goaway());
        seen.sent.set(cork.newest_sent());
        seen.header_list.set(cork.watch().header_list());
        match polled {
            Ok(poll) => poll.map_err(io::Error::other),
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await;
    seen.closed.set(true);
    if let Err(error) = end {
        tracing::debug!(%error, "a connection to an upstream ended");
        // Its streams hear of it when the driver is dropped, below; by then it is known which of them it never processed.
        let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| cork.poll_last_words(cx))).await;
        seen.goaway.set(cork.watch().goaway());
    }
}

fn ended(end: Result<(), h2::Error>, cork: &Cork<Socket>) -> io::Error {
    if cork.watch().goaway().is_some() {
        return io::Error::new(io::ErrorKind::ConnectionAborted, "it sent GOAWAY before the first call");
    }
    match end {
        Err(error) if cork.watch().has_started() && !cork.watch().settings_acked() => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it does not speak HTTP/2 ({error}); use the server's gRPC port"),
        ),
        Err(error) => io::Error::other(error),
        Ok(()) => io::ErrorKind::ConnectionReset.into(),
    }
}

fn not_http2() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2; use the server's gRPC port")
}
