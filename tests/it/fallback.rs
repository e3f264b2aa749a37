//! What another variant fails at, the baseline answers: same call, same deadline, and the caller sees no failure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use parhelion::fault::{Blame, Code};
use parhelion::outcome::Fallback;
use prost::Message;

use crate::support::oip::{self, INFER, STREAM};
use crate::support::{Answer, Client, Incoming, Sidecar, Upstream, eventually, frame, gzip};

/// Model `m`: inference calls go to `v2`, which its server knows as `next`, by these weights of both; `v1`, known as `now`,
/// is the baseline.
fn yaml(v1: &Upstream, v2: &Upstream, weights: &str, more: &str, rest: &str) -> String {
    format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\", model_name: now, version: \"1.0\"}}, \
         v2: {{endpoint: \"{}\", model_name: next, version: \"2.0\"}}}}, \
         strategy: {{kind: ab, baseline: v1, weights: {weights}}}{more}}}}}\n{rest}",
        v1.url, v2.url
    )
}

/// All calls to `v2`.
const ALL: &str = "{v1: 0%, v2: 100%}";

struct Scene {
    v1: Upstream,
    v2: Upstream,
    sidecar: Sidecar,
    client: Client,
}

impl Scene {
    /// The baseline answers; `v2` does what the script says.
    async fn new<F>(more: &str, script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::of(more, "", Upstream::start(oip::serve).await, Upstream::start(script).await).await
    }

    async fn of(more: &str, rest: &str, v1: Upstream, v2: Upstream) -> Self {
        let sidecar = Sidecar::start(&yaml(&v1, &v2, ALL, more, rest)).await;
        let client = Client::connect(sidecar.address).await;
        Scene { v1, v2, sidecar, client }
    }

    async fn infer(&self, metadata: &[(&str, &str)]) -> Answer {
        self.client.unary(INFER, metadata, &oip::request("m", &[], 100)).await
    }

    /// Waits until so many calls ended so.
    async fn ended(&self, fallback: Fallback, count: u64) {
        eventually(fallback.name(), || (self.sidecar.fallbacks(fallback) == count).then_some(())).await;
    }

    /// How often each variant was asked.
    fn asked(&self) -> [usize; 2] {
        [self.v1.requests().len(), self.v2.requests().len()]
    }
}

/// That the baseline answered instead of `v2`.
#[track_caller]
fn rescued(answer: &Answer, what: &str) {
    assert_eq!(answer.status(), Some(0), "{what}: {answer:?}");
    assert_eq!(answer.header("parhelion-variant"), Some("v1"), "{what}");
    assert_eq!(answer.header("parhelion-model-version"), Some("1.0"), "{what}");
    assert_eq!(answer.header("parhelion-fallback-from"), Some("v2"), "{what}");
    assert_eq!(answer.messages.len(), 1, "{what}");
    assert_eq!(oip::read_answer(&answer.messages[0].1).model_name, "m", "{what}");
}

/// That the caller got what `v2` said.
#[track_caller]
fn passed(answer: &Answer, status: u32, what: &str) {
    assert_eq!(answer.status(), Some(status), "{what}: {answer:?}");
    assert_eq!(answer.header("parhelion-variant"), Some("v2"), "{what}");
    assert_eq!(answer.header("parhelion-fallback-from"), None, "{what}");
}

