//! What a rollout is to a simulated fleet: the machine that live ones have, whose candidate is always ready.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Model;
use crate::fleet::Part;
use crate::fleet::seat::{Record, World};
use crate::rollout::{Machine, Strict};
use crate::verdict::{Action, Change, State};

#[derive(Debug)]
pub(super) struct Rules<'a> {
    model: &'a Model,
    strict: Strict,
    pub(super) now: Duration,
    /// Who won, where somebody did.
    pub(super) winner: Option<Arc<str>>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Rules { model, strict: Strict::default(), now: Duration::ZERO, winner: None }
    }
}

impl World for Rules<'_> {
    type Machine = Machine;
    type Change = Change;

    fn read(&self, saved: &str, now: Duration) -> Option<Machine> {
        Machine::read(saved, self.model, now)
    }

    fn write(&self, machine: &Machine) -> Arc<str> {
        machine.write(self.model)
    }

    fn begin(&mut self) -> Option<Machine> {
        Some(Machine::begin(self.model, None, (0, None), self.now))
    }

    fn generation(&self, machine: &Machine) -> u32 {
        machine.generation()
    }

    fn is_rolled_back(&self, machine: &Machine) -> bool {
        machine.state() == State::RolledBack
    }

    fn absorb(&self, machine: &mut Machine, part: &Part, now: Duration) {
        machine.absorb_part(self.model, part, now);
    }

    fn look(&mut self, machine: &mut Machine, now: Duration) -> Option<Change> {
        let change = machine.look(self.model, &|_| Ok(()), now)?;
        if matches!(change.action, Action::Passed | Action::Promoted) {
            self.winner = change.variants.first().map(Arc::clone);
        }
        Some(change)
    }

    fn refresh(&self, machine: &mut Machine, now: Duration) -> bool {
        machine.refresh(self.model, now)
    }

    fn look_alone(&mut self, machine: &mut Machine, others: usize, now: Duration) -> Option<Change> {
        let strict = self.strict.of(self.model, others);
        machine.look_alone(|alone| alone.look(&strict, &|_| Ok(()), now))
    }

    fn roll_back(&mut self, machine: &mut Machine, why: &str, everywhere: bool, now: Duration) -> Change {
        machine.take_out(self.model, why, everywhere, now)
    }

    fn why(&self, change: &Change) -> String {
        change.why.clone()
    }

    fn record(&self, _: &Machine, change: &Change, _: Duration) -> Record {
        (change.why.as_str().into(), Vec::new())
    }
}
