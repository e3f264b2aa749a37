//! One prediction's whole story: who was assigned and why, what was called, copied, compared and learnt later.

use std::io::{self, Write};
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::time::{stamp, took};
use super::{Ended, Place, Row, complain, micros, open, passed_over, rows_of};
use crate::config::units::short_number;
use crate::log::payload::{Secret, oip};
use crate::log::read::{Reader, Wanted};
use crate::log::table::Table;
use crate::prediction;

/// Characters of a message that are shown.
const MESSAGE: usize = 2000;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The id that the caller was told (`parhelion-prediction-id`), the prediction's UUID, or its trace id
    #[arg(value_name = "ID")]
    id: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What an id names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Prediction(Uuid),
    /// Which also 32 digits of a UUID may be.
    Trace(String),
}

/// All that is known.
#[derive(Debug, Default)]
struct Story {
    call: Option<Row>,
    copies: Vec<Row>,
    reports: Vec<Row>,
    /// The change of the rollout that was the last before it.
    change: Option<Row>,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> io::Result<Ended> {
    let Some(named) = named(&options.id) else {
        complain(&format!("{:?} is no prediction id, UUID or trace id", options.id));
        return Ok(Ended::Refused);
    };
    let Some(mut reader) = open(&options.place.log) else { return Ok(Ended::Refused) };
    let story = find(&mut reader, &named);
    passed_over(&reader);
    if story.call.is_none() && story.copies.is_empty() && story.reports.is_empty() {
        complain(&format!(
            "{} is not in {}: it was not logged, not flushed yet, or uploaded",
            options.id,
            options.place.log.display()
        ));
        return Ok(Ended::Nothing);
    }
    match options.json {
        true => {
            let Story { call, copies, reports, change } = story;
            let all =
                json!({"prediction": call, "shadows": copies, "feedback": reports, "last_change": change});
            writeln!(out, "{all:#}")?;
        }
        false => tell(&story, out)?,
    }
    Ok(Ended::Done)
}

fn named(text: &str) -> Option<Named> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex {
        return Some(Named::Trace(text.to_ascii_lowercase()));
    }
    if let Ok(uuid) = Uuid::try_parse(text) {
        return Some(Named::Prediction(uuid));
    }
    // Read without its key: what it says is only looked for, not believed.
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let uuid = bytes.get(2..18).filter(|_| bytes.len() >= 62)?;
    Uuid::from_slice(uuid).ok().map(Named::Prediction)
}

