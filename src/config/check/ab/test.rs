//! Which test judges a comparison, and where it would be wrong.

use crate::config::check::Check;
use crate::config::check::canary::Around;
use crate::config::problem::{Problem, suggestion};
use crate::config::units::Percent;
use crate::config::{Ab, Arm, Metric, OnFail, Source, Test};

impl Check<'_> {
    pub(super) fn test(&mut self, path: &str, word: Option<&str>) -> Test {
        let Some(word) = word else { return Test::default() };
        let names = Test::ALL.map(Test::name);
        Test::ALL.into_iter().find(|test| test.name() == word).unwrap_or_else(|| {
            let problem = Problem::new(path, "is no test that is known").with_value(format!("{word:?}"));
            self.error(problem.with_hint(suggestion(word, &names)));
            Test::default()
        })
    }

    /// Refuses a test that would be wrong about this split, or these values.
    pub(super) fn fits(
        &mut self,
        path: &str,
        (test, around): (Test, &Around<'_>),
        (split, arms, metrics): (&Ab, &[Arm], &[Metric]),
        on_fail: OnFail,
    ) {
        if test == Test::Overlap {
            return;
        }
        let mut refuse = |text: String, hint: &str| {
            let problem = Problem::new(path, text).with_value(format!("\"{}\"", test.name()));
            self.error(problem.with_hint(hint));
        };
        let overlap = "write overlap, or leave it out: it weighs every unit by the shares that it met";
        if around.stage.is_some() {
            refuse("is wrong in a stage: the shares of the stages before were others".to_owned(), overlap);
        }
        let splits = |weights: &[(usize, Percent)]| {
            weights.iter().filter(|(_, share)| *share != Percent::NONE).count() > 1
        };
        if let Some(segment) =
            split.segments.iter().find(|segment| splits(&segment.weights) && segment.weights != split.weights)
        {
            let text = format!("is wrong where shares differ, as in the segment {}", segment.name);
            refuse(text, overlap);
        }
        if arms.len() > 1 && on_fail == OnFail::Rollback {
            let text = "is wrong where shares change, and with `on_fail: rollback` a variant that is worse leaves its share to the baseline";
            refuse(text.to_owned(), "write on_fail: hold, or overlap, which is right while shares change");
        }
        if test != Test::Bounded {
            return;
        }
        if around.units {
            let text =
                "is exact for values that chance gives each by itself, and units (`unit`) bring several";
            refuse(text.to_owned(), "take `unit` out, or write overlap: it takes its variance over units");
        }
        for metric in metrics {
            let what = match &metric.source {
                Source::Feedback { name, width: None, .. } => format!("feedback {name}"),
                Source::Latency => "latency".to_owned(),
                Source::Feedback { .. } | Source::Errors | Source::Rejections => continue,
            };
            let text = format!("needs values between bounds, and {what} has none");
            refuse(text, "declare the feedback as kind: bounded with its `min` and `max`, or write overlap");
        }
    }
}
