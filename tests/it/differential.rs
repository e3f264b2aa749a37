//! Calls by chance, each once directly and once through the sidecar: both ends see the same.
//!
//! A call is a script for its server, which travels in a header, and what its caller sends. What was seen is compared
//! whole; only where the server breaks a stream off the sidecar has a status for it.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Answer, Client, Incoming, Request, Sidecar, Upstream, pinned};

const SCRIPT: &str = "x-script";

/// A call.
#[derive(Debug)]
struct Play {
    path: String,
    metadata: Vec<(String, String)>,
    messages: Vec<Vec<u8>>,
    /// Whether the last message ends the request, or a frame of its own does.
    ends_with_last: bool,
}

fn word(chance: &mut SmallRng, most: usize) -> String {
    (0..chance.random_range(1..=most)).map(|_| char::from(chance.random_range(b'a'..=b'z'))).collect()
}

fn value(chance: &mut SmallRng) -> String {
    let text: String =
        (0..chance.random_range(0..60)).map(|_| char::from(chance.random_range(0x20..0x7f))).collect();
    text.trim().to_owned()
}

fn bytes(chance: &mut SmallRng) -> Vec<u8> {
    let most = [0, 1, 100, 5_000, 70_000][chance.random_range(0..5)];
    let (length, byte) = (chance.random_range(0..=most), chance.random_range(0..=255));
    vec![byte; length]
}

/// What the server does, a word each: `r` reads a message, `a` all there are, `h` sends headers, `m123` a message of so many
/// bytes, and one of these ends it: `t5` trailers with that status, `o5` nothing but headers with it, `p503` an HTTP status,
/// `n` no trailers at all, `x8` a reset.
fn script(chance: &mut SmallRng) -> Vec<String> {
    let mut words = Vec::new();
    let steps = chance.random_range(0..6);
    let (mut spoke, mut all) = (false, false);
    for _ in 0..steps {
        match chance.random_range(0..6) {
            0 | 1 if !all => words.push("r".to_owned()),
            2 => {
                words.push("a".to_owned());
                all = true;
            }
            3 if !spoke => {
                words.push("h".to_owned());
                spoke = true;
            }
            _ => {
                words.push(format!("m{}", bytes(chance).len()));
                spoke = true;
            }
        }
    }
    if !all && chance.random_range(0..4) > 0 {
        words.push("a".to_owned());
    }
    let code = [0, 0, 0, 1, 3, 5, 8, 13, 14, 16, 17, 99][chance.random_range(0..12)];
    words.push(match chance.random_range(0..12) {
        0 | 1 if !spoke => format!("o{code}"),
        2 if !spoke => "p503".to_owned(),
        3 => "n".to_owned(),
        4 => format!("x{}", [2, 8, 11][chance.random_range(0..3)]),
        _ => format!("t{code}"),
    });
    words
}

fn play(chance: &mut SmallRng) -> Play {
    let mut metadata = vec![(SCRIPT.to_owned(), script(chance).join(" "))];
    for _ in 0..chance.random_range(0..6) {
        let name = format!("x-{}", word(chance, 6));
        metadata.push(match chance.random_range(0..3) {
            0 => (format!("{name}-bin"), ["AAEC", "", "/w", "AAA="][chance.random_range(0..4)].to_owned()),
            _ => (name, value(chance)),
        });
    }
    let messages = (0..chance.random_range(0..5)).map(|_| bytes(chance)).collect();
    let path = format!("/{}.{}/{}", word(chance, 5), word(chance, 8), word(chance, 8));
    Play { path, metadata, messages, ends_with_last: chance.random_range(0..2) == 0 }
}

async fn serve(mut incoming: Incoming) {
    let script = incoming.request().headers[SCRIPT].to_str().unwrap().to_owned();
    for step in script.split(' ') {
        let number = step[1..].parse::<u32>().unwrap_or_default();
        let text = number.to_string();
        match &step[..1] {
            "r" => drop(incoming.message().await),
            "a" => drop(incoming.messages().await),
            "h" => incoming.headers(&[("x-spoke", "first"), ("x-two", "1"), ("x-two", "2")]),
            "m" => incoming.send(&vec![7; number as usize]).await,
            "t" => {
                incoming.trailers(&[("grpc-status", &text), ("grpc-message", "50%25 %C3%BC"), ("x-end", "1")])
            }
            "o" => incoming.only(&[("grpc-status", &text), ("x-only", "1")]),
            "p" => incoming.http(503),
            "n" => drop(incoming.stream().map(|stream| stream.send_data(bytes::Bytes::new(), true))),
            "x" => incoming.reset(number.into()),
            other => panic!("{other} is no step"),
        }
    }
}

async fn call(client: &Client, play: &Play) -> Answer {
    let metadata: Vec<(&str, &str)> =
        play.metadata.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let mut call = client.open(&play.path, &metadata).await;
    let last = play.messages.len().wrapping_sub(1);
    let mut ended = false;
    for (index, message) in play.messages.iter().enumerate() {
        let ends = play.ends_with_last && index == last;
        // A server that has answered already takes no more.
        if !call.send_raw(crate::support::frame(0, message), ends).await {
            break;
        }
        ended = ends;
    }
    if !ended {
        call.end();
    }
    call.answer().await
}

/// What of a request must be the same.
fn seen(request: &Request) -> (&str, &http::HeaderMap, &[bytes::Bytes], bool) {
    (&request.path, &request.headers, &request.messages, request.ended)
}

async fn by_chance(count: usize, seed: u64) {
    let upstream = Upstream::start(serve).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let (mut direct, mut through) =
        (Client::connect(upstream.address()).await, Client::connect(sidecar.address).await);
    let mut chance = SmallRng::seed_from_u64(seed);
    for number in 0..count {
        let play = play(&mut chance);
        let before = upstream.requests().len();
        let (one, other) = (call(&direct, &play).await, call(&through, &play).await.untagged());
        let broke = one.broken.is_some();
        if broke {
            let failed = other.broken.is_some() || other.status().is_some_and(|code| code != 0);
            assert!(failed, "seed {seed}, call {number}: {play:?}: {one:?} became {other:?}");
        } else {
            assert_eq!(one, other, "seed {seed}, call {number}: {play:?}");
            let requests = upstream.requests();
            let [first, second] = &requests[before..] else {
                panic!("call {number} came {} times", requests.len() - before)
            };
            assert_eq!(seen(first), seen(second), "seed {seed}, call {number}: {play:?}");
        }
        if number % 500 == 499 {
            upstream.forget();
            // A connection has so many resets in it that are nobody's fault.
            (direct, through) =
                (Client::connect(upstream.address()).await, Client::connect(sidecar.address).await);
        }
    }
}

#[tokio::test]
async fn calls_by_chance_are_the_same_through_the_sidecar() {
    by_chance(300, 7).await;
}

#[tokio::test]
#[ignore = "minutes: cargo test --test it -- --ignored ten_thousand_calls"]
async fn ten_thousand_calls_by_chance_are_the_same_through_the_sidecar() {
    by_chance(10_000, 8).await;
}
