//! What is told of rollouts: a line each, or all that is known of one.

use std::sync::Arc;

use super::Rollouts;
use super::live::Inner;
use super::record::{Role, Status, Summary, VariantStatus};
use crate::assignment::Reason;
use crate::config::{Model, Strategy, Variant};
use crate::drift::Drifting;
use crate::shadow::judges::Judged;
use crate::strategy::{Split, Standing, rolling};
use crate::telemetry::metrics::rollouts as metrics;
use crate::upstream::readiness::Target;
use crate::verdict::{Report, State, Verdict};
use crate::warm::{Sent, Warmth};

impl Rollouts {
    /// Every rollout of the configuration in force, in the order of its file.
    pub fn list(&self) -> Vec<Summary> {
        let summary = |live: Arc<super::live::Live>| {
            let mut inner = live.inner();
            let report = self.of(&mut inner);
            let model = &inner.model;
            let whole = matches!(live.standing().split, Split::Only(_));
            let segmented = !model.strategy.segments().is_empty() && !whole;
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
        let mut inner = live.inner();
        let mut report = self.of(&mut inner);
        // Where the report is from, which workers see a moment later.
        let standing = inner.act(|machine, model| machine.standing(model)).unwrap_or(live.standing());
        let model = Arc::clone(&inner.model);
        let endpoints = inner.act(|machine, _| machine.rolling().map(rolling::Progress::endpoints)).flatten();
        if !model.strategy.decides() || endpoints.is_some() {
            report.calls = self.assigned(&model);
        }
        let switch = inner.act(|machine, _| machine.switch()).flatten();
        let variants = (0..model.variants.len()).filter_map(|index| self.variant(&model, index, switch));
        Some(Status {
            model: Arc::clone(&model.name),
            kind: model.strategy.kind().to_owned(),
            revision: model.revision,
            epoch: standing.epoch,
            config: Arc::clone(&inner.config),
            variants: variants.collect(),
            differs: differs(&model, &standing, report.state),
            report,
            fleet: self.fleet_of(&mut inner),
            kept: if inner.shared.is_some() { self.kept_shared(&mut inner) } else { self.kept(true) },
            endpoints: endpoints.unwrap_or_default(),
            shadows: self.ground.judges.of(&model),
            drift: self.ground.drifts.of(&model),
        })
    }

    /// What metrics say of all of it.
    pub fn metrics(&self) -> metrics::Rollouts {
        let rollout = |live: Arc<super::live::Live>| {
            let mut inner = live.inner();
            let report = self.of(&mut inner);
            let guards = report.findings.iter().map(|finding| metrics::Guard {
                name: Arc::clone(&finding.guard),
                aim: finding.aim,
                variant: Arc::clone(&finding.variant),
                verdict: finding.verdict,
            });
            metrics::Rollout {
                model: Arc::clone(&inner.model.name),
                state: report.state,
                step: report.step.map(|(step, _)| step),
                shares: named(&inner.model, &report.shares),
                mismatched: inner
                    .model
                    .variants
                    .iter()
                    .filter(|_| matches!(inner.model.strategy, Strategy::Interleave(_)))
                    .map(|variant| {
                        (Arc::clone(&variant.name), self.mismatch(&inner.model, variant).is_some())
                    })
                    .collect(),
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
            judged: self.all().iter().flat_map(|live| self.judged(live)).collect(),
            drifting: self.all().iter().filter_map(|live| self.drifting(live)).collect(),
            warmed: self.ground.warmer.sent().into_iter().map(warmed).collect(),
            fleet: self.fleet_metrics(),
            keeping: state.is_kept().then(|| metrics::Keeping {
                failing: state.trouble().or(state.undone()).is_some(),
                errors: state.errors(),
                lost: state.lost(),
            }),
        }
    }

    fn judged(&self, live: &super::live::Live) -> Vec<Judged> {
        let model = Arc::clone(&live.inner().model);
        self.ground.judges.of(&model)
    }

    fn drifting(&self, live: &super::live::Live) -> Option<Drifting> {
        let model = Arc::clone(&live.inner().model);
        self.ground.drifts.of(&model)
    }

    fn of(&self, inner: &mut Inner) -> Report {
        let now = inner.time(self.clock.now());
        let known = inner.act_lead(|machine, model| {
            let mut report = machine.report(model, now);
            let replaced = match &model.strategy {
                Strategy::Rolling(rolling) => {
                    machine.rolling().and_then(|progress| progress.warms().next()).map(|_| rolling.variant)
                }
                _ => None,
            };
            if let Some(warmth) =
                machine.warms(model).or(replaced).and_then(|variant| self.warmth(model, variant))
            {
                report.waits_for.push_str(&format!(": {warmth}"));
            }
            report
        });
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
                waits_for: match inner.shared.is_some() {
                    true => "the store that replicas share, to know the plan".to_owned(),
                    false => format!("the state directory, to know where it stood{why}"),
                },
                learning: None,
            }
        })
    }

    /// How far the endpoint of a variant is that is warmed and not warm yet.
    fn warmth(&self, model: &Model, variant: usize) -> Option<Warmth> {
        let found = model.variants.get(variant)?;
        let targets = found.endpoints.iter().map(|endpoint| Target::new(model, found, endpoint));
        let mut known = targets.filter_map(|target| self.ground.warmer.find(&target));
        known.find(|warmth| !warmth.done)
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
            Reason::Interleaved,
        ];
        let of = |name: &Arc<str>| {
            let series = self.ground.shards.iter().map(|shard| shard.series(&model.name, name));
            series.map(|series| by_strategy.iter().map(|reason| series.assigned(*reason)).sum::<u64>()).sum()
        };
        model.variants.iter().map(|variant| of(&variant.name)).collect()
    }

    /// What an endpoint of a variant says of its outputs otherwise than the file.
    fn mismatch(&self, model: &Model, variant: &Variant) -> Option<String> {
        let targets = variant.endpoints.iter().map(|endpoint| Target::new(model, variant, endpoint));
        let mut said = targets.filter_map(|target| self.ground.board.find(&target)?.mismatch());
        said.next().map(|why| why.to_string())
    }

    fn variant(&self, model: &Model, index: usize, switch: Option<(usize, usize)>) -> Option<VariantStatus> {
        let variant = model.variants.get(index)?;
        let ready = self.ready(model, index);
        Some(VariantStatus {
            name: Arc::clone(&variant.name),
            version: variant.version.clone(),
            build: Arc::clone(&variant.build),
            role: role(model, index, switch),
            ready: ready.is_ok(),
            why: match ready {
                Err(crate::verdict::Refused::NotReady { why, .. }) => Some(why),
                Ok(()) | Err(_) => None,
            },
            mismatch: self.mismatch(model, variant),
            blocked: self.memory().blocks.get(&model.name, &variant.build).is_some(),
        })
    }
}

