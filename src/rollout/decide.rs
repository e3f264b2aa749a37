//! How a change of plan is made: decided, written down, published, told, in this order and one at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Rollouts;
use super::audit;
use super::block::Block;
use super::live::{Depth, Inner, Live};
use super::record::{Actor, AuditRecord, Done, Kept, Refusal};
use crate::config::{Model, Strategy};
use crate::evidence::Copies;
use crate::feedback;
use crate::state::{Batch, Mark};
use crate::strategy::Split;
use crate::upstream::readiness::Target;
use crate::verdict::{Action, Change, Command, Refused, State};
use crate::warm::{Order, Warmth};

/// How long a decision waits to be on the disk; then it holds all the same.
const PATIENCE: Duration = Duration::from_millis(50);

impl Rollouts {
    /// Gathers what calls showed and moves the rollout as far as that goes.
    pub(super) async fn look(&self, live: &Live, depth: Depth) {
        if live.inner().shared.is_some() {
            return self.look_shared(live, depth).await;
        }
        self.gather(&mut live.inner(), depth);
        if live.inner().refresh(self.clock.now()) {
            live.publish();
        }
        loop {
            let ordered = live.order.lock().await;
            let decided = {
                let mut inner = live.inner();
                let shared = Arc::clone(&inner.model);
                let change = inner.act(|machine, model| {
                    let warms = machine.warms(model);
                    // Asked in any case: what is warmed goes on while somebody asks.
                    let warm = warms.map_or(Ok(()), |variant| self.warm(&shared, variant));
                    let ready = |variant| {
                        self.ready(model, variant)?;
                        if warms == Some(variant) { warm.clone() } else { Ok(()) }
                    };
                    machine.look(model, &ready, self.clock.now())
                });
                change.flatten().map(|change| self.note(&mut inner, change, Actor::Judge))
            };
            let Some((record, batch)) = decided else { return };
            self.finish(live, record, batch).await;
            drop(ordered);
        }
    }

    /// Takes in what calls and copies showed since the last time.
    pub(super) fn gather(&self, inner: &mut Inner, depth: Depth) {
        inner.gather(depth, self.clock.now());
        let model = Arc::clone(&inner.model);
        self.look_at_servers(inner);
        let stage = inner.act(|machine, model| machine.standing(model).stage);
        let copied =
            model.shadows.iter().find(|shadow| stage.is_some_and(|stage| shadow.stages.contains(&stage)));
        if let Some(variant) = copied.and_then(|shadow| model.variants.get(shadow.variant)) {
            let shards = self.ground.shards.iter();
            let all = shards.fold(Copies::default(), |sum, shard| {
                sum.plus(&shard.shadow(&model.name, &variant.name).proof())
            });
            inner.copied(all, self.clock.now());
        }
        let judged = |variant: &usize| model.shadows.iter().any(|shadow| shadow.variant == *variant);
        let candidate = model.strategy.candidate().filter(judged);
        if let Some(finding) = candidate.and_then(|variant| self.ground.judges.finding(&model, variant)) {
            inner.act_all(|machine, _| machine.absorb_judged(&finding));
        }
    }

    /// Writes down verdicts on shadows and drifts that are new. They change no plan by themselves.
    pub(super) async fn tell_judged(&self, live: &Live) {
        let model = Arc::clone(&live.inner().model);
        if model.shadows.is_empty() && model.drift.is_none() {
            return;
        }
        // Who tells the store something holds this for as long as that takes.
        if live.inner().shared.is_some() && live.order.try_lock().is_err() {
            return;
        }
        let judged = self.ground.judges.news(&model);
        for news in judged.into_iter().chain(self.ground.drifts.news(&model)) {
            let _ordered = live.order.lock().await;
            let noted = {
                let mut inner = live.inner();
                let state = inner.act(|machine, _| machine.state());
                state.map(|state| {
                    let change = Change {
                        action: Action::Judged,
                        why: news.why,
                        from: state,
                        to: state,
                        step: None,
                        share: 0.0,
                        variants: vec![news.variant],
                        findings: vec![news.finding],
                    };
                    self.note(&mut inner, change, Actor::Judge)
                })
            };
            if let Some((record, batch)) = noted {
                self.finish(live, record, batch).await;
            }
        }
    }

