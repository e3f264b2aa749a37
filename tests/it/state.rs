//! What outlives the process: killed at any moment, a rollout goes on where it was, and no decision is forgotten.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parhelion::config::{self, Environment};
use parhelion::feedback::Intake;
use parhelion::keys::Keys;
use parhelion::rollout::{AuditRecord, Ground, Rollouts, Status};
use parhelion::state::State;
use parhelion::telemetry;
use parhelion::verdict::{Action, State as At};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::support::process::{self, LONG, Model, PORTS, Sidecar, until};

/// A canary of as many steps as there are, each of one call, so that it decides all the time.
fn eager(models: [&Model; 2], state: &Path) -> String {
    let steps: Vec<String> = (0..400)
        .map(|step| format!("{{share: {:.2}%, hold: 0s, calls: 1}}", 20.0 + f64::from(step) * 0.15))
        .collect();
    canary(
        models,
        state,
        &format!(
            "steps: [{}], guards: {{errors: {{absolute: 50%, relative: 25%}}, rejections: off, latency: off}}",
            steps.join(", ")
        ),
    )
}

fn canary([v1, v2]: [&Model; 2], state: &Path, strategy: &str) -> String {
    format!(
        "state: {}\nmodels:\n  m:\n    variants: {{v1: {{endpoint: 'http://{}', version: '1'}}, \
         v2: {{endpoint: 'http://{}', version: '2'}}}}\n    \
         strategy: {{kind: canary, baseline: v1, candidate: v2, salt: s, {strategy}}}\n",
        state.display(),
        v1.address,
        v2.address
    )
}

/// What a process that was killed left, read by the code that the next one reads it with.
fn left(yaml: &str, state: &Path) -> (Status, Vec<Arc<AuditRecord>>) {
    let loaded = config::read("test.yaml", &format!("{PORTS}{yaml}"), &Environment::default());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    let keys = Arc::new(Keys::random().unwrap());
    let surroundings = telemetry::environment::Environment::read(|_| None).unwrap();
    let started = telemetry::start(&config.telemetry, surroundings, NonZeroUsize::MIN, Arc::default());
    let configs = watch::channel(Arc::clone(&config)).1;
    let intake = Intake::new(keys, configs, started.unwrap().telemetry.feedback(), 1);
    let ground = Ground { board: Arc::default(), unit_key: [0; 32], shards: Vec::new(), intake };
    let rollouts = Rollouts::new(&config, State::start(state).unwrap(), ground);
    (rollouts.report("m").unwrap(), rollouts.audit(None, usize::MAX))
}

/// Sequences of the changes that the log tells, without those that it says are not on the disk yet.
fn told(log: &str) -> Vec<u64> {
    let records = || log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = |message: &str| -> Vec<u64> {
        let wanted = records().filter(|record| record["message"] == message);
        wanted.filter_map(|record| record["sequence"].as_u64()).collect()
    };
    let late = of("a change holds, but is not on the disk yet");
    of("rollout changed").into_iter().filter(|sequence| !late.contains(sequence)).collect()
}

/// Who gets a call.
async fn variant(client: &process::Client) -> String {
    let answer = process::infer(client, "").await.unwrap();
    answer.metadata().get("parhelion-variant").unwrap().to_str().unwrap().to_owned()
}

/// A part of a second that nobody chose.
fn some_time(most: u64) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(nanos / 1000) * 2_654_435_761 % (most * 1000))
}

