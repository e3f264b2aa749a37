//! The way of one rollout that decides, whichever its kind: what keeps a rollout drives it, and knows no kind by name.
//!
//! Each kind has its own state machine, which is plain data: calls and feedback in, at most one [`Change`] out at each
//! look. Here they are one closed set, so that a rollout made of several stages drives its stages as it is driven.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pinned::switch::Switch;
use super::{Out, Split, Standing, ab, bandit, canary, copied, interleave, rolling, staged};
use crate::config::Strategy;
use crate::config::units::Percent;
use crate::evidence::{Copies, Gain, Readings, Rewards, Scores, Votes};
use crate::verdict::{Change, Command, Finding, Refused, Report, State};

/// Everything that one rollout remembers. Each call is given the strategy that it began with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Step by step.
    Canary(Box<canary::Progress>),
    /// All at once, with a way back.
    Switch(Box<Switch>),
    /// By copies alone.
    Shadow(Box<copied::Progress>),
    /// One of these after the other.
    Staged(Box<staged::Progress>),
    /// Several that are compared with one.
    Ab(Box<ab::Progress>),
    /// Several whose lists are merged.
    Interleave(Box<interleave::Progress>),
    /// A batch of endpoints at a time.
    Rolling(Box<rolling::Progress>),
    /// Several that are given more the more they earn.
    Bandit(Box<bandit::Progress>),
}

/// What was before a rollout began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// The variant that had everything.
    pub serves: usize,
    /// The variant that had it before, and since when it has it no more, while there is a way back to it.
    pub before: Option<(usize, Duration)>,
}

/// Whether the variant of that name is the build that it was before.
pub type Same<'a> = &'a dyn Fn(&str) -> bool;

/// Whether a variant can take calls, and why not.
pub type Ready<'a> = &'a dyn Fn(usize) -> Result<(), Refused>;

/// What one declared feedback showed of calls of one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learnt<'a> {
    /// As declared.
    pub feedback: &'a str,
    /// The epoch that its calls were assigned in.
    pub epoch: u32,
    /// By the index of the model's variants: that variant as the treatment beside the baseline.
    pub variants: &'a [Scores],
    /// Where a strategy learns from it: all arms by themselves.
    pub rewards: Option<&'a Rewards>,
}

impl Course {
    /// At its beginning; none where `strategy` decides nothing. `past`: where one variant had everything before.
    /// `now`: time since the Unix epoch, here as everywhere.
    pub fn begin(strategy: &Strategy, past: Option<Past>, now: Duration) -> Option<Self> {
        match strategy {
            Strategy::Pinned(pinned) => Some(Course::Switch(Box::new(Switch::begin(pinned, past, now)))),
            Strategy::Canary(canary) => Some(Course::Canary(Box::new(canary::Progress::begin(canary, now)))),
            Strategy::Shadow(canary) => Some(Course::Shadow(Box::new(copied::Progress::begin(canary, now)))),
            Strategy::Rolling(rolling) => {
                Some(Course::Rolling(Box::new(rolling::Progress::begin(rolling, now))))
            }
            Strategy::Staged(staged) => Some(Course::Staged(Box::new(staged::Progress::begin(staged, now)))),
            Strategy::Ab(ab) => {
                let progress = ab::Progress::begin(ab.judge.as_ref()?, Out::NONE, now);
                Some(Course::Ab(Box::new(progress)))
            }
            Strategy::Bandit(bandit) => {
                let progress = bandit::Progress::begin(bandit, Out::NONE, now);
                Some(Course::Bandit(Box::new(progress)))
            }
            Strategy::Interleave(interleave) => {
                let progress = interleave::Progress::begin(interleave, Out::NONE, now);
                Some(Course::Interleave(Box::new(progress)))
            }
        }
    }

    /// Keeps these out from the start, where it is of a kind that can go on without some; to be asked before anything else.
    pub fn exclude(&mut self, strategy: &Strategy, out: Out, now: Duration) {
        match (self, strategy) {
            (Course::Ab(progress), Strategy::Ab(ab)) if let Some(judge) = &ab.judge => {
                **progress = ab::Progress::begin(judge, out, now);
            }
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => {
                **progress = bandit::Progress::begin(bandit, out, now);
            }
            (Course::Interleave(progress), Strategy::Interleave(interleave)) => {
                **progress = interleave::Progress::begin(interleave, out, now);
            }
            _ => {}
        }
    }

    /// Changes by itself what calls are given by, without a change of plan, where that is due; whether they must be told.
    pub fn refresh(&mut self, strategy: &Strategy, now: Duration) -> bool {
        match (self, strategy) {
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.refresh(bandit, now),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.refresh(staged, now),
            _ => false,
        }
    }

