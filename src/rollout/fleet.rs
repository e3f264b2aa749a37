//! A rollout that many replicas are one of: who tells the store what, and what its answers become here.
//!
//! A task for each rollout says something once a second, and at once where a call failed; nothing else waits for the
//! store. Without a shared store none of this runs. What a machine is to [`crate::fleet`] is said in `place`, and what
//! people and metrics are told in `told`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Rollouts;
use super::audit;
use super::block::Block;
use super::live::{self, Depth, Inner, Live};
use super::machine::{Machine, Strict};
use super::record::{Actor, AuditRecord, Done, Kept, Refusal};
use crate::config::Model;
use crate::fleet::exchange::Neighbour;
use crate::fleet::member::{self, Member};
use crate::fleet::pace::{INTERVAL, Pace, ROUNDS};
use crate::fleet::redis::Redis;
use crate::fleet::reports::Reports;
use crate::fleet::seat::{Outcome, Seat};
use crate::fleet::{Rollout, Store, StoreError};
use crate::state::Batch;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;
use crate::verdict::{Change, Command, Refused, State};

mod place;
mod reports;
mod told;

use place::Place;
use told::status;

/// The least time between two looks for rollouts that begin.
const PAUSE: Duration = Duration::from_millis(400);
/// How often a command is tried where others decide at the same time.
const TRIES: usize = 5;

/// The way to the others.
#[derive(Debug)]
pub struct Fleet {
    store: Box<dyn Store>,
    /// Where reports of feedback are told, so that each counts once; none: each replica counts what comes to it.
    reports: Option<Box<dyn Reports>>,
    /// No other process ever has this name.
    name: Arc<str>,
    /// Exchanges that failed, by cause.
    failures: std::sync::Mutex<HashMap<&'static str, u64>>,
}

impl Fleet {
    /// `name`: what people call this replica.
    pub fn new(store: Box<dyn Store>, name: &str) -> Self {
        let life: u32 = rand::random();
        let name = format!("{name}/{life:08x}").into();
        Fleet { store, reports: None, name, failures: std::sync::Mutex::default() }
    }

    /// With a place where reports of feedback are told.
    pub fn with_reports(self, reports: Box<dyn Reports>) -> Self {
        Fleet { reports: Some(reports), ..self }
    }

    fn failed(&self, error: &StoreError) {
        // What it guards is whole between any two statements.
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *failures.entry(error.cause()).or_default() += 1;
    }
}

/// One rollout's place in the fleet.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seat: Seat<Machine>,
    wake: Arc<Notify>,
    /// Why the store gave no answer the last time, or why its plan cannot be used.
    trouble: Option<Arc<str>>,
    others: Vec<Neighbour>,
    /// The rollout of the revision before, until this one has begun.
    before: Option<Arc<Live>>,
    /// The same model, as strictly as a replica judges that looks alone beside so many.
    strict: Strict,
}

/// Keeps all rollouts of the fleet for as long as it is polled.
pub async fn run(rollouts: Arc<Rollouts>, counters: Arc<Counters>) {
    let tasks = Tasks::new(counters);
    let mut changes = rollouts.changes();
    let mut driven: Vec<Arc<Live>> = Vec::new();
    loop {
        let all = rollouts.all();
        for live in all.iter().filter(|live| live.inner().shared.is_some()) {
            if !driven.iter().any(|known| Arc::ptr_eq(known, live)) {
                let name = format!("fleet of {}", live.inner().model.name);
                let (rollouts, live) = (Arc::clone(&rollouts), Arc::clone(live));
                tasks.keep(name, move || drive(Arc::clone(&rollouts), Arc::clone(&live)));
            }
        }
        driven = all;
        // Once a second is enough for a rollout that begins.
        let _ = tokio::time::timeout(INTERVAL, changes.changed()).await;
        sleep(PAUSE).await;
    }
}

/// Hears at once what others say, while the store can be listened to.
pub async fn listen(rollouts: Arc<Rollouts>, redis: Arc<Redis>) {
    let Some(name) = rollouts.ground.fleet.as_ref().map(|fleet| Arc::clone(&fleet.name)) else { return };
    let (tell, mut told) = mpsc::channel(64);
    let listening = async {
        loop {
            // Why it ended is told by who exchanges.
            let _ = redis.listen(&name, &tell).await;
            sleep(INTERVAL).await;
        }
    };
    let waking = async {
        while let Some(news) = told.recv().await {
            if let Some(live) = rollouts.find(&news.model) {
                live.wake();
            }
        }
    };
    tokio::join!(listening, waking);
}

