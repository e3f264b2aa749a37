//! Beside step 4: which calls shadows get copies of, whose messages are logged, whose answers are looked at, and what
//! all of them are told of the call.
//!
//! Eligible is what the strategy assigns, or a caller forces: inference calls that name a model, and calls of services
//! that are given to one. Hops are not, for the sidecar before has copied them, nor are questions about readiness and
//! whatever goes to the default model without naming it.

use std::rc::Rc;
use std::sync::Arc;

use super::Recognised;
use super::plan::Plan;
use crate::assignment::Reason;
use crate::drift::watch::Origin;
use crate::fault::Code;
use crate::outcome::Outcome;
use crate::protocol::Peek;
use crate::shadow::record::PrimaryEnd;
use crate::shadow::{Given, Original, Others, Tee};
use crate::telemetry::propagate;
use crate::worker::Worker;

/// Begins the copies of a planned call; `None` where it has none.
pub(super) fn begin(worker: &Rc<Worker>, call: &Recognised, plan: &Plan<'_>) -> Option<Rc<Tee>> {
    let (shadows, keep) = (&plan.rollout.shadows, &plan.rollout.keep);
    let captured = match call.peek {
        Some(Peek::Unary) => worker.recorder.capture(call.prediction),
        Some(Peek::Stream) | None => None,
    };
    let copied = plan.addressed && plan.assignment.reason != Reason::Hop;
    let watch = plan.rollout.watch.as_ref();
    if captured.is_none() && (!copied || shadows.is_empty() && keep.is_none() && watch.is_none()) {
        return None;
    }
    // One answer of one variant: streams have many, and what is merged is nobody's.
    let watched = watch
        .filter(|_| copied && call.peek == Some(Peek::Unary) && plan.together.is_none())
        .and_then(|watch| watch.begin(worker.draw()));
    let (shadows, keep) = if copied { (&shadows[..], keep.as_ref()) } else { (&[][..], None) };
    let keep = keep.filter(|keep| call.peek != Some(Peek::Stream) && keep.wants(call.arrived));
    let sample = keep
        .zip(call.head.uri.path_and_query())
        .map(|(keep, path)| keep.take(path.clone(), &call.head.headers, (call.adapter, asked(plan))));
    let stage = plan.rollout.live.with(|snapshot| snapshot.standing.stage);
    let given = Given { variant: plan.variant(), stage };
    Tee::begin(worker, shadows, given, || original(call, plan), Others { sample, captured, watched })
}

/// The model that the call names.
fn asked(plan: &Plan<'_>) -> Option<String> {
    plan.asked.as_ref().filter(|_| plan.named).map(|asked| asked.model.clone())
}

fn original(call: &Recognised, plan: &Plan<'_>) -> Original {
    let mut headers = call.head.headers.clone();
    crate::dispatch::strip_reserved(&mut headers);
    headers.remove("grpc-timeout");
    // A message that is renamed for the shadow has another length.
    headers.remove(http::header::CONTENT_LENGTH);
    // A copy has a trace of its own: under the call's it would look like a part of the answer.
    propagate::strip(&mut headers);
    Original {
        uri: call.head.uri.clone(),
        headers,
        adapter: call.adapter,
        peek: call.peek,
        asked: asked(plan),
        prediction: call.prediction,
        trace: call.trace.clone(),
        message: plan.serving.config.limits.message.bytes(),
        controlled: Default::default(),
    }
}

/// Hands on the answer of a call, where it is looked at and the assigned variant gave it.
pub(super) fn seen(tee: &Tee, outcome: &Outcome, limit: usize) {
    let (Some(watched), Some(route)) = (tee.watched(), &outcome.route) else { return };
    let answered = outcome.status == Code::OK && outcome.fallback.is_none();
    if answered && route.served == Some(route.assigned.variant) {
        watched.end(|| Origin {
            model: Arc::clone(&route.model),
            variant: route.assigned.variant,
            reason: route.assigned.reason,
            odds: route.odds,
            unit: route.unit,
            prediction: outcome.prediction,
            limit,
        });
    }
}

/// What copies are told of their call's end.
pub(super) fn end(outcome: &Outcome, cancelled: bool) -> PrimaryEnd {
    PrimaryEnd {
        variant: outcome.route.as_ref().and_then(|route| route.served),
        status: outcome.status,
        cancelled,
        latency: outcome.latency.upstream,
        response_bytes: outcome.traffic.response_bytes,
        response_messages: outcome.traffic.response_messages,
    }
}
