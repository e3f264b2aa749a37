//! Comparisons over real connections: calls, reports about their answers, and what comes of both.

use parhelion::config::units::Percent;
use parhelion::pb::v1::control_client::ControlClient;
use parhelion::pb::v1::feedback_client::FeedbackClient;
use parhelion::pb::v1::{
    Aim, CommandRequest, ExportRequest, FeedbackReport, GetRolloutRequest, Guard, Rollout, State, Verdict,
    feedback_report::Value,
};
use parhelion::stats::hash;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::support::process::{self, Model, Sidecar, request};
use crate::support::soon;

/// Two or three variants that share the calls evenly, the same server behind all.
fn compared(model: &Model, variants: &[(&str, &str)], strategy: &str, more: &str) -> String {
    let at = model.address;
    let named =
        variants.iter().map(|(name, _)| format!("{name}: {{endpoint: 'http://{at}', version: '{name}'}}"));
    let weights = variants.iter().map(|(name, share)| format!("{name}: {share}"));
    let (named, weights) = (named.collect::<Vec<_>>().join(", "), weights.collect::<Vec<_>>().join(", "));
    format!(
        "models: {{m: {{variants: {{{named}}}, unit: [metadata:x-user], strategy: {{kind: ab, salt: s, \
         weights: {{{weights}}}, {strategy}}}, feedback: {{approved: {{kind: binary}}}}}}}}\ndrain: {{grace: 2s}}\n{more}"
    )
}

const HALVES: [(&str, &str); 2] = [("v1", "50%"), ("v2", "50%")];
const METRICS: &str =
    "metrics: {feedback: {name: approved}}, guards: {errors: off, rejections: off, latency: off}";

/// A sidecar, and all that talk to it.
pub(crate) struct House {
    pub(crate) sidecar: Sidecar,
    pub(crate) calls: process::Client,
    pub(crate) reports: FeedbackClient<Channel>,
    pub(crate) control: ControlClient<Channel>,
    pub(crate) users: u32,
}

impl House {
    pub(crate) async fn new(yaml: &str) -> Self {
        let sidecar = Sidecar::ready(yaml).await;
        let endpoint = |address| Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let (reports, control) =
            (FeedbackClient::new(endpoint(sidecar.data)), ControlClient::new(endpoint(sidecar.admin)));
        let calls = sidecar.client();
        House { sidecar, calls, reports, control, users: 0 }
    }

    pub(crate) async fn status(&self) -> Rollout {
        let asked = GetRolloutRequest { model: "m".to_owned() };
        soon("a rollout", self.control.clone().get_rollout(asked)).await.unwrap().into_inner()
    }

    /// A new user's call, and what is told of its answer, if anything; who answered.
    pub(crate) async fn serve(&mut self, user: &str, told: impl Fn(&str) -> Option<f64>) -> String {
        self.serve_with(user, &[], told).await
    }

