//! Several strategies one after the other for one candidate: one rollout that keeps what it learnt.
//!
//! Each stage is driven as it would be alone. What would promote the candidate begins the next stage instead, in the
//! same look, so that no call ever sees a split between the two; what fails it ends the rollout from any stage.
//! Feedback is kept for the stages to come: it weighs every unit by the odds it met, so what an earlier stage learnt
//! counts in a later one as it is, and a bandit begins with all that was earned before it. Calls count in the stage they
//! were made in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::course::{Course, Learnt, Ready};
use super::{Split, Standing};
use crate::config::{Stage, Staged, Strategy};
use crate::evidence::{Copies, Gain, Readings, Rewards, Scores};
use crate::verdict::{self, Action, Change, Command, Finding, Refused, Report, State, Verdict};

/// Everything that a rollout of several stages remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    stage: u32,
    /// Epochs of the stages before.
    base: u32,
    at: At,
    entered: Duration,
    /// Calls that each variant was given in stages before.
    calls: Vec<u64>,
    /// By feedback, and by variant: what the stages to come begin with.
    learnt: BTreeMap<String, Vec<Scores>>,
    /// What a bandit begins with, where one is to come.
    #[serde(default)]
    rewards: Rewards,
}

/// What the rollout is at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// A stage that moves by itself.
    Course(Box<Course>),
    /// A last stage that splits the calls and decides nothing.
    Split,
    /// The end: one variant gets everything.
    Over { state: State, variant: usize },
}

impl Progress {
    /// At the first stage.
    pub fn begin(staged: &Staged, now: Duration) -> Self {
        let mut progress = Progress {
            stage: 0,
            base: 0,
            at: At::Split,
            entered: now,
            calls: Vec::new(),
            learnt: BTreeMap::new(),
            rewards: Rewards::default(),
        };
        progress.enter(staged, 0, now);
        progress.base = 0;
        progress
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match &self.at {
            At::Course(course) => course.state(),
            At::Split => State::Running,
            At::Over { state, .. } => *state,
        }
    }

    /// What the call path must know. Beyond the last stage where all of them are over.
    pub fn standing(&self) -> Standing {
        match &self.at {
            At::Course(course) => {
                let standing = course.standing();
                Standing { epoch: self.base.saturating_add(standing.epoch), stage: self.stage, ..standing }
            }
            At::Split => Standing { epoch: self.base, stage: self.stage, ..Standing::CONFIGURED },
            At::Over { variant, .. } => {
                let split = Split::Only(*variant);
                Standing { epoch: self.base, stage: u32::MAX, split, beliefs: None }
            }
        }
    }

    /// Adds what calls of one of its epochs showed: in the stage that is, those of stages before come too late.
    pub fn absorb(&mut self, staged: &Staged, gain: &Gain, now: Duration) {
        if let (At::Course(course), Some(stage)) = (&mut self.at, staged.stages.get(self.stage as usize))
            && let Some(epoch) = gain.epoch.checked_sub(self.base)
        {
            course.absorb(&stage.strategy, &Gain { epoch, ..gain.clone() }, now);
        }
    }

    /// Adds what copies and their calls showed.
    pub fn absorb_copies(&mut self, staged: &Staged, copies: &Copies, now: Duration) {
        if let (At::Course(course), Some(stage)) = (&mut self.at, staged.stages.get(self.stage as usize)) {
            course.absorb_copies(&stage.strategy, copies, now);
        }
    }

    /// Takes what the candidate's answers to copies prove by now.
    pub fn absorb_judged(&mut self, finding: &Finding) {
        if let At::Course(course) = &mut self.at {
            course.absorb_judged(finding);
        }
    }

    /// Adds what feedback showed; whether this stage or one to come may ask for it.
    pub fn learn(&mut self, staged: &Staged, learnt: &Learnt<'_>) -> bool {
        let kept = self.learnt.entry(learnt.feedback.to_owned()).or_default();
        kept.resize_with(kept.len().max(learnt.variants.len()), Scores::default);
        kept.iter_mut().zip(learnt.variants).for_each(|(kept, more)| kept.merge(more));
        let to_come = staged.stages.get(self.stage as usize + 1..).unwrap_or_default();
        let waits =
            |stage: &Stage| stage.strategy.reward().is_some_and(|reward| **reward == *learnt.feedback);
        if let Some(rewards) = learnt.rewards.filter(|_| to_come.iter().any(waits)) {
            self.rewards.merge(rewards);
        }
        if let (At::Course(course), Some(stage)) = (&mut self.at, staged.stages.get(self.stage as usize)) {
            let learnt = Learnt { epoch: learnt.epoch.saturating_sub(self.base), ..*learnt };
            course.learn(&stage.strategy, &learnt);
        }
        true
    }

