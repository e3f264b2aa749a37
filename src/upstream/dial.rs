//! Opens a socket to an endpoint: each DNS name is looked up anew, and its addresses are tried in turn.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;
use crate::wire::socket::{Socket, tune};

/// How long one address may take to accept.
const CONNECT: Duration = Duration::from_secs(1);

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
