//! How answers are distributed, in the words of the service.

use super::shadow::{drift, millis};
use crate::drift::Drifting;
use crate::drift::board::Fate;
use crate::drift::evidence::Report;
use crate::pb::v1;

pub(super) fn answers(drifting: &Drifting) -> v1::AnswerDrift {
    let answer = |(fate, count): (&Fate, u64)| v1::KindCount { kind: fate.name().to_owned(), count };
    v1::AnswerDrift {
        outputs: drifting.reports.iter().map(output).collect(),
        answers: Fate::ALL.iter().zip(drifting.answers).map(answer).collect(),
        reference_trouble: drifting.trouble.as_deref().unwrap_or_default().to_owned(),
    }
}

fn output(report: &Report) -> v1::OutputDrift {
    v1::OutputDrift {
        variant: report.subject.variant.to_string(),
        output: report.subject.output.to_string(),
        with: report.subject.with.name().to_owned(),
        today: report.today.as_ref().map(drift),
        enough: report.enough,
        since_unix_ms: report.found.as_ref().map(|(since, _)| millis(*since)),
        then: report.found.as_ref().map(|(_, then)| drift(then)),
    }
}
