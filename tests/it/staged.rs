//! A rollout of several stages over real sockets: copies first, then a share, then everything, and nobody moves back.

use std::collections::HashSet;

use parhelion::rollout::Status;
use parhelion::verdict::{Action, State};

use crate::canary::{House, Mode, calls};
use crate::support::oip::{self, INFER};
use crate::support::{Client, eventually};

const GUARDS: &str = "guards: {errors: {absolute: 5%, relative: 25%}, rejections: off}";

/// Copies, a canary to 60 %, then everything. `held`: the canary never passes within a test.
fn stages(held: bool) -> String {
    let hold = if held { "1h" } else { "0s" };
    let canary =
        format!("steps: [{{share: 20%, hold: 0s, calls: 20}}, {{share: 60%, hold: {hold}, calls: 20}}]");
    format!(
        "kind: staged, salt: s, stages: [{{kind: shadow, name: copies, hold: 0s, calls: 20, {GUARDS}}}, \
         {{kind: canary, {canary}, guards: {{errors: {{absolute: 5%, relative: 25%}}, rejections: off, latency: off}}}}, \
         {{kind: pinned}}]"
    )
}

fn stage(status: &Status) -> Option<(u32, String)> {
    status.report.stage.as_ref().map(|stage| (stage.index, stage.name.to_string()))
}

async fn until_stage(house: &House, index: u32) {
    eventually("stage", || stage(&house.status()).is_some_and(|(at, _)| at == index).then_some(())).await;
}

#[tokio::test]
async fn a_sound_candidate_goes_from_copies_to_everything_and_no_unit_moves_back() {
    let house = House::of(&stages(false), "unit: [metadata:x-user]").await;
    let client = Client::connect(house.sidecar.address).await;
    let message = oip::request("m", &[], 10);
    let mut had = HashSet::new();
    let mut seen = HashSet::new();
    for round in 0.. {
        assert!(round < 100, "{:?}", house.status().report);
        for number in 0..100 {
            let user = format!("u{number}");
            let before = stage(&house.status());
            let answer = client.unary(INFER, &[("x-user", &user)], &message).await;
            assert_eq!(answer.status(), Some(0));
            let candidate = answer.header("parhelion-variant") == Some("v2");
            if before.as_ref().is_some_and(|(index, _)| *index == 0) && stage(&house.status()) == before {
                assert!(!candidate, "copies answer nobody");
            }
            seen.extend(before);
            assert!(candidate || !had.contains(&number), "{user} moved back");
            if candidate {
                had.insert(number);
            }
        }
        if house.status().report.state == State::Promoted {
            break;
        }
    }
    let answer = client.unary(INFER, &[("x-user", "anybody")], &message).await;
    assert_eq!(answer.header("parhelion-variant"), Some("v2"));
    assert!(seen.contains(&(0, "copies".to_owned())) && seen.contains(&(1, "canary".to_owned())), "{seen:?}");
    let [Action::Started, Action::Began, Action::Advanced, Action::Began, Action::Advanced, Action::Promoted] =
        house.actions()[..]
    else {
        panic!("{:?}", house.actions())
    };
    let copied = house.v2.calls();
    for number in 0..20 {
        client.unary(INFER, &[("x-user", &format!("u{number}"))], &message).await;
    }
    assert_eq!(house.v2.calls(), copied + 20, "nothing is copied any more");
}

#[tokio::test]
async fn a_candidate_that_fails_its_copies_answers_nobody() {
    let house = House::of(&stages(true), "unit: [metadata:x-user]").await;
    house.v2.become_(Mode::Fail);
    let callers = house.callers(4, &[]);
    let status = house.until(State::RolledBack).await;
    assert!(status.report.stage.is_none());
    assert_eq!(status.report.shares, [1.0, 0.0]);
    assert_eq!(callers.stop().await.failures, 0);
    // What is said of the copies beside is a record too.
    let actions: Vec<Action> =
        house.actions().into_iter().filter(|action| *action != Action::Judged).collect();
    assert_eq!(actions, [Action::Started, Action::Began, Action::RolledBack]);
    let record = &house.sidecar.rollouts.audit(None, 1)[0];
    assert!(record.change.findings.iter().any(|finding| finding.ln_e >= finding.threshold), "{record:?}");
}

#[tokio::test]
async fn a_candidate_that_breaks_in_a_later_stage_is_taken_out() {
    let house = House::of(&stages(true), "unit: [metadata:x-user]").await;
    let callers = house.callers(8, &[]);
    until_stage(&house, 1).await;
    let answered = house.v2.calls();
    calls(&house.v2, answered + 50).await;
    house.v2.become_(Mode::Fail);
    house.until(State::RolledBack).await;
    assert_eq!(callers.stop().await.failures, 0, "the baseline answered what it failed at");
}

/// A canary that copies guard, then everything.
const GUARDED: &str = "kind: staged, salt: s, stages: [{kind: canary, steps: [{share: 50%, hold: 0s, calls: 20}], \
                       guards: {shadow: true, errors: off, rejections: off, latency: off}}, {kind: pinned}]";

#[tokio::test]
async fn a_canary_that_is_a_stage_is_guarded_by_copies_too() {
    let house = House::of(GUARDED, "unit: [metadata:x-user]").await;
    let callers = house.callers(4, &[]);
    let status = house.until(State::Promoted).await;
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0);
    // Half of the calls are its own; of the others it had copies, which proved what the guard asks for.
    let judged = &status.shadows[0];
    assert!(judged.report.pairs > 300 && judged.report.disagreeing == 0, "{:?}", judged.report);
    let records = house.sidecar.rollouts.audit(Some("m"), 100);
    let promoted = records.iter().find(|record| record.change.action == Action::Promoted).unwrap();
    let guard = promoted.change.findings.iter().find(|finding| &*finding.guard == "shadow").unwrap();
    assert_eq!(guard.verdict, parhelion::verdict::Verdict::Pass);
    let (client, copied) = (Client::connect(house.sidecar.address).await, house.v2.calls());
    for _ in 0..20 {
        client.unary(INFER, &[("x-user", "anybody")], &oip::request("m", &[], 10)).await;
    }
    assert_eq!(house.v2.calls(), copied + 20, "nothing is copied any more");
}

#[tokio::test]
async fn a_canary_that_is_a_stage_is_taken_back_for_answers_that_differ() {
    let house = House::of(GUARDED, "unit: [metadata:x-user]").await;
    house.v2.become_(Mode::Other);
    let callers = house.callers(4, &[]);
    house.until(State::RolledBack).await;
    assert_eq!(callers.stop().await.failures, 0);
    let records = house.sidecar.rollouts.audit(Some("m"), 100);
    let back = records.iter().find(|record| record.change.action == Action::RolledBack).unwrap();
    assert!(back.change.why.contains("shadow"), "{back:?}");
}
