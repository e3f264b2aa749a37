//! The caller's messages on their way upstream, kept for as long as another attempt may need them again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use crate::protocol::frame::{Event, FrameError, Messages};
use crate::protocol::{Adapter, Head, Peek, RequestScan};
use crate::server::{Rest, rest};
use crate::shadow::Tee;

/// Chunks below this are copied when they are kept: a slice of 300 bytes would pin a whole read buffer.
pub const SMALL: usize = 4 * 1024;

/// What keeping a chunk costs beside its bytes, so that a caller cannot fill memory with chunks of one byte.
const ENTRY: usize = 64;

/// What comes next from the caller.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes; `true` if they are the last and no trailers follow.
    Data(Bytes, bool),
    /// The end, with request trailers where there are any.
    End(Option<HeaderMap>),
    /// The caller reset the stream or its connection is gone.
    Gone,
    /// A message is over the limit.
    TooLarge(FrameError),
}

/// A caller's messages.
#[derive(Debug)]
pub struct Upload {
    body: RecvStream,
    messages: Messages,
    bytes: u64,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Most bytes to keep; 0 once nothing may be sent again.
    limit: usize,
    overflowed: bool,
    /// Index into `kept` of the next chunk to give.
    next: usize,
    ended: bool,
    reading: Option<Reading>,
    foreign: u64,
    /// Who gets copies of what comes.
    tee: Option<Rc<Tee>>,
    /// Where it is noted when the first message was whole.
    whole: Option<Rc<Cell<Option<Instant>>>>,
}

/// Looks at the messages of a method that is peeked into.
#[derive(Debug)]
struct Reading {
    adapter: &'static dyn Adapter,
    peek: Peek,
    scan: RequestScan,
    compressed: bool,
    /// Whether this message was judged already.
    judged: bool,
    /// What the first message said, once a second has begun.
    first: Option<Head>,
}

/// What is known of the first message.
#[derive(Debug)]
pub enum First<'a> {
    /// Enough to dispatch.
    Head(&'a Head),
    /// It is compressed: whole or not, it must be inflated to be read.
    Compressed,
    /// It cannot be read; what is wrong with it is for the server to say.
    Unreadable,
}

impl Upload {
    /// The messages of `body`: each at most `message` bytes, up to `retain` bytes kept.
    pub fn new(body: RecvStream, message: usize, retain: usize) -> Self {
        Upload {
            body,
            messages: Messages::new(message),
            bytes: 0,
            kept: Vec::new(),
            kept_bytes: 0,
            limit: retain,
            overflowed: false,
            next: 0,
            ended: false,
            reading: None,
            foreign: 0,
            tee: None,
            whole: None,
        }
    }

    /// Where it is noted when the first message is whole, or was.
    pub fn note_whole(&mut self) -> Rc<Cell<Option<Instant>>> {
        let whole = Rc::new(Cell::new((self.messages() > 0).then(Instant::now)));
        self.whole = Some(Rc::clone(&whole));
        whole
    }

    /// Hands everything that came, and that will come, to the call's copies too.
    pub fn attach(&mut self, tee: Rc<Tee>) {
        for chunk in &mut self.kept {
            if chunk.len() < SMALL && self.limit == 0 {
                *chunk = Bytes::copy_from_slice(chunk);
            }
            tee.request(chunk);
        }
        if self.ended {
            tee.whole(None);
        }
        self.tee = Some(tee);
    }

    /// The call's copies, where it has any.
    pub fn tee(&self) -> Option<&Rc<Tee>> {
        self.tee.as_ref()
    }

    /// Says how the messages are read; to be called before anything else.
    pub fn read_as(
        &mut self,
        adapter: &'static dyn Adapter,
        peek: Peek,
        (parameters, inputs): (bool, Option<&Arc<[Arc<str>]>>),
    ) {
        self.reading = Some(Reading {
            adapter,
            peek,
            scan: adapter.request_scan(parameters).wanting(inputs),
            compressed: false,
            judged: false,
            first: None,
        });
    }

    /// Waits for the first bytes, or for their end.
    ///
    /// # Errors
    /// As [`Upload::peek`].
    pub async fn begin(&mut self) -> Result<(), Chunk> {
        if self.bytes == 0 && !self.ended { self.take_in().await } else { Ok(()) }
    }

