//! What is judged in a world: a strategy's own state machine, fed and asked as the sidecar does it.
//!
//! It is all that a world knows of strategies: who has which share, what it is told, and when it is over.

use std::time::Duration;

use crate::config::{Canary, Model};
use crate::evidence::Gain;
use crate::feedback::FeedbackGain;
use crate::strategy::canary::Progress;
use crate::strategy::course::Learnt;
use crate::strategy::{Split, Standing};
use crate::verdict::State;

/// One canary in the middle of its life.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    canary: &'a Canary,
    progress: Progress,
}

impl<'a> Judged<'a> {
    pub(super) fn begin(canary: &'a Canary) -> Self {
        Judged { canary, progress: Progress::begin(canary, Duration::ZERO) }
    }

    pub(super) fn state(&self) -> State {
        self.progress.state()
    }

    /// Whether it moves no more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), State::Promoted | State::RolledBack | State::Held)
    }

    pub(super) fn standing(&self) -> Standing {
        self.progress.standing()
    }

    /// The candidate's share of calls, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        match self.standing().split {
            Split::Candidate(share) => share.probability(),
            Split::Only(variant) => f64::from(u8::from(variant == self.canary.candidate)),
            Split::Configured | Split::Without(_) => 0.0,
        }
    }

    /// Index of the variant: the candidate, or the baseline.
    pub(super) fn variant(&self, candidate: bool) -> usize {
        if candidate { self.canary.candidate } else { self.canary.baseline }
    }

    pub(super) fn absorb(&mut self, gain: &Gain, now: Duration) {
        self.progress.absorb(self.canary, gain, now);
    }

    /// Takes what was learnt; how many values of both arms that were, for the first guard that asks for it.
    pub(super) fn learn(&mut self, gain: &FeedbackGain) -> u64 {
        let Some(scores) = gain.variants.get(self.canary.candidate) else { return 0 };
        let learnt = Learnt { feedback: &gain.feedback, epoch: gain.epoch, variants: &gain.variants };
        self.progress.learn(self.canary, &learnt);
        let asked = self.canary.guards.feedback.first().is_some_and(|guard| guard.name == gain.feedback);
        if asked { scores.baseline.n + scores.candidate.n } else { 0 }
    }

    /// Makes all moves that are due.
    pub(super) fn look(&mut self, now: Duration) {
        while self.progress.look(self.canary, true, now).is_some() {}
    }
}

/// Index of the arm, as predictions name arms, that a variant is.
pub(super) fn arm(model: &Model, variant: usize) -> u8 {
    let arm = model.arms().iter().position(|arm| *arm == variant);
    arm.and_then(|arm| u8::try_from(arm).ok()).unwrap_or(crate::prediction::NO_ARM)
}
