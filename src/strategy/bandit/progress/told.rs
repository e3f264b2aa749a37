//! What a bandit says of itself: how it stands, what is known of each arm, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use super::super::judge::Evidence;
use super::super::policy;
use super::Progress;
use crate::config::{Arm, Bandit};
use crate::evidence::Moments;
use crate::stats::{best_arm, off_policy};
use crate::verdict::{ArmReport, Learning, Report, State, Verdict, Worth};

impl Progress {
    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, bandit: &Bandit, variants: usize, now: Duration) -> Report {
        let current = self.known.current(bandit.memory, now);
        let best = Evidence::best(bandit, &current, self.out);
        let findings = self.evidence.findings(bandit, &self.known);
        let mut calls = self.calls.clone();
        calls.resize(variants, 0);
        let mut shares = vec![0.0; variants];
        let given = self.given();
        for (arm, of) in bandit.arms.iter().enumerate() {
            if let Some(place) = shares.get_mut(of.variant) {
                *place =
                    self.only.map_or(given.shares.get(arm), |only| f64::from(u8::from(only == of.variant)));
            }
        }
        Report {
            state: self.state,
            step: None,
            stage: None,
            shares,
            calls,
            since: now.saturating_sub(self.entered),
            verdict: self.verdict(),
            waits_for: self.waits_for(bandit, best.map(|best| best.arm)),
            findings,
            learning: Some(self.learning(bandit, &current, best.map(|best| best.remaining))),
        }
    }

    /// What is known of each arm.
    fn learning(&self, bandit: &Bandit, current: &[Moments], remaining: Option<f64>) -> Learning {
        let laws = policy::laws(&bandit.reward, current);
        let open: Vec<usize> = self.live(bandit).collect();
        let known = laws.map(|laws| open.iter().map(|arm| laws[*arm]).collect::<Vec<_>>());
        let best = known.map(|known| best_arm::best(&known));
        let given = self.given();
        let arm = |(arm, of): (usize, &Arm)| {
            let offered = self.known.offered(arm).and_then(|offered| offered.snips());
            let place = open.iter().position(|open| *open == arm);
            ArmReport {
                variant: Arc::clone(&of.name),
                values: self.known.ever().nth(arm).unwrap_or(0.0) as u64,
                counted: current.get(arm).map_or(0.0, |known| known.n),
                mean: offered.map(|offered| offered.value),
                error: offered.map_or(0.0, |offered| offered.error),
                best: place.and_then(|place| best.as_ref()?.get(place).copied()).unwrap_or(0.0),
                wished: given.wished.get(arm),
                out: self.out.has(of.variant),
            }
        };
        let worth = |sums: &off_policy::Sums| sums.snips().map(|snips| (snips.value, snips.error));
        let (own, baseline) = (worth(&self.worth[0]), worth(&self.worth[1]));
        Learning {
            policy: bandit.policy.name().to_owned(),
            reward: Arc::clone(&bandit.reward.name),
            apprentice: bandit.apprentice,
            epoch: given.number,
            arms: bandit.arms.iter().enumerate().map(arm).collect(),
            remaining,
            worth: own.zip(baseline).map(|(own, baseline)| Worth {
                own,
                baseline,
                n: self.worth[0].rounds(),
            }),
        }
    }

    /// What all of it says together.
    fn verdict(&self) -> Verdict {
        match self.state {
            _ if self.winner.is_some() => Verdict::Pass,
            State::RolledBack => Verdict::Fail,
            State::Held => Verdict::Equivalent,
            _ => Verdict::NotEnoughData,
        }
    }

    fn waits_for(&self, bandit: &Bandit, best: Option<usize>) -> String {
        let name = |arm: usize| bandit.arms.get(arm).map_or("", |arm| &*arm.name);
        match self.state {
            State::Waiting => "every variant to be ready".to_owned(),
            State::Paused | State::Pinned => "a person to resume it".to_owned(),
            State::Held => "a person to resume it, pin a variant or roll it back".to_owned(),
            State::Passed => "a person to promote the winner".to_owned(),
            State::Running if bandit.apprentice => {
                "a person to let it loose: take `mode: apprentice` out of the file".to_owned()
            }
            State::Running => {
                let few: Vec<&str> = self
                    .live(bandit)
                    .zip(self.known.ever())
                    .filter(|(_, n)| *n < bandit.min_units as f64)
                    .map(|(arm, _)| name(arm))
                    .collect();
                match (few.is_empty(), &bandit.stop, best) {
                    (false, ..) => format!("{} values of {} each", bandit.min_units, few.join(", ")),
                    (true, Some(_), Some(best)) => format!("{} to be the best for certain", name(best)),
                    (true, ..) => String::new(),
                }
            }
            State::Steady | State::Promoted | State::RolledBack => String::new(),
        }
    }
}