    /// The same, with more metadata.
    pub(crate) async fn serve_with(
        &mut self,
        user: &str,
        more: &[(&'static str, &str)],
        told: impl Fn(&str) -> Option<f64>,
    ) -> String {
        let mut call = Request::new(request(""));
        call.metadata_mut().insert("x-user", user.parse().unwrap());
        for (name, value) in more {
            call.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let answer = soon("an answer", self.calls.model_infer(call)).await.unwrap();
        let said = |name: &str| answer.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        let variant = said("parhelion-variant");
        if let Some(value) = told(&variant) {
            let report = FeedbackReport {
                prediction_id: said("parhelion-prediction-id"),
                name: "approved".to_owned(),
                value: Some(Value::Number(value)),
                ..FeedbackReport::default()
            };
            soon("a receipt", self.reports.clone().report(report)).await.unwrap();
        }
        variant
    }

    /// New users until the rollout is in that state.
    pub(crate) async fn until(&mut self, state: State, told: impl Fn(&str, u32) -> Option<f64>) -> Rollout {
        for _ in 0..300 {
            for _ in 0..100 {
                self.users += 1;
                let (user, number) = (format!("u{}", self.users), self.users);
                self.serve(&user, |variant| told(variant, number)).await;
            }
            let now = self.status().await;
            if now.state() == state {
                return now;
            }
        }
        panic!("never came to {state:?}: {:#?}", self.status().await);
    }
}

pub(crate) fn found<'a>(rollout: &'a Rollout, name: &str, aim: Aim, variant: &str) -> &'a Guard {
    let of = |guard: &&Guard| guard.name == name && guard.aim() == aim && guard.variant == variant;
    rollout.guards.iter().find(of).unwrap_or_else(|| panic!("{name} of {variant}: {rollout:#?}"))
}

/// Approved: every fifth of v1, three in five of any other.
fn better(variant: &str, number: u32) -> Option<f64> {
    Some(f64::from(u8::from(number % 5 < if variant == "v1" { 1 } else { 3 })))
}

#[tokio::test]
async fn the_better_variant_wins_by_what_is_reported_and_a_person_promotes_it() {
    let model = Model::start("1");
    let mut house = House::new(&compared(&model, &HALVES, METRICS, "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    let now = house.until(State::Passed, better).await;
    assert_eq!((now.kind.as_str(), now.verdict()), ("ab", Verdict::Pass));
    let metric = found(&now, "feedback approved", Aim::Success, "v2");
    assert_eq!(metric.verdict(), Verdict::Pass);
    assert!(metric.harm.unwrap().high < 0.0, "{metric:?}");
    assert_eq!(found(&now, "sample ratio", Aim::Validity, "v2").verdict(), Verdict::Pass);
    assert_eq!(found(&now, "reports approved", Aim::Validity, "v2").verdict(), Verdict::Pass);
    let verdict =
        "parhelion_rollout_verdict{model=\"m\",guard=\"feedback approved\",aim=\"success\",variant=\"v2\"}";
    assert_eq!(house.sidecar.metric(verdict).await, 1);
    let asked = CommandRequest { model: "m".to_owned(), ..CommandRequest::default() };
    let done = house.control.promote(asked).await.unwrap().into_inner();
    assert_eq!(done.rollout.unwrap().state(), State::Promoted);
    for user in 0..20 {
        assert_eq!(house.serve(&format!("w{user}"), |_| None).await, "v2");
    }
    let export = house.control.export(ExportRequest { model: "m".to_owned() }).await.unwrap().into_inner();
    assert!(export.yaml.contains("\"pinned\"") && !export.yaml.contains("\"v1\""), "{}", export.yaml);
}

#[tokio::test]
async fn a_variant_that_is_worse_is_taken_out_and_the_rest_goes_on() {
    let model = Model::start("1");
    let thirds = [("v1", "40%"), ("v2", "30%"), ("v3", "30%")];
    let mut house = House::new(&compared(&model, &thirds, METRICS, "")).await;
    let worse = |variant: &str, number: u32| {
        Some(f64::from(u8::from(number % 5 < if variant == "v3" { 1 } else { 3 })))
    };
    for _ in 0..60 {
        for _ in 0..100 {
            house.users += 1;
            let (user, number) = (format!("u{}", house.users), house.users);
            house.serve(&user, |variant| worse(variant, number)).await;
        }
        if house.status().await.epoch > 0 {
            break;
        }
    }
    let now = house.status().await;
    assert_eq!((now.state(), now.epoch), (State::Running, 1), "{now:#?}");
    let shares: Vec<f64> = now.arms.iter().map(|arm| arm.share).collect();
    assert_eq!(shares, [0.7, 0.3, 0.0]);
    assert!(now.arms[2].blocked && !now.arms[0].blocked && !now.arms[1].blocked);
    assert!(now.differs.contains("v3"), "{}", now.differs);
    for user in 0..40 {
        assert_ne!(house.serve(&format!("w{user}"), |_| None).await, "v3");
    }
    let export = house.control.export(ExportRequest { model: "m".to_owned() }).await.unwrap().into_inner();
    assert!(export.yaml.contains("\"70%\"") && !export.yaml.contains("\"v3\""), "{}", export.yaml);
}

#[tokio::test]
async fn units_that_did_not_come_as_planned_block_the_verdict() {
    let model = Model::start("1");
    let mut house = House::new(&compared(&model, &HALVES, METRICS, "")).await;
    process::until("the beginning", || async { house.status().await.state() == State::Running }).await;
    // Every second user that would have v1 never comes.
    let halves = Percent::ALL.thousandths();
    let (mut skipped, mut number) = (0, 0);
    let held = loop {
        number += 1;
        assert!(number < 6_000, "{:#?}", house.status().await);
        let user = format!("u{number}");
        let baseline = hash::bucket(hash::salted("s", &user), halves) >= halves / 2;
        skipped += u32::from(baseline);
        if baseline && skipped % 2 == 0 {
            continue;
        }
        let variant = house.serve(&user, |variant| better(variant, number)).await;
        assert_eq!(variant == "v1", baseline, "{user}");
        if number % 100 == 0 {
            let now = house.status().await;
            if now.state() != State::Running {
                break now;
            }
        }
    };
    assert_eq!((held.state(), held.verdict()), (State::Held, Verdict::Invalid), "{held:#?}");
    assert_eq!(found(&held, "sample ratio", Aim::Validity, "v2").verdict(), Verdict::Invalid);
    let asked = CommandRequest { model: "m".to_owned(), ..CommandRequest::default() };
    let refused = house.control.resume(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("another salt"), "{}", refused.message());
}

#[tokio::test]
async fn reports_that_come_for_one_variant_only_half_the_time_block_it_too() {
    let model = Model::start("1");
    let mut house = House::new(&compared(&model, &HALVES, METRICS, "")).await;
    let lost = |variant: &str, number: u32| {
        // The same share is approved of both, so there is nothing else to find.
        let told = variant == "v1" || number.is_multiple_of(2);
        told.then(|| f64::from(u8::from((number / 2).is_multiple_of(2))))
    };
    let held = house.until(State::Held, lost).await;
    assert_eq!(held.verdict(), Verdict::Invalid);
    assert_eq!(found(&held, "reports approved", Aim::Validity, "v2").verdict(), Verdict::Invalid);
    assert_eq!(found(&held, "sample ratio", Aim::Validity, "v2").verdict(), Verdict::Pass);
}

#[tokio::test]
async fn a_comparison_goes_on_after_the_process_was_killed_and_begins_anew_with_other_weights() {
    let model = Model::start("1");
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let more = format!("state: {}\n", state.display());
    let yaml = compared(&model, &HALVES, METRICS, &more);
    let seen = {
        let mut house = House::new(&yaml).await;
        for number in 0..200 {
            let value = f64::from(u8::from(number % 3 == 0));
            house.serve(&format!("u{number}"), |_| Some(value)).await;
        }
        process::until("what was reported", || async {
            let now = house.status().await;
            let metric = found(&now, "feedback approved", Aim::Success, "v2");
            metric.baseline.unwrap().n + metric.candidate.unwrap().n == 200
        })
        .await;
        // Two flushes.
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        let seen = house.status().await;
        house.sidecar.signal("KILL");
        seen
    };
    let house = House::new(&yaml).await;
    let after = house.status().await;
    assert_eq!(after.revision, seen.revision);
    let of = |rollout: &Rollout| {
        let metric = found(rollout, "feedback approved", Aim::Success, "v2");
        (metric.baseline, metric.candidate, rollout.arms.iter().map(|arm| arm.calls).collect::<Vec<_>>())
    };
    assert_eq!(of(&after), of(&seen));
    let other = [("v1", "60%"), ("v2", "40%")];
    let text = format!("{}{}", process::PORTS, compared(&model, &other, METRICS, &more));
    std::fs::write(house.sidecar.file(), text).unwrap();
    process::until("the other split", || async { house.status().await.revision != seen.revision }).await;
    let asked = parhelion::pb::v1::ListAuditRequest { model: "m".to_owned(), limit: 5 };
    let records = house.control.clone().list_audit(asked).await.unwrap().into_inner().records;
    let last = records.iter().find(|record| record.action == "started").unwrap();
    assert!(last.why.contains("200 values of feedback approved is not carried over"), "{}", last.why);
}
