//! One attempt on the wire: request messages up, response messages down, both at once, as fast as the slower side
//! takes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};

use super::rename::{Renamer, Renaming};
use super::stall::{Clock, Stall};
use super::upload::{Chunk, Upload};
use crate::fault::Code;
use crate::protocol::frame::{Event, FrameError, Messages};
use crate::protocol::{Adapter, Peek, ResponseScan};
use crate::server::respond::{Responder, percent_decode};
use crate::shadow::Tee;

/// Who may owe something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debtor {
    /// The caller, the rest of a message.
    Caller,
    /// The caller, who takes nothing of the answer.
    Reader,
    /// The model server: to take what is sent, or the rest of a message.
    Server,
}

/// How an exchange ended.
#[derive(Debug)]
pub enum End {
    /// The caller has the upstream's own answer, to its last byte.
    Answered {
        /// As the upstream said it.
        status: Code,
        /// Its message, for people.
        message: Option<Box<str>>,
    },
    /// The upstream broke off.
    Broken(h2::Error),
    /// The caller gave up, or left.
    Cancelled,
    /// A message of the caller is over the limit.
    RequestTooLarge(FrameError),
    /// A message of the upstream is over the limit.
    ResponseTooLarge(FrameError),
    /// Somebody took nothing, or left a message unfinished, for too long.
    Stalled(Debtor),
}

/// What was learnt from the response's messages.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Model version that the server named.
    pub reported_version: Option<Box<str>>,
    /// An error that the server said inside an OK stream.
    pub in_band_error: Option<Box<str>>,
}

/// What an exchange needs to know of its call.
pub struct Terms<'a> {
    /// Who reads the response; `None`: nobody does.
    pub reader: Option<(&'static dyn Adapter, Peek)>,
    /// The response's renaming, where it has one.
    pub renaming: Option<Renaming>,
    /// Largest response message.
    pub message: usize,
    /// The worker's slow clock.
    pub clock: &'a Clock,
    /// Tags for the response's headers.
    pub tag: &'a dyn Fn(&mut HeaderMap),
    /// Where is written down what came back, as it comes: a deadline may end the exchange at any point.
    pub received: &'a mut Received,
    /// Who holds the answer beside those of the call's copies.
    pub tee: Option<Rc<Tee>>,
}

/// What came back from an upstream.
#[derive(Debug, Default)]
pub struct Received {
    /// Whether response headers went to the caller.
    pub answered: bool,
    /// From the messages.
    pub learnt: Learnt,
    /// Bytes, as they came.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
}

/// One attempt on the wire.
pub struct Exchange<'a> {
    upload: &'a mut Upload,
    respond: &'a mut Responder,
    terms: Terms<'a>,
    up: Up,
    down: Down,
    stall: Stall,
    progressed: bool,
}

struct Up {
    stream: SendStream<Bytes>,
    renamer: Option<Renamer>,
    queue: VecDeque<Bytes>,
    /// What follows the queue.
    tail: Tail,
}

/// What follows the bytes that are queued for a stream.
#[derive(Debug)]
pub(crate) enum Tail {
    /// More bytes.
    More,
    /// Its end, with trailers where there are any.
    End(Option<HeaderMap>),
    /// Nothing: its end is out.
    Sent,
}

enum Down {
    Waiting(ResponseFuture),
    Streaming(Box<Download>),
}

struct Download {
    body: RecvStream,
    /// The response's HTTP status, which counts where there is no gRPC one.
    http: u16,
    messages: Messages,
    renamer: Option<Renamer>,
    queue: VecDeque<Bytes>,
    scan: Option<ResponseScan>,
    /// Whether a further message could tell more.
    curious: bool,
    tail: Tail,
}

/// Nothing to do until one of the wakers that were left behind calls.
enum Idle {
    /// Waiting for bytes that nobody owes.
    Calm,
    /// Somebody owes something.
    Owed(Debtor),
}

