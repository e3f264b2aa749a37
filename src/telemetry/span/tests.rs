use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::trace::SpanData;

use super::*;
use crate::fault::Blame;
use crate::outcome::Fallback;
use crate::telemetry::example::{attempt, outcome};

fn write(conventions: Conventions, outcome: &Outcome) -> Vec<SpanData> {
    Writer::new(conventions, Limits::default()).spans(outcome)
}

fn get(span: &SpanData, name: &str) -> Option<String> {
    let found: Vec<_> = span.attributes.iter().filter(|one| one.key.as_str() == name).collect();
    assert!(found.len() <= 1, "{name} twice");
    found.first().map(|one| one.value.to_string())
}

#[test]
fn one_server_span_and_one_client_span_below_it() {
    let call = outcome();
    let spans = write(Conventions::New, &call);
    let [server, client] = spans.as_slice() else { panic!("{}", spans.len()) };
    assert_eq!(server.span_kind, SpanKind::Server);
    assert_eq!(server.name, "inference.GRPCInferenceService/ModelInfer");
    assert_eq!(server.span_context.trace_id(), TraceId::from(0xabc_u128));
    assert_eq!(server.span_context.span_id(), SpanId::from(0x11_u64));
    assert_eq!(server.parent_span_id, SpanId::from(0x10_u64));
    assert!(server.parent_span_is_remote && server.span_context.is_sampled());
    assert_eq!(server.start_time, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    assert_eq!(server.end_time.duration_since(server.start_time).unwrap(), Duration::from_millis(12));
    assert_eq!(client.span_kind, SpanKind::Client);
    assert_eq!(client.parent_span_id, server.span_context.span_id());
    assert_eq!(client.span_context.span_id(), SpanId::from(0x22_u64));
    assert!(!client.parent_span_is_remote);
    assert_eq!(client.start_time.duration_since(server.start_time).unwrap(), Duration::from_millis(1));
    assert_eq!(client.end_time.duration_since(client.start_time).unwrap(), Duration::from_millis(10));
    assert_eq!((&server.status, &client.status), (&Status::Unset, &Status::Unset));
}

#[test]
fn the_span_names_the_prediction_and_both_versions() {
    let spans = write(Conventions::New, &outcome());
    let expected = [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "inference.GRPCInferenceService/ModelInfer"),
        ("rpc.status_code", "OK"),
        ("server.address", "models.svc"),
        ("server.port", "9000"),
        ("feature_flag.key", "fraud"),
        ("feature_flag.result.variant", "v2"),
        ("feature_flag.result.reason", "split"),
        ("feature_flag.context.id", "000000000000beef"),
        ("feature_flag.version", "0123456789ab"),
        ("feature_flag.provider.name", "parhelion"),
        ("parhelion.prediction_id", "AXIB"),
        ("parhelion.prediction_uuid", "00000000-0000-0000-0000-000000000007"),
        ("parhelion.model", "fraud"),
        ("parhelion.model.asked", "fraud-latest"),
        ("parhelion.variant", "v2"),
        ("parhelion.assigned", "v2"),
        ("parhelion.version", "2.0.0"),
        ("parhelion.reported_version", "2"),
        ("parhelion.digest", "sha256:v2"),
        ("parhelion.strategy", "ab"),
        ("parhelion.reason", "split"),
        ("parhelion.propensity", "0.5"),
        ("parhelion.unit_hash", "000000000000beef"),
        ("parhelion.protocol", "oip"),
        ("parhelion.blame", "nobody"),
        ("parhelion.request_id", "r-1"),
        ("parhelion.latency.upstream", "0.01"),
        ("parhelion.latency.own", "0.00006"),
        ("parhelion.request.bytes", "300"),
        ("parhelion.response.bytes", "40"),
        ("parhelion.request.messages", "1"),
        ("parhelion.response.messages", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(get(&spans[0], name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(spans[0].attributes.len(), expected.len());
    let expected = [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "inference.GRPCInferenceService/ModelInfer"),
        ("rpc.status_code", "OK"),
        ("server.address", "10.0.0.7"),
        ("server.port", "8001"),
        ("parhelion.prediction_uuid", "00000000-0000-0000-0000-000000000007"),
        ("parhelion.model", "fraud"),
        ("parhelion.variant", "v2"),
        ("parhelion.version", "2.0.0"),
        ("parhelion.digest", "sha256:v2"),
        ("parhelion.blame", "nobody"),
        ("parhelion.attempt", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(get(&spans[1], name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(spans[1].attributes.len(), expected.len());
}

#[test]
fn every_attribute_has_its_name_in_the_list() {
    let mut call = outcome();
    call.status = Code::UNIMPLEMENTED;
    call.protocol = "opaque";
    for conventions in [Conventions::New, Conventions::Old, Conventions::Both] {
        for span in write(conventions, &call) {
            for attribute in &span.attributes {
                assert!(name::ALL.contains(&attribute.key.as_str()), "{}", attribute.key);
            }
        }
    }
}

#[test]
fn a_server_span_fails_by_its_own_errors_only() {
    for number in 0..=17 {
        let mut call = outcome();
        call.status = Code(number);
        call.message = Some(Box::from("why"));
        call.attempts[0].status = Code(number);
        let spans = write(Conventions::New, &call);
        let failed = [2, 4, 12, 13, 14, 15].contains(&number);
        assert_eq!(spans[0].status, if failed { Status::error("why") } else { Status::Unset }, "{number}");
        assert_eq!(get(&spans[0], "error.type").is_some(), failed, "{number}");
        assert_eq!(matches!(spans[1].status, Status::Error { .. }), number != 0, "{number}");
        assert_eq!(get(&spans[1], "error.type").is_some(), number != 0, "{number}");
    }
}

#[test]
fn the_older_names_on_request() {
    let span = &write(Conventions::Old, &outcome())[0];
    assert_eq!(get(span, "rpc.system").unwrap(), "grpc");
    assert_eq!(get(span, "rpc.service").unwrap(), "inference.GRPCInferenceService");
    assert_eq!(get(span, "rpc.method").unwrap(), "ModelInfer");
    assert_eq!(get(span, "rpc.grpc.status_code").unwrap(), "0");
    assert_eq!(get(span, "rpc.status_code"), None);
    let span = &write(Conventions::Both, &outcome())[0];
    assert_eq!(get(span, "rpc.method").unwrap(), "inference.GRPCInferenceService/ModelInfer");
    assert_eq!(get(span, "rpc.status_code").unwrap(), "OK");
    assert_eq!(get(span, "rpc.grpc.status_code").unwrap(), "0");
}

#[test]
fn a_method_nobody_knows_makes_no_name() {
    let mut call = outcome();
    call.path = "/made.Up/Name123".parse().unwrap();
    call.protocol = "opaque";
    assert_eq!(write(Conventions::New, &call)[0].name, "made.Up/Name123");
    call.status = Code::UNIMPLEMENTED;
    let span = &write(Conventions::New, &call)[0];
    assert_eq!(span.name, "_OTHER");
    assert_eq!(get(span, "rpc.method").unwrap(), "_OTHER");
    assert_eq!(get(span, "rpc.method_original").unwrap(), "made.Up/Name123");
}

#[test]
fn a_call_that_nobody_answered_has_no_variant_but_an_assigned_one() {
    let mut call = outcome();
    call.route.as_mut().unwrap().served = None;
    let span = &write(Conventions::New, &call)[0];
    assert_eq!(get(span, "parhelion.variant"), None);
    assert_eq!(get(span, "parhelion.assigned").unwrap(), "v2");
    assert_eq!(get(span, "parhelion.version").unwrap(), "2.0.0");
    call.route = None;
    call.attempts.clear();
    call.trace.parent = None;
    let spans = write(Conventions::New, &call);
    assert_eq!(spans.len(), 1);
    assert_eq!(get(&spans[0], "parhelion.model"), None);
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert!(!spans[0].parent_span_is_remote);
}

#[test]
fn the_second_attempt_is_another_span() {
    let mut call = outcome();
    let second = Attempt { span: 0x33, variant: 0, blame: Blame::Upstream, ..attempt() };
    call.attempts.push(second);
    let spans = write(Conventions::New, &call);
    assert_eq!(spans.len(), 3);
    assert_eq!(get(&spans[2], "parhelion.attempt").unwrap(), "2");
    assert_eq!(get(&spans[2], "parhelion.version").unwrap(), "1.4.0");
    assert_eq!(get(&spans[2], "parhelion.blame").unwrap(), "upstream");
}

#[test]
fn places_are_taken_apart() {
    let server = |place: &str| {
        let mut call = outcome();
        call.authority = Some(Box::from(place));
        let span = &write(Conventions::New, &call)[0];
        (get(span, "server.address").unwrap(), get(span, "server.port"))
    };
    let port = || Some("9000".to_owned());
    assert_eq!(server("host:9000"), ("host".to_owned(), port()));
    assert_eq!(server("host"), ("host".to_owned(), None));
    assert_eq!(server("[::1]:9000"), ("::1".to_owned(), port()));
    assert_eq!(server("[::1]"), ("::1".to_owned(), None));
    assert_eq!(server("unix:/run/m.sock"), ("/run/m.sock".to_owned(), None));
}

#[test]
fn bounds_are_kept() {
    let limits = Limits { attributes: 3, value_length: Some(4) };
    let mut call = outcome();
    call.path = "/äöüß.S/M".parse().unwrap_or(call.path);
    let span = &Writer::new(Conventions::New, limits).spans(&call)[0];
    assert_eq!(span.attributes.len(), 3);
    assert_eq!(span.dropped_attributes_count, 30);
    for attribute in &span.attributes {
        assert!(attribute.value.as_str().chars().count() <= 4, "{}", attribute.value);
    }
    assert_eq!(span.attributes[0].value.as_str(), "grpc", "not cut where it fits");
}

#[test]
fn tracestate_goes_with_the_span() {
    let mut call = outcome();
    call.trace.state = Some("a=1,b=2".parse().unwrap());
    assert_eq!(write(Conventions::New, &call)[0].span_context.trace_state().header(), "a=1,b=2");
}

#[test]
fn a_copy_is_a_root_of_its_own_with_a_link_to_its_call() {
    let copy = crate::telemetry::example::copy();
    let span = Writer::new(Conventions::New, Limits::default()).copy(&copy);
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.name, "inference.GRPCInferenceService/ModelInfer");
    assert_eq!(span.span_context.trace_id(), TraceId::from(0xdef_u128));
    assert_eq!(span.parent_span_id, SpanId::INVALID, "no child of anything");
    let [link] = &span.links.links[..] else { panic!("{:?}", span.links) };
    assert_eq!(link.span_context.trace_id(), TraceId::from(0xabc_u128));
    assert_eq!(link.span_context.span_id(), SpanId::from(0x11_u64));
    for (name, value) in [
        ("parhelion.role", "shadow"),
        ("parhelion.primary.trace_id", "00000000000000000000000000000abc"),
        ("parhelion.primary.span_id", "0000000000000011"),
        ("parhelion.primary.variant", "v1"),
        ("parhelion.primary.status_code", "OK"),
        ("parhelion.primary.latency", "0.01"),
        ("parhelion.prediction_uuid", "00000000-0000-0000-0000-000000000007"),
        ("parhelion.model", "fraud"),
        ("parhelion.variant", "v2"),
        ("parhelion.version", "2.0.0"),
        ("parhelion.comparison", "status"),
        ("parhelion.cause", "deadline"),
        ("parhelion.blame", "upstream"),
        ("rpc.status_code", "DEADLINE_EXCEEDED"),
        ("error.type", "DEADLINE_EXCEEDED"),
        ("server.port", "8001"),
        ("parhelion.request.bytes", "300"),
    ] {
        assert_eq!(get(&span, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(get(&span, "parhelion.skipped"), None);
    assert_eq!(span.status, Status::error("deadline"));
}

#[test]
fn a_call_that_fell_back_shows_both_attempts() {
    let mut call = outcome();
    // An answer that was none: OK, and the server's fault all the same.
    for (status, error) in [(Code::INTERNAL, "INTERNAL"), (Code::OK, "_OTHER")] {
        let failed = Attempt { status, blame: Blame::Upstream, ..attempt() };
        let second = Attempt { variant: 0, span: 0x23, offset: Duration::from_millis(11), ..attempt() };
        call.attempts = vec![failed, second];
        call.route.as_mut().unwrap().served = Some(0);
        call.fallback = Some(Fallback::Answered);
        let spans = write(Conventions::New, &call);
        let [server, first, second] = spans.as_slice() else { panic!("{}", spans.len()) };
        for (name, value) in [
            ("parhelion.fallback", "answered"),
            ("parhelion.fallback_from", "v2"),
            ("parhelion.assigned", "v2"),
            ("parhelion.variant", "v1"),
            ("parhelion.version", "1.4.0"),
            ("parhelion.blame", "nobody"),
        ] {
            assert_eq!(get(server, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(server.status, Status::Unset);
        assert!(matches!(first.status, Status::Error { .. }), "{:?}", first.status);
        assert_eq!(get(first, "error.type").as_deref(), Some(error));
        assert_eq!(
            (get(first, "parhelion.variant"), get(first, "parhelion.attempt")),
            (Some("v2".into()), Some("1".into()))
        );
        assert_eq!(second.status, Status::Unset);
        assert_eq!(
            (get(second, "parhelion.variant"), get(second, "parhelion.attempt")),
            (Some("v1".into()), Some("2".into()))
        );
    }
    call.fallback = Some(Fallback::Budget);
    let spans = write(Conventions::New, &call);
    assert_eq!(get(&spans[0], "parhelion.fallback").as_deref(), Some("budget"));
    assert_eq!(get(&spans[0], "parhelion.fallback_from"), None);
}

#[test]
fn the_assigned_variants_own_end_is_told_whatever_came_after() {
    let mut call = outcome();
    let refused = Attempt { status: Code::UNAVAILABLE, blame: Blame::Upstream, ..attempt() };
    let elapsed = Duration::from_millis(3);
    let failed = Attempt { status: Code::INTERNAL, blame: Blame::Upstream, elapsed, ..attempt() };
    call.attempts = vec![refused, failed, Attempt { variant: 0, ..attempt() }];
    call.fallback = Some(Fallback::Answered);
    let own = call.assigned_attempt().unwrap();
    assert_eq!((own.status, own.blame, own.elapsed), (Code::INTERNAL, Blame::Upstream, elapsed));
    assert_eq!(call.fell_back_from(), Some(1));
    call.attempts = vec![Attempt { variant: 0, ..attempt() }];
    assert!(call.assigned_attempt().is_none(), "nothing was sent to it");
    call.fallback = None;
    assert_eq!(call.fell_back_from(), None);
}
