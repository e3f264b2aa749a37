//! Between the tensors of the Open Inference Protocol and rows of pixels.
//!
//! Strict, as real servers are: one input `pixels` of FP32 and shape `[n, 64]`, typed or raw. The answer carries raw
//! tensors where the request did, and the outputs that the request names, in its order; none named: both. Pure.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};

use super::model::{CLASSES, PIXELS, Prediction};
use crate::pb::inference::model_infer_request::InferInputTensor;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{InferTensorContents, ModelInferRequest, ModelInferResponse};

/// Rows in one request.
pub const MAX_BATCH: usize = 256;
/// The input's name.
pub const INPUT: &str = "pixels";
/// The output with the likeliest digit of each row, INT64 `[n]`.
pub const LABEL: &str = "label";
/// The output with each digit's probability, FP32 `[n, 10]`.
pub const PROBABILITIES: &str = "probabilities";

/// What is wrong with a request's tensors.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Not exactly the one input.
    #[error("expected one input {INPUT:?}, got [{0}]")]
    Inputs(String),
    /// Another data type.
    #[error("input {INPUT:?} must be FP32, got {0:?}")]
    Datatype(String),
    /// Another shape.
    #[error("input {INPUT:?} must have shape [n, {PIXELS}] with n from 1 to {MAX_BATCH}, got {0:?}")]
    Shape(Vec<i64>),
    /// The data is not as long as the shape says.
    #[error("input {INPUT:?} needs {expected} {unit}, got {found}")]
    Length {
        /// By the shape.
        expected: usize,
        /// In the request.
        found: usize,
        /// `values` or `raw bytes`.
        unit: &'static str,
    },
    /// Data both ways, or raw data for another number of inputs.
    #[error("raw_input_contents must hold one entry and `contents` be absent, or the other way round")]
    Mixed,
    /// An output that the model does not have.
    #[error("there is no output {0:?}; the model has {LABEL:?} and {PROBABILITIES:?}")]
    Output(String),
}

/// Reads the rows of a request.
///
/// # Errors
/// Whatever differs from the one input that the model takes.
pub fn read(request: &ModelInferRequest) -> Result<Vec<[f32; PIXELS]>, TensorError> {
    let [input] = request.inputs.as_slice() else {
        return Err(TensorError::Inputs(names(&request.inputs)));
    };
    if input.name != INPUT {
        return Err(TensorError::Inputs(names(&request.inputs)));
    }
    if input.datatype != "FP32" {
        return Err(TensorError::Datatype(input.datatype.clone()));
    }
    let rows = match input.shape[..] {
        [rows, width] if width == PIXELS as i64 => usize::try_from(rows).unwrap_or(0),
        _ => 0,
    };
    if !(1..=MAX_BATCH).contains(&rows) {
        return Err(TensorError::Shape(input.shape.clone()));
    }
    let values = values(input, &request.raw_input_contents, rows * PIXELS)?;
    Ok(values.as_chunks().0.to_vec())
}

fn values(input: &InferInputTensor, raw: &[Bytes], expected: usize) -> Result<Vec<f32>, TensorError> {
    // MLServer's own clients put an empty `contents` beside raw data.
    let typed = input.contents.as_ref().filter(|contents| **contents != InferTensorContents::default());
    match (typed, raw) {
        (Some(contents), []) if contents.fp32_contents.len() == expected => {
            Ok(contents.fp32_contents.clone())
        }
        (typed, []) => {
            let found = typed.map_or(0, |contents| contents.fp32_contents.len());
            Err(TensorError::Length { expected, found, unit: "values" })
        }
        (None, [bytes]) if bytes.len() == expected * 4 => {
            Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        }
        (None, [bytes]) => {
            Err(TensorError::Length { expected: expected * 4, found: bytes.len(), unit: "raw bytes" })
        }
        _ => Err(TensorError::Mixed),
    }
}

fn names(inputs: &[InferInputTensor]) -> String {
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    names.join(", ")
}

/// Writes what a model said of a request's rows into `response`.
///
/// # Errors
/// [`TensorError::Output`] where the request names one that is not there.
pub fn write(
    request: &ModelInferRequest,
    said: &[Prediction],
    response: &mut ModelInferResponse,
) -> Result<(), TensorError> {
    let raw = !request.raw_input_contents.is_empty();
    let mut wanted: Vec<&str> = request.outputs.iter().map(|output| output.name.as_str()).collect();
    if wanted.is_empty() {
        wanted = vec![LABEL, PROBABILITIES];
    }
    for name in wanted {
        let (mut tensor, contents) = output(name, said)?;
        if raw {
            response.raw_output_contents.push(little_endian(&contents));
        } else {
            tensor.contents = Some(contents);
        }
        response.outputs.push(tensor);
    }
    Ok(())
}

fn output(name: &str, said: &[Prediction]) -> Result<(InferOutputTensor, InferTensorContents), TensorError> {
    let rows = said.len() as i64;
    let mut contents = InferTensorContents::default();
    let (datatype, shape) = match name {
        LABEL => {
            contents.int64_contents = said.iter().map(|one| i64::from(one.class)).collect();
            ("INT64", vec![rows])
        }
        PROBABILITIES => {
            contents.fp32_contents = said.iter().flat_map(|one| one.probabilities).collect();
            ("FP32", vec![rows, CLASSES as i64])
        }
        other => return Err(TensorError::Output(other.to_owned())),
    };
    let tensor = InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
        ..InferOutputTensor::default()
    };
    Ok((tensor, contents))
}

