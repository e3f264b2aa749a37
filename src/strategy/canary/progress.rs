//! One canary's life: which step it is at, what it has seen, and what comes next.
//!
//! Waiting → running, step by step → promoted, or passed where a person has the last word. A guard that fails takes
//! the candidate out from wherever it is, a paused or held one too. A step without a verdict in time is held for a
//! person and never promoted. Everything that is remembered is here, and it is plain data: whoever keeps a rollout
//! writes it down as it is, and goes on with it after a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::Percent;
use crate::config::{Canary, OnFail, OnPass};
use crate::evidence::{Gain, Readings};
use crate::strategy::course::Learnt;
use crate::strategy::guards::resources::gates;
use crate::strategy::guards::{Evidence, Terms};
use crate::strategy::{Split, Standing};
use crate::verdict::{Action, Change, Command, Finding, Refused, Report, State, Verdict};

/// Everything one canary remembers. `now` is always the time since the Unix epoch, and never goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// Whether the candidate's first step has begun.
    begun: bool,
    step: u32,
    /// When this step began, and when it last began to move by itself.
    entered: Duration,
    resumed: Duration,
    /// Calls of the candidate since this step began.
    calls_at_step: u64,
    /// By the index of the model's variants.
    calls: Vec<u64>,
    /// Who got what, by epoch.
    epochs: Vec<Given>,
    evidence: Evidence,
}

/// Who got what in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Given {
    /// The candidate this share, in thousandths of a percent.
    Candidate(u32),
    /// One variant everything.
    Only(usize),
}

