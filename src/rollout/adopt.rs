//! How a configuration becomes rollouts: those that stay go on, others begin, or go on where an earlier process was.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::block::Blocks;
use super::live::Live;
use super::machine::{Machine, Saved};
use super::record::{Actor, AuditRecord};
use super::{Rollouts, audit, hour};
use crate::config::{Config, Model, Strategy};
use crate::state::{Batch, Mark};
use crate::strategy::Out;
use crate::strategy::course::Past;
use crate::verdict::{Action, Change, Finding, State};

/// Passes each configuration on from `accepted` to `publish` once its rollouts are there, until `accepted` has no sender
/// any more: a worker that serves it finds them.
pub async fn adopt(
    mut accepted: watch::Receiver<Arc<Config>>,
    publish: watch::Sender<Arc<Config>>,
    rollouts: Arc<Rollouts>,
) {
    while accepted.changed().await.is_ok() {
        let next = Arc::clone(&accepted.borrow_and_update());
        rollouts.take(&next);
        publish.send_replace(next);
    }
}

impl Rollouts {
    /// Makes the rollouts those of `config`.
    pub(super) fn take(&self, config: &Arc<Config>) {
        self.ground.drifts.follow(config);
        let before = self.lives.read().unwrap_or_else(PoisonError::into_inner).by_name.clone();
        let mut by_name = HashMap::with_capacity(config.models.len());
        for model in &config.models {
            let live = match before.get(&model.name) {
                Some(live) if live.inner().fits(model) => {
                    let mut inner = live.inner();
                    inner.model = Arc::clone(model);
                    inner.config = Arc::clone(&config.revision);
                    drop(inner);
                    Arc::clone(live)
                }
                known => self.begin(model, config, known),
            };
            self.tell_answering(&live);
            by_name.insert(Arc::clone(&model.name), live);
        }
        for (name, live) in &before {
            if let Some(saved) = live.inner().saved().filter(|_| !by_name.contains_key(name)) {
                self.memory().left.insert(name.to_string(), saved);
            }
        }
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        lives.by_name = by_name;
        lives.config = Arc::clone(config);
        drop(lives);
        self.cordon();
        self.changed();
    }

    /// Takes in what an earlier process left, once that can be read; whether it is known.
    pub(super) fn read_left(&self) -> bool {
        let Some(left) = self.state.left().borrow().clone() else { return false };
        let config = self.config();
        let mut memory = self.memory();
        if !memory.read {
            memory.read = true;
            memory.blocks.read(&left.blocks);
            let renumbered = memory.audit.read(&left.audit);
            memory.left.extend(left.progress.iter().map(|(name, saved)| (name.clone(), saved.clone())));
            let audit = renumbered.iter().map(|record| audit::entry(record)).collect();
            let mut evidence = self.ground.judges.restore(&left.evidence, &config);
            evidence.extend(self.ground.drifts.restore(&left.evidence, &config));
            self.state.defer(Batch { audit, evidence, ..Batch::default() });
            let restore = |mark: Mark, value: &[u8]| self.ground.intake.restore(&mark.key, value);
            if let Err(error) = self.state.marks(hour(self.clock.now()), restore) {
                tracing::error!(%error, "feedback that was seen before is not known, and may count twice");
            }
        }
        true
    }

    /// Tells what happened before anybody listened to the log.
    pub(super) fn tell_beginning(&self) {
        if let Some(error) = self.state.trouble() {
            tracing::error!(%error, "the state cannot be read: deciding rollouts give the baseline everything until it can");
        }
        if let Some(error) = self.state.undone() {
            tracing::error!(%error, "a key is made that only this process knows, until the state directory can be used");
        }
        let untold = {
            let mut memory = self.memory();
            memory.told = true;
            std::mem::take(&mut memory.untold)
        };
        untold.iter().for_each(|record| super::decide::log(record));
    }

    /// Starts the rollouts that waited for what an earlier process left.
    pub(super) fn resume(&self) {
        if !self.read_left() {
            return;
        }
        let config = self.config();
        for live in self.all() {
            let model = {
                let inner = live.inner();
                if inner.machine.is_some() || inner.shared.is_some() {
                    continue;
                }
                Arc::clone(&inner.model)
            };
            let machine = self.machine(&model, &config, None);
            live.inner().machine = machine;
            live.publish();
            self.tell_answering(&live);
        }
        self.cordon();
        self.changed();
    }

