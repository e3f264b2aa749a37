//! The way into the log, one for each worker and one for all else: bounded queues that are never waited for.
//!
//! Which predictions are logged is in their own random bits, so their copies and reports are where they are.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use uuid::Uuid;

use super::payload::{Capture, Rule};
use super::tally::{Cause, Tally};
use crate::config::units::Percent;
use crate::outcome::Outcome;
use crate::rollout::AuditRecord;
use crate::shadow::record::CopyOutcome;
use crate::telemetry::feedback::Seen;

/// Calls of one worker that may wait: at 20,000 a second, what comes in 800 ms.
const CALLS: usize = 16 * 1024;
/// Everything else that may wait; apart, so that it can never crowd a call out.
const OTHERS: usize = 8 * 1024;

/// One way in.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    calls: ArrayQueue<Box<Outcome>>,
    others: ArrayQueue<Other>,
    sample: Percent,
    payloads: Option<Arc<Rule>>,
    tally: Arc<Tally>,
}

/// What is no call.
#[derive(Debug)]
pub enum Other {
    /// A copy that ended.
    Copy(Box<CopyOutcome>),
    /// A report that was taken.
    Report(Box<Seen>),
    /// A change of a rollout.
    Change(Arc<AuditRecord>),
}

impl Door {
    pub(super) fn new(calls: bool, sample: Percent, payloads: Option<Arc<Rule>>, tally: Arc<Tally>) -> Self {
        let calls = ArrayQueue::new(if calls { CALLS } else { 1 });
        Door(Arc::new(Inner { calls, others: ArrayQueue::new(OTHERS), sample, payloads, tally }))
    }

    /// Begins to keep the messages of a call, where they are to be kept.
    pub fn capture(&self, prediction: Uuid) -> Option<Capture> {
        let rule = self.0.payloads.as_ref()?;
        (self.keeps(prediction) && rule.wants(prediction)).then(|| rule.begin())
    }

    /// Whether a prediction is logged.
    pub fn keeps(&self, prediction: Uuid) -> bool {
        falls(prediction.as_u128(), self.0.sample)
    }

    /// Logs a call, if its prediction is one that is logged and there is room.
    pub fn call(&self, outcome: Outcome) {
        if self.keeps(outcome.prediction) && self.0.calls.push(Box::new(outcome)).is_err() {
            self.0.tally.lose(Cause::Queue, 1);
        }
    }

    /// Logs a copy, likewise.
    pub fn copy(&self, copy: &CopyOutcome) {
        if self.keeps(copy.prediction) {
            self.other(Other::Copy(Box::new(copy.clone())));
        }
    }

    /// Logs a report, likewise.
    pub fn report(&self, seen: &Seen) {
        if self.keeps(seen.prediction.uuid) {
            self.other(Other::Report(Box::new(seen.clone())));
        }
    }

    /// Logs a change of a rollout, if there is room.
    pub fn change(&self, record: &Arc<AuditRecord>) {
        self.other(Other::Change(Arc::clone(record)));
    }

    fn other(&self, other: Other) {
        if self.0.others.push(other).is_err() {
            self.0.tally.lose(Cause::Queue, 1);
        }
    }

    /// Calls that wait; as many as did when it was called, so that a busy worker keeps no other waiting.
    pub(super) fn calls(&self) -> impl Iterator<Item = Box<Outcome>> {
        let most = self.0.calls.len();
        std::iter::from_fn(|| self.0.calls.pop()).take(most)
    }

    /// What else waits, likewise.
    pub(super) fn others(&self) -> impl Iterator<Item = Other> {
        let most = self.0.others.len();
        std::iter::from_fn(|| self.0.others.pop()).take(most)
    }

    /// How many rows wait.
    pub(super) fn waiting(&self) -> u64 {
        (self.0.calls.len() + self.0.others.len()) as u64
    }
}

/// Whether the last 32 of these random bits fall into `share`.
pub(crate) fn falls(bits: u128, share: Percent) -> bool {
    let draw = bits & u128::from(u32::MAX);
    let place = (draw * u128::from(Percent::ALL.thousandths())) >> 32;
    place < u128::from(share.thousandths())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::sample;

    #[test]
    fn a_share_is_a_share_and_the_same_for_all_about_a_prediction() {
        let tenth = Percent::from_thousandths(10_000).unwrap();
        let kept = (0..100_000_u128).filter(|number| falls(number * 42_949, tenth)).count();
        assert!((9_990..=10_010).contains(&kept), "{kept}");
        assert!(falls(u128::MAX, Percent::ALL) && !falls(0, Percent::NONE));
        let door = Door::new(true, Percent::NONE, None, Arc::default());
        door.call(sample::outcome());
        door.copy(&sample::copy());
        door.report(&sample::seen(0));
        assert_eq!(door.waiting(), 0);
        door.change(&Arc::new(sample::record()));
        assert_eq!(door.waiting(), 1, "changes are always logged");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_calls_are_not_crowded_out() {
        let tally = Arc::new(Tally::default());
        let door = Door::new(true, Percent::ALL, None, Arc::clone(&tally));
        for _ in 0..OTHERS + 5 {
            door.copy(&sample::copy());
        }
        assert_eq!(tally.lost(Cause::Queue), 5);
        for _ in 0..CALLS + 3 {
            door.call(sample::outcome());
        }
        assert_eq!(tally.lost(Cause::Queue), 8);
        assert_eq!((door.calls().count(), door.others().count(), door.waiting()), (CALLS, OTHERS, 0));
    }
}
