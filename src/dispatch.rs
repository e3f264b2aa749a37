//! Sends a planned call to its variant and the answer to the caller: the only caller of upstreams.
//!
//! An attempt that the upstream provably never processed (never sent, refused, or above a GOAWAY's last stream) is
//! made again, at another endpoint where there is one, as long as all that was sent is still kept. Nothing else is
//! ever sent twice.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::config::Limits;
use crate::fault::Failure;
use crate::fault::{Blame, Code};
use crate::outcome::Attempt;
use crate::protocol::{Adapter, Peek, timeout};
use crate::server::respond::Responder;
use crate::serving::Rollout;
use crate::shadow::SHADOW;
use crate::telemetry::counter::Counter;
use crate::upstream::connection::InFlight;
use crate::upstream::endpoint::{Endpoint, Load};
use crate::worker::Worker;

pub mod download;
pub mod exchange;
pub mod rename;
pub(crate) mod sending;
pub mod stall;
pub mod upload;

use download::Received;
use exchange::{Debtor, End, Exchange, Terms};
use rename::{Renamer, Renaming};
use upload::Upload;

/// Attempts at one call at most, transparent retries included.
const ATTEMPTS: usize = 4;
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Every name that only the sidecar may set begins so.
const RESERVED: &str = "parhelion-";