fn find(reader: &mut Reader, named: &Named) -> Story {
    let mut story = Story::default();
    // A UUIDv7 says when it was made, and the row is of the same moment.
    let hours = match named {
        Named::Prediction(uuid) if uuid.get_version_num() == 7 => {
            let hour = u32::try_from(prediction::made(*uuid).as_secs() / 3600).unwrap_or(0);
            (hour.saturating_sub(1), hour + 1)
        }
        _ => (0, u32::MAX),
    };
    let wanted = Wanted { hours, ..Wanted::all(Table::Predictions) };
    let matches = |row: &Row| match named {
        Named::Prediction(uuid) => is(row, "prediction_uuid", &uuid.to_string()),
        Named::Trace(id) => {
            let uuid = Uuid::try_parse(id).map(|uuid| uuid.to_string()).unwrap_or_default();
            is(row, "trace_id", id) || is(row, "prediction_uuid", &uuid)
        }
    };
    story.call = collect(reader, &wanted, 1, matches).pop();
    let uuid = match (&story.call, named) {
        (Some(call), _) => call.get("prediction_uuid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        (None, Named::Prediction(uuid)) => uuid.to_string(),
        (None, Named::Trace(_)) => return story,
    };
    // Copies begin with their call, and their row is of when they began.
    let copies = Wanted { hours: (hours.0, hours.1.saturating_add(1)), ..Wanted::all(Table::Shadows) };
    story.copies = collect(reader, &copies, usize::MAX, |row| is(row, "prediction_uuid", &uuid));
    let later = Wanted { hours: (hours.0, u32::MAX), ..Wanted::all(Table::Feedback) };
    story.reports = collect(reader, &later, usize::MAX, |row| is(row, "prediction_uuid", &uuid));
    if let Some(call) = &story.call {
        let model = call.get("model").and_then(Value::as_str);
        let before = Wanted { model, ..Wanted::all(Table::Audit) };
        let at = micros(call);
        story.change = collect(reader, &before, usize::MAX, |row| micros(row) <= at).pop();
    }
    story
}

/// Rows that match, oldest first.
fn collect(
    reader: &mut Reader,
    wanted: &Wanted<'_>,
    most: usize,
    matches: impl Fn(&Row) -> bool,
) -> Vec<Row> {
    let mut found = Vec::new();
    reader.rows(wanted, |partition, batch| {
        found.extend(rows_of(partition, batch).filter(&matches));
        if found.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.sort_by_key(micros);
    found
}

fn is(row: &Row, field: &str, value: &str) -> bool {
    row.get(field).and_then(Value::as_str) == Some(value)
}

fn text<'r>(row: &'r Row, field: &str) -> &'r str {
    row.get(field).and_then(Value::as_str).unwrap_or("–")
}

fn number(row: &Row, field: &str) -> i64 {
    row.get(field).and_then(Value::as_i64).unwrap_or(0)
}

fn tell(story: &Story, out: &mut impl Write) -> io::Result<()> {
    match &story.call {
        Some(call) => tell_call(call, out)?,
        None => writeln!(out, "The call itself is not in this directory.")?,
    }
    if let Some(change) = &story.change {
        writeln!(
            out,
            "  rollout   {} by {} at {}: {}",
            text(change, "action"),
            text(change, "actor"),
            stamp(micros(change)),
            text(change, "why")
        )?;
    }
    for copy in &story.copies {
        tell_copy(copy, out)?;
    }
    for report in &story.reports {
        let value = match report.get("value").and_then(Value::as_f64) {
            Some(value) => value.to_string(),
            None => text(report, "label").to_owned(),
        };
        let after = took(number(report, "delay_us"));
        let (name, result) = (text(report, "name"), text(report, "result"));
        writeln!(
            out,
            "  feedback  {name} = {value}, {after} later ({result}, evidence {})",
            text(report, "evidence")
        )?;
    }
    if story.reports.is_empty() {
        writeln!(out, "  feedback  none yet")?;
    }
    Ok(())
}

fn tell_call(call: &Row, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "prediction {} of {}", text(call, "prediction_uuid"), text(call, "model"))?;
    writeln!(out, "  time      {} UTC", stamp(micros(call)))?;
    let asked = match call.get("model_asked").and_then(Value::as_str) {
        Some(asked) => format!(" for {asked}"),
        None => String::new(),
    };
    writeln!(
        out,
        "  asked     {}{asked}, {} bytes",
        text(call, "rpc_method"),
        number(call, "request_bytes")
    )?;
    if text(call, "assigned") != "–" {
        tell_assignment(call, out)?;
    }
    let answered = match text(call, "variant") {
        "–" => "nobody".to_owned(),
        variant => format!("{variant} {}", text(call, "version")),
    };
    let reported = match call.get("reported_version").and_then(Value::as_str) {
        Some(version) => format!(", its server says {version}"),
        None => String::new(),
    };
    let attempts = number(call, "attempts");
    writeln!(
        out,
        "  answered  {answered} at {} in attempt {attempts}{reported}, {} bytes",
        text(call, "server_address"),
        number(call, "response_bytes")
    )?;
    if let Some(fallback) = call.get("fallback").and_then(Value::as_str) {
        writeln!(out, "  fallback  {fallback}, {} had failed", text(call, "fallback_from"))?;
    }
    let took_all = took(number(call, "latency_total_us"));
    let (upstream, own) = (took(number(call, "latency_upstream_us")), took(number(call, "latency_own_us")));
    let message = match call.get("message").and_then(Value::as_str) {
        Some(message) => format!(" ({message})"),
        None => String::new(),
    };
    writeln!(
        out,
        "  status    {}{message}, blame {}; {took_all}, upstream {upstream}, own {own}",
        text(call, "rpc_status_code"),
        text(call, "blame")
    )?;
    let sampled =
        if call.get("sampled").and_then(Value::as_bool) == Some(true) { "sampled" } else { "not sampled" };
    writeln!(out, "  trace     {} span {} ({sampled})", text(call, "trace_id"), text(call, "span_id"))?;
    tell_payload(call, out)
}

