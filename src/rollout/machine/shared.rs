//! A machine that many replicas share: as it is written and read, what parts of evidence are to it, and what it may do where
//! a replica looks alone. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::{Machine, Saved, names};
use crate::config::Model;
use crate::fleet::Part;
use crate::verdict::{Change, State};

/// A model as strictly as a replica judges that looks alone beside so many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strict(Option<(usize, Arc<Model>)>);

impl Strict {
    /// The same model as the last time, where nothing has changed.
    pub(crate) fn of(&mut self, model: &Model, others: usize) -> Arc<Model> {
        match &self.0 {
            Some((known, strict)) if *known == others && strict.revision == model.revision => {
                Arc::clone(strict)
            }
            _ => {
                let mut strict = model.clone();
                strict.strategy = strict.strategy.stricter(others);
                let strict = Arc::new(strict);
                self.0 = Some((others, Arc::clone(&strict)));
                strict
            }
        }
    }
}

impl Machine {
    /// As it was written down; none where it is of something else.
    pub(crate) fn read(saved: &str, model: &Model, now: Duration) -> Option<Self> {
        let saved: Saved = serde_json::from_str(saved).ok()?;
        let fits = saved.fits(model);
        let mut machine = saved.machine;
        machine.recall(model, now);
        fits.then_some(machine)
    }

    /// As it is written down.
    pub(crate) fn write(&self, model: &Model) -> Arc<str> {
        let saved = Saved { revision: model.revision, variants: names(model), machine: self.clone() };
        // A machine is plain data: it can always be written.
        serde_json::to_string(&saved).unwrap_or_default().into()
    }

    /// Adds what the calls of one replica showed.
    pub(crate) fn absorb_part(&mut self, model: &Model, part: &Part, now: Duration) {
        part.gains.iter().for_each(|gain| self.absorb(model, gain.clone(), now));
        for gain in &part.feedback {
            self.learn(model, gain);
        }
        for ballot in &part.ballots {
            self.vote(model, ballot);
        }
        part.copies.iter().for_each(|copies| self.absorb_copies(model, copies, now));
    }

    /// Looks without the others: only a rollback comes of it. `look` judges as strictly as that asks for.
    pub(crate) fn look_alone(&mut self, look: impl FnOnce(&mut Machine) -> Option<Change>) -> Option<Change> {
        if self.state() == State::RolledBack {
            return None;
        }
        let mut alone = self.clone();
        let change = look(&mut alone)?;
        if change.to != State::RolledBack {
            return None;
        }
        alone.be_alone();
        *self = alone;
        Some(Change { why: format!("{} (here alone, for the store is away)", change.why), ..change })
    }
}
