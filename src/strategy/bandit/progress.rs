//! One bandit's life: what it knows, what it gives now, who is out, and how it ends.
//!
//! Waiting → running → promoted, or passed where a person has the last word, or held where nobody is better. Between
//! changes of plan its shares change by themselves, an epoch each; that is no change of plan, and only counted. Everything
//! that is remembered is plain data: whoever keeps a rollout writes it down as it is, and goes on with it after a restart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::{Evidence, Outcome};
use super::memory::Known;
use super::{Beliefs, Shares, policy};
use crate::config::{Bandit, Memory, OnFail, OnPass};
use crate::evidence::{Gain, Moments};
use crate::stats::off_policy;
use crate::stats::ridge;
use crate::strategy::course::{Learnt, Ready};
use crate::strategy::{Out, Split, Standing};
use crate::verdict::{Action, Change, State, Verdict};

mod steered;
mod told;

/// Epochs whose shares are remembered: calls that began in an older one count no more.
const EPOCHS: usize = 256;
/// A new epoch begins where some arm's share changes by this part of itself.
const CHANGE: f64 = 0.1;

/// Everything one bandit remembers. `now` is always the time since the Unix epoch, and never goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// Whether all arms were ready once.
    begun: bool,
    entered: Duration,
    /// By the index of the model's variants.
    calls: Vec<u64>,
    /// The last is in force.
    epochs: VecDeque<Epoch>,
    /// One variant has everything.
    only: Option<usize>,
    out: Out,
    /// A variant that won.
    winner: Option<usize>,
    known: Known,
    /// Values since shares were worked out, and when that was.
    fresh: u64,
    refreshed: Duration,
    /// Whether something is new since it was asked how it ends.
    open: bool,
    evidence: Evidence,
    /// What an apprentice's choices would have been worth, and what was given meanwhile.
    worth: [off_policy::Sums; 2],
    #[serde(skip)]
    lines: Lines,
}

/// Who was given what in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Epoch {
    number: u32,
    shares: Shares,
    /// What an apprentice would have given.
    wished: Shares,
}

/// What regressions say in this epoch; worked out again after a restart, and no part of what is remembered.
#[derive(Debug, Clone, Default)]
struct Lines(Option<Arc<Beliefs>>);

impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Progress {
    /// A bandit that knows nothing; `out`: arms that may get nothing from the start.
    pub fn begin(bandit: &Bandit, out: Out, now: Duration) -> Self {
        let mut progress = Progress {
            state: State::Waiting,
            begun: false,
            entered: now,
            calls: Vec::new(),
            epochs: VecDeque::new(),
            only: None,
            out,
            winner: None,
            known: Known::new(bandit, now),
            fresh: 0,
            refreshed: now,
            open: false,
            evidence: Evidence::new(bandit, now),
            worth: Default::default(),
            lines: Lines::default(),
        };
        let (shares, wished) = progress.work_out(bandit, now);
        progress.epochs.push_back(Epoch { number: 0, shares, wished });
        progress.believe(bandit, now);
        progress
    }

    /// Takes over what was known of the mean of an arm of the same build before. Effects begin anew: they are of this
    /// revision's arms.
    pub fn inherit(
        &mut self,
        bandit: &Bandit,
        name: &str,
        known: (&Moments, Option<&ridge::Sums>),
        now: Duration,
    ) {
        self.known.inherit(name, known.0, known.1, (bandit.memory, now));
        self.share_anew(bandit, now);
    }

    /// Takes what was learnt before it began, calls and effects as well, and gives by that from the start.
    pub fn begin_with(&mut self, bandit: &Bandit, learnt: &Learnt<'_>, now: Duration) {
        self.learn(bandit, learnt);
        self.share_anew(bandit, now);
    }

    /// Works out the shares of an epoch that no call has seen yet.
    fn share_anew(&mut self, bandit: &Bandit, now: Duration) {
        let (shares, wished) = self.work_out(bandit, now);
        if let Some(epoch) = self.epochs.back_mut() {
            (epoch.shares, epoch.wished) = (shares, wished);
        }
        self.believe(bandit, now);
    }

    /// What is known of each arm, for one that comes after: its name, moments and regression.
    pub fn leave(&self, bandit: &Bandit, now: Duration) -> Vec<(Arc<str>, Moments, ridge::Sums)> {
        self.known.leave(bandit.memory, now)
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    fn given(&self) -> Epoch {
        let nothing = Shares::new(&[]);
        self.epochs.back().copied().unwrap_or(Epoch { number: 0, shares: nothing, wished: nothing })
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        let given = self.given();
        let split = self.only.map_or(Split::Shares(given.shares), Split::Only);
        Standing { epoch: given.number, stage: 0, split, beliefs: self.lines.0.clone() }
    }

    /// Makes again what is not remembered; to be called after a restart, and harmless at any time.
    pub fn recall(&mut self, bandit: &Bandit, now: Duration) {
        if self.lines.0.is_none() {
            self.believe(bandit, now);
        }
    }

    /// Adds what calls of an epoch showed: each is judged by the shares it had.
    pub fn absorb(&mut self, bandit: &Bandit, gain: &Gain, now: Duration) {
        self.calls.resize(self.calls.len().max(gain.arms.len()), 0);
        for (calls, arm) in self.calls.iter_mut().zip(&gain.arms) {
            *calls += arm.calls;
        }
        if let Some(epoch) = self.epochs.iter().find(|epoch| epoch.number == gain.epoch) {
            self.evidence.absorb(bandit, (&epoch.shares, false), gain, now);
        }
    }

    /// Adds what feedback showed; whether anything asks for it.
    pub fn learn(&mut self, bandit: &Bandit, learnt: &Learnt<'_>) -> bool {
        let asked = self.evidence.learn(bandit, learnt);
        if *bandit.reward.name == *learnt.feedback
            && let Some(rewards) = learnt.rewards
        {
            self.known.learn(bandit.memory, learnt.epoch, rewards);
            self.fresh += rewards.arms.iter().map(|arm| arm.n.max(0.0) as u64).sum::<u64>().max(1);
            if bandit.apprentice && bandit.context.is_empty() {
                // The nearest epoch that is remembered, where it was so long ago.
                let wished = self.epochs.iter().rev().find(|epoch| epoch.number <= learnt.epoch);
                let wished = wished.or(self.epochs.front()).map(|epoch| epoch.wished);
                self.value(bandit, wished, &rewards.offered);
            }
        }
        asked
    }

    /// Adds to what the apprentice's choices are worth, and to what the baseline is.
    fn value(&mut self, bandit: &Bandit, wished: Option<Shares>, offered: &[off_policy::Sums]) {
        let Some(wished) = wished else { return };
        let control = bandit.control();
        for (arm, offered) in offered.iter().enumerate() {
            self.worth[0] += &offered.scaled(wished.get(arm));
            self.worth[1] += &offered.scaled(f64::from(u8::from(arm == control)));
        }
    }

    /// Works out shares anew where that is due; whether calls must be told. Quiet: no change of plan.
    pub fn refresh(&mut self, bandit: &Bandit, now: Duration) -> bool {
        let moves = matches!(self.state, State::Running | State::Passed) && self.only.is_none();
        let since = now.saturating_sub(self.refreshed);
        let (time, values) = bandit.refresh;
        let fades = bandit.memory != Memory::Whole;
        let due = (self.fresh > 0 || fades) && since >= time || self.fresh >= values;
        if !moves || !due {
            return false;
        }
        (self.fresh, self.refreshed, self.open) = (0, now, true);
        self.known.forget(bandit.memory, now);
        let (shares, wished) = self.work_out(bandit, now);
        let given = self.given();
        let told =
            differ(&given.shares, &shares) || differ(&given.wished, &wished) || !bandit.context.is_empty();
        if told {
            self.give(bandit, (shares, wished), now);
        }
        told
    }

    /// (what is given, what an apprentice wishes), by what is known now.
    fn work_out(&self, bandit: &Bandit, now: Duration) -> (Shares, Shares) {
        let open: Vec<bool> = bandit.arms.iter().map(|arm| !self.out.has(arm.variant)).collect();
        let wished = self.wish(bandit, &open, now);
        if !bandit.apprentice {
            return (wished, wished);
        }
        let others = open.iter().filter(|open| **open).count().saturating_sub(1) as f64;
        let control = bandit.control();
        let given = open.iter().enumerate().map(|(arm, open)| match open {
            _ if arm == control => 1.0 - others * bandit.floor,
            true => bandit.floor,
            false => 0.0,
        });
        (Shares::new(&given.collect::<Vec<_>>()), wished)
    }

    /// What the policy gives, with its floor: arms that have too few values have an even share.
    fn wish(&self, bandit: &Bandit, open: &[bool], now: Duration) -> Shares {
        let count = open.iter().filter(|open| **open).count().max(1) as f64;
        let few: Vec<bool> = self.known.ever().map(|n| n < bandit.min_units as f64).collect();
        let current = self.known.current(bandit.memory, now);
        let settled: Vec<usize> = (0..open.len()).filter(|arm| open[*arm] && !few[*arm]).collect();
        let moments: Vec<Moments> = settled.iter().map(|arm| current[*arm]).collect();
        if settled.is_empty() || bandit.policy.is_contextual() {
            return Shares::even(open);
        }
        let own = policy::shares(bandit.policy, &bandit.reward, &moments);
        // What those with too few values leave.
        let left = settled.len() as f64 / count;
        let spare = (left - bandit.floor * settled.len() as f64).max(0.0);
        let mut shares: Vec<f64> = open.iter().map(|open| if *open { 1.0 / count } else { 0.0 }).collect();
        for (arm, own) in settled.iter().zip(own) {
            shares[*arm] = (left - spare) / settled.len() as f64 + spare * own;
        }
        Shares::new(&shares)
    }

    /// Works out what a call needs beside the shares.
    fn believe(&mut self, bandit: &Bandit, now: Duration) {
        let wished = self.given().wished;
        let lines = match bandit.policy.ridge() {
            Some(ridge) => self.known.lines((bandit.features(), ridge), bandit.memory, now),
            None => Vec::new(),
        };
        let needed = bandit.apprentice || !lines.is_empty();
        self.lines = Lines(needed.then(|| Arc::new(Beliefs { wished, lines })));
    }

    /// Gives these shares, in an epoch of their own.
    fn give(&mut self, bandit: &Bandit, (shares, wished): (Shares, Shares), now: Duration) {
        let number = self.given().number.saturating_add(1);
        self.epochs.push_back(Epoch { number, shares, wished });
        if self.epochs.len() > EPOCHS {
            self.epochs.pop_front();
        }
        self.known.date(number, now);
        self.believe(bandit, now);
    }

    /// Gives one variant everything, or shares again; in an epoch of its own.
    fn turn(&mut self, bandit: &Bandit, only: Option<usize>, now: Duration) {
        self.only = only;
        let given = self.work_out(bandit, now);
        self.give(bandit, given, now);
        self.entered = now;
    }

    /// Judges what was absorbed, and moves if that is due.
    ///
    /// One call makes at most one move; call it again until it makes none.
    pub fn look(&mut self, bandit: &Bandit, ready: Ready<'_>, now: Duration) -> Option<Change> {
        if self.only.is_some() {
            return None;
        }
        self.evidence.weigh(bandit, now);
        if let Some(arm) = self.evidence.failing(bandit, self.out) {
            return self.fail(bandit, arm, now);
        }
        match self.state {
            State::Waiting if self.live(bandit).all(|arm| ready(bandit.arms[arm].variant).is_ok()) => {
                (self.begun, self.refreshed) = (true, now);
                let why = match bandit.apprentice {
                    true => "every variant is ready: the apprentice begins, and the baseline serves",
                    false => "every variant is ready: it begins to learn",
                };
                Some(self.change(bandit, (Action::Began, State::Running), why.to_owned(), None))
            }
            // Costly, so once for each time that shares are worked out.
            State::Running if !bandit.apprentice && std::mem::take(&mut self.open) => {
                self.settle(bandit, ready, now)
            }
            _ => None,
        }
    }

    /// Arms that are not out.
    fn live<'a>(&'a self, bandit: &'a Bandit) -> impl Iterator<Item = usize> + 'a {
        (0..bandit.arms.len()).filter(|arm| !self.out.has(bandit.arms[*arm].variant))
    }

    /// Takes an arm out that fails a guard.
    fn fail(&mut self, bandit: &Bandit, arm: usize, now: Duration) -> Option<Change> {
        let of = bandit.arms.get(arm)?;
        let findings = self.evidence.findings(bandit, &self.known);
        let failed: Vec<&str> = findings
            .iter()
            .filter(|found| found.variant == of.name && found.verdict == Verdict::Fail)
            .map(|found| &*found.guard)
            .collect();
        let why = format!("{} is worse than the baseline: {}", of.name, failed.join(", "));
        match bandit.on_fail {
            OnFail::Hold if self.state == State::Held => None,
            OnFail::Hold => Some(self.change(bandit, (Action::Held, State::Held), why, Some(arm))),
            OnFail::Rollback => {
                self.out = self.out.with(of.variant);
                let left = self.live(bandit).count() > 1;
                self.turn(bandit, (!left).then_some(bandit.baseline), now);
                let won = self.winner == Some(of.variant);
                self.winner = self.winner.filter(|_| !won);
                let to = match self.state {
                    _ if !left => State::RolledBack,
                    State::Passed if won => State::Running,
                    state => state,
                };
                Some(self.change(bandit, (Action::RolledBack, to), why, Some(arm)))
            }
        }
    }

    /// Ends it where the best arm is known, or none is better.
    fn settle(&mut self, bandit: &Bandit, ready: Ready<'_>, now: Duration) -> Option<Change> {
        let current = self.known.current(bandit.memory, now);
        match self.evidence.outcome(bandit, &self.known, &current, self.out)? {
            Outcome::Equal => {
                let why = "no variant is better than the baseline by more than the least effect of interest: a person must decide";
                Some(self.change(bandit, (Action::Held, State::Held), why.to_owned(), None))
            }
            Outcome::Winner(arm) => {
                let of = bandit.arms.get(arm).filter(|of| ready(of.variant).is_ok())?;
                self.winner = Some(of.variant);
                let best = match of.variant == bandit.baseline {
                    true => format!("{}, the baseline, is the best", of.name),
                    false => format!("{} is the best: more of {}", of.name, bandit.reward.name),
                };
                match bandit.on_pass {
                    OnPass::Promote => {
                        self.turn(bandit, Some(of.variant), now);
                        let why = format!("{best}; it gets everything");
                        Some(self.change(bandit, (Action::Promoted, State::Promoted), why, Some(arm)))
                    }
                    OnPass::Wait => {
                        let why = format!("{best}; it goes on learning until a person promotes it");
                        Some(self.change(bandit, (Action::Passed, State::Passed), why, Some(arm)))
                    }
                }
            }
        }
    }

    /// What was done, about that arm if about one.
    fn change(
        &mut self,
        bandit: &Bandit,
        (action, to): (Action, State),
        why: String,
        about: Option<usize>,
    ) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let given = self.given().shares;
        let of = about.and_then(|about| bandit.arms.get(about));
        let share = match (of, self.only, about) {
            (Some(of), Some(only), _) => f64::from(u8::from(of.variant == only)),
            (Some(_), None, Some(arm)) => given.get(arm),
            (_, Some(only), _) => f64::from(u8::from(only != bandit.baseline)),
            _ => 1.0 - given.get(bandit.control()),
        };
        let findings = match action {
            Action::Began | Action::Paused | Action::Resumed | Action::Pinned => Vec::new(),
            _ => self.evidence.findings(bandit, &self.known),
        };
        let variants = of.map(|of| Arc::clone(&of.name)).into_iter().collect();
        Change { action, why, from, to, step: None, share, variants, findings }
    }
}

/// Whether some arm's share changes by a tenth of itself, or one comes or goes.
fn differ(before: &Shares, after: &Shares) -> bool {
    let mut each = before.as_slice().iter().zip(after.as_slice());
    let moved = |one: u32, other: u32| {
        f64::from(one.abs_diff(other)) > CHANGE * f64::from(one.min(other)) && one != other
    };
    before.as_slice().len() != after.as_slice().len() || each.any(|(one, other)| moved(*one, *other))
}

#[cfg(test)]
mod tests;
