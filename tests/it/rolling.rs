//! Rolling updates over real sockets and under load: servers are taken away and put back one after the other, nobody
//! notices, and never fewer serve than must.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::process::{Model, Sidecar, infer, until};

struct House {
    models: Vec<Option<Model>>,
    addresses: Vec<SocketAddr>,
    sidecar: Sidecar,
    more: &'static str,
}

fn config(addresses: &[SocketAddr], version: &str, more: &str) -> String {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("'http://{address}'")).collect();
    format!(
        "models:\n  m:\n    variants:\n      v1: {{endpoints: [{}], version: {version}}}\n    \
         strategy: {{kind: rolling, variant: v1{more}}}\n",
        endpoints.join(", ")
    )
}

impl House {
    async fn new(more: &'static str) -> Self {
        let models: Vec<Model> = (0..4).map(|_| Model::start("1.0.0")).collect();
        let addresses: Vec<SocketAddr> = models.iter().map(|model| model.address).collect();
        let sidecar = Sidecar::ready(&config(&addresses, "1.0.0", more)).await;
        House { models: models.into_iter().map(Some).collect(), addresses, sidecar, more }
    }

    /// The file has another version.
    fn version(&self, version: &str) {
        self.sidecar.rewrite(&config(&self.addresses, version, self.more));
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

    /// The place of the endpoint that waits to be replaced, and by what.
    async fn drained(&self) -> (usize, String) {
        let find = || {
            let status = self.status();
            let endpoints = status["endpoints"].as_array().cloned().unwrap_or_default();
            let serving = endpoints.iter().filter(|one| one["place"] == "serving" && one["ready"] == true);
            assert!(serving.count() >= 3, "min_ready is 3: {status:#}");
            let place = endpoints.iter().position(|one| one["place"] == "drained")?;
            Some((place, endpoints[place]["wanted"].as_str()?.to_owned()))
        };
        until("a drained endpoint", || async { find().is_some() }).await;
        find().unwrap()
    }

    /// Takes a server away and puts another in its place.
    fn replace(&mut self, place: usize, version: &str) {
        self.models[place] = None;
        self.models[place] = Some(Model::start_at(version, self.addresses[place]));
    }

    /// Replaces what is drained by what it waits for.
    async fn replace_next(&mut self) -> usize {
        let (place, wanted) = self.drained().await;
        let calls = self.models[place].as_ref().unwrap().calls();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let model = self.models[place].as_ref().unwrap();
        assert_eq!((model.calls(), model.open()), (calls, 0), "what is drained gets no calls");
        self.replace(place, &wanted);
        let address = self.addresses[place].to_string();
        until("readmission", || async {
            let status = self.status();
            let endpoints = status["endpoints"].as_array().cloned().unwrap_or_default();
            let found = endpoints.iter().find(|one| one["address"] == *address).cloned().unwrap_or_default();
            found["place"] == "serving" && found["runs"] == *wanted
        })
        .await;
        place
    }

    fn actions(&self) -> Vec<String> {
        let records: Value = serde_json::from_str(&self.ctl(&["audit", "m", "--json"]).1).unwrap();
        let mut records = records.as_array().cloned().unwrap_or_default();
        records.sort_by_key(|record| record["sequence"].as_u64());
        records.iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// Callers that call without a pause until they are stopped; each failure is one too many.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<[String; 2]>>,
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
                    let answer = infer(&client, "sleep:2").await.unwrap();
                    let said = answer.metadata().get("parhelion-model-version").unwrap().to_str().unwrap();
                    seen.push([said.to_owned(), answer.get_ref().model_version.clone()]);
                }
                seen
            });
        }
        Load { stop, callers: tasks }
    }

    /// Versions that answers were said to be of, and were of.
    async fn end(self) -> Vec<[String; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn servers_are_replaced_one_by_one_under_load_and_no_call_is_lost() {
    let mut house = House::new(", min_ready: 3, hold: 0s, warmup: {requests: 3}").await;
    house.is("steady").await;
    let load = Load::on(&house.sidecar, 8);
    house.version("2.0.0");
    let mut replaced = Vec::new();
    for _ in 0..4 {
        replaced.push(house.replace_next().await);
    }
    house.is("promoted").await;
    replaced.sort_unstable();
    assert_eq!(replaced, [0, 1, 2, 3]);
    let seen = load.end().await;
    assert!(seen.len() > 200);
    let wrong: Vec<_> = seen.iter().filter(|[said, was]| said != was).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} tags name another version: {:?}",
        wrong.len(),
        seen.len(),
        wrong.first()
    );
    let actions = house.actions();
    let one = ["cordoned", "drained", "readmitted"];
    let began = actions.iter().position(|action| action == "began").unwrap();
    assert_eq!(actions[began..], [&["began"][..], &one.repeat(4), &["promoted"]].concat());
    let (code, text) = house.ctl(&["status", "m"]);
    assert!(code == 0 && text.contains("ENDPOINT") && text.contains("2.0.0"), "{text}");
}

