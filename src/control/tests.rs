use super::*;
use crate::config;
use crate::verdict::{Report, State, Verdict};

const CANARY: &str = "
models:
  fraud:
    variants:
      v1: {endpoint: 'http://127.0.0.1:8001', version: 1.4.0}
      v2: {endpoint: 'http://127.0.0.1:8002', version: 2.0.0}
    strategy:
      kind: canary
      baseline: v1
      candidate: v2
      steps: [{share: 1%}, {share: 25%, hold: 10m}]
      max_step_time: 1d
      guards: {errors: {absolute: 0.1%}}
";

fn model(text: &str) -> Arc<Model> {
    let loaded = config::read("test.yaml", text, &config::Environment::default()).unwrap();
    Arc::clone(&loaded.config.models[0])
}

fn report(state: State, step: u32) -> Report {
    Report {
        state,
        stage: None,
        step: Some((step, 2)),
        shares: vec![0.99, 0.01],
        calls: vec![0, 0],
        since: std::time::Duration::ZERO,
        findings: Vec::new(),
        verdict: Verdict::NotEnoughData,
        waits_for: String::new(),
        learning: None,
    }
}

fn known_as(name: &str, right: Right) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Caller { name: name.into(), right });
    extensions
}

#[test]
fn only_who_may_act_acts_and_is_named() {
    let told = actor(&known_as("ann", Right::Act), &Command::Pause, " over the weekend ").unwrap();
    assert_eq!(told, Actor::Operator { name: "ann".to_owned(), reason: "over the weekend".to_owned() });
    let refused = actor(&known_as("bob", Right::Read), &Command::Rollback, "").unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().contains("token bob may only read: rollback needs"), "{refused}");
    let nobody = actor(&Extensions::new(), &Command::Pause, "").unwrap_err();
    assert_eq!(nobody.code(), tonic::Code::Unauthenticated);
    for reason in ["two\nlines", &"x".repeat(501)] {
        let refused = actor(&known_as("ann", Right::Act), &Command::Pause, reason).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[test]
fn every_refusal_has_its_status_and_its_remedy() {
    let state = Refused::State { command: "pause", state: "promoted", remedy: "roll it back" };
    let away = Refused::NotReady { variant: "v2".into(), why: "cannot connect".to_owned() };
    let meaningless = Refused::Meaningless { command: "promote", kind: "ab" };
    for (refusal, code, want) in [
        (Refusal::Strategy(state), tonic::Code::FailedPrecondition, "roll it back"),
        (Refusal::Strategy(away), tonic::Code::FailedPrecondition, "wait until it is"),
        (Refusal::Strategy(meaningless), tonic::Code::FailedPrecondition, "change the file"),
        (Refusal::NoUnit { model: "m".into() }, tonic::Code::FailedPrecondition, "has no `unit`"),
        (Refusal::Unit { unit: "\u{e9}".to_owned() }, tonic::Code::InvalidArgument, "visible ASCII"),
        (
            Refusal::Model { model: "x".to_owned(), known: "m".to_owned() },
            tonic::Code::NotFound,
            "there is m",
        ),
    ] {
        let status = refused(&refusal);
        assert_eq!(status.code(), code, "{refusal}");
        assert!(status.message().contains(want), "{status}");
    }
}

#[test]
fn a_question_is_a_unit_or_a_call() {
    let metadata = HashMap::from([("X-User-Id".to_owned(), "ann".to_owned())]);
    let call = v1::ExplainRequest { metadata: metadata.clone(), ..v1::ExplainRequest::default() };
    let Ok(Question::Call { metadata: read, .. }) = question(call.clone()) else { panic!("a call") };
    assert_eq!(read.get("x-user-id").unwrap(), "ann");
    let both = v1::ExplainRequest { unit: Some("ann".to_owned()), ..call };
    assert_eq!(question(both).unwrap_err().code(), tonic::Code::InvalidArgument);
    let bad = HashMap::from([("a b".to_owned(), "x".to_owned())]);
    let bad = v1::ExplainRequest { metadata: bad, ..v1::ExplainRequest::default() };
    assert_eq!(question(bad).unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[test]
fn what_comes_next_is_said_in_every_state() {
    let model = model(CANARY);
    let next = |state, step| next::next(&model, &report(state, step)).join("\n");
    let running = next(State::Running, 0);
    assert!(running.contains("if every guard passes: step 2 of 2, 25% to v2, for at least 10m"), "{running}");
    assert!(running.contains("if one fails: everything to v1, and v2's build is blocked"), "{running}");
    assert!(running.contains("without a verdict in 1d: it holds"), "{running}");
    assert!(next(State::Running, 1).contains("if every guard passes: everything to v2"));
    assert!(next(State::Waiting, 0).contains("when v2 is ready: step 1 of 2, 1% to v2"));
    assert!(next(State::Paused, 1).contains("on resume: it goes on at step 2"));
    assert!(next(State::Promoted, 1).contains("parhelion ctl export fraud"));
    for state in [State::Held, State::Passed, State::RolledBack, State::Pinned] {
        assert!(!next(state, 0).is_empty(), "{state:?}");
    }
    assert_eq!(next(State::Steady, 0), "");
}

#[test]
fn what_a_candidate_waits_for_and_fails_by_follows_the_file() {
    let waits = model(&CANARY.replace("max_step_time: 1d", "on_pass: wait\n      on_fail: hold"));
    let next = next::next(&waits, &report(State::Running, 1)).join("\n");
    assert!(next.contains("until a person promotes v2") && next.contains("an alert says so"), "{next}");
    let pinned = model("models: {m: {variants: {v1: {endpoint: 'http://127.0.0.1:8001'}}}}");
    assert!(next::next(&pinned, &report(State::Pinned, 0))[0].contains("as the file says"));
    assert!(next::next(&pinned, &report(State::Steady, 0)).is_empty());
}
