//! The prober: one task per endpoint of a variant asks its server whether it may get calls.
//!
//! A probe that succeeds makes an endpoint ready at once. One that fails after that is repeated after 100 ms, and only
//! a second failure takes the endpoint out: a server that pauses for a moment loses no traffic, one that refuses
//! connections loses it 100 ms after the first look, one that is silent after two seconds. But silence says nothing of
//! a server that answered calls meanwhile: it is busy, and taking it out would fail the calls that it does answer.
//! Long before that a server that answers nobody is passed over where there is another: see `suspicion`. An endpoint
//! with calls is asked twice as often as an idle one, so a server that hangs is passed over within a second.
//! Workers that see calls fail say so ([`Readiness::doubt`]), so nobody waits for the next regular look. What is asked
//! is in `ask`; what to do when a connection does not even speak HTTP/2 is in `look`.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::readiness::{Board, Readiness, Target};
use crate::config::Config;
use crate::failpoint;
use crate::tasks::Tasks;
use crate::telemetry::counter::{Counter, Counters};
use crate::tls;
use ask::{Asker, Cause, No};
use suspicion::Suspicion;

mod ask;
mod look;
mod suspicion;

pub use look::refuse_http1;

/// Between probes of an endpoint that is ready and has no calls; with calls half of it.
const READY_INTERVAL: Duration = Duration::from_secs(1);
/// Between probes of one that is not: the first, then doubled up to the longest.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);
/// Before a failure is believed, and at least between any two probes.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// For a connection, and again for the answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the readiness on `board` true to what the servers of `config` say, until `config` has no sender any more.
///
/// Targets that join a later configuration get a task, those that leave it lose theirs.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    board: Arc<Board>,
    (counters, tls): (Arc<Counters>, Arc<tls::Store>),
) {
    let tasks = Tasks::new(Arc::clone(&counters));
    let mut owners: HashMap<Target, JoinHandle<()>> = HashMap::new();
    loop {
        let current = Arc::clone(&config.borrow_and_update());
        let wanted: HashSet<Target> =
            Target::all(&current).chain(Target::controls(&current)).map(|(_, _, target)| target).collect();
        for (_, gone) in owners.extract_if(|target, _| !wanted.contains(target)) {
            gone.abort();
            // Waited for, so that its hold on the readiness is gone before the board forgets it.
            let _ = gone.await;
        }
        board.retain(|target| wanted.contains(target));
        for (model, variant, target) in Target::all(&current).chain(Target::controls(&current)) {
            board.get(&target).declare(Target::outputs(model, variant));
            if owners.contains_key(&target) {
                continue;
            }
            let name = format!("probe {}/{} {}", model.name, variant.name, target.endpoint.address);
            let (names, readiness) =
                ((Arc::clone(&model.name), Arc::clone(&variant.name)), board.get(&target));
            let (asked, tls) = (target.clone(), Arc::clone(&tls));
            let (board, counters) = (Arc::clone(&board), Arc::clone(&counters));
            let owner = move || Owner {
                model: Arc::clone(&names.0),
                variant: Arc::clone(&names.1),
                asker: Asker::new(asked.clone(), Arc::clone(&tls)),
                readiness: Arc::clone(&readiness),
                board: Arc::clone(&board),
                pace: Pace::default(),
                suspicion: Suspicion::default(),
                counters: Arc::clone(&counters),
                warned: false,
            };
            owners.insert(target, tasks.keep(name, move || owner().run()));
        }
        board.announce();
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// When the next probe is due: what is left of the past is the number of failures in a row.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    /// Takes in what a probe found about an endpoint that was `ready`; says whether it is now, and when to look
    /// again. `draw` from 0.0 to 1.0 spreads the endpoints over time.
    fn next(&mut self, ready: bool, good: bool, draw: f64) -> (bool, Duration) {
        // Between 0.9 and 1.1 of the interval.
        let spread = |interval: Duration| interval.mul_f64(0.9 + 0.2 * draw);
        if good {
            self.failures = 0;
            return (true, spread(READY_INTERVAL));
        }
        self.failures = self.failures.saturating_add(1);
        if ready && self.failures < 2 {
            return (true, SHORTEST_INTERVAL);
        }
        if ready {
            self.failures = 1;
        }
        let doublings = (self.failures - 1).min(8);
        (false, spread((FIRST_INTERVAL * 2_u32.pow(doublings)).min(LONGEST_INTERVAL)))
    }
}

struct Owner {
    model: Arc<str>,
    variant: Arc<str>,
    asker: Asker,
    readiness: Arc<Readiness>,
    board: Arc<Board>,
    pace: Pace,
    suspicion: Suspicion,
    counters: Arc<Counters>,
    /// Whether a reason that waiting does not cure was warned of: once is enough.
    warned: bool,
}

impl Owner {
    async fn run(mut self) {
        loop {
            failpoint::panics("probe");
            let (started, answered) = (Instant::now(), self.readiness.answered());
            let found = self.ask().await;
            if found.is_ok() {
                self.question().await;
            }
            let wait = match found {
                Err(No { cause: Cause::Silent, .. }) if self.lives(answered) => READY_INTERVAL,
                found => self.take_in(found).await,
            };
            let busy = self.readiness.in_flight() > 0 || self.readiness.answered() > answered;
            let wait = if busy && wait > READY_INTERVAL / 2 { wait / 2 } else { wait };
            let due = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.readiness.doubted() => sleep_until((started + SHORTEST_INTERVAL).min(due)).await,
            }
        }
    }

    /// Asks once. Where meanwhile the server says nothing, here or to any caller, it is suspected until it does.
    async fn ask(&mut self) -> Result<&'static str, No> {
        let Owner { model, variant, asker, readiness, suspicion, counters, .. } = self;
        let endpoint = asker.target().endpoint.address.clone();
        let mut asking = pin!(asker.ask());
        let found = loop {
            let answered = readiness.answered();
            match timeout(suspicion.patience(), asking.as_mut()).await {
                Ok(found) => break found,
                Err(_) if readiness.answered() > answered => suspicion.spoke(readiness),
                Err(_) if suspicion.nothing(readiness) => {
                    counters.add(Counter::Suspicions);
                    tracing::info!(%model, %variant, %endpoint, "endpoint answers neither probes nor calls; others are preferred");
                }
                Err(_) => {}
            }
        };
        let spoke = match &found {
            Ok(_) => true,
            Err(no) => no.cause == Cause::Said,
        };
        if spoke {
            suspicion.spoke(readiness);
        }
        found
    }

    /// Whether an endpoint that is ready answered calls since there were `before`.
    fn lives(&self, before: u64) -> bool {
        self.readiness.is_ready() && self.readiness.answered() > before
    }

    /// Asks what the server runs, where somebody wants to know.
    async fn question(&mut self) {
        if let Some(report) = self.readiness.question()
            && let Some(said) = self.asker.versions(report).await
        {
            self.readiness.hear(Some(said));
        }
        if let Some(outputs) = self.readiness.unasked()
            && let Some(said) = self.asker.outputs().await
        {
            let mismatch = outputs.mismatch(&said);
            if let Some(why) = &mismatch {
                let (model, variant) = (&self.model, &self.variant);
                let endpoint = &self.asker.target().endpoint.address;
                tracing::warn!(%model, %variant, %endpoint, why, "the file declares outputs that the model does not have");
            }
            self.readiness.set_mismatch(Some(mismatch.map(Arc::from)));
        }
    }

    /// Keeps and tells what was found; returns how long to wait.
    async fn take_in(&mut self, found: Result<&'static str, No>) -> Duration {
        let before = self.readiness.is_ready();
        let (ready, wait) = self.pace.next(before, found.is_ok(), rand::random_range(0.0..1.0));
        if ready && found.is_err() {
            // Not believed yet: the reason stays the old one too.
            return wait;
        }
        let (why, loud) = match found {
            Ok(kind) => (kind.to_owned(), false),
            Err(no) => self.diagnose(no).await,
        };
        let new_reason = self.readiness.explain(&why);
        if !ready {
            // Behind the next connection there may be another server.
            self.readiness.hear(None);
            self.readiness.set_mismatch(None);
        }
        let changed = self.readiness.set(ready);
        if !ready {
            // Given up, it need not be passed over.
            self.readiness.suspect(false);
        }
        if changed || new_reason {
            self.tell((before, ready), loud, &why);
            self.board.announce();
        }
        wait
    }

    /// The reason for people, and whether it is one that waiting does not cure.
    async fn diagnose(&self, no: No) -> (String, bool) {
        // What stands behind TLS was told apart by the handshake.
        if no.cause == Cause::Said || self.asker.target().endpoint.tls.is_some() {
            return (no.why, false);
        }
        match timeout(PATIENCE, look::look(&self.asker.target().endpoint.address)).await {
            Ok(look::Seen::NotHttp2(what)) => (look::advice(what), true),
            _ => (no.why, false),
        }
    }

    fn tell(&mut self, states: (bool, bool), loud: bool, why: &str) {
        let (model, variant) = (&self.model, &self.variant);
        let endpoint = &self.asker.target().endpoint.address;
        match states {
            (false, true) => tracing::info!(%model, %variant, %endpoint, why, "endpoint is ready"),
            (true, false) => tracing::warn!(%model, %variant, %endpoint, why, "endpoint is no longer ready"),
            (false, false) if loud && !self.warned => {
                self.warned = true;
                tracing::warn!(%model, %variant, %endpoint, "{endpoint} {why}");
            }
            (false, false) => tracing::info!(%model, %variant, %endpoint, why, "endpoint is not ready"),
            // Still ready, and only asked in another way.
            (true, true) => {}
        }
    }
}

#[cfg(test)]
mod tests;
