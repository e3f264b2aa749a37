use std::num::NonZeroUsize;
use std::sync::Mutex;

use opentelemetry::trace::SpanKind;

use super::*;
use crate::telemetry::counter::Counters;
use crate::telemetry::example::file;
use crate::telemetry::start;

static RECORDS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        RECORDS.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment {
    Environment::read(|_| None).unwrap()
}

#[test]
fn no_field_can_break_a_record() {
    let nasty = "a\r\nb\u{1b}[31mred\u{9b}2Jx\u{7f}";
    for format in [LogFormat::Json, LogFormat::Text] {
        RECORDS.lock().unwrap().clear();
        let subscriber = tracing_subscriber::registry().with(log(format, || Sink));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(display = %nasty, debug = ?nasty, text = nasty, "message {nasty}");
            tracing::warn!("second");
        });
        let written = String::from_utf8(RECORDS.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert!(!lines[0].contains(char::is_control), "{written:?}");
        if format == LogFormat::Json {
            let record: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
            assert_eq!(record["message"], format!("message {nasty}"));
            assert_eq!(record["display"], nasty);
            assert_eq!(record["level"], "INFO");
        }
    }
}

#[test]
fn a_filter_that_cannot_be_read_is_said_and_replaced() {
    let (filter, problem) = filter(Some("parhelion=loud=very"));
    assert_eq!(filter.to_string(), "info");
    assert!(problem.unwrap().starts_with("RUST_LOG is ignored: "));
    assert_eq!(super::filter(Some("warn")).0.to_string(), "warn");
    assert_eq!(super::filter(None).0.to_string(), "info");
}

#[test]
fn own_doings_make_spans_but_exporting_makes_none() {
    let workers = NonZeroUsize::MIN;
    let started = start(&file(), environment(), workers, Arc::new(Counters::default())).unwrap();
    let telemetry = &started.telemetry;
    let subscriber = tracing_subscriber::registry().with(spans(&environment(), telemetry));
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!(target: "parhelion::config", "reload", revision = "abc");
        span.in_scope(|| tracing::info!(target: "parhelion::config", "applied"));
        drop(span);
        for target in ["h2::codec", "tonic::transport", "hyper_util::client", "parhelion::telemetry::export"]
        {
            drop(match target {
                "h2::codec" => tracing::info_span!(target: "h2::codec", "frame"),
                "tonic::transport" => tracing::info_span!(target: "tonic::transport", "call"),
                "hyper_util::client" => tracing::info_span!(target: "hyper_util::client", "connect"),
                _ => tracing::info_span!(target: "parhelion::telemetry::export", "export"),
            });
        }
    });
    let span = telemetry.shared.own.pop().unwrap();
    assert_eq!(span.name, "reload");
    assert_eq!(span.span_kind, SpanKind::Internal);
    assert_eq!(span.events.len(), 1);
    assert!(telemetry.shared.own.pop().is_none());
}
