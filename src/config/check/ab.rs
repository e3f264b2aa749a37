//! How the arms of a split are compared: metrics that say what their least effect is of, and arms that can be.

use std::time::Duration;

use super::Check;
use super::canary::Around;
use super::strategy::{comparing, deciding};
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::{self, Percent};
use crate::config::{Ab, Arm, FeedbackKind, Judge, Margin, Metric, OnFail, OnPass, Source, raw};

mod test;

/// Of interest where the file says nothing: 2 % of the baseline's.
const LEAST: Margin = Margin { absolute: 0.0, relative: 0.02 };
const ALPHA: f64 = 0.05;
const UNITS: u64 = 100;
const DURATION: Duration = Duration::from_secs(28 * 86_400);
/// Arms are remembered as the bits of a number.
const MOST_VARIANTS: usize = 64;

impl Check<'_> {
    /// How the arms of `split` are compared; none where the file asks for no comparison.
    pub(super) fn judge(
        &mut self,
        path: &str,
        around: &Around<'_>,
        split: &Ab,
        raw: &raw::Strategy,
    ) -> Option<Judge> {
        let at = |key: &str| join(path, key);
        if raw.metrics.is_none() && raw.guards.is_none() {
            let hint = "say under `metrics` what a winner is better at, or remove it";
            for (key, _) in deciding(raw).iter().chain(&comparing(raw)).filter(|(_, given)| *given) {
                let text = "has no meaning for a split that compares nothing";
                self.error(Problem::new(at(key), text).with_hint(hint));
            }
            return None;
        }
        self.guards_of_canaries(path, "ab", raw);
        let metrics = self.metrics(&at("metrics"), around, raw.metrics.as_ref());
        let max_duration = self.positive(&at("max_duration"), raw.max_duration.as_ref(), DURATION);
        self.time_for_windows(&at("max_duration"), around, &metrics, max_duration);
        if metrics.is_empty() && raw.metrics.is_none() {
            let problem = Problem::new(at("metrics"), "are not given, so no variant can ever win");
            let hint = "the guards can take one out; say what a winner is better at to find one";
            self.warn(problem.with_hint(hint));
        }
        let arms = self.compared(path, around, split);
        let on_fail = self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback);
        let test = self.test(&at("test"), raw.test.as_deref());
        self.fits(&at("test"), (test, around), (split, &arms, &metrics), on_fail);
        Some(Judge {
            arms,
            metrics,
            test,
            guards: self.guards(&at("guards"), around.feedback, raw.guards.as_ref()),
            warmup: self.warmup(path, raw),
            alpha: self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA),
            min_units: self.count(&at("min_units"), raw.min_units.as_ref(), UNITS, 1 << 40),
            max_duration,
            on_pass: self.on_pass(&at("on_pass"), raw.on_pass.as_deref(), OnPass::Wait),
            on_fail,
        })
    }

    /// What a winner is better at: feedback in the order of the file, errors, rejections, latency.
    fn metrics(&mut self, path: &str, around: &Around<'_>, raw: Option<&raw::Metrics>) -> Vec<Metric> {
        let Some(raw) = raw else { return Vec::new() };
        let declared = around.feedback;
        let at = |key: &str| join(path, key);
        let feedback = self.feedback_guards(&at("feedback"), declared, raw.feedback.as_ref(), Some(LEAST));
        let mut found: Vec<Metric> = feedback
            .into_iter()
            .map(|found| Metric {
                source: Source::Feedback {
                    binary: declared.get(found.feedback).is_some_and(|one| one.kind == FeedbackKind::Binary),
                    width: declared.get(found.feedback).and_then(|one| match one.kind {
                        FeedbackKind::Binary => Some(1.0),
                        FeedbackKind::Bounded { min, max } => Some(max - min),
                        FeedbackKind::Real | FeedbackKind::Label | FeedbackKind::Clicks => None,
                    }),
                    name: found.name,
                },
                least: found.margin,
                lower_is_better: found.lower_is_better,
            })
            .collect();
        let rates =
            [("errors", &raw.errors, Source::Errors), ("rejections", &raw.rejections, Source::Rejections)];
        for (key, raw, source) in rates {
            let least = self.rate_metric(&at(key), raw.as_ref());
            found.extend(least.map(|least| Metric { source, least, lower_is_better: true }));
        }
        let least = self.latency_metric(&at("latency"), raw.latency.as_ref());
        found.extend(least.map(|least| Metric { source: Source::Latency, least, lower_is_better: true }));
        if found.is_empty() && !self.broken(path) {
            let problem = Problem::new(path, "name nothing that a winner is better at");
            let hint = "name a feedback that the model declares, like {feedback: {name: approved, relative: 2%}}, or errors, rejections or latency";
            self.error(problem.with_hint(hint));
        }
        found
    }

    fn rate_metric(&mut self, path: &str, raw: Option<&raw::OrOff<raw::RateGuard>>) -> Option<Margin> {
        match raw? {
            raw::OrOff::Word(word) => {
                self.off(path, word);
                None
            }
            raw::OrOff::Map(map) if map.absolute.is_none() && map.relative.is_none() => Some(LEAST),
            raw::OrOff::Map(_) => self.rate_guard(path, raw),
        }
    }

    fn latency_metric(&mut self, path: &str, raw: Option<&raw::OrOff<raw::LatencyMetric>>) -> Option<Margin> {
        match raw? {
            raw::OrOff::Word(word) => {
                self.off(path, word);
                None
            }
            raw::OrOff::Map(map) => match &map.relative {
                None => Some(LEAST),
                Some(written) => {
                    let relative = self.ratio(&join(path, "relative"), Some(written));
                    self.margin(path, None, relative)
                }
            },
        }
    }

    /// Variants beside the baseline that some calls are split between it and them.
    fn compared(&mut self, path: &str, around: &Around<'_>, split: &Ab) -> Vec<Arm> {
        let has = |weights: &[(usize, Percent)], variant: usize| {
            weights.iter().any(|(known, share)| *known == variant && *share != Percent::NONE)
        };
        let strata: Vec<_> =
            std::iter::once(&split.weights).chain(split.segments.iter().map(|one| &one.weights)).collect();
        let name = |variant: usize| around.variants.get(variant).map_or("", |variant| &*variant.name);
        if !self.broken(path) && !strata.iter().any(|weights| has(weights, split.baseline)) {
            let text = "gets no calls, so there is nothing to compare with";
            let problem = Problem::new(join(path, "baseline"), text).with_value(name(split.baseline));
            self.error(problem.with_hint("give it a share of the weights, or name a variant that has one"));
            return Vec::new();
        }
        let mut arms: Vec<Arm> = Vec::new();
        for (variant, _) in strata.iter().copied().flatten() {
            let known = *variant == split.baseline || arms.iter().any(|arm| arm.variant == *variant);
            let compared =
                strata.iter().any(|weights| has(weights, *variant) && has(weights, split.baseline));
            if !known && compared {
                arms.push(Arm { variant: *variant, name: name(*variant).into() });
            }
        }
        for (variant, share) in &split.weights {
            let idle = *share == Percent::NONE && !arms.iter().any(|arm| arm.variant == *variant);
            if idle && *variant != split.baseline {
                let at = join(&join(path, "weights"), name(*variant));
                let problem = Problem::new(at, "leaves nothing to compare").with_value("0%");
                self.error(problem.with_hint("give it a share, or take it out until it has one"));
            }
        }
        if arms.is_empty() && !self.broken(path) {
            let problem = Problem::new(join(path, "weights"), "split no calls between two variants");
            self.error(problem.with_hint("give another variant beside the baseline a share"));
        }
        if arms.iter().any(|arm| arm.variant >= MOST_VARIANTS) {
            let problem = Problem::new(join(path, "weights"), "name a variant too far down the list");
            self.error(problem.with_hint("arms are among the first 64 variants of a model"));
        }
        self.same_builds(path, around, split.baseline, &arms);
        arms
    }

    /// Says of a comparison of equals what it is good for.
    fn same_builds(&mut self, path: &str, around: &Around<'_>, baseline: usize, arms: &[Arm]) {
        let build = |variant: usize| around.variants.get(variant).map(|variant| &variant.build);
        for arm in arms.iter().filter(|arm| build(arm.variant) == build(baseline)) {
            let text = format!("compare {} with the very same build (an A/A test)", arm.name);
            let problem = Problem::new(join(path, "weights"), text);
            let hint = "whatever it finds is chance, or a fault of how calls and feedback are given; that is what such a test is for";
            self.warn(problem.with_hint(hint));
        }
    }

    /// What comes in after a window must come before the end.
    fn time_for_windows(&mut self, path: &str, around: &Around<'_>, metrics: &[Metric], most: Duration) {
        for metric in metrics {
            let Source::Feedback { name, .. } = &metric.source else { continue };
            let Some(feedback) = around.feedback.iter().find(|one| one.name == *name) else { continue };
            if feedback.default.is_some() && feedback.window >= most {
                let window = units::write_duration(feedback.window);
                let text = format!("is not longer than the {window} after which {name} counts");
                let problem = Problem::new(path, text).with_value(units::write_duration(most));
                self.error(problem.with_hint("nothing would ever be known of it; make it longer"));
            }
        }
    }
}
