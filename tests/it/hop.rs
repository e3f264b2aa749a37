//! Two sidecars in one path: the first decides and tags, the second passes on, and there is no third.

use std::path::Path;

use parhelion::assignment::Reason;
use parhelion::telemetry::counter::Counter;

use crate::support::oip::{self, INFER};
use crate::support::{Client, Incoming, Sidecar, Upstream, eventually};

/// Spans must go somewhere for traces to be continued; that nobody listens there is of no concern.
const TRACED: &str = "telemetry: {otlp: \"http://127.0.0.1:1\", sample: 100%}\n";

fn keys(folder: &Path, name: &str, digit: char) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("{name} {}\n", String::from(digit).repeat(64))).unwrap();
    format!("keys: {}\n", path.display())
}

/// Model `m`, split evenly by user over `v1` and `v2`.
fn split(v1: &str, v2: &str, hop: bool) -> String {
    format!(
        "models:\n  m:\n    variants:\n      v1: {{endpoint: {{url: \"{v1}\", hop: {hop}}}, version: \"1\"}}\n      \
         v2: {{endpoint: {{url: \"{v2}\", hop: {hop}}}, version: \"2\"}}\n    unit: [metadata:x-user]\n    \
         strategy: {{kind: ab, baseline: v1, weights: {{v1: 50%, v2: 50%}}}}\n{TRACED}"
    )
}

/// A first sidecar before a second one, which has a server for each variant.
struct Path2 {
    first: Sidecar,
    second: Sidecar,
    client: Client,
    servers: [Upstream; 2],
    _folder: tempfile::TempDir,
}

impl Path2 {
    async fn new(same_keys: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mine = keys(folder.path(), "a", '1');
        let other = if same_keys { mine.clone() } else { keys(folder.path(), "b", '2') };
        let servers = [Upstream::start(oip::serve).await, Upstream::start(oip::serve).await];
        // The second one would split otherwise: everything to v1, but for what was decided before.
        let behind =
            split(&servers[0].url, &servers[1].url, false).replace("v1: 50%, v2: 50%", "v1: 100%, v2: 0%");
        let second = Sidecar::start(&format!("{other}{behind}")).await;
        let there = format!("http://{}", second.address);
        let first = Sidecar::start(&format!("{mine}{}", split(&there, &there, true))).await;
        let client = Client::connect(first.address).await;
        Path2 { first, second, client, servers, _folder: folder }
    }
}

#[tokio::test]
async fn the_first_sidecar_decides_and_the_second_obeys() {
    let path = Path2::new(true).await;
    let mut got = [0, 0];
    for user in 0..40 {
        let metadata = [("x-user", &*user.to_string())];
        let answer = path.client.unary(INFER, &metadata, &oip::request("m", &[], 10)).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        let variant = answer.header("parhelion-variant").unwrap();
        for name in ["variant", "model-version", "rollout", "prediction-id"] {
            assert_eq!(answer.headers.get_all(format!("parhelion-{name}")).iter().count(), 1);
        }
        got[usize::from(variant == "v2")] += 1;
        assert_eq!(path.servers.each_ref().map(|server| server.requests().len()), got);
    }
    assert!(got[0] > 5 && got[1] > 5, "{got:?}");
    eventually("all counted", || (path.second.assigned(Reason::Hop) == 40).then_some(())).await;
    assert_eq!(path.first.assigned(Reason::Split), 40);
    assert_eq!(path.second.count(Counter::HopUnverified), 0);
    for request in path.servers.iter().flat_map(Upstream::requests) {
        assert!(request.headers.keys().all(|name| !name.as_str().starts_with("parhelion-")), "{request:?}");
    }
}

#[tokio::test]
async fn the_trace_goes_on_through_both() {
    let path = Path2::new(true).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let metadata =
        [("traceparent", &*parent), ("tracestate", "vendor=1,other=2"), ("baggage", "user=1;secret,b=2")];
    path.client.unary(INFER, &metadata, &oip::request("m", &[], 10)).await;
    let requests: Vec<_> = path.servers.iter().flat_map(Upstream::requests).collect();
    let headers = &requests[0].headers;
    let seen = headers["traceparent"].to_str().unwrap();
    assert!(seen.starts_with(&format!("00-{trace}-")) && seen.ends_with("-01"), "{seen}");
    assert_ne!(seen, parent, "it is the span of an attempt, not the caller's");
    assert_eq!(headers["tracestate"], "vendor=1,other=2");
    assert_eq!(headers["baggage"], "user=1;secret,b=2");
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
}

