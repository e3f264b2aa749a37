//! What the sidecar says about a call, whatever becomes of it, and that nobody else can say it.

use base64::Engine as _;
use parhelion::telemetry::counter::Counter;

use crate::support::oip::{self, INFER, STREAM};
use crate::support::{Answer, Client, Incoming, Sidecar, Upstream, pinned};

const PATH: &str = "/any.Service/Method";

/// Does as the request says, and claims to be somebody else.
async fn liar(mut incoming: Incoming) {
    let lies = [
        ("parhelion-variant", "liar"),
        ("parhelion-prediction-id", "0"),
        ("parhelion-anything", "x"),
        ("x-mine", "1"),
    ];
    let headers = incoming.request().headers;
    match headers.get("x-do").map(|value| value.to_str().unwrap()) {
        Some("only") => {
            incoming.messages().await;
            let mut all = lies.to_vec();
            all.push(("grpc-status", "5"));
            incoming.only(&all);
        }
        Some("reset") => incoming.reset(h2::Reason::INTERNAL_ERROR),
        Some("hold") => incoming.until_reset().await,
        other => {
            let status = if other == Some("fail") { "13" } else { "0" };
            incoming.headers(&lies);
            while let Some(message) = incoming.message().await {
                incoming.send(&message).await;
            }
            let mut all = lies.to_vec();
            all.push(("grpc-status", status));
            incoming.trailers(&all);
        }
    }
}

/// The four tags, once each, with values that hold; nothing else of ours anywhere.
fn check(answer: &Answer, what: &str) -> String {
    let ours: Vec<&str> = answer
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("parhelion-"))
        .collect();
    let mut sorted = ours.clone();
    sorted.sort_unstable();
    let all =
        ["parhelion-model-version", "parhelion-prediction-id", "parhelion-rollout", "parhelion-variant"];
    assert_eq!(sorted, all, "{what}: {answer:?}");
    for name in all {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{what}: {name}");
    }
    assert_eq!(answer.header("parhelion-variant"), Some("v1"), "{what}");
    assert_eq!(answer.header("parhelion-model-version"), Some("1.0"), "{what}");
    assert!(answer.header("parhelion-rollout").unwrap().starts_with("m@"), "{what}");
    let trailers = answer.trailers.iter().flat_map(|trailers| trailers.keys());
    assert!(!trailers.into_iter().any(|name| name.as_str().starts_with("parhelion-")), "{what}: {answer:?}");
    answer.header("parhelion-prediction-id").unwrap().to_owned()
}

#[tokio::test]
async fn whatever_becomes_of_a_call_it_is_tagged_once_and_by_us() {
    let upstream = Upstream::start(liar).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut ids = Vec::new();
    for (path, what, status) in [
        (PATH, "echo", 0),
        (PATH, "fail", 13),
        (PATH, "only", 5),
        (PATH, "reset", 13),
        (INFER, "echo", 0),
        (STREAM, "echo", 0),
        (STREAM, "fail", 13),
    ] {
        let answer = client.unary(path, &[("x-do", what)], &oip::request("m", &[], 10)).await;
        assert_eq!(answer.status(), Some(status), "{path} {what}: {answer:?}");
        ids.push(check(&answer, what));
        if what != "reset" {
            assert_eq!(answer.header("x-mine"), Some("1"), "what else a model says is its own business");
        }
    }
    let answer = client.unary(PATH, &[("x-do", "hold"), ("grpc-timeout", "100m")], b"x").await;
    assert_eq!(answer.status(), Some(4));
    ids.push(check(&answer, "deadline"));
    // Behind two bytes about version and key lies a UUIDv7; who has the key verifies the rest.
    let uuids: Vec<uuid::Uuid> = ids
        .iter()
        .map(|id| {
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(id).unwrap();
            uuid::Uuid::from_slice(&bytes[2..18]).unwrap()
        })
        .collect();
    assert!(uuids.iter().all(|uuid| uuid.get_version_num() == 7), "{uuids:?}");
    let millis = |uuid: &uuid::Uuid| uuid.as_u128() >> 80;
    assert!(uuids.is_sorted_by_key(millis), "they tell when: {uuids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[tokio::test]
async fn what_callers_say_in_our_name_goes_no_further() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let claims = [
        ("parhelion-variant", "v9"),
        ("parhelion-prediction-id", "1"),
        ("parhelion-rollout", "m@1"),
        ("parhelion-shadow", "true"),
        ("parhelion-hop", "1.k.00.v1.00"),
        ("parhelion-hop", "again"),
        ("x-parhelion-like", "kept"),
    ];
    for path in [PATH, INFER] {
        let answer = client.unary(path, &claims, &oip::request("m", &[], 1)).await;
        assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    }
    for request in upstream.requests() {
        assert!(request.headers.keys().all(|name| !name.as_str().starts_with("parhelion-")), "{request:?}");
        assert_eq!(request.headers["x-parhelion-like"], "kept");
    }
    assert_eq!(sidecar.count(Counter::ForceStripped), 2);
    assert_eq!(sidecar.count(Counter::HopUnverified), 2);
}
