//! `parhelion replay` as people run it: what one sidecar logged, sent to candidates, and judged as shadows are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use parhelion::config::units::{Percent, Size};
use parhelion::config::{self, Full, Payloads, PayloadsAs};
use parhelion::fault::{Blame, Code};
use parhelion::log::Log;
use parhelion::log::table::Table;
use parhelion::outcome::{Latency, Outcome, Trace, Traffic};
use parhelion::pb::inference::ModelInferResponse;
use parhelion::protocol::frame::prefix;
use serde_json::Value;

use crate::support::process::{Model, Sidecar, beside, client, file, infer, one, request, run_to_end};

const CALLS: u64 = 400;
/// What the calls of the figure ask of the model, and how many are under way at once.
const ASKED: &str = "sleep:1";
const AT_ONCE: usize = 8;

/// A log of so many calls with their messages.
async fn logged(model: &Model, root: &Path) -> PathBuf {
    let directory = root.join("log");
    let log = "flush: 20ms, payloads: {sample: 100%, as: raw}";
    let sidecar =
        Sidecar::ready(&format!("{}log: {{dir: {}, {log}}}\n", one(model.address), directory.display()))
            .await;
    let client = sidecar.client();
    for number in 0..CALLS {
        let id = if number % 100 == 7 { "fail:3".to_owned() } else { format!("size:{}", 8 + number) };
        let _ = infer(&client, &id).await;
    }
    sidecar.counts("parhelion_log_rows_total{table=\"predictions\"}", CALLS).await;
    directory
}

