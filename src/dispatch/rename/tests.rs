use prost::Message as _;

use super::*;
use crate::pb::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::protocol::recognise;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = prefix(flag, message.len() as u32).to_vec();
    bytes.extend_from_slice(message);
    bytes
}

fn request(model: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        id: "7".into(),
        inputs: vec![Default::default()],
        raw_input_contents: vec![vec![1; 5000].into()],
        ..Default::default()
    }
}

fn up() -> Renaming {
    let adapter = recognise(INFER);
    Renaming::Request {
        adapter,
        asked: "fraud".into(),
        suffix: adapter.rename_request(Some("fraud-next"), Some("2")),
    }
}

fn down(peek: Peek) -> Renaming {
    Renaming::Response { adapter: recognise(INFER), peek, name: "fraud".into(), version: None }
}

/// Pushes `bytes` cut into pieces of `cut`, and gives back the messages that come out.
fn renamed(
    renaming: Renaming,
    encoding: Option<&'static str>,
    bytes: &[u8],
    cut: usize,
) -> Vec<(u8, Vec<u8>)> {
    let encoding = encoding.map(HeaderValue::from_static);
    let mut renamer = Renamer::new(renaming, encoding, 1 << 20);
    let mut out = VecDeque::new();
    for piece in bytes.chunks(cut) {
        renamer.push(&Bytes::copy_from_slice(piece), &mut out).unwrap();
    }
    let all: Vec<u8> = out.iter().flat_map(|piece| piece.to_vec()).collect();
    let mut messages = Vec::new();
    let mut rest = &all[..];
    while let [flag, a, b, c, d, tail @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        messages.push((*flag, tail[..length].to_vec()));
        rest = &tail[length..];
    }
    assert!(rest.is_empty());
    messages
}

#[test]
fn a_request_asks_for_the_variants_name_and_is_otherwise_the_same() {
    let bytes = framed(0, &request("fraud").encode_to_vec());
    for cut in [1, 3, 100, 4096, 1 << 20] {
        let messages = renamed(up(), None, &bytes, cut);
        let [(0, message)] = &messages[..] else { panic!("{messages:?}") };
        let got = ModelInferRequest::decode(&message[..]).unwrap();
        let want = ModelInferRequest { model_version: "2".into(), ..request("fraud-next") };
        assert_eq!(got, want);
    }
}

#[test]
fn another_models_message_in_the_same_stream_passes_untouched() {
    let other = request("other").encode_to_vec();
    let bytes = [framed(0, &request("fraud").encode_to_vec()), framed(0, &other)].concat();
    let messages = renamed(up(), None, &bytes, 77);
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1], (0, other));
}

#[test]
fn a_compressed_request_goes_on_uncompressed() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&request("fraud").encode_to_vec()).unwrap();
    let packed = gzip.finish().unwrap();
    let messages = renamed(up(), Some("gzip"), &framed(1, &packed), 50);
    let [(0, message)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(ModelInferRequest::decode(&message[..]).unwrap().model_name, "fraud-next");
    // What cannot be inflated is for the server to refuse.
    assert_eq!(renamed(up(), Some("snappy"), &framed(1, &packed), 50), [(1, packed.clone())]);
    assert_eq!(renamed(up(), Some("gzip"), &framed(1, b"junk"), 2), [(1, b"junk".to_vec())]);
}

#[test]
fn what_is_no_protobuf_passes_untouched() {
    for junk in [&b"\xff\xff\xff"[..], b"", b"\x0a\x7fshort"] {
        assert_eq!(renamed(up(), None, &framed(0, junk), 2), [(0, junk.to_vec())]);
    }
}

#[test]
fn responses_bear_the_name_that_was_asked_for() {
    let answer = ModelInferResponse {
        model_name: "fraud-next".into(),
        model_version: "2".into(),
        id: "7".into(),
        raw_output_contents: vec![vec![3; 400].into()],
        ..Default::default()
    };
    let want = ModelInferResponse { model_name: "fraud".into(), ..answer.clone() };
    for cut in [1, 9, 1 << 20] {
        let messages = renamed(down(Peek::Unary), None, &framed(0, &answer.encode_to_vec()), cut);
        assert_eq!(ModelInferResponse::decode(&messages[0].1[..]).unwrap(), want);
        let wrapped = ModelStreamInferResponse { infer_response: Some(answer.clone()), ..Default::default() };
        let error = ModelStreamInferResponse { error_message: "no".into(), ..Default::default() };
        let bytes = [framed(0, &wrapped.encode_to_vec()), framed(0, &error.encode_to_vec())].concat();
        let messages = renamed(down(Peek::Stream), None, &bytes, cut);
        let got = ModelStreamInferResponse::decode(&messages[0].1[..]).unwrap();
        assert_eq!(got.infer_response, Some(want.clone()));
        assert_eq!(ModelStreamInferResponse::decode(&messages[1].1[..]).unwrap(), error);
    }
}
