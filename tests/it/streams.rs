//! How much is held and how far the two sides may drift apart: backpressure, and the bounds of messages.

use bytes::Bytes;
use h2::client::Builder;
use parhelion::fault::{Blame, Code};
use parhelion::telemetry::counter::Counter;
use std::time::Duration;

use crate::support::oip::{self, INFER, STREAM};
use crate::support::process;
use crate::support::{Call, Client, Incoming, Sidecar, Upstream, eventually, frame, pinned};

const PATH: &str = "/any.Service/Method";
const MIB: usize = 1 << 20;

/// Sends until nothing was taken for a while; returns how much was.
async fn fill(call: &mut Call) -> usize {
    let chunk = Bytes::from(vec![0; 16 * 1024]);
    let mut sent = 0;
    while let Ok(true) =
        tokio::time::timeout(Duration::from_millis(700), call.send_raw(chunk.clone(), false)).await
    {
        sent += chunk.len();
        assert!(sent < 64 * MIB, "there is no end to it");
    }
    sent
}

/// Messages of four bytes each, one after the other.
fn numbered(count: u32) -> Vec<Bytes> {
    (0..count).map(|number| frame(0, &number.to_be_bytes())).collect()
}

/// All bytes of a body, and in how many pieces they came.
async fn pieces(body: &mut h2::RecvStream) -> (usize, Vec<u8>) {
    let (mut pieces, mut bytes) = (0, Vec::new());
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        pieces += 1;
        bytes.extend_from_slice(&data);
    }
    (pieces, bytes)
}

