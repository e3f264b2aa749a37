//! E-values for sums of bounded martingale differences, exact at any size: the gamma-exponential mixture.
//!
//! With Dᵢ ≥ −c and E[Dᵢ | past] ≤ 0 the process exp(λS − ψ(λ)V), S = ΣDᵢ, V = ΣDᵢ², ψ(λ) = (−ln(1 − cλ) − cλ)/c², is a
//! supermartingale for each λ in [0, 1/c), whatever the law of the Dᵢ (Fan, Grama, Liu 2015). A gamma law over 1 − cλ mixes
//! them, so its mean is at most 1 at any stopping time, without a limit theorem. It is the exact counterpart of
//! [`crate::stats::mixture::OneSided`], and needs about half as much data again.
//! Source: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021),
//! proposition 9.

use crate::stats::mixture::rho;
use crate::stats::special::{ln_gamma, ln_gamma_lower};

/// "The sum is zero or less in expectation", of differences that are never below −c.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaMixture {
    rho: f64,
    c: f64,
    start: f64,
}

impl GammaMixture {
    /// A mixture that is tightest when the accumulated squares have reached `variance`, for tests at `alpha` < ½; no
    /// difference is below −`c`, `c` > 0.
    pub fn new(variance: f64, alpha: f64, c: f64) -> Self {
        let rho = rho(variance, 2.0 * alpha);
        let shape = rho / (c * c);
        let start = shape * shape.ln() - ln_gamma(shape) - ln_gamma_lower(shape, shape);
        GammaMixture { rho, c, start }
    }

    /// ln E of a sum with these accumulated squares.
    pub fn ln_e(&self, sum: f64, squares: f64) -> f64 {
        let square = self.c * self.c;
        let shape = (squares + self.rho) / square;
        let point = shape + sum / self.c;
        if point <= 0.0 {
            return f64::NEG_INFINITY;
        }
        self.start + ln_gamma(shape) + ln_gamma_lower(shape, point) - shape * point.ln()
            + (self.c * sum + squares) / square
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// ∫ exp(λs − ψ(λ)v) f(λ) dλ over f ∝ (1 − cλ)^(ρ/c² − 1) e^(−ρ(1 − cλ)/c²), by Simpson's rule in 1 − cλ.
    fn by_hand(mixture: &GammaMixture, sum: f64, squares: f64) -> f64 {
        let GammaMixture { rho, c, .. } = *mixture;
        let law = |rest: f64| (rho / (c * c) - 1.0) * rest.ln() - rho * rest / (c * c);
        let bet = |rest: f64| {
            let lambda = (1.0 - rest) / c;
            lambda * sum - (-rest.ln() - c * lambda) / (c * c) * squares
        };
        let simpson = |of: &dyn Fn(f64) -> f64| {
            const PARTS: usize = 40_000;
            let step = 1.0 / PARTS as f64;
            let weight = |place: usize| match place {
                0 | PARTS => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            (1..=PARTS).map(|place| weight(place) * of(place as f64 * step)).sum::<f64>() * step / 3.0
        };
        let top = law(1.0);
        let mixed = simpson(&|rest| (law(rest) - top + bet(rest)).exp());
        (mixed / simpson(&|rest| (law(rest) - top).exp())).ln()
    }

    #[test]
    fn it_is_the_mixture_that_is_meant() {
        for (best, c) in [(50.0, 1.0), (300.0, 1.5), (2_000.0, 1.0)] {
            let mixture = GammaMixture::new(best, 0.025, c);
            for (sum, squares) in [(0.0, 0.0), (10.0, 40.0), (-5.0, 30.0), (60.0, 400.0), (150.0, 2_500.0)] {
                let (got, want) = (mixture.ln_e(sum, squares), by_hand(&mixture, sum, squares));
                assert!(
                    (got - want).abs() < 1e-5 * want.abs().max(1.0),
                    "{got} for {want}: {best} {sum} {squares}"
                );
            }
        }
    }

    #[test]
    fn rare_hits_that_break_the_normal_law_break_nothing_here() {
        // D = 1 − p with chance p, else −p: as skewed as one likes, and looked at after every value.
        let mut chance = SmallRng::seed_from_u64(11);
        let (p, mut wrong) = (0.002, 0);
        for _ in 0..400 {
            let mixture = GammaMixture::new(5.0, 0.05, 1.0);
            let (mut sum, mut squares) = (0.0, 0.0);
            wrong += u32::from((0..4_000).any(|_| {
                let value = f64::from(u8::from(chance.random_bool(p))) - p;
                (sum, squares) = (sum + value, squares + value * value);
                mixture.ln_e(sum, squares) >= -f64::ln(0.05)
            }));
        }
        // 5 % of 400 are 20, and three standard deviations above that are 33.
        assert!(wrong <= 33, "{wrong}");
    }

    proptest! {
        #[test]
        fn more_of_a_sum_is_more_evidence(v in 0.0..1e5f64, sum in -1e3..1e4f64, more in 0.0..1e3f64, best in 1.0..1e4f64) {
            let mixture = GammaMixture::new(best, 0.025, 1.0);
            prop_assert!(mixture.ln_e(sum + more, v) >= mixture.ln_e(sum, v) - 1e-9);
        }
    }
}