    /// Reads the first message until a call can be dispatched by it, keeping what it takes from the caller.
    ///
    /// # Errors
    /// What came instead: the caller is gone, or the message too large.
    pub async fn peek(&mut self) -> Result<(), Chunk> {
        while !self.is_enough() {
            self.take_in().await?;
        }
        Ok(())
    }

    /// Reads on until all that the caller sends is there; false where that is more than is kept, or not one message.
    ///
    /// # Errors
    /// As [`Upload::peek`].
    pub async fn whole(&mut self) -> Result<bool, Chunk> {
        while !self.ended {
            if self.kept_bytes > self.limit {
                return Ok(false);
            }
            match self.take_in().await {
                // Request trailers, which gRPC has none of.
                Err(Chunk::End(_)) => break,
                other => other?,
            }
        }
        Ok(self.kept_bytes <= self.limit && self.messages.count() == 1 && !self.messages.unfinished())
    }

    /// Takes the next chunk from the caller, to be given to an attempt later.
    async fn take_in(&mut self) -> Result<(), Chunk> {
        match std::future::poll_fn(|cx| self.poll_fresh(cx)).await {
            Chunk::Data(chunk, _) => {
                // The caller gets its window back at once: what is kept has a bound of its own, and a message that
                // needs more than a window would else never come.
                self.release(chunk.len());
                if !chunk.is_empty() {
                    self.kept_bytes += chunk.len() + ENTRY;
                    self.kept.push(chunk);
                }
                Ok(())
            }
            // Its end, empty or cut off, is for the server to judge.
            Chunk::End(None) => Ok(()),
            other => Err(other),
        }
    }

    fn is_enough(&self) -> bool {
        let Some(reading) = &self.reading else { return true };
        let message = self.ended || self.messages.count() > 0 || self.kept_bytes > self.limit;
        message || (!reading.compressed && reading.scan.enough()) || reading.judged
    }

