//! Opens a socket to an endpoint: each DNS name is looked up anew, and its addresses are tried in turn.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Channel;
use tower::Service;

use crate::config::{Address, Endpoint};
use crate::tls::{self, client::Client};
use crate::wire::socket::{Socket, tune};

/// How long one address may take to accept.
const CONNECT: Duration = Duration::from_secs(1);
/// How long the other side may take to shake hands by TLS.
const HANDSHAKE: Duration = Duration::from_secs(2);

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

/// Connects to `endpoint`, and shakes hands where it speaks TLS.
///
/// # Errors
/// As [`dial`], and what is wrong with its certificate or ours.
pub async fn reach(
    endpoint: &Endpoint,
    store: &tls::Store,
    turn: usize,
) -> io::Result<(Socket, Option<SocketAddr>)> {
    let (socket, peer) = dial(&endpoint.address, turn).await?;
    let Some(settings) = &endpoint.tls else { return Ok((socket, peer)) };
    let client = store.client(settings).map_err(io::Error::other)?;
    Ok((secure(socket, &endpoint.address, &client).await?, peer))
}

/// Shakes hands over `socket` with who is at `address`.
///
/// # Errors
/// What is wrong with its certificate or ours; `TimedOut` where it says nothing.
pub async fn secure(socket: Socket, address: &Address, client: &Client) -> io::Result<Socket> {
    in_time(client.connect(name(address), socket)).await
}

/// Connects to a server of HTTP/1.1 at `address`, by TLS where there is a `client`, with what that holds then.
///
/// # Errors
/// As [`reach`].
pub async fn reach_http1(address: &Address, client: Option<&Client>) -> io::Result<Socket> {
    // Nobody else looks at its files.
    let client = client.inspect(|client| drop(client.look()));
    let (socket, _) = dial(address, 0).await?;
    match client {
        None => Ok(socket),
        Some(client) => in_time(client.connect_http1(name(address), socket)).await,
    }
}

fn name(address: &Address) -> &str {
    match address {
        Address::Tcp { host, .. } => host,
        Address::Unix(_) => "localhost",
    }
}

async fn in_time(handshake: impl Future<Output = io::Result<Socket>>) -> io::Result<Socket> {
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(shaken) => shaken,
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no TLS handshake within {HANDSHAKE:?}")))
        }
    }
}

/// A channel to `endpoint`, for libraries that bring their own HTTP/2.
///
/// # Errors
/// As [`reach`].
pub async fn channel(
    builder: tonic::transport::Endpoint,
    endpoint: &Endpoint,
    store: &Arc<tls::Store>,
) -> Result<Channel, tonic::transport::Error> {
    let (endpoint, store) = (endpoint.clone(), Arc::clone(store));
    let connector = tower::service_fn(move |_: Uri| {
        let (endpoint, store) = (endpoint.clone(), Arc::clone(&store));
        async move { reach(&endpoint, &store, 0).await.map(|(socket, _)| TokioIo::new(socket)) }
    });
    builder.connect_with_connector(connector).await
}

/// Connects to `address` with what `client` holds then, whenever it is asked to; for a channel that lasts.
pub fn connector(
    address: Address,
    client: Arc<Client>,
) -> impl Service<Uri, Response = TokioIo<Socket>, Error = io::Error, Future: Send> + Send + 'static {
    tower::service_fn(move |_: Uri| {
        let (address, client) = (address.clone(), Arc::clone(&client));
        async move {
            // Nobody else looks at its files.
            client.look();
            let (socket, _) = dial(&address, 0).await?;
            secure(socket, &address, &client).await.map(TokioIo::new)
        }
    })
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
