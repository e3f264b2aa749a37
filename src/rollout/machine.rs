//! One rollout as it moves: the strategy's own state machine, and what a person may do to any of them.
//!
//! Two things are added to what a strategy decides. A build that was rolled back gets nothing in any later revision
//! either, until a person lets it. And epochs go on counting where a rollout begins anew, so that no two splits of
//! one model are ever taken for one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Model, Strategy};
use crate::evidence::{Copies, Gain, Readings};
use crate::feedback::{Ballot, FeedbackGain};
use crate::strategy::course::{Course, Learnt, Past, Ready};
use crate::strategy::{Out, Split, Standing, rolling};
use crate::verdict::{Action, Change, Command, Finding, Refused, Report, State, Verdict};

/// Marks the epochs of a replica that decided alone.
const ALONE: u32 = 1 << 31;

/// What a rollout remembers; written down as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Epochs of machines before this one.
    base: u32,
    since: Duration,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Decides nothing; a person may give everything to one variant.
    Steady { pinned: Option<usize>, epoch: u32 },
    /// Moves by its evidence.
    Course(Course),
    /// Its candidate was rolled back before this revision began.
    Blocked {
        why: String,
        /// Who has everything meanwhile; none: the baseline.
        #[serde(default)]
        serves: Option<usize>,
    },
}

impl Machine {
    /// At the beginning of a revision; `blocked`: why the candidate may get nothing, if so.
    pub(crate) fn begin(
        model: &Model,
        blocked: Option<String>,
        (base, past): (u32, Option<Past>),
        now: Duration,
    ) -> Self {
        let kind = match (Course::begin(&model.strategy, past, now), blocked) {
            // What has everything already, or from whom nobody can take over, is not held back.
            (Some(course), Some(_)) if course.state() == State::Steady => Kind::Course(course),
            // Its servers go back to what they ran, one by one.
            (Some(Course::Rolling(mut progress)), Some(why)) => {
                progress.block(why);
                Kind::Course(Course::Rolling(progress))
            }
            (Some(_), Some(why)) => Kind::Blocked { why, serves: past.map(|past| past.serves) },
            (Some(course), None) => Kind::Course(course),
            (None, _) => Kind::Steady { pinned: None, epoch: 0 },
        };
        Machine { base, since: now, kind }
    }

    /// Keeps these out from the start, where others are left.
    pub(super) fn exclude(&mut self, model: &Model, out: Out, now: Duration) {
        if let Kind::Course(course) = &mut self.kind {
            course.exclude(&model.strategy, out, now);
        }
    }

    pub(crate) fn standing(&self, model: &Model) -> Standing {
        let of = |split| Standing { split, ..Standing::CONFIGURED };
        let standing = match &self.kind {
            Kind::Steady { pinned, .. } => of(pinned.map_or(Split::Configured, Split::Only)),
            Kind::Course(course) => course.standing(),
            Kind::Blocked { serves, .. } => of(Split::Only(serves.unwrap_or(model.baseline()))),
        };
        Standing { epoch: self.epoch(), ..standing }
    }

    /// Who has everything, for what comes after; none where calls are split, or that is not known. `baseline`: the
    /// model's, where it is known.
    pub(super) fn past(&self, baseline: Option<usize>) -> Option<Past> {
        let alone = |serves| Past { serves, before: None };
        match &self.kind {
            Kind::Steady { pinned, .. } => pinned.map(alone),
            Kind::Course(course) => course.past(baseline),
            Kind::Blocked { serves, .. } => serves.or(baseline).map(alone),
        }
    }

    /// Whether calls that one variant gets alone are judged now.
    pub(super) fn judges_alone(&self, model: &Model) -> bool {
        matches!(&self.kind, Kind::Course(course) if course.judges_alone(&model.strategy))
    }

    /// The variant that must be warm before it is given calls, where one waits for that.
    pub(super) fn warms(&self, model: &Model) -> Option<usize> {
        match &self.kind {
            Kind::Course(course) => course.warms(&model.strategy),
            Kind::Steady { .. } | Kind::Blocked { .. } => None,
        }
    }

    /// A switch that is under way, or can be reverted: the variant before and the new one.
    pub(super) fn switch(&self) -> Option<(usize, usize)> {
        match &self.kind {
            Kind::Course(Course::Switch(switch)) => switch.between(),
            Kind::Course(_) | Kind::Steady { .. } | Kind::Blocked { .. } => None,
        }
    }

