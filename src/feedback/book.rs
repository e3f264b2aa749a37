//! Feedback of one model, on whatever clock: the checks and the counting of the [`super::Intake`] without its ids, its
//! locks and its ports, for predictions that were never sent.

use std::sync::Arc;
use std::time::Duration;

use super::intake::Modelled;
use super::shown::Exposures;
use super::{Drained, Receipt, Refusal, Report};
use crate::config::{By, Feedback, Model, Strategy};
use crate::prediction::Prediction;

/// What is known of one model's feedback.
#[derive(Debug)]
pub struct Book(Modelled);

impl Book {
    /// Nothing yet.
    pub fn new(model: &Arc<Model>) -> Self {
        let shown = match &model.strategy {
            Strategy::Interleave(interleave) if interleave.credit.by == By::Item => {
                Some(Exposures::new(&model.name, interleave.credit.memory.0))
            }
            _ => None,
        };
        Book(Modelled::new(model, None, (1, shown, false)))
    }

    /// What predictions have shown, where that is remembered.
    pub fn shown(&self) -> Option<&Arc<Exposures>> {
        self.0.shown()
    }

    /// Counts a prediction that was told to a caller for one of the model's feedback, where that has a default.
    pub fn expose(&mut self, prediction: &Prediction, feedback: &Feedback) {
        self.0.expose(prediction, Some(feedback), None);
    }

    /// Takes a report about a prediction of the model at `now`, time since the Unix epoch; the report's own id of a
    /// prediction is not read.
    ///
    /// # Errors
    /// See [`Refusal`]; none that is about ids, and no bound of what is remembered.
    pub fn take(
        &mut self,
        prediction: &Prediction,
        report: &Report,
        now: Duration,
    ) -> Result<Receipt, Refusal> {
        self.0.take((0, prediction, report, None), now, &mut |_| true, true).map(|took| took.receipt)
    }

    /// What was gained and must be kept since the last time.
    pub fn drain(&mut self, now: Duration) -> Drained {
        let mut drained = Drained::default();
        self.0.drain(now, &mut drained);
        drained
    }
}
