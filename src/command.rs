//! The command line: what a person types, and what the process says and returns.
//!
//! Exit codes: 0 as asked, 1 failed on the way, 2 cannot begin (bad arguments, a bad configuration, a port in use).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::{self, Running, Source};
use crate::config::{self, Errors, Listen, Loaded, Problem};
use crate::log::ask::Ended;
use crate::rollout::{Actor, AuditRecord, Status};
use crate::shadow::record::RESULTS;
use crate::simulate;
use crate::telemetry::Telemetry;
use crate::telemetry::environment::{Environment, LogSettings};
use crate::telemetry::setup;
use crate::telemetry::shard::Histogram;
use crate::telemetry::tally::Cause;
use crate::upstream::probe;
use crate::{ctl, demo, evaluate, inject, intercept, log, replay, verdict, webhook};

mod needs;
mod neighbour;
mod plan;

/// Cannot begin.
const REFUSED: u8 = 2;
/// How long the demo waits for its shadow.
const SHADOW_READY: Duration = Duration::from_secs(1);

/// More changes of a rollout than a demo sees.
const AUDIT: usize = 100;

/// Gives every gRPC inference call to the right model version, and proves which one answered.
#[derive(Debug, Parser)]
#[command(name = "parhelion", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    #[command(after_help = "Examples:
  parhelion run -c parhelion.yaml
  parhelion run -c /etc/parhelion/              a directory, for instance a mounted ConfigMap
  PARHELION_LOCAL=v2 parhelion run -c FILE      v2's container is the one beside this sidecar

