//! Every environment variable that telemetry heeds, read in this one place.
//!
//! The OpenTelemetry specification wants a value that cannot be understood to be warned of and ignored, and so it is. An
//! error is only what would otherwise send spans another way than its author meant: without the certificate that was
//! asked for, or in a protocol which the collector does not speak. All errors come at once.
//!
//! Pure: variables come from a function, so a test needs no process of its own. An empty variable is an unset one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::ClientTls;

use super::propagate::{Formats, Root, Sampler, Writing};
use super::span::{Conventions, Limits};

/// What the environment says; what it leaves open is `None` or the specification's default.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `OTEL_SDK_DISABLED`, or `OTEL_TRACES_EXPORTER=none`: no spans leave, whatever else is configured.
    pub silent: bool,
    /// Where spans go; wins over the file.
    pub endpoint: Option<String>,
    /// How an `https` collector is believed, and what is shown to it; each wins over the file.
    pub tls: Files,
    /// Sent with every export.
    pub headers: HeaderMap,
    /// Bound of one request to the collector.
    pub timeout: Duration,
    /// Wins over the file's `telemetry.sample`.
    pub sampler: Option<Sampler>,
    /// Which trace headers are read and written.
    pub formats: Formats,
    /// How spans wait and leave.
    pub batch: Batch,
    /// How much one span may hold.
    pub limits: Limits,
    /// Which generation of attribute names spans have.
    pub conventions: Conventions,
    /// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; win over the file.
    pub resource: BTreeMap<String, String>,
    /// What is written to the log, as `tracing` directives.
    pub log_filter: Option<String>,
    /// How records of the log look.
    pub log_format: Option<LogFormat>,
    /// What was said but cannot be heeded.
    pub warnings: Vec<String>,
}

/// Files for TLS with the collector, `OTEL_EXPORTER_OTLP_CERTIFICATE` and its kin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Authorities of its certificate.
    pub ca: Option<PathBuf>,
    /// A chain and its key, to be shown.
    pub pair: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// What the file says, with what these say in its place.
    pub fn over(&self, file: Option<&Arc<ClientTls>>) -> Arc<ClientTls> {
        let file = file.map(|file| ClientTls::clone(file)).unwrap_or_default();
        Arc::new(ClientTls { ca: self.ca.clone().or(file.ca), pair: self.pair.clone().or(file.pair), ..file })
    }
}

/// How spans wait for the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Spans that may wait.
    pub queue: usize,
    /// Spans in one export.
    pub size: usize,
    /// How long a span may wait for company.
    pub delay: Duration,
    /// Bound of one export, its retries in.
    pub timeout: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { queue: 2048, size: 512, delay: Duration::from_secs(5), timeout: Duration::from_secs(30) }
    }
}

/// How records of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A variable that must not be ignored, and cannot be heeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value}: {problem}")]
pub struct Refused {
    /// Its name.
    pub variable: &'static str,
    /// What it holds.
    pub value: String,
    /// What is wrong, and what would be right.
    pub problem: &'static str,
}

const HALF: &str = "a client certificate and its key are named together: \
     OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY";
const GRPC_ONLY: &str =
    "spans are only sent as grpc; leave it unset, and give the collector's gRPC port (4317)";

impl Environment {
    /// Reads the variables through `lookup`; an unset one is `None`.
    ///
    /// # Errors
    /// Every variable that asks for what this version cannot do, see [`Refused`].
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Refused>> {
        let mut reader = Reader { lookup, warnings: Vec::new(), refused: Vec::new() };
        reader.refuse_protocol();
        reader.warn_compression();
        let exporter = reader.exporter();
        let environment = Environment {
            silent: reader.flag("OTEL_SDK_DISABLED") || exporter == Some(false),
            endpoint: reader.endpoint(exporter == Some(true)),
            tls: reader.files(),
            headers: reader.headers(),
            timeout: reader.timeout(),
            sampler: reader.sampler(),
            formats: reader.formats(),
            batch: reader.batch(),
            limits: reader.limits(),
            conventions: reader.conventions(),
            resource: reader.resource(),
            log_filter: reader.log_filter(),
            log_format: reader.log_format(),
            warnings: Vec::new(),
        };
        if reader.refused.is_empty() {
            Ok(Environment { warnings: reader.warnings, ..environment })
        } else {
            Err(reader.refused)
        }
    }
}

/// The part of [`Environment`] that is about the log, for a process that has no spans.
#[derive(Debug, Clone, Default)]
pub struct LogSettings {
    /// What is written, as `tracing` directives.
    pub filter: Option<String>,
    /// How records look.
    pub format: Option<LogFormat>,
    /// What was said but cannot be heeded.
    pub warnings: Vec<String>,
}

