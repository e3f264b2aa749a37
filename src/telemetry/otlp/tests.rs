use opentelemetry::Value;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::trace::SpanData;
use proptest::prelude::*;

use super::*;
use crate::telemetry::span::read::read;

const WIDE: Limits = Limits { attributes: 128, value_length: None };

fn place(name: &str) -> Place<'_> {
    Place {
        name,
        span: 2,
        parent: 0,
        remote: false,
        kind: SpanKind::Client,
        start: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001),
        elapsed: Duration::from_nanos(7),
    }
}

fn trace() -> Trace {
    Trace { trace_id: 1, span_id: 2, parent: None, sampled: true, state: None }
}

fn value(span: &SpanData, at: usize) -> &Value {
    &span.attributes[at].value
}

#[test]
fn a_span_of_any_length_is_read_back() {
    for length in [0, 1, 20, 60, 100, 127, 128, 200, 16_300, 16_383, 16_384, 100_000] {
        let mut out = Vec::new();
        let text = "x".repeat(length);
        for _ in 0..2 {
            let mut span = Span::begin(&mut out, WIDE);
            span.text("a", &text);
            span.end(&place("n"), &trace(), None);
        }
        let spans = read(&out);
        assert_eq!(spans.len(), 2, "{length}");
        assert_eq!(*value(&spans[1], 0), Value::from(text), "{length}");
    }
    let mut out = Vec::new();
    Span::begin(&mut out, WIDE).end(&place(""), &trace(), None);
    let spans = read(&out);
    assert_eq!(spans[0].end_time.duration_since(spans[0].start_time).unwrap(), Duration::from_nanos(7));
    assert!(spans[0].attributes.is_empty() && spans[0].name.is_empty());
}

#[test]
fn the_front_makes_a_framed_request_of_spans() {
    for spans in [0, 1, 300] {
        let mut bytes = Vec::new();
        for _ in 0..spans {
            Span::begin(&mut bytes, WIDE).end(&place("n"), &trace(), Some("why"));
        }
        let about = BTreeMap::from([("service.name".to_owned(), "p".repeat(300))]);
        let mut message = front(&resource(&about), bytes.len());
        message.extend_from_slice(&bytes);
        let length = u32::from_be_bytes(message[1..PREFIX].try_into().unwrap()) as usize;
        assert_eq!((message[0], length), (0, message.len() - PREFIX));
        let request = ExportTraceServiceRequest::decode(&message[PREFIX..]).unwrap();
        let [of_resource] = request.resource_spans.as_slice() else { panic!("{request:?}") };
        let [of_scope] = of_resource.scope_spans.as_slice() else { panic!("{request:?}") };
        assert_eq!(of_resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
        assert_eq!(of_scope.scope.as_ref().unwrap().name, "parhelion");
        assert_eq!(of_scope.spans.len(), spans);
        assert!(of_scope.spans.iter().all(|span| span.status.as_ref().unwrap().message == "why"));
    }
}

proptest! {
    #[test]
    fn every_value_is_read_back(text in ".{0,300}", whole: u64, number: f64, digits in 0_usize..40, id: u128) {
        let mut out = Vec::new();
        let mut span = Span::begin(&mut out, WIDE);
        span.text("text", &text);
        span.whole("whole", whole);
        span.float("float", number);
        span.hex("hex", id, digits);
        span.link((id | 1, 9));
        span.end(&place(&text), &trace(), Some(&text));
        let spans = read(&out);
        prop_assert_eq!(value(&spans[0], 0), &Value::from(text.clone()));
        prop_assert_eq!(value(&spans[0], 1), &Value::I64(whole.min(i64::MAX as u64) as i64));
        let Value::F64(float) = *value(&spans[0], 2) else { panic!("{:?}", spans[0]) };
        prop_assert_eq!(float.to_bits(), number.to_bits());
        let hex = format!("{id:032x}");
        prop_assert_eq!(value(&spans[0], 3).as_str(), &hex[32 - digits.min(32)..]);
        prop_assert_eq!(spans[0].links.links[0].span_context.trace_id().to_bytes(), (id | 1).to_be_bytes());
        prop_assert_eq!(&spans[0].name, &text);
        prop_assert_eq!(&spans[0].status, &opentelemetry::trace::Status::error(text));
    }
}
