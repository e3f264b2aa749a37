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
pub mod document;
mod effective;
mod environment;
mod problem;
mod raw;
mod schema;
mod shape;
mod source;
pub mod units;
pub mod watch;

pub use effective::{HIDDEN, effective, model as effective_model};
pub use environment::{Environment, LOCAL, LOCAL_ENDPOINT, check_environment};
pub(crate) use problem::suggestion;
pub use problem::{Errors, Problem};
pub use schema::schema;
use units::{Percent, Size};

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
    accept(&[source::File { name: name.to_owned(), text: text.to_owned() }], environment)
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
    /// Liveness, readiness, `grpc.health.v1` and metrics.
    pub health: SocketAddr,
    /// Data-plane threads.
    pub workers: NonZeroUsize,
    /// Directory for what must outlive the process.
    pub state: Option<PathBuf>,
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
    /// Who may force a variant by `parhelion-variant`.
    pub force: Force,
    /// Deadline of calls that bring none.
    pub default_deadline: Option<Duration>,
    /// Who gets copies of its calls; each variant at most once, none of them one that is given calls.
    pub shadows: Vec<Shadow>,
    /// How the baseline answers what another variant fails at; none: not at all, or no variant but one is given calls.
    pub fallback: Option<Fallback>,
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

/// Something that is learnt about predictions after they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// As reported.
    pub name: Arc<str>,
    /// What its values are.
    pub kind: FeedbackKind,
    /// How long after the prediction it still counts.
    pub window: Duration,
    /// The value of a prediction whose window closed without any; none: such a prediction says nothing.
    pub default: Option<f64>,
    /// What several values for one prediction make.
    pub join: Join,
    /// Reports that are taken per second and worker; more are refused.
    pub max_rate: u32,
}

/// What the values of a feedback are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeedbackKind {
    /// 0 or 1.
    Binary,
    /// A number from `min` to `max`.
    Bounded {
        /// The least.
        min: f64,
        /// The most; more than `min`.
        max: f64,
    },
    /// Any finite number.
    Real,
    /// A word: what the answer should have been.
    Label,
    /// Clicks on parts of the answer: positive for, negative against.
    Clicks,
}

/// What several values for one prediction make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The first that comes.
    First,
    /// The last that comes.
    Last,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
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
    /// Bytes that all its copies may hold at once, requests and both answers, per worker; at least 4 KiB.
    pub bytes: Size,
    /// What becomes of a copy whose caller gives up.
    pub on_cancel: OnCancel,
    /// Metadata that is taken out of its copies.
    pub strip: Vec<http::HeaderName>,
    /// Share of its copies whose spans are exported; none: those whose call's trace is sampled.
    pub trace_sample: Option<Percent>,
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
}

/// How an endpoint is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://HOST:PORT`; a DNS name is looked up again for each connection.
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

/// How a call is given to a variant. Indices point into [`Model::variants`].
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// Always the same one.
    Pinned {
        /// The variant that answers.
        variant: usize,
    },
    /// By weight, sticky by unit.
    Ab {
        /// Gets what names no unit of an arm: other services, and the share of arms that are not ready.
        baseline: usize,
        /// Never used by another rollout.
        salt: Arc<str>,
        /// (variant, share); shares sum to 100 %.
        weights: Vec<(usize, Percent)>,
        /// The first that matches a call decides; none: `weights`.
        segments: Vec<Segment>,
    },
    /// A growing share for one candidate that is judged all the time.
    Canary(Arc<Canary>),
}

/// A candidate that gets a growing share while it proves itself against the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// Who is known to be good.
    pub baseline: usize,
    /// Who must prove itself; not the baseline.
    pub candidate: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// At least one; shares grow from step to step and stay below 100 %.
    pub steps: Vec<Step>,
    /// What it is judged on.
    pub guards: Guards,
    /// The candidate's latency counts after both of these.
    pub warmup: Warmup,
    /// Chance that a candidate as good as its margins allow is ever rolled back, over all guards; above 0, at most
    /// 0.2.
    pub alpha: f64,
    /// A step that found no verdict for so long holds and alerts.
    pub max_step_time: Duration,
    /// What becomes of a candidate that passed the last step.
    pub on_pass: OnPass,
    /// What becomes of one that fails.
    pub on_fail: OnFail,
}

/// One step of a canary.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The candidate's.
    pub share: Percent,
    /// Lasts at least this long.
    pub hold: Duration,
    /// And at least so many calls of the candidate.
    pub calls: u64,
}

/// What a canary is judged on.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Share of calls that fail by the variant's own fault.
    pub errors: Option<Margin>,
    /// Share of calls that the variant refuses for what they ask.
    pub rejections: Option<Margin>,
    /// Quantiles of latency.
    pub latency: Vec<LatencyGuard>,
    /// Means of feedback.
    pub feedback: Vec<FeedbackGuard>,
    /// What its server uses; none: nobody asks.
    pub resources: Option<ResourcesGuard>,
}

