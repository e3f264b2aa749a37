//! A whole sidecar in this process, on threads of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use parhelion::app;
use parhelion::assignment::Reason;
use parhelion::config::{self, Config, Listen, Model};
use parhelion::fault::{Blame, Code};
use parhelion::outcome::Fallback;
use parhelion::rollout::Rollouts;
use parhelion::telemetry::Telemetry;
use parhelion::telemetry::counter::Counter;
use parhelion::telemetry::environment::Environment;
use parhelion::upstream::readiness::{Board, Target};
use tokio::sync::oneshot;

use super::{PATIENCE, soon};

/// A sidecar that serves until it is dropped.
pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    pub(crate) telemetry: Telemetry,
    pub(crate) rollouts: Arc<Rollouts>,
    board: Arc<Board>,
    config: Arc<Config>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sidecar {
    /// Starts it and waits until every endpoint is ready.
    pub(crate) async fn start(yaml: &str) -> Self {
        let sidecar = Self::start_cold(yaml).await;
        sidecar.until_ready(|_, ready| ready).await;
        sidecar
    }

    /// Starts it and waits for nothing.
    pub(crate) async fn start_cold(yaml: &str) -> Self {
        let yaml = format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nhealth: 127.0.0.1:0\n{yaml}");
        let loaded = match config::read("test.yaml", &yaml, &config::Environment::default()) {
            Ok(loaded) => loaded,
            Err(errors) => panic!("{errors}\n{yaml}"),
        };
        let config = Arc::clone(&loaded.config);
        let (tell, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let nothing_set = Environment::read(|_| None).unwrap();
                let running = app::start(loaded, None, nothing_set).await.unwrap();
                let Listen::Tcp(address) = running.listen else { panic!("a TCP port was asked for") };
                let rollouts = Arc::clone(&running.rollouts);
                let _ = tell.send((address, running.telemetry.clone(), Arc::clone(&running.board), rollouts));
                // Dropped counts as asked to stop.
                let _ = stopped.await;
                running.drain(false, std::future::ready(())).await;
            });
        });
        let (address, telemetry, board, rollouts) = soon("the start", started).await.unwrap();
        Sidecar { address, telemetry, rollouts, board, config, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until `good` holds for each variant's name and readiness of each of its endpoints.
    pub(crate) async fn until_ready(&self, good: impl Fn(&str, bool) -> bool) {
        let mut changes = self.board.watch();
        let all = || {
            Target::all(&self.config)
                .all(|(_, variant, target)| good(&variant.name, self.board.get(&target).is_ready()))
        };
        let waiting = async {
            while !all() {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let why: Vec<_> =
                Target::all(&self.config).map(|(_, _, target)| self.board.get(&target).why()).collect();
            panic!("readiness is not as wanted: {why:?}");
        }
    }

    /// The model of that name, as the configuration has it.
    pub(crate) fn model(&self, name: &str) -> Arc<Model> {
        Arc::clone(self.config.model(name).unwrap())
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.telemetry.counters().get(counter)
    }

    /// Calls that ended, by code and blame, of all models and variants.
    pub(crate) fn calls(&self, code: Code, blame: Blame) -> u64 {
        let shards = self.telemetry.shards().iter();
        shards.flat_map(|shard| shard.each()).map(|(_, series)| series.calls(code, blame)).sum()
    }

    /// Calls that a variant failed at, of which this became.
    pub(crate) fn fallbacks(&self, fallback: Fallback) -> u64 {
        let shards = self.telemetry.shards().iter();
        shards.flat_map(|shard| shard.each()).map(|(_, series)| series.fallbacks(fallback)).sum()
    }

    /// Attempts at that variant that ended by that fault.
    pub(crate) fn attempts(&self, variant: &str, blame: Blame) -> u64 {
        let all = self.telemetry.shards().iter().flat_map(|shard| shard.each());
        let its = all.filter(|(label, _)| *label.variant == *variant);
        its.map(|(_, series)| series.attempts(blame)).sum()
    }

    /// Calls that were assigned for that reason.
    pub(crate) fn assigned(&self, reason: Reason) -> u64 {
        let shards = self.telemetry.shards().iter();
        shards.flat_map(|shard| shard.each()).map(|(_, series)| series.assigned(reason)).sum()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(|thread| thread.join());
        if !std::thread::panicking() {
            assert!(ended.is_some_and(|ended| ended.is_ok()), "the sidecar panicked");
            assert_eq!(self.count(Counter::Panics), 0, "no call may panic");
        }
    }
}
