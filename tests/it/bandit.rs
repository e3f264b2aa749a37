//! Bandits over real connections: calls, reports about their answers, and what is given next.

use parhelion::pb::v1::{
    Aim, CommandRequest, ExplainRequest, Explanation, FeedbackReport, ListAuditRequest, State, Verdict,
    feedback_report::Value,
};
use tonic::{Code, Request};

use crate::ab::{House, found};
use crate::support::process::{self, Model, request};
use crate::support::soon;

/// Variants with one server behind all.
fn learning(model: &Model, variants: &[&str], strategy: &str, more: &str) -> String {
    let at = model.address;
    let named = variants.iter().map(|name| format!("{name}: {{endpoint: 'http://{at}', version: '{name}'}}"));
    format!(
        "models: {{m: {{variants: {{{}}}, unit: [metadata:x-user], strategy: {{kind: bandit, salt: s, \
         reward: {{name: approved}}, guards: {{errors: off, rejections: off, latency: off}}, {strategy}}}, \
         feedback: {{approved: {{kind: binary}}}}}}}}\ndrain: {{grace: 2s}}\n{more}",
        named.collect::<Vec<_>>().join(", ")
    )
}

fn asked() -> CommandRequest {
    CommandRequest { model: "m".to_owned(), ..CommandRequest::default() }
}

/// Approved: every fifth of v1, four in five of any other.
fn better(variant: &str, number: u32) -> Option<f64> {
    Some(f64::from(u8::from(number % 5 < if variant == "v1" { 1 } else { 4 })))
}

