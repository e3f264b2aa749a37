//! One row per call that ended.

use crate::config::Model;
use crate::log::columns::Row;
use crate::log::table::{Field, Kind, field};
use crate::outcome::{Outcome, Route};

/// Bytes of a status message that are kept.
const MESSAGE: usize = 200;

/// What is known of a call's messages, where they were kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept<'a> {
    /// What became of them: a word.
    pub payload: &'static str,
    /// The request as it came, where messages are kept raw.
    pub request: Option<&'a [u8]>,
    /// The answer likewise.
    pub response: Option<&'a [u8]>,
    /// The request as JSON, where messages are kept decoded.
    pub request_json: Option<&'a str>,
    /// The answer likewise.
    pub response_json: Option<&'a str>,
}

/// The table `predictions`.
pub const FIELDS: [Field; 46] = [
    field("time", Kind::Time, "When the request's headers were read."),
    field("prediction_uuid", Kind::Id, "The prediction. All tables are joined by it."),
    field("trace_id", Kind::Id, "The call's trace, 32 hexadecimal digits."),
    field("span_id", Kind::Id, "The sidecar's span in it, 16 hexadecimal digits."),
    field("sampled", Kind::Flag, "Whether the trace is sampled, so that its spans were exported."),
    field(
        "role",
        Kind::Text,
        "`served`: the assigned variant answered or failed. `fallback`: the baseline was asked instead. `unrouted`: the call ended before it was given to anybody.",
    ),
    field("rpc_method", Kind::Text, "`pkg.Service/Method`, as the caller sent it."),
    field("protocol", Kind::Text, "Who read the call: `oip` or `opaque`."),
    field(
        "model_asked",
        Kind::Text,
        "The model name that the caller asked for, where it is not the model's.",
    ),
    field("strategy", Kind::Text, "Kind of the strategy."),
    field("assigned", Kind::Text, "The variant that was assigned."),
    field("variant", Kind::Text, "The variant whose answer the caller got; null where none answered."),
    field(
        "version",
        Kind::Text,
        "Version of that variant, else of the assigned one, from the configuration.",
    ),
    field("digest", Kind::Text, "Digest of its artifact."),
    field("reported_version", Kind::Text, "The version that the server itself named."),
    field("reason", Kind::Text, "Why the variant was assigned."),
    field("segment", Kind::Text, "The segment that matched."),
    field("propensity", Kind::Number, "How likely the assigned variant was for this call, 0 to 1."),
    field("odds", Kind::Odds, "How likely each variant was; null where calls were not split."),
    field(
        "unit_hash",
        Kind::Text,
        "Keyed hash of the unit, 16 hexadecimal digits; null where the call brought none.",
    ),
    field("rollout_revision", Kind::Whole, "Revision of the rollout."),
    field("epoch", Kind::Whole, "Epoch of the rollout's split."),
    field("config_revision", Kind::Text, "Revision of the configuration that decided."),
    field("rpc_status_code", Kind::Text, "What the caller was told."),
    field("message", Kind::Text, "The status message of a failure, at most 200 bytes of it."),
    field("blame", Kind::Text, "Whose fault it is."),
    field("fallback", Kind::Text, "What became of the baseline's answering instead."),
    field("fallback_from", Kind::Text, "The variant that failed, where the baseline was asked instead."),
    field("attempts", Kind::Whole, "Times that the call was sent to a server."),
    field("server_address", Kind::Text, "Where it was sent last."),
    field(
        "latency_total_us",
        Kind::Whole,
        "Microseconds from the request's headers to the end of the answer.",
    ),
    field("latency_upstream_us", Kind::Whole, "Microseconds that the last attempt took."),
    field("latency_own_us", Kind::Whole, "Microseconds that the sidecar added before anything was sent."),
    field("request_bytes", Kind::Whole, "Message bytes from the caller, with their prefixes."),
    field("response_bytes", Kind::Whole, "Message bytes to the caller."),
    field("request_messages", Kind::Whole, "Messages from the caller."),
    field("response_messages", Kind::Whole, "Messages to the caller."),
    field("request_id", Kind::Id, "The request's own id, where it has one."),
    field(
        "payload",
        Kind::Text,
        "What became of the messages, where they were to be kept: `kept`, `masked`, `too_large`, `compressed`, `unread`, `no_room`; null where they were not.",
    ),
    field("request", Kind::Bytes, "The request's message, where `as: raw`."),
    field("response", Kind::Bytes, "The answer's message, where `as: raw`."),
    field("request_json", Kind::Id, "The request as the protocol's JSON, where `as: decoded`."),
    field("response_json", Kind::Id, "The answer likewise."),
    field(
        "teams",
        Kind::Text,
        "Whose each slot of a merged list is, with commas between, `-`: nobody's; null where that is no evidence.",
    ),
    field("wished", Kind::Text, "The variant that an apprentice would have given; null where there is none."),
    field("wished_propensity", Kind::Number, "How likely that would have been."),
];

