//! The span of a report: part of the trace that the report came in, with a link to its prediction's server span.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Place, Span, Writer, name};
use crate::feedback::Value as Reported;
use crate::telemetry::feedback::Spanned;

/// What such spans are called.
const NAME: &str = "parhelion.feedback";

impl Writer {
    /// Writes the span of a report that was taken.
    pub fn write_feedback(&self, spanned: &Spanned, out: &mut Vec<u8>) {
        let seen = &spanned.seen;
        let mut span = Span::begin(out, self.limits);
        span.uuid(seen.prediction.uuid);
        span.text(name::MODEL, &seen.model.name);
        let arm = usize::from(seen.prediction.assigned);
        let current = seen.model.revision == seen.prediction.revision;
        // The places of arms are those of the revision that made the prediction.
        if let Some(variant) = seen.model.arms().get(arm).filter(|_| current) {
            span.text(name::ASSIGNED, &seen.model.variants[*variant].name);
        }
        span.text(name::REASON, seen.prediction.reason.name());
        if let Some(unit) = seen.prediction.unit {
            span.hex(name::UNIT_HASH, u128::from(unit), 16);
        }
        if let Some(feedback) = seen.model.feedback.get(seen.feedback) {
            span.text(name::FEEDBACK, &feedback.name);
        }
        match &seen.value {
            Some(Reported::Number(number)) => span.float(name::FEEDBACK_VALUE, *number),
            Some(Reported::Label(label)) => span.text(name::FEEDBACK_LABEL, label),
            None => {}
        }
        if let Some(value) = seen.receipt.value {
            span.float(name::FEEDBACK_JOINED, value);
        }
        if let Some(slot) = seen.slot {
            span.whole(name::FEEDBACK_SLOT, slot as u64);
        }
        span.text(name::FEEDBACK_RESULT, seen.receipt.taken.name());
        span.text(name::FEEDBACK_EVIDENCE, seen.receipt.evidence.name());
        let made = std::time::UNIX_EPOCH + seen.prediction.made();
        let delay = seen.at.duration_since(made).unwrap_or_default();
        span.float(name::FEEDBACK_DELAY, delay.as_secs_f64());
        if let Some(link) = spanned.link {
            span.link(link);
        }
        let parent = spanned.trace.parent.unwrap_or(0);
        let place = Place {
            name: NAME,
            span: spanned.trace.span_id,
            parent,
            remote: parent != 0,
            kind: SpanKind::Server,
            start: seen.at,
            elapsed: std::time::Duration::ZERO,
        };
        span.end(&place, &spanned.trace, None);
    }
}