    /// Counts the changes of the split, over all machines of the model.
    pub(super) fn epoch(&self) -> u32 {
        let own = match &self.kind {
            Kind::Steady { epoch, .. } => *epoch,
            Kind::Course(course) => course.standing().epoch,
            Kind::Blocked { .. } => 0,
        };
        self.base.saturating_add(own)
    }

    /// One try of the candidate, of all tries of this revision: what a rollback ends for good.
    pub(crate) fn generation(&self) -> u32 {
        self.base & !ALONE
    }

    /// Counts its epochs where no plan of the fleet ever will, for this replica decided alone.
    pub(super) fn be_alone(&mut self) {
        self.base |= ALONE;
    }

    /// Takes the candidate out, for another replica of the fleet rolled it back; `everywhere`: for all, else here until a
    /// plan says so.
    pub(crate) fn take_out(&mut self, model: &Model, why: &str, everywhere: bool, now: Duration) -> Change {
        let from = self.state();
        let serves = self.switch().map(|(old, _)| old);
        let base = if everywhere { self.epoch().saturating_add(1) } else { self.base | ALONE };
        *self = Machine { base, since: now, kind: Kind::Blocked { why: why.to_owned(), serves } };
        let step = matches!(model.strategy, Strategy::Canary(_)).then_some(0);
        let (variants, findings) = (Vec::new(), Vec::new());
        let (action, to) = (Action::RolledBack, State::RolledBack);
        Change { action, why: why.to_owned(), from, to, step, share: 0.0, variants, findings }
    }

    pub(crate) fn state(&self) -> State {
        match &self.kind {
            Kind::Steady { pinned: None, .. } => State::Steady,
            Kind::Steady { pinned: Some(_), .. } => State::Pinned,
            Kind::Course(course) => course.state(),
            Kind::Blocked { .. } => State::RolledBack,
        }
    }

    /// Takes over what the machine before knew of the same servers; `ran`: what the file said that they run.
    pub(super) fn inherit(&mut self, model: &Model, before: &Machine, ran: Option<&Arc<str>>) {
        let (Kind::Course(Course::Rolling(progress)), Strategy::Rolling(rolling)) =
            (&mut self.kind, &model.strategy)
        else {
            return;
        };
        match (&before.kind, ran, model.variants.get(rolling.variant)) {
            (Kind::Course(Course::Rolling(before)), ..) => progress.inherit(before),
            (_, Some(ran), Some(variant)) => {
                let addresses = variant.endpoints.iter().map(|endpoint| endpoint.address.to_string().into());
                progress.suppose(addresses, ran);
            }
            _ => {}
        }
    }

    /// Takes over what a machine before learnt of the same feedback and of arms of the same builds: `known` says which
    /// variant was which build, `strategy` how it was learnt.
    pub(super) fn remember(
        &mut self,
        model: &Model,
        before: &Machine,
        (known, strategy): (&[Build], &Strategy),
        now: Duration,
    ) {
        let (Kind::Course(course), Kind::Course(before)) = (&mut self.kind, &before.kind) else { return };
        let same = |name: &str| {
            let build = known.iter().find(|(known, _)| **known == *name).map(|(_, build)| build);
            let now = model.variant(name).and_then(|variant| model.variants.get(variant));
            now.zip(build).is_some_and(|(now, build)| now.build == *build)
        };
        if strategy.teaches(model.strategy.reward()) {
            let names: Vec<Arc<str>> = known.iter().map(|(name, _)| Arc::clone(name)).collect();
            course.remember(&model.strategy, before, strategy, (&names, &same), now);
        }
    }

    /// The rolling update under way, if that is what it is.
    pub(super) fn rolling(&self) -> Option<&rolling::Progress> {
        match &self.kind {
            Kind::Course(Course::Rolling(progress)) => Some(progress),
            _ => None,
        }
    }

    /// Takes in how the endpoints of a rolling update are.
    pub(super) fn observe(&mut self, model: &Model, seen: &[rolling::Seen], now: Duration) {
        if let (Kind::Course(Course::Rolling(progress)), Strategy::Rolling(rolling)) =
            (&mut self.kind, &model.strategy)
        {
            progress.observe(rolling, seen, now);
        }
    }

