//! What the demo's callers learn after an answer: whether it was right. They report it with the prediction id that the
//! answer carried, in one stream to `parhelion.v1.Feedback` on the sidecar's data port.
//!
//! Reports go beside the calls and hold none of them up: what cannot be sent at once is left out, and counted.

use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::caller::Answer;
use crate::pb::v1::feedback_client::FeedbackClient;
use crate::pb::v1::feedback_report::Value;
use crate::pb::v1::{FeedbackReport, FeedbackSummary};
use crate::tasks::Tasks;

/// What the configuration calls it: 1 where the answer was the true digit, else 0.
pub const NAME: &str = "right";

/// Reports that wait to be sent: those of two seconds at the usual pace.
const WAITING: usize = 1024;

/// The stream of reports.
#[derive(Debug)]
pub struct Reporter {
    reports: mpsc::Sender<FeedbackReport>,
    summary: oneshot::Receiver<Result<FeedbackSummary, tonic::Status>>,
    left_out: u64,
}

/// What became of all reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// Reports that reached the sidecar.
    pub received: u64,
    /// Of these: taken.
    pub counted: u64,
    /// What went wrong, in words; none: nothing.
    pub wrong: Option<String>,
}

impl Reporter {
    /// Opens the stream to the sidecar at `data`.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn start(data: SocketAddr, tasks: &Tasks) -> Result<Reporter, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{data}"))?.connect().await?;
        let (reports, waiting) = mpsc::channel(WAITING);
        let (tell, summary) = oneshot::channel();
        tasks.spawn("demo reporter", async move {
            let told = FeedbackClient::new(channel).report_stream(ReceiverStream::new(waiting)).await;
            // Nobody listens where the demo was interrupted.
            let _ = tell.send(told.map(tonic::Response::into_inner));
        });
        Ok(Reporter { reports, summary, left_out: 0 })
    }

    /// Reports whether an answer was right.
    pub fn report(&mut self, answer: &Answer) {
        let number = f64::from(u8::from(answer.said == answer.label));
        let report = FeedbackReport {
            prediction_id: answer.prediction.clone(),
            name: NAME.to_owned(),
            value: Some(Value::Number(number)),
            ..FeedbackReport::default()
        };
        self.left_out += u64::from(self.reports.try_send(report).is_err());
    }

    /// Ends the stream, and says what the sidecar made of it.
    pub async fn end(self) -> Reported {
        let Reporter { reports, summary, left_out } = self;
        drop(reports);
        let told = summary.await;
        Reported::of(told.unwrap_or_else(|_| Err(tonic::Status::aborted("the reporter ended"))), left_out)
    }
}

impl Reported {
    fn of(told: Result<FeedbackSummary, tonic::Status>, left_out: u64) -> Reported {
        let summary = match told {
            Ok(summary) => summary,
            Err(status) => {
                let wrong = format!("{:?}: {}", status.code(), status.message());
                return Reported { wrong: Some(wrong), ..Reported::default() };
            }
        };
        let wrong = match (summary.refusals.first(), left_out) {
            (Some(first), _) => {
                Some(format!("{} were refused, the first for: {}", summary.refused, first.message))
            }
            (None, 1..) => Some(format!("{left_out} came too fast to be sent")),
            (None, 0) => None,
        };
        Reported { received: summary.received, counted: summary.counted, wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::FeedbackRefusal;

    #[test]
    fn whatever_was_not_counted_is_said() {
        let summary = FeedbackSummary { received: 9, counted: 9, ..FeedbackSummary::default() };
        let well = Reported::of(Ok(summary.clone()), 0);
        assert_eq!(well, Reported { received: 9, counted: 9, wrong: None });
        assert_eq!(Reported::of(Ok(summary.clone()), 2).wrong.unwrap(), "2 came too fast to be sent");
        let refusals =
            vec![FeedbackRefusal { message: "the id is altered".into(), ..FeedbackRefusal::default() }];
        let refused = FeedbackSummary { counted: 8, refused: 1, refusals, ..summary };
        let said = Reported::of(Ok(refused), 0).wrong.unwrap();
        assert_eq!(said, "1 were refused, the first for: the id is altered");
        let said = Reported::of(Err(tonic::Status::unimplemented("no such service")), 0).wrong.unwrap();
        assert_eq!(said, "Unimplemented: no such service");
    }
}
