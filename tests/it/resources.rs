//! What servers say they use, read over real sockets: a candidate that leaks is held, and a person may excuse it; one
//! whose page cannot be read is judged on all else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parhelion::rollout::{Actor, Status};
use parhelion::verdict::{Command, State, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::oip::{self, INFER};
use crate::support::{Client, Sidecar, Upstream, eventually};

/// A model server's page of metrics, which says that it holds `resident` bytes, and `leak` more at each reading.
struct Page {
    url: String,
    leak: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Page {
    async fn start(resident: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let leak = Arc::new(AtomicU64::new(0));
        let each = Arc::clone(&leak);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut resident = resident;
            while let Ok((mut socket, _)) = listener.accept().await {
                resident += each.load(Ordering::Relaxed);
                let body = format!("process_resident_memory_bytes {resident}\n");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let mut asked = [0; 1024];
                let _ = socket.read(&mut asked).await;
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        });
        Page { url, leak, _task: task }
    }
}

fn status(sidecar: &Sidecar) -> Status {
    sidecar.rollouts.report("m").unwrap()
}

async fn house(metrics: [&str; 2]) -> (Sidecar, [Upstream; 2], JoinSet<()>) {
    let servers = [Upstream::start(oip::serve).await, Upstream::start(oip::serve).await];
    let [v1, v2] =
        [0, 1].map(|arm| format!("endpoint: \"{}\", metrics: \"{}\"", servers[arm].url, metrics[arm]));
    let sidecar = Sidecar::start(&format!(
        "models:\n  m:\n    variants: {{v1: {{{v1}}}, v2: {{{v2}, version: \"2\"}}}}\n    unit: [metadata:x-user]\n    \
         strategy:\n      kind: canary\n      alpha: 20%\n      warmup: {{time: 0s, calls: 1}}\n      \
         steps: [{{share: 50%, hold: 1h}}]\n      max_step_time: 2h\n      \
         guards: {{rejections: off, latency: off, resources: {{memory: {{relative: 5%}}, window: 1s}}}}\n"
    ))
    .await;
    let address = sidecar.address;
    let mut callers = JoinSet::new();
    callers.spawn(async move {
        let client = Client::connect(address).await;
        for user in 0.. {
            let user = format!("u{user}");
            client.unary(INFER, &[("x-user", user.as_str())], &oip::request("m", &[], 100)).await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    (sidecar, servers, callers)
}

#[tokio::test]
async fn a_candidate_that_leaks_is_held_and_a_person_may_excuse_it() {
    let (one, other) = (Page::start(1 << 30).await, Page::start(1 << 30).await);
    let (sidecar, _servers, callers) = house([&one.url, &other.url]).await;
    eventually("the first windows", || {
        let finding =
            status(&sidecar).report.findings.into_iter().find(|one| &*one.guard == "resources memory")?;
        finding.candidate.value
    })
    .await;
    assert_eq!(status(&sidecar).report.state, State::Running);
    other.leak.store(1 << 28, Ordering::Relaxed);
    let held = eventually("a hold", || {
        let status = status(&sidecar);
        (status.report.state == State::Held).then_some(status)
    })
    .await;
    let finding = held.report.findings.iter().find(|one| &*one.guard == "resources memory").unwrap();
    assert_eq!(finding.verdict, Verdict::Fail);
    assert!(finding.harm.unwrap().middle > 0.05, "{finding:?}");
    let record = &sidecar.rollouts.audit(None, 1)[0];
    assert!(record.change.why.ends_with("resources memory"), "{record:?}");
    // It still has its share, and may go on with what was seen forgotten.
    assert_eq!(held.report.shares, [0.5, 0.5]);
    other.leak.store(0, Ordering::Relaxed);
    sidecar
        .rollouts
        .command("m", Command::Resume, Actor::Operator { name: "ann".to_owned(), reason: String::new() })
        .await
        .unwrap();
    let report = status(&sidecar).report;
    assert_eq!((report.state, report.findings[1].verdict), (State::Running, Verdict::NotEnoughData));
    drop(callers);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_told_and_stops_nobody() {
    let one = Page::start(1 << 30).await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/metrics", listener.local_addr().unwrap())
    };
    let (sidecar, _servers, callers) = house([&one.url, &gone]).await;
    let told = eventually("what is wrong", || {
        let waits = status(&sidecar).report.waits_for;
        waits.contains("resources are not judged").then_some(waits)
    })
    .await;
    assert!(told.contains("the candidate's metrics") && told.contains(&gone), "{told}");
    assert_eq!(status(&sidecar).report.state, State::Running);
    drop(callers);
}
