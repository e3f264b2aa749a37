//! What outlives the process: killed at any moment, a rollout goes on where it was, and no decision is forgotten.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parhelion::config::{self, Environment};
use parhelion::feedback::Intake;
use parhelion::keys::Keys;
use parhelion::pb::v1::FeedbackReport;
use parhelion::pb::v1::feedback_client::FeedbackClient;
use parhelion::pb::v1::feedback_report::Value;
use parhelion::rollout::{AuditRecord, Ground, Rollouts, Status};
use parhelion::state::State;
use parhelion::telemetry;
use parhelion::verdict::{Action, State as At};
use redb::ReadableDatabase as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;

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
    let ground = Ground {
        board: Arc::default(),
        unit_key: [0; 32],
        shards: Vec::new(),
        intake,
        warmer: parhelion::warm::Warmer::new().0,
        log: None,
        judges: std::sync::Arc::default(),
        drifts: std::sync::Arc::default(),
        fleet: None,
    };
    let rollouts = Rollouts::new(&config, State::start(state).unwrap(), ground);
    (rollouts.report("m").unwrap(), rollouts.audit(None, usize::MAX))
}

/// Sequences of the changes that the log tells, without those that it says are not on the disk yet.
fn told(log: &str) -> Vec<u64> {
    let records = || log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
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

/// What a caller is told of its prediction.
async fn prediction(client: &process::Client) -> String {
    let answer = process::infer(client, "").await.unwrap();
    answer.metadata().get("parhelion-prediction-id").unwrap().to_str().unwrap().to_owned()
}

/// The status of a report about a prediction, and what was said.
async fn report(sidecar: &Sidecar, prediction: &str, value: f64) -> Result<(), tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", sidecar.data)).unwrap();
    let report = FeedbackReport {
        prediction_id: prediction.to_owned(),
        name: "ok".to_owned(),
        value: Some(Value::Number(value)),
        ..FeedbackReport::default()
    };
    FeedbackClient::new(channel.connect_lazy()).report(report).await.map(|_| ())
}

