//! How a call is given to a variant, and what a rollout that decides is judged on.

use std::sync::Arc;
use std::time::Duration;

use super::Key;
use super::units::Percent;

mod ab;
mod bandit;
mod guards;
mod interleave;
mod pinned;
mod rolling;

pub use ab::{Ab, Arm, Judge, Metric, Source, Test};
pub use bandit::{Bandit, ContextSource, Memory, Policy as BanditPolicy, Reward, Stop};
pub use guards::{FeedbackGuard, Guards, LatencyGuard, Margin, ResourcesGuard, Warmup};
pub use interleave::{By, Count, Credit, Interleave, Weigh};
pub use pinned::{FixedLimits, Pinned, SlowLimit, Warming};
pub use rolling::{Reporting, Rolling};

/// How a call is given to a variant. Indices point into [`super::Model::variants`].
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// Always the same one.
    Pinned(Arc<Pinned>),
    /// By weight, sticky by unit.
    Ab(Arc<Ab>),
    /// A growing share for one candidate that is judged all the time.
    Canary(Arc<Canary>),
    /// Copies for one candidate, judged as the one step of a canary is; the baseline answers. Only as a stage.
    Shadow(Arc<Canary>),
    /// Several of the others, one after the other, for one candidate.
    Staged(Arc<Staged>),
    /// One variant for everybody, whose servers are replaced in place, a batch of endpoints at a time.
    Rolling(Arc<Rolling>),
    /// More to whoever earns more, while it learns.
    Bandit(Arc<Bandit>),
    /// All are asked, and their lists merged into one answer.
    Interleave(Arc<Interleave>),
}

/// Who takes part in a rollout that splits units; everybody, where nothing is said. The others get the baseline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admission {
    /// Units that take part in no rollout with that holdout.
    pub holdout: Option<Holdout>,
    /// Rollouts of one layer share the units out between them.
    pub layer: Option<Layer>,
}

/// Units that are kept out of everything, so that what all rollouts did together can be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    /// Of all units; above 0, at most 20 %.
    pub share: Percent,
    /// The same in all rollouts that it is to be held out of; another one holds out others.
    pub salt: Arc<str>,
}

/// A part of the units that no other rollout of the layer has.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Of the layer.
    pub name: Arc<str>,
    /// Places that take part, from 0 to below 100 %; never empty.
    pub from: Percent,
    /// Where they end.
    pub to: Percent,
}

/// A candidate that gets a growing share while it proves itself against the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// Who is known to be good.
    pub baseline: usize,
    /// Who must prove itself; not the baseline.
    pub candidate: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// At least one; shares grow from step to step and stay below 100 %.
    pub steps: Vec<Step>,
    /// What it is judged on.
    pub guards: Guards,
    /// The candidate's latency counts after both of these.
    pub warmup: Warmup,
    /// What the candidate is sent before its first step.
    pub warming: Warming,
    /// Chance that a candidate as good as its margins allow is ever rolled back, over all guards; above 0, at most
    /// 0.2.
    pub alpha: f64,
    /// A step that found no verdict for so long holds and alerts.
    pub max_step_time: Duration,
    /// What becomes of a candidate that passed the last step.
    pub on_pass: OnPass,
    /// What becomes of one that fails.
    pub on_fail: OnFail,
}

/// One step of a canary.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The candidate's.
    pub share: Percent,
    /// Lasts at least this long.
    pub hold: Duration,
    /// And at least so many calls of the candidate.
    pub calls: u64,
}

/// One rollout that goes through several strategies. No unit that a stage gave to the candidate leaves it in a later one.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Who is known to be good.
    pub baseline: usize,
    /// Who must prove itself; not the baseline.
    pub candidate: usize,
    /// Of every stage; never used by another rollout.
    pub salt: Arc<str>,
    /// At least one. Each has the baseline, the candidate and the salt of the whole, and none has stages of its own.
    pub stages: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its own among the stages.
    pub name: Arc<str>,
    /// How it splits the calls, and what must be proven in it.
    pub strategy: Strategy,
}

/// What becomes of a candidate that passed the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPass {
    /// It gets everything.
    Promote,
    /// It stays at the last step until a person decides.
    Wait,
}

/// What becomes of a candidate that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFail {
    /// It gets nothing any more.
    Rollback,
    /// It stays where it is, and an alert says so.
    Hold,
}

