//! Rankers that answer one call together, over real connections: their lists become one, whoever drops out is told and
//! counted, and what people click on decides.

use std::collections::HashSet;
use std::time::Duration;

use parhelion::pb::inference::{ModelInferRequest, ModelInferResponse};
use parhelion::pb::v1::control_client::ControlClient;
use parhelion::pb::v1::feedback_client::FeedbackClient;
use parhelion::pb::v1::feedback_receipt::{Evidence, Result as Outcome};
use parhelion::pb::v1::feedback_report::{Place, Value};
use parhelion::pb::v1::{FeedbackReceipt, FeedbackReport, GetRolloutRequest, ListAuditRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::support::process::{self, Sidecar, until};
use crate::support::soon;

mod ranker;

use ranker::{Manner, Ranker};

const A: [i64; 6] = [1, 2, 3, 4, 5, 6];
const B: [i64; 6] = [7, 1, 8, 9, 3, 10];

/// Two rankers behind one model; `strategy` has what is not said here.
fn config(old: &Ranker, new: &Ranker, strategy: &str, more: &str) -> String {
    let (a, b) = (old.address, new.address);
    format!(
        "models: {{m: {{variants: {{old: {{endpoint: 'http://{a}', version: '1'}}, new: {{endpoint: 'http://{b}', \
         version: '2'}}}}, unit: [metadata:x-user-id], strategy: {{kind: interleave, baseline: old, \
         ranking: {{items: items, scores: scores, along: [titles]}}, {strategy}}}, \
         feedback: {{clicks: {{kind: clicks, window: 1h, max_rate: 1000000}}}}}}}}\ndrain: {{grace: 2s}}\n{more}"
    )
}

async fn two(strategy: &str) -> (Ranker, Ranker, Sidecar) {
    let (old, new) = (Ranker::start("old", Manner::of(&A)), Ranker::start("new", Manner::of(&B)));
    let sidecar = Sidecar::ready(&config(&old, &new, strategy, "")).await;
    until("both rankers", || async {
        let answer = ask(&sidecar, "nobody").await.unwrap();
        header(&answer, "parhelion-interleaved").as_deref() == Some("old,new")
    })
    .await;
    (old, new, sidecar)
}

async fn ask(sidecar: &Sidecar, user: &str) -> Result<Response<ModelInferResponse>, Status> {
    ask_with(sidecar, user, process::request("r")).await
}

async fn ask_with(
    sidecar: &Sidecar,
    user: &str,
    request: ModelInferRequest,
) -> Result<Response<ModelInferResponse>, Status> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-user-id", user.parse().unwrap());
    soon("an answer", sidecar.client().model_infer(request)).await
}

