//! How a call is given to a variant, and what a rollout that decides is judged on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Key;
use super::units::Percent;
use crate::stats::hash::platforms::Platform;

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
}

/// One variant whose endpoints are replaced when the file gives it another version.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolling {
    /// The variant that answers.
    pub variant: usize,
    /// What its servers shall run; the variant's.
    pub version: Arc<str>,
    /// Endpoints that are replaced at once; at least 1.
    pub batch: usize,
    /// An endpoint is taken out only where so many others are ready; at least 1, less than there are endpoints.
    pub min_ready: usize,
    /// How long calls under way may take before an endpoint counts as drained all the same.
    pub drain_timeout: Duration,
    /// An endpoint that was not replaced, ready and warm for so long after it was drained fails.
    pub replace_timeout: Duration,
    /// How it is known what a server runs.
    pub report: Reporting,
    /// What a replaced server is sent before it is given calls.
    pub warming: Warming,
    /// What becomes of an update that fails.
    pub on_fail: OnFail,
}

/// How it is known what a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporting {
    /// The `versions` that `ModelMetadata` answers.
    Model,
    /// The `version` that `ServerMetadata` answers.
    Server,
    /// The server went away and came back.
    Connection,
}

impl Reporting {
    /// All of them.
    pub const ALL: [Reporting; 3] = [Reporting::Model, Reporting::Server, Reporting::Connection];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Reporting::Model => "model",
            Reporting::Server => "server",
            Reporting::Connection => "connection",
        }
    }
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

/// One variant for everybody. When the file names another one, everything is switched to it at once, as soon as it is
/// ready and warm.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// The variant that answers.
    pub variant: usize,
    /// How long after a switch the variant before is kept for an instant way back.
    pub revert_window: Duration,
    /// What a variant is sent before it is given calls.
    pub warming: Warming,
    /// What the new variant is judged on within the window.
    pub guards: FixedLimits,
    /// Chance that a variant within its limits is ever reverted, over all guards; above 0, at most 0.2.
    pub alpha: f64,
    /// A switch whose variant is not ready and warm for so long holds and alerts.
    pub max_wait: Duration,
    /// What becomes of a variant that breaks a limit.
    pub on_fail: OnFail,
}

/// What a variant is judged on that has nobody beside it: fixed limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FixedLimits {
    /// The largest share of calls that may fail by the variant's own fault; above 0, below 1.
    pub errors: Option<f64>,
    /// The largest share of calls that may take longer.
    pub slow: Vec<SlowLimit>,
}

/// How many calls may be slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowLimit {
    /// Slow is what takes longer than this; above 0.
    pub slower_than: Duration,
    /// The largest share of slow calls; above 0, below 1.
    pub at_most: f64,
}

/// What a variant is sent before it is given calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warming {
    /// So many requests must have been answered OK by each of its endpoints; 0: none is sent.
    pub requests: u64,
    /// After this an endpoint counts as warm without them, unless it fails at all of them.
    pub timeout: Duration,
    /// Where the requests come from; none: kept from live calls.
    pub file: Option<PathBuf>,
}

impl FixedLimits {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.errors.is_some()) + self.slow.len()
    }
}

impl Warming {
    /// Nothing is sent.
    pub const NONE: Warming = Warming { requests: 0, timeout: Duration::from_secs(60), file: None };
}

impl Pinned {
    /// That variant, and everything else as where the file says nothing.
    pub fn new(variant: usize) -> Self {
        Pinned {
            variant,
            revert_window: Duration::from_secs(30 * 60),
            warming: Warming { requests: 20, ..Warming::NONE },
            guards: FixedLimits::default(),
            alpha: 0.01,
            max_wait: Duration::from_secs(3600),
            on_fail: OnFail::Rollback,
        }
    }
}

/// A split that sticks to the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Ab {
    /// Gets what names no unit of an arm: other services, and the share of arms that are not ready.
    pub baseline: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// Whose hash says where a unit falls. With any but flagd's the variants lie one after the other, in the order of
    /// `weights`, as they do there.
    pub hash: Platform,
    /// (variant, share); shares sum to 100 %.
    pub weights: Vec<(usize, Percent)>,
    /// The first that matches a call decides; none: `weights`.
    pub segments: Vec<Segment>,
    /// How the arms are compared; none: it is a split that decides nothing.
    pub judge: Option<Judge>,
}

