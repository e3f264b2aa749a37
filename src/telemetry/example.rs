//! One call to test on: unit 0xbeef asked for `fraud-latest`, got v2 of `fraud`, 12 ms in one attempt.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::feedback::Side;
use super::propagate::{Formats, Propagator, Root, Sampler};
use super::recorder::Rules;
use crate::assignment::{Assignment, Reason};
use crate::comparison::{Comparison, Kind};
use crate::config::units::Percent;
use crate::config::{Ab, Address, Endpoint, Force, Model, Strategy, Telemetry, Variant};
use crate::fault::{Blame, Code};
use crate::outcome::{Attempt, Latency, Outcome, Route, Trace, Traffic};
use crate::shadow::record::{CopyOutcome, PrimaryEnd, Role};

pub(crate) fn variant(name: &str, version: &str) -> Variant {
    let address = Address::Tcp { host: Arc::from("10.0.0.7"), port: 8001 };
    Variant {
        name: Arc::from(name),
        version: Some(Arc::from(version)),
        digest: Some(Arc::from(format!("sha256:{name}"))),
        endpoints: vec![Endpoint { address, hop: false, tls: None }],
        model_name: None,
        model_version: None,
        metrics: None,
        build: name.into(),
    }
}

pub(crate) fn model(name: &str) -> Arc<Model> {
    let half = Percent::from_thousandths(50_000).unwrap();
    Arc::new(Model {
        name: Arc::from(name),
        variants: vec![variant("v1", "1.4.0"), variant("v2", "2.0.0")],
        unit: Vec::new(),
        strategy: Strategy::Ab(Arc::new(Ab {
            baseline: 0,
            salt: Arc::from("salt"),
            hash: Default::default(),
            weights: vec![(0, half), (1, half)],
            segments: Vec::new(),
            judge: None,
        })),
        admission: crate::config::Admission::default(),
        force: Force::Nobody,
        default_deadline: None,
        shadows: Vec::new(),
        fallback: None,
        drift: None,
        feedback: Vec::new(),
        revision: 0,
    })
}

pub(crate) fn attempt() -> Attempt {
    Attempt {
        runs: crate::outcome::Runs::File,
        span: 0x22,
        variant: 1,
        endpoint: Arc::from("10.0.0.7:8001"),
        offset: Duration::from_millis(1),
        elapsed: Duration::from_millis(10),
        status: Code::OK,
        blame: Blame::Nobody,
    }
}

pub(crate) fn trace() -> Trace {
    Trace { trace_id: 0xabc, span_id: 0x11, parent: Some(0x10), sampled: true, state: None }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        prediction: Uuid::from_u128(7),
        told: Some(HeaderValue::from_static("AXIB")),
        trace: trace(),
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        path: "/inference.GRPCInferenceService/ModelInfer".parse().unwrap(),
        protocol: "oip",
        authority: Some(Box::from("models.svc:9000")),
        route: Some(Route {
            model: model("fraud"),
            revision: Arc::from("0123456789ab"),
            asked: Some(Box::from("fraud-latest")),
            assigned: Assignment { variant: 1, reason: Reason::Split, propensity: 0.5 },
            served: Some(1),
            unit: Some(0xbeef),
            wished: None,
            segment: None,
            odds: Default::default(),
            epoch: 0,
        }),
        attempts: vec![attempt()],
        fallback: None,
        merged: None,
        status: Code::OK,
        message: None,
        blame: Blame::Nobody,
        latency: Latency {
            total: Duration::from_millis(12),
            upstream: Duration::from_millis(10),
            own: Duration::from_micros(60),
        },
        traffic: Traffic {
            request_bytes: 300,
            response_bytes: 40,
            request_messages: 1,
            response_messages: 1,
        },
        reported_version: Some(Box::from("2")),
        request_id: Some(Box::from("r-1")),
        payload: None,
        copies: 0,
        disagreement: None,
    }
}

/// A copy of the call for v2, which did not answer it in time.
pub(crate) fn copy() -> CopyOutcome {
    CopyOutcome {
        prediction: Uuid::from_u128(7),
        primary: (0xabc, 0x11),
        primary_end: Some(PrimaryEnd {
            variant: Some(0),
            status: Code::OK,
            cancelled: false,
            latency: Duration::from_millis(10),
            response_bytes: 40,
            response_messages: 1,
        }),
        trace: Trace { trace_id: 0xdef, span_id: 0x33, parent: None, sampled: true, state: None },
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        path: "/inference.GRPCInferenceService/ModelInfer".parse().unwrap(),
        protocol: "oip",
        model: model("fraud"),
        variant: Arc::new(model("fraud").variants[1].clone()),
        role: Role::Shadow,
        endpoint: Some(Arc::from("10.0.0.7:8001")),
        skipped: None,
        status: Code::DEADLINE_EXCEEDED,
        cause: Some("deadline"),
        blame: Blame::Upstream,
        latency: Duration::from_secs(2),
        request_bytes: 300,
        response_bytes: 0,
        response_messages: 0,
        reported_version: None,
        comparison: Some(Arc::new(Comparison { kind: Some(Kind::Status), ..Comparison::default() })),
        verdict: None,
    }
}

pub(crate) fn file() -> Telemetry {
    Telemetry {
        tls: None,
        otlp: Some("http://127.0.0.1:4317".to_owned()),
        sample: Percent::NONE,
        keep_errors: true,
        keep_slower_than: Some(Duration::from_secs(1)),
        keep_disagreements: true,
        resource: Default::default(),
    }
}

pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// Of a process whose traces are all exported.
pub(crate) fn side() -> Side {
    let sampler = Sampler { parent_based: true, root: Root::Never };
    let propagator = Propagator { formats: Formats::default(), sampler, recording: true };
    let rules = Rules { propagator, keep_errors: true, keep_slower_than: None, keep_disagreements: true };
    Side::new(&Arc::new(ArcSwap::from_pointee(rules)))
}
