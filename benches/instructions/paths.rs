//! A whole call on its way through the sidecar, in one thread: the worker as it is, between unix sockets, which in one
//! thread have no timing of their own.

use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parhelion::config::{self, Config, Environment, Listen};
use parhelion::feedback::Intake;
use parhelion::keys::Keys;
use parhelion::rollout::{Ground, Rollouts};
use parhelion::server::{Phase, listener};
use parhelion::state::State;
use parhelion::telemetry::counter::Counters;
use parhelion::telemetry::{self, Telemetry, environment};
use parhelion::upstream::readiness::{Board, Target};
use parhelion::worker;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::peers::{self, Seen};

/// What a configuration is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    model: &'static str,
    sample: &'static str,
    /// Calls that the model server gets for one of a caller.
    copies: u64,
    /// Whether spans come; none: a few, or none at all.
    spans: Option<bool>,
}

const AB: &str = "{unit: [metadata:x-user-id], variants: {v1: {endpoint: MODEL, version: '1'}, \
    v2: {endpoint: MODEL, version: '2'}, v3: {endpoint: MODEL, version: '3'}}, \
    strategy: {kind: ab, weights: {v1: 90%, v2: 10%}}, shadows: [{variant: v3}]}";

/// One pinned variant, no spans.
pub(crate) const FORWARD: Setup = Setup {
    model: "{variants: {v1: {endpoint: MODEL, version: '1'}}}",
    sample: "{}",
    copies: 1,
    spans: Some(false),
};
/// `ab` by unit, a copy of every call, spans of every call.
pub(crate) const EVERYTHING: Setup =
    Setup { model: AB, sample: "{otlp: SINK, sample: 100%}", copies: 2, spans: Some(true) };
/// The same with the spans of 1 % of the calls.
pub(crate) const DEFAULT: Setup = Setup { model: AB, sample: "{otlp: SINK}", copies: 2, spans: None };

/// Calls the model server itself.
pub(crate) fn direct(calls: usize) -> Result<Duration, Box<dyn Error>> {
    in_one_thread(async |folder| {
        let model = folder.join("model");
        let seen = Rc::new(Seen::default());
        spawn_local(peers::serve_unix(UnixListener::bind(&model)?, Rc::clone(&seen)));
        let began = Instant::now();
        peers::call(UnixStream::connect(&model).await?, calls).await?;
        Ok(began.elapsed())
    })
}

/// Calls it through a sidecar that is set up so.
pub(crate) fn sidecar(setup: Setup, calls: usize) -> Result<Duration, Box<dyn Error>> {
    in_one_thread(async |folder| {
        let (model, listen) = (folder.join("model"), folder.join("listen"));
        let seen = Rc::new(Seen::default());
        spawn_local(peers::serve_unix(UnixListener::bind(&model)?, Rc::clone(&seen)));
        let sink = TcpListener::bind("127.0.0.1:0").await?;
        let collector = format!("http://{}", sink.local_addr()?);
        spawn_local(peers::serve_tcp(sink, Rc::clone(&seen)));
        let text = format!(
            "listen: unix:{}\nmodels: {{bench: {}}}\ntelemetry: {}\n",
            listen.display(),
            setup.model.replace("MODEL", &format!("\"unix:{}\"", model.display())),
            setup.sample.replace("SINK", &format!("\"{collector}\"")),
        );
        let loaded = config::read("bench", &text, &Environment::default()).map_err(|why| why.to_string())?;
        let (phase, telemetry, worker) = begin(&loaded.config)?;
        let began = Instant::now();
        peers::call(UnixStream::connect(&listen).await?, calls).await?;
        let took = began.elapsed();
        phase.send_replace(Phase::Draining);
        worker.await??;
        telemetry.flush(Duration::from_secs(20)).await;
        check(setup, calls as u64, &seen)?;
        Ok(took)
    })
}

type Working = tokio::task::JoinHandle<std::io::Result<()>>;

/// Starts a worker and its exporter, with every endpoint ready: there is no prober here.
fn begin(config: &Arc<Config>) -> Result<(watch::Sender<Phase>, Telemetry, Working), Box<dyn Error>> {
    let counters = Arc::new(Counters::default());
    let environment = environment::Environment::read(|_| None).map_err(|_| "the environment is refused")?;
    let started = telemetry::start(&config.telemetry, environment, config.workers, Arc::clone(&counters))?;
    spawn_local(started.exporter.run());
    let board = Arc::new(Board::default());
    for (_, _, target) in Target::all(config) {
        board.get(&target).set(true);
    }
    let (phase, phases) = watch::channel(Phase::Serving);
    let (publish, configs) = watch::channel(Arc::clone(config));
    let Listen::Unix(_) = &config.listen else { return Err("it listens at no unix socket".into()) };
    let keys = Arc::new(Keys::random()?);
    let intake = Intake::new(Arc::clone(&keys), configs.clone(), started.telemetry.feedback(), 1);
    let ground = Ground {
        board: Arc::clone(&board),
        unit_key: keys.unit_key(),
        shards: started.telemetry.shards().to_vec(),
        intake: Arc::clone(&intake),
        warmer: parhelion::warm::Warmer::new().0,
        log: None,
        judges: Arc::default(),
        drifts: std::sync::Arc::default(),
        fleet: None,
    };
    let rollouts = Arc::new(Rollouts::new(config, State::memory(), ground));
    let (mut listeners, _) = listener::bind(&config.listen, 1, false)?;
    let parts = worker::Parts {
        tls: Arc::default(),
        pressure: Arc::default(),
        listener: listeners.remove(0),
        config: configs,
        phase: phases,
        recorder: started.recorders.into_iter().next().ok_or("no recorder")?,
        counters,
        keys,
        board,
        feedback: intake.door(0),
        rollouts,
        index: 0,
    };
    let working = spawn_local(async move {
        // A worker whose configuration has no sender any more ends.
        let _publish = publish;
        worker::serve(parts).await
    });
    Ok((phase, started.telemetry, working))
}

/// Whether all was done that was to be counted.
fn check(setup: Setup, calls: u64, seen: &Seen) -> Result<(), Box<dyn Error>> {
    let (inferences, spans) = (seen.inferences.get(), seen.spans.get());
    let wanted = calls * setup.copies;
    if inferences != wanted {
        return Err(format!("{wanted} inferences were due, the model server saw {inferences}").into());
    }
    if setup.spans.is_some_and(|due| due != (spans > 0)) {
        return Err(format!("the collector saw {spans} spans").into());
    }
    Ok(())
}

/// Runs in one thread, with a folder for its sockets.
fn in_one_thread<T>(run: impl AsyncFnOnce(&Path) -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(run(folder.path()))
}
