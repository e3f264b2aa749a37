//! The two ports for people and platforms: health, which tells and can do nothing, and admin, which tells more.
//!
//! Both run on the control runtime, so a worker that is busy delays no probe. Health listens on all interfaces by
//! default and says nothing secret; admin listens on loopback, or asks for tokens, and refuses what a web page could
//! send. What the services that are given to it do is none of its business: it says who calls them.
//! What they show is read at the moment of asking, from the same values that the workers use.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::config::Config;
use crate::telemetry::counter::Counters;
use crate::tls::{self, Port};
use crate::upstream::readiness::Board;

mod control;
mod guard;
mod health;
pub(crate) mod listener;
mod report;
mod serving;
mod stamp;
pub mod tokens;

pub use guard::Caller;
use guard::Gate;
pub(crate) use stamp::rfc3339;
use tokens::Tokens;

/// What both ports look at.
#[derive(Debug, Clone)]
pub struct View {
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Kept true by the prober.
    pub board: Arc<Board>,
    /// Whether the process is about to end: then nothing is ready.
    pub draining: watch::Receiver<bool>,
    /// Whether there are no calls any more, and there will be none.
    pub drained: watch::Receiver<bool>,
    /// Shown, and where panics of connections are counted.
    pub counters: Arc<Counters>,
    /// Certificates of both.
    pub tls: Arc<tls::Store>,
}

/// The health port: `/livez`, `/readyz`, `/metrics` and `grpc.health.v1`.
pub struct Health {
    /// What it looks at.
    pub view: View,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn(Format) -> Page + Send + Sync>,
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

/// Rendered metrics.
#[derive(Debug, Clone)]
pub struct Page {
    /// With its version and charset.
    pub content_type: &'static str,
    /// All of it.
    pub body: String,
}

/// The admin port: `/config`, `/status`, and services.
pub struct Control {
    /// What it looks at.
    pub view: View,
    /// The effective configuration, secrets hidden.
    pub effective: Json,
    /// What became of the latest change of the configuration.
    pub reload: Arc<dyn Fn() -> Reload + Send + Sync>,
    /// What the workers say of themselves.
    pub workers: Json,
    /// What else is answered here; each of its requests carries a [`Caller`].
    pub services: axum::Router,
    /// Who may come in; none: everybody on this machine.
    pub tokens: Option<Arc<Tokens>>,
}

/// Tells its value at the moment it is called.
pub type Json = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What became of the latest change of the configuration.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The revision in force.
    pub revision: Arc<str>,
    /// Since when it is.
    pub since: SystemTime,
    /// When a newer one was refused; `None` if the one in force is the newest.
    pub refused: Option<SystemTime>,
    /// Why it was.
    pub errors: Vec<String>,
}

impl Health {
    /// Serves until `shutdown` is ready or the sender of the configuration is gone, and then at most two seconds
    /// longer.
    ///
    /// # Errors
    /// When the listener cannot be used with the runtime.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let around = (Arc::clone(&self.view.counters), Arc::clone(&self.view.tls));
        let (service, keeper) = serving::service(self.view.clone()).await;
        let router = health::router(self, service);
        let keep = async {
            tokio::select! {
                () = keeper => {}
                () = shutdown => {}
            }
        };
        listener::serve(listener, router, (around.0, move || around.1.port(Port::Health)), keep).await
    }
}

impl Control {
    /// Serves until `shutdown` is ready, and then at most two seconds longer.
    ///
    /// # Errors
    /// When the listener cannot be used with the runtime.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let around = (Arc::clone(&self.view.counters), Arc::clone(&self.view.tls));
        let gate = Gate {
            bound: listener.local_addr()?.ip(),
            tokens: self.tokens.clone(),
            config: self.view.config.clone(),
        };
        let router = guard::guarded(control::router(self), gate);
        listener::serve(listener, router, (around.0, move || around.1.port(Port::Admin)), shutdown).await
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {address}: {source}; {remedy}")]
pub struct BindError {
    /// Where the configuration says it.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
    /// What to do.
    pub remedy: &'static str,
}

/// A listener on `address`, which the configuration has under `key`; ready for use with the runtime.
///
/// # Errors
/// When the port is taken, the address is not this machine's, or it is not allowed.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there: end it, or give this key another port (0 takes a free one)"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: use one it has, 127.0.0.1 or 0.0.0.0"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): use a higher one"
            }
            _ => "give this key an address that this machine can listen on",
        };
        BindError { key, address, source, remedy }
    })
}

#[cfg(test)]
mod tests;
