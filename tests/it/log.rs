//! The prediction log of the real process: killed under load, on a full disk, on one that cannot be written.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use parhelion::log::read::{Reader, Wanted};
use parhelion::log::segment;
use parhelion::log::table::Table;

use crate::support::process::{self, LONG, Model, Sidecar, infer, one, until};

const SKIPPED: &str = "skipped: this system does not let users mount";
const ROWS: &str = "parhelion_log_rows_total{table=\"predictions\"}";
const LOST: &str = "parhelion_log_rows_lost_total";

/// One model, and a log that seals often, and has room for all of five hundred lives.
fn config(model: &Model, directory: &Path) -> String {
    let log = "flush: 20ms, seal: {every: 1s, size: 64KiB}, disk: 4GiB";
    format!("{}log: {{dir: {}, {log}}}\ndrain: {{grace: 2s}}\n", one(model.address), directory.display())
}

/// Every prediction in a directory, each counted; and what could not be read.
fn predictions(directory: &Path) -> (usize, BTreeSet<String>, Vec<String>) {
    let mut reader = Reader::open(directory).unwrap();
    let (mut rows, mut found) = (0, BTreeSet::new());
    reader.rows(&Wanted { fields: &["prediction_uuid"], ..Wanted::all(Table::Predictions) }, |_, batch| {
        let column = batch.column_by_name("prediction_uuid").unwrap();
        for row in 0..batch.num_rows() {
            rows += 1;
            found.insert(segment::cell(column, row).as_str().unwrap().to_owned());
        }
        ControlFlow::Continue(())
    });
    (rows, found, reader.problems().map(str::to_owned).collect())
}

/// Kills the process so often under load: what it said it had written is there, once, and every file can be read.
async fn killed(times: u64) {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("log");
    let yaml = config(&model, &directory);
    let mut flushed = 0;
    for life in 0..times {
        let mut sidecar = Sidecar::ready(&yaml).await;
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let client = sidecar.client();
                process::beside(async move { while infer(&client, "").await.is_ok() {} })
            })
            .collect();
        // The instant moves through flush, seal and start.
        let until = Instant::now() + Duration::from_millis(30 + life * 97 % 1300);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        flushed += sidecar.metric(ROWS).await;
        sidecar.signal("KILL");
        sidecar.ended(LONG).await;
        for caller in callers {
            let _ = caller.await;
        }
        let (rows, found, problems) = predictions(&directory);
        assert!(found.len() as u64 >= flushed, "life {life}: {} of {flushed}", found.len());
        assert_eq!((rows, &problems[..]), (found.len(), &[][..]), "life {life}");
    }
    assert!(flushed > times, "{flushed} rows in {times} lives");
    let last = Sidecar::ready(&yaml).await;
    until("all is sealed", || async { std::fs::read_dir(directory.join("spool")).unwrap().count() == 0 })
        .await;
    assert_eq!(last.metric(LOST).await, 0);
    assert!(predictions(&directory).1.len() as u64 >= flushed);
}

#[tokio::test]
async fn what_was_flushed_outlives_ten_kills_under_load() {
    killed(10).await;
}

#[tokio::test]
#[ignore = "takes a quarter of an hour: cargo test --test it -- --ignored five_hundred_kills"]
async fn what_was_flushed_outlives_five_hundred_kills_under_load() {
    killed(500).await;
}

#[tokio::test]
async fn a_full_disk_costs_rows_that_are_counted_and_no_call_until_there_is_room() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("log");
    std::fs::create_dir(&directory).unwrap();
    let yaml = config(&model, &directory);
    let Some(sidecar) = Sidecar::start_on(&directory, "size=4m", &yaml).await else {
        return println!("{SKIPPED}");
    };
    sidecar.become_ready().await;
    let client = sidecar.client();
    infer(&client, "").await.unwrap();
    sidecar.counts(ROWS, 1).await;
    let ballast = sidecar.seen(&directory).join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap_err();
    let mut calls = 1;
    while sidecar.metric(LOST).await < 100 {
        infer(&client, "").await.unwrap();
        calls += 1;
        assert!(calls < 100_000, "the disk is full, and nothing is lost");
    }
    assert_eq!(sidecar.metric("parhelion_log_failing{part=\"disk\"}").await, 1);
    until("the log", || async { sidecar.log().contains("the prediction log fails; calls go on") }).await;
    assert!(sidecar.log().contains("No space left on device"), "{}", sidecar.log());
    let (_, said) = sidecar.ctl(&["status"]);
    assert!(said.contains("disk fails since") && said.contains("disk_full"), "{said}");
    let log = &sidecar.rollout("m")["log"];
    assert!(log["lost"]["disk_full"].as_u64() >= Some(100) && log["troubles"][0]["now"] == true, "{log}");
    std::fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    let before = sidecar.metric(ROWS).await;
    while sidecar.metric(ROWS).await == before {
        infer(&client, "").await.unwrap();
        calls += 1;
        assert!(freed.elapsed() < LONG, "it does not write again");
    }
    // Every call is in one of both sums.
    until("the books", || async { sidecar.metric(ROWS).await + sidecar.metric(LOST).await == calls }).await;
}

