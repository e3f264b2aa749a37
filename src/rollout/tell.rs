//! What is told of rollouts: a line each, or all that is known of one.

use std::sync::Arc;

use super::Rollouts;
use super::live::Inner;
use super::record::{Role, Status, Summary, VariantStatus};
use crate::assignment::Reason;
use crate::config::{Model, Strategy};
use crate::strategy::{Split, Standing};
use crate::telemetry::metrics::rollouts as metrics;
use crate::verdict::{Report, State, Verdict};

impl Rollouts {
    /// Every rollout of the configuration in force, in the order of its file.
    pub fn list(&self) -> Vec<Summary> {
        let summary = |live: Arc<super::live::Live>| {
            let mut inner = live.inner();
            let report = self.of(&mut inner);
            let model = &inner.model;
            let segmented = !model.strategy.segments().is_empty() && report.state == State::Steady;
            let shares = if segmented { Vec::new() } else { named(model, &report.shares) };
            Summary {
                model: Arc::clone(&model.name),
                kind: model.strategy.kind().to_owned(),
                state: report.state,
                step: report.step,
                shares,
                verdict: report.verdict,
                revision: model.revision,
                epoch: live.standing().epoch,
            }
        };
        self.all().into_iter().map(summary).collect()
    }

    /// All that is known of a model's rollout.
    pub fn report(&self, model: &str) -> Option<Status> {
        let live = self.find(model)?;
        let standing = live.standing();
        let mut inner = live.inner();
        let mut report = self.of(&mut inner);
        let model = Arc::clone(&inner.model);
        if !model.strategy.decides() {
            report.calls = self.assigned(&model);
        }
        let variants = (0..model.variants.len()).filter_map(|index| self.variant(&model, index));
        Some(Status {
            model: Arc::clone(&model.name),
            kind: model.strategy.kind().to_owned(),
            revision: model.revision,
            epoch: standing.epoch,
            config: Arc::clone(&inner.config),
            variants: variants.collect(),
            differs: differs(&model, &standing, report.state),
            report,
            kept: self.kept(true),
        })
    }

    /// What metrics say of all of it.
    pub fn metrics(&self) -> metrics::Rollouts {
        let rollout = |live: Arc<super::live::Live>| {
            let mut inner = live.inner();
            let report = self.of(&mut inner);
            let guards = report.findings.iter().map(|finding| (Arc::clone(&finding.guard), finding.verdict));
            metrics::Rollout {
                model: Arc::clone(&inner.model.name),
                state: report.state,
                step: report.step.map(|(step, _)| step),
                shares: named(&inner.model, &report.shares),
                guards: guards.collect(),
                uncounted: inner.uncounted(),
            }
        };
        let state = &self.state;
        let memory = self.memory();
        let mut changes: Vec<_> = memory.changes.iter().map(|(action, count)| (*action, *count)).collect();
        drop(memory);
        changes.sort_unstable();
        metrics::Rollouts {
            all: self.all().into_iter().map(rollout).collect(),
            changes,
            keeping: state.is_kept().then(|| metrics::Keeping {
                failing: state.trouble().or(state.undone()).is_some(),
                errors: state.errors(),
                lost: state.lost(),
            }),
        }
    }

    fn of(&self, inner: &mut Inner) -> Report {
        let now = self.clock.now();
        let known = inner.act(|machine, model| machine.report(model, now));
        known.unwrap_or_else(|| {
            let why = self.state.trouble().map_or_else(String::new, |why| format!(": {why}"));
            let baseline = |index| f64::from(u8::from(index == inner.model.baseline()));
            let variants = inner.model.variants.len();
            Report {
                state: State::Waiting,
                step: None,
                stage: None,
                shares: (0..variants).map(baseline).collect(),
                calls: vec![0; variants],
                since: std::time::Duration::ZERO,
                findings: Vec::new(),
                verdict: Verdict::NotEnoughData,
                waits_for: format!("the state directory, to know where it stood{why}"),
            }
        })
    }

    /// Calls that the strategy gave to each variant since the process started.
    fn assigned(&self, model: &Model) -> Vec<u64> {
        let by_strategy = [
            Reason::Pinned,
            Reason::Split,
            Reason::Draw,
            Reason::Segment,
            Reason::NotReady,
            Reason::Decided,
            Reason::Holdout,
            Reason::Layer,
        ];
        let of = |name: &Arc<str>| {
            let series = self.ground.shards.iter().map(|shard| shard.series(&model.name, name));
            series.map(|series| by_strategy.iter().map(|reason| series.assigned(*reason)).sum::<u64>()).sum()
        };
        model.variants.iter().map(|variant| of(&variant.name)).collect()
    }

    fn variant(&self, model: &Model, index: usize) -> Option<VariantStatus> {
        let variant = model.variants.get(index)?;
        let ready = self.ready(model, index);
        Some(VariantStatus {
            name: Arc::clone(&variant.name),
            version: variant.version.clone(),
            build: Arc::clone(&variant.build),
            role: role(model, index),
            ready: ready.is_ok(),
            why: match ready {
                Err(crate::verdict::Refused::NotReady { why, .. }) => Some(why),
                Ok(()) | Err(_) => None,
            },
            blocked: self.memory().blocks.get(&model.name, &variant.build).is_some(),
        })
    }
}

fn named(model: &Model, shares: &[f64]) -> Vec<(Arc<str>, f64)> {
    model.variants.iter().map(|variant| Arc::clone(&variant.name)).zip(shares.iter().copied()).collect()
}

fn role(model: &Model, index: usize) -> Role {
    if index == model.baseline() {
        return Role::Baseline;
    }
    if model.is_shadow(index) {
        return Role::Shadow;
    }
    match &model.strategy {
        strategy if strategy.candidate() == Some(index) => Role::Candidate,
        Strategy::Ab(ab) if ab.weights.iter().any(|(variant, _)| *variant == index) => Role::Arm,
        _ => Role::Idle,
    }
}

/// How the file and what is in force differ.
fn differs(model: &Model, standing: &Standing, state: State) -> Option<String> {
    let Split::Only(variant) = standing.split else { return None };
    let name = &model.variants.get(variant)?.name;
    let kind = model.strategy.kind();
    let why = match state {
        State::Promoted => "it was promoted",
        State::RolledBack => "the candidate was rolled back",
        _ => "a person pinned it",
    };
    Some(format!(
        "the file says `kind: {kind}`, but {name} gets everything, for {why}; `export` prints the file that agrees"
    ))
}
