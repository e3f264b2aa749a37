use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::example::outcome;
use crate::telemetry::exemplar::Exemplar;
use crate::telemetry::{names, shard};

struct Bench {
    shards: Vec<Arc<Shard>>,
    counters: Counters,
    tally: Tally,
    exemplars: Exemplars,
    feedback: Side,
}

/// Two workers, a call each.
fn bench() -> Bench {
    let shards = vec![Arc::new(Shard::default()), Arc::new(Shard::default())];
    let call = outcome();
    for shard in &shards {
        let series = shard.series(&Arc::from("fraud"), &Arc::from("v2"));
        series.observe(&call);
        series.observe_attempt(&call.attempts[0]);
    }
    Bench {
        shards,
        counters: Counters::default(),
        tally: Tally::default(),
        exemplars: Exemplars::default(),
        feedback: crate::telemetry::example::side(),
    }
}

fn state() -> State {
    State {
        revision: Arc::from("0123456789ab"),
        reloads_applied: 2,
        reloads_refused: 1,
        current: false,
        endpoints: vec![EndpointState {
            model: Arc::from("fraud"),
            variant: Arc::from("v1"),
            endpoint: "127.0.0.1:8001".to_owned(),
            ready: true,
        }],
        rollouts: rollouts::Rollouts::default(),
        memory: Some(Memory { used: 5, limit: 10 }),
        certificates: vec![End {
            used: "listen",
            file: "/etc/tls/tls.crt".into(),
            until: UNIX_EPOCH + Duration::from_secs(1_900_000_000),
        }],
        certificates_current: true,
        resources: vec![ResourceState {
            model: Arc::from("fraud"),
            variant: Arc::from("v2"),
            read: 7,
            failed: 2,
            cpu: None,
            resident: Some(5.5e8),
        }],
        log: Some(Arc::default()),
    }
}

impl Bench {
    fn text(&self, format: Format) -> String {
        let sources = Sources {
            shards: &self.shards,
            counters: &self.counters,
            tally: &self.tally,
            exemplars: &self.exemplars,
            feedback: &self.feedback,
        };
        render(sources, &state(), format)
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|one| one == line), "no line {line}\n{text}");
}

#[test]
fn workers_are_added_up() {
    let bench = bench();
    bench.counters.add(Counter::ShedInFlight);
    bench.tally.exported(4);
    bench.tally.dropped(Cause::QueueFull, 3);
    let text = bench.text(Format::OpenMetrics);
    for line in [
        r#"parhelion_calls_total{model="fraud",variant="v2",code="OK",blame="nobody"} 2"#,
        r#"parhelion_calls_in_flight{model="",variant=""} 0"#,
        r#"parhelion_assignments_total{model="fraud",variant="v2",reason="split"} 2"#,
        r#"parhelion_attempts_total{model="fraud",variant="v2",blame="nobody"} 2"#,
        r#"parhelion_call_duration_seconds_bucket{model="fraud",variant="v2",le="0.01"} 0"#,
        r#"parhelion_call_duration_seconds_bucket{model="fraud",variant="v2",le="0.025"} 2"#,
        r#"parhelion_call_duration_seconds_bucket{model="fraud",variant="v2",le="+Inf"} 2"#,
        r#"parhelion_call_duration_seconds_sum{model="fraud",variant="v2"} 0.024"#,
        r#"parhelion_call_duration_seconds_count{model="fraud",variant="v2"} 2"#,
        r#"parhelion_own_duration_seconds_bucket{model="fraud",variant="v2",le="5e-5"} 0"#,
        r#"parhelion_own_duration_seconds_bucket{model="fraud",variant="v2",le="0.0001"} 2"#,
        r#"parhelion_upstream_duration_seconds_sum{model="fraud",variant="v2"} 0.02"#,
        r#"parhelion_message_bytes_total{model="fraud",variant="v2",direction="request"} 600"#,
        r#"parhelion_messages_total{model="fraud",variant="v2",direction="response"} 2"#,
        r#"parhelion_shed_total{cause="in_flight"} 1"#,
        r#"parhelion_shed_total{cause="message"} 0"#,
        "parhelion_spans_exported_total 4",
        r#"parhelion_spans_dropped_total{cause="queue_full"} 3"#,
        r#"parhelion_endpoint_ready{model="fraud",variant="v1",endpoint="127.0.0.1:8001"} 1"#,
        r#"parhelion_resource_reads_total{model="fraud",variant="v2",result="read"} 7"#,
        r#"parhelion_resource_reads_total{model="fraud",variant="v2",result="failed"} 2"#,
        r#"parhelion_resource_resident_bytes{model="fraud",variant="v2"} 550000000"#,
        r#"parhelion_config_reloads_total{result="refused"} 1"#,
        "parhelion_config_current 0",
        r#"parhelion_config_info{revision="0123456789ab"} 1"#,
        "# TYPE parhelion_calls counter",
        "# EOF",
    ] {
        has(&text, line);
    }
}

