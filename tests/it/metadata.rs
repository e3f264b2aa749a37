//! Metadata and statuses: what one side says, the other hears, to the byte and in order.

use http::{HeaderMap, HeaderValue};

use crate::support::{Client, Incoming, Sidecar, Upstream, frame, gzip, pinned};

const PATH: &str = "/any.Service/Method";

/// A server that answers with what the request's `x-script` names, and with headers and trailers that test much.
async fn scripted(mut incoming: Incoming) {
    let headers = incoming.request().headers;
    let script = headers.get("x-script").map(|value| value.to_str().unwrap().to_owned());
    let script = script.as_deref().unwrap_or("status 0");
    let (kind, value) = script.split_once(' ').unwrap_or((script, ""));
    incoming.messages().await;
    match kind {
        "status" => {
            incoming.send(b"body").await;
            incoming.trailers(&[
                ("grpc-status", value),
                ("grpc-message", "so%20it %25 is, caf%C3%A9"),
                ("x-t", "1"),
            ]);
        }
        "only" => {
            incoming.only(&[("grpc-status", value), ("grpc-message", "alone"), ("x-h", "1"), ("x-h", "2")])
        }
        "none" => {
            incoming.send(b"body").await;
            let _ = incoming.stream().unwrap().send_data(bytes::Bytes::new(), true);
        }
        "empty" => incoming.trailers(&[("x-t", "no status")]),
        "http" => incoming.http(value.parse().unwrap()),
        "big" => {
            let details = "d".repeat(value.parse().unwrap());
            incoming.trailers(&[("grpc-status", "13"), ("x-details", &details), ("x-more", "1")]);
        }
        "binary" => {
            incoming.headers(&[("x-bin", "AAEC/w"), ("x-bin", "//8="), ("x-two", "b"), ("x-two", "a")]);
            incoming.send(b"body").await;
            let trailers = [
                ("grpc-status", "9"),
                ("grpc-status-details-bin", "CAkSA25vcGU"),
                ("x-bin", "AQ"),
                ("x-bin", "Ag"),
                ("x-obs", "caf\u{e9}"),
            ];
            incoming.trailers(&trailers);
        }
        other => panic!("no script {other}"),
    }
}

struct Pair {
    through: Client,
    direct: Client,
    upstream: Upstream,
    _sidecar: Sidecar,
}

impl Pair {
    async fn new() -> Self {
        let upstream = Upstream::start(scripted).await;
        let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
        Pair {
            through: Client::connect(sidecar.address).await,
            direct: Client::connect(upstream.address()).await,
            upstream,
            _sidecar: sidecar,
        }
    }

    /// The answer to a script, the same both ways; tagged through the sidecar.
    async fn same(&self, script: &str) -> crate::support::Answer {
        let direct = self.direct.unary(PATH, &[("x-script", script)], b"?").await;
        let through = self.through.unary(PATH, &[("x-script", script)], b"?").await;
        assert_eq!(through.clone().untagged(), direct, "{script}");
        assert_eq!(through.header("parhelion-variant"), Some("v1"), "{script}");
        through
    }
}

#[tokio::test]
async fn requests_arrive_with_their_metadata_as_it_was() {
    let pair = Pair::new().await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", &b"application/grpc+proto"[..]),
        ("te", b"trailers"),
        ("user-agent", b"grpc-c/1.2.3 (linux; chttp2)"),
        ("grpc-accept-encoding", b"identity,deflate,gzip"),
        ("x-order", b"first"),
        ("x-raw-bin", b"AAECAwT/"),
        ("x-order", b"second"),
        ("x-raw-bin", b""),
        ("x-latin", b"caf\xe9"),
        ("x-order", b"first"),
        ("x-empty", b""),
        ("authorization", b"Bearer a.b.c"),
        ("cookie", b"a=1; b=2"),
    ] {
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    for client in [&pair.direct, &pair.through] {
        let mut call = client.open_as(PATH, headers.clone()).await;
        call.end();
        assert_eq!(call.answer().await.status(), Some(0));
    }
    let requests = pair.upstream.requests();
    assert_eq!(requests[0].headers, headers);
    assert_eq!(requests[1].headers, headers);
    let order: Vec<_> = requests[1].headers.get_all("x-order").iter().collect();
    assert_eq!(order, ["first", "second", "first"]);
}

