//! Endpoints: which one of a variant's gets a call, how they are reached, what happens when they fail or come late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use h2::Reason;
use parhelion::assignment::Reason as Why;
use parhelion::telemetry::counter::Counter;

use crate::support::{Call, Client, Incoming, Sidecar, Upstream, eventually, pinned, soon};

const PATH: &str = "/any.Service/Method";

async fn echo_or_hold(mut incoming: Incoming) {
    if incoming.request().headers.contains_key("x-hold") {
        incoming.until_reset().await;
    } else {
        incoming.echo().await;
    }
}

#[tokio::test]
async fn one_of_two_may_die() {
    let (first, second) = (Upstream::start(Incoming::echo).await, Upstream::start(Incoming::echo).await);
    let sidecar = Sidecar::start(&pinned(&[&first.url, &second.url])).await;
    let client = Client::connect(sidecar.address).await;
    for _ in 0..10 {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    assert!(first.requests().len() == 5 && second.requests().len() == 5, "both are used");
    drop(first);
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(client.unary(PATH, &[], b"x").await.status() != Some(0));
    }
    assert!(failed <= 1, "only a call on its way when the connection broke may fail, not {failed}");
    assert!(second.requests().len() >= 104);
}

#[tokio::test]
async fn the_least_loaded_one_gets_the_call() {
    let (first, second) = (Upstream::start(echo_or_hold).await, Upstream::start(echo_or_hold).await);
    let sidecar = Sidecar::start(&pinned(&[&first.url, &second.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut held: Vec<Call> = Vec::new();
    for number in 1..=8 {
        held.push(client.open(PATH, &[("x-hold", &number.to_string())]).await);
        let both = async {
            while first.requests().len() + second.requests().len() < number {
                tokio::task::yield_now().await;
            }
        };
        soon("the call", both).await;
    }
    assert_eq!((first.requests().len(), second.requests().len()), (4, 4));
    for request in first.requests() {
        let number: usize = request.headers["x-hold"].to_str().unwrap().parse().unwrap();
        held[number - 1].reset(Reason::CANCEL);
    }
    first.wait("four resets", |requests| requests.iter().all(|one| one.reset.is_some())).await;
    for _ in 0..4 {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    assert_eq!((first.requests().len(), second.requests().len()), (8, 4));
}

#[tokio::test]
async fn five_failures_take_one_out_and_it_comes_back() {
    let good = Upstream::start(Incoming::echo).await;
    let ill = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&ill);
    let gray = Upstream::start(move |mut incoming| {
        let ill = state.load(Ordering::Relaxed);
        async move {
            if ill {
                incoming.only(&[("grpc-status", "14"), ("grpc-message", "gray")]);
            } else {
                incoming.echo().await;
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(&pinned(&[&good.url, &gray.url])).await;
    let client = Client::connect(sidecar.address).await;
    let mut failed = 0;
    let mut calls = 0;
    while sidecar.count(Counter::Ejections) == 0 {
        failed += usize::from(client.unary(PATH, &[], b"x").await.status() == Some(14));
        calls += 1;
        assert!(calls < 30, "it is never taken out");
    }
    assert_eq!(failed, 5);
    assert_eq!(gray.requests().len(), 5);
    for _ in 0..20 {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    assert_eq!(gray.requests().len(), 5, "it is out");
    ill.store(false, Ordering::Relaxed);
    let back = async {
        while gray.requests().len() == 5 {
            assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
        }
    };
    soon("its return", back).await;
}

#[tokio::test]
async fn one_that_hangs_is_passed_over_and_comes_back_when_it_speaks() {
    let (good, hung) = (Upstream::start(Incoming::echo).await, Upstream::start(Incoming::echo).await);
    let sidecar = Sidecar::start(&pinned(&[&good.url, &hung.url])).await;
    let client = Client::connect(sidecar.address).await;
    for _ in 0..4 {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    assert_eq!(hung.requests().len(), 2, "both are used");
    hung.hush(true);
    let mut lost = Vec::new();
    while hung.requests().len() < 4 {
        let mut call = client.open(PATH, &[]).await;
        call.send_last(b"x").await;
        lost.push(call);
        let arrived = async {
            while good.requests().len() + hung.requests().len() < 4 + lost.len() {
                tokio::task::yield_now().await;
            }
        };
        soon("the call", arrived).await;
    }
    eventually("suspicion", || (sidecar.count(Counter::Suspicions) == 1).then_some(())).await;
    let (before, reached) = (good.requests().len(), hung.requests().len());
    for _ in 0..20 {
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
    }
    assert_eq!((good.requests().len() - before, hung.requests().len()), (20, reached));
    assert_eq!(sidecar.count(Counter::Ejections), 0, "no call had to fail for it");
    hung.hush(false);
    drop(lost);
    let back = async {
        while hung.requests().len() == reached {
            assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
        }
    };
    soon("its return", back).await;
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::at(&folder.path().join("model.sock"), Incoming::echo);
    let sidecar = Sidecar::start(&pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    assert_eq!(client.unary(PATH, &[], b"x").await.texts(), vec![b"x"]);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_name() {
    let upstream = Upstream::start(Incoming::echo).await;
    let url = format!("http://localhost:{}", upstream.address().port());
    let sidecar = Sidecar::start(&pinned(&[&url])).await;
    let client = Client::connect(sidecar.address).await;
    assert_eq!(client.unary(PATH, &[], b"x").await.texts(), vec![b"x"]);
}

#[tokio::test]
async fn a_model_may_come_later_and_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let sidecar = Sidecar::start_cold(&pinned(&[&format!("unix:{}", path.display())])).await;
    let client = Client::connect(sidecar.address).await;
    let answer = client.unary(PATH, &[], b"x").await;
    assert_eq!(answer.status(), Some(14));
    let place = format!("model m, variant v1, endpoint unix:{}: not ready", path.display());
    assert!(answer.message().starts_with(&place), "{}", answer.message());
    assert_eq!(answer.header("parhelion-variant"), Some("v1"), "errors are tagged too");
    for _ in 0..2 {
        let upstream = Upstream::at(&path, Incoming::echo);
        sidecar.until_ready(|_, ready| ready).await;
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(0));
        drop(upstream);
        std::fs::remove_file(&path).unwrap();
        sidecar.until_ready(|_, ready| !ready).await;
        assert_eq!(client.unary(PATH, &[], b"x").await.status(), Some(14));
    }
}

#[tokio::test]
async fn a_variant_that_is_not_ready_gets_nothing_and_its_share_goes_to_the_baseline() {
    let (baseline, candidate) =
        (Upstream::start(Incoming::echo).await, Upstream::start(Incoming::echo).await);
    candidate.set_ready(false);
    let yaml = format!(
        "models:\n  m:\n    variants: {{v1: {{endpoint: \"{}\"}}, v2: {{endpoint: \"{}\"}}}}\n    \
         strategy: {{kind: ab, baseline: v1, weights: {{v1: 0%, v2: 100%}}}}\nservices: {{any.Service: m}}\n",
        baseline.url, candidate.url
    );
    let sidecar = Sidecar::start_cold(&yaml).await;
    sidecar.until_ready(|variant, ready| ready == (variant == "v1")).await;
    let client = Client::connect(sidecar.address).await;
    for _ in 0..20 {
        let answer = client.unary(PATH, &[], b"x").await;
        assert_eq!((answer.status(), answer.header("parhelion-variant")), (Some(0), Some("v1")));
    }
    assert_eq!((baseline.requests().len(), candidate.requests().len()), (20, 0));
    assert_eq!(sidecar.assigned(Why::NotReady), 20);
    candidate.set_ready(true);
    sidecar.until_ready(|_, ready| ready).await;
    let answer = client.unary(PATH, &[], b"x").await;
    assert_eq!(answer.header("parhelion-variant"), Some("v2"));
    assert_eq!(sidecar.assigned(Why::Draw), 1);
}
