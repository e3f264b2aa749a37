//! What is judged in a world: a strategy's own state machine, fed and asked as the sidecar does it; by one that sees all
//! calls, or by many replicas together.
//!
//! It is all that a world knows of strategies: who has which share, what it is told, and when it is over.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::config::units::Percent;
use crate::config::{self, Judge, Model, Source};
use crate::evidence::{Gain, Votes};
use crate::feedback::{Ballot, FeedbackGain};
use crate::strategy::course::{Course, Learnt};
use crate::strategy::{Standing, Strategy};
use crate::verdict::{Action, Aim, Finding, Interval, Report, State, Verdict};

use super::VARIANTS;
use super::file::Scenario;
use super::fleet::Fleet;

/// One rollout in the middle of its life.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    strategy: &'a config::Strategy,
    /// Who has which place.
    split: Strategy,
    jury: Jury<'a>,
    /// Of a fleet: that of the replica whose calls are looked at one by one, and the candidate's share there.
    standing: Standing,
    share: f64,
    /// Indices of the variants: the baseline, the candidate, and others in the order of [`VARIANTS`].
    variants: Vec<usize>,
    /// Who won, where somebody did.
    winner: Option<Arc<str>>,
    /// The feedback that is asked for first.
    asked: Option<Arc<str>>,
}

/// Who judges.
#[derive(Debug)]
enum Jury<'a> {
    One(Box<Course>),
    Fleet(Box<Fleet<'a>>),
}

impl<'a> Judged<'a> {
    /// None where the strategy decides nothing.
    pub(super) fn begin(scenario: &'a Scenario, rng: &mut impl Rng) -> Option<Self> {
        let model = &*scenario.model;
        let course = Course::begin(&model.strategy, None, Duration::ZERO)?;
        let variants = roles(model);
        let mut judged = Judged {
            strategy: &model.strategy,
            split: Strategy::new(model, &[0; 32]),
            standing: course.standing(),
            jury: match &scenario.together {
                Some(together) => Jury::Fleet(Box::new(Fleet::begin(model, together, rng))),
                None => Jury::One(Box::new(course)),
            },
            share: 0.0,
            variants,
            winner: None,
            asked: model.strategy.stages().find_map(asked),
        };
        judged.follow();
        Some(judged)
    }

    pub(super) fn state(&self) -> State {
        match &self.jury {
            Jury::One(course) => course.state(),
            Jury::Fleet(fleet) => fleet.state(),
        }
    }

    /// Whether it moves no more, anywhere.
    pub(super) fn is_over(&self) -> bool {
        match &self.jury {
            Jury::One(course) => is_over(self.strategy, course.state()),
            Jury::Fleet(fleet) => fleet.is_over(),
        }
    }

