//! The ports of the webhook: reviews by TLS, and health. What a review may cost is bounded: its bytes, how long they may
//! take, and how many are held at once. A panic is answered like any other failure of our own: the pod may be made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::review::{self, Asked, Reviewed, Unreadable, decide};
use super::tally::{Tally, Verdict};
use crate::inject::Settings;
use crate::telemetry::counter::{Counter, Counters};
use crate::telemetry::metrics::{self, Format};
use crate::tls::server::Server;

/// An API server takes no object over 3 MiB; a review has little beside it.
const LARGEST: usize = 4 << 20;
/// Reviews whose bytes are held at once.
const AT_ONCE: usize = 16;
/// For all bytes of a review, and for a place among those that are looked at. An API server waits no longer than 30 s.
const PATIENCE: Duration = Duration::from_secs(10);

const PATHS: &str = "\
POST /inject    an AdmissionReview of admission.k8s.io/v1
GET  /healthz   the process runs
";
const HEALTH_PATHS: &str = "\
/healthz   the process runs
/readyz    reviews are answered, and the process does not end
/metrics   Prometheus text, or OpenMetrics on demand
";

type Decide = Box<dyn Fn(&Asked) -> Reviewed + Send + Sync>;

/// Where reviews are answered.
pub struct Desk {
    decide: Decide,
    places: Semaphore,
    patience: Duration,
    tally: Arc<Tally>,
    counters: Arc<Counters>,
}

/// The health port.
#[derive(Debug)]
pub struct Health {
    /// Whether the process is about to end.
    pub draining: watch::Receiver<bool>,
    /// Shown.
    pub tally: Arc<Tally>,
    /// Shown.
    pub counters: Arc<Counters>,
    /// Whose certificate is shown.
    pub server: Arc<Server>,
}

/// What is answered instead of a review.
struct Refusal {
    status: StatusCode,
    verdict: Verdict,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, verdict: Verdict, text: impl Into<String>) -> Self {
        Refusal { status, verdict, text: text.into() }
    }
}

impl From<Unreadable> for Refusal {
    fn from(why: Unreadable) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, why.verdict, why.to_string())
    }
}

impl Desk {
    /// One that injects by `settings`.
    pub fn new(settings: Settings, tally: Arc<Tally>, counters: Arc<Counters>) -> Self {
        let decide: Decide = Box::new(move |asked| decide(asked, &settings));
        Desk { decide, places: Semaphore::new(AT_ONCE), patience: PATIENCE, tally, counters }
    }

    /// Its paths.
    pub fn router(self) -> Router {
        Router::new()
            .route("/inject", post(inject))
            .route("/healthz", get(async || "alive\n"))
            .fallback(async || (StatusCode::NOT_FOUND, PATHS))
            .with_state(Arc::new(self))
    }

    async fn review(&self, request: Request) -> Result<Reviewed, Refusal> {
        let slow = |text| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Verdict::TooSlow, text);
        let place = timeout(self.patience, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(slow("too many reviews wait\n→ give the webhook more replicas or more CPU\n"));
        };
        let body = timeout(self.patience, body(request)).await;
        let body = body.unwrap_or_else(|_| Err(slow("the review did not come within 10 s\n")))?;
        let asked = review::read(&body)?;
        drop(body);
        let decided = catch_unwind(AssertUnwindSafe(|| (self.decide)(&asked)));
        Ok(decided.unwrap_or_else(|_| {
            self.counters.add(Counter::Panics);
            review::failed(&asked)
        }))
    }
}

async fn inject(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let began = Instant::now();
    match desk.review(request).await {
        Ok(reviewed) => {
            desk.tally.add(reviewed.verdict, began.elapsed());
            note(&reviewed);
            axum::Json(reviewed.answer()).into_response()
        }
        Err(Refusal { status, verdict, text }) => {
            desk.tally.add(verdict, began.elapsed());
            tracing::warn!(result = verdict.name(), why = text.trim_end(), "a review was not answered");
            (status, text).into_response()
        }
    }
}

