//! The only place where the rooms are wired together: start, follow the configuration, drain.
//!
//! Everything that can fail fails before a port opens, or the ports are closed again. Two kinds of threads run:
//! workers, one data-plane runtime each, and the runtime that calls [`start`], on which all else lives.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::admin::tokens::{Tokens, TokensError};
use crate::admin::{self, BindError, Control, Health, Page, Reload, View};
use crate::config::{self, Config, Listen, Loaded};
use crate::drift::{self, Drifts};
use crate::feedback::{self, Intake};
use crate::fleet::redis::Redis;
use crate::keys::{Keys, KeysError};
use crate::log::Log;
use crate::resources::{self, Ledger};
use crate::rollout::{self, Ground, Rollouts};
use crate::server::Phase;
use crate::server::listener::{self, Listener};
use crate::server::memory::{self, Pressure};
use crate::shadow::comparer::Comparer;
use crate::shadow::judges::Judges;
use crate::state::{Errand, State};
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;
use crate::telemetry::environment::Environment;
use crate::telemetry::metrics::{self, EndpointState, ResourceState};
use crate::telemetry::settings::BadEndpoint;
use crate::telemetry::{self, Recorder, Telemetry};
use crate::tls::{self, TlsError};
use crate::upstream::readiness::{Board, Target};
use crate::upstream::{introduce, probe};
use crate::warm::{self, Warmer};
use crate::worker;

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(2);
/// How long the last evidence may take to be on the disk.
const STATE: Duration = Duration::from_secs(1);
/// How long the last rows of the log may take to be sealed.
const LOG: Duration = Duration::from_secs(2);
/// How long answers of the health and the admin port that are under way may still take.
const PAGES: Duration = Duration::from_millis(500);

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data port.
    #[error(transparent)]
    Listen(#[from] listener::BindError),
    /// The health or the admin port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The keys that sign hops and prediction ids.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Certificates.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The tokens of the admin port.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The collector.
    #[error(transparent)]
    Collector(#[from] BadEndpoint),
    /// The system.
    #[error("a worker thread could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// Where the configuration came from, to be followed while the sidecar runs.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file or directory.
    pub path: PathBuf,
    /// What influenced it.
    pub environment: config::Environment,
}

/// A sidecar that serves.
#[derive(Debug)]
pub struct Running {
    /// Where callers reach it.
    pub listen: Listen,
    /// Where probes reach it.
    pub health: SocketAddr,
    /// Where people reach it.
    pub admin: SocketAddr,
    /// Spans and figures.
    pub telemetry: Telemetry,
    /// Readiness of all endpoints.
    pub board: Arc<Board>,
    /// Where rollouts stand.
    pub rollouts: Arc<Rollouts>,
    /// The prediction log, where there is one.
    pub log: Option<Log>,
    config: watch::Receiver<Arc<Config>>,
    draining: watch::Sender<bool>,
    drained: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
    ended: mpsc::Receiver<io::Result<()>>,
    workers: usize,
    close: watch::Sender<bool>,
    /// The health and the admin port.
    pages: Tasks,
    /// What has nothing to finish: dropped, they end.
    tasks: Tasks,
}

/// Starts a sidecar on the current runtime; where `source` is given it follows changes there.
///
/// # Errors
/// When a port, a key file, the collector's address or a thread is not to be had; then nothing stays open.
pub async fn start(
    loaded: Loaded,
    source: Option<Source>,
    environment: Environment,
) -> Result<Running, StartError> {
    let config = Arc::clone(&loaded.config);
    let keys = Arc::new(Keys::load(config.keys.as_deref(), config.state.as_deref())?);
    let certificates = tls::Store::load(&config)?;
    let tokens = config.tokens.as_deref().map(Tokens::load).transpose()?.map(Arc::new);
    let counters = Arc::new(Counters::default());
    let started = telemetry::start(&config.telemetry, environment, config.workers, Arc::clone(&counters))?;
    let (listeners, listen) = listener::bind(&config.listen, config.workers.get(), config.reuse_port)?;
    let health = admin::bind("health", config.health)?;
    let control = admin::bind("admin", config.admin)?;
    let (health_at, admin_at) = (health.local_addr()?, control.local_addr()?);

    let tasks = Tasks::new(Arc::clone(&counters));
    let pages = Tasks::new(Arc::clone(&counters));
    // A configuration that was accepted is made known to those who look at endpoints before it is in force.
    let (accept, accepted) = watch::channel(Arc::clone(&config));
    let (publish, configs) = watch::channel(Arc::clone(&config));
    let (draining, drains) = watch::channel(false);
    let (drained, empty) = watch::channel(false);
    let (phase, phases) = watch::channel(Phase::Serving);
    let (close, closed) = watch::channel(false);
    let state = Arc::new(config::watch::State::new(&loaded, SystemTime::now()));
    let board = Arc::new(Board::default());
    let view = View {
        config: configs.clone(),
        board: Arc::clone(&board),
        draining: drains,
        drained: empty,
        counters: Arc::clone(&counters),
        tls: Arc::clone(&certificates),
    };

    let workers = config.workers.get();
    let intake = Intake::new(Arc::clone(&keys), configs.clone(), started.telemetry.feedback(), workers);
    let log = config.log.as_ref().map(|log| Log::start(log, workers)).transpose()?;
    let door = |worker| log.as_ref().and_then(|log| log.door(worker));
    if let Some(door) = door(workers) {
        started.telemetry.feedback().log_to(door);
    }
    let (warmer, orders) = Warmer::new();
    tasks.spawn(
        "warmer",
        warm::run(orders, (Arc::clone(&keys), Arc::clone(&certificates)), Arc::clone(&counters)),
    );
    let judges = Arc::new(Judges::default());
    let drifts = Arc::new(Drifts::default());
    let redis = config.fleet.as_ref().map(|fleet| Arc::new(Redis::new(Arc::clone(fleet))));
    let ground = Ground {
        board: Arc::clone(&board),
        unit_key: keys.unit_key(),
        shards: started.telemetry.shards().to_vec(),
        intake: Arc::clone(&intake),
        warmer,
        log: door(workers),
        judges: Arc::clone(&judges),
        drifts: Arc::clone(&drifts),
        fleet: redis.as_ref().map(|redis| {
            let fleet = rollout::fleet::Fleet::new(Box::new(Arc::clone(redis)), &replica(&config));
            fleet.with_reports(Box::new(Arc::clone(redis)))
        }),
    };
    let kept = match &config.state {
        Some(directory) => State::start_with(directory, keep(&keys, &config))?,
        None => State::memory(),
    };
    let rollouts = Arc::new(Rollouts::new(&config, kept, ground));
    // Known to those who look at endpoints first, then to the keeper of rollouts, then in force.
    let (introduce, introduced) = watch::channel(Arc::clone(&config));
    let (of_keeper, of_adoption) = (Arc::clone(&rollouts), Arc::clone(&rollouts));
    tasks.keep("keeper", move || rollout::keeper::run(Arc::clone(&of_keeper)));
    if let Some(redis) = redis {
        let (all, counted) = (Arc::clone(&rollouts), Arc::clone(&counters));
        tasks.keep("fleet", move || rollout::fleet::run(Arc::clone(&all), Arc::clone(&counted)));
        let all = Arc::clone(&rollouts);
        tasks.keep("news", move || rollout::fleet::listen(Arc::clone(&all), Arc::clone(&redis)));
    }
    tasks.keep("rollouts", move || {
        rollout::adopt(introduced.clone(), publish.clone(), Arc::clone(&of_adoption))
    });
    let copies = started.telemetry.copies();
    let comparer = Comparer { copies, judges, log: door(workers), clock: rollouts.clock() };
    tasks.keep("comparer", move || comparer.clone().run());
    let drifting = (drifts, configs.clone(), rollouts.clock());
    tasks.keep("drift", move || {
        let (drifts, configs, clock) = drifting.clone();
        drift::counter::run(drifts, configs, clock)
    });
    let exporter = started.exporter;
    tasks.keep("exporter", move || exporter.clone().run());
    let pressure = Arc::new(Pressure::default());
    let ledger = Arc::new(Ledger::default());
    let looks = (accepted.clone(), Arc::clone(&board), Arc::clone(&counters), Arc::clone(&certificates));
    tasks.keep("prober", move || {
        let (accepted, board, counters, certificates) = looks.clone();
        probe::run(accepted, board, (counters, certificates))
    });
    let read = (configs.clone(), Arc::clone(&pressure));
    tasks.keep("memory", move || memory::run(read.0.clone(), Arc::clone(&read.1)));
    let follows = (configs.clone(), Arc::clone(&certificates), Arc::clone(&counters));
    tasks.keep("certificates", move || {
        let (configs, certificates, counters) = follows.clone();
        tls::follow::run(configs, certificates, counters)
    });
    let named = (accepted.clone(), Arc::clone(&board));
    tasks.keep("names", move || crate::upstream::names::run(named.0.clone(), Arc::clone(&named.1)));
    let seen = Arc::clone(&board);
    tasks
        .keep("introduction", move || introduce::run(accepted.clone(), introduce.clone(), Arc::clone(&seen)));
    let reads = (configs.clone(), Arc::clone(&rollouts), Arc::clone(&ledger), Arc::clone(&counters));
    tasks.keep("resources", move || {
        let (configs, rollouts, ledger, counters) = reads.clone();
        resources::run(configs, rollouts, ledger, counters)
    });
    let reloads = (configs.clone(), started.telemetry.clone());
    tasks.keep("telemetry reload", move || reload_telemetry(reloads.0.clone(), reloads.1.clone()));
    let metrics = metrics_page(
        view.clone(),
        Arc::clone(&state),
        started.telemetry.clone(),
        (Arc::clone(&rollouts), ledger, Arc::clone(&certificates), Arc::clone(&pressure)),
        log.as_ref().map(|log| Arc::clone(log.tally())),
    );
    let serve = Health { view: view.clone(), metrics }.serve(health, when_true(closed.clone()));
    pages.spawn("health port", logged("health port", serve));
    let tally = log.as_ref().map(|log| Arc::clone(log.tally()));
    let control_page = control_page(view, &state, (workers, &intake), (tokens, &rollouts), tally);
    pages.spawn("admin port", logged("admin port", control_page.serve(control, when_true(closed))));

    let shared = Shared {
        config: configs.clone(),
        phase: phases,
        counters,
        keys,
        tls: certificates,
        pressure,
        board: Arc::clone(&board),
        intake: Arc::clone(&intake),
        rollouts: Arc::clone(&rollouts),
    };
    let recorders = started.recorders.into_iter().enumerate();
    let recorders = recorders.map(|(worker, recorder)| recorder.with_log(door(worker))).collect();
    let ended = start_workers(listeners, recorders, &shared)?;
    match source {
        Some(Source { path, environment }) => {
            tasks.keep("configuration", move || {
                let (path, environment) = (path.clone(), environment.clone());
                config::watch::watch(
                    path,
                    environment,
                    Arc::clone(&config),
                    accept.clone(),
                    Arc::clone(&state),
                )
            });
        }
        // Without a source nothing changes, but every receiver must see that the sender is still there.
        None => {
            tasks.spawn("configuration", async move { accept.closed().await });
        }
    }
    Ok(Running {
        listen,
        health: health_at,
        admin: admin_at,
        telemetry: started.telemetry,
        board,
        rollouts,
        log,
        config: configs,
        draining,
        drained,
        phase,
        ended,
        workers,
        close,
        pages,
        tasks,
    })
}

/// What people call this replica.
fn replica(config: &Config) -> String {
    let named = config.fleet.as_ref().and_then(|fleet| fleet.replica.as_deref());
    named.map_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned(), str::to_owned)
}

