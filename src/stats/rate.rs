//! Intervals of rates, for reports: of one arm's error rate, and of the ratio of two.
//!
//! Both are confidence sequences: the true value is inside at all times together with probability 1 − α, so they may
//! be shown after every call. Neither decides anything; the tests of the neighbouring files do.
//! Sources: the beta-binomial mixture of Howard et al. (2021), and Lindon & Malek, "Anytime-valid inference for
//! multinomial count data" (2022).

use crate::stats::beta_mixture::TwoSidedBeta;
use crate::stats::special::ln_front;

/// How much the counts that the ratio's prior stands for weigh.
const PRIOR_COUNTS: f64 = 100.0;

/// The interval of a rate of hits; narrowest at `trials` trials, which is set before the data.
pub fn rate_interval(hits: u64, misses: u64, trials: f64, alpha: f64) -> (f64, f64) {
    let all = (hits + misses) as f64;
    if all == 0.0 {
        return (0.0, 1.0);
    }
    let inside = |theta: f64| TwoSidedBeta::new(theta, trials).ln_e(hits, misses) < -alpha.ln();
    let seen = hits as f64 / all;
    let low = if hits == 0 { 0.0 } else { edge(seen, 0.0, inside) };
    let high = if misses == 0 { 1.0 } else { edge(seen, 1.0, inside) };
    (low, high)
}

/// The interval of ln(candidate's event rate / baseline's), each rate being events over the share of traffic.
/// `share`, the candidate's, is in (0, 1).
pub fn ln_rate_ratio_interval(candidate: u64, baseline: u64, share: f64, alpha: f64) -> (f64, f64) {
    let ln_e = ln_e_of_ratio(candidate, baseline, share);
    let inside = |ln_ratio: f64| ln_e(ln_ratio) < -alpha.ln();
    const FAR: f64 = 20.0;
    let ln_odds = (share / (1.0 - share)).ln();
    let seen = ((candidate as f64 / baseline as f64).ln() - ln_odds).clamp(-FAR, FAR);
    let seen = if candidate + baseline == 0 { 0.0 } else { seen };
    let end = |far: f64| if inside(far) { far * f64::INFINITY } else { edge(seen, far, inside) };
    (end(-FAR), end(FAR))
}

/// The e-value against each ratio of the two rates: a beta law around the traffic's own split, whichever ratio is
/// asked about.
fn ln_e_of_ratio(candidate: u64, baseline: u64, share: f64) -> impl Fn(f64) -> f64 {
    let (a, b) = (PRIOR_COUNTS * share, PRIOR_COUNTS * (1.0 - share));
    let (hits, misses) = (candidate as f64, baseline as f64);
    move |ln_ratio: f64| {
        let odds = share / (1.0 - share) * ln_ratio.exp();
        let theta = odds / (1.0 + odds);
        ln_front(a, b, theta) - ln_front(a + hits, b + misses, theta)
    }
}

/// Where `inside` ends between a point inside and one outside.
fn edge(mut within: f64, mut without: f64, inside: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = 0.5 * (within + without);
        *(if inside(middle) { &mut within } else { &mut without }) = middle;
    }
    without
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, counts, number, numbers};

    #[test]
    fn published_intervals_of_a_rate() {
        let case = Case::named("bernoulli_cs");
        let (alpha, trials) = (number(&case.input()["alpha"]), number(&case.input()["t_opt"]));
        for row in case.rows() {
            let hits = row["successes"].as_u64().unwrap();
            let misses = row["n"].as_u64().unwrap() - hits;
            let (low, high) = rate_interval(hits, misses, trials, alpha);
            case.check(low, &row["ci"][0]);
            case.check(high, &row["ci"][1]);
            // Of misses it is the mirror image.
            let mirror = rate_interval(misses, hits, trials, alpha);
            assert!((mirror.0 - (1.0 - high)).abs() < 1e-9 && (mirror.1 - (1.0 - low)).abs() < 1e-9);
        }
        assert_eq!(rate_interval(0, 0, trials, alpha), (0.0, 1.0));
    }

    #[test]
    fn no_error_in_four_thousand_calls() {
        let (low, high) = rate_interval(0, 4_100, 4_100.0, 0.05);
        assert_eq!(low, 0.0);
        assert!((high - 0.001).abs() < 2e-5, "{high}");
    }

    #[test]
    fn published_interval_of_a_ratio() {
        let case = Case::named("poisson_rate_ratio_cs");
        assert_eq!(number(&case.input()["k"]), PRIOR_COUNTS);
        let (events, shares) = (counts(&case.input()["counts"]), numbers(&case.input()["rho"]));
        let alpha = number(&case.input()["alpha"]);
        let (low, high) = ln_rate_ratio_interval(events[1], events[0], shares[1], alpha);
        case.check(low, &case.expected()["ci"][0][0]);
        case.check(high, &case.expected()["ci"][0][1]);
        case.check((-ln_e_of_ratio(events[1], events[0], shares[1])(0.0)).exp(), &case.expected()["p"]);
    }

    #[test]
    fn without_events_a_ratio_is_unknown() {
        assert_eq!(ln_rate_ratio_interval(0, 0, 0.2, 0.05), (f64::NEG_INFINITY, f64::INFINITY));
        let (low, high) = ln_rate_ratio_interval(0, 400, 0.5, 0.05);
        assert!(low == f64::NEG_INFINITY && high < -1.0, "{low} {high}");
    }
}
