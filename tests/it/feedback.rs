//! Reports about answers, over real connections: taken once, refused with a status that says why, linked to the
//! prediction in a span, and what a rollout decides on.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use parhelion::pb::v1::control_client::ControlClient;
use parhelion::pb::v1::feedback_client::FeedbackClient;
use parhelion::pb::v1::feedback_receipt::{Evidence, Result as Outcome};
use parhelion::pb::v1::feedback_report::Value;
use parhelion::pb::v1::{FeedbackReceipt, FeedbackReport, ListAuditRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::collector::{Stub, attribute};
use crate::support::process::{self, Model, Sidecar, infer, request};
use crate::support::soon;

const FEEDBACK: &str = "{approved: {kind: binary}, stars: {kind: bounded, min: 1, max: 5, window: 1h}, \
    clicks: {kind: real, join: sum, max_rate: 1000000}, word: {kind: label}, kept: {kind: binary, default: 0}}";

/// Two variants that share the calls, the same server behind both.
fn split(model: &Model, more: &str) -> String {
    let at = model.address;
    format!(
        "models: {{m: {{variants: {{v1: {{endpoint: 'http://{at}', version: '1'}}, v2: {{endpoint: 'http://{at}', \
         version: '2'}}}}, strategy: {{kind: ab, baseline: v1, weights: {{v1: 50%, v2: 50%}}}}, \
         feedback: {FEEDBACK}}}}}\ndrain: {{grace: 2s}}\n{more}"
    )
}

fn feedback(sidecar: &Sidecar) -> FeedbackClient<Channel> {
    FeedbackClient::new(Endpoint::from_shared(format!("http://{}", sidecar.data)).unwrap().connect_lazy())
}

/// The id of a new prediction.
async fn predict(sidecar: &Sidecar) -> String {
    let answer = infer(&sidecar.client(), "").await.unwrap();
    answer.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap().to_owned()
}

fn report(id: &str, name: &str, value: f64) -> FeedbackReport {
    FeedbackReport {
        prediction_id: id.to_owned(),
        name: name.to_owned(),
        value: Some(Value::Number(value)),
        ..FeedbackReport::default()
    }
}

async fn tell(
    to: &FeedbackClient<Channel>,
    report: FeedbackReport,
) -> Result<FeedbackReceipt, tonic::Status> {
    soon("a receipt", to.clone().report(report)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_report_counts_once_and_every_feedback_by_itself() {
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "")).await;
    let to = feedback(&sidecar);
    let id = predict(&sidecar).await;
    let first = tell(&to, report(&id, "approved", 1.0)).await.unwrap();
    assert_eq!((first.result(), first.evidence(), first.value), (Outcome::First, Evidence::Now, Some(1.0)));
    assert_eq!(tell(&to, report(&id, "approved", 1.0)).await.unwrap().result(), Outcome::Unchanged);
    let other = tell(&to, report(&id, "kept", 1.0)).await.unwrap();
    assert_eq!((other.result(), other.evidence()), (Outcome::First, Evidence::AtClose));
    let word = FeedbackReport { value: Some(Value::Label("cat".to_owned())), ..report(&id, "word", 0.0) };
    let word = tell(&to, word).await.unwrap();
    assert_eq!((word.evidence(), word.value), (Evidence::NotKind, None));
    let prefix = "parhelion_feedback_total{model=\"m\",feedback=\"approved\",result=";
    sidecar.counts(&format!("{prefix}\"first\",evidence=\"now\"}}"), 1).await;
    sidecar.counts(&format!("{prefix}\"unchanged\",evidence=\"now\"}}"), 1).await;
}

#[tokio::test]
async fn the_time_something_was_learnt_decides_and_not_when_it_came() {
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "")).await;
    let to = feedback(&sidecar);
    let id = predict(&sidecar).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for (at, stars, result, value) in [
        (now + 200, 3.0, Outcome::First, 3.0),
        (now + 100, 1.0, Outcome::Unchanged, 3.0),
        (now + 300, 5.0, Outcome::Joined, 5.0),
        (now + 200, 3.0, Outcome::Unchanged, 5.0),
    ] {
        let told = FeedbackReport { at_unix_ms: Some(at), ..report(&id, "stars", stars) };
        let receipt = tell(&to, told).await.unwrap();
        assert_eq!((receipt.result(), receipt.value), (result, Some(value)), "{at}");
    }
}

