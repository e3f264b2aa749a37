//! A socket for `h2` that reads much at once and writes once per poll of its connection.
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
pub(crate) struct Wire {
    cork: Cork,
    arrived: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The written bytes that wait for the socket.
#[derive(Clone)]
pub(crate) struct Cork {
    socket: Arc<TcpStream>,
    waiting: Arc<Mutex<BytesMut>>,
}

impl Wire {
    /// The socket's wire, and the cork to drain after each poll.
    pub(crate) fn new(socket: TcpStream) -> io::Result<(Self, Cork)> {
        socket.set_nodelay(true)?;
        let cork = Cork { socket: Arc::new(socket), waiting: Arc::default() };
        let wire = Self { cork: cork.clone(), arrived: vec![0; READ].into(), start: 0, end: 0 };
        Ok((wire, cork))
    }
}

impl Cork {
    /// Writes what waits; pending while the socket takes no more.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting();
        while !waiting.is_empty() {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(&waiting) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => waiting.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn waiting(&self) -> MutexGuard<'_, BytesMut> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        while wire.start == wire.end {
            ready!(wire.cork.socket.poll_read_ready(cx))?;
            match wire.cork.socket.try_read(&mut wire.arrived) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(read) => (wire.start, wire.end) = (0, read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let taken = into.remaining().min(wire.end - wire.start);
        into.put_slice(&wire.arrived[wire.start..wire.start + taken]);
        wire.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cork.waiting().len() >= WAITING {
            ready!(self.cork.poll_drain(cx))?;
        }
        self.cork.waiting().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cork.poll_drain(cx)
    }
}