impl LogSettings {
    /// Reads them.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let mut reader = Reader { lookup, warnings: Vec::new(), refused: Vec::new() };
        let (filter, format) = (reader.log_filter(), reader.log_format());
        LogSettings { filter, format, warnings: reader.warnings }
    }
}

/// Reads variables one by one and gathers what is wrong with them.
struct Reader<F> {
    lookup: F,
    warnings: Vec<String>,
    refused: Vec<Refused>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn get(&self, variable: &str) -> Option<String> {
        let value = (self.lookup)(variable)?;
        let text = value.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The variable for traces where it is set, else the one for all signals.
    fn signal(&self, traces: &'static str, all: &'static str) -> Option<(&'static str, String)> {
        let named = |variable| self.get(variable).map(|value| (variable, value));
        named(traces).or_else(|| named(all))
    }

    fn warn(&mut self, variable: &str, value: &str, remedy: &str) {
        self.warnings.push(format!("{variable}={value} is ignored: {remedy}"));
    }

    fn refuse(&mut self, variable: &'static str, value: String, problem: &'static str) {
        self.refused.push(Refused { variable, value, problem });
    }

    fn parsed<T: FromStr>(&mut self, variable: &str, remedy: &str) -> Option<T> {
        let text = self.get(variable)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.warn(variable, &text, remedy);
        }
        value
    }

    fn flag(&mut self, variable: &str) -> bool {
        let Some(text) = self.get(variable) else { return false };
        if !text.eq_ignore_ascii_case("true") && !text.eq_ignore_ascii_case("false") {
            self.warn(variable, &text, "it is true or false");
        }
        text.eq_ignore_ascii_case("true")
    }

    /// A whole number of at least `least`.
    fn count(&mut self, variable: &str, least: usize, default: usize) -> usize {
        let Some(number) = self.parsed::<usize>(variable, "it is a whole number") else { return default };
        if number < least {
            self.warn(variable, &number.to_string(), "it is too small");
            return default;
        }
        number
    }

    fn millis(&mut self, variable: &str, default: Duration) -> Duration {
        self.parsed(variable, "it is a whole number of milliseconds").map_or(default, Duration::from_millis)
    }