    /// Adds what the servers of both variants said of themselves.
    pub fn absorb_readings(&mut self, staged: &Staged, readings: &Readings, now: Duration) {
        if let (At::Course(course), Some(stage)) = (&mut self.at, staged.stages.get(self.stage as usize)) {
            course.absorb_readings(&stage.strategy, readings, now);
        }
    }

    /// Works out shares anew, where a bandit has them; whether calls must be told.
    pub fn refresh(&mut self, staged: &Staged, now: Duration) -> bool {
        match (&mut self.at, staged.stages.get(self.stage as usize)) {
            (At::Course(course), Some(stage)) => course.refresh(&stage.strategy, now),
            _ => false,
        }
    }

    /// Makes again what is not remembered.
    pub fn recall(&mut self, staged: &Staged, now: Duration) {
        if let (At::Course(course), Some(stage)) = (&mut self.at, staged.stages.get(self.stage as usize)) {
            course.recall(&stage.strategy, now);
        }
    }

    /// Moves by one, where that is due.
    pub fn look(&mut self, staged: &Staged, ready: Ready<'_>, now: Duration) -> Option<Change> {
        let stage = staged.stages.get(self.stage as usize)?;
        let At::Course(course) = &mut self.at else { return None };
        let change = course.look(&stage.strategy, ready, now)?;
        Some(self.follow(staged, change, now))
    }

