//! What is known of rollouts, in the words of the service: nothing is left out, and nothing is added but what comes
//! next and where the file stands.

use std::time::Duration;

use super::next;
use crate::admin::Reload;
use crate::config::{Key, Model, Strategy};
use crate::pb::v1;
use crate::rollout::{
    Actor, AuditRecord, Explanation, FleetStatus, Kept, Replica, Role, Status, VariantStatus,
};
use crate::strategy::rolling::{EndpointReport, Place};
use crate::verdict::{Aim, ArmReport, Estimate, Finding, Interval, Learning, Scale, State, Verdict};

mod drift;
mod log;
mod shadow;

pub(super) use log::log;
pub(super) use shadow::shadow as judged;

pub(super) fn rollout(model: &Model, status: &Status, reload: &Reload) -> v1::Rollout {
    let report = &status.report;
    let (kept, kept_why) = kept(&status.kept);
    v1::Rollout {
        model: status.model.to_string(),
        kind: status.kind.clone(),
        state: state(report.state).into(),
        config_revision: status.config.to_string(),
        revision: revision(status.revision),
        step: report.step.map(|(step, _)| step + 1),
        steps: report.step.map_or(0, |(_, steps)| steps),
        since_ms: millis(report.since),
        arms: arms(status),
        verdict: verdict(report.verdict).into(),
        guards: report.findings.iter().map(guard).collect(),
        waits_for: report.waits_for.clone(),
        next: next::next(model, report),
        differs: status.differs.clone().unwrap_or_default(),
        refused: reload.errors.clone(),
        kept: kept.into(),
        kept_why,
        epoch: status.epoch,
        gone: false,
        stage: report.stage.as_ref().map(|stage| stage.index + 1),
        stages: report.stage.as_ref().map_or(0, |stage| stage.of),
        stage_name: report.stage.as_ref().map_or_else(String::new, |stage| stage.name.to_string()),
        endpoints: status.endpoints.iter().map(endpoint).collect(),
        shadows: status.shadows.iter().map(shadow::shadow).collect(),
        drift: status.drift.as_ref().map(drift::answers),
        learning: report.learning.as_ref().map(learning),
        fleet: status.fleet.as_ref().map(fleet),
        log: None,
    }
}

fn fleet(fleet: &FleetStatus) -> v1::Fleet {
    let replica = |replica: &Replica| v1::Replica {
        name: replica.name.to_string(),
        at_unix_ms: i64::try_from(replica.millis).unwrap_or(i64::MAX),
        version: replica.version,
        epoch: replica.epoch,
        revision: revision(replica.revision),
        config_revision: replica.config.to_string(),
    };
    v1::Fleet {
        replica: fleet.replica.to_string(),
        holder: fleet.holder.to_string(),
        version: fleet.version,
        silence_ms: millis(fleet.silence),
        parted: fleet.parted,
        waiting: fleet.waiting,
        lost: fleet.lost,
        skew_ms: fleet.skew,
        trouble: fleet.trouble.as_deref().unwrap_or_default().to_owned(),
        replicas: fleet.replicas.iter().map(replica).collect(),
    }
}

fn learning(learning: &Learning) -> v1::Learning {
    let arm = |arm: &ArmReport| v1::Learnt {
        variant: arm.variant.to_string(),
        values: arm.values,
        counted: arm.counted,
        mean: arm.mean,
        error: arm.error,
        best: arm.best,
        wished: arm.wished,
        out: arm.out,
    };
    let worth = |(value, error): (f64, f64), values: u64| v1::Worth { value, error, values };
    v1::Learning {
        policy: learning.policy.clone(),
        reward: learning.reward.to_string(),
        apprentice: learning.apprentice,
        arms: learning.arms.iter().map(arm).collect(),
        remaining: learning.remaining,
        own: learning.worth.map(|known| worth(known.own, known.n)),
        baseline: learning.worth.map(|known| worth(known.baseline, known.n)),
    }
}

