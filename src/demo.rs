//! `parhelion demo`: real models, real sidecars and real callers in one process, on loopback, with nothing to install.
//!
//! Model servers hold versions of a classifier that scikit-learn trained, the sidecar stands before them, and callers
//! send images that no version has seen. `split` gives them to two versions, with a third as their shadow; [`play`]
//! shows how a candidate goes live, or not, in one scenario or another, `ranking` two rankers that answer together, and
//! `fleet` three sidecars that are one rollout, for which it needs a redis-server, and nothing else.
//! Nothing is simulated: every number said was counted or measured on calls that crossed sockets. The sidecar is handed
//! in as a [`Sidecar`], for this room knows nothing of the wiring.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

pub mod caller;
pub mod collector;
mod fleet;
mod judging;
pub mod model;
pub mod play;
mod ranking;
pub mod reporter;
pub mod rows;
pub mod scenario;
pub mod screen;
pub mod server;
pub mod shadow;
mod split;
pub mod story;
pub mod tally;
pub mod tensor;

use model::Model;
use scenario::Scenario;
use screen::Screen;
use shadow::Copies;
use tally::SpanCounts;

use crate::rollout::{AuditRecord, Status};
use crate::tasks::Tasks;

/// How long the sidecar may take to find its variants ready.
const READY: Duration = Duration::from_secs(10);

/// What the demo is called where it plays a person.
pub const PERSON: &str = "demo";

/// Try it: real model versions, the sidecar before them, and callers, all in this process
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  parhelion demo                        watch a split between two versions until Ctrl-C
  parhelion demo --scenario canary-good
                                        a candidate proves itself, and is promoted
  parhelion demo --scenario canary-broken
                                        a candidate starts to fail: nobody notices, and it is gone
  parhelion demo --scenario canary-slow --json
                                        a candidate becomes slow; one JSON object at the end
  parhelion demo --scenario switch      everything to a new version at once, and back when it fails
  parhelion demo --scenario staged      copies, then a growing share, then everything
  parhelion demo --scenario ab          two versions at even shares: the better one gets everything
  parhelion demo --scenario rolling     four servers are replaced one by one, while the others answer
  parhelion demo --scenario shadow      three shadows, judged by their answers
  parhelion demo --scenario interleave  two rankers answer together, and clicks choose
  parhelion demo --scenario fleet       three replicas, one rollout, and a store that is killed
  parhelion demo --calls 5000 --json    5000 calls, then one JSON object
  parhelion demo --users 20             20 users, each of whom keeps a variant
  parhelion demo --models-only          the models, and a configuration for a sidecar of your own
  parhelion demo --models-only --model 3.0.0-rc1 --port 8003
                                        one model in a process of its own, to stop or kill
  parhelion demo --shadow 127.0.0.1:8003
                                        that model as the shadow")]
pub struct Options {
    /// Show a rollout that is judged by its own calls, not a split: it ends by itself, most in half a minute
    #[arg(long, value_name = "NAME", conflicts_with_all = ["calls", "users", "models_only", "shadow"])]
    pub scenario: Option<Scenario>,
    /// With --scenario: go on after its end until Ctrl-C, so that `parhelion ctl` can look at it
    #[arg(long, requires = "scenario")]
    pub stay: bool,
    /// Stop after N calls [default: at Ctrl-C; 2000 with --json or where the output is no terminal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: Option<u64>,
    /// Calls per second; 0: as many as it can [default: 1000; with --scenario 400]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub rate: Option<u32>,
    /// Number of different users, who take turns [default: each call is a new user's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub users: Option<u64>,
    /// Say nothing but one JSON object at the end; a scenario tells its story on standard error meanwhile
    #[arg(long)]
    pub json: bool,
    /// Start the model servers only, print a sidecar's configuration for them, and wait for Ctrl-C
    #[arg(long, conflicts_with_all = ["calls", "rate", "users", "json"])]
    pub models_only: bool,
    /// Copy calls to this server, not to one in this process
    #[arg(long, value_name = "ADDRESS")]
    pub shadow: Option<SocketAddr>,
    /// With --models-only: start the server of this version alone
    #[arg(long, value_name = "VERSION", requires = "models_only", conflicts_with = "shadow", value_parser = known_version)]
    pub model: Option<String>,
    /// With --model: the port on loopback [default: any that is free]
    #[arg(long, value_name = "N", requires = "model")]
    pub port: Option<u16>,
}

