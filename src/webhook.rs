//! `parhelion webhook`: the sidecar put into pods as a cluster makes them, for a MutatingWebhookConfiguration.
//!
//! The API server asks about a pod, [`review`] reads what it asks, [`crate::inject`] says what the pod gets, and the answer
//! is a JSON patch. It is bounded in every direction (`serve`), and whatever goes wrong here keeps no pod from being made:
//! it is made without a sidecar, its maker is warned, and that is counted ([`tally`]). It asks the cluster for nothing, so it
//! needs no rights there. Certificates are followed as those of the sidecar's ports are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, listener};
use crate::config::{ServerTls, units};
use crate::inject::{Intercept, Settings};
use crate::telemetry::counter::Counters;
use crate::tls::follow;
use crate::tls::server::{Inside, Server};

pub mod review;
mod serve;
pub mod tally;

pub use serve::{Desk, Health};
pub use tally::{Tally, Verdict};

/// `parhelion webhook`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion webhook                                   as docker/kubernetes/webhook runs it
  parhelion webhook --image registry.example.org/parhelion:0.1.0 --config-map sidecar
  parhelion webhook --listen 127.0.0.1:9443 --health 127.0.0.1:0 --cert tls.crt --key tls.key    to try it

A pod gets a sidecar if its annotation or label parhelion/inject says \"true\", and its calls are redirected in its own
network. A pod that cannot have one is made without; who made it is warned why.

POST /inject takes an AdmissionReview of admission.k8s.io/v1; GET /healthz answers on both ports, GET /readyz and
/metrics on the health port. Certificates are read again when their files change. SIGTERM: not ready, reviews are
answered for --lag, then it ends. Exit codes: 0 as asked, 1 failed on the way, 2 cannot begin.")]
pub struct Options {
    /// Where the API server asks, by TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,
    /// Where probes and Prometheus ask, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9901")]
    health: SocketAddr,
    /// PEM file with the certificate, for the name of the webhook's Service
    #[arg(long, value_name = "FILE", default_value = "/etc/parhelion/tls/tls.crt")]
    cert: PathBuf,
    /// PEM file with its key
    #[arg(long, value_name = "FILE", default_value = "/etc/parhelion/tls/tls.key")]
    key: PathBuf,
    /// PEM file with who signs for the API server; left out: whoever reaches the port may ask
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// How long after SIGTERM the cluster may still send reviews here
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = lag)]
    lag: Duration,
    #[command(flatten)]
    settings: Settings,
}

fn lag(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|refused| format!("{}; {}", refused.message, refused.hint))
}

/// Why it ends other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] admin::BindError),
    /// What the options say makes no pod that works.
    #[error("{0}")]
    Settings(String),
    /// The system refused something while it ran.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// Whether it could not even begin.
    pub fn at_start(&self) -> bool {
        !matches!(self, Failure::Io(_))
    }
}

/// Serves until a signal says otherwise.
///
/// # Errors
/// See [`Failure`].
pub async fn run(options: Options) -> Result<(), Failure> {
    sensible(&options.settings)?;
    let files = ServerTls {
        cert: options.cert,
        key: options.key,
        client_ca: options.client_ca,
        allow: Vec::new(),
        optional: false,
    };
    let server = Arc::new(Server::load(&Arc::new(files), Inside::Web)?);
    let listener = admin::bind("--listen", options.listen)?;
    let health = admin::bind("--health", options.health)?;
    // Before anybody is answered, so that no signal is lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (listen_at, health_at) = (listener.local_addr()?, health.local_addr()?);
    let (counters, tally) = (Arc::<Counters>::default(), Arc::<Tally>::default());
    let settings = Settings { intercept: Intercept::Transparent, ..options.settings };
    tracing::info!(listen = %listen_at, health = %health_at, image = settings.image, "serving");
    let (draining, stop) = (watch::Sender::new(false), watch::Sender::new(false));
    let desk = Desk::new(settings, Arc::clone(&tally), Arc::clone(&counters));
    let page = Health {
        draining: draining.subscribe(),
        tally,
        counters: Arc::clone(&counters),
        server: Arc::clone(&server),
    };
    let stopped = || {
        let mut stop = stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    let shown = Arc::clone(&server);
    let reviews = listener::serve(
        listener,
        desk.router(),
        (Arc::clone(&counters), move || Some(Arc::clone(&shown))),
        stopped(),
    );
    let pages = listener::serve(health, page.router(), (Arc::clone(&counters), || None), stopped());
    let end = async {
        told(&mut terminate, &mut interrupt, &draining, options.lag).await;
        stop.send_replace(true);
    };
    let follow = follow::one(server, counters, stopped());
    let (reviews, pages, (), ()) = tokio::join!(reviews, pages, follow, end);
    tracing::info!("ended");
    Ok(reviews.and(pages)?)
}

/// Waits for a signal, and then as long as the cluster may take to hear that this one ends.
async fn told(terminate: &mut Signal, interrupt: &mut Signal, draining: &watch::Sender<bool>, lag: Duration) {
    tokio::select! {
        _ = terminate.recv() => {}
        // A person at a terminal does not wait.
        _ = interrupt.recv() => return,
    }
    draining.send_replace(true);
    tracing::info!(lag_ms = lag.as_millis(), "ends; reviews are answered meanwhile");
    tokio::select! {
        () = tokio::time::sleep(lag) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What would break every pod is refused here, once.
fn sensible(settings: &Settings) -> Result<(), Failure> {
    if settings.listen_port == settings.health_port {
        let port = settings.listen_port;
        return Err(Failure::Settings(format!(
            "--listen-port and --health-port are both {port}: they are two ports of one sidecar; give it the two that \
             `listen` and `health` of its configuration have"
        )));
    }
    Ok(())
}
