//! One attempt on the wire: request messages up, response messages down, both at once, as fast as the slower side
//! takes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::response::Parts;
use http::{HeaderMap, Response};

use super::download::{Download, Read, Received};
use super::ending::{Debtor, End, answered, answered_by};
use super::hold::{Held, Hold};
use super::rename::{Renamer, Renaming};
use super::sending::{GATHER, LEAST, Sent, Tail, send};
use super::stall::{Clock, Stall};
use super::upload::{Chunk, Upload};
use crate::fault::Code;
use crate::protocol::{Adapter, Peek, encoding};
use crate::server::respond::Responder;
use crate::shadow::Tee;
use crate::wire::piece::Piece;

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
    /// Bytes of the request that may go before the stream has a window.
    pub ahead: usize,
    /// What holds the answer back until its end is known; `None`: it streams as it comes.
    pub(super) hold: Option<&'a Hold<'a>>,
}

/// One attempt on the wire.
pub struct Exchange<'a> {
    upload: &'a mut Upload,
    respond: &'a mut Responder,
    terms: Terms<'a>,
    up: Up,
    down: Down,
    stall: Stall,
    /// Whether the answer's messages are renamed.
    renames: bool,
    progressed: bool,
}

struct Up {
    stream: SendStream<Piece>,
    renamer: Option<Renamer>,
    queue: VecDeque<Bytes>,
    /// What follows the queue.
    tail: Tail,
    /// Bytes read since something was sent.
    gathered: usize,
    /// Bytes that still may go before there is a window.
    ahead: usize,
}

impl Up {
    fn send(&mut self, cx: &mut Context<'_>) -> Sent {
        let sent = send(&mut self.stream, &mut self.queue, &mut self.tail, &mut self.ahead, cx);
        match sent {
            Sent::All => self.gathered = 0,
            // The upstream's answer says why it takes no more, and that may come yet.
            Sent::Closed => self.tail = Tail::Sent,
            Sent::Blocked => {}
        }
        sent
    }

    /// Whether so much came that it is sent before more is read. What a poll finds goes up in one frame where it is
    /// small, however the caller cut it: a server takes many small frames for an attack, and ends a connection that
    /// other callers use too.
    fn is_full(&self) -> bool {
        self.gathered >= GATHER
    }
}

