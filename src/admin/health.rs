//! The paths of the health port. Nothing here is secret, and nothing can be acted on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use super::report::Report;
use super::{Format, Health};

const PATHS: &str = "\
/livez                  the process runs
/readyz                 the default model's baseline can be called, and the sidecar does not drain
/readyz/MODEL           the baseline of that model can be called
/readyz/MODEL/VARIANT   that variant can be called
/drained                answers when the sidecar is told to end and has no calls any more: for a model's preStop
/metrics                Prometheus text, or OpenMetrics on demand
grpc.health.v1.Health   services \"\", \"MODEL\" and \"MODEL/VARIANT\"
";

/// How long a sidecar may take to learn that its pod ends, after the model has: both are told at the same moment. Where it
/// is not told only the model ends, and nobody shall wait.
const TOLD: Duration = Duration::from_secs(5);

pub(super) fn router<S>(health: Health, service: HealthServer<S>) -> Router
where
    S: tonic_health::pb::health_server::Health,
{
    let own = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/readyz/{model}", get(model_ready))
        .route("/readyz/{model}/{variant}", get(variant_ready))
        .route("/drained", get(drained))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .with_state(Arc::new(health));
    // One of the two may have a fallback of its own when they are merged.
    own.merge(Routes::new(service).into_axum_router().reset_fallback())
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let report = Report::new(&health.view);
    (code(report.ready), report.text()).into_response()
}

async fn drained(State(health): State<Arc<Health>>) -> &'static str {
    let (mut draining, mut drained) = (health.view.draining.clone(), health.view.drained.clone());
    // A sender that is gone means that the process ends.
    let told = tokio::time::timeout(TOLD, draining.wait_for(|draining| *draining)).await.is_ok();
    if !told {
        return "nobody told the sidecar to end: it serves on\n";
    }
    let _ = drained.wait_for(|drained| *drained).await;
    "drained\n"
}

async fn model_ready(State(health): State<Arc<Health>>, Path(name): Path<String>) -> Response {
    let report = Report::new(&health.view);
    let Some(model) = report.model(&name) else {
        let known: Vec<&str> = report.models.iter().map(|model| &*model.name).collect();
        return not_found(&format!("there is no model {name}; known are: {}\n", known.join(", ")));
    };
    let baseline = model.variants.iter().find(|variant| variant.baseline);
    let text = baseline.map(|variant| format!("{} {}", variant.name, variant.text())).unwrap_or_default();
    one(&report, model.ready, &text)
}

async fn variant_ready(
    State(health): State<Arc<Health>>,
    Path((name, variant)): Path<(String, String)>,
) -> Response {
    let report = Report::new(&health.view);
    match report.model(&name).and_then(|model| model.variant(&variant)) {
        Some(variant) => one(&report, variant.ready, &variant.text()),
        None => not_found(&format!("there is no variant {name}/{variant}; /readyz lists all\n")),
    }
}

fn one(report: &Report, ready: bool, text: &str) -> Response {
    if report.draining {
        return (code(false), "not ready: draining\n").into_response();
    }
    (code(ready), format!("{text}\n")).into_response()
}

fn code(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn not_found(text: &str) -> Response {
    (StatusCode::NOT_FOUND, text.to_owned()).into_response()
}

async fn metrics(State(health): State<Arc<Health>>, headers: HeaderMap) -> Response {
    let page = (health.metrics)(negotiate(&headers));
    ([(header::CONTENT_TYPE, page.content_type), (header::VARY, "accept")], page.body).into_response()
}

async fn unknown(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return tonic::Status::unimplemented(
            "the health port has grpc.health.v1.Health only; models are called on `listen`",
        )
        .into_http::<axum::body::Body>();
    }
    not_found(&format!("there is no such path; these are there:\n{PATHS}"))
}

/// OpenMetrics where it is accepted at least as much as plain text.
fn negotiate(headers: &HeaderMap) -> Format {
    let mut best = [0.0_f32; 2];
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let index = match parts.next() {
            Some("application/openmetrics-text") => 0,
            Some("text/plain" | "text/*" | "*/*") => 1,
            _ => continue,
        };
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        best[index] = best[index].max(quality);
    }
    if best[0] > 0.0 && best[0] >= best[1] { Format::OpenMetrics } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_only_for_those_who_want_it() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Text),
            ("text/plain, application/openmetrics-text;version=1.0.0;q=0.5", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), format, "{accept}");
        }
    }
}
