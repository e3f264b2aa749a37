//! What model servers say they use: read from their own pages of metrics, for canaries that guard it.
//!
//! Both variants of such a canary are asked at the same moments, six times a window, by one task per model on the
//! control runtime. What they say goes to the rollout, which judges; that a page cannot be read is counted, told
//! where the rollout's status is, and fails nobody. `page` knows what the text means, `fetch` how to get it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Config, MetricsPage, Model, Strategy};
use crate::evidence::{Reading, Readings};
use crate::rollout::Rollouts;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;
use fetch::fetch;

mod fetch;
mod page;

/// Times that a page is read in a window, so that one failure makes the window a little longer and no more.
const READS: u32 = 6;
/// But no more often than this, nor less.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Between looks at the tasks themselves.
const REVIEW: Duration = Duration::from_secs(30);

/// What became of reading pages, by model and variant.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<Key, Line>>);

/// Model and variant.
type Key = (Arc<str>, Arc<str>);

/// What became of reading one page.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Line {
    /// Times that it said something.
    pub read: u64,
    /// Times that it could not be read, or said nothing of its process.
    pub failed: u64,
    /// What it said last.
    pub last: Reading,
}

impl Ledger {
    /// The line of a variant; none: its page is not read.
    pub fn get(&self, model: &Arc<str>, variant: &Arc<str>) -> Option<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(&(Arc::clone(model), Arc::clone(variant))).copied()
    }

    fn note(&self, arm: &Arm, reading: &Result<Reading, String>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry((Arc::clone(&arm.model), Arc::clone(&arm.variant))).or_default();
        match reading {
            Ok(reading) => {
                line.read += 1;
                line.last = *reading;
            }
            Err(_) => line.failed += 1,
        }
    }
}

/// One variant whose page is read.
#[derive(Debug, Clone, PartialEq)]
struct Arm {
    model: Arc<str>,
    variant: Arc<str>,
    page: MetricsPage,
}

/// Whose pages are read together.
#[derive(Debug, Clone, PartialEq)]
struct Pair {
    baseline: Arm,
    candidate: Arm,
    every: Duration,
}

impl Pair {
    /// None: the model's rollout does not ask what servers use.
    fn of(model: &Model) -> Option<Self> {
        let asks = |strategy: &Strategy| match strategy {
            Strategy::Canary(canary) => {
                canary.guards.resources.map(|guard| (canary.baseline, canary.candidate, guard.window))
            }
            _ => None,
        };
        let (baseline, candidate, window) = model.strategy.stages().find_map(asks)?;
        let arm = |index: usize| {
            let variant = model.variants.get(index)?;
            let (model, name) = (Arc::clone(&model.name), Arc::clone(&variant.name));
            Some(Arm { model, variant: name, page: variant.metrics.clone()? })
        };
        Some(Pair {
            baseline: arm(baseline)?,
            candidate: arm(candidate)?,
            every: (window / READS).clamp(PACE.0, PACE.1),
        })
    }
}

/// Reads what the configuration in force asks for, until `config` has no sender any more.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    rollouts: Arc<Rollouts>,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
) {
    let tasks = Tasks::new(counters);
    let mut owners: HashMap<Arc<str>, (Pair, JoinHandle<()>)> = HashMap::new();
    loop {
        let current = Arc::clone(&config.borrow_and_update());
        let wanted: HashMap<Arc<str>, Pair> = current
            .models
            .iter()
            .filter_map(|model| Some((Arc::clone(&model.name), Pair::of(model)?)))
            .collect();
        for (_, (_, gone)) in owners.extract_if(|name, (pair, _)| wanted.get(name) != Some(pair)) {
            gone.abort();
        }
        for (name, pair) in wanted {
            // A task that panicked has ended, and is started again here.
            if owners.get(&name).is_some_and(|(_, owner)| !owner.is_finished()) {
                continue;
            }
            let reading = follow(pair.clone(), Arc::clone(&rollouts), Arc::clone(&ledger));
            owners.insert(Arc::clone(&name), (pair, tasks.spawn(format!("resources {name}"), reading)));
        }
        if let Ok(Err(_)) = timeout(REVIEW, config.changed()).await {
            return;
        }
    }
}

async fn follow(pair: Pair, rollouts: Arc<Rollouts>, ledger: Arc<Ledger>) {
    let mut ticks = interval(pair.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = None;
    loop {
        ticks.tick().await;
        let (baseline, candidate) =
            tokio::join!(read(&pair.baseline, &ledger), read(&pair.candidate, &ledger));
        let readings = Readings { baseline, candidate };
        let now = readings.trouble();
        if now != trouble {
            let model = &pair.baseline.model;
            match &now {
                Some(why) => tracing::warn!(%model, why, "the guard on resources has nothing to judge"),
                None => tracing::info!(%model, "the guard on resources can judge again"),
            }
            trouble = now;
        }
        rollouts.read(&pair.baseline.model, &readings);
    }
}

async fn read(arm: &Arm, ledger: &Ledger) -> Result<Reading, String> {
    let reading = match fetch(&arm.page).await {
        Ok(text) => page::read(&text).map_err(|error| format!("{}: {error}", arm.page)),
        Err(error) => Err(format!("{}: {error}", arm.page)),
    };
    ledger.note(arm, &reading);
    reading
}
