//! One event, and its form on the wire: the binary content mode of CloudEvents 1.0, whose attributes are headers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::{Hold, Side};
use crate::config::Variant;
use crate::fault::Code;
use crate::log::ask::stamp;
use crate::log::payload::Written;
use crate::outcome::{Outcome, Trace};

/// What the body is, by how messages are kept.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// One event.
#[derive(Debug)]
pub(super) struct Event {
    side: Side,
    prediction: Uuid,
    time: SystemTime,
    recorded: SystemTime,
    trace: Trace,
    model: Arc<str>,
    variant: Option<Named>,
    /// Whether the variant is the rollout's baseline.
    baseline: bool,
    reported: Option<Box<str>>,
    status: Code,
    data: Option<(&'static str, Bytes)>,
    hold: Option<Hold>,
}

/// A variant as far as it is told of.
#[derive(Debug)]
struct Named {
    name: Arc<str>,
    version: Option<Arc<str>>,
    digest: Option<Arc<str>>,
}

impl Event {
    /// The event of one side of a call; none where it has none: of what was given to no model, and of the response to a
    /// call that failed.
    pub(super) fn of(
        outcome: &Outcome,
        side: Side,
        messages: Option<&Written>,
        now: SystemTime,
    ) -> Option<Self> {
        let route = outcome.route.as_ref()?;
        let assigned = route.assigned.variant;
        let (variant, time) = match side {
            Side::Request => (assigned, outcome.started),
            Side::Response if outcome.status == Code::OK => {
                (route.served.unwrap_or(assigned), outcome.started + outcome.latency.total)
            }
            Side::Response => return None,
        };
        let named = |found: &Variant| Named {
            name: Arc::clone(&found.name),
            version: found.version.clone(),
            digest: found.digest.clone(),
        };
        Some(Event {
            side,
            prediction: outcome.prediction,
            time,
            recorded: now,
            trace: outcome.trace.clone(),
            model: Arc::clone(&route.model.name),
            variant: route.model.variants.get(variant).map(named),
            baseline: variant == route.model.baseline(),
            reported: outcome.reported_version.clone().filter(|_| side == Side::Response),
            status: outcome.status,
            data: messages.and_then(|messages| data(messages, side)),
            hold: None,
        })
    }

    pub(super) fn prediction(&self) -> Uuid {
        self.prediction
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The message; empty where it is not kept.
    pub(super) fn body(&self) -> Bytes {
        self.data.as_ref().map(|(_, data)| data.clone()).unwrap_or_default()
    }

    /// Takes room for its message; false where there is none.
    pub(super) fn hold(&mut self, held: &Arc<AtomicUsize>, most: usize) -> bool {
        let bytes = self.data.as_ref().map_or(0, |(_, data)| data.len());
        self.hold = Hold::take(held, bytes, most);
        self.hold.is_some()
    }

    /// Its attributes, from a receiver's `source` and `namespace`.
    pub(super) fn headers(&self, source: &str, namespace: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(20);
        let mut put = |name: &'static str, value: &str| {
            headers.insert(HeaderName::from_static(name), encoded(value));
        };
        put("ce-specversion", "1.0");
        put("ce-id", &self.prediction.hyphenated().to_string());
        put("ce-source", source);
        put(
            "ce-type",
            match self.side {
                Side::Request => "org.kubeflow.serving.inference.request",
                Side::Response => "org.kubeflow.serving.inference.response",
            },
        );
        put("ce-time", &rfc3339(self.time));
        put("ce-recordedtime", &rfc3339(self.recorded));
        put("ce-traceparent", &traceparent(&self.trace));
        put("ce-inferenceservicename", &self.model);
        put("ce-component", "predictor");
        put("ce-endpoint", if self.baseline { "default" } else { "canary" });
        if let Some(namespace) = namespace {
            put("ce-namespace", namespace);
        }
        if let Some(variant) = &self.variant {
            put("ce-variant", &variant.name);
            for (name, value) in [("ce-version", &variant.version), ("ce-digest", &variant.digest)] {
                if let Some(value) = value {
                    put(name, value);
                }
            }
        }
        if let Some(reported) = self.reported.as_deref().filter(|reported| !reported.is_empty()) {
            put("ce-reportedversion", reported);
        }
        if self.side == Side::Response {
            put("ce-grpcstatus", self.status.name());
        }
        if let Some((kind, _)) = &self.data {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        headers
    }
}

/// A message as it is kept, and what it is.
fn data(messages: &Written, side: Side) -> Option<(&'static str, Bytes)> {
    let (json, raw) = match side {
        Side::Request => (&messages.request_json, &messages.request),
        Side::Response => (&messages.response_json, &messages.response),
    };
    let json = json.as_ref().map(|text| (JSON, Bytes::copy_from_slice(text.as_bytes())));
    json.or_else(|| raw.as_ref().map(|bytes| (PROTOBUF, bytes.clone())))
}

/// The span of the sidecar, as the extension for distributed tracing has it.
fn traceparent(trace: &Trace) -> String {
    format!("00-{:032x}-{:016x}-{:02x}", trace.trace_id, trace.span_id, u8::from(trace.sampled))
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut text = stamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).replacen(' ', "T", 1);
    text.push('Z');
    text
}

/// An attribute as the value of a header: what is no visible ASCII, a space, a quotation mark or a percent sign as the
/// percent-encoded bytes of its UTF-8, as the HTTP binding of CloudEvents 1.0 has it (3.1.3.2).
fn encoded(value: &str) -> HeaderValue {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            0x21..=0x7e if byte != b'"' && byte != b'%' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    // Visible ASCII is always a value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
