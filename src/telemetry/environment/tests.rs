use std::sync::Arc;

use super::*;
use crate::config::ClientTls;

fn read(pairs: &[(&str, &str)]) -> Result<Environment, Vec<Refused>> {
    Environment::read(|name| {
        pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

/// The environment, which must be without warnings.
fn clean(pairs: &[(&str, &str)]) -> Environment {
    let environment = read(pairs).unwrap();
    assert_eq!(environment.warnings, Vec::<String>::new());
    environment
}

/// The one warning there must be.
fn warning(pairs: &[(&str, &str)]) -> String {
    let environment = read(pairs).unwrap();
    let [warning] = environment.warnings.as_slice() else {
        panic!("{pairs:?}: {:?}", environment.warnings);
    };
    warning.clone()
}

#[test]
fn nothing_said_is_the_specification() {
    let environment = clean(&[("OTEL_SERVICE_NAME", " "), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    assert!(!environment.silent);
    assert_eq!(environment.endpoint, None);
    assert_eq!(environment.sampler, None);
    assert_eq!(environment.formats, Formats::default());
    assert_eq!(environment.timeout, Duration::from_secs(10));
    assert_eq!((environment.batch.queue, environment.batch.size), (2048, 512));
    assert_eq!(environment.batch.delay, Duration::from_secs(5));
    assert_eq!(environment.limits, Limits { attributes: 128, value_length: None });
    assert_eq!(environment.conventions, Conventions::New);
    assert!(environment.resource.is_empty());
}

#[test]
fn the_variable_for_traces_wins() {
    let environment = clean(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "B=x%20y,c=2"),
    ]);
    assert_eq!(environment.endpoint.as_deref(), Some("http://traces:4317"));
    assert_eq!(environment.timeout, Duration::from_millis(250));
    assert_eq!(environment.headers.len(), 2);
    assert_eq!(environment.headers["b"], "x y");
    assert!(environment.headers["b"].is_sensitive());
}

#[test]
fn exporting_may_be_switched_off_or_asked_for() {
    assert!(clean(&[("OTEL_SDK_DISABLED", "True")]).silent);
    assert!(!clean(&[("OTEL_SDK_DISABLED", "false")]).silent);
    assert!(clean(&[("OTEL_TRACES_EXPORTER", "none")]).silent);
    let asked = clean(&[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(asked.endpoint.as_deref(), Some("http://localhost:4317"));
    assert!(warning(&[("OTEL_SDK_DISABLED", "1")]).contains("OTEL_SDK_DISABLED=1"));
    assert!(warning(&[("OTEL_TRACES_EXPORTER", "zipkin")]).contains("otlp or none"));
}

#[test]
fn what_would_send_spans_another_way_is_refused_all_at_once() {
    let refused = read(&[
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector:4317"),
    ])
    .unwrap_err();
    let names: Vec<_> = refused.iter().map(|one| one.variable).collect();
    assert_eq!(
        names,
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_CLIENT_KEY",]
    );
    assert!(refused[1].to_string().starts_with("OTEL_EXPORTER_OTLP_ENDPOINT=ftp://collector:4317: "));
    assert!(refused[2].to_string().contains("named together"), "{}", refused[2]);
}

#[test]
fn the_files_of_the_environment_win_over_those_of_the_file() {
    let environment = clean(&[
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/crt.pem"),
    ]);
    let file = Arc::new(ClientTls {
        ca: Some("/other.pem".into()),
        server_name: Some("collector".into()),
        ..ClientTls::default()
    });
    let both = environment.tls.over(Some(&file));
    assert_eq!(both.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert_eq!(both.pair, Some(("/crt.pem".into(), "/key.pem".into())));
    assert_eq!(both.server_name.as_deref(), Some("collector"));
    assert_eq!(clean(&[]).tls.over(Some(&file)), file);
}

#[test]
fn an_endpoint_without_a_scheme_means_tls_unless_it_is_called_insecure() {
    let bare = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")];
    assert_eq!(clean(&bare).endpoint.as_deref(), Some("https://collector:4317"));
    let plain = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
    assert_eq!(clean(&plain).endpoint.as_deref(), Some("http://collector:4317"));
    for bad in ["http://", "ftp://x:1", "not a url", "https://"] {
        assert!(endpoint(bad).is_err(), "{bad}");
    }
    assert_eq!(endpoint("http://[::1]:4317"), Ok(()));
}

#[test]
fn every_sampler_of_the_specification() {
    let sampler = |name: &str, share: &str| {
        clean(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", share)]).sampler.unwrap()
    };
    for parent_based in [false, true] {
        let named = |name: &str| if parent_based { format!("parentbased_{name}") } else { name.to_owned() };
        let expected = |root| Sampler { parent_based, root };
        assert_eq!(sampler(&named("always_on"), ""), expected(Root::Always));
        assert_eq!(sampler(&named("always_off"), ""), expected(Root::Never));
        assert_eq!(sampler(&named("traceidratio"), "0.25"), expected(Root::ratio(0.25)));
        assert_eq!(sampler(&named("traceidratio"), ""), expected(Root::ratio(1.0)));
    }
    assert!(warning(&[("OTEL_TRACES_SAMPLER", "jaeger_remote")]).contains("jaeger_remote"));
    for bad in ["2", "-1", "half", "NaN"] {
        let pairs = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", bad)];
        assert!(warning(&pairs).contains(bad), "{bad}");
        assert_eq!(read(&pairs).unwrap().sampler.unwrap().root, Root::ratio(1.0));
    }
}

#[test]
fn propagators_are_exactly_those_named() {
    let formats = |list| clean(&[("OTEL_PROPAGATORS", list)]).formats;
    let off = Formats { w3c: false, b3: Writing::Off, b3_multi: Writing::Off };
    assert_eq!(formats("none"), off);
    assert_eq!(formats("tracecontext,baggage"), Formats { w3c: true, ..off });
    assert_eq!(formats("b3 , b3multi"), Formats { b3: Writing::Always, b3_multi: Writing::Always, ..off });
    assert!(warning(&[("OTEL_PROPAGATORS", "tracecontext,xray")]).contains("xray"));
}

#[test]
fn batches_and_limits() {
    let environment = clean(&[
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "500"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "3000"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "9"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "64"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7"),
    ]);
    assert_eq!((environment.batch.queue, environment.batch.size), (100, 100), "no batch above the queue");
    assert_eq!(environment.batch.delay, Duration::from_millis(20));
    assert_eq!(environment.batch.timeout, Duration::from_secs(3));
    assert_eq!(environment.limits, Limits { attributes: 7, value_length: Some(64) });
    for (name, bad) in [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ] {
        assert!(warning(&[(name, bad)]).starts_with(&format!("{name}={bad}")));
    }
    assert_eq!(read(&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")]).unwrap().batch, Batch::default());
}

#[test]
fn a_header_that_is_none_is_named_without_its_value() {
    let warning = warning(&[("OTEL_EXPORTER_OTLP_HEADERS", "good=1,api key=secret")]);
    assert!(warning.contains("api key") && !warning.contains("secret"), "{warning}");
}

#[test]
fn resource_and_conventions() {
    let environment = clean(&[
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=p%2C1, service.name=a,broken,=x,note=100%"),
        ("OTEL_SERVICE_NAME", "b"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "http, rpc/dup"),
    ]);
    assert_eq!(environment.resource["k8s.pod.name"], "p,1");
    assert_eq!(environment.resource["service.name"], "b");
    assert_eq!(environment.resource["note"], "100%");
    assert_eq!(environment.resource.len(), 3);
    assert_eq!(environment.conventions, Conventions::Both);
    assert_eq!(clean(&[("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc/old")]).conventions, Conventions::Old);
    assert_eq!(clean(&[("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc")]).conventions, Conventions::New);
}

#[test]
fn the_log() {
    assert_eq!(clean(&[("OTEL_LOG_LEVEL", "WARN")]).log_filter.as_deref(), Some("warn"));
    assert_eq!(clean(&[("OTEL_LOG_LEVEL", "none")]).log_filter.as_deref(), Some("off"));
    let both = clean(&[("OTEL_LOG_LEVEL", "warn"), ("RUST_LOG", "parhelion=debug")]);
    assert_eq!(both.log_filter.as_deref(), Some("parhelion=debug"));
    assert_eq!(clean(&[("PARHELION_LOG_FORMAT", "json")]).log_format, Some(LogFormat::Json));
    assert!(warning(&[("PARHELION_LOG_FORMAT", "xml")]).contains("xml"));
    assert!(warning(&[("OTEL_LOG_LEVEL", "loud")]).contains("loud"));
}
