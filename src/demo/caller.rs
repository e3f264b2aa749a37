//! The demo's application: sends test rows through the sidecar's data port, each in the name of a user, and checks
//! every answer against what the version in its tags is known to say of that row.
//!
//! Where that is wanted it makes, between those calls, the same call directly to the server of the variant that
//! answered last, so that what the sidecar adds is measured in the same run, by the same client, under the same load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::rows::Row;
use super::tensor;
use crate::pb::inference::ModelInferResponse;
use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::tasks::Tasks;

/// A call: an answer that can be relied on, or why there is none.
pub type Called = Result<Answer, String>;

/// What a caller learns from one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of the call, in the order they are made, from 0.
    pub number: u64,
    /// `parhelion-prediction-id`.
    pub prediction: String,
    /// `parhelion-variant`.
    pub variant: String,
    /// `parhelion-fallback-from`: the variant in whose place it was answered, if so.
    pub instead_of: Option<String>,
    /// `parhelion-model-version`.
    pub version: String,
    /// Who asked.
    pub user: String,
    /// The digit which the image shows.
    pub label: u8,
    /// The digit which the model says it shows.
    pub said: u8,
    /// From request to answer.
    pub latency: Duration,
    /// The same of a direct call made just before or after; `None` where none was made.
    pub direct: Option<Duration>,
}

/// A variant as the caller knows it beforehand.
#[derive(Debug, Clone)]
pub struct Known {
    /// What the demo calls it.
    pub name: String,
    /// As the configuration spells its variant: the same for two versions of which one takes the other's place.
    pub variant: String,
    /// As the configuration and the server spell it.
    pub version: String,
    /// Its model server.
    pub server: SocketAddr,
}

/// What is called, and how.
#[derive(Debug, Clone)]
pub struct Script {
    /// The sidecar's data port.
    pub data: SocketAddr,
    /// The model's name.
    pub model: String,
    /// Those that answer. The position is that of [`Row::said`].
    pub variants: [Known; 2],
    /// Calls in all; none: no end.
    pub calls: Option<u64>,
    /// Calls at a time, at least 1.
    pub callers: u32,
    /// Calls per second, spread evenly; none: as fast as it goes.
    pub rate: Option<u32>,
    /// Different users, in turn; none: each call is a new user's.
    pub users: Option<u64>,
    /// Whether each call is made directly too.
    pub direct: bool,
}

/// Starts the callers among `tasks`. The receiver ends after the last call; closing it ends them, and calls under way
/// still arrive.
///
/// # Errors
/// Where the sidecar or a server cannot be reached.
pub async fn start(
    script: Script,
    rows: Arc<[Row]>,
    tasks: &Tasks,
) -> Result<mpsc::Receiver<Called>, tonic::transport::Error> {
    let through = connect(script.data).await?;
    let mut direct = HashMap::new();
    for variant in script.variants.iter().filter(|_| script.direct) {
        direct.insert(variant.name.clone(), connect(variant.server).await?);
    }
    let (sender, receiver) = mpsc::channel(256);
    let script = Arc::new(script);
    let next = Arc::new(AtomicU64::new(0));
    for place in 0..script.callers {
        let caller = Caller {
            script: Arc::clone(&script),
            rows: Arc::clone(&rows),
            next: Arc::clone(&next),
            through: through.clone(),
            direct: direct.clone(),
            last: script.variants[0].name.clone(),
        };
        tasks.spawn(format!("demo caller {place}"), caller.run(sender.clone(), pace(&script, place)));
    }
    Ok(receiver)
}

/// A client of the server at `address`.
pub(super) async fn connect(
    address: SocketAddr,
) -> Result<GrpcInferenceServiceClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(GrpcInferenceServiceClient::new(endpoint.connect().await?))
}

