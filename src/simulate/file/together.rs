//! How replicas stand together, as it is written, and what is refused about it.

use std::time::Duration;

use serde::Deserialize;

use super::super::fleet::Together;
use super::words::Span;
use crate::config::Problem;
use crate::config::document::Document;

/// The most replicas that are played.
const MOST: u64 = 10_000;
/// Answers that take longer are not waited for.
const SLOWEST: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    delay: Option<Span>,
    takes: Option<Span>,
    channels: Option<bool>,
    away: Option<RawAway>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAway {
    after: Span,
    last: Span,
}

/// None where one sees all calls.
pub(super) fn together(
    document: &mut Document,
    replicas: Option<u64>,
    store: Option<RawStore>,
) -> Option<Together> {
    let Some(replicas) = replicas else {
        if store.is_some() {
            let problem = Problem::new("store", "stands without `replicas`, and one alone tells it nothing");
            document.refuse(problem.with_hint("say how many share it: replicas: 100"));
        }
        return None;
    };
    if !(1..=MOST).contains(&replicas) {
        let problem = Problem::new("replicas", "are none, or more than can be played");
        document.refuse(problem.with_value(replicas.to_string()).with_hint(format!("write 1 to {MOST}")));
    }
    let store = store.unwrap_or_default();
    let delay = store.delay.map_or(Duration::from_millis(5), |span| span.0);
    let takes = store.takes.map_or(Duration::from_micros(100), |span| span.0);
    for (key, span) in [("delay", delay), ("takes", takes)] {
        if span > SLOWEST {
            let problem = Problem::new(format!("store.{key}"), "is longer than an answer is waited for");
            document.refuse(problem.with_hint("write 250ms or less; `away` is a store that gives no answer"));
        }
    }
    let away = store.away.map(|away| (away.after.0, away.last.0));
    if away.is_some_and(|(_, last)| last.is_zero()) {
        let problem = Problem::new("store.away.last", "is no time at all");
        document.refuse(problem.with_hint("say from when on it is away and how long: {after: 1m, last: 5m}"));
    }
    let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
    Some(Together { replicas, delay, takes, channels: store.channels.unwrap_or(true), away })
}
