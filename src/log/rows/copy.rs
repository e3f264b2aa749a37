//! One row per copy that was begun to be sent.

use serde_json::{Value, json};

use super::prediction::name;
use crate::comparison::judge::Judgement;
use crate::comparison::{Comparison, Output};
use crate::log::columns::Row;
use crate::log::table::{Field, Kind, field};
use crate::shadow::record::CopyOutcome;

/// The table `shadows`.
pub const FIELDS: [Field; 33] = [
    field("time", Kind::Time, "When the copy was begun to be sent."),
    field("prediction_uuid", Kind::Id, "The prediction whose call was copied."),
    field("trace_id", Kind::Id, "The copy's own trace, 32 hexadecimal digits."),
    field("span_id", Kind::Id, "Its span, 16 hexadecimal digits."),
    field("primary_trace_id", Kind::Id, "Trace of the call that was copied."),
    field("primary_span_id", Kind::Id, "Server span of the call that was copied."),
    field("role", Kind::Text, "`shadow`, or `control`."),
    field("variant", Kind::Text, "The variant that got the copy."),
    field("version", Kind::Text, "Its version, from the configuration."),
    field("digest", Kind::Text, "Digest of its artifact."),
    field("reported_version", Kind::Text, "The version that its server itself named."),
    field("rpc_method", Kind::Text, "`pkg.Service/Method`."),
    field("protocol", Kind::Text, "Who read the call: `oip` or `opaque`."),
    field("server_address", Kind::Text, "Where it was sent."),
    field("skipped", Kind::Text, "Why it does not count as copied after all; null where it does."),
    field("rpc_status_code", Kind::Text, "How it ended."),
    field("cause", Kind::Text, "Why the sidecar ended it, where it did."),
    field("blame", Kind::Text, "Whose fault that is."),
    field("latency_us", Kind::Whole, "Microseconds from its start to its end."),
    field("request_bytes", Kind::Whole, "Message bytes of the request, with their prefixes."),
    field("response_bytes", Kind::Whole, "Message bytes of its answer."),
    field("response_messages", Kind::Whole, "Messages of its answer."),
    field("primary_variant", Kind::Text, "The variant that answered the call."),
    field(
        "primary_status_code",
        Kind::Text,
        "What the call's caller was told; null where the call had not ended in time.",
    ),
    field("primary_latency_us", Kind::Whole, "Microseconds that the call's last attempt took."),
    field("primary_response_bytes", Kind::Whole, "Message bytes of the call's answer."),
    field("comparison", Kind::Text, "The first difference between both answers."),
    field(
        "output",
        Kind::Text,
        "The output that differs most; null where none does, and where the answers differ as a whole.",
    ),
    field("rows", Kind::Whole, "Rows of that output that were compared."),
    field("differing", Kind::Whole, "Those of them that differ."),
    field("distance", Kind::Number, "How far they are apart at most, in the number of the measure."),
    field(
        "outputs",
        Kind::Id,
        "Each output that was compared, as JSON: its measure, rows, and figures; null where none was.",
    ),
    field(
        "verdict",
        Kind::Text,
        "What the shadow's answers prove with this one: `equivalent`, `different` or `not_enough_data`; null where it is not compared.",
    ),
];

