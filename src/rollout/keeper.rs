//! The one task that moves rollouts by themselves.
//!
//! It is woken at once by a candidate's failure or by an endpoint that changes, and looks ten times a second
//! otherwise: failures decide in a moment, latency within that tick, time itself too. Once a second what came in is
//! handed to the state directory. It runs beside the request path and may be late by all it likes: every e-value it
//! reads holds whenever it is looked at.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Rollouts;
use super::live::Depth;
use crate::failpoint;
use crate::state::FLUSH;

/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The least time between two looks at failures: under a storm of them more looks would find no more.
const PAUSE: Duration = Duration::from_millis(5);

/// Keeps all rollouts for as long as it is polled.
pub async fn run(rollouts: Arc<Rollouts>) {
    let mut look = interval(LOOK);
    let mut flush = interval(FLUSH);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut endpoints = rollouts.ground.board.watch();
    let mut left = rollouts.state.left();
    // The log is there once the process has started, which is what follows this task's own start.
    sleep(LOOK).await;
    rollouts.tell_beginning();
    let mut waits = left.borrow_and_update().is_none();
    loop {
        tokio::select! {
            () = rollouts.alarm.notified() => {
                for live in rollouts.all().iter().filter(|live| live.was_raised()) {
                    rollouts.look(live, Depth::Failures).await;
                }
                sleep(PAUSE).await;
            }
            Ok(()) = endpoints.changed() => look_at_all(&rollouts).await,
            _ = look.tick() => {
                failpoint::panics("keeper");
                look_at_all(&rollouts).await;
            }
            _ = flush.tick() => rollouts.flush(),
            changed = left.changed(), if waits => {
                rollouts.resume();
                waits = changed.is_ok() && left.borrow_and_update().is_none();
            }
        }
    }
}

async fn look_at_all(rollouts: &Rollouts) {
    for live in rollouts.all() {
        rollouts.look(&live, Depth::All).await;
        rollouts.tell_judged(&live).await;
    }
}
