//! More than is allowed is refused at once, and what is within goes on.

use std::time::Duration;

use h2::Reason;
use parhelion::telemetry::counter::Counter;

use crate::support::{Client, Incoming, Sidecar, Upstream, eventually, pinned, process, push, soon};

const PATH: &str = "/any.Service/Method";

/// Answers what it is sent, and never a call with `x-hold`.
async fn holding() -> Upstream {
    Upstream::start(|mut incoming| async move {
        if incoming.request().headers.contains_key("x-hold") {
            incoming.until_reset().await;
        } else {
            incoming.echo().await;
        }
    })
    .await
}

#[tokio::test]
async fn calls_over_the_cap_are_refused_and_those_within_go_on() {
    let upstream = holding().await;
    let sidecar = Sidecar::start(&format!("{}limits: {{in_flight: 3}}\n", pinned(&[&upstream.url]))).await;
    let client = Client::connect(sidecar.address).await;
    let other = Client::connect(sidecar.address).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.open(PATH, &[("x-hold", "1")]).await);
    }
    upstream.wait("three calls", |requests| requests.len() == 3).await;
    for client in [&client, &other] {
        let answer = client.unary(PATH, &[], b"x").await;
        assert_eq!(answer.status(), Some(8), "{answer:?}");
        assert!(answer.message().contains("limits.in_flight"), "{}", answer.message());
    }
    assert_eq!((sidecar.count(Counter::ShedInFlight), upstream.requests().len()), (2, 3));
    held[0].reset(Reason::CANCEL);
    upstream.wait("the reset", |requests| requests.iter().any(|one| one.reset.is_some())).await;
    // The place is free once the sidecar's own task of the call has ended.
    let answer = eventually_ok(&client).await;
    assert_eq!(answer.texts(), vec![b"x"]);
    drop(held);
    eventually("no call left", || {
        let shards = sidecar.telemetry.shards().iter();
        let open: u64 = shards.flat_map(|shard| shard.each()).map(|(_, series)| series.in_flight()).sum();
        (open == 0).then_some(())
    })
    .await;
}

async fn eventually_ok(client: &Client) -> crate::support::Answer {
    for _ in 0..200 {
        let answer = client.unary(PATH, &[], b"x").await;
        if answer.status() == Some(0) {
            return answer;
        }
    }
    panic!("the place is never given back");
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_and_never_sent() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let request = |method: &str, content_type: Option<&str>| {
        let mut request = http::Request::builder().method(method).uri(format!("http://a{PATH}"));
        request = request.header("te", "trailers");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        request.body(()).unwrap()
    };
    for (method, content_type, status) in [
        ("GET", Some("application/grpc"), 405),
        ("PUT", Some("application/grpc"), 405),
        ("POST", None, 415),
        ("POST", Some("application/json"), 415),
        ("POST", Some("application/grpc-web"), 415),
        ("POST", Some("application/grpcx"), 415),
    ] {
        let mut call = client.request(request(method, content_type)).await;
        call.send_raw(&b"{}"[..], true).await;
        let answer = call.answer().await;
        assert_eq!(answer.http, status, "{method} {content_type:?}: {answer:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let mut call = client.request(request("POST", Some(content_type))).await;
        call.end();
        assert_eq!(call.answer().await.status(), Some(0), "{content_type}");
    }
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_and_those_within_go_on() {
    let upstream = Upstream::start(Incoming::echo).await;
    let yaml = format!("{}workers: 1\nlimits: {{connections: 3}}\n", pinned(&[&upstream.url]));
    let sidecar = Sidecar::start(&yaml).await;
    let mut within = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(sidecar.address).await;
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
        within.push(client);
    }
    for refused in 1..=20 {
        let mut peer = tokio::net::TcpStream::connect(sidecar.address).await.unwrap();
        let end = soon("its end", tokio::io::AsyncReadExt::read(&mut peer, &mut [0; 16])).await;
        assert!(end.is_err() || end.is_ok_and(|read| read == 0), "it is served");
        let counted = || (sidecar.count(Counter::ConnectionsRefused) >= refused).then_some(());
        eventually("the count", counted).await;
    }
    for client in &within {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    drop(within.pop());
    eventually("the end of one", || (sidecar.count(Counter::ConnectionsClosed) >= 1).then_some(())).await;
    let next = Client::connect(sidecar.address).await;
    assert_eq!(next.unary(PATH, &[], b"x").await.status(), Some(0), "its place is free");
}

#[tokio::test]
async fn memory_that_calls_have_given_up_refuses_no_other_call() {
    let upstream = holding().await;
    let pinned = pinned(&[&upstream.url]);
    let sidecar = process::Sidecar::ready(&pinned).await;
    let client = Client::connect(sidecar.data).await;
    assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    // Room for a few uploads, of which each holds a stream's window.
    let limit = sidecar.resident() / 1024 + 24;
    sidecar.rewrite(&format!("{pinned}limits: {{memory: {limit}MiB}}\n"));
    sidecar.counts("parhelion_memory_limit_bytes", limit << 20).await;
    // All are begun before any sends much: once memory is nearly used up connections are refused too.
    let mut begun = Vec::new();
    for _ in 0..40 {
        let client = Client::connect(sidecar.data).await;
        let call = client.open(PATH, &[("x-hold", "1")]).await;
        begun.push((client, call));
    }
    upstream.wait("forty calls", |requests| requests.len() >= 40).await;
    let mut uploads = tokio::task::JoinSet::new();
    for (client, mut call) in begun {
        uploads.spawn(async move {
            let much = bytes::Bytes::from(vec![0; 8 << 20]);
            let _ = tokio::time::timeout(Duration::from_secs(3), push(&mut call.up, much, false)).await;
            (client, call)
        });
    }
    process::until("a call is refused, or one of the uploads ended", || async {
        client.unary(PATH, &[], b"x").await;
        sidecar.metric("parhelion_shed_total{cause=\"memory\"}").await > 0
    })
    .await;
    drop(uploads.join_all().await);
    process::until("calls are taken again", || async {
        client.unary(PATH, &[], b"x").await.status() == Some(0)
    })
    .await;
    assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
}
