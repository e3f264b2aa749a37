//! What is learnt later in a world, as it is written, and what is refused about it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::super::world::{Law, Learnt};
use super::words::{Number, Part, Span, at_least_zero, positive};
use crate::config::document::Document;
use crate::config::{FeedbackKind, Model, Problem};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLearnt {
    share: Option<Part>,
    mean: Number,
    drift: Option<Number>,
    spread: Option<Number>,
    law: Option<Law>,
    candidate: Option<RawCandidate>,
    means: Option<Vec<Number>>,
    then: Option<RawThen>,
    delay: Option<RawDelay>,
    units: Option<RawUnits>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCandidate {
    mean: Number,
    after: Option<Span>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawThen {
    after: Span,
    means: Vec<Number>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDelay {
    median: Span,
    spread: Option<Number>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawUnits {
    n: u64,
    spread: Option<Number>,
}

/// What is learnt of each feedback that the model declares. One without a world is declared in vain, and refused.
pub(super) fn learnt(
    document: &mut Document,
    model: &Model,
    raw: &BTreeMap<String, RawLearnt>,
) -> Vec<Learnt> {
    for name in raw.keys().filter(|name| !model.feedback.iter().any(|known| *known.name == ***name)) {
        let problem = Problem::new(format!("world.feedback.{name}"), "is not declared");
        document.refuse(problem.with_hint(format!("declare it: feedback: {{{name}: {{kind: binary}}}}")));
    }
    let mut all = Vec::new();
    for (index, feedback) in model.feedback.iter().enumerate() {
        match raw.get(&*feedback.name) {
            Some(raw) => all.extend(one(document, model, index, raw)),
            None => {
                let problem = Problem::new(
                    format!("world.feedback.{}", feedback.name),
                    "is declared, but missing here",
                );
                document.refuse(problem.with_hint("say what is learnt, like {share: 20%, mean: 0.3}"));
            }
        }
    }
    all
}

fn one(document: &mut Document, model: &Model, index: usize, raw: &RawLearnt) -> Option<Learnt> {
    let feedback = &model.feedback[index];
    let path = format!("world.feedback.{}", feedback.name);
    let part = |document: &mut Document, key: &str, number: Option<Number>| {
        number.map_or(0.0, |number| {
            at_least_zero(document, &format!("{path}.{key}"), number.0);
            number.0
        })
    };
    let spread = part(document, "spread", raw.spread);
    let delay = raw.delay.unwrap_or_default();
    let delay = (delay.median.0, part(document, "delay.spread", delay.spread));
    let units = raw.units.map(|raw| (raw.n, part(document, "units.spread", raw.spread)));
    if units.is_some_and(|(n, _)| n == 0) || (units.is_some() && model.unit.is_empty()) {
        let problem = Problem::new(format!("{path}.units"), "are none, for calls belong to no units");
        document.refuse(problem.with_hint("say unit: [metadata:x-user-id], and write units like {n: 2000}"));
    }
    let drift = raw.drift.map_or(1.0, |drift| drift.0);
    positive(document, &format!("{path}.drift"), drift);
    let law = raw.law.unwrap_or_default();
    let (means, then) = courses(document, &path, model.variants.len(), raw);
    for (key, mean) in named(raw, &means, then.as_ref()) {
        possible(document, (&path, &key), feedback.kind, mean * drift.max(1.0), spread);
    }
    if feedback.kind == FeedbackKind::Real {
        positive(document, &format!("{path}.spread"), spread);
    }
    let later = then.iter().flat_map(|(_, means)| means);
    let least = means.iter().chain(later).copied().fold(f64::INFINITY, f64::min);
    skewed(document, &path, feedback.kind, law, least);
    let share = raw.share.map_or(1.0, |share| share.0);
    if share > 1.0 {
        let problem = Problem::new(format!("{path}.share"), "is more than all predictions");
        document.refuse(problem.with_hint("say which part of them brings a report, like 20%"));
    }
    Some(Learnt { feedback: index, share, means, then, drift, spread, law, delay, units })
}

/// Means of all variants, and what they are later.
type Courses = (Vec<f64>, Option<(Duration, Vec<f64>)>);

/// As two keys say it, for two variants, or as a list of all.
fn courses(document: &mut Document, path: &str, variants: usize, raw: &RawLearnt) -> Courses {
    let Some(listed) = &raw.means else {
        if raw.then.is_some() {
            let problem = Problem::new(format!("{path}.then"), "stands without `means`");
            document
                .refuse(problem.with_hint("write means: [0.6, 0.5] beside it, or candidate: {mean, after}"));
        }
        if variants > 2 {
            let problem = Problem::new(format!("{path}.means"), "is missing");
            document
                .refuse(problem.with_hint(format!("give the means of all {variants} variants in a list")));
        }
        let (mean, candidate) = (raw.mean.0, raw.candidate);
        let other = candidate.map_or(mean, |candidate| candidate.mean.0);
        let after = candidate.and_then(|candidate| candidate.after).map_or(Duration::ZERO, |span| span.0);
        return match after.is_zero() {
            true => (vec![mean, other], None),
            false => (vec![mean, mean], Some((after, vec![mean, other]))),
        };
    };
    if !raw.mean.0.is_nan() || raw.candidate.is_some() {
        let problem = Problem::new(format!("{path}.means"), "stand beside `mean` or `candidate`");
        document.refuse(problem.with_hint("keep the list: it has the baseline's mean first"));
    }
    let mut list = |key: &str, means: &[Number]| -> Vec<f64> {
        if means.len() != variants {
            let text = format!("are {}, and there are {variants} variants", means.len());
            let hint = "give each its mean, the baseline first; `variants` says how many there are";
            document.refuse(Problem::new(format!("{path}.{key}"), text).with_hint(hint));
        }
        means.iter().map(|mean| mean.0).collect()
    };
    let means = list("means", listed);
    let then = raw.then.as_ref().map(|then| (then.after.0, list("then.means", &then.means)));
    (means, then)
}

/// Each mean by the key that it was written under.
fn named(raw: &RawLearnt, means: &[f64], then: Option<&(Duration, Vec<f64>)>) -> Vec<(String, f64)> {
    if raw.means.is_none() {
        let candidate = raw.candidate.map_or(raw.mean.0, |candidate| candidate.mean.0);
        return vec![("mean".to_owned(), raw.mean.0), ("candidate.mean".to_owned(), candidate)];
    }
    let listed = |key: &str, means: &[f64]| -> Vec<(String, f64)> {
        means.iter().enumerate().map(|(place, mean)| (format!("{key}[{place}]"), *mean)).collect()
    };
    let later = then.map(|(_, means)| listed("then.means", means)).unwrap_or_default();
    listed("means", means).into_iter().chain(later).collect()
}

/// Refuses a law that values of that kind or mean cannot have.
fn skewed(document: &mut Document, path: &str, kind: FeedbackKind, law: Law, least: f64) {
    if law == Law::Lognormal && (kind != FeedbackKind::Real || least <= 0.0) {
        let problem = Problem::new(format!("{path}.law"), "is not for such values");
        let hint = "values of a feedback of kind real, with a mean above 0, can be lognormal";
        document.refuse(problem.with_hint(hint));
    }
}

/// Refuses a mean that values of that kind cannot have.
fn possible(document: &mut Document, (path, key): (&str, &str), kind: FeedbackKind, mean: f64, spread: f64) {
    let (min, max, reach) = match kind {
        FeedbackKind::Binary => (0.0, 1.0, 0.0),
        FeedbackKind::Bounded { min, max } => (min, max, spread * 3_f64.sqrt()),
        FeedbackKind::Real => (f64::MIN, f64::MAX, 0.0),
        FeedbackKind::Label | FeedbackKind::Clicks => {
            let problem = Problem::new(path, "compares no variants, so there is nothing to simulate");
            document.refuse(problem.with_hint("use a feedback of kind binary, bounded or real"));
            return;
        }
    };
    if !(mean - reach >= min && mean + reach <= max) {
        let problem = Problem::new(format!("{path}.{key}"), "is missing, or no mean of such values");
        let hint = match reach > 0.0 {
            true => format!("values lie within {reach:.3} of it (√3 times the spread), from {min} to {max}"),
            false => format!("write a number from {min} to {max}"),
        };
        document.refuse(problem.with_hint(hint));
    }
}
