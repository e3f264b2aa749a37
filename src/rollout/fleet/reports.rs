//! Reports of feedback that wait for the store: told there in batches, off the way of calls and of who reports.

use std::sync::Arc;

use crate::rollout::Rollouts;

/// Batches that are told one after the other where so many wait.
const BATCHES: usize = 4;

impl Rollouts {
    /// Tells the store what reports of that model wait for it, and takes in what it found. Where it cannot be used they go
    /// on waiting.
    pub(super) async fn tell_reports(&self, model: &Arc<str>) {
        let Some(fleet) = &self.ground.fleet else { return };
        let Some(reports) = &fleet.reports else { return };
        for _ in 0..BATCHES {
            let Some(batch) = self.ground.intake.batch(model) else { return };
            match reports.tell(model, &fleet.name, &batch).await {
                Ok(found) => self.ground.intake.settle(model, batch.number, &found),
                // Why is said by who exchanges, a moment later.
                Err(error) => return fleet.failed(&error),
            }
        }
    }
}
