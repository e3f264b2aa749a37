//! Colours, where they are wanted: on a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.

use std::io::{self, IsTerminal as _};

use crate::pb::v1::{State, Verdict};

/// Whether texts are coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

/// What a text says by its colour, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hue {
    /// As it should be.
    Good,
    /// As it should not be.
    Bad,
    /// Somebody should look.
    Look,
    /// What the eye should find first.
    Strong,
    /// What it may pass over.
    Faint,
    /// None of these.
    Plain,
}

impl Paint {
    /// For standard output.
    pub(super) fn of_terminal() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(!unwanted && !dumb && io::stdout().is_terminal())
    }

    pub(super) fn text(self, hue: Hue, text: &str) -> String {
        let code = match hue {
            Hue::Good => "32",
            Hue::Bad => "31",
            Hue::Look => "33",
            Hue::Strong => "1",
            Hue::Faint => "2",
            Hue::Plain => return text.to_owned(),
        };
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Hue {
    pub(super) fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass | Verdict::Equivalent => Hue::Good,
            Verdict::Fail | Verdict::Invalid => Hue::Bad,
            Verdict::Inconclusive => Hue::Look,
            Verdict::NotEnoughData | Verdict::Unspecified => Hue::Plain,
        }
    }

    pub(super) fn of_state(state: State) -> Self {
        match state {
            State::Running | State::Promoted => Hue::Good,
            State::RolledBack => Hue::Bad,
            State::Held | State::Passed | State::Paused | State::Pinned => Hue::Look,
            State::Steady | State::Waiting | State::Unspecified => Hue::Strong,
        }
    }
}