    /// The fleet, where many judge together.
    pub(super) fn fleet(&self) -> Option<&Fleet<'a>> {
        match &self.jury {
            Jury::One(_) => None,
            Jury::Fleet(fleet) => Some(fleet),
        }
    }

    /// When something happens next that is none of the calls, in seconds; infinite where nothing does.
    pub(super) fn next(&self) -> f64 {
        self.fleet().map_or(f64::INFINITY, Fleet::next)
    }

    /// Lets that happen.
    pub(super) fn pass(&mut self) {
        if let Jury::Fleet(fleet) = &mut self.jury {
            fleet.pass();
        }
    }

    /// The candidate's share of all calls, 0 to 1, and how often it has changed anywhere.
    pub(super) fn split_of_all(&self) -> (f64, u64) {
        match self.fleet() {
            Some(fleet) => (fleet.share(), fleet.splits()),
            None => (self.share, u64::from(self.standing.epoch)),
        }
    }

    /// Looks at another replica's calls for a while, where there is more than one.
    pub(super) fn turn(&mut self) {
        if let Jury::Fleet(fleet) = &mut self.jury {
            (self.standing, self.share) = fleet.turn();
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

    /// Index of the variant: 0 the baseline, 1 the candidate, and so on.
    pub(super) fn variant_of(&self, role: usize) -> usize {
        self.variants[role]
    }

    /// How many variants there are.
    pub(super) fn count(&self) -> usize {
        self.variants.len()
    }

    /// Which a variant is: 0 the baseline, 1 the candidate, and so on.
    pub(super) fn role(&self, variant: usize) -> usize {
        self.variants.iter().position(|known| *known == variant).unwrap_or(0)
    }

    /// Whether shares follow what was earned, so that each call must be drawn by itself.
    pub(super) fn learns(&self) -> bool {
        matches!(self.strategy, config::Strategy::Bandit(_))
    }

    /// Which one won: 0 the baseline, 1 the candidate, and so on; none where nobody did.
    pub(super) fn winner(&self) -> Option<usize> {
        let name = match &self.jury {
            Jury::One(_) => self.winner.as_deref(),
            Jury::Fleet(fleet) => fleet.winner(),
        }?;
        (0..self.count()).find(|role| self.name(*role) == Some(name))
    }

    fn name(&self, role: usize) -> Option<&str> {
        let config::Strategy::Bandit(bandit) = self.strategy else { return None };
        let variant = self.variants.get(role)?;
        bandit.arms.iter().find(|arm| arm.variant == *variant).map(|arm| &*arm.name)
    }

    /// Takes calls that were given to variants one by one: of one replica, where there are many.
    pub(super) fn absorb(&mut self, gain: &Gain, now: Duration) {
        match &mut self.jury {
            Jury::One(course) => course.absorb(self.strategy, gain, now),
            Jury::Fleet(fleet) => fleet.absorb(gain, now),
        }
    }

    /// Takes calls of all replicas.
    pub(super) fn spread(&mut self, gain: &Gain, now: Duration) {
        match &mut self.jury {
            Jury::One(course) => course.absorb(self.strategy, gain, now),
            Jury::Fleet(fleet) => fleet.spread(gain, now),
        }
    }

    /// Takes what was learnt; how many values of both arms that were, for the feedback that is asked for first.
    pub(super) fn learn(&mut self, gain: &FeedbackGain) -> u64 {
        let Some(scores) = gain.variants.get(self.variants[1]) else { return 0 };
        let rewards = gain.rewards.as_ref();
        let learnt =
            Learnt { feedback: &gain.feedback, epoch: gain.epoch, variants: &gain.variants, rewards };
        match &mut self.jury {
            Jury::One(course) => {
                course.learn(self.strategy, &learnt);
            }
            Jury::Fleet(fleet) => fleet.learn(gain),
        }
        let asked = self.asked.as_deref().is_some_and(|asked| *asked == *gain.feedback);
        match rewards {
            _ if !asked => 0,
            Some(rewards) => rewards.arms.iter().map(|arm| arm.n.max(0.0) as u64).sum(),
            None => scores.baseline.n + scores.candidate.n,
        }
    }

    /// Takes votes of sessions; returns the candidate's.
    pub(super) fn vote(&mut self, ballot: &Ballot) -> Votes {
        match &mut self.jury {
            Jury::One(course) => {
                course.vote(self.strategy, &ballot.votes);
            }
            Jury::Fleet(fleet) => fleet.vote(ballot),
        }
        ballot.votes.get(self.variants[1]).cloned().unwrap_or_default()
    }

    /// Makes all moves that are due; replicas make theirs by themselves.
    pub(super) fn look(&mut self, now: Duration) {
        if let Jury::One(course) = &mut self.jury
            && course.refresh(self.strategy, now)
        {
            self.follow();
        }
        while let Jury::One(course) = &mut self.jury
            && let Some(change) = course.look(self.strategy, &|_| Ok(()), now)
        {
            if matches!(change.action, Action::Passed | Action::Promoted) {
                self.winner = change.variants.first().map(Arc::clone);
            }
            self.follow();
        }
    }

    fn follow(&mut self) {
        let Jury::One(course) = &self.jury else { return };
        self.standing = course.standing();
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
        let metric = self.strategy.stages().find_map(|stage| match stage {
            config::Strategy::Ab(ab) => ab.judge.as_ref()?.metrics.first(),
            config::Strategy::Bandit(bandit) => Some(&bandit.metric),
            _ => None,
        })?;
        let findings = self.report(now)?.findings;
        let candidate = self.name(1);
        let of_it = |found: &Finding| candidate.is_none_or(|candidate| *found.variant == *candidate);
        let Some(found) = findings.iter().find(|found| found.aim == Aim::Success && of_it(found)) else {
            // A stage before it, where nothing is said of any.
            return Some((f64::NEG_INFINITY, f64::INFINITY));
        };
        let Interval { low, high, .. } =
            found.harm.unwrap_or(Interval { low: f64::NEG_INFINITY, middle: 0.0, high: f64::INFINITY });
        Some(if metric.lower_is_better { (low, high) } else { (-high, -low) })
    }

    fn report(&self, now: Duration) -> Option<Report> {
        match &self.jury {
            Jury::One(course) => course.report(self.strategy, self.count(), now),
            Jury::Fleet(fleet) => fleet.report(now),
        }
    }
}

/// Whether a rollout in that state moves no more. A canary that passed is judged on, one that compares has its verdict.
pub(super) fn is_over(strategy: &config::Strategy, state: State) -> bool {
    match state {
        State::Promoted | State::RolledBack | State::Held => true,
        State::Passed => !matches!(strategy, config::Strategy::Canary(_)),
        _ => false,
    }
}

/// Indices of the variants: the baseline, then the others as a scenario names them.
pub(super) fn roles(model: &Model) -> Vec<usize> {
    let baseline = model.strategy.baseline();
    let others = VARIANTS.iter().filter_map(|name| model.variant(name));
    std::iter::once(baseline).chain(others.filter(|variant| *variant != baseline)).collect()
}

/// The feedback that a strategy asks for first.
fn asked(strategy: &config::Strategy) -> Option<Arc<str>> {
    match strategy {
        config::Strategy::Canary(canary) => {
            canary.guards.feedback.first().map(|guard| Arc::clone(&guard.name))
        }
        config::Strategy::Ab(ab) => metric(ab.judge.as_ref()?),
        config::Strategy::Bandit(bandit) => Some(Arc::clone(&bandit.reward.name)),
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
