//! How the baseline answers what another variant fails at: bounds that hold a call, and what they mean elsewhere.

use std::time::Duration;

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::{self, Percent, write_duration};
use crate::config::{Fallback, Model, Strategy, raw};

/// A fifth of the baseline's calls.
const BUDGET: u32 = 20_000;
const HOLD: u64 = 1 << 20;
/// Least and most bytes that one answer may be held for.
const HOLDS: (u64, u64) = (1 << 10, 64 << 20);

impl Check<'_> {
    /// The fallback that is written at `path`; none where it is off, or one variant gets all calls.
    pub(super) fn fallback(
        &mut self,
        path: &str,
        raw: Option<&raw::Fallback>,
        strategy: &Strategy,
    ) -> Option<Fallback> {
        let empty = raw::FallbackBounds::default();
        let bounds = match raw {
            None => &empty,
            Some(raw::Fallback::Bounds(bounds)) => bounds,
            Some(raw::Fallback::Word(word)) if word == "off" => return None,
            Some(raw::Fallback::Word(word)) => {
                let problem = Problem::new(path, "is neither off nor a map").with_value(format!("{word:?}"));
                let hint = match word.as_str() {
                    "on" | "auto" | "default" => "leave the key out: that is the default".to_owned(),
                    word => suggestion(word, &["off"]),
                };
                self.error(problem.with_hint(hint));
                return None;
            }
        };
        let found = Fallback {
            timeout: self.attempt_timeout(&join(path, "timeout"), bounds.timeout.as_ref()),
            budget: self.budget(&join(path, "budget"), bounds.budget.as_ref()),
            hold: self.size(&join(path, "hold"), bounds.hold.as_ref(), HOLD, HOLDS),
        };
        if strategy.has_alternatives() {
            return Some(found);
        }
        if raw.is_some() {
            let problem = Problem::new(path, "has no effect: one variant gets all calls");
            self.warn(problem.with_hint("remove it, or give a second variant calls"));
        }
        None
    }

    fn attempt_timeout(&mut self, path: &str, raw: Option<&raw::SpanOrAuto>) -> Option<Duration> {
        let written = &raw?.0;
        if matches!(written, raw::Written::Text(text) if text.trim() == "auto") {
            return None;
        }
        let timeout = self.quantity(path, written, units::duration)?;
        self.above_zero(path, timeout);
        Some(timeout)
    }

    fn budget(&mut self, path: &str, raw: Option<&raw::Share>) -> Percent {
        let default = Percent::from_thousandths(BUDGET).unwrap_or(Percent::ALL);
        let budget = self.share(path, raw).unwrap_or(default);
        if budget == Percent::NONE {
            let problem = Problem::new(path, "is nothing").with_value("0%");
            self.error(
                problem.with_hint(format!("write fallback: off, or a share; the default is {default}")),
            );
        }
        budget
    }

    /// Warns of attempts that are so short that a variant which hangs is never found at fault.
    pub(super) fn short_attempts(&mut self, models: &[Model], least: Duration) {
        for model in models {
            let timeout = model.fallback.as_ref().and_then(|fallback| fallback.timeout);
            let Some(timeout) = timeout.filter(|timeout| *timeout < least) else { continue };
            let path = join(&join("models", &model.name), "fallback.timeout");
            let text = format!("is less than limits.min_deadline, {}", write_duration(least));
            let hint =
                "a variant that hangs is then never at fault; write more, or lower limits.min_deadline";
            self.warn(Problem::new(path, text).with_value(write_duration(timeout)).with_hint(hint));
        }
    }
}
