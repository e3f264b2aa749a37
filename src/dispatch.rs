//! Sends a planned call to its variant and the answer to the caller: the only caller of upstreams.
//!
//! An attempt that the upstream provably never processed (never sent, refused, or above a GOAWAY's last stream) is
//! made again, at another endpoint where there is one, as long as all that was sent is still kept. Nothing else is
//! ever sent to the same variant twice; what another variant than the baseline fails at may go to the baseline, see
//! [`fallback`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Limits;
use crate::fault::{Blame, Code, Failure};
use crate::outcome::{self, Attempt};
use crate::protocol::{Adapter, Peek};
use crate::server::respond::Responder;
use crate::serving::Rollout;
use crate::telemetry::counter::Counter;
use crate::upstream::endpoint::Endpoint;
use crate::worker::Worker;

mod attempt;
pub mod budget;
pub mod download;
pub mod ending;
pub mod exchange;
pub mod fallback;
pub mod gather;
mod hold;
pub mod patience;
pub mod rename;
pub(crate) mod sending;
pub mod stall;
pub mod upload;

use attempt::Miss;
pub(crate) use attempt::{broken_by, is_refused};
use download::Received;
use hold::Hold;
use rename::Renaming;
use upload::Upload;

/// Attempts at one variant at most, transparent retries included.
const ATTEMPTS: usize = 4;
/// Every name that only the sidecar may set begins so.
const RESERVED: &str = "parhelion-";

/// A planned call on its way: everything that one attempt after the other needs.
pub struct Shipment<'a> {
    /// The worker it runs on.
    pub worker: &'a Worker,
    /// Whose call it is.
    pub rollout: &'a Rollout,
    /// Who answers it.
    pub answering: Answering,
    /// Bounds.
    pub limits: &'a Limits,
    /// The caller's request line.
    pub uri: &'a http::Uri,
    /// Request metadata as it came.
    pub headers: &'a HeaderMap,
    /// When the call arrived.
    pub arrived: Instant,
    /// The instant its deadline falls.
    pub deadline: Option<Instant>,
    /// Whether an endpoint that is not ready may be asked: only for questions about readiness itself.
    pub even_unready: bool,
    /// Whether another sidecar sent the call here.
    pub hopped: bool,
    /// Who reads the response; `None`: nobody does.
    pub reader: Option<(&'static dyn Adapter, Peek)>,
    /// What hangs on the call itself.
    pub origin: &'a dyn Origin,
}

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering {
    /// Index into the model's variants.
    pub variant: usize,
    /// The variant that should have, where it failed and this one stands in.
    pub instead_of: Option<usize>,
}

/// The call as its attempts see it: what they carry beside its own metadata, and what its answer bears.
pub trait Origin {
    /// `parhelion-hop` for an endpoint of that variant which may have a sidecar of its own.
    fn hop(&self, variant: usize) -> HeaderValue;
    /// Writes `traceparent` for an attempt, and returns the attempt's span.
    fn trace(&self, headers: &mut HeaderMap) -> u64;
    /// How messages are renamed for that variant, up and down; `None`: not at all.
    fn renaming(&self, variant: usize) -> Option<(Renaming, Renaming)>;
    /// Tags an answer's headers.
    fn tag(&self, answering: Answering, headers: &mut HeaderMap);
    /// The variant has failed, and another is about to answer: what was attempted so far is all that it shows.
    fn failed(&self, attempts: &[Attempt]);
}

/// Both ends of a call while attempts are made at one variant.
pub struct Leg<'l> {
    /// The caller's messages.
    pub upload: &'l mut Upload,
    /// The way back to the caller.
    pub respond: &'l mut Responder,
    /// What is written down on the way.
    pub journal: &'l mut Journal,
    /// What holds the answer back until its end is known; `None`: it streams as it comes.
    hold: Option<&'l Hold<'l>>,
}

impl<'l> Leg<'l> {
    /// One whose answer streams as it comes.
    pub fn new(upload: &'l mut Upload, respond: &'l mut Responder, journal: &'l mut Journal) -> Self {
        Leg { upload, respond, journal, hold: None }
    }
}

