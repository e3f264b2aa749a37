//! A socket with TLS on it, made for large reads and gathered writes.
//!
//! `rustls` takes what it is given four kilobytes at a time and gives plaintext back record by record. So the socket
//! is read once for all that it has, into a buffer of the thread, and what the reader has no room for stays with the
//! connection. What is written is encrypted at once and leaves in one gathered write; the next write waits until all
//! of it has left, so a connection holds no more than one write of ciphertext. A flush asks for the rest to leave.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::CHUNK;
use super::socket::Socket;

/// Bytes of the smallest read.
const LEAST: usize = 4 * 1024;

thread_local! {
    /// What was read and not yet decrypted; empty between two reads.
    static CIPHER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// A socket whose handshake is done.
#[derive(Debug)]
pub struct Secure {
    socket: Socket,
    session: Connection,
    /// Read from the socket, not yet given to `session`.
    leftover: Vec<u8>,
    /// The peer sends no more.
    ended: bool,
    /// We said that we send no more.
    closed: bool,
}

impl Secure {
    /// Over `socket`, with what the handshake left behind.
    pub fn new(socket: Socket, mut session: Connection) -> Self {
        // What is taken is bounded by those who write: they wait until it has left.
        session.set_buffer_limit(None);
        Secure { socket, session, leftover: Vec::new(), ended: false, closed: false }
    }

    /// The certificate that the peer showed, verified.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificates()?.first()
    }

    /// Gives plaintext that is there to `buf`, as much as it has room for.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        while buf.remaining() > 0 {
            match self.session.reader().read(buf.initialize_unfilled()) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => buf.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    // Without a farewell. HTTP/2 knows by itself whether anything is missing.
                    self.ended = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decrypts `bytes` into `buf`; what it has no room for is kept.
    fn decrypt(&mut self, mut bytes: &[u8], buf: &mut ReadBuf<'_>) -> io::Result<()> {
        while !bytes.is_empty() {
            if buf.remaining() == 0 {
                self.leftover = bytes.to_vec();
                return Ok(());
            }
            if self.session.read_tls(&mut bytes)? == 0 {
                // It has said farewell: what is behind that means nothing.
                break;
            }
            if let Err(error) = self.session.process_new_packets() {
                self.alert();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            self.take(buf)?;
        }
        Ok(())
    }

    /// Reads what the socket has and decrypts it.
    fn fetch(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        CIPHER.with_borrow_mut(|cipher| {
            let most = buf.remaining().clamp(LEAST, cipher.len());
            let mut read = ReadBuf::new(&mut cipher[..most]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let filled = read.filled();
            if filled.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(self.decrypt(filled, buf))
        })
    }

    /// Tells the peer what is wrong, without waiting.
    fn alert(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // The connection ends, whether the peer hears why or not.
        let _ = self.push(&mut cx);
    }

    /// Writes ciphertext; pending while the socket takes no more.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut out = Out { socket: &mut self.socket, cx };
            match self.session.write_tls(&mut out) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.push(cx))?;
        let taken = self.session.writer().write_vectored(bufs)?;
        match self.push(cx) {
            // The rest leaves with the next write or flush, which this has asked to be woken for.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            this.take(buf)?;
            if !this.leftover.is_empty() && buf.remaining() > 0 {
                let leftover = std::mem::take(&mut this.leftover);
                this.decrypt(&leftover, buf)?;
                continue;
            }
            if buf.filled().len() > before || buf.remaining() == 0 || this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.fetch(cx, buf))?;
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.push(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            this.session.send_close_notify();
        }
        ready!(this.push(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The socket as `rustls` writes to it.
struct Out<'a, 'b> {
    socket: &'a mut Socket,
    cx: &'a mut Context<'b>,
}

impl io::Write for Out<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.socket).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocking(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
