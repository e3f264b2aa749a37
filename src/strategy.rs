//! Which variant a call is given to: the call and one draw of chance in, an [`Assignment`] out.
//!
//! A closed set of kinds, each in a file of its own. All of it is pure: the same call and the same draw give the same
//! answer in every process, today and in a year.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::assignment::{Assignment, Odds, Reason};
use crate::call::Call;
use crate::config::units::Percent;
use crate::config::{self, Admission, Force, Holdout, Key, Layer, Match};
use crate::evidence::epoch;
use crate::stats::hash::platforms::Platform;

pub mod ab;
pub mod bandit;
pub mod canary;
pub mod copied;
pub mod course;
pub(crate) mod guards;
pub mod interleave;
mod limits;
pub mod pinned;
mod ranges;
pub mod rolling;
pub mod staged;
mod steered;
mod unit;

use ab::Ab;
use bandit::{Bandit, Beliefs, Drawn, Shares};
use canary::Canary;
use interleave::Interleave;
use pinned::Pinned;
use unit::UnitKey;

/// One model's strategy, made from a configuration and used until the next.
#[derive(Debug, Clone)]
pub struct Strategy {
    kind: Kind,
    unit: Vec<Key>,
    unit_key: UnitKey,
    /// What names a list that is asked for page by page.
    draft: Option<Key>,
    force: Force,
    variants: Vec<Arc<str>>,
    /// See [`config::Model::arms`].
    arms: Vec<usize>,
    admission: Admission,
    baseline: usize,
    /// Whose layers they are.
    platform: Platform,
}

#[derive(Debug, Clone)]
enum Kind {
    Pinned(Pinned),
    Ab(Ab),
    Canary(Canary),
    Bandit(Bandit),
    Interleave(Interleave),
    /// By stage.
    Staged(Vec<Kind>),
}

/// Where a rollout stands: what its strategy must know beside the call. Published by whoever keeps the rollout, read
/// for every call.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Counts the changes of the split since the revision began, so that evidence of two splits is never mixed.
    pub epoch: u32,
    /// Which of the rollout's stages splits the calls, from 0; 0 where there is but one strategy.
    pub stage: u32,
    /// Who gets what.
    pub split: Split,
    /// What a bandit's calls need beside their shares; none where they need nothing.
    pub beliefs: Option<Arc<Beliefs>>,
}

/// Who gets what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// As the file says, for strategies that decide nothing.
    Configured,
    /// One variant gets everything.
    Only(usize),
    /// The candidate gets this share, the baseline the rest.
    Candidate(Percent),
    /// As the file says, but for these: what they had is the baseline's.
    Without(Out),
    /// Each arm of a bandit its own, in the order of [`config::Bandit::arms`].
    Shares(Shares),
}

/// Variants that were taken out, of the first 64 of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out(u64);

impl Out {
    /// Nobody.
    pub const NONE: Out = Out(0);

    /// With that one too.
    pub fn with(self, variant: usize) -> Self {
        u32::try_from(variant)
            .ok()
            .and_then(|bit| 1_u64.checked_shl(bit))
            .map_or(self, |bit| Out(self.0 | bit))
    }

    /// Whether that one is out.
    pub fn has(self, variant: usize) -> bool {
        Out::NONE.with(variant).0 & self.0 != 0
    }
}

impl Split {
    /// Who is taken out of what the file says.
    fn out(self) -> Out {
        match self {
            Split::Without(out) => out,
            Split::Configured | Split::Only(_) | Split::Candidate(_) | Split::Shares(_) => Out::NONE,
        }
    }
}

impl Standing {
    /// Of a rollout that decides nothing.
    pub const CONFIGURED: Standing = Standing { epoch: 0, stage: 0, split: Split::Configured, beliefs: None };
}

/// What was decided for a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The variant, why, and how likely that was.
    pub assignment: Assignment,
    /// Keyed hash of the call's unit, never the unit itself; `None` where it brought none.
    pub unit: Option<u64>,
    /// Index of the segment that matched, among the strategy's; `None`: the strategy's own weights.
    pub segment: Option<usize>,
    /// What a bandit drew it from; `None` where none did.
    pub drawn: Option<Drawn>,
}

impl Decision {
    /// Without a draw: that variant, for that reason.
    pub fn certain(variant: usize, reason: Reason) -> Self {
        let assignment = Assignment { variant, reason, propensity: 1.0 };
        Decision { assignment, unit: None, segment: None, drawn: None }
    }
}

/// Why a variant that a caller asked for is not given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This caller may not force: the header counts as not sent.
    NotAllowed,
    /// The caller may, but there is no such variant.
    Unknown,
}

