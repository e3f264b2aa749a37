//! Rollouts seen and steered from outside: the service over real sockets, and the real `parhelion ctl` before a real
//! sidecar.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use parhelion::pb::v1::control_client::ControlClient;
use parhelion::pb::v1::{
    CommandRequest, ExplainRequest, ExportRequest, GetRolloutRequest, ListAuditRequest, ListRolloutsRequest,
    PinRequest, State, WatchRolloutsRequest,
};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::support::process::{LONG, Model, Sidecar, file, get, program, request, run_to_end, until};

const ACT: &str = "00112233445566778899aabbccddeeff";
const READ: &str = "ffeeddccbbaa99887766554433221100";

/// Two variants, a canary of half the users that no test sees the end of, and a model that decides nothing.
fn config(v1: &Model, v2: SocketAddr) -> String {
    format!(
        "default: m
models:
  m:
    variants:
      v1: {{endpoint: 'http://{}', version: 1.4.0}}
      v2: {{endpoint: 'http://{v2}', version: 2.0.0}}
    unit: [metadata:x-user]
    strategy:
      kind: canary
      baseline: v1
      candidate: v2
      steps: [{{share: 50%, hold: 1h}}, {{share: 60%, hold: 1h}}]
      warmup: {{time: 0s, calls: 1}}
  other:
    variants:
      only: {{endpoint: 'http://{}', version: 1.0.0}}
",
        v1.address, v1.address
    )
}

struct House {
    _models: [Model; 2],
    sidecar: Sidecar,
}

impl House {
    async fn new() -> Self {
        let (v1, v2) = (Model::start("1.4.0"), Model::start("2.0.0"));
        let sidecar = Sidecar::ready(&config(&v1, v2.address)).await;
        let house = House { _models: [v1, v2], sidecar };
        until("the first step", || async { house.json(&["status", "m"])["state"] == "running" }).await;
        house
    }

    fn ctl(&self, arguments: &[&str]) -> Told {
        ctl(self.sidecar.admin, arguments, &[])
    }

    /// What the command says as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.ctl(&[arguments, &["--json"]].concat());
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    }
}

/// How a command ended.
struct Told {
    code: i32,
    out: String,
    err: String,
}

