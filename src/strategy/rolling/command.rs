//! What a person may do to a rolling update.

use std::time::Duration;

use super::{Member, Progress};
use crate::config::{Reporting, Rolling};
use crate::verdict::{Action, Change, Command, Refused, State};

impl Progress {
    /// Carries out what a person wants.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        rolling: &Rolling,
        command: &Command,
        now: Duration,
    ) -> Result<Change, Refused> {
        self.permit(rolling, command)?;
        let why = format!("a person's command: {}", command.name());
        let change = match command {
            Command::Pause => {
                self.entered = now;
                self.change(Action::Paused, State::Paused, why)
            }
            Command::Resume => {
                let to = if self.from.is_some() { State::Running } else { State::Waiting };
                self.direct(false, now);
                self.change(Action::Resumed, to, why)
            }
            Command::Rollback => self.turn_back(why, now),
            Command::Promote | Command::Pin(_) => {
                for member in &mut self.members {
                    member.take_for_replaced();
                }
                let state = self.state;
                self.change(Action::Resumed, state, format!("{why}: the drained endpoints are replaced"))
            }
        };
        Ok(self.proven(rolling, change))
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, rolling: &Rolling, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        match (self.state, command) {
            (_, Command::Pin(_)) => Err(Refused::Meaningless { command: command.name(), kind: "rolling" }),
            (_, Command::Promote) => match self.members.iter().any(Member::is_drained) {
                _ if rolling.report != Reporting::Connection => refuse(
                    "the servers say themselves what they run: replace the drained ones, and it goes on",
                ),
                false => refuse("no endpoint is drained and waits to be replaced"),
                true => Ok(()),
            },
            (_, Command::Rollback) if self.from.is_none() => {
                refuse("nothing is left to revert to, for no endpoint was replaced; write another `version`")
            }
            (State::RolledBack, Command::Rollback) => {
                refuse("it walks back already; see which endpoints wait")
            }
            (State::Steady | State::Promoted, Command::Pause | Command::Resume) => {
                refuse("every endpoint is replaced; write another `version` to begin anew")
            }
            (State::Running | State::Waiting, Command::Resume) => refuse("it moves by itself already"),
            (State::Paused | State::Held, Command::Pause) => {
                refuse("it does not begin a batch as it is; resume it or roll it back")
            }
            (State::RolledBack, Command::Pause) => {
                refuse("a way back is not stopped; resume it to go on to the new version")
            }
            _ => Ok(()),
        }
    }
}
