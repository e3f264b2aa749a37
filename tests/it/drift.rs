//! Drift over real sockets: answers are looked at beside the calls, what differs is told, and a reference is made of what was
//! served.

use parhelion::drift::Drifting;
use parhelion::drift::evidence::With;
use parhelion::verdict::Action;

use crate::shadow::judged::says;
use crate::support::oip::{self, INFER};
use crate::support::process::{self, Model};
use crate::support::{Client, Sidecar, Upstream, eventually};

fn yaml(v1: &Upstream, v2: &Upstream, drift: &str) -> String {
    format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}}}, \
         strategy: {{kind: ab, baseline: v1, weights: {{v1: 50%, v2: 50%}}}}, drift: {{{drift}}}}}}}\n",
        v1.url, v2.url
    )
}

fn drifting(sidecar: &Sidecar) -> Drifting {
    sidecar.rollouts.report("m").unwrap().drift.unwrap()
}

async fn call(sidecar: &Sidecar, count: u64) {
    let client = Client::connect(sidecar.address).await;
    let message = oip::request("m", &[], 10);
    for _ in 0..count {
        assert_eq!(client.unary(INFER, &[], &message).await.status(), Some(0));
    }
}

async fn counted(sidecar: &Sidecar, count: u64) -> Drifting {
    eventually("answers to be counted", || {
        let known = drifting(sidecar);
        (known.answers.iter().sum::<u64>() == count).then_some(known)
    })
    .await
}

#[tokio::test]
async fn what_a_variant_answers_otherwise_is_told_and_makes_a_reference() {
    let (v1, v2) = (says(1).await, says(2).await);
    let sidecar = Sidecar::start(&yaml(&v1, &v2, "sample: 100%")).await;
    call(&sidecar, 1_400).await;
    let known = counted(&sidecar, 1_400).await;
    assert_eq!(known.answers[0], 1_400, "every answer counts: {known:?}");
    let [report] = &known.reports[..] else { panic!("{known:?}") };
    assert_eq!((&*report.subject.variant, &*report.subject.output), ("v2", "label"));
    let record = eventually("the record", || {
        let records = sidecar.rollouts.audit(Some("m"), 10);
        records.into_iter().find(|record| record.change.action == Action::Judged)
    })
    .await;
    assert!(record.change.why.contains("label of v2 is distributed otherwise"), "{}", record.change.why);
    let model = sidecar.model("m");
    let file = sidecar.rollouts.drifts().file(&model, 0, std::time::Duration::ZERO).unwrap();
    assert!(file.outputs["label"].values() > 100, "{file:?}");
    // A model alone is held against it.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.json");
    std::fs::write(&path, file.text()).unwrap();
    let alone = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}}}, drift: {{sample: 100%, reference: \"{}\"}}}}}}\n",
        v2.url,
        path.display()
    );
    let sidecar = Sidecar::start(&alone).await;
    call(&sidecar, 200).await;
    let known = counted(&sidecar, 200).await;
    let [report] = &known.reports[..] else { panic!("{known:?}") };
    assert_eq!((report.subject.with, report.today.unwrap().candidate), (With::Reference, 200));
    eventually("the drift", || drifting(&sidecar).reports[0].found).await;
}

#[tokio::test]
async fn only_answers_of_the_variant_that_chance_chose_are_evidence() {
    let (v1, v2) = (says(1).await, says(2).await);
    let sidecar =
        Sidecar::start(&yaml(&v1, &v2, "sample: 100%").replace("m: {", "m: {force: anyone, ")).await;
    let client = Client::connect(sidecar.address).await;
    let message = oip::request("m", &[], 10);
    for _ in 0..20 {
        client.unary(INFER, &[("parhelion-variant", "v2")], &message).await;
    }
    client.unary("/inference.GRPCInferenceService/ServerLive", &[], b"").await;
    let known = counted(&sidecar, 20).await;
    assert_eq!(known.reports, [], "a forced call says nothing of a split");
}

#[tokio::test]
async fn answers_that_find_no_room_or_cannot_be_read_are_counted_and_calls_never_notice() {
    let v1 = Upstream::start(oip::serve).await;
    let large = Upstream::start(|mut incoming: crate::support::Incoming| async move {
        incoming.messages().await;
        incoming.send(&[0x22; 40_000]).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&yaml(&v1, &large, "sample: 100%, bytes: 16KiB")).await;
    call(&sidecar, 60).await;
    let known = counted(&sidecar, 60).await;
    // Contents without an output have nothing that could be counted.
    assert!(known.answers[2] > 10 && known.answers[3] > 10, "{known:?}");
    assert_eq!((known.answers[0], known.reports.len()), (0, 0));
}

#[tokio::test]
async fn a_reference_is_had_by_command_and_a_broken_one_is_named_everywhere() {
    let model = Model::start("1");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.json");
    std::fs::write(&path, "{}").unwrap();
    let config = format!(
        "{}    drift: {{sample: 100%, reference: '{}'}}\n",
        process::one(model.address),
        path.display()
    );
    let sidecar = process::Sidecar::ready(&config).await;
    assert_eq!(sidecar.metric("parhelion_drift_reference_failing{model=\"m\"}").await, 1);
    let ctl = |words: &[&str]| {
        let admin = sidecar.admin.to_string();
        let words: Vec<&str> = ["ctl", "--admin", &admin].iter().chain(words).copied().collect();
        process::run_to_end(&words, &[])
    };
    let status = String::from_utf8(ctl(&["status"]).stdout).unwrap();
    assert!(status.contains("the reference cannot be used") && status.contains("no reference"), "{status}");
    let refused = ctl(&["reference", "m"]);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && why.contains("too few answers of v1"), "{why}");
    let refused = ctl(&["reference", "m", "--variant", "v9"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no variant \"v9\""));
}
