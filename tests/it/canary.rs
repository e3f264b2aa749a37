//! Canaries over real sockets: a candidate that breaks is taken out, one that is sound goes all the way, and neither a
//! shared outage nor a strange caller is taken for either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parhelion::rollout::{Actor, Status};
use parhelion::verdict::{Action, Command, State};
use tokio::task::JoinSet;

use crate::support::oip::{self, INFER};
use crate::support::{Client, Incoming, Sidecar, Upstream, eventually};

/// What a server does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Well,
    Fail,
    Reject,
    Hang,
    Slow,
    Late,
    /// It answers otherwise.
    Other,
}

/// A model server whose behaviour changes while it runs.
pub(crate) struct Server {
    upstream: Upstream,
    mode: Arc<AtomicU8>,
    calls: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let (mode, calls) = (Arc::new(AtomicU8::new(Mode::Well as u8)), Arc::new(AtomicUsize::new(0)));
        let (script, seen) = (Arc::clone(&mode), Arc::clone(&calls));
        let upstream = Upstream::start(move |incoming| {
            seen.fetch_add(1, Ordering::Relaxed);
            behave(incoming, script.load(Ordering::Relaxed))
        })
        .await;
        Server { upstream, mode, calls }
    }

    pub(crate) fn become_(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn behave(mut incoming: Incoming, mode: u8) {
    let fail = Mode::Fail as u8;
    let reject = Mode::Reject as u8;
    if mode == fail || mode == reject {
        incoming.message().await;
        return incoming.trailers(&[("grpc-status", if mode == fail { "13" } else { "3" })]);
    }
    if mode == Mode::Hang as u8 {
        return incoming.until_reset().await;
    }
    if mode == Mode::Slow as u8 {
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    if mode == Mode::Late as u8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if mode == Mode::Other as u8 {
        incoming.messages().await;
        incoming.send(&oip::other()).await;
        return incoming.trailers(&[("grpc-status", "0")]);
    }
    oip::serve(incoming).await;
}

/// A baseline, a candidate, and a sidecar before them.
pub(crate) struct House {
    pub(crate) v1: Server,
    pub(crate) v2: Server,
    pub(crate) sidecar: Sidecar,
}

/// Steps that a test can wait for: the guards' own evidence is as in life.
const QUICK: &str = "steps: [{share: 20%, hold: 0s, calls: 20}, {share: 50%, hold: 0s, calls: 20}], \
                     guards: {errors: {absolute: 5%, relative: 25%}, rejections: {absolute: 5%, relative: 25%}, latency: off}";
/// One step that nothing passes within a test.
const STAYING: &str = "steps: [{share: 20%, hold: 1h}], guards: {latency: off}";

impl House {
    async fn new(strategy: &str) -> Self {
        Self::with(strategy, "unit: [metadata:x-user]").await
    }

    async fn with(strategy: &str, more: &str) -> Self {
        Self::of(&format!("kind: canary, {strategy}"), more).await
    }

    pub(crate) async fn of(strategy: &str, more: &str) -> Self {
        let (v1, v2) = (Server::start().await, Server::start().await);
        let sidecar = Sidecar::start(&config(&v1, &v2, strategy, more)).await;
        House { v1, v2, sidecar }
    }

    pub(crate) fn status(&self) -> Status {
        self.sidecar.rollouts.report("m").unwrap()
    }

    pub(crate) async fn until(&self, state: State) -> Status {
        let what = format!("{state:?}");
        eventually(&what, || {
            let status = self.status();
            (status.report.state == state).then_some(status)
        })
        .await
    }

    pub(crate) fn actions(&self) -> Vec<Action> {
        let records = self.sidecar.rollouts.audit(Some("m"), 100);
        records.iter().rev().map(|record| record.change.action).collect()
    }

    /// Callers that call until they are stopped, each for users of its own.
    pub(crate) fn callers(&self, count: usize, metadata: &'static [(&'static str, &'static str)]) -> Callers {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut tasks = JoinSet::new();
        for caller in 0..count {
            let (address, stopped) = (self.sidecar.address, stopped.clone());
            tasks.spawn(async move {
                let client = Client::connect(address).await;
                let message = oip::request("m", &[], 100);
                let mut seen = Seen::default();
                while !*stopped.borrow() {
                    let user = format!("u{caller}-{}", seen.calls);
                    let mut extra = vec![("x-user", user.as_str())];
                    extra.extend_from_slice(metadata);
                    let answer = client.unary(INFER, &extra, &message).await;
                    seen.calls += 1;
                    seen.failures += usize::from(answer.status() != Some(0));
                }
                seen
            });
        }
        Callers { stop, tasks }
    }
}

fn config(v1: &Server, v2: &Server, strategy: &str, more: &str) -> String {
    let (v1, v2) = (&v1.upstream.url, &v2.upstream.url);
    format!(
        "models:\n  m:\n    variants: {{v1: {{endpoint: \"{v1}\", version: \"1\"}}, \
         v2: {{endpoint: \"{v2}\", version: \"2\"}}}}\n    {more}\n    \
         strategy: {{baseline: v1, candidate: v2, {strategy}}}\n"
    )
}

pub(crate) struct Callers {
    stop: tokio::sync::watch::Sender<bool>,
    tasks: JoinSet<Seen>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) failures: usize,
}

impl Callers {
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        let mut all = Seen::default();
        while let Some(seen) = self.tasks.join_next().await {
            let seen = seen.unwrap();
            all.calls += seen.calls;
            all.failures += seen.failures;
        }
        all
    }
}

