//! The part of a scrape that tells how answers are distributed. Outputs are named by model servers, at most 64 of each
//! variant.

use super::text::{Kind, Text};
use crate::comparison::drift::Drifted;
use crate::drift::Drifting;
use crate::drift::board::Fate;
use crate::drift::evidence::Report;
use crate::telemetry::names::metric;

pub(super) fn write(text: &mut Text, all: &[Drifting]) {
    text.family(metric::DRIFT_ANSWERS, Kind::Counter, "Answers that were looked at, by what became of them.");
    for model in all {
        for (fate, count) in Fate::ALL.iter().zip(model.answers) {
            text.sample(metric::DRIFT_ANSWERS, &[("model", &*model.model), ("result", fate.name())], count);
        }
    }
    let failing = "Whether the file with a model's reference cannot be used: 1 or 0.";
    text.family(metric::DRIFT_REFERENCE_FAILING, Kind::Gauge, failing);
    for model in all {
        let failing = u64::from(model.trouble.is_some());
        text.sample(metric::DRIFT_REFERENCE_FAILING, &[("model", &*model.model)], failing);
    }
    let mut each = |name, help, value: &dyn Fn(&Report) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for (model, report) in all.iter().flat_map(|model| model.reports.iter().map(move |one| (model, one)))
        {
            let Some(value) = value(report) else { continue };
            let subject = &report.subject;
            let labels = [
                ("model", &*model.model),
                ("variant", &*subject.variant),
                ("output", &*subject.output),
                ("with", subject.with.name()),
            ];
            text.ratio(name, &labels, value);
        }
    };
    let today =
        |value: fn(&Drifted) -> Option<f64>| move |report: &Report| report.today.as_ref().and_then(value);
    let found = "Whether an output was ever proven to be distributed otherwise: 1 or 0.";
    each(metric::DRIFT_FOUND, found, &|report| Some(f64::from(u8::from(report.found.is_some()))));
    let evidence = "Natural logarithm of today's evidence that an output is distributed otherwise.";
    each(metric::DRIFT_EVIDENCE, evidence, &today(|drifted| Some(drifted.ln_e)));
    let index = "Population stability index of an output today.";
    each(metric::DRIFT_INDEX, index, &today(|drifted| Some(drifted.stability)));
    let divergence = "Jensen-Shannon distance of an output today, 0 to 1.";
    each(metric::DRIFT_DIVERGENCE, divergence, &today(|drifted| Some(drifted.jensen_shannon)));
    let largest = "Kolmogorov-Smirnov distance of an output of numbers today, 0 to 1.";
    each(metric::DRIFT_LARGEST, largest, &today(|drifted| drifted.kolmogorov_smirnov));
    let moved = "Wasserstein-1 distance of an output of numbers today, in its own unit.";
    each(metric::DRIFT_MOVED, moved, &today(|drifted| drifted.wasserstein));
}
