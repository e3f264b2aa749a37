//! One watcher of rollouts: everything once, then whatever changes.
//!
//! A change of plan is told at once. Figures move with every look at the evidence, so they are told every half second
//! at most. A watcher that does not read holds up nobody: while one rollout waits to be read no other is made, and what
//! is made then is the newest.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::Seen;
use crate::pb::v1::Rollout;

/// Between two tellings of figures.
const PACE: Duration = Duration::from_millis(500);

/// Tells of one model, or of all, until nobody listens or the model is gone.
pub(super) async fn tell(seen: Arc<Seen>, model: Option<String>, tell: Sender<Result<Rollout, Status>>) {
    let mut watcher = Watcher { seen, model, told: HashMap::new() };
    let stopped = async {
        // Whichever comes first, there is nothing left to do.
        let _ = watcher.run(&tell).await;
    };
    tokio::select! {
        () = stopped => {}
        () = tell.closed() => {}
    }
}

struct Watcher {
    seen: Arc<Seen>,
    model: Option<String>,
    /// By model, without what grows by itself.
    told: HashMap<String, Rollout>,
}

/// Nobody listens, or there is nothing left to tell of.
struct Over;

impl Watcher {
    async fn run(&mut self, tell: &Sender<Result<Rollout, Status>>) -> Result<(), Over> {
        let mut changes = self.seen.rollouts.changes();
        let mut configs = self.seen.view.config.clone();
        let mut board = self.seen.view.board.watch();
        loop {
            let pace = Instant::now() + PACE;
            self.round(tell).await?;
            let mut wake = pin!(sleep_until(pace));
            let mut stirred = false;
            while !stirred || !self.moved() {
                let changed = tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    changed = configs.changed() => changed.is_ok(),
                    changed = board.changed() => changed.is_ok(),
                    () = &mut wake, if stirred => break,
                };
                if !changed {
                    return Err(Over);
                }
                stirred = true;
            }
        }
    }

    /// Tells everything that differs from what was told.
    async fn round(&mut self, tell: &Sender<Result<Rollout, Status>>) -> Result<(), Over> {
        let now = match &self.model {
            None => self.seen.all(),
            Some(model) => match self.seen.rollout(model) {
                Ok(rollout) => vec![rollout],
                Err(status) => {
                    // It ends either way.
                    let _ = tell.send(Err(status)).await;
                    return Err(Over);
                }
            },
        };
        let gone: Vec<String> = self
            .told
            .keys()
            .filter(|name| !now.iter().any(|rollout| rollout.model == **name))
            .cloned()
            .collect();
        for model in gone {
            self.told.remove(&model);
            tell.send(Ok(Rollout { model, gone: true, ..Rollout::default() })).await.map_err(|_| Over)?;
        }
        for rollout in now {
            let still = Rollout { since_ms: 0, log: None, ..rollout.clone() };
            if self.told.get(&rollout.model) != Some(&still) {
                self.told.insert(rollout.model.clone(), still);
                tell.send(Ok(rollout)).await.map_err(|_| Over)?;
            }
        }
        Ok(())
    }

    /// Whether a plan is another one than was told.
    fn moved(&self) -> bool {
        let plan = |rollout: &Rollout| (rollout.state, rollout.step, rollout.epoch, rollout.revision.clone());
        let now = match &self.model {
            None => self.seen.all(),
            Some(model) => self.seen.rollout(model).into_iter().collect(),
        };
        now.len() != self.told.len()
            || now.iter().any(|now| self.told.get(&now.model).map(plan) != Some(plan(now)))
    }
}
