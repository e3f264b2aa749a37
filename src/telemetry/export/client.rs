//! One export: `TraceService/Export` of a message that is in bytes already, tried again as OTLP asks.
//!
//! The channel is tonic's; its generated client would encode a message of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use rand::RngExt;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use crate::config::Address;
use crate::telemetry::settings::Collector;
use crate::tls;
use crate::upstream::dial::connector;

/// A framed message, in pieces.
pub(super) type Message = VecDeque<Bytes>;

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How often a failed export is tried again.
const AGAIN: usize = 3;
/// How long it waits before that at first, and at most where the collector does not ask for longer.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(1600);

/// A collector. Clones share its connection, which is made when it is needed.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    headers: HeaderMap,
    timeout: Duration,
}

impl Client {
    /// Connects to nothing yet, but needs a runtime.
    pub(super) fn new(collector: &Collector) -> Result<Self, String> {
        let endpoint =
            Endpoint::from_shared(collector.endpoint.clone()).map_err(|problem| problem.to_string())?;
        let mut headers = collector.headers.clone();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let endpoint = endpoint.timeout(collector.timeout);
        let channel = match &collector.tls {
            None => endpoint.connect_lazy(),
            Some(settings) => {
                let address = place(&collector.endpoint)?;
                let client = tls::client::Client::load(settings).map_err(|error| error.to_string())?;
                endpoint.connect_with_connector_lazy(connector(address, Arc::new(client)))
            }
        };
        Ok(Client { channel, headers, timeout: collector.timeout })
    }

    /// Sends a batch, a few times where that may help, within the collector's timeout.
    ///
    /// # Errors
    /// What the last try met.
    pub(super) async fn export(self, message: Message) -> Result<(), String> {
        let began = Instant::now();
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            let Err(status) = self.send(message.clone()).await else { return Ok(()) };
            let least = retry(&status).filter(|_| tries < AGAIN);
            let wait = least.map(|least| pause.max(least) + jitter());
            match wait.filter(|wait| began.elapsed() + *wait < self.timeout) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(format!("{:?}: {}", status.code(), status.message())),
            }
            pause = (pause * 2).min(LONGEST);
            tries += 1;
        }
    }

    async fn send(&self, message: Message) -> Result<(), Status> {
        let mut request = Request::new(tonic::body::Body::new(Pieces(message)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(PATH);
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        let sent = self.channel.clone().oneshot(request).await;
        let (head, body) = sent.map_err(|problem| Status::from_error(problem.into()))?.into_parts();
        let status = match Status::from_header_map(&head.headers) {
            Some(status) => status,
            None => {
                let rest = body.collect().await?;
                let trailers = rest.trailers().and_then(Status::from_header_map);
                trailers.unwrap_or_else(|| no_status(head.status))
            }
        };
        if status.code() == Code::Ok { Ok(()) } else { Err(status) }
    }
}

/// Where an `https` URL leads.
fn place(url: &str) -> Result<Address, String> {
    let uri: Uri = url.parse().map_err(|problem: http::uri::InvalidUri| problem.to_string())?;
    let host = uri.host().ok_or("it names no host")?.trim_start_matches('[').trim_end_matches(']');
    Ok(Address::Tcp { host: host.into(), port: uri.port_u16().unwrap_or(443) })
}

/// An answer without a status, as a proxy on the way gives it.
fn no_status(http: StatusCode) -> Status {
    let message = format!("no grpc-status, HTTP {http}");
    match http {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Status::unavailable(message),
        _ => Status::unknown(message),
    }
}

/// Whether OTLP asks to try again, and how long the collector wants to be left alone.
fn retry(status: &Status) -> Option<Duration> {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Some(asked.unwrap_or_default()),
        // Exhausted for good, where it does not say for how long.
        Code::ResourceExhausted => asked,
        _ => None,
    }
}

/// So that sidecars which failed together do not come again together.
fn jitter() -> Duration {
    Duration::from_millis(rand::rng().random_range(0..=100))
}

/// The pieces of a message as the body of a request.
struct Pieces(Message);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}