    /// What [`Upload::peek`] found.
    pub fn first(&self) -> First<'_> {
        let Some(reading) = &self.reading else { return First::Unreadable };
        match &reading.first {
            Some(head) => First::Head(head),
            None if reading.compressed => First::Compressed,
            None if reading.scan.enough() => First::Head(reading.scan.head()),
            None => First::Unreadable,
        }
    }

    /// The bytes kept so far, in order: after a peek, everything the caller sent.
    pub fn kept(&self) -> &[Bytes] {
        &self.kept
    }

    /// The request's own id, once it is known.
    pub fn request_id(&self) -> Option<&str> {
        match self.first() {
            First::Head(head) if !head.id.is_empty() => Some(&head.id),
            _ => None,
        }
    }

    /// Messages of a stream that named another model than its first, since this was last asked.
    pub fn take_foreign(&mut self) -> u64 {
        std::mem::take(&mut self.foreign)
    }

    /// Bytes that came from the caller.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whole messages that came from the caller.
    pub fn messages(&self) -> u64 {
        self.messages.count()
    }

    /// Whether the caller owes the rest of a message.
    pub fn is_unfinished(&self) -> bool {
        self.messages.unfinished()
    }

    /// What the caller has not ended yet.
    pub fn rest(self) -> Rest {
        if self.ended { None } else { rest(self.body) }
    }

    /// Whether everything that was sent can be sent again.
    pub fn is_repeatable(&self) -> bool {
        !self.overflowed
    }

    /// Starts over for another attempt. Only while [`Upload::is_repeatable`].
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Keeps nothing any more: the answer has begun.
    pub fn commit(&mut self) {
        self.limit = 0;
        self.forget();
    }

    /// Lets go of what was kept, once all of it was given and nothing may be sent again.
    fn forget(&mut self) {
        if self.limit == 0 && self.next == self.kept.len() {
            self.kept = Vec::new();
            self.next = 0;
        }
    }

    /// Keeps nothing of a call that can end in one attempt only, for it was sent as it came.
    fn keep(&mut self, chunk: &Bytes) {
        if self.limit == 0 || self.overflowed || chunk.is_empty() {
            return;
        }
        if self.kept_bytes + chunk.len() + ENTRY > self.limit {
            self.overflowed = true;
            self.kept = Vec::new();
            self.next = 0;
            return;
        }
        self.kept_bytes += chunk.len() + ENTRY;
        self.kept.push(chunk.clone());
        self.next = self.kept.len();
    }

    /// The next chunk for the current attempt.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        if let Some(chunk) = self.kept.get(self.next).cloned() {
            self.next += 1;
            let last = self.next == self.kept.len() && self.ended;
            self.forget();
            return Poll::Ready(Chunk::Data(chunk, last));
        }
        let chunk = ready!(self.poll_fresh(cx));
        if let Chunk::Data(data, _) = &chunk {
            let data = data.clone();
            self.release(data.len());
            self.keep(&data);
        }
        Poll::Ready(chunk)
    }

    /// The next chunk from the caller, looked at and counted.
    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        if self.ended {
            return Poll::Ready(Chunk::End(None));
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                let data = if data.len() < SMALL { self.copied(&data) } else { data };
                self.bytes += data.len() as u64;
                self.ended = self.body.is_end_stream();
                match self.look(&data) {
                    Ok(()) => {
                        self.note();
                        if let Some(tee) = &self.tee {
                            tee.request(&data);
                            if self.ended {
                                tee.whole(None);
                            }
                        }
                        Poll::Ready(Chunk::Data(data, self.ended))
                    }
                    Err(error) => Poll::Ready(Chunk::TooLarge(error)),
                }
            }
            Some(Err(_)) => Poll::Ready(Chunk::Gone),
            None => {
                let trailers = match ready!(self.body.poll_trailers(cx)) {
                    Ok(trailers) => trailers,
                    Err(_) => return Poll::Ready(Chunk::Gone),
                };
                self.ended = true;
                if let Some(tee) = &self.tee {
                    tee.whole(trailers.as_ref());
                }
                Poll::Ready(Chunk::End(trailers))
            }
        }
    }

    /// A copy where the chunk will be kept; as it came where it leaves at once.
    fn copied(&self, data: &Bytes) -> Bytes {
        let kept = self.tee.is_some() || self.limit > 0 && !self.overflowed;
        if kept { Bytes::copy_from_slice(data) } else { data.clone() }
    }

    fn release(&mut self, n: usize) {
        // Fails only for a stream that is closed, which then shows at the next read.
        let _ = self.body.flow_control().release_capacity(n);
    }

    /// Notes that the first message is whole, where somebody wants to know and nobody has.
    fn note(&self) {
        if let Some(whole) = self.whole.as_ref().filter(|whole| whole.get().is_none() && self.messages() > 0)
        {
            whole.set(Some(Instant::now()));
        }
    }

    fn look(&mut self, data: &[u8]) -> Result<(), FrameError> {
        let Some(reading) = &mut self.reading else { return self.messages.skip(data) };
        let foreign = &mut self.foreign;
        self.messages.walk(data, |event| *foreign += u64::from(reading.take(event)))
    }
}

impl Reading {
    /// Takes the next event; true where it shows that a later message names another model.
    fn take(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Start { compressed, .. } => {
                self.begin(compressed != 0);
                false
            }
            Event::Payload(bytes) => {
                if !self.compressed {
                    // A message that cannot be read goes on as it is: the server says what is wrong with it.
                    self.judged |= self.scan.feed(bytes).is_err();
                }
                false
            }
            Event::End => {
                if !self.compressed && !self.judged {
                    self.judged = self.scan.finish().is_err();
                }
                self.is_foreign()
            }
        }
    }

    fn begin(&mut self, compressed: bool) {
        let scanned = self.scan.enough() || self.judged || self.compressed;
        if self.peek == Peek::Stream && scanned {
            if self.first.is_none() {
                let scan = std::mem::replace(&mut self.scan, self.adapter.request_scan(false));
                self.first = Some(scan.into_head());
            }
            self.scan.restart();
            self.judged = false;
        }
        self.compressed = compressed;
    }

    fn is_foreign(&self) -> bool {
        let named = |first: &Head| {
            let model = &self.scan.head().model;
            !self.judged && !model.is_empty() && !first.model.is_empty() && *model != first.model
        };
        self.first.as_ref().is_some_and(named)
    }
}