impl<'a> Exchange<'a> {
    /// Over a request whose headers are out.
    pub fn new(
        upload: &'a mut Upload,
        respond: &'a mut Responder,
        (response, stream): (ResponseFuture, SendStream<Bytes>),
        renamer: Option<Renamer>,
        terms: Terms<'a>,
    ) -> Self {
        Exchange {
            upload,
            respond,
            terms,
            up: Up { stream, renamer, queue: VecDeque::new(), tail: Tail::More },
            down: Down::Waiting(response),
            stall: Stall::default(),
            progressed: false,
        }
    }

    /// Runs until the exchange ends.
    pub async fn run(&mut self) -> End {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Breaks the upstream's half off.
    pub fn cancel(&mut self) {
        self.up.stream.send_reset(Reason::CANCEL);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.respond.poll_gone(cx).is_ready() {
            return Poll::Ready(End::Cancelled);
        }
        let up = match self.poll_up(cx) {
            Ok(idle) => idle,
            Err(end) => return Poll::Ready(end),
        };
        let down = match self.poll_down(cx) {
            Ok(idle) => idle,
            Err(end) => return Poll::Ready(end),
        };
        let owed = match (down, up) {
            (Idle::Owed(who), _) | (_, Idle::Owed(who)) => Some(who),
            (Idle::Calm, Idle::Calm) => None,
        };
        self.poll_stall(cx, owed)
    }

    /// Ends an exchange in which somebody owed something for as long as is allowed, and nothing moved.
    fn poll_stall(&mut self, cx: &mut Context<'_>, owed: Option<Debtor>) -> Poll<End> {
        let Some(who) = owed else {
            self.stall.clear();
            return Poll::Pending;
        };
        let moved = std::mem::take(&mut self.progressed);
        self.stall.poll(cx, self.terms.clock, moved).map(|()| End::Stalled(who))
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<Idle, End> {
        loop {
            if matches!(self.up.tail, Tail::Sent) {
                return Ok(Idle::Calm);
            }
            if !self.up.queue.is_empty() || matches!(self.up.tail, Tail::End(_)) {
                match send(&mut self.up.stream, &mut self.up.queue, &mut self.up.tail, cx) {
                    // The upstream's answer says why it takes no more, and that may come yet.
                    Sent::Closed => self.up.tail = Tail::Sent,
                    Sent::All => self.progressed = true,
                    Sent::Blocked => return Ok(Idle::Owed(Debtor::Server)),
                }
                continue;
            }
            match self.upload.poll_chunk(cx) {
                Poll::Pending if self.upload.is_unfinished() => return Ok(Idle::Owed(Debtor::Caller)),
                Poll::Pending => return Ok(Idle::Calm),
                Poll::Ready(Chunk::Data(data, last)) => {
                    self.progressed = true;
                    match &mut self.up.renamer {
                        Some(renamer) => {
                            renamer.push(&data, &mut self.up.queue).map_err(End::RequestTooLarge)?;
                        }
                        None => self.up.queue.push_back(data),
                    }
                    if last {
                        self.up.tail = Tail::End(None);
                    }
                }
                Poll::Ready(Chunk::End(trailers)) => self.up.tail = Tail::End(trailers),
                Poll::Ready(Chunk::Gone) => return Err(End::Cancelled),
                Poll::Ready(Chunk::TooLarge(error)) => return Err(End::RequestTooLarge(error)),
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<Idle, End> {
        if let Down::Waiting(response) = &mut self.down {
            match Pin::new(response).poll(cx) {
                Poll::Pending => return Ok(Idle::Calm),
                Poll::Ready(Err(error)) => return Err(End::Broken(error)),
                Poll::Ready(Ok(response)) => self.open(response)?,
            }
        }
        let Down::Streaming(download) = &mut self.down else { return Ok(Idle::Calm) };
        loop {
            if !download.queue.is_empty() {
                let Some(stream) = self.respond.stream() else { return Err(End::Cancelled) };
                match send(stream, &mut download.queue, &mut download.tail, cx) {
                    Sent::All => self.progressed = true,
                    Sent::Blocked => return Ok(Idle::Owed(Debtor::Reader)),
                    Sent::Closed => return Err(End::Cancelled),
                }
                continue;
            }
            match download.poll_read(cx, &mut self.terms) {
                Poll::Pending if download.messages.unfinished() => return Ok(Idle::Owed(Debtor::Server)),
                Poll::Pending => return Ok(Idle::Calm),
                Poll::Ready(Read::Bytes(n)) => {
                    self.terms.received.bytes += n as u64;
                    self.terms.received.messages = download.messages.count();
                    self.progressed = true;
                }
                Poll::Ready(Read::TooLarge(error)) => return Err(End::ResponseTooLarge(error)),
                Poll::Ready(Read::Broken(error)) => return Err(End::Broken(error)),
                Poll::Ready(Read::End(trailers)) => {
                    let http = download.http;
                    return Err(self.close(trailers, http));
                }
            }
        }
    }

    /// Passes response headers on. A response that is headers only ends the exchange.
    fn open(&mut self, response: Response<RecvStream>) -> Result<(), End> {
        let (mut head, body) = response.into_parts();
        self.upload.commit();
        let only = body.is_end_stream();
        let http = head.status.as_u16();
        let end = only.then(|| answered(&head.headers, http));
        let encoding = head.headers.get("grpc-encoding").cloned();
        (self.terms.tag)(&mut head.headers);
        if self.terms.renaming.is_some() {
            // A renamed message has another length.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        if self.respond.headers(head.status, head.headers, only).is_err() {
            return Err(End::Cancelled);
        }
        self.terms.received.answered = true;
        if let Some(end) = end {
            return Err(end);
        }
        let renamer = self.terms.renaming.take().map(|task| Renamer::new(task, encoding, self.terms.message));
        self.down = Down::Streaming(Box::new(Download {
            body,
            http,
            messages: Messages::new(self.terms.message),
            renamer,
            queue: VecDeque::new(),
            scan: None,
            curious: self.terms.reader.is_some(),
            tail: Tail::More,
        }));
        Ok(())
    }

    fn close(&mut self, trailers: Option<HeaderMap>, http: u16) -> End {
        let Some(mut trailers) = trailers else {
            // No gRPC status at all: the caller sees just that, and goes by the HTTP status.
            if let Some(stream) = self.respond.stream() {
                // Fails only where the caller has left.
                let _ = stream.send_data(Bytes::new(), true);
            }
            self.respond.end();
            let message = format!("the response, HTTP {http}, has no gRPC status");
            return End::Answered { status: Code::from_http(http), message: Some(message.into()) };
        };
        let end = answered(&trailers, http);
        super::strip_reserved(&mut trailers);
        if self.respond.trailers(trailers).is_err() {
            return End::Cancelled;
        }
        end
    }
}

enum Read {
    Bytes(usize),
    End(Option<HeaderMap>),
    Broken(h2::Error),
    TooLarge(FrameError),
}

impl Download {
    /// The next bytes of the upstream, looked at and queued for the caller.
    fn poll_read(&mut self, cx: &mut Context<'_>, terms: &mut Terms<'_>) -> Poll<Read> {
        match self.body.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                // Fails only for a stream that is closed, which then shows at the next read.
                let _ = self.body.flow_control().release_capacity(data.len());
                if let Some(tee) = &terms.tee {
                    tee.answer(&data);
                }
                let looked = self.look(&data, terms);
                let renamed = looked.and_then(|()| match &mut self.renamer {
                    Some(renamer) => renamer.push(&data, &mut self.queue),
                    None => {
                        self.queue.push_back(data.clone());
                        Ok(())
                    }
                });
                Poll::Ready(match renamed {
                    Ok(()) => Read::Bytes(data.len()),
                    Err(error) => Read::TooLarge(error),
                })
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Read::Broken(error)),
            Poll::Ready(None) => self.body.poll_trailers(cx).map(|trailers| match trailers {
                Ok(trailers) => Read::End(trailers),
                Err(error) => Read::Broken(error),
            }),
        }
    }

    fn look(&mut self, data: &[u8], terms: &mut Terms<'_>) -> Result<(), FrameError> {
        let Some((adapter, peek)) = terms.reader.filter(|_| self.curious) else {
            return self.messages.skip(data);
        };
        let (scan, curious) = (&mut self.scan, &mut self.curious);
        let learnt = &mut terms.received.learnt;
        self.messages.walk(data, |event| match event {
            // A compressed answer is not inflated only to be looked at.
            Event::Start { compressed: 0, length } => {
                *scan = Some(adapter.response_scan(peek, length as usize))
            }
            Event::Start { .. } => *scan = None,
            Event::Payload(part) => {
                // An answer that cannot be read passes as it is; nothing is learnt from it.
                let _ = scan.as_mut().map(|scan| scan.feed(part));
            }
            Event::End => {
                if let Some(mut scan) = scan.take() {
                    let _ = scan.finish();
                    learnt.take(&scan);
                }
                *curious = peek == Peek::Stream;
            }
        })
    }
}

impl Learnt {
    fn take(&mut self, scan: &ResponseScan) {
        if self.reported_version.is_none() {
            self.reported_version = scan.reported_version().map(Into::into);
        }
        if let Some(error) = scan.in_band_error() {
            self.in_band_error = Some(error.into());
        }
    }
}

/// How far sending came.
pub(crate) enum Sent {
    /// Everything is out.
    All,
    /// The peer's window is full.
    Blocked,
    /// The stream takes no more.
    Closed,
}

/// Sends what is queued as far as the peer's window goes, and the end behind it.
pub(crate) fn send(
    stream: &mut SendStream<Bytes>,
    queue: &mut VecDeque<Bytes>,
    tail: &mut Tail,
    cx: &mut Context<'_>,
) -> Sent {
    while let Some(front) = queue.front_mut() {
        if front.is_empty() {
            queue.pop_front();
            continue;
        }
        stream.reserve_capacity(front.len());
        let mut room = stream.capacity();
        if room == 0 {
            room = match stream.poll_capacity(cx) {
                Poll::Pending => return Sent::Blocked,
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(Some(Err(_)) | None) => return Sent::Closed,
            };
        }
        if room == 0 {
            continue;
        }
        let part = front.split_to(room.min(front.len()));
        let whole = front.is_empty();
        if whole {
            queue.pop_front();
        }
        let last = whole && queue.is_empty() && matches!(tail, Tail::End(None));
        if stream.send_data(part, last).is_err() {
            return Sent::Closed;
        }
        if last {
            *tail = Tail::Sent;
        }
    }
    match std::mem::replace(tail, Tail::Sent) {
        Tail::More => *tail = Tail::More,
        Tail::Sent => {}
        Tail::End(None) => {
            if stream.send_data(Bytes::new(), true).is_err() {
                return Sent::Closed;
            }
        }
        Tail::End(Some(trailers)) => {
            if stream.send_trailers(trailers).is_err() {
                return Sent::Closed;
            }
        }
    }
    Sent::All
}

/// Reads the status that headers or trailers carry.
fn answered(headers: &HeaderMap, http: u16) -> End {
    let text = |value: &HeaderValue| percent_decode(value.as_bytes()).into_boxed_str();
    End::Answered { status: answered_by(headers, http), message: headers.get("grpc-message").map(text) }
}

/// The status that headers or trailers carry.
pub(crate) fn answered_by(headers: &HeaderMap, http: u16) -> Code {
    match headers.get("grpc-status") {
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).map_or(Code::UNKNOWN, Code),
        None => Code::from_http(http),
    }
}