The file is followed: a changed one is served within 2 s, a broken one is refused and the old one goes on.
SIGTERM drains: not ready, GOAWAY, calls under way finish, spans leave. A second one cuts. SIGUSR1, which
parhelion drain sends, drains likewise and then waits for SIGTERM.")]
    Run {
        /// YAML file, or a directory of them
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
    },
    /// Check a configuration: every error at once, with its place and what would be right
    #[command(after_help = "Examples:
  parhelion check parhelion.yaml
  parhelion check --json parhelion.yaml | jq '.problems[].path'
  parhelion check --effective parhelion.yaml    with every default filled in")]
    Check {
        /// YAML file, or a directory of them
        #[arg(value_name = "PATH")]
        config: PathBuf,
        /// Print one JSON object: {"ok", "problems", "warnings"}
        #[arg(long)]
        json: bool,
        /// Print the configuration as it would be served, as JSON, secrets hidden
        #[arg(long, conflicts_with = "json")]
        effective: bool,
    },
    /// See how long a rollout takes, and how small a difference it can see, before it runs
    Plan(plan::Options),
    /// Print the JSON Schema of the configuration file
    #[command(after_help = "Example:
  parhelion schema > parhelion.schema.json      for an editor that completes YAML by schema")]
    Schema,
    /// See and steer the rollouts of a running sidecar
    Ctl(ctl::Options),
    /// Read the prediction log: the newest calls, one prediction's whole story, rows that match
    Log(log::ask::Options),
    /// Send logged calls to a candidate, and hold its answers against those that were served
    Replay(replay::Options),
    /// See what another policy would have earned on the calls that were logged
    Evaluate(evaluate::Options),
    /// See what a strategy would do: thousands of rollouts in a world that is written down, on a virtual clock
    Simulate(simulate::Options),
    /// Tell the sidecar in the same container that its pod ends: it drains, and goes on until SIGTERM
    #[command(
        after_help = "For the preStop of the sidecar's container. Exit codes: 0 told, 1 there is none, or several."
    )]
    Drain,
    /// Put the sidecar into Kubernetes manifests, or take it out again
    Inject(Box<inject::Options>),
    /// Put the sidecar into pods as the cluster makes them: a mutating admission webhook
    Webhook(Box<webhook::Options>),
    /// Redirect the model's port to the sidecar's, as an init container of the pod
    Intercept(intercept::Options),
    /// Try it: real models, a sidecar before them, and callers, in this process
    Demo(demo::Options),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let result = match command {
        Command::Run { config } => control(run(config)),
        Command::Check { config, json, effective } => check(&config, json, effective),
        Command::Plan(options) => plan::run(&options),
        Command::Schema => print(&pretty(&config::schema())).map(|()| ExitCode::SUCCESS),
        Command::Ctl(options) => control(async { ctl::run(options).await.map(ExitCode::from) }),
        Command::Log(options) => log::ask::run(&options, SystemTime::now()).map(asked),
        Command::Replay(options) => {
            control(async { replay::run(options, SystemTime::now()).await.map(asked) })
        }
        Command::Evaluate(options) => evaluate::run(&options, SystemTime::now()).map(asked),
        Command::Simulate(options) => simulate(&options),
        Command::Drain => Ok(drain()),
        Command::Inject(options) => inject(&options),
        Command::Webhook(options) => control(webhook(*options)),
        Command::Intercept(options) => intercept(&options),
        Command::Demo(options) => control(demonstrate(options)),
    };
    match result {
        Ok(code) => code,
        // Who reads our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Runs `work` on the control plane's runtime.
fn control(work: impl Future<Output = io::Result<ExitCode>>) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(work);
    // A look-up of a name may hang in a thread that nothing can end.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}

fn fail(problem: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Where even this cannot be written nobody is there to read it.
    let _ = writeln!(io::stderr(), "parhelion: {problem}");
    ExitCode::from(code)
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

fn check(path: &std::path::Path, json: bool, effective: bool) -> io::Result<ExitCode> {
    let mut result = config::load(path, &config::Environment::of_process());
    if let Ok(loaded) = &result {
        let problems = config::check_environment(&loaded.config);
        if !problems.is_empty() {
            result = Err(Errors(problems));
        }
    }
    let code = if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) };
    match (&result, json, effective) {
        (Ok(loaded), _, true) => print(&pretty(&config::effective(&loaded.config)))?,
        (Ok(loaded), true, _) => {
            let revision = &*loaded.config.revision;
            let report = serde_json::json!({
                "ok": true,
                "revision": revision,
                "problems": [],
                "warnings": loaded.warnings,
                "canaries": needs::data(&loaded.config),
            });
            print(&pretty(&report))?;
        }
        (Err(errors), true, _) => {
            print(&pretty(&serde_json::json!({"ok": false, "problems": errors.0, "warnings": []})))?;
        }
        (Ok(loaded), ..) => {
            print(&config::report(&result))?;
            match needs::text(&loaded.config) {
                none if none.is_empty() => {}
                text => print(&text)?,
            }
        }
        (Err(_), ..) => {
            let _ = writeln!(io::stderr(), "{}", config::report(&result));
        }
    }
    Ok(code)
}

fn asked(ended: Ended) -> ExitCode {
    match ended {
        Ended::Done => ExitCode::SUCCESS,
        Ended::Nothing => ExitCode::FAILURE,
        Ended::Refused => ExitCode::from(REFUSED),
    }
}

fn simulate(options: &simulate::Options) -> io::Result<ExitCode> {
    Ok(match simulate::simulate(options)? {
        simulate::Ended::AsExpected => ExitCode::SUCCESS,
        simulate::Ended::Otherwise => ExitCode::FAILURE,
        simulate::Ended::Refused => ExitCode::from(REFUSED),
    })
}

fn intercept(options: &intercept::Options) -> io::Result<ExitCode> {
    match intercept::run(options) {
        Ok(done) => print(&done).map(|()| ExitCode::SUCCESS),
        Err(failure @ intercept::Failure::Same(_)) => Ok(fail(&failure, REFUSED)),
        Err(failure) => Ok(fail(&failure, 1)),
    }
}

async fn webhook(options: webhook::Options) -> io::Result<ExitCode> {
    let log = LogSettings::read(|name| std::env::var(name).ok());
    if let Err(error) = setup::install_log(&log) {
        return Ok(fail(&error, 1));
    }
    Ok(match webhook::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure, if failure.at_start() { REFUSED } else { 1 }),
    })
}

