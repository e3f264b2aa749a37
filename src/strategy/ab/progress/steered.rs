//! What a person may do to a comparison.

use std::time::Duration;

use super::{Given, Progress, Terms};
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
        terms: Terms<'_>,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        obey(self, terms, command, ready, now)
    }
}

impl<'t> Steered<Terms<'t>> for Progress {
    fn baseline(terms: Terms<'t>) -> usize {
        terms.0.baseline
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, terms: Terms<'t>, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        match (self.state, command) {
            (State::RolledBack, _) => refuse("the baseline gets everything; resume it to begin anew"),
            (State::Promoted, Command::Promote | Command::Pause | Command::Resume) => {
                refuse("one variant gets everything; roll it back, or pin another")
            }
            (State::Paused | State::Held | State::Passed, Command::Pause) => {
                refuse("it does not move by itself as it is; resume it, promote a variant or roll it back")
            }
            (State::Pinned, Command::Pause) => refuse("resume it first, or pin another variant"),
            (State::Waiting | State::Running, Command::Resume) => refuse("it moves by itself already"),
            (State::Passed, Command::Resume) => refuse("it has a winner; promote it or roll it back"),
            (State::Held | State::Paused | State::Pinned, Command::Resume)
                if self.evidence.is_broken(terms.1) =>
            {
                refuse(
                    "its samples are not as they were meant; find out why, and begin anew with another salt",
                )
            }
            (State::Held | State::Paused, Command::Resume) if self.failing(terms).is_some() => {
                refuse("a variant is worse; roll it back, or pin the one that you want all the same")
            }
            _ => Ok(()),
        }
    }

    /// Whom a person promotes who names nobody: the winner, else the only one that is left.
    fn promotable(&self, terms: Terms<'t>, _: Duration) -> Result<usize, Refused> {
        let mut live = self.live(terms);
        let only = match (live.next(), live.next()) {
            (Some((_, only)), None) => Some(only),
            _ => None,
        };
        let best = self.best(terms).filter(|_| !self.evidence.is_broken(terms.1)).map(|(_, variant)| variant);
        self.winner.or(best).or(only).ok_or(Refused::State {
            command: Command::Promote.name(),
            state: self.state.name(),
            remedy: "no variant has won yet; pin the one that you want",
        })
    }

    fn give_all(&mut self, _: Terms<'t>, only: Option<usize>, now: Duration) {
        self.give(only.map_or(Given::Without(self.out), Given::Only), now);
    }

    fn resume(&mut self, now: Duration) -> bool {
        self.resumed = now;
        self.begun
    }

    fn done(&mut self, terms: Terms<'t>, done: (Action, State), why: String, about: Option<usize>) -> Change {
        self.change(terms, done, why, about)
    }
}