fn tell_assignment(call: &Row, out: &mut impl Write) -> io::Result<()> {
    let propensity = call.get("propensity").and_then(Value::as_f64).unwrap_or(1.0);
    let odds = match call.get("odds").and_then(Value::as_object) {
        Some(odds) => {
            let each: Vec<String> = odds.iter().map(|(name, odds)| format!("{name} {odds}")).collect();
            format!(" ({})", each.join(", "))
        }
        None => String::new(),
    };
    let segment = match call.get("segment").and_then(Value::as_str) {
        Some(segment) => format!(", segment {segment}"),
        None => String::new(),
    };
    let unit = match call.get("unit_hash").and_then(Value::as_str) {
        Some(unit) => format!(", unit {unit}"),
        None => ", no unit".to_owned(),
    };
    writeln!(
        out,
        "  assigned  {} by {}: {}, propensity {propensity}{odds}{segment}{unit}",
        text(call, "assigned"),
        text(call, "strategy"),
        text(call, "reason")
    )?;
    writeln!(
        out,
        "  under     rollout revision {}, epoch {}, configuration {}",
        number(call, "rollout_revision"),
        number(call, "epoch"),
        text(call, "config_revision")
    )
}

fn tell_payload(call: &Row, out: &mut impl Write) -> io::Result<()> {
    let Some(fate) = call.get("payload").and_then(Value::as_str) else { return Ok(()) };
    let nothing = std::collections::BTreeSet::new();
    let secret = Secret { tensors: &nothing, parameters: Vec::new() };
    let raw =
        |field: &str| call.get(field).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    let decoded = |field: &str| call.get(field).and_then(Value::as_str).map(str::to_owned);
    let request =
        decoded("request_json").or_else(|| Some(oip::request_json(&raw("request")?.into(), &secret).ok()?.0));
    let response = decoded("response_json")
        .or_else(|| Some(oip::response_json(&raw("response")?.into(), &secret).ok()?.0));
    for (name, json) in [("request ", request), ("response", response)] {
        match json {
            Some(json) => {
                let front: String = json.chars().take(MESSAGE).collect();
                let more = if front.len() < json.len() { " …" } else { "" };
                writeln!(out, "  {name}  {front}{more}")?;
            }
            None => writeln!(out, "  {name}  {fate}")?,
        }
    }
    Ok(())
}

fn tell_copy(copy: &Row, out: &mut impl Write) -> io::Result<()> {
    let skipped = match copy.get("skipped").and_then(Value::as_str) {
        Some(skipped) => format!(", skipped: {skipped}"),
        None => String::new(),
    };
    let how = format!("{} in {}", text(copy, "rpc_status_code"), took(number(copy, "latency_us")));
    writeln!(
        out,
        "  {:<8}  {} {} at {}: {how}{skipped}; beside the answer: {}; trace {}",
        if text(copy, "role") == "control" { "control" } else { "copy" },
        text(copy, "variant"),
        text(copy, "version"),
        text(copy, "server_address"),
        text(copy, "comparison"),
        text(copy, "trace_id"),
    )?;
    tell_outputs(copy, out)
}

/// The outputs in which both answers differ, and what all answers of the shadow proved then.
fn tell_outputs(copy: &Row, out: &mut impl Write) -> io::Result<()> {
    let outputs =
        copy.get("outputs").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    let outputs: Vec<Value> = outputs.unwrap_or_default();
    for output in outputs.iter().filter(|output| output["kind"].is_string()) {
        let word = |key: &str| output[key].as_str().unwrap_or("–").to_owned();
        let figures = output["figures"].as_object().into_iter().flatten();
        let figures: Vec<String> = figures
            .map(|(name, figure)| format!("{name} {}", short_number(figure.as_f64().unwrap_or(f64::NAN))))
            .collect();
        writeln!(
            out,
            "            {} ({}): {}, {} of {} rows; {}",
            word("name"),
            word("as"),
            word("kind"),
            output["differing"],
            output["rows"],
            figures.join(", ")
        )?;
    }
    match copy.get("verdict").and_then(Value::as_str) {
        Some(verdict) => writeln!(out, "            the verdict then: {}", verdict.replace('_', " ")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_all_kinds_are_known() {
        let uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(named(&uuid.to_string()), Some(Named::Prediction(uuid)));
        assert_eq!(named(&"AB".repeat(16)), Some(Named::Trace("ab".repeat(16))));
        let mut told = vec![1, 7];
        told.extend_from_slice(uuid.as_bytes());
        told.resize(62, 0);
        assert_eq!(named(&URL_SAFE_NO_PAD.encode(&told)), Some(Named::Prediction(uuid)));
        for text in ["", "abc", "not an id at all", &URL_SAFE_NO_PAD.encode(&told[..40])] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
