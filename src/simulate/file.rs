//! A scenario: a world, the strategy that is let loose in it in the words of the configuration, and what must come
//! of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::chance::Lognormal;
use crate::config::document::Document;
use crate::config::{Canary, Errors, Model, Problem, Strategy, units};
use crate::strategy::canary::plan::{Expected, needs};

/// The variants of every simulated model, by their index.
pub(super) const VARIANTS: [&str; 2] = ["stable", "next"];

/// A scenario that was accepted.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub(super) about: String,
    pub(super) canary: Arc<Canary>,
    /// Whether calls belong to units.
    pub(super) units: bool,
    pub(super) world: World,
    pub(super) until: Duration,
    pub(super) runs: u64,
    pub(super) quick: u64,
    pub(super) seed: u64,
    pub(super) naive: bool,
    pub(super) expect: Expect,
}

/// What the calls are like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct World {
    /// Calls a second, on average.
    pub(super) calls: f64,
    pub(super) arrivals: Arrivals,
    pub(super) errors: Failing,
    pub(super) rejections: Failing,
    pub(super) latency: Option<Latency>,
}

/// How the number of calls changes with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Arrivals {
    /// Not at all.
    #[default]
    Steady,
    /// Between a fifth and nine fifths of the average, once around in 24 hours.
    Day,
    /// Ten times as many during 10 seconds of every five minutes.
    Bursts,
}

/// How calls fail.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Failing {
    /// Of the baseline's calls, at the beginning.
    pub(super) rate: f64,
    /// What the rate has been multiplied by at the end, growing evenly.
    pub(super) drift: f64,
    /// The candidate has so many times the baseline's rate.
    pub(super) candidate: Change,
    /// Times at which this part of all calls fails, whoever gets them: how often, how long, which part.
    pub(super) outages: Option<(Duration, Duration, f64)>,
    /// Failures come in bursts of so many, by one unit within 20 seconds.
    pub(super) burst: u64,
}

/// How long calls take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) baseline: Lognormal,
    pub(super) candidate: Lognormal,
    /// When the candidate begins to differ.
    pub(super) after: Duration,
}

/// What becomes different about the candidate, and how long after its first call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) times: f64,
    pub(super) after: Duration,
}

impl Default for Change {
    fn default() -> Self {
        Change { times: 1.0, after: Duration::ZERO }
    }
}

/// What must come of it, each as a range.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// Of all runs.
    pub(super) rolled_back: Option<ShareRange>,
    pub(super) promoted: Option<ShareRange>,
    pub(super) held: Option<ShareRange>,
    /// Runs in which the naive test ever said "worse".
    pub(super) naive: Option<ShareRange>,
    /// Failed calls of the candidate before it was rolled back.
    pub(super) errors_median: Option<Range>,
    /// Calls of the candidate until the verdict.
    pub(super) calls_median: Option<Range>,
    /// How far the median of calls until the promotion may be from what `check` announces.
    pub(super) announced: Option<Part>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareRange {
    pub(super) at_least: Option<Part>,
    pub(super) at_most: Option<Part>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
}

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    about: Option<String>,
    world: Option<RawWorld>,
    until: Option<Span>,
    runs: Option<u64>,
    quick: Option<u64>,
    seed: Option<u64>,
    naive: Option<bool>,
    expect: Expect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWorld {
    calls: Number,
    arrivals: Option<Arrivals>,
    errors: Option<RawFailing>,
    rejections: Option<RawFailing>,
    latency: Option<RawLatency>,
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

/// `5%`, and more than everything where that has a meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Part(pub(super) f64);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Span(Duration);

/// A number; none where it is left out, or was refused already.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Number(f64);

impl Default for Number {
    fn default() -> Self {
        Number(f64::NAN)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.map_or_else(Number::default, Number))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Null stands where something was refused already.
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(Part::default()) };
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number.filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => Ok(Part(number / 100.0)),
            None => Err(Error::invalid_value(Unexpected::Str(&text), &"a share like 5%")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(Span::default()) };
        let wrong = |_| Error::invalid_value(Unexpected::Str(&text), &"a duration like 90s or 24h");
        units::duration(&text).map(Span).map_err(wrong)
    }
}

/// Reads the scenario at `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<Scenario, Errors> {
    accept(Document::read(path)?)
}

