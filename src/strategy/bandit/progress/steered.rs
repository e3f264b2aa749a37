//! What a person may do to a bandit.

use std::time::Duration;

use super::super::judge::Evidence;
use super::Progress;
use crate::config::Bandit;
use crate::strategy::course::Ready;
use crate::strategy::steered::{Steered, obey};
use crate::verdict::{Action, Change, Command, Refused, State};

impl Progress {
    /// Carries out what a person wants. `ready` says of a variant why it cannot take calls, if so.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        bandit: &Bandit,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        obey(self, bandit, command, ready, now)
    }
}

impl<'b> Steered<&'b Bandit> for Progress {
    fn baseline(bandit: &'b Bandit) -> usize {
        bandit.baseline
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, bandit: &'b Bandit, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        match (self.state, command) {
            (State::RolledBack, _) => refuse("the baseline gets everything; resume it to begin anew"),
            (State::Promoted, Command::Promote | Command::Pause | Command::Resume) => {
                refuse("one variant gets everything; roll it back, or pin another")
            }
            (State::Paused | State::Held, Command::Pause) => {
                refuse("it does not move by itself as it is; resume it, promote a variant or roll it back")
            }
            (State::Pinned, Command::Pause) => refuse("resume it first, or pin another variant"),
            (State::Waiting | State::Running, Command::Resume) => refuse("it moves by itself already"),
            (State::Passed, Command::Resume) => refuse("it has a winner; promote it or roll it back"),
            (State::Held | State::Paused, Command::Resume)
                if self.evidence.failing(bandit, self.out).is_some() =>
            {
                refuse("a variant is worse; roll it back, or pin the one that you want all the same")
            }
            _ => Ok(()),
        }
    }

    /// Whom a person promotes who names nobody: the winner, else who seems best.
    fn promotable(&self, bandit: &'b Bandit, now: Duration) -> Result<usize, Refused> {
        let won = bandit.arms.iter().position(|arm| Some(arm.variant) == self.winner);
        let current = self.known.current(bandit.memory, now);
        let enough = self.known.ever().all(|n| n >= bandit.min_units as f64);
        let best = Evidence::best(bandit, &current, self.out).filter(|_| enough).map(|best| best.arm);
        let arm = won.or(best).ok_or(Refused::State {
            command: Command::Promote.name(),
            state: self.state.name(),
            remedy: "too little is known of its arms; pin the one that you want",
        })?;
        Ok(bandit.arms.get(arm).map_or(bandit.baseline, |arm| arm.variant))
    }

    fn give_all(&mut self, bandit: &'b Bandit, only: Option<usize>, now: Duration) {
        self.turn(bandit, only, now);
    }

    fn resume(&mut self, _: Duration) -> bool {
        self.begun
    }

    fn done(
        &mut self,
        bandit: &'b Bandit,
        done: (Action, State),
        why: String,
        about: Option<usize>,
    ) -> Change {
        let arm = |variant| bandit.arms.iter().position(|arm| arm.variant == variant);
        self.change(bandit, done, why, about.and_then(arm))
    }
}
