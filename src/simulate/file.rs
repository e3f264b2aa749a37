//! A scenario: a world, the strategy that is let loose in it in the words of the configuration, and what must come
//! of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::VARIANTS;
use super::fleet::Together;
use super::world::World;
use crate::config::document::Document;
use crate::config::{Errors, Model, Problem, Strategy};
use crate::strategy::canary::plan::{Expected, legs};

mod learnt;
mod together;
mod words;
mod world;

/// Variants of a scenario that asks for no number of them: a baseline and a candidate.
const LEAST: usize = 2;

pub(super) use words::Part;
use words::Span;

/// A scenario that was accepted.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub(super) about: String,
    pub(super) model: Arc<Model>,
    pub(super) world: World,
    /// Who judges: many replicas together; none: one that sees all calls.
    pub(super) together: Option<Together>,
    pub(super) until: Duration,
    pub(super) runs: u64,
    pub(super) quick: u64,
    pub(super) seed: u64,
    pub(super) naive: bool,
    pub(super) expect: Expect,
}

/// What must come of it, each as a range.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// Of all runs.
    pub(super) rolled_back: Option<ShareRange>,
    pub(super) promoted: Option<ShareRange>,
    pub(super) held: Option<ShareRange>,
    /// Of all runs of a comparison: those that had a winner or a loser, those whose samples were said to be broken,
    /// and those whose interval held the true difference when they ended.
    pub(super) decided: Option<ShareRange>,
    pub(super) blocked: Option<ShareRange>,
    pub(super) covered: Option<ShareRange>,
    /// Of all decisive sessions of all runs: those that preferred the candidate.
    pub(super) preferred: Option<ShareRange>,
    /// Of all bandits that ended with a winner: those whose winner no other is better than.
    pub(super) right: Option<ShareRange>,
    /// What a bandit lost until the end against always taking the best, on average.
    pub(super) regret: Option<Range>,
    /// Runs in which the naive test ever said "worse".
    pub(super) naive: Option<ShareRange>,
    /// Failed calls of the candidate before it was rolled back.
    pub(super) errors_median: Option<Range>,
    /// The same, and the seconds from the candidate's first call until nobody gives it one, of all runs but one of a
    /// hundred.
    pub(super) errors_p99: Option<Range>,
    pub(super) seconds_p99: Option<Range>,
    /// Seconds from a decision until all replicas serve it, likewise.
    pub(super) told_p99: Option<Range>,
    /// Calls of the candidate until the verdict.
    pub(super) calls_median: Option<Range>,
    /// Calls of both arms until the verdict.
    pub(super) units_median: Option<Range>,
    /// Values of the feedback that is asked for first, of both arms, until the verdict.
    pub(super) feedback_median: Option<Range>,
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
    variants: Option<u64>,
    replicas: Option<u64>,
    store: Option<together::RawStore>,
    world: Option<world::RawWorld>,
    until: Option<Span>,
    runs: Option<u64>,
    quick: Option<u64>,
    seed: Option<u64>,
    naive: Option<bool>,
    expect: Expect,
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
    let model = document.model(&["strategy", "unit", "feedback"], &VARIANTS[..count(&document)]);
    let raw: Raw = document.shape();
    if let Some(model) = &model {
        refuse_idle(&mut document, model);
        refuse_more(&mut document, model, raw.variants);
    }
    let world = match &raw.world {
        Some(world) => Some(world::accept(&mut document, model.as_deref(), world)),
        None => {
            let hint = "say what the calls are like: world: {calls: 50, errors: {rate: 1%}}";
            document.refuse(Problem::new("world", "is missing").with_hint(hint));
            None
        }
    };
    let together = together::together(&mut document, raw.replicas, raw.store);
    refuse_told(&mut document, together.is_some(), &raw.expect);
    let until = raw.until.map_or(Duration::from_secs(24 * 3600), |span| span.0);
    if until.is_zero() {
        document.refuse(Problem::new("until", "is no time at all").with_hint("the default is 24h"));
    }
    document.finish()?;
    // Whatever is missing here was refused above.
    let (Some(model), Some(world)) = (model, world) else {
        return Err(Errors(Vec::new()));
    };
    Ok(Scenario {
        about: raw.about.unwrap_or_default(),
        model,
        world,
        together,
        until,
        runs: raw.runs.unwrap_or(1000).max(1),
        quick: raw.quick.unwrap_or(20).max(1),
        seed: raw.seed.unwrap_or(1),
        naive: raw.naive.unwrap_or(false),
        expect: raw.expect,
    })
}

