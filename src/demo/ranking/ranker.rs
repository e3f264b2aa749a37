//! A ranker as a model server: asked what somebody likes, it answers films, their scores and their titles.

use bytes::Bytes;
use tonic::Status;

use super::MODEL;
use super::films::{KINDS, Ranker, title};
use crate::demo::server::{Answers, described};
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
};

/// The parameter that says which kind somebody likes.
pub(super) const LIKES: &str = "likes";

/// A ranker, and what it calls itself.
#[derive(Debug, Clone)]
pub(super) struct RankerServer {
    pub(super) ranker: Ranker,
    pub(super) version: String,
}

impl Answers for RankerServer {
    fn name(&self) -> &str {
        MODEL
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn describe(&self) -> ModelMetadataResponse {
        let outputs = [("items", "INT64"), ("scores", "FP32"), ("titles", "BYTES")];
        ModelMetadataResponse {
            outputs: outputs.map(|(name, datatype)| described(name, datatype, &[-1])).to_vec(),
            ..ModelMetadataResponse::default()
        }
    }

    fn answer(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let likes = request.parameters.get(LIKES).and_then(|value| value.parameter_choice.as_ref());
        let liked = match likes {
            Some(ParameterChoice::StringParam(text)) => KINDS.iter().position(|kind| kind == text),
            _ => None,
        };
        let liked = liked.ok_or_else(|| {
            Status::invalid_argument(format!("parameter {LIKES} must be one of {}", KINDS.join(", ")))
        })?;
        let list = self.ranker.list(liked);
        let shape = vec![list.len() as i64];
        let output = |name: &str, datatype: &str, contents: InferTensorContents| InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.clone(),
            contents: Some(contents),
            ..InferOutputTensor::default()
        };
        let contents = InferTensorContents::default;
        let items = list.iter().map(|one| one.film as i64).collect();
        let scores = list.iter().map(|one| one.score).collect();
        let titles = list.iter().map(|one| Bytes::from(title(one.film))).collect();
        Ok(ModelInferResponse {
            outputs: vec![
                output("items", "INT64", InferTensorContents { int64_contents: items, ..contents() }),
                output("scores", "FP32", InferTensorContents { fp32_contents: scores, ..contents() }),
                output("titles", "BYTES", InferTensorContents { bytes_contents: titles, ..contents() }),
            ],
            ..ModelInferResponse::default()
        })
    }
}
