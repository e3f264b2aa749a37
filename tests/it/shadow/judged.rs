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
use crate::support::{Client, Incoming, Sidecar, Upstream, eventually, process};

/// A server that says `label` to everything.
pub(crate) async fn says(label: i64) -> Upstream {
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
    // The call's own span too, though nobody sampled it: its model, where the answers differ, and by how much.
    let own = spans.iter().find(|span| attribute(span, "parhelion.disagreement.shadow").is_some()).unwrap();
    let said = |name: &str| attribute(own, name).unwrap_or_default();
    assert_eq!(said("parhelion.disagreement.distance"), "DoubleValue(1.0)", "{own:#?}");
    assert_eq!(
        (said("parhelion.disagreement.output"), said("parhelion.model")),
        ("label".into(), "m".into())
    );
    let with = |name: &str, value: &str| {
        spans.iter().any(|span| {
            attribute(span, "parhelion.disagreement.output").as_deref() == Some("label")
                && attribute(span, name).as_deref() == Some(value)
        })
    };
    assert!(with("parhelion.disagreement.shadow", "v2"), "{spans:#?}");
    assert!(with("parhelion.role", "shadow") && with("parhelion.disagreement.kind", "values"), "{spans:#?}");
}

/// Raw outputs: name, type, shape, bytes.
type Raw = (&'static str, &'static str, &'static [i64], Vec<u8>);

/// A server that answers so.
async fn answers(outputs: Vec<Raw>) -> Upstream {
    let of = |(name, datatype, shape, _): &Raw| InferOutputTensor {
        name: (*name).into(),
        datatype: (*datatype).into(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    let answer = ModelInferResponse {
        outputs: outputs.iter().map(of).collect(),
        raw_output_contents: outputs.iter().map(|(.., bytes)| bytes.clone().into()).collect(),
        ..Default::default()
    };
    let bytes = answer.encode_to_vec();
    Upstream::start(move |mut incoming: Incoming| {
        let bytes = bytes.clone();
        async move {
            incoming.messages().await;
            incoming.send(&bytes).await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
    })
    .await
}

#[tokio::test]
async fn what_is_wrong_with_answers_is_named_in_status_and_metrics_and_the_rest_goes_on() {
    let text = |length: u8| [&[length, 0, 0, 0][..], b"abc"].concat();
    let served: Vec<Raw> = vec![
        ("label", "INT64", &[1], vec![1; 8]),
        ("items", "FP8", &[3], vec![1, 2, 3]),
        ("few", "FP32", &[3], vec![0; 12]),
        ("cut", "FP32", &[3], vec![0; 12]),
        ("texts", "BYTES", &[1], text(3)),
    ];
    let mut broken = served.clone();
    broken[2].3.truncate(8);
    broken[3].3.truncate(10);
    broken[4].3 = text(100);
    let (served, shadow) = (answers(served).await, answers(broken).await);
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}}}, shadows: [{{variant: v2, \
         compare: [{{output: gone, as: class}}, {{output: items, as: ranking}}]}}]}}}}\n",
        served.url, shadow.url
    );
    let sidecar = process::Sidecar::ready(&yaml).await;
    let client = Client::connect(sidecar.data).await;
    let wanted = [("items", "unsupported"), ("few", "length"), ("cut", "truncated"), ("texts", "ragged")];
    for _ in 0..20 {
        assert_eq!(client.unary(INFER, &[], &oip::request("m", &[], 10)).await.status(), Some(0));
    }
    sidecar
        .counts("parhelion_shadow_absent_output_pairs{model=\"m\",variant=\"v2\",output=\"gone\"}", 20)
        .await;
    for (output, kind) in wanted {
        let labels = format!("model=\"m\",variant=\"v2\",output=\"{output}\",kind=\"{kind}\"");
        assert_eq!(sidecar.metric(&format!("parhelion_shadow_output_differing_pairs{{{labels}}}")).await, 20);
    }
    let admin = sidecar.admin.to_string();
    let status = process::run_to_end(&["ctl", "--admin", &admin, "status", "m", "--json"], &[]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let shadow = &status["shadows"][0];
    assert_eq!(shadow["absent"], serde_json::json!([{"name": "gone", "pairs": 20}]));
    for (output, kind) in wanted {
        let found = shadow["outputs"].as_array().unwrap().iter().find(|one| one["name"] == output).unwrap();
        assert_eq!((&found["kinds"][kind], &found["pairs"]), (&20.into(), &20.into()), "{found}");
    }
    let label = shadow["outputs"].as_array().unwrap().iter().find(|one| one["name"] == "label").unwrap();
    assert_eq!(
        (&label["pairs"], &label["disagreement"]),
        (&20.into(), &0.0.into()),
        "it was compared all the same"
    );
}
