//! A model server that speaks the Open Inference Protocol: one model, one version, on a loopback port of its own.
//!
//! It answers as the real ones do: NOT_FOUND for a model or version it does not have, INVALID_ARGUMENT for tensors
//! that do not fit, errors of a stream in-band, and in each answer the name and version that made it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub mod manner;
mod service;

use manner::Manner;
pub(super) use service::{Answers, described};

use super::model::{CLASSES, Model, PIXELS, Prediction};
use super::tensor;
use crate::pb::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::pb::inference::{ModelInferRequest, ModelInferResponse, ModelMetadataResponse};

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Standing {
    address: SocketAddr,
    manner: Arc<Manner>,
    _stop: oneshot::Sender<()>,
}

impl Standing {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it behaves.
    pub fn manner(&self) -> &Arc<Manner> {
        &self.manner
    }
}

/// Starts a server of `model` on `port`, 0 being any that is free, and on a thread of its own: a model has a process of
/// its own, and a call that never left its thread would look faster than any that real callers make.
///
/// # Errors
/// Where the loopback port cannot be bound or no thread started.
pub fn start(model: Arc<Model>, port: u16) -> io::Result<Standing> {
    let manner = Arc::default();
    let classifier = Classifier { model, manner: Arc::clone(&manner) };
    serve(classifier, manner, port)
}

/// Starts a server of what answers like that, which behaves in that `manner`, likewise.
///
/// # Errors
/// The same.
pub(super) fn serve(answers: impl Answers, manner: Arc<Manner>, port: u16) -> io::Result<Standing> {
    let version = answers.version().to_owned();
    let service = GrpcInferenceServiceServer::new(service::Service::new(answers, Arc::clone(&manner)));
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let incoming = {
        let _inside = runtime.enter();
        TcpIncoming::bind((Ipv4Addr::LOCALHOST, port).into())?.with_nodelay(Some(true))
    };
    let address = incoming.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("model-{version}"));
    thread.spawn(move || {
        let serve = Server::builder().add_service(service).serve_with_incoming(incoming);
        runtime.block_on(async {
            tokio::select! {
                Err(error) = serve => tracing::error!(%address, %error, "a model server of the demo ended"),
                _ = stopped => {}
            }
        });
    })?;
    Ok(Standing { address, manner, _stop: stop })
}

/// A classifier as it answers.
#[derive(Debug)]
struct Classifier {
    model: Arc<Model>,
    manner: Arc<Manner>,
}

impl Answers for Classifier {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn version(&self) -> &str {
        self.model.version()
    }

    fn describe(&self) -> ModelMetadataResponse {
        ModelMetadataResponse {
            platform: "scikit-learn weights, computed in Rust".to_owned(),
            inputs: vec![described(tensor::INPUT, "FP32", &[-1, PIXELS as i64])],
            outputs: vec![
                described(tensor::LABEL, "INT64", &[-1]),
                described(tensor::PROBABILITIES, "FP32", &[-1, CLASSES as i64]),
            ],
            ..ModelMetadataResponse::default()
        }
    }

    fn answer(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let refuse = |error: tensor::TensorError| Status::invalid_argument(error.to_string());
        let rows = tensor::read(request).map_err(refuse)?;
        let mut said: Vec<Prediction> = rows.iter().map(|row| self.model.predict(row)).collect();
        self.manner.alter(&mut said);
        let mut response = ModelInferResponse::default();
        tensor::write(request, &said, &mut response).map_err(refuse)?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::codegen::tokio_stream;
    use tonic::transport::Channel;

    use super::*;
    use crate::demo::rows::Row;
    use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    use crate::pb::inference::{
        ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerReadyRequest,
    };

    async fn second() -> (Standing, GrpcInferenceServiceClient<Channel>) {
        let [_, second, _] = Model::bundled().unwrap();
        let server = start(Arc::new(second), 0).unwrap();
        let client = crate::demo::caller::connect(server.address()).await.unwrap();
        (server, client)
    }

    #[tokio::test]
    async fn it_answers_with_name_version_id_and_label() {
        let (_server, mut client) = second().await;
        let rows = Row::bundled().unwrap();
        for row in rows.iter().take(50) {
            let request = tensor::request("digits", "a-7".into(), &row.pixels);
            let answer = client.model_infer(request).await.unwrap().into_inner();
            assert_eq!((answer.model_name.as_str(), answer.model_version.as_str()), ("digits", "2.0.0"));
            assert_eq!(answer.id, "a-7");
            assert_eq!(tensor::label(&answer), Some(row.said[1]));
        }
    }

    #[tokio::test]
    async fn it_ends_when_it_is_dropped() {
        let (server, _client) = second().await;
        let address = server.address();
        drop(server);
        let gone = async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
    }

    #[tokio::test]
    async fn it_refuses_as_real_servers_do() {
        let (_server, mut client) = second().await;
        let good = tensor::request("digits", String::new(), &[0.0; PIXELS]);
        let mut other = good.clone();
        other.model_name = "letters".into();
        assert_eq!(client.model_infer(other).await.unwrap_err().code(), Code::NotFound);
        let mut other = good.clone();
        other.model_version = "1.0.0".into();
        assert_eq!(client.model_infer(other).await.unwrap_err().code(), Code::NotFound);
        let mut other = good.clone();
        other.inputs[0].shape = vec![2, 64];
        let refused = client.model_infer(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), "input \"pixels\" needs 512 raw bytes, got 256");
        let ready = ModelReadyRequest { name: "digits".into(), version: "1.0.0".into() };
        assert_eq!(client.model_ready(ready).await.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test]
    async fn it_is_live_ready_and_describes_its_model() {
        let (_server, mut client) = second().await;
        assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let ready = ModelReadyRequest { name: "digits".into(), version: "2.0.0".into() };
        assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
        let metadata = ModelMetadataRequest { name: "digits".into(), version: String::new() };
        let metadata = client.model_metadata(metadata).await.unwrap().into_inner();
        assert_eq!(metadata.versions, ["2.0.0"]);
        assert_eq!(metadata.inputs[0].shape, [-1, 64]);
    }

    #[tokio::test]
    async fn a_stream_goes_on_after_an_error() {
        let (_server, mut client) = second().await;
        let good = tensor::request("digits", "good".into(), &[0.0; PIXELS]);
        let mut bad = tensor::request("digits", "bad".into(), &[0.0; PIXELS]);
        bad.inputs[0].datatype = "INT8".into();
        let requests = tokio_stream::iter([good.clone(), bad, good]);
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            let id = answer.infer_response.as_ref().unwrap().id.clone();
            seen.push((id, answer.error_message.is_empty()));
        }
        assert_eq!(seen, [("good".into(), true), ("bad".into(), false), ("good".into(), true)]);
    }
}