impl Progress {
    /// A canary whose candidate gets nothing yet.
    pub fn begin(canary: &Canary, now: Duration) -> Self {
        Progress {
            state: State::Waiting,
            begun: false,
            step: 0,
            entered: now,
            resumed: now,
            calls_at_step: 0,
            calls: Vec::new(),
            epochs: vec![Given::Candidate(0)],
            evidence: Evidence::new(&canary.guards, now),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        let split = match self.given() {
            Given::Candidate(share) => {
                Split::Candidate(Percent::from_thousandths(share).unwrap_or(Percent::NONE))
            }
            Given::Only(variant) => Split::Only(variant),
        };
        Standing { epoch: self.epoch(), split, ..Standing::CONFIGURED }
    }

    /// Adds what an epoch showed, this one or one before it: each is judged by the share it had.
    pub fn absorb(&mut self, canary: &Canary, gain: &Gain, now: Duration) {
        let Some(given) = self.epochs.get(gain.epoch as usize).copied() else { return };
        self.calls.resize(self.calls.len().max(gain.arms.len()), 0);
        for (calls, arm) in self.calls.iter_mut().zip(&gain.arms) {
            *calls += arm.calls;
        }
        if gain.epoch == self.epoch() {
            self.calls_at_step += gain.arms.get(canary.candidate).map_or(0, |arm| arm.calls);
        }
        if let Given::Candidate(share @ 1..) = given {
            let share = f64::from(share) / f64::from(Percent::ALL.thousandths());
            self.evidence.add(&terms(canary), share, gain.epoch != self.epoch(), gain, now);
        }
    }

    /// Adds what feedback showed; whether a guard asks for it. Of any epochs, for the scores weigh each unit by the
    /// share it met.
    pub fn learn(&mut self, canary: &Canary, learnt: &Learnt<'_>) -> bool {
        let Some(scores) = learnt.variants.get(canary.candidate) else { return false };
        let guards = canary.guards.feedback.iter().enumerate();
        let asking = guards.filter(|(_, guard)| *guard.name == *learnt.feedback);
        asking.map(|(guard, _)| self.evidence.add_feedback(guard, scores)).count() > 0
    }

    /// Adds what the servers of both variants said of themselves.
    pub fn absorb_readings(&mut self, canary: &Canary, readings: &Readings, now: Duration) {
        let calls = [canary.baseline, canary.candidate].map(|arm| self.calls.get(arm).copied().unwrap_or(0));
        self.evidence.add_readings(&terms(canary), readings, calls, now);
    }

    /// Takes what the candidate's answers to copies prove by now.
    pub fn absorb_judged(&mut self, finding: &Finding) {
        self.evidence.set_judged(finding);
    }

    /// Judges what was absorbed, and moves if that is due. `candidate_ready`: it can take calls.
    ///
    /// One call makes at most one move; call it again until it makes none.
    pub fn look(&mut self, canary: &Canary, candidate_ready: bool, now: Duration) -> Option<Change> {
        match self.state {
            State::Waiting if candidate_ready => Some(self.start(canary, now)),
            State::Running | State::Paused | State::Held | State::Passed if self.begun => {
                self.evidence.weigh(&terms(canary), now);
                if let Some(on_fail) = self.evidence.failure(&terms(canary)) {
                    return self.fail(canary, on_fail, now);
                }
                if self.state != State::Running {
                    return None;
                }
                self.advance(canary, candidate_ready, now).or_else(|| self.stall(canary, now))
            }
            _ => None,
        }
    }

    fn start(&mut self, canary: &Canary, now: Duration) -> Change {
        self.begun = true;
        let why = "the candidate is ready: its first step begins".to_owned();
        self.enter_step(canary, 0, now);
        self.change(canary, Action::Began, State::Running, why, Vec::new())
    }

    fn fail(&mut self, canary: &Canary, on_fail: OnFail, now: Duration) -> Option<Change> {
        let findings = self.evidence.findings(&terms(canary));
        let failed: Vec<&str> = failing(&findings).map(|finding| &*finding.guard).collect();
        let why = format!("the candidate is worse than its margin allows: {}", failed.join(", "));
        match on_fail {
            OnFail::Rollback => {
                self.give(Given::Only(canary.baseline), now);
                Some(self.change(canary, Action::RolledBack, State::RolledBack, why, findings))
            }
            OnFail::Hold if self.state == State::Held => None,
            OnFail::Hold => Some(self.change(canary, Action::Held, State::Held, why, findings)),
        }
    }

    fn advance(&mut self, canary: &Canary, ready: bool, now: Duration) -> Option<Change> {
        let step = canary.steps.get(self.step as usize)?;
        let last = self.step as usize + 1 >= canary.steps.len();
        let due = now.saturating_sub(self.entered) >= step.hold && self.calls_at_step >= step.calls;
        if !due || !ready || !self.evidence.passes(&terms(canary), last) {
            return None;
        }
        let findings = self.evidence.findings(&terms(canary));
        if !last {
            self.enter_step(canary, self.step + 1, now);
            let why = "the candidate is proven to be within every margin".to_owned();
            return Some(self.change(canary, Action::Advanced, State::Running, why, findings));
        }
        Some(match canary.on_pass {
            OnPass::Promote => {
                self.give(Given::Only(canary.candidate), now);
                let why = "the candidate passed its last step: it gets everything".to_owned();
                self.change(canary, Action::Promoted, State::Promoted, why, findings)
            }
            OnPass::Wait => {
                let why = "the candidate passed its last step: a person must promote it".to_owned();
                self.change(canary, Action::Passed, State::Passed, why, findings)
            }
        })
    }

    fn stall(&mut self, canary: &Canary, now: Duration) -> Option<Change> {
        if now.saturating_sub(self.resumed) < canary.max_step_time {
            return None;
        }
        let findings = self.evidence.findings(&terms(canary));
        let limit = crate::config::units::write_duration(canary.max_step_time);
        let why = format!("no verdict within {limit}: a person must promote it, resume it or roll it back");
        Some(self.change(canary, Action::Held, State::Held, why, findings))
    }

    /// Carries out what a person wants. `ready` says of a variant why it cannot take calls, if so.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        canary: &Canary,
        command: &Command,
        ready: &dyn Fn(usize) -> Result<(), Refused>,
        now: Duration,
    ) -> Result<Change, Refused> {
        self.permit(canary, command)?;
        match command {
            Command::Promote => {
                ready(canary.candidate)?;
                self.give(Given::Only(canary.candidate), now);
                let findings = self.evidence.findings(&terms(canary));
                Ok(self.change(canary, Action::Promoted, State::Promoted, by_a_person(command), findings))
            }
            Command::Rollback => {
                self.give(Given::Only(canary.baseline), now);
                let findings = self.evidence.findings(&terms(canary));
                Ok(self.change(canary, Action::RolledBack, State::RolledBack, by_a_person(command), findings))
            }
            Command::Pause => {
                Ok(self.change(canary, Action::Paused, State::Paused, by_a_person(command), Vec::new()))
            }
            Command::Resume => {
                let to = if self.begun { State::Running } else { State::Waiting };
                if matches!(self.given(), Given::Only(_)) && self.begun {
                    self.enter_step(canary, self.step, now);
                } else if !self.begun {
                    self.give(Given::Candidate(0), now);
                }
                self.resumed = now;
                if self.evidence.failure(&terms(canary)).is_some() {
                    self.evidence.excuse_resources();
                }
                Ok(self.change(canary, Action::Resumed, to, by_a_person(command), Vec::new()))
            }
            Command::Pin(variant) => {
                ready(*variant)?;
                self.give(Given::Only(*variant), now);
                Ok(self.change(canary, Action::Pinned, State::Pinned, by_a_person(command), Vec::new()))
            }
        }
    }