fn ctl(admin: SocketAddr, arguments: &[&str], environment: &[(&str, &str)]) -> Told {
    let admin = admin.to_string();
    let output = run_to_end(&[&["ctl", "--admin", &admin], arguments].concat(), environment);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Told { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

async fn client(admin: SocketAddr) -> ControlClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{admin}")).unwrap();
    ControlClient::new(endpoint.connect().await.unwrap())
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn about(model: &str) -> CommandRequest {
    CommandRequest { model: model.to_owned(), reason: String::new() }
}

#[tokio::test]
async fn a_person_sees_and_steers_a_rollout() {
    let house = House::new().await;
    let list = house.ctl(&["list"]);
    assert_eq!(list.code, 0, "{}", list.err);
    assert!(list.out.contains("m      canary  running  1/2") && list.out.contains("steady"), "{}", list.out);
    let status = house.ctl(&["status", "m"]).out;
    for want in
        ["m: canary, running", "step 1 of 2, v2 50 %", "waits", "next    if every guard passes: step 2 of 2"]
    {
        assert!(status.contains(want), "{want}\n{status}");
    }
    assert!(house.ctl(&["status"]).out.lines().all(|line| line.chars().count() <= 80), "{status}");
    for (command, state, action) in [
        (&["pause", "m", "--reason", "over the weekend"][..], "paused", "paused"),
        (&["resume", "m"], "running", "resumed"),
        (&["pin", "m", "v2"], "pinned", "pinned"),
        (&["resume", "m"], "running", "resumed"),
        (&["promote", "m"], "promoted", "promoted"),
        (&["rollback", "m"], "rolled_back", "rolled_back"),
    ] {
        let done = house.json(command);
        assert_eq!((&done["record"]["action"], &done["rollout"]["state"]), (&action.into(), &state.into()));
        assert!(done["record"]["who"].as_str().unwrap().starts_with("operator local 127.0.0.1:"), "{done}");
    }
    let now = house.json(&["status", "m"]);
    assert_eq!((&now["arms"][1]["blocked"], &now["arms"][1]["share"]), (&true.into(), &0.0.into()));
    assert!(now["differs"].as_str().unwrap().contains("v1 gets everything"), "{now}");
    let trail = house.json(&["audit", "m"]);
    let actions: Vec<&str> =
        trail.as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions[..3], ["started", "began", "paused"]);
    assert_eq!(actions.last(), Some(&"rolled_back"));
    assert_eq!(trail[2]["reason"], "over the weekend");
    assert_eq!(house.json(&["audit", "--limit", "1"]).as_array().unwrap().len(), 1);
    assert!(house.ctl(&["audit", "m"]).out.contains("reason: over the weekend"));
}

#[tokio::test]
async fn what_is_exported_loads_and_agrees() {
    let house = House::new().await;
    house.json(&["promote", "m"]);
    let export = house.ctl(&["export", "m"]);
    assert_eq!(export.code, 0, "{}", export.err);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), &export.out);
    let checked = run_to_end(&["check", path.to_str().unwrap()], &[]);
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{}\n{told}", export.out);
    assert!(export.out.contains(r#""kind": "pinned""#) && !export.out.contains("v1"), "{}", export.out);
}

#[tokio::test]
async fn explain_says_what_calls_get() {
    let house = House::new().await;
    let mut seen = Vec::new();
    for user in 0..12 {
        let user = format!("user-{user}");
        let explained = house.json(&["explain", "m", "--unit", &user]);
        let same = house.json(&["explain", "m", "--metadata", &format!("x-user={user}")]);
        assert_eq!(explained, same);
        let mut call = request("1");
        call.model_name = "m".to_owned();
        let mut call = Request::new(call);
        call.metadata_mut().insert("x-user", user.parse().unwrap());
        let answer = house.sidecar.client().model_infer(call).await.unwrap();
        let variant = answer.metadata().get("parhelion-variant").unwrap().to_str().unwrap();
        assert_eq!(explained["variant"], variant, "{user}");
        assert_eq!(explained["reason"], "split");
        let place = explained["place"].as_u64().unwrap();
        let owner =
            explained["ranges"].as_array().unwrap().iter().find(|range| {
                (range["from"].as_u64().unwrap()..range["to"].as_u64().unwrap()).contains(&place)
            });
        assert_eq!(owner.unwrap()["variant"], variant);
        seen.push(variant.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["v1", "v2"], "both variants were among them");
    let told = house.ctl(&["explain", "m", "--unit", "user-1"]).out;
    assert!(told.contains("▲") && told.contains("murmur3_x86_32"), "{told}");
    let drawn = house.json(&["explain", "m"]);
    assert_eq!((&drawn["reason"], &drawn["variant"]), (&"draw".into(), &Value::Null));
    let none = house.ctl(&["explain", "other", "--unit", "ann"]);
    assert!(none.code == 1 && none.err.contains("has no `unit`"), "{}", none.err);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_remedy_and_its_code() {
    let house = House::new().await;
    for (arguments, code, want) in [
        (&["status", "n"][..], 1, "known here: m, other"),
        (&["status", "othr"], 1, "did you mean other?"),
        (&["pin", "m", "v9"], 1, "known here: v1, v2"),
        (&["resume", "m"], 1, "it moves by itself already"),
        (&["promote", "other"], 1, "no switch is under way"),
        (&["audit", "nobody"], 1, "there is no model \"nobody\""),
        (&["pause", "m", "--reason", "two\nlines"], 1, "one line"),
        (&["explain", "m", "--metadata", "x-user"], 2, "NAME=VALUE"),
        (&["audit", "--limit", "0"], 2, "--limit"),
        (&["pause"], 2, "MODEL"),
        (&["--admin", "nowhere", "list"], 2, "HOST:PORT"),
        (&["--token-file", "/nowhere/token", "list"], 2, "/nowhere/token"),
        (&["token", "a b", "act"], 2, "a name has"),
    ] {
        let told = match arguments {
            ["--admin", ..] => {
                let output = run_to_end(&[&["ctl"], arguments].concat(), &[]);
                let err = String::from_utf8(output.stderr).unwrap();
                Told { code: output.status.code().unwrap(), out: String::new(), err }
            }
            _ => house.ctl(arguments),
        };
        assert_eq!(told.code, code, "{arguments:?}: {}", told.err);
        assert!(told.err.contains(want), "{arguments:?}: {}", told.err);
        assert_eq!(told.out, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn another_port_and_no_port_are_told_apart_from_refusals() {
    let house = House::new().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (address, want) in [
        (closed, "is the sidecar running"),
        (house.sidecar.health, "is this the admin port"),
        (house.sidecar.data, "is this the admin port"),
    ] {
        let told = ctl(address, &["list"], &[]);
        assert_eq!(told.code, 3, "{address}: {}", told.err);
        assert!(told.err.contains(want), "{address}: {}", told.err);
    }
    let by_environment = [("PARHELION_ADMIN", house.sidecar.admin.to_string())];
    let environment: Vec<(&str, &str)> =
        by_environment.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(run_to_end(&["ctl", "list"], &environment).status.code(), Some(0));
}

#[tokio::test]
async fn a_candidate_that_is_not_ready_is_not_promoted() {
    let (v1, away) = (Model::start("1.4.0"), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let nobody = away.local_addr().unwrap();
    drop(away);
    let sidecar = Sidecar::ready(&config(&v1, nobody)).await;
    let told = ctl(sidecar.admin, &["promote", "m"], &[]);
    assert!(told.code == 1 && told.err.contains("variant v2 is not ready"), "{}", told.err);
    let status = ctl(sidecar.admin, &["status", "m"], &[]).out;
    assert!(status.contains("m: canary, waiting") && status.contains("v2 is not ready: "), "{status}");
    assert!(status.contains("in memory only"), "{status}");
}

#[tokio::test]
async fn the_service_answers_any_client_in_its_own_codes() {
    let house = House::new().await;
    let mut client = client(house.sidecar.admin).await;
    let all = client.list_rollouts(ListRolloutsRequest {}).await.unwrap().into_inner().rollouts;
    assert_eq!(all.iter().map(|rollout| &*rollout.model).collect::<Vec<_>>(), ["m", "other"]);
    let one = client.get_rollout(GetRolloutRequest { model: "m".into() }).await.unwrap().into_inner();
    assert_eq!((one.state(), one.step, one.steps), (State::Running, Some(1), 2));
    assert_eq!(one.revision.len(), 8);
    let missing = client.get_rollout(GetRolloutRequest { model: "mm".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let wrong = client.resume(about("m")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    let pin = PinRequest { model: "m".into(), variant: "v9".into(), reason: String::new() };
    assert_eq!(client.pin(pin).await.unwrap_err().code(), Code::NotFound);
    let asked = ExplainRequest { model: "m".into(), unit: Some("é".into()), ..ExplainRequest::default() };
    assert_eq!(client.explain(asked).await.unwrap_err().code(), Code::InvalidArgument);
    let audit = ListAuditRequest { model: String::new(), limit: 1 };
    assert_eq!(client.list_audit(audit).await.unwrap().into_inner().records.len(), 1);
    let export = client.export(ExportRequest { model: "m".into() }).await.unwrap().into_inner();
    assert!(export.yaml.starts_with("models:\n") && export.differs.is_empty(), "{export:?}");
}

#[tokio::test]
async fn a_watcher_hears_of_every_change() {
    let house = House::new().await;
    let mut client = client(house.sidecar.admin).await;
    let asked = WatchRolloutsRequest { model: "m".into() };
    let mut watched = client.watch_rollouts(asked).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(LONG, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await.state(), State::Running);
    house.json(&["pause", "m"]);
    while next().await.state() != State::Paused {}
    house.json(&["rollback", "m"]);
    while next().await.state() != State::RolledBack {}
    let all = client.watch_rollouts(WatchRolloutsRequest::default()).await.unwrap().into_inner();
    let mut all = all;
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(tokio::time::timeout(LONG, all.message()).await.unwrap().unwrap().unwrap().model);
    }
    assert_eq!(names, ["m", "other"]);
    let nobody = client.watch_rollouts(WatchRolloutsRequest { model: "n".into() }).await;
    assert_eq!(nobody.unwrap_err().code(), Code::NotFound);
}

/// A `ctl watch` that runs until it is let go.
struct Watch {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    fn start(admin: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(["ctl", "--admin", &admin.to_string(), "watch"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Watch { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn without_a_terminal_watch_is_a_line_for_each_change() {
    let house = House::new().await;
    let json = Watch::start(house.sidecar.admin, &["m", "--json"]);
    let lines = Watch::start(house.sidecar.admin, &[]);
    let first: Value = serde_json::from_str(&json.next()).unwrap();
    assert_eq!((&first["model"], &first["state"]), (&"m".into(), &"running".into()));
    let (one, other) = (lines.next(), lines.next());
    assert!(
        one.contains(" m running 1/2: v2 50 %, v1 50 %") && other.contains(" other steady"),
        "{one}\n{other}"
    );
    house.json(&["pause", "m"]);
    let next: Value = serde_json::from_str(&json.next()).unwrap();
    assert_eq!(next["state"], "paused");
    let next = lines.next();
    assert!(next.contains(" m paused 1/2") && next.contains("waits for a person to resume it"), "{next}");
    assert!(!next.contains('\u{1b}'), "{next}");
}

#[tokio::test]
async fn tokens_separate_reading_from_acting() {
    let (v1, v2) = (Model::start("1.4.0"), Model::start("2.0.0"));
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, format!("ann act {ACT}\nbob read {READ}\n")).unwrap();
    let text = format!("control: {{tokens: {}}}\n{}", tokens.display(), config(&v1, v2.address));
    let sidecar = Sidecar::ready(&text).await;
    let admin = sidecar.admin;
    let ask = |token: &str, arguments: &[&str]| ctl(admin, arguments, &[("PARHELION_TOKEN", token)]);
    let nobody = ctl(admin, &["list"], &[]);
    assert!(nobody.code == 1 && nobody.err.contains("--token-file"), "{}", nobody.err);
    let stranger = ask("0000000000000000000000000000000", &["list"]);
    assert!(stranger.code == 1 && stranger.err.contains("none of the file"), "{}", stranger.err);
    assert_eq!(ask(READ, &["list"]).code, 0);
    let refused = ask(READ, &["pause", "m"]);
    assert!(refused.code == 1 && refused.err.contains("token bob may only read"), "{}", refused.err);
    let secret = directory.path().join("secret");
    std::fs::write(&secret, format!("{ACT}\n")).unwrap();
    let paused = ctl(admin, &["--token-file", secret.to_str().unwrap(), "pause", "m"], &[]);
    assert!(paused.code == 0 && paused.out.contains("by operator ann"), "{}{}", paused.out, paused.err);
    assert_eq!(get(admin, "/status").await.0, 401, "the pages ask for a token too");
    let mut client = client(admin).await;
    assert_eq!(client.list_rollouts(ListRolloutsRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(client.pause(with_token(about("m"), READ)).await.unwrap_err().code(), Code::PermissionDenied);
    std::fs::write(&tokens, format!("bob read {READ}\n# ann has left\n")).unwrap();
    let left = client.resume(with_token(about("m"), ACT)).await.unwrap_err();
    assert_eq!(left.code(), Code::Unauthenticated, "a token that was taken out is refused at once");
    std::fs::write(&tokens, "bob may everything\n").unwrap();
    assert_eq!(ask(READ, &["list"]).code, 0, "a broken file changes nothing");
    until("the log", || async { sidecar.log().contains("tokens:1: ") }).await;
}

#[tokio::test]
async fn a_made_token_is_one() {
    let made = run_to_end(&["ctl", "token", "ann", "act", "--json"], &[]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let model = Model::start("1");
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, made["line"].as_str().unwrap()).unwrap();
    let text =
        format!("control: {{tokens: {}}}\n{}", tokens.display(), crate::support::process::one(model.address));
    let sidecar = Sidecar::start(&text).await;
    let token = [("PARHELION_TOKEN", made["token"].as_str().unwrap())];
    assert_eq!(ctl(sidecar.admin, &["list"], &token).code, 0);
    let pinned = ctl(sidecar.admin, &["promote", "m"], &token);
    assert!(pinned.code == 1 && pinned.err.contains("no switch is under way"), "{}", pinned.err);
}

#[tokio::test]
async fn off_loopback_nobody_comes_in_without_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let open = "admin: 0.0.0.0:0\nmodels: {m: {variants: {v1: {endpoint: 'http://127.0.0.1:1'}}}}\n";
    let path = file(directory.path(), open);
    let refused = run_to_end(&["check", path.to_str().unwrap()], &[]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && told.contains("`control.tokens` names no file"), "{told}");
    let tokens = directory.path().join("tokens");
    let text = format!("control: {{tokens: {}}}\n{open}", tokens.display());
    let path = file(directory.path(), &text);
    let refused = run_to_end(&["check", path.to_str().unwrap()], &[]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && told.contains("tokens: No such file"), "{told}");
    std::fs::write(&tokens, format!("ann act {ACT}\n")).unwrap();
    assert!(run_to_end(&["check", path.to_str().unwrap()], &[]).status.success());
    let text = format!("listen: 127.0.0.1:0\nhealth: 127.0.0.1:0\n{text}");
    let path = file(directory.path(), &text);
    let sidecar = Sidecar::follow(directory, &path, &[], None).await;
    let admin = SocketAddr::from(([127, 0, 0, 1], sidecar.admin.port()));
    assert_eq!(ctl(admin, &["list"], &[]).code, 1);
    assert_eq!(ctl(admin, &["list"], &[("PARHELION_TOKEN", ACT)]).code, 0);
}

#[tokio::test]
async fn web_pages_reach_no_method() {
    let house = House::new().await;
    let admin = house.sidecar.admin;
    let mut client = client(admin).await;
    let mut page = Request::new(about("m"));
    page.metadata_mut().insert("origin", "http://localhost:1".parse().unwrap());
    let refused = client.pause(page).await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("web pages"), "{refused}");
    let rebound = Endpoint::from_shared(format!("http://{admin}")).unwrap();
    let rebound = rebound.origin("http://evil.example".parse().unwrap()).connect().await.unwrap();
    let refused = ControlClient::new(rebound).pause(about("m")).await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("Host"), "{refused}");
    let other = ControlClient::with_origin(
        Endpoint::from_shared(format!("http://{admin}")).unwrap().connect().await.unwrap(),
        format!("http://localhost:{}", admin.port()).parse().unwrap(),
    );
    let mut other = other;
    assert_eq!(other.pause(about("m")).await.unwrap().into_inner().rollout.unwrap().state(), State::Paused);
}
