//! What a person may do to a comparison of rankers.

use std::time::Duration;

use super::{Asked, Progress};
use crate::config::Interleave;
use crate::strategy::course::Ready;
use crate::strategy::steered::{Steered, obey};
use crate::verdict::{Action, Change, Command, Refused, State, Verdict};

impl Progress {
    /// Carries out what a person wants. `ready` says of a variant why it cannot take calls, if so.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        config: &Interleave,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        obey(self, config, command, ready, now)
    }
}

impl<'c> Steered<&'c Interleave> for Progress {
    fn baseline(config: &'c Interleave) -> usize {
        config.baseline
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, config: &'c Interleave, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        let failing = || {
            let verdicts = self.evidence.verdicts(config);
            self.live(config).any(|(arm, _)| verdicts.get(arm) == Some(&Verdict::Fail))
        };
        match (self.state, command) {
            (State::RolledBack, _) => refuse("the baseline answers alone; resume it to begin anew"),
            (State::Promoted, Command::Promote | Command::Pause | Command::Resume) => {
                refuse("one ranker answers alone; roll it back, or pin another")
            }
            (State::Paused | State::Held | State::Passed, Command::Pause) => {
                refuse("it does not move by itself as it is; resume it, promote a ranker or roll it back")
            }
            (State::Pinned, Command::Pause) => refuse("resume it first, or pin another variant"),
            (State::Waiting | State::Running, Command::Resume) => refuse("it moves by itself already"),
            (State::Passed, Command::Resume) => refuse("it has a winner; promote it or roll it back"),
            (State::Held | State::Paused, Command::Resume) if failing() => refuse(
                "the baseline is preferred to a ranker; roll it back, or pin the one that you want all the same",
            ),
            _ => Ok(()),
        }
    }

    /// Whom a person promotes who names nobody: the winner, else the only one that is left.
    fn promotable(&self, config: &'c Interleave, _: Duration) -> Result<usize, Refused> {
        let mut live = self.live(config);
        let only = match (live.next(), live.next()) {
            (Some((_, only)), None) => Some(only),
            _ => None,
        };
        self.winner.or(only).ok_or(Refused::State {
            command: Command::Promote.name(),
            state: self.state.name(),
            remedy: "no ranker has won yet; pin the one that you want",
        })
    }

    fn give_all(&mut self, _: &'c Interleave, only: Option<usize>, now: Duration) {
        self.ask(only.map_or(Asked::Without(self.out), Asked::Only), now);
    }

    fn resume(&mut self, now: Duration) -> bool {
        self.resumed = now;
        self.begun
    }

    fn done(
        &mut self,
        config: &'c Interleave,
        done: (Action, State),
        why: String,
        about: Option<usize>,
    ) -> Change {
        self.change(config, done, why, about)
    }
}