impl Kind {
    fn new(strategy: &config::Strategy) -> Self {
        match strategy {
            config::Strategy::Pinned(pinned) => Kind::Pinned(Pinned::new(pinned.variant)),
            config::Strategy::Ab(ab) => Kind::Ab(Ab::new(ab)),
            config::Strategy::Canary(canary) => Kind::Canary(Canary::new(canary)),
            config::Strategy::Bandit(bandit) => Kind::Bandit(Bandit::new(bandit)),
            config::Strategy::Shadow(canary) => Kind::Pinned(Pinned::new(canary.baseline)),
            config::Strategy::Rolling(rolling) => Kind::Pinned(Pinned::new(rolling.variant)),
            config::Strategy::Interleave(interleave) => Kind::Interleave(Interleave::new(interleave)),
            config::Strategy::Staged(staged) => {
                Kind::Staged(staged.stages.iter().map(|stage| Kind::new(&stage.strategy)).collect())
            }
        }
    }

    /// The one that splits the calls in that stage.
    fn at(&self, stage: u32) -> &Kind {
        match self {
            Kind::Staged(stages) => stages.get(stage as usize).or(stages.last()).unwrap_or(self),
            _ => self,
        }
    }

    /// Where a unit falls among 100,000 places in that epoch; none where nothing is drawn.
    fn place(&self, epoch: u32, unit: &str) -> Option<u32> {
        match self {
            Kind::Pinned(_) | Kind::Interleave(_) => None,
            Kind::Ab(ab) => Some(ab.place(unit)),
            Kind::Canary(canary) => Some(canary.place(unit)),
            Kind::Bandit(bandit) => Some(bandit.place(epoch, unit)),
            // All stages have the same salt, and those that draw anew are asked by themselves.
            Kind::Staged(stages) => {
                let mut settled = stages.iter().filter(|stage| !matches!(stage, Kind::Bandit(_)));
                settled.find_map(|stage| stage.place(epoch, unit))
            }
        }
    }

    /// The rules that choose segments.
    fn rules(&self) -> Box<dyn Iterator<Item = &Match> + '_> {
        match self {
            Kind::Pinned(_) | Kind::Canary(_) | Kind::Bandit(_) | Kind::Interleave(_) => {
                Box::new(std::iter::empty())
            }
            Kind::Ab(ab) => Box::new(ab.rules()),
            Kind::Staged(stages) => Box::new(stages.iter().flat_map(Kind::rules)),
        }
    }
}

impl Strategy {
    /// The strategy of `model`; `unit_key` is the secret without which a unit's hash tells nothing about the unit.
    pub fn new(model: &config::Model, unit_key: &[u8; 32]) -> Self {
        Strategy {
            kind: Kind::new(&model.strategy),
            unit: model.unit.clone(),
            unit_key: UnitKey::new(unit_key),
            draft: match &model.strategy {
                config::Strategy::Interleave(interleave) => interleave.draft.clone(),
                _ => None,
            },
            force: model.force.clone(),
            variants: model.variants.iter().map(|variant| Arc::clone(&variant.name)).collect(),
            arms: model.arms(),
            admission: model.admission.clone(),
            baseline: model.baseline(),
            platform: match &model.strategy {
                config::Strategy::Ab(ab) => ab.hash,
                _ => Platform::Flagd,
            },
        }
    }

    /// Gives `call` to a variant, as the rollout stands.
    ///
    /// `draw` is uniform over all 32 bits and used only where the call brings no unit. `ready` says of a variant,
    /// by its index, whether it may get calls; it is not asked about the baseline, which has no stand-in.
    pub fn assign(
        &self,
        standing: &Standing,
        call: &Call<'_>,
        draw: u32,
        ready: &dyn Fn(usize) -> bool,
    ) -> Decision {
        let unit = self.unit_of(call);
        if let Some(reason) = self.outside(standing, unit) {
            let unit = unit.map(|unit| self.keyed(unit));
            return Decision { unit, ..Decision::certain(self.baseline, reason) };
        }
        if let (Kind::Bandit(bandit), Split::Shares(shares)) = (self.kind.at(standing.stage), &standing.split)
        {
            let given = (standing.epoch, shares, standing.beliefs.as_deref());
            let (assignment, drawn) = bandit.assign(given, (call, unit), draw, ready);
            return Decision { assignment, unit: unit.map(|unit| self.keyed(unit)), segment: None, drawn };
        }
        let (assignment, segment) = match (self.kind.at(standing.stage), standing.split) {
            (_, Split::Only(variant)) => {
                (Assignment { variant, reason: Reason::Decided, propensity: 1.0 }, None)
            }
            (Kind::Pinned(pinned), _) => (pinned.assign(), None),
            (Kind::Interleave(interleave), _) => (interleave.assign(), None),
            (Kind::Ab(ab), _) => {
                let segment = ab.segment(call);
                (ab.assign((segment, standing.split.out()), unit, draw, ready), segment)
            }
            (Kind::Canary(canary), Split::Candidate(share)) => {
                (canary.assign(share, unit, draw, ready), None)
            }
            (Kind::Canary(canary), Split::Configured | Split::Without(_) | Split::Shares(_)) => {
                (canary.assign(Percent::NONE, unit, draw, ready), None)
            }
            // Nobody knows its shares yet: the baseline answers.
            (Kind::Bandit(_), _) => {
                let reason = Reason::Decided;
                (Assignment { variant: self.baseline, reason, propensity: 1.0 }, None)
            }
            // A list of stages is never empty, and has none in it.
            (Kind::Staged(_), _) => {
                (Assignment { variant: 0, reason: Reason::Decided, propensity: 1.0 }, None)
            }
        };
        Decision { assignment, unit: unit.map(|unit| self.keyed(unit)), segment, drawn: None }
    }

