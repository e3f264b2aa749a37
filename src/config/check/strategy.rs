//! How calls are given to variants, and that every variant gets a chance.

use std::sync::Arc;

use super::canary::Around;
use super::{Check, bandit, interleave, rolling};
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::Percent;
use crate::config::{Ab, Segment, Shadow, Strategy, Variant, raw};

/// The kinds that exist.
const KINDS: [&str; 7] = ["pinned", "ab", "canary", "staged", "rolling", "bandit", "interleave"];

type Weights = Vec<(usize, Percent)>;

impl Check<'_> {
    /// The strategy of the model at `path`; where it is refused, some strategy that is never used.
    pub(super) fn strategy(
        &mut self,
        path: &str,
        around: &Around<'_>,
        raw: Option<&raw::Strategy>,
    ) -> Strategy {
        let variants = around.variants;
        let nothing = Strategy::pinned(0);
        let at = join(path, "strategy");
        let Some(raw) = raw else {
            if variants.len() > 1 {
                let names: Vec<&str> = variants.iter().map(|variant| &*variant.name).collect();
                let hint = format!(
                    "say which of {} answers: {{kind: pinned, variant: {}}}, or kind: ab with weights, or kind: canary",
                    names.join(", "),
                    names[0]
                );
                self.missing(&at, &hint);
            }
            return nothing;
        };
        let staged = [
            ("stages", raw.stages.is_some() && raw.kind.as_deref() != Some("staged")),
            ("name", raw.name.is_some()),
            ("hold", raw.hold.is_some() && !matches!(raw.kind.as_deref(), Some("staged" | "rolling"))),
            ("calls", raw.calls.is_some() && raw.kind.as_deref() != Some("staged")),
        ];
        let kind = raw.kind.as_deref().unwrap_or("pinned");
        self.foreign(&at, kind, "remove it, or write it in one of the `stages` of kind: staged", &staged);
        if kind != "rolling" {
            self.foreign(&at, kind, "remove it, or write kind: rolling", &rolling::own(raw));
        }
        if kind != "bandit" {
            self.foreign(&at, kind, "remove it, or write kind: bandit", &bandit::own(raw));
        }
        if kind != "interleave" {
            self.foreign(&at, kind, "remove it, or write kind: interleave", &interleave::own(raw));
        }
        match raw.kind.as_deref() {
            Some("bandit") => self.bandit(&at, around, raw),
            Some("interleave") => self.interleave(&at, around, raw),
            Some("rolling") => self.rolling(&at, variants, raw),
            Some("pinned") => self.pinned(&at, variants, raw),
            Some("ab") => self.ab(&at, around, raw),
            Some("canary") => self.canary(&at, around, raw),
            Some("staged") => self.staged(&at, around, raw),
            Some("shadow") => {
                let problem = Problem::new(join(&at, "kind"), "is no strategy: it rides on any of them");
                let hint = "use pinned, ab or canary, and name the variant under `shadows` beside `strategy`";
                self.error(problem.with_value("\"shadow\"").with_hint(hint));
                nothing
            }
            Some(kind) => {
                self.unknown(&join(&at, "kind"), "strategy", kind, &KINDS);
                nothing
            }
            None => {
                let canary = raw.steps.is_some() || raw.candidate.is_some() || raw.guards.is_some();
                let guess = match raw.weights.is_some() || raw.segments.is_some() || raw.metrics.is_some() {
                    true => "ab",
                    false if raw.reward.is_some() || raw.policy.is_some() => "bandit",
                    false if canary => "canary",
                    false => "pinned",
                };
                self.missing(
                    &join(&at, "kind"),
                    &format!("say how calls are given to variants: kind: {guess}"),
                );
                nothing
            }
        }
    }

    pub(super) fn ab(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> Strategy {
        let (model, variants) = (around.model, around.variants);
        let variant = [("variant", raw.variant.is_some())];
        self.foreign(path, "ab", "remove it, or write kind: pinned", &variant);
        self.only_canary(path, "ab", raw);
        let switch = [("revert_window", raw.revert_window.is_some()), ("max_wait", raw.max_wait.is_some())];
        self.foreign(path, "ab", "remove it, or write kind: pinned", &switch);
        let baseline = raw.baseline.as_deref();
        let baseline = baseline.map(|name| self.variant_index(&join(path, "baseline"), name, variants));
        let at = join(path, "weights");
        let weights = match &raw.weights {
            Some(weights) => self.weights(&at, weights, variants),
            None => {
                self.missing(&at, "give each variant its share, like {v1: 50%, v2: 50%}");
                Vec::new()
            }
        };
        let segments =
            self.segments(&join(path, "segments"), variants, raw.segments.as_deref().unwrap_or_default());
        let baseline = baseline.flatten().unwrap_or(0);
        let given = self.salt(path, raw.salt.as_deref());
        let shares = segments.iter().flat_map(|segment| &segment.weights).chain(&weights);
        let used: Vec<usize> = shares.map(|(variant, _)| *variant).collect();
        let salt = given.unwrap_or_else(|| default_salt(model, variants, baseline, &used));
        let hash = self.hash(&join(path, "hash"), raw.hash.as_deref());
        let split = Ab { baseline, salt, hash, weights, segments, judge: None };
        let judge = self.judge(path, around, &split, raw);
        Strategy::Ab(Arc::new(Ab { judge, ..split }))
    }

    /// The salt that the file gives.
    pub(super) fn salt(&mut self, path: &str, given: Option<&str>) -> Option<Arc<str>> {
        let salt = given?;
        if salt.is_empty() {
            let problem = Problem::new(join(path, "salt"), "is empty").with_value("\"\"");
            self.error(problem.with_hint("leave it out, or write a text no other rollout uses"));
        }
        Some(salt.into())
    }

    /// Keys that another kind has.
    pub(super) fn foreign(&mut self, path: &str, kind: &str, hint: &str, keys: &[(&str, bool)]) {
        for (key, _) in keys.iter().filter(|(_, given)| *given) {
            let problem = Problem::new(join(path, key), format!("has no meaning for kind: {kind}"));
            self.error(problem.with_hint(hint));
        }
    }

    fn only_canary(&mut self, path: &str, kind: &str, raw: &raw::Strategy) {
        let keys = [
            ("candidate", raw.candidate.is_some()),
            ("steps", raw.steps.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
        ];
        self.foreign(path, kind, "remove it, or write kind: canary", &keys);
    }

    /// Guards that compare one candidate with the baseline: of several variants nobody could say whom they mean.
    pub(super) fn guards_of_canaries(&mut self, path: &str, kind: &str, raw: &raw::Strategy) {
        let Some(guards) = &raw.guards else { return };
        let keys = [("resources", guards.resources.is_some()), ("shadow", guards.shadow.is_some())];
        self.foreign(&join(path, "guards"), kind, "remove it, or write kind: canary", &keys);
    }

    fn segments(
        &mut self,
        path: &str,
        variants: &[Variant],
        segments: &[Option<raw::Segment>],
    ) -> Vec<Segment> {
        let mut found: Vec<Segment> = Vec::new();
        for (index, raw) in segments.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(raw) = raw else { continue };
            let name = raw.name.clone().unwrap_or_else(|| format!("segment-{}", index + 1));
            if found.iter().any(|segment| *segment.name == *name) {
                let problem = Problem::new(join(&path, "name"), "is the name of a segment before it");
                self.error(problem.with_value(format!("{name:?}")).with_hint("give each its own"));
            }
            if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
                let problem = Problem::new(join(&path, "name"), "is no name for a segment");
                self.error(
                    problem.with_value(format!("{name:?}")).with_hint("use 1 to 128 printable characters"),
                );
            }
            let matches = self.matches(&join(&path, "match"), raw.matches.as_ref());
            let weights = self.segment_weights(&path, variants, raw);
            if let (Some(matches), Some(weights)) = (matches, weights) {
                found.push(Segment { name: name.into(), matches, weights });
            }
        }
        found
    }

    fn segment_weights(&mut self, path: &str, variants: &[Variant], raw: &raw::Segment) -> Option<Weights> {
        match (&raw.variant, &raw.weights) {
            (Some(name), None) => {
                let variant = self.variant_index(&join(path, "variant"), name, variants)?;
                Some(vec![(variant, Percent::ALL)])
            }
            (None, Some(weights)) => Some(self.weights(&join(path, "weights"), weights, variants)),
            (Some(_), Some(_)) => {
                let problem = Problem::new(join(path, "weights"), "is given beside `variant`");
                self.error(problem.with_hint("keep one of them"));
                None
            }
            (None, None) => {
                if !self.broken(path) {
                    let problem = Problem::new(path, "says which calls, but not who answers them");
                    self.error(problem.with_hint("give it a `variant`, or `weights`"));
                }
                None
            }
        }
    }

    fn weights(&mut self, path: &str, raw: &raw::Named<raw::Share>, variants: &[Variant]) -> Weights {
        let mut weights = Vec::new();
        for (name, share) in &raw.0 {
            let path = join(path, name);
            let variant = self.variant_index(&path, name, variants);
            let share = self.share(&path, share.as_ref());
            weights.extend(variant.zip(share));
        }
        let sum: u64 = weights.iter().map(|(_, share)| u64::from(share.thousandths())).sum();
        if sum == u64::from(Percent::ALL.thousandths()) || self.broken(path) {
            return weights;
        }
        let problem = match sum {
            0 => Problem::new(path, "sums to nothing").with_hint("shares must sum to 100%"),
            sum => {
                let off = i128::from(Percent::ALL.thousandths()) - i128::from(sum);
                let (by, word) = (off.unsigned_abs(), if off > 0 { "missing" } else { "too much" });
                let text = format!("sums to {}, not to 100%", thousandths(u128::from(sum)));
                Problem::new(path, text).with_hint(format!("{} is {word}", thousandths(by)))
            }
        };
        self.error(problem);
        weights
    }

    /// The index of the variant of that name, which must exist.
    pub(super) fn variant_index(&mut self, path: &str, name: &str, variants: &[Variant]) -> Option<usize> {
        let index = variants.iter().position(|variant| *variant.name == *name);
        if index.is_none() && !variants.is_empty() {
            let known: Vec<&str> = variants.iter().map(|variant| &*variant.name).collect();
            self.unknown(path, "variant of this model", name, &known);
        }
        index
    }

    /// Variants of the model at `path` that no call could ever reach: forgotten, or misspelled elsewhere.
    pub(super) fn unused(
        &mut self,
        path: &str,
        variants: &[Variant],
        strategy: &Strategy,
        shadows: &[Shadow],
    ) {
        let hint = match strategy {
            // What is not pinned today may be tomorrow: it is kept ready for that.
            Strategy::Pinned(_) | Strategy::Rolling(_) => return,
            Strategy::Ab(_) => "remove it, name it under `shadows`, or give it a weight (0% keeps it ready)",
            // Everybody takes part.
            Strategy::Bandit(_) => return,
            Strategy::Interleave(_) => "remove it, name it under `shadows`, or among the `rankers`",
            Strategy::Canary(_) | Strategy::Shadow(_) | Strategy::Staged(_) => {
                "remove it, name it under `shadows`, or make it the `baseline` or the `candidate`"
            }
        };
        if self.broken(&join(path, "strategy")) || self.broken(&join(path, "shadows")) {
            return;
        }
        let used: Vec<usize> = named(strategy).map(|(variant, _)| variant).collect();
        for (index, variant) in variants.iter().enumerate() {
            let is_control = |shadow: &Shadow| {
                let control = shadow.judging.as_ref().and_then(|judging| judging.control.as_ref());
                control.is_some_and(|control| control.index == Some(index))
            };
            let copied = |shadow: &Shadow| shadow.variant == index || is_control(shadow);
            if !used.contains(&index) && !shadows.iter().any(copied) {
                let path = join(&join(path, "variants"), &variant.name);
                self.error(Problem::new(path, "is a variant that the strategy never uses").with_hint(hint));
            }
        }
    }
}

