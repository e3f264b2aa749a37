//! Whether units came to their arms in the proportions that were meant: the sample ratio test.
//!
//! The Bayes factor of a Dirichlet law around the planned shares against the shares themselves, on total counts: it
//! may be looked at after every unit and depends on no order and no batches. A mixture of a wide and a narrow law
//! finds large and small mismatches. When the planned shares change an epoch begins; factors of epochs multiply.
//! Source: Lindon & Malek, "Anytime-valid inference for multinomial count data" (2022).

use crate::stats::special::{ln_add_exp, ln_gamma};

/// ln of the Bayes factor of one law of `concentration` k: Σ[ln Γ(kθᵢ + nᵢ) − ln Γ(kθᵢ)] + ln Γ(k) − ln Γ(k + n)
/// − Σ nᵢ ln θᵢ. Arms with a planned share of 0 are left out.
pub fn ln_bayes_factor(counts: &[u64], shares: &[f64], concentration: f64) -> f64 {
    let planned = || counts.iter().zip(shares).filter(|(_, share)| **share > 0.0);
    let whole: f64 = planned().map(|(_, share)| share).sum();
    let mut all = 0.0;
    let mut sum = 0.0;
    for (count, share) in planned() {
        let (count, share) = (*count as f64, share / whole);
        let prior = concentration * share;
        sum += ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln();
        all += count;
    }
    sum + ln_gamma(concentration) - ln_gamma(concentration + all)
}

/// ln E against "units came as planned": the mean of the factors at concentrations of 100 and 10,000.
pub fn ln_e(counts: &[u64], shares: &[f64]) -> f64 {
    let both = ln_add_exp(ln_bayes_factor(counts, shares, 100.0), ln_bayes_factor(counts, shares, 10_000.0));
    both - std::f64::consts::LN_2
}

/// The p-value of Pearson's χ² test of two arms, for comparison only: it is wrong when it is looked at repeatedly.
pub fn chi_squared_p(counts: [u64; 2], shares: [f64; 2]) -> f64 {
    let all = (counts[0] + counts[1]) as f64;
    let part = |at: usize| {
        let expected = all * shares[at] / (shares[0] + shares[1]);
        (counts[at] as f64 - expected).powi(2) / expected
    };
    libm::erfc(((part(0) + part(1)) / 2.0).sqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::oracle::{Case, counts, number, numbers};

    #[test]
    fn published_odds() {
        let case = Case::named("srm_sequential_multinomial");
        let (shares, k) = (numbers(&case.input()["theta0"]), number(&case.input()["k"]));
        let mut all = [0, 0];
        for row in case.rows() {
            counts(&row["batch"]).iter().zip(&mut all).for_each(|(more, sum)| *sum += more);
            case.check(ln_bayes_factor(&all, &shares, k).exp(), &row["odds"]);
        }
    }

    #[test]
    fn the_mixture_of_two_laws() {
        let case = Case::named("srm_mixed_prior");
        let shares = numbers(&case.input()["theta0"]);
        for row in case.rows() {
            let seen = counts(&row["counts"]);
            case.check(ln_bayes_factor(&seen, &shares, 100.0), &row["log_bf_100"]);
            case.check(ln_bayes_factor(&seen, &shares, 10_000.0), &row["log_bf_10000"]);
            case.check(ln_e(&seen, &shares), &row["log_mix"]);
        }
    }

    #[test]
    fn the_fixed_test() {
        let case = Case::named("srm_chi2");
        let shares = numbers(&case.input()["weights"]);
        for row in case.rows() {
            let seen = counts(&row["counts"]);
            case.check(chi_squared_p([seen[0], seen[1]], [shares[0], shares[1]]), &row["p"]);
        }
    }

    #[test]
    fn mismatches_are_seen_and_none_is_not() {
        assert!(ln_e(&[25_500, 24_500], &[0.5, 0.5]) > f64::ln(100.0));
        assert!(ln_e(&[25_050, 24_950], &[0.5, 0.5]) < 0.0);
        // An arm that is planned to get nothing is no arm.
        assert_eq!(ln_e(&[500, 480, 0], &[0.5, 0.5, 0.0]), ln_e(&[500, 480], &[0.5, 0.5]));
    }

    proptest! {
        #[test]
        fn the_mean_factor_is_one(share in 0.05..0.95f64, all in 1u64..60) {
            let binomial = |k: u64| (ln_gamma(all as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((all - k) as f64 + 1.0)
                + k as f64 * share.ln() + (all - k) as f64 * (1.0 - share).ln()).exp();
            let mean: f64 = (0..=all).map(|k| binomial(k) * ln_e(&[k, all - k], &[share, 1.0 - share]).exp()).sum();
            prop_assert!((mean - 1.0).abs() < 1e-9, "{}", mean);
        }
    }
}