/// Fails as `x-fail` says: with that status; or as that word means.
async fn as_told(mut incoming: Incoming) {
    let headers = incoming.request().headers;
    let word = headers.get("x-fail").map_or("13", |value| value.to_str().unwrap()).to_owned();
    let message = incoming.messages().await.pop().unwrap_or_default();
    let good = || oip::answer(&oip::read_request(&message)).encode_to_vec();
    match &*word {
        "reset" => incoming.reset(Reason::INTERNAL_ERROR),
        "reset with cancel" => incoming.reset(Reason::CANCEL),
        "headers, then reset" => {
            incoming.headers(&[]);
            incoming.reset(Reason::INTERNAL_ERROR);
        }
        "a message, then reset" => {
            incoming.send(&good()).await;
            incoming.reset(Reason::NO_ERROR);
        }
        "a message, then 14" => {
            incoming.send(&good()).await;
            incoming.trailers(&[("grpc-status", "14")]);
        }
        "no message" => incoming.trailers(&[("grpc-status", "0")]),
        "OK alone" => incoming.only(&[("grpc-status", "0")]),
        "two messages" => {
            incoming.send(&good()).await;
            incoming.send(&good()).await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
        "half a message" => {
            let whole = frame(0, &good());
            incoming.send_raw(whole.slice(..whole.len() - 1)).await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
        "garbage" => {
            incoming.send_raw(Bytes::from_static(&[0xff; 5000])).await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
        "no number" => incoming.only(&[("grpc-status", "forty")]),
        "http 503" => incoming.http(503),
        "http 403" => incoming.http(403),
        "alone" => incoming.only(&[("grpc-status", "13"), ("grpc-message", "alone")]),
        code => incoming.trailers(&[("grpc-status", code)]),
    }
}

#[tokio::test]
async fn each_status_falls_back_or_does_not() {
    // Two halves, for ten seconds without calls of its own allow the baseline ten.
    for codes in [1..=9_u32, 10..=17] {
        let scene = Scene::new("", as_told).await;
        for code in codes {
            let before = scene.asked();
            let answer = scene.infer(&[("x-fail", &code.to_string())]).await;
            // CANCELLED, ALREADY_EXISTS, PERMISSION_DENIED, ABORTED and UNAUTHENTICATED are answers.
            let stays = [1, 6, 7, 10, 16].contains(&code);
            let [first, second] = scene.asked();
            assert_eq!([first - before[0], second - before[1]], [usize::from(!stays), 1], "{code}");
            match stays {
                true => passed(&answer, code, &format!("{code}")),
                false => rescued(&answer, &format!("{code}")),
            }
        }
    }
}

#[tokio::test]
async fn whatever_else_a_server_can_do_falls_back() {
    let scene = Scene::new("", as_told).await;
    let ways = [
        "reset",
        "reset with cancel",
        "headers, then reset",
        "a message, then reset",
        "a message, then 14",
        "no message",
        "OK alone",
        "two messages",
        "half a message",
    ];
    for way in ways {
        rescued(&scene.infer(&[("x-fail", way)]).await, way);
    }
    scene.ended(Fallback::Answered, 9).await;
    assert_eq!(scene.asked(), [9, 9]);
    assert_eq!(scene.sidecar.attempts("v2", Blame::Upstream), 9, "each is the variant's own failure");
    assert_eq!(scene.sidecar.attempts("v1", Blame::Nobody), 9);
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), 9, "and nobody's to the caller");

    let scene = Scene::new("", as_told).await;
    for way in ["garbage", "no number", "http 503", "alone"] {
        rescued(&scene.infer(&[("x-fail", way)]).await, way);
    }
    let answer = scene.infer(&[("x-fail", "http 403")]).await;
    assert_eq!((answer.http, answer.header("parhelion-variant")), (403, Some("v2")));
    assert_eq!(scene.asked(), [4, 5]);
}

#[tokio::test]
async fn the_baseline_gets_what_the_caller_sent_by_its_own_name() {
    let scene = Scene::new("", as_told).await;
    let sent = oip::request("m", &[("a", "b")], 600_000);
    let length = (sent.len() + 5).to_string();
    let metadata =
        [("x-user", "u1"), ("content-length", &*length), ("grpc-timeout", "60S"), ("x-trace-bin", "AAEC")];
    rescued(&scene.client.unary(INFER, &metadata, &sent).await, "plain");
    let mut call = scene.client.open(INFER, &[("grpc-encoding", "gzip")]).await;
    // The script cannot read it, which is a failure like any other.
    call.send_raw(frame(1, &gzip(&sent)), true).await;
    rescued(&call.answer().await, "compressed");
    for (upstream, name) in [(&scene.v2, "next"), (&scene.v1, "now")] {
        for request in upstream.requests() {
            assert!(request.messages[0].starts_with(&sent), "what the caller sent, and a name behind it");
            assert_eq!(oip::read_request(&request.messages[0]).model_name, name);
            assert!(request.ended);
        }
        let headers = &upstream.requests()[0].headers;
        assert_eq!(
            (&headers["x-user"], &headers["x-trace-bin"]),
            (&"u1".parse().unwrap(), &"AAEC".parse().unwrap())
        );
        assert!(headers.contains_key("grpc-timeout"));
        assert!(headers.keys().all(|name| !name.as_str().starts_with("parhelion-")));
    }
}

#[tokio::test]
async fn both_answers_pass_with_all_that_belongs_to_them() {
    let details = [
        ("grpc-status", "3"),
        ("grpc-message", "not%20so"),
        ("grpc-status-details-bin", "CAM"),
        ("x-end", "e"),
    ];
    let rich = move |variant: &'static str| {
        move |mut incoming: Incoming| async move {
            incoming.messages().await;
            incoming.headers(&[("x-from", variant)]);
            incoming.trailers(&details);
        }
    };
    // Both refuse the input: the caller's own mistake, said by the baseline.
    let v1 = Upstream::start(rich("v1")).await;
    let scene = Scene::of("", "", v1, Upstream::start(rich("v2")).await).await;
    let answer = scene.infer(&[]).await;
    assert_eq!((answer.status(), answer.header("x-from")), (Some(3), Some("v1")), "{answer:?}");
    assert_eq!(answer.header("parhelion-fallback-from"), Some("v2"));
    let trailers = answer.trailers.unwrap();
    for (name, value) in details {
        assert_eq!(trailers[name], value);
    }
    scene.ended(Fallback::Failed, 1).await;
    assert_eq!(scene.sidecar.calls(Code::INVALID_ARGUMENT, Blame::Rejection), 1);
    assert_eq!(scene.sidecar.attempts("v2", Blame::Rejection), 1);

    // A good answer that was held comes whole, be it over the bound or not.
    for hold in ["1KiB", "1MiB"] {
        let scene = Scene::new(&format!(", fallback: {{hold: {hold}}}"), |mut incoming| async move {
            let request = oip::read_request(&incoming.message().await.unwrap());
            let mut answer = oip::answer(&request);
            answer.raw_output_contents = vec![vec![7; 300_000].into()];
            let whole = frame(0, &answer.encode_to_vec());
            incoming.headers(&[("x-from", "v2")]);
            for part in whole.chunks(7001) {
                incoming.send_raw(Bytes::copy_from_slice(part)).await;
            }
            incoming.trailers(&[("grpc-status", "0"), ("x-end", "e")]);
        })
        .await;
        let answer = scene.infer(&[]).await;
        passed(&answer, 0, hold);
        let got = oip::read_answer(&answer.messages[0].1);
        assert_eq!((&*got.model_name, got.raw_output_contents[0].len()), ("m", 300_000));
        assert_eq!(answer.header("x-from"), Some("v2"));
        assert_eq!(answer.trailers.unwrap()["x-end"], "e");
        assert_eq!(scene.asked(), [0, 1]);
    }
}