    /// Adds what calls showed.
    pub(crate) fn absorb(&mut self, model: &Model, mut gain: Gain, now: Duration) {
        if let Kind::Course(course) = &mut self.kind
            && let Some(epoch) = gain.epoch.checked_sub(self.base)
        {
            gain.epoch = epoch;
            course.absorb(&model.strategy, &gain, now);
        }
    }

    /// Adds votes of sessions; whether anything asks for them.
    pub(super) fn vote(&mut self, model: &Model, ballot: &Ballot) -> bool {
        let Kind::Course(course) = &mut self.kind else { return false };
        ballot.epoch >= self.base && course.vote(&model.strategy, &ballot.votes)
    }

    /// Adds what feedback showed; whether a guard asks for it.
    pub(super) fn learn(&mut self, model: &Model, gain: &FeedbackGain) -> bool {
        let Kind::Course(course) = &mut self.kind else { return false };
        let Some(epoch) = gain.epoch.checked_sub(self.base) else { return false };
        let rewards = gain.rewards.as_ref();
        let learnt = Learnt { feedback: &gain.feedback, epoch, variants: &gain.variants, rewards };
        course.learn(&model.strategy, &learnt)
    }

    /// Adds what copies and their calls showed.
    pub(super) fn absorb_copies(&mut self, model: &Model, copies: &Copies, now: Duration) {
        if let Kind::Course(course) = &mut self.kind {
            course.absorb_copies(&model.strategy, copies, now);
        }
    }

    /// Takes what the candidate's answers to copies prove by now.
    pub(super) fn absorb_judged(&mut self, finding: &Finding) {
        if let Kind::Course(course) = &mut self.kind {
            course.absorb_judged(finding);
        }
    }

    /// Adds what the servers of both variants said of themselves.
    pub(super) fn absorb_readings(&mut self, model: &Model, readings: &Readings, now: Duration) {
        if let Kind::Course(course) = &mut self.kind {
            course.absorb_readings(&model.strategy, readings, now);
        }
    }

    /// Changes by itself what calls are given by, without a change of plan; whether they must be told.
    pub(crate) fn refresh(&mut self, model: &Model, now: Duration) -> bool {
        match &mut self.kind {
            Kind::Course(course) => course.refresh(&model.strategy, now),
            Kind::Steady { .. } | Kind::Blocked { .. } => false,
        }
    }

    /// Makes again what is not written down; to be called after a restart.
    pub(super) fn recall(&mut self, model: &Model, now: Duration) {
        if let Kind::Course(course) = &mut self.kind {
            course.recall(&model.strategy, now);
        }
    }

    /// Moves by one, where that is due.
    pub(crate) fn look(&mut self, model: &Model, ready: Ready<'_>, now: Duration) -> Option<Change> {
        match &mut self.kind {
            Kind::Course(course) => course.look(&model.strategy, ready, now),
            Kind::Steady { .. } | Kind::Blocked { .. } => None,
        }
    }

    /// Does what a person wants.
    pub(super) fn command(
        &mut self,
        model: &Model,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        if self.state() == State::RolledBack
            && self.rolling().is_none()
            && let Some(course) = Course::begin(&model.strategy, self.past(Some(model.baseline())), now)
        {
            return self.unblock(&model.strategy, course, command, ready, now);
        }
        match &mut self.kind {
            Kind::Course(course) => course.command(&model.strategy, command, ready, now),
            Kind::Steady { .. } | Kind::Blocked { .. } => self.steady(model, command, ready, now),
        }
    }

    /// A person lets a build that was rolled back try again, from the first step and with no evidence.
    fn unblock(
        &mut self,
        strategy: &Strategy,
        mut course: Course,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        let base = self.epoch().saturating_add(1);
        let change = match command {
            Command::Resume => Change {
                action: Action::Resumed,
                why: "a person's command: the build may try again, from the beginning".to_owned(),
                from: State::RolledBack,
                to: course.state(),
                step: matches!(strategy, Strategy::Canary(_)).then_some(0),
                share: 0.0,
                variants: Vec::new(),
                findings: Vec::new(),
            },
            Command::Promote => {
                let change = course.command(strategy, command, ready, now)?;
                Change { from: State::RolledBack, ..change }
            }
            Command::Rollback | Command::Pause | Command::Pin(_) => {
                return Err(Refused::State {
                    command: command.name(),
                    state: State::RolledBack.name(),
                    remedy: "its build is blocked; resume it to let it try again, promote it, or give the candidate another build",
                });
            }
        };
        *self = Machine { base, since: now, kind: Kind::Course(course) };
        Ok(change)
    }

