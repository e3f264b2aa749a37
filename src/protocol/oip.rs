//! The Open Inference Protocol: KServe's v2 with Triton's streaming method.
//!
//! Only the two inference methods are read. A rename appends `model_name` (1) and `model_version` (2): readers take
//! the last value of a scalar. An answer of `ModelStreamInfer` holds the inference response in its field 2, so there
//! the two are wrapped in a further field 2, which readers merge into the one before. An answer that carries an error
//! in-band is renamed where it names its model, as Triton's does when the model itself refused. Some servers answer that
//! method with the bare inference response instead: [`ResponseScan`] tells the two apart, and each is renamed in its
//! own form.

use bytes::Bytes;

pub mod ranking;
pub mod tensor;

use super::response::Shape;
use super::{Adapter, Peek, RequestScan, ResponseScan, token};

/// What all paths of the service begin with.
pub const SERVICE: &str = "/inference.GRPCInferenceService/";

/// `model_name`, in requests and responses.
pub(super) const NAME: u32 = 1;
/// `model_version`, in requests and responses.
pub(super) const VERSION: u32 = 2;
/// `id` of a request.
pub(super) const ID: u32 = 3;
/// `parameters` of a request: `map<string, InferParameter>`.
pub(super) const PARAMETERS: u32 = 4;
/// From here on come tensors, typed or raw, in requests and responses.
pub(crate) const TENSORS: u32 = 5;
/// `raw_output_contents` of a response.
pub(crate) const RAW_OUTPUTS: u32 = 6;
/// Raw contents of inputs in a request.
pub(super) const RAW_INPUTS: u32 = 7;
/// `infer_response` of a stream's answer.
pub(crate) const INFER_RESPONSE: u32 = 2;

/// `inference.GRPCInferenceService`.
#[derive(Debug, Clone, Copy)]
pub struct Oip;

impl Adapter for Oip {
    fn name(&self) -> &'static str {
        "oip"
    }

    fn peek(&self, path: &str) -> Option<Peek> {
        match path.strip_prefix(SERVICE)? {
            "ModelInfer" => Some(Peek::Unary),
            "ModelStreamInfer" => Some(Peek::Stream),
            _ => None,
        }
    }

    fn request_scan(&self, want_parameters: bool) -> RequestScan {
        RequestScan::new(want_parameters)
    }

    fn response_scan(&self, peek: Peek, length: usize) -> ResponseScan {
        ResponseScan::new(peek, length)
    }

    fn rename_request(&self, name: Option<&str>, version: Option<&str>) -> Bytes {
        names(name, version).into()
    }

    fn rename_response(
        &self,
        peek: Peek,
        name: Option<&str>,
        version: Option<&str>,
        scan: &ResponseScan,
    ) -> Option<Bytes> {
        let shape = match peek {
            Peek::Unary => Shape::Bare,
            Peek::Stream => scan.shape()?,
        };
        Some(match shape {
            Shape::Bare => names(name, version).into(),
            Shape::Failed if scan.reported_name().is_none() => Bytes::new(),
            Shape::Wrapped | Shape::Failed if name.is_some() || version.is_some() => {
                let inner = names(name, version);
                let mut outer = Vec::with_capacity(inner.len() + 6);
                token::put(&mut outer, INFER_RESPONSE, &inner);
                outer.into()
            }
            Shape::Wrapped | Shape::Failed | Shape::Empty => Bytes::new(),
        })
    }
}

/// The two fields, as they are appended.
fn names(name: Option<&str>, version: Option<&str>) -> Vec<u8> {
    let room = [name, version].into_iter().flatten().map(|text| text.len() + 6).sum();
    let mut bytes = Vec::with_capacity(room);
    for (field, text) in [(NAME, name), (VERSION, version)] {
        if let Some(text) = text {
            token::put(&mut bytes, field, text.as_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
