//! Rankers whose lists are merged: who they are, which outputs are their lists, and what credits them.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use super::canary::Around;
use super::strategy::default_salt;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::{
    Arm, By, Count, Credit, Feedback, FeedbackKind, Interleave, Model, OnFail, OnPass, Strategy, Weigh, raw,
};
use crate::prediction::slots::SLOTS;
use crate::protocol::oip::ranking::Outputs;
use crate::strategy::interleave::{Method, RANKERS};

const ALPHA: f64 = 0.05;
/// 52 of 100 decisive sessions.
const LEAST: f64 = 0.02;
const SESSIONS: u64 = 20;
const DURATION: Duration = Duration::from_secs(28 * 86_400);
const GAP: Duration = Duration::from_secs(30 * 60);
const VOTES: u64 = 10;
const MEMORY: u64 = 64 << 20;
const MEMORIES: (u64, u64) = (1 << 20, 4 << 30);
/// Longest list that is merged.
const LONGEST: u64 = 10_000;
/// Arms are remembered as the bits of a number.
const MOST_VARIANTS: usize = 64;

/// Keys that only this kind has.
pub(super) fn own(raw: &raw::Strategy) -> [(&'static str, bool); 8] {
    [
        ("rankers", raw.rankers.is_some()),
        ("ranking", raw.ranking.is_some()),
        ("merge", raw.merge.is_some()),
        ("length", raw.length.is_some()),
        ("draft", raw.draft.is_some()),
        ("credit", raw.credit.is_some()),
        ("least", raw.least.is_some()),
        ("min_sessions", raw.min_sessions.is_some()),
    ]
}

impl Check<'_> {
    pub(super) fn interleave(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> Strategy {
        let at = |key: &str| join(path, key);
        self.not_interleave(path, raw);
        let (baseline, arms) = self.rankers(path, around, raw);
        let method = self.method(&at("merge"), raw.merge.as_deref());
        if method == Method::Balanced && arms.len() > 1 {
            let problem = Problem::new(at("merge"), "merges two lists, and there are more");
            self.error(problem.with_value("\"balanced\"").with_hint("use team_draft, or name two `rankers`"));
        }
        let credit = self.credit(&at("credit"), around.feedback, method, raw.credit.as_ref());
        let used: Vec<usize> = arms.iter().map(|arm| arm.variant).chain([baseline]).collect();
        let salt = self.salt(path, raw.salt.as_deref());
        let max_duration = self.positive(&at("max_duration"), raw.max_duration.as_ref(), DURATION);
        if credit.session_gap >= max_duration && !self.broken(&at("credit")) {
            let problem = Problem::new(at("max_duration"), "is not longer than credit.session_gap");
            self.error(problem.with_hint("no session would ever have voted; make it longer"));
        }
        Strategy::Interleave(Arc::new(Interleave {
            baseline,
            salt: salt.unwrap_or_else(|| default_salt(around.model, around.variants, baseline, &used)),
            arms,
            outputs: self.outputs(&at("ranking"), raw.ranking.as_ref()),
            method,
            length: self.length(&at("length"), raw.length.as_ref()),
            draft: raw.draft.as_deref().and_then(|text| self.key(&at("draft"), text)),
            credit,
            alpha: self.alpha(&at("alpha"), raw.alpha.as_ref(), ALPHA),
            least: self.least_preference(&at("least"), raw.least.as_ref()),
            min_sessions: self.count(&at("min_sessions"), raw.min_sessions.as_ref(), SESSIONS, 1 << 40),
            max_duration,
            on_pass: self.on_pass(&at("on_pass"), raw.on_pass.as_deref(), OnPass::Wait),
            on_fail: self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Rollback),
        }))
    }

    fn not_interleave(&mut self, path: &str, raw: &raw::Strategy) {
        let others = [
            ("variant", raw.variant.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("hash", raw.hash.is_some()),
            ("candidate", raw.candidate.is_some()),
            ("steps", raw.steps.is_some()),
            ("metrics", raw.metrics.is_some()),
            ("guards", raw.guards.is_some()),
            ("warmup", raw.warmup.is_some()),
            ("min_units", raw.min_units.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
            ("revert_window", raw.revert_window.is_some()),
            ("max_wait", raw.max_wait.is_some()),
        ];
        let hint = "remove it: all `rankers` are asked for every call, and sessions say whom they prefer";
        self.foreign(path, "interleave", hint, &others);
    }

    /// The baseline, and those beside it.
    fn rankers(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> (usize, Vec<Arm>) {
        let variants = around.variants;
        let at = join(path, "rankers");
        let mut named: Vec<usize> = Vec::new();
        match raw.rankers.as_deref() {
            None => {
                let shadow = |name: &str| around.shadows.contains(&name);
                named.extend((0..variants.len()).filter(|variant| !shadow(&variants[*variant].name)));
            }
            Some(list) => {
                for (index, name) in list.iter().enumerate() {
                    let at = format!("{at}[{index}]");
                    let found = name.as_ref().and_then(|name| self.variant_index(&at, name, variants));
                    if found.is_some_and(|found| named.contains(&found)) {
                        self.error(Problem::new(at, "is given twice").with_hint("keep one of them"));
                    } else {
                        named.extend(found);
                    }
                }
            }
        }
        let given = raw.baseline.as_deref();
        let baseline = given.map(|name| self.variant_index(&join(path, "baseline"), name, variants));
        let baseline = baseline.flatten().or(named.first().copied()).unwrap_or(0);
        if !named.contains(&baseline) && !self.broken(path) {
            let problem = Problem::new(join(path, "baseline"), "is none of the `rankers`");
            self.error(problem.with_hint("name it there too: its lists are merged with the others'"));
        }
        let arm = |variant: usize| Some(Arm { variant, name: Arc::clone(&variants.get(variant)?.name) });
        let arms: Vec<Arm> = named
            .iter()
            .filter(|variant| **variant != baseline)
            .filter_map(|variant| arm(*variant))
            .collect();
        if arms.is_empty() && !self.broken(path) && variants.len() > 1 {
            let problem = Problem::new(&*at, "name nobody beside the baseline, so there is nothing to merge");
            self.error(problem.with_hint("name two or more, or leave it out for all variants"));
        }
        if variants.len() == 1 {
            let problem = Problem::new(join(path, "kind"), "needs two variants, and there is one");
            self.error(problem.with_hint("add the other ranker under `variants`, or write kind: pinned"));
        }
        if arms.len() + 1 > RANKERS {
            let problem = Problem::new(&*at, format!("are {}, and {RANKERS} can be merged", arms.len() + 1));
            self.error(problem.with_hint("name fewer: the id of a prediction tells that many apart"));
        }
        if arms.iter().any(|arm| arm.variant >= MOST_VARIANTS) {
            let problem = Problem::new(&*at, "name a variant too far down the list");
            self.error(problem.with_hint("rankers are among the first 64 variants of a model"));
        }
        (baseline, arms)
    }

    fn method(&mut self, path: &str, word: Option<&str>) -> Method {
        let Some(word) = word else { return Method::TeamDraft };
        let found = Method::ALL.into_iter().find(|method| method.name() == word);
        found.unwrap_or_else(|| {
            let problem = Problem::new(path, "is no way to merge").with_value(format!("{word:?}"));
            self.error(problem.with_hint(suggestion(word, &Method::ALL.map(Method::name))));
            Method::TeamDraft
        })
    }

    fn outputs(&mut self, path: &str, raw: Option<&raw::Ranking>) -> Outputs {
        let empty = raw::Ranking::default();
        let found = raw.unwrap_or(&empty);
        let at = |key: &str| join(path, key);
        if found.items.is_none() {
            let hint =
                "name the output that holds the items, the best first, like ranking: {items: item_ids}";
            self.missing(&at("items"), hint);
        }
        let items: Arc<str> = found.items.as_deref().unwrap_or_default().into();
        let scores: Option<Arc<str>> = found.scores.as_deref().map(Into::into);
        let mut known: Vec<Arc<str>> = vec![items.clone()];
        known.extend(scores.clone());
        let mut along: Vec<Arc<str>> = Vec::new();
        let named = found.along.iter().flatten().enumerate();
        let scored = scores.iter().map(|name| (at("scores"), Arc::clone(name)));
        for (place, name) in scored.collect::<Vec<_>>() {
            if name == items && !name.is_empty() {
                let problem =
                    Problem::new(place, "is the output of the items").with_value(format!("{name:?}"));
                self.error(problem.with_hint("name the output that holds their scores, or leave it out"));
            }
        }
        for (index, name) in named {
            let Some(name) = name else { continue };
            let place = format!("{}[{index}]", at("along"));
            if known.iter().any(|other| **other == **name) {
                let problem = Problem::new(place, "is named before it").with_value(format!("{name:?}"));
                self.error(
                    problem.with_hint("items and scores go along anyway; name each other output once"),
                );
            } else {
                known.push(name.as_str().into());
                along.push(name.as_str().into());
            }
        }
        Outputs { items, scores, along }
    }

    fn length(&mut self, path: &str, raw: Option<&raw::Count>) -> Option<usize> {
        let raw::Count(written) = raw?;
        let number = match written {
            raw::Written::Number(number) => number.as_u64().filter(|number| (1..=LONGEST).contains(number)),
            raw::Written::Text(_) => None,
        };
        let Some(length) = number else {
            let problem = Problem::new(path, format!("is not a whole number from 1 to {LONGEST}"));
            let hint = "leave it out, and the list is as long as the baseline's";
            self.error(problem.with_value(written.shown()).with_hint(hint));
            return None;
        };
        if length > SLOTS as u64 {
            let text = format!("is more than the {SLOTS} slots that are analysed");
            let hint = "such lists are merged and served, but nobody is credited; shorter ones find a winner";
            self.warn(Problem::new(path, text).with_value(length.to_string()).with_hint(hint));
        }
        usize::try_from(length).ok()
    }

    fn least_preference(&mut self, path: &str, raw: Option<&raw::Share>) -> f64 {
        let least =
            raw.and_then(|raw| self.share(path, Some(raw))).map_or(LEAST, |share| share.probability());
        if least <= 0.0 || least >= 0.5 {
            let problem = Problem::new(path, "is no part of the sessions above one half");
            self.error(problem.with_hint("5% means 55 of 100 decisive sessions; the default is 2%"));
        }
        least
    }

    fn credit(
        &mut self,
        path: &str,
        declared: &[Feedback],
        method: Method,
        raw: Option<&raw::Credit>,
    ) -> Credit {
        let empty = raw::Credit::default();
        let found = raw.unwrap_or(&empty);
        let at = |key: &str| join(path, key);
        let usual = if method.has_teams() { By::Slot } else { By::Item };
        let votes = self.count(&at("max_votes"), found.max_votes.as_ref(), VOTES, 10_000);
        let credit = Credit {
            feedback: self.credited(&at("feedback"), declared, found.feedback.as_deref()),
            by: self.word(&at("by"), found.by.as_deref(), usual, &[("slot", By::Slot), ("item", By::Item)]),
            count: self.word(
                &at("count"),
                found.count.as_deref(),
                Count::All,
                &[("all", Count::All), ("first", Count::First), ("last", Count::Last)],
            ),
            weigh: self.word(
                &at("weigh"),
                found.weigh.as_deref(),
                Weigh::Votes,
                &[("votes", Weigh::Votes), ("rewards", Weigh::Rewards)],
            ),
            at_least: found.at_least.as_ref().and_then(|amount| self.amount(&at("at_least"), amount)),
            session_gap: self.positive(&at("session_gap"), found.session_gap.as_ref(), GAP),
            max_votes: u16::try_from(votes).unwrap_or(u16::MAX),
            memory: self.size(&at("memory"), found.memory.as_ref(), MEMORY, MEMORIES),
        };
        if !method.has_teams() {
            let hint = "use merge: team_draft, or leave it out";
            let only_teams = [
                ("by", credit.by == By::Slot),
                ("count", credit.count != Count::All),
                ("weigh", credit.weigh == Weigh::Rewards),
            ];
            for (key, _) in only_teams.iter().filter(|(_, given)| *given) {
                let text = format!("has no meaning for merge: {}, whose slots are nobody's", method.name());
                self.error(Problem::new(at(key), text).with_hint(hint));
            }
        }
        let window = declared.iter().find(|one| one.name == credit.feedback).map(|one| one.window);
        if window.is_some_and(|window| window < credit.session_gap) {
            let text = "is shorter than credit.session_gap, so that sessions end by it";
            let problem = Problem::new(at("session_gap"), text);
            self.warn(problem.with_hint("a report that comes after the window of its feedback is refused"));
        }
        credit
    }

    /// The feedback that credits, which must be declared and have numbers.
    fn credited(&mut self, path: &str, declared: &[Feedback], name: Option<&str>) -> Arc<str> {
        let Some(name) = name else {
            let hint = match declared.first() {
                Some(first) => {
                    format!("name what credits the rankers, like credit: {{feedback: {}}}", first.name)
                }
                None => "name what credits the rankers, and declare it: feedback: {clicks: {kind: clicks}}"
                    .to_owned(),
            };
            self.missing(path, &hint);
            return Arc::default();
        };
        match declared.iter().find(|one| *one.name == *name) {
            Some(found) if found.kind == FeedbackKind::Label => {
                let problem = Problem::new(path, "is of kind label, which credits nobody");
                self.error(
                    problem.with_value(format!("{name:?}")).with_hint("use clicks, or another with numbers"),
                );
            }
            Some(found) if found.default.is_some() => {
                let problem = Problem::new(path, "has a default, which no slot could be credited for");
                self.error(problem.with_value(format!("{name:?}")).with_hint("remove the default"));
            }
            Some(_) => {}
            None => {
                let problem = Problem::new(path, "is no feedback that this model declares");
                let hint = format!(
                    "declare it beside `strategy`: feedback: {{{name}: {{kind: clicks, window: 24h}}}}"
                );
                self.error(problem.with_value(format!("{name:?}")).with_hint(hint));
            }
        }
        name.into()
    }

    /// One of a few words.
    fn word<T: Copy>(&mut self, path: &str, word: Option<&str>, usual: T, known: &[(&str, T)]) -> T {
        let Some(word) = word else { return usual };
        if let Some((_, found)) = known.iter().find(|(name, _)| *name == word) {
            return *found;
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let text = format!("is none of {}", names.join(", "));
        self.error(
            Problem::new(path, text).with_value(format!("{word:?}")).with_hint(suggestion(word, &names)),
        );
        usual
    }

    /// Warns where nobody can be told apart from a robot.
    pub(super) fn unknown_voters(&mut self, path: &str, model: &Model) {
        if matches!(model.strategy, Strategy::Interleave(_)) && model.unit.is_empty() && !self.broken(path) {
            let text = "is not given, so every call is a session of its own and votes by itself";
            let hint = "name who somebody is, like [metadata:x-user-id]: one unit then votes once a session, and at most credit.max_votes times a day";
            self.warn(Problem::new(path, text).with_hint(hint));
        }
    }
}
