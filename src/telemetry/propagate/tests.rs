use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SamplingDecision, ShouldSample};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::telemetry::example::headers;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn propagator(share: f64) -> Propagator {
    Propagator {
        formats: Formats::default(),
        sampler: Sampler { parent_based: true, root: Root::ratio(share) },
        recording: true,
    }
}

fn chance() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn extract(share: f64, pairs: &[(&'static str, &str)]) -> Trace {
    propagator(share).extract(&headers(pairs), &mut chance())
}

#[test]
fn traceparent_goes_on() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    let trace = extract(0.0, &[("traceparent", &text), ("tracestate", "a=1"), ("tracestate", "b=2")]);
    assert_eq!(format!("{:032x}", trace.trace_id), TRACE);
    assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
    assert!(trace.sampled, "the caller's word wins over a ratio of nothing");
    assert_eq!(trace.state.unwrap(), "a=1,b=2");
    assert_ne!(trace.span_id, 0x00f0_67aa_0ba9_02b7);
}

#[test]
fn traceparent_is_read_as_the_recommendation_says() {
    let goes_on = |text: &str| extract(0.0, &[("traceparent", text)]).parent.is_some();
    for good in ["00-T-S-00", "00-T-S-01", "00-T-S-ff", "01-T-S-01", "cc-T-S-01-what-ever", "cc-T-S-01-"] {
        assert!(goes_on(&good.replace('T', TRACE).replace('S', SPAN)), "{good}");
    }
    let zero_trace = "0".repeat(32);
    for bad in [
        "",
        "00-T-S",
        "00-T-S-1",
        "00-T-S-01-more",
        "00-T-S-01.",
        "cc-T-S-01.more",
        "ff-T-S-01",
        "0g-T-S-01",
        "00-T-S-0x",
        "00_T-S-01",
        "00-T_S-01",
        "00-T-S_01",
        "00-T-0000000000000000-01",
        "00-00f067aa0ba902b7-S-01",
    ] {
        assert!(!goes_on(&bad.replace('T', TRACE).replace('S', SPAN)), "{bad}");
    }
    assert!(!goes_on(&format!("00-{zero_trace}-{SPAN}-01")));
    assert!(!goes_on(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase())));
}

#[test]
fn two_traceparents_are_as_bad_as_none() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    let trace = extract(0.0, &[("traceparent", &text), ("traceparent", &text), ("tracestate", "a=1")]);
    assert_eq!(trace.parent, None);
    assert_eq!(trace.state, None, "the state belongs to a trace that is not the call's");
}

#[test]
fn unknown_flags_are_read_past_and_not_written() {
    let text = format!("00-{TRACE}-{SPAN}-fe");
    assert!(!extract(1.0, &[("traceparent", &text)]).sampled);
    let text = format!("00-{TRACE}-{SPAN}-ff");
    let mut out = headers(&[("traceparent", &text)]);
    let trace = propagator(0.0).extract(&out, &mut chance());
    propagator(0.0).inject(&mut out, &trace, 0xab);
    assert_eq!(out["traceparent"], format!("00-{TRACE}-00000000000000ab-01"));
}

#[test]
fn b3_single_goes_on() {
    let sampled = |text: &str| {
        let trace = extract(1.0, &[("b3", &text.replace('T', TRACE).replace('S', SPAN))]);
        trace.parent.map(|_| trace.sampled)
    };
    assert_eq!(sampled("T-S-1"), Some(true));
    assert_eq!(sampled("T-S-d"), Some(true));
    assert_eq!(sampled("T-S-0"), Some(false));
    assert_eq!(sampled("T-S-0-S"), Some(false));
    assert_eq!(sampled("T-S"), Some(true), "left open: the ratio's");
    assert_eq!(sampled("S-S-1"), Some(true), "short trace ids are allowed");
    for bad in ["T", "T-", "T-S-2", "T-S-1-x", "T-S-1-S-1", "T-0-1", "S-T-1"] {
        assert_eq!(sampled(bad), None, "{bad}");
    }
}

