use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::config::Address;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counter;
use crate::upstream::readiness::{Readiness, Target, sample};

const LONG: Duration = Duration::from_secs(20);

/// Both ports, over a model `iris` (baseline `v1`, and `v2`) and a model `other`.
struct House {
    config: watch::Sender<Arc<Config>>,
    draining: watch::Sender<bool>,
    drained: watch::Sender<bool>,
    board: Arc<Board>,
    counters: Arc<Counters>,
    health: SocketAddr,
    admin: SocketAddr,
    stop: [oneshot::Sender<()>; 2],
    tasks: Tasks,
}

impl House {
    async fn new() -> Self {
        let at = |port| Address::Tcp { host: "127.0.0.1".into(), port };
        let iris = vec![sample::variant("v1", at(1)), sample::variant("v2", at(2))];
        let models = vec![("iris", iris), ("other", vec![sample::variant("only", at(3))])];
        let config = watch::Sender::new(sample::config(models));
        let drained = watch::Sender::new(false);
        let (draining, board, counters) =
            (watch::Sender::new(false), Arc::new(Board::default()), Arc::new(Counters::default()));
        let view = View {
            tls: Arc::default(),
            config: config.subscribe(),
            board: Arc::clone(&board),
            draining: draining.subscribe(),
            drained: drained.subscribe(),
            counters: Arc::clone(&counters),
        };
        let tasks = Tasks::new(Arc::clone(&counters));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listeners, stops): ([TcpListener; 2], [_; 2]) = (
            [bind("health", any).unwrap(), bind("admin", any).unwrap()],
            [oneshot::channel(), oneshot::channel()],
        );
        let [health, admin] = [listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap()];
        let ([on_health, on_admin], [(stop_health, a), (stop_admin, b)]) = (listeners, stops);
        let (one, two) = (health_port(view.clone()), admin_port(view));
        tasks.spawn("health", async { one.serve(on_health, ended(a)).await.unwrap() });
        tasks.spawn("admin", async { two.serve(on_admin, ended(b)).await.unwrap() });
        House {
            config,
            draining,
            drained,
            board,
            counters,
            health,
            admin,
            stop: [stop_health, stop_admin],
            tasks,
        }
    }

    fn readiness(&self, variant: usize) -> Arc<Readiness> {
        let (_, _, target) = Target::all(&self.config.borrow()).nth(variant).unwrap();
        self.board.get(&target)
    }

    fn set(&self, variant: usize, ready: bool, why: &str) {
        self.readiness(variant).explain(why);
        self.readiness(variant).set(ready);
        self.board.announce();
    }

    async fn get(&self, path: &str) -> (u16, String) {
        http(self.health, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn ask(&self, path: &str) -> (u16, Value) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        let (code, body) = http(self.admin, &request).await;
        let body = body.split_once("\r\n\r\n").unwrap().1;
        (code, serde_json::from_str(body).unwrap())
    }
}

async fn ended(stop: oneshot::Receiver<()>) {
    let _ = stop.await;
}

fn health_port(view: View) -> Health {
    let metrics = Arc::new(|format| match format {
        Format::Text => Page { content_type: "text/plain; version=0.0.4", body: "plain 1\n".to_owned() },
        Format::OpenMetrics => {
            Page { content_type: "application/openmetrics-text", body: "open 1\n# EOF\n".to_owned() }
        }
    });
    Health { view, metrics }
}

fn admin_port(view: View) -> Control {
    let reload = Reload {
        revision: "0123456789ab".into(),
        since: UNIX_EPOCH,
        refused: Some(UNIX_EPOCH + Duration::from_secs(60)),
        errors: vec!["models.iris: wrong".to_owned()],
    };
    Control {
        view,
        effective: Arc::new(|| json!({"listen": "x"})),
        reload: Arc::new(move || reload.clone()),
        workers: Arc::new(|| json!([{"in_flight": 3}])),
        services: axum::Router::new(),
        tokens: None,
    }
}

