//! `parhelion demo`: real models, a real sidecar and real callers in one process, on loopback, with nothing to install.
//!
//! Two model servers hold two versions of a classifier that scikit-learn trained, the sidecar stands before them, and
//! a caller sends images that neither version has seen. A small collector receives the sidecar's spans, unless
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names another. Nothing is simulated: every number said was counted or measured on
//! calls that crossed sockets. The sidecar is handed in as a [`Sidecar`], for this room knows nothing of the wiring.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub mod caller;
pub mod collector;
pub mod model;
pub mod rows;
pub mod screen;
pub mod server;
pub mod story;
pub mod tally;
pub mod tensor;

use caller::{Answer, Called, Known, Script};
use collector::Collector;
use model::Model;
use rows::Row;
use screen::Screen;
use server::Standing;
use story::Story;
use tally::{SpanCounts, Summary, Tally};

use crate::tasks::Tasks;

/// Calls where nobody sees a screen and none said how many.
const CALLS_UNSEEN: u64 = 2_000;
/// How long the sidecar may take to find its variants ready.
const READY: Duration = Duration::from_secs(10);
/// One of the first calls is told as a story: its spans are among those that the collector keeps.
const STORY_AMONG: u64 = 64;
/// There in a clone of the repository only.
const AB: &str = "examples/ab/config.yaml";
const VARIANTS: [&str; 2] = ["v1", "v2"];

/// Try it: two real model versions, the sidecar before them, callers, and a collector, all in this process.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  parhelion demo                        watch the split until Ctrl-C
  parhelion demo --calls 5000 --json    5000 calls, then one JSON object
  parhelion demo --users 20             20 users, each of whom keeps a variant
  parhelion demo --models-only          the models, and a configuration for a sidecar of your own")]
pub struct Options {
    /// Stop after N calls [default: at Ctrl-C; 2000 with --json or where the output is no terminal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: Option<u64>,
    /// Calls per second; 0: as many as it can
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub rate: u32,
    /// Number of different users, who take turns [default: each call is a new user's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub users: Option<u64>,
    /// Say nothing but one JSON object at the end
    #[arg(long)]
    pub json: bool,
    /// Start the model servers only, print a sidecar's configuration for them, and wait for Ctrl-C
    #[arg(long, conflicts_with_all = ["calls", "rate", "users", "json"])]
    pub models_only: bool,
}

/// A running sidecar, as the demo needs it.
pub trait Sidecar {
    /// Its data port.
    fn data(&self) -> SocketAddr;
    /// Its health port.
    fn health(&self) -> SocketAddr;
    /// Its admin port.
    fn admin(&self) -> SocketAddr;
    /// Ends once every variant is ready.
    fn ready(&self) -> impl Future<Output = ()>;
    /// Ends it: calls finish, spans are flushed. Returns what it counted of its spans.
    fn stop(self) -> impl Future<Output = SpanCounts>;
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
    /// Ctrl-C before there was anything to say, or for the second time.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo on standard output with the sidecar that `start` makes of a configuration's text. Returns whether no
/// call failed.
///
/// # Errors
/// Where something could not be started, reached or written.
pub async fn run<S: Sidecar>(
    options: Options,
    start: impl AsyncFnOnce(String) -> Result<S, String>,
) -> Result<bool, DemoError> {
    let live = io::stdout().is_terminal() && !options.json;
    let (sender, interrupts) = mpsc::channel(2);
    let signals = Tasks::new(Arc::default());
    let mut interrupt = signal(SignalKind::interrupt())?;
    signals.spawn("demo interrupts", async move {
        while interrupt.recv().await.is_some() && sender.send(()).await.is_ok() {}
    });
    Demo { options, screen: Screen::new(io::stdout(), live), interrupts }.run(start).await
}

/// One run.
struct Demo<W> {
    options: Options,
    screen: Screen<W>,
    /// One for each Ctrl-C.
    interrupts: mpsc::Receiver<()>,
}

/// What stands behind the sidecar.
struct World {
    model: String,
    variants: [Known; 2],
    /// `None` where the environment names another collector.
    collector: Option<(Collector, SocketAddr)>,
    _servers: [Standing; 2],
}

impl<W: Write> Demo<W> {
    async fn run<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(String) -> Result<S, String>,
    ) -> Result<bool, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let world = World::start(&tasks, !self.options.models_only && own_collector())?;
        if self.options.models_only {
            self.screen.say(&[world.configuration(Ports::Usual)])?;
            self.interrupts.recv().await;
            return Ok(true);
        }
        let sidecar = start(world.configuration(Ports::Free)).await.map_err(DemoError::Sidecar)?;
        tokio::select! {
            ready = tokio::time::timeout(READY, sidecar.ready()) => ready.map_err(|_| DemoError::NotReady)?,
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        self.open(&world, &sidecar)?;
        let script = self.script(&world, sidecar.data());
        let rows: Arc<[Row]> = Row::bundled()?.into();
        let calls = script.calls;
        let answers = caller::start(script, rows, &tasks).await?;
        let (tally, told) = self.watch(&world, answers, calls).await?;

        let mut spans = tokio::select! {
            spans = sidecar.stop() => spans,
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        };
        if let Some((collector, _)) = &world.collector {
            spans.exported = collector.spans();
        }
        let summary = tally.summary(spans);
        self.close(&world, &tally, &summary, told)?;
        Ok(summary.failed == 0)
    }