/// How many variants the scenario has, as far as that can be.
fn count(document: &Document) -> usize {
    let bandit = document.written(&["strategy", "kind"]).is_some_and(|kind| kind == "bandit");
    let asked = document.written(&["variants"]).filter(|_| bandit).and_then(serde_json::Value::as_u64);
    let asked = asked.and_then(|asked| usize::try_from(asked).ok());
    asked.filter(|asked| (LEAST..=VARIANTS.len()).contains(asked)).unwrap_or(LEAST)
}

/// Refuses a strategy that finds nothing out.
fn refuse_idle(document: &mut Document, model: &Model) {
    let idle = match &model.strategy {
        Strategy::Ab(ab) => ab.judge.is_none(),
        Strategy::Pinned(_) | Strategy::Shadow(_) | Strategy::Rolling(_) => true,
        Strategy::Canary(_) | Strategy::Staged(_) | Strategy::Interleave(_) | Strategy::Bandit(_) => false,
    };
    if idle {
        let problem = Problem::new("strategy.kind", "decides nothing, so there is nothing to simulate");
        let hint = "use kind: canary, kind: ab with metrics, kind: bandit, kind: interleave, or kind: staged";
        document.refuse(problem.with_value(format!("{:?}", model.strategy.kind())).with_hint(hint));
    }
    let staged = matches!(model.strategy, Strategy::Staged(_));
    if staged && model.strategy.stages().any(|stage| matches!(stage, Strategy::Bandit(_))) {
        let problem = Problem::new("strategy.stages", "have a bandit among them, whose calls are drawn anew");
        document.refuse(problem.with_hint("play it by itself, and the stages before it by themselves"));
    }
    if let Strategy::Bandit(bandit) = &model.strategy
        && bandit.policy.is_contextual()
    {
        let problem = Problem::new("strategy.policy", "tells calls apart, and a world's calls are all alike");
        document.refuse(problem.with_hint("use a policy without a context, like thompson"));
    }
}

/// Refuses numbers of variants that a scenario cannot have.
fn refuse_more(document: &mut Document, model: &Model, asked: Option<u64>) {
    let Some(asked) = asked else { return };
    let most = match model.strategy {
        Strategy::Bandit(_) => VARIANTS.len(),
        _ => LEAST,
    };
    if !(LEAST as u64..=most as u64).contains(&asked) {
        let (text, hint) = match most > LEAST {
            true => ("are too few, or too many, to choose between", format!("write {LEAST} to {most}")),
            false => ("are for kind: bandit", "leave it out: a baseline and a candidate are two".to_owned()),
        };
        document.refuse(Problem::new("variants", text).with_value(asked.to_string()).with_hint(hint));
    }
}

/// Refuses to expect something of replicas where there is one.
fn refuse_told(document: &mut Document, together: bool, expect: &Expect) {
    if expect.told_p99.is_some() && !together {
        let problem = Problem::new("expect.told_p99", "is about replicas, and there is one");
        document.refuse(problem.with_hint("say how many there are: replicas: 100"));
    }
}

impl Scenario {
    /// Whether the candidate is compared with the baseline for a winner.
    pub(super) fn compares(&self) -> bool {
        let compares = |stage: &Strategy| {
            matches!(stage, Strategy::Ab(_) | Strategy::Interleave(_) | Strategy::Bandit(_))
        };
        self.model.strategy.stages().any(compares)
    }

    /// Whether calls belong to units.
    pub(super) fn units(&self) -> bool {
        !self.model.unit.is_empty()
    }

    /// What a canary announces for this world: calls of the candidate until it can be promoted, by its slowest
    /// guard; none where a guard can never pass, or waits for feedback, of which nothing is announced.
    pub(super) fn announced(&self) -> Option<u64> {
        let Strategy::Canary(canary) = &self.model.strategy else { return None };
        if !canary.guards.feedback.is_empty() {
            return None;
        }
        let rate = self.world.errors.rate.max(self.world.rejections.rate);
        let spread = self.world.latency.map_or(0.5, |latency| latency.baseline.spread);
        let legs = legs(canary, &Expected { rate, spread }, self.world.calls)?;
        Some(legs.iter().map(|leg| leg.calls).sum())
    }
}
