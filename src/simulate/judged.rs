//! What is judged in a world: a strategy's own state machine, fed and asked as the sidecar does it.
//!
//! It is all that a world knows of strategies: who has which share, what it is told, and when it is over.

use std::sync::Arc;
use std::time::Duration;

use crate::config::units::Percent;
use crate::config::{self, Judge, Model, Source};
use crate::evidence::{Gain, Votes};
use crate::feedback::{Ballot, FeedbackGain};
use crate::strategy::course::{Course, Learnt};
use crate::strategy::{Standing, Strategy};
use crate::verdict::{Aim, Interval, Report, State, Verdict};

use super::VARIANTS;

/// One rollout in the middle of its life.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    strategy: &'a config::Strategy,
    /// Who has which place.
    split: Strategy,
    course: Course,
    standing: Standing,
    share: f64,
    /// Index of the baseline, and of the candidate.
    variants: [usize; 2],
    /// The feedback that is asked for first.
    asked: Option<Arc<str>>,
}

impl<'a> Judged<'a> {
    /// None where the strategy decides nothing.
    pub(super) fn begin(model: &'a Model) -> Option<Self> {
        let course = Course::begin(&model.strategy, None, Duration::ZERO)?;
        let baseline = model.strategy.baseline();
        let candidate = (0..VARIANTS.len()).find(|variant| *variant != baseline)?;
        let mut judged = Judged {
            strategy: &model.strategy,
            split: Strategy::new(model, &[0; 32]),
            standing: course.standing(),
            course,
            share: 0.0,
            variants: [baseline, candidate],
            asked: model.strategy.stages().find_map(asked),
        };
        judged.follow();
        Some(judged)
    }

    pub(super) fn state(&self) -> State {
        self.course.state()
    }

    /// Whether it moves no more. A canary that passed is judged on, one that compares has its verdict.
    pub(super) fn is_over(&self) -> bool {
        match self.state() {
            State::Promoted | State::RolledBack | State::Held => true,
            State::Passed => !matches!(self.strategy, config::Strategy::Canary(_)),
            _ => false,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Who splits the calls.
    pub(super) fn split(&self) -> &Strategy {
        &self.split
    }

    /// The candidate's share of calls, 0 to 1, as it is meant.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// Index of the variant: the candidate, or the baseline.
    pub(super) fn variant(&self, candidate: bool) -> usize {
        self.variants[usize::from(candidate)]
    }

    pub(super) fn absorb(&mut self, gain: &Gain, now: Duration) {
        self.course.absorb(self.strategy, gain, now);
    }

    /// Takes what was learnt; how many values of both arms that were, for the feedback that is asked for first.
    pub(super) fn learn(&mut self, gain: &FeedbackGain) -> u64 {
        let Some(scores) = gain.variants.get(self.variants[1]) else { return 0 };
        let rewards = gain.rewards.as_ref();
        let learnt =
            Learnt { feedback: &gain.feedback, epoch: gain.epoch, variants: &gain.variants, rewards };
        self.course.learn(self.strategy, &learnt);
        let asked = self.asked.as_deref().is_some_and(|asked| *asked == *gain.feedback);
        if asked { scores.baseline.n + scores.candidate.n } else { 0 }
    }

    /// Takes votes of sessions; returns the candidate's.
    pub(super) fn vote(&mut self, ballot: &Ballot) -> Votes {
        self.course.vote(self.strategy, &ballot.votes);
        ballot.votes.get(self.variants[1]).cloned().unwrap_or_default()
    }

    /// Makes all moves that are due.
    pub(super) fn look(&mut self, now: Duration) {
        while self.course.look(self.strategy, &|_| Ok(()), now).is_some() {
            self.follow();
        }
    }

    fn follow(&mut self) {
        self.standing = self.course.standing();
        let places = self.split.intervals(&self.standing, None).into_iter();
        let own = places.filter(|(variant, _)| *variant == self.variants[1]);
        let own: u32 = own.map(|(_, places)| places.end - places.start).sum();
        self.share = f64::from(own) / f64::from(Percent::ALL.thousandths());
    }

    /// What all of it says now.
    pub(super) fn verdict(&self, now: Duration) -> Verdict {
        self.report(now).map_or(Verdict::NotEnoughData, |report| report.verdict)
    }

    /// Within what the candidate's mean of the first metric of a comparison is above the baseline's.
    pub(super) fn difference(&self, now: Duration) -> Option<(f64, f64)> {
        let judge = self.strategy.stages().find_map(|stage| match stage {
            config::Strategy::Ab(ab) => ab.judge.as_ref(),
            _ => None,
        })?;
        let findings = self.report(now)?.findings;
        let Some(found) = findings.iter().find(|found| found.aim == Aim::Success) else {
            // A stage before it, where nothing is said of any.
            return Some((f64::NEG_INFINITY, f64::INFINITY));
        };
        let Interval { low, high, .. } =
            found.harm.unwrap_or(Interval { low: f64::NEG_INFINITY, middle: 0.0, high: f64::INFINITY });
        Some(if judge.metrics.first()?.lower_is_better { (low, high) } else { (-high, -low) })
    }

    fn report(&self, now: Duration) -> Option<Report> {
        self.course.report(self.strategy, VARIANTS.len(), now)
    }
}

/// The feedback that a strategy asks for first.
fn asked(strategy: &config::Strategy) -> Option<Arc<str>> {
    match strategy {
        config::Strategy::Canary(canary) => {
            canary.guards.feedback.first().map(|guard| Arc::clone(&guard.name))
        }
        config::Strategy::Ab(ab) => metric(ab.judge.as_ref()?),
        _ => None,
    }
}

fn metric(judge: &Judge) -> Option<Arc<str>> {
    judge.metrics.iter().find_map(|metric| match &metric.source {
        Source::Feedback { name, .. } => Some(Arc::clone(name)),
        Source::Errors | Source::Rejections | Source::Latency => None,
    })
}

/// Index of the arm, as predictions name arms, that a variant is.
pub(super) fn arm(model: &Model, variant: usize) -> u8 {
    let arm = model.arms().iter().position(|arm| *arm == variant);
    arm.and_then(|arm| u8::try_from(arm).ok()).unwrap_or(crate::prediction::NO_ARM)
}
