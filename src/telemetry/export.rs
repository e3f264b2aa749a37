//! The one task that sends spans to the collector. It lives on the control runtime; no call ever waits for it.
//!
//! Every few milliseconds it empties the workers' queues into one bounded queue of spans, and sends a batch when one
//! is full or the oldest span has waited long enough. While a batch is under way the emptying goes on, so a collector
//! that hangs costs spans, each counted by its cause, and nothing else. A collector that is down is tried again and
//! again; the log says so once when it goes and once when it comes back.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::metadata::MetadataMap;

use super::environment::Batch;
use super::exemplar::{Exemplar, Exemplars};
use super::feedback::Side;
use super::recorder::{Copies, Queue};
use super::settings::{Collector, Settings};
use super::span::Writer;
use super::tally::{Cause, Tally};

/// How often the workers' queues are emptied.
const DRAIN: Duration = Duration::from_millis(20);

/// How long the collector is left alone after it took nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What the exporter works on, shared with the rest of telemetry.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) queues: Vec<Arc<Queue>>,
    pub(super) copies: Vec<Arc<Copies>>,
    /// Spans of the sidecar's own doings.
    pub(super) own: Arc<ArrayQueue<SpanData>>,
    pub(super) tally: Arc<Tally>,
    pub(super) exemplars: Arc<Exemplars>,
    pub(super) feedback: Arc<Side>,
}

/// Wants everything gone by then, and to be told.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<()>,
}

/// Sends spans until every handle to telemetry is gone.
#[derive(Debug)]
pub struct Exporter {
    pub(super) shared: Shared,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) flushes: mpsc::Receiver<Flush>,
}

impl Exporter {
    /// Runs until every [`super::Telemetry`] is dropped. To be started once, on the control runtime.
    pub async fn run(mut self) {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let mut work = Work::new(self.shared, &settings);
        let mut ticks = tokio::time::interval(DRAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => work.drain(),
                done = under_way(&mut work.sending) => work.settle(done),
                flush = self.flushes.recv() => match flush {
                    Some(flush) => work.begin_flush(flush),
                    None => return,
                },
                Ok(()) = self.settings.changed() => {
                    let settings = Arc::clone(&self.settings.borrow_and_update());
                    work.apply(&settings);
                }
            }
            work.step();
        }
    }
}

/// A span that waits, and the exemplar it may become.
#[derive(Debug)]
struct Pending {
    span: SpanData,
    exemplar: Option<Exemplar>,
    since: Instant,
}

/// A batch on its way.
struct Sending {
    spans: u64,
    exemplars: Vec<Exemplar>,
    answer: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
}

/// How the last export went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    Down,
}

struct Work {
    shared: Shared,
    writer: Writer,
    batch: Batch,
    collector: Option<Collector>,
    /// Made at the first batch, for it needs a runtime.
    exporter: Option<Arc<opentelemetry_otlp::SpanExporter>>,
    resource: Resource,
    pending: VecDeque<Pending>,
    sending: Option<Sending>,
    flush: Option<Flush>,
    health: Health,
    not_before: Instant,
}