fn warmed(sent: Sent) -> metrics::Warmed {
    let Sent { model, variant, answered, failed } = sent;
    metrics::Warmed { model, variant, answered, failed }
}

fn named(model: &Model, shares: &[f64]) -> Vec<(Arc<str>, f64)> {
    model.variants.iter().map(|variant| Arc::clone(&variant.name)).zip(shares.iter().copied()).collect()
}

fn role(model: &Model, index: usize, switch: Option<(usize, usize)>) -> Role {
    match switch {
        Some((_, new)) if new == index => return Role::Candidate,
        Some((old, _)) if old == index => return Role::Baseline,
        _ => {}
    }
    if index == model.baseline() {
        return Role::Baseline;
    }
    if model.is_shadow(index) {
        return Role::Shadow;
    }
    match &model.strategy {
        strategy if strategy.candidate() == Some(index) => Role::Candidate,
        Strategy::Interleave(interleave) if interleave.arms.iter().any(|arm| arm.variant == index) => {
            Role::Arm
        }
        Strategy::Ab(ab) if ab.weights.iter().any(|(variant, _)| *variant == index) => Role::Arm,
        Strategy::Bandit(bandit) if bandit.arms.iter().any(|arm| arm.variant == index) => Role::Arm,
        _ => Role::Idle,
    }
}

/// How the file and what is in force differ.
fn differs(model: &Model, standing: &Standing, state: State) -> Option<String> {
    if let Split::Without(out) = standing.split {
        let gone = model.variants.iter().enumerate().filter(|(index, _)| out.has(*index));
        let gone: Vec<&str> = gone.map(|(_, variant)| &*variant.name).collect();
        return Some(format!(
            "the file gives {} a share, but it was taken out, and the baseline has it; `export` prints the file that agrees",
            gone.join(", ")
        ));
    }
    let Split::Only(variant) = standing.split else { return None };
    let name = &model.variants.get(variant)?.name;
    let why = match state {
        State::Waiting | State::Paused | State::Held => "the switch waits",
        State::Promoted => "it was promoted",
        State::RolledBack
            if model.strategy.candidate().is_none() && !matches!(model.strategy, Strategy::Pinned(_)) =>
        {
            "the others were rolled back"
        }
        State::RolledBack => "the new build was rolled back",
        _ => "a person pinned it",
    };
    let said = match &model.strategy {
        Strategy::Pinned(pinned) => {
            format!("kind: pinned, variant: {}", model.variants.get(pinned.variant)?.name)
        }
        _ => format!("kind: {}", model.strategy.kind()),
    };
    Some(format!(
        "the file says `{said}`, but {name} gets everything, for {why}; `export` prints the file that agrees"
    ))
}
