//! One row per change of a rollout: the audit trail.

use std::time::{Duration, UNIX_EPOCH};

use crate::log::columns::Row;
use crate::log::table::{Field, Kind, field};
use crate::rollout::{Actor, AuditRecord};

/// The table `audit`.
pub const FIELDS: [Field; 14] = [
    field("time", Kind::Time, "When it was decided."),
    field("sequence", Kind::Whole, "Number of the record in this state directory."),
    field("rollout_revision", Kind::Whole, "Revision of the rollout."),
    field("epoch", Kind::Whole, "Epoch of its split after the change."),
    field("config_revision", Kind::Text, "Revision of the configuration in force."),
    field("actor", Kind::Text, "`judge`, `operator` or `file`: who decided."),
    field("operator", Kind::Text, "The operator's name."),
    field("operator_reason", Kind::Text, "Why, in the operator's words."),
    field("action", Kind::Text, "What was done."),
    field("why", Kind::Text, "In words, for people: one sentence."),
    field("step", Kind::Whole, "Step after it, from 0; null for strategies without steps."),
    field("share", Kind::Number, "The candidate's share after it, 0 to 1."),
    field("findings", Kind::Id, "What it was decided on, as JSON: guards, estimates, thresholds, verdicts."),
    field("change", Kind::Id, "All of the change, as JSON."),
];

/// Writes the row of a change.
pub fn write(record: &AuditRecord, row: &mut Row<'_>) {
    let change = &record.change;
    row.time(UNIX_EPOCH + Duration::from_millis(record.millis));
    row.whole(record.sequence);
    row.whole(u64::from(record.revision));
    row.whole(u64::from(record.epoch));
    row.text(&record.config);
    let (actor, operator) = match &record.actor {
        Actor::Judge => ("judge", None),
        Actor::Operator { name, reason } => ("operator", Some((name, reason))),
        Actor::File => ("file", None),
    };
    row.text(actor);
    row.maybe(operator.map(|(name, _)| name.as_str()));
    row.maybe(operator.map(|(_, reason)| reason.as_str()).filter(|reason| !reason.is_empty()));
    // The same word as in JSON, where it is text by itself.
    let action = serde_json::to_value(change.action).unwrap_or_default();
    row.maybe(action.as_str());
    row.text(&change.why);
    row.or_null(change.step, |row, step| row.whole(u64::from(step)));
    row.number(change.share);
    // A change is plain data: it can always be written.
    row.text(&serde_json::to_string(&change.findings).unwrap_or_default());
    row.text(&serde_json::to_string(change).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::sample;

    #[test]
    fn a_row_says_who_did_what_and_why() {
        let row = sample::row(crate::log::table::Table::Audit, |row| write(&sample::record(), row));
        assert_eq!(
            (&row["actor"], &row["operator"], &row["action"]),
            (&"operator".into(), &"ann".into(), &"held".into())
        );
        assert_eq!((&row["sequence"], &row["why"]), (&3.into(), &"no verdict in time".into()));
    }
}
