//! Answers as JSON, for scripts: the names of the service's fields, its words in lower case, `null` where nothing is
//! known. A bound that is infinite is `null` too. Pure.

use serde_json::{Value, json};

use super::text::{self, word};
use super::{drift, log, shadow};
use crate::pb::v1;

pub(super) fn rollout(rollout: &v1::Rollout) -> Value {
    json!({
        "model": rollout.model,
        "kind": rollout.kind,
        "state": text::state(rollout.state()),
        "gone": rollout.gone,
        "config_revision": rollout.config_revision,
        "revision": rollout.revision,
        "epoch": rollout.epoch,
        "step": rollout.step,
        "stage": rollout.stage,
        "stages": rollout.stages,
        "stage_name": text(&rollout.stage_name),
        "steps": rollout.steps,
        "since_ms": rollout.since_ms,
        "arms": rollout.arms.iter().map(arm).collect::<Value>(),
        "endpoints": rollout.endpoints.iter().map(endpoint).collect::<Value>(),
        "shadows": rollout.shadows.iter().map(shadow::json).collect::<Value>(),
        "drift": rollout.drift.as_ref().map(drift::json),
        "verdict": text::verdict(rollout.verdict()),
        "guards": rollout.guards.iter().map(guard).collect::<Value>(),
        "learning": rollout.learning.as_ref().map(learning),
        "waits_for": text(&rollout.waits_for),
        "next": rollout.next,
        "differs": text(&rollout.differs),
        "refused": rollout.refused,
        "kept": word(rollout.kept().as_str_name(), "KEPT"),
        "kept_why": text(&rollout.kept_why),
        "fleet": rollout.fleet.as_ref().map(fleet),
        "log": rollout.log.as_ref().map(log::json),
    })
}

fn fleet(fleet: &v1::Fleet) -> Value {
    let replica = |replica: &v1::Replica| {
        json!({
            "name": replica.name,
            "at_unix_ms": replica.at_unix_ms,
            "version": replica.version,
            "epoch": replica.epoch,
            "revision": replica.revision,
            "config_revision": replica.config_revision,
        })
    };
    json!({
        "replica": fleet.replica,
        "holder": text(&fleet.holder),
        "version": fleet.version,
        "silence_ms": fleet.silence_ms,
        "parted": fleet.parted,
        "waiting": fleet.waiting,
        "lost": fleet.lost,
        "skew_ms": fleet.skew_ms,
        "trouble": text(&fleet.trouble),
        "replicas": fleet.replicas.iter().map(replica).collect::<Value>(),
    })
}

fn arm(arm: &v1::Arm) -> Value {
    json!({
        "variant": arm.variant,
        "version": text(&arm.version),
        "build": arm.build,
        "role": word(arm.role().as_str_name(), "ROLE"),
        "ready": arm.ready,
        "why": text(&arm.why),
        "blocked": arm.blocked,
        "mismatch": arm.mismatch,
        "share": arm.share,
        "calls": arm.calls,
    })
}

fn endpoint(endpoint: &v1::ServerEndpoint) -> Value {
    json!({
        "address": endpoint.address,
        "place": word(endpoint.place().as_str_name(), "PLACE"),
        "ready": endpoint.ready,
        "runs": text(&endpoint.runs),
        "wanted": text(&endpoint.wanted),
        "in_flight": endpoint.in_flight,
    })
}

/// What a bandit knows.
fn learning(learning: &v1::Learning) -> Value {
    let arm = |arm: &v1::Learnt| {
        json!({
            "variant": arm.variant,
            "values": arm.values,
            "counted": arm.counted,
            "mean": arm.mean,
            "error": arm.error,
            "best": arm.best,
            "wished": arm.wished,
            "out": arm.out,
        })
    };
    let worth =
        |worth: &v1::Worth| json!({"value": worth.value, "error": worth.error, "values": worth.values});
    json!({
        "policy": learning.policy,
        "reward": learning.reward,
        "apprentice": learning.apprentice,
        "arms": learning.arms.iter().map(arm).collect::<Value>(),
        "own": learning.own.as_ref().map(worth),
        "baseline": learning.baseline.as_ref().map(worth),
        "remaining": learning.remaining,
    })
}

fn guard(guard: &v1::Guard) -> Value {
    let estimate = |estimate: &Option<v1::Estimate>| {
        estimate.as_ref().map(|estimate| json!({"n": estimate.n, "value": estimate.value}))
    };
    let interval = |harm: &v1::Interval| json!({"low": harm.low, "middle": harm.middle, "high": harm.high});
    json!({
        "name": guard.name,
        "verdict": text::verdict(guard.verdict()),
        "baseline": estimate(&guard.baseline),
        "candidate": estimate(&guard.candidate),
        "harm": guard.harm.as_ref().map(interval),
        "margin": guard.margin,
        "scale": word(guard.scale().as_str_name(), "SCALE"),
        "ln_e": guard.ln_e,
        "threshold": guard.threshold,
        "missing": guard.missing,
        "variant": text(&guard.variant),
        "aim": word(guard.aim().as_str_name(), "AIM"),
    })
}

pub(super) fn audit(record: &v1::AuditRecord) -> Value {
    json!({
        "sequence": record.sequence,
        "at": text::time(record.at_unix_ms),
        "at_unix_ms": record.at_unix_ms,
        "model": record.model,
        "config_revision": record.config_revision,
        "revision": record.revision,
        "epoch": record.epoch,
        "action": record.action,
        "why": record.why,
        "who": record.who,
        "reason": text(&record.reason),
        "from": text::state(record.from()),
        "to": text::state(record.to()),
        "step": record.step,
        "share": record.share,
        "guards": record.guards.iter().map(guard).collect::<Value>(),
    })
}

pub(super) fn done(done: &v1::CommandResponse) -> Value {
    json!({
        "record": done.record.as_ref().map(audit),
        "rollout": done.rollout.as_ref().map(rollout),
    })
}

pub(super) fn explanation(explained: &v1::Explanation) -> Value {
    let range = |range: &v1::Range| json!({"variant": range.variant, "from": range.from, "to": range.to});
    json!({
        "model": explained.model,
        "variant": text(&explained.variant),
        "reason": explained.reason,
        "why": explained.why,
        "propensity": explained.propensity,
        "keys": explained.keys,
        "unit": text(&explained.unit),
        "segment": text(&explained.segment),
        "salt": text(&explained.salt),
        "place": explained.place,
        "ranges": explained.ranges.iter().map(range).collect::<Value>(),
        "state": text::state(explained.state()),
        "revision": explained.revision,
        "epoch": explained.epoch,
    })
}

/// `null` where there is none.
pub(super) fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
