//! What a call costs that two rankers answer together: its median beside that of the slower ranker, asked by the same
//! caller without a sidecar between them, in turns.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parhelion::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::pb::inference::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use tonic::transport::{Channel, Endpoint};

use crate::costs::Cost;
use crate::message::framed;
use crate::server::{self, Manner};
use crate::sidecar::Sidecar;
use crate::{Options, plans};

/// Items of each list; the other ranker has half of them too, in another order.
const ITEMS: i64 = 100;
/// Turns, and calls in each of either kind.
const TURNS: usize = 10;
const CALLS: usize = 100;
/// A call that takes longer is none that is measured here.
const PATIENCE: Duration = Duration::from_secs(5);
/// Milliseconds that it may add.
const MOST: f64 = 0.3;

/// The ranking of one of two rankers, as it goes over the wire.
pub(crate) fn ranking(model: &str, version: &str) -> Bytes {
    let item = |place: i64| match version {
        "2" => (place * 37 + ITEMS / 2) % (2 * ITEMS),
        _ => place,
    };
    let contents =
        InferTensorContents { int64_contents: (0..ITEMS).map(item).collect(), ..Default::default() };
    framed(&ModelInferResponse {
        model_name: model.into(),
        model_version: version.into(),
        outputs: vec![InferOutputTensor {
            name: "items".into(),
            datatype: "INT64".into(),
            shape: vec![ITEMS],
            contents: Some(contents),
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// How much later the median of such calls is.
pub(crate) fn added(options: &Options) -> Result<Cost, Box<dyn Error>> {
    let [(first, v1), (second, v2)] = server::start()?;
    [first, second].iter().for_each(|server| server.become_(Manner::Ranks));
    let sidecar = Sidecar::start(&options.parhelion, &plans::interleaved([v1, v2]))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [alone, together] = runtime.block_on(async {
        let (mut slower, mut both) = (connect(v2).await?, connect(sidecar.data).await?);
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..=TURNS {
            alone.push(calls(&mut slower, None).await?);
            together.push(calls(&mut both, Some("v1,v2")).await?);
        }
        // The first turn opens connections.
        Ok::<_, Box<dyn Error>>([median(&alone[1..]), median(&together[1..])])
    })?;
    let value = together - alone;
    let words = format!(
        "a call that two rankers answer: {together:.2} ms in the median, {value:.2} ms more than the slower one takes by itself, at most {MOST}"
    );
    Ok(Cost { name: "interleave_added_ms", words, value, most: MOST })
}

async fn connect(to: SocketAddr) -> Result<GrpcInferenceServiceClient<Channel>, Box<dyn Error>> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))?.timeout(PATIENCE).tcp_nodelay(true);
    Ok(GrpcInferenceServiceClient::new(endpoint.connect().await?))
}

/// How long each of some calls took, one after the other; `of`: whose lists each answer must say it is made of.
async fn calls(
    client: &mut GrpcInferenceServiceClient<Channel>,
    of: Option<&str>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let request = ModelInferRequest { model_name: "m0".into(), ..Default::default() };
        let began = Instant::now();
        let answer = client.model_infer(request).await?;
        took.push(began.elapsed());
        let said = answer.metadata().get("parhelion-interleaved").and_then(|value| value.to_str().ok());
        if said != of {
            return Err(format!("an answer is made of {said:?} instead of {of:?}").into());
        }
        let items = answer.get_ref().outputs.iter().find_map(|output| output.contents.as_ref());
        if items.is_none_or(|items| items.int64_contents.len() != ITEMS as usize) {
            return Err(format!("an answer has not {ITEMS} items").into());
        }
    }
    Ok(took)
}

/// In milliseconds, of all turns together.
fn median(turns: &[Vec<Duration>]) -> f64 {
    let mut all: Vec<Duration> = turns.iter().flatten().copied().collect();
    all.sort_unstable();
    all.get(all.len() / 2).map_or(f64::NAN, |middle| middle.as_secs_f64() * 1e3)
}
