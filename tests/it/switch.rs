//! Switches from one variant to another over real sockets and under load: nobody notices, the order is as said, and
//! the way back is open as long as it is said to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::process::{Client, Model, PORTS, Sidecar, get, infer, request, run_to_end, until};

/// Of one call: when it began, who answered.
#[derive(Debug, Clone)]
struct Seen {
    began: u64,
    variant: String,
}

struct House {
    models: [Model; 2],
    sidecar: Sidecar,
    more: &'static str,
}

fn config([v1, v2]: &[Model; 2], variant: &str, more: &str) -> String {
    format!(
        "default: m\nmodels:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{}', version: 1.0.0}}\n      \
         v2: {{endpoint: 'http://{}', version: 2.0.0, model_name: m-next}}\n    \
         strategy: {{kind: pinned, variant: {variant}{more}}}\n",
        v1.address, v2.address
    )
}

impl House {
    async fn new(more: &'static str) -> Self {
        let models = [Model::start("1.0.0"), Model::start("2.0.0")];
        let sidecar = Sidecar::ready(&config(&models, "v1", more)).await;
        House { models, sidecar, more }
    }

    /// The file names another variant.
    fn name(&self, variant: &str) {
        self.sidecar.rewrite(&config(&self.models, variant, self.more));
    }

    fn ctl(&self, arguments: &[&str]) -> (i32, String) {
        self.sidecar.ctl(arguments)
    }

    fn status(&self) -> Value {
        self.sidecar.rollout("m")
    }

    async fn is(&self, state: &str) {
        self.sidecar.rollout_is("m", state).await;
    }

