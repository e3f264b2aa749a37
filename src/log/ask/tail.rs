//! The newest rows, and those that come.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::time::{stamp, took};
use super::{Ended, Place, Row, micros, open, passed_over, rows_of};
use crate::log::read::{Reader, Wanted};
use crate::log::table::Table;

/// How often is looked for new rows.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    lines: usize,
    /// Only this model's
    #[arg(long)]
    model: Option<String>,
    /// Go on with those that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> io::Result<Ended> {
    let Some(mut reader) = open(&options.place.log) else { return Ok(Ended::Refused) };
    let mut rows = newest(&mut reader, options);
    passed_over(&reader);
    let ended = if rows.is_empty() { Ended::Nothing } else { Ended::Done };
    let mut seen = HashSet::new();
    loop {
        for row in &rows {
            write(row, options.json, out)?;
        }
        out.flush()?;
        if !options.follow {
            return Ok(ended);
        }
        seen.extend(rows.iter().map(identity));
        rows = loop {
            std::thread::sleep(LOOK);
            // A directory that is away for a moment is no reason to stop.
            let Ok(mut reader) = Reader::open(&options.place.log) else { continue };
            let mut next = newest(&mut reader, &Options { lines: usize::MAX, ..options.spool_only() });
            next.retain(|row| !seen.contains(&identity(row)));
            if !next.is_empty() {
                break next;
            }
        };
    }
}

impl Options {
    fn spool_only(&self) -> Self {
        let place = Place { log: self.place.log.clone() };
        Options { place, lines: 0, model: self.model.clone(), follow: true, json: self.json }
    }
}

fn identity(row: &Row) -> (i64, String) {
    (micros(row), row.get("prediction_uuid").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// The newest rows, oldest of them first: those of spools, then of sealed hours as far as they are needed.
fn newest(reader: &mut Reader, options: &Options) -> Vec<Row> {
    let wanted = Wanted { model: options.model.as_deref(), ..Wanted::all(Table::Predictions) };
    let mut found: Vec<Row> = Vec::new();
    let mut take = |partition: &crate::log::partition::Partition, batch: &arrow_array::RecordBatch| {
        found.extend(rows_of(partition, batch));
        if found.len() > 4 * options.lines.max(1000) {
            cut(&mut found, options.lines);
        }
        ControlFlow::Continue(())
    };
    reader.spools(&wanted, &mut take);
    cut(&mut found, options.lines);
    if options.lines < usize::MAX {
        for hour in reader.hours(&wanted) {
            if found.len() >= options.lines {
                break;
            }
            let of_hour = Wanted { hours: (hour, hour), ..wanted };
            let _ = reader.sealed_rows(&of_hour, |partition, batch| {
                found.extend(rows_of(partition, batch));
                ControlFlow::Continue(())
            });
            cut(&mut found, options.lines);
        }
    }
    found
}

/// Keeps the newest.
fn cut(rows: &mut Vec<Row>, most: usize) {
    rows.sort_by_key(micros);
    let over = rows.len().saturating_sub(most);
    rows.drain(..over);
}

fn write(row: &Row, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", Value::Object(row.clone()));
    }
    let text = |field: &str| row.get(field).and_then(Value::as_str).unwrap_or("–").to_owned();
    let total = row.get("latency_total_us").and_then(Value::as_i64).unwrap_or(0);
    let failed = match row.get("message").and_then(Value::as_str) {
        Some(message) if text("rpc_status_code") != "OK" => format!("  {}", message.replace('\n', " ")),
        _ => String::new(),
    };
    let from = match row.get("fallback_from").and_then(Value::as_str) {
        Some(from) => format!(" (after {from})"),
        None => String::new(),
    };
    writeln!(
        out,
        "{}  {}  {} → {}{from}  {}  {}  {}{failed}",
        stamp(micros(row)),
        text("prediction_uuid"),
        text("model"),
        text("variant"),
        text("reason"),
        text("rpc_status_code"),
        took(total),
    )
}
