//! The validated configuration: what the rest of the house may rely on.
//!
//! `raw` mirrors the file, `check` turns it into these types and collects every error at once, `watch` does so
//! again when the file changes. Nothing here can hold a bad value, so nobody validates twice.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod check;
mod compare;
pub mod document;
mod drift;
mod effective;
mod environment;
mod feedback;
mod fleet;
mod log;
mod problem;
mod raw;
mod schema;
mod shape;
mod source;
mod strategy;
mod tls;
pub mod units;
pub mod watch;

pub use self::tls::{ClientTls, ServerTls, Tls};
use crate::tls::name::Pattern;
pub use compare::{Compare, Control, Judging, Measure, Numeric, Offenders};
pub use drift::Drift;
pub use effective::{HIDDEN, effective, model as effective_model};
pub use environment::{Environment, LOCAL, LOCAL_ENDPOINT, check_environment};
pub use feedback::{Feedback, FeedbackKind, Join};
pub use fleet::{Fleet, Servers};
pub use log::{CloudEvents, EventMode, Full, Log, Payloads, PayloadsAs};
pub(crate) use problem::suggestion;
pub use problem::{Errors, Problem};
pub use schema::schema;
pub use strategy::{
    Ab, Admission, Arm, Bandit, BanditPolicy, By, Canary, ContextSource, Count, Credit, FeedbackGuard,
    FixedLimits, Guards, Holdout, Interleave, Judge, LatencyGuard, Layer, Margin, Match, Memory, Metric,
    OnFail, OnPass, Pinned, Reporting, ResourcesGuard, Reward, Rolling, Segment, SlowLimit, Source, Stage,
    Staged, Step, Stop, Strategy, Test, Warming, Warmup, Weigh,
};
use units::{Percent, Size};

/// What `limits.min_deadline` is where it is left out.
pub const MIN_DEADLINE: Duration = Duration::from_millis(100);

/// A configuration that was accepted.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Arc<Config>,
    /// What works but is seldom meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks the YAML file at `path`, or all of them in the directory at `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its path, its place in the text and what would be right.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Errors> {
    accept(&source::read(path)?, environment)
}

/// Checks a configuration's text; `name` is what its problems call the file.
///
/// # Errors
/// As [`load`].
pub fn read(name: &str, text: &str, environment: &Environment) -> Result<Loaded, Errors> {
    read_all([(name, text)], environment)
}

/// Checks the texts of a directory, each with the name that its problems call it; they are merged in the order of their
/// names.
///
/// # Errors
/// As [`load`].
pub fn read_all<'a>(
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    environment: &Environment,
) -> Result<Loaded, Errors> {
    let file = |(name, text): (&str, &str)| source::File { name: name.to_owned(), text: text.to_owned() };
    let mut files: Vec<source::File> = texts.into_iter().map(file).collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    accept(&files, environment)
}

/// What `parhelion check` prints: the problems, or that there are none, then the warnings. No final line end.
pub fn report(result: &Result<Loaded, Errors>) -> String {
    match result {
        Ok(loaded) => {
            let variants: usize = loaded.config.models.iter().map(|model| model.variants.len()).sum();
            let models = loaded.config.models.len();
            let mut text = format!("ok: {}, {}", count(models, "model"), count(variants, "variant"));
            text.push_str(&format!(" (revision {})", loaded.config.revision));
            for warning in &loaded.warnings {
                text.push_str(&format!("\nwarning: {warning}"));
            }
            text
        }
        Err(errors) => format!("{errors}\n\n{}", count(errors.0.len(), "problem")),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Checks texts that were read already.
fn accept(files: &[source::File], environment: &Environment) -> Result<Loaded, Errors> {
    let mut source = source::parse(files).map_err(Errors)?;
    let file = shape::shape(&mut source);
    check::check(source, &file, &source::revision(files), environment)
}

/// A whole configuration, as one generation of it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// First 12 hexadecimal digits of the hash of the text it came from.
    pub revision: Arc<str>,
    /// Where callers reach the models.
    pub listen: Listen,
    /// Whether another process may hold `listen` too, for a handover between two sidecars.
    pub reuse_port: bool,
    /// Effective configuration and control.
    pub admin: SocketAddr,
    /// File with the tokens that the admin port asks for, see [`crate::admin::tokens`]; none only on loopback.
    pub tokens: Option<PathBuf>,
    /// Who may use the admin port by its certificate.
    pub rights: Rights,
    /// Certificates of the ports.
    pub tls: Tls,
    /// Liveness, readiness, `grpc.health.v1` and metrics.
    pub health: SocketAddr,
    /// Data-plane threads.
    pub workers: NonZeroUsize,
    /// Directory for what must outlive the process; where state is shared, for what this replica keeps by itself.
    pub state: Option<PathBuf>,
    /// Where replicas share their state; none: they do not.
    pub fleet: Option<Arc<Fleet>>,
    /// File with the keys that sign hops and prediction ids, see [`crate::keys`].
    pub keys: Option<PathBuf>,
    /// The model that gets calls which name none; always one of `models`.
    pub default: Arc<str>,
    /// Full service name (`pkg.Service`) to the model that gets its calls.
    pub services: HashMap<String, Arc<str>>,
    /// By name, in the order of the file.
    pub models: Vec<Arc<Model>>,
    /// Bounds that keep one caller from harming the others.
    pub limits: Limits,
    /// How the process ends.
    pub drain: Drain,
    /// Spans.
    pub telemetry: Telemetry,
    /// The prediction log; none: predictions are not logged.
    pub log: Option<Log>,
}

/// What names of certificates may do on the admin port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// These may see everything that is not secret.
    pub read: Vec<Pattern>,
    /// These may tell rollouts what to do, too.
    pub act: Vec<Pattern>,
}

