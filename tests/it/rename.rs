//! Variants whose servers know the model by another name: requests are renamed on their way up, answers on their way
//! down, and nothing else changes.

use bytes::Bytes;
use parhelion::pb::inference::{ModelInferRequest, ModelStreamInferResponse};
use parhelion::telemetry::counter::Counter;
use prost::Message;

use crate::support::oip::{self, INFER, STREAM};
use crate::support::{Client, Incoming, Sidecar, Upstream, frame, gzip};

/// Model `m` with one variant, which its server knows as `real`, version 3.
async fn renamed<F>(script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> (Upstream, Sidecar, Client)
where
    F: Future<Output = ()> + Send + 'static,
{
    let upstream = Upstream::start(script).await;
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\", model_name: real, model_version: \"3\"}}}}}}}}\n",
        upstream.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    (upstream, sidecar, client)
}

fn asked(upstream: &Upstream, request: usize, message: usize) -> ModelInferRequest {
    oip::read_request(&upstream.requests()[request].messages[message])
}

#[tokio::test]
async fn an_inference_is_renamed_both_ways() {
    let (upstream, _sidecar, client) = renamed(oip::serve).await;
    for size in [0, 10, 600_000, 3_000_000] {
        let sent = oip::request("m", &[("a", "b")], size);
        let answer = client.unary(INFER, &[], &sent).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        let got = oip::read_answer(&answer.messages[0].1);
        assert_eq!((&*got.model_name, &*got.id), ("m", "r-1"));
        let requests = upstream.requests();
        let message = &requests.last().unwrap().messages[0];
        assert!(message.starts_with(&sent), "what the caller sent is untouched, the name is appended");
        let seen = oip::read_request(message);
        assert_eq!((&*seen.model_name, &*seen.model_version), ("real", "3"));
        assert_eq!(seen.raw_input_contents[0].len(), size);
    }
}

#[tokio::test]
async fn a_version_that_the_caller_asked_for_comes_back_too() {
    let (upstream, _sidecar, client) = renamed(oip::serve).await;
    let mut request = oip::read_request(&oip::request("m", &[], 1));
    request.model_version = "99".into();
    let answer = client.unary(INFER, &[], &request.encode_to_vec()).await;
    let got = oip::read_answer(&answer.messages[0].1);
    assert_eq!((&*got.model_name, &*got.model_version), ("m", "99"));
    assert_eq!(asked(&upstream, 0, 0).model_version, "3");
}

#[tokio::test]
async fn every_message_of_a_stream_is_renamed() {
    let (upstream, _sidecar, client) = renamed(oip::serve).await;
    let mut call = client.open(STREAM, &[]).await;
    for number in 0..5 {
        call.send(&oip::request("m", &[], 1000 * number)).await;
        if number == 0 {
            call.head().await.unwrap();
        }
        let (_, bytes) = call.next().await.unwrap().unwrap();
        assert_eq!(oip::read_stream_answer(&bytes).model_name, "m");
    }
    call.end();
    assert_eq!(call.answer().await.status(), Some(0));
    for message in 0..5 {
        assert_eq!(asked(&upstream, 0, message).model_name, "real");
    }
}

#[tokio::test]
async fn another_model_inside_a_stream_passes_untouched_and_is_counted() {
    let (upstream, sidecar, client) = renamed(oip::serve).await;
    let mut call = client.open(STREAM, &[]).await;
    call.send(&oip::request("m", &[], 10)).await;
    let foreign = oip::request("other", &[], 10);
    call.send(&foreign).await;
    call.send(&oip::request("m", &[], 10)).await;
    call.end();
    let answer = call.answer().await;
    assert_eq!((answer.status(), answer.messages.len()), (Some(0), 3));
    assert_eq!(asked(&upstream, 0, 0).model_name, "real");
    assert_eq!(upstream.requests()[0].messages[1], foreign);
    assert_eq!(asked(&upstream, 0, 2).model_name, "real");
    crate::support::eventually("the count", || (sidecar.count(Counter::ForeignModel) == 1).then_some(()))
        .await;
}

/// Answers compressed what it was asked, compressed or not.
async fn compressing(mut incoming: Incoming) {
    incoming.headers(&[("grpc-encoding", "gzip")]);
    while let Some((flag, message)) = incoming.flagged().await {
        assert_eq!(flag, 0, "a renamed message goes on uncompressed");
        let answer = oip::answer(&oip::read_request(&message)).encode_to_vec();
        incoming.send_raw(frame(1, &gzip(&answer))).await;
    }
    incoming.trailers(&[("grpc-status", "0")]);
}

#[tokio::test]
async fn compressed_messages_are_renamed_too() {
    let (upstream, _sidecar, client) = renamed(compressing).await;
    for size in [100, 3_000_000] {
        let packed = gzip(&oip::request("m", &[], size));
        let mut call = client.open(INFER, &[("grpc-encoding", "gzip")]).await;
        assert!(call.send_raw(frame(1, &packed), true).await);
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        let (flag, bytes) = &answer.messages[0];
        assert_eq!((*flag, &*oip::read_answer(bytes).model_name), (0, "m"));
    }
    assert_eq!(asked(&upstream, 0, 0).model_name, "real");
    assert_eq!(asked(&upstream, 1, 0).model_name, "real");
}

#[tokio::test]
async fn a_length_that_was_announced_is_not_held_against_a_renamed_message() {
    let upstream = Upstream::start(|mut incoming| async move {
        let answer = oip::answer(&oip::read_request(&incoming.message().await.unwrap())).encode_to_vec();
        let bytes = frame(0, &answer);
        incoming.headers(&[("content-length", &bytes.len().to_string())]);
        incoming.send_raw(bytes).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\", model_name: the-real-name}}}}}}}}\n",
        upstream.url
    );
    let sidecar = Sidecar::start(&yaml).await;
    let client = Client::connect(sidecar.address).await;
    let bytes = frame(0, &oip::request("m", &[], 100));
    let mut call = client.open(INFER, &[("content-length", &bytes.len().to_string())]).await;
    call.send_raw(bytes, true).await;
    let answer = call.answer().await;
    assert_eq!(answer.status(), Some(0), "{answer:?}");
    assert_eq!(oip::read_answer(&answer.messages[0].1).model_name, "m");
}

#[tokio::test]
async fn an_error_inside_a_stream_has_nothing_to_rename() {
    let failed = || {
        ModelStreamInferResponse {
            error_message: "no such tensor".into(),
            ..ModelStreamInferResponse::default()
        }
        .encode_to_vec()
    };
    let (_upstream, _sidecar, client) = renamed(move |mut incoming| async move {
        incoming.messages().await;
        incoming.send(&failed()).await;
        incoming.trailers(&[("grpc-status", "0")]);
    })
    .await;
    let answer = client.unary(STREAM, &[], &oip::request("m", &[], 10)).await;
    assert_eq!((answer.status(), answer.texts()), (Some(0), vec![&failed()[..]]));
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_as_it_came() {
    let (upstream, _sidecar, client) = renamed(|mut incoming| async move {
        incoming.messages().await;
        incoming.send(b"\xff\xff no protobuf either").await;
        incoming.trailers(&[("grpc-status", "3")]);
    })
    .await;
    let answer = client.unary(INFER, &[], b"\xff no protobuf").await;
    assert_eq!((answer.status(), answer.texts()), (Some(3), vec![&b"\xff\xff no protobuf either"[..]]));
    assert_eq!(upstream.requests()[0].messages, [Bytes::from_static(b"\xff no protobuf")]);
}

#[tokio::test]
async fn other_methods_and_services_are_never_renamed() {
    let (upstream, _sidecar, client) = renamed(Incoming::echo).await;
    let message = oip::request("m", &[], 10);
    for path in ["/inference.GRPCInferenceService/ModelMetadata", "/any.Service/ModelInfer"] {
        let answer = client.unary(path, &[], &message).await;
        assert_eq!(answer.texts(), vec![&message[..]], "{path}");
    }
    assert!(upstream.requests().iter().all(|request| request.messages == [Bytes::from(message.clone())]));
}

#[tokio::test]
async fn where_the_names_agree_nothing_is_touched() {
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&crate::support::pinned(&[&upstream.url])).await;
    let client = Client::connect(sidecar.address).await;
    let message = oip::request("m", &[("a", "b")], 5000);
    let packed = gzip(&message);
    for (flag, bytes) in [(0, &message), (1, &packed)] {
        let mut call = client.open(INFER, &[("grpc-encoding", "gzip")]).await;
        call.send_raw(frame(flag, bytes), true).await;
        call.answer().await;
        assert_eq!(upstream.requests().last().unwrap().messages, [Bytes::from(bytes.clone())]);
    }
}