#[tokio::test]
async fn what_is_refused_says_why_and_changes_nothing() {
    let model = Model::start("1");
    let (sidecar, elsewhere) =
        (Sidecar::ready(&split(&model, "")).await, Sidecar::ready(&split(&model, "")).await);
    let to = feedback(&sidecar);
    let id = predict(&sidecar).await;
    let foreign = predict(&elsewhere).await;
    let forged = format!("{}{}", &id[..id.len() - 22], "A".repeat(22));
    for (id, name, value, code, told) in [
        ("me", "approved", 1.0, Code::InvalidArgument, "is no prediction id"),
        (&id[1..], "approved", 1.0, Code::InvalidArgument, "is no prediction id"),
        (&*forged, "approved", 1.0, Code::PermissionDenied, "forged or altered"),
        (&id, "aproved", 1.0, Code::NotFound, "it declares approved, stars, clicks, word, kept"),
        (&id, "approved", f64::NAN, Code::OutOfRange, "no finite number"),
        (&id, "stars", 6.0, Code::OutOfRange, "1 to 5"),
        (&id, "clicks", 1.0, Code::InvalidArgument, "needs an `id`"),
    ] {
        let status = tell(&to, report(id, name, value)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(told), "{status}");
    }
    let status = tell(&to, report(&foreign, "approved", 1.0)).await.unwrap_err();
    // One random key in 256 has the other's mark, and then the MAC tells.
    assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{status}");
    sidecar.counts("parhelion_feedback_refused_total{cause=\"altered\"}", 1).await;
    sidecar.counts("parhelion_feedback_refused_total{cause=\"value\"}", 2).await;
    assert_eq!(tell(&to, report(&id, "approved", 1.0)).await.unwrap().result(), Outcome::First);
}

#[tokio::test]
async fn any_replica_with_the_key_takes_it_and_an_old_key_is_known_as_long_as_it_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let key = |name: &str, digit: &str| format!("{name} {}\n", digit.repeat(64));
    let path = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("keys: {}\n", path.display())
    };
    let model = Model::start("1");
    let (old, new) = (key("old", "1"), key("new", "2"));
    let before = Sidecar::ready(&split(&model, &path("before", old.clone()))).await;
    let rotated = Sidecar::ready(&split(&model, &path("rotated", format!("{new}{old}")))).await;
    let after = Sidecar::ready(&split(&model, &path("after", new))).await;
    let (by_old, by_new) = (predict(&before).await, predict(&rotated).await);
    for (sidecar, id, taken) in [
        (&before, &by_old, true),
        (&rotated, &by_old, true),
        (&rotated, &by_new, true),
        (&after, &by_new, true),
        (&after, &by_old, false),
        (&before, &by_new, false),
    ] {
        let answer = tell(&feedback(sidecar), report(id, "approved", 1.0)).await;
        match answer {
            Ok(receipt) => assert!(taken && receipt.result() == Outcome::First),
            Err(status) => assert!(!taken && status.code() == Code::Unauthenticated, "{status}"),
        }
    }
}

#[tokio::test]
async fn a_long_stream_counts_each_report_once() {
    const EACH: u64 = 1_000;
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "")).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(predict(&sidecar).await);
    }
    // Every report twice, and one that is refused every thousand.
    let reports = (0..EACH).flat_map(move |number| {
        let ids = ids.clone();
        (0..2 * ids.len()).map(move |at| {
            let value = if number == 7 && at % 10 == 3 { f64::INFINITY } else { 1.0 };
            FeedbackReport { id: number.to_string(), ..report(&ids[at % ids.len()], "clicks", value) }
        })
    });
    let mut to = feedback(&sidecar);
    let streaming = to.report_stream(tokio_stream::iter(reports));
    let summary =
        tokio::time::timeout(Duration::from_secs(120), streaming).await.unwrap().unwrap().into_inner();
    assert_eq!(summary.received, 100_000);
    assert_eq!((summary.counted, summary.repeated, summary.refused), (49_995, 49_995, 10));
    assert_eq!(summary.refusals.len(), 10);
    assert_eq!((summary.refusals[0].index, summary.refusals[0].code), (703, 11), "{:?}", summary.refusals[0]);
    sidecar.counts("parhelion_feedback_refused_total{cause=\"value\"}", 10).await;
}

