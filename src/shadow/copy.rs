//! One copy as a task: sent, waited for, held beside its call's answer, and handed over to be compared.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::Shadow;
use super::exchange::{End, Facts, exchange, primary};
use super::ledger::{Beside, Ticket};
use super::link::{Answers, Link};
use super::pair::Pair;
use super::record::{CopyOutcome, PrimaryEnd, Skip};
use super::tee::Original;
use crate::failpoint;
use crate::fault::{Blame, Code};
use crate::outcome::Trace;
use crate::protocol::Peek;
use crate::protocol::frame::{Event, Messages};
use crate::serving::suffix;
use crate::worker::Worker;

/// A copy that shall be sent.
pub(super) struct Job {
    pub(super) worker: Rc<Worker>,
    pub(super) shadow: Rc<Shadow>,
    pub(super) call: Rc<Original>,
    /// Its own, of which its span is the root.
    pub(super) trace: Trace,
    pub(super) ticket: Ticket,
    /// When its deadline falls; set when it starts.
    pub(super) until: Instant,
}

/// What the end of a copy means.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    skipped: Option<Skip>,
    status: Code,
    blame: Blame,
    cause: Option<&'static str>,
    /// What the breaker is told; `None`: nothing was learnt of the shadow.
    failed: Option<bool>,
}

/// What the messages of an answer say.
#[derive(Debug, Default)]
struct Said {
    /// The version that the first of them names.
    version: Option<Box<str>>,
    /// Whether one is an error inside an OK stream.
    in_band_error: bool,
}

/// Whose fault an end is, and whether the call counts as copied: it does once its whole request was sent, or the
/// shadow itself ended it.
fn judge(end: &End, facts: &Facts, in_band_error: bool) -> Judged {
    let copied =
        |status, cause| Judged { skipped: None, status, blame: Blame::Upstream, cause, failed: Some(true) };
    match end {
        End::Answered(Code::OK) if in_band_error => {
            Judged { failed: Some(false), ..copied(Code::OK, Some("in_band")) }
        }
        End::Answered(code) => Judged {
            blame: code.blame(true),
            failed: Some(matches!(*code, Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED)),
            ..copied(*code, None)
        },
        End::Broken(code) => {
            let blame = if *code == Code::CANCELLED { Blame::Nobody } else { Blame::Upstream };
            Judged { blame, ..copied(*code, None) }
        }
        End::Framing => copied(Code::INTERNAL, Some("framing")),
        End::ResponseCap => copied(Code::RESOURCE_EXHAUSTED, Some("response_cap")),
        End::Unreachable => Judged { skipped: Some(Skip::Unreachable), ..copied(Code::UNAVAILABLE, None) },
        End::Expired => {
            let late = facts.whole || facts.owed;
            Judged {
                skipped: (!facts.whole).then_some(Skip::Deadline),
                blame: if late { Blame::Upstream } else { Blame::Nobody },
                failed: late.then_some(true),
                ..copied(Code::DEADLINE_EXCEEDED, Some("deadline"))
            }
        }
        End::Left(skip) => Judged {
            skipped: (!facts.whole).then_some(*skip),
            blame: Blame::Nobody,
            failed: None,
            ..copied(Code::CANCELLED, Some(skip.name()))
        },
    }
}

impl Job {
    /// What to append to requests for `asked` so that the shadow's server knows the model.
    pub(super) fn suffix(&self, asked: &str) -> Bytes {
        suffix(&self.shadow.variant, asked, self.call.adapter)
    }

    /// Starts it as a task of its own.
    pub(super) fn start(mut self, link: Rc<Link>) {
        self.until = Instant::now() + self.shadow.config.deadline;
        let copies = self.shadow.copies.clone();
        copies.spawn("copy", self.run(link));
    }

    async fn run(mut self, link: Rc<Link>) {
        failpoint::panics("copy");
        let (started, begun) = (SystemTime::now(), Instant::now());
        let mut facts = Facts::default();
        let until = self.until.into();
        let end = tokio::time::timeout_at(until, exchange(&self, &link, &mut facts)).await;
        let end = end.unwrap_or(End::Expired);
        let latency = begun.elapsed();
        link.sent();
        let said = self.said(&link);
        let judged = judge(&end, &facts, said.in_band_error);
        if let Some(failed) = judged.failed {
            self.ticket.report(failed, Instant::now());
        }
        match judged.skipped {
            Some(skip) => self.ticket.skipped(skip),
            None => self.ticket.copied(judged.status, judged.blame, latency),
        }
        // A call that is answered later than this was not answered for the comparison.
        let primary_end = tokio::time::timeout_at(until, primary(&link)).await.ok().flatten();
        if judged.skipped.is_none() {
            self.ticket.beside(primary_end.map(|end| (end.latency, end.blame())));
        }
        // What is compared is held until it was, whoever has it.
        let comparable = primary_end.is_some_and(|end| !end.cancelled)
            && judged.failed.is_some()
            && judged.skipped.is_none();
        let answers = link.take_answers().filter(|_| comparable);
        let held = answers.as_ref().map(|answers| self.ticket.state().beside(answers.cost()));
        let request_bytes = link.request_bytes();
        let ended = Ended { judged, facts, primary_end, latency, started, request_bytes, said };
        // What it held is given back before anybody is told that it ended.
        link.over();
        self.hand_over(ended, comparable, answers.zip(held));
    }