    /// Does what a person wants.
    pub(super) async fn obey(&self, live: &Live, command: &Command, actor: Actor) -> Result<Done, Refusal> {
        if live.inner().shared.is_some() {
            return self.obey_shared(live, command, actor).await;
        }
        let _ordered = live.order.lock().await;
        let (record, batch) = {
            let mut inner = live.inner();
            self.gather(&mut inner, Depth::All);
            let obeyed = inner.act(|machine, model| {
                let ready = |variant| self.ready(model, variant);
                machine.command(model, command, &ready, self.clock.now())
            });
            let unknown = || Refused::State {
                command: command.name(),
                state: State::Waiting.name(),
                remedy: "where it stood is not known: the state directory cannot be read; mend that first",
            };
            let change = obeyed.unwrap_or_else(|| Err(unknown()))?;
            self.note(&mut inner, change, actor)
        };
        Ok(self.finish(live, record, batch).await)
    }

    /// Makes a record of a change that was made, and what must be written with it.
    pub(super) fn note(&self, inner: &mut Inner, change: Change, actor: Actor) -> (Arc<AuditRecord>, Batch) {
        let now = self.clock.now();
        let epoch = inner.act(|machine, _| machine.epoch()).unwrap_or(0);
        let blocking = super::live::blocks(&inner.model, &change);
        let mut memory = self.memory();
        *memory.changes.entry(change.action.name()).or_default() += 1;
        let model = &inner.model;
        let record = memory.audit.add(AuditRecord {
            sequence: 0,
            millis: now.as_millis() as u64,
            model: Arc::clone(&model.name),
            revision: model.revision,
            epoch,
            config: Arc::clone(&inner.config),
            actor,
            change,
        });
        let blocks = blocking.into_iter().map(|(build, blocked)| {
            if blocked {
                let (model, millis) = (Arc::clone(&model.name), record.millis);
                memory.blocks.add(Block { model, build, millis, record: record.sequence })
            } else {
                memory.blocks.remove(&model.name, &build)
            }
        });
        let blocks = blocks.collect();
        drop(memory);
        if let Some(door) = &self.ground.log {
            door.change(&record);
        }
        let batch = Batch {
            progress: HashMap::from([(model.name.to_string(), inner.saved())]),
            blocks,
            audit: vec![audit::entry(&record)],
            ..Batch::default()
        };
        (record, batch)
    }

    /// Writes a change down, lets workers see it, and tells it.
    pub(super) async fn finish(&self, live: &Live, record: Arc<AuditRecord>, batch: Batch) -> Done {
        let written = self.state.commit(batch, PATIENCE).await;
        // The disk took its time: the record shall say when calls began to see the change.
        let record = self.timed(record);
        live.publish();
        self.tell_answering(live);
        if matches!(live.inner().model.strategy, Strategy::Rolling(_)) {
            self.cordon();
        }
        let kept = self.kept(written);
        if let Kept::Failing(why) = &kept {
            let AuditRecord { model, sequence, .. } = &*record;
            tracing::warn!(%model, sequence, why, "a change holds, but is not on the disk yet");
        }
        log(&record);
        self.changed();
        Done { record, kept }
    }

    /// Gives a record the time of now, in memory at once and on the disk with the next flush. Should the process end
    /// before that, the change stands there all the same, with the time it was decided.
    fn timed(&self, record: Arc<AuditRecord>) -> Arc<AuditRecord> {
        let millis = self.clock.now().as_millis() as u64;
        if millis == record.millis {
            return record;
        }
        let timed = self.memory().audit.time(&record, millis);
        if let Some(timed) = &timed {
            self.state.defer(Batch { audit: vec![audit::entry(timed)], ..Batch::default() });
        }
        timed.unwrap_or(record)
    }

    /// Tells who is asked for readiness which variant answers, where a switch decides that.
    pub(super) fn tell_answering(&self, live: &Live) {
        let model = Arc::clone(&live.inner().model);
        let Strategy::Pinned(pinned) = &model.strategy else { return };
        let variant = match live.standing().split {
            Split::Only(variant) => variant,
            Split::Configured | Split::Candidate(_) | Split::Without(_) | Split::Shares(_) => pinned.variant,
        };
        if let Some(variant) = model.variants.get(variant) {
            self.ground.board.set_answering(&model.name, &variant.name);
        }
    }

