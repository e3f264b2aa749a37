//! The configuration changes while calls run: in every way that files change, all or nothing, and no call notices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::support::process::{self, Client, LONG, Model, PORTS, Sidecar, beside, infer, one};

/// A change must be in force by then, on a machine that is busy with other things.
const APPLIED: Duration = Duration::from_secs(4);

/// Two versions, and how much of the traffic the second one gets.
fn split(models: &[Model; 2], second: u32) -> String {
    let [first, next] = models;
    format!(
        "models:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{}', version: 1.0.0}}\n      \
         v2: {{endpoint: 'http://{}', version: 2.0.0}}\n    strategy: {{kind: ab, weights: {{v1: {}%, v2: {second}%}}}}\n",
        first.address,
        next.address,
        100 - second,
    )
}

fn models() -> [Model; 2] {
    [Model::start("1.0.0"), Model::start("2.0.0")]
}

async fn both_ready(sidecar: &Sidecar) {
    sidecar.counts("parhelion_endpoint_ready", 2).await;
}

/// The variant and the rollout that a call was tagged with.
type Tags = (String, String);

async fn tags(client: &Client) -> Result<Tags, Status> {
    let answer = infer(client, "").await?;
    let tag = |name| answer.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    let version = tag("parhelion-model-version");
    assert_eq!(answer.get_ref().model_version, version, "the tag names who answered");
    Ok((tag("parhelion-variant"), tag("parhelion-rollout")))
}

/// Waits until calls go to a variant; none may fail meanwhile.
async fn goes_to(sidecar: &Sidecar, variant: &str) {
    let client = sidecar.client();
    let start = Instant::now();
    while tags(&client).await.unwrap().0 != variant {
        assert!(start.elapsed() < APPLIED, "still not {variant}:\n{}", sidecar.log());
        sleep(Duration::from_millis(20)).await;
    }
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn weights_change_in_place_and_by_rename() {
    let models = models();
    let sidecar = Sidecar::start(&split(&models, 0)).await;
    both_ready(&sidecar).await;
    goes_to(&sidecar, "v1").await;
    let whole = |second| format!("{PORTS}{}", split(&models, second));
    std::fs::write(sidecar.file(), whole(100)).unwrap();
    goes_to(&sidecar, "v2").await;
    replace(&sidecar.file(), &whole(0));
    goes_to(&sidecar, "v1").await;
    // And again, for some only watch the file that was there first.
    replace(&sidecar.file(), &whole(100));
    goes_to(&sidecar, "v2").await;
    assert_eq!(sidecar.metric("parhelion_config_reloads_total{result=\"applied\"}").await, 3);
}

#[cfg(unix)]
#[tokio::test]
async fn weights_change_by_the_swap_of_a_mounted_config_map() {
    let models = models();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    let generation = |name: &str, second| {
        let folder = root.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("parhelion.yaml"), format!("{PORTS}{}", split(&models, second))).unwrap();
    };
    let point = |name: &str| {
        let link = root.join("..data_tmp");
        std::os::unix::fs::symlink(name, &link).unwrap();
        std::fs::rename(&link, root.join("..data")).unwrap();
    };
    generation("..2026_1", 0);
    point("..2026_1");
    std::os::unix::fs::symlink("..data/parhelion.yaml", root.join("parhelion.yaml")).unwrap();
    let sidecar = Sidecar::follow(directory, &root, &[], None).await;
    both_ready(&sidecar).await;
    goes_to(&sidecar, "v1").await;
    generation("..2026_2", 100);
    point("..2026_2");
    std::fs::remove_dir_all(root.join("..2026_1")).unwrap();
    goes_to(&sidecar, "v2").await;
    assert_eq!(sidecar.metric("parhelion_config_reloads_total{result=\"refused\"}").await, 0);
}

#[tokio::test]
async fn a_broken_file_is_refused_and_the_old_one_goes_on() {
    let models = models();
    let sidecar = Sidecar::start(&split(&models, 0)).await;
    both_ready(&sidecar).await;
    let before = tags(&sidecar.client()).await.unwrap();
    let good = std::fs::read_to_string(sidecar.file()).unwrap();
    let cases = [
        ("models: [", "no valid YAML"),
        ("", "is empty"),
        (&good.replace("v1: 100%", "v1: 90%"), "weights"),
        (&good.replace("workers: 1", "workers: 2"), "workers"),
        (&format!("{good}keys: /none\n"), "keys"),
        (&format!("{good}lisen: x\n"), "did you mean listen?"),
    ];
    for (index, (text, part)) in cases.iter().enumerate() {
        std::fs::write(sidecar.file(), text).unwrap();
        sidecar.counts("parhelion_config_reloads_total{result=\"refused\"}", index as u64 + 1).await;
        assert_eq!(sidecar.metric("parhelion_config_current").await, 0);
        let status = sidecar.status().await;
        let errors = status["config"]["errors"].to_string();
        assert!(errors.contains(part), "{part}: {errors}");
        assert!(before.1.ends_with(status["config"]["revision"].as_str().unwrap()));
        assert!(status["config"]["refused"].is_string());
        assert_eq!(tags(&sidecar.client()).await.unwrap(), before);
    }
    std::fs::remove_file(sidecar.file()).unwrap();
    sidecar.counts("parhelion_config_reloads_total{result=\"refused\"}", cases.len() as u64 + 1).await;
    assert_eq!(tags(&sidecar.client()).await.unwrap(), before);
    // Put back as it was, all is well again.
    std::fs::write(sidecar.file(), &good).unwrap();
    sidecar.counts("parhelion_config_current", 1).await;
    assert_eq!(sidecar.status().await["config"]["errors"], serde_json::json!([]));
    assert_eq!(tags(&sidecar.client()).await.unwrap(), before);
    assert!(sidecar.log().contains("configuration refused, the one before goes on"));
}

