//! A canary: shares that grow, margins that say what they are of, and guards that can ever pass.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use super::strategy::{comparing, default_salt};
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::{self, Percent};
use crate::config::{
    Canary, Feedback, FeedbackGuard, FeedbackKind, Guards, LatencyGuard, Margin, OnFail, OnPass, Step,
    Strategy, Variant, Warming, Warmup, raw,
};

const HOLD: Duration = Duration::from_secs(5 * 60);
const CALLS: u64 = 200;
/// Thousandths of a percent.
const SHARES: [u32; 5] = [1_000, 5_000, 10_000, 25_000, 50_000];
const RATE: Margin = Margin { absolute: 0.001, relative: 0.25 };
const LATENCY: [LatencyGuard; 3] = [
    LatencyGuard { quantile: 0.5, relative: 0.10 },
    LatencyGuard { quantile: 0.95, relative: 0.15 },
    LatencyGuard { quantile: 0.99, relative: 0.15 },
];
const WARMUP: Warmup = Warmup { time: Duration::from_secs(30), calls: 50 };
const ALPHA: f64 = 0.01;
const MOST_ALPHA: f64 = 0.2;
const MAX_STEP_TIME: Duration = Duration::from_secs(3600);
/// Every latency guard takes its part of alpha.
const MOST_LATENCY: usize = 8;

/// What a canary is checked against.
pub(super) struct Around<'a> {
    pub(super) model: &'a str,
    pub(super) variants: &'a [Variant],
    pub(super) feedback: &'a [Feedback],
    /// Variants that get copies.
    pub(super) shadows: &'a [&'a str],
    /// Whether calls bring units.
    pub(super) units: bool,
    /// Whether it is a stage of several.
    pub(super) stage: Option<(usize, usize)>,
}

/// The longest hold, or feedback window, that a step may have to wait for.
fn longest_wait(declared: &[Feedback], steps: &[Step], guards: &Guards) -> Duration {
    let windows = guards.feedback.iter().filter_map(|guard| declared.get(guard.feedback));
    let windows = windows.map(|feedback| feedback.window);
    steps.iter().map(|step| step.hold).chain(windows).max().unwrap_or_default()
}