    /// Who gets calls that name no model, where that is not the baseline: while a switch waits, the variant before.
    pub fn unnamed(&self, standing: &Standing) -> Option<usize> {
        match (&self.kind, standing.split) {
            (Kind::Pinned(_), Split::Only(variant)) => Some(variant),
            _ => None,
        }
    }

    /// Why a unit takes no part, where it does not. A call without a unit takes none where units are shared out.
    fn outside(&self, standing: &Standing, unit: Option<&str>) -> Option<Reason> {
        if matches!(standing.split, Split::Only(_)) {
            return None;
        }
        let Admission { holdout, layer } = &self.admission;
        let held = |holdout: &Holdout| {
            unit.is_none_or(|unit| {
                Platform::Flagd.layer_place(&holdout.salt, unit) < holdout.share.thousandths()
            })
        };
        let elsewhere = |layer: &Layer| {
            let places = layer.from.thousandths()..layer.to.thousandths();
            unit.is_none_or(|unit| !places.contains(&self.platform.layer_place(&layer.name, unit)))
        };
        if holdout.as_ref().is_some_and(held) {
            return Some(Reason::Holdout);
        }
        layer.as_ref().is_some_and(elsewhere).then_some(Reason::Layer)
    }

    /// Whose lists are merged, the baseline first, as the rollout stands; none where one variant answers.
    pub fn rankers(&self, standing: &Standing) -> Option<Vec<usize>> {
        match (self.kind.at(standing.stage), standing.split) {
            (_, Split::Only(_)) => None,
            (Kind::Interleave(interleave), split) => Some(interleave.rankers(split)),
            _ => None,
        }
    }