    /// Does what a person wants: to promote is to end the stage, the last one by giving the candidate everything.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        staged: &Staged,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        let Some(stage) = staged.stages.get(self.stage as usize) else {
            return Err(Refused::Meaningless { command: command.name(), kind: "staged" });
        };
        let change = match &mut self.at {
            At::Course(course) => course.command(&stage.strategy, command, ready, now)?,
            At::Split | At::Over { .. } => self.without_a_judge(staged, command, ready)?,
        };
        Ok(self.follow(staged, change, now))
    }

    /// A command where nothing is judged any more.
    fn without_a_judge(
        &self,
        staged: &Staged,
        command: &Command,
        ready: Ready<'_>,
    ) -> Result<Change, Refused> {
        let from = self.state();
        let (action, to, share) = match command {
            Command::Promote if from != State::Promoted => {
                ready(staged.candidate)?;
                (Action::Promoted, State::Promoted, 1.0)
            }
            Command::Rollback => (Action::RolledBack, State::RolledBack, 0.0),
            Command::Promote | Command::Pause | Command::Resume | Command::Pin(_) => {
                let remedy = "all stages are over; roll it back, or change the file";
                return Err(Refused::State { command: command.name(), state: from.name(), remedy });
            }
        };
        let why = format!("a person's command: {}", command.name());
        let (variants, findings) = (Vec::new(), Vec::new());
        Ok(Change { action, why, from, to, step: None, share, variants, findings })
    }

    /// What a stage's change means for the whole.
    fn follow(&mut self, staged: &Staged, change: Change, now: Duration) -> Change {
        match change.to {
            State::Promoted if self.standing().split == Split::Only(staged.baseline) => {
                self.end(staged, State::RolledBack, staged.baseline, now);
                let why = format!("{}: the baseline is the better one", change.why);
                Change { action: Action::RolledBack, to: State::RolledBack, why, share: 0.0, ..change }
            }
            State::Promoted => self.leave(staged, change, now),
            State::RolledBack => {
                self.end(staged, State::RolledBack, staged.baseline, now);
                change
            }
            _ => change,
        }
    }

    /// The stage is passed: the next one begins, or the candidate has everything.
    fn leave(&mut self, staged: &Staged, change: Change, now: Duration) -> Change {
        let (left, next) = (self.stage, self.stage.saturating_add(1));
        let name = |stage: u32| staged.stages.get(stage as usize).map_or("", |stage: &Stage| &*stage.name);
        let last = matches!(
            staged.stages.get(next as usize),
            None | Some(Stage { strategy: Strategy::Pinned(_), .. })
        );
        if last || matches!(self.at, At::Split | At::Over { .. }) {
            self.end(staged, State::Promoted, staged.candidate, now);
            return Change { to: State::Promoted, share: 1.0, ..change };
        }
        self.enter(staged, next, now);
        let to = self.state();
        Change {
            action: Action::Advanced,
            why: format!("stage {} is passed ({}): stage {} begins", name(left), change.why, name(next)),
            to,
            step: None,
            share: self.share(staged),
            ..change
        }
    }

    fn enter(&mut self, staged: &Staged, stage: u32, now: Duration) {
        self.close(staged, now);
        let Some(entered) = staged.stages.get(stage as usize) else { return };
        (self.stage, self.entered) = (stage, now);
        let course = match &entered.strategy {
            // The last stage: it gives the candidate, warm by then, everything for good.
            Strategy::Pinned(_) => None,
            strategy => Course::begin(strategy, None, now),
        };
        self.at = match course {
            Some(mut course) => {
                let reward = entered.strategy.reward();
                for (feedback, variants) in &self.learnt {
                    let rewards =
                        reward.is_some_and(|reward| **reward == **feedback).then_some(&self.rewards);
                    let learnt = Learnt { feedback, epoch: 0, variants, rewards };
                    course.begin_with(&entered.strategy, &learnt, now);
                }
                At::Course(Box::new(course))
            }
            None => match &entered.strategy {
                Strategy::Pinned(pinned) => At::Over { state: State::Promoted, variant: pinned.variant },
                _ => At::Split,
            },
        };
    }

    fn end(&mut self, staged: &Staged, state: State, variant: usize, now: Duration) {
        self.close(staged, now);
        self.at = At::Over { state, variant };
        self.entered = now;
    }

    /// Keeps what the stage that ends has counted; another split has another epoch.
    fn close(&mut self, staged: &Staged, now: Duration) {
        let (At::Course(course), Some(stage)) = (&self.at, staged.stages.get(self.stage as usize)) else {
            self.base = self.base.saturating_add(1);
            return;
        };
        self.base = self.base.saturating_add(course.standing().epoch).saturating_add(1);
        let variants = staged.baseline.max(staged.candidate) + 1;
        let calls = course.report(&stage.strategy, variants, now).map_or(Vec::new(), |report| report.calls);
        self.calls.resize(self.calls.len().max(calls.len()), 0);
        self.calls.iter_mut().zip(calls).for_each(|(sum, more)| *sum += more);
    }

    /// The candidate's share as this stage begins, 0 to 1.
    fn share(&self, staged: &Staged) -> f64 {
        let stage = staged.stages.get(self.stage as usize);
        match (self.standing().split, stage.map(|stage| &stage.strategy)) {
            (Split::Only(only), _) => f64::from(u8::from(only == staged.candidate)),
            (Split::Candidate(share), _) => share.probability(),
            (Split::Configured, Some(Strategy::Ab(ab))) => {
                let own = ab.weights.iter().filter(|(variant, _)| *variant == staged.candidate);
                own.map(|(_, share)| share.probability()).sum()
            }
            (Split::Shares(shares), Some(Strategy::Bandit(bandit))) => {
                let arm = bandit.arms.iter().position(|arm| arm.variant == staged.candidate);
                arm.map_or(0.0, |arm| shares.get(arm))
            }
            (Split::Configured | Split::Without(_) | Split::Shares(_), _) => 0.0,
        }
    }

    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, staged: &Staged, variants: usize, now: Duration) -> Report {
        let stage = staged.stages.get(self.stage as usize);
        let own = match (&self.at, stage) {
            (At::Course(course), Some(stage)) => course.report(&stage.strategy, variants, now),
            _ => None,
        };
        let named = stage.filter(|_| !matches!(self.at, At::Over { .. })).map(|stage| verdict::Stage {
            index: self.stage,
            of: u32::try_from(staged.stages.len()).unwrap_or(u32::MAX),
            name: Arc::clone(&stage.name),
        });
        let mut report = own.unwrap_or_else(|| self.quiet(staged, variants, now));
        report.calls.iter_mut().zip(&self.calls).for_each(|(calls, before)| *calls += before);
        report.stage = named;
        report
    }

    /// What there is to say where nothing is judged.
    fn quiet(&self, staged: &Staged, variants: usize, now: Duration) -> Report {
        let share = self.share(staged);
        let of = |variant: usize| match variant {
            _ if variant == staged.candidate => share,
            _ if variant == staged.baseline => 1.0 - share,
            _ => 0.0,
        };
        Report {
            state: self.state(),
            step: None,
            stage: None,
            shares: (0..variants).map(of).collect(),
            calls: vec![0; variants],
            since: now.saturating_sub(self.entered),
            findings: Vec::new(),
            verdict: Verdict::NotEnoughData,
            waits_for: match self.at {
                At::Split => "a person to promote it".to_owned(),
                At::Course(_) | At::Over { .. } => String::new(),
            },
            learning: None,
        }
    }
}

#[cfg(test)]
mod tests;