/// Calls that are split differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Said in spans and `explain`.
    pub name: Arc<str>,
    /// Which calls.
    pub matches: Match,
    /// (variant, share); one entry of 100 % where the segment names a variant.
    pub weights: Vec<(usize, Percent)>,
}

/// All pairs must be equal; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Match(pub Vec<(Key, String)>);

impl OnPass {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            OnPass::Promote => "promote",
            OnPass::Wait => "wait",
        }
    }
}

impl OnFail {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            OnFail::Rollback => "rollback",
            OnFail::Hold => "hold",
        }
    }
}

impl Strategy {
    /// Always that variant.
    pub fn pinned(variant: usize) -> Self {
        Strategy::Pinned(Arc::new(Pinned::new(variant)))
    }

    /// The variant that gets what is not assigned: calls that name no model, and what other variants cannot take.
    pub fn baseline(&self) -> usize {
        match self {
            Strategy::Pinned(pinned) => pinned.variant,
            Strategy::Ab(ab) => ab.baseline,
            Strategy::Canary(canary) | Strategy::Shadow(canary) => canary.baseline,
            Strategy::Staged(staged) => staged.baseline,
            Strategy::Rolling(rolling) => rolling.variant,
            Strategy::Bandit(bandit) => bandit.baseline,
            Strategy::Interleave(interleave) => interleave.baseline,
        }
    }

    /// The one that is new: it must prove itself, or is switched to.
    pub fn candidate(&self) -> Option<usize> {
        match self {
            Strategy::Pinned(pinned) => Some(pinned.variant),
            Strategy::Ab(_) | Strategy::Rolling(_) | Strategy::Bandit(_) | Strategy::Interleave(_) => None,
            Strategy::Canary(canary) | Strategy::Shadow(canary) => Some(canary.candidate),
            Strategy::Staged(staged) => Some(staged.candidate),
        }
    }

    /// Those that its evidence may take out.
    pub fn judged(&self) -> Vec<usize> {
        match self {
            Strategy::Rolling(rolling) => vec![rolling.variant],
            Strategy::Interleave(interleave) => interleave.arms.iter().map(|arm| arm.variant).collect(),
            Strategy::Ab(ab) => {
                ab.judge.iter().flat_map(|judge| &judge.arms).map(|arm| arm.variant).collect()
            }
            Strategy::Bandit(bandit) => {
                let arms = bandit.arms.iter().map(|arm| arm.variant);
                arms.filter(|variant| *variant != bandit.baseline).collect()
            }
            Strategy::Pinned(_) | Strategy::Canary(_) | Strategy::Shadow(_) | Strategy::Staged(_) => {
                self.candidate().into_iter().collect()
            }
        }
    }

    /// What its units are hashed with; none where nothing is split.
    pub fn salt(&self) -> Option<&str> {
        match self {
            Strategy::Pinned(_) | Strategy::Rolling(_) => None,
            Strategy::Ab(ab) => Some(&ab.salt),
            Strategy::Bandit(bandit) => Some(&bandit.salt),
            Strategy::Interleave(interleave) => Some(&interleave.salt),
            Strategy::Canary(canary) | Strategy::Shadow(canary) => Some(&canary.salt),
            Strategy::Staged(staged) => Some(&staged.salt),
        }
    }

    /// The strategy of that stage, from 0; itself where it has no stages.
    pub fn at(&self, stage: u32) -> &Strategy {
        match self {
            Strategy::Staged(staged) => {
                let stage = staged.stages.get(stage as usize).or(staged.stages.last());
                stage.map_or(self, |stage| &stage.strategy)
            }
            _ => self,
        }
    }

    /// Its stages; one, itself, where it has none.
    pub fn stages(&self) -> impl Iterator<Item = &Strategy> {
        let stages = match self {
            Strategy::Staged(staged) => &staged.stages[..],
            _ => &[],
        };
        let own = stages.is_empty().then_some(self);
        stages.iter().map(|stage| &stage.strategy).chain(own)
    }