fn endpoint(endpoint: &EndpointReport) -> v1::ServerEndpoint {
    let place = match endpoint.place {
        Place::Serving => v1::Place::Serving,
        Place::Draining => v1::Place::Draining,
        Place::Drained => v1::Place::Drained,
        Place::Warming => v1::Place::Warming,
    };
    v1::ServerEndpoint {
        address: endpoint.address.to_string(),
        place: place.into(),
        ready: endpoint.ready,
        runs: endpoint.runs.as_deref().unwrap_or_default().to_owned(),
        wanted: endpoint.wanted.as_deref().unwrap_or_default().to_owned(),
        in_flight: endpoint.in_flight,
    }
}

fn arms(status: &Status) -> Vec<v1::Arm> {
    let arm = |(index, variant): (usize, &VariantStatus)| v1::Arm {
        variant: variant.name.to_string(),
        version: variant.version.as_deref().unwrap_or_default().to_owned(),
        build: variant.build.to_string(),
        role: role(variant.role).into(),
        ready: variant.ready,
        why: variant.why.clone().unwrap_or_default(),
        share: status.report.shares.get(index).copied().unwrap_or_default(),
        calls: status.report.calls.get(index).copied().unwrap_or_default(),
        blocked: variant.blocked,
        mismatch: variant.mismatch.clone().unwrap_or_default(),
    };
    status.variants.iter().enumerate().map(arm).collect()
}

fn guard(finding: &Finding) -> v1::Guard {
    v1::Guard {
        name: finding.guard.to_string(),
        verdict: verdict(finding.verdict).into(),
        baseline: Some(estimate(finding.baseline)),
        candidate: Some(estimate(finding.candidate)),
        harm: finding.harm.map(|Interval { low, middle, high }| v1::Interval { low, middle, high }),
        margin: finding.margin,
        scale: scale(finding.scale).into(),
        ln_e: finding.ln_e,
        threshold: finding.threshold,
        missing: finding.missing,
        variant: finding.variant.to_string(),
        aim: aim(finding.aim).into(),
    }
}

pub(super) fn audit(record: &AuditRecord) -> v1::AuditRecord {
    let change = &record.change;
    v1::AuditRecord {
        at_unix_ms: i64::try_from(record.millis).unwrap_or(i64::MAX),
        model: record.model.to_string(),
        config_revision: record.config.to_string(),
        revision: revision(record.revision),
        action: change.action.name().to_owned(),
        why: change.why.clone(),
        who: record.actor.to_string(),
        from: state(change.from).into(),
        to: state(change.to).into(),
        step: change.step.map(|step| step + 1),
        share: change.share,
        guards: change.findings.iter().map(guard).collect(),
        sequence: record.sequence,
        epoch: record.epoch,
        reason: match &record.actor {
            Actor::Operator { reason, .. } => reason.clone(),
            Actor::Judge | Actor::File => String::new(),
        },
    }
}

pub(super) fn explanation(model: &Model, explained: &Explanation, at: Option<State>) -> v1::Explanation {
    let salt = match (model.strategy.at(explained.stage), model.strategy.salt()) {
        // A bandit draws anew in each epoch.
        (Strategy::Bandit(_), Some(salt)) => format!("{salt}/{}/", explained.epoch),
        (_, salt) => salt.unwrap_or_default().to_owned(),
    };
    let ranges = explained.intervals.iter().map(|(variant, range)| v1::Range {
        variant: variant.to_string(),
        from: range.start,
        to: range.end,
    });
    v1::Explanation {
        model: explained.model.to_string(),
        variant: explained.variant.as_deref().unwrap_or_default().to_owned(),
        reason: explained.reason.clone(),
        why: why(explained),
        propensity: explained.propensity,
        keys: model.unit.iter().map(key).collect(),
        segment: explained.segment.as_deref().unwrap_or_default().to_owned(),
        place: explained.place,
        ranges: ranges.collect(),
        state: at.map_or(v1::State::Unspecified, state).into(),
        revision: revision(explained.revision),
        epoch: explained.epoch,
        salt,
        unit: explained.unit.clone().unwrap_or_default(),
        wished: explained.wished.as_deref().unwrap_or_default().to_owned(),
    }
}

