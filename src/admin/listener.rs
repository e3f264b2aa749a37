//! The accept loop of both ports, and of the webhook's, bounded in every direction: connections, the time for a request's headers, and the
//! age of a connection.
//!
//! A peer that connects and says nothing, or half a request, is closed after ten seconds; over HTTP/1 so is one that
//! keeps a connection idle, and over HTTP/2 one that does not answer a PING. Nobody keeps a connection longer than
//! five minutes: a watcher of `grpc.health.v1` or of rollouts is told to go away and comes again. So sockets cannot pile up, and
//! whoever holds them cannot keep a platform's probe out for long.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::guard::Peer;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;
use crate::tls::certificate::Facts;
use crate::tls::name::Names;
use crate::tls::refusal::Refusal;
use crate::tls::server::Server;
use crate::wire::socket::Socket;

/// Open connections of one port.
pub(super) const CONNECTIONS: usize = 256;
/// For the first request, and over HTTP/1 for the headers of each.
const PATIENCE: Duration = Duration::from_secs(10);
const AGE: Duration = Duration::from_secs(300);
/// After a connection was told to go away.
const GRACE: Duration = Duration::from_secs(2);
/// Before accepting again, when the system has no descriptor or memory for it.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// Serves `router` until `shutdown` is ready, and then at most two seconds longer; `certificate` is asked for the one of
/// each connection.
///
/// # Errors
/// When the listener cannot be used with the runtime.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    (counters, certificate): (Arc<Counters>, impl Fn() -> Option<Arc<Server>>),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let port = listener.local_addr()?.port();
    let tasks = Tasks::new(Arc::clone(&counters));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let stop = watch::Sender::new(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(port, %error, "cannot accept a connection");
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::debug!(port, "as many connections as allowed are open; one more was closed");
            continue;
        };
        let (router, stop, server) = (router.clone(), stop.subscribe(), certificate());
        let counters = Arc::clone(&counters);
        tasks.spawn(format!("connection to port {port}"), async move {
            let _slot = slot;
            // Small answers must not wait for an acknowledgement. A socket that refuses this is dead anyway.
            let _ = stream.set_nodelay(true);
            if let Some((socket, names)) = shake(Socket::Tcp(stream), server, &counters).await {
                connection(socket, Peer { address: peer, names }, router, stop).await;
            }
        });
    }
    drop(listener);
    stop.send_replace(true);
    tasks.drain(GRACE).await;
    Ok(())
}

/// Shakes hands where the port speaks TLS; with whom, where they showed a certificate.
async fn shake(
    socket: Socket,
    server: Option<Arc<Server>>,
    counters: &Counters,
) -> Option<(Socket, Option<Arc<Names>>)> {
    let Some(server) = server else { return Some((socket, None)) };
    let refusal = match timeout(PATIENCE, server.accept(socket)).await {
        Ok(Ok(socket)) => {
            let names = match &socket {
                Socket::Tls(secure) => secure.peer_certificate().and_then(|der| Facts::read(der).ok()),
                Socket::Tcp(_) | Socket::Unix(_) => None,
            };
            return Some((socket, names.map(|facts| Arc::new(facts.names))));
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::TimedOut,
    };
    counters.add(refusal.counter());
    tracing::debug!(?refusal, "a handshake failed");
    None
}

async fn connection(socket: Socket, peer: Peer, router: Router, mut stop: watch::Receiver<bool>) {
    let asked = Arc::new(Notify::new());
    let seen = Arc::clone(&asked);
    let service = router.map_request(move |mut request: http::Request<_>| {
        seen.notify_one();
        request.extensions_mut().insert(peer.clone());
        request
    });
    let builder = builder();
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)));
    let too_late = async {
        if timeout(PATIENCE, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // How it ended is the peer's business: there is nobody to tell.
        _ = connection.as_mut() => return,
        () = too_late => return,
        () = sleep(AGE) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(PATIENCE)
        .max_concurrent_streams(64)
        .max_local_error_reset_streams(256)
        .max_header_list_size(16 * 1024);
    builder
}