async fn never(mut incoming: Incoming) {
    incoming.messages().await;
    incoming.until_reset().await;
}

#[tokio::test]
async fn a_variant_that_hangs_has_a_time_of_its_own() {
    // Half of what is left of a deadline; what is configured; and nothing is known of the baseline yet.
    for (settings, deadline, least) in [
        ("auto", Some("800m"), 400),
        ("150ms", None, 150),
        ("150ms", Some("20S"), 150),
        ("30S", Some("1S"), 500),
    ] {
        let settings = format!(", fallback: {{timeout: {}}}", settings.to_lowercase());
        let scene = Scene::new(&settings, never).await;
        let since = Instant::now();
        let metadata: Vec<_> = deadline.into_iter().map(|deadline| ("grpc-timeout", deadline)).collect();
        rescued(&scene.infer(&metadata).await, &settings);
        let waited = since.elapsed();
        assert!(waited >= Duration::from_millis(least), "{settings}, {deadline:?}: {waited:?}");
        assert!(waited < Duration::from_secs(15), "{settings}, {deadline:?}: {waited:?}");
        let requests = scene.v2.until("a reset", |requests| requests[0].reset.is_some()).await;
        assert_eq!(requests[0].reset, Some(Reason::CANCEL));
        scene.ended(Fallback::Answered, 1).await;
        assert_eq!(scene.sidecar.attempts("v2", Blame::Upstream), 1);
    }
}

#[tokio::test]
async fn too_short_a_time_says_nothing_of_the_variant() {
    let scene = Scene::new(", fallback: {timeout: 30ms}", never).await;
    rescued(&scene.infer(&[]).await, "30 ms");
    scene.ended(Fallback::Answered, 1).await;
    assert_eq!(scene.sidecar.attempts("v2", Blame::Nobody), 1);
    assert_eq!(scene.sidecar.attempts("v2", Blame::Upstream), 0);
}

