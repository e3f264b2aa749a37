//! The part of a scrape that tells of rollouts and of what is kept of them.

use std::sync::Arc;

use super::text::{Kind, Text};
use crate::feedback::Claimed;
use crate::telemetry::names::metric;
use crate::verdict::{Aim, State, Verdict};

/// One rollout at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// The model.
    pub model: Arc<str>,
    /// Where it is in its life.
    pub state: State,
    /// The step it is at, from 0.
    pub step: Option<u32>,
    /// Every variant's share, 0 to 1.
    pub shares: Vec<(Arc<str>, f64)>,
    /// What each finding says.
    pub guards: Vec<Guard>,
    /// Variants whose own metadata is asked for the outputs that the file declares, and whether it says otherwise.
    pub mismatched: Vec<(Arc<str>, bool)>,
    /// Failures that were not counted as evidence, for there were too many at once.
    pub uncounted: u64,
}

/// What one variant was sent before it was given calls.
#[derive(Debug, Clone)]
pub struct Warmed {
    /// The model.
    pub model: Arc<str>,
    /// The variant.
    pub variant: Arc<str>,
    /// Requests that were answered OK.
    pub answered: u64,
    /// Those that were not.
    pub failed: u64,
}

/// One finding of it.
#[derive(Debug, Clone)]
pub struct Guard {
    /// As in [`crate::verdict::Finding::guard`].
    pub name: Arc<str>,
    /// What is asked.
    pub aim: Aim,
    /// Who is compared; empty where only one can be.
    pub variant: Arc<str>,
    /// What it says.
    pub verdict: Verdict,
}

/// What is kept, at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keeping {
    /// Whether the state directory cannot be used now.
    pub failing: bool,
    /// How often it could not be used since the start.
    pub errors: u64,
    /// Records and marks that were never written.
    pub lost: u64,
}

/// One shared rollout at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct Member {
    /// The model.
    pub model: Arc<str>,
    /// Counts decisions: of the plan that is served; 0: none.
    pub version: u64,
    /// How long the store has given no answer.
    pub silence: std::time::Duration,
    /// Whether this replica decides.
    pub leads: bool,
    /// Parts of its evidence that the store is not known to have, and those that will never count.
    pub waiting: u64,
    /// See `waiting`.
    pub lost: u64,
    /// The store's clock less this replica's, in milliseconds.
    pub skew: i64,
    /// Replicas that said something in the last hour.
    pub replicas: u64,
    /// Of these: with another file, and another rollout of the model.
    pub apart: u64,
    /// What became of reports of feedback that were told the store.
    pub reports: Claimed,
}

/// What is shared with other replicas.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// In the order of the file.
    pub members: Vec<Member>,
    /// Exchanges that failed since the start, by cause.
    pub failures: Vec<(&'static str, u64)>,
}