/// Where the text of a rollout says how it is kept.
async fn kept(sidecar: &Sidecar) -> String {
    let admin = sidecar.admin.to_string();
    let output = process::run_to_end(&["ctl", "--admin", &admin, "status", "m"], &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const SKIPPED: &str = "skipped: this system lets no user mount a file system";

#[tokio::test]
async fn a_full_disk_is_said_and_counted_and_what_waited_is_written_when_there_is_room() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let yaml = canary(models, &state, "steps: [{share: 50%, hold: 1h}]");
    let Some(sidecar) = Sidecar::start_on(&state, "size=8m", &yaml).await else {
        return println!("{SKIPPED}");
    };
    sidecar.become_ready().await;
    sidecar.counts("parhelion_rollout_state{model=\"m\",state=\"running\"}", 1).await;
    let ballast = sidecar.seen(&state).join("ballast");
    let full = std::fs::write(&ballast, vec![1; 16 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let client = sidecar.client();
    // Evidence alone fits into what the file has already; a fat audit record does not.
    let reason = "r".repeat(400);
    let admin = sidecar.admin.to_string();
    let mut told = 0;
    while sidecar.metric("parhelion_state_failing").await == 0 {
        for command in ["pause", "resume"] {
            let arguments = ["ctl", "--admin", &admin, command, "m", "--reason", &reason];
            assert!(process::run_to_end(&arguments, &[]).status.success());
            told += 1;
        }
        assert!(told < 4000, "the disk is full, and nothing is said");
        variant(&client).await;
    }
    assert!(sidecar.metric("parhelion_state_errors_total").await > 0);
    until("the log", || async { sidecar.log().contains("the state cannot be kept; calls go on") }).await;
    assert!(sidecar.log().contains("No space left on device"), "{}", sidecar.log());
    for _ in 0..50 {
        variant(&client).await;
    }
    let said = kept(&sidecar).await;
    assert!(said.contains("kept    not now: ") && said.contains("rollouts.redb"), "{said}");
    let arguments = ["ctl", "--admin", &admin, "pause", "m", "--reason", "while full"];
    assert!(process::run_to_end(&arguments, &[]).status.success(), "a person is obeyed all the same");
    std::fs::remove_file(&ballast).unwrap();
    until("room", || async { sidecar.metric("parhelion_state_failing").await == 0 }).await;
    assert_eq!(sidecar.metric("parhelion_state_lost_total").await, 0);
    assert!(!kept(&sidecar).await.contains("not now"));
    // What stands on that disk now is all that a next process would know.
    std::fs::copy(sidecar.seen(&state).join("rollouts.redb"), directory.path().join("copy.redb")).unwrap();
    drop(sidecar);
    std::fs::rename(directory.path().join("copy.redb"), state.join("rollouts.redb")).unwrap();
    let (status, audit) = left(&yaml, &state);
    assert_eq!(status.report.state, At::Paused);
    let expected = told + 3;
    assert_eq!(
        audit.first().map(|record| record.sequence),
        Some(expected),
        "no record is missing at the end"
    );
}

#[tokio::test]
async fn a_read_only_directory_stops_nobody_and_ids_hold_beyond_the_restart_once_it_can_be_written() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let strategy = "steps: [{share: 99.999%, hold: 1h}]";
    let yaml =
        format!("{}    feedback: {{ok: {{kind: binary, window: 1h}}}}\n", canary(models, &state, strategy));
    let Some(sidecar) = Sidecar::start_on(&state, "ro,size=8m", &yaml).await else {
        return println!("{SKIPPED}");
    };
    sidecar.become_ready().await;
    assert_eq!(sidecar.metric("parhelion_state_failing").await, 1);
    let said = "a key is made that only this process knows";
    until("the log", || async { sidecar.log().contains(said) }).await;
    assert!(sidecar.log().contains("Read-only file system"), "{}", sidecar.log());
    let client = sidecar.client();
    assert_eq!(variant(&client).await, "v1", "where it stood cannot be known");
    let id = prediction(&client).await;
    report(&sidecar, &id, 1.0).await.unwrap();
    sidecar.remount(&state, "rw");
    until("room", || async { sidecar.metric("parhelion_state_failing").await == 0 }).await;
    until("the candidate's turn", || async { variant(&client).await == "v2" }).await;
    let id = prediction(&client).await;
    std::fs::copy(sidecar.seen(&state).join("keys"), directory.path().join("keys")).unwrap();
    drop(sidecar);
    std::fs::rename(directory.path().join("keys"), state.join("keys")).unwrap();
    let next = Sidecar::ready(&yaml).await;
    let refused = report(&next, &id, 1.0).await.map_err(|status| status.to_string());
    assert_eq!(refused, Ok(()), "the next process knows the key that signed it");
    let own = tempfile::tempdir().unwrap();
    let other = Sidecar::ready(&yaml.replace(&*state.to_string_lossy(), &own.path().to_string_lossy())).await;
    let refused = report(&other, &id, 1.0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "another installation does not: {refused}");
    assert!(refused.message().contains("key"), "{refused}");
    let refused = report(&next, &id, f64::NAN).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(refused.message().contains("NaN") && refused.message().contains("ok"), "{refused}");
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_said_and_used_as_soon_as_they_can() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let strategy = "steps: [{share: 50%, hold: 1h}]";
    let yaml =
        format!("{}    feedback: {{ok: {{kind: binary, window: 1h}}}}\n", canary(models, &state, strategy));
    let first = Sidecar::ready(&yaml).await;
    let before = prediction(&first.client()).await;
    drop(first);
    let (keys, aside) = (state.join("keys"), directory.path().join("aside"));
    std::fs::rename(&keys, &aside).unwrap();
    std::fs::create_dir(&keys).unwrap();
    let second = Sidecar::ready(&yaml).await;
    assert_eq!(second.metric("parhelion_state_failing").await, 1);
    until("the log", || async { second.log().contains("make it readable for this process") }).await;
    let own = prediction(&second.client()).await;
    report(&second, &own, 1.0).await.unwrap();
    assert_eq!(report(&second, &before, 1.0).await.unwrap_err().code(), Code::Unauthenticated);
    std::fs::remove_dir(&keys).unwrap();
    std::fs::rename(&aside, &keys).unwrap();
    until("the keys", || async { second.metric("parhelion_state_failing").await == 0 }).await;
    report(&second, &before, 1.0).await.unwrap();
    drop(second);
    let third = Sidecar::ready(&yaml).await;
    report(&third, &own, 0.0).await.unwrap();
    report(&third, &before, 0.0).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_deleted_under_it_is_made_anew() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let yaml = canary(models, &state, "steps: [{share: 50%, hold: 1h}]");
    let sidecar = Sidecar::ready(&yaml).await;
    sidecar.counts("parhelion_rollout_state{model=\"m\",state=\"running\"}", 1).await;
    until("the store", || async { state.join("rollouts.redb").exists() && state.join("keys").exists() })
        .await;
    let keys = std::fs::read(state.join("keys")).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    until("the log", || async { sidecar.log().contains("was deleted or replaced while it was in use") })
        .await;
    until("the files", || async { state.join("rollouts.redb").exists() && state.join("keys").exists() })
        .await;
    until("calm", || async { sidecar.metric("parhelion_state_failing").await == 0 }).await;
    assert!(sidecar.metric("parhelion_state_errors_total").await >= 1);
    variant(&sidecar.client()).await;
    assert_eq!(std::fs::read(state.join("keys")).unwrap(), keys);
    drop(sidecar);
    let (status, audit) = left(&yaml, &state);
    let actions: Vec<Action> = audit.iter().rev().map(|record| record.change.action).collect();
    assert_eq!((actions, status.report.state), (vec![Action::Started, Action::Began], At::Running));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone_and_calls_go_on() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let file = state.join("rollouts.redb");
    let newer = redb::Database::create(&file).unwrap();
    let write = newer.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("schema", 9).unwrap();
    write.commit().unwrap();
    drop(newer);
    let yaml = canary(models, &state, "steps: [{share: 99.999%, hold: 1h}]");
    let sidecar = Sidecar::ready(&yaml).await;
    let said =
        "schema 9 is newer than 1, which this program knows; run the newer program, or move the file away";
    until("the log", || async { sidecar.log().contains(said) }).await;
    let client = sidecar.client();
    assert_eq!(variant(&client).await, "v1");
    assert_eq!(sidecar.metric("parhelion_state_failing").await, 1);
    let waits = kept(&sidecar).await;
    assert!(waits.contains("the state directory, to know where it stood"), "{waits}");
    let aside = directory.path().join("aside.redb");
    std::fs::rename(&file, &aside).unwrap();
    until("the candidate's turn", || async { variant(&client).await == "v2" }).await;
    let newer = redb::Database::open(&aside).unwrap();
    let tables = newer.begin_read().unwrap().list_tables().unwrap().count();
    assert_eq!(tables, 1, "nothing was written into it");
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
async fn what_answers_proved_outlives_a_kill_but_for_the_last_flush() {
    let models = [&Model::start("1"), &Model::start("2")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let [v1, v2] = models.map(|model| model.address);
    let yaml = format!(
        "state: {}\nmodels:\n  m:\n    variants: {{v1: {{endpoint: 'http://{v1}', version: '1'}}, \
         v2: {{endpoint: 'http://{v2}', version: '2'}}}}\n    shadows: [{{variant: v2}}]\n    drift: {{sample: 100%}}\n",
        state.display()
    );
    let sidecar = Sidecar::ready(&yaml).await;
    let client = sidecar.client();
    for _ in 0..60 {
        process::infer(&client, "").await.unwrap();
    }
    let known = |sidecar: &Sidecar| {
        let status = ctl(sidecar, &["status", "m", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let pairs = status["shadows"][0]["pairs"].as_u64().unwrap();
        let answers = status["drift"]["answers"].as_object().unwrap().values();
        (pairs, answers.filter_map(serde_json::Value::as_u64).sum::<u64>())
    };
    until("all to be compared", || async { known(&sidecar) == (60, 60) }).await;
    // Two flushes, so that what was compared before is on the disk.
    sleep(Duration::from_millis(2500)).await;
    sidecar.signal("KILL");
    drop(sidecar);
    let (status, _) = left(&yaml, &state);
    assert_eq!(status.shadows[0].report.pairs, 60);
    let again = Sidecar::ready(&yaml).await;
    process::infer(&again.client(), "").await.unwrap();
    until("one more", || async { known(&again).0 == 61 }).await;
}

/// What `parhelion ctl` prints.
fn ctl(sidecar: &Sidecar, words: &[&str]) -> String {
    let admin = sidecar.admin.to_string();
    let words: Vec<&str> = ["ctl", "--admin", &admin].iter().chain(words).copied().collect();
    String::from_utf8(process::run_to_end(&words, &[]).stdout).unwrap()
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
