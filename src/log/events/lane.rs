//! One connection to the receiver of events: what waits for it is posted one after the other, and tried again a few times
//! where that may help.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::event::Event;
use crate::config::{Address, CloudEvents};
use crate::log::tally::{Figure, Missed, Part, Tally};
use crate::tasks::Tasks;
use crate::tls::client::Client;
use crate::upstream::dial::reach_http1;

/// For one answer, the connection included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an event is tried again, and how long after it was tried first; twice as long each time.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(10);
/// For what waits when the process ends.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read, so that its connection can be used again.
const ANSWER: usize = 64 << 10;
/// Characters of a refusal that are told.
const SAID: usize = 200;

/// Who is told.
#[derive(Debug)]
pub(super) struct Receiver {
    address: Address,
    path: Arc<str>,
    url: String,
    source: String,
    namespace: Option<String>,
    client: Option<Client>,
}

impl Receiver {
    pub(super) fn new(config: &CloudEvents, client: Option<Client>) -> Self {
        Receiver {
            address: config.address.clone(),
            path: Arc::clone(&config.path),
            url: config.url(),
            source: config.source.clone(),
            namespace: config.namespace.clone(),
            client,
        }
    }

    fn request(&self, event: &Event) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::post(&*self.path).body(Full::new(event.body()))?;
        let headers = request.headers_mut();
        *headers = event.headers(&self.source, self.namespace.as_deref());
        headers.insert(HOST, HeaderValue::try_from(self.address.to_string())?);
        let agent = concat!("parhelion/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Ok(request)
    }
}

/// Why an event was not taken.
enum Failed {
    /// It is not wanted, and never will be.
    Refused(String),
    /// It may be taken later; not before so long.
    Later(String, Duration),
    /// The connection had been used before, and was gone.
    Stale,
}

/// One connection, and the events that wait for it.
#[derive(Debug)]
pub(super) struct Lane {
    receiver: Arc<Receiver>,
    waiting: mpsc::Receiver<Event>,
    tally: Arc<Tally>,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Moves the bytes of connections.
    tasks: Tasks,
    /// Whether the last event was not taken.
    failing: bool,
}

impl Lane {
    pub(super) fn new(receiver: Arc<Receiver>, waiting: mpsc::Receiver<Event>, tally: Arc<Tally>) -> Self {
        let tasks = Tasks::new(Arc::default());
        Lane { receiver, waiting, tally, sender: None, tasks, failing: false }
    }

    /// Tells what comes, until no more will; what then waits has a little time.
    pub(super) async fn run(mut self) {
        let mut end = None;
        while let Some(event) = self.waiting.recv().await {
            let told = if self.waiting.is_closed() {
                let end = *end.get_or_insert_with(|| Instant::now() + GRACE);
                timeout_at(end, self.tell(&event)).await.unwrap_or(Err(Missed::Ended))
            } else {
                self.tell(&event).await
            };
            match told {
                Ok(()) => self.tally.tell(event.side()),
                Err(cause) => self.tally.miss(cause),
            }
        }
    }

    async fn tell(&mut self, event: &Event) -> Result<(), Missed> {
        let mut tries = 0;
        loop {
            let (cause, why, wait) = match self.post(event).await {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        self.tally.trouble(Part::Events, None);
                    }
                    return Ok(());
                }
                // A server may close what is idle; that is no failure of its.
                Err(Failed::Stale) => continue,
                Err(Failed::Refused(why)) => (Missed::Refused, why, None),
                Err(Failed::Later(why, least)) => {
                    let wait = (PAUSE * 2_u32.pow(tries)).max(least) + jitter();
                    (Missed::Unreached, why, (tries < AGAIN).then_some(wait))
                }
            };
            self.failing = true;
            self.tally.add(Figure::EventErrors, 1);
            self.tally.trouble(Part::Events, Some(format!("{}: {why}", self.receiver.url)));
            match wait {
                Some(wait) => sleep(wait).await,
                None => return Err(cause),
            }
            tries += 1;
        }
    }

    async fn post(&mut self, event: &Event) -> Result<(), Failed> {
        let reused = self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        match timeout(PATIENCE, self.exchange(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Broken::Answered(failed))) => Err(failed),
            Ok(Err(Broken::Connection(why))) => {
                self.sender = None;
                Err(if reused { Failed::Stale } else { Failed::Later(why, Duration::ZERO) })
            }
            Err(_) => {
                self.sender = None;
                Err(Failed::Later(format!("no answer within {}s", PATIENCE.as_secs()), Duration::ZERO))
            }
        }
    }

    async fn exchange(&mut self, event: &Event) -> Result<(), Broken> {
        let request = self
            .receiver
            .request(event)
            .map_err(|error| Broken::Answered(Failed::Refused(format!("cannot be asked for: {error}"))))?;
        let sender = match self.sender.as_mut().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let connected = connect(&self.receiver, &self.tasks).await.map_err(Broken::Connection)?;
                self.sender.insert(connected)
            }
        };
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        judge(response).await
    }
}

/// Why there is no good answer.
enum Broken {
    /// There is another one.
    Answered(Failed),
    /// There is none.
    Connection(String),
}

fn broken(error: hyper::Error) -> Broken {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Broken::Connection(format!("{error}{cause}"))
}

async fn connect(receiver: &Receiver, tasks: &Tasks) -> Result<SendRequest<Full<Bytes>>, String> {
    let socket =
        reach_http1(&receiver.address, receiver.client.as_ref()).await.map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    tasks.spawn("connection for log events", async move {
        // Whoever uses it next learns why it ended.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn judge(response: http::Response<Incoming>) -> Result<(), Broken> {
    let (head, body) = response.into_parts();
    let status = head.status;
    let asked = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let asked = Duration::from_secs(asked.unwrap_or(0)).min(LONGEST);
    let body = Limited::new(body, ANSWER).collect().await;
    if status.is_success() {
        // It was taken; a body that breaks off only costs the connection.
        return Ok(());
    }
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said: String = String::from_utf8_lossy(&body).split_whitespace().collect::<Vec<_>>().join(" ");
    let said: String = said.chars().take(SAID).collect();
    let why = format!("answered {status} {said}").trim_end().to_owned();
    let later = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Err(Broken::Answered(if later { Failed::Later(why, asked) } else { Failed::Refused(why) }))
}

/// So that connections which failed together do not come again together.
fn jitter() -> Duration {
    Duration::from_millis(rand::rng().random_range(0..=50))
}
