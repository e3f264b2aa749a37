//! The four kinds of calls of a service that the sidecar does not know, through it and directly: the same.

use h2::Reason;

use crate::support::{Call, Client, Incoming, Sidecar, Upstream, eventually, pinned, soon};

const PATH: &str = "/any.Service/Method";

/// Answers each message as it comes, and says how many there were.
async fn chat(mut incoming: Incoming) {
    incoming.headers(&[("x-kind", "chat")]);
    let mut count = 0;
    while let Some(message) = incoming.message().await {
        count += 1;
        incoming.send(&[b"re: ", &message[..]].concat()).await;
    }
    incoming.trailers(&[("grpc-status", "0"), ("x-count", &count.to_string())]);
}

/// A sidecar before a server, and a client of each.
struct Pair {
    through: Client,
    direct: Client,
    upstream: Upstream,
    _sidecar: Sidecar,
}

impl Pair {
    async fn of<F>(script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let upstream = Upstream::start(script).await;
        let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
        Pair {
            through: Client::connect(sidecar.address).await,
            direct: Client::connect(upstream.address()).await,
            upstream,
            _sidecar: sidecar,
        }
    }

    /// Runs `talk` both ways; the answers must be equal.
    async fn same(&self, talk: impl AsyncFn(&Client) -> crate::support::Answer) -> crate::support::Answer {
        let direct = talk(&self.direct).await;
        let through = talk(&self.through).await;
        assert_eq!(through.clone().untagged(), direct);
        through
    }
}

#[tokio::test]
async fn unary() {
    let pair = Pair::of(Incoming::echo).await;
    let answer = pair.same(async |client| client.unary(PATH, &[("x-a", "1")], b"hello").await).await;
    assert_eq!((answer.status(), answer.texts()), (Some(0), vec![&b"hello"[..]]));
    assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    let requests = pair.upstream.requests();
    assert_eq!((&*requests[1].path, requests[1].ended), (PATH, true));
    assert_eq!(requests[1].headers, requests[0].headers);
    assert_eq!(requests[1].authority, requests[0].authority);
}

