//! Which model a call belongs to, and which of its variants gets it.

use std::collections::HashMap;

use parhelion::assignment::Reason;
use parhelion::telemetry::counter::Counter;

use crate::support::oip::{self, INFER, STREAM};
use crate::support::{Answer, Client, Sidecar, Upstream};

const PATH: &str = "/any.Service/Method";

/// Two models of two variants each, and what is said about them beside.
struct House {
    servers: HashMap<&'static str, Upstream>,
    sidecar: Sidecar,
    client: Client,
}

impl House {
    /// `cat` is split as `cat` says; `dog` is pinned to `d1` and the default.
    async fn new(cat: &str, beside: &str) -> Self {
        let mut servers = HashMap::new();
        for name in ["c1", "c2", "d1"] {
            servers.insert(name, Upstream::start(oip::serve).await);
        }
        let url = |name: &str| &servers[name].url;
        let yaml = format!(
            "default: dog\nmodels:\n  cat:\n    variants: {{c1: {{endpoint: \"{}\"}}, c2: {{endpoint: \"{}\"}}}}\n{cat}\n  \
             dog:\n    variants: {{d1: {{endpoint: \"{}\"}}}}\n{beside}\n",
            url("c1"),
            url("c2"),
            url("d1"),
        );
        let sidecar = Sidecar::start(&yaml).await;
        let client = Client::connect(sidecar.address).await;
        House { servers, sidecar, client }
    }

    async fn infer(&self, model: &str, metadata: &[(&str, &str)], parameters: &[(&str, &str)]) -> Answer {
        self.client.unary(INFER, metadata, &oip::request(model, parameters, 100)).await
    }

    /// The variant that answered, as its tag says; the right server must have got the call.
    fn variant(&self, answer: &Answer) -> String {
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        answer.header("parhelion-variant").unwrap().to_owned()
    }

    fn requests(&self, server: &str) -> usize {
        self.servers[server].requests().len()
    }
}

fn ab(weights: &str, more: &str) -> String {
    format!("    strategy: {{kind: ab, baseline: c1, weights: {weights}}}\n{more}")
}

#[tokio::test]
async fn by_the_name_of_the_model() {
    let house = House::new(&ab("{c1: 100%, c2: 0%}", ""), "").await;
    for (model, variant) in [("cat", "c1"), ("dog", "d1")] {
        let answer = house.infer(model, &[], &[]).await;
        assert_eq!(house.variant(&answer), variant);
        assert!(answer.header("parhelion-rollout").unwrap().starts_with(&format!("{model}@")));
        let mut call = house.client.open(STREAM, &[]).await;
        call.send_last(&oip::request(model, &[], 10)).await;
        assert_eq!(house.variant(&call.answer().await), variant);
        assert_eq!(house.requests(variant), 2);
    }
}

#[tokio::test]
async fn an_unknown_name_or_none_goes_to_the_default() {
    let house = House::new(&ab("{c1: 100%, c2: 0%}", ""), "").await;
    for model in ["bird", ""] {
        assert_eq!(house.variant(&house.infer(model, &[], &[]).await), "d1");
    }
    assert_eq!(house.sidecar.assigned(Reason::Default), 2);
    // What cannot be read at all is for the server to judge.
    house.client.unary(INFER, &[], b"\xff\xff\xff not protobuf").await;
    let mut call = house.client.open(INFER, &[]).await;
    call.end();
    call.answer().await;
    assert_eq!(house.requests("d1"), 4);
}

#[tokio::test]
async fn other_services_go_to_the_default_or_where_they_are_given_to() {
    let house = House::new(&ab("{c1: 0%, c2: 100%}", ""), "services: {given.Service: cat}").await;
    let ask = async |path: &str| {
        let mut call = house.client.open(path, &[]).await;
        call.end();
        house.variant(&call.answer().await)
    };
    assert_eq!(ask(PATH).await, "d1");
    assert_eq!(ask("/given.Service/A").await, "c2");
    assert_eq!(ask("/given.Service/B").await, "c2");
    assert_eq!(ask("/given.ServiceX/A").await, "d1");
    assert_eq!(ask("/inference.GRPCInferenceService/ServerMetadata").await, "d1");
}

#[tokio::test]
async fn a_declared_service_is_split_by_metadata() {
    let more = "    unit: [metadata:x-user]";
    let house = House::new(&ab("{c1: 50%, c2: 50%}", more), "services: {given.Service: cat}").await;
    let mut seen = HashMap::new();
    for user in 0..40 {
        for _ in 0..2 {
            let mut call = house.client.open("/given.Service/A", &[("x-user", &user.to_string())]).await;
            call.end();
            let variant = house.variant(&call.answer().await);
            assert_eq!(seen.entry(user).or_insert_with(|| variant.clone()), &variant);
        }
    }
    assert!(seen.values().any(|variant| variant == "c1") && seen.values().any(|variant| variant == "c2"));
    assert_eq!(house.sidecar.assigned(Reason::Split), 80);
}