#[tokio::test]
async fn a_stream_that_never_ends_has_its_deadline_and_keeps_nobody_out_once_it_is_gone() {
    const STREAM: &str = "/parhelion.v1.Feedback/ReportStream";
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "limits: {in_flight: 1}\n")).await;
    let client = crate::support::Client::connect(sidecar.data).await;
    let answer = client.open(STREAM, &[("grpc-timeout", "200m")]).await.answer().await;
    assert_eq!(answer.status(), Some(4), "{answer:?}");
    let mut waiting = client.open(STREAM, &[]).await;
    process::until("it holds the only place", || async {
        infer(&sidecar.client(), "").await.is_err_and(|status| status.code() == Code::ResourceExhausted)
    })
    .await;
    waiting.reset(h2::Reason::CANCEL);
    process::until("the place is free", || async { infer(&sidecar.client(), "").await.is_ok() }).await;
}

#[tokio::test]
async fn only_our_own_service_stays_here() {
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "")).await;
    let calls = model.calls();
    let answer = |path: &'static str| {
        let mut client = tonic::client::Grpc::new(
            Endpoint::from_shared(format!("http://{}", sidecar.data)).unwrap().connect_lazy(),
        );
        async move {
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<FeedbackReport, FeedbackReceipt>::default();
            let path = http::uri::PathAndQuery::from_static(path);
            soon("an answer", client.unary(Request::new(FeedbackReport::default()), path, codec)).await
        }
    };
    let ours = answer("/parhelion.v1.Feedback/Forget").await.unwrap_err();
    assert_eq!(ours.code(), Code::Unimplemented);
    assert!(!ours.metadata().contains_key("parhelion-variant"), "no model was asked");
    let theirs = answer("/parhelion.v1.FeedbackToo/Report").await.unwrap_err();
    assert!(theirs.metadata().contains_key("parhelion-variant"), "{theirs:?}");
    assert_eq!(model.calls(), calls, "the model server has neither");
    let huge = report(&"x".repeat(20_000), "approved", 1.0);
    assert_eq!(tell(&feedback(&sidecar), huge).await.unwrap_err().code(), Code::OutOfRange);
}

/// Posts JSON to the admin port.
async fn post(sidecar: &Sidecar, kind: &str, body: &str) -> (u16, serde_json::Value) {
    post_with(sidecar, &format!("content-type: {kind}\r\n"), body).await
}

/// Posts with these lines in the head.
async fn post_with(sidecar: &Sidecar, lines: &str, body: &str) -> (u16, serde_json::Value) {
    let request = format!(
        "POST /feedback HTTP/1.1\r\nhost: {}\r\n{lines}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        sidecar.admin,
        body.len()
    );
    let mut text = String::new();
    soon("an answer", async {
        let mut stream = tokio::net::TcpStream::connect(sidecar.admin).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_string(&mut text).await.unwrap();
    })
    .await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn json_says_the_same_one_by_one_and_in_lists() {
    const JSON: &str = "application/json";
    let model = Model::start("1");
    let sidecar = Sidecar::ready(&split(&model, "")).await;
    let id = predict(&sidecar).await;
    let good = format!(r#"{{"prediction_id": "{id}", "name": "approved", "value": 1}}"#);
    let (status, answer) = post(&sidecar, JSON, &good).await;
    assert_eq!(
        (status, answer["result"].as_str(), answer["value"].as_f64()),
        (200, Some("first"), Some(1.0))
    );
    for (body, status, code, told) in [
        (good.replace("approved", "aproved"), 404, "NOT_FOUND", "it declares approved"),
        (good.replace(": 1}", ": 2}"), 400, "OUT_OF_RANGE", "0 or 1"),
        (good.replace("value", "worth"), 400, "INVALID_ARGUMENT", "unknown field `worth`"),
        (good.replace(&id, "me"), 400, "INVALID_ARGUMENT", "is no prediction id"),
        ("{".to_owned(), 400, "INVALID_ARGUMENT", "the body is no JSON"),
        ("7".to_owned(), 400, "INVALID_ARGUMENT", "a report is"),
    ] {
        let (got, answer) = post(&sidecar, JSON, &body).await;
        let error = &answer["error"];
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{body}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(told), "{body}: {answer}");
    }
    let list = format!("[{good}, {}, {good}, true]", good.replace(&id, "me"));
    let (status, answer) = post(&sidecar, JSON, &list).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len()), (200, 4), "{answer}");
    assert_eq!(results[0]["result"], "unchanged");
    assert_eq!(results[1]["error"]["code"], "INVALID_ARGUMENT");
    assert_eq!(post(&sidecar, "text/plain", &good).await.0, 415, "what a web page could send");
}

