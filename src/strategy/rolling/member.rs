//! One endpoint of a rolling update, on its way from one server to the next.
//!
//! It serves, is drained, waits to be replaced, is warmed, serves again. What its server runs is what the server says;
//! where it says nothing, a server that went away and came back counts as the new one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EndpointReport, SETTLE, ago};
use crate::config::units::write_duration;
use crate::config::{Reporting, Rolling};
use crate::verdict::Action;

/// How an endpoint is right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `host:port` or `unix:/path`.
    pub address: Arc<str>,
    /// Whether its server may get calls.
    pub ready: bool,
    /// How often that changed since the process began.
    pub changes: u64,
    /// What its server says that it runs; none: it was not asked since it is ready.
    pub versions: Option<Arc<[Arc<str>]>>,
    /// Calls under way there, over all workers.
    pub in_flight: u64,
    /// Whether it is warm; asked only of those that [`super::Progress::warms`] names.
    pub warm: bool,
}

/// Where an endpoint is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// It gets calls.
    Serving,
    /// It gets no new calls, and ends those under way.
    Draining,
    /// Its server is to be replaced.
    Drained,
    /// Its server is the right one, and is warmed.
    Warming,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) address: Arc<str>,
    /// What its server runs, as far as that is known.
    pub(super) runs: Option<Arc<str>>,
    /// What ran there before it was first drained.
    pub(super) before: Option<Arc<str>>,
    place: Place,
    /// Since when it is there.
    since: Duration,
    /// Its server was away since it was drained, or a person says that it was replaced.
    away: bool,
    /// [`Seen::changes`] when it was drained, in this process.
    #[serde(skip)]
    changes: Option<u64>,
    /// Since when it is not ready.
    #[serde(skip)]
    gone: Option<Duration>,
    #[serde(skip)]
    seen: Seen,
}

impl Place {
    /// As written in status pages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Place::Serving => "serving",
            Place::Draining => "draining",
            Place::Drained => "drained",
            Place::Warming => "warming",
        }
    }
}

impl Member {
    pub(super) fn new(address: Arc<str>, runs: Option<Arc<str>>) -> Self {
        Member {
            address,
            runs,
            before: None,
            place: Place::Serving,
            since: Duration::ZERO,
            away: false,
            changes: None,
            gone: None,
            seen: Seen::default(),
        }
    }

    /// It gets calls, if it is ready.
    pub(super) fn serves(&self) -> bool {
        self.place == Place::Serving
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serves() && self.seen.ready
    }

    pub(super) fn is_drained(&self) -> bool {
        self.place == Place::Drained
    }

    pub(super) fn warms(&self) -> bool {
        self.place == Place::Warming
    }

