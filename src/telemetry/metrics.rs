//! What was counted, as Prometheus and OpenMetrics text.
//!
//! Everything is read at the moment of the scrape and added up over the workers; nothing is kept for it meanwhile. Labels
//! are models and variants of the configuration and closed sets of words, so no caller can make a series. Methods are no
//! label: callers make them up, and a model has few; spans have them.
//!
//! Own text instead of a client library, for none of them lets exemplars be given to a histogram counted elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::counter::{Counter, Counters};
use super::exemplar::Exemplars;
use super::feedback::Side;
use super::names::{self, metric};
use super::shard::{CODES, Count, Histogram, Label, Series, Shard};
use super::tally::{Cause, Tally};
use crate::assignment::Reason;
use crate::fault::{Blame, Code};
use crate::outcome::Fallback;
use crate::outcome::merged::{Dropped, Unanalysed};
use crate::server::cgroup::Memory;
use crate::tls::End;

mod drift;
mod feedback;
mod judged;
mod log;
pub mod rollouts;
mod shadows;
mod text;
mod webhook;

pub use text::Format;
use text::{Kind, Text};
pub use webhook::webhook;

/// What the rest of the process has to say for itself at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Revision of the configuration that is served.
    pub revision: Arc<str>,
    /// Configurations that were applied since the start.
    pub reloads_applied: u64,
    /// Configurations that were refused since the start.
    pub reloads_refused: u64,
    /// Whether the newest configuration is the one that is served.
    pub current: bool,
    /// Every endpoint of every variant.
    pub endpoints: Vec<EndpointState>,
    /// Every rollout.
    pub rollouts: rollouts::Rollouts,
    /// Every variant whose metrics are read.
    pub resources: Vec<ResourceState>,
    /// Memory, where it is limited.
    pub memory: Option<Memory>,
    /// Every certificate in force.
    pub certificates: Vec<End>,
    /// Whether the newest certificates are in force.
    pub certificates_current: bool,
    /// What became of the prediction log's rows, where there is one.
    pub log: Option<Arc<crate::log::Tally>>,
}

/// One endpoint of a variant.
#[derive(Debug, Clone)]
pub struct EndpointState {
    /// The model's name.
    pub model: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// As configured.
    pub endpoint: String,
    /// Whether it may get calls.
    pub ready: bool,
}

/// What a variant's own metrics said.
#[derive(Debug, Clone)]
pub struct ResourceState {
    /// The model's name.
    pub model: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// Times that they were read.
    pub read: u64,
    /// Times that they could not be.
    pub failed: u64,
    /// Processor time of its process, in seconds, as last said.
    pub cpu: Option<f64>,
    /// Resident memory of its process, in bytes, as last said.
    pub resident: Option<f64>,
}

/// Where the figures come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) shards: &'a [Arc<Shard>],
    pub(super) counters: &'a Counters,
    pub(super) tally: &'a Tally,
    pub(super) exemplars: &'a Exemplars,
    pub(super) feedback: &'a Side,
}

/// All workers' blocks of one pair of names.
type Merged = BTreeMap<Label, Vec<Arc<Series>>>;

/// Everything, as text.
pub(super) fn render(sources: Sources<'_>, state: &State, format: Format) -> String {
    let mut merged = Merged::new();
    for (label, series) in sources.shards.iter().flat_map(|shard| shard.each()) {
        merged.entry(label).or_default().push(series);
    }
    let mut text = Text::new(format);
    calls(&mut text, &merged);
    rankings(&mut text, &merged);
    latencies(&mut text, &merged, sources.exemplars);
    traffic(&mut text, &merged);
    shadows::write(&mut text, sources.shards);
    judged::write(&mut text, &state.rollouts.judged);
    drift::write(&mut text, &state.rollouts.drifting);
    rollouts::write(&mut text, &state.rollouts);
    feedback::write(&mut text, sources.feedback);
    log::write(&mut text, state.log.as_deref());
    counters(&mut text, sources.counters, |_| true);
    spans(&mut text, sources.tally);
    resources(&mut text, &state.resources);
    process(&mut text, state);
    text.finish()
}