    /// A rollout that the process does not know in this revision; `before`: the one of the revision before.
    fn begin(&self, model: &Arc<Model>, config: &Config, before: Option<&Arc<Live>>) -> Arc<Live> {
        let shares = self.ground.fleet.is_some() && model.strategy.is_shared();
        let machine = if shares { None } else { self.machine(model, config, before) };
        let ground = (self.ground.shards.len(), &self.alarm);
        let live = Arc::new(Live::new(model, &config.revision, machine, ground));
        if shares {
            self.share(&live, before);
        }
        live
    }

    /// Where a rollout stands at its beginning; none: nobody can know yet.
    pub(super) fn machine(
        &self,
        model: &Arc<Model>,
        config: &Config,
        before: Option<&Arc<Live>>,
    ) -> Option<Machine> {
        let now = self.clock.now();
        let lost = before.map(|live| evidence(live, model, now)).unwrap_or_default();
        // Before the memory is taken: who decides holds a rollout and takes the memory after it.
        let known = before.map(|live| {
            let mut inner = live.inner();
            let past = inner.act(|machine, model| machine.past(Some(model.baseline()))).flatten();
            let past = past.and_then(|past| renamed(past, &super::machine::names(&inner.model), model));
            (past, inner.machine.clone(), Arc::clone(&inner.model))
        });
        let mut memory = self.memory();
        if !memory.read {
            return None;
        }
        let left = memory.left.remove(&*model.name);
        let saved = match left.as_deref().map(serde_json::from_slice::<Saved>) {
            Some(Ok(saved)) => Some(saved),
            Some(Err(error)) => {
                tracing::error!(model = %model.name, %error, "where the rollout stood cannot be read: it begins anew");
                None
            }
            None => None,
        };
        if let Some(saved) = saved.as_ref().filter(|saved| saved.fits(model)) {
            let mut machine = saved.machine.clone();
            machine.recall(model, now);
            return Some(machine);
        }
        let past = match &known {
            Some((past, ..)) => *past,
            None => {
                saved.as_ref().and_then(|saved| renamed(saved.machine.past(None)?, &saved.variants, model))
            }
        };
        let base = match before {
            Some(live) => Some(live.standing().epoch.saturating_add(1)),
            None => saved.as_ref().map(|saved| saved.machine.epoch().saturating_add(1)),
        };
        let (blocked, out) = blocked(model, &memory.blocks);
        let mut machine = Machine::begin(model, blocked.clone(), (base.unwrap_or(0), past), now);
        if out != Out::NONE {
            machine.exclude(model, out, now);
        }
        match &known {
            Some((_, before, was)) => {
                if let Some(before) = before {
                    machine.inherit(model, before, ran(was, model).as_ref());
                    machine.remember(model, before, (&super::machine::known(was), &was.strategy), now);
                }
            }
            None => {
                if let Some(saved) = &saved {
                    machine.inherit(model, &saved.machine, None);
                }
            }
        }
        if base.is_none() && matches!(machine.state(), State::Steady) {
            // What was never anything but what the file says has no story. But who had everything must be known to a
            // switch, even to one that a file begins while nobody runs.
            if matches!(model.strategy, Strategy::Pinned(_)) {
                let progress = HashMap::from([(model.name.to_string(), written(model, &machine))]);
                self.state.defer(Batch { progress, ..Batch::default() });
            }
            return Some(machine);
        }
        let change = Change {
            action: Action::Started,
            why: match blocked {
                Some(why) if machine.state() == State::RolledBack => why,
                _ if machine.state() == State::Waiting
                    && past.is_some()
                    && matches!(model.strategy, Strategy::Pinned(_)) =>
                {
                    "the file names another variant: everything goes to it when it is ready and warm"
                        .to_owned()
                }
                _ if base.is_some() => format!("the file has another rollout{lost}"),
                _ => "the file has a rollout".to_owned(),
            },
            from: machine.state(),
            to: machine.state(),
            step: None,
            share: 0.0,
            variants: Vec::new(),
            findings: Vec::new(),
        };
        let record = memory.audit.add(AuditRecord {
            sequence: 0,
            millis: now.as_millis() as u64,
            model: Arc::clone(&model.name),
            revision: model.revision,
            epoch: machine.epoch(),
            config: Arc::clone(&config.revision),
            actor: Actor::File,
            change,
        });
        *memory.changes.entry(record.change.action.name()).or_default() += 1;
        if let Some(door) = &self.ground.log {
            door.change(&record);
        }
        if memory.told {
            super::decide::log(&record);
        } else {
            memory.untold.push(Arc::clone(&record));
        }
        drop(memory);
        let progress = HashMap::from([(model.name.to_string(), written(model, &machine))]);
        self.state.defer(Batch { progress, audit: vec![audit::entry(&record)], ..Batch::default() });
        Some(machine)
    }
}

