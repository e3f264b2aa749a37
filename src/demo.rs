//! `parhelion demo`: real models, a real sidecar and real callers in one process, on loopback, with nothing to install.
//!
//! Three model servers hold three versions of a classifier that scikit-learn trained, the sidecar stands before them,
//! and a caller sends images that no version has seen: two versions answer, the third is their shadow. A small
//! collector receives the sidecar's spans, unless `OTEL_EXPORTER_OTLP_ENDPOINT` names another. Nothing is simulated:
//! every number said was counted or measured on calls that crossed sockets. The sidecar is handed in as a [`Sidecar`],
//! for this room knows nothing of the wiring.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub mod caller;
pub mod collector;
pub mod model;
pub mod rows;
pub mod screen;
pub mod server;
pub mod shadow;
pub mod story;
pub mod tally;
pub mod tensor;

use caller::{Answer, Called, Known, Script};
use collector::Collector;
use model::Model;
use rows::Row;
use screen::Screen;
use server::Standing;
use shadow::{Copies, Shadow};
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
/// Those that answer.
const VARIANTS: [&str; 2] = ["v1", "v2"];
const SHADOW: &str = "v3";
/// How long copies that are under way at the end may take, before they are cut and counted as such.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a story waits for the span of a copy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Try it: two real model versions and a shadow, the sidecar before them, callers, and a collector, all in this process.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  parhelion demo                        watch the split until Ctrl-C
  parhelion demo --calls 5000 --json    5000 calls, then one JSON object
  parhelion demo --users 20             20 users, each of whom keeps a variant
  parhelion demo --models-only          the models, and a configuration for a sidecar of your own
  parhelion demo --models-only --model 3.0.0-rc1 --port 8003
                                        one model in a process of its own, to stop or kill
  parhelion demo --shadow 127.0.0.1:8003
                                        that model as the shadow")]
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
    shadow: Known,
    /// `None` where the environment names another collector.
    collector: Option<(Collector, SocketAddr)>,
    _servers: [Standing; 3],
}

impl<W: Write> Demo<W> {
    async fn run<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(String) -> Result<S, String>,
    ) -> Result<bool, DemoError> {
        if let Some(version) = self.options.model.clone() {
            return self.alone(&version).await;
        }
        let tasks = Tasks::new(Arc::default());
        let collect = !self.options.models_only && own_collector();
        let world = World::start(&tasks, collect, self.options.shadow)?;
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
        let (mut tally, told) = self.watch(&world, &sidecar, answers, calls).await?;

        let end = async {
            settle(&sidecar).await;
            sidecar.stop().await
        };
        let Ended { mut spans, copies } = tokio::select! {
            ended = end => ended,
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        };
        if let Some((collector, _)) = &world.collector {
            spans.exported = collector.spans();
        }
        tally.shadow.copies = copies;
        let summary = tally.summary(spans);
        self.close(&world, &tally, &summary, told)?;
        Ok(summary.failed == 0)
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
    async fn watch<S: Sidecar>(
        &mut self,
        world: &World,
        sidecar: &S,
        mut answers: mpsc::Receiver<Called>,
        calls: Option<u64>,
    ) -> Result<(Tally, Telling), DemoError> {
        let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
        let Known { name, version, .. } = world.shadow.clone();
        let mut tally = Tally::new(variants, Shadow { name, version, copies: Copies::default() });
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
                    if let Some(story) = telling.due(world, false) {
                        self.screen.say(&screen::story(&story))?;
                    }
                    tally.shadow.copies = sidecar.copies();
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
        let story = telling.due(world, true).or_else(|| telling.untold());
        if let Some(story) = story {
            self.screen.say(&screen::story(&story))?;
        }
        self.screen.say(&screen::closing(tally, summary))?;
        self.screen.say(&screen::next(&program(), Some(AB).filter(|path| Path::new(path).exists())))
    }
}