fn calls(text: &mut Text, merged: &Merged) {
    text.family(metric::CALLS, Kind::Counter, "Calls that have ended, by status code and whose fault.");
    for (label, series) in merged {
        for code in (0..CODES).map(|code| Code(code as u32)) {
            for blame in Blame::ALL {
                let count = sum(series, |one| one.calls(code, blame));
                let labels = [("code", code.name()), ("blame", blame.name())];
                text.counted(metric::CALLS, &with(label, &labels), count);
            }
        }
    }
    text.family(metric::CALLS_IN_FLIGHT, Kind::Gauge, "Calls under way.");
    for (label, series) in merged {
        text.sample(metric::CALLS_IN_FLIGHT, &with(label, &[]), sum(series, |one| one.in_flight()));
    }
    text.family(metric::ASSIGNMENTS, Kind::Counter, "Calls by the reason of their assignment.");
    for (label, series) in merged {
        for reason in Reason::ALL {
            let count = sum(series, |one| one.assigned(reason));
            text.counted(metric::ASSIGNMENTS, &with(label, &[("reason", reason.name())]), count);
        }
    }
    text.family(metric::ATTEMPTS, Kind::Counter, "Attempts at upstreams, by whose fault they ended.");
    for (label, series) in merged {
        for blame in Blame::ALL {
            let count = sum(series, |one| one.attempts(blame));
            text.counted(metric::ATTEMPTS, &with(label, &[("blame", blame.name())]), count);
        }
    }
    text.family(
        metric::FALLBACKS,
        Kind::Counter,
        "Calls that a variant failed at, by what the baseline did.",
    );
    for (label, series) in merged {
        for fallback in Fallback::ALL {
            let count = sum(series, |one| one.fallbacks(fallback));
            text.counted(metric::FALLBACKS, &with(label, &[("result", fallback.name())]), count);
        }
    }
}

fn rankings(text: &mut Text, merged: &Merged) {
    let help = "Calls that several rankers were asked for, by whether they are evidence.";
    text.family(metric::INTERLEAVED, Kind::Counter, help);
    for (label, series) in merged {
        for why in std::iter::once(None).chain(Unanalysed::ALL.map(Some)) {
            let count = sum(series, |one| one.interleaved(why));
            let result = why.map_or("analysed", Unanalysed::name);
            text.counted(metric::INTERLEAVED, &with(label, &[("result", result)]), count);
        }
    }
    text.family(metric::RANKINGS, Kind::Counter, "Rankings that were asked for, by what became of them.");
    for (label, series) in merged {
        for why in std::iter::once(None).chain(Dropped::ALL.map(Some)) {
            let count = sum(series, |one| one.rankings(why));
            let result = why.map_or("served", Dropped::name);
            text.counted(metric::RANKINGS, &with(label, &[("result", result)]), count);
        }
    }
    text.family(metric::RANKING_DUPLICATES, Kind::Counter, "Items that stood in a ranking a second time.");
    for (label, series) in merged {
        text.counted(metric::RANKING_DUPLICATES, &with(label, &[]), sum(series, |one| one.duplicates()));
    }
}

fn latencies(text: &mut Text, merged: &Merged, exemplars: &Exemplars) {
    text.family(metric::CALL_DURATION, Kind::Histogram, "From a call's headers to the end of its response.");
    for (label, series) in merged {
        let exemplar = |bucket| exemplars.get(label, bucket);
        let parts: Vec<_> = series.iter().map(|one| &one.total).collect();
        histogram(text, metric::CALL_DURATION, label, &parts, exemplar);
    }
    text.family(metric::UPSTREAM_DURATION, Kind::Histogram, "Each attempt at an upstream.");
    for (label, series) in merged {
        let parts: Vec<_> = series.iter().map(|one| &one.upstream).collect();
        histogram(text, metric::UPSTREAM_DURATION, label, &parts, |_| None);
    }
    text.family(metric::OWN_DURATION, Kind::Histogram, "What the sidecar added before a call was sent.");
    for (label, series) in merged {
        let parts: Vec<_> = series.iter().map(|one| &one.own).collect();
        histogram(text, metric::OWN_DURATION, label, &parts, |_| None);
    }
}