#[test]
fn an_exemplar_stands_at_its_bucket_in_openmetrics_only() {
    let bench = bench();
    bench.exemplars.keep(Exemplar::of(&outcome()).unwrap());
    let line = concat!(
        r#"parhelion_call_duration_seconds_bucket{model="fraud",variant="v2",le="0.025"} 2"#,
        r##" # {trace_id="00000000000000000000000000000abc",span_id="0000000000000011"} 0.012 1700000000.012"##
    );
    has(&bench.text(Format::OpenMetrics), line);
    let plain = bench.text(Format::Prometheus);
    assert!(!plain.contains("trace_id") && !plain.contains("# EOF"));
    has(&plain, "# TYPE parhelion_calls_total counter");
}

#[test]
fn every_metric_is_written_once_and_under_its_listed_name() {
    let text = bench().text(Format::Prometheus);
    let mut written: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    written.sort_unstable();
    let mut listed = names::metric::ALL;
    listed.sort_unstable();
    assert_eq!(written, listed);
}

#[test]
fn made_up_methods_make_no_series() {
    let bench = bench();
    let made_up = |number: u32| {
        let mut call = outcome();
        call.route = None;
        call.attempts.clear();
        call.path = format!("/made.Up/Name{number}").parse().unwrap();
        bench.shards[0].unrouted().observe(&call);
        bench.text(Format::OpenMetrics).lines().count()
    };
    let first = made_up(0);
    for number in 1..1000 {
        assert_eq!(made_up(number), first);
    }
}

#[test]
fn no_name_can_break_a_line() {
    let bench = bench();
    bench.shards[0].series(&Arc::from("a\"b\\c\nd"), &Arc::from("v")).observe(&outcome());
    has(
        &bench.text(Format::OpenMetrics),
        r#"parhelion_calls_total{model="a\"b\\c\nd",variant="v",code="OK",blame="nobody"} 1"#,
    );
}

#[test]
fn the_scraper_chooses() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
    assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
    assert_eq!(Format::accepted(None), Format::Prometheus);
}

/// Both lists, spans' and metrics', against the page; and the words of its tables against both.
#[test]
fn the_page_has_the_same_names() {
    let page = include_str!("../../../docs/telemetry.md");
    let mut written: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .filter(|name| !name.contains(|c: char| c.is_ascii_uppercase()))
        .collect();
    written.sort_unstable();
    let metrics = names::metric::ALL.into_iter().chain(names::metric::OF_WEBHOOK);
    let mut listed: Vec<_> = metrics.chain(names::attribute::ALL).collect();
    listed.sort_unstable();
    assert_eq!(written, listed);
    for bound in shard::BOUNDS {
        let bound = format!("{bound:?}");
        assert!(page.contains(&bound), "the page does not name the bucket {bound}");
    }
    assert_eq!(shard::BOUNDS.first(), Some(&Duration::from_micros(50)));
}

