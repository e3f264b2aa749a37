//! How likely each arm is, in parts of 100,000: whole numbers, so that what is logged is exactly what was drawn by.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::assignment::ARMS;
use crate::stats::hash::platforms::PLACES;

/// A share for each arm; they sum to 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    of: [u32; ARMS],
    arms: u8,
}

impl Shares {
    /// From probabilities that sum to 1, of 8 arms at most; what rounding leaves goes to the largest remainders, so an
    /// arm has 0 exactly where its probability is too small for one part.
    pub fn new(probabilities: &[f64]) -> Self {
        let arms = probabilities.len().min(ARMS);
        let mut shares = Shares { of: [0; ARMS], arms: arms as u8 };
        let mut remainders = [0.0; ARMS];
        let mut left = PLACES;
        for ((share, remainder), p) in shares.of.iter_mut().zip(&mut remainders).zip(probabilities) {
            let parts = p.clamp(0.0, 1.0) * f64::from(PLACES);
            *share = (parts as u32).min(left);
            *remainder = parts - f64::from(*share);
            left -= *share;
        }
        while left > 0 && arms > 0 {
            let mut most = 0;
            for arm in 1..arms {
                if remainders[arm] > remainders[most] {
                    most = arm;
                }
            }
            shares.of[most] += 1;
            remainders[most] -= 1.0;
            left -= 1;
        }
        shares
    }

    /// Everything evenly between the arms that are open.
    pub(super) fn even(open: &[bool]) -> Self {
        let each = 1.0 / open.iter().filter(|open| **open).count().max(1) as f64;
        Self::new(&open.iter().map(|open| if *open { each } else { 0.0 }).collect::<Vec<_>>())
    }

    /// By arm, in parts of 100,000.
    pub fn as_slice(&self) -> &[u32] {
        &self.of[..usize::from(self.arms)]
    }

    /// How likely an arm is, 0.0 to 1.0.
    pub fn get(&self, arm: usize) -> f64 {
        self.as_slice().get(arm).map_or(0.0, |share| f64::from(*share) / f64::from(PLACES))
    }

    /// The arm that owns a place, 0 to 99,999.
    pub fn at(&self, place: u32) -> Option<usize> {
        let mut end = 0;
        self.as_slice().iter().position(|share| {
            end += share;
            place < end
        })
    }

    /// Which places belong to which arm, in order.
    pub(super) fn intervals(&self) -> impl Iterator<Item = (usize, Range<u32>)> {
        let mut end = 0;
        let each = self.as_slice().iter().enumerate().map(move |(arm, share)| {
            let start = end;
            end += share;
            (arm, start..end)
        });
        each.filter(|(_, places)| !places.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_place_has_one_owner() {
        let shares = Shares::new(&[0.5, 0.0, 0.333_333, 0.166_667]);
        assert_eq!(shares.as_slice(), [50_000, 0, 33_333, 16_667]);
        assert_eq!(
            [0, 49_999, 50_000, 83_332, 83_333, 99_999].map(|at| shares.at(at)),
            [0, 0, 2, 2, 3, 3].map(Some)
        );
        assert_eq!(shares.at(100_000), None);
        let intervals: Vec<_> = shares.intervals().collect();
        assert_eq!(intervals, [(0, 0..50_000), (2, 50_000..83_333), (3, 83_333..100_000)]);
        assert_eq!(Shares::even(&[true, false, true]).as_slice(), [50_000, 0, 50_000]);
    }

    proptest! {
        #[test]
        fn they_sum_to_everything_and_are_as_near_as_whole_parts_can_be(raw in prop::collection::vec(0.0..1.0f64, 1..=8)) {
            let sum: f64 = raw.iter().sum::<f64>().max(1e-9);
            let wanted: Vec<f64> = raw.iter().map(|p| p / sum).collect();
            if raw.iter().sum::<f64>() > 1e-6 {
                let shares = Shares::new(&wanted);
                prop_assert_eq!(shares.as_slice().iter().sum::<u32>(), PLACES);
                for (arm, p) in wanted.iter().enumerate() {
                    prop_assert!((shares.get(arm) - p).abs() < 2e-5);
                }
            }
        }
    }
}