#[tokio::test]
async fn small_messages_that_came_together_go_on_together() {
    const COUNT: u32 = 500;
    let upstream = Upstream::start(|mut incoming| async move {
        let (pieces, bytes) = pieces(&mut incoming.body).await;
        let whole = (bytes == numbered(COUNT).concat()).to_string();
        incoming.headers(&[("pieces", &pieces.to_string()), ("whole", &whole)]);
        let stream = incoming.stream().unwrap();
        for message in numbered(COUNT) {
            stream.send_data(message, false).unwrap();
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    for path in [PATH, STREAM] {
        let mut call = client.open(path, &[]).await;
        for message in numbered(COUNT) {
            call.up.send_data(message, false).unwrap();
        }
        call.end();
        let (_, headers) = call.head().await.unwrap();
        let up: u32 = headers["pieces"].to_str().unwrap().parse().unwrap();
        assert_eq!(headers["whole"], "true");
        let (down, bytes) = pieces(call.body()).await;
        assert_eq!(bytes, numbered(COUNT).concat());
        // Each was written in one go, as a frame for each message.
        assert!(up <= COUNT / 4 && down <= COUNT as usize / 4, "{up} pieces up, {down} down");
    }
}

#[tokio::test]
async fn a_server_that_reads_nothing_stops_the_caller() {
    let upstream = Upstream::start(|mut incoming| async move { incoming.until_reset().await }).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut call = client.open(PATH, &[]).await;
    // A message of 60 MB that the server never takes: its windows (64 KB) and ours (1 MiB), and 1 MiB beside.
    call.send_raw(frame(0, b"").slice(..1), false).await;
    call.send_raw(Bytes::copy_from_slice(&60_000_000_u32.to_be_bytes()), false).await;
    let sent = fill(&mut call).await;
    assert!(sent <= 64 * 1024 + MIB + MIB, "{sent} bytes were taken");
    assert!(sent >= MIB / 2, "{sent} bytes: the window is not used");
}

#[tokio::test]
async fn a_caller_that_reads_nothing_stops_the_server() {
    let (tell, sent) = tokio::sync::watch::channel(0_usize);
    let upstream = Upstream::start(move |mut incoming| {
        let tell = tell.clone();
        async move {
            loop {
                incoming.send(&[0; 16 * 1024]).await;
                tell.send_modify(|sent| *sent += 16 * 1024);
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::with(sidecar.address, Builder::new()).await;
    let mut call = client.open(PATH, &[]).await;
    call.head().await.unwrap();
    let mut sent = sent;
    while tokio::time::timeout(Duration::from_millis(700), sent.changed()).await.is_ok() {
        assert!(*sent.borrow() < 64 * MIB, "there is no end to it");
    }
    let taken = *sent.borrow();
    assert!(taken <= 64 * 1024 + MIB + MIB, "{taken} bytes were taken");
    // It flows again as soon as the caller reads.
    for _ in 0..200 {
        assert_eq!(call.next().await.unwrap().unwrap().1.len(), 16 * 1024);
    }
}

#[tokio::test]
async fn a_stopped_call_does_not_stop_another_on_the_same_connection() {
    // Room for two on the connection: with less, one stuck call stops all others directly too.
    let mut roomy = h2::server::Builder::new();
    roomy.initial_connection_window_size(1 << 20);
    let upstream = Upstream::with(roomy, |mut incoming| async move {
        if incoming.request().headers.contains_key("x-stuck") {
            incoming.until_reset().await;
        } else {
            incoming.echo().await;
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut stuck = client.open(PATH, &[("x-stuck", "1")]).await;
    stuck.send_raw(Bytes::from_static(&[0, 3, 0, 0, 0]), false).await;
    fill(&mut stuck).await;
    let answer = client.unary(PATH, &[], b"hello").await;
    assert_eq!(answer.texts(), vec![b"hello"]);
}

fn small_messages(url: &str) -> String {
    format!("{}limits: {{message: 100KiB}}\n", pinned(&[url]))
}

#[tokio::test]
async fn a_request_message_over_the_limit_ends_that_call_only() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.headers(&[]);
        while let Some(message) = incoming.message().await {
            incoming.send(&message).await;
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&small_messages(&upstream.url)).await;
    let client = Client::connect(sidecar.address).await;
    let mut sibling = client.open(PATH, &[]).await;
    sibling.send(b"before").await;
    sibling.head().await.unwrap();
    assert_eq!(sibling.next().await.unwrap().unwrap().1, "before");
    let mut call = client.open(PATH, &[]).await;
    call.send(&[1; 50_000]).await;
    call.send_raw(frame(0, &[1; 200_000]), true).await;
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    assert!(answer.message().contains("limits.message"), "{}", answer.message());
    upstream.until("a reset", |requests| requests.iter().any(|one| one.reset.is_some())).await;
    sibling.send_last(b"after").await;
    let answer = sibling.answer().await;
    assert_eq!((answer.texts(), answer.status()), (vec![&b"after"[..]], Some(0)));
    assert_eq!(sidecar.count(Counter::ShedMessage), 1);
    eventually("the count", || (sidecar.calls(Code::RESOURCE_EXHAUSTED, Blame::Client) == 1).then_some(()))
        .await;
    // The limit itself is allowed.
    assert_eq!(client.unary(PATH, &[], &[1; 100 * 1024]).await.status(), Some(0));
}

#[tokio::test]
async fn an_inference_over_the_limit_is_refused_and_counted_too() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&small_messages(&upstream.url)).await;
    let client = Client::connect(sidecar.address).await;
    let mut call = client.open("/inference.GRPCInferenceService/ModelInfer", &[]).await;
    call.send_raw(frame(0, &[0x3a; 200_000]), true).await;
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(sidecar.count(Counter::ShedMessage), 1);
}

#[tokio::test]
async fn a_response_message_over_the_limit_ends_that_call_only() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.send(b"first").await;
        let size = incoming.message().await.map_or(0, |text| String::from_utf8_lossy(&text).parse().unwrap());
        incoming.send(&vec![0; size]).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&small_messages(&upstream.url)).await;
    let client = Client::connect(sidecar.address).await;
    let mut sibling = client.open(PATH, &[]).await;
    sibling.head().await.unwrap();
    let answer = client.unary(PATH, &[], b"200000").await;
    assert_eq!((answer.status(), answer.texts()), (Some(8), vec![&b"first"[..]]));
    assert!(answer.message().contains("limits.message"), "{}", answer.message());
    sibling.send_last(b"100").await;
    let answer = sibling.answer().await;
    assert_eq!((answer.messages.len(), answer.status()), (2, Some(0)));
    assert_eq!(sidecar.count(Counter::ShedMessage), 1);
    eventually("the count", || (sidecar.calls(Code::RESOURCE_EXHAUSTED, Blame::Upstream) == 1).then_some(()))
        .await;
}

/// This process's address space, in KiB: every allocation shows in it, touched or not.
fn mapped() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_prefix_that_lies_allocates_nothing() {
    let upstream = Upstream::start(|mut incoming| async move {
        if incoming.request().headers.contains_key("x-lie") {
            incoming.send_raw(Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3])).await;
            incoming.until_reset().await;
        } else {
            incoming.message().await;
        }
    })
    .await;
    let sidecar = Sidecar::start(&format!("{}limits: {{message: 3GiB}}\n", pinned(&[&upstream.url]))).await;
    let client = Client::connect(sidecar.address).await;
    let before = mapped();
    let mut calls = Vec::new();
    for path in [
        PATH,
        "/inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelStreamInfer",
    ] {
        for _ in 0..4 {
            let mut call = client.open(path, &[]).await;
            call.send_raw(Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff, 10, 1, b'm', 42, 0]), false).await;
            calls.push(call);
        }
    }
    let mut lied = client.open(PATH, &[("x-lie", "1")]).await;
    lied.head().await.unwrap();
    let data = std::future::poll_fn(|cx| lied.body().poll_data(cx)).await;
    assert_eq!(data.unwrap().unwrap().len(), 8);
    upstream.until("all calls", |requests| requests.len() == 13).await;
    let grown = mapped().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} KiB more for thirteen lies of 2 GiB");
}

