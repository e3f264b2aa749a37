//! A model server whose answers are rankings: what it answers, how long it takes and how it fails can be changed while
//! it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use parhelion::pb::inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::pb::inference::model_metadata_response::TensorMetadata;
use parhelion::pb::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use tokio::time::sleep;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// What a ranker does.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// One list for each question of a call.
    pub(super) lists: Vec<Vec<i64>>,
    /// Whether the lists' shape says how many there are, even where there is one.
    pub(super) rows: bool,
    /// Whether contents are raw.
    pub(super) raw: bool,
    /// What the scores are; none: they fall.
    pub(super) scores: Option<Vec<f32>>,
    /// Outputs that are left out.
    pub(super) without: Vec<&'static str>,
    /// Before it answers.
    pub(super) takes: Duration,
    /// It answers this.
    pub(super) fails: Option<Status>,
    /// Whether its items are FP32, which no item is.
    pub(super) fractions: bool,
    /// What its metadata calls the items.
    pub(super) names_items: &'static str,
    /// And their datatype.
    pub(super) datatype: &'static str,
}

impl Manner {
    /// Answers one list.
    pub(super) fn of(list: &[i64]) -> Self {
        Manner {
            lists: vec![list.to_vec()],
            rows: false,
            raw: false,
            scores: None,
            without: Vec::new(),
            takes: Duration::ZERO,
            fails: None,
            fractions: false,
            names_items: "items",
            datatype: "INT64",
        }
    }
}

/// A ranker.
pub(super) struct Ranker {
    pub(super) address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ranker {
    pub(super) fn start(name: &'static str, manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap().with_nodelay(Some(true))
        };
        let address = incoming.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let service = GrpcInferenceServiceServer::new(Service { name, manner: Arc::clone(&manner) });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = Server::builder().add_service(service).serve_with_incoming(incoming) => served.unwrap(),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Ranker { address, manner, stop: Some(stop), thread: Some(thread) }
    }

    /// From now on it does this.
    pub(super) fn becomes(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap());
    }
}

impl Drop for Ranker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Service {
    name: &'static str,
    manner: Arc<Mutex<Manner>>,
}

/// The answer of a ranker called so.
fn answer(name: &str, manner: &Manner, request: &ModelInferRequest) -> ModelInferResponse {
    let length = manner.lists.first().map_or(0, Vec::len) as i64;
    let shape = if manner.rows { vec![manner.lists.len() as i64, length] } else { vec![length] };
    let items: Vec<i64> = manner.lists.iter().flatten().copied().collect();
    let falling = || (0..items.len()).map(|place| 1.0 - 0.01 * place as f32).collect();
    let scores: Vec<f32> = manner.scores.clone().unwrap_or_else(falling);
    let titles: Vec<Bytes> = items.iter().map(|item| Bytes::from(format!("{name} {item}"))).collect();
    let output =
        |name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents| InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            contents: Some(contents),
            ..Default::default()
        };
    let contents = InferTensorContents::default;
    let made = vec![Bytes::from(name.to_owned())];
    let whole = InferTensorContents { int64_contents: items.clone(), ..contents() };
    let fractions = items.iter().map(|item| *item as f32).collect();
    let fractions = InferTensorContents { fp32_contents: fractions, ..contents() };
    let mut outputs = vec![
        match manner.fractions {
            true => output("items", "FP32", &shape, fractions),
            false => output("items", "INT64", &shape, whole),
        },
        output("scores", "FP32", &shape, InferTensorContents { fp32_contents: scores.clone(), ..contents() }),
        output(
            "titles",
            "BYTES",
            &shape,
            InferTensorContents { bytes_contents: titles.clone(), ..contents() },
        ),
        output("made_by", "BYTES", &[1], InferTensorContents { bytes_contents: made.clone(), ..contents() }),
    ];
    let text = |texts: &[Bytes]| {
        let mut raw = Vec::new();
        for text in texts {
            raw.extend_from_slice(&(text.len() as u32).to_le_bytes());
            raw.extend_from_slice(text);
        }
        Bytes::from(raw)
    };
    let mut raws = vec![
        Bytes::from(items.iter().flat_map(|item| item.to_le_bytes()).collect::<Vec<u8>>()),
        Bytes::from(scores.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<u8>>()),
        text(&titles),
        text(&made),
    ];
    let keep: Vec<bool> = outputs.iter().map(|output| !manner.without.contains(&&*output.name)).collect();
    let mut kept = keep.iter();
    outputs.retain(|_| *kept.next().unwrap());
    let mut kept = keep.iter();
    raws.retain(|_| *kept.next().unwrap());
    if manner.raw {
        outputs.iter_mut().for_each(|output| output.contents = None);
    } else {
        raws.clear();
    }
    ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: format!("{name}.0"),
        id: request.id.clone(),
        outputs,
        raw_output_contents: raws,
        ..ModelInferResponse::default()
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = Answers;

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
        Ok(Response::new(ServerMetadataResponse::default()))
    }

    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let manner = self.manner.lock().unwrap().clone();
        let of = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        let outputs = vec![
            of(manner.names_items, manner.datatype, &[-1]),
            of("scores", "FP32", &[-1]),
            of("titles", "BYTES", &[-1]),
            of("made_by", "BYTES", &[1]),
        ];
        Ok(Response::new(ModelMetadataResponse { outputs, ..ModelMetadataResponse::default() }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let manner = self.manner.lock().unwrap().clone();
        sleep(manner.takes).await;
        match manner.fails {
            Some(status) => Err(status),
            None => Ok(Response::new(answer(self.name, &manner, &request.into_inner()))),
        }
    }

    async fn model_stream_infer(
        &self,
        _: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let infer_response = Some(ModelInferResponse { id: self.name.into(), ..Default::default() });
        let one = ModelStreamInferResponse { infer_response, ..Default::default() };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(one)]))))
    }
}