impl Check<'_> {
    pub(super) fn canary(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> Strategy {
        let at = |key: &str| join(path, key);
        let others = [
            ("variant", raw.variant.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("revert_window", raw.revert_window.is_some()),
            ("max_wait", raw.max_wait.is_some()),
            ("hash", raw.hash.is_some()),
        ];
        self.foreign(path, "canary", "remove it; the candidate's shares are its `steps`", &others);
        self.foreign(path, "canary", "remove it, or write kind: ab", &comparing(raw));
        let (baseline, candidate) = self.arms(path, around, raw);
        let guards = self.guards(&at("guards"), around.feedback, raw.guards.as_ref());
        self.any_guard(&at("guards"), &guards);
        if guards.resources.is_some() {
            self.readable(around, (baseline, candidate));
        }
        let steps = self.steps(&at("steps"), raw.steps.as_deref());
        let least = longest_wait(around.feedback, &steps, &guards);
        let usual = if least < MAX_STEP_TIME { MAX_STEP_TIME } else { least * 2 };
        let max_step_time = self.positive(&at("max_step_time"), raw.max_step_time.as_ref(), usual);
        self.enough_time(path, around.feedback, (&steps, &guards), max_step_time);
        let warmup = self.warmup(path, raw);
        let warming = self.warming(&at("warmup"), raw.warmup.as_ref(), Warming::NONE);
        let alpha = self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA);
        let salt = self
            .salt(path, raw.salt.as_deref())
            .unwrap_or_else(|| default_salt(around.model, around.variants, baseline, &[baseline, candidate]));
        Strategy::Canary(Arc::new(Canary {
            baseline,
            candidate,
            salt,
            steps,
            guards,
            warmup,
            warming,
            alpha,
            max_step_time,
            on_pass: self.on_pass(&at("on_pass"), raw.on_pass.as_deref(), OnPass::Promote),
            on_fail: self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback),
        }))
    }

    pub(super) fn warmup(&mut self, path: &str, raw: &raw::Strategy) -> Warmup {
        let at = |key: &str| join(path, key);
        raw.warmup.as_ref().map_or(WARMUP, |raw| Warmup {
            time: self
                .duration(&at("warmup.time"), raw.time.as_ref().map(|span| &span.0))
                .unwrap_or(WARMUP.time),
            calls: self.count(&at("warmup.calls"), raw.calls.as_ref(), WARMUP.calls, 1 << 32),
        })
    }

    /// A chance of being wrong.
    pub(super) fn alpha(&mut self, path: &str, raw: Option<&raw::Share>, usual: f64) -> f64 {
        let alpha = raw.and_then(|alpha| self.share(path, Some(alpha))).map_or(usual, Percent::probability);
        if alpha <= 0.0 || alpha > MOST_ALPHA {
            let problem = Problem::new(path, "is no chance that a test can work with");
            let hint = format!("write more than 0% and at most 20%; the default is {}%", usual * 100.0);
            self.error(problem.with_hint(hint));
        }
        alpha
    }

    /// Baseline and candidate.
    pub(super) fn arms(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> (usize, usize) {
        let at = |key: &str| join(path, key);
        let named = |check: &mut Self, key: &str, name: &Option<String>| {
            name.as_deref().and_then(|name| check.variant_index(&at(key), name, around.variants))
        };
        let baseline = named(self, "baseline", &raw.baseline);
        if around.variants.len() < 2 {
            let problem = Problem::new(path, "needs two variants, a baseline and a candidate");
            self.error(problem.with_hint("add the new version under `variants`"));
            return (0, 0);
        }
        let others = |baseline: usize| {
            let free = |(index, variant): &(usize, &Variant)| {
                *index != baseline && !around.shadows.contains(&&*variant.name)
            };
            around.variants.iter().enumerate().filter(free).map(|(index, _)| index).collect::<Vec<_>>()
        };
        let candidate = match &raw.candidate {
            Some(_) => named(self, "candidate", &raw.candidate),
            None => match others(baseline.unwrap_or(0))[..] {
                [only] => Some(only),
                _ => {
                    self.missing(&at("candidate"), "say which variant must prove itself");
                    None
                }
            },
        };
        let baseline = baseline.unwrap_or(0);
        if candidate == Some(baseline) {
            let hint = match others(baseline).first() {
                Some(other) => format!("use another variant, like {}", around.variants[*other].name),
                None => "add the new version under `variants`".to_owned(),
            };
            self.error(Problem::new(at("candidate"), "is the baseline itself").with_hint(hint));
        }
        (baseline, candidate.unwrap_or(baseline))
    }

    fn steps(&mut self, path: &str, raw: Option<&[Option<raw::Step>]>) -> Vec<Step> {
        let step = |share| Step { share, hold: HOLD, calls: CALLS };
        let Some(raw) = raw else {
            return SHARES.iter().filter_map(|share| Percent::from_thousandths(*share)).map(step).collect();
        };
        if raw.is_empty() && !self.broken(path) {
            self.error(Problem::new(path, "is empty").with_hint("leave it out for 1%, 5%, 10%, 25%, 50%"));
        }
        let mut found: Vec<Step> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(raw) = raw else { continue };
            let at = join(&path, "share");
            if raw.share.is_none() {
                self.missing(&at, "say how much the candidate gets, like 5%");
            }
            let Some(share) = self.share(&at, raw.share.as_ref()) else { continue };
            let before = found.last().map_or(Percent::NONE, |step| step.share);
            if share == Percent::NONE || share == Percent::ALL {
                let text =
                    if share == Percent::ALL { "leaves no baseline to compare with" } else { "is no step" };
                let problem = Problem::new(&*at, text).with_value(share.to_string());
                self.error(problem.with_hint("write more than 0% and less than 100%"));
            } else if share <= before {
                let text = format!("is not above the step before it, {before}");
                let problem = Problem::new(&*at, text).with_value(share.to_string());
                self.error(problem.with_hint("a candidate's share grows from step to step"));
            }
            let hold = raw.hold.as_ref().map(|span| &span.0);
            let hold = self.duration(&join(&path, "hold"), hold).unwrap_or(HOLD);
            let calls = self.count(&join(&path, "calls"), raw.calls.as_ref(), CALLS, 1 << 40);
            found.push(Step { share, hold, calls });
        }
        found
    }

    pub(super) fn guards(&mut self, path: &str, declared: &[Feedback], raw: Option<&raw::Guards>) -> Guards {
        let at = |key: &str| join(path, key);
        let Some(raw) = raw else {
            return Guards {
                errors: Some(RATE),
                rejections: Some(RATE),
                latency: LATENCY.to_vec(),
                feedback: Vec::new(),
                resources: None,
                shadow: false,
            };
        };
        Guards {
            errors: self.error_guard(&at("errors"), raw.errors.as_ref()),
            rejections: self.rate_guard(&at("rejections"), raw.rejections.as_ref()),
            latency: self.latency_guards(&at("latency"), raw.latency.as_ref()),
            feedback: self.feedback_guards(&at("feedback"), declared, raw.feedback.as_ref(), None),
            resources: self.resources_guard(&at("resources"), raw.resources.as_ref()),
            shadow: raw.shadow.unwrap_or(false),
        }
    }

    /// A canary is judged on something.
    fn any_guard(&mut self, path: &str, guards: &Guards) {
        let none = guards.errors.is_none() && guards.rejections.is_none() && !guards.shadow;
        if none && guards.latency.is_empty() && guards.feedback.is_empty() && !self.broken(path) {
            let problem = Problem::new(path, "are all off, so nothing would be judged");
            self.error(problem.with_hint("leave `errors` on, or write kind: ab with the share you want"));
        }
    }

    fn error_guard(&mut self, path: &str, raw: Option<&raw::OrOff<raw::ErrorGuard>>) -> Option<Margin> {
        let rate = raw.map(|raw| match raw {
            raw::OrOff::Word(word) => raw::OrOff::Word(word.clone()),
            raw::OrOff::Map(raw) => {
                self.not_fixed(path, &[("at_most", raw.at_most.is_some())]);
                raw::OrOff::Map(raw::RateGuard {
                    absolute: raw.absolute.clone(),
                    relative: raw.relative.clone(),
                })
            }
        });
        self.rate_guard(path, rate.as_ref())
    }

    pub(super) fn rate_guard(
        &mut self,
        path: &str,
        raw: Option<&raw::OrOff<raw::RateGuard>>,
    ) -> Option<Margin> {
        let raw = match raw {
            None => return Some(RATE),
            Some(raw::OrOff::Word(word)) => {
                self.off(path, word);
                return None;
            }
            Some(raw::OrOff::Map(raw)) => raw,
        };
        let absolute = self.share(&join(path, "absolute"), raw.absolute.as_ref()).map(Percent::probability);
        let relative = self.ratio(&join(path, "relative"), raw.relative.as_ref());
        self.margin(path, absolute, relative)
    }

    /// A canary is compared with its baseline, not with fixed limits.
    fn not_fixed(&mut self, path: &str, keys: &[(&str, bool)]) {
        let hint = "say how much worse than the baseline it may be, like `relative`";
        self.foreign(path, "canary", hint, keys);
    }

    /// The larger of the two; without one of them the other alone.
    pub(super) fn margin(
        &mut self,
        path: &str,
        absolute: Option<f64>,
        relative: Option<f64>,
    ) -> Option<Margin> {
        if absolute.is_none() && relative.is_none() {
            if !self.broken(path) {
                let problem = Problem::new(path, "has no margin");
                self.error(
                    problem.with_hint("say how much worse it may be: `absolute`, `relative`, or both"),
                );
            }
            return None;
        }
        let margin = Margin { absolute: absolute.unwrap_or(0.0), relative: relative.unwrap_or(0.0) };
        if margin.absolute == 0.0 && margin.relative == 0.0 {
            let problem = Problem::new(path, "allows nothing, and nobody can be proven to be that good");
            self.warn(problem.with_hint("such a guard can roll back, but the canary never passes it"));
        }
        Some(margin)
    }

    fn latency_guards(
        &mut self,
        path: &str,
        raw: Option<&raw::Several<raw::LatencyGuard>>,
    ) -> Vec<LatencyGuard> {
        let Some(raw) = raw else { return LATENCY.to_vec() };
        let mut found: Vec<LatencyGuard> = Vec::new();
        for (path, raw) in self.each(path, raw) {
            self.not_fixed(
                &path,
                &[("slower_than", raw.slower_than.is_some()), ("at_most", raw.at_most.is_some())],
            );
            let at = join(&path, "quantile");
            if raw.quantile.is_none() {
                self.missing(&at, "say which, like 99%; 50% is the median");
            }
            let quantile = self.share(&at, raw.quantile.as_ref()).map(Percent::probability);
            let relative = self.ratio(&join(&path, "relative"), raw.relative.as_ref());
            if raw.relative.is_none() {
                self.missing(&join(&path, "relative"), "say how much slower it may be, like 15%");
            }
            let (Some(quantile), Some(relative)) = (quantile, relative) else { continue };
            if quantile <= 0.0 || quantile >= 1.0 {
                let problem =
                    Problem::new(&*at, "is no quantile").with_value(format!("{}%", quantile * 100.0));
                self.error(problem.with_hint("write more than 0% and less than 100%"));
            }
            if found.iter().any(|known| known.quantile == quantile) {
                self.error(Problem::new(at, "is guarded already").with_hint("keep one of them"));
            }
            found.push(LatencyGuard { quantile, relative });
        }
        if found.len() > MOST_LATENCY {
            let problem = Problem::new(path, format!("has {} quantiles", found.len()));
            self.error(
                problem.with_hint(format!("at most {MOST_LATENCY}: each makes the others slower to decide")),
            );
        }
        found
    }

    /// Margins on means of feedback; `usual`: where none is given, if there is such a one.
    pub(super) fn feedback_guards(
        &mut self,
        path: &str,
        declared: &[Feedback],
        raw: Option<&raw::Several<raw::FeedbackGuard>>,
        usual: Option<Margin>,
    ) -> Vec<FeedbackGuard> {
        let mut found: Vec<FeedbackGuard> = Vec::new();
        for (path, raw) in raw.map(|raw| self.each(path, raw)).unwrap_or_default() {
            let at = join(&path, "name");
            let Some(name) = &raw.name else {
                self.missing(&at, "name a feedback that the model declares under `feedback`");
                continue;
            };
            let absolute = raw.absolute.as_ref().and_then(|raw| self.amount(&join(&path, "absolute"), raw));
            if absolute.is_some_and(|absolute| absolute < 0.0) {
                let problem = Problem::new(join(&path, "absolute"), "is below 0");
                self.error(problem.with_hint("say how much worse it may be, whichever way worse is"));
            }
            let relative = self.ratio(&join(&path, "relative"), raw.relative.as_ref());
            let given = raw.absolute.is_some() || raw.relative.is_some();
            let margin = if given { None } else { usual }.or_else(|| self.margin(&path, absolute, relative));
            let lower_is_better = self.better(&join(&path, "better"), raw.better.as_deref());
            let Some(feedback) = declared.iter().position(|feedback| *feedback.name == **name) else {
                let known: Vec<&str> = declared.iter().map(|feedback| &*feedback.name).collect();
                let problem = Problem::new(at, "is no feedback that this model declares");
                let hint = if known.is_empty() {
                    format!(
                        "declare it beside `strategy`: feedback: {{{name}: {{kind: binary, window: 24h}}}}"
                    )
                } else {
                    suggestion(name, &known)
                };
                self.error(problem.with_value(format!("{name:?}")).with_hint(hint));
                continue;
            };
            if matches!(declared[feedback].kind, FeedbackKind::Label | FeedbackKind::Clicks) {
                let text = format!("is of kind {}, which has no mean", declared[feedback].kind.name());
                let problem = Problem::new(&*at, text).with_value(format!("{name:?}"));
                self.error(problem.with_hint("guard a binary, bounded or real one"));
            }
            if found.iter().any(|known| known.feedback == feedback) {
                self.error(Problem::new(at, "is guarded already").with_hint("keep one of them"));
            }
            let name = Arc::clone(&declared[feedback].name);
            found.extend(margin.map(|margin| FeedbackGuard { feedback, name, margin, lower_is_better }));
        }
        found
    }

    pub(super) fn better(&mut self, path: &str, word: Option<&str>) -> bool {
        match word {
            None | Some("higher") => false,
            Some("lower") => true,
            Some(word) => {
                let problem =
                    Problem::new(path, "is neither higher nor lower").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["higher", "lower"])));
                false
            }
        }
    }

    /// A step must be able to end before it counts as stalled.
    fn enough_time(
        &mut self,
        path: &str,
        declared: &[Feedback],
        (steps, guards): (&[Step], &Guards),
        max_step_time: Duration,
    ) {
        let at = join(path, "max_step_time");
        let longest = steps.iter().map(|step| step.hold).max().unwrap_or_default();
        if longest >= max_step_time {
            let longest = units::write_duration(longest);
            let problem = Problem::new(&*at, format!("is not longer than a step's hold of {longest}"));
            self.error(problem.with_hint("every step would count as stalled; make it longer"));
        }
        let windows = guards.feedback.iter().filter_map(|guard| declared.get(guard.feedback));
        let Some(slowest) = windows.max_by_key(|feedback| feedback.window) else { return };
        if slowest.window >= max_step_time {
            let window = units::write_duration(slowest.window);
            let text = format!("is not longer than the {window} that feedback {} may take", slowest.name);
            let problem = Problem::new(at, text).with_value(units::write_duration(max_step_time));
            self.error(problem.with_hint("the last step would count as stalled; make it longer"));
        }
    }

    pub(super) fn on_pass(&mut self, path: &str, word: Option<&str>, usual: OnPass) -> OnPass {
        match word {
            None => usual,
            Some("promote") => OnPass::Promote,
            Some("wait") => OnPass::Wait,
            Some(word) => {
                let problem =
                    Problem::new(path, "is neither promote nor wait").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["promote", "wait"])));
                usual
            }
        }
    }

    pub(super) fn on_fail(&mut self, path: &str, word: Option<&str>, usual: OnFail) -> OnFail {
        match word {
            None => usual,
            Some("rollback") => OnFail::Rollback,
            Some("hold") => OnFail::Hold,
            Some(word) => {
                let problem =
                    Problem::new(path, "is neither rollback nor hold").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["rollback", "hold"])));
                usual
            }
        }
    }

    /// The one word that stands for no guard at all.
    pub(super) fn off(&mut self, path: &str, word: &str) {
        if word != "off" {
            let problem =
                Problem::new(path, "does not say what it is a margin of").with_value(format!("{word:?}"));
            let hint = format!("name it, like {{absolute: {word}}} or {{relative: {word}}}, or write off");
            self.error(problem.with_hint(hint));
        }
    }

    /// Each of them with its path; those already reported are left out.
    pub(super) fn each<'r, T>(&mut self, path: &str, several: &'r raw::Several<T>) -> Vec<(String, &'r T)> {
        match several {
            raw::Several::Word(word) => {
                self.off(path, word);
                Vec::new()
            }
            raw::Several::One(one) => vec![(path.to_owned(), one)],
            raw::Several::Many(many) => many
                .iter()
                .enumerate()
                .filter_map(|(index, one)| Some((format!("{path}[{index}]"), one.as_ref()?)))
                .collect(),
        }
    }
}
