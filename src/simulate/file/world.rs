//! A world as it is written, and what is refused about it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::super::chance::Lognormal;
use super::super::world::{Arrivals, Change, Failing, Latency, Looks, Oddity, Rankings, Strange, World};
use super::learnt::{RawLearnt, learnt};
use super::words::{Number, Part, Span, at_least_zero, positive};
use crate::config::document::Document;
use crate::config::{FeedbackKind, Model, Problem, Strategy};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWorld {
    calls: Number,
    arrivals: Option<Arrivals>,
    errors: Option<RawFailing>,
    rejections: Option<RawFailing>,
    latency: Option<RawLatency>,
    strange: Option<RawStrange>,
    strays: Option<Part>,
    feedback: BTreeMap<String, RawLearnt>,
    rankings: Option<RawRankings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRankings {
    attraction: Option<Vec<Option<Part>>>,
    shuffled: Option<bool>,
    swap: Option<Vec<Option<u64>>>,
    goes_on: Option<Part>,
    looks: Option<Part>,
    prefers: Option<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFailing {
    rate: Option<Part>,
    drift: Option<Number>,
    candidate: Option<RawChange>,
    outages: Option<RawOutages>,
    burst: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawChange {
    times: Number,
    after: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOutages {
    every: Span,
    last: Span,
    rate: Part,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStrange {
    share: Part,
    callers: Option<u64>,
    /// Null stands where something was refused already.
    does: Option<Vec<Option<Oddity>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLatency {
    median: Span,
    spread: Number,
    candidate: Option<RawSlower>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSlower {
    times: Number,
    /// Only this part of its calls is slower.
    tail: Option<Part>,
    after: Option<Span>,
}

/// The world, with everything that is wrong with it noted in `document`; `model` is who is let loose in it.
pub(super) fn accept(document: &mut Document, model: Option<&Model>, raw: &RawWorld) -> World {
    positive(document, "world.calls", raw.calls.0);
    if model.is_some_and(|model| matches!(model.strategy, Strategy::Bandit(_))) {
        earned_alone(document, raw);
    }
    let strays = raw.strays.map_or(0.0, |strays| strays.0);
    if strays > 1.0 {
        let problem = Problem::new("world.strays", "are more than everything");
        document.refuse(problem.with_hint("say which part of the candidate's units, like 10%"));
    }
    World {
        calls: raw.calls.0,
        arrivals: raw.arrivals.unwrap_or_default(),
        errors: failing(document, "world.errors", raw.errors.as_ref()),
        rejections: failing(document, "world.rejections", raw.rejections.as_ref()),
        latency: raw.latency.as_ref().map(|raw| latency(document, raw)),
        strange: raw.strange.as_ref().map(|raw| strange(document, raw)),
        strays,
        feedback: match &raw.rankings {
            Some(_) => Vec::new(),
            None => model.map(|model| learnt(document, model, &raw.feedback)).unwrap_or_default(),
        },
        rankings: rankings(document, model, raw),
    }
}

/// Refuses what a bandit's world does not have: what its variants earn is all that tells them apart.
fn earned_alone(document: &mut Document, raw: &RawWorld) {
    let others = [
        ("errors", raw.errors.is_some()),
        ("rejections", raw.rejections.is_some()),
        ("latency", raw.latency.is_some()),
        ("strange", raw.strange.is_some()),
        ("strays", raw.strays.is_some()),
    ];
    for (key, _) in others.into_iter().filter(|(_, given)| *given) {
        let problem = Problem::new(format!("world.{key}"), "is not in the world of a bandit");
        let hint = "remove it: its variants differ in their feedback; guards are the same as a canary's";
        document.refuse(problem.with_hint(hint));
    }
}

/// Lists, which only strategies that merge or split them have something from.
fn rankings(document: &mut Document, model: Option<&Model>, raw: &RawWorld) -> Option<Rankings> {
    let merges = model.is_some_and(|model| matches!(model.strategy, Strategy::Interleave(_)));
    let Some(raw_lists) = &raw.rankings else {
        if merges {
            let problem = Problem::new("world.rankings", "is missing");
            let hint = "say what is shown and clicked on, like {attraction: [40%, 10%, 5%], goes_on: 80%}";
            document.refuse(problem.with_hint(hint));
        }
        return None;
    };
    if !raw.feedback.is_empty() {
        let problem = Problem::new("world.feedback", "stands beside lists, whose clicks are the feedback");
        document.refuse(problem.with_hint("remove it, or remove `rankings`"));
    }
    let binary = |model: &Model| model.feedback.first().is_some_and(|one| one.kind == FeedbackKind::Binary);
    if !merges && model.is_some_and(|model| !matches!(model.strategy, Strategy::Ab(_)) || !binary(model)) {
        let problem =
            Problem::new("world.rankings", "are for kind: interleave, or kind: ab with a binary feedback");
        document.refuse(problem.with_hint("the feedback of an ab is 1 for a call that brings a click"));
    }
    let attraction: Vec<f64> = raw_lists.attraction.iter().flatten().flatten().map(|part| part.0).collect();
    if attraction.len() < 2 || attraction.iter().any(|part| *part > 1.0) {
        let problem =
            Problem::new("world.rankings.attraction", "is no list of two or more parts of those who look");
        document.refuse(problem.with_hint("say for each item how many of them click, like [40%, 10%, 5%]"));
    }
    let places: Vec<u64> = raw_lists.swap.iter().flatten().flatten().copied().collect();
    let swap = match places[..] {
        [one, other] => Some((one, other)),
        _ => None,
    };
    let within = |place: u64| (1..=attraction.len() as u64).contains(&place);
    if raw_lists.swap.is_some() && !swap.is_some_and(|(one, other)| within(one) && within(other)) {
        let problem = Problem::new("world.rankings.swap", "is no pair of places of the list");
        document.refuse(problem.with_hint("write two, counted from 1, like [2, 4]"));
    }
    let ways = [
        raw_lists.goes_on.map(|part| Looks::Cascade(part.0)),
        raw_lists.looks.map(|part| Looks::Places(part.0)),
        raw_lists.prefers.map(|part| Looks::Prefers(part.0)),
    ];
    let given: Vec<Looks> = ways.into_iter().flatten().collect();
    let [looks] = given[..] else {
        let problem = Problem::new("world.rankings", "says where people look in no way, or in two");
        document.refuse(problem.with_hint("give one of goes_on, looks and prefers, like goes_on: 80%"));
        return None;
    };
    let index = |place: u64| usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
    let swap = swap.map(|(one, other)| (index(one), index(other)));
    Some(Rankings { attraction, shuffled: raw_lists.shuffled.unwrap_or(false), swap, looks })
}

fn failing(document: &mut Document, path: &str, raw: Option<&RawFailing>) -> Failing {
    let Some(raw) = raw else { return Failing { burst: 1, drift: 1.0, ..Failing::default() } };
    let candidate = raw.candidate.map_or_else(Change::default, |raw| Change {
        times: raw.times.0,
        after: raw.after.map_or(Duration::ZERO, |span| span.0),
    });
    let drift = raw.drift.map_or(1.0, |drift| drift.0);
    let rate = raw.rate.map_or(0.0, |rate| rate.0);
    if raw.rate.is_none() {
        let problem = Problem::new(format!("{path}.rate"), "is missing");
        document.refuse(problem.with_hint("say which part of the baseline's calls, like 1%"));
    }
    positive(document, &format!("{path}.drift"), drift);
    at_least_zero(document, &format!("{path}.candidate.times"), candidate.times);
    let most = rate * drift.max(1.0) * candidate.times.max(1.0);
    if most > 1.0 {
        let problem = Problem::new(path, format!("would fail {:.0} % of the calls", most * 100.0));
        document.refuse(problem.with_hint("rate, drift and candidate.times together may come to 100%"));
    }
    if let Some(outages) = &raw.outages
        && (outages.last.0 >= outages.every.0 || outages.rate.0 > 1.0)
    {
        let problem = Problem::new(format!("{path}.outages"), "leave no time between them, or fail too much");
        document.refuse(problem.with_hint("write them like {every: 1h, last: 30s, rate: 50%}"));
    }
    let outages = raw.outages.as_ref().map(|raw| (raw.every.0, raw.last.0, raw.rate.0));
    Failing { rate, drift, candidate, outages, burst: raw.burst.unwrap_or(1).max(1) }
}

fn latency(document: &mut Document, raw: &RawLatency) -> Latency {
    positive(document, "world.latency.median", raw.median.0.as_secs_f64());
    positive(document, "world.latency.spread", raw.spread.0);
    let baseline = Lognormal { median: raw.median.0, spread: raw.spread.0, tail: (0.0, 1.0) };
    let mut candidate = baseline;
    let mut after = Duration::ZERO;
    if let Some(slower) = &raw.candidate {
        positive(document, "world.latency.candidate.times", slower.times.0);
        match slower.tail {
            Some(tail) if tail.0 > 1.0 => {
                let problem = Problem::new("world.latency.candidate.tail", "is more than everything");
                document.refuse(problem.with_hint("say which part of its calls is slower, like 2%"));
            }
            Some(tail) => candidate.tail = (tail.0, slower.times.0),
            None => candidate.median = baseline.median.mul_f64(slower.times.0.max(0.0)),
        }
        after = slower.after.map_or(Duration::ZERO, |span| span.0);
    }
    Latency { baseline, candidate, after }
}

fn strange(document: &mut Document, raw: &RawStrange) -> Strange {
    if raw.share.0 <= 0.0 || raw.share.0 >= 1.0 {
        let problem = Problem::new("world.strange.share", "is none of the calls, or all of them");
        document.refuse(problem.with_hint("say which part of all calls is theirs, like 5%"));
    }
    let does = match &raw.does {
        Some(does) => does.iter().copied().flatten().collect(),
        None => Oddity::ALL.to_vec(),
    };
    if raw.does.as_ref().is_some_and(Vec::is_empty) {
        let problem = Problem::new("world.strange.does", "names nothing");
        document.refuse(problem.with_hint("the default is [deadlines, cancels, rubbish]"));
    }
    Strange { share: raw.share.0, callers: raw.callers.unwrap_or(1).max(1), does }
}
