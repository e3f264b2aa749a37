//! A pinned variant, how it is switched to, and what a variant is warmed by.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use super::strategy::comparing;
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::Percent;
use crate::config::{FixedLimits, OnFail, Pinned, SlowLimit, Strategy, Variant, Warming, raw};

/// More requests would only keep a variant from its calls.
const REQUESTS: u64 = 20;
const MOST_REQUESTS: u64 = 100_000;
/// Every limit takes its part of alpha.
const MOST_LIMITS: usize = 8;
const ALPHA: f64 = 0.01;

impl Check<'_> {
    pub(super) fn pinned(&mut self, path: &str, variants: &[Variant], raw: &raw::Strategy) -> Strategy {
        let at = |key: &str| join(path, key);
        let split = [
            ("baseline", raw.baseline.is_some()),
            ("salt", raw.salt.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("hash", raw.hash.is_some()),
        ];
        self.foreign(path, "pinned", "remove it, or write kind: ab", &split);
        let steps = [
            ("candidate", raw.candidate.is_some()),
            ("steps", raw.steps.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
            ("on_pass", raw.on_pass.is_some()),
        ];
        self.foreign(path, "pinned", "remove it, or write kind: canary", &steps);
        self.foreign(path, "pinned", "remove it, or write kind: ab", &comparing(raw));
        let variant = match &raw.variant {
            Some(name) => self.variant_index(&at("variant"), name, variants),
            None if variants.len() == 1 => Some(0),
            None => {
                self.missing(&at("variant"), "say which variant answers");
                None
            }
        };
        let usual = Pinned::new(variant.unwrap_or(0));
        let window = raw.revert_window.as_ref().map(|span| &span.0);
        if let Some(warmup) = &raw.warmup {
            let judged = [("time", warmup.time.is_some()), ("calls", warmup.calls.is_some())];
            self.foreign(&at("warmup"), "pinned", "remove it, or write kind: canary", &judged);
        }
        Strategy::Pinned(Arc::new(Pinned {
            variant: usual.variant,
            revert_window: self.duration(&at("revert_window"), window).unwrap_or(usual.revert_window),
            warming: self.warming(&at("warmup"), raw.warmup.as_ref(), usual.warming),
            guards: self.fixed_limits(&at("guards"), raw.guards.as_ref(), ("pinned", FixedLimits::default())),
            alpha: self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA),
            max_wait: self.positive(&at("max_wait"), raw.max_wait.as_ref(), usual.max_wait),
            on_fail: self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback),
        }))
    }

    /// What a variant is sent before it is given calls.
    pub(super) fn warming(&mut self, path: &str, raw: Option<&raw::Warmup>, usual: Warming) -> Warming {
        let Some(raw) = raw else { return usual };
        let at = |key: &str| join(path, key);
        let file = self.path(&at("file"), raw.file.as_deref());
        // Who names a file wants its requests sent.
        let requests = if file.is_some() { REQUESTS } else { usual.requests };
        let requests = match &raw.requests {
            Some(raw::Count(raw::Written::Number(number))) if number.as_u64() == Some(0) => 0,
            given => self.count(&at("requests"), given.as_ref(), requests.max(1), MOST_REQUESTS),
        };
        let requests =
            if raw.requests.is_none() && usual.requests == 0 && file.is_none() { 0 } else { requests };
        if requests == 0 && file.is_some() {
            let problem = Problem::new(at("file"), "is never sent: `requests` is 0");
            self.error(problem.with_hint("say how many of its requests must be answered, or remove it"));
        }
        let timeout = self.positive(&at("timeout"), raw.timeout.as_ref(), usual.timeout);
        Warming { requests, timeout, file }
    }

    /// A variant that has everything has no concurrent baseline, so its guards are fixed. `usual`: those where the
    /// file names none.
    pub(super) fn fixed_limits(
        &mut self,
        path: &str,
        raw: Option<&raw::Guards>,
        (kind, usual): (&str, FixedLimits),
    ) -> FixedLimits {
        let Some(raw) = raw else { return usual };
        let at = |key: &str| join(path, key);
        let others = [
            ("rejections", raw.rejections.is_some()),
            ("feedback", raw.feedback.is_some()),
            ("resources", raw.resources.is_some()),
            ("shadow", raw.shadow.is_some()),
        ];
        let hint = "remove it: no baseline gets calls to compare with; kind: canary has one";
        self.foreign(path, kind, hint, &others);
        let errors = match &raw.errors {
            None => usual.errors,
            Some(raw::OrOff::Word(word)) => {
                self.off(&at("errors"), word);
                None
            }
            Some(raw::OrOff::Map(raw)) => {
                let margin = [("absolute", raw.absolute.is_some()), ("relative", raw.relative.is_some())];
                self.fixed(&at("errors"), kind, &margin);
                self.at_most(&at("errors.at_most"), raw.at_most.as_ref())
            }
        };
        let slow = raw.latency.as_ref().map(|raw| self.slow(&at("latency"), kind, raw)).unwrap_or_default();
        if slow.len() > MOST_LIMITS {
            let problem = Problem::new(at("latency"), format!("has {} limits", slow.len()));
            self.error(
                problem.with_hint(format!("at most {MOST_LIMITS}: each makes the others slower to decide")),
            );
        }
        FixedLimits { errors, slow }
    }

    fn slow(&mut self, path: &str, kind: &str, raw: &raw::Several<raw::LatencyGuard>) -> Vec<SlowLimit> {
        let mut found: Vec<SlowLimit> = Vec::new();
        for (path, raw) in self.each(path, raw) {
            self.fixed(
                &path,
                kind,
                &[("quantile", raw.quantile.is_some()), ("relative", raw.relative.is_some())],
            );
            let at = join(&path, "slower_than");
            if raw.slower_than.is_none() {
                self.missing(&at, "say what counts as slow, like 250ms");
            }
            let slower_than = self.positive(&at, raw.slower_than.as_ref(), Duration::from_secs(1));
            if found.iter().any(|known| known.slower_than == slower_than) {
                self.error(Problem::new(at, "is guarded already").with_hint("keep one of them"));
            }
            let at_most = self.at_most(&join(&path, "at_most"), raw.at_most.as_ref());
            found.extend(at_most.map(|at_most| SlowLimit { slower_than, at_most }));
        }
        found
    }

    fn fixed(&mut self, path: &str, kind: &str, keys: &[(&str, bool)]) {
        let hint = "no baseline gets calls to compare with: write a fixed `at_most`";
        self.foreign(path, kind, hint, keys);
    }

    fn at_most(&mut self, path: &str, raw: Option<&raw::Share>) -> Option<f64> {
        if raw.is_none() {
            self.missing(path, "say the largest share of calls that you accept, like 1%");
        }
        let share = self.share(path, raw).map(Percent::probability)?;
        if share <= 0.0 || share >= 1.0 {
            let problem = Problem::new(path, "is no limit that a test can work with");
            self.error(problem.with_hint("write more than 0% and less than 100%, like 1%"));
            return None;
        }
        Some(share)
    }
}