    fn script(&self, world: &World, data: SocketAddr) -> Script {
        let unseen = (!self.screen.live()).then_some(CALLS_UNSEEN);
        Script {
            data,
            model: world.model.clone(),
            variants: world.variants.clone(),
            calls: self.options.calls.or(unseen),
            rate: (self.options.rate > 0).then_some(self.options.rate),
            users: self.options.users,
        }
    }

    fn open<S: Sidecar>(&mut self, world: &World, sidecar: &S) -> io::Result<()> {
        if self.options.json {
            return Ok(());
        }
        let [data, health, admin] =
            [sidecar.data(), sidecar.health(), sidecar.admin()].map(|at| at.to_string());
        self.screen.say(&screen::opening(&world.model, &data, &health, &admin))
    }

    /// Counts answers until there are no more, shows them meanwhile, and tells the story once its spans are there.
    async fn watch(
        &mut self,
        world: &World,
        mut answers: mpsc::Receiver<Called>,
        calls: Option<u64>,
    ) -> Result<(Tally, Telling), DemoError> {
        let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
        let mut tally = Tally::new(variants);
        let mut telling = Telling::default();
        let between = if self.screen.live() { Duration::from_millis(250) } else { Duration::from_secs(1) };
        let mut draw = tokio::time::interval(between);
        draw.tick().await;
        loop {
            tokio::select! {
                called = answers.recv() => {
                    let Some(called) = called else { return Ok((tally, telling)) };
                    telling.look_at(&called, tally.calls());
                    tally.add(called);
                }
                _ = draw.tick(), if !self.options.json => {
                    if let Some(story) = telling.due(world) {
                        self.screen.say(&screen::story(&story))?;
                    }
                    self.screen.progress(&tally, calls, world.spans())?;
                }
                Some(()) = self.interrupts.recv() => answers.close(),
            }
        }
    }

    fn close(
        &mut self,
        world: &World,
        tally: &Tally,
        summary: &Summary,
        mut telling: Telling,
    ) -> io::Result<()> {
        if self.options.json {
            return self.screen.say(&[serde_json::to_string(summary)?]);
        }
        // The last spans are here now, or will never be: a story without spans is still one.
        let story = telling.due(world).or_else(|| telling.untold());
        if let Some(story) = story {
            self.screen.say(&screen::story(&story))?;
        }
        self.screen.say(&screen::closing(tally, summary))?;
        self.screen.say(&screen::next(&program(), Some(AB).filter(|path| Path::new(path).exists())))
    }
}