    fn files(&mut self) -> Files {
        let ca = self.signal("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE");
        let key = self.signal("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
        let cert = self
            .signal("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
        let path = |(_, value): (_, String)| PathBuf::from(value);
        let pair = match (cert, key) {
            (Some(cert), Some(key)) => Some((path(cert), path(key))),
            (None, None) => None,
            (Some((variable, value)), None) | (None, Some((variable, value))) => {
                self.refuse(variable, value, HALF);
                None
            }
        };
        Files { ca: ca.map(path), pair }
    }

    fn refuse_protocol(&mut self) {
        let protocol = self.signal("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
        if let Some((variable, value)) = protocol.filter(|(_, value)| value != "grpc") {
            self.refuse(variable, value, GRPC_ONLY);
        }
    }

    /// Whether spans were asked for or forbidden.
    fn exporter(&mut self) -> Option<bool> {
        let text = self.get("OTEL_TRACES_EXPORTER")?;
        match text.as_str() {
            "none" => Some(false),
            "otlp" => Some(true),
            _ => {
                self.warn("OTEL_TRACES_EXPORTER", &text, "it is otlp or none");
                None
            }
        }
    }

    fn endpoint(&mut self, asked_for: bool) -> Option<String> {
        let plain = self.signal("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE");
        let plain = plain.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
        let Some((variable, value)) =
            self.signal("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        else {
            return asked_for.then(|| "http://localhost:4317".to_owned());
        };
        let scheme = if plain { "http" } else { "https" };
        let url = if value.contains("://") { value } else { format!("{scheme}://{value}") };
        match endpoint(&url) {
            Ok(()) => Some(url),
            Err(problem) => {
                self.refuse(variable, url, problem);
                None
            }
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((variable, list)) =
            self.signal("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
        else {
            return headers;
        };
        for (name, value) in pairs(&list) {
            let parsed =
                name.to_ascii_lowercase().parse::<HeaderName>().ok().zip(HeaderValue::from_str(&value).ok());
            match parsed {
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                // The value is left out: it may be a credential.
                None => self.warn(variable, &name, "it is no header"),
            }
        }
        headers
    }

    fn timeout(&mut self) -> Duration {
        let all = self.millis("OTEL_EXPORTER_OTLP_TIMEOUT", Duration::from_secs(10));
        self.millis("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", all)
    }

    /// Exports are not compressed: a collector takes them either way, so this is no reason to refuse.
    fn warn_compression(&mut self) {
        let set = self.signal("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION");
        if let Some((variable, value)) = set.filter(|(_, value)| value != "none") {
            self.warn(variable, &value, "exports are not compressed in this version");
        }
    }

    fn sampler(&mut self) -> Option<Sampler> {
        let name = self.get("OTEL_TRACES_SAMPLER")?;
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let root = match root {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => Root::ratio(self.ratio()),
            _ => {
                let remedy =
                    "it is always_on, always_off or traceidratio, with or without parentbased_ before it";
                self.warn("OTEL_TRACES_SAMPLER", &name, remedy);
                return None;
            }
        };
        Some(Sampler { parent_based, root })
    }

    fn ratio(&mut self) -> f64 {
        let remedy = "it is a number from 0 to 1; all traces are sampled";
        let Some(share) = self.parsed::<f64>("OTEL_TRACES_SAMPLER_ARG", remedy) else { return 1.0 };
        if !(0.0..=1.0).contains(&share) {
            self.warn("OTEL_TRACES_SAMPLER_ARG", &share.to_string(), remedy);
            return 1.0;
        }
        share
    }

    fn formats(&mut self) -> Formats {
        let Some(list) = self.get("OTEL_PROPAGATORS") else { return Formats::default() };
        let mut formats = Formats { w3c: false, b3: Writing::Off, b3_multi: Writing::Off };
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "tracecontext" => formats.w3c = true,
                "b3" => formats.b3 = Writing::Always,
                "b3multi" => formats.b3_multi = Writing::Always,
                // Baggage passes like all metadata, named or not.
                "baggage" | "none" => {}
                _ => self.warn(
                    "OTEL_PROPAGATORS",
                    name,
                    "known are tracecontext, baggage, b3, b3multi and none",
                ),
            }
        }
        formats
    }

    fn batch(&mut self) -> Batch {
        let default = Batch::default();
        let queue = self.count("OTEL_BSP_MAX_QUEUE_SIZE", 1, default.queue);
        let size = self.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, default.size);
        Batch {
            queue,
            size: size.min(queue),
            delay: self.millis("OTEL_BSP_SCHEDULE_DELAY", default.delay),
            timeout: self.millis("OTEL_BSP_EXPORT_TIMEOUT", default.timeout),
        }
    }

    fn limits(&mut self) -> Limits {
        let default = Limits::default();
        let all = self.count("OTEL_ATTRIBUTE_COUNT_LIMIT", 0, default.attributes);
        let length = "it is a whole number of characters";
        let any: Option<usize> = self.parsed("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", length);
        Limits {
            attributes: self.count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 0, all),
            value_length: self.parsed("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length).or(any),
        }
    }

    fn conventions(&mut self) -> Conventions {
        let list = self.get("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default();
        let mut chosen = Conventions::New;
        for name in list.split(',').map(str::trim) {
            match name {
                "rpc/dup" => return Conventions::Both,
                "rpc/old" => chosen = Conventions::Old,
                // Names of other conventions are no concern of a gRPC sidecar.
                _ => {}
            }
        }
        chosen
    }

    fn resource(&mut self) -> BTreeMap<String, String> {
        let list = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut attributes: BTreeMap<_, _> = pairs(&list).collect();
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            attributes.insert("service.name".to_owned(), name);
        }
        attributes
    }

    fn log_filter(&mut self) -> Option<String> {
        if let Some(directives) = self.get("RUST_LOG") {
            return Some(directives);
        }
        let level = self.get("OTEL_LOG_LEVEL")?;
        let level = level.to_ascii_lowercase();
        match level.as_str() {
            "none" => Some("off".to_owned()),
            "trace" | "debug" | "info" | "warn" | "error" => Some(level),
            _ => {
                self.warn("OTEL_LOG_LEVEL", &level, "it is none, error, warn, info, debug or trace");
                None
            }
        }
    }

    fn log_format(&mut self) -> Option<LogFormat> {
        let text = self.get("PARHELION_LOG_FORMAT")?;
        match text.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => {
                self.warn("PARHELION_LOG_FORMAT", &text, "it is text or json");
                None
            }
        }
    }
}

/// Whether spans can be sent there.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn endpoint(url: &str) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL like http://localhost:4317")?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        Some("http" | "https") => Err("it names no host"),
        _ => Err("it does not begin with http:// or https://"),
    }
}

/// `name=value,name=value` with percent-encoded values, as the specification writes headers and resources.
fn pairs(list: &str) -> impl Iterator<Item = (String, String)> {
    list.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), decode(value.trim())))
    })
}

/// Undoes percent-encoding; what is no valid encoding stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        match encoded(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The byte that `%` and two hexadecimal digits at the front stand for.
fn encoded(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests;
