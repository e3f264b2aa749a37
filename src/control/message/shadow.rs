//! What answers of shadows prove, in the words of the service.

use std::time::Duration;

use crate::comparison::drift::Drifted;
use crate::comparison::judge::{Judgement, OutputReport};
use crate::pb::v1;
use crate::shadow::judges::Judged;
use crate::shadow::offenders::Offender;

pub(in crate::control) fn shadow(judged: &Judged) -> v1::Shadow {
    let report = &judged.report;
    v1::Shadow {
        variant: judged.variant.to_string(),
        verdict: verdict(report.verdict).into(),
        why: report.why.clone(),
        since_unix_ms: report.since.map(millis),
        pairs: report.pairs,
        disagreeing: report.disagreeing,
        triples: report.triples,
        control: judged.control.as_deref().unwrap_or_default().to_owned(),
        bound: report.bound,
        outputs: report.outputs.iter().map(output).collect(),
        absent: report
            .absent
            .iter()
            .map(|(name, pairs)| v1::AbsentOutput { name: name.to_string(), pairs: *pairs })
            .collect(),
        offenders: judged.offenders.iter().map(offender).collect(),
        cut: report.cut,
        latency: report.latency.iter().flatten().flatten().copied().collect(),
    }
}

fn output(output: &OutputReport) -> v1::ShadowOutput {
    let kinds = output.kinds.iter();
    let figures = output.figures.iter();
    v1::ShadowOutput {
        name: output.name.to_string(),
        measure: output.measure.as_deref().unwrap_or_default().to_owned(),
        inferred: output.inferred,
        verdict: verdict(output.verdict).into(),
        pairs: output.pairs,
        disagreement: output.disagreement,
        noise: output.noise,
        ln_e_different: output.ln_e_different,
        different_at: output.different_at,
        ln_e_equivalent: output.ln_e_equivalent,
        equivalent_at: output.equivalent_at,
        missing: output.missing,
        kinds: kinds
            .map(|(kind, count)| v1::KindCount { kind: kind.name().to_owned(), count: *count })
            .collect(),
        first_unix_ms: output.seen.map(|(first, _)| millis(first)),
        last_unix_ms: output.seen.map(|(_, last)| millis(last)),
        distance: output.distance.iter().flatten().copied().collect(),
        figures: figures
            .map(|(name, mean, max)| v1::Figure { name: name.to_string(), mean: *mean, max: *max })
            .collect(),
        drift: output.drift.as_ref().map(drift),
    }
}

pub(super) fn drift(drifted: &Drifted) -> v1::Drift {
    v1::Drift {
        ln_e: drifted.ln_e,
        stability: drifted.stability,
        by_chance: drifted.by_chance,
        jensen_shannon: drifted.jensen_shannon,
        kolmogorov_smirnov: drifted.kolmogorov_smirnov,
        wasserstein: drifted.wasserstein,
        base: drifted.base,
        candidate: drifted.candidate,
    }
}

fn offender(offender: &Offender) -> v1::Offender {
    v1::Offender {
        prediction: offender.prediction.clone(),
        trace_id: offender.trace.clone(),
        at_unix_ms: millis(offender.at),
        output: offender.output.to_string(),
        how: offender.how.clone(),
        part: offender.far.0,
        distance: offender.far.1,
        served: offender.served.to_string(),
        shadow: offender.shadow.to_string(),
    }
}

fn verdict(verdict: Judgement) -> v1::ShadowVerdict {
    match verdict {
        Judgement::Equivalent => v1::ShadowVerdict::Equivalent,
        Judgement::Different => v1::ShadowVerdict::Different,
        Judgement::NotEnoughData => v1::ShadowVerdict::NotEnoughData,
    }
}

pub(super) fn millis(at: Duration) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}
