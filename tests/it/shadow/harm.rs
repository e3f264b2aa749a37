//! Whatever a shadow does to its copies, its callers never feel it, and every call is copied or counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use parhelion::fault::{Blame, Code};
use parhelion::shadow::record::Skip;

use super::{Scene, never, skipped};
use crate::support::Incoming;
use crate::support::oip::{self, INFER};

/// What a shadow can do to whoever calls it.
async fn hostile(kind: &str, mut incoming: Incoming) {
    match kind {
        "refuses" => incoming.reset(Reason::REFUSED_STREAM),
        "hangs" => never(incoming).await,
        "resets" => {
            incoming.messages().await;
            incoming.send(b"begun").await;
            incoming.reset(Reason::INTERNAL_ERROR);
        }
        "floods" => {
            incoming.messages().await;
            incoming.send_raw(Bytes::from_static(b"\0\x03\0\0\0")).await;
            for _ in 0..200 {
                incoming.send_raw(Bytes::from_static(&[0; 60_000])).await;
            }
        }
        "answers twice" => {
            incoming.messages().await;
            incoming.send(b"one").await;
            incoming.send(b"two").await;
            incoming.trailers(&[("grpc-status", "0")]);
        }
        "never reads" => incoming.until_reset().await,
        "garbage" => {
            incoming.messages().await;
            incoming.send_raw(Bytes::from_static(&[0xff; 5_000])).await;
            incoming.trailers(&[("grpc-status", "forty-two")]);
        }
        "http" => incoming.http(503),
        other => panic!("{other}"),
    }
}

/// The law, and that the caller sees nothing of it, whatever the shadow does.
async fn law_under(kind: &'static str) {
    let scene = Arc::new(
        Scene::new(", deadline: 200ms, bytes: 4MiB, calls: 20", move |incoming| hostile(kind, incoming))
            .await,
    );
    let expected = scene.client.unary(INFER, &[], &oip::request("m", &[], 1_000)).await.untagged();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (scene, expected) = (Arc::clone(&scene), expected.clone());
        callers.spawn(async move {
            for number in 0..45 {
                let size = if number % 15 == 14 { 100_000 } else { 1_000 };
                let answer = scene.client.unary(INFER, &[], &oip::request("m", &[], size)).await;
                assert_eq!(answer.status(), Some(0), "{kind}: {answer:?}");
                assert_eq!(answer.header("parhelion-variant"), Some("v1"));
                if size == 1_000 {
                    assert_eq!(answer.untagged(), expected, "{kind}");
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let ledger = scene.settled().await;
    let seen = scene.shadow.requests().len() as u64;
    assert_eq!(ledger.eligible, 721, "{kind}");
    assert!(seen <= ledger.eligible, "{kind}: {seen} copies arrived: no call is copied twice");
    assert!(
        ledger.copied + skipped(&ledger, Skip::Unreachable) + skipped(&ledger, Skip::Deadline) > 0,
        "{kind}: {ledger:?}"
    );
    assert!(skipped(&ledger, Skip::Breaker) > 0 || kind == "http", "{kind}: {ledger:?}");
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), 721, "{kind}: no call failed");
    let ended: u64 = (0..18)
        .flat_map(|code| Blame::ALL.map(|blame| (Code(code), blame)))
        .map(|(code, blame)| scene.series(|series| series.calls(code, blame)))
        .sum();
    assert_eq!(ended, ledger.copied, "{kind}");
}

#[tokio::test]
async fn a_shadow_that_refuses_harms_nobody() {
    law_under("refuses").await;
}

#[tokio::test]
async fn a_shadow_that_hangs_harms_nobody() {
    law_under("hangs").await;
}

#[tokio::test]
async fn a_shadow_that_resets_harms_nobody() {
    law_under("resets").await;
}

#[tokio::test]
async fn a_shadow_that_floods_harms_nobody() {
    law_under("floods").await;
}

#[tokio::test]
async fn a_shadow_that_answers_a_unary_call_twice_harms_nobody_and_is_left_alone() {
    law_under("answers twice").await;
}

#[tokio::test]
async fn a_shadow_that_never_reads_harms_nobody() {
    law_under("never reads").await;
}

#[tokio::test]
async fn a_shadow_that_answers_garbage_harms_nobody() {
    law_under("garbage").await;
}

#[tokio::test]
async fn a_shadow_that_speaks_no_grpc_harms_nobody() {
    law_under("http").await;
}

/// Frames that no library would send, of which a live server's callers are told: a shadow's are not.
#[tokio::test]
async fn a_shadow_that_breaks_the_rules_harms_nobody() {
    use crate::support::attack::{Hostile, Mischief};
    use crate::support::process::{self, Model, request};
    let live = Model::start("1.0.0");
    let mut config = "models:\n".to_owned();
    let mut shadows = Vec::new();
    for (index, (what, mischief, _)) in crate::hostile::mischiefs().into_iter().enumerate() {
        let shadow = Hostile::start(Mischief { times: usize::MAX, ..mischief }).await;
        config += &format!(
            "  m{index}: {{variants: {{v1: {{endpoint: 'http://{}'}}, v2: {{endpoint: 'http://{}'}}}}, shadows: \
             [{{variant: v2, deadline: 500ms}}]}}\n",
            live.address, shadow.address
        );
        shadows.push((what, shadow));
    }
    let sidecar = process::Sidecar::start(&format!("default: m0\n{config}")).await;
    sidecar.counts("parhelion_endpoint_ready", 2 * shadows.len() as u64).await;
    let before = sidecar.resident();
    let client = sidecar.client();
    for (index, (what, shadow)) in shadows.iter().enumerate() {
        for _ in 0..20 {
            let mut asked = request("");
            asked.model_name = format!("m{index}");
            let answer = client.clone().model_infer(asked).await;
            assert!(answer.is_ok(), "{what}: {answer:?}");
        }
        process::until(what, || async {
            shadow.calls.load(std::sync::atomic::Ordering::Relaxed) > 0
                && sidecar.metric("parhelion_shadow_calls_in_flight").await == 0
        })
        .await;
        let of = |name: &str| format!("parhelion_shadow_{name}_total{{model=\"m{index}\"");
        let eligible = sidecar.metric(&of("eligible")).await;
        let counted = sidecar.metric(&of("copied")).await + sidecar.metric(&of("skipped")).await;
        assert_eq!((eligible, counted), (20, 20), "{what}");
    }
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
}

#[tokio::test]
async fn a_shadow_whose_connections_are_cut_harms_nobody() {
    let scene = Scene::new(", deadline: 500ms", oip::serve).await;
    for number in 0..300 {
        if number % 10 == 5 {
            scene.shadow.cut();
        }
        scene.infer().await;
    }
    let ledger = scene.settled().await;
    assert_eq!(ledger.eligible, 300);
    assert!(ledger.copied > 0, "{ledger:?}");
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), 300);
}