#[tokio::test]
async fn the_variant_that_earns_more_gets_more_and_is_promoted_when_that_is_certain() {
    let model = Model::start("1");
    let strategy = "min_units: 50, floor: 10%, on_pass: promote";
    let mut house = House::new(&learning(&model, &["v1", "v2"], strategy, "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    let now = house.until(State::Promoted, better).await;
    assert_eq!((now.kind.as_str(), now.verdict()), ("bandit", Verdict::Pass));
    let metric = found(&now, "feedback approved", Aim::Success, "v2");
    assert!(metric.harm.unwrap().high < 0.0, "{metric:?}");
    let learnt = now.learning.clone().unwrap();
    assert_eq!((learnt.policy.as_str(), learnt.arms.len(), learnt.apprentice), ("thompson", 2, false));
    let of = |name: &str| learnt.arms.iter().find(|arm| arm.variant == name).unwrap().clone();
    assert!(of("v2").wished > of("v1").wished && of("v2").best > 0.99, "{learnt:?}");
    assert!(
        (of("v1").mean.unwrap() - 0.2).abs() < 0.3 && (of("v2").mean.unwrap() - 0.8).abs() < 0.1,
        "{learnt:?}"
    );
    for user in 0..20 {
        assert_eq!(house.serve(&format!("w{user}"), |_| None).await, "v2");
    }
    let records = ListAuditRequest { model: "m".to_owned(), limit: 10 };
    let records = house.control.list_audit(records).await.unwrap().into_inner().records;
    let actions: Vec<&str> = records.iter().map(|record| record.action.as_str()).collect();
    assert_eq!(actions, ["promoted", "began", "started"], "an epoch is no change of plan");
}

#[tokio::test]
async fn explain_replays_each_draw_of_its_epoch() {
    let model = Model::start("1");
    let mut house = House::new(&learning(&model, &["v1", "v2", "v3"], "stop: off", "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    let mut seen = std::collections::HashSet::new();
    for user in 0..30 {
        let user = format!("u{user}");
        let served = house.serve(&user, |_| None).await;
        let question =
            ExplainRequest { model: "m".to_owned(), unit: Some(user.clone()), ..ExplainRequest::default() };
        let told = house.control.explain(question).await.unwrap().into_inner();
        assert_eq!((told.variant.as_str(), told.epoch), (served.as_str(), 0), "{user}");
        assert_eq!((told.reason.as_str(), told.salt.as_str()), ("split", "s/0/"));
        assert!((told.propensity - 1.0 / 3.0).abs() < 1e-4 && told.ranges.len() == 3, "{told:?}");
        seen.insert(served);
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_reward_out_of_its_range_is_refused_and_teaches_nothing() {
    let model = Model::start("1");
    let mut house = House::new(&learning(&model, &["v1", "v2"], "stop: off", "")).await;
    let mut call = Request::new(request(""));
    call.metadata_mut().insert("x-user", "ann".parse().unwrap());
    let answer = soon("an answer", house.calls.model_infer(call)).await.unwrap();
    let id = answer.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap().to_owned();
    for wrong in [2.0, -1.0, 0.5, f64::NAN] {
        let value = Some(Value::Number(wrong));
        let report = FeedbackReport {
            prediction_id: id.clone(),
            name: "approved".to_owned(),
            value,
            ..FeedbackReport::default()
        };
        let refused = house.reports.report(report).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{wrong}: {refused}");
    }
    let known = house.status().await.learning.unwrap();
    assert_eq!(known.arms.iter().map(|arm| arm.values).sum::<u64>(), 0);
}

#[tokio::test]
async fn an_apprentice_leaves_the_baseline_alone_and_says_what_it_is_worth() {
    let model = Model::start("1");
    let strategy = "mode: apprentice, min_units: 20, floor: 20%";
    let mut house = House::new(&learning(&model, &["v1", "v2"], strategy, "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    for _ in 0..10 {
        for _ in 0..60 {
            house.users += 1;
            let (user, number) = (format!("u{}", house.users), house.users);
            house.serve(&user, |variant| better(variant, number)).await;
        }
        if house.status().await.learning.unwrap().arms[1].wished > 0.7 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    for user in 0..100 {
        house.serve(&format!("w{user}"), |variant| better(variant, user)).await;
    }
    process::until("its worth", || async {
        let known = house.status().await.learning.unwrap();
        known
            .own
            .as_ref()
            .zip(known.baseline.as_ref())
            .is_some_and(|(own, baseline)| own.value > baseline.value + 0.05)
    })
    .await;
    let now = house.status().await;
    let shares: Vec<f64> = now.arms.iter().map(|arm| arm.share).collect();
    assert_eq!((shares, now.state()), (vec![0.8, 0.2], State::Running));
    let known = now.learning.unwrap();
    assert!(known.apprentice && known.arms[1].wished > 0.7, "{known:?}");
    let refused = house.control.resume(asked()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

const BY_AGE: &str = "policy: lin_ts, min_units: 1, context: [{metadata: x-age, offset: 40, scale: 20}]";

/// What is given to somebody of that age, and why.
async fn told_of(house: &House, age: &str) -> Explanation {
    let asked = ExplainRequest {
        model: "m".to_owned(),
        metadata: [("x-user".to_owned(), "ann".to_owned()), ("x-age".to_owned(), age.to_owned())].into(),
        ..ExplainRequest::default()
    };
    house.control.clone().explain(asked).await.unwrap().into_inner()
}

/// Of 100,000 places.
fn share(told: &Explanation, name: &str) -> u32 {
    let own = told.ranges.iter().filter(|range| range.variant == name);
    own.map(|range| range.to - range.from).sum()
}

/// Whether v1 is nearly everybody's who is young, and v2 of those who are old.
async fn knows_ages(house: &House) -> bool {
    share(&told_of(house, "20").await, "v1") > 90_000 && share(&told_of(house, "60").await, "v2") > 90_000
}

/// Calls of the young, who approve of v1, and of the old, who approve of v2, until that is known.
async fn learn_of_ages(house: &mut House) {
    for _ in 0..30 {
        for _ in 0..40 {
            house.users += 1;
            let (user, young) = (format!("u{}", house.users), house.users.is_multiple_of(2));
            let (age, right) = if young { ("20", "v1") } else { ("60", "v2") };
            house
                .serve_with(&user, &[("x-age", age)], |variant| Some(f64::from(u8::from(variant == right))))
                .await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        if knows_ages(house).await {
            return;
        }
    }
    panic!("{:#?}", house.status().await);
}

#[tokio::test]
async fn calls_are_told_apart_by_what_they_bring_and_one_that_brings_nonsense_is_the_baselines() {
    let model = Model::start("1");
    let mut house = House::new(&learning(&model, &["v1", "v2"], BY_AGE, "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    learn_of_ages(&mut house).await;
    for age in ["young", "NaN", "inf", ""] {
        let told = told_of(&house, age).await;
        assert_eq!(
            (told.variant.as_str(), told.reason.as_str(), told.propensity),
            ("v1", "no_context", 1.0),
            "{age:?}"
        );
    }
    assert_eq!(house.serve_with("zoe", &[("x-age", "old")], |_| None).await, "v1");
    let reasons = "parhelion_assignments_total{model=\"m\",variant=\"v1\",reason=\"no_context\"}";
    assert_eq!(house.sidecar.metric(reasons).await, 1);
}

#[tokio::test]
async fn what_contexts_taught_outlives_the_process() {
    let (model, kept) = (Model::start("1"), tempfile::tempdir().unwrap());
    let state = format!("state: {}\n", kept.path().display());
    let yaml = learning(&model, &["v1", "v2"], BY_AGE, &state);
    let mut house = House::new(&yaml).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    learn_of_ages(&mut house).await;
    let (revision, reported) = (house.status().await.revision, house.users);
    house.sidecar.signal("TERM");
    house.sidecar.ended(process::LONG).await;

    let house = House::new(&yaml).await;
    process::until("what it knew", || async { knows_ages(&house).await }).await;
    let now = house.status().await;
    let values: u64 = now.learning.as_ref().unwrap().arms.iter().map(|arm| arm.values).sum();
    assert_eq!((&now.revision, values), (&revision, u64::from(reported)), "{now:#?}");
}

#[tokio::test]
async fn a_bandit_is_a_stage_that_begins_with_what_those_before_it_earned() {
    let model = Model::start("1");
    let at = model.address;
    let guards = "guards: {errors: off, rejections: off, latency: off}";
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: 'http://{at}', version: v1}}, v2: {{endpoint: 'http://{at}', \
         version: v2}}}}, unit: [metadata:x-user], strategy: {{kind: staged, salt: s, stages: [\
         {{kind: canary, steps: [{{share: 40%, hold: 2s, calls: 60}}], \
         guards: {{errors: {{absolute: 10%, relative: 25%}}, rejections: off, latency: off}}}}, \
         {{kind: bandit, reward: {{name: approved}}, min_units: 20, floor: 10%, on_pass: promote, {guards}}}, \
         {{name: everybody, kind: pinned}}]}}, feedback: {{approved: {{kind: binary}}}}}}}}\ndrain: {{grace: 2s}}\n"
    );
    let mut house = House::new(&yaml).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    house.until(State::Promoted, better).await;
    let records = ListAuditRequest { model: "m".to_owned(), limit: 10 };
    let records = house.control.list_audit(records).await.unwrap().into_inner().records;
    let actions: Vec<&str> = records.iter().rev().map(|record| record.action.as_str()).collect();
    assert_eq!(actions, ["started", "began", "advanced", "began", "promoted"], "{records:#?}");
    // In two seconds the canary earned enough to tell who is better, and nobody's half had to be tried again.
    assert!(records[2].share > 0.8, "{records:#?}");
    assert_eq!(house.serve("anybody", |_| None).await, "v2");
}

#[tokio::test]
async fn a_comparison_becomes_a_bandit_that_knows_what_it_learnt_and_a_new_variant_begins_at_nothing() {
    let model = Model::start("1");
    let ab = "models: {m: {variants: {v1: {endpoint: 'http://AT', version: v1}, v2: {endpoint: 'http://AT', version: v2}}, \
        unit: [metadata:x-user], strategy: {kind: ab, salt: s, weights: {v1: 50%, v2: 50%}, metrics: {feedback: {name: approved}}, \
        guards: {errors: off, rejections: off, latency: off}}, feedback: {approved: {kind: binary}}}}\ndrain: {grace: 2s}\n";
    let mut house = House::new(&ab.replace("AT", &model.address.to_string())).await;
    for _ in 0..200 {
        house.users += 1;
        let (user, number) = (format!("u{}", house.users), house.users);
        house.serve(&user, |variant| better(variant, number)).await;
    }
    process::until("what was reported", || async {
        let now = house.status().await;
        let metric = found(&now, "feedback approved", Aim::Success, "v2");
        metric.baseline.unwrap().n + metric.candidate.unwrap().n == 200
    })
    .await;
    let before = house.status().await.revision;
    let change = async |house: &House, variants: &[&str], before: &str| {
        let text =
            format!("{}{}", process::PORTS, learning(&model, variants, "min_units: 50, stop: off", ""));
        std::fs::write(house.sidecar.file(), text).unwrap();
        process::until("the bandit", || async {
            let now = house.status().await;
            now.revision != before && now.state() == State::Running
        })
        .await;
        house.status().await
    };
    let now = change(&house, &["v1", "v2"], &before).await;
    let known = now.learning.unwrap();
    assert_eq!(known.arms.iter().map(|arm| arm.values).sum::<u64>(), 200, "{known:?}");
    assert!(now.arms[1].share > 0.95, "{known:?}");
    let now = change(&house, &["v1", "v2", "v3"], &now.revision).await;
    let known = now.learning.unwrap();
    assert_eq!((known.arms[2].values, known.arms[1].values > 50), (0, true), "{known:?}");
    assert!((now.arms[2].share - 1.0 / 3.0).abs() < 1e-3 && now.arms[1].share > 0.6, "{known:?}");
    let records = ListAuditRequest { model: "m".to_owned(), limit: 10 };
    let records = house.control.list_audit(records).await.unwrap().into_inner().records;
    assert!(records.iter().any(|record| record.why.contains("is carried over")), "{records:#?}");
}
