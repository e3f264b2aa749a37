//! A caller that gives up ends its call at the server too, wherever the call stands.

use h2::Reason;
use parhelion::fault::{Blame, Code};
use parhelion::telemetry::counter::Counter;

use crate::support::{Client, Incoming, Sidecar, Upstream, eventually, frame, pinned, soon};

const PATH: &str = "/any.Service/Method";

async fn never(mut incoming: Incoming) {
    incoming.until_reset().await;
}

async fn before<F>(script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> (Upstream, Sidecar, Client)
where
    F: Future<Output = ()> + Send + 'static,
{
    let upstream = Upstream::start(script).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    (upstream, sidecar, client)
}

/// The server saw the call broken off, and the sidecar holds nobody responsible.
async fn cancelled(upstream: &Upstream, sidecar: &Sidecar) {
    let requests = upstream.until("a reset", |requests| requests.iter().all(|one| one.reset.is_some())).await;
    assert_eq!(requests[0].reset, Some(Reason::CANCEL));
    eventually("the count", || (sidecar.calls(Code::CANCELLED, Blame::Nobody) == 1).then_some(())).await;
}

#[tokio::test]
async fn after_the_headers() {
    let (upstream, sidecar, client) = before(never).await;
    let mut call = client.open(PATH, &[]).await;
    upstream.until("the call", |requests| requests.len() == 1).await;
    call.reset(Reason::CANCEL);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn in_the_middle_of_a_message() {
    let (upstream, sidecar, client) = before(|mut incoming| async move {
        incoming.message().await;
    })
    .await;
    let mut call = client.open(PATH, &[]).await;
    call.send_raw(frame(0, &[1; 1000]).slice(..500), false).await;
    upstream.until("the call", |requests| requests.len() == 1).await;
    call.reset(Reason::CANCEL);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn after_half_close() {
    let (upstream, sidecar, client) = before(|mut incoming| async move {
        incoming.messages().await;
        incoming.until_reset().await;
    })
    .await;
    let mut call = client.open(PATH, &[]).await;
    call.send_last(b"x").await;
    upstream.until("the end of the messages", |requests| requests.iter().any(|one| one.ended)).await;
    call.reset(Reason::CANCEL);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn after_the_response_headers() {
    let (upstream, sidecar, client) = before(|mut incoming| async move {
        incoming.headers(&[]);
        incoming.until_reset().await;
    })
    .await;
    let mut call = client.open(PATH, &[]).await;
    call.head().await.unwrap();
    call.reset(Reason::CANCEL);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn between_response_messages() {
    let (upstream, sidecar, client) = before(|mut incoming| async move {
        incoming.send(b"one").await;
        incoming.until_reset().await;
    })
    .await;
    let mut call = client.open(PATH, &[]).await;
    call.send_last(b"x").await;
    call.head().await.unwrap();
    call.next().await.unwrap();
    call.reset(Reason::CANCEL);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn by_leaving_without_a_word() {
    let (upstream, sidecar, client) = before(never).await;
    let call = client.open(PATH, &[]).await;
    upstream.until("the call", |requests| requests.len() == 1).await;
    drop(client);
    drop(call);
    cancelled(&upstream, &sidecar).await;
}

#[tokio::test]
async fn before_the_first_message_of_an_inference_nothing_is_sent() {
    let (upstream, sidecar, client) = before(never).await;
    let mut call = client.open("/inference.GRPCInferenceService/ModelInfer", &[]).await;
    call.send_raw(&b"\0\0\0"[..], false).await;
    // The next call shows that the first was begun: they come in order.
    let mut second = client.open(PATH, &[]).await;
    upstream.until("the second call", |requests| requests.len() == 1).await;
    call.reset(Reason::CANCEL);
    eventually("the count", || (sidecar.calls(Code::CANCELLED, Blame::Nobody) == 1).then_some(())).await;
    assert_eq!(upstream.requests().len(), 1);
    second.reset(Reason::CANCEL);
}

#[tokio::test]
#[ignore = "minutes: cargo test --test it -- --ignored hundred_thousand"]
async fn a_hundred_thousand_in_a_row_are_no_flood_to_anybody() {
    let (upstream, sidecar, client) = before(never).await;
    // Connections are replaced in good order long before anybody counts their resets as too many.
    for number in 1..=100_000 {
        let mut call = client.open(PATH, &[]).await;
        upstream.wait("the call", |requests| requests.len() == number).await;
        call.reset(Reason::CANCEL);
        upstream.wait("its reset", |requests| requests[number - 1].reset.is_some()).await;
    }
    assert!(upstream.requests().iter().all(|request| request.reset == Some(Reason::CANCEL)));
    assert!(sidecar.count(Counter::UpstreamRotations) <= 20);
    assert_eq!(sidecar.count(Counter::RetriesTransparent), 0);
    eventually("the count", || (sidecar.calls(Code::CANCELLED, Blame::Nobody) == 100_000).then_some(()))
        .await;
}

#[tokio::test]
async fn two_thousand_in_a_row_leave_the_connection_alone() {
    let (upstream, sidecar, client) = before(never).await;
    for number in 1..=2_000 {
        let mut call = client.open(PATH, &[]).await;
        upstream.wait("the call", |requests| requests.len() == number).await;
        call.reset(Reason::CANCEL);
        upstream.wait("its reset", |requests| requests[number - 1].reset.is_some()).await;
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.connection == 0), "one connection for all");
    assert!(requests.iter().all(|request| request.reset == Some(Reason::CANCEL)));
    assert_eq!(sidecar.count(Counter::UpstreamConnects), 1);
    assert_eq!(sidecar.count(Counter::UpstreamRotations), 0);
}

#[tokio::test]
async fn one_among_many_leaves_the_others_alone() {
    let (upstream, _sidecar, client) = before(|mut incoming| async move {
        incoming.headers(&[]);
        match incoming.message().await {
            Some(message) => {
                incoming.send(&message).await;
                incoming.trailers(&[("grpc-status", "0")]);
            }
            None => incoming.until_reset().await,
        }
    })
    .await;
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(client.open(PATH, &[]).await);
    }
    upstream.until("all calls", |requests| requests.len() == 50).await;
    for (index, call) in calls.iter_mut().enumerate() {
        if index % 2 == 0 {
            call.reset(Reason::CANCEL);
        }
    }
    for (index, mut call) in calls.into_iter().enumerate() {
        if index % 2 == 1 {
            call.send_last(b"still here").await;
            assert_eq!(soon("the answer", call.answer()).await.texts(), vec![b"still here"]);
        }
    }
    upstream
        .until("25 resets", |requests| {
            requests.iter().filter(|one| one.reset == Some(Reason::CANCEL)).count() == 25
        })
        .await;
}
