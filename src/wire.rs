//! Bytes between a socket and HTTP/2, the same for callers and upstreams.
//!
//! `h2` reads 8 KB and writes one frame a system call. [`cork`] puts two buffers between: reads take what the socket
//! has, up to 256 KiB, unless `h2` has room for a large frame itself, and everything that one poll of a connection wrote
//! leaves in one write at the end of that poll, large pieces of messages from where they are. Both buffers belong to the worker, not to the connection, so an idle
//! connection costs no buffer at all.
//! [`watch::FrameWatch`] sees the same bytes pass and knows what `h2` does not tell.

use std::cell::{Ref, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

mod merge;
mod outbox;
mod pace;
pub mod piece;
pub mod secure;
pub mod socket;
pub mod watch;
pub mod windows;

use merge::Merger;
use outbox::{Backlog, Gathered};
use pace::Pace;
use watch::FrameWatch;

/// Bytes of one read, and of one gathered write.
const CHUNK: usize = 256 * 1024;

/// The largest frame that we take. Tensors of peers that make use of it cost a quarter of the frames, and are read
/// to where they stay.
pub const FRAME: u32 = 64 * 1024;
/// Where `h2` has as much room it is in the middle of a large frame, which needs no buffer between.
const DIRECT: usize = 32 * 1024;

/// A worker's two buffers, shared by all its connections: each is empty whenever no connection is being polled.
#[derive(Debug)]
pub struct Scratch {
    read: RefCell<ReadAhead>,
    write: RefCell<Gathered>,
}

/// What one read brought; `start..end` of it was not taken by `h2` yet.
#[derive(Debug)]
struct ReadAhead {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Puts small frames together, into `merged`.
    merger: Merger,
    merged: Vec<u8>,
    /// Whether `merged` has the place of `bytes`.
    is_merged: bool,
}

impl ReadAhead {
    fn rest(&self) -> &[u8] {
        let bytes = if self.is_merged { &self.merged[..] } else { &self.bytes[..] };
        &bytes[self.start..self.end]
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Takes what one read brought, of which `watch` sees the frames.
    fn fill(&mut self, filled: usize, watch: &mut FrameWatch) {
        let boundary = watch.boundary();
        watch.feed(&self.bytes[..filled]);
        (self.start, self.end, self.is_merged) = (0, filled, false);
        if let Some(boundary) = boundary.filter(|_| merge::pays(watch.candidates(), filled)) {
            self.merger.merge(&self.bytes[..filled], boundary, &mut self.merged);
            (self.end, self.is_merged) = (self.merged.len(), true);
        }
    }
}

impl Scratch {
    /// Two buffers of 256 KiB, of which only touched pages are resident.
    pub fn new() -> Rc<Self> {
        Rc::new(Scratch {
            read: RefCell::new(ReadAhead {
                bytes: vec![0; CHUNK].into_boxed_slice(),
                start: 0,
                end: 0,
                merger: Merger::default(),
                merged: Vec::new(),
                is_merged: false,
            }),
            write: RefCell::new(Gathered::new(CHUNK)),
        })
    }
}

/// The half that `h2` reads from and writes to.
#[derive(Debug)]
pub struct Corked<S>(Rc<RefCell<Io<S>>>);

/// The half that the connection's driver keeps: it begins and ends each poll.
#[derive(Debug)]
pub struct Cork<S>(Rc<RefCell<Io<S>>>);

#[derive(Debug)]
struct Io<S> {
    socket: S,
    scratch: Rc<Scratch>,
    /// Read from the socket in an earlier poll, not yet taken by `h2`.
    leftover: Leftover,
    /// Written by `h2`, not yet taken by the socket.
    backlog: Backlog,
    watch: FrameWatch,
    /// What `h2` wrote, towards a server: which streams were ever opened.
    sent: Option<FrameWatch>,
    /// Where the peer is one that nobody waits for.
    pace: Option<Pace>,
    /// How many bytes more are held back; 0 where all leave as they come.
    held: usize,
}

/// Bytes with a read position; frees its memory once it is empty.
#[derive(Debug, Default)]
struct Leftover {
    bytes: Vec<u8>,
    start: usize,
}

impl Leftover {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            *self = Leftover::default();
        }
    }
}

