//! Effects between any two of several arms while the shares of all of them change: the overlap score, of many arms.
//!
//! A unit that had arm k by chance p_k counts h/p_k for it, where h = 1/Σ_j(1/p_j) is small where any arm was unlikely
//! (generalised overlap weights, Li & Li 2019). Per arm S_k = Σ (h/p_k)(Y − μ), and over all units I = Σ h: the effect of
//! k against j is (S_k − S_j)/I, and no weight is ever above 1. With two arms this is the score of [`super::overlap`],
//! term by term. Units that come back: variances are taken over 256 buckets of units, of the difference of two arms.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::overlap::BUCKETS;

/// The least number of buckets in use at which the normal approximation may decide.
const LEAST_BUCKETS: usize = 64;

/// What units of one arm add.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    score: f64,
    squares: f64,
    information: f64,
    /// The score per bucket of units; empty as long as no clustered unit was seen.
    buckets: Vec<f64>,
}

/// One arm against another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// S: the sum of the first arm's score less the second's.
    pub score: f64,
    /// V: its variance.
    pub variance: f64,
    /// Whether enough buckets are in use, where units come back.
    pub enough_buckets: bool,
}

/// (h, h/p_k) of a unit that had arm k, by the chances of all arms that were open to it; none where p_k is 0.
pub fn weigh(chances: impl Iterator<Item = f64>, own: f64) -> Option<(f64, f64)> {
    let inverse: f64 = chances.filter(|chance| *chance > 0.0).map(|chance| 1.0 / chance).sum();
    (own > 0.0 && inverse > 0.0).then(|| (1.0 / inverse, 1.0 / (inverse * own)))
}

impl Arm {
    /// Adds a unit's information h, once.
    pub fn inform(&mut self, h: f64) {
        self.information += h;
    }

    /// Adds the change of a unit's D = (h/p)(Y − μ), `before` being 0 where it had no value.
    pub fn add(&mut self, before: f64, after: f64, bucket: Option<u8>) {
        self.score += after - before;
        self.squares += after * after - before * before;
        if let Some(bucket) = bucket {
            self.buckets.resize(BUCKETS, 0.0);
            if let Some(sum) = self.buckets.get_mut(usize::from(bucket)) {
                *sum += after - before;
            }
        }
    }

    /// Σh of this arm's units: that of all arms together is I.
    pub fn information(&self) -> f64 {
        self.information
    }

    /// This arm against another.
    pub fn against(&self, other: &Arm) -> Contrast {
        let score = self.score - other.score;
        if self.buckets.is_empty() && other.buckets.is_empty() {
            return Contrast { score, variance: self.squares + other.squares, enough_buckets: true };
        }
        let at = |arm: &Arm, bucket: usize| arm.buckets.get(bucket).copied().unwrap_or(0.0);
        let difference = |bucket: usize| at(self, bucket) - at(other, bucket);
        let all = BUCKETS as f64;
        let mean = (0..BUCKETS).map(difference).sum::<f64>() / all;
        let squares: f64 = (0..BUCKETS).map(|bucket| (difference(bucket) - mean).powi(2)).sum();
        let used = (0..BUCKETS).filter(|bucket| difference(*bucket) != 0.0).count();
        Contrast { score, variance: squares * all / (all - 1.0), enough_buckets: used >= LEAST_BUCKETS }
    }
}

impl AddAssign<&Self> for Arm {
    fn add_assign(&mut self, other: &Self) {
        self.score += other.score;
        self.squares += other.squares;
        self.information += other.information;
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, numbers};
    use crate::stats::overlap::{Observation, Sums};

    #[test]
    fn of_two_arms_it_is_the_overlap_score() {
        let case = Case::named("overlap_score");
        let (mut pair, mut arms) = (Sums::default(), [Arm::default(), Arm::default()]);
        for row in case.input()["data"].as_array().unwrap() {
            let row = numbers(row);
            let treated = row[0] == 1.0;
            let seen = Observation { treated, propensity: row[1], reward: row[3], predicted: row[2] };
            pair.add(&seen);
            let chances = [1.0 - row[1], row[1]];
            let (h, weight) = weigh(chances.into_iter(), chances[usize::from(treated)]).unwrap();
            arms[usize::from(treated)].inform(h);
            arms[usize::from(treated)].add(0.0, weight * (row[3] - row[2]), None);
        }
        let contrast = arms[1].against(&arms[0]);
        case.check(contrast.score, &case.expected()["S"]);
        case.check(contrast.variance, &case.expected()["V"]);
        case.check(arms[0].information() + arms[1].information(), &case.expected()["I"]);
        assert!((contrast.score - pair.score()).abs() < 1e-12);
    }

    #[test]
    fn no_weight_is_above_one_and_an_arm_that_was_shut_is_no_part_of_it() {
        for chances in [[0.98, 0.01, 0.01], [0.4, 0.3, 0.3], [0.5, 0.5, 0.0]] {
            let open = chances.iter().filter(|p| **p > 0.0);
            for own in open {
                let (h, weight) = weigh(chances.iter().copied(), *own).unwrap();
                assert!(h < 0.26 && weight > 0.0 && weight <= 1.0, "{chances:?}: {h} {weight}");
            }
        }
        assert_eq!(weigh([0.5, 0.5, 0.0].into_iter(), 0.0), None);
        assert_eq!(weigh([0.5, 0.5, 0.0].into_iter(), 0.5), Some((0.25, 0.5)));
    }

    #[test]
    fn a_unit_that_comes_back_is_one() {
        let (mut one, mut other) = (Arm::default(), Arm::default());
        for bucket in 0..100 {
            for _ in 0..10 {
                one.add(0.0, f64::from(bucket % 2), Some(bucket));
            }
            other.add(0.0, 0.5, Some(bucket));
        }
        let contrast = one.against(&other);
        assert!(contrast.enough_buckets && contrast.variance > 3_700.0, "{contrast:?}");
        let mut sum = Arm::default();
        sum += &one;
        assert_eq!(sum.against(&other), contrast);
        one.add(1.0, 0.0, Some(3));
        assert_eq!(one.against(&other).score, contrast.score - 1.0);
    }
}