/// Reads a scenario's text; `name` is what its problems call it.
///
/// # Errors
/// As [`read`].
pub fn read_text(name: &str, text: &str) -> Result<Scenario, Errors> {
    accept(Document::of_text(name, text)?)
}

fn accept(mut document: Document) -> Result<Scenario, Errors> {
    let model = document.model(&["strategy", "unit"], &VARIANTS);
    let raw: Raw = document.shape();
    let canary = model.as_ref().and_then(|model| canary(&mut document, model));
    let world = match &raw.world {
        Some(world) => Some(accept_world(&mut document, world)),
        None => {
            let hint = "say what the calls are like: world: {calls: 50, errors: {rate: 1%}}";
            document.refuse(Problem::new("world", "is missing").with_hint(hint));
            None
        }
    };
    let until = raw.until.map_or(Duration::from_secs(24 * 3600), |span| span.0);
    if until.is_zero() {
        document.refuse(Problem::new("until", "is no time at all").with_hint("the default is 24h"));
    }
    document.finish()?;
    // Whatever is missing here was refused above.
    let (Some(canary), Some(world)) = (canary, world) else { return Err(Errors(Vec::new())) };
    Ok(Scenario {
        about: raw.about.unwrap_or_default(),
        canary,
        units: model.is_some_and(|model| !model.unit.is_empty()),
        world,
        until,
        runs: raw.runs.unwrap_or(1000).max(1),
        quick: raw.quick.unwrap_or(20).max(1),
        seed: raw.seed.unwrap_or(1),
        naive: raw.naive.unwrap_or(false),
        expect: raw.expect,
    })
}

fn canary(document: &mut Document, model: &Model) -> Option<Arc<Canary>> {
    if let Strategy::Canary(canary) = &model.strategy {
        for (index, _) in canary.guards.feedback.iter().enumerate() {
            let path = format!("strategy.guards.feedback[{index}]");
            document.refuse(Problem::new(path, "cannot be simulated").with_hint("leave the guard out"));
        }
        return Some(Arc::clone(canary));
    }
    let problem = Problem::new("strategy.kind", "decides nothing, so there is nothing to simulate");
    document.refuse(problem.with_value(format!("{:?}", model.strategy.kind())).with_hint("use kind: canary"));
    None
}

fn accept_world(document: &mut Document, raw: &RawWorld) -> World {
    positive(document, "world.calls", raw.calls.0);
    World {
        calls: raw.calls.0,
        arrivals: raw.arrivals.unwrap_or_default(),
        errors: failing(document, "world.errors", raw.errors.as_ref()),
        rejections: failing(document, "world.rejections", raw.rejections.as_ref()),
        latency: raw.latency.as_ref().map(|raw| latency(document, raw)),
    }
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

fn positive(document: &mut Document, path: &str, number: f64) {
    if !(number.is_finite() && number > 0.0) {
        document.refuse(shown(Problem::new(path, "is not above 0"), number).with_hint("write more"));
    }
}

fn at_least_zero(document: &mut Document, path: &str, number: f64) {
    if !(number.is_finite() && number >= 0.0) {
        let problem = shown(Problem::new(path, "is not a number from 0 on"), number);
        document.refuse(problem.with_hint("1 is as the baseline, 3 is three times as many"));
    }
}

/// With the number, where there is one.
fn shown(problem: Problem, number: f64) -> Problem {
    if number.is_nan() { problem } else { problem.with_value(number.to_string()) }
}

impl Scenario {
    /// What the canary announces for this world: calls of the candidate until it can be promoted, by its slowest
    /// guard; none where a guard can never pass.
    pub(super) fn announced(&self) -> Option<u64> {
        let rate = self.world.errors.rate.max(self.world.rejections.rate);
        let spread = self.world.latency.map_or(0.5, |latency| latency.baseline.spread);
        let needs = needs(&self.canary, &Expected { rate, spread });
        let slowest =
            needs.iter().map(|need| need.calls).try_fold(0, |most, calls| Some(most.max(calls?)))?;
        // A step takes its hold's calls, however soon it has passed.
        let mut least = self.canary.steps.iter().map(|step| {
            let in_hold = self.world.calls * step.share.probability() * step.hold.as_secs_f64();
            step.calls.max(in_hold as u64)
        });
        let first = least.next().unwrap_or(0);
        Some(slowest.max(first) + least.sum::<u64>())
    }
}
