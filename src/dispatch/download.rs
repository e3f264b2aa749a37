//! The answer on its way down: what one upstream sends, looked at as it passes.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use super::exchange::Terms;
use super::hold::Held;
use super::rename::Renamer;
use super::sending::{GATHER, LEAST, Sent, Tail, send};
use crate::protocol::frame::{Event, FrameError, Messages};
use crate::protocol::{Peek, ResponseScan};
use crate::wire::piece::Piece;

/// What was learnt from the response's messages.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Model version that the server named.
    pub reported_version: Option<Box<str>>,
    /// An error that the server said inside an OK stream.
    pub in_band_error: Option<Box<str>>,
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
    /// Whether OK was said of a unary answer that is not one whole message.
    pub misframed: bool,
}

impl Received {
    /// Whether there is something wrong with the answer that its status does not say.
    pub fn is_bad(&self) -> bool {
        self.misframed || self.learnt.in_band_error.is_some()
    }
}

/// One answer.
pub(super) struct Download {
    body: RecvStream,
    /// The response's HTTP status, which counts where there is no gRPC one.
    pub(super) http: u16,
    pub(super) messages: Messages,
    renamer: Option<Renamer>,
    /// What waits for the caller.
    queue: VecDeque<Bytes>,
    /// Bytes read since something was sent.
    gathered: usize,
    /// Bytes read that the upstream has no window for yet.
    taken: usize,
    /// What came behind the queue.
    behind: Option<Read>,
    /// One for all messages, made for the first.
    scan: Option<ResponseScan>,
    /// Whether it reads the message at hand.
    scanning: bool,
    /// Whether a further message could tell more.
    curious: bool,
    /// What is held back of the answer, where it is.
    pub(super) held: Option<Box<Held>>,
}

/// What came next.
pub(super) enum Read {
    /// That many bytes, which are queued.
    Bytes(usize),
    /// Bytes, which are held back.
    Held,
    /// Bytes, and with them more are held back than may be.
    Full,
    /// The end, with trailers where there are any.
    End(Option<HeaderMap>),
    /// The upstream broke off.
    Broken(h2::Error),
    /// A message is over the limit.
    TooLarge(FrameError),
}

impl Download {
    /// Of the response whose headers said `http`.
    pub(super) fn new(body: RecvStream, http: u16, renamer: Option<Renamer>, terms: &Terms<'_>) -> Self {
        Download {
            body,
            http,
            messages: Messages::new(terms.message),
            renamer,
            queue: VecDeque::new(),
            gathered: 0,
            taken: 0,
            behind: None,
            scan: None,
            scanning: false,
            curious: terms.reader.is_some(),
            held: None,
        }
    }

    /// Whether the queue must be out before more is read: there is enough in it, or the end is behind it. Else what
    /// one poll finds goes down in one frame where it is small, however the upstream cut it.
    pub(super) fn is_full(&self) -> bool {
        !self.queue.is_empty() && (self.gathered >= GATHER || self.behind.is_some())
    }

    /// Whether nothing waits for the caller.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Keeps what ends the answer until the queue is out.
    pub(super) fn put_behind(&mut self, end: Read) {
        self.behind = Some(end);
    }

    /// Sends the queue as far as the caller's window goes.
    pub(super) fn send(&mut self, stream: &mut SendStream<Piece>, cx: &mut Context<'_>) -> Sent {
        let sent = send(stream, &mut self.queue, &mut Tail::More, &mut 0, cx);
        // What is stuck goes before anything else is read.
        self.gathered = if matches!(sent, Sent::All) { 0 } else { GATHER };
        sent
    }

    /// Gives the upstream its window back.
    fn settle(&mut self) {
        if self.taken > 0 {
            // Fails only for a stream that is closed, which then shows at the next read.
            let _ = self.body.flow_control().release_capacity(std::mem::take(&mut self.taken));
        }
    }