    /// What names the list that a call asks a page of; none: it is a list of its own.
    pub fn draft<'a>(&self, call: &Call<'a>) -> Option<&'a str> {
        call.value(self.draft.as_ref()?)
    }

    /// How likely each arm is for a call that was decided so, as the rollout stands; none where calls are not split.
    pub fn odds(&self, standing: &Standing, decided: &Decision, ready: &dyn Fn(usize) -> bool) -> Odds {
        let segment = decided.segment;
        let mut odds = Odds::new(self.arms.len());
        let mut set = |variant: usize, probability: f64| {
            if let Some(arm) = self.arms.iter().position(|arm| *arm == variant) {
                odds.set(arm, probability);
            }
        };
        match (self.kind.at(standing.stage), standing.split) {
            (_, Split::Only(_))
            | (Kind::Pinned(_) | Kind::Staged(_) | Kind::Interleave(_), _)
            | (Kind::Canary(_), Split::Configured | Split::Without(_) | Split::Shares(_)) => {
                return Odds::NONE;
            }
            (Kind::Bandit(bandit), _) => match &decided.drawn {
                Some(drawn) => bandit.each(&drawn.shares, ready, &mut set),
                None => return Odds::NONE,
            },
            (Kind::Ab(ab), split) => ab.each((segment, split.out()), ready, &mut set),
            (Kind::Canary(canary), Split::Candidate(share)) => canary.each(share, ready, &mut set),
        }
        odds
    }

    /// Whether a call that was given so enters its arm's evidence: where chance decided by the shares of its split, and
    /// no variant of them was away.
    pub fn is_evidence(
        &self,
        standing: &Standing,
        decision: &Decision,
        ready: &dyn Fn(usize) -> bool,
    ) -> bool {
        let assignment = &decision.assignment;
        match self.kind.at(standing.stage) {
            Kind::Interleave(_) => false,
            Kind::Pinned(_) | Kind::Canary(_) | Kind::Staged(_) => epoch::counts(assignment),
            Kind::Bandit(bandit) => {
                let whole = |drawn: &Drawn| bandit.is_whole(&drawn.shares, ready);
                epoch::counts(assignment) && decision.drawn.as_ref().is_some_and(whole)
            }
            Kind::Ab(ab) => {
                matches!(assignment.reason, Reason::Split | Reason::Draw | Reason::Segment)
                    && assignment.propensity < 1.0
                    && ab.is_whole((decision.segment, standing.split.out()), ready)
            }
        }
    }

    /// Gives `call` to the variant that its `parhelion-variant` names, where its caller may ask for that.
    ///
    /// Whether the variant is ready is not asked: who forces one wants its answer or an error, not another's answer.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn forced(&self, call: &Call<'_>, variant: &str) -> Result<Decision, Refused> {
        let allowed = match &self.force {
            Force::Nobody => false,
            Force::Anyone => true,
            Force::Matching(rule) => matches(rule, call),
        };
        if !allowed {
            return Err(Refused::NotAllowed);
        }
        let variant = self.variants.iter().position(|name| **name == *variant).ok_or(Refused::Unknown)?;
        Ok(Decision { unit: self.unit_hash(call), ..Decision::certain(variant, Reason::Forced) })
    }

    /// Where the call's unit falls among 100,000 places; `None` where it brings none, or nothing is drawn.
    pub fn place(&self, standing: &Standing, call: &Call<'_>) -> Option<u32> {
        let unit = self.unit_of(call)?;
        match self.kind.at(standing.stage) {
            Kind::Bandit(bandit) => Some(bandit.place(standing.epoch, unit)),
            _ => self.kind.place(standing.epoch, unit),
        }
    }

    /// Which places belong to whom for a call that a bandit drew for, while all are ready, in order.
    pub fn drawn_from(&self, standing: &Standing, shares: &Shares) -> Vec<(usize, Range<u32>)> {
        match self.kind.at(standing.stage) {
            Kind::Bandit(bandit) => bandit.intervals(shares),
            _ => Vec::new(),
        }
    }

    /// What calls are told apart by; none where they are not.
    pub fn context(&self) -> Option<&bandit::context::Reader> {
        let stages = match &self.kind {
            Kind::Staged(stages) => &stages[..],
            kind => std::slice::from_ref(kind),
        };
        stages.iter().find_map(|stage| match stage {
            Kind::Bandit(bandit) => Some(bandit.context()).filter(|context| !context.is_empty()),
            _ => None,
        })
    }

    /// Which places belong to whom while all are ready, in order, for calls that `segment` matches or none.
    pub fn intervals(&self, standing: &Standing, segment: Option<usize>) -> Vec<(usize, Range<u32>)> {
        let all = 0..Percent::ALL.thousandths();
        match (self.kind.at(standing.stage), standing.split) {
            (_, Split::Only(variant)) => vec![(variant, all)],
            (Kind::Pinned(pinned), _) => vec![(pinned.assign().variant, all)],
            (Kind::Interleave(interleave), _) => vec![(interleave.assign().variant, all)],
            (Kind::Ab(ab), split) => ab.intervals((segment, split.out())),
            (Kind::Canary(canary), Split::Candidate(share)) => canary.intervals(share),
            (Kind::Canary(canary), Split::Configured | Split::Without(_) | Split::Shares(_)) => {
                canary.intervals(Percent::NONE)
            }
            (Kind::Bandit(bandit), Split::Shares(shares)) => bandit.intervals(&shares),
            (Kind::Bandit(_), _) => vec![(self.baseline, all)],
            (Kind::Staged(_), _) => Vec::new(),
        }
    }

    /// Keyed hash of the call's unit, for calls that are not assigned here; `None` where it brings none.
    pub fn unit_hash(&self, call: &Call<'_>) -> Option<u64> {
        self.unit_of(call).map(|unit| self.keyed(unit))
    }

    /// Whether a decision can hang on a parameter of the message, so that parameters must be read.
    pub fn reads_parameters(&self) -> bool {
        let named = |rule: &Match| rule.0.iter().any(|(key, _)| matches!(key, Key::Parameter(_)));
        let in_kind = self.kind.rules().any(named);
        let in_draft = matches!(&self.draft, Some(Key::Parameter(_)));
        let in_force = matches!(&self.force, Force::Matching(rule) if named(rule));
        let in_context = self.context().is_some_and(bandit::context::Reader::reads_parameters);
        in_kind
            || in_draft
            || in_force
            || in_context
            || self.unit.iter().any(|key| matches!(key, Key::Parameter(_)))
    }

    /// The first of the unit's keys that the call has.
    fn unit_of<'a>(&self, call: &Call<'a>) -> Option<&'a str> {
        self.unit.iter().find_map(|key| call.value(key))
    }

    fn keyed(&self, unit: &str) -> u64 {
        self.unit_key.hash(unit.as_bytes())
    }
}

/// Whether all pairs of `rule` are equal in `call`.
fn matches(rule: &Match, call: &Call<'_>) -> bool {
    rule.0.iter().all(|(key, want)| call.value(key) == Some(want))
}

#[cfg(test)]
mod tests;