/// Resident memory of this process, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Every kind of harm in turn, connections cut and readiness lost in between, for so many seconds.
#[tokio::test]
#[ignore = "long: PARHELION_CHAOS=1800 cargo test --release --test it chaos -- --ignored --nocapture"]
async fn chaos_leaves_the_books_exact() {
    let seconds: u64 = std::env::var("PARHELION_CHAOS").map_or(60, |text| text.parse().unwrap());
    let kinds = [
        "fine",
        "refuses",
        "fine",
        "hangs",
        "resets",
        "fine",
        "floods",
        "never reads",
        "fine",
        "garbage",
        "http",
    ];
    let begun = Instant::now();
    let scene = Scene::new(", deadline: 100ms, bytes: 4MiB, calls: 50", move |incoming| {
        // Each kind for so long that the breaker opens and closes again.
        let kind = kinds[begun.elapsed().as_secs() as usize / 5 % kinds.len()];
        async move { if kind == "fine" { oip::serve(incoming).await } else { hostile(kind, incoming).await } }
    })
    .await;
    let scene = Arc::new(scene);
    let made = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (scene, made) = (Arc::clone(&scene), Arc::clone(&made));
        callers.spawn(async move {
            // A pace that leaves the processor time to answer the probes, which share it.
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while begun.elapsed().as_secs() < seconds {
                pace.tick().await;
                let number = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number % 5_000 == 0 {
                    scene.shadow.cut();
                    scene.primary.forget();
                    scene.shadow.forget();
                    println!("{number} made, {} KiB, {:?}", resident(), scene.ledger());
                }
                scene.shadow.set_ready(number % 20_000 < 19_000);
                scene.infer().await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let (ledger, made) = (scene.settled().await, made.load(std::sync::atomic::Ordering::Relaxed));
    println!("{} KiB, {ledger:?}", resident());
    assert_eq!(ledger.eligible, made);
    assert_eq!(scene.sidecar.calls(Code::OK, Blame::Nobody), made, "no call failed");
}

/// What a caller sees beside shadows of every kind: printed, for a loaded machine proves nothing by it.
#[tokio::test]
#[ignore = "a measurement: cargo test --release --test it callers_latency -- --ignored --nocapture"]
async fn callers_latency_beside_shadows() {
    for round in 0..2 {
        for kind in ["none", "fine", "refuses", "hangs", "resets", "floods", "never reads", "garbage"] {
            let share = if kind == "none" { ", sample: 0%" } else { "" };
            let scene =
                Scene::new(&format!("{share}, deadline: 100ms, bytes: 4MiB"), move |incoming| async move {
                    if kind == "fine" { oip::serve(incoming).await } else { hostile(kind, incoming).await }
                })
                .await;
            let mut times = Vec::new();
            for _ in 0..3_000 {
                let begun = Instant::now();
                scene.infer().await;
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            let ledger = scene.settled().await;
            println!(
                "{round} {kind}: p50 {:?}, p99 {:?}, copied {}",
                times[1_500], times[2_970], ledger.copied
            );
        }
    }
}
