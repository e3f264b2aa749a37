//! The part of a scrape that tells of copies.

use std::sync::Arc;

use super::text::{Kind, Text};
use super::{histogram, with};
use crate::fault::{Blame, Code};
use crate::shadow::record::{RESULTS, Skip, result_name};
use crate::telemetry::counter::Counter;
use crate::telemetry::names::metric;
use crate::telemetry::shadow::{Series, merged};
use crate::telemetry::shard::{CODES, Label, Shard};

/// What happens to connections of copies, and the words for it.
const EVENTS: [(&str, Counter); 3] = [
    ("connected", Counter::UpstreamConnects),
    ("failed", Counter::UpstreamConnectErrors),
    ("rotated", Counter::UpstreamRotations),
];

type All = [(Label, Vec<Arc<Series>>)];

pub(super) fn write(text: &mut Text, shards: &[Arc<Shard>]) {
    let all: Vec<_> = merged(shards).into_iter().collect();
    ledger(text, &all);
    calls(text, &all);
    text.family(metric::SHADOW_DURATION, Kind::Histogram, "Copies, from their start to their end.");
    for (label, series) in &all {
        let parts: Vec<_> = series.iter().map(|one| &one.latency).collect();
        histogram(text, metric::SHADOW_DURATION, label, &parts, |_| None);
    }
    text.family(metric::SHADOW_PRIMARY, Kind::Histogram, "Last attempts of the calls that were copied.");
    for (label, series) in &all {
        let parts: Vec<_> = series.iter().map(|one| &one.primary).collect();
        histogram(text, metric::SHADOW_PRIMARY, label, &parts, |_| None);
    }
    text.family(metric::SHADOW_CONNECTIONS, Kind::Counter, "What happened to connections that carry copies.");
    for (event, counter) in EVENTS {
        let count = shards.iter().map(|shard| shard.shadow_counters().get(counter)).sum();
        text.sample(metric::SHADOW_CONNECTIONS, &[("event", event)], count);
    }
}

fn ledger(text: &mut Text, all: &All) {
    let mut counts = |name, help, part: fn(&Series) -> u64| {
        text.family(name, Kind::Counter, help);
        for (label, series) in all {
            text.sample(name, &with(label, &[]), sum(series, part));
        }
    };
    counts(metric::SHADOW_ELIGIBLE, "Calls that a shadow could get a copy of.", Series::eligible);
    counts(metric::SHADOW_COPIED, "Those that were copied.", Series::copied);
    counts(metric::SHADOW_DROPPED, "Copies that found the queue to the exporter full.", Series::lost);
    text.family(metric::SHADOW_SKIPPED, Kind::Counter, "Eligible calls that were not copied, by reason.");
    for (label, series) in all {
        for skip in Skip::ALL {
            let count = sum(series, |one| one.skipped(skip));
            text.sample(metric::SHADOW_SKIPPED, &with(label, &[("reason", skip.name())]), count);
        }
    }
    text.family(metric::SHADOW_COVERAGE, Kind::Gauge, "Copied calls in eligible ones, since the start.");
    for (label, series) in all {
        let eligible = sum(series, Series::eligible);
        if eligible > 0 {
            let share = sum(series, Series::copied) as f64 / eligible as f64;
            text.ratio(metric::SHADOW_COVERAGE, &with(label, &[]), share);
        }
    }
    let mut gauges = |name, help, part: fn(&Series) -> u64| {
        text.family(name, Kind::Gauge, help);
        for (label, series) in all {
            text.sample(name, &with(label, &[]), sum(series, part));
        }
    };
    gauges(metric::SHADOW_IN_FLIGHT, "Copies under way.", Series::in_flight);
    gauges(metric::SHADOW_PINNED, "Bytes that copies hold.", Series::pinned);
}

fn calls(text: &mut Text, all: &All) {
    text.family(
        metric::SHADOW_CALLS,
        Kind::Counter,
        "Copies that have ended, by status code and whose fault.",
    );
    for (label, series) in all {
        for code in (0..CODES).map(|code| Code(code as u32)) {
            for blame in Blame::ALL {
                let count = sum(series, |one| one.calls(code, blame));
                let labels = [("code", code.name()), ("blame", blame.name())];
                text.counted(metric::SHADOW_CALLS, &with(label, &labels), count);
            }
        }
    }
    text.family(metric::SHADOW_COMPARISONS, Kind::Counter, "Answers of copies, by the first difference.");
    for (label, series) in all {
        for result in 0..RESULTS {
            let count = sum(series, |one| one.compared(result));
            let labels = with(label, &[("result", result_name(result))]);
            text.counted(metric::SHADOW_COMPARISONS, &labels, count);
        }
    }
}

fn sum(series: &[Arc<Series>], part: impl Fn(&Series) -> u64) -> u64 {
    series.iter().map(|one| part(one)).sum()
}
