//! The life of one comparison of rankers: whose lists are merged, who has won, and what comes next.
//!
//! Waiting → running → promoted, or passed where a person has the last word, or held where there is nothing to win. A
//! ranker that the baseline is preferred to is not asked any more. All of it is plain data: whoever keeps a rollout
//! writes it down as it is, and goes on with it after a restart.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::Evidence;
use crate::config::units::{rough_duration, write_duration};
use crate::config::{Interleave, OnFail, OnPass};
use crate::evidence::Votes;
use crate::strategy::course::Ready;
use crate::strategy::{Out, Split, Standing};
use crate::verdict::{Action, Change, Report, State, Verdict};

mod steered;

/// Everything that it remembers. `now` is always the time since the Unix epoch, and never goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// Whether all rankers were ready once.
    begun: bool,
    /// When who is asked last changed, and since when time runs towards the end.
    entered: Duration,
    resumed: Duration,
    /// How often who is asked changed.
    epoch: u32,
    asked: Asked,
    out: Out,
    winner: Option<usize>,
    evidence: Evidence,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    /// All but these.
    Without(Out),
    /// One alone.
    Only(usize),
}

impl Progress {
    /// One that has seen nothing; `out`: rankers that are not asked from the start.
    pub fn begin(config: &Interleave, out: Out, now: Duration) -> Self {
        Progress {
            state: State::Waiting,
            begun: false,
            entered: now,
            resumed: now,
            epoch: 0,
            asked: Asked::Without(out),
            out,
            winner: None,
            evidence: Evidence::new(config),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        let split = match self.asked {
            Asked::Only(variant) => Split::Only(variant),
            Asked::Without(Out::NONE) => Split::Configured,
            Asked::Without(out) => Split::Without(out),
        };
        Standing { epoch: self.epoch, stage: 0, split, beliefs: None }
    }

    /// Adds votes of sessions, by variant. Of any epochs, for each is between one ranker and the baseline.
    pub fn vote(&mut self, config: &Interleave, votes: &[Votes]) {
        self.evidence.add(config, votes);
    }

    /// Moves by one, where that is due.
    pub fn look(&mut self, config: &Interleave, ready: Ready<'_>, now: Duration) -> Option<Change> {
        if matches!(self.asked, Asked::Only(_)) {
            return None;
        }
        let verdicts = self.evidence.verdicts(config);
        let found = |wanted: Verdict| {
            let live = self.live(config);
            live.filter(|(arm, _)| verdicts.get(*arm) == Some(&wanted)).collect::<Vec<_>>()
        };
        if let Some((arm, _)) = found(Verdict::Fail).first() {
            return self.fail(config, *arm, now);
        }
        match self.state {
            State::Waiting
                if config.rankers().all(|ranker| self.out.has(ranker) || ready(ranker).is_ok()) =>
            {
                self.begun = true;
                self.resumed = now;
                let why = "every ranker is ready: the comparison begins".to_owned();
                Some(self.change(config, (Action::Began, State::Running), why, None))
            }
            State::Running => {
                let strength = |arm: &(usize, usize)| self.evidence.strength(config, arm.0);
                let won = found(Verdict::Pass).into_iter().filter(|(_, variant)| ready(*variant).is_ok());
                let best = won.max_by(|one, other| strength(one).total_cmp(&strength(other)));
                if let Some((arm, variant)) = best {
                    return Some(self.win(config, arm, variant, now));
                }
                let equal = found(Verdict::Equivalent).len() == self.live(config).count();
                self.settle(config, equal, now)
            }
            _ => None,
        }
    }

    /// Arms that are not out: (index, variant).
    fn live<'a>(&self, config: &'a Interleave) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let out = self.out;
        let arms = config.arms.iter().map(|arm| arm.variant).enumerate();
        arms.filter(move |(_, variant)| !out.has(*variant))
    }

    /// The votes of an arm, in words.
    fn told(&self, arm: usize) -> String {
        let (wins, losses, ties) = self.evidence.counts(arm);
        format!("{wins} sessions for it and {losses} for the baseline, {ties} for neither")
    }

    /// Asks a ranker no more that the baseline is preferred to.
    fn fail(&mut self, config: &Interleave, arm: usize, now: Duration) -> Option<Change> {
        let of = config.arms.get(arm)?;
        let why = format!("the baseline is preferred to {}: {}", of.name, self.told(arm));
        if config.on_fail == OnFail::Hold {
            let held = self.state == State::Held;
            return (!held).then(|| self.change(config, (Action::Held, State::Held), why, Some(of.variant)));
        }
        self.out = self.out.with(of.variant);
        let left = self.live(config).count() > 0;
        self.ask(if left { Asked::Without(self.out) } else { Asked::Only(config.baseline) }, now);
        let won = self.winner == Some(of.variant);
        self.winner = self.winner.filter(|_| !won);
        let to = match self.state {
            _ if !left => State::RolledBack,
            State::Passed if won => State::Running,
            state => state,
        };
        Some(self.change(config, (Action::RolledBack, to), why, Some(of.variant)))
    }

    fn win(&mut self, config: &Interleave, arm: usize, variant: usize, now: Duration) -> Change {
        self.winner = Some(variant);
        let (name, told) = (name_of(config, variant), self.told(arm));
        match config.on_pass {
            OnPass::Promote => {
                self.ask(Asked::Only(variant), now);
                let why = format!("{name} is preferred: {told}; it answers alone");
                self.change(config, (Action::Promoted, State::Promoted), why, Some(variant))
            }
            OnPass::Wait => {
                let why = format!("{name} is preferred: {told}; a person must promote it");
                self.change(config, (Action::Passed, State::Passed), why, Some(variant))
            }
        }
    }

    /// Ends a comparison that nobody can win, or that had its time.
    fn settle(&mut self, config: &Interleave, equal: bool, now: Duration) -> Option<Change> {
        let hold = (Action::Held, State::Held);
        if equal {
            let why = "no ranker is preferred to the baseline, or the baseline to it, by more than the least preference of interest: a person must decide";
            return Some(self.change(config, hold, why.to_owned(), None));
        }
        if now.saturating_sub(self.resumed) < config.max_duration {
            return None;
        }
        let limit = write_duration(config.max_duration);
        let why =
            format!("no preference within {limit}: a person must resume it, pin a ranker or roll it back");
        Some(self.change(config, hold, why, None))
    }

    /// Everything a status page says; `variants` is how many the model has. Each ranker that is asked has an even share.
    pub fn report(&self, config: &Interleave, variants: usize, now: Duration) -> Report {
        let findings = self.evidence.findings(config, self.out);
        Report {
            state: self.state,
            step: None,
            stage: None,
            shares: (0..variants).map(|variant| self.share(config, variant)).collect(),
            calls: vec![0; variants],
            since: now.saturating_sub(self.entered),
            verdict: self.verdict(config, now),
            waits_for: self.waits_for(config, now),
            findings,
            learning: None,
        }
    }

    /// The part of the slots that is meant for a variant.
    fn share(&self, config: &Interleave, variant: usize) -> f64 {
        match self.asked {
            Asked::Only(only) => f64::from(u8::from(only == variant)),
            Asked::Without(out) => {
                let asked: Vec<usize> = config.rankers().filter(|ranker| !out.has(*ranker)).collect();
                if asked.contains(&variant) { 1.0 / asked.len() as f64 } else { 0.0 }
            }
        }
    }

    /// What all of it says together.
    fn verdict(&self, config: &Interleave, now: Duration) -> Verdict {
        let all = self.evidence.verdicts(config);
        let live: Vec<Verdict> = self.live(config).filter_map(|(arm, _)| all.get(arm).copied()).collect();
        let over = self.begun && now.saturating_sub(self.resumed) >= config.max_duration;
        if self.winner.is_some() || live.contains(&Verdict::Pass) {
            Verdict::Pass
        } else if live.iter().all(|verdict| *verdict == Verdict::Fail) {
            Verdict::Fail
        } else if live.iter().all(|verdict| *verdict == Verdict::Equivalent) {
            Verdict::Equivalent
        } else if over && self.state == State::Held {
            Verdict::Inconclusive
        } else {
            Verdict::NotEnoughData
        }
    }

    fn waits_for(&self, config: &Interleave, now: Duration) -> String {
        match self.state {
            State::Waiting => "every ranker to be ready".to_owned(),
            State::Paused | State::Pinned => "a person to resume it".to_owned(),
            State::Held => "a person to resume it, pin a ranker or roll it back".to_owned(),
            State::Passed => "a person to promote the winner".to_owned(),
            State::Running => {
                let left = config.max_duration.saturating_sub(now.saturating_sub(self.resumed));
                let of = |(arm, variant)| {
                    format!("{} to be preferred: {} so far", name_of(config, variant), self.told(arm))
                };
                let mut waits: Vec<String> = self.live(config).map(of).collect();
                waits.push(format!("or {}, after which it is inconclusive", rough_duration(left)));
                waits.join("; ")
            }
            State::Steady | State::Promoted | State::RolledBack => String::new(),
        }
    }

    /// Asks others, in an epoch of its own.
    fn ask(&mut self, asked: Asked, now: Duration) {
        if asked != self.asked {
            self.asked = asked;
            self.epoch = self.epoch.saturating_add(1);
            self.entered = now;
        }
    }

    /// What was done, about that variant if about one.
    fn change(
        &mut self,
        config: &Interleave,
        (action, to): (Action, State),
        why: String,
        about: Option<usize>,
    ) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let share = match about {
            Some(about) => self.share(config, about),
            None => 1.0 - self.share(config, config.baseline),
        };
        let findings = match action {
            Action::Began | Action::Paused | Action::Resumed | Action::Pinned => Vec::new(),
            _ => self.evidence.findings(config, Out::NONE),
        };
        let variants = about.map(|about| name_of(config, about)).into_iter().collect();
        Change { action, why, from, to, step: None, share, variants, findings }
    }
}

fn name_of(config: &Interleave, variant: usize) -> Arc<str> {
    let arm = config.arms.iter().find(|arm| arm.variant == variant);
    arm.map_or_else(Arc::default, |arm| Arc::clone(&arm.name))
}