enum Down {
    Waiting(ResponseFuture),
    Streaming(Box<Download>),
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
        (response, stream): (ResponseFuture, SendStream<Piece>),
        renamer: Option<Renamer>,
        terms: Terms<'a>,
    ) -> Self {
        let (renames, ahead) = (terms.renaming.is_some(), terms.ahead);
        Exchange {
            upload,
            respond,
            terms,
            up: Up { stream, renamer, queue: VecDeque::new(), tail: Tail::More, gathered: 0, ahead },
            down: Down::Waiting(response),
            stall: Stall::default(),
            renames,
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
            if self.up.is_full() || matches!(self.up.tail, Tail::End(_)) {
                match self.up.send(cx) {
                    Sent::Closed => {}
                    Sent::All => self.progressed = true,
                    Sent::Blocked => return Ok(Idle::Owed(Debtor::Server)),
                }
                continue;
            }
            let chunk = self.upload.poll_chunk(cx);
            if let Some(hold) = self.terms.hold {
                hold.waits_for_caller(chunk.is_pending());
            }
            match chunk {
                Poll::Pending if !self.up.queue.is_empty() => match self.up.send(cx) {
                    Sent::Closed => {}
                    Sent::All => self.progressed = true,
                    Sent::Blocked => return Ok(Idle::Owed(Debtor::Server)),
                },
                Poll::Pending if self.upload.is_unfinished() => return Ok(Idle::Owed(Debtor::Caller)),
                Poll::Pending => return Ok(Idle::Calm),
                Poll::Ready(Chunk::Data(data, last)) => {
                    self.progressed = true;
                    self.up.gathered += data.len().max(LEAST);
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
        loop {
            let Down::Streaming(download) = &mut self.down else { return Ok(Idle::Calm) };
            let read = if download.is_full() { None } else { Some(download.poll_read(cx, &mut self.terms)) };
            if !download.is_empty() && matches!(read, None | Some(Poll::Pending)) {
                let Some(stream) = self.respond.stream() else { return Err(End::Cancelled) };
                match download.send(stream, cx) {
                    Sent::All => self.progressed = true,
                    Sent::Blocked => return Ok(Idle::Owed(Debtor::Reader)),
                    Sent::Closed => return Err(End::Cancelled),
                }
            }
            match read {
                None => {}
                Some(Poll::Pending) if download.messages.unfinished() => {
                    return Ok(Idle::Owed(Debtor::Server));
                }
                Some(Poll::Pending) => return Ok(Idle::Calm),
                Some(Poll::Ready(Read::Bytes(n))) => {
                    self.terms.received.bytes += n as u64;
                    self.terms.received.messages = download.messages.count();
                    self.progressed = true;
                }
                Some(Poll::Ready(Read::Held)) => self.progressed = true,
                Some(Poll::Ready(Read::Full)) => self.release(None)?,
                Some(Poll::Ready(end)) if !download.is_empty() => download.put_behind(end),
                Some(Poll::Ready(Read::TooLarge(error))) => return Err(End::ResponseTooLarge(error)),
                Some(Poll::Ready(Read::Broken(error))) => return Err(End::Broken(error)),
                Some(Poll::Ready(Read::End(trailers))) => self.finish(trailers)?,
            }
        }
    }

    /// Takes the end of the answer, once all before it is out or held.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), End> {
        let Down::Streaming(download) = &self.down else { return Ok(()) };
        let http = download.http;
        if download.is_held() { self.judge(trailers, http) } else { Err(self.close(trailers, http)) }
    }

    /// Takes response headers. A response that is headers only ends the exchange.
    fn open(&mut self, response: Response<RecvStream>) -> Result<(), End> {
        let (head, body) = response.into_parts();
        let http = head.status.as_u16();
        if body.is_end_stream() {
            let end = answered(&head.headers, http);
            if let End::Answered { status, .. } = end {
                // The end of a unary answer without a message.
                self.terms.received.misframed = status == Code::OK && self.terms.is_unary();
                let bad = self.terms.received.misframed;
                let hold = self.terms.hold;
                if hold.is_some_and(|hold| hold.gives_up(status, bad, self.upload.is_repeatable())) {
                    return Err(End::GivenUp(status));
                }
            }
            self.say(head, true)?;
            return Err(end);
        }
        let encoding = head.headers.get(&encoding::HEADER).cloned();
        if let Some(tee) = &self.terms.tee {
            tee.encoding(encoding.as_ref());
        }
        let held = self.terms.hold.is_some();
        let head = if held { Some(head) } else { self.say(head, false).map(|()| None)? };
        let renamer = self.terms.renaming.take().map(|task| Renamer::new(task, encoding, self.terms.message));
        let mut download = Box::new(Download::new(body, http, renamer, &self.terms));
        download.held = head.map(|head| Box::new(Held::new(head)));
        self.down = Down::Streaming(download);
        Ok(())
    }

    /// Passes response headers on: from here on the answer is the caller's.
    fn say(&mut self, mut head: Parts, only: bool) -> Result<(), End> {
        self.upload.commit();
        if let Some(hold) = self.terms.hold {
            hold.commit();
        }
        (self.terms.tag)(&mut head.headers);
        if self.renames {
            // A renamed message has another length.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        if self.respond.headers(head.status, head.headers, only).is_err() {
            return Err(End::Cancelled);
        }
        self.terms.received.answered = true;
        Ok(())
    }

    /// Gives an answer that was held to its end either up or to the caller.
    fn judge(&mut self, trailers: Option<HeaderMap>, http: u16) -> Result<(), End> {
        let Down::Streaming(download) = &self.down else { return Ok(()) };
        let status = trailers.as_ref().map_or(Code::from_http(http), |trailers| answered_by(trailers, http));
        self.terms.received.misframed = status == Code::OK && download.is_misframed(&self.terms);
        let bad = self.terms.received.is_bad();
        let hold = self.terms.hold;
        if hold.is_some_and(|hold| hold.gives_up(status, bad, self.upload.is_repeatable())) {
            return Err(End::GivenUp(status));
        }
        self.release(Some(trailers))
    }

    /// Gives what is held to the caller, and the answer's end behind it where that is known.
    fn release(&mut self, end: Option<Option<HeaderMap>>) -> Result<(), End> {
        let Down::Streaming(download) = &mut self.down else { return Ok(()) };
        let Some(head) = download.held.as_mut().and_then(|held| held.head.take()) else { return Ok(()) };
        self.say(head, false)?;
        let Down::Streaming(download) = &mut self.down else { return Ok(()) };
        let bytes = download.release(end, &mut self.terms).map_err(End::ResponseTooLarge)?;
        self.terms.received.bytes += bytes;
        self.terms.received.messages = download.messages.count();
        self.progressed = true;
        Ok(())
    }

    fn close(&mut self, trailers: Option<HeaderMap>, http: u16) -> End {
        let Some(mut trailers) = trailers else {
            // No gRPC status at all: the caller sees just that, and goes by the HTTP status.
            if let Some(stream) = self.respond.stream() {
                // Fails only where the caller has left.
                let _ = stream.send_data(Bytes::new().into(), true);
            }
            self.respond.end();
            let message = format!("the response, HTTP {http}, has no gRPC status");
            return End::Answered { status: Code::from_http(http), message: Some(message.into()) };
        };
        let end = answered(&trailers, http);
        if let (End::Answered { status: Code::OK, .. }, Down::Streaming(download)) = (&end, &self.down) {
            self.terms.received.misframed = download.is_misframed(&self.terms);
        }
        super::strip_reserved(&mut trailers);
        if self.respond.trailers(trailers).is_err() {
            return End::Cancelled;
        }
        end
    }
}

impl Terms<'_> {
    /// Whether the answer must be one message.
    pub(super) fn is_unary(&self) -> bool {
        matches!(self.reader, Some((_, Peek::Unary)))
    }
}