/// Joins `socket` to a worker's buffers; `watch` sees everything the peer sends.
pub fn cork<S>(socket: S, scratch: &Rc<Scratch>, watch: FrameWatch) -> (Corked<S>, Cork<S>) {
    let io = Rc::new(RefCell::new(Io {
        socket,
        scratch: Rc::clone(scratch),
        leftover: Leftover::default(),
        backlog: Backlog::default(),
        sent: (!watch.awaits_preface()).then(FrameWatch::of_client),
        watch,
        pace: None,
        held: 0,
    }));
    (Corked(Rc::clone(&io)), Cork(io))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Cork<S> {
    /// Bounds how much is read in one poll and in any time, so that a peer that floods keeps nobody else waiting.
    pub fn keep_pace(&self) {
        self.0.borrow_mut().pace = Some(Pace::new());
    }

    /// Holds back what is written, so that it leaves together with what comes behind it: until [`Cork::let_go`], the end
    /// of the connection, or some 256 KiB, whichever is first.
    pub fn hold(&self) {
        self.0.borrow_mut().held = CHUNK;
    }

    /// Has what was held back leave at the end of the next poll.
    pub fn let_go(&self) {
        self.0.borrow_mut().held = 0;
    }

    /// Polls a connection with its writes gathered, and sends them when it is done.
    ///
    /// # Errors
    /// Only those of the socket's write; what `poll` returns is passed through.
    pub fn drive<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> io::Result<Poll<T>> {
        {
            // A connection that panicked in the middle of its poll must not leave its bytes to the next one.
            let mut io = self.0.borrow_mut();
            io.scratch.write.borrow_mut().clear();
            io.scratch.read.borrow_mut().clear();
            if let Some(pace) = &mut io.pace {
                pace.begin();
            }
        }
        let result = poll(cx);
        let mut io = self.0.borrow_mut();
        io.keep();
        io.send(cx)?;
        Ok(result)
    }

    /// Where something waits for the peer to read: how many bytes that waited it has read so far.
    pub fn unread(&self) -> Option<u64> {
        let io = self.0.borrow();
        (!io.backlog.is_empty()).then(|| io.backlog.taken())
    }

    /// What the peer sent so far, as frames.
    pub fn watch(&self) -> Ref<'_, FrameWatch> {
        Ref::map(self.0.borrow(), |io| &io.watch)
    }

    /// The newest stream whose headers were ever written, towards a server. Whatever is above it was never sent.
    pub fn newest_sent(&self) -> u32 {
        self.0.borrow().sent.as_ref().map_or(u32::MAX, FrameWatch::newest_stream)
    }

    /// Reads what the peer sent before the connection broke, for [`Cork::watch`] alone; ready when there is no more. A
    /// GOAWAY may wait there that a failing write came before.
    pub fn poll_last_words(&self, cx: &mut Context<'_>) -> Poll<()> {
        let io = &mut *self.0.borrow_mut();
        let mut chunk = io.scratch.read.borrow_mut();
        let mut read = ReadBuf::new(&mut chunk.bytes);
        match ready!(Pin::new(&mut io.socket).poll_read(cx, &mut read)) {
            Ok(()) if !read.filled().is_empty() => io.watch.feed(read.filled()),
            Ok(()) | Err(_) => return Poll::Ready(()),
        }
        // One read a turn: others have calls under way.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends `bytes` instead of whatever is still gathered, without waiting: a last word before the socket closes.
    pub fn last_word(&self, bytes: &[u8]) {
        let mut io = self.0.borrow_mut();
        io.backlog = Backlog::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // The peer may be gone already; there is nobody left to tell.
        let _ = Pin::new(&mut io.socket).poll_write(&mut cx, bytes);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io<S> {
    /// Takes what `h2` left of the last read out of the worker's buffer, which the next connection needs.
    fn keep(&mut self) {
        let mut chunk = self.scratch.read.borrow_mut();
        if !chunk.rest().is_empty() {
            self.leftover = Leftover { bytes: chunk.rest().to_vec(), start: 0 };
            chunk.clear();
        }
    }

    /// Writes the backlog, then the gathered bytes; what the socket does not take becomes the backlog.
    ///
    /// A peer that may yet turn out to speak something else gets none of our frames: they wait for its preface.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut gathered = self.scratch.write.borrow_mut();
        self.held = self.held.saturating_sub(gathered.len());
        if self.held > 0 || self.watch.awaits_preface() {
            gathered.give(&mut self.backlog);
            return Ok(());
        }
        if self.backlog.drain(&mut self.socket, cx)?.is_pending() {
            return Ok(());
        }
        gathered.send(&mut self.socket, &mut self.backlog, cx)?;
        // With TLS the socket itself may hold bytes back, and be woken for them.
        let _ = Pin::new(&mut self.socket).poll_flush(cx)?;
        Ok(())
    }

    fn gather(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if !self.backlog.is_empty() && self.held == 0 {
            // What was gathered behind it goes first: order is order.
            self.send(cx)?;
            if !self.backlog.is_empty() {
                return Poll::Pending;
            }
        }
        let mut taken = 0;
        {
            let mut gathered = self.scratch.write.borrow_mut();
            for slice in slices {
                if let Some(sent) = &mut self.sent {
                    sent.feed(slice);
                }
                gathered.push(slice);
                taken += slice.len();
            }
            if gathered.len() < CHUNK {
                return Poll::Ready(Ok(taken));
            }
        }
        self.send(cx)?;
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = &mut *self.0.borrow_mut();
        if !io.leftover.is_empty() {
            let n = io.leftover.rest().len().min(buf.remaining());
            buf.put_slice(&io.leftover.rest()[..n]);
            io.leftover.consume(n);
            return Poll::Ready(Ok(()));
        }
        let mut chunk = io.scratch.read.borrow_mut();
        if chunk.rest().is_empty() {
            let room = match &mut io.pace {
                Some(pace) => ready!(pace.poll(cx)),
                None => CHUNK,
            };
            let filled = if buf.remaining() >= DIRECT {
                let before = buf.filled().len();
                ready!(Pin::new(&mut io.socket).poll_read(cx, buf))?;
                io.watch.feed(&buf.filled()[before..]);
                buf.filled().len() - before
            } else {
                let mut read = ReadBuf::new(&mut chunk.bytes[..room]);
                ready!(Pin::new(&mut io.socket).poll_read(cx, &mut read))?;
                let filled = read.filled().len();
                chunk.fill(filled, &mut io.watch);
                filled
            };
            if let Some(pace) = &mut io.pace {
                pace.took(filled);
            }
        }
        if chunk.rest().is_empty() {
            // Read to where it stays, or the end.
            return Poll::Ready(Ok(()));
        }
        let n = chunk.rest().len().min(buf.remaining());
        buf.put_slice(&chunk.rest()[..n]);
        chunk.start += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().gather(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says yes at once: the driver sends at the end of its poll.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.borrow_mut();
        io.held = 0;
        io.send(cx)?;
        if !io.backlog.is_empty() {
            return Poll::Pending;
        }
        Pin::new(&mut io.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
