//! A variant whose servers are replaced in place.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::{FixedLimits, OnFail, Reporting, Rolling, Strategy, Variant, Warming, raw};

const DRAIN: Duration = Duration::from_secs(30);
const REPLACE: Duration = Duration::from_secs(10 * 60);
const HOLD: Duration = Duration::from_secs(10);
const REQUESTS: u64 = 20;
/// Of calls that replaced servers may fail, where the file says nothing: a version that is broken, and no other.
const ERRORS: f64 = 0.1;
const ALPHA: f64 = 0.01;
/// More than any variant has.
const MOST: u64 = 1 << 16;

fn usual_limits() -> FixedLimits {
    FixedLimits { errors: Some(ERRORS), slow: Vec::new() }
}

/// Keys that only this kind has.
pub(super) fn own(raw: &raw::Strategy) -> [(&'static str, bool); 5] {
    [
        ("batch", raw.batch.is_some()),
        ("min_ready", raw.min_ready.is_some()),
        ("drain_timeout", raw.drain_timeout.is_some()),
        ("replace_timeout", raw.replace_timeout.is_some()),
        ("report", raw.report.is_some()),
    ]
}

impl Check<'_> {
    pub(super) fn rolling(&mut self, path: &str, variants: &[Variant], raw: &raw::Strategy) -> Strategy {
        let at = |key: &str| join(path, key);
        self.not_rolling(path, raw);
        let variant = match &raw.variant {
            Some(name) => self.variant_index(&at("variant"), name, variants),
            None if variants.len() == 1 => Some(0),
            None => {
                self.missing(&at("variant"), "say whose endpoints are replaced");
                None
            }
        };
        let found = variant.and_then(|variant| variants.get(variant));
        let endpoints = found.map_or(2, |variant| variant.endpoints.len());
        let version = found.and_then(|variant| variant.version.clone());
        if let (Some(found), None) = (found, &version) {
            let name = &found.name;
            let problem = Problem::new(at("variant"), "has no version that its servers could be replaced by");
            self.error(problem.with_hint(format!("give variant {name} the `version` that they shall run")));
        }
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let batch = count(self.count(&at("batch"), raw.batch.as_ref(), 1, MOST));
        let usual = endpoints.saturating_sub(batch).max(1);
        let min_ready = count(self.count(&at("min_ready"), raw.min_ready.as_ref(), usual as u64, MOST));
        self.capacity(path, (endpoints, batch, min_ready), raw);
        let warming = Warming { requests: REQUESTS, ..Warming::NONE };
        let hold = raw.hold.as_ref().map(|span| &span.0);
        Strategy::Rolling(Arc::new(Rolling {
            variant: variant.unwrap_or(0),
            version: version.unwrap_or_default(),
            batch,
            min_ready,
            drain_timeout: self.positive(&at("drain_timeout"), raw.drain_timeout.as_ref(), DRAIN),
            replace_timeout: self.positive(&at("replace_timeout"), raw.replace_timeout.as_ref(), REPLACE),
            hold: self.duration(&at("hold"), hold).unwrap_or(HOLD),
            report: self.reporting(&at("report"), raw.report.as_deref()),
            warming: self.warming(&at("warmup"), raw.warmup.as_ref(), warming),
            guards: self.fixed_limits(&at("guards"), raw.guards.as_ref(), ("rolling", usual_limits())),
            alpha: self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA),
            on_fail: self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback),
        }))
    }

    fn not_rolling(&mut self, path: &str, raw: &raw::Strategy) {
        let others = [
            ("baseline", raw.baseline.is_some()),
            ("salt", raw.salt.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("candidate", raw.candidate.is_some()),
            ("steps", raw.steps.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
            ("on_pass", raw.on_pass.is_some()),
            ("revert_window", raw.revert_window.is_some()),
            ("max_wait", raw.max_wait.is_some()),
        ];
        let hint = "remove it: one variant answers, and its servers are replaced in place";
        self.foreign(path, "rolling", hint, &others);
        if let Some(warmup) = &raw.warmup {
            let judged = [("time", warmup.time.is_some()), ("calls", warmup.calls.is_some())];
            self.foreign(&join(path, "warmup"), "rolling", "remove it, or write kind: canary", &judged);
        }
    }

    /// Whether a batch can ever be taken out.
    fn capacity(
        &mut self,
        path: &str,
        (endpoints, batch, min_ready): (usize, usize, usize),
        raw: &raw::Strategy,
    ) {
        if self.broken(&join(path, "batch")) || self.broken(&join(path, "min_ready")) {
            return;
        }
        if endpoints < 2 {
            let problem =
                Problem::new(join(path, "variant"), "has one endpoint, and nobody to answer meanwhile");
            let hint = "give it `endpoints`, two or more, or switch with kind: pinned";
            self.error(problem.with_hint(hint));
            return;
        }
        if min_ready >= endpoints {
            let problem = Problem::new(join(path, "min_ready"), "leaves no endpoint to replace");
            let most = endpoints - 1;
            self.error(
                problem
                    .with_value(min_ready.to_string())
                    .with_hint(format!("of {endpoints} endpoints at most {most} can be kept")),
            );
        } else if raw.batch.is_some() && batch > endpoints - min_ready {
            let most = endpoints - min_ready;
            let problem = Problem::new(join(path, "batch"), "is more than `min_ready` leaves");
            let hint = format!("of {endpoints} endpoints {min_ready} must stay: at most {most} at once");
            self.error(problem.with_value(batch.to_string()).with_hint(hint));
        }
    }

    fn reporting(&mut self, path: &str, word: Option<&str>) -> Reporting {
        let Some(word) = word else { return Reporting::Model };
        let names = Reporting::ALL.map(Reporting::name);
        Reporting::ALL.into_iter().find(|report| report.name() == word).unwrap_or_else(|| {
            let problem = Problem::new(path, "is no way to know what a server runs");
            self.error(problem.with_value(format!("{word:?}")).with_hint(suggestion(word, &names)));
            Reporting::Model
        })
    }
}