    /// How long it is not ready.
    pub(super) fn gone_for(&self, now: Duration) -> Duration {
        self.gone.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// What it waits for is another thing from now on; it waited for `wanted`.
    pub(super) fn restart(&mut self, wanted: Option<Arc<str>>, now: Duration) {
        self.since = now;
        if self.place == Place::Warming || self.away {
            self.runs = wanted;
        }
        if self.place == Place::Warming {
            self.place = Place::Drained;
        }
        (self.away, self.changes) = (false, None);
    }

    pub(super) fn observe(
        &mut self,
        rolling: &Rolling,
        seen: &Seen,
        wanted: Option<&Arc<str>>,
        now: Duration,
    ) {
        self.gone = match (seen.ready, self.gone) {
            (true, _) => None,
            (false, known) => known.or(Some(now)),
        };
        if rolling.report == Reporting::Connection {
            // Who says nothing runs what the file says, until the file says another thing.
            self.runs = self.runs.take().or_else(|| wanted.cloned());
            if self.is_drained() {
                let known = *self.changes.get_or_insert(seen.changes);
                self.away |= !seen.ready || known != seen.changes;
            }
        } else if seen.ready && self.place != Place::Warming {
            self.learn(seen, wanted);
        }
        self.seen = seen.clone();
    }

    /// What its server runs, by what the server says. One that is drained is not yet believed to be the new one.
    fn learn(&mut self, seen: &Seen, wanted: Option<&Arc<str>>) {
        let Some(versions) = seen.versions.as_deref().filter(|versions| !versions.is_empty()) else { return };
        let says = |version: Option<&Arc<str>>| version.filter(|version| versions.contains(version)).cloned();
        match self.place {
            Place::Serving => {
                self.runs =
                    says(wanted).or_else(|| says(self.runs.as_ref())).or_else(|| versions.first().cloned());
            }
            _ if self.runs.is_none() => {
                self.runs = versions.iter().find(|said| Some(*said) != wanted).cloned()
            }
            _ => {}
        }
    }

    pub(super) fn cordon(&mut self, now: Duration) {
        self.before = self.before.take().or_else(|| self.runs.clone());
        self.go(Place::Draining, now);
    }

    /// A person says so.
    pub(super) fn take_for_replaced(&mut self) {
        self.away |= self.is_drained();
    }

    /// What is due of it, and why. `short`: fewer than `min_ready` serve.
    pub(super) fn advance(
        &mut self,
        rolling: &Rolling,
        short: bool,
        wanted: Option<&Arc<str>>,
        now: Duration,
    ) -> Option<(Action, String)> {
        let address = Arc::clone(&self.address);
        let version = wanted.map_or("", |version| version);
        let since = now.saturating_sub(self.since);
        match self.place {
            Place::Draining if self.runs.as_ref() == wanted || (short && self.seen.ready) => {
                self.go(Place::Serving, now);
                let why = if short { "too few others are ready" } else { "it runs what it shall" };
                Some((Action::Readmitted, format!("{address} gets calls again: {why}")))
            }
            Place::Draining => {
                let open = self.seen.in_flight;
                if (open > 0 || since < SETTLE) && since < rolling.drain_timeout {
                    return None;
                }
                self.go(Place::Drained, now);
                self.away = rolling.report == Reporting::Connection && !self.seen.ready;
                self.changes = Some(self.seen.changes);
                let cut = match open {
                    0 => String::new(),
                    open => format!(", but for {open} calls that outlast drain_timeout"),
                };
                let why = format!("{address} is drained{cut}: replace its server by version {version}");
                Some((Action::Drained, why))
            }
            Place::Drained if self.has_arrived(rolling, wanted) => {
                self.place = Place::Warming;
                None
            }
            Place::Warming if !self.seen.ready => {
                self.place = Place::Drained;
                None
            }
            Place::Warming if self.seen.warm => {
                self.runs = wanted.cloned();
                self.go(Place::Serving, now);
                let why = format!("{address} runs version {version}, is ready and warm: it gets calls again");
                Some((Action::Readmitted, why))
            }
            Place::Serving | Place::Drained | Place::Warming => None,
        }
    }

    /// Whether its server is the right one, and ready.
    fn has_arrived(&self, rolling: &Rolling, wanted: Option<&Arc<str>>) -> bool {
        let Some(wanted) = wanted.filter(|_| self.seen.ready) else { return false };
        match rolling.report {
            Reporting::Connection => self.away || self.runs.as_ref() == Some(wanted),
            Reporting::Model | Reporting::Server => {
                self.seen.versions.as_ref().is_some_and(|versions| versions.contains(wanted))
            }
        }
    }

    /// What is wrong with it on its way to version `to`. `patience`: since when waits count; none: they do not.
    pub(super) fn fault(
        &self,
        rolling: &Rolling,
        to: &Arc<str>,
        patience: Option<Duration>,
        now: Duration,
    ) -> Option<String> {
        if !matches!(self.place, Place::Drained | Place::Warming) {
            return None;
        }
        let address = &self.address;
        let said = self.seen.versions.as_deref().unwrap_or_default();
        let known = |version: &Arc<str>| version == to || Some(version) == self.runs.as_ref();
        if rolling.report != Reporting::Connection
            && self.is_drained()
            && self.seen.ready
            && !said.is_empty()
            && !said.iter().any(known)
        {
            let said: Vec<&str> = said.iter().map(|version| &**version).collect();
            return Some(format!("{address} reports version {}, not {to}", said.join(", ")));
        }
        let since = self.since.max(patience?);
        if now.saturating_sub(since) < rolling.replace_timeout {
            return None;
        }
        let limit = write_duration(rolling.replace_timeout);
        let what = match (self.place, self.seen.ready) {
            (Place::Warming, _) => "was not warm",
            (_, true) => "was not replaced",
            (_, false) => "was not ready",
        };
        Some(format!("{address} {what} within {limit} (replace_timeout)"))
    }

    /// What has yet to happen to it; none where nothing has.
    pub(super) fn waits_for(&self, wanted: Option<&Arc<str>>, now: Duration) -> Option<String> {
        let address = &self.address;
        let version = wanted.map_or("", |version| version);
        match self.place {
            Place::Serving if self.runs.is_none() => Some(self.unknown()),
            Place::Serving => None,
            Place::Draining => Some(format!("{} calls at {address} to end", self.seen.in_flight)),
            Place::Drained => {
                let ago = ago(self.since, now);
                Some(format!("{address} to be replaced by version {version} (drained {ago} ago)"))
            }
            Place::Warming => Some(format!("{address} to be warm")),
        }
    }

    /// Why nobody knows what its server runs.
    pub(super) fn unknown(&self) -> String {
        let address = &self.address;
        match &self.seen.versions {
            _ if !self.seen.ready => format!("{address} to be ready"),
            Some(versions) if versions.is_empty() => format!(
                "{address} to say which version it runs: its server reports none; give it one, or write `report: connection`"
            ),
            _ => format!("{address} to say which version it runs"),
        }
    }

    pub(super) fn report(&self, wanted: Option<Arc<str>>) -> EndpointReport {
        EndpointReport {
            address: Arc::clone(&self.address),
            place: self.place,
            ready: self.seen.ready,
            runs: self.runs.clone(),
            wanted,
            in_flight: self.seen.in_flight,
        }
    }

    fn go(&mut self, place: Place, now: Duration) {
        self.place = place;
        self.since = now;
    }
}