/// Resolves when the batch that is on its way has been answered; never where there is none.
async fn under_way(sending: &mut Option<Sending>) -> Result<(), String> {
    match sending {
        Some(sending) => sending.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Work {
    fn new(shared: Shared, settings: &Settings) -> Self {
        Work {
            shared,
            writer: Writer::new(settings.conventions, settings.limits),
            batch: settings.batch,
            collector: settings.collector.clone(),
            exporter: None,
            resource: resource(settings),
            pending: VecDeque::new(),
            sending: None,
            flush: None,
            health: Health::Unknown,
            not_before: Instant::now(),
        }
    }

    /// Goes on with new settings; a batch on its way still goes to where it was sent.
    fn apply(&mut self, settings: &Settings) {
        self.writer = Writer::new(settings.conventions, settings.limits);
        self.batch = settings.batch;
        self.collector = settings.collector.clone();
        self.exporter = None;
        self.resource = resource(settings);
        self.health = Health::Unknown;
        self.not_before = Instant::now();
    }

    /// Turns what the workers have left into spans that wait.
    fn drain(&mut self) {
        let now = Instant::now();
        for index in 0..self.shared.queues.len() {
            let queue = Arc::clone(&self.shared.queues[index]);
            // No more than the queue held, so that a busy worker cannot keep the others waiting.
            for _ in 0..queue.len() {
                let Some(outcome) = queue.pop() else { break };
                if self.pending.len() >= self.batch.queue {
                    // Not worth building.
                    self.shared.tally.dropped(Cause::QueueFull, 1 + outcome.attempts.len() as u64);
                    continue;
                }
                if self.collector.is_some() {
                    self.shared.feedback.link(&outcome);
                }
                let mut exemplar = Exemplar::of(&outcome);
                for span in self.writer.spans(&outcome) {
                    self.hold(Pending { span, exemplar: exemplar.take(), since: now });
                }
            }
        }
        for index in 0..self.shared.copies.len() {
            let queue = Arc::clone(&self.shared.copies[index]);
            for _ in 0..queue.len() {
                let Some(copy) = queue.pop() else { break };
                let span = self.writer.copy(&copy);
                self.hold(Pending { span, exemplar: None, since: now });
            }
        }
        for _ in 0..self.shared.feedback.waiting() {
            let Some(seen) = self.shared.feedback.take() else { break };
            let span = self.writer.feedback(&seen);
            self.hold(Pending { span, exemplar: None, since: now });
        }
        while let Some(span) = self.shared.own.pop() {
            self.hold(Pending { span, exemplar: None, since: now });
        }
    }

    fn hold(&mut self, pending: Pending) {
        if self.collector.is_none() {
            return;
        }
        if self.pending.len() < self.batch.queue {
            self.pending.push_back(pending);
        } else {
            self.shared.tally.dropped(Cause::QueueFull, 1);
        }
    }

    fn begin_flush(&mut self, flush: Flush) {
        self.drain();
        self.not_before = Instant::now();
        self.flush = Some(flush);
    }

    /// Does what is due: sends a batch, ends a flush.
    fn step(&mut self) {
        if self.sending.is_none() && self.due() {
            self.send();
        }
        let Some(flush) = &self.flush else { return };
        let idle = self.sending.is_none() && self.pending.is_empty();
        if idle || Instant::now() >= flush.deadline {
            self.end_flush();
        }
    }

    fn due(&self) -> bool {
        let Some(oldest) = self.pending.front() else { return false };
        if Instant::now() < self.not_before {
            return false;
        }
        self.flush.is_some()
            || self.pending.len() >= self.batch.size
            || oldest.since.elapsed() >= self.batch.delay
    }

    fn send(&mut self) {
        let Some(collector) = &self.collector else {
            self.pending.clear();
            return;
        };
        let exporter = match &self.exporter {
            Some(exporter) => Arc::clone(exporter),
            None => match build(collector, &self.resource) {
                Ok(exporter) => Arc::clone(self.exporter.insert(Arc::new(exporter))),
                Err(problem) => {
                    self.refused(&problem);
                    return;
                }
            },
        };
        let count = self.pending.len().min(self.batch.size);
        let mut spans = Vec::with_capacity(count);
        let mut exemplars = Vec::new();
        for pending in self.pending.drain(..count) {
            spans.push(pending.span);
            exemplars.extend(pending.exemplar);
        }
        let within = self.batch.timeout;
        let answer = Box::pin(async move {
            match tokio::time::timeout(within, exporter.export(spans)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(problem)) => Err(problem.to_string()),
                Err(_) => Err(format!("no answer within {within:?}")),
            }
        });
        self.sending = Some(Sending { spans: count as u64, exemplars, answer });
    }

    /// No exporter can be made for this collector: what waits can go nowhere.
    fn refused(&mut self, problem: &str) {
        self.shared.tally.dropped(Cause::ExportFailed, self.pending.len() as u64);
        self.pending.clear();
        self.unreachable(problem);
    }

    /// Counts the batch that was answered.
    fn settle(&mut self, answer: Result<(), String>) {
        let Some(sent) = self.sending.take() else { return };
        match answer {
            Ok(()) => {
                self.shared.tally.exported(sent.spans);
                for exemplar in sent.exemplars {
                    self.shared.exemplars.keep(exemplar);
                }
                self.reachable();
            }
            Err(problem) => {
                self.shared.tally.dropped(Cause::ExportFailed, sent.spans);
                self.unreachable(&problem);
                if self.flush.is_some() {
                    self.end_flush();
                }
            }
        }
    }

    /// Gives up what could not leave and answers.
    fn end_flush(&mut self) {
        let Some(flush) = self.flush.take() else { return };
        let on_its_way = self.sending.take().map_or(0, |sending| sending.spans);
        let lost = on_its_way + self.pending.len() as u64;
        self.pending.clear();
        self.shared.tally.dropped(Cause::Shutdown, lost);
        // Whoever asked may be gone by now, which changes nothing.
        let _ = flush.done.send(());
    }

    fn reachable(&mut self) {
        if self.health == Health::Down {
            tracing::info!(collector = self.place(), "spans are exported again");
        }
        self.health = Health::Up;
    }

    fn unreachable(&mut self, problem: &str) {
        self.not_before = Instant::now() + PAUSE;
        if self.health != Health::Down {
            tracing::warn!(
                collector = self.place(),
                problem,
                "spans cannot be exported; calls are not affected"
            );
        }
        self.health = Health::Down;
    }

    fn place(&self) -> &str {
        self.collector.as_ref().map_or("", |collector| collector.endpoint.as_str())
    }
}

fn resource(settings: &Settings) -> Resource {
    let attributes = settings.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty().with_attributes(attributes).build()
}

fn build(collector: &Collector, resource: &Resource) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let builder = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint.clone())
        .with_timeout(collector.timeout)
        .with_metadata(MetadataMap::from_headers(collector.headers.clone()));
    let mut exporter = builder.build().map_err(|problem| problem.to_string())?;
    exporter.set_resource(resource);
    Ok(exporter)
}

#[cfg(test)]
mod tests;
