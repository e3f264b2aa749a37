//! What rewards add up to where a strategy learns from them: by arm, in any order, late or early.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assignment::Odds;
use crate::stats::off_policy::Round;
use crate::stats::{contrast, off_policy, ridge};

/// What one arm's values add up to. Counts may be parts of one, where old values count less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many.
    pub n: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
    /// Σ r/p, where p is how likely the arm was.
    pub weighted: f64,
    /// Σ 1/p.
    pub inverse: f64,
}

/// Rewards of all arms of one rollout, in the order of [`crate::config::Model::arms`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// Their values.
    pub arms: Vec<Moments>,
    /// The same, as what a policy that always takes the arm would have earned.
    pub offered: Vec<off_policy::Sums>,
    /// For the effects between them: by which arms were open to the unit, a bit each, then by arm.
    pub contrasts: BTreeMap<u8, Vec<contrast::Arm>>,
    /// Regressions on the context, where calls are told apart by one; empty elsewhere.
    pub lines: Vec<ridge::Sums>,
}

/// What one prediction's value becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Earned<'a> {
    /// The arm that was assigned.
    pub arm: usize,
    /// How likely each was.
    pub odds: &'a Odds,
    /// Where units may come back: the analysis bucket.
    pub bucket: Option<u8>,
    /// Features of the call, where calls are told apart by them.
    pub context: Option<&'a [f64]>,
    /// What the value was; none: it had none.
    pub from: Option<f64>,
    /// What it is.
    pub to: f64,
    /// What was expected of it beforehand.
    pub expected: f64,
}

impl Moments {
    /// Adds others, each counted so many times.
    pub fn add(&mut self, more: &Moments, times: f64) {
        self.n += times * more.n;
        self.sum += times * more.sum;
        self.squares += times * more.squares;
        self.weighted += times * more.weighted;
        self.inverse += times * more.inverse;
    }

    /// None without any.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0.0).then(|| self.sum / self.n)
    }
}

impl Rewards {
    /// Adds the change of one prediction's value.
    pub fn add(&mut self, earned: &Earned<'_>) {
        let Some(chance) = earned.odds.get(earned.arm).filter(|chance| *chance > 0.0) else { return };
        self.grow(earned.odds.as_slice().len());
        let Earned { arm, from, to, .. } = *earned;
        let first = from.is_none();
        let before = from.unwrap_or(0.0);
        if let Some(known) = self.arms.get_mut(arm) {
            let new = f64::from(u8::from(first));
            let (sum, squares) = (to - before, to * to - before * before);
            known.add(&Moments { n: new, sum, squares, weighted: sum / chance, inverse: new / chance }, 1.0);
        }
        if let (Some(offered), Some(after)) = (self.offered.get_mut(arm), Round::new(to, 1.0, chance)) {
            offered.replace(from.and_then(|from| Round::new(from, 1.0, chance)).as_ref(), &after);
        }
        self.contrast(earned, chance);
        if let Some(x) = earned.context {
            self.lines.resize_with(self.lines.len().max(self.arms.len()), ridge::Sums::default);
            if let Some(line) = self.lines.get_mut(arm) {
                if first {
                    line.see(x, 1.0);
                }
                line.earn(x, to - before);
            }
        }
    }

    fn contrast(&mut self, earned: &Earned<'_>, chance: f64) {
        let arms = earned.odds.as_slice().len();
        let chances = || (0..arms).filter_map(|arm| earned.odds.get(arm));
        let open = chances().enumerate().filter(|(_, chance)| *chance > 0.0);
        let open = open.fold(0_u8, |bits, (arm, _)| bits | 1_u8.checked_shl(arm as u32).unwrap_or(0));
        let Some((information, weight)) = contrast::weigh(chances(), chance) else { return };
        let known = self.contrasts.entry(open).or_default();
        known.resize_with(known.len().max(arms), contrast::Arm::default);
        let Some(known) = known.get_mut(earned.arm) else { return };
        let off = |value: f64| weight * (value - earned.expected);
        if earned.from.is_none() {
            known.inform(information);
        }
        known.add(earned.from.map_or(0.0, off), off(earned.to), earned.bucket);
    }