#[tokio::test]
async fn a_wrong_version_walks_back_what_was_replaced() {
    let mut house = House::new(", hold: 0s, warmup: {requests: 0}").await;
    house.is("steady").await;
    let load = Load::on(&house.sidecar, 4);
    house.version("2.0.0");
    house.replace_next().await;
    let (place, _) = house.drained().await;
    house.replace(place, "3.0.0");
    house.is("rolled_back").await;
    let (code, text) = house.ctl(&["status", "m"]);
    assert!(code == 0 && text.contains("to be replaced by version 1.0.0"), "{text}");
    let (again, wanted) = house.drained().await;
    assert_eq!((again, &*wanted), (place, "1.0.0"));
    house.replace_next().await;
    house.replace_next().await;
    until("the way back", || async { house.actions().last().is_some_and(|action| action == "restored") })
        .await;
    load.end().await;
    let (code, text) = house.ctl(&["promote", "m", "--reason", "a test"]);
    assert!(code != 0 && text.contains("say themselves what they run"), "{text}");
}

#[tokio::test]
async fn a_version_that_fails_its_callers_goes_back_and_stays_blocked() {
    let mut house = House::new(", hold: 30s, warmup: {requests: 0}, guards: {errors: {at_most: 5%}}").await;
    house.is("steady").await;
    house.version("2.0.0-broken");
    let place = house.replace_next().await;
    // A quarter of the calls meets it: the others show nothing of it.
    let client = house.sidecar.client();
    let failed = std::cell::RefCell::new(Vec::new());
    until("the way back", || async {
        for _ in 0..20 {
            if let Err(status) = infer(&client, "r").await {
                let version = status.metadata().get("parhelion-model-version").cloned();
                failed.borrow_mut().push(version.unwrap());
            }
        }
        house.status()["state"] == "rolled_back"
    })
    .await;
    let failed = failed.into_inner();
    assert!(failed.iter().all(|version| version == "2.0.0-broken"), "{failed:?}");
    house.drained().await;
    let (code, text) = house.ctl(&["status", "m"]);
    assert!(
        code == 0 && text.contains("errors") && text.contains("to be replaced by version 1.0.0"),
        "{text}"
    );
    assert_eq!(house.replace_next().await, place);
    until("the way back", || async { house.actions().last().is_some_and(|action| action == "restored") })
        .await;
    for _ in 0..40 {
        infer(&client, "r").await.unwrap();
    }
    // Another file, and this one again: its build is known.
    house.version("1.0.0");
    house.is("steady").await;
    house.version("2.0.0-broken");
    house.is("rolled_back").await;
    let (_, text) = house.ctl(&["status", "m"]);
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("its build was rolled back before"), "{text}");
    let (code, text) = house.ctl(&["resume", "m", "--reason", "a test"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(house.drained().await.1, "2.0.0-broken");
}