/// Waits until no copy is under way, for a while.
async fn settle<S: Sidecar>(sidecar: &S) {
    let quiet = async {
        while !sidecar.copies().settled() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Those that take longer are cut by the end of the sidecar, which counts them.
    let _ = tokio::time::timeout(SETTLE, quiet).await;
}

/// The prediction whose story is told, once.
#[derive(Debug, Default)]
struct Telling {
    /// The first answers: about half of them have a copy.
    about: Vec<Answer>,
    since: Option<Instant>,
    told: bool,
}

impl Telling {
    fn look_at(&mut self, called: &Called, before: u64) {
        let Ok(answer) = called else { return };
        if self.about.is_empty() || before < STORY_AMONG {
            self.about.push(answer.clone());
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// The story that shows most, where it was not told and its spans are there: that of a call with a copy, and of
    /// the newer version, before others. For a copy it waits a while, unless this is the `last` chance.
    fn due(&mut self, world: &World, last: bool) -> Option<Story> {
        let (collector, _) = world.collector.as_ref().filter(|_| !self.told)?;
        let stories = self
            .about
            .iter()
            .map(|answer| Story { answer: answer.clone(), spans: collector.of(&answer.prediction) });
        // The server span may come in an earlier batch than the client's.
        let whole = stories.filter(|story| story.spans.len() > 1 + usize::from(story.has_shadow()));
        let best = whole.max_by_key(|story| (story.has_shadow(), story.answer.variant == VARIANTS[1]))?;
        let waited = last || self.since.is_some_and(|since| since.elapsed() > PATIENCE);
        self.told = waited || best.has_shadow();
        self.told.then_some(best)
    }

    /// The story without its spans, where it was not told.
    fn untold(&mut self) -> Option<Story> {
        let answer = self.about.first().cloned().filter(|_| !self.told)?;
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
    /// `shadow` is a server of the third version elsewhere, if any.
    fn start(tasks: &Tasks, collect: bool, shadow: Option<SocketAddr>) -> Result<World, DemoError> {
        let models = Model::bundled()?;
        let stand = |model: Model| server::start(Arc::new(model), 0).map_err(DemoError::Bind);
        let model = models[0].name().to_owned();
        let versions = models.each_ref().map(|model| model.version().to_owned());
        let [first, second, third] = models;
        let servers = [stand(first)?, stand(second)?, stand(third)?];
        let known = |index: usize, name: &str| Known {
            name: name.to_owned(),
            version: versions[index].clone(),
            server: servers[index].address(),
        };
        let variants = [known(0, VARIANTS[0]), known(1, VARIANTS[1])];
        let own = known(2, SHADOW);
        let shadow = Known { server: shadow.unwrap_or(own.server), ..own };
        let collector = Collector::default();
        let collector = if collect {
            let address = collector.start(tasks).map_err(DemoError::Bind)?;
            Some((collector, address))
        } else {
            None
        };
        Ok(World { model, variants, shadow, collector, _servers: servers })
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
# The third gets copies of half the calls and answers nobody.
# The model servers at these ports run as long as the demo that wrote this.
listen: 127.0.0.1:{listen}
admin: 127.0.0.1:{admin}
health: 127.0.0.1:{health}
models:
  {model}:
    variants:
      {v1}: {{endpoint: \"http://{s1}\", version: {ver1}}}
      {v2}: {{endpoint: \"http://{s2}\", version: {ver2}}}
      {v3}: {{endpoint: \"http://{s3}\", version: {ver3}}}
    unit: [metadata:x-user-id]
    strategy:
      kind: ab
      baseline: {v1}
      weights: {{{v1}: 70%, {v2}: 30%}}
    shadows:
      - {{variant: {v3}, sample: 50%}}
telemetry: {{{otlp}sample: 100%}}",
            model = self.model,
            v1 = first.name,
            v2 = second.name,
            s1 = first.server,
            s2 = second.server,
            ver1 = first.version,
            ver2 = second.version,
            v3 = self.shadow.name,
            s3 = self.shadow.server,
            ver3 = self.shadow.version,
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