/// Writes the row of a copy that ended.
pub fn write(copy: &CopyOutcome, row: &mut Row<'_>) {
    row.time(copy.started);
    row.uuid(copy.prediction);
    row.hex(copy.trace.trace_id, 32);
    row.hex(u128::from(copy.trace.span_id), 16);
    row.hex(copy.primary.0, 32);
    row.hex(u128::from(copy.primary.1), 16);
    row.text(copy.role.name());
    row.text(&copy.variant.name);
    row.maybe(copy.variant.version.as_deref());
    row.maybe(copy.variant.digest.as_deref());
    row.maybe(copy.reported_version.as_deref());
    let path = copy.path.path();
    row.text(path.strip_prefix('/').unwrap_or(path));
    row.text(copy.protocol);
    row.maybe(copy.endpoint.as_deref());
    row.maybe(copy.skipped.map(crate::shadow::record::Skip::name));
    row.text(copy.status.name());
    row.maybe(copy.cause);
    row.text(copy.blame.name());
    row.micros(copy.latency);
    row.whole(copy.request_bytes);
    row.whole(copy.response_bytes);
    row.whole(copy.response_messages);
    let end = copy.primary_end;
    row.maybe(end.and_then(|end| name(&copy.model, end.variant?)));
    row.maybe(end.map(|end| end.status.name()));
    row.or_null(end, |row, end| row.micros(end.latency));
    row.or_null(end, |row, end| row.whole(end.response_bytes));
    let found = copy.comparison.as_deref();
    row.text(found.map_or("not_compared", Comparison::name));
    let worst = found.filter(|found| found.kind.is_none()).and_then(Comparison::worst);
    row.maybe(worst.map(|output| &*output.name));
    row.or_null(worst, |row, output| row.whole(output.rows));
    row.or_null(worst, |row, output| row.whole(output.differing));
    row.or_null(worst, |row, output| row.number(output.distance));
    row.maybe(found.and_then(outputs).as_deref());
    row.maybe(copy.verdict.map(Judgement::name));
}

/// All outputs of a comparison as JSON; none where there is none.
fn outputs(found: &Comparison) -> Option<String> {
    let output = |output: &Output| {
        let figures = output.figures.iter().map(|(name, figure)| ((*name).to_owned(), Value::from(*figure)));
        json!({
            "name": *output.name,
            "as": output.measure,
            "inferred": output.inferred,
            "kind": output.kind.map(crate::comparison::Kind::name),
            "rows": output.rows,
            "differing": output.differing,
            "distance": output.distance,
            "figures": Value::Object(figures.collect()),
        })
    };
    let all: Vec<Value> = found.outputs.iter().map(output).collect();
    (!all.is_empty()).then(|| Value::from(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::sample;

    #[test]
    fn a_row_ties_a_copy_to_its_call() {
        let row = sample::row(crate::log::table::Table::Shadows, |row| write(&sample::copy(), row));
        assert_eq!(row["prediction_uuid"], "00000000-0000-0000-0000-000000000007");
        assert_eq!((&row["variant"], &row["primary_variant"]), (&"v2".into(), &"v1".into()));
        assert_eq!((&row["comparison"], &row["latency_us"]), (&"status".into(), &2_000_000.into()));
        assert_eq!((&row["output"], &row["outputs"]), (&Value::Null, &Value::Null), "as a whole");
    }

    #[test]
    fn a_row_says_where_both_answers_differ_and_what_all_of_them_prove() {
        let output = |name: &str, differing| Output {
            name: name.into(),
            measure: Some("class"),
            inferred: true,
            kind: (differing > 0).then_some(crate::comparison::Kind::Values),
            rows: 4,
            differing,
            distance: differing as f64 / 4.0,
            figures: vec![("flips", differing as f64 / 4.0)],
        };
        let found = Comparison { outputs: vec![output("a", 0), output("b", 3)], ..Comparison::default() };
        let verdict = Some(Judgement::Different);
        let copy = CopyOutcome { comparison: Some(found.into()), verdict, ..sample::copy() };
        let row = sample::row(crate::log::table::Table::Shadows, |row| write(&copy, row));
        let said = ["output", "rows", "differing", "distance", "verdict"].map(|field| row[field].clone());
        assert_eq!(said, [json!("b"), json!(4), json!(3), json!(0.75), json!("different")]);
        let outputs: Value = serde_json::from_str(row["outputs"].as_str().unwrap()).unwrap();
        assert_eq!((&outputs[0]["kind"], &outputs[1]["figures"]["flips"]), (&Value::Null, &json!(0.75)));
    }
}