/// Sees to it that the state directory has the key, unless the keys have a file of their own.
fn keep(keys: &Arc<Keys>, config: &Config) -> Errand {
    let (keys, own) = (Arc::clone(keys), config.keys.is_none());
    Box::new(move |directory| match own {
        true => keys.keep(directory).map_err(|error| error.to_string()),
        false => Ok(()),
    })
}

/// What every worker gets a share of.
struct Shared {
    config: watch::Receiver<Arc<Config>>,
    phase: watch::Receiver<Phase>,
    counters: Arc<Counters>,
    keys: Arc<Keys>,
    tls: Arc<tls::Store>,
    pressure: Arc<Pressure>,
    board: Arc<Board>,
    intake: Arc<Intake>,
    rollouts: Arc<Rollouts>,
}

fn start_workers(
    listeners: Vec<Listener>,
    recorders: Vec<Recorder>,
    shared: &Shared,
) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    let (tell, ended) = mpsc::channel(listeners.len());
    for (index, (listener, recorder)) in listeners.into_iter().zip(recorders).enumerate() {
        let parts = worker::Parts {
            listener,
            recorder,
            config: shared.config.clone(),
            phase: shared.phase.clone(),
            counters: Arc::clone(&shared.counters),
            keys: Arc::clone(&shared.keys),
            tls: Arc::clone(&shared.tls),
            pressure: Arc::clone(&shared.pressure),
            board: Arc::clone(&shared.board),
            feedback: shared.intake.door(index),
            rollouts: Arc::clone(&shared.rollouts),
            index,
        };
        let tell = tell.clone();
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // Its tasks' panics are theirs; one of the thread itself ends the process, as any other end of it.
            let run = catch_unwind(AssertUnwindSafe(|| worker::run(parts)));
            let ended = run.unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")));
            // Nobody listens only while the process ends.
            let _ = tell.blocking_send(ended);
        })?;
    }
    Ok(ended)
}

