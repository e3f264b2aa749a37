//! What callers claim: no header, path or authority chooses a variant or a server for them.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use parhelion::telemetry::counter::Counter;
use tokio::net::TcpListener;

use crate::support::attack::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, block, frame, framed};
use crate::support::{Client, Incoming, Sidecar, Upstream, soon};

const PATH: &str = "/any.Service/Method";

/// Names that somebody might hope to be heard by, with a value that says `v1` or `v2`.
fn claims(variant: &str) -> Vec<(String, String)> {
    let names = [
        "parhelion-variant",
        "parhelion_variant",
        "x-parhelion-variant",
        "parhelion-hop",
        "parhelion-force",
        "parhelion-assigned",
        "parhelion-rollout",
        "parhelion-shadow",
        "parhelion-fallback-from",
        "parhelion-model-version",
        "parhelion-prediction-id",
        "parhelion-warmup",
        "parhelion-role",
        "x-variant",
        "x-model-variant",
        "x-canary",
        "mm-model-id",
        "mm-vmodel-id",
        "x-envoy-original-dst-host",
        "x-forwarded-host",
        "l5d-dst-override",
        "baggage",
        "tracestate",
        "cookie",
    ];
    let mut all: Vec<(String, String)> =
        names.iter().map(|name| ((*name).to_owned(), variant.to_owned())).collect();
    let hop = |key: &str| format!("1.{key}.{}.{variant}.{}", "0".repeat(32), "0".repeat(32));
    for key in ["0", "1", "fuzz", "", "2026a"] {
        all.push(("parhelion-hop".to_owned(), hop(key)));
    }
    all.push(("baggage".to_owned(), format!("parhelion-variant={variant},variant={variant}")));
    all
}

#[tokio::test]
async fn claims_in_headers_choose_no_variant_and_go_no_further() {
    let servers = [Upstream::start(Incoming::echo).await, Upstream::start(Incoming::echo).await];
    let config = format!(
        "services: {{any.Service: m}}\nmodels: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}}}, unit: [metadata:x-user], \
         strategy: {{kind: ab, weights: {{v1: 50%, v2: 50%}}}}}}}}\n",
        servers[0].url, servers[1].url
    );
    let sidecar = Sidecar::start(&config).await;
    let client = Client::connect(sidecar.address).await;
    let variant = async |user: &str, more: &[(&str, &str)]| {
        let headers = [&[("x-user", user)], more].concat();
        let answer = client.unary(PATH, &headers, b"hello").await;
        assert_eq!(answer.status(), Some(0), "{more:?}: {}", answer.message());
        answer.header("parhelion-variant").unwrap().to_owned()
    };
    let (mut tried, mut seen) = (0, Vec::new());
    for user in 0..40 {
        let user = format!("user-{user}");
        let own = variant(&user, &[]).await;
        let other = if own == "v1" { "v2" } else { "v1" };
        for (name, value) in claims(other) {
            let heard = variant(&user, &[(&name, &value)]).await;
            assert_eq!(heard, own, "{name}: {value} was heard");
            tried += 1;
        }
        seen.push(own);
    }
    assert!(tried >= 1_000 && seen.contains(&"v1".to_owned()) && seen.contains(&"v2".to_owned()));
    assert!(sidecar.count(Counter::ForceStripped) >= 40 && sidecar.count(Counter::HopUnverified) >= 40);
    for request in servers.iter().flat_map(Upstream::requests) {
        for name in ["parhelion-variant", "parhelion-hop"] {
            assert!(!request.headers.contains_key(name), "{name} went on: {:?}", request.headers);
        }
    }
}

#[tokio::test]
async fn nothing_in_a_request_chooses_the_server() {
    let decoy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = decoy.local_addr().unwrap().to_string();
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&crate::support::pinned(&[&upstream.url])).await;
    let absolute = format!("http://{at}{PATH}");
    let user = format!("{at}@test");
    let paths = [
        PATH,
        &absolute,
        &format!("//{at}{PATH}"),
        &format!("/%2f%2f{at}{PATH}"),
        &format!("/;{at}{PATH}"),
        &format!("{PATH}?host={at}"),
        &format!("{PATH};v=v2"),
        &format!("/../{at}{PATH}"),
        &format!("\\\\{at}{PATH}"),
        "/any.Service//Method",
        "/any.Service/%4dethod",
        "/",
        "*",
    ];
    let mut answered = 0;
    for path in paths {
        for authority in [b"test".as_slice(), at.as_bytes(), user.as_bytes(), b""] {
            for scheme in [b"http".as_slice(), b"https", b"unix"] {
                let fields: Vec<(&str, &[u8])> = vec![
                    (":method", b"POST"),
                    (":scheme", scheme),
                    (":path", path.as_bytes()),
                    (":authority", authority),
                    ("content-type", b"application/grpc"),
                    ("te", b"trailers"),
                    ("x-forwarded-host", at.as_bytes()),
                    ("x-envoy-original-dst-host", at.as_bytes()),
                    ("forwarded", b"host=decoy"),
                ];
                let mut raw = Raw::greet(sidecar.address, &[]).await;
                raw.write(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
                raw.write(&frame(DATA, END_STREAM, 1, &framed(0, b"hello"))).await;
                let done = |raw: &Raw| raw.ended(1) || raw.reset_of(1).is_some();
                raw.read_until(done, Duration::from_secs(10)).await;
                assert!(done(&raw) || raw.closed, "{path} {authority:?} {scheme:?}: no word");
                answered += usize::from(raw.ended(1));
            }
        }
    }
    assert!(answered >= 12, "{answered}: the plain ones at least");
    // Each that went anywhere went to the one server there is.
    assert!(!upstream.requests().is_empty());
    let came = poll_fn(|cx| Poll::Ready(decoy.poll_accept(cx).is_ready())).await;
    assert!(!came, "somebody was sent to {at}");
    // And the decoy is one that can be reached.
    let knock = soon("a knock", tokio::net::TcpStream::connect(decoy.local_addr().unwrap())).await;
    assert!(knock.is_ok() && soon("the knock", decoy.accept()).await.is_ok());
}
