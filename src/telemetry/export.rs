//! The one task that sends spans to the collector. It lives on the control runtime; no call ever waits for it.
//!
//! Every few milliseconds it empties the workers' queues into one bounded queue of spans, and sends a batch when one
//! is full or the oldest span has waited long enough. While a batch is under way the emptying goes on, so a collector
//! that hangs costs spans, each counted by its cause, and nothing else. A collector that is down is tried again and
//! again; the log says so once when it goes and once when it comes back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::copies::Copies;
use super::environment::Batch;
use super::exemplar::{Exemplar, Exemplars, Gathered};
use super::feedback::Side;
use super::otlp;
use super::recorder::Queue;
use super::settings::{Collector, Settings};
use super::span::Writer;
use super::tally::{Cause, Tally};
use crate::failpoint;
use crate::outcome::Outcome;

mod beside;
mod client;
mod waiting;

use beside::Beside;
use client::Client;
use waiting::Waiting;

/// How often the workers' queues are emptied.
const DRAIN: Duration = Duration::from_millis(20);

/// What is taken of copies in one look.
const ROUND: usize = 8192;

/// How long the collector is left alone after it took nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What the exporter works on, shared with the rest of telemetry.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) queues: Vec<Arc<Queue>>,
    pub(super) copies: Arc<Copies>,
    /// Spans of the sidecar's own doings.
    pub(super) own: Arc<ArrayQueue<Box<SpanData>>>,
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
#[derive(Debug, Clone)]
pub struct Exporter {
    pub(super) shared: Shared,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    /// Held by the one that runs.
    pub(super) flushes: Arc<Mutex<mpsc::Receiver<Flush>>>,
}

impl Exporter {
    /// Runs until every [`super::Telemetry`] is dropped. To run once at a time, on the control runtime.
    pub async fn run(mut self) {
        let mut flushes = self.flushes.lock().await;
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let mut work = Work::new(self.shared, &settings);
        let mut ticks = tokio::time::interval(DRAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    failpoint::panics("exporter");
                    work.drain();
                }
                done = under_way(&mut work.sending) => work.settle(done),
                flush = flushes.recv() => match flush {
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

/// A batch on its way.
struct Sending {
    spans: u64,
    exemplars: Gathered,
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
    client: Option<Client>,
    /// As it is sent.
    resource: Vec<u8>,
    waiting: Waiting,
    beside: Beside,
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
            client: None,
            resource: otlp::resource(&settings.resource),
            waiting: Waiting::default(),
            beside: Beside::default(),
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
        self.client = None;
        self.resource = otlp::resource(&settings.resource);
        self.health = Health::Unknown;
        self.not_before = Instant::now();
    }

    /// Turns what the workers have left into spans that wait.
    fn drain(&mut self) {
        for queue in self.shared.queues.clone() {
            // No more than the queue held, so that a busy worker cannot keep the others waiting.
            for outcome in std::iter::from_fn(|| queue.pop()).take(queue.len()) {
                if outcome.copies == 0 {
                    self.call(&outcome);
                } else if let Some(oldest) = self.beside.hold(outcome, Instant::now()) {
                    self.decide(oldest);
                }
            }
        }
        let writer = self.writer;
        let copies = Arc::clone(&self.shared.copies);
        // Calls first: what is told of one finds it waiting.
        for told in std::iter::from_fn(|| copies.next_told()).take(ROUND) {
            if let Some(outcome) = self.beside.told(told) {
                self.decide(outcome);
            }
        }
        let now = Instant::now();
        while let Some(outcome) = self.beside.due(now, self.flush.is_some()) {
            self.decide(outcome);
        }
        for copy in std::iter::from_fn(|| copies.next_ended()).take(ROUND) {
            self.hold(|out| writer.write_copy(&copy, out));
        }
        let feedback = Arc::clone(&self.shared.feedback);
        for seen in std::iter::from_fn(|| feedback.take()).take(feedback.waiting()) {
            self.hold(|out| writer.write_feedback(&seen, out));
        }
        while let Some(span) = self.shared.own.pop() {
            self.hold(|out| otlp::foreign(*span, out));
        }
    }

    /// A call that waited for its copies: its span is wanted because of them, or in any case.
    fn decide(&mut self, outcome: Box<Outcome>) {
        if outcome.disagreement.is_some() || self.shared.copies.wants(&outcome) {
            self.call(&outcome);
        }
    }

    fn call(&mut self, outcome: &Outcome) {
        let writer = self.writer;
        for which in 0..Writer::count(outcome) {
            let held = self.hold(|out| writer.write_call(outcome, which, out));
            if held && which == 0 {
                // Both name the server span.
                self.waiting.explain(Exemplar::of(outcome));
                self.shared.feedback.link(outcome);
            }
        }
    }

    /// Lets a span wait; false where it cannot, in which case it is not even written.
    fn hold(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.collector.is_none() {
            return false;
        }
        let room = self.waiting.spans() < self.batch.queue;
        if room {
            self.waiting.add(self.batch.size, write);
        } else {
            self.shared.tally.dropped(Cause::QueueFull, 1);
        }
        room
    }

    fn begin_flush(&mut self, flush: Flush) {
        self.flush = Some(flush);
        self.drain();
        self.not_before = Instant::now();
    }

    /// Does what is due: sends a batch, ends a flush.
    fn step(&mut self) {
        if self.sending.is_none() && self.due() {
            self.send();
        }
        let Some(flush) = &self.flush else { return };
        let idle = self.sending.is_none() && self.waiting.spans() == 0;
        if idle || Instant::now() >= flush.deadline {
            self.end_flush();
        }
    }

    fn due(&self) -> bool {
        let Some((oldest, spans)) = self.waiting.first() else { return false };
        if Instant::now() < self.not_before {
            return false;
        }
        self.flush.is_some() || spans >= self.batch.size || oldest.elapsed() >= self.batch.delay
    }

    fn send(&mut self) {
        let Some(collector) = &self.collector else {
            self.waiting = Waiting::default();
            return;
        };
        let client = match &self.client {
            Some(client) => client.clone(),
            None => match Client::new(collector) {
                Ok(client) => self.client.insert(client).clone(),
                Err(problem) => {
                    self.refused(&problem);
                    return;
                }
            },
        };
        let Some(batch) = self.waiting.take() else { return };
        let (spans, exemplars, message) = batch.leave(&self.resource);
        let within = self.batch.timeout;
        let answer = Box::pin(async move {
            match tokio::time::timeout(within, client.export(message)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {within:?}")),
            }
        });
        self.sending = Some(Sending { spans, exemplars, answer });
    }

    /// No exporter can be made for this collector: what waits can go nowhere.
    fn refused(&mut self, problem: &str) {
        self.lose(Cause::ExportFailed);
        self.unreachable(problem);
    }

    /// Gives up what waits.
    fn lose(&mut self, cause: Cause) {
        let lost = std::mem::take(&mut self.waiting).spans();
        self.shared.tally.dropped(cause, lost as u64);
    }

    /// Counts the batch that was answered.
    fn settle(&mut self, answer: Result<(), String>) {
        let Some(sent) = self.sending.take() else { return };
        match answer {
            Ok(()) => {
                self.shared.tally.exported(sent.spans);
                for exemplar in sent.exemplars.all() {
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
        self.shared.tally.dropped(Cause::Shutdown, on_its_way);
        self.lose(Cause::Shutdown);
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

#[cfg(test)]
mod tests;
