//! Deadlines: the rest of it is forwarded, its end ends the call on both sides.

use std::time::{Duration, Instant};

use parhelion::fault::{Blame, Code};
use parhelion::protocol::timeout;

use crate::support::{Call, Client, Incoming, Request, Sidecar, Upstream, eventually, pinned};

const PATH: &str = "/any.Service/Method";

async fn never(mut incoming: Incoming) {
    incoming.until_reset().await;
}

async fn one(script: &str) -> (Upstream, Sidecar, Client) {
    let upstream = match script {
        "echo" => Upstream::start(Incoming::echo).await,
        _ => Upstream::start(never).await,
    };
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    (upstream, sidecar, client)
}

fn forwarded(request: &Request) -> Duration {
    timeout::parse(request.headers["grpc-timeout"].as_bytes()).unwrap()
}

#[tokio::test]
async fn the_rest_is_forwarded() {
    let (upstream, _sidecar, client) = one("echo").await;
    for (index, (text, given)) in
        [("1H", 3600.0), ("90S", 90.0), ("45000m", 45.0), ("30000000u", 30.0)].into_iter().enumerate()
    {
        let answer = client.unary(PATH, &[("grpc-timeout", text)], b"x").await;
        assert_eq!(answer.status(), Some(0));
        let rest = forwarded(&upstream.requests()[index]).as_secs_f64();
        assert!(rest < given && rest > given - 20.0, "{text}: {rest}");
    }
    client.unary(PATH, &[], b"x").await;
    assert!(!upstream.requests()[4].headers.contains_key("grpc-timeout"), "nobody asked for one");
}

/// Sends nothing more and waits: the call must end by its deadline, not before.
async fn expires(mut call: Call, since: Instant, after: Duration) -> String {
    call.end();
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(4), "{answer:?}");
    assert!(since.elapsed() >= after, "{:?}", since.elapsed());
    answer.message().to_owned()
}

#[tokio::test]
async fn its_end_is_told_to_the_caller_and_cancels_upstream() {
    let (upstream, sidecar, client) = one("never").await;
    let since = Instant::now();
    let call = client.open(PATH, &[("grpc-timeout", "200m")]).await;
    let message = expires(call, since, Duration::from_millis(200)).await;
    assert!(message.contains("model m, variant v1") && message.contains(&upstream.url[7..]), "{message}");
    let requests = upstream.until("a reset", |requests| requests[0].reset.is_some()).await;
    assert_eq!(requests[0].reset, Some(h2::Reason::CANCEL));
    eventually("the count", || (sidecar.calls(Code::DEADLINE_EXCEEDED, Blame::Upstream) == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn it_ends_a_stream_under_way() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.send(b"one").await;
        incoming.until_reset().await;
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut call = client.open(PATH, &[("grpc-timeout", "300m")]).await;
    call.send(b"x").await;
    let answer = call.answer().await;
    assert_eq!((answer.status(), answer.texts()), (Some(4), vec![&b"one"[..]]));
    assert!(answer.trailers.is_some());
    upstream.until("a reset", |requests| requests[0].reset.is_some()).await;
}

#[tokio::test]
async fn what_is_left_after_an_expired_stream_is_counted() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.send(b"one").await;
        incoming.until_reset().await;
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let call = client.open(PATH, &[("grpc-timeout", "300m")]).await;
    assert_eq!(call.answer().await.status(), Some(4));
    let bytes = eventually("the count", || {
        let shards = sidecar.telemetry.shards().iter();
        let all: Vec<_> = shards.flat_map(|shard| shard.each()).map(|(_, series)| series).collect();
        let ended = all.iter().any(|series| series.calls(Code::DEADLINE_EXCEEDED, Blame::Upstream) == 1);
        ended.then(|| all.iter().map(|series| series.response_bytes.get()).sum::<u64>())
    })
    .await;
    assert_eq!(bytes, 8, "the message that went down");
}

#[tokio::test]
async fn a_model_may_have_one_for_calls_that_bring_none() {
    let upstream = Upstream::start(never).await;
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}}}, default_deadline: 250ms}}}}\n",
        upstream.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    let since = Instant::now();
    let call = client.open(PATH, &[]).await;
    expires(call, since, Duration::from_millis(250)).await;
    assert!(forwarded(&upstream.requests()[0]) <= Duration::from_millis(250));
    // A caller's own counts instead, be it longer.
    let call = client.open(PATH, &[("grpc-timeout", "10S")]).await;
    let requests = upstream.until("the second call", |requests| requests.len() == 2).await;
    assert!(forwarded(&requests[1]) > Duration::from_secs(1));
    drop(call);
}

#[tokio::test]
async fn the_wait_for_a_first_message_is_within_it() {
    let (upstream, _sidecar, client) = one("never").await;
    let since = Instant::now();
    let call = client.open("/inference.GRPCInferenceService/ModelInfer", &[("grpc-timeout", "200m")]).await;
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(4), "{answer:?}");
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn one_that_says_no_time_is_refused_and_never_sent() {
    let (upstream, _sidecar, client) = one("echo").await;
    for text in ["", "1", "1s", "-1S", "999999999S", "1 S", "soon"] {
        let answer = client.unary(PATH, &[("grpc-timeout", text)], b"x").await;
        assert_eq!(answer.status(), Some(13), "{text}");
        assert!(answer.message().contains("grpc-timeout"), "{}", answer.message());
    }
    assert_eq!(client.unary(PATH, &[("grpc-timeout", "0n")], b"x").await.status(), Some(4));
    assert_eq!(upstream.requests().len(), 0);
}