/// Reads one message, answers it, and then as `x-do` says.
async fn slow(mut incoming: Incoming) {
    let headers = incoming.request().headers;
    match headers.get("x-do").map(|value| value.as_bytes()) {
        Some(b"half") => {
            incoming.send_raw(Bytes::from_static(&[0, 0, 0, 0, 9, 1])).await;
            incoming.until_reset().await;
        }
        _ => {
            while let Some(message) = incoming.message().await {
                incoming.send(&message).await;
            }
            incoming.trailers(&[("grpc-status", "0")]);
        }
    }
}

#[tokio::test]
async fn who_owes_something_for_too_long_is_cut_off_and_who_owes_nothing_is_not() {
    let upstream = Upstream::start(slow).await;
    let yaml = format!("{}limits: {{stall: 250ms}}\n", pinned(&[&upstream.url]));
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    // Nobody owes anything: an opaque stream between messages, an inference stream before its first.
    let mut opaque = client.open(PATH, &[]).await;
    opaque.send(b"one").await;
    opaque.head().await.unwrap();
    assert_eq!(opaque.next().await.unwrap().unwrap().1, "one");
    let mut stream = client.open(STREAM, &[]).await;
    // A caller that never finishes, before and after its call is sent on, and a server that never does.
    let mut half = client.open(PATH, &[]).await;
    half.send_raw(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false).await;
    let mut early = client.open(INFER, &[]).await;
    early.send_raw(Bytes::from_static(&[0, 0, 0, 0, 9, 10]), false).await;
    let never = client.open(INFER, &[]).await;
    let server = client.open(PATH, &[("x-do", "half")]).await;
    for (call, who) in
        [(half, "the caller"), (early, "the request"), (never, "the request"), (server, "the model server")]
    {
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(14), "{who}: {answer:?}");
        assert!(answer.message().contains(who) && answer.message().contains("limits.stall"), "{answer:?}");
    }
    assert_eq!(sidecar.count(Counter::Stalls), 4);
    opaque.send_last(b"two").await;
    assert_eq!(opaque.answer().await.texts(), vec![b"two"]);
    let message = oip::request("m", &[], 10);
    stream.send_last(&message).await;
    let answer = stream.answer().await;
    assert_eq!((answer.status(), answer.texts()), (Some(0), vec![&message[..]]));
}