/// A planned call on its way: everything that one attempt after the other needs.
pub struct Shipment<'a> {
    /// The worker it runs on.
    pub worker: &'a Worker,
    /// Whose call it is.
    pub rollout: &'a Rollout,
    /// The variant it is sent to, an index into the model's.
    pub variant: usize,
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
    /// How its messages are renamed, up and down.
    pub renaming: Option<(Renaming, Renaming)>,
    /// `parhelion-hop` for an endpoint that may have a sidecar of its own.
    pub hop: &'a dyn Fn() -> HeaderValue,
    /// Writes `traceparent` for an attempt, and returns the attempt's span.
    pub trace: &'a dyn Fn(&mut HeaderMap) -> u64,
    /// Who reads the response; `None`: nobody does.
    pub reader: Option<(&'static dyn Adapter, Peek)>,
    /// Tags the response's headers.
    pub tag: &'a dyn Fn(&mut HeaderMap),
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

/// Why an attempt gave no answer.
enum Miss {
    /// It was never processed: it may be made again.
    Unprocessed(String),
    /// The call is over.
    Over(Delivery),
}

impl Shipment<'_> {
    /// Makes attempts until one is processed.
    pub async fn deliver(
        &mut self,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Delivery {
        let mut tried: Vec<Arc<str>> = Vec::new();
        loop {
            let upstream = &self.rollout.variants[self.variant].upstream;
            let Some(endpoint) = upstream.choose(&tried, Instant::now(), self.even_unready).cloned() else {
                return Delivery::Failed(self.unavailable(&upstream.names(), &upstream.why()));
            };
            if self.hopped && endpoint.target().endpoint.hop {
                self.worker.counters.add(Counter::HopRefused);
                return Delivery::Failed(self.second_hop(&endpoint));
            }
            let load = endpoint.enter();
            let why = match self.attempt(&load, upload, respond, journal).await {
                Ok(delivery) | Err(Miss::Over(delivery)) => return delivery,
                Err(Miss::Unprocessed(why)) => why,
            };
            drop(load);
            tried.push(Arc::clone(endpoint.name()));
            if !upload.is_repeatable() {
                self.worker.counters.add(Counter::RetriesTooLarge);
            }
            if !upload.is_repeatable() || tried.len() >= ATTEMPTS || self.is_hopeless(&tried) {
                return Delivery::Failed(self.unavailable(endpoint.name(), &why));
            }
            self.worker.counters.add(Counter::RetriesTransparent);
            upload.rewind();
        }
    }

    /// Whether every endpoint was tried, and the last one cannot even be connected to.
    fn is_hopeless(&self, tried: &[Arc<str>]) -> bool {
        let upstream = &self.rollout.variants[self.variant].upstream;
        upstream
            .choose(tried, Instant::now(), self.even_unready)
            .is_none_or(|next| tried.contains(next.name()) && next.is_unreachable(Instant::now()))
    }

    async fn attempt(
        &mut self,
        load: &Load,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Result<Delivery, Miss> {
        let endpoint = load.endpoint();
        // One copy for each attempt, for `h2` keeps what it is given.
        let mut headers = self.headers.clone();
        strip_reserved(&mut headers);
        if let Some(shadow) = self.headers.get(SHADOW).filter(|_| self.hopped) {
            // Another sidecar of ours says so: the server behind this one must know too.
            headers.insert(SHADOW, shadow.clone());
        }
        if self.renaming.is_some() {
            // A renamed message has another length.
            headers.remove(http::header::CONTENT_LENGTH);
        }
        journal.attempts.push(Attempt {
            span: (self.trace)(&mut headers),
            variant: self.variant,
            endpoint: Arc::clone(endpoint.name()),
            offset: self.arrived.elapsed(),
            elapsed: Duration::ZERO,
            status: Code::CANCELLED,
            blame: Blame::Nobody,
        });
        journal.endpoint = Some(Rc::clone(endpoint));
        let connecting = tokio::select! {
            biased;
            connecting = endpoint.connection() => connecting,
            () = std::future::poll_fn(|cx| respond.poll_gone(cx)) => return Err(Miss::Over(Delivery::Cancelled)),
        };
        let connection = match connecting {
            Ok(connection) => connection,
            Err(why) => {
                endpoint.report(true, Instant::now());
                return Err(self.unprocessed(journal, why));
            }
        };
        if is_gone(respond).await {
            journal.close(Code::CANCELLED, Blame::Nobody, self.arrived.elapsed());
            return Ok(Delivery::Cancelled);
        }
        if let Some(deadline) = self.deadline {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                // Too late to be sent; the timer that ends the call says so.
                std::future::pending::<()>().await;
            }
            let mut rest = timeout::encode(rest);
            // Hardly seen again: not for the HPACK tables.
            rest.set_sensitive(true);
            headers.insert(GRPC_TIMEOUT, rest);
        }
        if endpoint.target().endpoint.hop {
            headers.insert(crate::hop::HEADER, (self.hop)());
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let mut sender = connection.sender();
        let (response, stream) = match sender.send_request(request, false) {
            Ok(opened) => opened,
            Err(error) => return Err(self.unprocessed(journal, error.to_string())),
        };
        let id = response.stream_id().as_u32();
        let place = connection.enter(id);
        let (up, down) = self.renaming.clone().unzip();
        let encoding = self.headers.get("grpc-encoding").cloned();
        let renamer = up.map(|renaming| Renamer::new(renaming, encoding, self.limits.message.bytes()));
        let terms = Terms {
            reader: self.reader,
            renaming: down,
            message: self.limits.message.bytes(),
            clock: &self.worker.stalls,
            tag: self.tag,
            received: &mut journal.received,
            tee: upload.tee().cloned(),
        };
        let mut exchange = Exchange::new(upload, respond, (response, stream), renamer, terms);
        let end = exchange.run().await;
        if !matches!(end, End::Answered { .. }) {
            exchange.cancel();
        }
        drop(exchange);
        self.conclude(end, id, &place, endpoint, respond, journal)
    }

    /// Reads an exchange's end: whose fault it was, and whether the call is over.
    fn conclude(
        &self,
        end: End,
        stream: u32,
        place: &InFlight,
        endpoint: &Endpoint,
        respond: &Responder,
        journal: &mut Journal,
    ) -> Result<Delivery, Miss> {
        let (status, blame, result) = match end {
            End::Answered { status, message } => {
                place.complete();
                let mut blame = status.blame(self.had_time(journal));
                if status == Code::OK && journal.received.learnt.in_band_error.is_some() {
                    blame = Blame::Upstream;
                }
                (status, blame, Ok(Delivery::Answered { status, message }))
            }
            End::Broken(error) => {
                place.complete();
                let connection = place.connection();
                let refused = is_refused(&error);
                if respond.is_silent() && (refused || connection.never_processed(stream)) {
                    return Err(self.unprocessed(journal, error.to_string()));
                }
                let failure = self.broken(endpoint, &error);
                (failure.code, failure.blame, Err(Miss::Over(Delivery::Failed(failure))))
            }
            End::Cancelled => (Code::CANCELLED, Blame::Nobody, Err(Miss::Over(Delivery::Cancelled))),
            End::RequestTooLarge(error) => self.too_large("the request", Blame::Client, &error),
            End::ResponseTooLarge(error) => self.too_large("the response", Blame::Upstream, &error),
            End::Stalled(who) => self.stalled(who),
        };
        let now = Instant::now();
        journal.close(status, blame, now - self.arrived);
        let gray = blame == Blame::Upstream
            && (result.is_err() || matches!(status, Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED));
        if gray || result.is_ok() {
            endpoint.report(gray, now);
        }
        result
    }

    /// Whether the deadline gave the last attempt at least `limits.min_deadline`.
    fn had_time(&self, journal: &Journal) -> bool {
        let began = journal.attempts.last().map_or(self.arrived, |attempt| self.arrived + attempt.offset);
        self.deadline
            .is_none_or(|deadline| deadline.saturating_duration_since(began) >= self.limits.min_deadline)
    }

    fn unprocessed(&self, journal: &mut Journal, why: String) -> Miss {
        journal.close(Code::UNAVAILABLE, Blame::Upstream, self.arrived.elapsed());
        Miss::Unprocessed(why)
    }

    fn too_large(
        &self,
        what: &str,
        blame: Blame,
        error: &dyn std::fmt::Display,
    ) -> (Code, Blame, Result<Delivery, Miss>) {
        self.worker.counters.add(Counter::ShedMessage);
        let failure = Failure {
            code: Code::RESOURCE_EXHAUSTED,
            message: format!("{what}: {error} (limits.message)"),
            blame,
        };
        (failure.code, blame, Err(Miss::Over(Delivery::Failed(failure))))
    }

    fn stalled(&self, who: Debtor) -> (Code, Blame, Result<Delivery, Miss>) {
        self.worker.counters.add(Counter::Stalls);
        let (name, blame) = match who {
            Debtor::Caller | Debtor::Reader => ("the caller", Blame::Client),
            Debtor::Server => ("the model server", Blame::Upstream),
        };
        let stall = self.limits.stall;
        let message = format!("{name} left the stream standing for {stall:?} (limits.stall)");
        let failure = Failure { code: Code::UNAVAILABLE, message, blame };
        let delivery =
            if who == Debtor::Reader { Delivery::Stuck(failure) } else { Delivery::Failed(failure) };
        (Code::UNAVAILABLE, blame, Err(Miss::Over(delivery)))
    }

    fn place(&self, endpoint: &str) -> String {
        let model = &self.rollout.model;
        format!("model {}, variant {}, endpoint {endpoint}", model.name, model.variants[self.variant].name)
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

    /// The upstream reset the stream, or its connection broke.
    fn broken(&self, endpoint: &Endpoint, error: &h2::Error) -> Failure {
        let code = broken_by(error);
        let blame = if code == Code::CANCELLED { Blame::Nobody } else { Blame::Upstream };
        Failure { code, message: format!("{}: {error}", self.place(endpoint.name())), blame }
    }
}

/// Whether the upstream says that it never processed the stream.
pub(crate) fn is_refused(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// What it means that an upstream reset the stream, or that its connection broke.
pub(crate) fn broken_by(error: &h2::Error) -> Code {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Code::from_reset(reason.into()),
        Some(_) if error.is_library() => Code::INTERNAL,
        _ => Code::UNAVAILABLE,
    }
}

/// Whether the caller has left already. A stream that is opened only to be reset looks like a flood to the upstream, and
/// it may end the connection that all calls share.
async fn is_gone(respond: &mut Responder) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(respond.poll_gone(cx).is_ready())).await
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