/// Waits until the candidate has had so many calls.
pub(crate) async fn calls(server: &Server, count: usize) {
    eventually("calls", || (server.calls() >= count).then_some(())).await;
}

#[tokio::test]
async fn a_candidate_that_breaks_is_rolled_back_and_gets_nothing_more() {
    let house = House::new(STAYING).await;
    let callers = house.callers(8, &[]);
    calls(&house.v2, 30).await;
    assert_eq!(house.status().report.state, State::Running);
    house.v2.become_(Mode::Fail);
    let began = Instant::now();
    let status = house.until(State::RolledBack).await;
    let took = began.elapsed();
    let after = house.v2.calls();
    let before = house.v1.calls();
    eventually("more calls", || (house.v1.calls() > before + 200).then_some(())).await;
    // Those under way at the moment of the decision, and no other.
    assert!(house.v2.calls() <= after + 8, "{} calls after {after}", house.v2.calls());
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0, "the baseline answered what it failed at");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(house.actions(), [Action::Started, Action::Began, Action::RolledBack]);
    let record = &house.sidecar.rollouts.audit(None, 1)[0];
    assert_eq!(record.actor, Actor::Judge);
    let errors = record.change.findings.iter().find(|finding| &*finding.guard == "errors").unwrap();
    assert!(errors.ln_e >= errors.threshold, "{errors:?}");
    assert!(status.variants[1].blocked && !status.variants[0].blocked);
    assert_eq!(status.report.shares, [1.0, 0.0]);
    assert!(status.differs.unwrap().contains("v1 gets everything"));
}

#[tokio::test]
async fn a_candidate_that_refuses_valid_calls_is_rolled_back() {
    let house = House::new(STAYING).await;
    let callers = house.callers(8, &[]);
    calls(&house.v2, 10).await;
    house.v2.become_(Mode::Reject);
    let status = house.until(State::RolledBack).await;
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0, "the baseline answered what it refused");
    let failed = |name: &str| {
        let finding = status.report.findings.iter().find(|finding| &*finding.guard == name).unwrap();
        finding.ln_e >= finding.threshold
    };
    assert!(failed("rejections") && !failed("errors"));
}

#[tokio::test]
async fn an_outage_of_both_blames_nobody() {
    let house = House::new(STAYING).await;
    let callers = house.callers(8, &[]);
    calls(&house.v2, 10).await;
    house.v1.become_(Mode::Fail);
    house.v2.become_(Mode::Fail);
    let before = house.v2.calls();
    calls(&house.v2, before + 100).await;
    callers.stop().await;
    assert_eq!(house.status().report.state, State::Running);
}

