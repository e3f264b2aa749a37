//! The part of a scrape that tells what answers of shadows prove. Outputs are named by model servers, at most 64 of each
//! shadow.

use super::text::{Kind, Text};
use crate::comparison::judge::{Judgement, OutputReport};
use crate::shadow::judges::Judged;
use crate::telemetry::names::metric;

pub(super) fn write(text: &mut Text, all: &[Judged]) {
    let verdict = "What a shadow's answers prove: 1 equivalent, 0 not enough data, -1 different.";
    text.family(metric::SHADOW_VERDICT, Kind::Gauge, verdict);
    for judged in all {
        let value = match judged.report.verdict {
            Judgement::Equivalent => 1.0,
            Judgement::NotEnoughData => 0.0,
            Judgement::Different => -1.0,
        };
        let labels = [("model", &*judged.model), ("variant", &*judged.variant)];
        text.ratio(metric::SHADOW_VERDICT, &labels, value);
    }
    let mut each = |name, help, value: fn(&OutputReport) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for judged in all {
            for output in &judged.report.outputs {
                let Some(value) = value(output) else { continue };
                let labels =
                    [("model", &*judged.model), ("variant", &*judged.variant), ("output", &*output.name)];
                text.ratio(name, &labels, value);
            }
        }
    };
    let disagreement =
        "The mean part of an output's rows in which a shadow does not agree with what was served.";
    each(metric::SHADOW_DISAGREEMENT, disagreement, |output| {
        (output.pairs > 0).then_some(output.disagreement)
    });
    each(metric::SHADOW_NOISE, "The same of the control.", |output| output.noise);
    let drift = "Population stability index of a shadow's output beside what was served.";
    each(metric::SHADOW_DRIFT, drift, |output| output.drift.map(|drift| drift.stability));
    let differing = "Pairs in which an output does not agree, by how.";
    text.family(metric::SHADOW_DIFFERENCES, Kind::Gauge, differing);
    for judged in all {
        for output in &judged.report.outputs {
            for (kind, pairs) in &output.kinds {
                let labels = [
                    ("model", &*judged.model),
                    ("variant", &*judged.variant),
                    ("output", &*output.name),
                    ("kind", kind.name()),
                ];
                text.sample(metric::SHADOW_DIFFERENCES, &labels, *pairs);
            }
        }
    }
    text.family(metric::SHADOW_ABSENT, Kind::Gauge, "Pairs in which no answer has a declared output.");
    for judged in all {
        for (output, pairs) in &judged.report.absent {
            let labels = [("model", &*judged.model), ("variant", &*judged.variant), ("output", &**output)];
            text.sample(metric::SHADOW_ABSENT, &labels, *pairs);
        }
    }
}
