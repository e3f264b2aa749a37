//! A ranker as a model server of the Open Inference Protocol: asked what somebody likes, it answers films, their scores
//! and their titles.

use std::pin::Pin;

use bytes::Bytes;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::{Request, Response, Status, Streaming};

use super::films::{KINDS, Ranker, title};
use crate::pb::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::model_metadata_response::TensorMetadata;
use crate::pb::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};

/// The parameter that says which kind somebody likes.
pub(super) const LIKES: &str = "likes";

/// A ranker, and what it calls itself.
#[derive(Debug, Clone)]
pub(super) struct RankerServer {
    pub(super) ranker: Ranker,
    pub(super) version: String,
}

impl RankerServer {
    fn rank(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
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
            model_name: request.model_name.clone(),
            model_version: self.version.clone(),
            id: request.id.clone(),
            outputs: vec![
                output("items", "INT64", InferTensorContents { int64_contents: items, ..contents() }),
                output("scores", "FP32", InferTensorContents { fp32_contents: scores, ..contents() }),
                output("titles", "BYTES", InferTensorContents { bytes_contents: titles, ..contents() }),
            ],
            ..ModelInferResponse::default()
        })
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for RankerServer {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send + 'static>>;

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let name = "parhelion-demo".to_owned();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(ServerMetadataResponse { name, version, extensions: Vec::new() }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let of = |name: &str, datatype: &str| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1],
        };
        Ok(Response::new(ModelMetadataResponse {
            name: request.into_inner().name,
            versions: vec![self.version.clone()],
            outputs: vec![of("items", "INT64"), of("scores", "FP32"), of("titles", "BYTES")],
            ..ModelMetadataResponse::default()
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        self.rank(request.get_ref()).map(Response::new)
    }

    async fn model_stream_infer(
        &self,
        _: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let none = tokio_stream::iter([Err(Status::unimplemented("a ranker answers one message with one"))]);
        Ok(Response::new(Box::pin(none)))
    }
}
