//! One attempt at one endpoint: its headers, its exchange, and what its end says about whom.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request};

use super::ending::{Debtor, End};
use super::exchange::{Exchange, Terms};
use super::rename::Renamer;
use super::{Delivery, Journal, Leg, Shipment, strip_reserved};
use crate::fault::{Blame, Code, Failure};
use crate::outcome::Attempt;
use crate::protocol::{encoding, timeout};
use crate::server::respond::Responder;
use crate::serving::retag;
use crate::shadow::SHADOW;
use crate::telemetry::counter::Counter;
use crate::upstream::connection::{InFlight, Unopened};
use crate::upstream::endpoint::{Endpoint, Load};

/// Why an attempt gave no answer.
pub(super) enum Miss {
    /// It was never processed: it may be made again.
    Unprocessed(String),
    /// The call is over.
    Over(Delivery),
}

impl Shipment<'_> {
    pub(super) async fn attempt(&self, load: &Load, leg: &mut Leg<'_>) -> Result<Delivery, Miss> {
        let endpoint = load.endpoint();
        let renaming = self.origin.renaming(self.answering.variant);
        let runs = self.rollout.runs(self.answering.variant, endpoint);
        let mut headers = self.metadata(renaming.is_some());
        leg.journal.attempts.push(Attempt {
            span: self.origin.trace(&mut headers),
            variant: self.answering.variant,
            endpoint: Arc::clone(endpoint.name()),
            runs: runs.clone(),
            offset: self.arrived.elapsed(),
            elapsed: Duration::ZERO,
            status: Code::CANCELLED,
            blame: Blame::Nobody,
        });
        leg.journal.endpoint = Some(Rc::clone(endpoint));
        let connecting = tokio::select! {
            biased;
            connecting = endpoint.connection() => connecting,
            () = std::future::poll_fn(|cx| leg.respond.poll_gone(cx)) => return Err(Miss::Over(Delivery::Cancelled)),
        };
        let connection = match connecting {
            Ok(connection) => connection,
            Err(why) => {
                endpoint.report(true, Instant::now());
                return Err(self.unprocessed(leg.journal, why));
            }
        };
        if is_gone(leg.respond).await {
            leg.journal.close(Code::CANCELLED, Blame::Nobody, self.arrived.elapsed());
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
            headers.insert(timeout::HEADER.clone(), rest);
        }
        if endpoint.target().endpoint.hop {
            headers.insert(crate::hop::HEADER, self.origin.hop(self.answering.variant));
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let (response, stream) = match connection.open(request) {
            Ok(opened) => opened,
            Err(why @ Unopened::TooLarge { .. }) => return Ok(self.unsendable(leg.journal, &why)),
            Err(Unopened::Closed(error)) => return Err(self.unprocessed(leg.journal, error.to_string())),
        };
        let id = response.stream_id().as_u32();
        let ahead = connection.ahead();
        let place = connection.enter(id);
        let (up, down) = renaming.unzip();
        let encoding = self.headers.get(&encoding::HEADER).cloned();
        let renamer = up.map(|renaming| Renamer::new(renaming, encoding, self.limits.message.bytes()));
        let terms = Terms {
            reader: self.reader,
            renaming: down,
            message: self.limits.message.bytes(),
            clock: &self.worker.stalls,
            tag: &|headers| {
                self.origin.tag(self.answering, headers);
                retag(&runs, headers);
            },
            received: &mut leg.journal.received,
            tee: leg.upload.tee().cloned(),
            ahead,
            hold: leg.hold,
        };
        let mut exchange = Exchange::new(leg.upload, leg.respond, (response, stream), renamer, terms);
        let end = exchange.run().await;
        if !matches!(end, End::Answered { .. } | End::GivenUp(_)) {
            exchange.cancel();
        }
        drop(exchange);
        self.conclude(end, id, &place, endpoint, leg)
    }

    /// The caller's metadata as an attempt carries it: one copy for each, for `h2` keeps what it is given.
    pub(super) fn metadata(&self, renamed: bool) -> HeaderMap {
        let mut headers = self.headers.clone();
        strip_reserved(&mut headers);
        if let Some(shadow) = self.headers.get(SHADOW).filter(|_| self.hopped) {
            // Another sidecar of ours says so: the server behind this one must know too.
            headers.insert(SHADOW, shadow.clone());
        }
        if renamed {
            // A renamed message has another length.
            headers.remove(http::header::CONTENT_LENGTH);
        }
        headers
    }

    /// Reads an exchange's end: whose fault it was, and whether the call is over.
    fn conclude(
        &self,
        end: End,
        stream: u32,
        place: &InFlight,
        endpoint: &Endpoint,
        leg: &mut Leg<'_>,
    ) -> Result<Delivery, Miss> {
        let (status, blame, result) = match end {
            End::Answered { status, message } => {
                place.complete();
                (status, self.blame(status, leg.journal), Ok(Delivery::Answered { status, message }))
            }
            End::GivenUp(status) => {
                place.complete();
                let blame = self.blame(status, leg.journal);
                let message = format!("{}: answered {status}", self.place(endpoint.name()));
                (status, blame, Ok(Delivery::Failed(Failure { code: status, message, blame })))
            }
            End::Broken(error) => {
                place.complete();
                let connection = place.connection();
                let refused = is_refused(&error);
                if leg.respond.is_silent() && (refused || connection.never_processed(stream)) {
                    return Err(self.unprocessed(leg.journal, error.to_string()));
                }
                let failure = self.broken(endpoint, &error, leg.journal);
                (failure.code, failure.blame, Err(Miss::Over(Delivery::Failed(failure))))
            }
            End::Cancelled => (Code::CANCELLED, Blame::Nobody, Err(Miss::Over(Delivery::Cancelled))),
            End::RequestTooLarge(error) => self.too_large("the request", Blame::Client, &error),
            End::ResponseTooLarge(error) => self.too_large("the response", Blame::Upstream, &error),
            End::Stalled(who) => self.stalled(who),
        };
        let now = Instant::now();
        leg.journal.close(status, blame, now - self.arrived);
        let gray = blame == Blame::Upstream
            && (result.is_err() || matches!(status, Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED));
        if gray || result.is_ok() {
            endpoint.report(gray, now);
        }
        if !gray && matches!(result, Ok(Delivery::Answered { .. })) {
            endpoint.answered();
        }
        result
    }

    /// Whose fault a status is that the upstream sent, after all that it sent before.
    fn blame(&self, status: Code, journal: &Journal) -> Blame {
        let received = &journal.received;
        if status == Code::OK && (received.misframed || received.learnt.in_band_error.is_some()) {
            return Blame::Upstream;
        }
        status.blame(self.had_time(journal))
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

    /// The call has more headers than the endpoint takes: nothing was sent, and no other endpoint is asked.
    fn unsendable(&self, journal: &mut Journal, why: &Unopened) -> Delivery {
        self.worker.counters.add(Counter::ShedHeaders);
        journal.close(Code::RESOURCE_EXHAUSTED, Blame::Client, self.arrived.elapsed());
        Delivery::Failed(Failure {
            code: Code::RESOURCE_EXHAUSTED,
            message: why.to_string(),
            blame: Blame::Client,
        })
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

    /// The upstream reset the stream, or its connection broke.
    fn broken(&self, endpoint: &Endpoint, error: &h2::Error, journal: &Journal) -> Failure {
        let code = broken_by(error);
        // The caller is still there: a server that cancels has failed, or found its deadline gone.
        let nobody = code == Code::CANCELLED && !self.had_time(journal);
        let blame = if nobody { Blame::Nobody } else { Blame::Upstream };
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
