//! The result of the demo of a fleet: what other scenarios say, and how each of the two acts went. Pure.

use serde::Serialize;

use super::acts::Act;
use super::{Course, REPLICAS};
use crate::demo::play;
use crate::demo::scenario::Scenario;
use crate::demo::server::manner::Asked;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::demo) struct Ending {
    /// Of the decision that they made together.
    #[serde(flatten)]
    pub(super) one: play::Ending,
    /// How many replicas there were.
    pub(super) replicas: usize,
    /// With the store.
    pub(super) together: Left,
    /// Without it.
    pub(super) alone: Left,
    /// From the moment the store came back until all had one plan.
    pub(super) agreed_seconds: f64,
}

/// How all replicas left the candidate, once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Left {
    /// Decisions that this took.
    pub(super) decisions: usize,
    /// From the first call that it failed until no replica gave it any.
    pub(super) seconds: f64,
    /// Calls that it failed.
    pub(super) candidate_failures: u64,
    /// Calls after that.
    pub(super) calls_after: u64,
    /// Of these: of the candidate.
    pub(super) candidate_calls_after: u64,
}

impl Left {
    fn of(act: &Act) -> Option<Left> {
        let (calls_after, candidate_calls_after) = act.after();
        Some(Left {
            decisions: act.decisions(),
            seconds: rounded(act.took()?.as_secs_f64()),
            candidate_failures: act.failures(),
            calls_after,
            candidate_calls_after,
        })
    }

    /// What went differently from what it should, where that many decisions should be made.
    fn differs(&self, how: &str, decisions: usize) -> Vec<String> {
        let mut differs = Vec::new();
        if self.decisions != decisions {
            differs.push(format!("{how} it took {} decisions, not {decisions}", self.decisions));
        }
        if self.candidate_calls_after > 0 {
            let calls = self.candidate_calls_after;
            differs.push(format!("{how} v2 was given {calls} calls after all had left it"));
        }
        differs
    }
}

impl Ending {
    /// Of a story that was told to its end; else none.
    pub(super) fn of(course: &Course, asked: Asked) -> Option<Ending> {
        let record = course.decided.as_ref()?;
        let counted = play::Counted {
            calls: course.calls(),
            failed: course.failed(),
            candidate: asked.failures,
            ..play::Counted::default()
        };
        let one = play::Ending::new(Scenario::Fleet, record, counted);
        let (together, alone) = (Left::of(course.together.as_ref()?)?, Left::of(course.alone.as_ref()?)?);
        let (agreed, _) = course.agreed?;
        Some(Ending {
            one: one.with_wrong(together.differs("together", 1)).with_wrong(alone.differs("alone", REPLICAS)),
            replicas: REPLICAS,
            together,
            alone,
            agreed_seconds: rounded(agreed.as_secs_f64()),
        })
    }

    /// Whether it ended as it should.
    pub(in crate::demo) fn is_as_named(&self) -> bool {
        self.one.is_as_named()
    }
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_documented_object_and_says_what_went_differently() {
        let left = |decisions, candidate_calls_after| Left {
            decisions,
            seconds: 0.25,
            candidate_failures: 6,
            calls_after: 600,
            candidate_calls_after,
        };
        assert!(left(1, 0).differs("together", 1).is_empty());
        assert_eq!(left(3, 0).differs("together", 1), ["together it took 3 decisions, not 1"]);
        assert_eq!(left(3, 2).differs("alone", 3), ["alone v2 was given 2 calls after all had left it"]);
        let counted = play::Counted { calls: 900, candidate: 12, ..play::Counted::default() };
        let one = play::Ending::new(Scenario::Fleet, &crate::demo::fleet::record(), counted);
        let ending =
            Ending { one, replicas: 3, together: left(1, 0), alone: left(3, 0), agreed_seconds: 1.2 };
        let said = serde_json::to_value(&ending).unwrap();
        let of = |decisions: usize| {
            serde_json::json!({"decisions": decisions, "seconds": 0.25, "candidate_failures": 6, "calls_after": 600,
                "candidate_calls_after": 0})
        };
        let expected = serde_json::json!({
            "scenario": "fleet", "verdict": "not_enough_data", "action": "rolled_back", "calls": 900,
            "caller_failures": 0, "candidate_failures": 12, "decided_after_calls": 0, "evidence": [], "replicas": 3,
            "together": of(1), "alone": of(3), "agreed_seconds": 1.2,
        });
        assert_eq!(said, expected);
    }
}
