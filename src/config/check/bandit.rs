//! A bandit: something to learn from, arms to choose between, and numbers that leave each of them a chance.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use super::canary::Around;
use super::strategy::default_salt;
use crate::assignment::ARMS;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::{self, Percent};
use crate::config::{
    Arm, Bandit, BanditPolicy, ContextSource, Feedback, FeedbackKind, Key, Margin, Memory, Metric, OnFail,
    OnPass, Reward, Source, Stop, Strategy, raw,
};
use crate::strategy::bandit::context::MOST;

/// Of interest where the file says nothing: 2 % of the baseline's.
const LEAST: Margin = Margin { absolute: 0.0, relative: 0.02 };
const REMAINING: f64 = 0.01;
const ALPHA: f64 = 0.05;
const UNITS: u64 = 100;
const FLOOR: f64 = 0.01;
const REFRESH: (Duration, u64) = (Duration::from_secs(1), 500);
const POLICIES: [&str; 8] =
    ["thompson", "top_two", "kl_ucb", "ucb1", "epsilon_greedy", "exp3", "lin_ucb", "lin_ts"];

/// Keys that only this kind has.
pub(super) fn own(raw: &raw::Strategy) -> [(&'static str, bool); 10] {
    [
        ("reward", raw.reward.is_some()),
        ("policy", raw.policy.is_some()),
        ("tuning", raw.tuning.is_some()),
        ("context", raw.context.is_some()),
        ("floor", raw.floor.is_some()),
        ("refresh", raw.refresh.is_some()),
        ("half_life", raw.half_life.is_some()),
        ("window", raw.window.is_some()),
        ("stop", raw.stop.is_some()),
        ("mode", raw.mode.is_some()),
    ]
}

impl Check<'_> {
    pub(super) fn bandit(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> Strategy {
        let at = |key: &str| join(path, key);
        self.not_bandit(path, raw);
        let baseline = raw.baseline.as_deref();
        let baseline = baseline.map(|name| self.variant_index(&at("baseline"), name, around.variants));
        let baseline = baseline.flatten().unwrap_or_else(|| {
            let answers = |name: &str| !around.shadows.contains(&name);
            around.variants.iter().position(|variant| answers(&variant.name)).unwrap_or(0)
        });
        let arms = self.learners(path, around);
        let variants: Vec<usize> = arms.iter().map(|arm| arm.variant).collect();
        let salt = self.salt(path, raw.salt.as_deref());
        let salt = salt.unwrap_or_else(|| default_salt(around.model, around.variants, baseline, &variants));
        let reward = self.reward(&at("reward"), around.feedback, raw.reward.as_ref());
        let policy = self.policy(path, &reward, raw);
        let context = self.context(&at("context"), policy, raw.context.as_deref());
        let stop = self.stop(&at("stop"), policy, raw.stop.as_ref());
        let margin = self.least(&at("stop"), raw.stop.as_ref());
        self.guards_of_canaries(path, "bandit", raw);
        let apprentice = match raw.mode.as_deref() {
            None | Some("live") => false,
            Some("apprentice") => true,
            Some(word) => {
                let problem = Problem::new(at("mode"), "is no mode").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["live", "apprentice"])));
                false
            }
        };
        let metric = Metric {
            source: Source::Feedback { name: Arc::clone(&reward.name), binary: reward.binary, width: None },
            least: margin,
            lower_is_better: reward.lower_is_better,
        };
        Strategy::Bandit(Arc::new(Bandit {
            baseline,
            salt,
            floor: self.floor(&at("floor"), arms.len(), apprentice, raw.floor.as_ref()),
            arms,
            reward,
            metric,
            policy,
            context,
            min_units: self.count(&at("min_units"), raw.min_units.as_ref(), UNITS, 1 << 40),
            refresh: self.refreshing(&at("refresh"), raw.refresh.as_ref()),
            memory: self.memory(path, policy, raw),
            guards: self.guards(&at("guards"), around.feedback, raw.guards.as_ref()),
            warmup: self.warmup(path, raw),
            alpha: self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA),
            stop: stop.filter(|_| !apprentice),
            on_pass: self.on_pass(&at("on_pass"), raw.on_pass.as_deref(), OnPass::Wait),
            on_fail: self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback),
            apprentice,
        }))
    }

    fn not_bandit(&mut self, path: &str, raw: &raw::Strategy) {
        let others = [
            ("variant", raw.variant.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("candidate", raw.candidate.is_some()),
            ("steps", raw.steps.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
            ("metrics", raw.metrics.is_some()),
            ("test", raw.test.is_some()),
            ("max_duration", raw.max_duration.is_some()),
            ("hash", raw.hash.is_some()),
            ("revert_window", raw.revert_window.is_some()),
            ("max_wait", raw.max_wait.is_some()),
        ];
        let hint = "remove it: what an arm gets is learnt from `reward`";
        self.foreign(path, "bandit", hint, &others);
        if raw.warmup.as_ref().is_some_and(|warmup| {
            warmup.requests.is_some() || warmup.timeout.is_some() || warmup.file.is_some()
        }) {
            let problem = Problem::new(join(path, "warmup"), "sends nothing for kind: bandit");
            self.error(problem.with_hint("keep `time` and `calls`: when an arm's latency begins to count"));
        }
    }

    /// Everybody who answers, in the order of their names: all variants that are no shadows, or those of the stage.
    fn learners(&mut self, path: &str, around: &Around<'_>) -> Vec<Arm> {
        let answers = |variant: usize, name: &str| match around.stage {
            Some((baseline, candidate)) => variant == baseline || variant == candidate,
            None => !around.shadows.contains(&name),
        };
        let mut arms: Vec<Arm> = around
            .variants
            .iter()
            .enumerate()
            .filter(|(index, variant)| answers(*index, &variant.name))
            .map(|(variant, found)| Arm { variant, name: Arc::clone(&found.name) })
            .collect();
        arms.sort_by(|one, other| one.name.cmp(&other.name));
        if arms.len() < 2 {
            let problem = Problem::new(path, "has nothing to choose between");
            self.error(problem.with_hint("add another variant under `variants`; shadows do not count"));
        } else if arms.len() > ARMS {
            let text = format!(
                "cannot choose between {} variants: the id of a prediction has room for how likely each of {ARMS} was",
                arms.len()
            );
            let hint = format!("take out variants until {ARMS} take part; those under `shadows` take none");
            self.error(Problem::new(path, text).with_hint(hint));
            arms.truncate(ARMS);
        }
        arms
    }

    fn reward(&mut self, path: &str, declared: &[Feedback], raw: Option<&raw::Reward>) -> Reward {
        let at = |key: &str| join(path, key);
        let nothing = Reward {
            name: Arc::default(),
            range: Some((0.0, 1.0)),
            binary: true,
            lower_is_better: false,
            gaussian: false,
        };
        let Some(raw) = raw else {
            self.missing(path, "say which feedback it learns from, like {name: approved}");
            return nothing;
        };
        let lower_is_better = self.better(&at("better"), raw.better.as_deref());
        let Some(name) = raw.name.as_deref() else {
            self.missing(&at("name"), "name a feedback that the model declares under `feedback`");
            return nothing;
        };
        let Some(feedback) = declared.iter().find(|feedback| *feedback.name == *name) else {
            let known: Vec<&str> = declared.iter().map(|feedback| &*feedback.name).collect();
            let hint = match known.is_empty() {
                true => format!(
                    "declare it beside `strategy`: feedback: {{{name}: {{kind: binary, window: 24h}}}}"
                ),
                false => suggestion(name, &known),
            };
            let problem = Problem::new(at("name"), "is no feedback that this model declares");
            self.error(problem.with_value(format!("{name:?}")).with_hint(hint));
            return nothing;
        };
        let range = match feedback.kind {
            FeedbackKind::Binary => Some((0.0, 1.0)),
            FeedbackKind::Bounded { min, max } => Some((min, max)),
            FeedbackKind::Real => None,
            FeedbackKind::Label | FeedbackKind::Clicks => {
                let text = format!("is of kind {}, which has no mean", feedback.kind.name());
                let problem = Problem::new(at("name"), text).with_value(format!("{name:?}"));
                self.error(problem.with_hint("learn from a binary, bounded or real one"));
                Some((0.0, 1.0))
            }
        };
        let gaussian = match raw.posterior.as_deref() {
            None => range.is_none(),
            Some("gaussian") => true,
            Some("beta") if range.is_some() => false,
            Some("beta") => {
                let problem =
                    Problem::new(at("posterior"), "needs values in a range, and a real one has none");
                let hint = "leave it out for gaussian, or declare the feedback `bounded`";
                self.error(problem.with_value("\"beta\"").with_hint(hint));
                true
            }
            Some(word) => {
                let problem = Problem::new(at("posterior"), "is no belief").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["beta", "gaussian"])));
                range.is_none()
            }
        };
        let binary = feedback.kind == FeedbackKind::Binary;
        Reward { name: Arc::clone(&feedback.name), range, binary, lower_is_better, gaussian }
    }

    fn policy(&mut self, path: &str, reward: &Reward, raw: &raw::Strategy) -> BanditPolicy {
        let tuning = raw.tuning.clone().unwrap_or_default();
        let at = |key: &str| join(&join(path, "tuning"), key);
        let mut share = |key: &str, written: &Option<raw::Share>, usual: f64| {
            let Some(share) = self.share(&at(key), written.as_ref()) else { return usual };
            if share == Percent::NONE {
                let problem = Problem::new(at(key), "leaves nothing to explore with").with_value("0%");
                self.error(problem.with_hint("write more than 0%"));
            }
            share.probability()
        };
        let (epsilon, gamma) = (share("epsilon", &tuning.epsilon, 0.1), share("gamma", &tuning.gamma, 0.05));
        let mut number = |key: &str, written: &Option<raw::Amount>, usual: f64| {
            let Some(number) = written.as_ref().and_then(|written| self.amount(&at(key), written)) else {
                return usual;
            };
            if number <= 0.0 {
                let problem = Problem::new(at(key), "is not above 0").with_value(number.to_string());
                self.error(problem.with_hint(format!("write a number above 0; the default is {usual}")));
            }
            number
        };
        let half = reward.range.map_or(1.0, |(low, high)| (high - low) / 2.0);
        let width = number("width", &tuning.width, 1.0);
        let deviation = number("deviation", &tuning.deviation, half);
        let ridge = number("ridge", &tuning.ridge, 1.0);
        let word = raw.policy.as_deref().unwrap_or("thompson");
        let policy = match word {
            "thompson" => BanditPolicy::Thompson,
            "top_two" => BanditPolicy::TopTwo,
            "kl_ucb" => BanditPolicy::KlUcb,
            "ucb1" => BanditPolicy::Ucb1,
            "epsilon_greedy" => BanditPolicy::EpsilonGreedy { epsilon },
            "exp3" => BanditPolicy::Exp3 { gamma },
            "lin_ucb" => BanditPolicy::LinUcb { width, ridge },
            "lin_ts" => BanditPolicy::LinTs { deviation, ridge },
            word => {
                self.unknown(&join(path, "policy"), "policy", word, &POLICIES);
                BanditPolicy::Thompson
            }
        };
        let bounded = matches!(word, "kl_ucb" | "ucb1" | "exp3");
        if bounded && reward.range.is_none() {
            let problem =
                Problem::new(join(path, "policy"), "needs rewards in a range, and a real one has none");
            let hint = "declare the feedback `bounded`, or use thompson, top_two or epsilon_greedy";
            self.error(problem.with_value(format!("{word:?}")).with_hint(hint));
        }
        self.tuned(path, word, &tuning);
        policy
    }

    /// Numbers that another policy has.
    fn tuned(&mut self, path: &str, policy: &str, tuning: &raw::Tuning) {
        let keys: [(&str, bool, &[&str]); 5] = [
            ("epsilon", tuning.epsilon.is_some(), &["epsilon_greedy"]),
            ("gamma", tuning.gamma.is_some(), &["exp3"]),
            ("width", tuning.width.is_some(), &["lin_ucb"]),
            ("deviation", tuning.deviation.is_some(), &["lin_ts"]),
            ("ridge", tuning.ridge.is_some(), &["lin_ucb", "lin_ts"]),
        ];
        for (key, given, policies) in keys {
            if given && !policies.contains(&policy) {
                let text = format!("has no meaning for policy: {policy}");
                let problem = Problem::new(join(&join(path, "tuning"), key), text);
                self.error(
                    problem.with_hint(format!("remove it, or write policy: {}", policies.join(" or "))),
                );
            }
        }
    }

    fn context(
        &mut self,
        path: &str,
        policy: BanditPolicy,
        raw: Option<&[Option<raw::Feature>]>,
    ) -> Vec<ContextSource> {
        let Some(raw) = raw else {
            if policy.is_contextual() {
                self.missing(
                    path,
                    "say what calls are told apart by, like [{metadata: x-age, offset: 40, scale: 20}]",
                );
            }
            return Vec::new();
        };
        if !policy.is_contextual() {
            let problem = Problem::new(path, format!("has no meaning for policy: {}", policy.name()));
            self.error(problem.with_hint("remove it, or write policy: lin_ts or lin_ucb"));
        }
        let mut found = Vec::new();
        for (index, feature) in raw.iter().enumerate() {
            let Some(feature) = feature else { continue };
            found.extend(self.feature(&format!("{path}[{index}]"), feature));
        }
        let features = 1 + found.iter().map(ContextSource::width).sum::<usize>();
        if raw.is_empty() && !self.broken(path) {
            let problem = Problem::new(path, "names nothing that calls are told apart by");
            self.error(problem.with_hint("name one, like {metadata: x-age, offset: 40, scale: 20}"));
        }
        if features > MOST {
            let problem = Problem::new(path, format!("gives {features} features, the constant one included"));
            self.error(problem.with_hint(format!("at most {MOST}: each call costs their square")));
        }
        let inputs = found.iter().filter(|source| matches!(source, ContextSource::Input { .. })).count();
        if inputs > 1 {
            let problem = Problem::new(path, format!("names {inputs} input tensors"));
            self.error(problem.with_hint("name one: a call is read as far as that one"));
        }
        found
    }

    fn feature(&mut self, path: &str, raw: &raw::Feature) -> Option<ContextSource> {
        let at = |key: &str| join(path, key);
        let named = [raw.metadata.is_some(), raw.parameter.is_some(), raw.input.is_some()];
        if named.iter().filter(|given| **given).count() != 1 {
            let problem = Problem::new(path, "does not say where it is from");
            self.error(problem.with_hint("give it one of `metadata`, `parameter` and `input`"));
            return None;
        }
        let key = match (&raw.metadata, &raw.parameter) {
            (Some(name), _) => Some(Key::Metadata(self.metadata(&at("metadata"), name)?)),
            (_, Some(name)) if name.is_empty() => {
                self.error(Problem::new(at("parameter"), "is empty").with_hint("write the parameter's name"));
                return None;
            }
            (_, Some(name)) => Some(Key::Parameter(name.as_str().into())),
            (None, None) => None,
        };
        if raw.size.is_some() && raw.input.is_none() {
            let problem = Problem::new(at("size"), "has no meaning for a single value");
            self.error(problem.with_hint("remove it, or write `input`"));
        }
        if let Some(values) = &raw.values {
            let scaled = [("offset", raw.offset.is_some()), ("scale", raw.scale.is_some())];
            for (word, _) in scaled.iter().filter(|(_, given)| *given) {
                let problem = Problem::new(at(word), "has no meaning for words");
                self.error(problem.with_hint("remove it: each word is a feature of 0 or 1"));
            }
            return self.words(path, key, values);
        }
        let mut number = |word: &str, written: &Option<raw::Amount>, usual: f64| {
            written.as_ref().and_then(|written| self.amount(&at(word), written)).unwrap_or(usual)
        };
        let (offset, scale) = (number("offset", &raw.offset, 0.0), number("scale", &raw.scale, 1.0));
        if scale == 0.0 || !scale.is_finite() {
            let problem = Problem::new(at("scale"), "is nothing to divide by").with_value(scale.to_string());
            self.error(
                problem.with_hint("write how far values usually lie apart, like their standard deviation"),
            );
            return None;
        }
        match (key, &raw.input) {
            (Some(key), _) => Some(ContextSource::Number { key, offset, scale }),
            (None, Some(name)) if !name.is_empty() => {
                if raw.size.is_none() {
                    self.missing(&at("size"), "say how many numbers the tensor must have");
                }
                let size = self.count(&at("size"), raw.size.as_ref(), 1, MOST as u64);
                let size = usize::try_from(size).unwrap_or(1);
                Some(ContextSource::Input { name: name.as_str().into(), size, offset, scale })
            }
            _ => {
                self.error(Problem::new(at("input"), "is empty").with_hint("write the tensor's name"));
                None
            }
        }
    }

    fn words(&mut self, path: &str, key: Option<Key>, values: &[Option<String>]) -> Option<ContextSource> {
        let at = join(path, "values");
        let words: Vec<Arc<str>> = values.iter().flatten().map(|word| word.as_str().into()).collect();
        let mut seen = words.clone();
        seen.sort();
        seen.dedup();
        if words.is_empty() || words.iter().any(|word| word.is_empty()) || seen.len() < words.len() {
            let problem = Problem::new(at, "are no list of different words");
            self.error(problem.with_hint("write like [se, de, us]; any other word counts as none of them"));
            return None;
        }
        let Some(key) = key else {
            let problem = Problem::new(at, "have no meaning for a tensor");
            self.error(problem.with_hint("remove them: its numbers are the features"));
            return None;
        };
        Some(ContextSource::Words { key, values: words })
    }

    fn stop(
        &mut self,
        path: &str,
        policy: BanditPolicy,
        raw: Option<&raw::OrOff<raw::Stop>>,
    ) -> Option<Stop> {
        let usual = (!policy.is_contextual()).then_some(Stop { value_remaining: REMAINING });
        let map = match raw {
            None => return usual,
            Some(raw::OrOff::Word(word)) => {
                self.off(path, word);
                return None;
            }
            Some(raw::OrOff::Map(map)) => map,
        };
        if policy.is_contextual() {
            let problem = Problem::new(path, "needs one best arm, and a context may have each its own");
            self.error(problem.with_hint("write stop: off, or leave it out"));
        }
        let at = join(path, "value_remaining");
        let value_remaining = self.ratio(&at, map.value_remaining.as_ref()).unwrap_or(REMAINING);
        if value_remaining <= 0.0 {
            let problem = Problem::new(at, "would never be reached").with_value("0%");
            self.error(problem.with_hint("write more than 0%; the default is 1%"));
        }
        Some(Stop { value_remaining })
    }

    /// The least effect of interest.
    fn least(&mut self, path: &str, raw: Option<&raw::OrOff<raw::Stop>>) -> Margin {
        let Some(raw::OrOff::Map(map)) = raw else { return LEAST };
        if map.absolute.is_none() && map.relative.is_none() {
            return LEAST;
        }
        let absolute = map.absolute.as_ref().and_then(|raw| self.amount(&join(path, "absolute"), raw));
        if absolute.is_some_and(|absolute| absolute < 0.0) {
            let problem = Problem::new(join(path, "absolute"), "is below 0");
            self.error(problem.with_hint("say how large an effect must be to be of interest"));
        }
        let relative = self.ratio(&join(path, "relative"), map.relative.as_ref());
        self.margin(path, absolute, relative).unwrap_or(LEAST)
    }

    fn floor(&mut self, path: &str, arms: usize, apprentice: bool, raw: Option<&raw::Share>) -> f64 {
        let floor = self.share(path, raw).map_or(FLOOR, Percent::probability);
        let most = 1.0 / arms.max(2) as f64;
        if floor >= most {
            let problem = Problem::new(path, format!("leaves nothing to choose with {arms} variants"));
            let hint = format!("write less than {:.1}%; 1% is usual", most * 100.0);
            self.error(problem.with_value(format!("{}%", floor * 100.0)).with_hint(hint));
        }
        if floor == 0.0 {
            let (text, hint) = match apprentice {
                true => (
                    "leaves every call to the baseline, so nothing is learnt of the others",
                    "with 1% a hundredth of the calls goes to each of them",
                ),
                false => (
                    "lets an arm that was unlucky early get nothing for ever",
                    "1% costs little, and keeps what is said of it true",
                ),
            };
            self.warn(Problem::new(path, text).with_value("0%").with_hint(hint));
        }
        floor
    }

    fn refreshing(&mut self, path: &str, raw: Option<&raw::Refresh>) -> (Duration, u64) {
        let Some(raw) = raw else { return REFRESH };
        let time = self.positive(&join(path, "time"), raw.time.as_ref(), REFRESH.0);
        (time, self.count(&join(path, "values"), raw.values.as_ref(), REFRESH.1, 1 << 32))
    }

    fn memory(&mut self, path: &str, policy: BanditPolicy, raw: &raw::Strategy) -> Memory {
        let at = |key: &str| join(path, key);
        let least = Duration::from_secs(1);
        match (&raw.half_life, &raw.window) {
            (Some(_), Some(_)) => {
                let problem = Problem::new(at("window"), "is given beside `half_life`");
                self.error(problem.with_hint("keep one of them"));
                Memory::Whole
            }
            (Some(half), None) => {
                Memory::HalfLife(self.positive(&at("half_life"), Some(half), least).max(least))
            }
            (None, Some(_)) if policy.is_contextual() => {
                let problem =
                    Problem::new(at("window"), format!("has no meaning for policy: {}", policy.name()));
                self.error(problem.with_hint("write half_life: a regression fades, it does not forget"));
                Memory::Whole
            }
            (None, Some(window)) => {
                let window = self.positive(&at("window"), Some(window), least);
                if window < Duration::from_secs(60) {
                    let problem = Problem::new(at("window"), "is shorter than a minute");
                    self.error(
                        problem.with_value(units::write_duration(window)).with_hint("write 1m or more"),
                    );
                }
                Memory::Window(window)
            }
            (None, None) => Memory::Whole,
        }
    }
}