#[tokio::test]
async fn a_unit_keeps_its_variant_wherever_it_is_found() {
    let more = "    unit: [metadata:x-user, parameter:user]";
    let house = House::new(&ab("{c1: 70%, c2: 30%}", more), "").await;
    let mut second = 0;
    for user in 0..100 {
        let user = format!("user-{user}");
        let by_metadata = house.variant(&house.infer("cat", &[("x-user", &user)], &[]).await);
        let by_parameter = house.variant(&house.infer("cat", &[], &[("user", &user)]).await);
        let by_first = house.infer("cat", &[("x-user", &user)], &[("user", "somebody else")]).await;
        assert_eq!(by_metadata, by_parameter, "{user}");
        assert_eq!(by_metadata, house.variant(&by_first), "{user}");
        second += usize::from(by_metadata == "c2");
    }
    assert!((10..=55).contains(&second), "{second} of 100 users at 30 %");
    assert_eq!(house.sidecar.assigned(Reason::Split), 300);
}

#[tokio::test]
async fn segments_come_first() {
    let more = "      segments:\n        - {match: {metadata: {x-role: tester}}, variant: c2}\n        \
                - {match: {parameter: {country: se}}, weights: {c2: 100%}}\n    unit: [metadata:x-user]";
    let cat = format!(
        "    strategy:\n      kind: ab\n      baseline: c1\n      weights: {{c1: 100%, c2: 0%}}\n{more}"
    );
    let house = House::new(&cat, "").await;
    let nobody = house.infer("cat", &[("x-role", "user")], &[("country", "no")]).await;
    assert_eq!(house.variant(&nobody), "c1");
    let tester = house.infer("cat", &[("x-role", "tester")], &[]).await;
    assert_eq!(house.variant(&tester), "c2");
    let swede = house.infer("cat", &[], &[("country", "se")]).await;
    assert_eq!(house.variant(&swede), "c2");
    assert_eq!(house.sidecar.assigned(Reason::Segment), 2);
}

#[tokio::test]
async fn a_variant_is_forced_by_those_who_may() {
    let more = "    force: {match: {metadata: {x-role: tester}}}";
    let house = House::new(&ab("{c1: 100%, c2: 0%}", more), "").await;
    let tester = [("x-role", "tester"), ("parhelion-variant", "c2")];
    assert_eq!(house.variant(&house.infer("cat", &tester, &[]).await), "c2");
    assert_eq!(house.sidecar.assigned(Reason::Forced), 1);
    let anybody = [("parhelion-variant", "c2")];
    assert_eq!(house.variant(&house.infer("cat", &anybody, &[]).await), "c1");
    assert_eq!(house.sidecar.count(Counter::ForceStripped), 1);
    let wrong = [("x-role", "tester"), ("parhelion-variant", "c9")];
    let answer = house.infer("cat", &wrong, &[]).await;
    assert_eq!(answer.status(), Some(3), "{answer:?}");
    assert!(answer.message().contains("c1, c2"), "{}", answer.message());
    for server in ["c1", "c2"] {
        let requests = house.servers[server].requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].headers.keys().all(|name| !name.as_str().starts_with("parhelion-")));
    }
}

#[tokio::test]
async fn a_call_is_read_however_its_bytes_are_cut() {
    let house = House::new(&ab("{c1: 0%, c2: 100%}", "    unit: [parameter:user]"), "").await;
    let message = crate::support::frame(0, &oip::request("cat", &[("user", "u")], 40));
    for cut in 1..message.len() {
        let mut call = house.client.open(INFER, &[]).await;
        call.send_raw(message.slice(..cut), false).await;
        call.send_raw(message.slice(cut..), true).await;
        assert_eq!(house.variant(&call.answer().await), "c2", "cut at {cut}");
    }
}

#[tokio::test]
async fn a_name_is_found_in_a_large_compressed_message() {
    let house = House::new(&ab("{c1: 0%, c2: 100%}", "    fallback: off"), "").await;
    for size in [1_000, 900_000, 3_000_000] {
        let packed = crate::support::gzip(&oip::request("cat", &[], size));
        let mut call = house.client.open(INFER, &[("grpc-encoding", "gzip")]).await;
        // The server's script reads no compressed messages, so only who got the call counts.
        call.send_raw(crate::support::frame(1, &packed), false).await;
        let (_, headers) = call.head().await.unwrap();
        assert_eq!(headers["parhelion-variant"], "c2", "{size} bytes, {} packed", packed.len());
    }
}

#[tokio::test]
async fn a_name_behind_a_large_tensor_does_not_stop_the_connection() {
    let house = House::new(&ab("{c1: 0%, c2: 100%}", ""), "").await;
    // A field that no one knows, of 1.5 MB, and the name behind it: more than is kept, so the default gets it.
    let mut message = vec![0x9a, 0x06];
    prost::encoding::encode_varint(1_500_000, &mut message);
    message.extend(vec![0; 1_500_000]);
    message.extend(oip::request("cat", &[], 10));
    let mut calls = Vec::new();
    for _ in 0..6 {
        let mut call = house.client.open(INFER, &[]).await;
        let sent = call.send_raw(crate::support::frame(0, &message), true).await;
        assert!(sent, "the sidecar takes it all");
        calls.push(call);
    }
    for call in calls {
        assert_eq!(house.variant(&call.answer().await), "d1");
    }
}