    /// What the messages of the shadow's answer say, where they were held and can be read.
    fn said(&self, link: &Link) -> Said {
        let Some(peek) = self.call.peek else { return Said::default() };
        link.with_shadow(|chunks| Some(said(self.call.adapter, peek, chunks))).unwrap_or_default()
    }

    fn hand_over(self, ended: Ended, comparable: bool, answers: Option<(Answers, Beside)>) {
        let Ended { judged, facts, primary_end, latency, started, .. } = ended;
        let call = &self.call;
        let outcome = CopyOutcome {
            prediction: call.prediction,
            primary: (call.trace.trace_id, call.trace.span_id),
            primary_end,
            trace: self.trace.clone(),
            started,
            path: call.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            protocol: call.adapter.name(),
            model: Arc::clone(&self.shadow.model),
            variant: Arc::clone(&self.shadow.variant),
            role: self.shadow.role,
            endpoint: facts.endpoint,
            skipped: judged.skipped,
            status: judged.status,
            cause: judged.cause,
            blame: judged.blame,
            latency,
            request_bytes: ended.request_bytes,
            response_bytes: facts.bytes,
            response_messages: facts.messages,
            reported_version: ended.said.version,
            comparison: None,
            verdict: None,
        };
        let pair = Pair {
            outcome,
            comparable,
            answers,
            peek: call.peek,
            limit: call.message,
            controlled: call.controlled.get(),
            series: Arc::clone(self.ticket.state().series()),
        };
        if !self.worker.recorder.hand_over(pair) {
            self.ticket.crowded();
        }
    }
}

struct Ended {
    judged: Judged,
    facts: Facts,
    primary_end: Option<PrimaryEnd>,
    latency: Duration,
    started: SystemTime,
    request_bytes: u64,
    said: Said,
}

/// What the held messages of an answer say. Only a stream can say an error after its first message.
fn said(adapter: &'static dyn crate::protocol::Adapter, peek: Peek, chunks: &[Bytes]) -> Said {
    let mut messages = Messages::new(usize::MAX);
    let mut scan = None;
    let mut said = Said::default();
    for chunk in chunks {
        let walked = messages.walk(chunk, |event| match event {
            Event::Start { compressed: 0, length } => {
                scan = Some(adapter.response_scan(peek, length as usize))
            }
            Event::Start { .. } => scan = None,
            Event::Payload(part) => {
                // An answer that cannot be read says nothing.
                let _ = scan.as_mut().map(|scan| scan.feed(part));
            }
            Event::End => {
                if let Some(mut scan) = scan.take() {
                    let _ = scan.finish();
                    said.version = said.version.take().or_else(|| scan.reported_version().map(Into::into));
                    said.in_band_error |= scan.in_band_error().is_some();
                }
            }
        });
        if walked.is_err() || peek == Peek::Unary && said.version.is_some() {
            break;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(whole: bool, owed: bool) -> Facts {
        Facts { whole, owed, ..Facts::default() }
    }

    #[test]
    fn an_answer_counts_whatever_it_says() {
        let judged = judge(&End::Answered(Code::INTERNAL), &facts(false, true), false);
        assert_eq!((judged.skipped, judged.blame, judged.failed), (None, Blame::Upstream, Some(false)));
        let judged = judge(&End::Answered(Code::UNAVAILABLE), &facts(true, true), false);
        assert_eq!(judged.failed, Some(true));
        let judged = judge(&End::Answered(Code::INVALID_ARGUMENT), &facts(true, true), false);
        assert_eq!((judged.blame, judged.failed), (Blame::Rejection, Some(false)));
    }

    #[test]
    fn an_error_inside_an_ok_stream_is_the_shadows() {
        let adapter = crate::protocol::recognise("/inference.GRPCInferenceService/ModelStreamInfer");
        // An answer without a word, then `error_message: "bad"`.
        let answer = Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\x05\x0a\x03bad");
        let heard = said(adapter, Peek::Stream, &[answer.slice(..7), answer.slice(7..)]);
        let judged = judge(&End::Answered(Code::OK), &facts(true, true), heard.in_band_error);
        let found = (judged.blame, judged.cause, judged.failed);
        assert_eq!(found, (Blame::Upstream, Some("in_band"), Some(false)));
        assert!(!said(adapter, Peek::Stream, &[answer.slice(..5)]).in_band_error);
    }

    #[test]
    fn what_was_not_sent_whole_was_not_copied() {
        for (end, whole, owed, skipped, blame, failed) in [
            (End::Expired, true, true, None, Blame::Upstream, Some(true)),
            (End::Expired, false, true, Some(Skip::Deadline), Blame::Upstream, Some(true)),
            (End::Expired, false, false, Some(Skip::Deadline), Blame::Nobody, None),
            (End::Left(Skip::Cancelled), true, true, None, Blame::Nobody, None),
            (End::Left(Skip::Cancelled), false, true, Some(Skip::Cancelled), Blame::Nobody, None),
            (End::Left(Skip::BytesCap), false, false, Some(Skip::BytesCap), Blame::Nobody, None),
            (End::Unreachable, false, true, Some(Skip::Unreachable), Blame::Upstream, Some(true)),
            (End::Framing, true, true, None, Blame::Upstream, Some(true)),
            (End::ResponseCap, false, false, None, Blame::Upstream, Some(true)),
            (End::Broken(Code::INTERNAL), false, true, None, Blame::Upstream, Some(true)),
        ] {
            let judged = judge(&end, &facts(whole, owed), false);
            assert_eq!((judged.skipped, judged.blame, judged.failed), (skipped, blame, failed), "{end:?}");
        }
    }
}
