//! One caller's rubbish and the calls of others on the same connection to a server: they do not meet. And what a caller
//! may put into headers arrives as it was, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue};
use parhelion::telemetry::counter::Counter;

use crate::support::attack::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, call, frame, framed, reset};
use crate::support::process::beside;
use crate::support::{Client, Incoming, Sidecar, Upstream, pairs, pinned, soon};

const PATH: &str = "/any.Service/Method";

/// Calls that no server likes, each as the frames of one stream.
fn rubbish() -> Vec<(&'static str, Vec<u8>)> {
    let open = |more: &[(&str, &[u8])]| frame(HEADERS, END_HEADERS, 1, &call(PATH, more));
    let last = |bytes: &[u8]| frame(DATA, END_STREAM, 1, bytes);
    let good = framed(0, b"x");
    let long = vec![b'v'; 15_000];
    let many: Vec<(String, String)> = (0..300).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
    // As many frames as it takes: one holds 16 KiB.
    let large = |count: usize| {
        let value: (&str, &[u8]) = ("x-long", &long);
        let block = call(PATH, &vec![value; count]);
        let mut pieces = block.chunks(16_000).peekable();
        let mut bytes =
            frame(HEADERS, if pieces.len() == 1 { END_HEADERS } else { 0 }, 1, pieces.next().unwrap());
        while let Some(piece) = pieces.next() {
            bytes.extend(frame(9, if pieces.peek().is_none() { END_HEADERS } else { 0 }, 1, piece));
        }
        [bytes, last(&good)].concat()
    };
    vec![
        ("an unknown flag", [open(&[]), last(&framed(255, b"x"))].concat()),
        ("a message that is cut", [open(&[]), last(&good[..4])].concat()),
        (
            "a message that is announced and never comes",
            [open(&[]), last(&[0, 0x7f, 0xff, 0xff, 0xff])].concat(),
        ),
        ("compressed without an encoding", [open(&[]), last(&framed(1, b"x"))].concat()),
        ("no base64", [open(&[("x-odd-bin", b"*")]), last(&good)].concat()),
        ("three hundred headers", [open(&many), last(&good)].concat()),
        ("15 KB of headers", large(1)),
        ("30 KB of headers", large(2)),
        ("60 KB of headers", large(4)),
        ("another content length", [open(&[("content-length", b"3")]), last(&good)].concat()),
        ("no time at all", [open(&[("grpc-timeout", b"1n")]), last(&good)].concat()),
        ("a reset within a message", [open(&[]), frame(DATA, 0, 1, &good[..3]), reset(1, 2)].concat()),
        ("a reset at once", [open(&[]), reset(1, 8)].concat()),
        ("trailers of a caller", [open(&[]), frame(DATA, 0, 1, &good), frame(HEADERS, 5, 1, &[])].concat()),
        ("an unknown type", [open(&[("content-type", b"application/grpc+odd")]), last(&good)].concat()),
    ]
}

/// Callers in good order, and how many of their calls went well.
struct Neighbours {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    calls: Vec<tokio::task::JoinHandle<()>>,
}

impl Neighbours {
    async fn of(sidecar: &Sidecar, count: usize) -> Self {
        let (stop, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut calls = Vec::new();
        for _ in 0..count {
            let client = Client::connect(sidecar.address).await;
            let (stop, good) = (Arc::clone(&stop), Arc::clone(&good));
            calls.push(beside(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.unary(PATH, &[], b"x").await;
                    assert_eq!(answer.status(), Some(0), "{answer:?}");
                    good.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Neighbours { stop, good, calls }
    }

    /// Waits for so many more calls.
    async fn go_on(&self, more: usize) {
        let before = self.good.load(Ordering::Relaxed);
        let enough = async {
            while self.good.load(Ordering::Relaxed) < before + more {
                assert!(self.calls.iter().all(|calls| !calls.is_finished()), "a neighbour's call failed");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon("the neighbours' calls", enough).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for calls in self.calls {
            calls.await.unwrap();
        }
    }
}

#[tokio::test]
async fn one_callers_rubbish_costs_no_other_a_call() {
    // As servers in Rust have it, and as those of C do: they take 16 KiB of headers, and 8.
    for most in [16 << 10, 8 << 10] {
        let mut builder = Builder::new();
        builder.initial_connection_window_size(1 << 20).max_header_list_size(most);
        let upstream = Upstream::with(builder, Incoming::echo).await;
        let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
        let neighbours = Neighbours::of(&sidecar, 20).await;
        neighbours.go_on(100).await;
        for (what, bytes) in rubbish() {
            let mut raw = Raw::greet(sidecar.address, &[]).await;
            raw.write(&bytes).await;
            let over = |raw: &Raw| raw.ended(1) || raw.reset_of(1).is_some();
            let reset_by_us = what.starts_with("a reset");
            let told = raw.read_until(over, Duration::from_secs(10)).await;
            assert!(told || reset_by_us || raw.closed, "{what}: no word");
            neighbours.go_on(40).await;
        }
        neighbours.end().await;
        let all = upstream.requests();
        assert!(all.iter().all(|request| request.connection == 0), "the shared connection was given up");
        assert_eq!(sidecar.count(Counter::UpstreamConnects), 1);
        assert_eq!(sidecar.count(Counter::RetriesTransparent), 0);
    }
}

#[tokio::test]
async fn odd_headers_arrive_as_they_were() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let plain = pairs(&[("content-type", "application/grpc"), ("te", "trailers")]);
    let with = |more: &[(&'static str, &[u8])]| {
        let mut headers = plain.clone();
        for (name, value) in more {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    };
    let mut many = plain.clone();
    for number in 0..1_000 {
        many.append(
            http::HeaderName::try_from(format!("x-{number}")).unwrap(),
            HeaderValue::from_static("v"),
        );
    }
    let sets: Vec<HeaderMap> = vec![
        with(&[("x-data-bin", b"*"), ("x-data-bin", b"AAE"), ("x-data-bin", b"AAE=")]),
        with(&[("x_user", b"under"), ("x-user", b"dash"), ("x.user", b"dot")]),
        with(&[("grpc-odd", b"1"), ("grpc-tags-bin", b"AA"), ("grpc-previous-rpc-attempts", b"3")]),
        with(&[("x-latin", b"\xe9\xff"), ("x-tab", b"a\tb"), ("x-long", &[b'v'; 8_000])]),
        many,
    ];
    for (index, headers) in sets.iter().enumerate() {
        let mut call = client.open_as(PATH, headers.clone()).await;
        call.send_last(b"x").await;
        assert_eq!(call.answer().await.status(), Some(0), "set {index}");
        assert!(upstream.requests()[index].headers == *headers, "set {index} was altered");
    }
    // Too many, by any measure: an error of its own, and nothing arrives.
    let mut most = plain.clone();
    for number in 0..4_000 {
        most.append(
            http::HeaderName::try_from(format!("x-{number}")).unwrap(),
            HeaderValue::from_static("v"),
        );
    }
    let mut call = client.open_as(PATH, most).await;
    call.send_raw(framed(0, b"x"), true).await;
    let answer = call.answer().await;
    assert!(answer.http == 431 || answer.broken.is_some(), "{answer:?}");
    assert_eq!(upstream.requests().len(), sets.len());
    assert_ne!(answer.broken, Some(Reason::NO_ERROR));
}
