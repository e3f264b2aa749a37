//! What is to be written: small bytes gathered by copying, large ones held as they are, in one order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::piece;

/// Slices of one write.
const SLICES: usize = 64;

/// A worker's gathered writes. Its memory for small bytes is used again.
#[derive(Debug)]
pub(super) struct Gathered {
    small: Vec<u8>,
    /// Each with how many of the small bytes go before it.
    large: Vec<(usize, Bytes)>,
    len: usize,
}

impl Gathered {
    /// With room for `capacity` small bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Gathered { small: Vec::with_capacity(capacity), large: Vec::new(), len: 0 }
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.small.clear();
        self.large.clear();
        self.len = 0;
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, slice: &[u8]) {
        self.len += slice.len();
        match piece::borrowed(slice) {
            Some(bytes) => self.large.push((self.small.len(), bytes)),
            None => self.small.extend_from_slice(slice),
        }
    }

    /// Writes to `socket` what it takes; the rest goes to `backlog`, which is empty.
    pub(super) fn send<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        backlog: &mut Backlog,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if self.large.is_empty() {
            let mut rest = &self.small[..];
            while !rest.is_empty() {
                match Pin::new(&mut *socket).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(n) => rest = &rest[n..],
                    Poll::Pending => {
                        backlog.push(Bytes::copy_from_slice(rest));
                        break;
                    }
                }
            }
            self.clear();
            return Ok(());
        }
        self.give(backlog);
        // What is left waits for the socket's wakeup, which this has asked for.
        backlog.drain(socket, cx).map(|_| ())
    }

    /// Puts all behind `backlog`.
    pub(super) fn give(&mut self, backlog: &mut Backlog) {
        let mut small = Bytes::copy_from_slice(&self.small);
        let mut before = 0;
        for (at, large) in self.large.drain(..) {
            backlog.push(small.split_to(at - before));
            backlog.push(large);
            before = at;
        }
        backlog.push(small);
        self.clear();
    }
}

/// What a socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Bytes>,
    /// Bytes of it that were taken so far.
    taken: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that the socket took late so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    fn consume(&mut self, mut n: usize) {
        self.taken += n as u64;
        while let Some(front) = self.waiting.front_mut() {
            if front.len() > n {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.waiting.pop_front();
        }
        // An idle connection holds no memory for it.
        self.waiting = VecDeque::new();
    }

    /// Writes on; pending while the socket takes no more.
    pub(super) fn drain<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.waiting.len().min(SLICES);
            for (slice, bytes) in slices.iter_mut().zip(&self.waiting) {
                *slice = IoSlice::new(bytes);
            }
            match Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => self.consume(n),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        Ok(Poll::Ready(()))
    }
}