#[tokio::test]
async fn where_tokens_are_asked_for_only_one_that_may_act_reports_on_the_admin_port() {
    let (act, read) = ("00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100");
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, format!("ann act {act}\nbob read {read}\n")).unwrap();
    let model = Model::start("1");
    let sidecar =
        Sidecar::ready(&split(&model, &format!("control: {{tokens: {}}}\n", tokens.display()))).await;
    let id = predict(&sidecar).await;
    let report = format!(r#"{{"prediction_id": "{id}", "name": "approved", "value": 1}}"#);
    let send = async |token: &str| {
        let lines = format!("content-type: application/json\r\n{token}");
        post_with(&sidecar, &lines, &report).await
    };
    assert_eq!(send("").await.0, 401);
    let (status, answer) = send(&format!("authorization: Bearer {read}\r\n")).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("PERMISSION_DENIED")));
    assert!(answer["error"]["message"].as_str().unwrap().contains("token bob may only read"), "{answer}");
    let (status, answer) = send(&format!("authorization: Bearer {act}\r\n")).await;
    assert_eq!((status, answer["result"].as_str()), (200, Some("first")), "those refused counted nothing");
}

/// Reports `approved` for so many predictions, as `of` says by their variant.
async fn approve(sidecar: &Sidecar, count: usize, of: impl Fn(&str, usize) -> f64) {
    let (client, to) = (sidecar.client(), feedback(sidecar));
    for number in 0..count {
        let answer = infer(&client, "").await.unwrap();
        let told = |key: &str| answer.metadata().get(key).unwrap().to_str().unwrap().to_owned();
        let value = of(&told("parhelion-variant"), number);
        let receipt = tell(&to, report(&told("parhelion-prediction-id"), "approved", value)).await.unwrap();
        assert_eq!(receipt.result(), Outcome::First);
    }
}

#[tokio::test]
async fn a_candidate_that_earns_worse_feedback_is_rolled_back() {
    let models = [Model::start("1"), Model::start("2")];
    let sidecar = Sidecar::ready(&format!(
        "models:\n  m:\n    variants: {{v1: {{endpoint: 'http://{}', version: '1'}}, \
         v2: {{endpoint: 'http://{}', version: '2'}}}}\n    \
         strategy: {{kind: canary, baseline: v1, candidate: v2, steps: [{{share: 50%, hold: 1h}}], \
         guards: {{errors: off, rejections: off, latency: off, feedback: {{name: approved, absolute: 5%}}}}}}\n    \
         feedback: {{approved: {{kind: binary}}}}\n",
        models[0].address, models[1].address
    ))
    .await;
    let state = |state: &'static str| format!("parhelion_rollout_state{{model=\"m\",state=\"{state}\"}}");
    sidecar.counts(&state("running"), 1).await;
    // Both earn the same: every second one is approved.
    approve(&sidecar, 400, |_, number| f64::from(u8::from(number % 2 == 0))).await;
    assert_eq!(sidecar.metric(&state("running")).await, 1, "nothing speaks against it yet");
    process::until("the verdict", || async {
        approve(&sidecar, 100, |variant, _| f64::from(u8::from(variant == "v1"))).await;
        sidecar.metric(&state("rolled_back")).await == 1
    })
    .await;
    let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.admin)).unwrap();
    let request = ListAuditRequest { model: "m".to_owned(), ..ListAuditRequest::default() };
    let mut control = ControlClient::new(endpoint.connect().await.unwrap());
    let records = control.list_audit(request).await.unwrap().into_inner().records;
    let last = records.iter().max_by_key(|record| record.sequence).unwrap();
    assert_eq!((&*last.action, &*last.who), ("rolled_back", "judge"));
    assert!(last.why.contains("approved"), "{}", last.why);
    for _ in 0..20 {
        let answer = infer(&sidecar.client(), "").await.unwrap();
        assert_eq!(answer.metadata().get("parhelion-variant").unwrap(), "v1");
    }
}

