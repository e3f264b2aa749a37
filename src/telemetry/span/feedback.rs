//! The span of a report: part of the trace that the report came in, with a link to its prediction's server span.

use opentelemetry::Value;
use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry_sdk::trace::SpanData;

use super::{Attributes, Place, Writer, name};
use crate::feedback::Value as Reported;
use crate::telemetry::feedback::Spanned;

/// What such spans are called.
const NAME: &str = "parhelion.feedback";

impl Writer {
    /// The span of a report that was taken.
    pub fn feedback(&self, spanned: &Spanned) -> SpanData {
        let seen = &spanned.seen;
        let mut list = Attributes::new(self.limits);
        list.text(name::PREDICTION_UUID, seen.prediction.uuid.to_string());
        list.text(name::MODEL, seen.model.name.clone());
        let arm = usize::from(seen.prediction.assigned);
        let current = seen.model.revision == seen.prediction.revision;
        // The places of arms are those of the revision that made the prediction.
        if let Some(variant) = seen.model.arms().get(arm).filter(|_| current) {
            list.text(name::ASSIGNED, seen.model.variants[*variant].name.clone());
        }
        list.text(name::REASON, seen.prediction.reason.name());
        if let Some(unit) = seen.prediction.unit {
            list.text(name::UNIT_HASH, format!("{unit:016x}"));
        }
        if let Some(feedback) = seen.model.feedback.get(seen.feedback) {
            list.text(name::FEEDBACK, feedback.name.clone());
        }
        match &seen.value {
            Some(Reported::Number(number)) => list.put(name::FEEDBACK_VALUE, Value::F64(*number)),
            Some(Reported::Label(label)) => list.text(name::FEEDBACK_LABEL, label.clone()),
            None => {}
        }
        if let Some(value) = seen.receipt.value {
            list.put(name::FEEDBACK_JOINED, Value::F64(value));
        }
        list.text(name::FEEDBACK_RESULT, seen.receipt.taken.name());
        list.text(name::FEEDBACK_EVIDENCE, seen.receipt.evidence.name());
        let made = std::time::UNIX_EPOCH + seen.prediction.made();
        let delay = seen.at.duration_since(made).unwrap_or_default();
        list.put(name::FEEDBACK_DELAY, Value::F64(delay.as_secs_f64()));
        let parent = spanned.trace.parent.unwrap_or(0);
        let place = Place {
            name: NAME.to_owned(),
            span: spanned.trace.span_id,
            parent,
            remote: parent != 0,
            kind: SpanKind::Server,
            start: seen.at,
            elapsed: std::time::Duration::ZERO,
        };
        let mut span = self.finish(place, &spanned.trace, list, Status::Unset);
        if let Some((trace, server)) = spanned.linked() {
            let context =
                SpanContext::new(trace, server, TraceFlags::default(), false, TraceState::default());
            span.links.links.push(Link::new(context, Vec::new(), 0));
        }
        span
    }
}