    /// Adds others.
    pub fn merge(&mut self, more: &Rewards) {
        self.grow(more.arms.len());
        self.arms.iter_mut().zip(&more.arms).for_each(|(known, more)| known.add(more, 1.0));
        self.offered.iter_mut().zip(&more.offered).for_each(|(known, more)| *known += more);
        for (open, more) in &more.contrasts {
            let known = self.contrasts.entry(*open).or_default();
            known.resize_with(known.len().max(more.len()), contrast::Arm::default);
            known.iter_mut().zip(more).for_each(|(known, more)| *known += more);
        }
        self.lines.resize_with(self.lines.len().max(more.lines.len()), ridge::Sums::default);
        self.lines.iter_mut().zip(&more.lines).for_each(|(known, more)| known.merge(more, 1.0));
    }

    fn grow(&mut self, arms: usize) {
        self.arms.resize(self.arms.len().max(arms), Moments::default());
        self.offered.resize(self.offered.len().max(arms), off_policy::Sums::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odds(of: &[f64]) -> Odds {
        let mut odds = Odds::new(of.len());
        of.iter().enumerate().for_each(|(arm, chance)| odds.set(arm, *chance));
        odds
    }

    fn earned<'a>(arm: usize, odds: &'a Odds, from: Option<f64>, to: f64) -> Earned<'a> {
        Earned { arm, odds, bucket: None, context: Some(&[1.0, 2.0]), from, to, expected: 0.25 }
    }

    #[test]
    fn a_value_that_changes_is_as_if_the_new_one_had_come_first() {
        let odds = odds(&[0.75, 0.25]);
        let (mut changed, mut at_once) = (Rewards::default(), Rewards::default());
        changed.add(&earned(1, &odds, None, 0.0));
        changed.add(&earned(0, &odds, None, 1.0));
        changed.add(&earned(1, &odds, Some(0.0), 1.0));
        at_once.add(&earned(0, &odds, None, 1.0));
        at_once.add(&earned(1, &odds, None, 1.0));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        assert_eq!(changed.arms.len(), 2);
        for (one, other) in changed.arms.iter().zip(&at_once.arms) {
            near(one.n, other.n);
            near(one.sum, other.sum);
            near(one.squares, other.squares);
            near(one.weighted, other.weighted);
        }
        let value = |of: &Rewards| (of.offered[1].ips().unwrap().value, of.offered[1].rounds());
        near(value(&changed).0, value(&at_once).0);
        assert_eq!(value(&changed).1, 1);
        let effect = |of: &Rewards| of.contrasts[&3][1].against(&of.contrasts[&3][0]);
        near(effect(&changed).score, effect(&at_once).score);
        near(effect(&changed).variance, effect(&at_once).variance);
        near(
            changed.lines[1].model(2, 1.0).expected(&[1.0, 1.0]),
            at_once.lines[1].model(2, 1.0).expected(&[1.0, 1.0]),
        );
        let mut twice = changed.clone();
        twice.merge(&at_once);
        assert_eq!((twice.arms[1].n, twice.offered[0].rounds()), (2.0, 2));
    }

    #[test]
    fn arms_that_were_shut_are_told_apart() {
        let (all, some) = (odds(&[0.5, 0.25, 0.25]), odds(&[0.5, 0.5, 0.0]));
        let mut rewards = Rewards::default();
        rewards.add(&earned(0, &all, None, 1.0));
        rewards.add(&earned(1, &some, None, 1.0));
        rewards.add(&earned(2, &some, None, 1.0));
        assert_eq!(rewards.contrasts.keys().copied().collect::<Vec<_>>(), [0b011, 0b111]);
        assert_eq!(
            (rewards.arms[1].n, rewards.arms[2].n),
            (1.0, 0.0),
            "what could not be given was not earned"
        );
    }
}
