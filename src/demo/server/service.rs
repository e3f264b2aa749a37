//! Whatever answers, as a service of the Open Inference Protocol: one model, one version.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::manner::Manner;
use crate::pb::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::pb::inference::model_metadata_response::TensorMetadata;
use crate::pb::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};

/// What a model says, whatever it is.
pub(in crate::demo) trait Answers: Debug + Send + Sync + 'static {
    /// What it is asked for by.
    fn name(&self) -> &str;

    /// Which one of that name it is.
    fn version(&self) -> &str;

    /// Its inputs and outputs; name and version are put beside.
    fn describe(&self) -> ModelMetadataResponse;

    /// The outputs; name, version and id are put beside.
    ///
    /// # Errors
    /// The status of what it refuses.
    fn answer(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status>;
}

/// A tensor as metadata describe it.
pub(in crate::demo) fn described(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec() }
}

/// A service of it. Cheap to clone: every stream has one.
#[derive(Debug)]
pub(super) struct Service<A> {
    answers: Arc<A>,
    manner: Arc<Manner>,
}

impl<A> Clone for Service<A> {
    fn clone(&self) -> Self {
        Service { answers: Arc::clone(&self.answers), manner: Arc::clone(&self.manner) }
    }
}

impl<A: Answers> Service<A> {
    pub(super) fn new(answers: A, manner: Arc<Manner>) -> Self {
        Service { answers: Arc::new(answers), manner }
    }

    /// Whether this is the model and version asked for; an empty version means any.
    fn knows(&self, name: &str, version: &str) -> Result<(), Status> {
        let (own, known) = (self.answers.name(), self.answers.version());
        if name != own {
            return Err(Status::not_found(format!("there is no model {name:?} here, only {own:?}")));
        }
        if !version.is_empty() && version != known {
            let text = format!("model {name:?} has no version {version:?} here, only {known:?}");
            return Err(Status::not_found(text));
        }
        Ok(())
    }

    fn infer(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.knows(&request.model_name, &request.model_version)?;
        Ok(ModelInferResponse {
            model_name: self.answers.name().to_owned(),
            model_version: self.answers.version().to_owned(),
            id: request.id.clone(),
            ..self.answers.answer(request)?
        })
    }

    /// As Triton: the status of a stream stays OK, an error says only its message and the request's id.
    fn infer_in_stream(&self, request: &ModelInferRequest) -> ModelStreamInferResponse {
        match self.infer(request) {
            Ok(answer) => {
                ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
            }
            Err(status) => ModelStreamInferResponse {
                error_message: status.message().to_owned(),
                infer_response: Some(ModelInferResponse { id: request.id.clone(), ..Default::default() }),
            },
        }
    }
}

#[tonic::async_trait]
impl<A: Answers> GrpcInferenceService for Service<A> {
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
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        self.knows(&name, &version)?;
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
        let ModelMetadataRequest { name, version } = request.into_inner();
        self.knows(&name, &version)?;
        let versions = vec![self.answers.version().to_owned()];
        Ok(Response::new(ModelMetadataResponse { name, versions, ..self.answers.describe() }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        self.manner.feel().await?;
        self.infer(request.get_ref()).map(Response::new)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let service = self.clone();
        let answers =
            request.into_inner().map(move |message| message.map(|request| service.infer_in_stream(&request)));
        Ok(Response::new(Box::pin(answers)))
    }
}