fn known_version(text: &str) -> Result<String, String> {
    let models = Model::bundled().map_err(|error| error.to_string())?;
    let versions = models.each_ref().map(Model::version);
    let known = versions.contains(&text).then(|| text.to_owned());
    known.ok_or_else(|| format!("there are the versions {}", versions.join(", ")))
}

/// What a sidecar is started with.
#[derive(Debug, Clone)]
pub enum Configuration {
    /// This text, as long as it runs.
    Text(String),
    /// This file, followed while it runs.
    File(PathBuf),
}

/// A running sidecar, as the demo needs it.
pub trait Sidecar {
    /// Its data port.
    fn data(&self) -> SocketAddr;
    /// Its health port.
    fn health(&self) -> SocketAddr;
    /// Its admin port.
    fn admin(&self) -> SocketAddr;
    /// Ends once every variant that answers is ready, and the shadow, if that does not take long.
    fn ready(&self) -> impl Future<Output = ()>;
    /// What became of the copies so far.
    fn copies(&self) -> Copies;
    /// Lets a candidate that was rolled back try again, as a person would, for that reason.
    fn resume(&self, model: &str, reason: &str) -> impl Future<Output = Result<(), String>>;
    /// Where the model's rollout stands.
    fn rollout(&self, model: &str) -> Option<Status>;
    /// Every change of the model's rollout so far, the newest first.
    fn audit(&self, model: &str) -> Vec<Arc<AuditRecord>>;
    /// Grows with every change of a rollout.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Ends it: calls finish, copies are cut, spans are flushed.
    fn stop(self) -> impl Future<Output = Ended>;
}

/// What a sidecar has counted when it ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// What became of its spans.
    pub spans: SpanCounts,
    /// What became of its copies; none is under way.
    pub copies: Copies,
}

