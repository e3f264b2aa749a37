//! Whether the mean of bounded values is above a bound, or below it: bets of fixed stakes, exactly.
//!
//! Against "the mean is at most m" each stake λ multiplies its capital by 1 + λ(x − m) at every value x, which on the
//! mean does not grow if that is so, as long as no value can make it negative. The mean capital of a geometric grid of
//! stakes is an e-value: no stake is ever chosen by the data, so the logarithms of each are sums, and may be added up
//! in any order. Values need not be independent of their time, nor of one law.
//! Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (2023).

use serde::{Deserialize, Serialize};

/// Stakes of the grid, each half of the one before.
const STAKES: usize = 12;
/// The largest stake, as part of what the worst value would take all of.
const MOST: f64 = 0.9;

/// The capital of each stake, in logarithms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bets {
    ln_capital: [f64; STAKES],
}

impl Bets {
    /// Bets on a mean above 0: `gain` is what a value has more than the bound, at least −`worst`, which is above 0.
    pub fn add(&mut self, gain: f64, worst: f64) {
        let mut stake = MOST / worst;
        for capital in &mut self.ln_capital {
            *capital += (stake * gain).max(-MOST).ln_1p();
            stake *= 0.5;
        }
    }

    /// ln E: the mean capital.
    pub fn ln_e(&self) -> f64 {
        let most = self.ln_capital.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.ln_capital.iter().map(|capital| (capital - most).exp()).sum();
        most + (sum / STAKES as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// Whether a rate of `rate` is told to be below `bound` within `most` values; the value at which.
    fn told_below(seed: u64, rate: f64, bound: f64, most: u64) -> Option<u64> {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut bets = Bets::default();
        (1..=most).find(|_| {
            let x = f64::from(u8::from(chance.random::<f64>() < rate));
            bets.add(bound - x, 1.0 - bound);
            bets.ln_e() >= 20.0_f64.ln()
        })
    }

    #[test]
    fn a_rate_on_the_bound_is_seldom_told_to_be_below() {
        let wrong = (0..400).filter(|seed| told_below(*seed, 0.01, 0.01, 5_000).is_some()).count();
        assert!(wrong <= 20, "{wrong} of 400");
    }

    #[test]
    fn no_hit_at_all_is_soon_below_one_percent() {
        let after = told_below(1, 0.0, 0.01, 5_000).unwrap();
        assert!((300..700).contains(&after), "{after}");
        assert_eq!(Bets::default().ln_e(), 0.0);
    }

    #[test]
    fn the_order_makes_no_difference() {
        let (mut one, mut other) = (Bets::default(), Bets::default());
        let values = [0.5, -0.25, -0.25, 0.75, 0.0];
        values.iter().for_each(|x| one.add(*x, 0.25));
        values.iter().rev().for_each(|x| other.add(*x, 0.25));
        assert!((one.ln_e() - other.ln_e()).abs() < 1e-12);
    }
}