#[tokio::test]
async fn server_stream() {
    let pair = Pair::of(|mut incoming| async move {
        let count: u32 = String::from_utf8_lossy(&incoming.message().await.unwrap()).parse().unwrap();
        for number in 0..count {
            incoming.send(number.to_string().as_bytes()).await;
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let answer = pair.same(async |client| client.unary(PATH, &[], b"500").await).await;
    assert_eq!(answer.messages.len(), 500);
    assert_eq!(answer.messages[499].1, "499");
}

#[tokio::test]
async fn client_stream() {
    let pair = Pair::of(|mut incoming| async move {
        let lengths: usize = incoming.messages().await.iter().map(|message| message.len()).sum();
        incoming.send(lengths.to_string().as_bytes()).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let answer = pair
        .same(async |client| {
            let mut call = client.open(PATH, &[]).await;
            for number in 0..300_usize {
                call.send(&vec![b'x'; number]).await;
            }
            call.end();
            call.answer().await
        })
        .await;
    assert_eq!(answer.texts(), vec![(0..300).sum::<usize>().to_string().as_bytes()]);
}

#[tokio::test]
async fn bidirectional_in_lock_step() {
    let pair = Pair::of(chat).await;
    let answer = pair
        .same(async |client| {
            let mut call = client.open(PATH, &[]).await;
            let (http, headers) = call.head().await.unwrap();
            assert_eq!((http, headers["x-kind"].as_bytes()), (200, &b"chat"[..]));
            for number in 0..20 {
                // Each answer comes before the next message is sent.
                call.send(number.to_string().as_bytes()).await;
                let (_, reply) = call.next().await.unwrap().unwrap();
                assert_eq!(reply, format!("re: {number}"));
            }
            call.end();
            call.answer().await
        })
        .await;
    assert_eq!(answer.trailers.unwrap()["x-count"], "20");
}

#[tokio::test]
async fn the_server_may_speak_first() {
    let pair = Pair::of(|mut incoming| async move {
        incoming.send(b"who is there?").await;
        let name = incoming.message().await.unwrap();
        incoming.send(&name).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    for client in [&pair.direct, &pair.through] {
        let mut call = client.open(PATH, &[]).await;
        call.head().await.unwrap();
        assert_eq!(call.next().await.unwrap().unwrap().1, "who is there?");
        call.send_last(b"me").await;
        let answer = call.answer().await;
        assert_eq!((answer.texts(), answer.status()), (vec![&b"me"[..]], Some(0)));
    }
}

#[tokio::test]
async fn half_close_is_seen_while_the_answer_goes_on() {
    let pair = Pair::of(|mut incoming| async move {
        incoming.send(b"before").await;
        assert_eq!(incoming.messages().await.len(), 1);
        incoming.send(b"after").await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    for client in [&pair.direct, &pair.through] {
        let mut call = client.open(PATH, &[]).await;
        call.head().await.unwrap();
        assert_eq!(call.next().await.unwrap().unwrap().1, "before");
        call.send(b"only").await;
        call.end();
        assert_eq!(call.answer().await.texts(), vec![b"after"]);
    }
}

#[tokio::test]
async fn empty_messages_are_messages() {
    let pair = Pair::of(chat).await;
    let answer = pair
        .same(async |client| {
            let mut call = client.open(PATH, &[]).await;
            for message in [&b""[..], b"", b"x", b""] {
                call.send(message).await;
            }
            call.end();
            call.answer().await
        })
        .await;
    assert_eq!(answer.texts(), vec![&b"re: "[..], b"re: ", b"re: x", b"re: "]);
    let none = pair
        .same(async |client| {
            let mut call = client.open(PATH, &[]).await;
            call.end();
            call.answer().await
        })
        .await;
    assert_eq!((none.messages.len(), none.status()), (0, Some(0)));
}

/// Sends until the other side takes no more, and returns how the call ended.
async fn send_on(mut call: Call) -> crate::support::Answer {
    while call.send_raw(vec![0; 16_384], false).await {}
    call.answer().await
}

#[tokio::test]
async fn an_early_answer_ends_the_call_while_the_caller_still_sends() {
    // A small window, so that a caller who goes on must notice.
    let pair = Pair::of(|mut incoming| async move {
        incoming.message().await;
        incoming.headers(&[]);
        incoming.trailers(&[("grpc-status", "8"), ("grpc-message", "enough")]);
        // The script ends here: the library resets the stream with NO_ERROR, as real servers do.
    })
    .await;
    for client in [&pair.direct, &pair.through] {
        let mut call = client.open(PATH, &[]).await;
        call.send(b"first").await;
        let answer = soon("an early answer", send_on(call)).await;
        assert_eq!((answer.status(), answer.message()), (Some(8), "enough"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_early_answer_of_headers_alone_ends_the_call_too() {
    let pair = Pair::of(|mut incoming| async move {
        incoming.message().await;
        incoming.only(&[("grpc-status", "7"), ("grpc-message", "not you")]);
    })
    .await;
    // Many times: whether the reset is seen together with the headers is a matter of timing.
    for _ in 0..50 {
        let mut call = pair.through.open(PATH, &[]).await;
        call.send(b"first").await;
        let answer = soon("an early answer", call.answer()).await;
        assert_eq!((answer.status(), answer.message()), (Some(7), "not you"), "{answer:?}");
        assert_eq!(answer.trailers, None);
    }
}

#[tokio::test]
async fn large_messages_arrive_whole() {
    let pair = Pair::of(Incoming::echo).await;
    for size in [600_000, 20_000_000] {
        let message: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
        let answer = pair.through.unary(PATH, &[], &message).await;
        assert_eq!(answer.status(), Some(0));
        assert!(answer.messages[0].1 == message, "{size} bytes differ");
    }
}

#[tokio::test]
async fn many_calls_at_once_on_one_connection() {
    let pair = Pair::of(chat).await;
    let mut calls = Vec::new();
    for number in 0..200 {
        let mut call = pair.through.open(PATH, &[]).await;
        call.send(format!("{number}").as_bytes()).await;
        calls.push(call);
    }
    for (number, mut call) in calls.into_iter().enumerate().rev() {
        call.end();
        let answer = call.answer().await;
        assert_eq!(answer.texts(), vec![format!("re: {number}").as_bytes()], "{answer:?}");
    }
}

#[tokio::test]
async fn a_reset_by_the_caller_reaches_the_server_as_cancel() {
    let pair = Pair::of(|mut incoming| async move { incoming.until_reset().await }).await;
    let mut call = pair.through.open(PATH, &[]).await;
    call.send(b"x").await;
    pair.upstream.until("the call", |requests| !requests.is_empty()).await;
    call.reset(Reason::CANCEL);
    let requests = pair.upstream.until("its reset", |requests| requests[0].reset.is_some()).await;
    assert_eq!(requests[0].reset, Some(Reason::CANCEL));
    eventually("no call left", || {
        (pair._sidecar.calls(parhelion::fault::Code::CANCELLED, parhelion::fault::Blame::Nobody) == 1)
            .then_some(())
    })
    .await;
}