/// Each caller makes its share of the rate; they take turns, so that calls are spread and not in bursts.
fn pace(script: &Script, place: u32) -> Option<Interval> {
    let between = Duration::from_secs(1) / script.rate?;
    let first = tokio::time::Instant::now() + between * place;
    let mut interval = tokio::time::interval_at(first, between * script.callers);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

struct Caller {
    script: Arc<Script>,
    rows: Arc<[Row]>,
    next: Arc<AtomicU64>,
    through: GrpcInferenceServiceClient<Channel>,
    direct: HashMap<String, GrpcInferenceServiceClient<Channel>>,
    last: String,
}

impl Caller {
    async fn run(mut self, sender: mpsc::Sender<Called>, mut pace: Option<Interval>) {
        loop {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            // The place in the queue is taken first: a call that was made is always counted.
            let Ok(place) = sender.reserve().await else { return };
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if self.script.calls.is_some_and(|calls| number >= calls) {
                return;
            }
            place.send(self.both(number).await);
        }
    }

    /// One call through the sidecar and one past it where that is wanted, in turns which first.
    async fn both(&mut self, number: u64) -> Called {
        if number.is_multiple_of(2) {
            let direct = self.directly(number).await;
            let answer = self.call(number).await?;
            return Ok(Answer { direct, ..answer });
        }
        let answer = self.call(number).await?;
        Ok(Answer { direct: self.directly(number).await, ..answer })
    }

    fn row(&self, number: u64) -> &Row {
        &self.rows[(number % self.rows.len() as u64) as usize]
    }

    async fn call(&mut self, number: u64) -> Called {
        let user = number % self.script.users.unwrap_or(u64::MAX);
        let user = format!("user-{user}");
        let fail = |what: &str| format!("call {number} of {user}: {what}");
        let mut request = self.request(number);
        let value = user.parse().map_err(|_| fail("the user id is no metadata value"))?;
        request.metadata_mut().insert("x-user-id", value);
        let started = Instant::now();
        let response = self.through.model_infer(request).await;
        let latency = started.elapsed();
        let response = response.map_err(|status| fail(&described(&status)))?;
        let answer = self.read(number, user.clone(), latency, response.metadata(), response.get_ref());
        let answer = answer.map_err(|what| fail(&what))?;
        self.last.clone_from(&answer.variant);
        Ok(answer)
    }

    fn request(&self, number: u64) -> Request<crate::pb::inference::ModelInferRequest> {
        let pixels = &self.row(number).pixels;
        Request::new(tensor::request(&self.script.model, number.to_string(), pixels))
    }

    /// Checks an answer: its tags are there, they name a known variant, and the label is that version's.
    fn read(
        &self,
        number: u64,
        user: String,
        latency: Duration,
        tags: &MetadataMap,
        body: &ModelInferResponse,
    ) -> Called {
        let tag = |name: &str| {
            let value = tags.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned).ok_or_else(|| format!("the answer has no {name}"))
        };
        let variant = tag("parhelion-variant")?;
        let version = tag("parhelion-model-version")?;
        let prediction = tag("parhelion-prediction-id")?;
        let instead_of = tag("parhelion-fallback-from").ok();
        let known = &self.script.variants;
        let named = |known: &Known| known.variant == variant;
        let exactly = known.iter().position(|known| named(known) && known.version == version);
        let index = exactly.or_else(|| known.iter().position(named));
        let index = index.ok_or_else(|| format!("there is no variant {variant:?}"))?;
        let row = self.row(number);
        if version != known[index].version || version != body.model_version {
            return Err(format!("{variant} is tagged {version:?}, its server says {:?}", body.model_version));
        }
        if body.id != number.to_string() {
            return Err(format!("the answer is to request {:?}", body.id));
        }
        let said = tensor::label(body).ok_or("the answer has no label")?;
        if said != row.said[index] {
            return Err(format!(
                "version {version} says {} of this row, the answer is {said}",
                row.said[index]
            ));
        }
        Ok(Answer {
            number,
            prediction,
            variant: known[index].name.clone(),
            instead_of,
            version,
            user,
            label: row.label,
            said,
            latency,
            direct: None,
        })
    }

    /// How long the same call takes without a sidecar; `None` where it fails, which says nothing about the sidecar.
    async fn directly(&mut self, number: u64) -> Option<Duration> {
        let request = self.request(number);
        let client = self.direct.get_mut(&self.last)?;
        let started = Instant::now();
        client.model_infer(request).await.ok()?;
        Some(started.elapsed())
    }
}

fn described(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
impl Answer {
    /// Some answer.
    pub(crate) fn example() -> Answer {
        Answer {
            number: 1,
            prediction: "p-1".into(),
            variant: "v2".into(),
            instead_of: None,
            version: "2.0.0".into(),
            user: "user-1".into(),
            label: 8,
            said: 8,
            latency: Duration::from_micros(400),
            direct: None,
        }
    }
}