    /// What a person can do to a strategy that decides nothing.
    fn steady(
        &mut self,
        model: &Model,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        let from = self.state();
        let Kind::Steady { pinned, epoch } = &mut self.kind else { return Err(meaningless(model, command)) };
        let (action, wanted) = match command {
            Command::Pin(variant) => {
                ready(*variant)?;
                (Action::Pinned, Some(*variant))
            }
            Command::Resume if pinned.is_some() => (Action::Resumed, None),
            Command::Resume => {
                let remedy = "it is as the file says; pin a variant to change that";
                return Err(Refused::State { command: command.name(), state: from.name(), remedy });
            }
            Command::Promote | Command::Rollback | Command::Pause => return Err(meaningless(model, command)),
        };
        if *pinned != wanted {
            *epoch += 1;
        }
        *pinned = wanted;
        self.since = now;
        let why = format!("a person's command: {}", command.name());
        let (variants, findings) = (Vec::new(), Vec::new());
        Ok(Change { action, why, from, to: self.state(), step: None, share: 0.0, variants, findings })
    }

    /// Everything a status page says, but for the calls of strategies that decide nothing.
    pub(crate) fn report(&self, model: &Model, now: Duration) -> Report {
        if let Kind::Course(course) = &self.kind
            && let Some(report) = course.report(&model.strategy, model.variants.len(), now)
        {
            return report;
        }
        Report {
            state: self.state(),
            step: None,
            stage: None,
            shares: shares(model, &self.standing(model)),
            calls: vec![0; model.variants.len()],
            since: now.saturating_sub(self.since),
            findings: Vec::new(),
            verdict: Verdict::NotEnoughData,
            waits_for: match &self.kind {
                Kind::Blocked { why, .. } => format!("{why}; a person may resume or promote it"),
                Kind::Steady { pinned: Some(_), .. } => "a person to resume it".to_owned(),
                Kind::Steady { .. } | Kind::Course(_) => String::new(),
            },
            learning: None,
        }
    }
}

/// What each variant gets of the calls that match no segment.
fn shares(model: &Model, standing: &Standing) -> Vec<f64> {
    let only = |variant: usize| match (&standing.split, &model.strategy) {
        (Split::Only(only), _) => f64::from(u8::from(*only == variant)),
        (_, Strategy::Ab(ab)) => {
            let own = ab.weights.iter().filter(|(weighted, _)| *weighted == variant);
            own.map(|(_, share)| share.probability()).sum()
        }
        _ => f64::from(u8::from(model.baseline() == variant)),
    };
    (0..model.variants.len()).map(only).collect()
}

fn meaningless(model: &Model, command: &Command) -> Refused {
    Refused::Meaningless { command: command.name(), kind: model.strategy.kind() }
}

/// A machine with what it can only be read with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) revision: u32,
    /// Names behind the indices.
    pub(super) variants: Vec<Arc<str>>,
    pub(super) machine: Machine,
}

impl Saved {
    /// Whether it can go on with `model` as it is now: the same revision, and every index means the same variant.
    pub(super) fn fits(&self, model: &Model) -> bool {
        self.revision == model.revision && same(&self.variants, model)
    }
}

/// Whether indices into `names` mean the same in `model`: variants may only have come or gone behind the others.
pub(super) fn same(names: &[Arc<str>], model: &Model) -> bool {
    names.iter().zip(&model.variants).all(|(name, variant)| *name == variant.name)
}

/// A variant, and its build.
type Build = (Arc<str>, Arc<str>);

/// Which variant is which build.
pub(super) fn known(model: &Model) -> Vec<Build> {
    model.variants.iter().map(|variant| (Arc::clone(&variant.name), Arc::clone(&variant.build))).collect()
}

/// The names behind a model's indices.
pub(super) fn names(model: &Model) -> Vec<Arc<str>> {
    model.variants.iter().map(|variant| Arc::clone(&variant.name)).collect()
}

mod shared;
#[cfg(test)]
mod tests;

pub(crate) use shared::Strict;
