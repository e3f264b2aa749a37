//! Reports as JSON over HTTP, for those who have no gRPC at hand: `POST /feedback` on the admin port, one object or a
//! list of them. The same checks, the same words. It decides rollouts, so it takes the right to act.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value as Any, json};

use super::{At, Door, Receipt, Refusal, Report, Value};
use crate::admin::Caller;
use crate::admin::tokens::Right;
use crate::fault::Code;

/// The largest body.
const MAX_BODY: usize = 1024 * 1024;

/// `POST /feedback`, reports going in by `door`; its requests carry a [`Caller`].
pub fn router(door: Door) -> Router {
    Router::new().route("/feedback", post(take)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(door)
}

/// A report as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    prediction_id: String,
    name: String,
    value: Scalar,
    #[serde(default)]
    id: String,
    at_unix_ms: Option<u64>,
    slot: Option<u32>,
    item: Option<Item>,
    #[serde(default)]
    row: u32,
}

/// Items are texts or whole numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`item` must be a text or a whole number")]
enum Item {
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`value` must be a number, true, false, or a word for labels")]
enum Scalar {
    Number(f64),
    Flag(bool),
    Label(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Body {
    Many(Vec<Any>),
    One(Any),
}

impl From<Written> for Report {
    fn from(written: Written) -> Self {
        let Written { prediction_id, name, value, id, at_unix_ms, slot, item, row } = written;
        let item = item.map(|item| match item {
            Item::Number(number) => At::Item(number.to_string()),
            Item::Text(text) => At::Item(text),
        });
        let value = match value {
            Scalar::Number(number) => Value::Number(number),
            Scalar::Flag(flag) => Value::Number(f64::from(u8::from(flag))),
            Scalar::Label(label) => Value::Label(label),
        };
        let place = slot.map(At::Slot).or(item);
        Report { prediction: prediction_id, name, value: Some(value), id, at: at_unix_ms, place, row }
    }
}

/// What is told of one report: its answer, and the HTTP status that it alone would have.
struct Told(StatusCode, Any);

async fn take(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if caller.right < Right::Act {
        let told = format!("token {} may only read: feedback needs one with the right `act`", caller.name);
        return (StatusCode::FORBIDDEN, Json(error(Code::PERMISSION_DENIED, &told))).into_response();
    }
    // What else a form of a web page can send.
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.split(';').next().map(str::trim) == Some("application/json"))
    });
    if !json {
        let told = malformed("content-type must be application/json");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Json(told.1)).into_response();
    }
    match serde_json::from_slice(&body) {
        Ok(Body::One(report)) => {
            let Told(status, answer) = one(&door, report);
            (status, Json(answer)).into_response()
        }
        Ok(Body::Many(reports)) => {
            let mut results = Vec::with_capacity(reports.len());
            let mut since = std::time::Instant::now();
            for report in reports {
                results.push(one(&door, report).1);
                if since.elapsed() > super::TURN {
                    tokio::task::yield_now().await;
                    since = std::time::Instant::now();
                }
            }
            Json(json!({ "results": results })).into_response()
        }
        Err(wrong) => {
            let Told(status, answer) = malformed(&format!("the body is no JSON: {wrong}"));
            (status, Json(answer)).into_response()
        }
    }
}

fn one(door: &Door, report: Any) -> Told {
    match serde_json::from_value::<Written>(report) {
        Ok(written) => match door.report(&written.into(), None) {
            Ok(receipt) => Told(StatusCode::OK, taken(&receipt)),
            Err(refusal) => refused(&refusal),
        },
        Err(wrong) => malformed(&format!(
            "{wrong}; a report is {{\"prediction_id\": \"…\", \"name\": \"…\", \"value\": 1}}, and may have \"id\", \
             \"at_unix_ms\", and \"slot\" or \"item\""
        )),
    }
}

fn taken(receipt: &Receipt) -> Any {
    json!({
        "result": receipt.taken.name(),
        "evidence": receipt.evidence.name(),
        "value": receipt.value,
    })
}

fn malformed(message: &str) -> Told {
    Told(StatusCode::BAD_REQUEST, error(Code::INVALID_ARGUMENT, message))
}

fn error(code: Code, message: &str) -> Any {
    json!({ "error": { "code": code.name(), "message": message } })
}

fn refused(refusal: &Refusal) -> Told {
    let status = match refusal.code() {
        Code::UNAUTHENTICATED | Code::PERMISSION_DENIED => StatusCode::FORBIDDEN,
        Code::NOT_FOUND => StatusCode::NOT_FOUND,
        Code::FAILED_PRECONDITION => StatusCode::CONFLICT,
        Code::RESOURCE_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        Code::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Told(status, error(refusal.code(), &refusal.to_string()))
}
