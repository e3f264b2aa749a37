//! One comparison's life: what it has seen, who is out, who has won, and what comes next.
//!
//! Waiting → running → promoted, or passed where a person has the last word, or held where there is nothing to win:
//! equals, time that is over, samples that are not as they were meant. An arm that is worse is taken out from wherever
//! the comparison is, a paused or held one too, and its share is the baseline's. Everything that is remembered is plain
//! data: whoever keeps a rollout writes it down as it is, and goes on with it after a restart.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::Evidence;
use super::shares::split_of;
use crate::config::units::{rough_duration, write_duration};
use crate::config::{Ab, Judge, OnFail, OnPass};
use crate::evidence::{Gain, Moments};
use crate::strategy::course::{Learnt, Ready};
use crate::strategy::{Out, Split, Standing};
use crate::verdict::{Action, Aim, Change, Finding, Report, State, Verdict};

mod steered;

/// Everything one comparison remembers. `now` is always the time since the Unix epoch, and never goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// Whether all arms were ready once.
    begun: bool,
    /// When the split last changed, and since when time runs towards the end.
    entered: Duration,
    resumed: Duration,
    /// By the index of the model's variants.
    calls: Vec<u64>,
    /// Who got what, by epoch.
    epochs: Vec<Given>,
    out: Out,
    /// A variant that won.
    winner: Option<usize>,
    evidence: Evidence,
}

/// Who got what in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Given {
    /// As the file says, but for these.
    Without(Out),
    /// One variant everything.
    Only(usize),
}

impl Given {
    fn split(self) -> Split {
        match self {
            Given::Without(Out::NONE) => Split::Configured,
            Given::Without(out) => Split::Without(out),
            Given::Only(variant) => Split::Only(variant),
        }
    }
}

/// A split, and how it is judged.
type Terms<'a> = (&'a Ab, &'a Judge);

impl Progress {
    /// A comparison that has seen nothing; `out`: arms that may get nothing from the start.
    pub fn begin(judge: &Judge, out: Out, now: Duration) -> Self {
        Progress {
            state: State::Waiting,
            begun: false,
            entered: now,
            resumed: now,
            calls: Vec::new(),
            epochs: vec![Given::Without(out)],
            out,
            winner: None,
            evidence: Evidence::new(judge, now),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        Standing { epoch: self.epoch(), split: self.given().split(), ..Standing::CONFIGURED }
    }

    /// Adds what calls of an epoch showed, this one or one before it: each is judged by the shares it had.
    pub fn absorb(&mut self, terms: Terms<'_>, gain: &Gain, now: Duration) {
        let Some(given) = self.epochs.get(gain.epoch as usize).copied() else { return };
        self.calls.resize(self.calls.len().max(gain.arms.len()), 0);
        for (calls, arm) in self.calls.iter_mut().zip(&gain.arms) {
            *calls += arm.calls;
        }
        self.evidence.absorb(terms, given.split(), gain.epoch != self.epoch(), gain, now);
    }

    /// Adds what feedback showed; whether anything asks for it. Of any epochs, for the scores weigh each unit by the
    /// shares it met.
    pub fn learn(&mut self, judge: &Judge, learnt: &Learnt<'_>) -> bool {
        self.evidence.learn(judge, learnt)
    }

    /// What was seen of a feedback's values, by variant, for a bandit that comes after: values, sums and squares. Of the
    /// squares no more is known than the score's variance tells.
    pub fn leave(&self, (ab, judge): Terms<'_>, feedback: &str) -> Vec<(usize, Moments)> {
        self.evidence.leave((ab, judge), feedback)
    }

    /// Judges what was absorbed, and moves if that is due.
    ///
    /// One call makes at most one move; call it again until it makes none.
    pub fn look(&mut self, terms: Terms<'_>, ready: Ready<'_>, now: Duration) -> Option<Change> {
        if matches!(self.given(), Given::Only(_)) || self.state == State::Pinned {
            return None;
        }
        self.evidence.weigh(terms, now);
        if let Some(arm) = self.failing(terms) {
            return self.fail(terms, arm, now);
        }
        match self.state {
            State::Waiting if self.live(terms).all(|(_, variant)| ready(variant).is_ok()) => {
                self.begun = true;
                self.resumed = now;
                let why = "every variant is ready: the comparison begins".to_owned();
                Some(self.change(terms, (Action::Began, State::Running), why, None))
            }
            State::Running => self.settle(terms, ready, now),
            _ => None,
        }
    }

    /// Arms that are not out: (index among the judge's, variant).
    fn live<'a>(&'a self, (_, judge): Terms<'a>) -> impl Iterator<Item = (usize, usize)> {
        let arms = judge.arms.iter().map(|arm| arm.variant).enumerate();
        arms.filter(|(_, variant)| !self.out.has(*variant))
    }