#[tokio::test]
async fn trailers_over_the_limit_lose_what_does_not_fit_and_no_other_call_feels_it() {
    let upstream = Upstream::start(|mut incoming| async move {
        let size: usize = String::from_utf8_lossy(&incoming.message().await.unwrap()).parse().unwrap();
        incoming.send(b"body").await;
        incoming.trailers(&[("grpc-status", "5"), ("x-large", &"x".repeat(size))]);
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut sibling = client.open(PATH, &[]).await;
    // limits.headers is 64 KiB; the HTTP/2 library reads on behind it and leaves out the field that is too long.
    for (size, arrives) in [(60_000, true), (70_000, false)] {
        let answer = client.unary(PATH, &[], size.to_string().as_bytes()).await;
        assert_eq!((answer.status(), answer.texts()), (Some(5), vec![&b"body"[..]]));
        assert_eq!(answer.trailers.unwrap().contains_key("x-large"), arrives);
    }
    sibling.send_last(b"10").await;
    assert_eq!(sibling.answer().await.status(), Some(5));
}

#[tokio::test]
async fn an_http_error_with_a_page_counts_as_what_it_is() {
    let upstream = Upstream::start(|mut incoming| async move {
        let mut response = crate::support::ok(&[]);
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        let mut stream = incoming.respond.send_response(response, false).unwrap();
        stream.send_data(Bytes::from_static(b"\0\0\0\0\x04oops"), true).unwrap();
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let answer = client.unary(PATH, &[], b"x").await;
    assert_eq!((answer.http, answer.status(), answer.texts()), (503, None, vec![&b"oops"[..]]));
    eventually("the count", || (sidecar.calls(Code::UNAVAILABLE, Blame::Upstream) == 1).then_some(())).await;
}

/// A stream of messages of 100 bytes up and down through a process of its own; how much that grew from the first tenth on,
/// in KiB.
async fn of_messages(count: u32) -> u64 {
    const BATCH: u32 = 500;
    let upstream = Upstream::start(|mut incoming| async move {
        while let Some(Ok(data)) = incoming.body.data().await {
            let _ = incoming.body.flow_control().release_capacity(data.len());
            incoming.send_raw(data).await;
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = process::Sidecar::ready(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.data).await;
    let mut call = client.open(STREAM, &[]).await;
    let message = |number: u32| [&number.to_be_bytes()[..], &[7; 96]].concat();
    let mut before = 0;
    for first in (0..count).step_by(BATCH as usize) {
        let batch = (first..first + BATCH).flat_map(|number| frame(0, &message(number)));
        assert!(call.send_raw(batch.collect::<Vec<u8>>(), false).await);
        if first == 0 {
            call.head().await.unwrap();
        }
        for number in first..first + BATCH {
            let (_, got) = call.next().await.unwrap().unwrap();
            assert!(got == message(number), "message {number} is another one");
        }
        if first <= count / 10 {
            before = sidecar.resident();
        }
    }
    call.end();
    assert_eq!(call.next().await.unwrap(), None, "there are no more than were sent");
    let grown = sidecar.resident().saturating_sub(before);
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
    grown
}

#[tokio::test]
async fn a_long_stream_arrives_in_order_and_holds_nothing() {
    let grown = of_messages(100_000).await;
    assert!(grown < 2 * 1024, "{grown} KiB");
}

#[tokio::test]
#[ignore = "minutes: cargo test --test it -- --ignored ten_million"]
async fn ten_million_messages_arrive_in_order_and_hold_nothing() {
    let grown = of_messages(10_000_000).await;
    assert!(grown < 1024, "{grown} KiB");
}

#[tokio::test]
async fn fifty_uploads_to_a_slow_server_hold_their_windows_alone() {
    const UPLOADS: usize = 50;
    let upstream = Upstream::start(|mut incoming| async move {
        while let Some(Ok(data)) = incoming.body.data().await {
            let _ = incoming.body.flow_control().release_capacity(data.len());
            // Some hundreds of KiB a second, each.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let sidecar = process::Sidecar::ready(&format!(
        "{}limits: {{message: 3GiB, retain: 16KiB}}\n",
        pinned(&[&upstream.url])
    ))
    .await;
    // What is kept for a retry would come beside the windows, so it is little here.
    let before = sidecar.resident();
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..UPLOADS {
        let client = Client::connect(sidecar.data).await;
        uploads.spawn(async move {
            let mut call = client.open(PATH, &[]).await;
            let chunk = Bytes::from(vec![0; 64 * 1024]);
            // One message that has no end in this test.
            let _ = call.send_raw(vec![0, 0x7f, 0xff, 0xff, 0xff], false).await;
            let mut sent = 0;
            let sending = async {
                while crate::support::push(&mut call.up, chunk.clone(), false).await.is_ok() {
                    sent += chunk.len();
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(4), sending).await;
            sent
        });
    }
    let mut most = 0;
    for _ in 0..35 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(sidecar.resident().saturating_sub(before));
    }
    let sent: usize = uploads.join_all().await.into_iter().sum();
    assert!(sent < UPLOADS * 8 * MIB, "nobody was held up: {sent} bytes");
    // And fifty connections with what the allocator rounds up.
    assert!(most < (UPLOADS * 1280 + 8 * 1024) as u64, "{most} KiB");
}

#[tokio::test]
async fn several_workers_share_the_callers() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&format!("workers: 3\n{}", pinned(&[&upstream.url]))).await;
    for number in 0..40 {
        let client = Client::connect(sidecar.address).await;
        let text = number.to_string();
        assert_eq!(client.unary(PATH, &[], text.as_bytes()).await.texts(), vec![text.as_bytes()]);
    }
    let shards = sidecar.telemetry.shards();
    let used = shards
        .iter()
        .filter(|shard| shard.each().iter().any(|(_, series)| series.calls(Code::OK, Blame::Nobody) > 0));
    assert!(shards.len() == 3 && used.count() >= 2, "one worker had all of them");
}
