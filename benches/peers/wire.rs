//! A socket of any kind for `h2` that reads much at once and writes once per poll of its connection.
//!
//! `h2` asks for a few kilobytes at a time and flushes after each large frame; on a tensor that is a hundred system
//! calls. Here a write only fills a buffer, a flush does nothing, and whoever polls the connection calls
//! [`Cork::poll_drain`] afterwards.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes asked of the socket at once.
const READ: usize = 256 * 1024;
/// Bytes that may wait for the socket; over them `h2` is told to wait.
const WAITING: usize = 1024 * 1024;

/// What `h2` reads from and writes to.
pub(crate) struct Wire<S = TcpStream> {
    cork: Cork<S>,
    arrived: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The socket, and the written bytes that wait for it.
pub(crate) struct Cork<S = TcpStream>(Arc<Mutex<Shared<S>>>);

struct Shared<S> {
    socket: S,
    waiting: BytesMut,
}

impl<S> Wire<S> {
    /// The socket's wire, and the cork to drain after each poll.
    pub(crate) fn new(socket: S) -> (Self, Cork<S>) {
        let shared = Arc::new(Mutex::new(Shared { socket, waiting: BytesMut::new() }));
        let cork = Cork(Arc::clone(&shared));
        (Self { cork: Cork(shared), arrived: vec![0; READ].into(), start: 0, end: 0 }, cork)
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Writes what waits; pending while the socket takes no more.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared().poll_drain(cx)
    }
}

impl<S> Cork<S> {
    fn shared(&self) -> MutexGuard<'_, Shared<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.start == wire.end {
            let mut arrived = ReadBuf::new(&mut wire.arrived);
            ready!(Pin::new(&mut wire.cork.shared().socket).poll_read(cx, &mut arrived))?;
            (wire.start, wire.end) = (0, arrived.filled().len());
        }
        let taken = into.remaining().min(wire.end - wire.start);
        into.put_slice(&wire.arrived[wire.start..wire.start + taken]);
        wire.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.cork.shared();
        if shared.waiting.len() >= WAITING {
            ready!(shared.poll_drain(cx))?;
        }
        shared.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cork.poll_drain(cx)
    }
}