    /// Takes over what `before`, driven by the strategy `was`, learnt of variants that are the `same` now; `names` are
    /// those behind its indices.
    pub fn remember(
        &mut self,
        strategy: &Strategy,
        before: &Course,
        was: &Strategy,
        (names, same): (&[Arc<str>], Same<'_>),
        now: Duration,
    ) {
        let (Course::Bandit(progress), Strategy::Bandit(bandit)) = (self, strategy) else { return };
        match (before, was) {
            (Course::Bandit(before), Strategy::Bandit(was)) => {
                for (name, moments, line) in before.leave(was, now).iter().filter(|(name, ..)| same(name)) {
                    let line = (was.context == bandit.context).then_some(line);
                    progress.inherit(bandit, name, (moments, line), now);
                }
            }
            (Course::Ab(before), Strategy::Ab(was)) if let Some(judge) = &was.judge => {
                for (variant, moments) in before.leave((was, judge), &bandit.reward.name) {
                    // Its place in the file before need not be its place now.
                    if let Some(name) = names.get(variant).filter(|name| same(name)) {
                        progress.inherit(bandit, name, (&moments, None), now);
                    }
                }
            }
            _ => {}
        }
    }

    /// Makes again what is not written down; to be called after a restart.
    pub fn recall(&mut self, strategy: &Strategy, now: Duration) {
        match (self, strategy) {
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.recall(bandit, now),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.recall(staged, now),
            _ => {}
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match self {
            Course::Canary(progress) => progress.state(),
            Course::Switch(switch) => switch.state(),
            Course::Shadow(progress) => progress.judged().state(),
            Course::Staged(progress) => progress.state(),
            Course::Ab(progress) => progress.state(),
            Course::Interleave(progress) => progress.state(),
            Course::Rolling(progress) => progress.state(),
            Course::Bandit(progress) => progress.state(),
        }
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        match self {
            Course::Canary(progress) => progress.standing(),
            Course::Switch(switch) => switch.standing(),
            Course::Shadow(progress) => progress.standing(),
            Course::Staged(progress) => progress.standing(),
            Course::Ab(progress) => progress.standing(),
            Course::Interleave(progress) => progress.standing(),
            Course::Rolling(progress) => progress.standing(),
            Course::Bandit(progress) => progress.standing(),
        }
    }

    /// What it leaves to the next one; none where calls are split. `baseline`: its strategy's, where that is known.
    pub fn past(&self, baseline: Option<usize>) -> Option<Past> {
        match self {
            Course::Switch(switch) => Some(switch.past()),
            Course::Rolling(_) => Some(Past { serves: baseline?, before: None }),
            Course::Canary(_)
            | Course::Shadow(_)
            | Course::Staged(_)
            | Course::Ab(_)
            | Course::Bandit(_)
            | Course::Interleave(_) => match self.standing().split {
                Split::Only(serves) => Some(Past { serves, before: None }),
                Split::Candidate(Percent::NONE) => Some(Past { serves: baseline?, before: None }),
                Split::Candidate(_) | Split::Configured | Split::Without(_) | Split::Shares(_) => None,
            },
        }
    }

    /// Whether calls that one variant gets alone are judged now.
    pub fn judges_alone(&self, strategy: &Strategy) -> bool {
        match (self, strategy) {
            (Course::Switch(switch), Strategy::Pinned(pinned)) => switch.is_judged(pinned),
            (Course::Rolling(progress), Strategy::Rolling(rolling)) => progress.is_judged(rolling),
            _ => false,
        }
    }

    /// The variant that must be warm before it is given calls, where one waits for that.
    pub fn warms(&self, strategy: &Strategy) -> Option<usize> {
        match (self, strategy) {
            (Course::Switch(switch), _) => switch.warms(),
            (Course::Canary(_) | Course::Staged(_), strategy) if self.state() == State::Waiting => {
                strategy.candidate()
            }
            _ => None,
        }
    }

    /// Adds what calls of one of its epochs showed.
    pub fn absorb(&mut self, strategy: &Strategy, gain: &Gain, now: Duration) {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => progress.absorb(canary, gain, now),
            (Course::Switch(switch), Strategy::Pinned(pinned)) => switch.absorb(pinned, gain),
            (Course::Rolling(progress), Strategy::Rolling(rolling)) => progress.absorb(rolling, gain),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.absorb(staged, gain, now),
            (Course::Ab(progress), Strategy::Ab(ab)) => {
                if let Some(judge) = &ab.judge {
                    progress.absorb((ab, judge), gain, now);
                }
            }
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.absorb(bandit, gain, now),
            _ => {}
        }
    }

    /// Adds what copies and their calls showed.
    pub fn absorb_copies(&mut self, strategy: &Strategy, copies: &Copies, now: Duration) {
        match (self, strategy) {
            (Course::Shadow(progress), Strategy::Shadow(canary)) => progress.absorb(canary, copies, now),
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                progress.absorb_copies(staged, copies, now);
            }
            _ => {}
        }
    }