/// How the arms of a split are compared with its baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    /// Those beside the baseline, in the order of `weights`; at least one, each with a share of its own.
    pub arms: Vec<Arm>,
    /// What a winner is better at, the most important first; none: nobody can win.
    pub metrics: Vec<Metric>,
    /// What a winner is not worse at, and who is takes no calls any more.
    pub guards: Guards,
    /// An arm's latency counts after both of these.
    pub warmup: Warmup,
    /// Chance that an arm that is no better than the baseline ever wins, over all metrics and arms; above 0, at most
    /// 0.2.
    pub alpha: f64,
    /// Nothing is decided on a metric with fewer of them in either arm.
    pub min_units: u64,
    /// Without a verdict for so long it is inconclusive.
    pub max_duration: Duration,
    /// What becomes of a winner.
    pub on_pass: OnPass,
    /// What becomes of an arm that is worse.
    pub on_fail: OnFail,
}

/// A variant beside the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Index into [`super::Model::variants`], below 64.
    pub variant: usize,
    /// Its name there.
    pub name: Arc<str>,
}

/// Something that a winner is better at.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Where its values come from.
    pub source: Source,
    /// The least effect of interest: within it arms are equivalent.
    pub least: Margin,
    /// Whether less is better.
    pub lower_is_better: bool,
}

/// Where the values of a metric come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Values of a feedback.
    Feedback {
        /// Its name in [`super::Model::feedback`].
        name: Arc<str>,
        /// Whether they are 0 or 1.
        binary: bool,
    },
    /// 1 for each call that failed by the variant's own fault, else 0.
    Errors,
    /// 1 for each call that the variant refused for what it asked, else 0.
    Rejections,
    /// The natural logarithm of a call's latency, to the bucket it falls into.
    Latency,
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

/// What a canary is judged on.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Share of calls that fail by the variant's own fault.
    pub errors: Option<Margin>,
    /// Share of calls that the variant refuses for what they ask.
    pub rejections: Option<Margin>,
    /// Quantiles of latency.
    pub latency: Vec<LatencyGuard>,
    /// Means of feedback.
    pub feedback: Vec<FeedbackGuard>,
    /// What its server uses; none: nobody asks.
    pub resources: Option<ResourcesGuard>,
}

/// How much worse a candidate may be: by the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// In the guard's own unit: a share for errors, the feedback's unit for feedback; at least 0.
    pub absolute: f64,
    /// As part of the baseline's value, 0.25 for 25 %; at least 0.
    pub relative: f64,
}

/// A quantile of latency that may grow so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyGuard {
    /// Above 0, below 1.
    pub quantile: f64,
    /// As part of the baseline's, 0.15 for 15 %.
    pub relative: f64,
}

/// A feedback whose mean may become so much worse.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackGuard {
    /// Index into [`super::Model::feedback`]; neither a label nor clicks.
    pub feedback: usize,
    /// Its name there.
    pub name: Arc<str>,
    /// How much.
    pub margin: Margin,
    /// Whether less is better.
    pub lower_is_better: bool,
}

/// What a candidate's server may use beside the baseline's; at least one of both parts is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourcesGuard {
    /// How much more its resident memory may grow than the baseline's, as part of what is resident; above 0.
    pub memory: Option<f64>,
    /// How much more processor time a call may take than the baseline's, as part of it; above 0.
    pub cpu: Option<f64>,
    /// What is compared at once; at least a second.
    pub window: Duration,
    /// What becomes of a candidate that fails this guard.
    pub on_fail: OnFail,
}

/// When a candidate's latency begins to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warmup {
    /// After its first call.
    pub time: Duration,
    /// And after so many calls of it.
    pub calls: u64,
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
        }
    }

    /// The one that is new: it must prove itself, or is switched to.
    pub fn candidate(&self) -> Option<usize> {
        match self {
            Strategy::Pinned(pinned) => Some(pinned.variant),
            Strategy::Ab(_) | Strategy::Rolling(_) => None,
            Strategy::Canary(canary) | Strategy::Shadow(canary) => Some(canary.candidate),
            Strategy::Staged(staged) => Some(staged.candidate),
        }
    }

    /// Those that its evidence may take out.
    pub fn judged(&self) -> Vec<usize> {
        match self {
            Strategy::Rolling(_) => Vec::new(),
            Strategy::Ab(ab) => {
                ab.judge.iter().flat_map(|judge| &judge.arms).map(|arm| arm.variant).collect()
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

    /// Whether it ever changes by itself what a variant gets.
    pub fn decides(&self) -> bool {
        match self {
            Strategy::Pinned(_) => false,
            Strategy::Ab(ab) => ab.judge.is_some(),
            Strategy::Canary(_) | Strategy::Shadow(_) | Strategy::Staged(_) | Strategy::Rolling(_) => true,
        }
    }

    /// Its segments, where it has any.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Strategy::Ab(ab) => &ab.segments,
            _ => &[],
        }
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
            Strategy::Ab(_) | Strategy::Shadow(_) => return None,
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
        }
    }
}