#[tokio::test]
async fn a_candidate_that_hangs_is_rolled_back_and_nobody_waits_for_it() {
    let house =
        House::with(STAYING, "unit: [metadata:x-user]\n    fallback: {timeout: 150ms, budget: 100%}").await;
    let callers = house.callers(8, &[]);
    calls(&house.v2, 10).await;
    house.v2.become_(Mode::Hang);
    let status = house.until(State::RolledBack).await;
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0, "the baseline answered");
    let errors = status.report.findings.iter().find(|finding| &*finding.guard == "errors").unwrap();
    assert!(errors.ln_e >= errors.threshold, "{errors:?}");
}

#[tokio::test]
async fn what_makes_both_slow_blames_nobody() {
    let house =
        House::with(STAYING, "unit: [metadata:x-user]\n    fallback: {timeout: 150ms, budget: 100%}").await;
    house.v1.become_(Mode::Late);
    house.v2.become_(Mode::Late);
    let callers = house.callers(32, &[]);
    eventually("failures of the candidate, or a change", || {
        let status = house.status();
        let errors = status.report.findings.iter().find(|finding| &*finding.guard == "errors")?;
        let many = errors.candidate.n >= 30 && errors.candidate.value? > 0.9;
        (many || status.report.state == State::RolledBack).then_some(())
    })
    .await;
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0, "the baseline answers, slowly");
    let status = house.status();
    assert_eq!(status.report.state, State::Running, "{:?}", status.report.findings);
    let errors = status.report.findings.iter().find(|finding| &*finding.guard == "errors").unwrap();
    assert!(errors.baseline.value.unwrap() > 0.9, "both are cut at the same length: {errors:?}");
}

#[tokio::test]
async fn a_candidate_that_is_slow_is_rolled_back() {
    let latency = "steps: [{share: 50%, hold: 1h}], warmup: {time: 0s, calls: 5}, \
                   guards: {errors: off, rejections: off, latency: {quantile: 50%, relative: 10%}}";
    let house = House::new(latency).await;
    let callers = house.callers(16, &[]);
    calls(&house.v2, 20).await;
    house.v2.become_(Mode::Slow);
    let status = house.until(State::RolledBack).await;
    callers.stop().await;
    assert!(status.report.findings[0].guard.starts_with("latency"), "{:?}", status.report.findings);
}

#[tokio::test]
async fn strange_callers_blame_nobody() {
    let house = House::new(STAYING).await;
    let sound = house.callers(4, &[]);
    let hasty = house.callers(4, &[("grpc-timeout", "1m")]);
    let rubbish = {
        let client = Client::connect(house.sidecar.address).await;
        for number in 0..200 {
            let user = format!("r{number}");
            let mut call = client.open(INFER, &[("x-user", &user)]).await;
            match number % 2 {
                0 => call.reset(h2::Reason::CANCEL),
                _ => assert!(call.send_raw(&b"\0\0\0\0\x05rubbish"[..], true).await),
            }
            if number % 2 == 1 {
                call.answer().await;
            }
        }
        client
    };
    let before = house.v2.calls();
    eventually("calls, or a change", || {
        let done = house.v2.calls() >= before + 100 || house.status().report.state != State::Running;
        done.then_some(())
    })
    .await;
    let hurried = hasty.stop().await;
    sound.stop().await;
    drop(rubbish);
    assert!(hurried.calls > 50, "{hurried:?}");
    assert_eq!(house.status().report.state, State::Running, "{:?}", house.status().report.findings);
}