#[tokio::test]
async fn a_caller_that_sends_slowly_is_not_held_against_the_variant() {
    let scene = Scene::new(", fallback: {timeout: 300ms}", oip::serve).await;
    let message = frame(0, &oip::request("m", &[], 5_000));
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_raw(message.slice(..4_000), false).await;
    scene.v2.until("the call", |requests| requests.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    call.send_raw(message.slice(4_000..), true).await;
    passed(&call.answer().await, 0, "slow");
    assert_eq!(scene.asked(), [0, 1]);
}

#[tokio::test]
async fn over_the_budget_failures_pass() {
    let scene = Scene::new("", as_told).await;
    let mut answered = 0;
    for _ in 0..40 {
        let answer = scene.infer(&[]).await;
        if answer.header("parhelion-fallback-from").is_some() {
            rescued(&answer, "within");
            answered += 1;
        } else {
            passed(&answer, 13, "above");
        }
    }
    // The baseline has no calls of its own, so ten in ten seconds.
    assert!((10..=20).contains(&answered), "{answered}");
    scene.ended(Fallback::Answered, answered).await;
    scene.ended(Fallback::Budget, 40 - answered).await;
    assert_eq!(scene.asked(), [answered as usize, 40]);
    assert_eq!(scene.sidecar.calls(Code::INTERNAL, Blame::Upstream), 40 - answered);
}

#[tokio::test]
async fn an_answer_that_is_too_long_to_hold_is_the_callers() {
    let scene = Scene::new(", fallback: {hold: 64KiB, timeout: 300ms}", |mut incoming| async move {
        incoming.messages().await;
        let whole = frame(0, &[0; 1_000_000]);
        incoming.send_raw(whole.slice(..500_000)).await;
        if incoming.request().headers.contains_key("x-hang") {
            // Longer than an attempt may take that says nothing.
            tokio::time::sleep(Duration::from_millis(900)).await;
            incoming.send_raw(whole.slice(500_000..)).await;
            incoming.trailers(&[("grpc-status", "0")]);
        } else {
            incoming.reset(Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let answer = scene.infer(&[]).await;
    passed(&answer, 13, "broken off");
    assert!(answer.trailers.is_some());
    scene.ended(Fallback::Committed, 1).await;
    passed(&scene.infer(&[("x-hang", "1")]).await, 0, "slow");
    assert_eq!(scene.asked(), [0, 2]);
}

#[tokio::test]
async fn a_request_that_is_not_kept_cannot_fall_back() {
    let v1 = Upstream::start(oip::serve).await;
    let v2 = Upstream::start(as_told).await;
    let scene = Scene::of("", "limits: {retain: 64KiB}\n", v1, v2).await;
    let answer = scene.client.unary(INFER, &[], &oip::request("m", &[], 200_000)).await;
    passed(&answer, 13, "200 KB");
    scene.ended(Fallback::TooLarge, 1).await;
    rescued(&scene.client.unary(INFER, &[], &oip::request("m", &[], 20_000)).await, "20 KB");
    assert_eq!(scene.asked(), [1, 2]);
}

#[tokio::test]
async fn an_answer_before_the_request_has_ended_falls_back_too() {
    let scene = Scene::new("", |mut incoming| async move { incoming.only(&[("grpc-status", "8")]) }).await;
    let message = frame(0, &oip::request("m", &[], 50_000));
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_raw(message.slice(..30_000), false).await;
    scene.v1.until("the baseline", |requests| requests.len() == 1).await;
    call.send_raw(message.slice(30_000..), true).await;
    rescued(&call.answer().await, "early");
    let seen = &scene.v1.requests()[0].messages[0];
    assert!(seen.starts_with(&message[5..]), "kept bytes and later ones in their order");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_either_attempt() {
    // Under way at the variant: nobody is asked instead.
    let scene = Scene::new("", never).await;
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_last(&oip::request("m", &[], 10)).await;
    scene.v2.until("the call", |requests| requests.iter().any(|one| one.ended)).await;
    call.reset(Reason::CANCEL);
    scene.v2.until("the reset", |requests| requests[0].reset == Some(Reason::CANCEL)).await;
    eventually("the count", || (scene.sidecar.calls(Code::CANCELLED, Blame::Nobody) == 1).then_some(()))
        .await;
    assert_eq!(scene.asked(), [0, 1]);
    assert!(Fallback::ALL.iter().all(|one| scene.sidecar.fallbacks(*one) == 0));

    // Under way at the baseline.
    let scene = Scene::of("", "", Upstream::start(never).await, Upstream::start(as_told).await).await;
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_last(&oip::request("m", &[], 10)).await;
    scene.v1.until("the call", |requests| requests.iter().any(|one| one.ended)).await;
    call.reset(Reason::CANCEL);
    scene.v1.until("the reset", |requests| requests[0].reset == Some(Reason::CANCEL)).await;
    scene.ended(Fallback::Cancelled, 1).await;
    assert_eq!(scene.sidecar.attempts("v2", Blame::Upstream), 1, "its failure stands");
    assert_eq!(scene.asked(), [1, 1]);
}

#[tokio::test]
async fn the_deadline_is_one_for_both() {
    let scene = Scene::of("", "", Upstream::start(never).await, Upstream::start(never).await).await;
    let since = Instant::now();
    let answer = scene.infer(&[("grpc-timeout", "600m")]).await;
    assert!(since.elapsed() >= Duration::from_millis(600), "{:?}", since.elapsed());
    assert_eq!(answer.status(), Some(4), "{answer:?}");
    assert!(answer.message().contains("model m, variant v1"), "{}", answer.message());
    assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    assert_eq!(answer.header("parhelion-fallback-from"), Some("v2"));
    for upstream in [&scene.v1, &scene.v2] {
        let requests = upstream.until("a reset", |requests| requests[0].reset.is_some()).await;
        assert_eq!((requests.len(), requests[0].reset), (1, Some(Reason::CANCEL)));
    }
    scene.ended(Fallback::Failed, 1).await;
}

#[tokio::test]
async fn streams_other_methods_and_forced_variants_never_fall_back() {
    let scene = Scene::new(", force: anyone", as_told).await;
    let message = oip::request("m", &[], 10);
    passed(&scene.client.unary(STREAM, &[], &message).await, 13, "a stream");
    passed(&scene.client.unary(INFER, &[("parhelion-variant", "v2")], &message).await, 13, "forced");
    assert_eq!(scene.asked(), [0, 2]);
    rescued(&scene.infer(&[]).await, "any other");

    let v1 = Upstream::start(oip::serve).await;
    let v2 = Upstream::start(as_told).await;
    let scene = Scene::of("", "services: {any.Service: m}\n", v1, v2).await;
    passed(&scene.client.unary("/any.Service/Method", &[], b"x").await, 13, "a method that nobody knows");
    assert_eq!(scene.asked(), [0, 1]);

    let scene = Scene::new(", fallback: off", as_told).await;
    passed(&scene.infer(&[]).await, 13, "off");
    assert_eq!(scene.asked(), [0, 1]);
    assert!(Fallback::ALL.iter().all(|one| scene.sidecar.fallbacks(*one) == 0));
}

#[tokio::test]
async fn an_answer_of_the_baseline_is_not_held() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let v1 = Upstream::start(move |mut incoming| {
        let mut gone = gone.clone();
        async move {
            incoming.messages().await;
            incoming.headers(&[]);
            let _ = gone.wait_for(|gone| *gone).await;
            incoming.trailers(&[("grpc-status", "13")]);
        }
    })
    .await;
    let v2 = Upstream::start(as_told).await;
    let sidecar = Sidecar::start(&yaml(&v1, &v2, "{v1: 100%, v2: 0%}", "", "")).await;
    let client = Client::connect(sidecar.address).await;
    let mut call = client.open(INFER, &[]).await;
    call.send_last(&oip::request("m", &[], 10)).await;
    let (_, headers) = call.head().await.unwrap();
    assert_eq!(headers["parhelion-variant"], "v1");
    go.send_replace(true);
    assert_eq!(call.answer().await.status(), Some(13), "and the baseline has nobody behind it");
    assert_eq!(v2.requests().len(), 0);
}

#[tokio::test]
async fn a_baseline_that_is_not_ready_is_not_asked() {
    let scene = Scene::new("", as_told).await;
    scene.v1.set_ready(false);
    scene.sidecar.until_ready(|variant, ready| ready == (variant == "v2")).await;
    passed(&scene.infer(&[]).await, 13, "not ready");
    scene.ended(Fallback::NotReady, 1).await;
    assert_eq!(scene.asked(), [0, 1]);
}

#[tokio::test]
async fn a_variant_that_dies_fails_nobody() {
    let scene = Scene::new(", fallback: {budget: 100%}", never).await;
    // One call is at it while its connections break, the others find nobody there.
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_last(&oip::request("m", &[], 10)).await;
    scene.v2.until("the call", |requests| requests.iter().any(|one| one.ended)).await;
    let Scene { v1, v2, sidecar, client } = scene;
    drop(v2);
    rescued(&call.answer().await, "at it");
    for number in 0..5 {
        let answer = client.unary(INFER, &[], &oip::request("m", &[], 10)).await;
        assert_eq!(answer.status(), Some(0), "{number}: {answer:?}");
        assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    }
    assert_eq!(v1.requests().len(), 6);
    drop(sidecar);
}

#[tokio::test]
async fn shadows_see_the_request_once_and_the_answer_that_the_caller_got() {
    let v1 = Upstream::start(oip::serve).await;
    let v2 = Upstream::start(|mut incoming| async move {
        let message = incoming.messages().await.pop().unwrap();
        incoming.send(&message).await;
        incoming.send(b"and more").await;
        incoming.trailers(&[("grpc-status", "13")]);
    })
    .await;
    let v3 = Upstream::start(oip::serve).await;
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}, v3: {{endpoint: \"{}\"}}}}, \
         strategy: {{kind: ab, baseline: v1, weights: {ALL}}}, shadows: [{{variant: v3, deadline: 20s}}]}}}}\n",
        v1.url, v2.url, v3.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    let sent = oip::request("m", &[], 50_000);
    let answer = client.unary(INFER, &[], &sent).await;
    assert_eq!(
        (answer.status(), answer.header("parhelion-fallback-from")),
        (Some(0), Some("v2")),
        "{answer:?}"
    );
    eventually("the comparison", || {
        let shards = sidecar.telemetry.shards().iter();
        let all: Vec<_> = shards.flat_map(|shard| shard.each_shadow()).map(|(_, series)| series).collect();
        // The first result is that nothing differs.
        (all.iter().map(|series| series.compared(0)).sum::<u64>() == 1).then_some(())
    })
    .await;
    let requests = v3.requests();
    assert_eq!((requests.len(), &requests[0].messages[..]), (1, &[Bytes::from(sent)][..]));
}

#[tokio::test]
async fn under_load_no_caller_sees_a_candidate_that_fails_at_everything() {
    let v1 = Upstream::start(oip::serve).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let v2 = Upstream::start(move |mut incoming: Incoming| {
        let way = turn.fetch_add(1, Ordering::Relaxed) % 4;
        async move {
            let message = incoming.messages().await.pop().unwrap_or_default();
            match way {
                0 => incoming.trailers(&[("grpc-status", "14")]),
                1 => incoming.only(&[("grpc-status", "3")]),
                2 => {
                    let answer = oip::answer(&oip::read_request(&message)).encode_to_vec();
                    incoming.send(&answer).await;
                    incoming.reset(Reason::INTERNAL_ERROR);
                }
                _ => incoming.reset(Reason::INTERNAL_ERROR),
            }
        }
    })
    .await;
    let weights = "{v1: 90%, v2: 10%}";
    let sidecar = Arc::new(Sidecar::start(&yaml(&v1, &v2, weights, "", "")).await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..12 {
        let sidecar = Arc::clone(&sidecar);
        callers.spawn(async move {
            let client = Client::connect(sidecar.address).await;
            for number in 0..60 {
                let id = format!("{caller}-{number}");
                let answer = client.unary(INFER, &[("x-id", &id)], &oip::request("m", &[], 500)).await;
                assert_eq!(answer.status(), Some(0), "{id}: {answer:?}");
                assert_eq!(answer.header("parhelion-variant"), Some("v1"), "{id}");
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let count = |upstream: &Upstream| {
        let mut ids: HashMap<String, usize> = HashMap::new();
        for request in upstream.requests() {
            *ids.entry(request.headers["x-id"].to_str().unwrap().to_owned()).or_default() += 1;
        }
        ids
    };
    let (first, second) = (count(&v1), count(&v2));
    assert!(first.values().chain(second.values()).all(|times| *times == 1), "each id once at each variant");
    assert_eq!(first.len(), 720, "the baseline answered all");
    // Five standard deviations of 72.
    assert!((31..=113).contains(&second.len()), "{}", second.len());
    let answered = second.len() as u64;
    eventually("all counted", || (sidecar.fallbacks(Fallback::Answered) == answered).then_some(())).await;
    assert_eq!(sidecar.calls(Code::OK, Blame::Nobody), 720);
}