/// Calls until it is dropped, and says how many were answered.
fn load(sidecar: &Sidecar) -> (tokio::task::JoinHandle<()>, Arc<std::sync::atomic::AtomicU64>) {
    let answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (client, count) = (sidecar.client(), Arc::clone(&answered));
    let task = process::beside(async move {
        while process::infer(&client, "").await.is_ok() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    (task, answered)
}

#[tokio::test]
async fn killed_at_any_moment_it_forgets_no_decision_and_at_most_a_flush_of_evidence() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let yaml = eager(models, &state);
    let (mut records, mut step, mut counted) = (0, 0, 0);
    for round in 0..6 {
        let sidecar = Sidecar::ready(&yaml).await;
        let (task, answered) = load(&sidecar);
        sleep(Duration::from_millis(200) + some_time(900)).await;
        let long_ago = answered.load(std::sync::atomic::Ordering::Relaxed);
        if round % 2 == 1 {
            // Two flushes, so that what was answered before is on the disk.
            sleep(Duration::from_millis(2500)).await;
        }
        sidecar.signal("KILL");
        let log = sidecar.log();
        drop(sidecar);
        let _ = task.await;
        let (status, audit) = left(&yaml, &state);
        let sequences: Vec<u64> = audit.iter().rev().map(|record| record.sequence).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "no record is missing");
        let last = told(&log).last().copied().unwrap_or(0);
        assert!(last <= sequences.len() as u64, "change {last} was told, but {} are kept", sequences.len());
        let newest = &audit[0];
        let at = status.report.step.unwrap().0;
        assert_eq!(
            (newest.change.step.unwrap_or(0), newest.epoch),
            (at, status.epoch),
            "decision and record agree"
        );
        assert!(sequences.len() >= records && at >= step, "it never goes back");
        let calls: u64 = status.report.calls.iter().sum();
        assert!(calls >= counted, "{calls} calls after {counted}");
        if round % 2 == 1 {
            assert!(
                calls >= counted + long_ago,
                "{calls} calls are kept, {counted} and {long_ago} were there"
            );
        }
        (records, step, counted) = (sequences.len(), at, calls);
    }
    assert!(step > 6, "it decided all the time: {step} steps");
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_serves_by_the_baseline_until_it_is_free() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let yaml = canary(models, &state, "steps: [{share: 99.999%, hold: 1h}]");
    let first = Sidecar::ready(&yaml).await;
    until("the first step", || async { first.log().contains("its first step begins") }).await;
    let second = Sidecar::ready(&yaml).await;
    until("the log", || async { second.log().contains("another process has it open") }).await;
    let client = second.client();
    for _ in 0..20 {
        assert_eq!(variant(&client).await, "v1");
    }
    assert!(second.metric("parhelion_state_failing").await == 1);
    drop(first);
    until("the candidate's turn", || async { variant(&client).await == "v2" }).await;
    assert_eq!(second.metric("parhelion_state_failing").await, 0);
    assert_eq!(second.metric("parhelion_rollout_state{model=\"m\",state=\"running\"}").await, 1);
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_said_and_calls_go_on() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::create_dir(state.join("rollouts.redb")).unwrap();
    let yaml = canary(models, &state, "steps: [{share: 99.999%, hold: 1h}]");
    let sidecar = Sidecar::ready(&yaml).await;
    let said = "must be a directory that the sidecar may write to";
    until("the log", || async { sidecar.log().contains(said) }).await;
    let client = sidecar.client();
    assert_eq!(variant(&client).await, "v1");
    sidecar.counts("parhelion_state_errors_total", 2).await;
    std::fs::remove_dir(state.join("rollouts.redb")).unwrap();
    until("the candidate's turn", || async { variant(&client).await == "v2" }).await;
}

#[tokio::test]
async fn a_reload_that_changes_nothing_the_rollout_rests_on_keeps_its_evidence() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let yaml = canary(models, &state, "steps: [{share: 50%, hold: 1h}]");
    let mut sidecar = Sidecar::ready(&yaml).await;
    // Calls before the first step are in no arm.
    sidecar.counts("parhelion_rollout_state{model=\"m\",state=\"running\"}", 1).await;
    let (task, answered) = load(&sidecar);
    until("calls", || async { answered.load(std::sync::atomic::Ordering::Relaxed) > 50 }).await;
    let after = format!("{yaml}    default_deadline: 7s\n");
    std::fs::write(sidecar.file(), format!("{PORTS}{after}")).unwrap();
    sidecar.counts("parhelion_config_reloads_total{result=\"applied\"}", 1).await;
    let before = answered.load(std::sync::atomic::Ordering::Relaxed);
    until("more calls", || async { answered.load(std::sync::atomic::Ordering::Relaxed) > before + 50 }).await;
    sidecar.signal("TERM");
    sidecar.ended(LONG).await;
    timeout(LONG, task).await.unwrap().unwrap();
    let (status, audit) = left(&after, &state);
    let actions: Vec<Action> = audit.iter().rev().map(|record| record.change.action).collect();
    assert_eq!((actions, status.report.state), (vec![Action::Started, Action::Began], At::Running));
    let calls: u64 = status.report.calls.iter().sum();
    assert!(calls >= before, "{calls} of {before} calls, and those after them");
}

#[tokio::test]
async fn an_idle_rollout_is_small() {
    let models = [&Model::start("1"), &Model::start("2")];
    let resident = |strategy: &'static str| async move {
        let model = |number: usize| {
            format!(
                "  m{number}:\n    variants: {{v1: {{endpoint: 'http://{}', version: '1'}}, \
                 v2: {{endpoint: 'http://{}', version: '2'}}}}\n    unit: [metadata:x-user]\n    \
                 strategy: {strategy}\n",
                models[0].address, models[1].address
            )
        };
        let text: String = (0..COUNT).map(model).collect();
        let sidecar = Sidecar::ready(&format!("default: m0\nmodels:\n{text}")).await;
        let moved = if strategy.contains("canary") { COUNT as u64 } else { 0 };
        until("first steps", || async {
            sidecar.metric("parhelion_rollout_changes_total{action=\"began\"}").await == moved
        })
        .await;
        sidecar.resident()
    };
    const COUNT: usize = 200;
    let canary = resident("{kind: canary, baseline: v1, candidate: v2}").await;
    let ab = resident("{kind: ab, baseline: v1, weights: {v1: 90%, v2: 10%}}").await;
    let each = canary.saturating_sub(ab) / COUNT as u64;
    println!("an idle canary: {each} KiB more than an A/B test of the same two variants");
    assert!(each <= 64, "{each} KiB");
}