fn histogram(
    text: &mut Text,
    name: &'static str,
    label: &Label,
    parts: &[&Histogram],
    exemplar: impl Fn(usize) -> Option<super::exemplar::Exemplar>,
) {
    let mut buckets = [0; super::shard::BOUNDS.len() + 1];
    for part in parts {
        for (sum, count) in buckets.iter_mut().zip(part.buckets()) {
            *sum += count;
        }
    }
    let seconds = parts.iter().map(|part| part.sum().as_secs_f64()).sum();
    text.histogram(name, &with(label, &[]), &buckets, seconds, exemplar);
}

fn traffic(text: &mut Text, merged: &Merged) {
    type Part = fn(&Series) -> &Count;
    let directions: [(&str, Part, Part); 2] = [
        ("request", |one| &one.request_bytes, |one| &one.request_messages),
        ("response", |one| &one.response_bytes, |one| &one.response_messages),
    ];
    text.family(metric::MESSAGE_BYTES, Kind::Counter, "Message bytes with their prefixes, by direction.");
    for (label, series) in merged {
        for (direction, bytes, _) in directions {
            let labels = with(label, &[("direction", direction)]);
            text.counted(metric::MESSAGE_BYTES, &labels, sum(series, |one| bytes(one).get()));
        }
    }
    text.family(metric::MESSAGES, Kind::Counter, "Messages, by direction.");
    for (label, series) in merged {
        for (direction, _, messages) in directions {
            let labels = with(label, &[("direction", direction)]);
            text.counted(metric::MESSAGES, &labels, sum(series, |one| messages(one).get()));
        }
    }
}

fn counters(text: &mut Text, counters: &Counters, shown: impl Fn(&str) -> bool) {
    let mut last = "";
    for counter in Counter::ALL {
        let (name, label) = names::counter(counter);
        if !shown(name) {
            continue;
        }
        if name != last {
            text.family(name, Kind::Counter, help(name));
            last = name;
        }
        text.sample(name, label.as_slice(), counters.get(counter));
    }
}

fn help(name: &str) -> &'static str {
    match name {
        metric::CONNECTIONS => "What happened to callers' connections.",
        metric::ACCEPT_ERRORS => "Failures of accept, for instance for want of file descriptors.",
        metric::UPSTREAM_CONNECTIONS => "What happened to connections to upstreams.",
        metric::RETRIES => "Streams the upstream never processed: sent again, or too large for that.",
        metric::EJECTIONS => "Endpoints taken out for failing calls.",
        metric::SUSPICIONS => "Endpoints passed over for answering neither probes nor calls.",
        metric::SHED => "Calls refused or ended over a limit.",
        metric::STALLS => "Streams cut for a peer that stood still.",
        metric::FORCE_STRIPPED => "Forced variants that the caller may not force.",
        metric::HOPS => "Hops that were not followed.",
        metric::FOREIGN_MODEL => "Later messages of a stream that name another model.",
        metric::TLS_REFUSED => "Handshakes of callers that failed, by reason.",
        metric::CERTIFICATE_RELOADS => "Changed certificates, applied or refused.",
        metric::OUTCOMES_DROPPED => "Outcomes that found the queue to the exporter full.",
        _ => "Panics of worker tasks.",
    }
}

fn spans(text: &mut Text, tally: &Tally) {
    text.family(metric::SPANS_EXPORTED, Kind::Counter, "Spans that a collector took.");
    text.sample(metric::SPANS_EXPORTED, &[], tally.get_exported());
    text.family(metric::SPANS_DROPPED, Kind::Counter, "Spans that were lost, by cause.");
    for cause in Cause::ALL {
        text.sample(metric::SPANS_DROPPED, &[("cause", cause.name())], tally.get_dropped(cause));
    }
}