/// A machine as it is written down.
fn written(model: &Model, machine: &Machine) -> Option<Vec<u8>> {
    let variants = super::machine::names(model);
    let saved = Saved { revision: model.revision, variants, machine: machine.clone() };
    // A machine is plain data: it can always be written.
    serde_json::to_vec(&saved).ok()
}

/// What was before, by the indices of `model`; none where it has no such variant any more, or as a shadow only.
fn renamed(past: Past, names: &[Arc<str>], model: &Model) -> Option<Past> {
    let here = |index: usize| {
        let index = model.variant(names.get(index)?)?;
        (!model.shadows.iter().any(|shadow| shadow.variant == index)).then_some(index)
    };
    let before = past.before.and_then(|(from, flipped)| Some((here(from)?, flipped)));
    Some(Past { serves: here(past.serves)?, before })
}

/// What a rollout that is replaced knew, in words; empty where that is nothing.
fn evidence(live: &Live, model: &Model, now: Duration) -> String {
    let inner = live.inner();
    let carried = model.strategy.reward().is_some() && inner.model.strategy.teaches(model.strategy.reward());
    drop(inner);
    let known = live.inner().act(|machine, model| machine.report(model, now));
    let Some(report) = known.filter(|report| !report.findings.is_empty()) else { return String::new() };
    let calls: u64 = report.calls.iter().sum();
    let seen = |found: &Finding| (found.baseline.n + found.candidate.n, Arc::clone(&found.guard));
    let feedback = report.findings.iter().filter(|found| found.guard.starts_with("feedback"));
    let most = feedback.map(seen).max().filter(|(n, _)| *n > 0);
    let feedback = most.map_or_else(String::new, |(n, name)| format!(" and {n} values of {name}"));
    match carried {
        true => format!(": what was learnt{feedback} of arms that are the same builds is carried over"),
        false => format!(
            ": it begins anew, and what the one before knew of {calls} calls{feedback} is not carried over"
        ),
    }
}

/// Why nothing may begin, if every variant that would have to prove itself was rolled back before; else which of them
/// were.
fn blocked(model: &Model, blocks: &Blocks) -> (Option<String>, Out) {
    let judged = model.strategy.judged();
    let mut out = Out::NONE;
    let mut why = None;
    for variant in &judged {
        let Some(build) = model.variants.get(*variant).map(|variant| &variant.build) else { continue };
        if let Some(block) = blocks.get(&model.name, build) {
            out = out.with(*variant);
            let who = match (&model.strategy, judged.len()) {
                (Strategy::Rolling(_), _) => "its build",
                (_, 1) => "the candidate's build",
                _ => "every variant's build",
            };
            why = Some(format!("{who} was rolled back before ({build}, audit record {})", block.record));
        }
    }
    match judged.iter().all(|variant| out.has(*variant)) {
        true => (why, Out::NONE),
        false => (None, out),
    }
}

/// The version that the servers of a rolling update had in the file before.
fn ran(before: &Model, model: &Model) -> Option<Arc<str>> {
    let Strategy::Rolling(rolling) = &model.strategy else { return None };
    let name = &model.variants.get(rolling.variant)?.name;
    before.variants.get(before.variant(name)?)?.version.clone()
}
