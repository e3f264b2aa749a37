//! The result of a scenario: the one object that `--json` says, and how it differs from what the name promises. Pure.

use serde::Serialize;

use super::super::reporter::Reported;
use super::super::scenario::Scenario;
use super::super::server::manner::Trouble;
use crate::rollout::{Actor, AuditRecord};
use crate::verdict::{Action, Aim, Change, Finding, Scale, Verdict};

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ending {
    /// Its name.
    pub scenario: &'static str,
    /// What all guards said together at the decision.
    pub verdict: Verdict,
    /// What was done: `promoted`, `rolled_back`, `held` or `settled`.
    pub action: Action,
    /// Of several versions: which one got everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
    /// Calls that the callers made.
    pub calls: u64,
    /// Of these: without an answer that can be relied on.
    pub caller_failures: u64,
    /// Calls that the candidate's server failed.
    pub candidate_failures: u64,
    /// Calls of both variants that the decision rests on; where lists of both were shown, sessions.
    pub decided_after_calls: u64,
    /// What each guard had found at the decision.
    pub evidence: Vec<Finding>,
    /// What went differently from what the scenario's name says, in words.
    #[serde(skip)]
    pub differs: Vec<String>,
}

/// What was counted until the end.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::demo) struct Counted {
    /// Calls that the callers made.
    pub(in crate::demo) calls: u64,
    /// Of these: without an answer that can be relied on.
    pub(in crate::demo) failed: u64,
    /// Of these: before the trouble began; none where there was none.
    pub(in crate::demo) failed_before: Option<u64>,
    /// Calls that the candidate's server failed.
    pub(in crate::demo) candidate: u64,
    /// Users who went back to the baseline.
    pub(in crate::demo) moved_back: u64,
    /// How many servers got calls when fewest did, where that is promised.
    pub(in crate::demo) fewest: Option<usize>,
}

impl Ending {
    /// Made of the decision's record and what was counted.
    pub(in crate::demo) fn new(scenario: Scenario, record: &AuditRecord, counted: Counted) -> Ending {
        let evidence = record.change.findings.clone();
        let winner = winner(&record.change);
        let mut ending = Ending {
            scenario: scenario.name(),
            // A bandit's guards take variants out; who is the best need not pass them too.
            verdict: match scenario {
                Scenario::Bandit if winner.is_some() => Verdict::Pass,
                _ => together(&evidence),
            },
            action: record.change.action,
            winner,
            calls: counted.calls,
            caller_failures: counted.failed,
            candidate_failures: counted.candidate,
            decided_after_calls: rests_on(scenario, &evidence),
            evidence,
            differs: Vec::new(),
        };
        ending.differs = ending.differences(scenario, &record.actor, counted);
        ending
    }

    /// With what became of the callers' feedback.
    pub(super) fn with_feedback(mut self, reported: &Reported) -> Ending {
        self.differs.extend(reported.wrong.iter().map(|what| format!("of the callers' reports {what}")));
        self
    }

    /// With what else went wrong, if anything did.
    pub(in crate::demo) fn with_wrong(mut self, wrong: impl IntoIterator<Item = String>) -> Ending {
        self.differs.extend(wrong);
        self
    }

    /// Whether it ended as the name says.
    pub fn is_as_named(&self) -> bool {
        self.differs.is_empty()
    }

    fn differences(&self, scenario: Scenario, actor: &Actor, counted: Counted) -> Vec<String> {
        let mut differs = Vec::new();
        if self.action != scenario.end() {
            let (action, end) = (self.action.name(), scenario.end().name());
            differs.push(format!("the candidate was to be {end}, and was {action}"));
        }
        if *actor != Actor::Judge {
            differs.push(format!("{actor} decided, not the evidence"));
        }
        // Where nobody stands in, what the candidate fails at its callers see, and nothing else.
        let excused = if scenario.has_fallback() { 0 } else { self.candidate_failures };
        if self.caller_failures > excused {
            differs.push(format!("{} calls failed at their callers", self.caller_failures - excused));
        } else if let Some(before) = counted.failed_before.filter(|before| *before > 0) {
            differs.push(format!("{before} calls failed at their callers before the trouble"));
        }
        if scenario.trouble() == Some(Trouble::Fails) && self.candidate_failures == 0 {
            differs.push("the candidate failed no call before that".to_owned());
        }
        if let Some((fewest, least)) = counted.fewest.zip(scenario.min_ready())
            && fewest < least
        {
            differs.push(format!("only {fewest} servers got calls, and {least} must at any time"));
        }
        if counted.moved_back > 0 {
            differs.push(format!("{} users moved back to the baseline", counted.moved_back));
        }
        differs
    }
}

