//! Where every rollout stands, who moves it, and what is known of it.
//!
//! A rollout lives here, not in a generation of the configuration: a reload that changes nothing it rests on leaves its
//! step, its evidence and what a person did to it as they are. Workers read where it stands once per call, from
//! memory of their own; [`keeper`] gathers what their calls showed, and decides. Every change goes the same way: it
//! is decided, written down, published, told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use crate::config::{Config, Model};
use crate::drift::Drifts;
use crate::evidence::Readings;
use crate::feedback::Intake;
use crate::feedback::shown::Exposures;
use crate::shadow::judges::Judges;
use crate::state::State;
use crate::telemetry::shard::Shard;
use crate::upstream::readiness::Board;
use crate::verdict::Command;
use crate::warm::Warmer;
use crate::warm::sample::Samples;

mod adopt;
mod audit;
mod block;
mod decide;
mod explain;
mod export;
pub mod fleet;
pub mod keeper;
pub mod live;
mod machine;
pub mod record;
mod servers;
mod tell;

pub use adopt::adopt;
use audit::Audit;
use block::Blocks;
use live::Live;
pub(crate) use machine::{Machine, Strict};
pub use record::{
    Actor, AuditRecord, Done, Explanation, FleetStatus, Kept, Question, Refusal, Replica, Role, Status,
    Summary, VariantStatus,
};

/// Every rollout of the process, and what outlives them.
#[derive(Debug)]
pub struct Rollouts {
    lives: RwLock<Lives>,
    memory: Mutex<Memory>,
    state: State,
    ground: Ground,
    clock: Clock,
    changes: watch::Sender<u64>,
    /// Wakes the keeper: a candidate failed.
    alarm: Arc<Notify>,
}

/// What rollouts stand on.
#[derive(Debug)]
pub struct Ground {
    /// Readiness of all endpoints.
    pub board: Arc<Board>,
    /// The secret that units are hashed with.
    pub unit_key: [u8; 32],
    /// What workers have counted, one each.
    pub shards: Vec<Arc<Shard>>,
    /// Where feedback comes in.
    pub intake: Arc<Intake>,
    /// Warms what is to be given calls.
    pub warmer: Arc<Warmer>,
    /// Where changes are logged; none: they are in the state alone.
    pub log: Option<crate::log::Door>,
    /// What answers of shadows prove.
    pub judges: Arc<Judges>,
    /// How answers are distributed.
    pub drifts: Arc<Drifts>,
    /// The way to other replicas; none: each is alone.
    pub fleet: Option<fleet::Fleet>,
}

#[derive(Debug)]
struct Lives {
    by_name: HashMap<Arc<str>, Arc<Live>>,
    config: Arc<Config>,
}

/// What is remembered beside the rollouts themselves.
#[derive(Debug, Default)]
struct Memory {
    blocks: Blocks,
    audit: Audit,
    /// Rollouts whose model is not in the configuration, or not yet.
    left: HashMap<String, Vec<u8>>,
    /// Whether what an earlier process left is known.
    read: bool,
    /// Hours since 1970, when marks that have expired were last removed.
    hour: u32,
    /// Whether the log is listened to.
    told: bool,
    /// Records that it has not been told.
    untold: Vec<Arc<AuditRecord>>,
    /// Changes made, by what was done.
    changes: HashMap<&'static str, u64>,
}

/// Time since 1970 that never goes back while the process runs.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Duration,
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start, origin: Instant::now() }
    }
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Duration {
        self.start + self.origin.elapsed()
    }

    /// A moment that was read already.
    pub fn at(&self, moment: Instant) -> Duration {
        self.start + moment.saturating_duration_since(self.origin)
    }
}

impl Memory {
    /// The hour that begins, once.
    fn hour(&mut self, now: Duration) -> Option<u32> {
        let hour = hour(now);
        let begins = hour != self.hour;
        self.hour = hour;
        begins.then_some(hour)
    }
}

/// Hours since 1970.
fn hour(now: Duration) -> u32 {
    u32::try_from(now.as_secs() / 3600).unwrap_or(u32::MAX)
}

impl Rollouts {
    /// Those of `config`, each where an earlier process left it.
    pub fn new(config: &Arc<Config>, state: State, ground: Ground) -> Self {
        let rollouts = Rollouts {
            lives: RwLock::new(Lives { by_name: HashMap::new(), config: Arc::clone(config) }),
            memory: Mutex::default(),
            state,
            ground,
            clock: Clock::default(),
            changes: watch::Sender::new(0),
            alarm: Arc::default(),
        };
        rollouts.read_left();
        rollouts.take(config);
        rollouts
    }

    /// Where samples of that model's calls are kept.
    pub fn samples(&self, model: &Arc<str>) -> Arc<Samples> {
        self.ground.warmer.samples(model)
    }

    /// What the model's calls have shown, where its strategy needs that.
    pub fn shown(&self, model: &Model) -> Option<Arc<Exposures>> {
        self.ground.intake.shown(model)
    }

    /// The clock that everything here is timed by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What answers of shadows prove.
    pub fn judges(&self) -> &Arc<Judges> {
        &self.ground.judges
    }

    /// How answers are distributed.
    pub fn drifts(&self) -> &Arc<Drifts> {
        &self.ground.drifts
    }

    /// What is kept, and whether it can be.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The rollout of `model`. A generation that is about to be replaced may ask for one that is gone: it gets one that
    /// gives the baseline everything for these few milliseconds, or what the file says where nothing is decided.
    pub fn live(&self, model: &Arc<Model>) -> Arc<Live> {
        let known = self.find(&model.name).filter(|live| live.inner().fits(model));
        known.unwrap_or_else(|| {
            Arc::new(Live::new(model, &Arc::from(""), None, (self.ground.shards.len(), &self.alarm)))
        })
    }

    /// Grows with every change of plan, and about once a second while evidence comes in.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Does what a person wants. What was done holds for every call that begins after this returns.
    ///
    /// # Errors
    /// When there is no such model, or its strategy refuses; nothing has changed then.
    pub async fn command(&self, model: &str, command: Command, actor: Actor) -> Result<Done, Refusal> {
        let live = self.known(model)?;
        self.obey(&live, &command, actor).await
    }

    /// The latest records, newest first, at most `limit`; of one model, or of all.
    pub fn audit(&self, model: Option<&str>, limit: usize) -> Vec<Arc<AuditRecord>> {
        self.memory().audit.newest(model, limit)
    }

    /// Writes down what is known, and lets the state directory go.
    pub async fn close(&self, patience: Duration) {
        self.flush();
        self.leave(patience / 2).await;
        self.state.close(patience).await;
    }

    /// Takes in what the servers of a canary's two variants said of themselves; judged at the keeper's next look.
    pub fn read(&self, model: &str, readings: &Readings) {
        if let Some(live) = self.find(model) {
            live.inner().read(readings, self.clock.now());
        }
    }

    fn find(&self, model: &str) -> Option<Arc<Live>> {
        self.lives.read().unwrap_or_else(PoisonError::into_inner).by_name.get(model).cloned()
    }

    fn known(&self, model: &str) -> Result<Arc<Live>, Refusal> {
        self.find(model).ok_or_else(|| {
            let config = self.config();
            let known: Vec<&str> = config.models.iter().map(|model| &*model.name).collect();
            Refusal::Model { model: model.to_owned(), known: known.join(", ") }
        })
    }

    /// In the order of the file.
    fn all(&self) -> Vec<Arc<Live>> {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        lives.config.models.iter().filter_map(|model| lives.by_name.get(&model.name).cloned()).collect()
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lives.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What it guards is whole between any two statements.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests;
