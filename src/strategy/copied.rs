//! A candidate that gets copies alone: the baseline answers every call, and the candidate is judged as in one step of
//! a canary that both have half of, for each copied call goes to both.
//!
//! Two failures of one call tell less than two of two calls; the bets on a share of one half then lose, so the judge is
//! slower to roll back than it might be, and never faster.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::course::Ready;
use super::{Split, Standing, canary};
use crate::config::Canary;
use crate::evidence::{ArmGain, Copies, Gain};
use crate::verdict::{Change, Command, Finding, Refused, Report};

/// Everything that it remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    judged: canary::Progress,
    baseline: usize,
}

impl Progress {
    /// Nothing is copied yet.
    pub fn begin(canary: &Canary, now: Duration) -> Self {
        Progress { judged: canary::Progress::begin(canary, now), baseline: canary.baseline }
    }

    /// What is judged.
    pub fn judged(&self) -> &canary::Progress {
        &self.judged
    }

    /// What the call path must know.
    pub fn standing(&self) -> Standing {
        let standing = self.judged.standing();
        match standing.split {
            Split::Candidate(_) => Standing { split: Split::Only(self.baseline), ..standing },
            _ => standing,
        }
    }

    /// Adds what copies and their calls showed.
    pub fn absorb(&mut self, canary: &Canary, copies: &Copies, now: Duration) {
        let arm =
            |errors, rejections| ArmGain { calls: copies.calls, errors, rejections, ..ArmGain::default() };
        let mut arms = vec![ArmGain::default(); canary.baseline.max(canary.candidate) + 1];
        arms[canary.baseline] = arm(copies.errors[0], copies.rejections[0]);
        arms[canary.candidate] = arm(copies.errors[1], copies.rejections[1]);
        let gain = Gain { epoch: self.judged.standing().epoch, segment: None, arms };
        self.judged.absorb(canary, &gain, now);
    }

    /// Takes what the candidate's answers prove by now.
    pub fn absorb_judged(&mut self, finding: &Finding) {
        self.judged.absorb_judged(finding);
    }

    /// Moves by one, where that is due.
    pub fn look(&mut self, canary: &Canary, ready: bool, now: Duration) -> Option<Change> {
        self.judged.look(canary, ready, now).map(|change| Change { share: 0.0, ..change })
    }

    /// Does what a person wants.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(
        &mut self,
        canary: &Canary,
        command: &Command,
        ready: Ready<'_>,
        now: Duration,
    ) -> Result<Change, Refused> {
        self.judged.command(canary, command, ready, now)
    }

    /// Everything a status page says.
    pub fn report(&self, canary: &Canary, variants: usize, now: Duration) -> Report {
        let report = self.judged.report(canary, variants, now);
        match self.standing().split {
            Split::Only(only) => {
                let shares = (0..variants).map(|variant| f64::from(u8::from(variant == only))).collect();
                Report { shares, step: None, ..report }
            }
            _ => report,
        }
    }
}