async fn drive(rollouts: Arc<Rollouts>, live: Arc<Live>) {
    let Some(wake) = live.inner().shared.as_ref().map(|shared| Arc::clone(&shared.wake)) else { return };
    let name = Arc::clone(&live.inner().model.name);
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (began, mut pace) = (Instant::now(), Pace::default());
    let mut told = began;
    while rollouts.find(&name).is_some_and(|current| Arc::ptr_eq(&current, &live)) {
        tokio::select! {
            _ = tick.tick() => {}
            () = wake.notified() => {}
        }
        sleep(pace.turn(began.elapsed())).await;
        // Whatever makes it say more often than that, reports can wait for the others.
        if told.elapsed() >= INTERVAL * 9 / 10 {
            told = Instant::now();
            rollouts.tell_reports(&name).await;
        }
        let _ordered = live.order.lock().await;
        let _ = rollouts.exchange(&live).await;
    }
}

impl Live {
    /// Says that there is something to hear or to say.
    fn wake(&self) {
        if let Some(shared) = &self.inner().shared {
            shared.wake.notify_one();
        }
    }
}

impl Inner {
    /// Runs `act` with this rollout's seat, what it serves, and what both are to each other.
    fn seated<T>(
        &mut self,
        (rollouts, actor): (&Rollouts, &Actor),
        act: impl FnOnce(&mut Seat<Machine>, &mut Option<Machine>, &mut Place<'_>) -> T,
    ) -> Option<T> {
        let shared = self.shared.as_mut()?;
        let mut place = Place {
            rollouts,
            model: Arc::clone(&self.model),
            config: rollouts.config(),
            before: shared.before.clone(),
            actor: actor.clone(),
            strict: &mut shared.strict,
        };
        Some(act(&mut shared.seat, &mut self.machine, &mut place))
    }

    /// The time that its machine goes by.
    pub(super) fn time(&mut self, now: Duration) -> Duration {
        self.shared.as_mut().map_or(now, |shared| shared.seat.member().time(now))
    }
}

impl Rollouts {
    /// Lets a rollout that begins take part in the fleet, with the plan that an earlier process left.
    pub(super) fn share(&self, live: &Live, before: Option<&Arc<Live>>) {
        let Some(fleet) = &self.ground.fleet else { return };
        let mut inner = live.inner();
        let now = self.clock.now();
        let kept = self.memory().left.remove(&key(&inner.model));
        let kept: member::Kept = kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
        inner.shared = Some(Shared {
            seat: Seat::new(Member::new(Arc::clone(&fleet.name), kept, now)),
            wake: Arc::default(),
            trouble: None,
            others: Vec::new(),
            before: before.cloned(),
            strict: Strict::default(),
        });
        let recalled = inner.seated((self, &Actor::Judge), |seat, _, place| seat.recall(place, now));
        inner.machine = recalled.flatten();
        drop(inner);
        live.publish();
    }

    /// Gathers what calls showed, and looks alone where this replica is parted from the others. Waits for nobody.
    pub(super) async fn look_shared(&self, live: &Live, depth: Depth) {
        let now = self.clock.now();
        let decided = {
            let mut inner = live.inner();
            self.gather(&mut inner, depth);
            if inner.shared.as_ref().is_some_and(|shared| shared.seat.seen().is_urgent()) {
                drop(inner);
                live.wake();
                inner = live.inner();
            }
            let alone = inner
                .seated((self, &Actor::Judge), |seat, view, place| seat.look_alone(place, view, now))
                .flatten();
            alone.map(|change| {
                self.keep(&mut inner);
                self.note(&mut inner, change, Actor::Judge)
            })
        };
        if let Some((record, batch)) = decided {
            self.finish(live, record, batch).await;
        }
    }

    /// Writes down what this replica must know if it starts while the store is away.
    fn keep(&self, inner: &mut Inner) {
        let Some(shared) = &inner.shared else { return };
        let kept = serde_json::to_vec(&shared.seat.seen().kept()).ok();
        let progress = HashMap::from([(key(&inner.model), kept)]);
        self.state.defer(Batch { progress, ..Batch::default() });
    }