/// All that is told of rollouts.
#[derive(Debug, Clone, Default)]
pub struct Rollouts {
    /// In the order of the file.
    pub all: Vec<Rollout>,
    /// Changes of plan since the start, by what was done.
    pub changes: Vec<(&'static str, u64)>,
    /// What variants were sent before they were given calls.
    pub warmed: Vec<Warmed>,
    /// What answers of shadows prove.
    pub judged: Vec<crate::shadow::judges::Judged>,
    /// How answers are distributed.
    pub drifting: Vec<crate::drift::Drifting>,
    /// None: nothing is kept.
    pub keeping: Option<Keeping>,
    /// None: nothing is shared.
    pub fleet: Option<Fleet>,
}

pub(super) fn write(text: &mut Text, rollouts: &Rollouts) {
    text.family(metric::ROLLOUT_STATE, Kind::Gauge, "Where a rollout is in its life; always 1.");
    for rollout in &rollouts.all {
        let labels = [("model", &*rollout.model), ("state", rollout.state.name())];
        text.sample(metric::ROLLOUT_STATE, &labels, 1);
    }
    text.family(metric::ROLLOUT_STEP, Kind::Gauge, "The step a rollout is at, from 0.");
    for rollout in &rollouts.all {
        if let Some(step) = rollout.step {
            text.sample(metric::ROLLOUT_STEP, &[("model", &*rollout.model)], step.into());
        }
    }
    text.family(metric::ROLLOUT_SHARE, Kind::Gauge, "The share that a variant is given, without segments.");
    for rollout in &rollouts.all {
        for (variant, share) in &rollout.shares {
            let labels = [("model", &*rollout.model), ("variant", &**variant)];
            text.ratio(metric::ROLLOUT_SHARE, &labels, *share);
        }
    }
    text.family(
        metric::ROLLOUT_VERDICT,
        Kind::Gauge,
        "What a guard says: 1 pass or equivalent, 0 not enough data, -1 fail or invalid.",
    );
    for rollout in &rollouts.all {
        for guard in &rollout.guards {
            let labels = [
                ("model", &*rollout.model),
                ("guard", &*guard.name),
                ("aim", guard.aim.name()),
                ("variant", &*guard.variant),
            ];
            // Where only one is judged, for nothing but harm, there is nothing to tell apart.
            let labels = if guard.variant.is_empty() { &labels[..2] } else { &labels[..] };
            let value = match guard.verdict {
                Verdict::Pass | Verdict::Equivalent => 1.0,
                Verdict::NotEnoughData | Verdict::Inconclusive => 0.0,
                Verdict::Fail | Verdict::Invalid => -1.0,
            };
            text.ratio(metric::ROLLOUT_VERDICT, labels, value);
        }
    }
    let help = "Whether a model's own metadata says otherwise than the file of its outputs: 1 or 0.";
    text.family(metric::OUTPUTS_MISMATCHED, Kind::Gauge, help);
    for rollout in &rollouts.all {
        for (variant, mismatched) in &rollout.mismatched {
            let labels = [("model", &*rollout.model), ("variant", &**variant)];
            text.sample(metric::OUTPUTS_MISMATCHED, &labels, u64::from(*mismatched));
        }
    }
    text.family(metric::ROLLOUT_CHANGES, Kind::Counter, "Changes of plan, by what was done.");
    for (action, count) in &rollouts.changes {
        text.sample(metric::ROLLOUT_CHANGES, &[("action", *action)], *count);
    }
    text.family(metric::ROLLOUT_UNCOUNTED, Kind::Counter, "Failures that are no evidence, for want of room.");
    for rollout in &rollouts.all {
        text.counted(metric::ROLLOUT_UNCOUNTED, &[("model", &*rollout.model)], rollout.uncounted);
    }
    text.family(
        metric::WARMUP_REQUESTS,
        Kind::Counter,
        "Requests sent to a variant before it was given calls.",
    );
    for warmed in &rollouts.warmed {
        for (result, count) in [("answered", warmed.answered), ("failed", warmed.failed)] {
            let labels = [("model", &*warmed.model), ("variant", &*warmed.variant), ("result", result)];
            text.sample(metric::WARMUP_REQUESTS, &labels, count);
        }
    }
    let mut kept = |name, kind, help, value: fn(Keeping) -> u64| {
        text.family(name, kind, help);
        if let Some(keeping) = rollouts.keeping {
            text.sample(name, &[], value(keeping));
        }
    };
    let failing = "Whether the state directory cannot be used: 1 or 0.";
    kept(metric::STATE_FAILING, Kind::Gauge, failing, |keeping| u64::from(keeping.failing));
    let errors = "Failures to read or write the state directory.";
    kept(metric::STATE_ERRORS, Kind::Counter, errors, |keeping| keeping.errors);
    let lost = "What was never written to the state directory.";
    kept(metric::STATE_LOST, Kind::Counter, lost, |keeping| keeping.lost);
    shared(text, rollouts.fleet.as_ref());
}

fn shared(text: &mut Text, fleet: Option<&Fleet>) {
    let members = fleet.map_or(&[][..], |fleet| &fleet.members);
    let mut gauge = |name, kind, help, value: fn(&Member) -> f64| {
        text.family(name, kind, help);
        for member in members {
            text.ratio(name, &[("model", &*member.model)], value(member));
        }
    };
    let help = "Decisions behind the plan that is served; 0: none is known.";
    gauge(metric::FLEET_PLAN_VERSION, Kind::Gauge, help, |member| member.version as f64);
    let help = "How long the store that replicas share has given no answer.";
    gauge(metric::FLEET_STALENESS, Kind::Gauge, help, |member| member.silence.as_secs_f64());
    let help = "Whether this replica decides for all: 1 or 0.";
    gauge(metric::FLEET_LEADS, Kind::Gauge, help, |member| f64::from(u8::from(member.leads)));
    let help = "Parts of this replica's evidence that the store is not known to have.";
    gauge(metric::FLEET_PARTS_WAITING, Kind::Gauge, help, |member| member.waiting as f64);
    let help = "Parts of this replica's evidence that will never count.";
    gauge(metric::FLEET_PARTS_LOST, Kind::Counter, help, |member| member.lost as f64);
    let help = "The store's clock less this replica's.";
    gauge(metric::FLEET_CLOCK_SKEW, Kind::Gauge, help, |member| member.skew as f64 / 1e3);
    let help = "Replicas that said something in the last hour.";
    gauge(metric::FLEET_REPLICAS, Kind::Gauge, help, |member| member.replicas as f64);
    let help = "Of these: with another file, and another rollout of this model.";
    gauge(metric::FLEET_REPLICAS_APART, Kind::Gauge, help, |member| member.apart as f64);
    let help = "Reports of feedback whose evidence waits for the store.";
    gauge(metric::FLEET_REPORTS_WAITING, Kind::Gauge, help, |member| member.reports.waiting as f64);
    let help = "Reports of feedback that were told the store, by what it knew of them.";
    text.family(metric::FLEET_REPORTS, Kind::Counter, help);
    for member in members {
        let Claimed { counted, repeated, full, .. } = member.reports;
        for (result, count) in [("counted", counted), ("repeated", repeated), ("full", full)] {
            text.sample(metric::FLEET_REPORTS, &[("model", &*member.model), ("result", result)], count);
        }
    }
    text.family(metric::FLEET_FAILURES, Kind::Counter, "Exchanges with the store that failed, by cause.");
    for (cause, count) in fleet.map_or(&[][..], |fleet| &fleet.failures) {
        text.sample(metric::FLEET_FAILURES, &[("cause", *cause)], *count);
    }
}
