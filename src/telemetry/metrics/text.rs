//! The two text formats of a scrape. They differ in the names of counter families, in exemplars, and in the last line.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use crate::telemetry::exemplar::Exemplar;
use crate::telemetry::shard::BOUNDS;

/// How a scrape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// Prometheus text 0.0.4, which has no exemplars.
    Prometheus,
}

impl Format {
    /// What to answer a request with this `Accept` header.
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Format::OpenMetrics,
            _ => Format::Prometheus,
        }
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A scrape being written.
pub(super) struct Text {
    out: String,
    format: Format,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Text { out: String::with_capacity(16 * 1024), format }
    }

    /// Begins a metric; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let name = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Prometheus => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.name(name, labels, None);
        self.put(format_args!(" {value}\n"));
    }

    /// A sample that is no whole number.
    pub(super) fn ratio(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.name(name, labels, None);
        self.put(format_args!(" {value}\n"));
    }

    /// A sample of a large set, most of which stays zero and is left out.
    pub(super) fn counted(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        if value > 0 {
            self.sample(name, labels, value);
        }
    }

    /// `buckets` are not added up yet; the last has no bound.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: &[u64],
        seconds: f64,
        exemplar: impl Fn(usize) -> Option<Exemplar>,
    ) {
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for (index, bucket) in buckets.iter().enumerate() {
            count += bucket;
            let bound = match BOUNDS.get(index) {
                Some(bound) => format!("{:?}", bound.as_secs_f64()),
                None => "+Inf".to_owned(),
            };
            self.name(&bucket_name, labels, Some(&bound));
            self.put(format_args!(" {count}"));
            if let Some(exemplar) = exemplar(index).filter(|_| self.format == Format::OpenMetrics) {
                self.exemplar(&exemplar);
            }
            self.out.push('\n');
        }
        self.name(&format!("{name}_sum"), labels, None);
        self.put(format_args!(" {seconds}\n"));
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let Exemplar { trace_id, span_id, .. } = exemplar;
        let value = exemplar.latency.as_secs_f64();
        let ended = exemplar.ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.put(format_args!(
            " # {{trace_id=\"{trace_id:032x}\",span_id=\"{span_id:016x}\"}} {value} {ended:.3}"
        ));
    }

    fn name(&mut self, name: &str, labels: &[(&str, &str)], bound: Option<&str>) {
        self.out.push_str(name);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            self.out.push(before);
            self.out.push_str(label);
            self.out.push_str("=\"");
            self.escaped(value);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }
}