#[tokio::test]
async fn what_was_reported_is_known_after_the_process_was_killed() {
    let model = Model::start("1");
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let yaml = split(&model, &format!("state: {}\n", state.display()));
    let clicks = |id: &str, mark: &str| FeedbackReport { id: mark.to_owned(), ..report(id, "clicks", 3.0) };
    let id = {
        let sidecar = Sidecar::ready(&yaml).await;
        let to = feedback(&sidecar);
        let id = predict(&sidecar).await;
        for report in [report(&id, "approved", 1.0), clicks(&id, "a"), report(&id, "kept", 1.0)] {
            assert_eq!(tell(&to, report).await.unwrap().result(), Outcome::First);
        }
        // Two flushes.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        sidecar.signal("KILL");
        id
    };
    let sidecar = Sidecar::ready(&yaml).await;
    let to = feedback(&sidecar);
    let approved = tell(&to, report(&id, "approved", 1.0)).await.unwrap();
    assert_eq!((approved.result(), approved.value), (Outcome::Unchanged, Some(1.0)));
    let again = tell(&to, clicks(&id, "a")).await.unwrap();
    assert_eq!((again.result(), again.value), (Outcome::Repeated, Some(3.0)));
    let another = tell(&to, clicks(&id, "b")).await.unwrap();
    assert_eq!((another.result(), another.value), (Outcome::Joined, Some(6.0)), "added to what was there");
    assert_eq!(tell(&to, report(&id, "kept", 1.0)).await.unwrap().result(), Outcome::Unchanged);
}

#[tokio::test]
async fn the_span_of_a_report_is_linked_to_that_of_its_prediction() {
    let model = Model::start("1");
    let stub = Stub::start();
    let more = format!("telemetry: {{otlp: 'http://{}', sample: 100%}}\n", stub.address);
    let set = [("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let sidecar = Sidecar::start_with(&split(&model, &more), &set, None).await;
    sidecar.become_ready().await;
    let answer = soon("an answer", sidecar.client().model_infer(request("r-1"))).await.unwrap();
    let id = answer.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap().to_owned();
    process::until("the prediction's spans", || async { stub.spans().len() >= 2 }).await;
    tell(&feedback(&sidecar), report(&id, "approved", 1.0)).await.unwrap();
    process::until("the report's span", || async { stub.spans().len() >= 3 }).await;
    let spans = stub.spans();
    let (reports, calls): (Vec<&Span>, Vec<&Span>) =
        spans.iter().partition(|span| span.name == "parhelion.feedback");
    let [told] = &reports[..] else { panic!("{spans:#?}") };
    let server =
        calls.iter().find(|span| attribute(span, "parhelion.prediction_id") == Some(id.clone())).unwrap();
    let [link] = &told.links[..] else { panic!("{told:#?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&server.trace_id, &server.span_id));
    let uuid = attribute(server, "parhelion.prediction_uuid");
    assert!(uuid.is_some());
    for (name, value) in [
        ("parhelion.prediction_uuid", uuid),
        ("parhelion.assigned", attribute(server, "parhelion.assigned")),
        ("parhelion.feedback.name", Some("approved".to_owned())),
        ("parhelion.feedback.value", Some("1".to_owned())),
        ("parhelion.feedback.result", Some("first".to_owned())),
        ("parhelion.feedback.evidence", Some("now".to_owned())),
    ] {
        assert_eq!(attribute(told, name), value, "{name}");
    }
}
