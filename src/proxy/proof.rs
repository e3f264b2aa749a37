//! Step 6, for rollouts: what a call shows of the variant it was assigned to, whoever answered.

use std::time::{Duration, Instant};

use crate::evidence::epoch::{Counted, How};
use crate::fault::Blame;
use crate::outcome::Outcome;
use crate::rollout::live::View;
use crate::worker::Worker;

/// Counts a call that has ended.
pub(super) fn count(worker: &Worker, counted: Counted, live: &View, outcome: &Outcome) {
    let (blame, latency) = match own(outcome) {
        Some((blame, latency)) => (blame, Some(latency)),
        // Nothing could be sent, and so the baseline was to answer.
        None if outcome.fallback.is_some() => (Blame::Upstream, None),
        // Nothing could be sent: there was no connection to the variant, or the call was over before.
        None => (outcome.blame, None),
    };
    let how = match blame {
        Blame::Upstream => How::Error,
        Blame::Rejection => How::Rejection,
        // Over before it began, for reasons that have nothing to do with the variant: nothing is learnt.
        Blame::Nobody | Blame::Client | Blame::Sidecar if latency.is_none() => return,
        Blame::Nobody | Blame::Client | Blame::Sidecar => How::Well,
    };
    if counted.end(how, latency, worker.clock.at(Instant::now())) {
        live.alarm();
    }
}

/// How the assigned variant's own attempts ended, and how long they took together.
fn own(outcome: &Outcome) -> Option<(Blame, Duration)> {
    let assigned = outcome.route.as_ref()?.assigned.variant;
    let mut own = outcome.attempts.iter().filter(|attempt| attempt.variant == assigned);
    let first = own.next()?;
    let last = own.next_back().unwrap_or(first);
    Some((last.blame, (last.offset + last.elapsed).saturating_sub(first.offset)))
}
