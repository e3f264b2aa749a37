//! Copies for shadows: each call once, counted to the last one, and whatever a shadow does its caller never feels it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use parhelion::fault::{Blame, Code};
use parhelion::shadow::record::{RESULTS, Skip, result_name};
use parhelion::telemetry::shadow::{Ledger, Series};

use crate::support::oip::{self, INFER, STREAM};
use crate::support::{Client, Incoming, Sidecar, Upstream, eventually, frame};

mod harm;
pub(crate) mod judged;
mod told;

/// Model `m`: v1 answers, v2 is a shadow with these settings.
fn yaml(primary: &Upstream, shadow: &Upstream, settings: &str) -> String {
    format!(
        "services: {{any.Service: m}}\nmodels: {{m: {{variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\", \
         model_name: real}}}}, shadows: [{{variant: v2{settings}}}]}}}}\n",
        primary.url, shadow.url
    )
}

struct Scene {
    primary: Upstream,
    shadow: Upstream,
    sidecar: Sidecar,
    client: Client,
}

impl Scene {
    async fn new<F>(settings: &str, script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let primary = Upstream::start(oip::serve).await;
        let shadow = Upstream::start(script).await;
        let sidecar = Sidecar::start(&yaml(&primary, &shadow, settings)).await;
        let client = Client::connect(sidecar.address).await;
        Scene { primary, shadow, sidecar, client }
    }

    fn ledger(&self) -> Ledger {
        let ledgers = self.sidecar.telemetry.shadows();
        let [ledger] = &ledgers[..] else { panic!("{ledgers:?}") };
        assert_eq!((&*ledger.model, &*ledger.variant), ("m", "v2"));
        ledger.clone()
    }

    /// Waits until no copy is under way; then the books must be right and nothing held.
    async fn settled(&self) -> Ledger {
        let ledger = eventually("every copy to end", || {
            let ledger = self.ledger();
            let quiet = self.series(|series| series.in_flight()) == 0;
            let all = |series: &Series| (0..RESULTS).map(|result| series.compared(result)).sum();
            let compared = self.series(all) == self.series(Series::copied);
            (quiet && compared && ledger.open() == 0).then_some(ledger)
        })
        .await;
        assert_eq!(self.series(|series| series.pinned()), 0, "bytes are held for nobody");
        ledger
    }

    fn series(&self, part: impl Fn(&Series) -> u64) -> u64 {
        let shards = self.sidecar.telemetry.shards().iter();
        shards.flat_map(|shard| shard.each_shadow()).map(|(_, series)| part(&series)).sum()
    }

    fn compared(&self, result: &str) -> u64 {
        let place = (0..RESULTS).find(|place| result_name(*place) == result).unwrap();
        self.series(|series| series.compared(place))
    }

    async fn infer(&self) {
        let answer = self.client.unary(INFER, &[], &oip::request("m", &[], 100)).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
}

fn skipped(ledger: &Ledger, skip: Skip) -> u64 {
    ledger.skipped.get(skip.name()).copied().unwrap_or(0)
}

async fn never(mut incoming: Incoming) {
    incoming.messages().await;
    incoming.until_reset().await;
}

#[tokio::test]
async fn a_call_is_copied_once_and_says_so() {
    let scene = Scene::new(", strip: [authorization, Cookie]", oip::serve).await;
    let sent = oip::request("m", &[("a", "b")], 600_000);
    let metadata = [
        ("authorization", "secret"),
        ("cookie", "secret"),
        ("x-user", "u1"),
        ("parhelion-shadow", "false"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("grpc-timeout", "50S"),
    ];
    let answer = scene.client.unary(INFER, &metadata, &sent).await;
    assert_eq!(answer.status(), Some(0), "{answer:?}");
    assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    let ledger = scene.settled().await;
    assert_eq!((ledger.eligible, ledger.copied), (1, 1), "{ledger:?}");
    let requests = scene.shadow.requests();
    let [copy] = &requests[..] else { panic!("{} copies", requests.len()) };
    assert_eq!((&*copy.path, copy.ended), (INFER, true));
    assert_eq!(copy.headers["parhelion-shadow"], "true");
    assert_eq!(copy.headers["x-user"], "u1");
    assert_eq!(copy.authority, scene.primary.requests()[0].authority);
    for name in ["authorization", "cookie", "traceparent"] {
        assert!(!copy.headers.contains_key(name), "{name}");
    }
    let timeout = parhelion::protocol::timeout::parse(copy.headers["grpc-timeout"].as_bytes()).unwrap();
    assert!(timeout <= Duration::from_secs(2), "its own deadline, not the caller's: {timeout:?}");
    assert!(copy.messages[0].starts_with(&sent), "what the caller sent, and a name behind it");
    assert_eq!(oip::read_request(&copy.messages[0]).model_name, "real");
    let original = &scene.primary.requests()[0];
    assert_eq!(original.headers["authorization"], "secret");
    assert!(!original.headers.contains_key("parhelion-shadow"));
    assert_eq!(original.messages[0], sent);
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), 1, "a copy is no call");
}