/// Where the data port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// One name that callers ask for, and what may answer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// As callers spell it.
    pub name: Arc<str>,
    /// At least one; a variant is known elsewhere by its index here.
    pub variants: Vec<Variant>,
    /// Where a call's unit is found: the first one present. Empty: every call is drawn by itself.
    pub unit: Vec<Key>,
    /// How a call is given to a variant.
    pub strategy: Strategy,
    /// Who takes part where it splits units.
    pub admission: Admission,
    /// Who may force a variant by `parhelion-variant`.
    pub force: Force,
    /// Deadline of calls that bring none.
    pub default_deadline: Option<Duration>,
    /// Who gets copies of its calls; each variant at most once, none of them one that is given calls.
    pub shadows: Vec<Shadow>,
    /// How the baseline answers what another variant fails at; none: not at all, or no variant but one is given calls.
    pub fallback: Option<Fallback>,
    /// Of which answers the distribution is watched; none: of no.
    pub drift: Option<Drift>,
    /// What may be learnt later about a prediction; names are unique.
    pub feedback: Vec<Feedback>,
    /// Changes exactly when something changes that the rollout rests on: its strategy, the builds of the variants
    /// that take part, where units are found, or its feedback. The same file gives the same number everywhere.
    pub revision: u32,
}

/// How the baseline answers calls that another variant fails at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// What another variant may take at most; none: by what the baseline takes.
    pub timeout: Option<Duration>,
    /// Most fallbacks, as a share of the baseline's calls over ten seconds; above 0 %.
    pub budget: Percent,
    /// Bytes of another variant's answer that are held until its end is known.
    pub hold: Size,
}

/// A variant that gets copies of live calls and answers nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// Index into [`Model::variants`].
    pub variant: usize,
    /// Share of the calls that are copied.
    pub sample: Percent,
    /// From the start of a copy to its end.
    pub deadline: Duration,
    /// Copies under way at once, per worker; at least 1.
    pub calls: usize,
    /// Bytes that all its copies may hold at once, per worker, requests, both answers and what each costs beside; at
    /// least 16 KiB.
    pub bytes: Size,
    /// What becomes of a copy whose caller gives up.
    pub on_cancel: OnCancel,
    /// Metadata that is taken out of its copies.
    pub strip: Vec<http::HeaderName>,
    /// Share of its copies whose spans are exported; none: those whose call's trace is sampled.
    pub trace_sample: Option<Percent>,
    /// Copied in these stages of the rollout alone, from 0; empty: always.
    pub stages: Vec<u32>,
    /// Whether the strategy gives it calls too, as the candidate of a canary that is judged by its copies as well.
    pub answers: bool,
    /// How its answers are judged; none: they are not even compared.
    pub judging: Option<Judging>,
}

/// What becomes of a copy whose caller gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It ends too.
    End,
    /// It goes on, if its request is whole.
    Keep,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Unique in its model.
    pub name: Arc<str>,
    /// The version its users know, `1.4.0`.
    pub version: Option<Arc<str>>,
    /// Of the artifact, `sha256:…`.
    pub digest: Option<Arc<str>>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// What the server calls the model, where it differs from the model's name.
    pub model_name: Option<Arc<str>>,
    /// The version to ask the server for.
    pub model_version: Option<Arc<str>>,
    /// Where its server says what it uses; none: it does not, or nobody asks.
    pub metrics: Option<MetricsPage>,
    /// What it is, whatever it is called: its digest, else its version and where the file says it is reached. The same
    /// in every pod of a fleet, whichever variant is at home there.
    pub build: Arc<str>,
}

/// A page of metrics in Prometheus text, of one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MetricsPage {
    /// How to connect; always TCP.
    pub address: Address,
    /// From its first `/` on.
    pub path: Arc<str>,
}

/// One place where a variant is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How to connect.
    pub address: Address,
    /// Whether calls to it carry `parhelion-hop`, for it may have a sidecar of its own.
    pub hop: bool,
    /// How it is believed; none: it is reached without TLS.
    pub tls: Option<Arc<ClientTls>>,
}

/// How an endpoint is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://HOST:PORT` or `https://HOST:PORT`; a DNS name is looked up again for each connection.
    Tcp {
        /// A DNS name or an IP address without brackets.
        host: Arc<str>,
        /// 1 to 65535.
        port: u16,
    },
    /// `unix:/PATH`.
    Unix(PathBuf),
}