/// Writes the row of a call that ended; `arms` are those of its model, see [`Model::arms`].
pub fn write(outcome: &Outcome, arms: &[usize], kept: Option<&Kept<'_>>, row: &mut Row<'_>) {
    let route = outcome.route.as_ref();
    row.time(outcome.started);
    row.uuid(outcome.prediction);
    row.hex(outcome.trace.trace_id, 32);
    row.hex(u128::from(outcome.trace.span_id), 16);
    row.flag(outcome.trace.sampled);
    row.text(role(outcome));
    let path = outcome.path.path();
    row.text(path.strip_prefix('/').unwrap_or(path));
    row.text(outcome.protocol);
    row.maybe(route.and_then(|route| route.asked.as_deref()));
    match route {
        Some(route) => routed(outcome, (route, arms), row),
        None => (0..14).for_each(|_| row.null()),
    }
    row.text(outcome.status.name());
    row.maybe(outcome.message.as_deref().map(|message| cut(message, MESSAGE)));
    row.text(outcome.blame.name());
    row.maybe(outcome.fallback.map(crate::outcome::Fallback::name));
    let failed = outcome.fell_back_from().zip(route);
    row.maybe(failed.and_then(|(variant, route)| name(&route.model, variant)));
    row.whole(outcome.attempts.len() as u64);
    row.maybe(outcome.attempts.last().map(|attempt| &*attempt.endpoint));
    let sent = (!outcome.attempts.is_empty()).then_some(outcome.latency);
    row.micros(outcome.latency.total);
    row.or_null(sent, |row, latency| row.micros(latency.upstream));
    row.or_null(sent, |row, latency| row.micros(latency.own));
    row.whole(outcome.traffic.request_bytes);
    row.whole(outcome.traffic.response_bytes);
    row.whole(outcome.traffic.request_messages);
    row.whole(outcome.traffic.response_messages);
    row.maybe(outcome.request_id.as_deref());
    row.maybe(kept.map(|kept| kept.payload));
    row.or_null(kept.and_then(|kept| kept.request), |row, bytes| row.bytes(bytes));
    row.or_null(kept.and_then(|kept| kept.response), |row, bytes| row.bytes(bytes));
    row.maybe(kept.and_then(|kept| kept.request_json));
    row.maybe(kept.and_then(|kept| kept.response_json));
    let teams = outcome.merged.as_ref().zip(route).and_then(|(merged, route)| merged.teams(&route.model));
    row.maybe(teams.as_deref());
    let wished = route.and_then(|route| route.wished);
    row.maybe(wished.zip(route).and_then(|((variant, _), route)| name(&route.model, variant)));
    row.or_null(wished, |row, (_, likely)| row.number(likely));
}