fn inject(options: &inject::Options) -> io::Result<ExitCode> {
    match inject::run(options) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(REFUSED)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error),
        Err(error) => Ok(fail(&error, REFUSED)),
    }
}

/// What a sidecar needs before it may open a port.
async fn prepare(loaded: Result<Loaded, Errors>) -> Result<(Loaded, Environment), String> {
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        refused => return Err(format!("the configuration is refused\n{}", config::report(&refused))),
    };
    // A disk that is full or read-only keeps nobody from being served: it is tried again while the sidecar runs.
    let of_state = |problem: &Problem| matches!(&*problem.path, "state" | "log.dir" | "log.upload");
    let (state, problems): (Vec<_>, Vec<_>) =
        config::check_environment(&loaded.config).into_iter().partition(of_state);
    loaded.warnings.extend(state);
    if !problems.is_empty() {
        return Err(format!("the configuration is refused\n{}", config::report(&Err(Errors(problems)))));
    }
    let environment = Environment::read(|name| std::env::var(name).ok())
        .map_err(|refused| refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let speakers = probe::refuse_http1(&loaded.config).await;
    if !speakers.is_empty() {
        return Err(speakers.join("\n"));
    }
    Ok((loaded, environment))
}

async fn run(path: PathBuf) -> io::Result<ExitCode> {
    let surroundings = config::Environment::of_process();
    let (loaded, environment) = match prepare(config::load(&path, &surroundings)).await {
        Ok(prepared) => prepared,
        Err(problem) => return Ok(fail(&problem, REFUSED)),
    };
    let warnings = loaded.warnings.clone();
    let source = Source { path, environment: surroundings };
    let logging = environment.clone();
    // Before any port opens: whoever is let in is not lost to a signal that comes early.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut pod_ends = signal(SignalKind::user_defined1())?;
    let mut running = match app::start(loaded, Some(source), environment).await {
        Ok(running) => running,
        Err(error) => return Ok(fail(&error, REFUSED)),
    };
    if let Err(error) = setup::install(&logging, &running.telemetry) {
        return Ok(fail(&error, 1));
    }
    for warning in warnings {
        tracing::warn!("configuration: {warning}");
    }
    tracing::info!(listen = %spell(&running.listen), health = %running.health, admin = %running.admin, "serving");
    let told = tokio::select! {
        _ = terminate.recv() => Told::Term,
        _ = interrupt.recv() => Told::Interrupt,
        _ = pod_ends.recv() => Told::PodEnds,
        error = running.failed() => {
            tracing::error!(%error, "a worker failed; the sidecar ends");
            return Ok(ExitCode::FAILURE);
        }
    };
    // What comes as the first of its kind after the pod was said to end is expected, and in no hurry.
    let mut expected = told == Told::PodEnds;
    let hurry = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    if !std::mem::take(&mut expected) {
                        return;
                    }
                }
                _ = interrupt.recv() => return,
            }
        }
    };
    // A person at a terminal does not wait for endpoints to be told.
    running.empty(told != Told::Interrupt, hurry).await;
    if expected {
        tracing::info!("drained; the pod's other containers end first");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    running.end().await;
    Ok(ExitCode::SUCCESS)
}

/// What made the sidecar drain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Interrupt,
    /// SIGUSR1: the pod ends, and SIGTERM comes when its other containers have.
    PodEnds,
}

fn drain() -> ExitCode {
    match neighbour::tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem, 1),
    }
}

fn spell(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

async fn demonstrate(options: demo::Options) -> io::Result<ExitCode> {
    match demo::run(options, sidecar).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error @ demo::DemoError::NoStore(_)) => Ok(fail(&error, REFUSED)),
        Err(error) => Ok(fail(&error, 1)),
    }
}

