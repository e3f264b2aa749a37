//! What became of reports.

use super::text::{Kind, Text};
use crate::feedback::Refusal;
use crate::telemetry::feedback::{Lost, Side};
use crate::telemetry::names::metric;

pub(super) fn write(text: &mut Text, side: &Side) {
    text.family(metric::FEEDBACK, Kind::Counter, "Reports that were taken, by what became of them.");
    for ((model, feedback), taken, evidence, count) in side.each_taken() {
        let labels = [
            ("model", &*model),
            ("feedback", &*feedback),
            ("result", taken.name()),
            ("evidence", evidence.name()),
        ];
        text.counted(metric::FEEDBACK, &labels, count);
    }
    text.family(metric::FEEDBACK_REFUSED, Kind::Counter, "Reports that were refused, by cause.");
    for (index, cause) in Refusal::CAUSES.into_iter().enumerate() {
        text.sample(metric::FEEDBACK_REFUSED, &[("cause", cause)], side.refused(index));
    }
    let (bytes, uncounted, dropped) = side.figures();
    text.family(metric::FEEDBACK_BYTES, Kind::Gauge, "Bytes that the memory of reports takes.");
    text.sample(metric::FEEDBACK_BYTES, &[], bytes);
    let help = "Predictions that were not counted for feedback that has a default.";
    text.family(metric::FEEDBACK_UNCOUNTED, Kind::Counter, help);
    text.sample(metric::FEEDBACK_UNCOUNTED, &[], uncounted);
    let help = "Contexts of calls that were not known when their rewards came, by why.";
    text.family(metric::CONTEXTS_LOST, Kind::Counter, help);
    for why in Lost::ALL {
        text.sample(metric::CONTEXTS_LOST, &[("cause", why.name())], side.lost_contexts(why));
    }
    let help = "Bytes that are remembered of merged lists that were shown.";
    text.family(metric::SHOWN_BYTES, Kind::Gauge, help);
    text.sample(metric::SHOWN_BYTES, &[], side.shown());
    text.family(metric::FEEDBACK_DROPPED, Kind::Counter, "Reports whose span found no room.");
    text.sample(metric::FEEDBACK_DROPPED, &[], dropped);
}
