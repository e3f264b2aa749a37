//! One row per report about a prediction that was taken.

use std::time::UNIX_EPOCH;

use super::prediction::{name, rounded};
use crate::feedback::Value;
use crate::log::columns::Row;
use crate::log::table::{Field, Kind, field};
use crate::prediction;
use crate::telemetry::feedback::Seen;

/// The table `feedback`.
pub const FIELDS: [Field; 18] = [
    field("time", Kind::Time, "When the report came."),
    field("prediction_uuid", Kind::Id, "The prediction that it is about."),
    field("predicted", Kind::Time, "When the prediction was made."),
    field("name", Kind::Text, "Which of the model's declared feedback it is."),
    field("value", Kind::Number, "As reported; null for labels and reports without a value."),
    field("label", Kind::Text, "As reported, for labels."),
    field("joined", Kind::Number, "The prediction's value with this report."),
    field("result", Kind::Text, "`first`, `joined`, `unchanged` or `repeated`: what the report changed."),
    field("evidence", Kind::Text, "Whether it is evidence, and if not, why."),
    field("delay_us", Kind::Whole, "Microseconds from the prediction to the report."),
    field("assigned", Kind::Text, "The variant that the prediction was assigned, as its id says."),
    field("variant", Kind::Text, "The variant that answered it, as its id says."),
    field("reason", Kind::Text, "Why it was assigned."),
    field(
        "propensity",
        Kind::Number,
        "How likely the assigned variant was; null where calls were not split.",
    ),
    field("unit_hash", Kind::Text, "Keyed hash of the unit."),
    field("rollout_revision", Kind::Whole, "Revision of the rollout when the prediction was made."),
    field("epoch", Kind::Whole, "Epoch of its split."),
    field(
        "slot",
        Kind::Whole,
        "The slot of a merged list that it is about, from 0, counted over all lists; null elsewhere.",
    ),
];

/// Writes the row of a report; `arms` are those of its model, see [`crate::config::Model::arms`].
pub fn write(seen: &Seen, arms: &[usize], row: &mut Row<'_>) {
    let said = &seen.prediction;
    // After another revision an arm may be another variant, so no name is better than a wrong one.
    let same = said.revision == seen.model.revision;
    let variant =
        |arm: u8| arms.get(usize::from(arm)).filter(|_| same).and_then(|variant| name(&seen.model, *variant));
    row.time(seen.at);
    row.uuid(said.uuid);
    row.time(UNIX_EPOCH + prediction::made(said.uuid));
    row.maybe(seen.model.feedback.get(seen.feedback).map(|feedback| &*feedback.name));
    match &seen.value {
        Some(Value::Number(number)) => row.number(*number),
        Some(Value::Label(_)) | None => row.null(),
    }
    match &seen.value {
        Some(Value::Label(label)) => row.text(label),
        Some(Value::Number(_)) | None => row.null(),
    }
    row.or_null(seen.receipt.value, |row, value| row.number(value));
    row.text(seen.receipt.taken.name());
    row.text(seen.receipt.evidence.name());
    let age = seen.at.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(said.made());
    row.micros(age);
    row.maybe(variant(said.assigned));
    row.maybe(variant(said.served));
    row.text(said.reason.name());
    row.or_null(said.odds.get(usize::from(said.assigned)), |row, odds| row.number(rounded(odds)));
    row.or_null(said.unit, |row, unit| row.hex(u128::from(unit), 16));
    row.whole(u64::from(said.revision));
    row.whole(u64::from(said.epoch));
    row.or_null(seen.slot, |row, slot| row.whole(slot as u64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::sample;

    #[test]
    fn a_row_says_what_was_reported_about_which_prediction() {
        let seen = sample::seen(0);
        let row = sample::row(crate::log::table::Table::Feedback, |row| write(&seen, &[0, 1], row));
        assert_eq!(
            (&row["name"], &row["value"], &row["assigned"]),
            (&"approved".into(), &1.0.into(), &"v2".into())
        );
        assert_eq!((&row["variant"], &row["propensity"]), (&"v2".into(), &0.5.into()));
        assert_eq!(row["delay_us"], 60_000_000);
        assert!(row["slot"].is_null());
        let seen = Seen { slot: Some(5), ..seen };
        let row = sample::row(crate::log::table::Table::Feedback, |row| write(&seen, &[0, 1], row));
        assert_eq!(row["slot"], 5);
    }

    #[test]
    fn after_a_change_of_the_rollout_no_arm_is_named() {
        let seen = sample::seen(9);
        let row = sample::row(crate::log::table::Table::Feedback, |row| write(&seen, &[0, 1], row));
        assert!(row["assigned"].is_null() && row["variant"].is_null());
    }
}