/// The prediction whose story is told, once.
#[derive(Debug, Default)]
struct Telling {
    about: Option<Answer>,
    told: bool,
}

impl Telling {
    /// Prefers an answer of the newer version among the first calls.
    fn look_at(&mut self, called: &Called, before: u64) {
        let Ok(answer) = called else { return };
        let better = self.about.as_ref().is_some_and(|about| about.variant != VARIANTS[1]);
        if self.about.is_none() || (better && before < STORY_AMONG && answer.variant == VARIANTS[1]) {
            self.about = Some(answer.clone());
        }
    }

    /// The story, where its spans are there and it was not told.
    fn due(&mut self, world: &World) -> Option<Story> {
        let (collector, _) = world.collector.as_ref()?;
        let answer = self.about.as_ref().filter(|_| !self.told)?;
        let spans = collector.of(&answer.prediction);
        // The server span may come in an earlier batch than the client's.
        self.told = spans.len() > 1;
        self.told.then(|| Story { answer: answer.clone(), spans })
    }

    /// The story without its spans, where it was not told.
    fn untold(&mut self) -> Option<Story> {
        let answer = self.about.clone().filter(|_| !self.told)?;
        self.told = true;
        Some(Story { answer, spans: Vec::new() })
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

impl World {
    fn start(tasks: &Tasks, collect: bool) -> Result<World, DemoError> {
        let models = Model::bundled()?;
        let stand = |model: Model| server::start(Arc::new(model)).map_err(DemoError::Bind);
        let model = models[0].name().to_owned();
        let versions = models.each_ref().map(|model| model.version().to_owned());
        let [first, second] = models;
        let servers = [stand(first)?, stand(second)?];
        let known = |index: usize| Known {
            name: VARIANTS[index].to_owned(),
            version: versions[index].clone(),
            server: servers[index].address(),
        };
        let variants = [known(0), known(1)];
        let collector = Collector::default();
        let collector = if collect {
            let address = collector.start(tasks).map_err(DemoError::Bind)?;
            Some((collector, address))
        } else {
            None
        };
        Ok(World { model, variants, collector, _servers: servers })
    }

    fn spans(&self) -> Option<u64> {
        self.collector.as_ref().map(|(collector, _)| collector.spans())
    }

    /// The sidecar's configuration, as a user would write it.
    fn configuration(&self, ports: Ports) -> String {
        let [listen, admin, health] = match ports {
            Ports::Free => [0; 3],
            Ports::Usual => [9000, 9900, 9901],
        };
        let [first, second] = &self.variants;
        let otlp = self.collector.as_ref().map(|(_, at)| format!("otlp: \"http://{at}\", "));
        format!(
            "# Two versions of one model: 70 % of the users get the first, 30 % the second, and each keeps it.
# The model servers at these ports run as long as the demo that wrote this.
listen: 127.0.0.1:{listen}
admin: 127.0.0.1:{admin}
health: 127.0.0.1:{health}
models:
  {model}:
    variants:
      {v1}: {{endpoint: \"http://{s1}\", version: {ver1}}}
      {v2}: {{endpoint: \"http://{s2}\", version: {ver2}}}
    unit: [metadata:x-user-id]
    strategy:
      kind: ab
      baseline: {v1}
      weights: {{{v1}: 70%, {v2}: 30%}}
telemetry: {{{otlp}sample: 100%}}",
            model = self.model,
            v1 = first.name,
            v2 = second.name,
            s1 = first.server,
            s2 = second.server,
            ver1 = first.version,
            ver2 = second.version,
            otlp = otlp.unwrap_or_default(),
        )
    }
}

/// Whether spans go to the demo's own collector: the variables of the specification name no other.
fn own_collector() -> bool {
    let named = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !named("OTEL_EXPORTER_OTLP_ENDPOINT") && !named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
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
