//! A rollout of several stages: each is checked as the strategy it is, and the list so that no unit ever leaves the
//! candidate but by its failure.
//!
//! All stages hash with one salt, and the candidate owns the lowest places in each, so its share alone tells who has
//! it: a share that never shrinks from stage to stage moves nobody back. A bandit draws units anew in each epoch, so the
//! promise ends where one begins, which is warned of; after it nothing may come that would promise it again.

use std::sync::Arc;

use super::canary::Around;
use super::strategy::{comparing, default_salt};
use super::{Check, bandit, interleave, rolling};
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::Percent;
use crate::config::{Stage, Staged, Strategy, raw};

/// The kinds that can be stages.
const KINDS: [&str; 5] = ["shadow", "canary", "ab", "bandit", "pinned"];
/// What a stage of copies counts both sides as: each call goes to both.
const HALF: &str = "50%";

/// What all stages have in common.
struct Whole<'a> {
    around: &'a Around<'a>,
    baseline: usize,
    candidate: usize,
    salt: Arc<str>,
}

impl Whole<'_> {
    fn name(&self, variant: usize) -> Option<String> {
        self.around.variants.get(variant).map(|variant| variant.name.to_string())
    }
}

impl Check<'_> {
    pub(super) fn staged(&mut self, path: &str, around: &Around<'_>, raw: &raw::Strategy) -> Strategy {
        let of_a_stage = [
            ("variant", raw.variant.is_some()),
            ("weights", raw.weights.is_some()),
            ("segments", raw.segments.is_some()),
            ("hash", raw.hash.is_some()),
            ("steps", raw.steps.is_some()),
            ("guards", raw.guards.is_some()),
            ("warmup", raw.warmup.is_some()),
            ("alpha", raw.alpha.is_some()),
            ("max_step_time", raw.max_step_time.is_some()),
            ("on_pass", raw.on_pass.is_some()),
            ("on_fail", raw.on_fail.is_some()),
        ];
        let hint = "write it in the stage that it is for";
        self.foreign(path, "staged", hint, &of_a_stage);
        self.foreign(path, "staged", hint, &timed(raw));
        self.foreign(path, "staged", hint, &comparing(raw));
        // The candidate may be among the shadows: it is one, in a stage of that kind.
        let unshadowed = Around { shadows: &[], ..*around };
        let (baseline, candidate) = self.arms(path, &unshadowed, raw);
        let salt = self
            .salt(path, raw.salt.as_deref())
            .unwrap_or_else(|| default_salt(around.model, around.variants, baseline, &[baseline, candidate]));
        let whole = Whole { around, baseline, candidate, salt: Arc::clone(&salt) };
        let at = join(path, "stages");
        let mut stages: Vec<Stage> = Vec::new();
        match raw.stages.as_deref() {
            None => self.missing(&at, "say what it goes through, like [{kind: canary}, {kind: pinned}]"),
            Some([]) => {
                let problem = Problem::new(&*at, "names no stage");
                self.error(problem.with_hint("name at least one, like {kind: canary}"));
            }
            Some(listed) => {
                for (index, raw) in listed.iter().enumerate() {
                    let at = format!("{at}[{index}]");
                    let Some(stage) = raw.as_ref().and_then(|raw| self.stage(&at, &whole, raw)) else {
                        continue;
                    };
                    if stages.iter().any(|known| known.name == stage.name) {
                        let problem = Problem::new(join(&at, "name"), "is the name of a stage before it");
                        let hint = "give each its own `name`; without one it is called by its kind";
                        self.error(problem.with_value(format!("{:?}", stage.name)).with_hint(hint));
                    }
                    stages.push(stage);
                }
                if !self.broken(&at) {
                    self.order(&at, &whole, &stages);
                }
            }
        }
        Strategy::Staged(Arc::new(Staged { baseline, candidate, salt, stages }))
    }

    fn stage(&mut self, path: &str, whole: &Whole<'_>, raw: &raw::Strategy) -> Option<Stage> {
        let of_the_whole = [
            ("baseline", raw.baseline.is_some()),
            ("candidate", raw.candidate.is_some()),
            ("salt", raw.salt.is_some()),
            ("holdout", raw.holdout.is_some()),
            ("layer", raw.layer.is_some()),
        ];
        for (key, _) in of_the_whole.iter().filter(|(_, given)| *given) {
            let problem = Problem::new(join(path, key), "is the same for all stages");
            self.error(problem.with_hint("write it beside `stages`"));
        }
        let kind = raw.kind.as_deref();
        let mut own = raw.clone();
        own.baseline = whole.name(whole.baseline);
        own.salt = Some(whole.salt.to_string());
        if raw.hash.is_some() {
            let problem = Problem::new(join(path, "hash"), "would move units from stage to stage");
            self.error(problem.with_hint("remove it: all stages have one hash"));
        }
        if kind != Some("shadow") {
            self.foreign(path, kind.unwrap_or("canary"), "remove it", &timed(raw));
        }
        if kind == Some("pinned") {
            let switch = [
                ("revert_window", raw.revert_window.is_some()),
                ("max_wait", raw.max_wait.is_some()),
                ("warmup", raw.warmup.is_some()),
                ("guards", raw.guards.is_some()),
                ("alpha", raw.alpha.is_some()),
                ("on_fail", raw.on_fail.is_some()),
            ];
            let hint = "remove it: the stages before have judged the candidate, and roll it back";
            self.foreign(path, "pinned as a stage", hint, &switch);
        }
        self.foreign(path, kind.unwrap_or("canary"), "remove it", &rolling::own(raw));
        if kind != Some("interleave") {
            self.foreign(path, kind.unwrap_or("canary"), "remove it", &interleave::own(raw));
        }
        if kind != Some("bandit") {
            self.foreign(
                path,
                kind.unwrap_or("canary"),
                "remove it, or write kind: bandit",
                &bandit::own(raw),
            );
        }
        let of_stage = Around { stage: Some((whole.baseline, whole.candidate)), ..*whole.around };
        let strategy = match kind {
            Some("canary") => {
                own.candidate = whole.name(whole.candidate);
                self.canary(path, whole.around, &own)
            }
            Some("shadow") => {
                own.candidate = whole.name(whole.candidate);
                self.copies(path, whole.around, own)
            }
            Some("ab") => self.ab(path, &of_stage, &own),
            Some("bandit") => self.bandit(path, &of_stage, &own),
            Some("pinned") => {
                (own.baseline, own.salt) = (None, None);
                own.variant = own.variant.or_else(|| whole.name(whole.candidate));
                self.pinned(path, whole.around.variants, &own)
            }
            Some("interleave") => {
                let text = "gives every call to both rankers, so no unit would have one of them for the next stage to keep";
                let hint = "use kind: interleave by itself first, and a rollout of stages for the one that is preferred";
                self.error(Problem::new(join(path, "kind"), text).with_hint(hint));
                return None;
            }
            Some("staged") => {
                let problem = Problem::new(join(path, "kind"), "has stages of its own");
                self.error(problem.with_hint("write its stages into this list"));
                return None;
            }
            Some(kind) => {
                self.unknown(&join(path, "kind"), "kind of stage", kind, &KINDS);
                return None;
            }
            None => {
                self.missing(&join(path, "kind"), "say how calls are given to variants: kind: canary");
                return None;
            }
        };
        let name = raw.name.clone().unwrap_or_else(|| strategy.kind().to_owned());
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            let problem = Problem::new(join(path, "name"), "is no name for a stage");
            self.error(problem.with_value(format!("{name:?}")).with_hint("use 1 to 64 printable characters"));
        }
        Some(Stage { name: name.into(), strategy })
    }

    /// A stage of copies alone: judged as one step of a canary.
    fn copies(&mut self, path: &str, around: &Around<'_>, mut raw: raw::Strategy) -> Strategy {
        let steps = [("steps", raw.steps.is_some())];
        self.foreign(path, "shadow", "remove it; how long it takes is its `hold` and `calls`", &steps);
        let guards = raw.guards.get_or_insert_default();
        let foreign = [
            ("latency", guards.latency.is_some()),
            ("feedback", guards.feedback.is_some()),
            ("resources", guards.resources.is_some()),
        ];
        let hint = "copies have errors and rejections alone; write it in a later stage";
        self.foreign(&join(path, "guards"), "shadow", hint, &foreign);
        guards.latency = Some(raw::Several::Word("off".to_owned()));
        let share = raw::Share(raw::Written::Text(HALF.to_owned()));
        raw.steps = Some(vec![Some(raw::Step {
            share: Some(share),
            hold: raw.hold.take(),
            calls: raw.calls.take(),
        })]);
        match self.canary(path, around, &raw) {
            Strategy::Canary(canary) => Strategy::Shadow(canary),
            other => other,
        }
    }

    /// That every stage can follow the one before it.
    fn order(&mut self, path: &str, whole: &Whole<'_>, stages: &[Stage]) {
        let mut given = Percent::NONE;
        let (mut copied, mut drawn) = (false, false);
        for (index, stage) in stages.iter().enumerate() {
            let last = index + 1 == stages.len();
            let mut refuse = |key: &str, what: String, hint: &str| {
                let at = join(&format!("{path}[{index}]"), key);
                self.error(Problem::new(at, what).with_hint(hint));
            };
            let moved = |share: Percent| {
                format!(
                    "gives the candidate {share} after a stage that gave it {given}: its units would move back"
                )
            };
            match &stage.strategy {
                Strategy::Shadow(_) if given > Percent::NONE || copied => {
                    let hint = "put the one stage of copies first";
                    refuse("kind", "comes after the candidate has answered, or been copied to".into(), hint);
                }
                Strategy::Shadow(_) => copied = true,
                Strategy::Bandit(_) | Strategy::Ab(_) | Strategy::Canary(_) if drawn => {
                    let text = "comes after a bandit, which draws units anew in each epoch: those that it gave the candidate would move back";
                    refuse(
                        "kind",
                        text.into(),
                        "put it before the bandit, or leave it out; what may follow is kind: pinned",
                    );
                }
                Strategy::Canary(canary) => {
                    let first = canary.steps.first().map_or(Percent::NONE, |step| step.share);
                    if given > Percent::NONE {
                        let hint = "a canary begins with no calls: write all its steps in one stage";
                        refuse("kind", moved(first.min(given)), hint);
                    }
                    given = canary.steps.last().map_or(given, |step| step.share.max(given));
                }
                Strategy::Bandit(bandit) => {
                    drawn = true;
                    if !last && bandit.stop.is_none() {
                        let hint =
                            "let it `stop`, by a policy that has one best variant, or make it the last stage";
                        refuse("kind", "never ends, so no stage after it begins".into(), hint);
                    }
                    if bandit.apprentice && given > Percent::NONE {
                        let hint = "let it loose, or make it the first stage";
                        let floor = Percent::from_thousandths((bandit.floor * 1e5).round() as u32);
                        refuse("mode", moved(floor.unwrap_or(Percent::NONE)), hint);
                    } else if given > Percent::NONE {
                        let at = join(&format!("{path}[{index}]"), "kind");
                        let text = "draws units anew in each epoch: those that have the candidate by then may go back to the baseline";
                        let hint = "where nobody may move back, use kind: ab";
                        self.warn(Problem::new(at, text).with_value("\"bandit\"").with_hint(hint));
                    }
                }
                Strategy::Ab(ab) => {
                    let of = |variant: usize| {
                        let own = ab.weights.iter().find(|(weighted, _)| *weighted == variant);
                        own.map_or(Percent::NONE, |(_, share)| *share)
                    };
                    let share = of(whole.candidate);
                    if share < given {
                        refuse("weights", moved(share), "give it at least as much as the stage before");
                    }
                    let third = ab.weights.iter().find(|(variant, share)| {
                        *share > Percent::NONE && *variant != whole.baseline && *variant != whole.candidate
                    });
                    if third.is_some() {
                        let hint =
                            "only the baseline and the candidate take part; use kind: ab by itself for more";
                        refuse("weights", "gives calls to a third variant".into(), hint);
                    }
                    if !ab.segments.is_empty() {
                        let hint = "remove them, or use kind: ab by itself";
                        refuse("segments", "would move units from stage to stage".into(), hint);
                    }
                    if !last && !stage.strategy.decides() {
                        let hint = "give it something to decide by, or make it the last stage";
                        refuse("kind", "never ends, so no stage after it begins".into(), hint);
                    }
                    given = share.max(given);
                }
                Strategy::Pinned(pinned) => {
                    if pinned.variant != whole.candidate {
                        refuse("variant", moved(Percent::NONE), "name the candidate, or leave it out");
                    }
                    if !last {
                        refuse(
                            "kind",
                            "never ends, so no stage after it begins".into(),
                            "make it the last one",
                        );
                    }
                }
                Strategy::Staged(_) | Strategy::Rolling(_) | Strategy::Interleave(_) => {}
            }
        }
    }
}

/// How long a stage of copies lasts.
fn timed(raw: &raw::Strategy) -> [(&'static str, bool); 2] {
    [("hold", raw.hold.is_some()), ("calls", raw.calls.is_some())]
}

/// In which stages calls are copied to the candidate, where any does: in that of copies, and where a canary is judged by
/// them too.
pub(super) fn copying(strategy: &Strategy) -> Option<(usize, Vec<u32>)> {
    let Strategy::Staged(staged) = strategy else { return None };
    let copies = |stage: &Stage| match &stage.strategy {
        Strategy::Shadow(_) => true,
        Strategy::Canary(canary) => canary.guards.shadow,
        _ => false,
    };
    let stages: Vec<u32> =
        (0..).zip(&staged.stages).filter(|(_, stage)| copies(stage)).map(|(index, _)| index).collect();
    (!stages.is_empty()).then_some((staged.candidate, stages))
}
