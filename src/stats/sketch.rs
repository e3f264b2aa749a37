//! Quantiles of many numbers from counts in logarithmic bins, each within 1 % of a number that was there.
//!
//! A number x > 0 falls into the bin ⌈ln x / ln γ⌉ with γ = (1 + a)/(1 − a), a = 0.01. Counts add up in any order, so
//! sketches of several sources merge into what one would have seen. What is 0 or less, or no number, is counted apart.
//! Source: Masson, Rim, Lee, "DDSketch" (2019).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The relative error of a quantile.
const ACCURACY: f64 = 0.01;
/// Bins at most; beyond it the lowest are counted as one, for it is the large ones that are asked for.
const BINS: usize = 2048;

/// γ: each bin's upper edge over the one before.
fn gamma() -> f64 {
    (1.0 + ACCURACY) / (1.0 - ACCURACY)
}

/// The bin of x > 0.
fn key(x: f64) -> i32 {
    (x.ln() / gamma().ln()).ceil() as i32
}

/// Counts of numbers that are 0 or more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    zeros: u64,
    bins: BTreeMap<i32, u64>,
}

impl Sketch {
    /// Counts a number; what is below 0 counts as 0, and NaN not at all.
    pub fn add(&mut self, x: f64) {
        if x.is_nan() {
            return;
        }
        if x <= 0.0 {
            self.zeros += 1;
            return;
        }
        *self.bins.entry(key(x)).or_default() += 1;
        if self.bins.len() > BINS
            && let Some((_, count)) = self.bins.pop_first()
            && let Some(mut lowest) = self.bins.first_entry()
        {
            *lowest.get_mut() += count;
        }
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, more: &Sketch) {
        self.zeros += more.zeros;
        for (key, count) in &more.bins {
            *self.bins.entry(*key).or_default() += count;
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.zeros + self.bins.values().sum::<u64>()
    }

    /// The number that a part `q` of all are not above; none without any.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        let rank = (q * last as f64) as u64;
        let mut below = self.zeros;
        if rank < below {
            return Some(0.0);
        }
        let bin = self.bins.iter().find(|(_, count)| {
            below += **count;
            rank < below
        });
        bin.map(|(key, _)| 2.0 * gamma().powi(*key) / (1.0 + gamma()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, numbers};

    #[test]
    fn published_sketch() {
        let case = Case::named("ddsketch");
        case.check(gamma(), &case.expected()["gamma"]);
        let keys = case.expected()["keys"].as_array().unwrap();
        for (x, want) in numbers(&case.expected()["key_inputs"]).into_iter().zip(keys) {
            assert_eq!(i64::from(key(x)), want.as_i64().unwrap());
        }
        let (mut one, mut other) = (Sketch::default(), Sketch::default());
        for (at, x) in numbers(&case.input()["values"]).into_iter().enumerate() {
            (if at % 3 == 0 { &mut one } else { &mut other }).add(x);
        }
        one.merge(&other);
        for (q, want) in case.expected()["quantiles"].as_object().unwrap() {
            case.check(one.quantile(q.parse().unwrap()).unwrap(), want);
        }
    }

    #[test]
    fn what_is_no_positive_number_breaks_nothing() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE].into_iter().for_each(|x| sketch.add(x));
        assert_eq!((sketch.count(), sketch.quantile(0.0)), (4, Some(0.0)));
        assert!(sketch.quantile(1.0).unwrap() > 1e300);
        (0..5_000).for_each(|x| sketch.add(f64::from(x).exp2()));
        assert!(sketch.bins.len() <= BINS && sketch.count() == 5_004);
    }
}
