//! The end of step 5 and step 6: what the caller is told last, and the one outcome that everything is recorded from.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::Recognised;
use super::plan::Plan;
use super::planned::{answering, tag};
use crate::dispatch::upload::Upload;
use crate::dispatch::{Delivery, Journal};
use crate::fault::{Blame, Code, Failure};
use crate::keys::Keys;
use crate::outcome::{Fallback, Latency, Outcome, Route, Traffic};
use crate::server::respond::Responder;

/// How a call ended, as far as the caller is concerned.
pub(super) struct Ended {
    status: Code,
    message: Option<Box<str>>,
    blame: Blame,
}

/// Tells the caller what it does not know yet, and says how the call ended.
pub(super) fn end(
    keys: &Keys,
    call: &Recognised,
    plan: Option<&Plan<'_>>,
    delivery: Delivery,
    respond: &mut Responder,
    journal: &Journal,
) -> Ended {
    match delivery {
        Delivery::Answered { status, message } => {
            let in_band = journal.received.learnt.in_band_error.clone();
            let blame = match journal.attempts.last() {
                Some(attempt) => attempt.blame,
                None => Blame::Nobody,
            };
            Ended { status, message: in_band.or(message), blame }
        }
        Delivery::Failed(failure) => {
            let mut tags = HeaderMap::new();
            if let Some(plan) = plan.filter(|_| respond.is_silent()) {
                tag(keys, call, plan, (answering(plan, journal), false), &mut tags);
            }
            respond.fail(&failure, tags);
            Ended { status: failure.code, message: Some(failure.message.into()), blame: failure.blame }
        }
        Delivery::Stuck(failure) => {
            respond.reset(h2::Reason::CANCEL);
            Ended { status: failure.code, message: Some(failure.message.into()), blame: failure.blame }
        }
        Delivery::Cancelled => {
            respond.reset(h2::Reason::CANCEL);
            Ended { status: Code::CANCELLED, message: None, blame: Blame::Nobody }
        }
    }
}

/// What became of the baseline's answering instead.
fn fallback(ended: &Ended, journal: &Journal) -> Option<Fallback> {
    match (journal.fell_back, ended.status, ended.blame) {
        (false, ..) => journal.refused,
        (true, Code::OK, Blame::Nobody) => Some(Fallback::Answered),
        (true, Code::CANCELLED, Blame::Nobody) => Some(Fallback::Cancelled),
        (true, ..) => Some(Fallback::Failed),
    }
}

/// Step 6: all that happened, said once.
pub(super) fn outcome(
    call: Recognised,
    plan: Option<Plan<'_>>,
    ended: Ended,
    journal: Journal,
    upload: &Upload,
) -> Outcome {
    let total = call.arrived.elapsed();
    let last = journal.attempts.last();
    let own =
        journal.attempts.first().map_or(Duration::ZERO, |first| first.offset.saturating_sub(journal.read));
    let served = last.filter(|_| journal.received.answered).map(|attempt| attempt.variant);
    let fallback = fallback(&ended, &journal);
    let merged = plan.as_ref().and_then(|plan| plan.merged.take());
    let latency = Latency { total, upstream: last.map_or(Duration::ZERO, |attempt| attempt.elapsed), own };
    Outcome {
        prediction: call.prediction,
        told: call.told.into_inner().map(|(id, _)| id),
        trace: call.trace,
        started: call.started,
        authority: call.head.uri.authority().map(|authority| authority.as_str().into()),
        path: call
            .head
            .uri
            .into_parts()
            .path_and_query
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
        protocol: call.adapter.name(),
        route: plan.map(|plan| Route {
            model: Arc::clone(&plan.rollout.model),
            revision: Arc::clone(&plan.serving.config.revision),
            asked: plan
                .asked
                .filter(|asked| *asked.model != *plan.rollout.model.name)
                .map(|asked| asked.model.into()),
            assigned: plan.assignment,
            served,
            unit: plan.unit,
            segment: plan.segment,
            odds: plan.odds,
            epoch: plan.epoch,
            wished: plan.wished,
        }),
        status: ended.status,
        message: ended.message,
        blame: ended.blame,
        latency,
        traffic: Traffic {
            request_bytes: upload.bytes(),
            response_bytes: journal.received.bytes,
            request_messages: upload.messages(),
            response_messages: journal.received.messages,
        },
        reported_version: journal.received.learnt.reported_version,
        request_id: upload.request_id().map(Into::into),
        payload: upload.tee().and_then(|tee| tee.messages()),
        attempts: journal.attempts,
        fallback,
        copies: upload.tee().map_or(0, |tee| tee.shadows()),
        disagreement: None,
        merged,
    }
}

/// The deadline fell while the caller's own first message was awaited.
pub(super) fn expired(call: &Recognised) -> Failure {
    let timeout = call.timeout.unwrap_or_default();
    let message = format!("the deadline of {timeout:?} fell before the request's first message came");
    Failure { code: Code::DEADLINE_EXCEEDED, message, blame: Blame::Nobody }
}

/// The deadline fell while the variant was at it.
pub(super) fn expired_at(plan: &Plan<'_>, min: Duration, timeout: Duration, journal: &Journal) -> Failure {
    let model = &plan.rollout.model;
    let (place, sent) = match journal.attempts.last() {
        Some(attempt) => (format!(", endpoint {}", attempt.endpoint), attempt.offset),
        None => (String::new(), timeout),
    };
    let variant = &model.variants[answering(plan, journal).variant].name;
    let message = format!("model {}, variant {variant}{place}: no answer within {timeout:?}", model.name);
    let had_time = timeout.saturating_sub(sent) >= min;
    let blame = if had_time { Blame::Upstream } else { Blame::Nobody };
    Failure { code: Code::DEADLINE_EXCEEDED, message, blame }
}
