//! One row per copy that was begun to be sent.

use super::prediction::name;
use crate::log::columns::Row;
use crate::log::table::{Field, Kind, field};
use crate::shadow::record::CopyOutcome;

/// The table `shadows`.
pub const FIELDS: [Field; 27] = [
    field("time", Kind::Time, "When the copy was begun to be sent."),
    field("prediction_uuid", Kind::Id, "The prediction whose call was copied."),
    field("trace_id", Kind::Id, "The copy's own trace, 32 hexadecimal digits."),
    field("span_id", Kind::Id, "Its span, 16 hexadecimal digits."),
    field("primary_trace_id", Kind::Id, "Trace of the call that was copied."),
    field("primary_span_id", Kind::Id, "Server span of the call that was copied."),
    field("role", Kind::Text, "`shadow`."),
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
    row.text(copy.comparison.as_deref().map_or("not_compared", |found| found.name()));
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
    }
}
