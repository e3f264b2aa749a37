//! Logged calls that can be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use bytes::Bytes;
use serde_json::Value;

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
    /// Microseconds since 1970.
    pub(super) time: i64,
    /// `/pkg.Service/Method`.
    pub(super) path: String,
    /// The request's message.
    pub(super) request: Bytes,
    /// The answer, as JSON; none where it was a failure without one.
    pub(super) response: Option<Value>,
    /// What the caller was told.
    pub(super) status: String,
    /// Microseconds that the attempt took.
    pub(super) latency: i64,
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
    /// Microseconds since 1970, both included.
    pub(super) since: i64,
    pub(super) until: i64,
    pub(super) most: usize,
}

/// The calls, oldest first, and how many others there are, by why they cannot be sent.
pub(super) fn read(
    reader: &mut Reader,
    reading: &Reading<'_>,
) -> (Vec<Recorded>, BTreeMap<&'static str, u64>) {
    let (mut found, mut skipped) = (Vec::new(), BTreeMap::new());
    let wanted = Wanted { model: reading.model, ..Wanted::all(Table::Predictions) };
    reader.rows(&wanted, |_, batch| {
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
            let answer = text("response_json", row).or_else(|| to_json(&bytes("response", row)?));
            found.push(Recorded {
                prediction: text("prediction_uuid", row).unwrap_or_default(),
                time,
                path: format!("/{}", text("rpc_method", row).unwrap_or_default()),
                request,
                response: answer.and_then(|answer| serde_json::from_str(&answer).ok()),
                status: text("rpc_status_code", row).unwrap_or_default(),
                latency: whole("latency_upstream_us", row),
            });
        }
        ControlFlow::Continue(())
    });
    found.sort_by(|one: &Recorded, other| (one.time, &one.prediction).cmp(&(other.time, &other.prediction)));
    found.truncate(reading.most);
    (found, skipped)
}

/// A request that was logged decoded, as a message again; the name in it is the one that was asked for.
fn of_json(json: &str) -> Option<Bytes> {
    let name =
        serde_json::from_str::<Value>(json).ok()?.get("model_name").and_then(Value::as_str)?.to_owned();
    let sample = file::read(json, &name, "").ok()?.pop()?;
    Some(sample.message.slice(PREFIX..))
}

/// An answer as JSON.
pub(super) fn to_json(answer: &Bytes) -> Option<String> {
    let nothing = BTreeSet::new();
    let secret = Secret { tensors: &nothing, parameters: Vec::new() };
    oip::response_json(answer, &secret).ok().map(|(json, _)| json)
}
