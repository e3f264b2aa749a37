//! Step 6, for rollouts: what a call shows of the variant it was assigned to, whoever answered.

use std::time::{Duration, Instant};

use crate::evidence::epoch::{Counted, How};
use crate::fault::Blame;
use crate::outcome::{Attempt, Runs};
use crate::rollout::live::View;
use crate::worker::Worker;

/// Counts a call that has ended for `assigned`, the variant it was given to: see [`own`].
pub(super) fn count(worker: &Worker, counted: Counted, assigned: usize, live: &View, attempts: &[Attempt]) {
    let Some((blame, latency)) = own(assigned, attempts) else { return };
    let how = How::from(blame);
    if counted.end(how, Some(latency), worker.clock.at(Instant::now())) {
        live.alarm();
    }
}

/// Counts a call that is still under way as failed: it has taken its variant `latency` so far.
pub(super) fn late(worker: &Worker, counted: Counted, latency: Duration) {
    // It is the baseline's, and nobody has to look for that.
    let _ = counted.end(How::Error, Some(latency), worker.clock.at(Instant::now()));
}

/// How the assigned variant's own attempts ended, and how long they took together. A call of which nothing was sent to it
/// shows nothing of it: it was over before, or the variant was not ready, as it would have been for a call that came a
/// moment later. One that was answered by a server which does not run the file's version yet shows nothing of that
/// version.
fn own(assigned: usize, attempts: &[Attempt]) -> Option<(Blame, Duration)> {
    let mut own = attempts.iter().filter(|attempt| attempt.variant == assigned);
    let first = own.next()?;
    let last = own.next_back().unwrap_or(first);
    if last.runs != Runs::File {
        return None;
    }
    Some((last.blame, (last.offset + last.elapsed).saturating_sub(first.offset)))
}
