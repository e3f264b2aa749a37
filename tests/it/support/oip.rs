//! Inference requests and answers as bytes, and a server that answers them.

use parhelion::pb::inference::infer_parameter::ParameterChoice;
use parhelion::pb::inference::model_infer_request::InferInputTensor;
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::pb::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use prost::Message;

use super::Incoming;

pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub(crate) const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// A request for `model` with these text parameters, one tensor and `size` bytes of content.
pub(crate) fn request(model: &str, parameters: &[(&str, &str)], size: usize) -> Vec<u8> {
    let parameter = |(name, value): &(&str, &str)| {
        let choice = ParameterChoice::StringParam((*value).to_owned());
        ((*name).to_owned(), InferParameter { parameter_choice: Some(choice) })
    };
    let tensor = InferInputTensor {
        name: "x".into(),
        datatype: "UINT8".into(),
        shape: vec![size as i64],
        ..InferInputTensor::default()
    };
    // Content that does not compress well.
    let mut state = 1_u32;
    let content = (0..size).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let request = ModelInferRequest {
        model_name: model.into(),
        id: "r-1".into(),
        parameters: parameters.iter().map(parameter).collect(),
        inputs: vec![tensor],
        raw_input_contents: vec![content.collect()],
        ..ModelInferRequest::default()
    };
    request.encode_to_vec()
}

pub(crate) fn read_request(bytes: &[u8]) -> ModelInferRequest {
    ModelInferRequest::decode(bytes).unwrap()
}

pub(crate) fn read_answer(bytes: &[u8]) -> ModelInferResponse {
    ModelInferResponse::decode(bytes).unwrap()
}

pub(crate) fn read_stream_answer(bytes: &[u8]) -> ModelInferResponse {
    ModelStreamInferResponse::decode(bytes).unwrap().infer_response.unwrap()
}

/// The answer of a server that calls itself as it was asked.
pub(crate) fn answer(request: &ModelInferRequest) -> ModelInferResponse {
    ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: "7".into(),
        id: request.id.clone(),
        raw_output_contents: vec![vec![1, 2, 3].into()],
        ..ModelInferResponse::default()
    }
}

/// An answer that no other server gives: one output, and no raw contents.
pub(crate) fn other() -> Vec<u8> {
    let output = InferOutputTensor { name: "other".into(), datatype: "INT64".into(), ..Default::default() };
    ModelInferResponse { outputs: vec![output], ..ModelInferResponse::default() }.encode_to_vec()
}

/// Answers both inference methods, each message as it comes.
pub(crate) async fn serve(mut incoming: Incoming) {
    let wrapped = incoming.request().path == STREAM;
    while let Some(message) = incoming.message().await {
        let Ok(request) = ModelInferRequest::decode(message) else {
            return incoming.trailers(&[("grpc-status", "3")]);
        };
        let answer = answer(&request);
        let bytes = if wrapped {
            let infer_response = Some(answer);
            ModelStreamInferResponse { infer_response, ..ModelStreamInferResponse::default() }.encode_to_vec()
        } else {
            answer.encode_to_vec()
        };
        incoming.send(&bytes).await;
    }
    incoming.trailers(&[("grpc-status", "0")]);
}
