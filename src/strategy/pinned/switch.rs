//! A switch from one variant to another (blue/green): all at once, between two calls, with a way back.
//!
//! Waiting until the new variant is ready and warm → running, when it has everything and the one before is kept for
//! the revert window → steady. Within the window a person, or a guard against its fixed limit, reverts at once; after
//! it nothing is left to revert to. Where no variant had everything before, the file's has it from the start. All that
//! is remembered is plain data: a restart goes on where it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::write_duration;
use crate::config::{OnFail, Pinned};
use crate::evidence::Gain;
use crate::strategy::course::{Past, Ready};
use crate::strategy::limits::{Evidence, failing, together};
use crate::strategy::{Split, Standing};
use crate::verdict::{Action, Change, Command, Finding, Refused, Report, State, Verdict};

/// A file's change reaches every worker long before this. No flip is earlier, or one that still serves the file
/// before would not see it.
const SETTLE: Duration = Duration::from_millis(200);

/// Everything one switch remembers. `now` is always the time since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    state: State,
    /// Who had everything before, while there is a way back.
    from: Option<usize>,
    /// The file's variant.
    to: usize,
    /// Who has everything now.
    serves: usize,
    epoch: u32,
    /// When it came to be as it is.
    entered: Duration,
    flipped: Option<Duration>,
    evidence: Evidence,
}

