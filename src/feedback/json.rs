//! Reports as JSON over HTTP, for those who have no gRPC at hand: `POST /feedback` on the admin port, one object or a
//! list of them. The same checks, the same words.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value as Any, json};

use super::{Door, Receipt, Refusal, Report, Value};
use crate::fault::Code;

/// The largest body.
const MAX_BODY: usize = 1024 * 1024;

/// `POST /feedback`, reports going in by `door`.
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
        let Written { prediction_id, name, value, id, at_unix_ms } = written;
        let value = match value {
            Scalar::Number(number) => Value::Number(number),
            Scalar::Flag(flag) => Value::Number(f64::from(u8::from(flag))),
            Scalar::Label(label) => Value::Label(label),
        };
        Report { prediction: prediction_id, name, value: Some(value), id, at: at_unix_ms }
    }
}

/// What is told of one report: its answer, and the HTTP status that it alone would have.
struct Told(StatusCode, Any);

async fn take(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
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
        Err(error) => {
            let Told(status, answer) = malformed(&format!("the body is no JSON: {error}"));
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
        Err(error) => malformed(&format!(
            "{error}; a report is {{\"prediction_id\": \"…\", \"name\": \"…\", \"value\": 1}}, and may have \"id\" and \
             \"at_unix_ms\""
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
    let error = json!({ "code": Code::INVALID_ARGUMENT.name(), "message": message });
    Told(StatusCode::BAD_REQUEST, json!({ "error": error }))
}

fn refused(refusal: &Refusal) -> Told {
    let status = match refusal.code() {
        Code::UNAUTHENTICATED | Code::PERMISSION_DENIED => StatusCode::FORBIDDEN,
        Code::NOT_FOUND => StatusCode::NOT_FOUND,
        Code::FAILED_PRECONDITION => StatusCode::CONFLICT,
        Code::RESOURCE_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    };
    let error = json!({ "code": refusal.code().name(), "message": refusal.to_string() });
    Told(status, json!({ "error": error }))
}