impl Running {
    /// Waits until a worker ends by itself, which none should: the error is why.
    pub async fn failed(&mut self) -> io::Error {
        match self.ended.recv().await {
            Some(Err(error)) => error,
            Some(Ok(())) | None => io::Error::other("a worker thread ended"),
        }
    }

    /// Whether every endpoint of every variant is ready.
    pub fn is_ready(&self) -> bool {
        let config = self.config.borrow();
        Target::all(&config).all(|(_, _, target)| self.board.get(&target).is_ready())
    }

    /// Whether every endpoint is ready of every variant that is no shadow.
    pub fn can_answer(&self) -> bool {
        let config = self.config.borrow();
        let mut answering = Target::all(&config).filter(|(model, variant, _)| {
            let names = model.shadows.iter().filter_map(|shadow| model.variants.get(shadow.variant));
            !names.map(|shadow| &shadow.name).any(|name| *name == variant.name)
        });
        answering.all(|(_, _, target)| self.board.get(&target).is_ready())
    }

    /// Ends it: [`Running::empty`], then [`Running::end`].
    pub async fn drain(mut self, lag: bool, hurry: impl Future<Output = ()>) -> usize {
        self.empty(lag, hurry).await;
        self.end().await
    }

    /// Gets rid of all calls: not ready at once, no new calls after `drain.lag`, open calls until `drain.grace`, then cut;
    /// `hurry` skips what is left of the first two. Health and admin go on.
    pub async fn empty(&mut self, lag: bool, hurry: impl Future<Output = ()>) {
        let drain = self.config.borrow().drain.clone();
        self.draining.send_replace(true);
        let mut hurry = std::pin::pin!(hurry);
        let mut hurried = false;
        if lag && !drain.lag.is_zero() {
            tracing::info!(lag = ?drain.lag, "not ready; still taking calls for those who do not know yet");
            hurried = hastened(hurry.as_mut(), tokio::time::sleep(drain.lag)).await.is_none();
        }
        let until = Instant::now() + drain.grace;
        self.phase.send_replace(Phase::Draining);
        tracing::info!(grace = ?drain.grace, "draining: no new calls, open ones finish");
        if hurried || !self.finished(hurry, until).await {
            tracing::warn!("open calls are cut");
            self.phase.send_replace(Phase::Cut);
            let _ = tokio::time::timeout(Duration::from_secs(1), self.all_ended()).await;
        }
        self.drained.send_replace(true);
    }

