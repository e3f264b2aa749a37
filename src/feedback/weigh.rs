//! How a value becomes evidence: the overlap score of each variant beside the baseline, weighed by the odds that the
//! prediction's id tells. Pure.
//!
//! A prediction of the baseline is a control for every other arm, one of another arm is that arm's treatment; the
//! propensity is that of the treatment given one of the two. Where that is 0 or 1 nothing was left to chance, and the
//! prediction weighs nothing. A value that changes later adds the difference to what it was: S and V are then what
//! they would be had the new value come first.

use serde::{Deserialize, Serialize};

use crate::assignment::Odds;
use crate::evidence::{Earned, Rewards, Scores, Total};

/// Whose prediction it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    /// The arm that was assigned.
    pub(super) arm: usize,
    /// The baseline's.
    pub(super) baseline: usize,
    /// How likely each arm was.
    pub(super) odds: &'a Odds,
    /// Where units may come back: the analysis bucket.
    pub(super) bucket: Option<u8>,
    /// Whether the strategy learns from these values.
    pub(super) learns: bool,
    /// What its call is told apart by, where the strategy asks for that.
    pub(super) context: Option<&'a [f64]>,
}

/// What a prediction's value becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// What it was; none: it had none.
    pub(super) from: Option<f64>,
    /// What it is.
    pub(super) to: f64,
    /// What was expected of it beforehand.
    pub(super) expected: f64,
}

/// Scores by arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gathered {
    arms: Vec<Pair>,
    /// What a strategy learns from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewards: Option<Box<Rewards>>,
}

/// One arm beside the baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Pair {
    sums: crate::stats::overlap::Sums,
    baseline: Total,
    candidate: Total,
    /// Of reports as such; empty where each prediction has a value without any.
    #[serde(default)]
    joined: crate::stats::overlap::Sums,
}

impl Who<'_> {
    /// Whether chance could have given the call to another arm that it is compared with, or a strategy learns from
    /// whatever an arm earned that it chose, though it gave it everything.
    pub(super) fn counts(&self) -> bool {
        let chosen = self.odds.get(self.arm).is_some_and(|chance| chance > 0.0);
        self.learns && chosen || (0..self.odds.as_slice().len()).any(|arm| self.propensity(arm).is_some())
    }

    /// Of `treatment`, given that it is that or the baseline; none where it says nothing about that pair.
    fn propensity(&self, treatment: usize) -> Option<f64> {
        if treatment == self.baseline || (self.arm != treatment && self.arm != self.baseline) {
            return None;
        }
        let (treated, control) = (self.odds.get(treatment)?, self.odds.get(self.baseline)?);
        (treated > 0.0 && control > 0.0).then(|| treated / (treated + control))
    }
}

impl Gathered {
    /// Adds the change of one prediction's value.
    pub(super) fn add(&mut self, who: &Who<'_>, change: &Change) {
        self.learn(who, change);
        let arms = who.odds.as_slice().len();
        self.arms.resize_with(self.arms.len().max(arms), Pair::default);
        for (arm, pair) in self.arms.iter_mut().enumerate() {
            let Some(propensity) = who.propensity(arm) else { continue };
            let treated = who.arm == arm;
            let weight = f64::from(u8::from(treated)) - propensity;
            let off = |value: f64| weight * (value - change.expected);
            let (before, information) = match change.from {
                Some(from) => (off(from), 0.0),
                None => (0.0, propensity * (1.0 - propensity)),
            };
            let after = off(change.to);
            pair.sums.add_sums(after - before, after * after - before * before, information);
            if let Some(bucket) = who.bucket {
                pair.sums.add_to_bucket(bucket, after - before);
            }
            let total = if treated { &mut pair.candidate } else { &mut pair.baseline };
            total.add(Total {
                n: u64::from(change.from.is_none()),
                sum: change.to - change.from.unwrap_or(0.0),
            });
        }
    }

    /// Adds the change for a strategy that learns.
    fn learn(&mut self, who: &Who<'_>, change: &Change) {
        if !who.learns {
            return;
        }
        let Change { from, to, expected } = *change;
        let Who { arm, odds, bucket, context, .. } = *who;
        self.rewards.get_or_insert_default().add(&Earned { arm, odds, bucket, context, from, to, expected });
    }

    /// What a strategy learns from, and the rest.
    pub(super) fn take_rewards(&mut self) -> Option<Rewards> {
        self.rewards.take().map(|rewards| *rewards)
    }

    /// Adds that something was reported of a prediction of which nothing was.
    pub(super) fn join(&mut self, who: &Who<'_>) {
        let arms = who.odds.as_slice().len();
        self.arms.resize_with(self.arms.len().max(arms), Pair::default);
        for (arm, pair) in self.arms.iter_mut().enumerate() {
            let Some(propensity) = who.propensity(arm) else { continue };
            let off = f64::from(u8::from(who.arm == arm)) - propensity;
            pair.joined.add_sums(off, off * off, propensity * (1.0 - propensity));
            if let Some(bucket) = who.bucket {
                pair.joined.add_to_bucket(bucket, off);
            }
        }
    }

    /// Adds what was gathered elsewhere.
    pub(super) fn merge(&mut self, other: &Gathered) {
        self.arms.resize_with(self.arms.len().max(other.arms.len()), Pair::default);
        for (pair, more) in self.arms.iter_mut().zip(&other.arms) {
            pair.sums += &more.sums;
            pair.baseline.add(more.baseline);
            pair.candidate.add(more.candidate);
            pair.joined += &more.joined;
        }
        if let Some(more) = &other.rewards {
            self.rewards.get_or_insert_default().merge(more);
        }
    }

    /// All values in it, each prediction once: those of the baseline are the same for every arm but for their odds.
    pub(super) fn total(&self) -> Total {
        let mut total = Total::default();
        let mut control = Total::default();
        for pair in &self.arms {
            total.add(pair.candidate);
            if pair.baseline.n > control.n {
                control = pair.baseline;
            }
        }
        total.add(control);
        total
    }

    /// By variant, where `arms` are the variants in the order of arms.
    pub(super) fn by_variant(self, arms: &[usize], variants: usize) -> Vec<Scores> {
        let mut scores = vec![Scores::default(); variants];
        for (pair, variant) in self.arms.into_iter().zip(arms) {
            if let Some(place) = scores.get_mut(*variant) {
                let Pair { sums, baseline, candidate, joined } = pair;
                *place = Scores { sums, baseline, candidate, joined };
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests;
