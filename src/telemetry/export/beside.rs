//! Calls whose spans wait for what their copies show: for two seconds at most, and a bounded number of them.
//!
//! Such a span is kept because a shadow disagrees, so it cannot be written before that is known. A call that nothing
//! else keeps leaves no trace where its shadows agree.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::outcome::Outcome;
use crate::telemetry::copies::Told;

/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many do; one holds about a kilobyte.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Beside {
    waiting: HashMap<Uuid, (Box<Outcome>, usize)>,
    order: VecDeque<(Instant, Uuid)>,
}

impl Beside {
    /// Lets a call wait; the oldest where there is no room any more.
    pub(super) fn hold(&mut self, outcome: Box<Outcome>, now: Instant) -> Option<Box<Outcome>> {
        let (prediction, copies) = (outcome.prediction, outcome.copies);
        let oldest = if self.waiting.len() >= MOST { self.oldest() } else { None };
        self.order.push_back((now, prediction));
        self.waiting.insert(prediction, (outcome, copies));
        oldest
    }

    /// What a copy showed; its call, where it waits for nothing more.
    pub(super) fn told(&mut self, told: Told) -> Option<Box<Outcome>> {
        let (outcome, left) = self.waiting.get_mut(&told.prediction)?;
        *left = left.saturating_sub(1);
        outcome.disagreement = told.disagreement;
        if outcome.disagreement.is_none() && *left > 0 {
            return None;
        }
        self.waiting.remove(&told.prediction).map(|(outcome, _)| outcome)
    }

    /// The next one that has waited long enough, or at all where `all`.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Option<Box<Outcome>> {
        // Those that were told already are no longer there.
        while let Some((since, prediction)) = self.order.front() {
            if !self.waiting.contains_key(prediction) {
                self.order.pop_front();
            } else if !all && now.duration_since(*since) < PATIENCE {
                return None;
            } else {
                return self.oldest();
            }
        }
        None
    }

    fn oldest(&mut self) -> Option<Box<Outcome>> {
        while let Some((_, prediction)) = self.order.pop_front() {
            if let Some((outcome, _)) = self.waiting.remove(&prediction) {
                return Some(outcome);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadow::record::Disagreement;
    use crate::telemetry::example;

    fn outcome(id: u128, copies: usize) -> Box<Outcome> {
        Box::new(Outcome { prediction: Uuid::from_u128(id), copies, ..example::outcome() })
    }

    fn told(id: u128, differs: bool) -> Told {
        let disagreement = Disagreement {
            shadow: "v3".into(),
            output: "label".into(),
            kind: "values",
            how: "label: values".to_owned(),
            distance: 1.0,
        };
        Told { prediction: Uuid::from_u128(id), disagreement: differs.then(|| Box::new(disagreement)) }
    }

    #[test]
    fn a_call_leaves_when_all_agree_or_one_does_not() {
        let (mut beside, now) = (Beside::default(), Instant::now());
        for id in 1..=3 {
            assert!(beside.hold(outcome(id, 2), now).is_none());
        }
        assert!(beside.told(told(9, true)).is_none());
        assert!(beside.told(told(1, false)).is_none());
        assert!(beside.told(told(1, false)).unwrap().disagreement.is_none());
        assert!(beside.told(told(2, true)).unwrap().disagreement.is_some());
        assert!(beside.due(now, false).is_none());
        assert_eq!(beside.due(now + PATIENCE, false).unwrap().prediction, Uuid::from_u128(3));
        assert!(beside.due(now + PATIENCE, true).is_none());
    }

    #[test]
    fn there_are_never_more_than_may_be() {
        let (mut beside, now) = (Beside::default(), Instant::now());
        for id in 0..MOST as u128 {
            assert!(beside.hold(outcome(id, 1), now).is_none());
        }
        assert_eq!(beside.hold(outcome(1 << 40, 1), now).unwrap().prediction, Uuid::from_u128(0));
        assert_eq!(std::iter::from_fn(|| beside.due(now, true)).count(), MOST);
    }
}