fn resources(text: &mut Text, all: &[ResourceState]) {
    text.family(metric::RESOURCE_READS, Kind::Counter, "Readings of variants' own metrics, by result.");
    for one in all {
        for (result, count) in [("read", one.read), ("failed", one.failed)] {
            let labels = [("model", &*one.model), ("variant", &*one.variant), ("result", result)];
            text.sample(metric::RESOURCE_READS, &labels, count);
        }
    }
    let mut gauge = |name, help, value: fn(&ResourceState) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for (one, value) in all.iter().filter_map(|one| Some((one, value(one)?))) {
            text.ratio(name, &[("model", &*one.model), ("variant", &*one.variant)], value);
        }
    };
    let help = "Processor time that a variant's process last said it took.";
    gauge(metric::RESOURCE_CPU, help, |one| one.cpu);
    let help = "Resident memory that a variant's process last said it holds.";
    gauge(metric::RESOURCE_MEMORY, help, |one| one.resident);
}

fn process(text: &mut Text, state: &State) {
    text.family(metric::ENDPOINT_READY, Kind::Gauge, "Whether an endpoint may get calls: 1 or 0.");
    for endpoint in &state.endpoints {
        let labels =
            [("model", &*endpoint.model), ("variant", &*endpoint.variant), ("endpoint", &*endpoint.endpoint)];
        text.sample(metric::ENDPOINT_READY, &labels, u64::from(endpoint.ready));
    }
    if let Some(memory) = state.memory {
        text.family(metric::MEMORY_USED, Kind::Gauge, "Bytes of memory in use, as the limit counts them.");
        text.sample(metric::MEMORY_USED, &[], memory.used);
        text.family(metric::MEMORY_LIMIT, Kind::Gauge, "Bytes of memory that are allowed.");
        text.sample(metric::MEMORY_LIMIT, &[], memory.limit);
    }
    certificates(text, &state.certificates, state.certificates_current);
    text.family(metric::CONFIG_RELOADS, Kind::Counter, "Changed configurations, applied or refused.");
    text.sample(metric::CONFIG_RELOADS, &[("result", "applied")], state.reloads_applied);
    text.sample(metric::CONFIG_RELOADS, &[("result", "refused")], state.reloads_refused);
    text.family(metric::CONFIG_CURRENT, Kind::Gauge, "Whether the newest configuration is served: 1 or 0.");
    text.sample(metric::CONFIG_CURRENT, &[], u64::from(state.current));
    text.family(metric::CONFIG, Kind::Gauge, "The configuration that is served; always 1.");
    text.sample(metric::CONFIG, &[("revision", &*state.revision)], 1);
    build(text);
}

fn build(text: &mut Text) {
    text.family(metric::BUILD, Kind::Gauge, "The program; always 1.");
    text.sample(metric::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn certificates(text: &mut Text, ends: &[End], current: bool) {
    if ends.is_empty() {
        return;
    }
    let help = "When a certificate in force ends, seconds since 1970.";
    text.family(metric::CERTIFICATE_EXPIRY, Kind::Gauge, help);
    for end in ends {
        let seconds = end.until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let file = end.file.to_string_lossy();
        text.sample(metric::CERTIFICATE_EXPIRY, &[("use", end.used), ("file", &*file)], seconds);
    }
    let help = "Whether the newest certificates are in force: 1 or 0.";
    text.family(metric::CERTIFICATES_CURRENT, Kind::Gauge, help);
    text.sample(metric::CERTIFICATES_CURRENT, &[], u64::from(current));
}

fn sum(series: &[Arc<Series>], part: impl Fn(&Series) -> u64) -> u64 {
    series.iter().map(|one| part(one)).sum()
}

/// Model and variant, then what else there is.
fn with<'a>(label: &'a Label, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut labels = Vec::with_capacity(2 + more.len());
    labels.extend([("model", &*label.model), ("variant", &*label.variant)]);
    labels.extend_from_slice(more);
    labels
}

#[cfg(test)]
mod tests;
