//! The accept loop of both ports, bounded in every direction: connections, the time for a request's headers, and the
//! age of a connection.
//!
//! A peer that connects and says nothing, or half a request, is closed after ten seconds; over HTTP/1 so is one that
//! keeps a connection idle, and over HTTP/2 one that does not answer a PING. Nobody keeps a connection longer than
//! five minutes: a watcher of `grpc.health.v1` or of rollouts is told to go away and comes again. So sockets cannot pile up, and
//! whoever holds them cannot keep a platform's probe out for long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::guard::Peer;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;

/// Open connections of one port.
pub(super) const CONNECTIONS: usize = 256;
/// For the first request, and over HTTP/1 for the headers of each.
const PATIENCE: Duration = Duration::from_secs(10);
const AGE: Duration = Duration::from_secs(300);
/// After a connection was told to go away.
const GRACE: Duration = Duration::from_secs(2);
/// Before accepting again, when the system has no descriptor or memory for it.
const EXHAUSTED: Duration = Duration::from_millis(200);

pub(super) async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    counters: Arc<Counters>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let port = listener.local_addr()?.port();
    let tasks = Tasks::new(counters);
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
        let (router, stop) = (router.clone(), stop.subscribe());
        tasks.spawn(format!("connection to port {port}"), async move {
            let _slot = slot;
            connection(stream, peer, router, stop).await;
        });
    }
    drop(listener);
    stop.send_replace(true);
    tasks.drain(GRACE).await;
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, mut stop: watch::Receiver<bool>) {
    // Small answers must not wait for an acknowledgement. A socket that refuses this is dead anyway.
    let _ = stream.set_nodelay(true);
    let asked = Arc::new(Notify::new());
    let seen = Arc::clone(&asked);
    let service = router.map_request(move |mut request: http::Request<_>| {
        seen.notify_one();
        request.extensions_mut().insert(Peer(peer));
        request
    });
    let builder = builder();
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
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