#[tokio::test]
async fn every_status_comes_back_as_it_was() {
    let pair = Pair::new().await;
    for status in (0..=17).chain([99]) {
        let answer = pair.same(&format!("status {status}")).await;
        assert_eq!((answer.status(), answer.message()), (Some(status), "so%20it %25 is, caf%C3%A9"));
    }
}

#[tokio::test]
async fn trailers_only_comes_back_as_headers_alone() {
    let pair = Pair::new().await;
    for status in [0, 5, 14, 17] {
        let answer = pair.same(&format!("only {status}")).await;
        assert_eq!((answer.status(), answer.trailers.clone()), (Some(status), None));
        assert_eq!(answer.headers.get_all("x-h").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

#[tokio::test]
async fn a_missing_status_stays_missing() {
    let pair = Pair::new().await;
    let without_trailers = pair.same("none").await;
    assert_eq!((without_trailers.status(), without_trailers.texts()), (None, vec![&b"body"[..]]));
    let without_status = pair.same("empty").await;
    assert_eq!(without_status.status(), None);
    assert_eq!(without_status.trailers.unwrap()["x-t"], "no status");
}

#[tokio::test]
async fn http_statuses_come_back_as_they_were() {
    let pair = Pair::new().await;
    for status in [204, 404, 502, 503] {
        let answer = pair.same(&format!("http {status}")).await;
        assert_eq!((answer.http, answer.status()), (status, None));
    }
}

#[tokio::test]
async fn eight_kilobytes_of_trailers_come_back() {
    let pair = Pair::new().await;
    let answer = pair.same("big 8192").await;
    assert_eq!(answer.trailers.unwrap()["x-details"].len(), 8192);
}

#[tokio::test]
async fn binary_and_repeated_values_and_details_come_back() {
    let pair = Pair::new().await;
    let answer = pair.same("binary").await;
    let trailers = answer.trailers.unwrap();
    assert_eq!(trailers["grpc-status-details-bin"], "CAkSA25vcGU");
    assert_eq!(trailers.get_all("x-bin").iter().collect::<Vec<_>>(), ["AQ", "Ag"]);
    assert_eq!(answer.headers.get_all("x-two").iter().collect::<Vec<_>>(), ["b", "a"]);
}

#[tokio::test]
async fn compressed_messages_pass_untouched() {
    let upstream = Upstream::start(|mut incoming| async move {
        incoming.headers(&[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]);
        while let Some((flag, message)) = incoming.flagged().await {
            incoming.send_raw(frame(flag, &message)).await;
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let packed = gzip(&[7; 10_000]);
    let mut call = client.open(PATH, &[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]).await;
    call.send_raw(frame(1, &packed), false).await;
    call.send_raw(frame(0, b"plain"), true).await;
    let answer = call.answer().await;
    assert_eq!(answer.messages, [(1, packed.into()), (0, bytes::Bytes::from_static(b"plain"))]);
    assert_eq!(answer.header("grpc-encoding"), Some("gzip"));
    assert_eq!(upstream.requests()[0].headers["grpc-encoding"], "gzip");
}

#[tokio::test]
async fn a_call_without_authority_is_passed_on_without() {
    let pair = Pair::new().await;
    let mut request = http::Request::post(PATH).body(()).unwrap();
    *request.headers_mut() =
        crate::support::pairs(&[("content-type", "application/grpc"), ("te", "trailers")]);
    let mut call = pair.through.request(request).await;
    call.end();
    assert_eq!(call.answer().await.status(), Some(0));
    assert_eq!(pair.upstream.requests()[0].authority, None);
}

#[tokio::test]
async fn what_a_caller_says_chooses_no_other_server() {
    let pair = Pair::new().await;
    let other = Upstream::start(Incoming::echo).await;
    let place = other.url.strip_prefix("http://").unwrap();
    let tricks = [
        ("host", place),
        ("x-forwarded-host", place),
        ("forwarded", place),
        ("x-envoy-original-dst-host", place),
        ("parhelion-endpoint", place),
        ("l5d-dst-override", place),
    ];
    let mut headers = crate::support::pairs(&[("content-type", "application/grpc"), ("te", "trailers")]);
    headers.extend(crate::support::pairs(&tricks));
    let mut request = http::Request::post(format!("http://{place}{PATH}")).body(()).unwrap();
    *request.headers_mut() = headers;
    let mut call = pair.through.request(request).await;
    call.end();
    assert_eq!(call.answer().await.header("parhelion-variant"), Some("v1"));
    assert_eq!((pair.upstream.requests().len(), other.requests().len()), (1, 0));
}
