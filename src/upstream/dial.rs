//! Opens a socket to an endpoint: each DNS name is looked up anew, and its addresses are tried in turn.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;

/// How long one address may take to accept.
const CONNECT: Duration = Duration::from_secs(1);
/// Unacknowledged data for this long means that the peer is gone, without a single PING.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A connected socket of either kind.
#[derive(Debug)]
pub enum Socket {
    /// TCP without delay.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// Connects to `address`; `turn` chooses where in the list of a name's addresses to begin.
///
/// # Errors
/// The last address's error, or that of the look-up; `TimedOut` where nobody answered.
pub async fn dial(address: &Address, turn: usize) -> io::Result<(Socket, Option<SocketAddr>)> {
    match address {
        Address::Unix(path) => {
            let stream = timed(UnixStream::connect(path)).await?;
            Ok((Socket::Unix(stream), None))
        }
        Address::Tcp { host, port } => {
            let found = resolve(host, *port).await?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for offset in 0..found.len() {
                let peer = found[(turn + offset) % found.len()];
                match timed(TcpStream::connect(peer)).await {
                    Ok(stream) => {
                        tune(&stream)?;
                        return Ok((Socket::Tcp(stream), Some(peer)));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// The addresses of `host`.
///
/// # Errors
/// When the name cannot be looked up.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(timed(tokio::net::lookup_host((host, port))).await?.collect())
}

async fn timed<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}"))),
    }
}

/// No delay, and no waiting for ever on a peer that vanished.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
