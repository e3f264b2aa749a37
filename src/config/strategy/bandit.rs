//! A split that learns: whoever earns more is given more.

use std::sync::Arc;
use std::time::Duration;

use super::{Arm, Guards, Key, Metric, OnFail, OnPass, Warmup};

/// A split that learns from one feedback while it serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Bandit {
    /// What others are compared with; gets the share of arms that are not ready.
    pub baseline: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// All variants that take part, the baseline included, in the order of [`crate::config::Model::arms`]; 2 to 8.
    pub arms: Vec<Arm>,
    /// What is learnt from.
    pub reward: Reward,
    /// The same as it is judged: no other arm may be better than the best by its least effect, at the level of `alpha`.
    pub metric: Metric,
    /// How what is known becomes shares.
    pub policy: Policy,
    /// What calls are told apart by; empty for policies that do not tell them apart.
    pub context: Vec<ContextSource>,
    /// No arm that is not out gets less, 0 to 1/arms.
    pub floor: f64,
    /// Until an arm has so many values it has an even share.
    pub min_units: u64,
    /// Shares are worked out anew after this time, or as soon as so many values came.
    pub refresh: (Duration, u64),
    /// How old values count.
    pub memory: Memory,
    /// What an arm must not be worse at than the baseline; who is takes no calls any more.
    pub guards: Guards,
    /// An arm's latency counts after both of these.
    pub warmup: Warmup,
    /// Chance that an arm that is no better than the baseline ever wins, over all arms; above 0, at most 0.2.
    pub alpha: f64,
    /// When the best arm is known well enough; none: it learns for ever.
    pub stop: Option<Stop>,
    /// What becomes of the best arm.
    pub on_pass: OnPass,
    /// What becomes of an arm that fails a guard.
    pub on_fail: OnFail,
    /// The baseline answers all but the floor, and what the bandit would have done is only told.
    pub apprentice: bool,
}

/// What is learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct Reward {
    /// Its name in [`crate::config::Model::feedback`].
    pub name: Arc<str>,
    /// The least and the largest value; none: any number.
    pub range: Option<(f64, f64)>,
    /// Whether values are 0 or 1.
    pub binary: bool,
    /// Whether less is better.
    pub lower_is_better: bool,
    /// Whether beliefs are normal laws, not beta laws.
    pub gaussian: bool,
}

/// How what is known becomes shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// Each arm gets the probability that it is the best (Thompson).
    Thompson,
    /// The best by one belief, or with probability ½ the best other one: finds the best sooner, earns less meanwhile.
    TopTwo,
    /// All to the largest KL-UCB index.
    KlUcb,
    /// All to the largest UCB1 index.
    Ucb1,
    /// All but this part to the best so far, this part evenly.
    EpsilonGreedy {
        /// 0 to 1.
        epsilon: f64,
    },
    /// Exponential weights: for rewards that somebody may change on purpose.
    Exp3 {
        /// The part that is spread evenly, and the step of learning; above 0, at most 1.
        gamma: f64,
    },
    /// All to the largest upper bound of a ridge regression on the context.
    LinUcb {
        /// Standard errors that the bound is above the mean.
        width: f64,
        /// λ.
        ridge: f64,
    },
    /// Each arm gets the probability that it is the best for that context, by ridge regressions.
    LinTs {
        /// Of a reward around its mean.
        deviation: f64,
        /// λ.
        ridge: f64,
    },
}

/// How old values count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// As new ones.
    Whole,
    /// Half of what they did, so much later.
    HalfLife(Duration),
    /// Not at all after this time.
    Window(Duration),
}

/// When the best arm is known well enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// With a probability of 95 % no arm is better than the best one by more than this part of it; above 0.
    pub value_remaining: f64,
}

/// Where features of a call come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ContextSource {
    /// A number, under that key.
    Number {
        /// Where.
        key: Key,
        /// (value − offset) / scale is the feature.
        offset: f64,
        /// Not 0.
        scale: f64,
    },
    /// One of these words, under that key: a feature for each, 1 for the one that it is; all 0 for another word.
    Words {
        /// Where.
        key: Key,
        /// At least one.
        values: Vec<Arc<str>>,
    },
    /// Numbers of an input tensor.
    Input {
        /// Its name.
        name: Arc<str>,
        /// How many it must have; at least 1.
        size: usize,
        /// As of a number, of each.
        offset: f64,
        /// Not 0.
        scale: f64,
    },
}

impl ContextSource {
    /// How many features it gives.
    pub fn width(&self) -> usize {
        match self {
            ContextSource::Number { .. } => 1,
            ContextSource::Words { values, .. } => values.len(),
            ContextSource::Input { size, .. } => *size,
        }
    }
}

impl Policy {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Thompson => "thompson",
            Policy::TopTwo => "top_two",
            Policy::KlUcb => "kl_ucb",
            Policy::Ucb1 => "ucb1",
            Policy::EpsilonGreedy { .. } => "epsilon_greedy",
            Policy::Exp3 { .. } => "exp3",
            Policy::LinUcb { .. } => "lin_ucb",
            Policy::LinTs { .. } => "lin_ts",
        }
    }

    /// Whether it tells calls apart.
    pub fn is_contextual(self) -> bool {
        matches!(self, Policy::LinUcb { .. } | Policy::LinTs { .. })
    }

    /// λ, of those that regress.
    pub fn ridge(self) -> Option<f64> {
        match self {
            Policy::LinUcb { ridge, .. } | Policy::LinTs { ridge, .. } => Some(ridge),
            _ => None,
        }
    }
}

impl Bandit {
    /// Features of a call, the constant one included; 0 where calls are not told apart.
    pub fn features(&self) -> usize {
        if self.context.is_empty() {
            0
        } else {
            1 + self.context.iter().map(ContextSource::width).sum::<usize>()
        }
    }

    /// The arm that the baseline is.
    pub fn control(&self) -> usize {
        self.arms.iter().position(|arm| arm.variant == self.baseline).unwrap_or(0)
    }
}
