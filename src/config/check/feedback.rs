//! What may be learnt about a prediction: its kind, its range, and how long it counts.

use std::time::Duration;

use super::Check;
use crate::assignment::ARMS;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::{Feedback, FeedbackKind, Join, Model, Strategy, raw};

const WINDOW: Duration = Duration::from_secs(24 * 3600);
const MOST_WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);
const MAX_RATE: u64 = 10_000;
const KINDS: [&str; 5] = ["binary", "bounded", "real", "label", "clicks"];
const JOINS: [&str; 4] = ["first", "last", "sum", "max"];
/// Names travel in every report, and in metrics.
const LONGEST_NAME: usize = 63;

impl Check<'_> {
    /// What the model whose map is at `path` declares.
    pub(super) fn feedback(&mut self, path: &str, raw: Option<&raw::Named<raw::Feedback>>) -> Vec<Feedback> {
        let mut found = Vec::new();
        for (name, raw) in raw.map_or(&[][..], |raw| &raw.0) {
            let path = join(path, name);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
                let problem = Problem::new(&*path, "is no name for feedback").with_value(format!("{name:?}"));
                self.error(problem.with_hint("use 1 to 63 letters, digits, `_`, `-` and `.`"));
            }
            match raw {
                Some(raw) => found.extend(self.one_feedback(&path, name, raw)),
                None if !self.broken(&path) => self.missing(&join(&path, "kind"), &kinds()),
                None => {}
            }
        }
        found
    }

    /// Refuses feedback about more variants than the id of a prediction can tell the odds of.
    pub(super) fn too_many_arms(&mut self, path: &str, model: &Model) {
        let arms = model.arms().len();
        if model.feedback.is_empty() || arms <= ARMS || !matches!(model.strategy, Strategy::Ab(_)) {
            return;
        }
        let text = format!(
            "cannot compare {arms} variants: the id of a prediction has room for how likely each of {ARMS} was"
        );
        let hint =
            format!("take out feedback, or variants until {ARMS} take part; those under `shadows` take none");
        self.error(Problem::new(path, text).with_hint(hint));
    }

    fn one_feedback(&mut self, path: &str, name: &str, raw: &raw::Feedback) -> Option<Feedback> {
        let at = |key: &str| join(path, key);
        let kind = self.feedback_kind(path, raw);
        let window = self.positive(&at("window"), raw.window.as_ref(), WINDOW);
        if window > MOST_WINDOW {
            let problem = Problem::new(at("window"), "is longer than feedback is remembered");
            self.error(problem.with_hint("at most 90d"));
        }
        let default = raw.default.as_ref().and_then(|value| self.amount(&at("default"), value));
        if let (Some(kind), Some(default)) = (kind, default)
            && let Err(wrong) = kind.admits(default)
        {
            let problem = Problem::new(at("default"), wrong).with_value(default.to_string());
            self.error(problem.with_hint("give a value that could have been reported, or leave it out"));
        }
        let usual = if kind == Some(FeedbackKind::Clicks) { Join::Sum } else { Join::Last };
        let join = match raw.join.as_deref() {
            None => usual,
            Some("first") => Join::First,
            Some("last") => Join::Last,
            Some("sum") => Join::Sum,
            Some("max") => Join::Max,
            Some(word) => {
                let problem =
                    Problem::new(at("join"), "is no way of joining").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &JOINS)));
                usual
            }
        };
        if kind == Some(FeedbackKind::Label) && matches!(join, Join::Sum | Join::Max) {
            let problem = Problem::new(at("join"), "needs numbers, and a label is a word");
            self.error(problem.with_value(format!("{:?}", join.name())).with_hint("use first or last"));
        }
        let max_rate = self.count(&at("max_rate"), raw.max_rate.as_ref(), MAX_RATE, 1_000_000);
        let max_rate = u32::try_from(max_rate).unwrap_or(u32::MAX);
        Some(Feedback { name: name.into(), kind: kind?, window, default, join, max_rate })
    }

    fn feedback_kind(&mut self, path: &str, raw: &raw::Feedback) -> Option<FeedbackKind> {
        let at = |key: &str| join(path, key);
        let bound = |check: &mut Self, key: &str, written: &Option<raw::Amount>| {
            written.as_ref().and_then(|written| check.amount(&at(key), written))
        };
        let (min, max) = (bound(self, "min", &raw.min), bound(self, "max", &raw.max));
        let kind = match raw.kind.as_deref() {
            Some("binary") => FeedbackKind::Binary,
            Some("real") => FeedbackKind::Real,
            Some("label") => FeedbackKind::Label,
            Some("clicks") => FeedbackKind::Clicks,
            Some("bounded") => {
                let (Some(min), Some(max)) = (min, max) else {
                    for (key, value) in [("min", min), ("max", max)] {
                        if value.is_none() {
                            self.missing(&at(key), "a bounded feedback has a `min` and a `max`");
                        }
                    }
                    return None;
                };
                if min >= max {
                    let problem = Problem::new(at("max"), "is not above `min`").with_value(max.to_string());
                    self.error(problem.with_hint(format!("write a number above {min}")));
                }
                return Some(FeedbackKind::Bounded { min, max });
            }
            Some(word) => {
                let problem =
                    Problem::new(at("kind"), "is no kind of feedback").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &KINDS)));
                return None;
            }
            None => {
                self.missing(&at("kind"), &kinds());
                return None;
            }
        };
        for (key, given) in [("min", raw.min.is_some()), ("max", raw.max.is_some())] {
            if given {
                let problem = Problem::new(at(key), format!("has no meaning for kind: {}", kind.name()));
                self.error(problem.with_hint("remove it, or write kind: bounded"));
            }
        }
        Some(kind)
    }
}

fn kinds() -> String {
    format!("say what its values are: {}", KINDS.join(", "))
}