/// The two types that outputs have; one of them is empty.
fn little_endian(contents: &InferTensorContents) -> Bytes {
    let mut raw = BytesMut::new();
    for value in &contents.int64_contents {
        raw.extend_from_slice(&value.to_le_bytes());
    }
    for value in &contents.fp32_contents {
        raw.extend_from_slice(&value.to_le_bytes());
    }
    raw.freeze()
}

/// A request for `model` with one row, raw, as tritonclient sends it.
pub fn request(model: impl Display, id: String, pixels: &[f32; PIXELS]) -> ModelInferRequest {
    let raw: BytesMut = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    ModelInferRequest {
        model_name: model.to_string(),
        id,
        inputs: vec![InferInputTensor {
            name: INPUT.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, PIXELS as i64],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![raw.freeze()],
        ..ModelInferRequest::default()
    }
}

/// The label of the first row of an answer with raw outputs; `None` where there is none.
pub fn label(response: &ModelInferResponse) -> Option<u8> {
    let index = response.outputs.iter().position(|output| output.name == LABEL)?;
    let first = response.raw_output_contents.get(index)?.first_chunk()?;
    u8::try_from(i64::from_le_bytes(*first)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::inference::model_infer_request::InferRequestedOutputTensor;

    fn typed(shape: Vec<i64>, values: usize) -> ModelInferRequest {
        let mut request = request("digits", String::new(), &[1.0; PIXELS]);
        request.raw_input_contents.clear();
        request.inputs[0].shape = shape;
        request.inputs[0].contents =
            Some(InferTensorContents { fp32_contents: vec![1.0; values], ..InferTensorContents::default() });
        request
    }

    fn said(class: u8) -> Prediction {
        let mut probabilities = [0.0; CLASSES];
        probabilities[usize::from(class)] = 1.0;
        Prediction { class, probabilities }
    }

    #[test]
    fn typed_and_raw_rows_are_read_alike() {
        let raw = request("digits", "7".into(), &[1.0; PIXELS]);
        assert_eq!(read(&raw), read(&typed(vec![1, 64], 64)));
        assert_eq!(read(&typed(vec![3, 64], 192)).unwrap(), vec![[1.0; PIXELS]; 3]);
        let mut beside = raw.clone();
        beside.inputs[0].contents = Some(InferTensorContents::default());
        assert_eq!(read(&beside), read(&raw));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_value() {
        for shape in [vec![], vec![64], vec![1, 63], vec![0, 64], vec![-1, 64], vec![257, 64], vec![1, 64, 1]]
        {
            assert_eq!(read(&typed(shape.clone(), 64)), Err(TensorError::Shape(shape)));
        }
        let length = TensorError::Length { expected: 64, found: 63, unit: "values" };
        assert_eq!(read(&typed(vec![1, 64], 63)), Err(length));
        let mut other = typed(vec![1, 64], 64);
        other.inputs[0].datatype = "FP64".into();
        assert_eq!(read(&other), Err(TensorError::Datatype("FP64".into())));
        let mut other = typed(vec![1, 64], 64);
        other.inputs[0].name = "x".into();
        assert_eq!(read(&other), Err(TensorError::Inputs("x".into())));
        assert_eq!(read(&ModelInferRequest::default()), Err(TensorError::Inputs(String::new())));
        let mut both = typed(vec![1, 64], 64);
        both.raw_input_contents = vec![Bytes::from_static(&[0; 256])];
        assert_eq!(read(&both), Err(TensorError::Mixed));
        let mut short = request("digits", String::new(), &[1.0; PIXELS]);
        short.raw_input_contents = vec![Bytes::from_static(&[0; 255])];
        let length = TensorError::Length { expected: 256, found: 255, unit: "raw bytes" };
        assert_eq!(read(&short), Err(length));
    }

    #[test]
    fn answers_come_as_the_request_did() {
        let mut response = ModelInferResponse::default();
        write(&request("digits", String::new(), &[1.0; PIXELS]), &[said(7)], &mut response).unwrap();
        assert_eq!(label(&response), Some(7));
        assert_eq!(response.raw_output_contents[1].len(), CLASSES * 4);
        assert!(response.outputs.iter().all(|output| output.contents.is_none()));

        let mut response = ModelInferResponse::default();
        write(&typed(vec![2, 64], 128), &[said(7), said(1)], &mut response).unwrap();
        assert!(response.raw_output_contents.is_empty());
        assert_eq!(response.outputs[0].contents.as_ref().unwrap().int64_contents, [7, 1]);
        assert_eq!(response.outputs[1].shape, [2, 10]);
        assert_eq!(label(&response), None);
    }

    #[test]
    fn only_outputs_asked_for_are_written() {
        let mut request = request("digits", String::new(), &[1.0; PIXELS]);
        let ask = |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
        request.outputs = vec![ask(PROBABILITIES)];
        let mut response = ModelInferResponse::default();
        write(&request, &[said(7)], &mut response).unwrap();
        assert_eq!(response.outputs.len(), 1);
        assert_eq!(response.outputs[0].name, PROBABILITIES);
        request.outputs = vec![ask("score")];
        let error = write(&request, &[said(7)], &mut response).unwrap_err();
        assert_eq!(error, TensorError::Output("score".into()));
    }
}
