//! `parhelion.v1.Feedback` on the data port: the only paths there that are not the model's.
//!
//! tonic reads and writes the messages; between it and the connection stands what a call of a model has too: its
//! deadline, the caller's cancellation, flow control, and the end of the process.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

use super::{At, Door, Evidence, Receipt, Refusal, Report, Taken, Value};
use crate::fault::{Blame, Code, Failure};
use crate::outcome::Trace;
use crate::pb::v1::feedback_receipt::{Evidence as ProtoEvidence, Result as ProtoResult};
use crate::pb::v1::feedback_report;
use crate::pb::v1::feedback_server::{Feedback, FeedbackServer};
use crate::pb::v1::{FeedbackReceipt, FeedbackRefusal, FeedbackReport, FeedbackSummary};
use crate::server::respond::Responder;
use crate::server::{Admitted, Inbound};
use crate::worker::Worker;

/// Paths of the service begin so.
pub const PREFIX: &str = "/parhelion.v1.Feedback/";
/// The longest report.
const MAX_MESSAGE: usize = 16 * 1024;
/// Refusals of a stream that its summary tells.
const TOLD: usize = 20;

/// Answers a call whose path begins with [`PREFIX`].
pub async fn serve(worker: &Worker, admitted: Admitted) {
    let Admitted { inbound: Inbound { head, body, mut respond, arrived, started }, timeout } = admitted;
    let (trace, _) = worker.identify(&head.headers, started);
    let mut server = FeedbackServer::new(Reporter { door: worker.feedback.clone(), trace })
        .max_decoding_message_size(MAX_MESSAGE);
    let request = http::Request::from_parts(head, Incoming(body));
    let deadline = timeout.and_then(|timeout| arrived.checked_add(timeout));
    let answer = async {
        let answer = match server.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        answer_with(answer, &mut respond).await;
    };
    let expired = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    let ended = {
        let mut answer = pin!(answer);
        tokio::select! {
            biased;
            () = &mut answer => None,
            () = expired => Some((Code::DEADLINE_EXCEEDED, "the deadline fell before the last report came")),
            () = worker.cut.notified() => Some((Code::UNAVAILABLE, "the sidecar has ended; report again")),
        }
    };
    if let Some((code, message)) = ended {
        let message = message.to_owned();
        respond.fail(&Failure { code, message, blame: Blame::Nobody }, HeaderMap::new());
    }
}

/// Hands tonic's answer on.
async fn answer_with(answer: http::Response<tonic::body::Body>, respond: &mut Responder) {
    let (head, body) = answer.into_parts();
    let ended = body.is_end_stream();
    // Whoever left needs no answer: here and below an error says just that.
    if respond.headers(head.status, head.headers, ended).is_err() || ended {
        return;
    }
    let mut body = pin!(body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else { return respond.reset(h2::Reason::INTERNAL_ERROR) };
        match frame.into_data() {
            // An answer is a few kilobytes at most, so it may wait for the caller's window in memory.
            Ok(data) => {
                let Some(stream) = respond.stream() else { return };
                if stream.send_data(data.into(), false).is_err() {
                    return;
                }
            }
            Err(frame) => {
                let _ = respond.trailers(frame.into_trailers().unwrap_or_default());
                return;
            }
        }
    }
    if let Some(stream) = respond.stream() {
        let _ = stream.send_data(Bytes::new().into(), true);
    }
    respond.end();
}

/// A caller's messages as tonic reads them; what it has taken is given back to the caller's window.
struct Incoming(RecvStream);

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.0.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                let released = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(released.map(|()| Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The service, for one call.
struct Reporter {
    door: Door,
    trace: Trace,
}

#[tonic::async_trait]
impl Feedback for Reporter {
    async fn report(&self, request: Request<FeedbackReport>) -> Result<Response<FeedbackReceipt>, Status> {
        let report = Report::from(request.into_inner());
        let receipt = self.door.report(&report, Some(&self.trace)).map_err(|refusal| status(&refusal))?;
        Ok(Response::new(receipt.into()))
    }

    async fn report_stream(
        &self,
        request: Request<Streaming<FeedbackReport>>,
    ) -> Result<Response<FeedbackSummary>, Status> {
        let mut reports = request.into_inner();
        let mut summary = FeedbackSummary::default();
        let mut since = Instant::now();
        while let Some(report) = reports.message().await? {
            self.add(report.into(), &mut summary);
            // Reports that came at once are taken at once, and calls of this worker must not wait for all of them.
            if since.elapsed() > super::TURN {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
        Ok(Response::new(summary))
    }
}

impl Reporter {
    fn add(&self, report: Report, summary: &mut FeedbackSummary) {
        let index = summary.received;
        summary.received += 1;
        match self.door.report(&report, Some(&self.trace)) {
            Ok(Receipt { taken: Taken::First | Taken::Joined, .. }) => summary.counted += 1,
            Ok(_) => summary.repeated += 1,
            Err(refusal) => {
                summary.refused += 1;
                if summary.refusals.len() < TOLD {
                    let (code, message) = (refusal.code().0, refusal.to_string());
                    summary.refusals.push(FeedbackRefusal { index, code, message });
                }
            }
        }
    }
}

fn status(refusal: &Refusal) -> Status {
    Status::new(tonic::Code::from(refusal.code().0.cast_signed()), refusal.to_string())
}

impl From<FeedbackReport> for Report {
    fn from(report: FeedbackReport) -> Self {
        let value = report.value.map(|value| match value {
            feedback_report::Value::Number(number) => Value::Number(number),
            feedback_report::Value::Label(label) => Value::Label(label),
        });
        let place = report.place.map(|place| match place {
            feedback_report::Place::Slot(slot) => At::Slot(slot),
            feedback_report::Place::Item(item) => At::Item(item),
        });
        let FeedbackReport { prediction_id, name, id, at_unix_ms, row, .. } = report;
        Report { prediction: prediction_id, name, value, id, at: at_unix_ms, place, row }
    }
}

impl From<Receipt> for FeedbackReceipt {
    fn from(receipt: Receipt) -> Self {
        let result = match receipt.taken {
            Taken::First => ProtoResult::First,
            Taken::Joined => ProtoResult::Joined,
            Taken::Unchanged => ProtoResult::Unchanged,
            Taken::Repeated => ProtoResult::Repeated,
        };
        let evidence = match receipt.evidence {
            Evidence::Now => ProtoEvidence::Now,
            Evidence::AtClose => ProtoEvidence::AtClose,
            Evidence::Kind => ProtoEvidence::NotKind,
            Evidence::Certain => ProtoEvidence::NotCertain,
            Evidence::Revision => ProtoEvidence::NotRevision,
            Evidence::Session => ProtoEvidence::NotSession,
        };
        FeedbackReceipt { result: result.into(), evidence: evidence.into(), value: receipt.value }
    }
}