#[test]
fn a_decision_may_come_without_a_trace() {
    let trace = extract(1.0, &[("b3", "0")]);
    assert!(!trace.sampled && trace.parent.is_none());
    let trace = extract(0.0, &[("x-b3-sampled", "1")]);
    assert!(trace.sampled && trace.parent.is_none());
}

#[test]
fn b3_multi_goes_on() {
    let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
    let with = |more: &[(&'static str, &str)]| extract(0.0, &[&ids[..], more].concat());
    assert!(with(&[("x-b3-sampled", "1")]).sampled);
    assert!(with(&[("x-b3-sampled", "0"), ("x-b3-flags", "1")]).sampled, "debug wins");
    assert!(!with(&[]).sampled);
    assert_eq!(with(&[]).parent, Some(0x00f0_67aa_0ba9_02b7));
    assert_eq!(extract(0.0, &[ids[0]]).parent, None, "half an identity is none");
}

#[test]
fn w3c_wins_over_b3_and_single_over_multi() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let single = format!("{}-{SPAN}-1", "1".repeat(32));
    let all = [
        ("traceparent", w3c.as_str()),
        ("b3", single.as_str()),
        ("x-b3-traceid", "22222222222222222222222222222222"),
        ("x-b3-spanid", SPAN),
    ];
    let id = |pairs| format!("{:x}", extract(0.0, pairs).trace_id);
    assert_eq!(id(&all), TRACE);
    assert_eq!(id(&all[1..]), "1".repeat(32));
    assert_eq!(id(&all[2..]), "2".repeat(32));
    let broken = [("traceparent", "00-what"), all[1]];
    assert_eq!(id(&broken), "1".repeat(32));
}

#[test]
fn each_attempt_is_told_its_own_span() {
    let mut out = headers(&[("baggage", "k=v"), ("tracestate", "a=1")]);
    let trace = Trace { trace_id: 1, span_id: 2, parent: None, sampled: true, state: None };
    propagator(0.0).inject(&mut out, &trace, 3);
    assert_eq!(out["traceparent"], "00-00000000000000000000000000000001-0000000000000003-01");
    assert_eq!(out["baggage"], "k=v");
    assert!(!out.contains_key("tracestate"), "it came with a trace that could not be read");
    propagator(0.0).inject(&mut out, &trace, u64::MAX);
    assert_eq!(out["traceparent"], "00-00000000000000000000000000000001-ffffffffffffffff-01");
    assert_eq!(out.len(), 2);
}

#[test]
fn b3_that_came_is_rewritten() {
    let trace = Trace { trace_id: 1, span_id: 2, parent: Some(9), sampled: false, state: None };
    let mut out = headers(&[("b3", "1")]);
    propagator(0.0).inject(&mut out, &trace, 3);
    assert_eq!(out["b3"], "00000000000000000000000000000001-0000000000000003-0");
    let mut out = headers(&[("x-b3-traceid", "x"), ("x-b3-flags", "1"), ("x-b3-sampled", "1")]);
    propagator(0.0).inject(&mut out, &trace, 3);
    assert_eq!(out["x-b3-traceid"], "00000000000000000000000000000001");
    assert_eq!(out["x-b3-spanid"], "0000000000000003");
    assert_eq!(out["x-b3-parentspanid"], "0000000000000002");
    assert_eq!(out["x-b3-sampled"], "0");
    assert!(!out.contains_key("x-b3-flags"));
    assert!(!out.contains_key("b3"));
}

#[test]
fn formats_are_read_and_written_as_configured() {
    let mut propagator = propagator(0.0);
    propagator.formats = Formats { w3c: false, b3: Writing::Always, b3_multi: Writing::Off };
    let text = format!("00-{TRACE}-{SPAN}-01");
    let mut out = headers(&[("traceparent", &text), ("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)]);
    let trace = propagator.extract(&out, &mut chance());
    assert_eq!(trace.parent, None);
    propagator.inject(&mut out, &trace, 3);
    assert_eq!(out["traceparent"], text);
    assert_eq!(out["x-b3-spanid"], SPAN);
    assert!(out.contains_key("b3"));
}

#[test]
fn where_spans_go_nowhere_headers_pass_as_they_came() {
    let silent = Propagator { recording: false, ..propagator(1.0) };
    let came = headers(&[("traceparent", "nonsense"), ("tracestate", "a=1"), ("b3", "1")]);
    let mut out = came.clone();
    let trace = silent.extract(&out, &mut chance());
    silent.inject(&mut out, &trace, 3);
    assert_eq!(out, came);
    assert_ne!(trace.trace_id, 0);
}

#[test]
fn what_is_not_parent_based_asks_nobody() {
    let mut propagator = propagator(0.0);
    let sampled = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    let not = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00"))]);
    propagator.sampler = Sampler { parent_based: false, root: Root::Never };
    assert!(!propagator.extract(&sampled, &mut chance()).sampled);
    propagator.sampler = Sampler { parent_based: false, root: Root::Always };
    assert!(propagator.extract(&not, &mut chance()).sampled);
    propagator.sampler = Sampler::from(Percent::ALL);
    assert!(!propagator.extract(&not, &mut chance()).sampled);
}

#[test]
fn the_ratio_decides_as_the_sdk_does() {
    let mut chance = chance();
    for share in [0.0, 0.001, 0.1, 0.5, 0.999, 1.0] {
        for _ in 0..2000 {
            let id = trace_id(&mut chance);
            let sdk = SdkSampler::TraceIdRatioBased(share);
            let sdk = sdk.should_sample(None, TraceId::from(id), "", &SpanKind::Server, &[], &[]);
            let expected = sdk.decision == SamplingDecision::RecordAndSample;
            assert_eq!(Root::ratio(share).samples(id), expected, "{share} {id:032x}");
        }
    }
    assert_eq!(Root::ratio(f64::NAN), Root::ratio(0.0));
}

proptest! {
    #[test]
    fn nothing_that_comes_breaks_it(
        text in "[0-9a-f-]{0,70}",
        bytes in proptest::collection::vec(32_u8..127, 0..70),
        seed: u64,
    ) {
        for name in ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"] {
            for value in [text.as_bytes(), &bytes] {
                let mut out = HeaderMap::new();
                out.insert(name, HeaderValue::from_bytes(value).unwrap());
                let mut chance = StdRng::seed_from_u64(seed);
                let trace = propagator(0.5).extract(&out, &mut chance);
                prop_assert!(trace.trace_id != 0 && trace.span_id != 0);
                propagator(0.5).inject(&mut out, &trace, 5);
                let next = propagator(0.5).extract(&out, &mut chance);
                prop_assert_eq!(next.trace_id, trace.trace_id);
                prop_assert_eq!(next.parent, Some(5));
                prop_assert_eq!(next.sampled, trace.sampled);
            }
        }
    }
}

#[test]
fn a_trace_beside_a_call_is_its_own_and_sampled_with_it() {
    let propagator = Propagator {
        formats: Formats::default(),
        sampler: Sampler { parent_based: true, root: Root::Never },
        recording: true,
    };
    let mut chance = chance();
    let half = Percent::from_thousandths(50_000).unwrap();
    let mut sampled = 0;
    for number in 0..2_000_u128 {
        let trace_id = trace_id(&mut chance);
        let call = Trace { trace_id, span_id: 1, parent: None, sampled: number % 2 == 0, state: None };
        let beside = propagator.beside(&call, None, &mut chance);
        assert_eq!((beside.sampled, beside.parent), (call.sampled, None));
        assert_ne!(beside.trace_id, call.trace_id);
        let own = propagator.beside(&call, Some(half), &mut chance);
        assert_eq!(own.sampled, Root::ratio(0.5).samples(trace_id), "as a sidecar draws for calls");
        sampled += u32::from(own.sampled);
    }
    assert!((900..1100).contains(&sampled), "{sampled}");
}

#[test]
fn every_trace_header_is_taken_out_and_baggage_stays() {
    let mut headers = headers(&[
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=b"),
        ("b3", "0"),
        ("x-b3-traceid", "1"),
        ("x-b3-sampled", "1"),
        ("baggage", "k=v"),
    ]);
    strip(&mut headers);
    assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["baggage"]);
}