#[tokio::test]
async fn a_hop_of_another_key_is_taken_away_and_the_call_is_like_any_other() {
    let path = Path2::new(false).await;
    for user in 0..20 {
        let metadata = [("x-user", &*user.to_string())];
        let answer = path.client.unary(INFER, &metadata, &oip::request("m", &[], 10)).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        assert_eq!(answer.headers.get_all("parhelion-variant").iter().count(), 1);
    }
    eventually("all counted", || (path.second.assigned(Reason::Split) == 20).then_some(())).await;
    assert_eq!(path.second.count(Counter::HopUnverified), 20);
    // The second one decides for itself.
    assert_eq!(path.servers.each_ref().map(|server| server.requests().len()), [20, 0]);
    assert!(path.servers[0].requests().iter().all(|one| !one.headers.contains_key("parhelion-hop")));
}

#[tokio::test]
async fn a_second_hop_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path(), "a", '1');
    let server = Upstream::start(Incoming::echo).await;
    let third = Sidecar::start(&format!("{keys}{}", split(&server.url, &server.url, false))).await;
    let there = format!("http://{}", third.address);
    let second = Sidecar::start(&format!("{keys}{}", split(&there, &there, true))).await;
    let there = format!("http://{}", second.address);
    let first = Sidecar::start(&format!("{keys}{}", split(&there, &there, true))).await;
    let client = Client::connect(first.address).await;
    let answer = client.unary(INFER, &[], &oip::request("m", &[], 10)).await;
    assert_eq!(answer.status(), Some(9), "{answer:?}");
    assert!(answer.message().contains("another sidecar"), "{}", answer.message());
    // A refusal like any other: what v2 refuses, v1 is asked.
    let asked = 1 + u64::from(answer.header("parhelion-fallback-from").is_some());
    assert_eq!((second.count(Counter::HopRefused), first.count(Counter::HopRefused)), (asked, 0));
    assert_eq!(server.requests().len(), 0);
    assert!(answer.header("parhelion-variant").is_some(), "the first one tags it");
    // Straight to the second it is a first hop, and fine.
    let client = Client::connect(second.address).await;
    assert_eq!(client.unary(INFER, &[], &oip::request("m", &[], 10)).await.status(), Some(0));
}

#[tokio::test]
async fn an_altered_hop_decides_nothing() {
    let path = Path2::new(true).await;
    let spy = Upstream::start(Incoming::echo).await;
    let yaml = format!(
        "keys: {}\nmodels: {{m: {{variants: {{v2: {{endpoint: {{url: \"{}\", hop: true}}}}}}}}}}\n",
        path._folder.path().join("a").display(),
        spy.url
    );
    let signer = Sidecar::start(&yaml).await;
    let message = oip::request("m", &[], 10);
    Client::connect(signer.address).await.unary(INFER, &[], &message).await;
    let good = spy.requests()[0].headers["parhelion-hop"].to_str().unwrap().to_owned();
    let client = Client::connect(path.second.address).await;
    assert_eq!(client.unary(INFER, &[("parhelion-hop", &good)], &message).await.status(), Some(0));
    assert_eq!(path.servers[1].requests().len(), 1, "a good one is obeyed");
    let forged = [
        good.replace(".v2.", ".v1."),
        good.to_uppercase(),
        format!("{good}0"),
        good[1..].to_owned(),
        String::new(),
    ];
    for (index, hop) in forged.iter().enumerate() {
        let answer = client.unary(INFER, &[("parhelion-hop", hop)], &message).await;
        assert_eq!(answer.status(), Some(0));
        assert!(answer.header("parhelion-variant").is_some(), "it is tagged like any other call");
        assert_eq!(path.second.count(Counter::HopUnverified), index as u64 + 1, "{hop}");
    }
    assert_eq!(path.servers[1].requests().len(), 1);
}