#[tokio::test]
async fn only_calls_that_are_meant_for_the_model_are_copied() {
    let scene = Scene::new("", Incoming::echo).await;
    scene.client.unary("/inference.GRPCInferenceService/ServerLive", &[], b"").await;
    scene.client.unary("/other.Service/Method", &[], b"x").await;
    scene.client.unary(INFER, &[], &oip::request("unknown", &[], 1)).await;
    assert_eq!(scene.ledger().eligible, 0);
    scene.client.unary("/any.Service/Method", &[], b"x").await;
    let ledger = scene.settled().await;
    assert_eq!((ledger.eligible, ledger.copied), (1, 1));
    assert_eq!(scene.shadow.requests()[0].messages, [Bytes::from_static(b"x")]);
}

#[tokio::test]
async fn a_share_is_copied_and_the_rest_is_counted() {
    let scene = Scene::new(", sample: 25%", oip::serve).await;
    for _ in 0..400 {
        scene.infer().await;
    }
    let ledger = scene.settled().await;
    assert_eq!(ledger.eligible, 400);
    assert_eq!(ledger.copied + skipped(&ledger, Skip::SampledOut), 400, "{ledger:?}");
    // Five standard deviations.
    assert!((57..=143).contains(&ledger.copied), "{ledger:?}");
    assert_eq!(scene.shadow.requests().len() as u64, ledger.copied);
}

#[tokio::test]
async fn the_answers_are_held_against_each_other() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let scene = Scene::new("", move |mut incoming: Incoming| {
        let number = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match number {
                0 => oip::serve(incoming).await,
                1 => {
                    incoming.messages().await;
                    incoming.only(&[("grpc-status", "13")]);
                }
                _ => incoming.echo().await,
            }
        }
    })
    .await;
    // That the shadow's server names its own model makes no difference; that it sends the request back does.
    for _ in 0..3 {
        scene.infer().await;
        scene.settled().await;
    }
    assert_eq!((scene.compared("same"), scene.compared("status"), scene.compared("extra")), (1, 1, 1));
    assert_eq!(scene.series(|series| series.calls(Code::INTERNAL, Blame::Upstream)), 1);
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), 3);
}