fn header<T>(answer: &Response<T>, name: &str) -> Option<String> {
    answer.metadata().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn items(answer: &ModelInferResponse) -> Vec<i64> {
    answer.outputs[0].contents.as_ref().unwrap().int64_contents.clone()
}

fn texts(answer: &ModelInferResponse, output: usize) -> Vec<String> {
    let contents = answer.outputs[output].contents.as_ref().unwrap();
    contents.bytes_contents.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn feedback(sidecar: &Sidecar) -> FeedbackClient<Channel> {
    FeedbackClient::new(Endpoint::from_shared(format!("http://{}", sidecar.data)).unwrap().connect_lazy())
}

fn click(id: &str, place: Place) -> FeedbackReport {
    FeedbackReport {
        prediction_id: id.to_owned(),
        name: "clicks".into(),
        value: Some(Value::Number(1.0)),
        place: Some(place),
        ..FeedbackReport::default()
    }
}

async fn tell(sidecar: &Sidecar, report: FeedbackReport) -> Result<FeedbackReceipt, Status> {
    soon("a receipt", feedback(sidecar).report(report)).await.map(Response::into_inner)
}

#[tokio::test]
async fn one_answer_has_the_items_of_both_and_what_goes_along_with_them() {
    let (_old, _new, sidecar) = two("credit: {feedback: clicks}").await;
    let (mut lists, mut from_both) = (HashSet::new(), 0);
    for user in 0..20 {
        let answer = ask(&sidecar, &user.to_string()).await.unwrap();
        assert_eq!(header(&answer, "parhelion-variant").as_deref(), Some("old"));
        assert_eq!(header(&answer, "parhelion-interleaved").as_deref(), Some("old,new"));
        assert_eq!(header(&answer, "parhelion-dropped"), None);
        let answer = answer.into_inner();
        let list = items(&answer);
        assert_eq!(list.iter().collect::<HashSet<_>>().len(), A.len(), "{list:?}");
        let titles = texts(&answer, 2);
        for (item, title) in list.iter().zip(&titles) {
            assert!(*title == format!("old {item}") || *title == format!("new {item}"), "{title} of {item}");
        }
        from_both += usize::from(titles.iter().any(|title| title.starts_with("new")));
        assert_eq!(texts(&answer, 3), ["old"], "what is said once is the baseline's");
        assert_eq!((answer.model_name.as_str(), answer.model_version.as_str()), ("m", "old.0"));
        lists.insert(list);
    }
    assert!(lists.len() > 1 && from_both == 20, "{lists:?}");
    sidecar.counts("parhelion_interleaved_total{model=\"m\",variant=\"old\",result=\"analysed\"}", 20).await;
    sidecar.counts("parhelion_rankings_total{model=\"m\",variant=\"new\",result=\"served\"}", 20).await;
}

#[tokio::test]
async fn raw_contents_and_several_lists_at_once_are_merged_as_well() {
    let (old, new, sidecar) = two("length: 4, credit: {feedback: clicks}").await;
    for ranker in [&old, &new] {
        ranker.becomes(|manner| {
            (manner.rows, manner.raw) = (true, true);
            let other = manner.lists[0].iter().map(|item| item + 100).collect();
            manner.lists.push(other);
        });
    }
    let answer = ask(&sidecar, "7").await.unwrap().into_inner();
    assert_eq!(answer.outputs[0].shape, [2, 4]);
    let raw = &answer.raw_output_contents[0];
    let list: Vec<i64> = raw.chunks(8).map(|cell| i64::from_le_bytes(cell.try_into().unwrap())).collect();
    assert!(list[..4].iter().all(|item| *item < 100) && list[4..].iter().all(|item| *item > 100), "{list:?}");
    new.becomes(|manner| manner.lists.truncate(1));
    let answer = ask(&sidecar, "7").await.unwrap();
    assert_eq!(header(&answer, "parhelion-dropped").as_deref(), Some("new:malformed"));
}

#[tokio::test]
async fn whoever_drops_out_is_told_and_the_other_is_served() {
    let (old, new, sidecar) = two("credit: {feedback: clicks}").await;
    let usual = Manner::of(&B);
    let check = async |change: &(dyn Fn(&mut Manner) + Sync), why: &str| {
        new.becomes(|manner| {
            *manner = usual.clone();
            change(manner);
        });
        let answer = ask(&sidecar, "7").await.unwrap();
        assert_eq!(header(&answer, "parhelion-dropped"), Some(format!("new:{why}")));
        assert_eq!(header(&answer, "parhelion-interleaved"), None);
        assert_eq!(header(&answer, "parhelion-variant").as_deref(), Some("old"));
        assert_eq!(items(answer.get_ref()), A);
        sidecar
            .counts(&format!("parhelion_rankings_total{{model=\"m\",variant=\"new\",result=\"{why}\"}}"), 1)
            .await;
    };
    check(&|manner| manner.fails = Some(Status::internal("broken")), "failed").await;
    check(&|manner| manner.without = vec!["items"], "malformed").await;
    check(&|manner| manner.without = vec!["titles"], "malformed").await;
    check(&|manner| manner.fractions = true, "malformed").await;
    check(&|manner| manner.scores = Some(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), "unsorted").await;
    new.becomes(|manner| *manner = usual.clone());
    old.becomes(|manner| manner.fails = Some(Status::unavailable("gone")));
    let answer = ask(&sidecar, "7").await.unwrap();
    assert_eq!(header(&answer, "parhelion-dropped").as_deref(), Some("old:failed"));
    assert_eq!(header(&answer, "parhelion-variant").as_deref(), Some("new"));
    assert_eq!(header(&answer, "parhelion-fallback-from").as_deref(), Some("old"));
    assert_eq!(items(answer.get_ref()), B);
    new.becomes(|manner| manner.fails = Some(Status::internal("too")));
    let status = ask(&sidecar, "7").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "gone"), "the baseline's own");
    sidecar.counts("parhelion_interleaved_total{model=\"m\",variant=\"old\",result=\"dropped\"}", 7).await;
}