    /// The next bytes of the upstream, looked at and queued for the caller.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, terms: &mut Terms<'_>) -> Poll<Read> {
        if let Some(end) = self.behind.take() {
            return Poll::Ready(end);
        }
        match self.body.poll_data(cx) {
            Poll::Pending => {
                self.settle();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(data))) => {
                let n = data.len();
                self.taken += n;
                if self.taken >= GATHER {
                    self.settle();
                }
                let read = match self.is_held() {
                    false => {
                        self.look(&data, terms).and_then(|()| self.pass(data, terms)).map(|()| Read::Bytes(n))
                    }
                    true => self.look(&data, terms).map(|()| self.keep(data, terms)),
                };
                Poll::Ready(read.unwrap_or_else(Read::TooLarge))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Read::Broken(error)),
            Poll::Ready(None) => self.body.poll_trailers(cx).map(|trailers| match trailers {
                Ok(trailers) => Read::End(trailers),
                Err(error) => Read::Broken(error),
            }),
        }
    }

    /// Gives bytes to whoever holds the answer beside others, and queues them for the caller.
    fn pass(&mut self, data: Bytes, terms: &Terms<'_>) -> Result<(), FrameError> {
        if let Some(tee) = &terms.tee {
            tee.answer(&data);
        }
        self.gathered += data.len().max(LEAST);
        match &mut self.renamer {
            Some(renamer) => renamer.push(&data, &mut self.queue),
            None => {
                self.queue.push_back(data);
                Ok(())
            }
        }
    }

    fn keep(&mut self, data: Bytes, terms: &Terms<'_>) -> Read {
        let fits = match (&mut self.held, terms.hold) {
            (Some(held), Some(hold)) => held.keep(data, hold.limit()),
            _ => true,
        };
        if fits { Read::Held } else { Read::Full }
    }

    /// Whether the caller knows nothing of the answer yet.
    pub(super) fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.head.is_some())
    }

    /// Queues what was held, and keeps the end for when that is gone; returns how many bytes it was.
    pub(super) fn release(
        &mut self,
        end: Option<Option<HeaderMap>>,
        terms: &mut Terms<'_>,
    ) -> Result<u64, FrameError> {
        let Some(held) = &mut self.held else { return Ok(0) };
        self.behind = end.map(Read::End);
        let mut bytes = 0;
        for chunk in std::mem::take(&mut held.chunks) {
            bytes += chunk.len() as u64;
            self.pass(chunk, terms)?;
        }
        Ok(bytes)
    }

    /// Whether what came is no answer to a unary call, which is one whole message.
    pub(super) fn is_misframed(&self, terms: &Terms<'_>) -> bool {
        terms.is_unary() && (self.messages.count() != 1 || self.messages.unfinished())
    }

    fn look(&mut self, data: &[u8], terms: &mut Terms<'_>) -> Result<(), FrameError> {
        let Some((adapter, peek)) = terms.reader.filter(|_| self.curious) else {
            return self.messages.skip(data);
        };
        let (scan, scanning, curious) = (&mut self.scan, &mut self.scanning, &mut self.curious);
        let learnt = &mut terms.received.learnt;
        self.messages.walk(data, |event| match event {
            // A compressed answer is not inflated only to be looked at.
            Event::Start { compressed: 0, length } => {
                *scanning = true;
                match scan {
                    Some(scan) => scan.restart(length as usize, learnt.reported_version.is_some()),
                    None => *scan = Some(adapter.response_scan(peek, length as usize)),
                }
            }
            Event::Start { .. } => *scanning = false,
            Event::Payload(part) => {
                // An answer that cannot be read passes as it is; nothing is learnt from it.
                let _ = scan.as_mut().filter(|_| *scanning).map(|scan| scan.feed(part));
            }
            Event::End => {
                if let Some(scan) = scan.as_mut().filter(|_| *scanning) {
                    let _ = scan.finish();
                    learnt.take(scan);
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