    fn failing(&self, terms: Terms<'_>) -> Option<usize> {
        let mut live = self.live(terms);
        live.find(|(arm, _)| self.evidence.verdict(terms, *arm) == Verdict::Fail).map(|(arm, _)| arm)
    }

    /// Takes an arm out that is worse.
    fn fail(&mut self, terms: Terms<'_>, arm: usize, now: Duration) -> Option<Change> {
        let of = terms.1.arms.get(arm)?;
        let findings = self.evidence.findings(terms, self.out);
        let failed: Vec<&str> = findings
            .iter()
            .filter(|found| found.variant == of.name && found.verdict == Verdict::Fail)
            .map(|found| &*found.guard)
            .collect();
        let why = format!("{} is worse than the baseline: {}", of.name, failed.join(", "));
        match terms.1.on_fail {
            OnFail::Hold if self.state == State::Held => None,
            OnFail::Hold => Some(self.change(terms, (Action::Held, State::Held), why, Some(of.variant))),
            OnFail::Rollback => {
                self.out = self.out.with(of.variant);
                let left = self.live(terms).count() > 0;
                self.give(if left { Given::Without(self.out) } else { Given::Only(terms.0.baseline) }, now);
                let won = self.winner == Some(of.variant);
                self.winner = self.winner.filter(|_| !won);
                let to = match self.state {
                    _ if !left => State::RolledBack,
                    State::Passed if won => State::Running,
                    state => state,
                };
                Some(self.change(terms, (Action::RolledBack, to), why, Some(of.variant)))
            }
        }
    }

    /// Ends a comparison that is decided, or cannot be.
    fn settle(&mut self, terms: Terms<'_>, ready: Ready<'_>, now: Duration) -> Option<Change> {
        let (_, judge) = terms;
        let hold = (Action::Held, State::Held);
        if self.evidence.is_broken(judge) {
            let why = "units or reports did not come to the variants as chance gave them, so nothing can be said of any: find out why, and begin anew with another salt";
            return Some(self.change(terms, hold, why.to_owned(), None));
        }
        if let Some((arm, variant)) = self.best(terms).filter(|(_, variant)| ready(*variant).is_ok()) {
            return Some(self.win(terms, arm, variant, now));
        }
        let equal = |(arm, _): (usize, usize)| self.evidence.verdict(terms, arm) == Verdict::Equivalent;
        if self.live(terms).all(equal) {
            let why = "no variant is better or worse than the baseline by more than the least effect of interest: a person must decide";
            return Some(self.change(terms, hold, why.to_owned(), None));
        }
        if now.saturating_sub(self.resumed) < judge.max_duration {
            return None;
        }
        let limit = write_duration(judge.max_duration);
        let why = format!("no winner within {limit}: a person must resume it, pin a variant or roll it back");
        Some(self.change(terms, hold, why, None))
    }

    /// Who has won, and the strongest of several, if the samples are as they were meant.
    fn best(&self, terms: Terms<'_>) -> Option<(usize, usize)> {
        let won = self.live(terms).filter(|(arm, _)| self.evidence.verdict(terms, *arm) == Verdict::Pass);
        let strength = |arm: &(usize, usize)| self.evidence.strength(terms.1, arm.0);
        won.max_by(|one, other| strength(one).total_cmp(&strength(other)))
    }

