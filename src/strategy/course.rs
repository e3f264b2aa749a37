//! The way of one rollout that decides, whichever its kind: what keeps a rollout drives it, and knows no kind by name.
//!
//! Each kind has its own state machine, which is plain data: calls and feedback in, at most one [`Change`] out at each
//! look. Here they are one closed set, so that a rollout made of several stages drives its stages as it is driven.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Standing, canary, copied, staged};
use crate::config::Strategy;
use crate::evidence::{Copies, Gain, Readings, Scores};
use crate::verdict::{Change, Command, Refused, Report, State};

/// Everything that one rollout remembers. Each call is given the strategy that it began with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Step by step.
    Canary(Box<canary::Progress>),
    /// By copies alone.
    Shadow(Box<copied::Progress>),
    /// One of these after the other.
    Staged(Box<staged::Progress>),
}

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
}

impl Course {
    /// At its beginning; none where `strategy` decides nothing. `now`: time since the Unix epoch, here as everywhere.
    pub fn begin(strategy: &Strategy, now: Duration) -> Option<Self> {
        match strategy {
            Strategy::Pinned(_) | Strategy::Ab(_) => None,
            Strategy::Canary(canary) => Some(Course::Canary(Box::new(canary::Progress::begin(canary, now)))),
            Strategy::Shadow(canary) => Some(Course::Shadow(Box::new(copied::Progress::begin(canary, now)))),
            Strategy::Staged(staged) => Some(Course::Staged(Box::new(staged::Progress::begin(staged, now)))),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match self {
            Course::Canary(progress) => progress.state(),
            Course::Shadow(progress) => progress.judged().state(),
            Course::Staged(progress) => progress.state(),
        }
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        match self {
            Course::Canary(progress) => progress.standing(),
            Course::Shadow(progress) => progress.standing(),
            Course::Staged(progress) => progress.standing(),
        }
    }

    /// Adds what calls of one of its epochs showed.
    pub fn absorb(&mut self, strategy: &Strategy, gain: &Gain, now: Duration) {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => progress.absorb(canary, gain, now),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.absorb(staged, gain, now),
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

    /// Adds what feedback showed; whether anything asks for it.
    pub fn learn(&mut self, strategy: &Strategy, learnt: &Learnt<'_>) -> bool {
        match (self, strategy) {
            (Course::Canary(progress), Strategy::Canary(canary)) => progress.learn(canary, learnt),
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.learn(staged, learnt),
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
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                progress.look(canary, ready(canary.candidate).is_ok(), now)
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => progress.look(staged, ready, now),
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
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                progress.command(canary, command, ready, now)
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                progress.command(staged, command, ready, now)
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
            (Course::Shadow(progress), Strategy::Shadow(canary)) => {
                Some(progress.report(canary, variants, now))
            }
            (Course::Staged(progress), Strategy::Staged(staged)) => {
                Some(progress.report(staged, variants, now))
            }
            _ => None,
        }
    }
}