    /// Ends what is empty: what was learnt is kept, spans leave, ports close. Returns how many workers had to be left
    /// behind, 0 if all went well.
    pub async fn end(self) -> usize {
        self.rollouts.close(STATE).await;
        self.telemetry.flush(FLUSH).await;
        if let Some(log) = &self.log {
            log.close(LOG).await;
        }
        self.close.send_replace(true);
        self.pages.drain(PAGES).await;
        drop(self.tasks);
        tracing::info!("ended");
        self.workers
    }

    /// Waits for the workers; false if it takes too long or somebody is in a hurry.
    async fn finished(
        &mut self,
        hurry: std::pin::Pin<&mut impl Future<Output = ()>>,
        until: Instant,
    ) -> bool {
        let all = tokio::time::timeout_at(until, self.all_ended());
        matches!(hastened(hurry, all).await, Some(Ok(())))
    }

    async fn all_ended(&mut self) {
        while self.workers > 0 && self.ended.recv().await.is_some() {
            self.workers -= 1;
        }
    }
}

/// Runs `work` unless somebody gets into a hurry first: then `None`.
async fn hastened<T>(
    hurry: std::pin::Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = hurry => None,
    }
}

async fn when_true(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|set| *set).await;
}

async fn logged(name: &'static str, serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "the {name} is not served");
    }
}