#[tokio::test]
async fn no_unit_leaves_the_candidate_over_a_ramp_nor_in_another_process() {
    let steps: Vec<String> =
        [5, 10, 20, 30, 40, 50].map(|share| format!("{{share: {share}%, hold: 0s, calls: 1}}")).into();
    let ramp = format!(
        "salt: s, steps: [{}], guards: {{errors: {{absolute: 50%, relative: 25%}}, rejections: off, latency: off}}, on_pass: wait",
        steps.join(", ")
    );
    let (one, two) = (House::new(&ramp).await, House::new(&ramp).await);
    let clients = [Client::connect(one.sidecar.address).await, Client::connect(two.sidecar.address).await];
    let message = oip::request("m", &[], 10);
    let mut had = std::collections::HashSet::new();
    let passed = |house: &House| house.status().report.state == State::Passed;
    let mut rounds = 0;
    while !(passed(&one) && passed(&two)) {
        rounds += 1;
        assert!(rounds < 50, "{:?}", one.status().report);
        for number in 0..200 {
            let user = format!("u{number}");
            for client in &clients {
                let answer = client.unary(INFER, &[("x-user", &user)], &message).await;
                let candidate = answer.header("parhelion-variant") == Some("v2");
                // Either process may be a step ahead, so only the ends are the same for both.
                assert!(
                    candidate || !had.contains(&(number, std::ptr::from_ref(client) as usize)),
                    "{user} moved back"
                );
                if candidate {
                    had.insert((number, std::ptr::from_ref(client) as usize));
                }
            }
        }
    }
    // Calls may see what a report says a moment later.
    let mut apart = Vec::new();
    for _ in 0..50 {
        apart.clear();
        for number in 0..200 {
            let user = format!("u{number}");
            let first = clients[0].unary(INFER, &[("x-user", &user)], &message).await;
            let second = clients[1].unary(INFER, &[("x-user", &user)], &message).await;
            if first.header("parhelion-variant") != second.header("parhelion-variant") {
                apart.push(user);
            }
        }
        if apart.is_empty() {
            break;
        }
    }
    assert!(apart.is_empty(), "{apart:?}");
    assert!(had.len() > 40, "{} of 400", had.len());
}

#[tokio::test]
async fn a_sound_candidate_is_promoted() {
    let house = House::new(QUICK).await;
    let callers = house.callers(8, &[]);
    let status = house.until(State::Promoted).await;
    let before = house.v1.calls();
    let candidate = house.v2.calls();
    calls(&house.v2, candidate + 100).await;
    assert!(house.v1.calls() <= before + 8, "the candidate gets everything");
    let seen = callers.stop().await;
    assert_eq!(seen.failures, 0);
    assert_eq!(house.actions(), [Action::Started, Action::Began, Action::Advanced, Action::Promoted]);
    assert_eq!(status.report.shares, [0.0, 1.0]);
    let export = house.sidecar.rollouts.export("m").unwrap();
    assert!(export.contains(r#""strategy":"#) && export.contains(r#""kind": "pinned""#), "{export}");
    assert!(export.contains(r#""variant": "v2""#), "{export}");
}

#[tokio::test]
async fn a_person_can_pin_pause_resume_and_roll_back() {
    let house = House::new(STAYING).await;
    let rollouts = &house.sidecar.rollouts;
    house.until(State::Running).await;
    let ann = || Actor::Operator { name: "ann".to_owned(), reason: String::new() };
    for (command, state) in [
        (Command::Pause, State::Paused),
        (Command::Resume, State::Running),
        (Command::Pin(1), State::Pinned),
        (Command::Resume, State::Running),
        (Command::Rollback, State::RolledBack),
    ] {
        let done = rollouts.command("m", command.clone(), ann()).await.unwrap();
        assert_eq!((done.record.change.to, &done.record.actor), (state, &ann()), "{command:?}");
        assert_eq!(house.status().report.state, state);
    }
    assert!(rollouts.command("m", Command::Pause, ann()).await.is_err());
    assert!(
        rollouts.command("n", Command::Pause, ann()).await.unwrap_err().to_string().contains("there is m")
    );
    assert!(house.status().variants[1].blocked);
    rollouts.command("m", Command::Resume, ann()).await.unwrap();
    assert!(!house.status().variants[1].blocked);
    house.until(State::Running).await;
    rollouts.command("m", Command::Promote, ann()).await.unwrap();
    let client = Client::connect(house.sidecar.address).await;
    let answer = client.unary(INFER, &[("x-user", "any")], &oip::request("m", &[], 10)).await;
    assert_eq!(answer.header("parhelion-variant"), Some("v2"));
}