#[tokio::test]
async fn what_the_file_declares_is_held_to_what_each_model_says_of_itself() {
    let sound = Ranker::start("old", Manner::of(&A));
    for (other, told) in [
        (Manner { datatype: "FP32", ..Manner::of(&B) }, "FP32"),
        (Manner { names_items: "films", ..Manner::of(&B) }, "items"),
    ] {
        let other = Ranker::start("new", other);
        let sidecar = Sidecar::ready(&config(&sound, &other, "credit: {feedback: clicks}", "")).await;
        sidecar.counts("parhelion_outputs_mismatched{model=\"m\",variant=\"new\"}", 1).await;
        assert_eq!(sidecar.metric("parhelion_outputs_mismatched{model=\"m\",variant=\"old\"}").await, 0);
        let log = sidecar.log();
        let line = log.lines().find(|line| line.contains("declares outputs that the model does not have"));
        assert!(line.is_some_and(|line| line.contains(told) && line.contains("new")), "{log}");
        let asked = GetRolloutRequest { model: "m".into() };
        let admin = Endpoint::from_shared(format!("http://{}", sidecar.admin)).unwrap().connect_lazy();
        let rollout =
            soon("a rollout", ControlClient::new(admin).get_rollout(asked)).await.unwrap().into_inner();
        let mismatch =
            |name: &str| rollout.arms.iter().find(|arm| arm.variant == name).unwrap().mismatch.clone();
        assert!(mismatch("new").contains(told) && mismatch("old").is_empty(), "{rollout:?}");
        // It is a warning: whether the answers are lists is found out with each of them.
        until("both rankers", || async {
            let answer = ask(&sidecar, "nobody").await.unwrap();
            header(&answer, "parhelion-interleaved").as_deref() == Some("old,new")
        })
        .await;
    }
}

#[tokio::test]
async fn a_ranker_that_is_late_keeps_nobody_waiting() {
    let (_old, new, sidecar) = two("credit: {feedback: clicks}").await;
    // The baseline's own pace is known after a hundred calls.
    for _ in 0..110 {
        ask(&sidecar, "7").await.unwrap();
    }
    new.becomes(|manner| manner.takes = Duration::from_secs(60));
    until("a late ranker", || async {
        let answer = ask(&sidecar, "7").await.unwrap();
        header(&answer, "parhelion-dropped").as_deref() == Some("new:late")
    })
    .await;
}

#[tokio::test]
async fn a_duplicate_counts_once_and_calls_of_other_kinds_are_the_baselines() {
    let (_old, new, sidecar) = two("credit: {feedback: clicks}").await;
    new.becomes(|manner| manner.lists = vec![vec![7, 7, 8, 8, 9, 9]]);
    let answer = ask(&sidecar, "7").await.unwrap();
    let list = items(answer.get_ref());
    assert_eq!(list.iter().collect::<HashSet<_>>().len(), 6, "{list:?}");
    sidecar.counts("parhelion_ranking_duplicates_total{model=\"m\",variant=\"new\"}", 3).await;
    let requests = tonic::codegen::tokio_stream::iter([process::request("r")]);
    let mut answers =
        soon("a stream", sidecar.client().model_stream_infer(requests)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(first.infer_response.unwrap().id, "old");
    sidecar.counts("parhelion_assignments_total{model=\"m\",variant=\"old\",reason=\"default\"}", 1).await;
}

#[tokio::test]
async fn clicks_are_credited_by_slot_and_strange_ones_refused() {
    let (_old, _new, sidecar) = two("credit: {feedback: clicks}").await;
    let answer = ask(&sidecar, "7").await.unwrap();
    let id = header(&answer, "parhelion-prediction-id").unwrap();
    let titles = texts(answer.get_ref(), 2);
    let owned = (0..6).find(|slot| titles[*slot].starts_with("new")).unwrap() as u32;
    let first = tell(&sidecar, click(&id, Place::Slot(owned))).await.unwrap();
    assert_eq!((first.result(), first.evidence()), (Outcome::First, Evidence::AtClose));
    let again = tell(&sidecar, click(&id, Place::Slot(owned))).await.unwrap();
    assert_eq!(again.result(), Outcome::Repeated, "a click twice is one");
    let own = FeedbackReport { id: "second visit".into(), ..click(&id, Place::Slot(owned)) };
    let own = tell(&sidecar, own).await.unwrap();
    assert_eq!((own.result(), own.value), (Outcome::Joined, Some(2.0)));
    for (report, code, told) in [
        (click(&id, Place::Slot(6)), Code::OutOfRange, "there is no slot 6 in list 0: 1 of 6 slots"),
        (FeedbackReport { row: 1, ..click(&id, Place::Slot(0)) }, Code::OutOfRange, "in list 1"),
        (click(&id, Place::Item("7".into())), Code::FailedPrecondition, "report its `slot`"),
        (
            FeedbackReport { place: None, ..click(&id, Place::Slot(0)) },
            Code::InvalidArgument,
            "names a `slot`",
        ),
    ] {
        let status = tell(&sidecar, report).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(told), "{status}");
    }
    for cause in ["slot", "forgotten", "place"] {
        sidecar.counts(&format!("parhelion_feedback_refused_total{{cause=\"{cause}\"}}"), 1).await;
    }
}

