//! The data port: sockets that are bound before anything is served, and accepted without ever spinning.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Listen;
use crate::telemetry::counter::{Counter, Counters};
use crate::wire::socket::{Socket, tune};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// Wait after an `accept` that failed for want of something.
const BACKOFF: Duration = Duration::from_millis(100);

/// Why the data port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen: {place}: {source}; {remedy}")]
pub struct BindError {
    place: String,
    source: io::Error,
    remedy: &'static str,
}

/// One worker's listener, bound and not yet served.
#[derive(Debug)]
pub enum Listener {
    /// Its own TCP socket; the kernel spreads connections over the workers.
    Tcp(std::net::TcpListener),
    /// A unix socket has one queue: all workers wait at it.
    Unix(Arc<std::os::unix::net::UnixListener>),
}

/// Opens the data port for `workers` workers.
///
/// A TCP port is first bound alone, so that a port in use is an error here and not half of the calls elsewhere;
/// `shared` leaves that out for a handover between two processes.
///
/// # Errors
/// When the port is in use, not ours, or the path cannot be bound.
pub fn bind(listen: &Listen, workers: usize, shared: bool) -> Result<(Vec<Listener>, Listen), BindError> {
    match listen {
        Listen::Tcp(address) => {
            bind_tcp(*address, workers, shared).map_err(|source| bind_error(listen, source))
        }
        Listen::Unix(path) => {
            let socket = Arc::new(bind_unix(path).map_err(|source| bind_error(listen, source))?);
            Ok(((0..workers).map(|_| Listener::Unix(Arc::clone(&socket))).collect(), listen.clone()))
        }
    }
}

fn bind_error(listen: &Listen, source: io::Error) -> BindError {
    let place = match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: choose another port, or end that process",
        io::ErrorKind::AddrNotAvailable => "the address is none of this machine's: use 0.0.0.0 or one it has",
        io::ErrorKind::PermissionDenied => "ports below 1024 and foreign folders need rights: choose another",
        io::ErrorKind::NotFound => "the folder of the socket does not exist: make it first",
        _ => "choose another address",
    };
    BindError { place, source, remedy }
}

fn bind_tcp(address: SocketAddr, workers: usize, shared: bool) -> io::Result<(Vec<Listener>, Listen)> {
    let mut address = address;
    if !shared {
        // Bound without SO_REUSEPORT this fails where any other socket has the port; listening is not needed.
        let probe = tcp_socket(address)?;
        probe.bind(&address.into())?;
        address = probe.local_addr()?.as_socket().unwrap_or(address);
    }
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        listeners.push(Listener::Tcp(socket.into()));
    }
    Ok((listeners, Listen::Tcp(address)))
}

fn tcp_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a unix socket, in the place of one that nobody answers any more.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let bound = match std::os::unix::net::UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_dead = std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !is_dead {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            std::os::unix::net::UnixListener::bind(path)?
        }
        bound => bound?,
    };
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Accepts a worker's connections.
#[derive(Debug)]
pub struct Acceptor {
    listener: Accepting,
    /// Given up for a moment when descriptors run out, so that a caller can at least be accepted and let go.
    reserve: Option<File>,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// On the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot take the socket.
    pub fn new(listener: Listener) -> io::Result<Self> {
        let listener = match listener {
            Listener::Tcp(socket) => Accepting::Tcp(TcpListener::from_std(socket)?),
            Listener::Unix(socket) => Accepting::Unix(UnixListener::from_std(socket.try_clone()?)?),
        };
        Ok(Acceptor { listener, reserve: File::open("/dev/null").ok() })
    }

    /// The next connection. Failures are counted and waited out; nothing ends it.
    pub async fn accept(&mut self, counters: &Counters) -> Socket {
        loop {
            match self.try_accept().await {
                Ok(socket) => {
                    counters.add(Counter::ConnectionsAccepted);
                    return socket;
                }
                Err(error) => {
                    counters.add(Counter::AcceptErrors);
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.let_go().await;
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    async fn try_accept(&mut self) -> io::Result<Socket> {
        match &self.listener {
            Accepting::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A peer that is gone already shows at the first read.
                let _ = tune(&stream);
                Ok(Socket::Tcp(stream))
            }
            Accepting::Unix(listener) => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    /// With the reserved descriptor, accepts one caller and lets it go: better told at once than left hanging.
    async fn let_go(&mut self) {
        if self.reserve.take().is_some() {
            let _ = tokio::time::timeout(Duration::from_millis(1), self.try_accept()).await;
        }
        self.reserve = File::open("/dev/null").ok();
    }

    /// A connection that the kernel has accepted already.
    pub fn accept_queued(&mut self) -> Option<Socket> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match &self.listener {
            Accepting::Tcp(listener) => match listener.poll_accept(&mut cx) {
                std::task::Poll::Ready(Ok((stream, _))) => {
                    let _ = tune(&stream);
                    Some(Socket::Tcp(stream))
                }
                _ => None,
            },
            Accepting::Unix(listener) => match listener.poll_accept(&mut cx) {
                std::task::Poll::Ready(Ok((stream, _))) => Some(Socket::Unix(stream)),
                _ => None,
            },
        }
    }
}
