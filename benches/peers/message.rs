//! Inference messages of a wanted size, framed for gRPC.
//!
//! The caller and the model server build them from the same arguments, so that the caller knows to the byte what
//! it must get back.

use bytes::{BufMut, Bytes, BytesMut};
use parhelion::pb::inference::model_infer_request::InferInputTensor;
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::pb::inference::{ModelInferRequest, ModelInferResponse};
use prost::Message;

/// Bytes before each gRPC message: a compression flag and the length.
pub(crate) const PREFIX: usize = 5;

/// A `ModelInferRequest` of `size` bytes, with its prefix. A size that no tensor length meets, because lengths are
/// varints, gives a message up to three bytes shorter; one below the names gives an empty tensor.
pub(crate) fn request(model: &str, size: usize) -> Bytes {
    framed(&sized(size, |raw| ModelInferRequest {
        model_name: model.into(),
        id: "bench".into(),
        inputs: vec![InferInputTensor {
            name: "input".into(),
            datatype: "UINT8".into(),
            shape: vec![1, length(raw)],
            ..Default::default()
        }],
        raw_input_contents: vec![contents(raw)],
        ..Default::default()
    }))
}

/// A `ModelInferResponse` of `size` bytes, with its prefix; sizes as in [`request`].
pub(crate) fn response(model: &str, version: &str, size: usize) -> Bytes {
    framed(&sized(size, |raw| answer(model, version, raw)))
}

/// The answer with a tensor of that length.
pub(crate) fn answer(model: &str, version: &str, raw: usize) -> ModelInferResponse {
    ModelInferResponse {
        model_name: model.into(),
        model_version: version.into(),
        id: "bench".into(),
        outputs: vec![InferOutputTensor {
            name: "output".into(),
            datatype: "UINT8".into(),
            shape: vec![1, length(raw)],
            ..Default::default()
        }],
        raw_output_contents: vec![contents(raw)],
        ..Default::default()
    }
}

/// The message behind its gRPC prefix, not compressed.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// The message with the largest tensor that keeps it within `size`.
pub(crate) fn sized<M: Message>(size: usize, build: impl Fn(usize) -> M) -> M {
    let mut raw = size.saturating_sub(build(0).encoded_len());
    loop {
        let message = build(raw);
        let over = message.encoded_len().saturating_sub(size);
        if over == 0 || raw == 0 {
            return message;
        }
        raw = raw.saturating_sub(over);
    }
}

/// Bytes that differ from place to place, so that a shifted or repeated piece is noticed.
fn contents(length: usize) -> Bytes {
    (0u32..).map(|place| (place % 251) as u8).take(length).collect()
}

fn length(raw: usize) -> i64 {
    i64::try_from(raw).unwrap_or(i64::MAX)
}