/// An alert on a metric or a reason that does not exist would be silent for ever.
#[test]
fn the_alerts_are_on_metrics_that_exist() {
    let rules = include_str!("../../../docker/prometheus/alerts.yaml");
    let named = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut names: Vec<&str> =
        rules.split(|c| !named(c)).filter(|word| word.starts_with("parhelion_")).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let of_webhook = names::metric::OF_WEBHOOK.contains(&name);
        assert!(of_webhook || names::metric::ALL.contains(&name), "{name}");
    }
    let reasons: Vec<&str> = rules
        .split("reason")
        .skip(1)
        .filter_map(|rest| rest.strip_prefix("=").or(rest.strip_prefix("!~")))
        .filter_map(|rest| rest.split('"').nth(1))
        .flat_map(|words| words.split('|'))
        .collect();
    assert!(reasons.len() >= 3, "{reasons:?}");
    for reason in reasons {
        assert!(crate::shadow::record::Skip::ALL.iter().any(|skip| skip.name() == reason), "{reason}");
    }
}

#[test]
fn copies_are_counted_apart_and_their_coverage_is_said() {
    let bench = bench();
    let (model, variant) = (Arc::from("fraud"), Arc::from("v3"));
    for shard in &bench.shards {
        let series = shard.shadow(&model, &variant);
        (0..4).for_each(|_| series.add_eligible());
        series.add_skipped(crate::shadow::record::Skip::Breaker);
        series.add_copied(Code::OK, Blame::Nobody, Duration::from_millis(2));
        series.add_primary(Some((Duration::from_millis(1), Blame::Nobody)));
        let bytes = Some(crate::comparison::Kind::Bytes);
        let found = crate::comparison::Comparison { kind: bytes, ..Default::default() };
        series.add_compared(Some(&found));
        series.add_crowded();
        series.set_pinned(100);
        shard.shadow_counters().add(Counter::UpstreamConnects);
    }
    let text = bench.text(Format::Prometheus);
    for line in [
        r#"parhelion_shadow_eligible_total{model="fraud",variant="v3"} 8"#,
        r#"parhelion_shadow_copied_total{model="fraud",variant="v3"} 2"#,
        r#"parhelion_shadow_skipped_total{model="fraud",variant="v3",reason="breaker"} 2"#,
        r#"parhelion_shadow_skipped_total{model="fraud",variant="v3",reason="aborted"} 0"#,
        r#"parhelion_shadow_coverage_ratio{model="fraud",variant="v3"} 0.25"#,
        r#"parhelion_shadow_calls_total{model="fraud",variant="v3",code="OK",blame="nobody"} 2"#,
        r#"parhelion_shadow_comparisons_total{model="fraud",variant="v3",result="bytes"} 2"#,
        r#"parhelion_shadow_comparisons_total{model="fraud",variant="v3",result="not_compared"} 2"#,
        r#"parhelion_shadow_pinned_bytes{model="fraud",variant="v3"} 200"#,
        r#"parhelion_shadow_connections_total{event="connected"} 2"#,
        r#"parhelion_upstream_connections_total{event="connected"} 0"#,
    ] {
        has(&text, line);
    }
    let ledgers = crate::telemetry::shadow::ledgers(&bench.shards);
    assert_eq!((ledgers.len(), ledgers[0].eligible, ledgers[0].open()), (1, 8, 4));
    assert_eq!(ledgers[0].skipped.get("breaker"), Some(&2));
}

/// Every variable that is read stands in the page, and every variable of the page is read.
#[test]
fn the_page_has_the_same_variables() {
    let page = include_str!("../../../docs/telemetry.md");
    let mut written: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split("` |").next())
        .flat_map(|cell| cell.split("`, `"))
        .filter(|name| name.contains(|c: char| c.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect();
    written.sort_unstable();
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    for sampler in [None, Some("traceidratio")] {
        let read = crate::telemetry::environment::Environment::read(|name| {
            asked.borrow_mut().insert(name.to_owned());
            sampler.filter(|_| name == "OTEL_TRACES_SAMPLER").map(str::to_owned)
        });
        assert!(read.is_ok());
    }
    assert_eq!(written, asked.into_inner().into_iter().collect::<Vec<_>>());
}
