//! What becomes of answers that differ: spans that are kept, verdicts, and an audit record.

use std::time::Duration;

use parhelion::comparison::judge::Judgement;
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::pb::inference::{InferTensorContents, ModelInferResponse};
use parhelion::shadow::judges::Judged;
use parhelion::verdict::{Action, Verdict};
use prost::Message;

use super::told::{Collector, attribute};
use crate::support::oip::{self, INFER};
use crate::support::{Client, Incoming, Sidecar, Upstream, eventually};

/// A server that says `label` to everything.
async fn says(label: i64) -> Upstream {
    Upstream::start(move |mut incoming: Incoming| async move {
        incoming.messages().await;
        let contents = InferTensorContents { int64_contents: vec![label], ..Default::default() };
        let output = InferOutputTensor {
            name: "label".into(),
            datatype: "INT64".into(),
            shape: vec![1],
            contents: Some(contents),
            ..Default::default()
        };
        let answer = ModelInferResponse { outputs: vec![output], ..Default::default() };
        incoming.send(&answer.encode_to_vec()).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await
}

fn shadows(sidecar: &Sidecar) -> Vec<Judged> {
    sidecar.rollouts.report("m").unwrap().shadows
}

#[tokio::test]
async fn each_shadow_is_judged_by_its_answers_and_the_trail_says_so() {
    let (served, second, same, other) = (says(1).await, says(1).await, says(1).await, says(2).await);
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, same: {{endpoint: \"{}\"}}, other: {{endpoint: \"{}\"}}}}, \
         shadows: [{{variant: same, compare: {{output: scores, as: scores}}, control: {{to: \"{}\", sample: 100%}}, disagreement: 20%}}, \
         {{variant: other, offenders: {{keep: 2, values: 1KiB}}}}]}}}}\n",
        served.url, same.url, other.url, second.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    let judged = |name: &str, wanted: Judgement| {
        shadows(&sidecar).iter().any(|one| &*one.variant == name && one.report.verdict == wanted)
    };
    for _ in 0..60 {
        let answer = client.unary(INFER, &[], &oip::request("m", &[], 10)).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
    eventually("both verdicts", || {
        (judged("same", Judgement::Equivalent) && judged("other", Judgement::Different)).then_some(())
    })
    .await;
    let all = shadows(&sidecar);
    let [same, other] = &all[..] else { panic!("{all:?}") };
    assert!(same.report.triples > 20 && same.report.disagreeing == 0, "{:?}", same.report);
    assert_eq!(&*same.report.absent[0].0, "scores");
    let label = other.report.outputs.iter().find(|output| &*output.name == "label").unwrap();
    assert_eq!((label.measure.as_deref(), label.inferred, label.disagreement), (Some("class"), true, 1.0));
    assert_eq!(other.offenders.len(), 2);
    let values = |shown: &serde_json::Value| shown["outputs"]["label"]["values"][0].as_f64();
    assert_eq!(
        (values(&other.offenders[0].served), values(&other.offenders[0].shadow)),
        (Some(1.0), Some(2.0))
    );
    let records = eventually("both records", || {
        let mut records = sidecar.rollouts.audit(Some("m"), 10);
        records.retain(|record| record.change.action == Action::Judged);
        (records.len() == 2).then_some(records)
    })
    .await;
    let of = |name: &str| {
        let found = records.iter().find(|record| *record.change.variants[0] == *name).unwrap();
        (found.change.findings[0].verdict, found.change.why.clone())
    };
    assert_eq!((of("same").0, of("other").0), (Verdict::Pass, Verdict::Fail));
    assert!(of("other").1.contains("label disagrees in 100.00 %"), "{}", of("other").1);
}

#[tokio::test]
async fn spans_of_a_disagreement_are_kept_and_say_where() {
    let (collector, otlp, _serving) = Collector::start().await;
    let (served, other) = (says(1).await, says(2).await);
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}}}, shadows: [{{variant: v2}}]}}}}\n\
         telemetry: {{otlp: \"{otlp}\", sample: 0%}}\n",
        served.url, other.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    client.unary(INFER, &[], &oip::request("m", &[], 10)).await;
    eventually("the verdict", || (shadows(&sidecar)[0].report.pairs == 1).then_some(())).await;
    sidecar.telemetry.flush(Duration::from_secs(5)).await;
    let spans = collector.spans();
    let with = |name: &str, value: &str| {
        spans.iter().any(|span| {
            attribute(span, "parhelion.disagreement.output").as_deref() == Some("label")
                && attribute(span, name).as_deref() == Some(value)
        })
    };
    assert!(with("parhelion.disagreement.shadow", "v2"), "{spans:#?}");
    assert!(with("parhelion.role", "shadow") && with("parhelion.disagreement.kind", "values"), "{spans:#?}");
}