    fn win(&mut self, terms: Terms<'_>, arm: usize, variant: usize, now: Duration) -> Change {
        self.winner = Some(variant);
        let name = name_of(terms.1, variant);
        let by = self.evidence.wins_by(terms.1, arm);
        match terms.1.on_pass {
            OnPass::Promote => {
                self.give(Given::Only(variant), now);
                let why = format!("{name} is better: {by}; it gets everything");
                self.change(terms, (Action::Promoted, State::Promoted), why, Some(variant))
            }
            OnPass::Wait => {
                let why = format!("{name} is better: {by}; a person must promote it");
                self.change(terms, (Action::Passed, State::Passed), why, Some(variant))
            }
        }
    }

    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, terms: Terms<'_>, variants: usize, now: Duration) -> Report {
        let findings = self.evidence.findings(terms, self.out);
        let mut calls = self.calls.clone();
        calls.resize(variants, 0);
        let mut shares = vec![0.0; variants];
        for (variant, share) in split_of(terms.0, self.given().split(), None) {
            if let Some(place) = shares.get_mut(variant) {
                *place = share;
            }
        }
        Report {
            state: self.state,
            step: None,
            stage: None,
            shares,
            calls,
            since: now.saturating_sub(self.entered),
            verdict: self.verdict(terms, now),
            waits_for: self.waits_for(terms, &findings, now),
            learning: None,
            findings,
        }
    }

    /// What all of it says together.
    fn verdict(&self, terms: Terms<'_>, now: Duration) -> Verdict {
        let of = |(arm, _): (usize, usize)| self.evidence.verdict(terms, arm);
        let verdicts: Vec<Verdict> = self.live(terms).map(of).collect();
        let over = self.begun && now.saturating_sub(self.resumed) >= terms.1.max_duration;
        if self.evidence.is_broken(terms.1) {
            Verdict::Invalid
        } else if self.winner.is_some() || verdicts.contains(&Verdict::Pass) {
            Verdict::Pass
        } else if verdicts.is_empty() || verdicts.iter().all(|verdict| *verdict == Verdict::Fail) {
            Verdict::Fail
        } else if verdicts.iter().all(|verdict| *verdict == Verdict::Equivalent) {
            Verdict::Equivalent
        } else if over && self.state == State::Held {
            Verdict::Inconclusive
        } else {
            Verdict::NotEnoughData
        }
    }

    fn waits_for(&self, terms: Terms<'_>, findings: &[Finding], now: Duration) -> String {
        match self.state {
            State::Waiting => "every variant to be ready".to_owned(),
            State::Paused | State::Pinned => "a person to resume it".to_owned(),
            State::Held => "a person to resume it, pin a variant or roll it back".to_owned(),
            State::Passed => "a person to promote the winner".to_owned(),
            State::Running => self.running_waits_for(terms, findings, now),
            State::Steady | State::Promoted | State::RolledBack => String::new(),
        }
    }

    fn running_waits_for(&self, terms: Terms<'_>, findings: &[Finding], now: Duration) -> String {
        let mut waits = Vec::new();
        for (arm, _) in self.live(terms) {
            let Some(name) = terms.1.arms.get(arm).map(|arm| &arm.name) else { continue };
            let of =
                |aim: Aim| findings.iter().filter(move |found| found.aim == aim && found.variant == *name);
            let better = of(Aim::Success).any(|found| found.verdict == Verdict::Pass);
            let open: Vec<&str> = of(Aim::Guardrail)
                .filter(|found| found.verdict != Verdict::Pass)
                .map(|found| &*found.guard)
                .collect();
            match (better, open.is_empty()) {
                (true, _) => waits.push(format!("{name} to be no worse on {}", open.join(", "))),
                (false, true) => waits.push(format!("{name} to be better")),
                (false, false) => {
                    waits.push(format!("{name} to be better, and no worse on {}", open.join(", ")));
                }
            }
        }
        let left = terms.1.max_duration.saturating_sub(now.saturating_sub(self.resumed));
        waits.push(format!("or {}, after which it is inconclusive", rough_duration(left)));
        waits.join("; ")
    }

    fn epoch(&self) -> u32 {
        u32::try_from(self.epochs.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn given(&self) -> Given {
        self.epochs.last().copied().unwrap_or(Given::Without(Out::NONE))
    }

    /// Splits anew, in an epoch of its own.
    fn give(&mut self, given: Given, now: Duration) {
        if given != self.given() {
            self.epochs.push(given);
            self.entered = now;
        }
    }

    /// What was done, about that variant if about one.
    fn change(
        &mut self,
        terms: Terms<'_>,
        (action, to): (Action, State),
        why: String,
        about: Option<usize>,
    ) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let shares = split_of(terms.0, self.given().split(), None);
        let share = match about {
            Some(about) => {
                shares.iter().find(|(variant, _)| *variant == about).map_or(0.0, |(_, share)| *share)
            }
            None => shares
                .iter()
                .filter(|(variant, _)| *variant != terms.0.baseline)
                .map(|(_, share)| share)
                .sum(),
        };
        let findings = match action {
            Action::Began | Action::Paused | Action::Resumed | Action::Pinned => Vec::new(),
            _ => self.evidence.findings(terms, Out::NONE),
        };
        let variants = about.map(|about| name_of(terms.1, about)).into_iter().collect();
        Change { action, why, from, to, step: None, share, variants, findings }
    }
}

fn name_of(judge: &Judge, variant: usize) -> Arc<str> {
    judge
        .arms
        .iter()
        .find(|arm| arm.variant == variant)
        .map_or_else(Arc::default, |arm| Arc::clone(&arm.name))
}
