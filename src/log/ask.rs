//! `parhelion log`: the log for people without a warehouse. One prediction's whole story, the newest rows, simple filters.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use super::read::Reader;
use super::table::Table;

mod filter;
mod query;
mod show;
mod tail;
mod time;

pub use filter::Filter;
pub use time::Moment;
pub(crate) use time::stamp;

/// One row, by field, with the model that it is of as `model`.
type Row = Map<String, Value>;

/// What of the log is to be seen.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion log tail --log /var/log/parhelion --follow
  parhelion log show --log /var/log/parhelion AQEBk0…        an id that a caller was told, a UUID or a trace id
  parhelion log query --log /var/log/parhelion --since 2h --where 'rpc_status_code!=OK' --fields time,variant,message
  parhelion log query --log /var/log/parhelion --table feedback --where name=approved --json

It reads what the sidecar's directory holds: what was uploaded and removed there is in the store. docs/log.md has queries
for DuckDB, which reads both.")]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The newest rows
    Tail(tail::Options),
    /// Everything about one prediction: assignment and why, calls, copies, reports, trace
    Show(show::Options),
    /// Rows that match
    Query(query::Options),
}

/// Where a log is.
#[derive(Debug, Args)]
struct Place {
    /// The directory of `log.dir`
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
}

/// A table, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    Predictions,
    Shadows,
    Feedback,
    Audit,
}

impl From<Named> for Table {
    fn from(named: Named) -> Self {
        match named {
            Named::Predictions => Table::Predictions,
            Named::Shadows => Table::Shadows,
            Named::Feedback => Table::Feedback,
            Named::Audit => Table::Audit,
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Done,
    /// What was asked for is not there.
    Nothing,
    /// It cannot begin; said on standard error.
    Refused,
}

/// Does what the options say, on standard output; what was passed over is said on standard error.
///
/// # Errors
/// When the output cannot be written.
pub fn run(options: &Options, now: SystemTime) -> io::Result<Ended> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let ended = match &options.what {
        What::Tail(options) => tail::run(options, &mut out),
        What::Show(options) => show::run(options, &mut out),
        What::Query(options) => query::run(options, now, &mut out),
    }?;
    out.flush()?;
    Ok(ended)
}

/// Opens a log, or says why not.
pub(crate) fn open(directory: &std::path::Path) -> Option<Reader> {
    match Reader::open(directory) {
        Ok(reader) => Some(reader),
        Err(error) => {
            complain(&error.to_string());
            None
        }
    }
}

/// Says what was passed over.
pub(crate) fn passed_over(reader: &Reader) {
    reader.problems().for_each(|problem| complain(&format!("passed over: {problem}")));
}

pub(crate) fn complain(what: &str) {
    // Where even this cannot be written nobody is there to read it.
    let _ = writeln!(io::stderr(), "parhelion: {what}");
}

/// All rows of a batch.
fn rows_of<'b>(
    partition: &super::partition::Partition,
    batch: &'b arrow_array::RecordBatch,
) -> impl Iterator<Item = Row> + use<'b> {
    let model = partition.model.as_deref().map_or(Value::Null, Into::into);
    (0..batch.num_rows()).map(move |index| {
        let mut row = super::segment::row(batch, index);
        row.insert("model".to_owned(), model.clone());
        row
    })
}

/// When a row happened, in microseconds since 1970.
fn micros(row: &Row) -> i64 {
    row.get("time").and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