#[tokio::test]
async fn items_are_credited_where_they_are_remembered() {
    let (_old, _new, sidecar) = two("credit: {feedback: clicks, by: item}").await;
    let answer = ask(&sidecar, "7").await.unwrap();
    let id = header(&answer, "parhelion-prediction-id").unwrap();
    let list = items(answer.get_ref());
    let receipt = tell(&sidecar, click(&id, Place::Item(list[0].to_string()))).await.unwrap();
    assert_eq!(receipt.result(), Outcome::First);
    let same = tell(&sidecar, click(&id, Place::Slot(0))).await.unwrap();
    assert_eq!(same.result(), Outcome::Repeated, "an item and its slot are one");
    let status = tell(&sidecar, click(&id, Place::Item("77".into()))).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains("item \"77\" was not shown"), "{status}");
    sidecar.counts("parhelion_interleave_memory_bytes", 100).await;
}

#[tokio::test]
async fn a_list_over_sixty_four_slots_is_served_and_not_analysed() {
    let long: Vec<i64> = (0..80).collect();
    let other: Vec<i64> = (40..120).collect();
    let (old, new, sidecar) = two("credit: {feedback: clicks}").await;
    old.becomes(|manner| manner.lists = vec![long]);
    new.becomes(|manner| manner.lists = vec![other]);
    let answer = ask(&sidecar, "7").await.unwrap();
    assert_eq!(items(answer.get_ref()).len(), 80);
    let id = header(&answer, "parhelion-prediction-id").unwrap();
    let receipt = tell(&sidecar, click(&id, Place::Slot(3))).await.unwrap();
    assert_eq!((receipt.result(), receipt.evidence()), (Outcome::First, Evidence::NotCertain));
    sidecar.counts("parhelion_interleaved_total{model=\"m\",variant=\"old\",result=\"too_long\"}", 1).await;
}

#[tokio::test]
async fn the_pages_of_one_search_are_one_draft() {
    let (old, new, sidecar) = two("draft: 'metadata:x-search', credit: {feedback: clicks}").await;
    let page = async |search: &str| {
        let mut request = Request::new(process::request("r"));
        request.metadata_mut().insert("x-user-id", "7".parse().unwrap());
        request.metadata_mut().insert("x-search", search.parse().unwrap());
        let answer = soon("an answer", sidecar.client().model_infer(request)).await.unwrap();
        items(answer.get_ref())
    };
    let first = page("s1").await;
    old.becomes(|manner| manner.lists = vec![vec![11, 12, 13, 7, 15, 16]]);
    new.becomes(|manner| manner.lists = vec![vec![17, 18, 2, 20, 11, 22]]);
    let second = page("s1").await;
    assert_eq!(second.len(), 6);
    assert!(first.iter().all(|item| !second.contains(item)), "{first:?} {second:?}");
    let left: HashSet<i64> = A.iter().chain(&B).filter(|item| !first.contains(item)).copied().collect();
    assert!(second.iter().any(|item| left.contains(item)), "what was left comes first: {second:?}");
    let other = page("s2").await;
    assert!(other.iter().any(|item| *item >= 11), "another search begins anew: {other:?}");
}

#[tokio::test]
async fn what_people_click_on_decides() {
    let strategy = "on_pass: promote, min_sessions: 20, credit: {feedback: clicks, session_gap: 200ms}";
    let (_old, _new, sidecar) = two(strategy).await;
    let mut promoted = false;
    for user in 0..2_000 {
        let answer = ask(&sidecar, &format!("user {user}")).await.unwrap();
        promoted = header(&answer, "parhelion-variant").as_deref() == Some("new");
        if promoted {
            break;
        }
        let id = header(&answer, "parhelion-prediction-id").unwrap();
        let titles = texts(answer.get_ref(), 2);
        // They like what the new one shows; what both have is nobody's.
        for slot in (0..6).filter(|slot| titles[*slot].starts_with("new")) {
            tell(&sidecar, click(&id, Place::Slot(slot as u32))).await.unwrap();
        }
    }
    assert!(promoted, "{}", sidecar.status().await);
    let admin = Endpoint::from_shared(format!("http://{}", sidecar.admin)).unwrap().connect_lazy();
    let request = ListAuditRequest { model: "m".into(), limit: 10 };
    let audit = soon("audit", ControlClient::new(admin).list_audit(request)).await.unwrap().into_inner();
    let record = &audit.records[0];
    let change = format!("{record:?}");
    assert!(change.contains("new is preferred") && change.contains("preference clicks"), "{change}");
}