impl Switch {
    /// To the file's variant from the one that had everything, if any.
    pub fn begin(pinned: &Pinned, past: Option<Past>, now: Duration) -> Self {
        let to = pinned.variant;
        let steady = Switch {
            state: State::Steady,
            from: None,
            to,
            serves: to,
            epoch: 0,
            entered: now,
            flipped: None,
            evidence: Evidence::default(),
        };
        match past {
            Some(Past { serves, .. }) if serves != to => {
                Switch { state: State::Waiting, from: Some(serves), serves, ..steady }
            }
            // Another file with the same variant takes nobody the way back.
            Some(Past { before: Some((from, flipped)), .. }) if from != to => Switch {
                state: State::Running,
                from: Some(from),
                entered: flipped,
                flipped: Some(flipped),
                ..steady
            },
            _ => steady,
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        let split = if self.serves == self.to { Split::Configured } else { Split::Only(self.serves) };
        Standing { epoch: self.epoch, split, ..Standing::CONFIGURED }
    }

    /// Who has everything, and the way back while it is open.
    pub fn past(&self) -> Past {
        let open = self.flipped.filter(|_| matches!(self.state, State::Running | State::Held));
        Past { serves: self.serves, before: self.from.zip(open) }
    }

    /// The variant before and the new one, until the way back is closed.
    pub fn between(&self) -> Option<(usize, usize)> {
        self.from.map(|from| (from, self.to))
    }

    /// Whether its calls are judged now.
    pub fn is_judged(&self, pinned: &Pinned) -> bool {
        self.is_open() && self.serves == self.to && pinned.guards.count() > 0
    }

    /// Who has to be warm before the next flip.
    pub fn warms(&self) -> Option<usize> {
        (self.flipped.is_none() && matches!(self.state, State::Waiting | State::Paused | State::Held))
            .then_some(self.to)
    }

    /// Adds what calls since the flip showed.
    pub fn absorb(&mut self, pinned: &Pinned, gain: &Gain) {
        if let Some(arm) = gain.arms.get(self.to).filter(|_| self.is_open()) {
            self.evidence.add(&pinned.guards, arm);
        }
    }

    /// Moves by one, where that is due. `ready`: whether a variant can take calls and is warm.
    pub fn look(&mut self, pinned: &Pinned, ready: Ready<'_>, now: Duration) -> Option<Change> {
        let since = now.saturating_sub(self.entered);
        match self.state {
            State::Waiting if since >= SETTLE && ready(self.to).is_ok() => {
                Some(self.flip("the new variant is ready and warm: it gets everything".to_owned(), now))
            }
            State::Waiting if since >= pinned.max_wait => {
                let limit = write_duration(pinned.max_wait);
                let why = format!(
                    "the new variant was not ready and warm within {limit}: a person must promote it, resume it or roll it back"
                );
                self.entered = now;
                Some(self.change(Action::Held, State::Held, why, Vec::new()))
            }
            State::Running => self.judge(pinned, ready, now).or_else(|| self.settle(pinned, now)),
            _ => None,
        }
    }

    fn flip(&mut self, why: String, now: Duration) -> Change {
        self.give(self.to, now);
        self.flipped = Some(now);
        self.evidence = Evidence::default();
        self.change(Action::Flipped, State::Running, why, Vec::new())
    }

    fn judge(&mut self, pinned: &Pinned, ready: Ready<'_>, now: Duration) -> Option<Change> {
        let findings = self.findings(pinned);
        let failed = failing(&findings)?;
        let from = self.from?;
        let mut why = format!("the new variant breaks its limit: {failed}");
        // A way back to a server that is gone would be no better.
        let back = ready(from);
        if pinned.on_fail == OnFail::Rollback && back.is_ok() {
            self.give(from, now);
            return Some(self.change(Action::RolledBack, State::RolledBack, why, findings));
        }
        if let Err(Refused::NotReady { why: gone, .. }) = back {
            why = format!("{why}; the variant before is not ready either ({gone})");
        }
        self.entered = now;
        Some(self.change(Action::Held, State::Held, why, findings))
    }

    fn settle(&mut self, pinned: &Pinned, now: Duration) -> Option<Change> {
        let flipped = self.flipped?;
        if now.saturating_sub(flipped) < pinned.revert_window {
            return None;
        }
        let findings = self.findings(pinned);
        let why = format!("the revert window of {} is over", write_duration(pinned.revert_window));
        Some(self.end(why, findings, Action::Settled, now))
    }

    /// The way back is closed.
    fn end(&mut self, why: String, findings: Vec<Finding>, action: Action, now: Duration) -> Change {
        self.from = None;
        self.entered = now;
        self.change(action, State::Steady, why, findings)
    }

    /// Carries out what a person wants.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        pinned: &Pinned,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        self.permit(pinned, command)?;
        let why = format!("a person's command: {}", command.name());
        Ok(match command {
            Command::Promote if self.flipped.is_some() => {
                let findings = self.findings(pinned);
                self.end(why, findings, Action::Promoted, now)
            }
            Command::Promote => {
                ready(self.to)?;
                self.flip(why, now)
            }
            Command::Rollback => {
                let findings = self.findings(pinned);
                self.give(self.from.unwrap_or(self.serves), now);
                self.change(Action::RolledBack, State::RolledBack, why, findings)
            }
            Command::Pause => {
                self.entered = now;
                self.change(Action::Paused, State::Paused, why, Vec::new())
            }
            Command::Resume => {
                let (serves, state) = match (self.from, self.flipped) {
                    (Some(from), None) => (from, State::Waiting),
                    (Some(_), Some(_)) => (self.to, State::Running),
                    (None, _) => (self.to, State::Steady),
                };
                self.give(serves, now);
                self.change(Action::Resumed, state, why, Vec::new())
            }
            Command::Pin(variant) => {
                ready(*variant)?;
                self.give(*variant, now);
                self.change(Action::Pinned, State::Pinned, why, Vec::new())
            }
        })
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, pinned: &Pinned, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        let fails = || self.findings(pinned).iter().any(|finding| finding.verdict == Verdict::Fail);
        match (self.state, command) {
            (State::Steady, Command::Rollback) => refuse(
                "nothing is left to revert to, for no switch is under way and no revert window is open; pin a variant, or name another one in the file",
            ),
            (State::Steady, Command::Promote | Command::Pause) => {
                refuse("no switch is under way; name another `variant` in the file to begin one")
            }
            (State::Steady, Command::Resume) => {
                refuse("it is as the file says; pin a variant to change that")
            }
            (State::Waiting | State::Running, Command::Resume) => refuse("it moves by itself already"),
            (State::Running, Command::Pause) => {
                refuse("the flip is done; roll it back, or promote it to end the revert window")
            }
            (State::Paused | State::Held, Command::Pause) => {
                refuse("it does not move by itself as it is; resume it, promote it or roll it back")
            }
            (State::Held, Command::Resume) if self.flipped.is_some() && fails() => {
                refuse("a guard fails; roll it back, or promote it all the same")
            }
            (State::Pinned, Command::Promote | Command::Pause | Command::Rollback) => {
                refuse("resume it first, or pin another variant")
            }
            _ => Ok(()),
        }
    }

    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, pinned: &Pinned, variants: usize, now: Duration) -> Report {
        let findings =
            if self.flipped.is_some() && self.from.is_some() { self.findings(pinned) } else { Vec::new() };
        Report {
            state: self.state,
            step: None,
            stage: None,
            shares: (0..variants).map(|variant| f64::from(u8::from(variant == self.serves))).collect(),
            calls: vec![0; variants],
            since: now.saturating_sub(self.entered),
            verdict: together(&findings),
            findings,
            waits_for: self.waits_for(pinned, now),
            learning: None,
        }
    }

    fn waits_for(&self, pinned: &Pinned, now: Duration) -> String {
        match self.state {
            State::Waiting => "the new variant to be ready and warm".to_owned(),
            State::Running => {
                let since = now.saturating_sub(self.flipped.unwrap_or(now));
                let left = pinned.revert_window.saturating_sub(since).as_secs_f64().ceil();
                let left = write_duration(Duration::from_secs_f64(left));
                format!("the end of the revert window, in {left}")
            }
            State::Paused | State::Pinned => "a person to resume it".to_owned(),
            State::Held if self.flipped.is_some() => "a person to promote it or roll it back".to_owned(),
            State::Held => "a person to promote it, resume it or roll it back".to_owned(),
            State::Steady | State::Passed | State::Promoted | State::RolledBack => String::new(),
        }
    }

    fn findings(&self, pinned: &Pinned) -> Vec<Finding> {
        if self.flipped.is_none() {
            return Vec::new();
        }
        self.evidence.findings(&pinned.guards, pinned.alpha)
    }

    /// Flipped, and there is a way back.
    fn is_open(&self) -> bool {
        self.flipped.is_some() && matches!(self.state, State::Running | State::Held)
    }

    fn give(&mut self, variant: usize, now: Duration) {
        if variant != self.serves {
            self.epoch += 1;
            self.serves = variant;
        }
        self.entered = now;
    }

    fn change(&mut self, action: Action, to: State, why: String, findings: Vec<Finding>) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let share = f64::from(u8::from(self.serves == self.to));
        Change { action, why, from, to, step: None, share, variants: Vec::new(), findings }
    }
}

#[cfg(test)]
mod tests;