/// Where a value is read from in a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// `metadata:NAME`, lower case; the first value counts.
    Metadata(http::HeaderName),
    /// `parameter:NAME`, of an inference request.
    Parameter(Arc<str>),
}

/// Who may force a variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Force {
    /// Nobody: the request header is stripped and counted.
    Nobody,
    /// Any caller.
    Anyone,
    /// Callers whose call matches.
    Matching(Match),
}

/// Bounds; over them a call gets RESOURCE_EXHAUSTED, or a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, per worker.
    pub connections: usize,
    /// Concurrent streams on one connection.
    pub streams: u32,
    /// Calls in flight, per worker.
    pub in_flight: usize,
    /// One message, either way, as framed.
    pub message: Size,
    /// Request bytes kept for a retry, per call.
    pub retain: Size,
    /// One header list.
    pub headers: Size,
    /// Flow-control window of a stream, both sides.
    pub stream_window: Size,
    /// Flow-control window of a connection, both sides; at least 1 MiB.
    pub connection_window: Size,
    /// First byte, preface, SETTINGS acknowledgement, and each header block must be there by then.
    pub handshake: Duration,
    /// How long a peer may leave a stream without taking what waits for it, or a message unfinished.
    pub stall: Duration,
    /// After this a connection is told to go away; none: never.
    pub connection_age: Option<Duration>,
    /// How long calls may still run on a connection that was told to go away by its age.
    pub connection_age_grace: Duration,
    /// Memory of the process; from nine tenths of it on calls are refused.
    pub memory: MemoryLimit,
    /// A deadline or cancellation below this says nothing about the upstream.
    pub min_deadline: Duration,
}

/// How much memory the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// As much as its control group allows; without a limit there, any.
    Auto,
    /// Any.
    Off,
    /// So many bytes, resident.
    At(Size),
}

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// After SIGTERM: not ready, but still accepting for as long as endpoints lag.
    pub lag: Duration,
    /// From GOAWAY until open calls are cut.
    pub grace: Duration,
}

/// Where spans go and which are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `http://HOST:PORT` or `https://HOST:PORT` of an OTLP gRPC collector; none: no spans.
    pub otlp: Option<String>,
    /// What an `https` collector is believed by and shown, wherever it is named.
    pub tls: Option<Arc<ClientTls>>,
    /// Share of calls without a sampled parent whose spans are exported.
    pub sample: Percent,
    /// Keep the span of every call that failed by a server's or the sidecar's fault.
    pub keep_errors: bool,
    /// Keep the span of every call slower than this.
    pub keep_slower_than: Option<Duration>,
    /// Keep the span of every call that a shadow answered differently.
    pub keep_disagreements: bool,
    /// Resource attributes beside those of the environment.
    pub resource: BTreeMap<String, String>,
}

impl Config {
    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| &*model.name == name)
    }
}

impl Shadow {
    /// Whether calls are copied to it in a stage of the rollout, from 0.
    pub fn is_copied_in(&self, stage: u32) -> bool {
        self.stages.is_empty() || self.stages.contains(&stage)
    }
}

impl Model {
    /// The variant that gets what is not assigned: calls that name no model, and what other variants cannot take.
    pub fn baseline(&self) -> usize {
        self.strategy.baseline()
    }

    /// Those that the strategy can give calls to; the others are shadows.
    pub fn taking_part(&self) -> impl Iterator<Item = &Variant> {
        let shadow = |index: usize| self.is_shadow(index);
        self.variants.iter().enumerate().filter(move |(index, _)| !shadow(*index)).map(|(_, variant)| variant)
    }

    /// Indices of the variants that take part, in the order of their names: the place of a variant here, its arm, is
    /// the same in all files that give the same [`Model::revision`].
    pub fn arms(&self) -> Vec<usize> {
        let shadow = |index: &usize| self.is_shadow(*index);
        let mut arms: Vec<usize> = (0..self.variants.len()).filter(|index| !shadow(index)).collect();
        arms.sort_by(|one, other| self.variants[*one].name.cmp(&self.variants[*other].name));
        arms
    }

    /// First 4 bytes of BLAKE3 over what the rollout rests on, see [`Model::revision`].
    fn rollout_revision(&self) -> u32 {
        let hash = blake3::hash(effective::rollout(self).as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Whether a variant gets copies and never answers: as a shadow, or as the control of one.
    pub fn is_shadow(&self, variant: usize) -> bool {
        let own = |shadow: &Shadow| shadow.variant == variant && shadow.stages.is_empty() && !shadow.answers;
        let control = |shadow: &Shadow| {
            let control = shadow.judging.as_ref().and_then(|judging| judging.control.as_ref());
            control.is_some_and(|control| control.index == Some(variant)) && variant != self.baseline()
        };
        self.shadows.iter().any(|shadow| own(shadow) || control(shadow))
    }

    /// The index of the variant of that name.
    pub fn variant(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|variant| &*variant.name == name)
    }
}

impl OnCancel {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            OnCancel::End => "end",
            OnCancel::Keep => "keep",
        }
    }
}

impl std::fmt::Display for MetricsPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.address, self.path)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