async fn reload_telemetry(mut configs: watch::Receiver<Arc<Config>>, telemetry: Telemetry) {
    while configs.changed().await.is_ok() {
        let config = Arc::clone(&configs.borrow_and_update());
        if let Err(error) = telemetry.reload(&config.telemetry) {
            tracing::error!(%error, "spans go on as before the reload");
        }
    }
}

fn metrics_page(
    view: View,
    state: Arc<config::watch::State>,
    telemetry: Telemetry,
    (rollouts, ledger, certificates, pressure): (Arc<Rollouts>, Arc<Ledger>, Arc<tls::Store>, Arc<Pressure>),
    log: Option<Arc<crate::log::Tally>>,
) -> Arc<dyn Fn(admin::Format) -> Page + Send + Sync> {
    Arc::new(move |format| {
        let format = match format {
            admin::Format::Text => metrics::Format::Prometheus,
            admin::Format::OpenMetrics => metrics::Format::OpenMetrics,
        };
        let status = state.status();
        let config = Arc::clone(&view.config.borrow());
        let endpoints = Target::all(&config).map(|(model, variant, target)| EndpointState {
            model: Arc::clone(&model.name),
            variant: Arc::clone(&variant.name),
            endpoint: target.endpoint.address.to_string(),
            ready: view.board.get(&target).is_ready(),
        });
        let now = metrics::State {
            revision: status.revision,
            reloads_applied: status.applied,
            reloads_refused: status.refused,
            current: status.errors.is_empty(),
            endpoints: endpoints.collect(),
            rollouts: rollouts.metrics(),
            resources: resources_of(&config, &ledger),
            memory: pressure.memory(),
            certificates: certificates.ends(),
            certificates_current: certificates.refused().is_empty(),
            log: log.clone(),
        };
        Page { content_type: format.content_type(), body: telemetry.render(&now, format) }
    })
}

/// What the pages of variants said that are read.
fn resources_of(config: &Config, ledger: &Ledger) -> Vec<ResourceState> {
    let variants =
        config.models.iter().flat_map(|model| model.variants.iter().map(move |variant| (model, variant)));
    let of = |(model, variant): (&Arc<config::Model>, &config::Variant)| {
        let line = ledger.get(&model.name, &variant.name)?;
        Some(ResourceState {
            model: Arc::clone(&model.name),
            variant: Arc::clone(&variant.name),
            read: line.read,
            failed: line.failed,
            cpu: line.last.cpu,
            resident: line.last.resident,
        })
    };
    variants.filter_map(of).collect()
}

fn control_page(
    view: View,
    state: &Arc<config::watch::State>,
    (workers, intake): (usize, &Arc<Intake>),
    (tokens, rollouts): (Option<Arc<Tokens>>, &Arc<Rollouts>),
    log: Option<Arc<crate::log::Tally>>,
) -> Control {
    let configs = view.config.clone();
    let state = Arc::clone(state);
    let reload = move || {
        let status = state.status();
        Reload {
            revision: status.revision,
            since: status.loaded,
            refused: status.refused_at,
            errors: status.errors.iter().map(ToString::to_string).collect(),
        }
    };
    let reload: Arc<dyn Fn() -> Reload + Send + Sync> = Arc::new(reload);
    let service = crate::control::service(Arc::clone(rollouts), view.clone(), Arc::clone(&reload), log);
    Control {
        view,
        effective: Arc::new(move || config::effective(&configs.borrow())),
        reload,
        workers: Arc::new(move || serde_json::json!({ "count": workers })),
        services: tonic::service::Routes::new(service)
            .into_axum_router()
            .reset_fallback()
            .merge(feedback::json::router(intake.door(workers))),
        tokens,
    }
}