/// How a shipment ended.
#[derive(Debug)]
pub enum Delivery {
    /// The upstream's own answer is with the caller.
    Answered {
        /// As the upstream said it.
        status: Code,
        /// Its message.
        message: Option<Box<str>>,
    },
    /// The caller must be told this.
    Failed(Failure),
    /// The caller takes nothing any more, so it cannot be told this either: its stream is broken off.
    Stuck(Failure),
    /// Nobody is left to tell.
    Cancelled,
}

/// What is written down while a call is under way, so that it is there however the call ends.
#[derive(Debug, Default)]
pub struct Journal {
    /// Attempts so far; the last one may still run.
    pub attempts: Vec<Attempt>,
    /// What came back.
    pub received: Received,
    /// When enough of the request was read, since the call arrived.
    pub read: Duration,
    /// Whether the baseline was asked for what the assigned variant failed at.
    pub fell_back: bool,
    /// Why it was not, where it could have been.
    pub refused: Option<outcome::Fallback>,
    /// Where the last attempt was sent.
    endpoint: Option<Rc<Endpoint>>,
}

impl Journal {
    /// Writes down how the last attempt ended.
    pub fn close(&mut self, status: Code, blame: Blame, elapsed: Duration) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.status = status;
            attempt.blame = blame;
            attempt.elapsed = elapsed.saturating_sub(attempt.offset);
        }
    }

    /// Writes down that the last attempt was ended from outside, by `status`.
    pub fn expire(&mut self, status: Code, blame: Blame, elapsed: Duration) {
        self.close(status, blame, elapsed);
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| blame == Blame::Upstream) {
            endpoint.report(true, Instant::now());
        }
    }
}

impl Shipment<'_> {
    /// Makes attempts until one is processed.
    pub async fn deliver(&self, leg: &mut Leg<'_>) -> Delivery {
        let mut tried: Vec<Arc<str>> = Vec::new();
        loop {
            let upstream = &self.rollout.variants[self.answering.variant].upstream;
            let Some(endpoint) = upstream.choose(&tried, Instant::now(), self.even_unready).cloned() else {
                return Delivery::Failed(self.unavailable(&upstream.names(), &upstream.why()));
            };
            if self.hopped && endpoint.target().endpoint.hop {
                self.worker.counters.add(Counter::HopRefused);
                return Delivery::Failed(self.second_hop(&endpoint));
            }
            let load = endpoint.enter();
            let why = match self.attempt(&load, leg).await {
                Ok(delivery) | Err(Miss::Over(delivery)) => return delivery,
                Err(Miss::Unprocessed(why)) => why,
            };
            drop(load);
            tried.push(Arc::clone(endpoint.name()));
            if !leg.upload.is_repeatable() {
                self.worker.counters.add(Counter::RetriesTooLarge);
            }
            if !leg.upload.is_repeatable() || tried.len() >= ATTEMPTS || self.is_hopeless(&tried) {
                return Delivery::Failed(self.unavailable(endpoint.name(), &why));
            }
            self.worker.counters.add(Counter::RetriesTransparent);
            leg.upload.rewind();
        }
    }

    /// Whether every endpoint was tried, and the last one cannot even be connected to.
    fn is_hopeless(&self, tried: &[Arc<str>]) -> bool {
        let upstream = &self.rollout.variants[self.answering.variant].upstream;
        upstream
            .choose(tried, Instant::now(), self.even_unready)
            .is_none_or(|next| tried.contains(next.name()) && next.is_unreachable(Instant::now()))
    }

    fn place(&self, endpoint: &str) -> String {
        let model = &self.rollout.model;
        let variant = &model.variants[self.answering.variant].name;
        format!("model {}, variant {variant}, endpoint {endpoint}", model.name)
    }

    fn unavailable(&self, endpoint: &str, why: &str) -> Failure {
        Failure::upstream(Code::UNAVAILABLE, format!("{}: {why}", self.place(endpoint)))
    }

    fn second_hop(&self, endpoint: &Endpoint) -> Failure {
        let message = format!(
            "{}: this call came from another sidecar and may not be sent to a third; \
             the variant's endpoint must be the model server itself here",
            self.place(endpoint.name())
        );
        Failure::sidecar(Code::FAILED_PRECONDITION, message)
    }
}

/// Takes out metadata that only the sidecar may set.
pub fn strip_reserved(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| name.as_str().starts_with(RESERVED)) {
        return;
    }
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(RESERVED)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}
