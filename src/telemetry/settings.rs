//! File and environment put together: what telemetry does from now on. The environment wins. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;

use super::environment::{self, Batch, Environment};
use super::propagate::{Propagator, Sampler};
use super::recorder::Rules;
use super::span::{Conventions, Limits};
use crate::config::{ClientTls, Telemetry};

/// Where spans go and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// None: no spans.
    pub collector: Option<Collector>,
    /// What a worker does.
    pub rules: Rules,
    /// How spans wait and leave.
    pub batch: Batch,
    /// How much one span may hold.
    pub limits: Limits,
    /// Which names spans have.
    pub conventions: Conventions,
    /// Who says all this.
    pub resource: BTreeMap<String, String>,
}

/// A collector that speaks OTLP over gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// How it is believed; none: it is reached without TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// Sent with every export.
    pub headers: HeaderMap,
    /// Bound of one request.
    pub timeout: Duration,
}

/// `telemetry.otlp` names no place that spans can be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("telemetry.otlp: {endpoint}: {problem}")]
pub struct BadEndpoint {
    /// What the file says.
    pub endpoint: String,
    /// What is wrong, and what would be right.
    pub problem: &'static str,
}

impl Settings {
    /// Puts both together.
    ///
    /// # Errors
    /// The file's endpoint is the one that counts, and spans cannot be sent there.
    pub fn new(file: &Telemetry, environment: &Environment) -> Result<Self, BadEndpoint> {
        let collector = collector(file, environment)?;
        let propagator = Propagator {
            formats: environment.formats,
            sampler: environment.sampler.unwrap_or(Sampler::from(file.sample)),
            recording: collector.is_some(),
        };
        Ok(Settings {
            collector,
            rules: Rules {
                propagator,
                keep_errors: file.keep_errors,
                keep_slower_than: file.keep_slower_than,
                keep_disagreements: file.keep_disagreements,
            },
            batch: environment.batch,
            limits: environment.limits,
            conventions: environment.conventions,
            resource: resource(file, environment),
        })
    }
}

fn collector(file: &Telemetry, environment: &Environment) -> Result<Option<Collector>, BadEndpoint> {
    let Some(endpoint) = environment.endpoint.as_ref().or(file.otlp.as_ref()) else { return Ok(None) };
    if let Err(problem) = environment::endpoint(endpoint) {
        return Err(BadEndpoint { endpoint: endpoint.clone(), problem });
    }
    Ok((!environment.silent).then(|| Collector {
        endpoint: endpoint.clone(),
        tls: endpoint.starts_with("https://").then(|| environment.tls.over(file.tls.as_ref())),
        headers: environment.headers.clone(),
        timeout: environment.timeout,
    }))
}

fn resource(file: &Telemetry, environment: &Environment) -> BTreeMap<String, String> {
    let mut resource = BTreeMap::from([
        ("service.name".to_owned(), "parhelion".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    resource.extend(file.resource.clone());
    resource.extend(environment.resource.clone());
    resource
}

#[cfg(test)]
mod tests;
