//! Calls as CloudEvents: what a receiver over HTTP/1.1 hears of a real sidecar, by TLS too, and what is told of one that
//! is not there.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use parhelion::pb::inference::{ModelInferRequest, ModelInferResponse};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::process::{Model, Sidecar, beside, infer, one, request, until};
use crate::support::tls::{Authority, GOOD, server};

const TOLD: &str = "parhelion_log_events_total";
const LOST: &str = "parhelion_log_events_lost_total";
const CALLS: usize = 20;

/// Everything that was posted.
type Heard = Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>;

async fn hear(State(heard): State<Heard>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    heard.lock().unwrap().push((uri, headers, body));
    StatusCode::ACCEPTED
}

/// A receiver, by TLS where it has a configuration for that.
async fn receiver(tls: Option<rustls::ServerConfig>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let router = Router::new().fallback(hear).with_state(Arc::clone(&heard));
    let Some(config) = tls else {
        beside(async move { axum::serve(listener, router).await.unwrap() });
        return (address, heard);
    };
    let acceptor = TlsAcceptor::from(Arc::new(config));
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            beside(async move {
                // Who shows no certificate is not let in.
                let Ok(secured) = acceptor.accept(socket).await else { return };
                let service = TowerToHyperService::new(router);
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(secured), service).await;
            });
        }
    });
    (address, heard)
}

fn config(model: &Model, directory: &Path, events: &str) -> String {
    let log = format!(
        "log: {{dir: {}, flush: 20ms, payloads: {{sample: 100%, as: raw}}, cloudevents: {{{events}}}}}",
        directory.join("log").display()
    );
    format!("{}{log}\n", one(model.address))
}

async fn call(sidecar: &Sidecar) {
    let client = sidecar.client();
    for number in 0..CALLS {
        infer(&client, &format!("r{number}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_hears_of_each_call_what_was_asked_and_answered_and_by_which_version() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let (address, heard) = receiver(None).await;
    let events = format!("url: 'http://{address}/models/default', namespace: shop");
    let sidecar = Sidecar::ready(&config(&model, root.path(), &events)).await;
    call(&sidecar).await;
    infer(&sidecar.client(), "fail:3").await.unwrap_err();
    // Of a failure there is no answer to be told.
    sidecar.counts(TOLD, 2 * CALLS as u64 + 1).await;
    assert_eq!(sidecar.metric(LOST).await, 0);
    let heard = heard.lock().unwrap();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for (uri, headers, body) in heard.iter() {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(uri.path(), "/models/default");
        let id = text("ce-id").unwrap();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-source", "/parhelion"),
            ("ce-inferenceservicename", "m"),
            ("ce-namespace", "shop"),
            ("ce-endpoint", "default"),
            ("ce-variant", "v1"),
            ("ce-version", "1.0.0"),
            ("content-type", "application/protobuf"),
        ] {
            assert_eq!(text(name).as_deref(), Some(value), "{name}");
        }
        match &*text("ce-type").unwrap() {
            "org.kubeflow.serving.inference.request" => {
                let message = ModelInferRequest::decode(body.clone()).unwrap();
                assert_eq!(message, request(&message.id));
                asked.push((id, message.id));
            }
            "org.kubeflow.serving.inference.response" => {
                let message = ModelInferResponse::decode(body.clone()).unwrap();
                assert_eq!(text("ce-reportedversion").as_deref(), Some("1.0.0"));
                assert!(asked.contains(&(id.clone(), message.id.clone())), "its request comes first");
                answered.push((id, message.id));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((asked.len(), answered.len()), (CALLS + 1, CALLS));
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), CALLS, "each once");
}

#[tokio::test]
async fn by_tls_the_receiver_is_believed_by_its_authority_and_sees_a_certificate() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let config_of = server(&theirs.sign("127.0.0.1", GOOD), Some(&ours.pem), &[]);
    let (address, heard) = receiver(Some(config_of)).await;
    let (cert, key) = ours.sign("sidecar", GOOD).write(root.path(), "sidecar");
    let ca = root.path().join("ca.crt");
    std::fs::write(&ca, &theirs.pem).unwrap();
    let tls = format!("ca: {}, cert: {}, key: {}", ca.display(), cert.display(), key.display());
    let events = format!("url: 'https://{address}/', mode: response, tls: {{{tls}}}");
    let sidecar = Sidecar::ready(&config(&model, root.path(), &events)).await;
    call(&sidecar).await;
    sidecar.counts(&format!("{TOLD}{{type=\"response\"}}"), CALLS as u64).await;
    assert_eq!(sidecar.metric(&format!("{TOLD}{{type=\"request\"}}")).await, 0);
    assert!(heard.lock().unwrap().len() >= CALLS);
    // A receiver that somebody else signed for is told nothing.
    std::fs::write(&ca, &ours.pem).unwrap();
    let stranger = Sidecar::ready(&config(&model, &root.path().join("stranger"), &events)).await;
    infer(&stranger.client(), "").await.unwrap();
    stranger.counts(&format!("{LOST}{{cause=\"unreached\"}}"), 1).await;
    assert!(stranger.log().contains("certificate"), "{}", stranger.log());
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_events_that_are_counted_and_no_call() {
    let model = Model::start("1.0.0");
    let root = tempfile::tempdir().unwrap();
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let sidecar = Sidecar::ready(&config(&model, root.path(), &format!("url: 'http://{address}/'"))).await;
    call(&sidecar).await;
    sidecar.counts(&format!("{LOST}{{cause=\"unreached\"}}"), 1).await;
    assert_eq!(sidecar.metric("parhelion_log_failing{part=\"events\"}").await, 1);
    let (code, said) = sidecar.ctl(&["status", "m"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("events fails since") && said.contains("did not tell"), "{said}");
    let log = &sidecar.rollout("m")["log"];
    assert!(
        log["events_lost"]["unreached"].as_u64() >= Some(1) && log["lost"] == serde_json::json!({}),
        "{log}"
    );
    // It comes back, and what is new is told.
    let listener = TcpListener::bind(address).await.unwrap();
    let heard = Heard::default();
    let router = Router::new().fallback(hear).with_state(Arc::clone(&heard));
    beside(async move { axum::serve(listener, router).await.unwrap() });
    until("it is told", || async {
        infer(&sidecar.client(), "").await.unwrap();
        !heard.lock().unwrap().is_empty()
    })
    .await;
    until("it is well", || async {
        infer(&sidecar.client(), "").await.unwrap();
        sidecar.metric("parhelion_log_failing{part=\"events\"}").await == 0
    })
    .await;
    assert!(sidecar.ctl(&["status", "m"]).1.contains("events works again"));
}