fn replay(log: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = run_to_end(&[&["replay", "--log", log.to_str().unwrap()], arguments].concat(), &[]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_same_version_is_equivalent_and_one_that_fails_is_different() {
    let (served, broken) = (Model::start("1.0.0"), Model::start("2.0.0-broken"));
    let root = tempfile::tempdir().unwrap();
    let log = logged(&served, root.path()).await;
    let to = format!("http://{}", served.address);
    let (code, out, said) = replay(&log, &["--to", &to, "--disagreement", "2%", "--json"]);
    assert_eq!(code, 0, "{out}{said}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["sent"], &found["verdict"]), (&CALLS.into(), &"equivalent".into()), "{found:#}");
    assert_eq!(found["candidate"]["pairs"], CALLS);
    // A failure that was served too is no difference.
    assert_eq!(
        (&found["statuses"]["INVALID_ARGUMENT"], &found["candidate"]["disagreeing"]),
        (&4.into(), &0.into())
    );
    let yaml = format!(
        "models:\n  m:\n    variants:\n      v1: {{endpoint: '{to}', version: 1.0.0}}\n      \
         v2: {{endpoint: 'http://{}', version: 2.0.0}}\n    strategy: {{kind: pinned, variant: v1}}\n    \
         shadows: [{{variant: v2, disagreement: 3%}}]\n",
        broken.address
    );
    let path = file(root.path(), &yaml);
    let config = path.to_str().unwrap();
    let (code, out, said) = replay(&log, &["-c", config, "--variant", "v2", "--control", "v1"]);
    assert_eq!(code, 1, "{out}{said}");
    for part in
        ["v2 is different", "CANDIDATE v2: 400 pairs, 400 do not agree", "control v1", "status", "look at it"]
    {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let (_, out, _) = replay(&log, &["-c", config, "--variant", "v2", "--limit", "1", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["candidate"]["bound"], 0.03, "as the file judges it: {found:#}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_would() {
    let served = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let log = logged(&served, root.path()).await;
    let to = format!("http://{}", served.address);
    let path = file(root.path(), &one(served.address));
    let config = path.to_str().unwrap();
    for (arguments, part) in [
        (&["--to", &to, "--compare", "label=clas"][..], "did you mean class?"),
        (&["--to", &to, "--compare", "1e-4"], "write OUTPUT=MEASURE"),
        (&["--to", &to, "--disagreement", "0%"], "allows nothing"),
        (&["--to", &to, "--disagreement", "2"], "percent"),
        (&["--to", &to, "--control", "v1"], "name the configuration"),
        (&["--to", "https://127.0.0.1:1"], "a configuration says how it is believed"),
        (&["--to", "http://127.0.0.1:1"], "refused"),
        (&["--to", &to, "--patience", "0"], "above 0"),
        (&["-c", config, "--variant", "v9"], "there is v1"),
        (&["-c", config, "--variant", "v1", "--model", "n"], "no model \"n\""),
        (&["-c", "/nowhere.yaml", "--variant", "v1"], "/nowhere.yaml"),
        (&["-c", config], "required"),
        (&[], "required"),
    ] {
        let (code, out, said) = replay(&log, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    // Numbers that no clock has are not fallen over.
    let (code, ..) = replay(&log, &["--to", &to, "--patience", "1e300", "--limit", "1", "--rate", "1e-300"]);
    assert_eq!(code, 0);
    let (code, out, _) = replay(&log, &["--to", &to, "--model", "other"]);
    assert_eq!(code, 1, "{out}");
}

fn framed(message: &impl prost::Message) -> bytes::Bytes {
    let body = message.encode_to_vec();
    [&prefix(0, body.len() as u32)[..], &body].concat().into()
}

/// A log of so many calls that all ask the same.
async fn many(calls: usize, directory: &Path) {
    let payloads =
        Payloads { sample: Percent::ALL, size: Size(1 << 20), kept_as: PayloadsAs::Raw, mask: Vec::new() };
    let config = config::Log {
        dir: directory.to_owned(),
        sample: Percent::ALL,
        flush: Duration::from_millis(50),
        seal_size: Size(64 << 20),
        seal_every: Duration::from_secs(600),
        disk: Size(1 << 30),
        full: Full::DropOldest,
        upload: None,
        payloads: Some(payloads),
        cloudevents: None,
    };
    let log = Log::start(&config, 1).unwrap();
    let door = log.door(0).unwrap();
    let (asked, answered) = (framed(&request(ASKED)), framed(&ModelInferResponse::default()));
    for number in 0..calls {
        let prediction = uuid::Uuid::now_v7();
        let capture = door.capture(prediction).unwrap();
        capture.request(&asked);
        capture.answer(&answered);
        door.call(Outcome {
            prediction,
            told: None,
            trace: Trace { trace_id: 1, span_id: 1, parent: None, sampled: false, state: None },
            started: SystemTime::now(),
            path: "/inference.GRPCInferenceService/ModelInfer".parse().unwrap(),
            protocol: "oip",
            authority: None,
            route: None,
            attempts: Vec::new(),
            fallback: None,
            merged: None,
            status: Code::OK,
            message: None,
            blame: Blame::Nobody,
            latency: Latency::default(),
            traffic: Traffic::default(),
            reported_version: None,
            request_id: None,
            payload: Some(capture.take()),
            copies: 0,
            disagreement: None,
        });
        // No more than the door holds.
        while number as u64 >= log.tally().written(Table::Predictions) + 8_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    log.close(Duration::from_secs(60)).await;
    assert_eq!(log.tally().written(Table::Predictions), calls as u64);
}

/// How many calls a second the model answers to a caller who does nothing but call.
async fn limit(model: &Model, calls: usize) -> f64 {
    let client = client(model.address);
    infer(&client, "").await.unwrap();
    let start = Instant::now();
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let client = client.clone();
            beside(async move {
                for _ in 0..calls / AT_ONCE {
                    infer(&client, ASKED).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    (calls / AT_ONCE * AT_ONCE) as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test]
#[ignore = "a figure: REPLAYED=100000 cargo test --release --test it -- --ignored --nocapture as_fast_as_the_model"]
async fn a_log_is_replayed_as_fast_as_the_model_answers() {
    let calls = std::env::var("REPLAYED").map_or(10_000, |number| number.parse().unwrap());
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    many(calls, root.path()).await;
    let before = limit(&model, calls).await;
    let at_once = AT_ONCE.to_string();
    let to = format!("http://{}", model.address);
    let (code, out, said) =
        replay(root.path(), &["--to", &to, "--at-once", &at_once, "--limit", "1000000", "--json"]);
    let after = limit(&model, calls).await;
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {said}"));
    let (rate, limit) = (found["rate"].as_f64().unwrap(), f64::midpoint(before, after));
    println!(
        "{} calls at {rate:.0} a second; the model's limit is {before:.0} and {after:.0}: {:.3}",
        found["sent"],
        rate / limit
    );
    assert_eq!(found["sent"], calls);
    assert!((0.9..=1.1).contains(&(rate / limit)), "{rate} beside {limit}");
}
