//! The paths of the admin port: JSON that tells, and beside it the services that were given to the port.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::report::Report;
use super::{Control, stamp};
use crate::telemetry::counter::{Counter, Counters};

pub(super) fn router(mut control: Control) -> Router {
    let services = std::mem::take(&mut control.services);
    let own = Router::new()
        .route("/", get(async || Json(index())))
        .route("/config", get(async |State(control): State<Arc<Control>>| Json((control.effective)())))
        .route("/status", get(async |State(control): State<Arc<Control>>| Json(status(&control))))
        .fallback(unknown)
        .with_state(Arc::new(control));
    // One of the two may have a fallback of its own when they are merged.
    own.merge(services.reset_fallback())
}

fn index() -> Value {
    json!({
        "parhelion": env!("CARGO_PKG_VERSION"),
        "paths": {
            "/": "this list",
            "/config": "the effective configuration, secrets hidden",
            "/feedback": "POST, JSON: what was learnt about a prediction, or a list of such reports",
            "parhelion.v1.Control": "gRPC: rollouts, what parhelion ctl talks to",
            "/status": "the revision in force and what became of the latest change, workers, models, counters",
        }
    })
}

async fn unknown(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let told = "the admin port has parhelion.v1.Control; models are called on `listen`";
        return tonic::Status::unimplemented(told).into_http::<axum::body::Body>();
    }
    let mut body = index();
    body["error"] = "there is no such path".into();
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn status(control: &Control) -> Value {
    let reload = (control.reload)();
    let report = Report::new(&control.view);
    json!({
        "config": {
            "revision": reload.revision,
            "since": stamp::rfc3339(reload.since),
            "refused": reload.refused.map(stamp::rfc3339),
            "errors": reload.errors,
        },
        "ready": report.ready,
        "draining": report.draining,
        "workers": (control.workers)(),
        "models": report.models,
        "counters": counted(&control.view.counters),
    })
}

fn counted(counters: &Counters) -> BTreeMap<String, u64> {
    Counter::ALL.iter().map(|&counter| (snake(&format!("{counter:?}")), counters.get(counter))).collect()
}

/// `ConnectionsAged` as `connections_aged`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
