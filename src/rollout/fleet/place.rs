//! What a machine is to the fleet: how it is written and read, what parts of evidence are to it, and how it looks.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Model};
use crate::fleet::Part;
use crate::fleet::seat::{Record, World};
use crate::rollout::Rollouts;
use crate::rollout::live::{self, Live};
use crate::rollout::machine::{Machine, Strict};
use crate::rollout::record::{Actor, AuditRecord};
use crate::verdict::{Change, State};

/// A rollout's machine, among the things it is looked at with.
pub(super) struct Place<'a> {
    pub(super) rollouts: &'a Rollouts,
    pub(super) model: Arc<Model>,
    pub(super) config: Arc<Config>,
    pub(super) before: Option<Arc<Live>>,
    pub(super) actor: Actor,
    pub(super) strict: &'a mut Strict,
}

impl Place<'_> {
    fn look_by(&self, model: &Arc<Model>, machine: &mut Machine, now: Duration) -> Option<Change> {
        let warms = machine.warms(model);
        // Asked in any case: what is warmed goes on while somebody asks.
        let warm = warms.map_or(Ok(()), |variant| self.rollouts.warm(model, variant));
        let ready = |variant| {
            self.rollouts.ready(model, variant)?;
            if warms == Some(variant) { warm.clone() } else { Ok(()) }
        };
        machine.look(model, &ready, now)
    }
}

impl World for Place<'_> {
    type Machine = Machine;
    type Change = Change;

    fn read(&self, saved: &str, now: Duration) -> Option<Machine> {
        Machine::read(saved, &self.model, now)
    }

    fn write(&self, machine: &Machine) -> Arc<str> {
        machine.write(&self.model)
    }

    fn begin(&mut self) -> Option<Machine> {
        self.rollouts.machine(&self.model, &self.config, self.before.as_ref())
    }

    fn generation(&self, machine: &Machine) -> u32 {
        machine.generation()
    }

    fn is_rolled_back(&self, machine: &Machine) -> bool {
        machine.state() == State::RolledBack
    }

    fn absorb(&self, machine: &mut Machine, part: &Part, now: Duration) {
        machine.absorb_part(&self.model, part, now);
    }

    fn look(&mut self, machine: &mut Machine, now: Duration) -> Option<Change> {
        let model = Arc::clone(&self.model);
        self.look_by(&model, machine, now)
    }

    fn refresh(&self, machine: &mut Machine, now: Duration) -> bool {
        machine.refresh(&self.model, now)
    }

    fn look_alone(&mut self, machine: &mut Machine, others: usize, now: Duration) -> Option<Change> {
        let strict = self.strict.of(&self.model, others);
        machine.look_alone(|alone| self.look_by(&strict, alone, now))
    }

    fn roll_back(&mut self, machine: &mut Machine, why: &str, everywhere: bool, now: Duration) -> Change {
        machine.take_out(&self.model, why, everywhere, now)
    }

    fn why(&self, change: &Change) -> String {
        change.why.clone()
    }

    fn record(&self, machine: &Machine, change: &Change, now: Duration) -> Record {
        let record = AuditRecord {
            sequence: 0,
            millis: now.as_millis() as u64,
            model: Arc::clone(&self.model.name),
            revision: self.model.revision,
            epoch: machine.epoch(),
            config: Arc::clone(&self.config.revision),
            actor: self.actor.clone(),
            change: change.clone(),
        };
        let blocks = live::blocks(&self.model, change);
        let why = |blocked: bool| blocked.then(|| change.why.clone());
        let blocks = blocks.into_iter().map(|(build, blocked)| (build, why(blocked))).collect();
        (serde_json::to_string(&record).unwrap_or_default().into(), blocks)
    }
}
