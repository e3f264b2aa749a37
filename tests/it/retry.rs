//! What a server provably never processed is sent again, and nothing else ever is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use h2::Reason;
use h2::server::Builder;
use parhelion::fault::{Blame, Code};
use parhelion::telemetry::counter::Counter;

use crate::support::{Client, Incoming, Raw, Request, Sidecar, Upstream, eventually, pinned};

const PATH: &str = "/any.Service/Method";

/// Sends `count` calls at once, each with an id of its own, and returns their statuses.
async fn storm(client: &Client, count: usize) -> Vec<Option<u32>> {
    let mut calls = Vec::new();
    for number in 0..count {
        let id = format!("call-{number}");
        let mut call = client.open(PATH, &[("x-id", &id)]).await;
        call.send_last(id.as_bytes()).await;
        calls.push(call);
    }
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.answer().await.status());
    }
    statuses
}

fn distinct(executed: &[String]) -> usize {
    executed.iter().collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn refused_streams_are_sent_again_and_executed_once() {
    let executed = Arc::new(Mutex::new(Vec::new()));
    let (done, seen) = (Arc::clone(&executed), Arc::new(Mutex::new(HashSet::new())));
    let upstream = Upstream::start(move |mut incoming| {
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        async move {
            let id = incoming.request().headers["x-id"].to_str().unwrap().to_owned();
            if seen.lock().unwrap().insert(id.clone()) {
                return incoming.reset(Reason::REFUSED_STREAM);
            }
            done.lock().unwrap().push(id);
            incoming.echo().await;
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    assert_eq!(storm(&client, 100).await, vec![Some(0); 100]);
    let executed = executed.lock().unwrap();
    assert_eq!((executed.len(), distinct(&executed)), (100, 100));
    assert_eq!(sidecar.count(Counter::RetriesTransparent), 100);
    let whole = |requests: &[Request]| requests.iter().filter(|one| one.ended).count();
    assert_eq!((upstream.requests().len(), whole(&upstream.requests())), (200, 100), "sent again whole");
}

#[tokio::test]
async fn a_server_that_refuses_for_ever_is_given_up() {
    let upstream =
        Upstream::start(|mut incoming| async move { incoming.reset(Reason::REFUSED_STREAM) }).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let answer = client.unary(PATH, &[], b"x").await;
    assert_eq!(answer.status(), Some(14), "{answer:?}");
    assert!(answer.message().contains("model m, variant v1, endpoint"), "{}", answer.message());
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn streams_above_the_last_of_a_goaway_are_sent_again_and_executed_once() {
    let server = Raw::start(3, 4, 4).await;
    let sidecar = Sidecar::start(&pinned(&[&server.url])).await;
    let client = Client::connect(sidecar.address).await;
    assert_eq!(storm(&client, 60).await, vec![Some(0); 60]);
    let executed = server.executed();
    assert_eq!((executed.len(), distinct(&executed)), (60, 60));
    assert!(server.disowned() >= 4, "{}", server.disowned());
    assert!(sidecar.count(Counter::RetriesTransparent) >= 4);
}

#[tokio::test]
async fn a_goaway_under_load_fails_nothing_and_doubles_nothing() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    for _ in 0..10 {
        let mut calls = Vec::new();
        for number in 0..40 {
            let mut call = client.open(PATH, &[]).await;
            call.send_last(format!("{number}").as_bytes()).await;
            calls.push(call);
            if number == 20 {
                upstream.retire();
            }
        }
        for call in calls {
            let answer = call.answer().await;
            assert_eq!(answer.status(), Some(0), "{answer:?}");
        }
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 400, "each was executed once");
    assert!(requests.iter().any(|request| request.connection > 0), "no connection was replaced");
}

#[tokio::test]
async fn a_goaway_fails_none_of_those_that_wait_for_their_turn() {
    let mut narrow = Builder::new();
    narrow.max_concurrent_streams(2);
    let upstream = Upstream::with(narrow, Incoming::echo).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut calls = Vec::new();
    for number in 0..60 {
        let mut call = client.open(PATH, &[]).await;
        call.send_last(format!("{number}").as_bytes()).await;
        calls.push(call);
    }
    upstream.wait("a first call", |requests| requests.len() >= 3).await;
    upstream.retire();
    for call in calls {
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
    assert_eq!(upstream.requests().len(), 60, "each was executed once");
}

#[tokio::test]
async fn calls_wait_their_turn_where_a_connection_takes_one_at_a_time() {
    let open = Arc::new(Mutex::new(HashMap::<usize, i32>::new()));
    let most = Arc::new(Mutex::new(0));
    let (now, top) = (Arc::clone(&open), Arc::clone(&most));
    let mut narrow = Builder::new();
    narrow.max_concurrent_streams(1);
    let upstream = Upstream::with(narrow, move |incoming| {
        let (now, top) = (Arc::clone(&now), Arc::clone(&top));
        async move {
            let connection = incoming.request().connection;
            {
                let mut now = now.lock().unwrap();
                *now.entry(connection).or_default() += 1;
                let mut top = top.lock().unwrap();
                *top = now[&connection].max(*top);
            }
            let now = Arc::clone(&now);
            let mut incoming = incoming;
            let message = incoming.message().await.unwrap();
            incoming.send(&message).await;
            *now.lock().unwrap().entry(connection).or_default() -= 1;
            incoming.trailers(&[("grpc-status", "0")]);
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    assert_eq!(storm(&client, 60).await, vec![Some(0); 60]);
    let requests = upstream.requests();
    assert_eq!((requests.len(), *most.lock().unwrap()), (60, 1));
    assert!(sidecar.count(Counter::UpstreamConnects) <= 4);
}

#[tokio::test]
async fn more_than_is_retained_cannot_be_sent_again() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.message().await;
        incoming.reset(Reason::REFUSED_STREAM);
    })
    .await;
    let sidecar = Sidecar::start(&format!("{}limits: {{retain: 64KiB}}\n", pinned(&[&upstream.url]))).await;
    let client = Client::connect(sidecar.address).await;
    let mut call = client.open(PATH, &[]).await;
    call.send(&[0; 200_000]).await;
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(14), "{answer:?}");
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(sidecar.count(Counter::RetriesTooLarge), 1);
    assert_eq!(sidecar.count(Counter::RetriesTransparent), 0);
}

#[tokio::test]
async fn each_reset_has_its_status() {
    let upstream = Upstream::start(|mut incoming| async move {
        let headers = incoming.request().headers;
        let code: u32 = headers["x-code"].to_str().unwrap().parse().unwrap();
        if headers.contains_key("x-late") {
            incoming.send(b"one").await;
            incoming.message().await;
        }
        incoming.reset(Reason::from(code));
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let table = [13, 13, 13, 13, 13, 2, 13, 14, 1, 13, 13, 8, 7, 2];
    for (code, want) in table.into_iter().enumerate() {
        let code = code.to_string();
        let answer = client.unary(PATH, &[("x-code", &code)], b"x").await;
        assert_eq!(answer.status(), Some(want), "reset {code} at once: {answer:?}");
        assert_eq!(answer.trailers, None);
        let mut call = client.open(PATH, &[("x-code", &code), ("x-late", "1")]).await;
        call.head().await.unwrap();
        assert_eq!(call.next().await.unwrap().unwrap().1, "one");
        call.send(b"go").await;
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(want), "reset {code} in the stream: {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_calls_and_is_replaced() {
    let upstream = Upstream::start(|mut incoming| async move {
        if incoming.request().headers.contains_key("x-silent") {
            incoming.until_reset().await;
        } else if incoming.request().headers.contains_key("x-stream") {
            incoming.send(b"one").await;
            incoming.until_reset().await;
        } else {
            incoming.echo().await;
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let silent = client.open(PATH, &[("x-silent", "1")]).await;
    let mut stream = client.open(PATH, &[("x-stream", "1")]).await;
    stream.head().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().1, "one");
    upstream.wait("both calls", |requests| requests.len() == 2).await;
    upstream.cut();
    for call in [silent, stream] {
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(14), "{answer:?}");
        let place = format!("model m, variant v1, endpoint {}", upstream.address());
        assert!(answer.message().contains(&place), "{}", answer.message());
    }
    assert_eq!(upstream.requests().len(), 2, "what may have been processed is not sent again");
    assert_eq!(sidecar.count(Counter::RetriesTransparent), 0);
    eventually("both counted", || (sidecar.calls(Code::UNAVAILABLE, Blame::Upstream) == 2).then_some(()))
        .await;
    assert_eq!(client.unary(PATH, &[], b"again").await.status(), Some(0));
    assert_eq!(upstream.requests()[2].connection, 1);
}
