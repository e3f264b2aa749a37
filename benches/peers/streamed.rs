//! Messages of streams.

use bytes::Bytes;
use parhelion::pb::inference::ModelStreamInferResponse;

use crate::message::{answer, framed, sized};

/// A `ModelStreamInferResponse` of `size` bytes, with its prefix; sizes as in [`crate::message::request`].
pub(crate) fn response(model: &str, version: &str, size: usize) -> Bytes {
    framed(&sized(size, |raw| ModelStreamInferResponse {
        infer_response: Some(answer(model, version, raw)),
        ..Default::default()
    }))
}
