use super::*;
use crate::telemetry::example::file;
use crate::telemetry::propagate::Root;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let get =
        |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Environment::read(get).unwrap()
}

#[test]
fn the_environment_wins() {
    let mut file = file();
    file.resource =
        [("service.name", "from-file"), ("team", "risk")].map(|(a, b)| (a.into(), b.into())).into();
    let settings = Settings::new(&file, &environment(&[])).unwrap();
    assert_eq!(settings.collector.unwrap().endpoint, "http://127.0.0.1:4317");
    assert_eq!(settings.rules.propagator.sampler.root, Root::ratio(0.0));
    assert_eq!(settings.resource["service.name"], "from-file");

    let environment = environment(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:1"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_SERVICE_NAME", "from-environment"),
    ]);
    let settings = Settings::new(&file, &environment).unwrap();
    assert_eq!(settings.collector.unwrap().endpoint, "http://other:1");
    assert_eq!(settings.rules.propagator.sampler.root, Root::Always);
    assert_eq!(settings.resource["service.name"], "from-environment");
    assert_eq!(settings.resource["team"], "risk");
    assert_eq!(settings.resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn without_a_collector_nothing_is_recorded() {
    let mut file = file();
    let silent = Settings::new(&file, &environment(&[("OTEL_SDK_DISABLED", "true")])).unwrap();
    assert!(silent.collector.is_none() && !silent.rules.propagator.recording);
    file.otlp = None;
    let nowhere = Settings::new(&file, &environment(&[])).unwrap();
    assert!(nowhere.collector.is_none() && !nowhere.rules.propagator.recording);
    assert_eq!(nowhere.resource["service.name"], "parhelion");
}

#[test]
fn an_https_endpoint_is_reached_by_tls_and_what_is_no_endpoint_is_refused() {
    let mut file = file();
    file.otlp = Some("https://collector:4317".to_owned());
    let secure = Settings::new(&file, &environment(&[])).unwrap().collector.unwrap();
    assert_eq!(secure.tls, Some(Arc::default()));
    let other = environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:1")]);
    assert_eq!(Settings::new(&file, &other).unwrap().collector.unwrap().tls, None);
    file.otlp = Some("ftp://collector:4317".to_owned());
    let problem = Settings::new(&file, &environment(&[])).unwrap_err();
    assert!(problem.to_string().starts_with("telemetry.otlp: ftp://collector:4317: "), "{problem}");
    assert!(Settings::new(&file, &other).is_ok(), "it is not the one that counts");
}
