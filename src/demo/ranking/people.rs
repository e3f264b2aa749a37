//! People who ask for films through the sidecar, look at the list from the top, and report what they click on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::films::{KINDS, click};
use super::ranker::LIKES;
use crate::demo::caller::connect;
use crate::demo::scenario::CLICKS;
use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::{InferParameter, ModelInferRequest};
use crate::pb::v1::FeedbackReport;
use crate::pb::v1::feedback_client::FeedbackClient;
use crate::pb::v1::feedback_report::{Place, Value};
use crate::tasks::Tasks;

/// What one visit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    /// `parhelion-interleaved`, or the variant that answered alone.
    pub(super) from: String,
    /// Titles of what was shown, of the first visit alone.
    pub(super) titles: Vec<String>,
    /// The slot that was clicked on.
    pub(super) clicked: Option<usize>,
}

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) data: SocketAddr,
    pub(super) model: String,
    /// Visits a second.
    pub(super) rate: u32,
    /// At a time.
    pub(super) people: u32,
}

/// Starts them among `tasks`; they come until the receiver is closed.
pub(super) async fn start(
    script: Script,
    tasks: &Tasks,
) -> Result<mpsc::Receiver<Result<Visit, String>>, tonic::transport::Error> {
    let films = connect(script.data).await?;
    let channel = Endpoint::from_shared(format!("http://{}", script.data))?.connect().await?;
    let (sender, receiver) = mpsc::channel(256);
    let next = Arc::new(AtomicU64::new(0));
    let between = Duration::from_secs(1) / script.rate.max(1);
    for place in 0..script.people {
        let first = tokio::time::Instant::now() + between * place;
        let mut pace = tokio::time::interval_at(first, between * script.people);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut person = Person {
            model: script.model.clone(),
            films: films.clone(),
            feedback: FeedbackClient::new(channel.clone()),
        };
        let (sender, next) = (sender.clone(), Arc::clone(&next));
        tasks.spawn(format!("demo person {place}"), async move {
            loop {
                pace.tick().await;
                let Ok(told) = sender.reserve().await else { return };
                told.send(person.visit(next.fetch_add(1, Ordering::Relaxed)).await);
            }
        });
    }
    Ok(receiver)
}

struct Person {
    model: String,
    films: GrpcInferenceServiceClient<Channel>,
    feedback: FeedbackClient<Channel>,
}

impl Person {
    async fn visit(&mut self, number: u64) -> Result<Visit, String> {
        let liked = (number % KINDS.len() as u64) as usize;
        let likes = ParameterChoice::StringParam(KINDS[liked].to_owned());
        let parameter = InferParameter { parameter_choice: Some(likes) };
        let mut request = Request::new(ModelInferRequest {
            model_name: self.model.clone(),
            id: number.to_string(),
            parameters: [(LIKES.to_owned(), parameter)].into(),
            ..ModelInferRequest::default()
        });
        let user = format!("user-{number}").parse().map_err(|_| "the user id is no metadata value")?;
        request.metadata_mut().insert("x-user-id", user);
        let answer = self.films.model_infer(request).await.map_err(|status| status.to_string())?;
        let tag = |name: &str| {
            let value = answer.metadata().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let prediction = tag("parhelion-prediction-id").ok_or("the answer has no prediction id")?;
        let from = tag("parhelion-interleaved").or(tag("parhelion-variant")).ok_or("nobody answered")?;
        let contents = |index: usize| answer.get_ref().outputs.get(index)?.contents.clone();
        let films: Vec<usize> = contents(0)
            .map(|contents| contents.int64_contents.iter().map(|film| *film as usize).collect())
            .ok_or("the answer has no list")?;
        let titles = match number {
            0 => contents(2).map(|contents| contents.bytes_contents).unwrap_or_default(),
            _ => Vec::new(),
        };
        let titles = titles.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        let clicked = click(&films, liked, || rand::rng().random::<f64>());
        if let Some(slot) = clicked {
            let report = FeedbackReport {
                prediction_id: prediction,
                name: CLICKS.to_owned(),
                value: Some(Value::Number(1.0)),
                place: Some(Place::Slot(slot as u32)),
                ..FeedbackReport::default()
            };
            self.feedback.report(report).await.map_err(|status| format!("a click: {status}"))?;
        }
        Ok(Visit { from, titles, clicked })
    }
}