/// A sidecar for the demo, made of its configuration.
async fn sidecar(configuration: demo::Configuration) -> Result<Demonstrated, String> {
    let surroundings = config::Environment::default();
    let (loaded, source) = match configuration {
        demo::Configuration::Text(text) => (config::read("demo.yaml", &text, &surroundings), None),
        demo::Configuration::File(path) => {
            (config::load(&path, &surroundings), Some(Source { path, environment: surroundings }))
        }
    };
    let (loaded, environment) = prepare(loaded).await?;
    let running = app::start(loaded, source, environment).await.map_err(|error| error.to_string())?;
    match running.listen {
        Listen::Tcp(data) => Ok(Demonstrated { data, running }),
        Listen::Unix(_) => Err("the demo's data port is a TCP port".to_owned()),
    }
}

struct Demonstrated {
    data: SocketAddr,
    running: Running,
}

impl Demonstrated {
    async fn until(&self, holds: impl Fn(&Running) -> bool) {
        let mut changes = self.running.board.watch();
        while !holds(&self.running) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl demo::Sidecar for Demonstrated {
    fn data(&self) -> SocketAddr {
        self.data
    }

    fn health(&self) -> SocketAddr {
        self.running.health
    }

    fn admin(&self) -> SocketAddr {
        self.running.admin
    }

    async fn ready(&self) {
        self.until(Running::can_answer).await;
        // A shadow may be away, which is for the counters to tell.
        let _ = tokio::time::timeout(SHADOW_READY, self.until(Running::is_ready)).await;
    }

    fn copies(&self) -> demo::shadow::Copies {
        copies(&self.running.telemetry)
    }

    async fn resume(&self, model: &str, reason: &str) -> Result<(), String> {
        let actor = Actor::Operator { name: demo::PERSON.to_owned(), reason: reason.to_owned() };
        let done = self.running.rollouts.command(model, verdict::Command::Resume, actor).await;
        done.map(drop).map_err(|refusal| refusal.to_string())
    }

    fn rollout(&self, model: &str) -> Option<Status> {
        self.running.rollouts.report(model)
    }

    fn audit(&self, model: &str) -> Vec<Arc<AuditRecord>> {
        self.running.rollouts.audit(Some(model), AUDIT)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.running.rollouts.changes()
    }

    async fn stop(self) -> demo::Ended {
        let telemetry = self.running.telemetry.clone();
        self.running.drain(false, std::future::pending()).await;
        let spans = telemetry.spans();
        let lost: u64 = Cause::ALL.iter().map(|cause| spans.get_dropped(*cause)).sum();
        let unseen = telemetry.counters().get(crate::telemetry::counter::Counter::OutcomesDropped);
        let copies = copies(&telemetry);
        let spans = demo::tally::SpanCounts { exported: spans.get_exported(), dropped: lost + unseen };
        demo::Ended { spans, copies }
    }
}

/// What became of the copies of the demo's one shadow, all workers together.
fn copies(telemetry: &Telemetry) -> demo::shadow::Copies {
    let mut copies = demo::shadow::Copies::default();
    for ledger in telemetry.shadows() {
        copies.eligible += ledger.eligible;
        copies.copied += ledger.copied;
        for (reason, count) in ledger.skipped {
            *copies.skipped.entry(reason).or_default() += count;
        }
    }
    let (mut took, mut primary) = (Mean::default(), Mean::default());
    for (_, series) in telemetry.shards().iter().flat_map(|shard| shard.each_shadow()) {
        copies.under_way += series.in_flight();
        took.add(&series.latency);
        primary.add(&series.primary);
        for result in 0..RESULTS - 1 {
            let count = series.compared(result);
            copies.compared += count;
            copies.differed += if result == 0 { 0 } else { count };
        }
    }
    (copies.mean, copies.primary_mean) = (took.value(), primary.value());
    copies
}

/// The mean of what histograms hold.
#[derive(Default)]
struct Mean {
    sum: Duration,
    count: u64,
}

impl Mean {
    fn add(&mut self, histogram: &Histogram) {
        self.sum += histogram.sum();
        self.count += histogram.buckets().iter().sum::<u64>();
    }

    fn value(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.sum.div_f64(self.count as f64))
    }
}