/// What the strategy said of the call: the fields from `strategy` to `config_revision`.
fn routed(outcome: &Outcome, (route, arms): (&Route, &[usize]), row: &mut Row<'_>) {
    let model = &route.model;
    let assigned = &route.assigned;
    row.text(model.strategy.kind());
    row.maybe(name(model, assigned.variant));
    row.maybe(route.served.and_then(|served| name(model, served)));
    let variant = model.variants.get(route.served.unwrap_or(assigned.variant));
    row.maybe(variant.and_then(|variant| variant.version.as_deref()));
    row.maybe(variant.and_then(|variant| variant.digest.as_deref()));
    row.maybe(outcome.reported_version.as_deref());
    row.text(assigned.reason.name());
    let segment = route.segment.and_then(|index| model.strategy.segments().get(index));
    row.maybe(segment.map(|segment| &*segment.name));
    row.number(assigned.propensity);
    match route.odds.as_slice() {
        [] => row.null(),
        _ => row.odds(odds(route, arms)),
    }
    row.or_null(route.unit, |row, unit| row.hex(u128::from(unit), 16));
    row.whole(u64::from(model.revision));
    row.whole(u64::from(route.epoch));
    row.text(&route.revision);
}

/// Each arm's variant, with how likely it was.
fn odds<'r>(route: &'r Route, arms: &[usize]) -> impl Iterator<Item = (&'r str, f64)> {
    let each = arms.iter().enumerate();
    each.filter_map(|(arm, variant)| Some((name(&route.model, *variant)?, rounded(route.odds.get(arm)?))))
}

/// To nine digits: an id has 32 bits for it, which would show behind them.
pub(super) fn rounded(odds: f64) -> f64 {
    (odds * 1e9).round() / 1e9
}

fn role(outcome: &Outcome) -> &'static str {
    match (&outcome.route, outcome.fell_back_from()) {
        (None, _) => "unrouted",
        (Some(_), Some(_)) => "fallback",
        (Some(_), None) => "served",
    }
}

pub(super) fn name(model: &Model, variant: usize) -> Option<&str> {
    model.variants.get(variant).map(|variant| &*variant.name)
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::sample;
    use crate::outcome::merged::{Merged, Unanalysed};
    use crate::prediction::slots::Slots;
    use crate::strategy::interleave::Method;

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!((cut("abc", 5), cut("abc", 2), cut("aé", 2), cut("é", 1)), ("abc", "ab", "a", ""));
    }

    #[test]
    fn a_row_says_who_answered_and_why() {
        let row = sample::row(crate::log::table::Table::Predictions, |row| {
            write(&sample::outcome(), &[0, 1], None, row);
        });
        assert_eq!(row["prediction_uuid"], "00000000-0000-0000-0000-000000000007");
        assert_eq!(
            (&row["assigned"], &row["variant"], &row["role"]),
            (&"v2".into(), &"v2".into(), &"served".into())
        );
        assert_eq!(row["odds"], serde_json::json!({"v1": 0.5, "v2": 0.5}));
        assert_eq!(row["unit_hash"], "000000000000beef");
        assert_eq!(row["latency_total_us"], 12_000);
        assert_eq!(row["payload"], serde_json::Value::Null);
    }

    #[test]
    fn a_row_says_whose_each_slot_was_and_what_an_apprentice_would_have_given() {
        let mut outcome = sample::outcome();
        let mut slots = Slots::new(1, 3).unwrap();
        slots.set(0, 1);
        slots.set(2, 0);
        let merged = Merged::none(Method::TeamDraft, Unanalysed::Empty);
        outcome.merged = Some(Box::new(Merged { slots: Some(slots), unanalysed: None, ..merged }));
        outcome.route.as_mut().unwrap().wished = Some((0, 0.25));
        let row = sample::row(crate::log::table::Table::Predictions, |row| {
            write(&outcome, &[0, 1], None, row);
        });
        assert_eq!(row["teams"], "v2,-,v1");
        assert_eq!((&row["wished"], &row["wished_propensity"]), (&"v1".into(), &0.25.into()));
    }

    #[test]
    fn a_call_that_was_never_routed_has_a_row_too() {
        let outcome = Outcome { route: None, attempts: Vec::new(), ..sample::outcome() };
        let row = sample::row(crate::log::table::Table::Predictions, |row| write(&outcome, &[], None, row));
        assert_eq!((&row["role"], &row["rpc_status_code"]), (&"unrouted".into(), &"OK".into()));
        assert!(row["assigned"].is_null() && row["latency_upstream_us"].is_null());
    }
}
