//! A panic is one task's: it is counted, what that was at is lost, and all else goes on, the task itself too. Debug
//! builds alone can be told to panic, and these tests build one.
#![cfg(debug_assertions)]

use tonic::Code;

use crate::collector::Stub;
use crate::support::process::{Model, Sidecar, get, infer, until};

const PANICS: &str = "parhelion_panics_total";
const APPLIED: &str = "parhelion_config_reloads_total{result=\"applied\"}";

fn config(servers: &[Model; 2], collector: &Stub, folder: &std::path::Path, share: u32) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        "state: {}\nlog: {{dir: {}, flush: 50ms, seal: {{every: 1s}}}}\ntelemetry: {{otlp: 'http://{}', sample: 100%}}\n\
         models:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{}'}}\n      v2: {{endpoint: 'http://{}'}}\n    \
         shadows: [{{variant: v2, sample: {share}%}}]\n",
        at("state"),
        at("log"),
        collector.address,
        servers[0].address,
        servers[1].address,
    )
}

#[tokio::test]
async fn a_panic_anywhere_ends_what_it_was_at_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = [Model::start("1.0.0"), Model::start("2.0.0")];
    let collector = Stub::start();
    let told =
        "call=2 copy=1 comparer=1 exporter=1 keeper=1 probe=1 memory=1 reload=1 log=1 log.seal=1 state=1";
    let set = [("PARHELION_FAILPOINTS", told), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let yaml = config(&servers, &collector, folder.path(), 100);
    let sidecar = Sidecar::start_with(&yaml, &set, None).await;
    sidecar.become_ready().await;
    let mut failed = Vec::new();
    for _ in 0..50 {
        failed.extend(infer(&sidecar.client(), "").await.err().map(|status| status.code()));
    }
    assert_eq!(failed, [Code::Internal; 2], "only the calls that panicked");
    sidecar.rewrite(&config(&servers, &collector, folder.path(), 50));
    // All but those of threads: two calls, a copy, and one each of comparer, exporter, keeper, prober, memory and reload.
    until("nine panics", || async { sidecar.metric(PANICS).await == 9 }).await;

    // Each of them works after it.
    sidecar.counts(APPLIED, 1).await;
    sidecar.counts("parhelion_shadow_comparisons_total", 1).await;
    sidecar.counts("parhelion_log_rows_total{table=\"predictions\"}", 1).await;
    sidecar.counts("parhelion_log_files_sealed_total", 1).await;
    assert_eq!(sidecar.metric("parhelion_log_rows_lost_total{cause=\"panic\"}").await, 2);
    sidecar.counts("parhelion_state_errors_total", 1).await;
    sidecar.counts("parhelion_spans_exported_total", 1).await;
    until("spans", || async { !collector.spans().is_empty() }).await;
    until("the state", || async { sidecar.metric("parhelion_state_failing").await == 0 }).await;
    for server in &mut servers {
        server.end();
    }
    until("the prober to see the end", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    assert_eq!(sidecar.metric(PANICS).await, 9);
    // Each is said with its place, and every record is one line.
    let log = sidecar.log();
    let told = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let panicked = told.filter(|record| record["message"] == "panicked");
    assert!(panicked.clone().all(|record| record["place"].as_str().unwrap().contains("failpoint.rs")));
    assert_eq!(panicked.count(), 12, "of tasks nine, and three of threads");
}

#[tokio::test]
async fn failing_disks_and_stores_fail_no_call_and_lose_what_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [Model::start("1.0.0"), Model::start("2.0.0")];
    let collector = Stub::start();
    let told = "log.append=20% log.sync=20% state.write=30%";
    let yaml = config(&servers, &collector, folder.path(), 100);
    let sidecar = Sidecar::start_with(&yaml, &[("PARHELION_FAILPOINTS", told)], None).await;
    sidecar.become_ready().await;
    let mut calls = 0;
    let lost = "parhelion_log_rows_lost_total";
    let predictions = "parhelion_log_rows_total{table=\"predictions\"}";
    let all = [&format!("{lost}{{cause=\"write\"}}"), &format!("{lost}{{cause=\"sync\"}}"), predictions];
    // Until chance has had each of them.
    'enough: for _ in 0..100 {
        for _ in 0..50 {
            infer(&sidecar.client(), "").await.unwrap();
            calls += 1;
        }
        for counter in all {
            if sidecar.metric(counter).await == 0 {
                continue 'enough;
            }
        }
        break;
    }
    let rows = "parhelion_log_rows_total{table=";
    // Calls and copies are rows; changes of rollouts are none here.
    until("the books", || async {
        let (written, gone) = (sidecar.metric(rows).await, sidecar.metric(lost).await);
        written + gone >= 2 * calls
    })
    .await;
    assert!(sidecar.metric(predictions).await > 0, "what the disk took is there");
    assert!(sidecar.metric(lost).await > 0);
    assert_eq!(sidecar.metric(PANICS).await, 0);
}
