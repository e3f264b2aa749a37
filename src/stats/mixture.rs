//! Boundaries and e-values for sums of martingale differences: the normal mixture of Robbins.
//!
//! `sum` is what was accumulated, `variance` its accumulated variance. Under the hypothesis the e-value has a mean of
//! at most 1 at any stopping time, so it may be looked at after every observation: 1 / E is a p-value for ever.
//! `rho` says at which variance the mixture is tightest. It is set before the data and never again.
//! Sources: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform Chernoff bounds via nonnegative supermartingales" (2020)
//! and "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021).

use serde::{Deserialize, Serialize};

use crate::stats::special::ln_normal_cdf;

/// The rho that is nearly best at `variance` for a two-sided test at `alpha`: v / (2 ln(1/α) + ln(1 + 2 ln(1/α))).
pub fn rho(variance: f64, alpha: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    variance / (twice + twice.ln_1p())
}

/// "The sum is zero in expectation", against both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TwoSided {
    rho: f64,
}

impl TwoSided {
    /// A mixture that is tightest when the variance has reached `variance`, for tests at `alpha`.
    pub fn new(variance: f64, alpha: f64) -> Self {
        Self::with_rho(rho(variance, alpha))
    }

    /// A mixture of a given rho > 0.
    pub fn with_rho(rho: f64) -> Self {
        Self { rho }
    }

    /// The rho of this mixture.
    pub fn rho(&self) -> f64 {
        self.rho
    }

    /// How far from zero the sum may be: sqrt((v + ρ)(ln((v + ρ)/ρ) + 2 ln(1/α))).
    pub fn bound(&self, variance: f64, alpha: f64) -> f64 {
        let all = variance + self.rho;
        (all * ((variance / self.rho).ln_1p() - 2.0 * alpha.ln())).sqrt()
    }

    /// ln E: ½ ln(ρ/(v + ρ)) + S²/(2(v + ρ)).
    pub fn ln_e(&self, sum: f64, variance: f64) -> f64 {
        0.5 * (sum * sum / (variance + self.rho) - (variance / self.rho).ln_1p())
    }
}

/// "The sum is zero or less in expectation", against more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OneSided {
    rho: f64,
}

impl OneSided {
    /// A mixture that is tightest when the variance has reached `variance`, for tests at `alpha` < ½.
    pub fn new(variance: f64, alpha: f64) -> Self {
        Self { rho: rho(variance, 2.0 * alpha) }
    }

    /// ln E of the half-normal mixture: ½ ln(4ρ/(v + ρ)) + S²/(2(v + ρ)) + ln Φ(S/sqrt(v + ρ)).
    pub fn ln_e(&self, sum: f64, variance: f64) -> f64 {
        let z = sum / (variance + self.rho).sqrt();
        std::f64::consts::LN_2 - 0.5 * (variance / self.rho).ln_1p() + 0.5 * z * z + ln_normal_cdf(z)
    }

    /// How large the sum may be: the S at which E is 1/α.
    pub fn bound(&self, variance: f64, alpha: f64) -> f64 {
        let target = -alpha.ln();
        let (mut low, mut high) = (0.0, self.closed_bound(variance, alpha));
        // ln E grows with S, and at the closed bound it has passed the target.
        while high - low > 1e-14 * high {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            *(if self.ln_e(middle, variance) < target { &mut low } else { &mut high }) = middle;
        }
        high
    }

    /// A bound in closed form, a little wider: sqrt(2(v + ρ) ln(1 + sqrt((v + ρ)/ρ)/(2α))).
    pub fn closed_bound(&self, variance: f64, alpha: f64) -> f64 {
        let all = variance + self.rho;
        (2.0 * all * ((all / self.rho).sqrt() / (2.0 * alpha)).ln_1p()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::oracle::{Case, number};

    #[test]
    fn published_bounds() {
        let case = Case::named("normal_mixture_bound");
        let alpha = number(&case.input()["alpha"]);
        let best = number(&case.input()["v_opt"]);
        for row in case.rows() {
            let variance = number(&row["v"]);
            case.check(TwoSided::new(best, alpha).bound(variance, alpha), &row["two_sided"]);
            case.check(OneSided::new(best, alpha).bound(variance, alpha), &row["one_sided"]);
        }
    }

    proptest! {
        #[test]
        fn a_sum_at_the_bound_has_an_e_value_of_one_over_alpha(v in 0.0..1e6f64, best in 1.0..1e5f64, alpha in 1e-6..0.4f64) {
            let both = TwoSided::new(best, 0.05);
            prop_assert!((both.ln_e(both.bound(v, alpha), v) + alpha.ln()).abs() < 1e-9);
            prop_assert!((both.ln_e(-both.bound(v, alpha), v) + alpha.ln()).abs() < 1e-9);
            let one = OneSided::new(best, 0.05);
            prop_assert!((one.ln_e(one.bound(v, alpha), v) + alpha.ln()).abs() < 1e-9);
            prop_assert!(one.closed_bound(v, alpha) >= one.bound(v, alpha));
        }

        #[test]
        fn one_sided_evidence_grows_with_the_sum(v in 0.0..1e6f64, sum in -1e4..1e4f64, more in 0.0..1e3f64) {
            let one = OneSided::new(1000.0, 0.05);
            prop_assert!(one.ln_e(sum + more, v) >= one.ln_e(sum, v) - 1e-9);
        }
    }
}
