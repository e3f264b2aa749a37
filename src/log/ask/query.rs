//! Rows that match, oldest first.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::time::{Moment, stamp};
use super::{Ended, Filter, Named, Place, Row, complain, micros, open, passed_over, rows_of};
use crate::log::read::Wanted;
use crate::log::table::{Kind, Table};

/// Fields that are shown where none are named.
const SHOWN: [&[&str]; 4] = [
    &[
        "time",
        "prediction_uuid",
        "model",
        "assigned",
        "variant",
        "reason",
        "rpc_status_code",
        "latency_total_us",
    ],
    &["time", "prediction_uuid", "model", "variant", "rpc_status_code", "comparison", "latency_us"],
    &["time", "prediction_uuid", "model", "name", "value", "label", "variant", "result"],
    &["time", "model", "action", "actor", "why"],
];

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Which table
    #[arg(long, value_enum, default_value = "predictions")]
    table: Named,
    /// Only this model's rows
    #[arg(long)]
    model: Option<String>,
    /// From this moment: `2h` ago, or a time like 2026-11-29T07:30
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Until this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Only rows of which this holds: FIELD=VALUE, or with !=, >, <, ~ (holds); several must all hold
    #[arg(long = "where", value_name = "CONDITION")]
    filters: Vec<Filter>,
    /// Fields to show, separated by commas; `all` for all
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
    /// Rows at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, now: SystemTime, out: &mut impl Write) -> io::Result<Ended> {
    let table = Table::from(options.table);
    let known = |field: &str| field == "model" || table.fields().iter().any(|one| one.name == field);
    let named =
        options.fields.iter().map(String::as_str).chain(options.filters.iter().map(|one| &*one.field));
    if let Some(unknown) = named.filter(|field| *field != "all").find(|field| !known(field)) {
        let names: Vec<&str> = table.fields().iter().map(|field| field.name).collect();
        complain(&format!(
            "{unknown:?} is no field of {}; there are model, {}",
            table.name(),
            names.join(", ")
        ));
        return Ok(Ended::Refused);
    }
    let Some(mut reader) = open(&options.place.log) else { return Ok(Ended::Refused) };
    let since = options.since.map_or(i64::MIN, |moment| moment.micros(now));
    let until = options.until.map_or(i64::MAX, |moment| moment.micros(now));
    let hour = |micros: i64| u32::try_from(micros.max(0) / 3_600_000_000).unwrap_or(u32::MAX);
    let hours = (hour(since), hour(until));
    let wanted = Wanted { model: options.model.as_deref(), hours, ..Wanted::all(table) };
    let (mut found, mut more) = (Vec::new(), false);
    reader.rows(&wanted, |partition, batch| {
        for row in rows_of(partition, batch) {
            let matches =
                (since..=until).contains(&micros(&row)) && options.filters.iter().all(|one| one.admits(&row));
            if !matches {
                continue;
            }
            if found.len() == options.limit {
                more = true;
                return ControlFlow::Break(());
            }
            found.push(row);
        }
        ControlFlow::Continue(())
    });
    passed_over(&reader);
    found.sort_by_key(micros);
    let fields = fields(options, table);
    if options.json {
        json(&found, &fields, out)?;
    } else {
        aligned(&found, &fields, out)?;
    }
    if more {
        complain(&format!("there are more; --limit is {}", options.limit));
    }
    Ok(if found.is_empty() { Ended::Nothing } else { Ended::Done })
}

fn fields(options: &Options, table: Table) -> Vec<&str> {
    match &options.fields[..] {
        [] if options.json => all(table),
        [] => SHOWN[table as usize].to_vec(),
        [one] if one == "all" => all(table),
        some => some.iter().map(String::as_str).collect(),
    }
}

fn all(table: Table) -> Vec<&'static str> {
    std::iter::once("model").chain(table.fields().iter().map(|field| field.name)).collect()
}

fn json(rows: &[Row], fields: &[&str], out: &mut impl Write) -> io::Result<()> {
    for row in rows {
        let part: Row = fields
            .iter()
            .map(|field| ((*field).to_owned(), row.get(*field).cloned().unwrap_or_default()))
            .collect();
        writeln!(out, "{}", Value::Object(part))?;
    }
    Ok(())
}

/// Columns as wide as their widest value.
pub(super) fn aligned(rows: &[Row], fields: &[&str], out: &mut impl Write) -> io::Result<()> {
    let line = |row: &Row| -> Vec<String> { fields.iter().map(|field| shown(row, field)).collect() };
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    let head: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    let width = |column: usize| {
        lines.iter().chain([&head]).map(|line| line[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    for line in std::iter::once(&head).chain(&lines) {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A value as people read it.
fn shown(row: &Row, field: &str) -> String {
    let value = row.get(field).unwrap_or(&Value::Null);
    let is_time = Table::ALL
        .iter()
        .flat_map(|table| table.fields())
        .any(|one| one.name == field && one.kind == Kind::Time);
    match value {
        Value::Null => "–".to_owned(),
        Value::Number(number) if is_time => stamp(number.as_i64().unwrap_or(0)),
        Value::String(text) => text.replace(['\n', '\t'], " "),
        other => other.to_string(),
    }
}
