//! Spans, metrics and logs, all made from one [`crate::outcome::Outcome`] per call, after its response.
//!
//! [`start`] gives each worker a [`Recorder`], which is all that the call path knows, and one [`Exporter`] for the
//! control runtime. Between them stand only bounded queues that are never waited for.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use counter::Counters;
use environment::Environment;
use exemplar::Exemplars;
use export::{Flush, Shared};
use settings::BadEndpoint;
use shard::Shard;
use tally::Tally;

pub mod copies;
pub mod counter;
pub mod environment;
#[cfg(test)]
pub(crate) mod example;
pub mod exemplar;
mod export;
pub mod feedback;
pub mod metrics;
pub mod names;
mod otlp;
pub mod propagate;
pub mod recorder;
pub mod settings;
pub mod setup;
pub mod shadow;
pub mod shard;
pub mod span;
pub mod tally;

pub use export::Exporter;
pub use recorder::{Recorder, Rules};
pub use shard::InFlight;

/// Spans of the sidecar's own doings that may wait for the exporter.
const OWN_SPANS: usize = 256;

/// What the exporter is given less than a flush may last, so that it can say what was lost.
const SETTLE: Duration = Duration::from_millis(50);

/// Everything that [`start`] makes.
#[derive(Debug)]
pub struct Started {
    /// The handle for the control plane.
    pub telemetry: Telemetry,
    /// One for each worker, to be moved to its thread.
    pub recorders: Vec<Recorder>,
    /// To be run on the control runtime.
    pub exporter: Exporter,
}

/// The control plane's handle: reload, flush, figures.
#[derive(Debug, Clone)]
pub struct Telemetry {
    environment: Arc<Environment>,
    rules: Arc<ArcSwap<Rules>>,
    settings: Arc<watch::Sender<Arc<settings::Settings>>>,
    flushes: mpsc::Sender<Flush>,
    shards: Arc<[Arc<Shard>]>,
    counters: Arc<Counters>,
    shared: Shared,
}

/// Builds telemetry for this many workers. Starts nothing: the exporter is for the caller to run.
///
/// # Errors
/// The file's collector is the one that counts and spans cannot be sent there.
pub fn start(
    file: &crate::config::Telemetry,
    environment: Environment,
    workers: NonZeroUsize,
    counters: Arc<Counters>,
) -> Result<Started, BadEndpoint> {
    let settings = Arc::new(settings::Settings::new(file, &environment)?);
    let rules = Arc::new(ArcSwap::from_pointee(settings.rules.clone()));
    let shards: Arc<[_]> = (0..workers.get()).map(|_| Arc::new(Shard::default())).collect();
    let queues: Vec<_> = shards.iter().map(|_| Arc::new(ArrayQueue::new(recorder::QUEUE))).collect();
    let copies = Arc::new(copies::Copies::new(shards.len(), &rules));
    let recorders = shards
        .iter()
        .zip(&queues)
        .enumerate()
        .map(|(worker, (shard, queue))| {
            Recorder::new(
                Arc::clone(shard),
                (Arc::clone(queue), copies.pairs(worker)),
                &rules,
                Arc::clone(&counters),
            )
        })
        .collect();
    let shared = Shared {
        queues,
        copies,
        own: Arc::new(ArrayQueue::new(OWN_SPANS)),
        tally: Arc::new(Tally::default()),
        exemplars: Arc::new(Exemplars::default()),
        feedback: Arc::new(feedback::Side::new(&rules)),
    };
    let (settings, changes) = watch::channel(settings);
    let (flushes, flush) = mpsc::channel(1);
    let flush = Arc::new(tokio::sync::Mutex::new(flush));
    let exporter = Exporter { shared: shared.clone(), settings: changes, flushes: flush };
    let telemetry = Telemetry {
        environment: Arc::new(environment),
        rules,
        settings: Arc::new(settings),
        flushes,
        shards,
        counters,
        shared,
    };
    Ok(Started { telemetry, recorders, exporter })
}

impl Telemetry {
    /// Goes on with another configuration: collector, sampling, keep-rules and resource.
    ///
    /// # Errors
    /// As [`start`]; then nothing has changed.
    pub fn reload(&self, file: &crate::config::Telemetry) -> Result<(), BadEndpoint> {
        let settings = settings::Settings::new(file, &self.environment)?;
        self.rules.store(Arc::new(settings.rules.clone()));
        self.settings.send_if_modified(|current| {
            let changed = **current != settings;
            *current = Arc::new(settings);
            changed
        });
        Ok(())
    }

    /// Sends everything that waits, for the end of the process: what could not leave within this time, or meets a
    /// collector that fails, is dropped and counted. Always returns by then.
    pub async fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let deadline = until - within.min(SETTLE);
        let (done, wait) = oneshot::channel();
        let flush = async {
            // Either fails only where the exporter no longer runs, and then there is nothing to wait for.
            if self.flushes.send(Flush { deadline, done }).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = tokio::time::timeout_at(until, flush).await;
    }

    /// Everything that was counted, as text for a scrape.
    pub fn render(&self, state: &metrics::State, format: metrics::Format) -> String {
        let sources = metrics::Sources {
            shards: &self.shards,
            counters: &self.counters,
            tally: &self.shared.tally,
            exemplars: &self.shared.exemplars,
            feedback: &self.shared.feedback,
        };
        metrics::render(sources, state, format)
    }

    /// What became of the spans.
    pub fn spans(&self) -> &Tally {
        &self.shared.tally
    }

    /// Where feedback is counted, and its spans begin.
    pub fn feedback(&self) -> Arc<feedback::Side> {
        Arc::clone(&self.shared.feedback)
    }

    /// What the workers have counted, one shard each.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// What became of the calls that shadows could get copies of, by model and shadow, all workers together.
    pub fn shadows(&self) -> Vec<shadow::Ledger> {
        shadow::ledgers(&self.shards)
    }

    /// The way of copies that have ended.
    pub fn copies(&self) -> Arc<copies::Copies> {
        Arc::clone(&self.shared.copies)
    }

    /// The process's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
