//! Logged calls that can be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use bytes::Bytes;
use serde_json::Value;

use super::message;
use crate::fault::Code;
use crate::log::payload::{Secret, oip};
use crate::log::read::{Reader, Wanted};
use crate::log::segment;
use crate::log::table::Table;
use crate::protocol::frame::PREFIX;
use crate::warm::file;

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recorded {
    pub(super) prediction: String,
    /// 32 hexadecimal digits.
    pub(super) trace: String,
    /// Microseconds since 1970.
    pub(super) time: i64,
    /// `/pkg.Service/Method`.
    pub(super) path: String,
    /// The request's message.
    pub(super) request: Bytes,
    /// The answer's message; none where it was a failure without one.
    pub(super) response: Option<Bytes>,
    /// What the caller was told.
    pub(super) status: Code,
    /// What the attempt took.
    pub(super) latency: Duration,
}

impl Recorded {
    /// The request as a line of a file of warm-up requests.
    pub(super) fn line(&self) -> Option<String> {
        let nothing = BTreeSet::new();
        let secret = Secret { tensors: &nothing, parameters: Vec::new() };
        oip::request_json(&self.request, &secret).ok().map(|(line, _)| line)
    }
}

/// What of a log is to be sent again.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) model: Option<&'a str>,
    /// The variant that answered.
    pub(super) served: Option<&'a str>,
    /// Microseconds since 1970, both included.
    pub(super) since: i64,
    pub(super) until: i64,
    pub(super) most: usize,
}

/// What there is to be sent.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Oldest first.
    pub(super) all: Vec<Recorded>,
    /// How many others there are, by why they cannot be sent.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// Models whose calls they are.
    pub(super) models: BTreeSet<String>,
}

/// Reads them.
pub(super) fn read(reader: &mut Reader, reading: &Reading<'_>) -> Calls {
    let (mut found, mut skipped, mut models) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    let wanted = Wanted { model: reading.model, ..Wanted::all(Table::Predictions) };
    reader.rows(&wanted, |partition, batch| {
        let text = |name: &str, row: usize| {
            batch
                .column_by_name(name)
                .and_then(|column| segment::cell(column, row).as_str().map(str::to_owned))
        };
        let whole = |name: &str, row: usize| {
            batch.column_by_name(name).and_then(|column| segment::cell(column, row).as_i64()).unwrap_or(0)
        };
        let bytes = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_binary_opt::<i32>()?;
            column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)))
        };
        for row in 0..batch.num_rows() {
            let time = whole("time", row);
            if !(reading.since..=reading.until).contains(&time) {
                continue;
            }
            if reading.served.is_some_and(|served| text("variant", row).as_deref() != Some(served)) {
                continue;
            }
            let request = match text("payload", row).as_deref() {
                Some("kept") => bytes("request", row).or_else(|| of_json(&text("request_json", row)?)),
                Some("masked") => {
                    *skipped.entry("masked").or_default() += 1;
                    continue;
                }
                _ => {
                    *skipped.entry("without_messages").or_default() += 1;
                    continue;
                }
            };
            let Some(request) = request else {
                *skipped.entry("unread").or_default() += 1;
                continue;
            };
            let response = bytes("response", row).or_else(|| message::response(&text("response_json", row)?));
            let latency = u64::try_from(whole("latency_upstream_us", row)).unwrap_or(0);
            models.extend(partition.model.as_deref().map(str::to_owned));
            found.push(Recorded {
                prediction: text("prediction_uuid", row).unwrap_or_default(),
                trace: text("trace_id", row).unwrap_or_default(),
                time,
                path: format!("/{}", text("rpc_method", row).unwrap_or_default()),
                request,
                response,
                status: text("rpc_status_code", row)
                    .and_then(|name| Code::named(&name))
                    .unwrap_or(Code::UNKNOWN),
                latency: Duration::from_micros(latency),
            });
        }
        ControlFlow::Continue(())
    });
    found.sort_by(|one: &Recorded, other| (one.time, &one.prediction).cmp(&(other.time, &other.prediction)));
    found.truncate(reading.most);
    Calls { all: found, skipped, models }
}

/// A request that was logged decoded, as a message again; the name in it is the one that was asked for. With typed
/// contents, as most callers send them, where they have its types; else raw.
fn of_json(json: &str) -> Option<Bytes> {
    let name =
        serde_json::from_str::<Value>(json).ok()?.get("model_name").and_then(Value::as_str)?.to_owned();
    match file::read(json, &name, "") {
        Ok(mut samples) => Some(samples.pop()?.message.slice(PREFIX..)),
        Err(_) => message::request(json),
    }
}
