//! Whole configurations, from text to [`Config`] and back.

use super::*;

/// Checks one text, as if from a file of no name.
pub(super) fn accept_text(text: &str) -> Result<Loaded, Errors> {
    accept(&[source::File { name: "config.yaml".to_owned(), text: text.to_owned() }], &Environment::default())
}

#[test]
fn the_smallest_file_has_all_defaults() {
    let loaded = accept_text("models: {m: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}}}").unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen, Listen::Tcp(([0, 0, 0, 0], 9000).into()));
    assert_eq!(config.admin, ([127, 0, 0, 1], 9900).into());
    assert_eq!(config.health, ([0, 0, 0, 0], 9901).into());
    assert_eq!(config.workers.get(), 1);
    assert_eq!(&*config.default, "m");
    assert_eq!(config.models[0].strategy, Strategy::Pinned { variant: 0 });
    assert_eq!(config.limits.message, Size(64 << 20));
    assert_eq!(config.drain.grace, Duration::from_secs(25));
    assert_eq!(config.telemetry.sample, Percent::ONE);
    assert!(config.telemetry.keep_errors);
    assert_eq!(loaded.warnings, []);
    assert_eq!(config.revision.len(), 12);
}

#[test]
fn all_errors_come_at_once() {
    let text = r#"
listen: 9000
wrkers: 2
models:
  fraud:
    variants:
      v1: {endpoint: "127.0.0.1:8001", version: 1.10}
      v1: {endpoint: "http://127.0.0.1:8001"}
      v2:
      v3: {endpoint: {url: "https://a:1", hops: yes}}
    unit: metadata:x
    strategy: {kind: ab, weights: {v1: 50, v2: 40%, v9: 20%}}
limits: {stall: 5, message: 4mib, connection_window: 64KiB}
"#;
    let errors = accept_text(text).unwrap_err();
    println!("{errors}");
    assert_eq!(errors.0.len(), 15);
}