/// The status, and the whole answer.
async fn http(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test]
async fn readiness_follows_the_default_models_baseline() {
    let house = House::new().await;
    assert_eq!(house.get("/livez").await.0, 200);
    let (code, text) = house.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("iris/v1 not ready (0 of 1 endpoints): not probed yet\n"), "{text}");
    house.set(1, true, "ModelReady says ready");
    house.set(0, false, "cannot connect");
    let (code, text) = house.get("/readyz").await;
    assert_eq!(code, 503, "another variant than the baseline is not enough");
    assert!(text.contains("iris/v1 not ready (0 of 1 endpoints): cannot connect\n"), "{text}");
    assert!(text.contains("iris/v2 ready (1 of 1 endpoints): ModelReady says ready\n"), "{text}");
    assert_eq!(house.get("/readyz/iris/v2").await.0, 200);
    assert_eq!(house.get("/readyz/iris/v1").await.0, 503);
    assert_eq!(house.get("/readyz/iris").await.0, 503);
    house.set(0, true, "ModelReady says ready");
    assert_eq!(house.get("/readyz").await.0, 200);
    assert_eq!(house.get("/readyz/iris").await.0, 200);
    assert_eq!(house.get("/readyz/other").await.0, 503);
    house.draining.send_replace(true);
    let (code, text) = house.get("/readyz").await;
    assert!(code == 503 && text.contains("not ready: draining"), "{text}");
    assert_eq!(house.get("/readyz/iris/v1").await.0, 503);
    assert_eq!(house.get("/livez").await.0, 200);
}