/// The reason's word, for people.
fn why(explained: &Explanation) -> String {
    let Some(variant) = &explained.variant else {
        return "the call brings no unit, so each such call is drawn by itself".to_owned();
    };
    match (&*explained.reason, &explained.segment) {
        ("pinned", _) => format!("{variant} is the only variant that the strategy gives calls to"),
        ("no_context", _) => {
            format!("what the call is told apart by is not as declared, so {variant} answers")
        }
        ("split", _) => format!("the unit's hash falls on a place that is {variant}'s"),
        ("draw", _) => format!("no other variant gets any calls, so {variant} answers"),
        ("segment", Some(segment)) => {
            format!("the call matches segment {segment}, whose split gives it {variant}")
        }
        ("not_ready", _) => {
            format!("the variant that was chosen is not ready, so {variant} stands in for it")
        }
        ("decided", _) => {
            format!("everything goes to {variant}: the rollout ended in it, or a person gave it everything")
        }
        ("interleaved", _) => format!(
            "{} are asked at once, and their lists merged into {variant}'s answer; which item is whose is drawn for each \
             call by its prediction's UUID, or for each search by `draft`",
            explained.rankers.join(", ")
        ),
        ("holdout", _) => format!("the unit is held out of all rollouts, so {variant} answers"),
        ("layer", _) => format!("another rollout has the unit's part of the layer, so {variant} answers"),
        (reason, _) => reason.to_owned(),
    }
}

fn key(key: &Key) -> String {
    match key {
        Key::Metadata(name) => format!("metadata:{name}"),
        Key::Parameter(name) => format!("parameter:{name}"),
    }
}

fn revision(number: u32) -> String {
    format!("{number:08x}")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn estimate(Estimate { n, value }: Estimate) -> v1::Estimate {
    v1::Estimate { n, value }
}

fn state(state: State) -> v1::State {
    match state {
        State::Steady => v1::State::Steady,
        State::Waiting => v1::State::Waiting,
        State::Running => v1::State::Running,
        State::Paused => v1::State::Paused,
        State::Held => v1::State::Held,
        State::Passed => v1::State::Passed,
        State::Promoted => v1::State::Promoted,
        State::RolledBack => v1::State::RolledBack,
        State::Pinned => v1::State::Pinned,
    }
}

fn verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Pass => v1::Verdict::Pass,
        Verdict::Fail => v1::Verdict::Fail,
        Verdict::NotEnoughData => v1::Verdict::NotEnoughData,
        Verdict::Equivalent => v1::Verdict::Equivalent,
        Verdict::Inconclusive => v1::Verdict::Inconclusive,
        Verdict::Invalid => v1::Verdict::Invalid,
    }
}

fn aim(aim: Aim) -> v1::Aim {
    match aim {
        Aim::Guardrail => v1::Aim::Guardrail,
        Aim::Success => v1::Aim::Success,
        Aim::Validity => v1::Aim::Validity,
    }
}

fn scale(scale: Scale) -> v1::Scale {
    match scale {
        Scale::Share => v1::Scale::Share,
        Scale::Ratio => v1::Scale::Ratio,
        Scale::Mean => v1::Scale::Mean,
    }
}

fn role(role: Role) -> v1::Role {
    match role {
        Role::Baseline => v1::Role::Baseline,
        Role::Candidate => v1::Role::Candidate,
        Role::Arm => v1::Role::Arm,
        Role::Shadow => v1::Role::Shadow,
        Role::Idle => v1::Role::Idle,
    }
}

fn kept(kept: &Kept) -> (v1::Kept, String) {
    match kept {
        Kept::Directory => (v1::Kept::Directory, String::new()),
        Kept::Memory => (v1::Kept::Memory, String::new()),
        Kept::Fleet => (v1::Kept::Fleet, String::new()),
        Kept::Failing(why) => (v1::Kept::Failing, why.clone()),
    }
}