/// Who got everything, where it was one of several.
fn winner(change: &Change) -> Option<String> {
    change.variants.first().filter(|_| change.action == Action::Promoted).map(ToString::to_string)
}

/// What all of it says together: every guard passes, and one metric at least where there are any.
fn together(findings: &[Finding]) -> Verdict {
    let of = |aim: Aim| findings.iter().filter(move |finding| finding.aim == aim);
    let passes = |finding: &Finding| finding.verdict == Verdict::Pass;
    let better = of(Aim::Success).count() == 0 || of(Aim::Success).any(passes);
    if findings.iter().any(|finding| finding.verdict == Verdict::Invalid) {
        Verdict::Invalid
    } else if findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
        Verdict::Fail
    } else if !findings.is_empty() && better && of(Aim::Guardrail).all(passes) {
        Verdict::Pass
    } else {
        Verdict::NotEnoughData
    }
}

/// Calls of both variants behind the findings, where guards on shares count every call. A session that saw one list of
/// both is evidence of both, and counts once.
fn rests_on(scenario: Scenario, findings: &[Finding]) -> u64 {
    let shares = findings.iter().filter(|finding| finding.scale == Scale::Share);
    let behind = shares.map(|Finding { baseline, candidate, .. }| match scenario {
        Scenario::Interleave => candidate.n,
        _ => baseline.n + candidate.n,
    });
    behind.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::verdict::{Change, Estimate, State};

    fn finding(verdict: Verdict) -> Finding {
        Finding {
            guard: "errors".into(),
            aim: crate::verdict::Aim::Guardrail,
            variant: Arc::default(),
            verdict,
            baseline: Estimate { n: 70, value: Some(0.0) },
            candidate: Estimate { n: 30, value: Some(0.1) },
            harm: None,
            margin: 0.02,
            scale: Scale::Share,
            ln_e: 1.0,
            threshold: 5.0,
            missing: 0,
        }
    }

    fn record(action: Action, actor: Actor, findings: Vec<Finding>) -> AuditRecord {
        let change = Change {
            action,
            why: "why".to_owned(),
            from: State::Running,
            to: State::RolledBack,
            step: None,
            share: 0.0,
            variants: Vec::new(),
            findings,
        };
        let (model, config) = (Arc::from("m"), Arc::from("c"));
        AuditRecord { sequence: 3, millis: 0, model, revision: 1, epoch: 1, config, actor, change }
    }

    fn counted(calls: u64, failed: u64, candidate: u64) -> Counted {
        Counted { calls, failed, candidate, ..Counted::default() }
    }

    #[test]
    fn a_switch_excuses_what_its_candidate_failed_and_nothing_else() {
        let record = record(Action::RolledBack, Actor::Judge, vec![finding(Verdict::Fail)]);
        let differs = |counted| Ending::new(Scenario::Switch, &record, counted).differs;
        assert!(differs(counted(100, 7, 7)).is_empty());
        assert_eq!(differs(counted(100, 8, 7)), ["1 calls failed at their callers"]);
        let before = Counted { failed_before: Some(1), ..counted(100, 7, 7) };
        assert_eq!(differs(before), ["1 calls failed at their callers before the trouble"]);
        assert_eq!(differs(counted(100, 0, 0)), ["the candidate failed no call before that"]);
        let back = Counted { moved_back: 2, ..counted(100, 7, 7) };
        assert_eq!(differs(back), ["2 users moved back to the baseline"]);
    }

    #[test]
    fn a_winner_is_better_on_one_metric_and_no_worse_on_any_guard() {
        let success = |verdict| Finding { aim: Aim::Success, ..finding(verdict) };
        let (pass, open) = (Verdict::Pass, Verdict::NotEnoughData);
        assert_eq!(together(&[success(open), success(pass), finding(pass)]), pass);
        assert_eq!(together(&[success(open), finding(pass)]), open);
        assert_eq!(together(&[success(pass), finding(open)]), open);
        let broken = Finding { aim: Aim::Validity, ..finding(Verdict::Invalid) };
        assert_eq!(together(&[success(pass), finding(pass), broken]), Verdict::Invalid);
        let suspect = Finding { aim: Aim::Validity, ..finding(Verdict::Inconclusive) };
        assert_eq!(together(&[suspect, success(pass), finding(pass)]), pass);
    }

    #[test]
    fn an_update_keeps_as_many_servers_as_it_says() {
        let record = record(Action::Promoted, Actor::Judge, vec![finding(Verdict::Pass)]);
        let differs = |fewest| {
            let counted = Counted { fewest: Some(fewest), ..counted(100, 0, 0) };
            Ending::new(Scenario::Rolling, &record, counted).differs
        };
        assert!(differs(3).is_empty());
        assert_eq!(differs(2), ["only 2 servers got calls, and 3 must at any time"]);
    }

    #[test]
    fn it_is_the_documented_object() {
        let record = record(Action::RolledBack, Actor::Judge, vec![finding(Verdict::Fail)]);
        let ending = Ending::new(Scenario::CanaryBroken, &record, counted(150, 0, 4));
        assert!(ending.is_as_named(), "{:?}", ending.differs);
        let said = serde_json::to_value(&ending).unwrap();
        let expected = serde_json::json!({
            "scenario": "canary-broken",
            "verdict": "fail",
            "action": "rolled_back",
            "calls": 150,
            "caller_failures": 0,
            "candidate_failures": 4,
            "decided_after_calls": 100,
            "evidence": [serde_json::to_value(finding(Verdict::Fail)).unwrap()],
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn of_two_rankers_the_winner_is_said_and_a_session_counts_once() {
        let mut record = record(Action::Promoted, Actor::Judge, vec![finding(Verdict::Pass)]);
        record.change.variants = vec!["v2".into()];
        let ending = Ending::new(Scenario::Interleave, &record, counted(150, 0, 0));
        assert_eq!((ending.winner.as_deref(), ending.decided_after_calls), (Some("v2"), 30));
        assert!(ending.is_as_named());
        assert!(!ending.with_wrong(Some("a click: refused".to_owned())).is_as_named());
    }

    #[test]
    fn whatever_went_differently_is_said() {
        let judged = |action, findings| record(action, Actor::Judge, findings);
        let held = judged(Action::Held, vec![finding(Verdict::Pass), finding(Verdict::NotEnoughData)]);
        let held = Ending::new(Scenario::CanaryGood, &held, counted(10, 2, 0));
        assert_eq!(held.verdict, Verdict::NotEnoughData);
        let said = ["the candidate was to be promoted, and was held", "2 calls failed at their callers"];
        assert_eq!(held.differs, said);
        let ann = Actor::Operator { name: "ann".to_owned(), reason: String::new() };
        let by_hand = record(Action::Promoted, ann, Vec::new());
        let by_hand = Ending::new(Scenario::CanaryGood, &by_hand, counted(10, 0, 0));
        assert_eq!(by_hand.verdict, Verdict::NotEnoughData);
        assert_eq!(by_hand.differs, ["operator ann decided, not the evidence"]);
        let wrong = Some("2 came too fast to be sent".to_owned());
        let told = by_hand.with_feedback(&Reported { wrong, ..Reported::default() });
        assert_eq!(told.differs[1], "of the callers' reports 2 came too fast to be sent");
        let well = judged(Action::RolledBack, vec![finding(Verdict::Pass)]);
        let well = Ending::new(Scenario::CanaryBroken, &well, counted(10, 0, 0));
        assert_eq!((well.verdict, well.differs.len()), (Verdict::Pass, 1));
    }
}
