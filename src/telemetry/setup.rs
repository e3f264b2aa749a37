//! The sidecar's own log, and spans of its own few doings.
//!
//! Calls make no log records: they have spans and metrics. What is logged goes to standard error, as text where that is a
//! terminal and one JSON object a line otherwise. No field can break a record or steer a terminal: control characters
//! leave as escapes, whoever wrote them.
//!
//! Spans that this crate opens through `tracing` (a reload, say) go to the same collector as those of calls. Nothing that
//! lies below an export makes one, or each export would cause the next.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::Telemetry;
use super::environment::{Environment, LogFormat, LogSettings};
use super::propagate::Root;
use super::tally::{Cause, Tally};
use crate::tasks::text;

/// A log is already being written in this process.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already")]
pub struct AlreadySet;

/// Begins to log, and to make spans of the sidecar's own doings. Once in a process.
///
/// # Errors
/// It was called before.
pub fn install(environment: &Environment, telemetry: &Telemetry) -> Result<(), AlreadySet> {
    let (filter, problem) = filter(environment.log_filter.as_deref());
    let log = log(format(environment.log_format), io::stderr).with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(log).with(spans(environment, telemetry));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySet)?;
    std::panic::set_hook(Box::new(tell));
    for warning in environment.warnings.iter().chain(&problem) {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// The same for a process that has no spans.
///
/// # Errors
/// It was called before.
pub fn install_log(wanted: &LogSettings) -> Result<(), AlreadySet> {
    let (filter, problem) = filter(wanted.filter.as_deref());
    let log = log(format(wanted.format), io::stderr).with_filter(filter);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log))
        .map_err(|_| AlreadySet)?;
    std::panic::set_hook(Box::new(tell));
    for warning in wanted.warnings.iter().chain(&problem) {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// A panic is a record like any other: one line, with its place, and the way there where RUST_BACKTRACE asks for it.
fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let way = Backtrace::capture();
    let way = (way.status() == BacktraceStatus::Captured).then(|| tracing::field::display(way));
    let thread = std::thread::current();
    tracing::error!(thread = thread.name(), place, way, panic = text(panic.payload()), "panicked");
}

fn format(wanted: Option<LogFormat>) -> LogFormat {
    wanted.unwrap_or_else(|| if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json })
}

/// The directives as they were given; `info` where there are none or they cannot be read, and what is wrong with them.
fn filter(directives: Option<&str>) -> (EnvFilter, Option<String>) {
    let standard = || EnvFilter::new("info");
    match directives.map(EnvFilter::try_new) {
        None => (standard(), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(problem)) => (standard(), Some(format!("RUST_LOG is ignored: {problem}"))),
    }
}

/// The layer that writes records to `sink`.
fn log<S, W>(format: LogFormat, sink: fn() -> W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || OneLine(sink()));
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// The layer that makes spans of what this crate does, but for telemetry itself.
fn spans<S>(environment: &Environment, telemetry: &Telemetry) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let never = environment.sampler.is_some_and(|sampler| sampler.root == Root::Never);
    let provider = SdkTracerProvider::builder()
        .with_sampler(if never { Sampler::AlwaysOff } else { Sampler::AlwaysOn })
        .with_max_attributes_per_span(u32::try_from(environment.limits.attributes).unwrap_or(u32::MAX))
        .with_span_processor(Handover {
            queue: Arc::clone(&telemetry.shared.own),
            tally: Arc::clone(&telemetry.shared.tally),
        })
        .build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("parhelion"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(ours))
}

fn ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let crate_name = target.split("::").next().unwrap_or_default();
    crate_name == "parhelion"
        && !target.starts_with("parhelion::telemetry")
        && *metadata.level() <= tracing::Level::INFO
}

/// Gives spans that have ended to the exporter's queue.
#[derive(Debug)]
struct Handover {
    queue: Arc<ArrayQueue<Box<SpanData>>>,
    tally: Arc<Tally>,
}

impl SpanProcessor for Handover {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.push(Box::new(span)).is_err() {
            self.tally.dropped(Cause::QueueFull, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Keeps a record on its line: control characters but the last line feed become `\u001b` and the like, which JSON reads
/// back.
#[derive(Debug)]
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// `record` is a whole one, for the formatter writes once.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = String::with_capacity(text.len() + 1);
        for character in body.chars() {
            if character.is_control() {
                line.push_str(&format!("\\u{:04x}", u32::from(character)));
            } else {
                line.push(character);
            }
        }
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests;
