//! What a person may do to a rollout of several arms, whichever its kind: to promote one, to roll back to the baseline, to
//! pause, resume, and pin one.
//!
//! What each kind permits and whom it would promote is its own; how a command is carried out is the same for all.

use std::time::Duration;

use super::course::Ready;
use crate::verdict::{Action, Change, Command, Refused, State};

/// A rollout of several arms, by what it is judged by.
pub(super) trait Steered<Terms: Copy> {
    /// Who is known to be good.
    fn baseline(terms: Terms) -> usize;

    /// Whether a command has a meaning in the state that it is in.
    fn permit(&self, terms: Terms, command: &Command) -> Result<(), Refused>;

    /// The variant that a person promotes who names nobody.
    fn promotable(&self, terms: Terms, now: Duration) -> Result<usize, Refused>;

    /// Gives one variant everything, or all arms that are not out what they are meant to have.
    fn give_all(&mut self, terms: Terms, only: Option<usize>, now: Duration);

    /// Its time runs again; whether it had begun before.
    fn resume(&mut self, now: Duration) -> bool;

    /// What was done, about that variant if about one.
    fn done(&mut self, terms: Terms, done: (Action, State), why: String, about: Option<usize>) -> Change;
}

/// Carries out what a person wants. `ready` says of a variant why it cannot take calls, if so.
///
/// # Errors
/// See [`Refused`]; nothing has changed then.
pub(super) fn obey<Terms: Copy, S: Steered<Terms>>(
    steered: &mut S,
    terms: Terms,
    command: &Command,
    ready: Ready<'_>,
    now: Duration,
) -> Result<Change, Refused> {
    steered.permit(terms, command)?;
    let (done, about) = match command {
        Command::Promote => {
            let variant = steered.promotable(terms, now)?;
            ready(variant)?;
            steered.give_all(terms, Some(variant), now);
            ((Action::Promoted, State::Promoted), Some(variant))
        }
        Command::Rollback => {
            steered.give_all(terms, Some(S::baseline(terms)), now);
            ((Action::RolledBack, State::RolledBack), None)
        }
        Command::Pause => ((Action::Paused, State::Paused), None),
        Command::Resume => {
            steered.give_all(terms, None, now);
            let to = if steered.resume(now) { State::Running } else { State::Waiting };
            ((Action::Resumed, to), None)
        }
        Command::Pin(variant) => {
            ready(*variant)?;
            steered.give_all(terms, Some(*variant), now);
            ((Action::Pinned, State::Pinned), None)
        }
    };
    Ok(steered.done(terms, done, format!("a person's command: {}", command.name()), about))
}