#[tokio::test]
async fn limits_change_for_calls_that_come() {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::ready(&one(model.address)).await;
    let client = sidecar.client();
    let rewrite = |limits: &str| {
        std::fs::write(sidecar.file(), format!("{PORTS}{}{limits}", one(model.address))).unwrap();
    };
    rewrite("limits: {in_flight: 1}\n");
    sidecar.counts("parhelion_config_reloads_total{result=\"applied\"}", 1).await;
    let long = {
        let client = client.clone();
        beside(async move { infer(&client, "sleep:3000").await })
    };
    process::until("the call upstream", || async { model.open() == 1 }).await;
    process::until("a refusal", || async {
        infer(&client, "").await.is_err_and(|status| {
            status.code() == Code::ResourceExhausted && status.message().contains("limits.in_flight")
        })
    })
    .await;
    sidecar.counts("parhelion_shed_total{cause=\"in_flight\"}", 1).await;
    rewrite("limits: {in_flight: 100}\n");
    process::until("room again", || async { infer(&client, "").await.is_ok() }).await;
    assert!(!long.is_finished(), "there was room beside the first call");
    assert!(timeout(LONG, long).await.unwrap().unwrap().is_ok());

    let mut big = process::request("");
    big.raw_input_contents = vec![vec![1; 100_000].into()];
    assert!(client.clone().model_infer(big.clone()).await.is_ok());
    rewrite("limits: {message: 64KiB}\n");
    process::until("a bound", || async {
        let answer = client.clone().model_infer(big.clone()).await;
        answer.is_err_and(|status| status.code() == Code::ResourceExhausted)
    })
    .await;
    infer(&client, "").await.unwrap();
}

/// Callers one after the other, who keep what they were answered.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Vec<Result<Tags, Status>>>>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (client, stop) = (process::client(address), Arc::clone(&stop));
            beside(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(tags(&client).await);
                }
                answers
            })
        };
        let callers = (0..4).map(caller).collect();
        Load { stop, callers }
    }

    async fn end(self) -> Vec<Tags> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            for answer in timeout(LONG, caller).await.unwrap().unwrap() {
                all.push(answer.unwrap());
            }
        }
        all
    }
}

#[tokio::test]
async fn endpoints_are_swapped_under_load_and_nobody_fails() {
    let old = Model::start("1.0.0");
    let sidecar = Sidecar::ready(&one(old.address)).await;
    let load = Load::on(sidecar.data);
    sleep(Duration::from_millis(200)).await;
    let new = Model::start("1.0.0");
    std::fs::write(sidecar.file(), format!("{PORTS}{}", one(new.address))).unwrap();
    process::until("calls to the new server", || async { new.calls() > 20 }).await;
    process::until("the last call to the old one", || async { old.open() == 0 }).await;
    let calls = old.calls();
    drop(old);
    sleep(Duration::from_millis(300)).await;
    let answers = load.end().await;
    assert!(answers.len() > calls + 20, "{} answers, {calls} of them by the old server", answers.len());
}

#[tokio::test]
async fn each_call_sees_one_generation() {
    let models = models();
    let sidecar = Sidecar::start(&split(&models, 0)).await;
    both_ready(&sidecar).await;
    let load = Load::on(sidecar.data);
    for round in 0..6 {
        let second = if round % 2 == 0 { 100 } else { 0 };
        // A comment makes each generation another one.
        let text = format!("{PORTS}{}# {round}\n", split(&models, second));
        replace(&sidecar.file(), &text);
        sidecar.counts("parhelion_config_reloads_total{result=\"applied\"}", round + 1).await;
        sleep(Duration::from_millis(50)).await;
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (variant, rollout) in load.end().await {
        let first = seen.entry(rollout.clone()).or_insert_with(|| variant.clone());
        assert_eq!(*first, variant, "two variants of {rollout}, which has one only");
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[tokio::test]
async fn spans_go_to_the_collector_of_the_newest_configuration() {
    use crate::collector::Stub;

    let model = Model::start("1.0.0");
    let (first, second) = (Stub::start(), Stub::start());
    let config = |stub: &Stub| {
        format!("{}telemetry: {{otlp: 'http://{}', sample: 100%}}\n", one(model.address), stub.address)
    };
    let sidecar = Sidecar::start_with(&config(&first), &[("OTEL_BSP_SCHEDULE_DELAY", "100")], None).await;
    sidecar.become_ready().await;
    infer(&sidecar.client(), "").await.unwrap();
    process::until("a span", || async { !first.spans().is_empty() }).await;
    std::fs::write(sidecar.file(), format!("{PORTS}{}", config(&second))).unwrap();
    sidecar.counts("parhelion_config_reloads_total{result=\"applied\"}", 1).await;
    sleep(Duration::from_millis(300)).await;
    let before = first.spans().len();
    infer(&sidecar.client(), "").await.unwrap();
    process::until("a span elsewhere", || async { second.spans().len() >= 2 }).await;
    assert_eq!(first.spans().len(), before);
}