#[tokio::test]
async fn equal_answers_are_the_same_wherever_their_frames_are_cut() {
    let primary = Upstream::start(Incoming::echo).await;
    let shadow = Upstream::start(|mut incoming: Incoming| async move {
        for message in incoming.messages().await {
            let all = frame(0, &message);
            for part in all.chunks(7_001) {
                incoming.send_raw(Bytes::copy_from_slice(part)).await;
            }
        }
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let sidecar = Sidecar::start(&yaml(&primary, &shadow, "")).await;
    let client = Client::connect(sidecar.address).await;
    let scene = Scene { primary, shadow, sidecar, client };
    for size in [0, 1, 5_000, 600_000] {
        scene.client.unary("/any.Service/Method", &[], &vec![7; size]).await;
    }
    scene.settled().await;
    assert_eq!(scene.compared("same"), 4);
}

#[tokio::test]
async fn a_stream_is_copied_message_by_message_as_it_comes() {
    let scene = Scene::new(", deadline: 20s", oip::serve).await;
    let mut call = scene.client.open(STREAM, &[]).await;
    for number in 1..=5 {
        call.send(&oip::request("m", &[], 10)).await;
        let seen = |requests: &[crate::support::Request]| {
            requests.first().is_some_and(|request| request.messages.len() == number)
        };
        scene.shadow.until("the message", seen).await;
        assert!(!scene.shadow.requests()[0].ended);
    }
    call.end();
    assert_eq!(call.answer().await.status(), Some(0));
    let ledger = scene.settled().await;
    assert_eq!((ledger.eligible, ledger.copied), (1, 1));
    let requests = scene.shadow.requests();
    assert_eq!(oip::read_request(&requests[0].messages[4]).model_name, "real");
}

#[tokio::test]
async fn a_caller_that_gives_up_ends_its_copy_unless_told_otherwise() {
    for (setting, status) in [(", on_cancel: end", Code::CANCELLED), (", on_cancel: keep", Code::OK)] {
        let primary = Upstream::start(never).await;
        let (go, gone) = tokio::sync::watch::channel(false);
        let shadow = Upstream::start(move |mut incoming| {
            let mut gone = gone.clone();
            async move {
                incoming.messages().await;
                tokio::select! {
                    () = incoming.until_reset() => return,
                    _ = gone.wait_for(|gone| *gone) => {}
                }
                incoming.send(b"late").await;
                incoming.trailers(&[("grpc-status", "0")]);
            }
        })
        .await;
        let sidecar = Sidecar::start(&yaml(&primary, &shadow, &format!("{setting}, deadline: 20s"))).await;
        let client = Client::connect(sidecar.address).await;
        let scene = Scene { primary, shadow, sidecar, client };
        let mut call = scene.client.open(INFER, &[]).await;
        call.send_last(&oip::request("m", &[], 10)).await;
        scene.shadow.until("the copy", |requests| requests.iter().any(|one| one.ended)).await;
        call.reset(Reason::CANCEL);
        scene.primary.until("the reset", |requests| requests[0].reset.is_some()).await;
        if status == Code::CANCELLED {
            scene.shadow.until("the copy's end", |requests| requests[0].reset == Some(Reason::CANCEL)).await;
        }
        go.send_replace(true);
        let ledger = scene.settled().await;
        assert_eq!((ledger.eligible, ledger.copied), (1, 1), "its request was whole: {ledger:?}");
        assert_eq!(scene.series(|series| series.calls(status, Blame::Nobody)), 1, "{setting}");
        assert_eq!(scene.compared("not_compared"), 1);
    }
}

#[tokio::test]
async fn a_request_that_never_becomes_whole_is_never_sent() {
    let scene = Scene::new("", oip::serve).await;
    let message = frame(0, &oip::request("m", &[], 50_000));
    let mut call = scene.client.open(INFER, &[]).await;
    call.send_raw(message.slice(..20_000), false).await;
    eventually("the copy", || (scene.ledger().eligible == 1).then_some(())).await;
    call.reset(Reason::CANCEL);
    let ledger = scene.settled().await;
    assert_eq!(skipped(&ledger, Skip::Cancelled), 1, "{ledger:?}");
    assert_eq!(scene.shadow.requests().len(), 0);
}

#[tokio::test]
async fn what_is_over_the_caps_is_skipped_and_counted() {
    let scene = Scene::new(", bytes: 64KiB, deadline: 20s", oip::serve).await;
    let answer = scene.client.unary(INFER, &[], &oip::request("m", &[], 200_000)).await;
    assert_eq!(answer.status(), Some(0));
    let ledger = scene.settled().await;
    assert_eq!(skipped(&ledger, Skip::TooLarge), 1, "{ledger:?}");
    assert_eq!(scene.shadow.requests().len(), 0);

    let scene = Scene::new(", calls: 3, deadline: 300ms", never).await;
    for _ in 0..10 {
        scene.infer().await;
    }
    let ledger = scene.settled().await;
    assert_eq!(ledger.eligible, 10);
    assert!(skipped(&ledger, Skip::CallsCap) >= 1, "{ledger:?}");
    assert!(scene.shadow.requests().len() as u64 == ledger.copied);

    let scene = Scene::new(", bytes: 100KiB, deadline: 300ms", never).await;
    for _ in 0..6 {
        scene.client.unary(INFER, &[], &oip::request("m", &[], 40_000)).await;
    }
    let ledger = scene.settled().await;
    assert!(skipped(&ledger, Skip::BytesCap) >= 1, "{ledger:?}");
}

#[tokio::test]
async fn what_a_copy_costs_beside_its_bytes_counts() {
    let scene = Scene::new(", bytes: 64KiB, calls: 1000, deadline: 60s", never).await;
    for _ in 0..40 {
        scene.infer().await;
    }
    let ledger = scene.ledger();
    assert!(scene.series(|series| series.in_flight()) <= 10, "each is 6 KiB and more");
    assert!(skipped(&ledger, Skip::BytesCap) >= 30, "{ledger:?}");
}

#[tokio::test]
async fn a_copy_that_is_over_holds_nothing_of_a_call_that_goes_on() {
    let scene = Scene::new(", deadline: 300ms", never).await;
    let mut call = scene.client.open(STREAM, &[]).await;
    for _ in 0..2 {
        call.send(&oip::request("m", &[], 50_000)).await;
        eventually("the end of the copy", || {
            let over = scene.ledger().eligible == 1 && scene.series(|series| series.in_flight()) == 0;
            over.then_some(())
        })
        .await;
        assert_eq!(scene.series(|series| series.pinned()), 0);
    }
    call.end();
    assert_eq!(call.answer().await.status(), Some(0));
    scene.settled().await;
}

#[tokio::test]
async fn a_shadow_that_is_not_ready_is_left_alone() {
    let scene = Scene::new("", oip::serve).await;
    scene.shadow.set_ready(false);
    scene.sidecar.until_ready(|variant, ready| ready == (variant == "v1")).await;
    for _ in 0..5 {
        scene.infer().await;
    }
    let ledger = scene.settled().await;
    assert_eq!(skipped(&ledger, Skip::NotReady), 5, "{ledger:?}");
}

#[tokio::test]
async fn a_copy_that_the_end_of_the_process_cuts_is_counted_and_delays_nobody() {
    let scene = Scene::new(", deadline: 60s", never).await;
    scene.infer().await;
    scene.shadow.until("the copy", |requests| requests.iter().any(|one| one.ended)).await;
    let telemetry = scene.sidecar.telemetry.clone();
    let begun = Instant::now();
    drop(scene.client);
    drop(scene.sidecar);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let ledgers = telemetry.shadows();
    assert_eq!((ledgers[0].eligible, ledgers[0].copied, skipped(&ledgers[0], Skip::Aborted)), (1, 0, 1));
}

#[tokio::test]
async fn a_shadow_comes_dies_comes_back_and_goes_while_calls_run() {
    use crate::support::process::{self, Model, PORTS, infer};
    let live = Model::start("1.0.0");
    let shadow = Model::start("2.0.0");
    let variants = |more: &str| {
        format!(
            "{PORTS}models:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{}'}}\n{more}",
            live.address
        )
    };
    let with = variants(&format!(
        "      v2: {{endpoint: 'http://{}'}}\n    shadows: [{{variant: v2}}]\n",
        shadow.address
    ));
    let sidecar = process::Sidecar::ready(variants("").strip_prefix(PORTS).unwrap()).await;
    let client = sidecar.client();
    let copied = r#"parhelion_shadow_copied_total{model="m",variant="v2"}"#;
    // Calls go on until the metric has grown; none of them may fail.
    let grows = async |metric: &str| {
        let before = sidecar.metric(metric).await;
        process::until(metric, || async {
            infer(&client, "").await.unwrap();
            sidecar.metric(metric).await > before
        })
        .await;
    };
    infer(&client, "").await.unwrap();
    std::fs::write(sidecar.file(), &with).unwrap();
    grows(copied).await;
    let address = shadow.address;
    drop(shadow);
    grows(r#"parhelion_shadow_skipped_total{model="m",variant="v2",reason="not_ready"}"#).await;
    let shadow = Model::start_at("2.0.0", address);
    grows(copied).await;
    assert!(shadow.calls() > 0);
    std::fs::write(sidecar.file(), variants("")).unwrap();
    sidecar.counts("parhelion_config_reloads_total{result=\"applied\"}", 2).await;
    let eligible = r#"parhelion_shadow_eligible_total{model="m",variant="v2"}"#;
    process::until("the change to be in force", || async {
        let before = sidecar.metric(eligible).await;
        infer(&client, "").await.unwrap();
        sidecar.metric(eligible).await == before
    })
    .await;
    assert!(sidecar.metric(copied).await > 0, "counts outlive what they counted");
}