    /// Whether a command has a meaning in this state.
    fn permit(&self, canary: &Canary, command: &Command) -> Result<(), Refused> {
        let refuse =
            |remedy| Err(Refused::State { command: command.name(), state: self.state.name(), remedy });
        match (self.state, command) {
            (State::RolledBack, _) => {
                refuse("its build is blocked; give the candidate another build, or change the strategy")
            }
            (State::Promoted, Command::Promote | Command::Pause | Command::Resume) => {
                refuse("the candidate gets everything; roll it back, or pin a variant")
            }
            (State::Paused | State::Held | State::Passed, Command::Pause) => {
                refuse("it does not move by itself as it is; resume it, promote it or roll it back")
            }
            (State::Pinned, Command::Pause) => refuse("resume it first, or pin another variant"),
            (State::Waiting | State::Running, Command::Resume) => refuse("it moves by itself already"),
            (State::Passed, Command::Resume) => refuse("no step is left; promote it or roll it back"),
            (State::Paused | State::Held, Command::Resume) if self.evidence.fails(&terms(canary)) => {
                refuse("a guard fails; roll it back, or promote it all the same")
            }
            _ => Ok(()),
        }
    }

    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, canary: &Canary, variants: usize, now: Duration) -> Report {
        let findings = if self.begun { self.evidence.findings(&terms(canary)) } else { Vec::new() };
        let mut calls = self.calls.clone();
        calls.resize(variants, 0);
        Report {
            state: self.state,
            step: Some((self.step, u32::try_from(canary.steps.len()).unwrap_or(u32::MAX))),
            stage: None,
            shares: self.shares(canary, variants),
            calls,
            since: now.saturating_sub(self.entered),
            verdict: verdict(&findings),
            waits_for: self.waits_for(canary, &findings, now),
            learning: None,
            findings,
        }
    }

    fn shares(&self, canary: &Canary, variants: usize) -> Vec<f64> {
        let share = self.share(canary);
        (0..variants)
            .map(|variant| match self.given() {
                Given::Only(only) => f64::from(u8::from(only == variant)),
                Given::Candidate(_) if variant == canary.candidate => share,
                Given::Candidate(_) if variant == canary.baseline => 1.0 - share,
                Given::Candidate(_) => 0.0,
            })
            .collect()
    }

    fn waits_for(&self, canary: &Canary, findings: &[Finding], now: Duration) -> String {
        match self.state {
            State::Waiting => "the candidate to be ready".to_owned(),
            State::Paused => "a person to resume it".to_owned(),
            State::Held => "a person to promote it, resume it or roll it back".to_owned(),
            State::Passed => "a person to promote it".to_owned(),
            State::Pinned => "a person to resume it".to_owned(),
            State::Running => self.step_waits_for(canary, findings, now),
            State::Steady | State::Promoted | State::RolledBack => String::new(),
        }
    }

    fn step_waits_for(&self, canary: &Canary, findings: &[Finding], now: Duration) -> String {
        let Some(step) = canary.steps.get(self.step as usize) else { return String::new() };
        let mut waits: Vec<String> = Vec::new();
        let left = step.hold.saturating_sub(now.saturating_sub(self.entered));
        if !left.is_zero() {
            waits.push(format!("{} s of its hold", left.as_secs_f64().ceil()));
        }
        if self.calls_at_step < step.calls {
            waits.push(format!("{} calls of the candidate", step.calls - self.calls_at_step));
        }
        let open =
            findings.iter().filter(|finding| finding.verdict == Verdict::NotEnoughData && gates(finding));
        waits.extend(open.map(|finding| format!("a verdict on {}", finding.guard)));
        // It waits for nobody there, but whoever looks must know that a guard is blind.
        waits.extend(self.evidence.blind().map(|why| format!("(resources are not judged: {why})")));
        waits.join(", ")
    }

    fn epoch(&self) -> u32 {
        u32::try_from(self.epochs.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn given(&self) -> Given {
        self.epochs.last().copied().unwrap_or(Given::Candidate(0))
    }

    /// The candidate's share, 0 to 1.
    fn share(&self, canary: &Canary) -> f64 {
        match self.given() {
            Given::Candidate(share) => f64::from(share) / f64::from(Percent::ALL.thousandths()),
            Given::Only(variant) => f64::from(u8::from(variant == canary.candidate)),
        }
    }

    fn enter_step(&mut self, canary: &Canary, step: u32, now: Duration) {
        self.step = step;
        self.resumed = now;
        let share = canary.steps.get(step as usize).map_or(0, |step| step.share.thousandths());
        self.give(Given::Candidate(share), now);
    }

    /// Splits anew, in an epoch of its own.
    fn give(&mut self, given: Given, now: Duration) {
        if given != self.given() {
            self.epochs.push(given);
        }
        self.entered = now;
        self.calls_at_step = 0;
    }

    fn change(
        &mut self,
        canary: &Canary,
        action: Action,
        to: State,
        why: String,
        findings: Vec<Finding>,
    ) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let (step, share) = (Some(self.step), self.share(canary));
        Change { action, why, from, to, step, share, variants: Vec::new(), findings }
    }
}

fn terms(canary: &Canary) -> Terms<'_> {
    Terms {
        guards: &canary.guards,
        baseline: canary.baseline,
        candidate: canary.candidate,
        warmup: canary.warmup,
        alpha: canary.alpha,
        on_fail: canary.on_fail,
    }
}

fn by_a_person(command: &Command) -> String {
    format!("a person's command: {}", command.name())
}

fn failing(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.verdict == Verdict::Fail)
}

/// All guards together.
fn verdict(findings: &[Finding]) -> Verdict {
    if failing(findings).next().is_some() {
        Verdict::Fail
    } else if !findings.is_empty()
        && findings.iter().filter(|finding| gates(finding)).all(|finding| finding.verdict == Verdict::Pass)
    {
        Verdict::Pass
    } else {
        Verdict::NotEnoughData
    }
}
