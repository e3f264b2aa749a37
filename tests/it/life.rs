//! The life of the real process: how it ends, how it outlives its model servers, and how long a connection may last.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::support::attack::{self, GOAWAY, Raw, frame, open_call};
use crate::support::process::{self, LONG, Model, Sidecar, beside, get, infer, one, request, requests};

/// A stream of answers for ever, read until it ends; returns how many there were and the status.
async fn endless(sidecar: &Sidecar) -> tokio::task::JoinHandle<(usize, Option<Status>)> {
    let (send, feed) = requests();
    let mut client = sidecar.client();
    let (began, begun) = tokio::sync::oneshot::channel();
    let reading = beside(async move {
        send.send(request("endless")).await.unwrap();
        let mut answers = match client.model_stream_infer(feed).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return (0, Some(status)),
        };
        let (mut count, mut began) = (0, Some(began));
        let status = loop {
            match answers.message().await {
                Ok(Some(_)) => {
                    count += 1;
                    let _ = began.take().map(|began| began.send(()));
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        drop(send);
        (count, status)
    });
    timeout(LONG, begun).await.unwrap().unwrap();
    reading
}

/// A call that takes so long, on a connection of its own; returns once the model is at it.
async fn long_call(
    sidecar: &Sidecar,
    model: &Model,
    millis: u64,
) -> tokio::task::JoinHandle<Result<(), Status>> {
    let client = sidecar.client();
    let before = model.calls();
    let calling = beside(async move { infer(&client, &format!("sleep:{millis}")).await.map(drop) });
    process::until("the call upstream", || async { model.calls() > before }).await;
    calling
}

#[tokio::test]
async fn a_term_lets_calls_finish() {
    let model = Model::start("1.0.0");
    let mut sidecar =
        Sidecar::ready(&format!("{}drain: {{lag: 500ms, grace: 10s}}\n", one(model.address))).await;
    let running = long_call(&sidecar, &model, 1500).await;
    let mut idle = Raw::greet(sidecar.data, &[]).await;
    let connected = sidecar.client();
    infer(&connected, "").await.unwrap();

    sidecar.signal("TERM");
    process::until("not ready", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    assert_eq!(get(sidecar.health, "/livez").await.0, 200);
    // For those who do not know yet there is room until the lag is over.
    infer(&connected, "").await.unwrap();
    infer(&sidecar.client(), "").await.unwrap();

    assert!(idle.read_until(|raw| raw.count(GOAWAY) > 0, LONG).await, "no GOAWAY");
    assert_eq!(idle.last(GOAWAY).unwrap().code(), 0);
    assert!(timeout(LONG, running).await.unwrap().unwrap().is_ok());
    let (status, _) = sidecar.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
    assert!(TcpStream::connect(sidecar.data).await.is_err());
}

#[tokio::test]
async fn calls_after_a_term_are_never_lost() {
    let model = Model::start("1.0.0");
    let mut sidecar = Sidecar::ready(&format!("{}drain: {{grace: 10s}}\n", one(model.address))).await;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let client = sidecar.client();
            beside(async move {
                let mut good = 0;
                loop {
                    match infer(&client, "sleep:20").await {
                        Ok(_) => good += 1,
                        // The port is closed: nobody was let in and then forgotten.
                        Err(status) => return (good, status),
                    }
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    sidecar.signal("TERM");
    let (status, took) = sidecar.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(2500), "{took:?}");
    for caller in callers {
        let (good, status) = timeout(LONG, caller).await.unwrap().unwrap();
        assert!(good > 0);
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let refused = format!("{status:?}").contains("ConnectionRefused");
        assert!(refused, "a call was lost on a connection that was open: {status:?}");
    }
}

/// The pod's end as a native sidecar lives it: told by its preStop, then the model waits, then it is terminated.
#[tokio::test]
async fn told_that_the_pod_ends_it_drains_and_waits_for_the_term() {
    let model = Model::start("1.0.0");
    let mut sidecar =
        Sidecar::ready(&format!("{}drain: {{lag: 300ms, grace: 10s}}\n", one(model.address))).await;
    let running = long_call(&sidecar, &model, 1500).await;
    sidecar.signal("USR1");
    process::until("not ready", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    // For those who do not know yet.
    infer(&sidecar.client(), "").await.unwrap();
    // The model's preStop returns when the last call has ended, and the sidecar is still there.
    let health = sidecar.health;
    let pre_stop = beside(async move { get(health, "/drained").await });
    assert!(timeout(LONG, running).await.unwrap().unwrap().is_ok());
    assert_eq!(timeout(LONG, pre_stop).await.unwrap().unwrap(), (200, "drained\n".to_owned()));
    assert!(TcpStream::connect(sidecar.data).await.is_err());
    assert_eq!(get(sidecar.health, "/livez").await.0, 200);
    sidecar.signal("TERM");
    let (status, _) = sidecar.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
}

/// Without a native sidecar the term may come while the drain is under way: that is no hurry.
#[tokio::test]
async fn a_term_during_the_pods_end_does_not_cut() {
    let model = Model::start("1.0.0");
    let mut sidecar = Sidecar::ready(&format!("{}drain: {{grace: 10s}}\n", one(model.address))).await;
    let running = long_call(&sidecar, &model, 1500).await;
    sidecar.signal("USR1");
    process::until("not ready", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    sidecar.signal("TERM");
    assert!(timeout(LONG, running).await.unwrap().unwrap().is_ok());
    let (status, _) = sidecar.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
}

#[tokio::test]
async fn a_second_term_cuts() {
    let model = Model::start("1.0.0");
    let mut sidecar =
        Sidecar::ready(&format!("{}drain: {{lag: 20s, grace: 20s}}\n", one(model.address))).await;
    let running = long_call(&sidecar, &model, 20_000).await;
    let streaming = endless(&sidecar).await;
    sidecar.signal("TERM");
    process::until("not ready", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    sidecar.signal("TERM");
    let (status, took) = sidecar.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let status = timeout(LONG, running).await.unwrap().unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the sidecar has ended; try again"));
    let (_, status) = timeout(LONG, streaming).await.unwrap().unwrap();
    let status = status.expect("a cut stream has not ended well");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the sidecar has ended; try again"));
}

#[tokio::test]
async fn the_grace_is_the_end_of_endless_streams() {
    let model = Model::start("1.0.0");
    let mut sidecar = Sidecar::ready(&format!("{}drain: {{grace: 1s}}\n", one(model.address))).await;
    let streams = [endless(&sidecar).await, endless(&sidecar).await];
    sidecar.signal("TERM");
    let (status, took) = sidecar.ended(Duration::from_secs(6)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took > Duration::from_millis(900) && took < Duration::from_millis(2500), "{took:?}");
    for stream in streams {
        let (count, status) = timeout(LONG, stream).await.unwrap().unwrap();
        let status = status.expect("a cut stream has not ended well");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the sidecar has ended; try again")
        );
        assert!(count > 10, "answers went on until the cut: {count}");
    }
    process::until("the streams' end upstream", || async { model.open() == 0 }).await;
}

#[tokio::test]
async fn silent_peers_do_not_delay_the_end() {
    let model = Model::start("1.0.0");
    let mut sidecar = Sidecar::ready(&format!("{}drain: {{grace: 20s}}\n", one(model.address))).await;
    let silent = Raw::connect(sidecar.data).await;
    let mut half = Raw::connect(sidecar.data).await;
    half.write(&attack::PREFACE[..10]).await;
    let mut unacknowledged = Raw::connect(sidecar.data).await;
    unacknowledged.write(&[attack::PREFACE, &frame(attack::SETTINGS, 0, 0, &[])].concat()).await;
    let idle = Raw::greet(sidecar.data, &[]).await;
    let mut headers = Raw::greet(sidecar.data, &[]).await;
    headers.write(&open_call(1, "")[..20]).await;
    let admin = Raw::connect(sidecar.admin).await;
    let health = Raw::connect(sidecar.health).await;
    sleep(Duration::from_millis(100)).await;
    sidecar.signal("TERM");
    let (status, took) = sidecar.ended(Duration::from_secs(25)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(3500), "{took:?}");
    drop((silent, half, unacknowledged, idle, headers, admin, health));
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_its_calls_finish() {
    let model = Model::start("1.0.0");
    let limits = "limits: {connection_age: 1s, connection_age_grace: 1s}\n";
    let sidecar = Sidecar::ready(&format!("{}{limits}", one(model.address))).await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    let start = Instant::now();
    // One call that ends within the grace, and one that never does.
    raw.write(&open_call(1, "sleep:1400")).await;
    raw.write(&frame(attack::DATA, attack::END_STREAM, 1, &[])).await;
    raw.write(&open_call(3, "sleep:60000")).await;
    assert!(raw.read_until(|raw| raw.count(GOAWAY) > 0, Duration::from_secs(3)).await, "no GOAWAY");
    assert!(start.elapsed() > Duration::from_millis(850), "{:?}", start.elapsed());
    assert!(raw.read_until(|raw| raw.ended(1), Duration::from_secs(3)).await, "the call did not finish");
    assert!(!raw.ended(3));
    assert!(raw.closes(Duration::from_secs(3)).await, "still open");
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1800) && took < Duration::from_millis(3500), "{took:?}");
    sidecar.counts("parhelion_connections_total{event=\"aged\"}", 1).await;
    process::until("the cut call's end upstream", || async { model.open() == 0 }).await;

    // A caller who heeds GOAWAY notices nothing. This one's HTTP/2 client gives a call to a connection that it was told to
    // leave while another was open there, and cancels it by itself; the sidecar never sees such a call. That can only be
    // where the call before was on its way as the sidecar said so.
    let cancelled = r#"parhelion_calls_total{model="m",variant="v1",code="CANCELLED""#;
    let before = sidecar.metric(cancelled).await;
    let client = sidecar.client();
    let mut given_up = 0;
    while start.elapsed() < Duration::from_secs(6) {
        match infer(&client, "sleep:10").await {
            Err(status) if status.code() == Code::Cancelled => given_up += 1,
            answer => drop(answer.unwrap()),
        }
    }
    assert!(given_up <= 1, "{given_up} calls given up at four closing connections");
    assert_eq!(sidecar.metric(cancelled).await, before);
}

#[tokio::test]
async fn a_model_that_comes_later_is_served_then() {
    let gone = Model::start("1.0.0");
    let address = gone.address;
    drop(gone);
    let sidecar = Sidecar::start(&one(address)).await;
    let (ready, text) = get(sidecar.health, "/readyz").await;
    assert_eq!(ready, 503, "{text}");
    assert_eq!(get(sidecar.health, "/livez").await.0, 200);
    let status = infer(&sidecar.client(), "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["model m", "variant v1", &address.to_string()] {
        assert!(status.message().contains(part), "{status:?}");
    }
    let _model = Model::start_at("1.0.0", address);
    let start = Instant::now();
    sidecar.become_ready().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    infer(&sidecar.client(), "").await.unwrap();
}

#[tokio::test]
async fn a_model_server_may_die_and_come_back() {
    let first = Model::start("1.0.0");
    let address = first.address;
    let sidecar = Sidecar::ready(&one(address)).await;
    let client = sidecar.client();
    infer(&client, "").await.unwrap();
    let running = long_call(&sidecar, &first, 60_000).await;
    drop(first);
    let status = timeout(LONG, running).await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    process::until("not ready", || async { get(sidecar.health, "/readyz").await.0 == 503 }).await;
    let asked = Instant::now();
    let status = infer(&client, "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(asked.elapsed() < Duration::from_secs(1), "callers are not kept waiting: {:?}", asked.elapsed());

    let _second = Model::start_at("1.0.1", address);
    sidecar.become_ready().await;
    let answer = infer(&client, "").await.unwrap();
    assert_eq!(answer.get_ref().model_version, "1.0.1");
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
}
