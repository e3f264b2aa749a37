//! Whether an answer is the expected one, and the names of the ways in which it may not be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

/// Why a call counts as failed. Its text is the key it is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be opened.
    Connect(std::io::ErrorKind),
    /// The stream or its connection broke.
    Broken(String),
    /// The HTTP status was not 200.
    Http(StatusCode),
    /// The answer is not gRPC.
    ContentType,
    /// A gRPC status other than 0.
    Grpc(String),
    /// The answer ended without a gRPC status.
    NoStatus,
    /// The body was shorter or longer than expected.
    Length(usize),
    /// The body was as long as expected and something else.
    Content,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(kind) => write!(f, "connect: {kind}"),
            Failure::Broken(why) => write!(f, "broken: {why}"),
            Failure::Http(status) => write!(f, "http status {}", status.as_u16()),
            Failure::ContentType => write!(f, "content type"),
            Failure::Grpc(status) => write!(f, "grpc status {status}"),
            Failure::NoStatus => write!(f, "no grpc status"),
            Failure::Length(length) => write!(f, "body of {length} bytes"),
            Failure::Content => write!(f, "body differs"),
        }
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Failure::Broken(error.to_string())
    }
}

/// Checks what comes before the body.
pub(crate) fn head(response: &http::response::Parts) -> Result<(), Failure> {
    if response.status != StatusCode::OK {
        return Err(Failure::Http(response.status));
    }
    let kind = response.headers.get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Err(Failure::ContentType);
    }
    // A trailers-only answer says its failure here.
    response.headers.get("grpc-status").map_or(Ok(()), |_| status(Some(&response.headers)))
}

/// Checks the gRPC status.
pub(crate) fn status(trailers: Option<&HeaderMap>) -> Result<(), Failure> {
    match trailers.and_then(|trailers| trailers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(()),
        Some(status) => Err(Failure::Grpc(String::from_utf8_lossy(status.as_bytes()).into_owned())),
        None => Err(Failure::NoStatus),
    }
}

/// Compares a body, piece by piece, with one message that is expected so many times.
pub(crate) struct Body {
    expected: Bytes,
    times: usize,
    seen: usize,
    equal: bool,
}

impl Body {
    /// `expected` is framed, and so never empty.
    pub(crate) fn new(expected: Bytes, times: usize) -> Self {
        Self { expected, times, seen: 0, equal: true }
    }

    pub(crate) fn piece(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let rest = &self.expected[self.seen % self.expected.len()..];
            let both = rest.len().min(piece.len());
            self.equal &= rest[..both] == piece[..both];
            self.seen += both;
            piece = &piece[both..];
        }
    }

    pub(crate) fn end(&self) -> Result<(), Failure> {
        if self.seen != self.expected.len() * self.times {
            return Err(Failure::Length(self.seen));
        }
        if self.equal { Ok(()) } else { Err(Failure::Content) }
    }
}

/// What became of the calls.
#[derive(Default)]
pub(crate) struct Tally {
    /// Of each call that succeeded.
    latencies: Vec<Duration>,
    failures: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, result: Result<Duration, Failure>) {
        match result {
            Ok(latency) => self.latencies.push(latency),
            Err(failure) => self.fail(failure.to_string(), 1),
        }
    }

    pub(crate) fn fail(&mut self, why: String, calls: u64) {
        *self.failures.entry(why).or_default() += calls;
    }

    /// Calls that ended, either way.
    pub(crate) fn ended(&self) -> u64 {
        self.latencies.len() as u64 + self.failed()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The report, with the calls divided by the time they took together.
    pub(crate) fn report(&mut self, took: Duration) -> serde_json::Value {
        self.latencies.sort_unstable();
        serde_json::json!({
            "calls": self.ended(),
            "failed": self.failed(),
            "failures": self.failures,
            "seconds": took.as_secs_f64(),
            "calls_per_second": self.latencies.len() as f64 / took.as_secs_f64(),
            "latency_us": {
                "p50": self.quantile(0.5),
                "p99": self.quantile(0.99),
                "max": self.quantile(1.0),
            },
        })
    }

    /// Microseconds below which that share of the (sorted) latencies lies; none without a success.
    fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1))?;
        Some(latency.as_nanos() as f64 / 1000.0)
    }
}