    /// Says what there is to say until there is no more; whoever calls holds the rollout's order. The newest record of
    /// what was proposed, where it holds.
    async fn exchange(&self, live: &Live) -> Result<Option<Option<Arc<AuditRecord>>>, StoreError> {
        let Some(fleet) = &self.ground.fleet else { return Ok(None) };
        let (mut refill, mut committed) = (false, None);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let (rollout, ask) = {
                let mut inner = live.inner();
                self.gather(&mut inner, Depth::All);
                let status = status(&inner, live);
                let model = Arc::clone(&inner.model);
                let Some(shared) = &mut inner.shared else { return Ok(None) };
                let member = shared.seat.member();
                member.set_status(status);
                let now = self.clock.now();
                let ask = if refill { member.refill(now) } else { member.ask(now) };
                (Rollout { model: Arc::clone(&model.name), revision: model.revision }, ask)
            };
            let answer = match fleet.store.exchange(&rollout, &ask).await {
                Ok(answer) => answer,
                Err(error) => {
                    fleet.failed(&error);
                    self.unheard(live, &error);
                    return Err(error);
                }
            };
            let now = self.clock.at(began + began.elapsed() / 2);
            let census = ask.census;
            let outcome = {
                let mut inner = live.inner();
                if let Some(shared) = inner.shared.as_mut().filter(|_| census) {
                    shared.others.clone_from(&answer.neighbours);
                }
                let first = inner.shared.as_ref().is_some_and(|shared| !shared.seat.seen().was_answered());
                let heard = inner
                    .seated((self, &Actor::Judge), |seat, view, place| seat.hear(place, view, answer, now));
                let Some(outcome) = heard else { return Ok(None) };
                (outcome, first)
            };
            let (outcome, first) = outcome;
            let (again, what) = (outcome.again || outcome.refill, outcome.committed);
            refill = outcome.refill;
            let record = self.settle(live, outcome, first);
            if what == Some(true) {
                committed = Some(record);
            }
            if !again {
                break;
            }
        }
        Ok(committed)
    }

    fn unheard(&self, live: &Live, error: &StoreError) {
        let mut inner = live.inner();
        let model = Arc::clone(&inner.model);
        let Some(shared) = &mut inner.shared else { return };
        shared.seat.member().unheard();
        let why: Arc<str> = error.to_string().into();
        let known = shared.trouble.replace(Arc::clone(&why));
        if known.as_ref() != Some(&why) {
            tracing::error!(model = %model.name, error = %why, "the store that replicas share cannot be used; calls go on by the last plan");
        }
    }

    /// What an answer changes here; the newest record that came with it. `first`: none came before it.
    fn settle(&self, live: &Live, outcome: Outcome, first: bool) -> Option<Arc<AuditRecord>> {
        let Outcome { adopted, committed, records, blocks, foreign, .. } = outcome;
        let mut inner = live.inner();
        let model = Arc::clone(&inner.model);
        if let Some(shared) = &mut inner.shared {
            let trouble: Option<Arc<str>> = foreign.map(|id| {
                format!(
                    "its plan {id} is of other variants than this replica's file has under the same revision"
                )
                .into()
            });
            if shared.trouble.is_some() && trouble.is_none() {
                tracing::info!(model = %model.name, "the store that replicas share can be used");
            }
            shared.trouble = trouble;
            if inner.machine.is_some()
                && let Some(shared) = &mut inner.shared
            {
                shared.before = None;
            }
        }
        let mut batch = Batch::default();
        let mut memory = self.memory();
        for (build, why) in blocks {
            if memory.blocks.get(&model.name, &build).is_none() {
                tracing::info!(model = %model.name, build, why, "a build is blocked, as other replicas know");
                let millis = self.clock.now().as_millis() as u64;
                let block = Block { model: Arc::clone(&model.name), build, millis, record: 0 };
                batch.blocks.extend([memory.blocks.add(block)]);
            }
        }
        let mut newest = None;
        for text in &records {
            let Ok(record) = serde_json::from_str::<AuditRecord>(text) else { continue };
            let record = memory.audit.add(record);
            batch.audit.push(audit::entry(&record));
            *memory.changes.entry(record.change.action.name()).or_default() += u64::from(!first);
            let blocks = live::blocks(&model, &record.change);
            for (build, blocked) in blocks.into_iter().filter(|_| record.revision == model.revision) {
                let name = Arc::clone(&model.name);
                batch.blocks.extend([match blocked {
                    true => {
                        let (millis, record) = (record.millis, record.sequence);
                        memory.blocks.add(Block { model: name, build, millis, record })
                    }
                    false => memory.blocks.remove(&name, &build),
                }]);
            }
            if !first {
                super::decide::log(&record);
            }
            newest = Some(record);
        }
        drop(memory);
        if committed == Some(true)
            && let (Some(door), Some(record)) = (&self.ground.log, &newest)
        {
            door.change(record);
        }
        if adopted || !records.is_empty() || committed == Some(true) {
            self.keep(&mut inner);
        }
        drop(inner);
        if !batch.is_empty() {
            self.state.defer(batch);
        }
        if adopted {
            live.publish();
            self.tell_answering(live);
        }
        if adopted || newest.is_some() {
            self.changed();
        }
        newest
    }