fn note(reviewed: &Reviewed) {
    let Reviewed { name, warnings, .. } = reviewed;
    let (pod, result, uid) = (name.as_str(), reviewed.verdict.name(), reviewed.uid.as_str());
    match reviewed.verdict {
        Verdict::Injected if warnings.is_empty() => tracing::info!(pod, result, uid, "reviewed"),
        Verdict::Already | Verdict::NotAsked => tracing::debug!(pod, result, uid, "reviewed"),
        Verdict::Failed => tracing::error!(pod, result, uid, ?warnings, "reviewed"),
        _ => tracing::warn!(pod, result, uid, ?warnings, "reviewed"),
    }
}

async fn body(request: Request) -> Result<Bytes, Refusal> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let kind = header(header::CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        let text = "the content type is not application/json\n→ send an AdmissionReview as JSON\n";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Verdict::Unreadable, text));
    }
    let too_large = || {
        let text = format!("the review has more than {LARGEST} bytes\n→ no pod is as large as that\n");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Verdict::TooLarge, text)
    };
    let said: usize = header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()).unwrap_or_default();
    if said > LARGEST {
        return Err(too_large());
    }
    match Limited::new(body, LARGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => {
            let text = format!("the review broke off: {error}\n");
            Err(Refusal::new(StatusCode::BAD_REQUEST, Verdict::Unreadable, text))
        }
    }
}

impl Health {
    /// Its paths.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(figures))
            .fallback(async || (StatusCode::NOT_FOUND, HEALTH_PATHS))
            .with_state(Arc::new(self))
    }
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    match *health.draining.borrow() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "ends\n"),
        false => (StatusCode::OK, "ready\n"),
    }
}

async fn figures(State(health): State<Arc<Health>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let page = metrics::webhook(&health.tally, &health.counters, &health.server, format);
    ([(header::CONTENT_TYPE, format.content_type())], page).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    fn desk(decide: Decide) -> Desk {
        Desk {
            decide,
            places: Semaphore::new(AT_ONCE),
            patience: Duration::from_millis(50),
            tally: Arc::default(),
            counters: Arc::default(),
        }
    }

    fn request(body: Body) -> Request {
        let request = Request::post("/inject").header(header::CONTENT_TYPE, "application/json");
        request.body(body).unwrap()
    }

    fn review() -> String {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let request = json!({"uid": "u", "operation": "CREATE", "object": object});
        json!({"apiVersion": review::VERSION, "kind": "AdmissionReview", "request": request}).to_string()
    }

    async fn answered(desk: Desk, request: Request) -> (StatusCode, String) {
        let response = desk.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_failure_of_our_own_keeps_no_pod_from_being_made() {
        let desk = desk(Box::new(|_| panic!("on purpose")));
        let (tally, counters) = (Arc::clone(&desk.tally), Arc::clone(&desk.counters));
        let (status, body) = answered(desk, request(review().into())).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(true)));
        assert!(answer["response"]["warnings"][0].as_str().unwrap().contains("the webhook failed"), "{body}");
        assert_eq!((tally.get(Verdict::Failed), counters.get(Counter::Panics)), (1, 1));
    }

    #[tokio::test]
    async fn who_is_slow_or_comes_while_all_places_are_taken_is_let_go() {
        let never = Body::new(http_body_util::StreamBody::new(Never));
        let (status, text) = answered(desk(Box::new(review::failed)), request(never)).await;
        assert!(
            status == StatusCode::SERVICE_UNAVAILABLE && text.contains("did not come"),
            "{status} {text}"
        );
        let full = Desk { places: Semaphore::new(0), ..desk(Box::new(review::failed)) };
        let tally = Arc::clone(&full.tally);
        let (status, text) = answered(full, request(review().into())).await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("too many"), "{status} {text}");
        assert_eq!(tally.get(Verdict::TooSlow), 1);
    }

    /// A body whose bytes never come.
    struct Never;

    impl tonic::codegen::tokio_stream::Stream for Never {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;

        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Pending
        }
    }
}