    /// The same, with a chance of a false failure that is so many times less: so many that look apart from each other have
    /// the first one's chance together.
    pub fn stricter(&self, times: usize) -> Strategy {
        let times = times.max(1) as f64;
        let canary = |canary: &Canary| Arc::new(Canary { alpha: canary.alpha / times, ..canary.clone() });
        match self {
            Strategy::Canary(found) => Strategy::Canary(canary(found)),
            Strategy::Shadow(found) => Strategy::Shadow(canary(found)),
            Strategy::Staged(staged) => {
                let mut staged = Staged::clone(staged);
                for stage in &mut staged.stages {
                    stage.strategy = stage.strategy.stricter(times as usize);
                }
                Strategy::Staged(Arc::new(staged))
            }
            Strategy::Ab(ab) => {
                let mut ab = Ab::clone(ab);
                ab.judge = ab.judge.map(|judge| Judge { alpha: judge.alpha / times, ..judge });
                Strategy::Ab(Arc::new(ab))
            }
            Strategy::Pinned(found) => {
                Strategy::Pinned(Arc::new(Pinned { alpha: found.alpha / times, ..Pinned::clone(found) }))
            }
            Strategy::Rolling(found) => {
                Strategy::Rolling(Arc::new(Rolling { alpha: found.alpha / times, ..Rolling::clone(found) }))
            }
            Strategy::Bandit(found) => {
                Strategy::Bandit(Arc::new(Bandit { alpha: found.alpha / times, ..Bandit::clone(found) }))
            }
            Strategy::Interleave(found) => Strategy::Interleave(Arc::new(Interleave {
                alpha: found.alpha / times,
                ..Interleave::clone(found)
            })),
        }
    }

    /// Whether replicas that meet in a store are one rollout. Who replaces servers one by one does so alone.
    pub fn is_shared(&self) -> bool {
        self.decides() && !matches!(self, Strategy::Rolling(_))
    }

    /// Whether it ever changes by itself what a variant gets.
    pub fn decides(&self) -> bool {
        match self {
            Strategy::Pinned(_) => false,
            Strategy::Ab(ab) => ab.judge.is_some(),
            Strategy::Canary(_)
            | Strategy::Shadow(_)
            | Strategy::Staged(_)
            | Strategy::Rolling(_)
            | Strategy::Bandit(_)
            | Strategy::Interleave(_) => true,
        }
    }

    /// Its segments, where it has any.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Strategy::Ab(ab) => &ab.segments,
            _ => &[],
        }
    }

    /// Whether what it finds of that feedback is of use to a bandit that learns from it.
    pub fn teaches(&self, reward: Option<&Arc<str>>) -> bool {
        let Some(reward) = reward else { return false };
        match self {
            Strategy::Bandit(bandit) => bandit.reward.name == *reward,
            Strategy::Ab(ab) => {
                let asked = |metric: &Metric| matches!(&metric.source, Source::Feedback { name, .. } if name == reward);
                ab.judge.as_ref().is_some_and(|judge| judge.metrics.iter().any(asked))
            }
            _ => false,
        }
    }

    /// The feedback that it learns from, where it or one of its stages does.
    pub fn reward(&self) -> Option<&Arc<str>> {
        self.stages().find_map(|stage| match stage {
            Strategy::Bandit(bandit) => Some(&bandit.reward.name),
            _ => None,
        })
    }

    /// Whether a variant beside the baseline may be given calls.
    pub fn has_alternatives(&self) -> bool {
        !matches!(self, Strategy::Pinned(_) | Strategy::Rolling(_))
    }

    /// What a variant is sent before it is given calls, where anything is.
    pub fn warming(&self) -> Option<&Warming> {
        let warming = match self {
            Strategy::Pinned(pinned) => &pinned.warming,
            Strategy::Canary(canary) => &canary.warming,
            Strategy::Rolling(rolling) => &rolling.warming,
            Strategy::Staged(staged) => {
                // The last stage, which may be pinned, gives calls to nobody who had none.
                let canaries = staged.stages.iter().map(|stage| &stage.strategy);
                return canaries.filter(|one| matches!(one, Strategy::Canary(_))).find_map(Self::warming);
            }
            Strategy::Ab(_) | Strategy::Shadow(_) | Strategy::Bandit(_) | Strategy::Interleave(_) => {
                return None;
            }
        };
        (warming.requests > 0).then_some(warming)
    }

    /// As written in the file, and in spans and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Strategy::Pinned(_) => "pinned",
            Strategy::Ab(_) => "ab",
            Strategy::Canary(_) => "canary",
            Strategy::Shadow(_) => "shadow",
            Strategy::Staged(_) => "staged",
            Strategy::Rolling(_) => "rolling",
            Strategy::Bandit(_) => "bandit",
            Strategy::Interleave(_) => "interleave",
        }
    }
}