    /// Does for all replicas what a person wants. While the store is away only a rollback is done, and here alone.
    pub(super) async fn obey_shared(
        &self,
        live: &Live,
        command: &Command,
        actor: Actor,
    ) -> Result<Done, Refusal> {
        let _ordered = live.order.lock().await;
        for _ in 0..TRIES {
            if let Some(shared) = &mut live.inner().shared {
                shared.seat.member().refresh();
            }
            if let Err(error) = self.exchange(live).await {
                return self.obey_alone(live, command, actor, error).await;
            }
            let now = self.clock.now();
            let proposed = live.inner().seated((self, &actor), |seat, _, place| {
                let model = Arc::clone(&place.model);
                let ready = |variant| self.ready(&model, variant);
                let time = seat.member().time(now);
                seat.command(place, now, |machine| machine.command(&model, command, &ready, time))
            });
            proposed.flatten().unwrap_or_else(|| Err(unknown(command)))?;
            match self.exchange(live).await {
                Ok(Some(Some(record))) => return Ok(Done { record, kept: Kept::Fleet }),
                // Another one decided first: once more, from there.
                Ok(_) => {}
                Err(error) => {
                    if let Some(shared) = &mut live.inner().shared {
                        shared.seat.member().withdraw();
                    }
                    return Err(Refusal::Away {
                        why: format!("{error}: whether it was done is not known, look again"),
                    });
                }
            }
        }
        let why = "others decide at the same time all the time; try again".to_owned();
        Err(Refusal::Away { why })
    }

    async fn obey_alone(
        &self,
        live: &Live,
        command: &Command,
        actor: Actor,
        error: StoreError,
    ) -> Result<Done, Refusal> {
        if *command != Command::Rollback {
            return Err(Refusal::Away { why: format!("{error}: only a rollback can be done without it") });
        }
        let (record, batch) = {
            let mut inner = live.inner();
            let now = self.clock.now();
            let time = inner.time(now);
            let change = inner.act(|machine, model| {
                let ready = |_: usize| Ok(());
                let change = machine.command(model, command, &ready, time)?;
                machine.be_alone();
                Ok::<Change, Refused>(change)
            });
            let change = change.unwrap_or_else(|| Err(unknown(command)))?;
            let change =
                Change { why: format!("{} (here alone, for the store is away)", change.why), ..change };
            if let Some(shared) = &mut inner.shared {
                shared.seat.member().roll_back(change.why.clone());
            }
            self.keep(&mut inner);
            self.note(&mut inner, change, actor)
        };
        let done = self.finish(live, record, batch).await;
        Ok(Done {
            kept: Kept::Failing(format!("here alone: {error}; the others follow when it is back")),
            ..done
        })
    }

    /// Tells the store what is left to be told, and lets the lease go.
    pub(super) async fn leave(&self, patience: Duration) {
        let telling = async {
            for live in self.all().iter().filter(|live| live.inner().shared.is_some()) {
                let name = Arc::clone(&live.inner().model.name);
                self.tell_reports(&name).await;
            }
        };
        let _ = tokio::time::timeout(patience / 2, telling).await;
        self.flush();
        for live in self.all() {
            let ends = live.inner().shared.as_mut().map(|shared| shared.seat.member().end()).is_some();
            if ends {
                let saying = async {
                    let _ordered = live.order.lock().await;
                    self.exchange(&live).await
                };
                let _ = tokio::time::timeout(patience / 2, saying).await;
            }
        }
    }
}

fn unknown(command: &Command) -> Refused {
    Refused::State {
        command: command.name(),
        state: State::Waiting.name(),
        remedy: "no replica has a plan yet; try again in a second",
    }
}

/// Under which a replica's own state has what it must know of the fleet. No name holds a line end.
fn key(model: &Model) -> String {
    format!("{}\nfleet", model.name)
}