/// Why a demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The weights in the binary cannot be used.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// The rows in the binary cannot be used.
    #[error(transparent)]
    Rows(#[from] rows::RowError),
    /// A server or the collector got no port.
    #[error("no port on loopback: {0}")]
    Bind(io::Error),
    /// The sidecar did not start.
    #[error("the sidecar did not start: {0}")]
    Sidecar(String),
    /// The sidecar started but found a variant not ready.
    #[error("the sidecar found its variants not ready for {} s", READY.as_secs())]
    NotReady,
    /// The sidecar or a server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The text cannot be written, or Ctrl-C not be listened for.
    #[error("input or output failed: {0}")]
    Io(#[from] io::Error),
    /// The rollout has not come to an end in time.
    #[error("the rollout decided nothing in two minutes, which its configuration does not allow")]
    Undecided,
    /// Replicas have not come as far as they should.
    #[error("{0}: that did not come in time; was somebody else at it?")]
    Stuck(&'static str),
    /// There is no store to share.
    #[error(
        "{0}, and this scenario starts a store that replicas share: Redis 7 or later, or Valkey. On Debian or Ubuntu: \
         apt-get install redis-server; on Fedora: dnf install valkey; on macOS: brew install redis. Its service need not \
         run; the program must be on the PATH"
    )]
    NoStore(String),
    /// The store does not start.
    #[error("the store did not start: {0}")]
    Store(String),
    /// Ctrl-C before there was anything to say, or for the second time.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo on standard output with the sidecars that `start` makes of configurations. Returns whether all
/// went well: no call failed, or a scenario ended as its name says.
///
/// # Errors
/// Where something could not be started, reached or written.
pub async fn run<S: Sidecar>(
    options: Options,
    start: impl AsyncFn(Configuration) -> Result<S, String>,
) -> Result<bool, DemoError> {
    let (sender, interrupts) = mpsc::channel(2);
    let signals = Tasks::new(Arc::default());
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (sender, mut interrupt) = (sender.clone(), signal(kind)?);
        signals.spawn("demo interrupts", async move {
            while interrupt.recv().await.is_some() && sender.send(()).await.is_ok() {}
        });
    }
    let json = options.json;
    let Some(scenario) = options.scenario else {
        let live = io::stdout().is_terminal() && screen::obeys() && !json;
        return Demo { options, screen: Screen::new(io::stdout(), live), interrupts }.run(start).await;
    };
    // With --json the story is for people, and the object at its end for whatever reads standard output.
    let (out, terminal): (Box<dyn Write>, bool) = match json {
        true => (Box::new(io::stderr()), io::stderr().is_terminal()),
        false => (Box::new(io::stdout()), io::stdout().is_terminal()),
    };
    let demo = Demo { options, screen: Screen::new(out, terminal && screen::obeys()), interrupts };
    let (said, well) = match scenario {
        Scenario::Shadow => {
            let verdicts = demo.judge(start).await?;
            (serde_json::to_string(&verdicts), verdicts.are_right())
        }
        Scenario::Fleet => {
            let ending = demo.share(start).await?;
            (serde_json::to_string(&ending), ending.is_as_named())
        }
        Scenario::Interleave => {
            let ending = demo.rank(start).await?;
            (serde_json::to_string(&ending), ending.is_as_named())
        }
        _ => {
            let ending = demo.play(scenario, start).await?;
            (serde_json::to_string(&ending), ending.is_as_named())
        }
    };
    if json {
        Screen::new(io::stdout(), false).say(&[said.map_err(io::Error::from)?])?;
    }
    Ok(well)
}

/// One run.
struct Demo<W> {
    options: Options,
    screen: Screen<W>,
    /// One for each Ctrl-C, or other signal to end.
    interrupts: mpsc::Receiver<()>,
}

impl<W: Write> Demo<W> {
    async fn run<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(Configuration) -> Result<S, String>,
    ) -> Result<bool, DemoError> {
        match self.options.model.clone() {
            Some(version) => self.alone(&version).await,
            None => self.split(start).await,
        }
    }

    /// One model server, until Ctrl-C.
    async fn alone(&mut self, version: &str) -> Result<bool, DemoError> {
        let port = self.options.port.unwrap_or(0);
        for model in Model::bundled()?.into_iter().filter(|model| model.version() == version) {
            let name = model.name().to_owned();
            let server = server::start(Arc::new(model), port).map_err(DemoError::Bind)?;
            self.screen.say(&[format!("{name} {version}: http://{}", server.address())])?;
            self.interrupts.recv().await;
        }
        Ok(true)
    }

    /// Waits until the sidecar finds its variants ready.
    async fn until_ready<S: Sidecar>(&mut self, sidecar: &S) -> Result<(), DemoError> {
        tokio::select! {
            ready = tokio::time::timeout(READY, sidecar.ready()) => ready.map_err(|_| DemoError::NotReady),
            Some(()) = self.interrupts.recv() => Err(DemoError::Interrupted),
        }
    }
}

/// Which ports a configuration asks for.
#[derive(Debug, Clone, Copy)]
enum Ports {
    /// Whatever is free.
    Free,
    /// Those of the documentation, so that a reader finds them.
    Usual,
}

/// How this binary is called from here: its path where that lies below the current directory, else its name.
fn program() -> String {
    let here = std::env::current_dir().ok();
    let path = std::env::current_exe().ok();
    let below = path.as_ref().zip(here).and_then(|(path, here)| path.strip_prefix(here).ok());
    below.map_or_else(|| "parhelion".to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests;