#[tokio::test]
async fn who_waits_for_the_drain_is_answered_when_there_are_no_calls_any_more() {
    let house = House::new().await;
    let mut waiting = std::pin::pin!(house.get("/drained"));
    // Neither before the end is told nor while calls are under way.
    assert!(timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
    house.draining.send_replace(true);
    assert!(timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
    house.drained.send_replace(true);
    let (code, text) = waiting.await;
    assert!(code == 200 && text.ends_with("drained\n"), "{text}");
    assert_eq!(house.get("/drained").await.0, 200);
}

#[tokio::test]
async fn unknown_names_and_paths_are_told_with_the_known() {
    let house = House::new().await;
    let (code, text) = house.get("/readyz/iriss").await;
    assert!(code == 404 && text.contains("known are: iris, other"), "{text}");
    assert_eq!(house.get("/readyz/iris/v9").await.0, 404);
    let (code, text) = house.get("/nothing").await;
    assert!(code == 404 && text.contains("/metrics"), "{text}");
    let post = "POST /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(http(house.health, post).await.0, 405);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let house = House::new().await;
    let (code, text) = house.get("/metrics").await;
    assert!(code == 200 && text.contains("version=0.0.4") && text.ends_with("plain 1\n"), "{text}");
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n";
    assert!(http(house.health, request).await.1.ends_with("# EOF\n"));
}

#[tokio::test]
async fn grpc_health_says_the_same_and_watchers_hear_changes() {
    let house = House::new().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", house.health)).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let asked = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watched = client.watch(asked("")).await.unwrap().into_inner();
    let mut next = async || timeout(LONG, watched.message()).await.unwrap().unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::NotServing);
    house.set(0, true, "ok");
    assert_eq!(next().await, ServingStatus::Serving);
    for (service, status) in [
        ("", ServingStatus::Serving),
        ("iris", ServingStatus::Serving),
        ("iris/v1", ServingStatus::Serving),
        ("iris/v2", ServingStatus::NotServing),
        ("other", ServingStatus::NotServing),
    ] {
        assert_eq!(client.check(asked(service)).await.unwrap().into_inner().status(), status, "{service}");
    }
    assert_eq!(client.check(asked("iriss")).await.unwrap_err().code(), tonic::Code::NotFound);
    house.draining.send_replace(true);
    assert_eq!(next().await, ServingStatus::NotServing);
    assert_eq!(
        client.check(asked("iris/v1")).await.unwrap().into_inner().status(),
        ServingStatus::NotServing
    );
    // A model that leaves the configuration is not known any more.
    let iris = house.config.borrow().models[0].variants.clone();
    house.config.send_replace(sample::config(vec![("iris", iris)]));
    let gone = async {
        while client.check(asked("other")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.unwrap();
}

#[tokio::test]
async fn an_inference_call_to_the_health_port_is_unimplemented() {
    use crate::pb::inference::ServerLiveRequest;
    use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    let house = House::new().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", house.health)).unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel.connect().await.unwrap());
    let status = client.server_live(ServerLiveRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().contains("`listen`"), "{status}");
}

#[tokio::test]
async fn admin_tells_configuration_and_state() {
    let house = House::new().await;
    house.counters.add(Counter::HopRefused);
    house.set(1, false, "cannot connect");
    assert_eq!(house.ask("/config").await, (200, json!({"listen": "x"})));
    let (code, status) = house.ask("/status").await;
    assert_eq!(code, 200);
    assert_eq!(status["config"]["revision"], "0123456789ab");
    assert_eq!(status["config"]["since"], "1970-01-01T00:00:00Z");
    assert_eq!(status["config"]["refused"], "1970-01-01T00:01:00Z");
    assert_eq!(status["config"]["errors"], json!(["models.iris: wrong"]));
    assert_eq!(status["workers"], json!([{"in_flight": 3}]));
    assert_eq!(status["counters"]["hop_refused"], 1);
    assert_eq!(status["models"][0]["variants"][0]["baseline"], true);
    let endpoint =
        json!({"address": "127.0.0.1:2", "ready": false, "reason": "cannot connect", "changes": 0});
    assert_eq!(status["models"][0]["variants"][1]["endpoints"], json!([endpoint]));
    let (code, body) = house.ask("/nothing").await;
    assert!(code == 404 && body["paths"]["/status"].is_string(), "{body}");
    assert!(house.ask("/").await.1["paths"]["/config"].is_string());
}

#[tokio::test]
async fn admin_refuses_web_pages_and_writing() {
    let house = House::new().await;
    for (request, expected) in [
        ("GET /config HTTP/1.1\r\nhost: evil.example\r\n", 403),
        ("GET /config HTTP/1.1\r\nhost: localhost:1\r\norigin: http://localhost:1\r\n", 403),
        ("GET /config HTTP/1.1\r\n", 403),
        ("POST /config HTTP/1.1\r\nhost: localhost\r\n", 415),
        ("POST /config HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n", 415),
        ("POST /config HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n", 405),
        ("OPTIONS /config HTTP/1.1\r\nhost: localhost\r\n", 405),
        ("DELETE /nothing HTTP/1.1\r\nhost: localhost\r\n", 405),
        ("GET /config HTTP/1.1\r\nhost: localhost\r\n", 200),
    ] {
        let (code, answer) = http(house.admin, &format!("{request}connection: close\r\n\r\n")).await;
        assert_eq!(code, expected, "{request} {answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
    let head = "HEAD /config HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(http(house.admin, head).await.0, 200);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_key_and_remedy() {
    let taken = bind("health", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = taken.local_addr().unwrap();
    let told = bind("admin", address).unwrap_err().to_string();
    assert!(told.starts_with(&format!("admin: {address}: ")), "{told}");
    assert!(told.contains("another process listens there"), "{told}");
    let told = bind("health", SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err().to_string();
    assert!(told.contains("no such address"), "{told}");
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_ends() {
    let house = House::new().await;
    let mut idle = TcpStream::connect(house.health).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    for stop in house.stop {
        stop.send(()).unwrap();
    }
    assert!(house.tasks.drain(LONG).await.is_empty());
    let mut rest = Vec::new();
    timeout(LONG, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(house.health).await.is_err());
}

#[tokio::test]
async fn peers_that_say_nothing_or_half_are_closed() {
    let house = House::new().await;
    let half = [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET /livez HTTP/1.1\r\nho",
    ];
    let mut peers = Vec::new();
    for bytes in half {
        let mut peer = TcpStream::connect(house.health).await.unwrap();
        peer.write_all(bytes).await.unwrap();
        peers.push(peer);
    }
    for mut peer in peers {
        let mut rest = Vec::new();
        // Whether it ends or is reset, it is over.
        let _ = timeout(LONG, peer.read_to_end(&mut rest)).await.expect("it was closed");
    }
    assert_eq!(house.get("/livez").await.0, 200);
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_and_room_is_made_again() {
    let house = House::new().await;
    let mut held = Vec::new();
    for _ in 0..listener::CONNECTIONS {
        held.push(TcpStream::connect(house.health).await.unwrap());
    }
    let mut one_more = TcpStream::connect(house.health).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), one_more.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    held.truncate(1);
    let served = async {
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        loop {
            let mut peer = TcpStream::connect(house.health).await.unwrap();
            let mut answer = [0; 12];
            if peer.write_all(request).await.is_ok() && peer.read_exact(&mut answer).await.is_ok() {
                return answer;
            }
        }
    };
    assert_eq!(&timeout(Duration::from_secs(5), served).await.unwrap(), b"HTTP/1.1 200");
}