    /// When the latest change of that kind was made, in milliseconds since 1970.
    fn at(&self, action: &str) -> u64 {
        let records: Value = serde_json::from_str(&self.ctl(&["audit", "m", "--json"]).1).unwrap();
        let records = records.as_array().cloned().unwrap_or_default();
        let record = records.iter().find(|record| record["action"] == action);
        record
            .and_then(|record| record["at_unix_ms"].as_u64())
            .unwrap_or_else(|| panic!("{action}: {records:?}"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Callers that call without a pause until they are stopped; each failure is one too many.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<Seen>>,
}

impl Load {
    fn on(sidecar: &Sidecar, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (client, stop) = (sidecar.client(), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = now();
                    let answer = infer(&client, "").await.unwrap();
                    let variant = answer.metadata().get("parhelion-variant").unwrap().to_str().unwrap();
                    assert_eq!(answer.get_ref().model_name, "m");
                    seen.push(Seen { began, variant: variant.to_owned() });
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                seen
            });
        }
        Load { stop, callers: tasks }
    }

    async fn end(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

/// Calls that began well behind a record, and before `until`, and who answered them.
fn after(seen: &[Seen], record: u64, until: u64) -> Vec<&str> {
    // A busy machine may take its time between a record and its publication; the exact figure is measured apart.
    let mut found: Vec<&str> = seen
        .iter()
        .filter(|call| call.began > record + 100 && call.began < until)
        .map(|call| &*call.variant)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[tokio::test]
async fn a_switch_and_its_revert_under_load_lose_no_call() {
    let house = House::new(", warmup: {requests: 12, timeout: 60s}").await;
    let load = Load::on(&house.sidecar, 4);
    until("calls", || async { house.models[0].calls() > 50 }).await;
    assert_eq!(house.models[1].calls(), 0, "what is not switched to gets nothing");
    assert_eq!(house.status()["state"], "steady");
    house.name("v2");
    house.is("running").await;
    let (code, text) = house.ctl(&["status", "m"]);
    assert!(code == 0 && text.contains("revert window") && text.contains("rollback"), "{text}");
    until("calls of v2", || async { house.models[1].calls() > 100 }).await;
    let before_revert = now();
    let (code, text) = house.ctl(&["rollback", "m", "--reason", "a test"]);
    assert_eq!(code, 0, "{text}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let seen = load.end().await;

    let (flip, revert) = (house.at("flipped"), house.at("rolled_back"));
    assert_eq!(after(&seen, 0, flip.saturating_sub(100)), ["v1"], "nobody is early");
    assert_eq!(after(&seen, flip, before_revert), ["v2"]);
    assert_eq!(after(&seen, revert, u64::MAX), ["v1"]);
    let status = house.status();
    assert_eq!((&status["state"], &status["kind"]), (&"rolled_back".into(), &"pinned".into()));

    // It was warmed first, by what callers send, under the name that its server knows, marked, without credentials.
    let headers = house.models[1].headers();
    let marked = headers.iter().filter(|(name, value)| name == "parhelion-warmup" && value == "true").count();
    assert_eq!(marked, 12, "as many as were asked for");
    assert!(house.sidecar.metric("parhelion_warmup_requests_total").await >= 12);

    // A blocked build stays out, whatever the file says beside it, until a person lets it.
    house.name("v1");
    house.is("steady").await;
    house.name("v2");
    house.is("rolled_back").await;
    let text = house.ctl(&["status", "m"]).1;
    assert!(text.contains("was rolled back before"), "{text}");
    assert_eq!(house.ctl(&["resume", "m"]).0, 0);
    house.is("running").await;
    assert_eq!(house.ctl(&["promote", "m"]).0, 0);
    let (code, text) = house.ctl(&["rollback", "m"]);
    assert!(code == 1 && text.contains("nothing is left to revert to"), "{text}");
}

/// Who answers one call that must not fail.
async fn answers(client: &Client) -> String {
    let answer = infer(client, "").await.unwrap();
    answer.metadata().get("parhelion-variant").unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_not_ready_is_waited_for_and_the_way_back_needs_nobody() {
    let mut house = House::new(", warmup: {requests: 0}").await;
    let (client, health) = (house.sidecar.client(), house.sidecar.health);
    let address = house.models[1].address;
    house.models[1].end();
    until("v2 is not ready", || async { get(health, "/readyz/m/v2").await.0 == 503 }).await;
    house.name("v2");
    house.is("waiting").await;
    for _ in 0..50 {
        assert_eq!(answers(&client).await, "v1");
    }
    assert_eq!(house.status()["state"], "waiting", "nobody is given to a dead server");
    house.models[1] = Model::start_at("2.0.0", address);
    house.is("running").await;
    assert_eq!(answers(&client).await, "v2");

    house.models[1].end();
    until("v2 is dead", || async { infer(&client, "").await.is_err() }).await;
    let (code, text) = house.ctl(&["rollback", "m"]);
    assert_eq!(code, 0, "{text}");
    for _ in 0..50 {
        assert_eq!(answers(&client).await, "v1", "from the first call after the command");
    }
    assert_eq!(house.status()["state"], "rolled_back");
}

#[tokio::test]
async fn a_canary_warms_its_candidate_before_it_is_given_a_call() {
    let models = [Model::start("1.0.0"), Model::start("2.0.0")];
    let strategy = "kind: canary, baseline: v1, candidate: v2, steps: [{share: 50%, hold: 1h}], \
                    warmup: {requests: 6, time: 0s, calls: 1}";
    let pinned = config(&models, "v1", "");
    let sidecar = Sidecar::ready(&pinned.replace("kind: pinned, variant: v1", strategy)).await;
    let client = sidecar.client();
    let live = || async {
        let mut call = tonic::Request::new(request(""));
        call.metadata_mut().insert("x-live", "yes".parse().unwrap());
        client.clone().model_infer(call).await.unwrap();
    };
    let said = |name: &str| -> Vec<usize> {
        let headers = models[1].headers();
        let places = headers.iter().enumerate().filter(|(_, (said, _))| said == name);
        places.map(|(place, _)| place).collect()
    };
    // There is nothing to send it before callers have sent something.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(models[1].calls(), 0);
    until("calls of the candidate", || async {
        live().await;
        !said("x-live").is_empty()
    })
    .await;
    let (warmed, first) = (said("parhelion-warmup"), said("x-live")[0]);
    assert_eq!(warmed.len(), 6, "as many as were asked for");
    assert!(warmed.iter().all(|place| *place < first), "all of them first: {warmed:?}, {first}");
}

#[tokio::test]
async fn a_guard_takes_the_way_back_by_itself() {
    let house = House::new(", warmup: {requests: 0}, guards: {errors: {at_most: 20%}}").await;
    house.name("v2");
    house.is("running").await;
    let client = house.sidecar.client();
    until("the guard's verdict", || async {
        for _ in 0..20 {
            let _ = infer(&client, "fail:13").await;
        }
        house.status()["state"] == "rolled_back"
    })
    .await;
    let (code, text) = house.ctl(&["status", "m"]);
    assert!(code == 0 && text.contains("blocked"), "{text}");
    let answer = infer(&client, "").await.unwrap();
    assert_eq!(answer.metadata().get("parhelion-variant").unwrap(), "v1");
    let (_, audit) = house.ctl(&["audit", "m"]);
    assert!(audit.contains("breaks its limit: errors"), "{audit}");
}

#[tokio::test]
async fn a_server_that_fails_at_every_sample_is_not_switched_to() {
    let house = House::new(", warmup: {requests: 5, timeout: 300ms}").await;
    let client = house.sidecar.client();
    // What callers send is answered by v1 alone: v2 is called by another name, and a dead server answers nothing.
    until("samples", || async { infer(&client, "").await.is_ok() && house.models[0].calls() > 5 }).await;
    let text = format!("{PORTS}{}", config(&house.models, "v2", house.more));
    let dead = text.replace("model_name: m-next", "model_name: refuse");
    std::fs::write(house.sidecar.file(), dead).unwrap();
    house.is("waiting").await;
    until("what it waits for", || async { house.ctl(&["status", "m"]).1.contains("warmed 0 of 5") }).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(house.status()["state"], "waiting");
    assert_eq!(infer(&client, "").await.unwrap().metadata().get("parhelion-variant").unwrap(), "v1");
    // A person may all the same.
    assert_eq!(house.ctl(&["promote", "m"]).0, 0);
    house.is("running").await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let models = [Model::start("1.0.0"), Model::start("2.0.0")];
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    let text =
        |variant| format!("{PORTS}state: {state}\n{}", config(&models, variant, ", warmup: {requests: 0}"));
    let path = directory.path().join("parhelion.yaml");
    std::fs::write(&path, text("v1")).unwrap();
    let home = || tempfile::tempdir().unwrap();
    let mut sidecar = Sidecar::follow(home(), &path, &[], None).await;
    sidecar.become_ready().await;
    sidecar.signal("TERM");
    sidecar.ended(crate::support::process::LONG).await;
    // Changed while nobody ran: what had everything still has, until the other is ready.
    std::fs::write(&path, text("v2")).unwrap();
    for action in ["flipped", "started"] {
        let mut sidecar = Sidecar::follow(home(), &path, &[], None).await;
        let admin = sidecar.admin.to_string();
        let ctl = |arguments: &[&str]| {
            let output = run_to_end(&[&["ctl", "--admin", &admin], arguments].concat(), &[]);
            String::from_utf8(output.stdout).unwrap()
        };
        until("the window", || async { ctl(&["status", "m"]).contains("revert window") }).await;
        assert_eq!(ctl(&["audit", "m"]).matches(action).count(), 1, "{}", ctl(&["audit", "m"]));
        sidecar.signal("TERM");
        sidecar.ended(crate::support::process::LONG).await;
    }
}
