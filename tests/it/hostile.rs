//! Peers that break the rules, from both sides: what they did is ended and counted, and nobody beside them notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::support::attack::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Hostile, INFER, Mischief, PING,
    PRIORITY, RST_STREAM, Raw, SETTINGS, STREAM, block, call, frame, framed, message, open_call, reset,
    setting, window,
};
use crate::support::process::{self, LONG, Model, Sidecar, beside, infer, one, request};
use crate::support::{self, Upstream, pinned};

mod long;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const VIOLATED: &str = "parhelion_connections_total{event=\"violated\"}";
const TIMED_OUT: &str = "parhelion_connections_total{event=\"timed_out\"}";

/// A caller in good order, one call after the other, beside whatever goes on.
struct Neighbour {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    calls: tokio::task::JoinHandle<Vec<Status>>,
}

impl Neighbour {
    fn of(sidecar: &Sidecar) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let good = Arc::new(AtomicUsize::new(0));
        let (client, stopped, well) = (sidecar.client(), Arc::clone(&stop), Arc::clone(&good));
        let calls = beside(async move {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match infer(&client, "").await {
                    Ok(_) => drop(well.fetch_add(1, Ordering::Relaxed)),
                    Err(status) => failed.push(status),
                }
                sleep(Duration::from_millis(5)).await;
            }
            failed
        });
        Neighbour { stop, good, calls }
    }

    /// All of its calls went well so far, and so does a further one.
    async fn noticed_nothing(self) {
        let (before, start) = (self.good.load(Ordering::Relaxed), Instant::now());
        while self.good.load(Ordering::Relaxed) == before && start.elapsed() < LONG {
            sleep(Duration::from_millis(5)).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.calls.await.unwrap();
        assert!(failed.is_empty(), "failed: {failed:?}");
        assert!(self.good.load(Ordering::Relaxed) > before, "no further call went well");
    }
}

/// A sidecar before a model, and somebody who calls it in good order.
async fn street(config: &str) -> (Model, Sidecar, Neighbour) {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::ready(&format!("{}{config}", one(model.address))).await;
    infer(&sidecar.client(), "").await.unwrap();
    let neighbour = Neighbour::of(&sidecar);
    (model, sidecar, neighbour)
}

/// Calls of others than the neighbour that the model is at.
async fn abandoned(model: &Model) {
    process::until("the end of abandoned calls", || async { model.open() <= 1 }).await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let (model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    let mut sent = 0;
    for batch in 0..250u32 {
        let pair = |n: u32| {
            let stream = 2 * (batch * 20 + n) + 1;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &call(STREAM, &[("x-rapid", b"1")]));
            bytes.extend(frame(DATA, 0, stream, &message("sleep:60000")));
            bytes.extend(reset(stream, 8));
            bytes
        };
        if !raw.write(&(0..20).flat_map(pair).collect::<Vec<u8>>()).await {
            break;
        }
        sent += 20;
    }
    assert!(raw.closes(LONG).await, "open after {sent} streams");
    // A close in the middle of a flood may overtake the reason on its way.
    assert!(raw.last(GOAWAY).is_none_or(|goaway| goaway.code() == ENHANCE_YOUR_CALM));
    let reached = model.headers().iter().filter(|(name, _)| name == "x-rapid").count();
    assert!(reached <= 300, "{reached} reset streams reached the model");
    sidecar.counts(VIOLATED, 1).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

/// Makes the sidecar reset a stream that stays open upstream, in one of the known ways.
fn provoke(way: usize, stream: u32) -> Vec<u8> {
    let mut bytes = open_call(stream, "sleep:60000");
    match way {
        0 => bytes.extend(window(stream, 0x7fff_ffff)),
        1 => bytes.extend(frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[16]].concat())),
        2 => {
            bytes = frame(HEADERS, END_HEADERS, stream, &call(STREAM, &[("content-length", b"7")]));
            bytes.extend(frame(DATA, END_STREAM, stream, &message("sleep:60000")));
        }
        3 => bytes.extend(window(stream, 0)),
        _ => {
            bytes.extend(frame(DATA, END_STREAM, stream, &[]));
            bytes.extend(frame(DATA, 0, stream, &[0]));
        }
    }
    bytes
}

