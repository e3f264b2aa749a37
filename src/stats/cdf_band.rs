//! How far a distribution function may be from the one that was seen: at all points at once, and at one quantile.
//!
//! The band over all points is wide in the tails; the bound of one quantile is narrow there. Both hold at all times.
//! Source: Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
//! identification" (2022): corollary 2 and theorem 3.

/// The factor of the band; a larger one needs a smaller constant.
const A: f64 = 0.85;
/// Parameters of the bound of one quantile: its grid of quantiles, of times, and the growth of its weights.
const DELTA: f64 = 0.5;
const ETA: f64 = 2.0;
const S: f64 = 1.4;
/// ζ(1.4), the sum of the weights.
const ZETA: f64 = 3.105_547_277_977_58;

/// The half width of the band over the whole function, valid from the first observation on, at level 1 − α.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    constant: f64,
}

impl Band {
    /// Solves α = inf over η of 4 e^(−γ²C)(1 + 1/((γ² − 1) ln η)) for C, with γ = sqrt(2/η)(A − sqrt(2(η − 1)/C)).
    pub fn new(alpha: f64) -> Self {
        let (mut low, mut high) = (1.0, 200.0);
        for _ in 0..45 {
            let middle = 0.5 * (low + high);
            *(if error(middle) > alpha { &mut low } else { &mut high }) = middle;
        }
        Self { constant: high }
    }

    /// The half width after `count` ≥ 1 observations: A sqrt((ln(1 + ln t) + C)/t).
    pub fn half_width(&self, count: f64) -> f64 {
        A * ((count.ln().ln_1p() + self.constant) / count).sqrt()
    }
}

/// The least error bound of a constant, over the grid of η in (1, 2A²).
fn error(constant: f64) -> f64 {
    const STEPS: u32 = 4000;
    let at = |step: u32| {
        let eta = 1.0 + (2.0 * A * A - 1.0) * f64::from(step) / f64::from(STEPS);
        let gamma = (2.0 / eta).sqrt() * (A - (2.0 * (eta - 1.0) / constant).sqrt());
        let over = gamma * gamma - 1.0;
        if gamma > 1.0 {
            4.0 * (-gamma * gamma * constant).exp() * (1.0 + 1.0 / (over * eta.ln()))
        } else {
            1.0
        }
    };
    (1..STEPS).map(at).fold(1.0, f64::min)
}

/// How far the part of observations below the q-quantile may be from q after `count` of them, at all quantiles and
/// times together; narrowest from `first` observations on.
pub fn quantile_half_width(q: f64, count: f64, first: f64, alpha: f64) -> f64 {
    let time = count.max(first) / first;
    let logit = (q / (1.0 - q)).ln();
    let nearby = 1.0 / (1.0 + (-(logit + 2.0 * DELTA * (ETA / time).sqrt())).exp());
    let r = if q >= 0.5 { q } else { nearby.min(0.5) };
    let variance = r * (1.0 - r);
    let place = time.sqrt() * logit.abs() / (2.0 * DELTA) + 1.0;
    let weights = 2.0 * ZETA * (2.0 * ZETA + 1.0) / (alpha * ETA.ln().powf(S));
    let ell = S * (ETA * time).ln().ln() + S * place.ln() + weights.ln();
    let k1 = (ETA.powf(0.25) + ETA.powf(-0.25)) / std::f64::consts::SQRT_2;
    let skewed = (ETA.sqrt() + 1.0) / 2.0 * (1.0 - 2.0 * q) / 3.0 * ell;
    let wide = (k1 * k1 * variance * time * first * ell + skewed * skewed).sqrt();
    (wide + skewed + DELTA * (ETA * time * variance).sqrt()) / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::beta_mixture::{BetaMixture, TUNED_FOR};
    use crate::stats::mixture;
    use crate::stats::oracle::{Case, number};

    #[test]
    fn published_half_widths() {
        let case = Case::named("uniform_cdf_bounds");
        let alpha = number(&case.input()["alpha"]);
        let band = Band::new(alpha);
        for row in case.rows() {
            let count = number(&row["t"]);
            case.check(band.half_width(count), &row["lil"]);
            case.check(quantile_half_width(0.5, count, 100.0, alpha), &row["stitch_p50"]);
            case.check(quantile_half_width(0.99, count, 100.0, alpha), &row["stitch_p99"]);
            // One side at half the level, for which it was tuned there; ours is tuned for another.
            let trials = 1000.0 * mixture::rho(1.0, alpha) / mixture::rho(1.0, 2.0 * TUNED_FOR);
            case.check(BetaMixture::new(0.99, trials).bound(count, alpha / 2.0), &row["betabin_p99"]);
        }
    }
}