#[tokio::test]
async fn a_directory_that_is_read_only_is_said_and_stops_nobody() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("log");
    std::fs::create_dir(&directory).unwrap();
    let yaml = config(&model, &directory);
    let Some(sidecar) = Sidecar::start_on(&directory, "ro,size=4m", &yaml).await else {
        return println!("{SKIPPED}");
    };
    sidecar.become_ready().await;
    for _ in 0..20 {
        infer(&sidecar.client(), "").await.unwrap();
    }
    sidecar.counts("parhelion_log_rows_lost_total{cause=\"directory\"}", 20).await;
    assert!(sidecar.log().contains("Read-only file system"), "{}", sidecar.log());
    sidecar.remount(&directory, "rw");
    until("it writes", || async { sidecar.metric("parhelion_log_failing{part=\"disk\"}").await == 0 }).await;
    infer(&sidecar.client(), "").await.unwrap();
    sidecar.counts(ROWS, 1).await;
}

/// Without the places where 80 columns end.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

#[tokio::test]
async fn a_directory_of_a_newer_version_is_named_and_left_alone() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let newer = "{\"parhelion_log\": 99}";
    std::fs::write(root.path().join("schema.json"), newer).unwrap();
    let sidecar = Sidecar::ready(&config(&model, root.path())).await;
    infer(&sidecar.client(), "").await.unwrap();
    sidecar.counts(&format!("{LOST}{{cause=\"directory\"}}"), 1).await;
    let said = squeezed(&sidecar.ctl(&["status", "m"]).1);
    assert!(said.contains("isofschema99") && said.contains("lost1row:1directory"), "{said}");
    assert_eq!(std::fs::read_to_string(root.path().join("schema.json")).unwrap(), newer);
}

#[tokio::test]
async fn what_another_tool_left_half_written_is_named_and_neither_stored_nor_in_the_way() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let (directory, store) = (root.path().join("log"), root.path().join("store"));
    let hour = directory.join("predictions/model=m/date=2020-01-31/hour=07");
    std::fs::create_dir_all(&hour).unwrap();
    std::fs::create_dir(&store).unwrap();
    let half = "00000000-0000-0000-0000-000000000001-5.parquet";
    std::fs::write(hour.join(half), b"PAR1 and then it broke").unwrap();
    std::fs::write(hour.join("part-0.parquet"), b"PAR1").unwrap();
    let yaml = config(&model, &directory)
        .replace("disk: 4GiB", &format!("disk: 4GiB, upload: 'file://{}'", store.display()));
    let sidecar = Sidecar::ready(&yaml).await;
    infer(&sidecar.client(), "").await.unwrap();
    sidecar.counts("parhelion_log_files_uploaded_total", 1).await;
    assert_eq!(sidecar.metric("parhelion_log_foreign_files").await, 1);
    until("it is said", || async { sidecar.metric("parhelion_log_failing{part=\"upload\"}").await == 1 })
        .await;
    let said = squeezed(&sidecar.ctl(&["status", "m"]).1);
    assert!(said.contains("part-0.parquet") && said.contains("isnowholeParquetfile"), "{said}");
    assert!(hour.join(half).exists() && !store.join("predictions/model=m/date=2020-01-31").exists());
}

#[test]
fn what_is_asked_of_a_log_that_is_not_there_is_refused() {
    for arguments in [
        &["log", "tail", "--log", "/nowhere"][..],
        &["log", "show", "--log", "/nowhere", "00000000-0000-7000-8000-000000000001"],
        &["evaluate", "--log", "/nowhere", "--feedback", "x", "--policy", "v2"],
    ] {
        let output = process::run_to_end(arguments, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("/nowhere") && output.stdout.is_empty(), "{said}");
    }
}