#[tokio::test]
async fn made_you_reset_ends_the_connection() {
    let (model, sidecar, neighbour) = street("").await;
    for way in 0..5 {
        let mut raw = Raw::greet(sidecar.data, &[]).await;
        for stream in (1..4000).step_by(2) {
            if !raw.write(&provoke(way, stream)).await {
                break;
            }
        }
        assert!(raw.closes(LONG).await, "way {way}: open, {} resets", raw.count(RST_STREAM));
        let resets = raw.count(RST_STREAM);
        assert!(resets <= 300, "way {way}: {resets} resets");
        assert!(raw.last(GOAWAY).is_none_or(|goaway| goaway.code() != 0), "way {way}");
        sidecar.counts(VIOLATED, way as u64 + 1).await;
        abandoned(&model).await;
    }
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn streams_over_the_limit_are_refused() {
    let (model, sidecar, neighbour) = street("limits: {streams: 10}\n").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    for n in 0..30 {
        raw.write(&open_call(2 * n + 1, "sleep:60000")).await;
    }
    let resets = |raw: &Raw| {
        let resets = raw.frames.iter().filter(|frame| frame.kind == RST_STREAM);
        resets.map(|frame| (frame.stream, frame.code())).collect::<Vec<(u32, u32)>>()
    };
    let refusals = |raw: &Raw| resets(raw).iter().filter(|(_, code)| *code == REFUSED_STREAM).count();
    assert!(raw.read_until(|raw| refusals(raw) >= 20, LONG).await, "{:?}", resets(&raw));
    // Their messages are answered once more, by STREAM_CLOSED.
    let resets = resets(&raw);
    assert!(resets.iter().all(|(stream, _)| *stream > 20), "{resets:?}");
    assert_eq!(refusals(&raw), 20, "{resets:?}");
    process::until("ten calls upstream", || async { model.open() >= 10 }).await;
    assert!(model.open() <= 11, "{} calls upstream", model.open());
    // Who does not listen to that is sent away.
    for n in 30..1000 {
        if !raw.write(&open_call(2 * n + 1, "sleep:60000")).await {
            break;
        }
    }
    assert!(raw.closes(LONG).await);
    sidecar.counts(VIOLATED, 1).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn floods_of_empty_data_end_the_connection() {
    let (model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    raw.write(&frame(HEADERS, END_HEADERS, 1, &call(INFER, &[]))).await;
    // A message has begun, so that somebody waits for more.
    raw.write(&frame(DATA, 0, 1, &[0, 0, 0, 4, 0])).await;
    let empty = frame(DATA, 0, 1, &[]).repeat(100);
    for _ in 0..500 {
        if !raw.write(&empty).await {
            break;
        }
    }
    assert!(raw.closes(LONG).await);
    sidecar.counts(VIOLATED, 1).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn floods_of_single_bytes_end_the_connection() {
    let (model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    let before = sidecar.resident();
    raw.write(&frame(HEADERS, END_HEADERS, 1, &call(STREAM, &[]))).await;
    // The model is at the first message and reads nothing meanwhile; a second has begun.
    raw.write(&frame(DATA, 0, 1, &[message("sleep:60000"), vec![0, 0, 16, 0, 0]].concat())).await;
    let bytes = frame(DATA, 0, 1, &[0]).repeat(1000);
    for _ in 0..300 {
        if !raw.write(&bytes).await {
            break;
        }
    }
    assert!(raw.closes(LONG).await, "300,000 frames were taken");
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    sidecar.counts(VIOLATED, 1).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn floods_of_continuation_end_the_connection() {
    let (_model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    raw.write(&frame(HEADERS, 0, 1, &call(INFER, &[]))).await;
    let mut sent = 0;
    for n in 0..10_000 {
        let name = format!("x-{n}");
        if !raw.write(&frame(CONTINUATION, 0, 1, &block(&[(&name, b"v")]))).await {
            break;
        }
        sent += 1;
    }
    assert!(raw.closes(LONG).await, "open after {sent} frames");
    sidecar.counts(VIOLATED, 1).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn a_header_list_over_the_limit_is_an_error_of_its_own() {
    let (model, sidecar, neighbour) = street("limits: {headers: 16KiB}\n").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    let before = model.calls();
    let long = call(INFER, &[("x-long", &[b'v'; 12 * 1024])]);
    raw.write(&frame(HEADERS, END_HEADERS, 1, &long)).await;
    raw.write(&frame(DATA, END_STREAM, 1, &message(""))).await;
    assert!(raw.read_until(|raw| raw.ended(1), LONG).await, "just below the limit: {:?}", raw.frames);

    // Two frames, for one holds no more than 16 KiB.
    let longer = call(INFER, &[("x-long", &[b'v'; 12 * 1024]), ("x-longer", &[b'v'; 12 * 1024])]);
    raw.write(&frame(HEADERS, 0, 3, &longer[..16_000])).await;
    raw.write(&frame(CONTINUATION, END_HEADERS, 3, &longer[16_000..])).await;
    raw.write(&frame(DATA, END_STREAM, 3, &message("too long"))).await;
    raw.write(&open_call(5, "")).await;
    raw.write(&frame(DATA, END_STREAM, 5, &[])).await;
    assert!(raw.read_until(|raw| raw.ended(5), LONG).await, "the connection lives");
    let refused = raw.reset_of(3).is_some() || raw.ended(3);
    assert!(refused, "stream 3: {:?}", raw.frames);
    assert!(!raw.closed);
    assert!(model.headers().iter().all(|(name, _)| name != "x-longer"));
    assert!(model.calls() > before);

    // A table entry of 4 KB, said three thousand times: 12 MB.
    let mut bomb = call(INFER, &[]);
    bomb.push(0x40);
    bomb.extend(&block(&[("x-bomb", &[b'v'; 4000])])[1..]);
    bomb.extend([0xbe; 3000]);
    let resident = sidecar.resident();
    raw.write(&frame(HEADERS, END_HEADERS, 7, &bomb)).await;
    assert!(raw.closes(LONG).await);
    let grown = sidecar.resident().saturating_sub(resident);
    assert!(grown < 4 * 1024, "{grown} KiB");
    sidecar.counts(VIOLATED, 1).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn floods_of_ping_hold_no_memory() {
    let (_model, sidecar, neighbour) = street("").await;
    let before = sidecar.resident();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let mut reader = Raw::greet(sidecar.data, &[]).await;
    for _ in 0..20 {
        reader.write(&pings).await;
    }
    let answered = reader.read_until(|raw| raw.count(PING) >= 20_000, LONG).await;
    assert!(answered || reader.closed, "{} answers", reader.count(PING));

    let mut deaf = Raw::greet(sidecar.data, &[]).await;
    let most = 64 << 20;
    let taken = deaf.flood_deaf(&pings, most).await;
    assert!(taken < most, "PINGs are taken for ever though no answer is read");
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn whoever_owes_something_is_sent_away_in_time() {
    let (_model, sidecar, neighbour) = street("limits: {handshake: 1s}\n").await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let acknowledged = frame(SETTINGS, 1, 0, &[]);
    let stages = [
        Vec::new(),
        attack::PREFACE[..10].to_vec(),
        attack::PREFACE.to_vec(),
        [attack::PREFACE, &settings].concat(),
        [attack::PREFACE, &settings, &acknowledged, &frame(HEADERS, 0, 1, &call(INFER, &[]))].concat(),
        [attack::PREFACE, &settings, &acknowledged, &frame(HEADERS, END_HEADERS, 1, &call(INFER, &[]))[..30]]
            .concat(),
    ];
    let mut idle = Raw::greet(sidecar.data, &[]).await;
    let start = Instant::now();
    let mut peers = Vec::new();
    for stage in stages.iter().flat_map(|stage| [stage, stage, stage]) {
        let mut raw = Raw::connect(sidecar.data).await;
        raw.write(stage).await;
        peers.push(raw);
    }
    for (index, peer) in peers.iter_mut().enumerate() {
        assert!(peer.closes(Duration::from_secs(4)).await, "stage {} is left alone", index / 3);
        assert!(start.elapsed() > Duration::from_millis(900), "stage {}: too early", index / 3);
    }
    sidecar.counts(TIMED_OUT, 18).await;
    assert!(!idle.closes(Duration::from_millis(10)).await, "whoever owes nothing may stay");
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn a_window_that_stays_shut_ends_the_stream() {
    let (model, sidecar, neighbour) = street("limits: {stall: 1s}\n").await;
    let before = sidecar.resident();
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut raw = Raw::greet(sidecar.data, &setting(4, 0)).await;
    for n in 0..20 {
        raw.write(&open_call(2 * n + 1, "size:2000000")).await;
        raw.write(&frame(DATA, END_STREAM, 2 * n + 1, &[])).await;
    }
    sleep(Duration::from_millis(500)).await;
    // At most a stream's window and what h2 reads ahead, of each.
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 20 * 1536, "{grown} KiB");
    let all = (0..20).map(|n| 2 * n + 1).collect::<Vec<u32>>();
    let over = |raw: &Raw| all.iter().all(|stream| raw.ended(*stream) || raw.reset_of(*stream).is_some());
    assert!(raw.read_until(over, Duration::from_secs(5)).await, "streams are held for ever");
    assert!(!raw.closed);
    sidecar.counts("parhelion_stalls_total", 20).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn a_lying_prefix_reserves_nothing() {
    let (model, sidecar, neighbour) = street("limits: {stall: 1s, message: 4MiB}\n").await;
    let before = sidecar.resident();
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    let largest = (4u32 << 20) - 1;
    for n in 0..100 {
        let path = if n % 2 == 0 { INFER } else { STREAM };
        raw.write(&frame(HEADERS, END_HEADERS, 2 * n + 1, &call(path, &[]))).await;
        raw.write(&frame(DATA, 0, 2 * n + 1, &[&[0][..], &largest.to_be_bytes()].concat())).await;
    }
    // And one that is over the limit: told at once.
    raw.write(&frame(HEADERS, END_HEADERS, 301, &call(INFER, &[]))).await;
    raw.write(&frame(DATA, 0, 301, &[0, 0x80, 0, 0, 0])).await;
    assert!(raw.read_until(|raw| raw.ended(301), Duration::from_millis(800)).await);
    sidecar.counts("parhelion_shed_total{cause=\"message\"}", 1).await;
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB");
    let over = |raw: &Raw| (0..100).all(|n| raw.ended(2 * n + 1) || raw.reset_of(2 * n + 1).is_some());
    assert!(raw.read_until(over, Duration::from_secs(5)).await, "unfinished messages are waited for");
    sidecar.counts("parhelion_stalls_total", 100).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn http1_is_told_what_this_port_speaks() {
    let (_model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::connect(sidecar.data).await;
    raw.write(b"POST /inference.GRPCInferenceService/ModelInfer HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = raw.text().await;
    assert!(text.starts_with("HTTP/1.1 505 "), "{text}");
    assert!(text.ends_with("This port speaks gRPC over HTTP/2 only"), "{text}");
    sidecar.counts(VIOLATED, 1).await;
    neighbour.noticed_nothing().await;
}

/// A request that a library sends but gRPC may not like, and the answer: HTTP status, gRPC status.
async fn ask(
    address: std::net::SocketAddr,
    method: Method,
    headers: &[(&'static str, &str)],
    body: Vec<u8>,
) -> (u16, Option<u32>) {
    let (mut send, connection) =
        h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    beside(connection);
    let mut request = http::Request::builder().method(method).uri(format!("http://test{INFER}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let _ = stream.send_data(Bytes::from(body), true);
    let status = |headers: &HeaderMap| {
        headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
    };
    let exchange = async {
        let response = response.await?;
        let (http, early) = (response.status().as_u16(), status(response.headers()));
        let mut body = response.into_body();
        while let Some(chunk) = body.data().await {
            body.flow_control().release_capacity(chunk?.len())?;
        }
        let late = body.trailers().await?.as_ref().and_then(status);
        Ok::<_, h2::Error>((http, early.or(late)))
    };
    match timeout(LONG, exchange).await.unwrap() {
        Ok(answer) => answer,
        Err(error) => (0, error.reason().map(u32::from)),
    }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");
const TE: (&str, &str) = ("te", "trailers");

#[tokio::test]
async fn what_is_not_grpc_is_refused_before_any_model() {
    let (model, sidecar, neighbour) = street("").await;
    neighbour.noticed_nothing().await;
    let before = model.calls();
    let good = message("");
    for (method, headers, answer) in [
        (Method::GET, vec![GRPC, TE], (405, None)),
        (Method::PUT, vec![GRPC, TE], (405, None)),
        (Method::POST, vec![("content-type", "application/json"), TE], (415, None)),
        (Method::POST, vec![("content-type", "application/grpc-web"), TE], (415, None)),
        (Method::POST, vec![TE], (415, None)),
        (Method::POST, vec![GRPC], (400, None)),
        (Method::POST, vec![GRPC, TE, ("grpc-timeout", "1x")], (200, Some(13))),
        (Method::POST, vec![GRPC, TE, ("grpc-timeout", "-1S")], (200, Some(13))),
        (Method::POST, vec![GRPC, TE, ("grpc-timeout", "123456789S")], (200, Some(13))),
    ] {
        let found = ask(sidecar.data, method.clone(), &headers, good.clone()).await;
        assert_eq!(found, answer, "{method} {headers:?}");
    }
    assert_eq!(model.calls(), before);
    infer(&sidecar.client(), "").await.unwrap();
}

#[tokio::test]
async fn odd_messages_are_for_the_server_to_judge() {
    let (model, sidecar, neighbour) = street("").await;
    let plain = message("");
    let payload = &plain[5..];
    let bodies = [
        ("flag 2", framed(2, payload)),
        ("flag 255", framed(255, payload)),
        ("compressed without an encoding", framed(1, payload)),
        ("cut in the prefix", plain[..3].to_vec()),
        ("cut in the message", plain[..plain.len() - 1].to_vec()),
        ("nothing", Vec::new()),
        ("not an inference request", framed(0, &[0xff; 20])),
        ("two messages on a unary method", [&plain[..], &plain].concat()),
    ];
    for (what, body) in bodies {
        let direct = ask(model.address, Method::POST, &[GRPC, TE], body.clone()).await;
        let through = ask(sidecar.data, Method::POST, &[GRPC, TE], body).await;
        assert_eq!(through, direct, "{what}");
    }
    neighbour.noticed_nothing().await;
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
}

#[tokio::test]
async fn headers_that_break_http_never_reach_a_model() {
    let (model, sidecar, neighbour) = street("").await;
    neighbour.noticed_nothing().await;
    let before = model.calls();
    let with = |more: &[(&str, &[u8])]| call(INFER, more);
    let path: (&str, &[u8]) = (":path", INFER.as_bytes());
    let blocks: Vec<(&str, Vec<u8>)> = vec![
        ("upper case", with(&[("X-Upper", b"1")])),
        ("connection", with(&[("connection", b"close")])),
        ("transfer-encoding", with(&[("transfer-encoding", b"chunked")])),
        ("te other than trailers", with(&[("te", b"gzip")])),
        ("a second path", with(&[path])),
        (
            "an unknown pseudo header",
            block(&[(":odd", b"1"), (":method", b"POST"), (":scheme", b"http"), path]),
        ),
        (
            "no path",
            block(&[(":method", b"POST"), (":scheme", b"http"), ("content-type", b"application/grpc")]),
        ),
        ("NUL", with(&[("x-value", b"a\0b")])),
        ("CR LF", with(&[("x-value", b"a\r\nx-smuggled: 1")])),
        ("a blank in a name", with(&[("x value", b"1")])),
    ];
    for (what, headers) in blocks {
        let mut raw = Raw::greet(sidecar.data, &[]).await;
        raw.write(&frame(HEADERS, END_HEADERS, 1, &headers)).await;
        raw.write(&frame(DATA, END_STREAM, 1, &message("bad"))).await;
        let refused =
            raw.read_until(|raw| raw.reset_of(1).is_some() || raw.ended(1) || raw.closed, LONG).await;
        assert!(refused, "{what}: {:?}", raw.frames);
        if let Some(code) = raw.reset_of(1) {
            assert_eq!(code, PROTOCOL_ERROR, "{what}");
        }
        assert_eq!(model.calls(), before, "{what}: it reached the model");
    }
    infer(&sidecar.client(), "").await.unwrap();
}

#[tokio::test]
async fn many_small_answers_at_once_are_no_flood() {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::ready(&one(model.address)).await;
    let client = sidecar.client();
    infer(&client, "").await.unwrap();
    for round in 0..3 {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let client = client.clone();
                beside(async move { infer(&client, "sleep:500").await })
            })
            .collect();
        process::until("all calls upstream", || async { model.open() >= 400 }).await;
        // The answers pile up before a process that does not run, and are read all at once.
        sidecar.signal("STOP");
        sleep(Duration::from_millis(700)).await;
        sidecar.signal("CONT");
        for call in calls {
            let answer = call.await.unwrap();
            assert!(answer.is_ok(), "round {round}: {answer:?}");
        }
    }
    let connected = sidecar.metric("parhelion_upstream_connections_total{event=\"connected\"}").await;
    assert_eq!(connected, 1, "the upstream connection was given up");
    assert_eq!(sidecar.metric("parhelion_retries_total").await, 0);
}

#[tokio::test]
async fn running_out_of_descriptors_harms_nobody_who_is_in() {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::start_with(&one(model.address), &[], Some(64)).await;
    sidecar.become_ready().await;
    infer(&sidecar.client(), "").await.unwrap();
    let neighbour = Neighbour::of(&sidecar);
    sleep(Duration::from_millis(100)).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        if let Ok(Ok(stream)) = timeout(Duration::from_secs(2), TcpStream::connect(sidecar.data)).await {
            held.push(stream);
        }
    }
    sleep(Duration::from_millis(300)).await;
    let before = sidecar.processor_time();
    sleep(Duration::from_millis(1500)).await;
    let used = sidecar.processor_time() - before;
    assert!(used < Duration::from_millis(600), "{used:?} of processor time in 1.5 s");
    drop(held);
    let start = Instant::now();
    infer(&sidecar.client(), "").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    neighbour.noticed_nothing().await;
    sidecar.counts("parhelion_accept_errors_total", 1).await;
}

fn headers_of(stream: u32, flags: u8, headers: &[(&str, &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(headers))
}

fn bomb(stream: u32) -> Vec<u8> {
    let mut payload = block(&[(":status", b"200")]);
    payload.push(0x40);
    payload.extend(&block(&[("x-bomb", &[b'v'; 4000])])[1..]);
    payload.extend([0xbe; 3000]);
    frame(HEADERS, END_HEADERS, stream, &payload)
}

fn interim(stream: u32) -> Vec<u8> {
    headers_of(stream, 0, &[(":status", b"100")]).repeat(20_000)
}

/// Each thing a server may do wrong, and what its caller is told.
pub(crate) fn mischiefs() -> Vec<(&'static str, Mischief, Code)> {
    let plain = |bytes| Mischief { opened: false, bytes, hang_up: false, times: 1 };
    let opened = |bytes| Mischief { opened: true, ..plain(bytes) };
    let cut = |mischief: Mischief| Mischief { hang_up: true, ..mischief };
    vec![
        ("garbage", plain(|_| vec![0xff; 4096]), Code::Internal),
        ("hangs up", cut(plain(|_| Vec::new())), Code::Unavailable),
        ("hangs up in the answer", cut(opened(|_| Vec::new())), Code::Unavailable),
        ("a frame too large", plain(|id| frame(DATA, 0, id, &[0; 20_000])), Code::Internal),
        ("INTERNAL_ERROR", plain(|id| reset(id, 2)), Code::Internal),
        ("ENHANCE_YOUR_CALM", plain(|id| reset(id, 11)), Code::ResourceExhausted),
        ("CANCEL after an answer began", opened(|id| reset(id, 8)), Code::Cancelled),
        ("REFUSED_STREAM after an answer began", opened(|id| reset(id, 7)), Code::Unavailable),
        ("many resets", plain(|id| reset(id, 2).repeat(5000)), Code::Internal),
        ("no trailers", opened(|id| frame(DATA, END_STREAM, id, &[])), Code::Unknown),
        ("no status", opened(|id| headers_of(id, END_STREAM, &[("x-odd", b"1")])), Code::Unknown),
        (
            "a status that is none",
            opened(|id| headers_of(id, END_STREAM, &[("grpc-status", b"odd")])),
            Code::Unknown,
        ),
        ("HTTP 503", plain(|id| headers_of(id, END_STREAM, &[(":status", b"503")])), Code::Unavailable),
        ("a header bomb", plain(bomb), Code::Internal),
        ("interim answers for ever", plain(|id| [interim(id), reset(id, 2)].concat()), Code::Internal),
        (
            "a storm of GOAWAY",
            plain(|id| {
                let goaway = [&id.to_be_bytes()[..], &[0; 4]].concat();
                [frame(GOAWAY, 0, 0, &goaway).repeat(5000), reset(id, 2)].concat()
            }),
            Code::Internal,
        ),
        ("a window that overflows", plain(|_| window(0, 0x7fff_ffff)), Code::Internal),
        ("DATA before headers", plain(|id| frame(DATA, 0, id, &[0; 9])), Code::Internal),
        (
            "CONTINUATION for ever",
            plain(|id| {
                let more = frame(CONTINUATION, 0, id, &block(&[("x", b"y")])).repeat(5000);
                [frame(HEADERS, 0, id, &block(&[(":status", b"200")])), more].concat()
            }),
            Code::Internal,
        ),
    ]
}

#[tokio::test]
async fn a_hostile_server_gives_each_caller_one_status() {
    let cases = mischiefs();
    let mut config = "models:\n".to_owned();
    let mut servers = Vec::new();
    for (index, (_, mischief, _)) in cases.iter().enumerate() {
        let server = Hostile::start(mischief.clone()).await;
        config += &format!("  m{index}: {{variants: {{v1: {{endpoint: 'http://{}'}}}}}}\n", server.address);
        servers.push(server);
    }
    let sidecar = Sidecar::start(&format!("default: m0\n{config}limits: {{stall: 2s}}\n")).await;
    sidecar.counts("parhelion_endpoint_ready", cases.len() as u64).await;
    let before = sidecar.resident();
    let mut wrong = Vec::new();
    for (index, (what, _, code)) in cases.iter().enumerate() {
        let ask = || async {
            let mut asked = request("");
            asked.model_name = format!("m{index}");
            let patience = Duration::from_secs(4);
            let answer = timeout(patience, sidecar.client().model_infer(asked)).await;
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no status in time")))
        };
        match ask().await {
            Err(status) if status.code() == *code => {}
            other => wrong.push(format!("{what}: {other:?}")),
        }
        // The next call finds a server in good order, over a connection in good order.
        let next = ask().await;
        if next.is_err() {
            wrong.push(format!("after {what}: {next:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_and_nobody_sees_it() {
    let server =
        Hostile::start(Mischief { opened: false, bytes: |id| reset(id, 7), hang_up: false, times: 1 }).await;
    let sidecar = Sidecar::ready(&one(server.address)).await;
    infer(&sidecar.client(), "").await.unwrap();
    assert_eq!(server.calls.load(Ordering::Relaxed), 2);
    assert_eq!(sidecar.metric("parhelion_retries_total{result=\"sent\"}").await, 1);
}

#[tokio::test]
async fn a_server_that_reads_nothing_does_not_stop_its_callers_other_calls() {
    let model = Model::start("1.0.0");
    let never = Mischief { opened: false, bytes: |_| Vec::new(), hang_up: false, times: usize::MAX };
    let stuck = Hostile::start(never).await;
    let config = format!(
        "{}  stuck: {{variants: {{v1: {{endpoint: 'http://{}'}}}}}}\ndefault: m\n",
        one(model.address),
        stuck.address
    );
    let sidecar = Sidecar::start(&config).await;
    sidecar.counts("parhelion_endpoint_ready", 2).await;
    // All on one connection, as callers do.
    let client = sidecar.client();
    let large = |name: &str| {
        let mut large = request("");
        large.model_name = name.to_owned();
        large.raw_input_contents = vec![vec![1; 2 << 20].into()];
        large
    };
    for _ in 0..20 {
        let (mut client, large) = (client.clone(), large("stuck"));
        beside(async move { client.model_infer(large).await });
    }
    process::until("all calls at the server", || async { stuck.calls.load(Ordering::Relaxed) >= 20 }).await;
    sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    let answer = timeout(Duration::from_secs(5), client.clone().model_infer(large("m"))).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()), "it waited for {:?}", start.elapsed());
}

/// As grpc-js does: the end of a request is a frame of its own. A server that has the one message answers before it.
#[tokio::test]
async fn a_request_that_ends_after_its_answer_is_nothing_wrong() {
    let upstream = Upstream::start(|mut incoming| async move {
        let message = incoming.message().await.unwrap_or_default();
        incoming.send(&message).await;
        incoming.trailers(&[("grpc-status", "0")]);
        incoming.messages().await;
    })
    .await;
    let sidecar = support::Sidecar::start(&pinned(&[&upstream.url])).await;
    let mut raw = Raw::greet(sidecar.address, &[]).await;
    for number in 0..600 {
        let stream = 2 * number + 1;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &call("/any.Service/Method", &[]));
        bytes.extend(frame(DATA, 0, stream, &framed(0, b"hello")));
        assert!(raw.write(&bytes).await, "{number}");
        assert!(raw.read_until(|raw| raw.ended(stream), LONG).await, "{number}: {:?}", raw.last(GOAWAY));
        assert!(raw.write(&frame(DATA, END_STREAM, stream, &[])).await, "{number}");
    }
    assert_eq!((raw.count(RST_STREAM), raw.count(GOAWAY), raw.closed), (0, 0, false));
}