    /// Takes what the candidate's answers to copies prove by now.
    pub fn absorb_judged(&mut self, finding: &Finding) {
        match self {
            Course::Canary(progress) => progress.absorb_judged(finding),
            Course::Shadow(progress) => progress.absorb_judged(finding),
            Course::Staged(progress) => progress.absorb_judged(finding),
            Course::Switch(_)
            | Course::Ab(_)
            | Course::Rolling(_)
            | Course::Bandit(_)
            | Course::Interleave(_) => {}
        }
    }

    /// Adds what feedback showed; whether anything asks for it.
    pub fn learn(&mut self, strategy: &Strategy, learnt: &Learnt<'_>) -> bool {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => progress.learn(canary, learnt),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.learn(staged, learnt),
            (Course::Ab(progress), Strategy::Ab(ab)) => {
                ab.judge.as_ref().is_some_and(|judge| progress.learn(judge, learnt))
            }
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.learn(bandit, learnt),
            _ => false,
        }
    }

    /// Takes what was learnt before it began.
    pub fn begin_with(&mut self, strategy: &Strategy, learnt: &Learnt<'_>, now: Duration) {
        match (self, strategy) {
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.begin_with(bandit, learnt, now),
            (course, strategy) => {
                course.learn(strategy, learnt);
            }
        }
    }

    /// Adds votes of sessions, by the index of the model's variants; whether anything asks for them.
    pub fn vote(&mut self, strategy: &Strategy, votes: &[Votes]) -> bool {
        match (self, strategy) {
            (Course::Interleave(progress), Strategy::Interleave(interleave)) => {
                progress.vote(interleave, votes);
                true
            }
            _ => false,
        }
    }

    /// Adds what the servers of both variants said of themselves.
    pub fn absorb_readings(&mut self, strategy: &Strategy, readings: &Readings, now: Duration) {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => {
                progress.absorb_readings(canary, readings, now);
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                progress.absorb_readings(staged, readings, now);
            }
            _ => {}
        }
    }

    /// Moves by one, where that is due; ask again until it makes no move.
    pub fn look(&mut self, strategy: &Strategy, ready: Ready<'_>, now: Duration) -> Option<Change> {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => {
                progress.look(canary, ready(canary.candidate).is_ok(), now)
            }
            (Course::Switch(switch), Strategy::Pinned(pinned)) => switch.look(pinned, ready, now),
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                progress.look(canary, ready(canary.candidate).is_ok(), now)
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.look(staged, ready, now),
            (Course::Ab(progress), Strategy::Ab(ab)) => progress.look((ab, ab.judge.as_ref()?), ready, now),
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => progress.look(bandit, ready, now),
            (Course::Interleave(progress), Strategy::Interleave(interleave)) => {
                progress.look(interleave, ready, now)
            }
            (Course::Rolling(progress), Strategy::Rolling(rolling)) => progress.look(rolling, now),
            _ => None,
        }
    }

    /// Does what a person wants.
    ///
    /// # Errors
    /// See [`Refused`]; nothing has changed then.
    pub fn command(
        &mut self,
        strategy: &Strategy,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => {
                progress.command(canary, command, ready, now)
            }
            (Course::Switch(switch), Strategy::Pinned(pinned)) => switch.command(pinned, command, ready, now),
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                progress.command(canary, command, ready, now)
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                progress.command(staged, command, ready, now)
            }
            (Course::Ab(progress), Strategy::Ab(ab)) if let Some(judge) = &ab.judge => {
                progress.command((ab, judge), command, ready, now)
            }
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => {
                progress.command(bandit, command, ready, now)
            }
            (Course::Interleave(progress), Strategy::Interleave(interleave)) => {
                progress.command(interleave, command, ready, now)
            }
            (Course::Rolling(progress), Strategy::Rolling(rolling)) => {
                progress.command(rolling, command, now)
            }
            _ => Err(Refused::Meaningless { command: command.name(), kind: strategy.kind() }),
        }
    }

    /// Everything a status page says; none where the strategy is of another kind. `variants`: how many the model has.
    pub fn report(&self, strategy: &Strategy, variants: usize, now: Duration) -> Option<Report> {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => {
                Some(progress.report(canary, variants, now))
            }
            (Course::Switch(switch), Strategy::Pinned(pinned)) => Some(switch.report(pinned, variants, now)),
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                Some(progress.report(canary, variants, now))
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                Some(progress.report(staged, variants, now))
            }
            (Course::Ab(progress), Strategy::Ab(ab)) => {
                Some(progress.report((ab, ab.judge.as_ref()?), variants, now))
            }
            (Course::Bandit(progress), Strategy::Bandit(bandit)) => {
                Some(progress.report(bandit, variants, now))
            }
            (Course::Interleave(progress), Strategy::Interleave(interleave)) => {
                Some(progress.report(interleave, variants, now))
            }
            (Course::Rolling(progress), Strategy::Rolling(rolling)) => {
                Some(progress.report(rolling, variants, now))
            }
            _ => None,
        }
    }
}
