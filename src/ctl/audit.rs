//! What was done to rollouts, for people. Pure.

use super::compare;
use super::paint::{Hue, Paint};
use super::status;
use super::text::{self, share, wrapped};
use crate::pb::v1::{Aim, AuditRecord, CommandResponse, Guard, State};

/// The trail, in the order given: a line, why, and the findings that it was decided on.
pub(super) fn trail(records: &[AuditRecord], paint: Paint) -> Vec<String> {
    if records.is_empty() {
        return vec!["no records".to_owned()];
    }
    records.iter().flat_map(|record| one(record, paint)).collect()
}

fn one(record: &AuditRecord, paint: Paint) -> Vec<String> {
    let (model, action) = (paint.text(Hue::Strong, &record.model), text::spaced(&record.action));
    let action = paint.text(Hue::of_state(record.to()), &action);
    let mut lines = vec![format!("{}  {model}  {action}  by {}", text::time(record.at_unix_ms), record.who)];
    lines.extend(wrapped("  ", &record.why));
    if !record.reason.is_empty() {
        lines.extend(wrapped("  reason: ", &record.reason));
    }
    let (config, revision) = (&record.config_revision, &record.revision);
    let after = format!("{}; rollout {revision} of file {config}", outcome(record));
    lines.extend(wrapped("  ", &after));
    lines.extend(record.guards.iter().map(|guard| finding(guard, paint)));
    lines
}

/// `running → running, step 3, candidate 25 %`.
fn outcome(record: &AuditRecord) -> String {
    let word = |state: State| text::spaced(&text::state(state));
    let step = record.step.map_or(String::new(), |step| format!(", step {step}"));
    format!("{} → {}{step}, candidate {}", word(record.from()), word(record.to()), share(record.share))
}

/// `errors: fail, +12 (+8 … ∞) pp, +0.1 pp allowed, ln e 9.1 of 6.0`.
fn finding(guard: &Guard, paint: Paint) -> String {
    let verdict = paint.text(Hue::of_verdict(guard.verdict()), &status::spoken(guard.verdict()));
    let name = if guard.variant.is_empty() {
        guard.name.clone()
    } else {
        format!("{} of {}", guard.name, guard.variant)
    };
    if guard.aim() == Aim::Validity {
        let has = guard.candidate.as_ref().and_then(|estimate| estimate.value).unwrap_or_default();
        return format!(
            "    {name}: {verdict}, {} where {} was meant, ln e {:.1} of {:.1}",
            share(has),
            share(guard.margin),
            guard.ln_e,
            guard.threshold
        );
    }
    if guard.aim() == Aim::Success {
        return format!(
            "    {name}: {verdict}, better by {}, ln e {:.1} of {:.1}",
            compare::better(guard),
            guard.ln_e,
            guard.threshold
        );
    }
    let allowed = format!("{}{} allowed", text::harm(guard, guard.margin), text::unit(guard));
    let (harm, evidence) = (status::harm(guard), format!("ln e {:.1} of {:.1}", guard.ln_e, guard.threshold));
    format!("    {name}: {verdict}, {harm}, {allowed}, {evidence}")
}

/// What a command did.
pub(super) fn done(done: &CommandResponse, paint: Paint) -> Vec<String> {
    let mut lines: Vec<String> = done.record.iter().flat_map(|record| one(record, paint)).collect();
    if let Some(rollout) = &done.rollout {
        lines.push(String::new());
        lines.push(status::title(rollout, paint));
        lines.extend(status::facts(rollout, text::WIDTH, status::Told::All));
    }
    lines
}