    /// What becomes of a rollout when the process ends.
    pub(super) fn kept(&self, written: bool) -> Kept {
        match self.state.trouble() {
            _ if !self.state.is_kept() => Kept::Memory,
            None if written => Kept::Directory,
            Some(why) => Kept::Failing(why.to_string()),
            None => Kept::Failing("the disk is slow".to_owned()),
        }
    }

    /// Writes down what evidence came in since the last time, with the next flush.
    pub(super) fn flush(&self) {
        let mut progress = HashMap::new();
        let drained = self.ground.intake.drain();
        for gain in &drained.gains {
            if let Some(live) = self.find(&gain.model) {
                live.inner().learn(gain);
            }
        }
        for ballot in &drained.ballots {
            if let Some(live) = self.find(&ballot.model) {
                live.inner().vote(ballot);
            }
        }
        for live in self.all() {
            let mut inner = live.inner();
            self.gather(&mut inner, Depth::All);
            if let Some(saved) = inner.take_dirty() {
                progress.insert(inner.model.name.to_string(), Some(saved));
            }
        }
        let changed = !progress.is_empty();
        let mark = |kept: feedback::Kept| (Mark { expires: kept.expires, key: kept.key }, kept.value);
        let evidence = match self.state.is_kept() {
            true => self
                .ground
                .judges
                .take_changed()
                .into_iter()
                .chain(self.ground.drifts.take_changed())
                .collect(),
            false => HashMap::new(),
        };
        // What feedback was seen and the evidence it made are written together or not at all.
        let batch = Batch {
            progress,
            evidence,
            marks: drained.kept.into_iter().map(mark).collect(),
            expired: self.memory().hour(self.clock.now()),
            ..Batch::default()
        };
        if !batch.is_empty() {
            self.state.defer(batch);
        }
        if changed {
            self.changed();
        }
    }

    /// Whether every endpoint of a variant that is ready is warm too; sets it going.
    pub(super) fn warm(&self, model: &Arc<Model>, variant: usize) -> Result<(), Refused> {
        let (Some(found), Some(warming)) = (model.variants.get(variant), model.strategy.warming()) else {
            return Ok(());
        };
        let mut cold = None;
        for endpoint in &found.endpoints {
            let (endpoint, warming) = (endpoint.clone(), warming.clone());
            let order = Order { model: Arc::clone(model), variant, endpoint, warming };
            let readiness = order.target().and_then(|target| self.ground.board.find(&target));
            let Some(readiness) = readiness.filter(|readiness| readiness.is_ready()) else { continue };
            let warmth = self.ground.warmer.warm(&order, &readiness);
            cold = cold.or((!warmth.done).then_some(warmth));
        }
        let refused =
            |warmth: Warmth| Refused::NotReady { variant: Arc::clone(&found.name), why: warmth.to_string() };
        cold.map_or(Ok(()), |warmth| Err(refused(warmth)))
    }

    /// Whether a variant can take calls.
    pub(super) fn ready(&self, model: &Model, variant: usize) -> Result<(), Refused> {
        let Some(found) = model.variants.get(variant) else {
            let why = "there is no such variant".to_owned();
            return Err(Refused::NotReady { variant: variant.to_string().into(), why });
        };
        let mut why = None;
        for endpoint in &found.endpoints {
            let readiness = self.ground.board.find(&Target::new(model, found, endpoint));
            if readiness.as_ref().is_some_and(|readiness| readiness.is_ready()) {
                return Ok(());
            }
            why = why.or(readiness.and_then(|readiness| readiness.why()));
        }
        let why = why.map_or_else(|| "it was not asked yet".to_owned(), |why| why.to_string());
        Err(Refused::NotReady { variant: Arc::clone(&found.name), why })
    }
}

/// Tells a change to whoever reads the log.
pub(super) fn log(record: &AuditRecord) {
    let AuditRecord { model, sequence, epoch, actor, change, .. } = record;
    let (action, state, why) = (change.action.name(), change.to.name(), &*change.why);
    let percent = change.share * 100.0;
    match change.action {
        Action::RolledBack | Action::Held => {
            tracing::warn!(%model, sequence, epoch, %actor, action, state, percent, why, "rollout changed");
        }
        _ => tracing::info!(%model, sequence, epoch, %actor, action, state, percent, why, "rollout changed"),
    }
}