/// Keys of every strategy that decides, and which of them are given.
pub(super) fn deciding(raw: &raw::Strategy) -> [(&'static str, bool); 5] {
    [
        ("guards", raw.guards.is_some()),
        ("warmup", raw.warmup.is_some()),
        ("alpha", raw.alpha.is_some()),
        ("on_pass", raw.on_pass.is_some()),
        ("on_fail", raw.on_fail.is_some()),
    ]
}

/// Keys of a comparison of several, and which of them are given.
pub(super) fn comparing(raw: &raw::Strategy) -> [(&'static str, bool); 4] {
    [
        ("metrics", raw.metrics.is_some()),
        ("test", raw.test.is_some()),
        ("min_units", raw.min_units.is_some()),
        ("max_duration", raw.max_duration.is_some()),
    ]
}

/// Every variant that a strategy names, with a share that it is given there.
pub(super) fn named(strategy: &Strategy) -> Box<dyn Iterator<Item = (usize, Percent)> + '_> {
    match strategy {
        Strategy::Pinned(pinned) => Box::new(std::iter::once((pinned.variant, Percent::ALL))),
        Strategy::Ab(ab) => {
            let shares = ab.segments.iter().flat_map(|segment| &segment.weights).chain(&ab.weights);
            Box::new(shares.copied().chain([(ab.baseline, Percent::ALL)]))
        }
        Strategy::Canary(canary) => {
            Box::new([(canary.baseline, Percent::ALL), (canary.candidate, Percent::ALL)].into_iter())
        }
        Strategy::Shadow(canary) => Box::new(std::iter::once((canary.baseline, Percent::ALL))),
        Strategy::Rolling(rolling) => Box::new(std::iter::once((rolling.variant, Percent::ALL))),
        Strategy::Bandit(bandit) => Box::new(bandit.arms.iter().map(|arm| (arm.variant, Percent::ALL))),
        Strategy::Interleave(interleave) => {
            Box::new(interleave.rankers().map(|ranker| (ranker, Percent::ALL)))
        }
        Strategy::Staged(staged) => {
            Box::new([(staged.baseline, Percent::ALL), (staged.candidate, Percent::ALL)].into_iter())
        }
    }
}

/// A sum of shares, which may be more than everything.
fn thousandths(sum: u128) -> String {
    let text = format!("{}.{:03}", sum / 1000, sum % 1000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The rollout and what is new in it: another build is another rollout, and splits anew. A variant that the strategy
/// does not name has no part in it: a shadow comes and goes, and every unit stays where it is.
pub(super) fn default_salt(model: &str, variants: &[Variant], baseline: usize, used: &[usize]) -> Arc<str> {
    let new = variants.iter().enumerate().filter(|(index, _)| *index != baseline && used.contains(index));
    let new = new.map(|(_, variant)| {
        variant.digest.as_deref().or(variant.version.as_deref()).unwrap_or(&variant.name)
    });
    format!("{model}/{}", new.collect::<Vec<_>>().join(",")).into()
}
