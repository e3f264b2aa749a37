//! Events on the wire: against a receiver that refuses, is busy, closes connections, or is not there.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;

use super::*;
use crate::config::Address;
use crate::fault::Code;
use crate::log::rows::sample;
use crate::log::tally::{Figure, Part};

#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    all: Vec<(HeaderMap, Bytes)>,
    /// What is answered next; then that all is well.
    answers: VecDeque<StatusCode>,
}

async fn hear(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let mut heard = heard.0.lock().unwrap();
    heard.all.push((headers, body));
    (heard.answers.pop_front().unwrap_or(StatusCode::ACCEPTED), "for a reason")
}

fn config(port: u16) -> CloudEvents {
    CloudEvents {
        address: Address::Tcp { host: "127.0.0.1".into(), port },
        path: "/models?a=b".into(),
        tls: None,
        mode: EventMode::All,
        source: "//svc/fraud".to_owned(),
        namespace: Some("models".to_owned()),
    }
}

/// What a receiver that answers so hears of so many calls, and what is counted.
async fn told(answers: &[StatusCode], calls: usize) -> (Vec<(HeaderMap, Bytes)>, Arc<Tally>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let heard = Heard::default();
    heard.0.lock().unwrap().answers = answers.iter().copied().collect();
    let router = Router::new().fallback(hear).with_state(heard.clone());
    let tally = Arc::new(Tally::default());
    let (events, lanes) = open(&config(listener.local_addr().unwrap().port()), &tally).unwrap();
    for _ in 0..calls {
        events.tell(&sample::outcome(), Some(&messages()), UNIX_EPOCH);
    }
    drop(events);
    tokio::select! {
        () = run(lanes) => {}
        served = axum::serve(listener, router) => panic!("{served:?}"),
    }
    let all = std::mem::take(&mut heard.0.lock().unwrap().all);
    (all, tally)
}

fn messages() -> Written {
    let (request, response) = (r#"{"inputs":[]}"#.to_owned(), Bytes::from_static(b"\x01\x02"));
    Written { fate: "kept", request_json: Some(request), response: Some(response), ..Written::default() }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).unwrap_or_else(|| panic!("{name} is not in {headers:?}")).to_str().unwrap()
}

#[tokio::test]
async fn a_call_has_two_events_that_carry_its_version() {
    let (heard, tally) = told(&[], 1).await;
    let [(request, asked), (response, answered)] = &heard[..] else { panic!("{heard:?}") };
    for (headers, kind) in [(request, "request"), (response, "response")] {
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "00000000-0000-0000-0000-000000000007"),
            ("ce-source", "//svc/fraud"),
            ("ce-type", &*format!("org.kubeflow.serving.inference.{kind}")),
            ("ce-inferenceservicename", "fraud"),
            ("ce-namespace", "models"),
            ("ce-component", "predictor"),
            ("ce-endpoint", "canary"),
            ("ce-variant", "v2"),
            ("ce-recordedtime", "1970-01-01T00:00:00.000000Z"),
            ("host", text(headers, "host")),
        ] {
            assert_eq!(text(headers, name), value, "{name}");
        }
        assert!(text(headers, "ce-traceparent").starts_with("00-"), "{headers:?}");
        assert!(text(headers, "ce-version").starts_with('2'), "{headers:?}");
    }
    assert_eq!((text(request, "content-type"), &asked[..]), ("application/json", &br#"{"inputs":[]}"#[..]));
    assert_eq!((text(response, "content-type"), &answered[..]), ("application/protobuf", &b"\x01\x02"[..]));
    assert_eq!(text(response, "ce-grpcstatus"), "OK");
    assert!(text(request, "ce-time") < text(response, "ce-time"));
    assert_eq!((tally.told(Side::Request), tally.told(Side::Response)), (1, 1));
}

#[tokio::test]
async fn a_busy_receiver_is_asked_again_and_one_that_refuses_is_not() {
    let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    let (heard, tally) = told(&busy, 1).await;
    assert_eq!((heard.len(), tally.told(Side::Request), tally.told(Side::Response)), (4, 1, 1));
    assert_eq!((tally.get(Figure::EventErrors), tally.troubles().len()), (2, 0), "it is well again");
    let (heard, tally) = told(&[StatusCode::ACCEPTED, StatusCode::BAD_REQUEST], 1).await;
    assert_eq!((heard.len(), tally.missed(Missed::Refused)), (2, 1));
    let troubles = tally.troubles();
    let [(Part::Events, why)] = &troubles[..] else { panic!("{troubles:?}") };
    assert!(why.contains("answered 400 Bad Request for a reason") && why.contains("/models?a=b"), "{why}");
}

#[tokio::test]
async fn what_nobody_takes_is_counted_and_so_is_what_finds_no_room() {
    // Nobody listens on the port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let tally = Arc::new(Tally::default());
    let (events, lanes) = open(&config(port), &tally).unwrap();
    // All of one prediction, so all for one connection.
    for _ in 0..WAITING {
        events.tell(&sample::outcome(), None, UNIX_EPOCH);
    }
    assert_eq!(tally.missed(Missed::Queue), WAITING as u64);
    assert_eq!(events.held.load(Ordering::Relaxed), 0, "there are no messages");
    drop(events);
    run(lanes).await;
    let lost = tally.missed(Missed::Unreached) + tally.missed(Missed::Ended);
    assert_eq!(lost, WAITING as u64);
    assert!(tally.missed(Missed::Ended) > 0 && tally.troubles()[0].1.contains("refused"));
}

#[test]
fn messages_wait_within_a_room_that_is_given_back() {
    let tally = Arc::new(Tally::default());
    let (events, lanes) = open(&config(1), &tally).unwrap();
    let large = Bytes::from(vec![0; ROOM / 3]);
    let messages =
        Written { fate: "kept", request: Some(large.clone()), response: Some(large), ..Written::default() };
    (0..2).for_each(|_| events.tell(&sample::outcome(), Some(&messages), UNIX_EPOCH));
    assert_eq!((tally.missed(Missed::Queue), events.held.load(Ordering::Relaxed)), (1, ROOM / 3 * 3));
    let held = Arc::clone(&events.held);
    drop((events, lanes));
    assert_eq!(held.load(Ordering::Relaxed), 0);
}

#[test]
fn calls_of_no_model_and_failures_have_no_event_to_be_misread() {
    let unrouted = Outcome { route: None, ..sample::outcome() };
    let failed = Outcome { status: Code::INTERNAL, ..sample::outcome() };
    let events = |outcome: &Outcome| {
        Side::ALL.map(|side| Event::of(outcome, side, None, UNIX_EPOCH + Duration::from_secs(1)).is_some())
    };
    assert_eq!((events(&unrouted), events(&failed)), ([false, false], [true, false]));
    let event = Event::of(&sample::outcome(), Side::Request, None, UNIX_EPOCH).unwrap();
    let headers = event.headers("/a", Some("Größe 100 %\"\n"));
    assert_eq!(text(&headers, "ce-namespace"), "Gr%C3%B6%C3%9Fe%20100%20%25%22%0A");
    assert!(!headers.contains_key(header::CONTENT_TYPE) && !headers.contains_key("ce-grpcstatus"));
    assert!(Side::Request.is_in(EventMode::Request) && !Side::Response.is_in(EventMode::Request));
}