/// How much worse a candidate may be: by the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// In the guard's own unit: a share for errors, the feedback's unit for feedback; at least 0.
    pub absolute: f64,
    /// As part of the baseline's value, 0.25 for 25 %; at least 0.
    pub relative: f64,
}

/// A quantile of latency that may grow so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyGuard {
    /// Above 0, below 1.
    pub quantile: f64,
    /// As part of the baseline's, 0.15 for 15 %.
    pub relative: f64,
}

/// A feedback whose mean may become so much worse.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackGuard {
    /// Index into [`Model::feedback`]; neither a label nor clicks.
    pub feedback: usize,
    /// Its name there.
    pub name: Arc<str>,
    /// How much.
    pub margin: Margin,
    /// Whether less is better.
    pub lower_is_better: bool,
}

/// What a candidate's server may use beside the baseline's; at least one of both parts is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourcesGuard {
    /// How much more its resident memory may grow than the baseline's, as part of what is resident; above 0.
    pub memory: Option<f64>,
    /// How much more processor time a call may take than the baseline's, as part of it; above 0.
    pub cpu: Option<f64>,
    /// What is compared at once; at least a second.
    pub window: Duration,
    /// What becomes of a candidate that fails this guard.
    pub on_fail: OnFail,
}

/// When a candidate's latency begins to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warmup {
    /// After its first call.
    pub time: Duration,
    /// And after so many calls of it.
    pub calls: u64,
}

/// What becomes of a candidate that passed the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPass {
    /// It gets everything.
    Promote,
    /// It stays at the last step until a person decides.
    Wait,
}

/// What becomes of a candidate that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFail {
    /// It gets nothing any more.
    Rollback,
    /// It stays where it is, and an alert says so.
    Hold,
}

/// Calls that are split differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Said in spans and `explain`.
    pub name: Arc<str>,
    /// Which calls.
    pub matches: Match,
    /// (variant, share); one entry of 100 % where the segment names a variant.
    pub weights: Vec<(usize, Percent)>,
}

/// All pairs must be equal; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Match(pub Vec<(Key, String)>);

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
    /// A deadline or cancellation below this says nothing about the upstream.
    pub min_deadline: Duration,
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
    /// `http://HOST:PORT` of an OTLP gRPC collector; none: no spans.
    pub otlp: Option<String>,
    /// Share of calls without a sampled parent whose spans are exported.
    pub sample: Percent,
    /// Keep the span of every call that failed by a server's or the sidecar's fault.
    pub keep_errors: bool,
    /// Keep the span of every call slower than this.
    pub keep_slower_than: Option<Duration>,
    /// Resource attributes beside those of the environment.
    pub resource: BTreeMap<String, String>,
}

impl Config {
    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| &*model.name == name)
    }
}

impl Model {
    /// The variant that gets what is not assigned: calls that name no model, and what other variants cannot take.
    pub fn baseline(&self) -> usize {
        match self.strategy {
            Strategy::Pinned { variant } => variant,
            Strategy::Ab { baseline, .. } => baseline,
            Strategy::Canary(ref canary) => canary.baseline,
        }
    }

    /// Those that the strategy can give calls to; the others are shadows.
    pub fn taking_part(&self) -> impl Iterator<Item = &Variant> {
        let shadow = |index: usize| self.shadows.iter().any(|shadow| shadow.variant == index);
        self.variants.iter().enumerate().filter(move |(index, _)| !shadow(*index)).map(|(_, variant)| variant)
    }

    /// Indices of the variants that take part, in the order of their names: the place of a variant here, its arm, is
    /// the same in all files that give the same [`Model::revision`].
    pub fn arms(&self) -> Vec<usize> {
        let shadow = |index: &usize| self.shadows.iter().any(|shadow| shadow.variant == *index);
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

    /// The index of the variant of that name.
    pub fn variant(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|variant| &*variant.name == name)
    }
}

impl FeedbackKind {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            FeedbackKind::Binary => "binary",
            FeedbackKind::Bounded { .. } => "bounded",
            FeedbackKind::Real => "real",
            FeedbackKind::Label => "label",
            FeedbackKind::Clicks => "clicks",
        }
    }
}

impl Join {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Join::First => "first",
            Join::Last => "last",
            Join::Sum => "sum",
            Join::Max => "max",
        }
    }
}

impl OnPass {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            OnPass::Promote => "promote",
            OnPass::Wait => "wait",
        }
    }
}

impl OnFail {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            OnFail::Rollback => "rollback",
            OnFail::Hold => "hold",
        }
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

impl Strategy {
    /// Its segments, where it has any.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Strategy::Pinned { .. } | Strategy::Canary(_) => &[],
            Strategy::Ab { segments, .. } => segments,
        }
    }

    /// Whether a variant beside the baseline may be given calls.
    pub fn has_alternatives(&self) -> bool {
        !matches!(self, Strategy::Pinned { .. })
    }

    /// As written in the file, and in spans and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Strategy::Pinned { .. } => "pinned",
            Strategy::Ab { .. } => "ab",
            Strategy::Canary(_) => "canary",
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
