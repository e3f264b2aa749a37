//! Secrets and payloads go where they are meant to go and nowhere else: marked ones are sent through everything that
//! can fail, and then looked for in all that the process tells.

use std::time::Duration;

use h2::Reason;
use parhelion::pb::inference::ModelInferRequest;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::collector::Stub;
use crate::support::process::{Sidecar, get, until};
use crate::support::tls::{Authority, GOOD};
use crate::support::{Client, Incoming, Upstream, oip, pairs};

/// Every secret has this in it.
const MARK: &str = "zqsecret";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Does what the call's header asks for. What a server says of a failure is part of the span, so that has no mark.
async fn fail(mut incoming: Incoming) {
    let how = incoming.request().headers.get("x-how").map(|how| how.to_str().unwrap().to_owned());
    let _ = incoming.message().await;
    match how.as_deref() {
        Some("status") => incoming.only(&[("grpc-status", "13"), ("grpc-message", "no such thing")]),
        Some("invalid") => incoming.only(&[("grpc-status", "3"), ("grpc-message", "no such thing")]),
        Some("reset") => incoming.reset(Reason::INTERNAL_ERROR),
        Some("garbage") => {
            incoming.headers(&[]);
            incoming.send_raw(format!("\u{7}\0\0\0\u{9}{MARK}-garbage").into()).await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
        _ => oip::serve(incoming).await,
    }
}

#[tokio::test]
async fn marked_secrets_are_found_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // 32 hexadecimal digits each: the marks of files are their whole text.
    let (token, key) = ("feedfacefeedfacefeedfacefeedface", "deadbeef".repeat(8));
    std::fs::write(path("tokens"), format!("ann act {token}\n")).unwrap();
    std::fs::write(path("keys"), format!("2026a {key}\n")).unwrap();
    let pair = Authority::new().sign("localhost", GOOD);
    pair.write(folder.path(), "tls");
    let private = pair.key.lines().nth(1).unwrap().to_owned();

    let (first, second) = (Upstream::start(fail).await, Upstream::start(fail).await);
    let collector = Stub::start();
    let config = format!(
        "control: {{tokens: {}}}\nkeys: {}\ntls: {{admin: {{cert: {}, key: {}}}}}\nlimits: {{message: 64KiB, stall: 1s}}\n\
         telemetry: {{otlp: 'http://{}', sample: 100%}}\n\
         models:\n  m:\n    variants:\n      v1: {{endpoint: '{}'}}\n      v2: {{endpoint: '{}'}}\n    \
         unit: [metadata:x-user]\n    force: {{match: {{metadata: {{x-role: {MARK}-role}}}}}}\n    \
         strategy: {{kind: ab, weights: {{v1: 50%, v2: 50%}}}}\n",
        path("tokens"),
        path("keys"),
        path("tls.crt"),
        path("tls.key"),
        collector.address,
        first.url,
        second.url,
    );
    let set = [("RUST_LOG", "trace"), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let sidecar = Sidecar::start_with(&config, &set, None).await;
    sidecar.become_ready().await;

    let secret = |name: &str| format!("{MARK}-{name}");
    let mut request =
        ModelInferRequest::decode(&oip::request("m", &[("user", &secret("parameter"))], 64)[..]).unwrap();
    request.raw_input_contents = vec![secret("tensor").into()];
    let message = request.encode_to_vec();
    let client = Client::connect(sidecar.data).await;
    let values: Vec<(&str, String)> = vec![
        ("authorization", format!("Bearer {}", secret("bearer"))),
        ("cookie", secret("cookie")),
        ("x-user", secret("user")),
        ("x-role", secret("guess")),
        ("x-key-bin", "enFzZWNyZXQ".to_owned()),
        ("parhelion-variant", secret("variant")),
        ("parhelion-hop", secret("hop")),
        ("baggage", format!("token={}", secret("baggage"))),
    ];
    let mut calls = 0;
    for how in ["", "status", "invalid", "reset", "garbage"] {
        for more in [&[][..], &[("grpc-timeout", "zqsecret")], &[("grpc-timeout", "1n")]] {
            let mut headers: Vec<(&str, &str)> =
                values.iter().map(|(name, value)| (*name, &**value)).collect();
            headers.push(("x-how", how));
            headers.extend(more);
            let _ = client.unary(INFER, &headers, &message).await;
            calls += 1;
        }
    }
    // Messages that are no messages, too long, or cut in the middle; feedback by a forged id.
    for bytes in [secret("noise").into_bytes(), secret("long").repeat(10_000).into_bytes()] {
        let _ = client.unary(INFER, &[("x-user", &secret("user"))], &bytes).await;
        let _ = client.unary("/parhelion.v1.Feedback/ReportFeedback", &[], &bytes).await;
        calls += 1;
    }
    let mut cut =
        client.open_as(INFER, pairs(&[("content-type", "application/grpc"), ("te", "trailers")])).await;
    cut.send_raw(format!("\0\0\0\u{1}\0{MARK}-cut"), false).await;
    cut.reset(Reason::CANCEL);
    // What is no HTTP/2, on every port.
    for port in [sidecar.data, sidecar.health, sidecar.admin] {
        let mut socket = TcpStream::connect(port).await.unwrap();
        let _ =
            socket.write_all(format!("GET /{MARK}-path HTTP/1.1\r\ncookie: {MARK}\r\n\r\n").as_bytes()).await;
    }
    // Files that are broken while it runs.
    std::fs::write(path("tokens"), format!("ann act {MARK}-token\n")).unwrap();
    std::fs::write(
        path("tls.key"),
        format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n"),
    )
    .unwrap();
    sidecar.counts("parhelion_certificate_reloads_total{result=\"refused\"}", 1).await;
    until("spans", || async { collector.spans().len() >= calls / 2 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    let spans = format!("{:?}", collector.spans());
    let metrics = get(sidecar.health, "/metrics").await.1;
    let ready = get(sidecar.health, "/readyz").await.1;
    let log = sidecar.log();
    for (place, text) in [("the log", &log), ("metrics", &metrics), ("/readyz", &ready), ("spans", &spans)] {
        assert!(!text.is_empty(), "{place} is empty");
        for mark in [MARK, "enFzZWNyZXQ", token, &key, &private] {
            let found = text.find(mark).map(|at| &text[at.saturating_sub(200)..(at + 100).min(text.len())]);
            assert_eq!(found, None, "{mark} is in {place}");
        }
    }
    // Each record is one line that can be read.
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no record: {line}");
    }
    // The marks were really sent: the server saw them.
    let seen = [first.requests(), second.requests()].concat();
    assert!(
        seen.iter()
            .any(|request| request.headers.get("cookie").is_some_and(|value| value == "zqsecret-cookie"))
    );
}
