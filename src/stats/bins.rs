//! Two distributions side by side, both as counts in the same bins: whether they differ, and how much.
//!
//! Whether: [`ln_e`] asks of each bin's values how many are the candidate's. If both have one law, each is with the
//! probability π that a value is the candidate's at all, whatever the law is; a beta law around π bets on the rest:
//! ln E = Σ_b [ln B(kπ + n_cb, k(1−π) + n_0b) − ln B(kπ, k(1−π)) − n_cb ln π − n_0b ln(1−π)], k = 50. It is exact and
//! may be looked at after each value, but it also sees that π is not what was meant.
//! How much: the population stability index, the Jensen–Shannon distance, Kolmogorov–Smirnov and Wasserstein-1. None of
//! these may decide: they are never zero between two samples of one law.
//! Sources: Lindon & Malek (2022), applied bin by bin; Yurdakul & Naranjo (2020) for the law of the index.

use crate::stats::special::ln_beta;

/// How much the law around π weighs.
const CONCENTRATION: f64 = 50.0;
/// What an empty bin counts as.
const EMPTY: f64 = 1e-4;

/// ln E against "a value's bin says nothing of whose it is"; `share`, π, is in (0, 1).
pub fn ln_e(candidate: &[u64], base: &[u64], share: f64) -> f64 {
    let (a, b) = (CONCENTRATION * share, CONCENTRATION * (1.0 - share));
    let (ln_hit, ln_miss) = (share.ln(), (-share).ln_1p());
    let bin = |(hits, misses): (&u64, &u64)| {
        let (hits, misses) = (*hits as f64, *misses as f64);
        ln_beta(a + hits, b + misses) - ln_beta(a, b) - hits * ln_hit - misses * ln_miss
    };
    candidate.iter().zip(base).map(bin).sum()
}

/// Counts as parts of their sum; nothing where that is 0.
pub fn parts(counts: &[u64]) -> Vec<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 { Vec::new() } else { counts.iter().map(|count| *count as f64 / all as f64).collect() }
}

/// The population stability index Σ (p − q) ln(p/q); a bin that one side has none of counts as 0.0001.
pub fn stability(p: &[f64], q: &[f64]) -> f64 {
    let term = |(p, q): (&f64, &f64)| {
        let (p, q) = (p.max(EMPTY), q.max(EMPTY));
        (p - q) * (p / q).ln()
    };
    p.iter().zip(q).map(term).sum()
}

/// What the index of two samples of one law, of these sizes in so many bins, exceeds once in a thousand times:
/// the 0.999 quantile of χ² with one degree less than bins, times 1/n + 1/m.
pub fn chance_stability(bins: usize, n: u64, m: u64) -> f64 {
    let freedom = bins.saturating_sub(1) as f64;
    if freedom == 0.0 || n == 0 || m == 0 {
        return f64::INFINITY;
    }
    chi_squared_quantile(0.001, freedom) * (1.0 / n as f64 + 1.0 / m as f64)
}

/// The Jensen–Shannon divergence to base 2, from 0 (the same) to 1 (nothing in common); its root is the distance.
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let part = |x: f64, middle: f64| if x > 0.0 { x * (x / middle).log2() } else { 0.0 };
    let term = |(p, q): (&f64, &f64)| {
        let middle = 0.5 * (p + q);
        0.5 * (part(*p, middle) + part(*q, middle))
    };
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

/// The largest distance between the two distribution functions, at the edges of bins.
pub fn kolmogorov_smirnov(p: &[f64], q: &[f64]) -> f64 {
    gaps(p, q).map(f64::abs).fold(0.0, f64::max)
}

/// How far mass must be moved on the mean, where each bin's lies at `places`, in their unit.
pub fn wasserstein(p: &[f64], q: &[f64], places: &[f64]) -> f64 {
    gaps(p, q).zip(places.windows(2)).map(|(gap, pair)| gap.abs() * (pair[1] - pair[0])).sum()
}

fn gaps<'a>(p: &'a [f64], q: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    p.iter().zip(q).scan(0.0, |gap, (p, q)| {
        *gap += p - q;
        Some(*gap)
    })
}

/// The x that χ² of so many degrees of freedom exceeds with the probability `tail`.
fn chi_squared_quantile(tail: f64, freedom: f64) -> f64 {
    let a = freedom / 2.0;
    let (mut low, mut high) = (0.0, a + 20.0 + 20.0 * a.sqrt());
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        *(if gamma_tail(a, middle) > tail { &mut low } else { &mut high }) = middle;
    }
    low + high
}

/// The mass of the gamma law of shape a above x: by its series below a + 1, by its continued fraction above.
fn gamma_tail(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - crate::stats::special::ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - sum * front;
    }
    // Lentz's method.
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (f64::MAX, 1.0 / b);
    let mut fraction = d;
    for i in 1..500 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction * front
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::stats::oracle::{Case, counts, number, numbers};
    use crate::stats::special::normal_quantile;

    #[test]
    fn published_evidence() {
        let case = Case::named("binned_two_sample_e");
        assert_eq!(number(&case.input()["k"]), CONCENTRATION);
        let share = number(&case.input()["pi"]);
        for row in case.rows() {
            case.check(ln_e(&counts(&row["canary"]), &counts(&row["base"]), share), &row["log_e"]);
        }
    }

    #[test]
    fn published_index() {
        let case = Case::named("psi");
        let (p, q) = (numbers(&case.input()["p"]), numbers(&case.input()["q"]));
        case.check(stability(&p, &q), &case.expected()["psi"]);
        let (n, m) = (case.input()["N"].as_u64().unwrap(), case.input()["M"].as_u64().unwrap());
        case.check(chance_stability(p.len(), n, m), &case.expected()["crit_999"]);
        assert!(stability(&[1.0, 0.0], &[0.0, 1.0]).is_finite());
        assert_eq!(chance_stability(1, 10, 10), f64::INFINITY);
    }

    #[test]
    fn published_divergence() {
        let case = Case::named("jensen_shannon");
        let (p, q) = (numbers(&case.input()["p"]), numbers(&case.input()["q"]));
        let divergence = jensen_shannon(&p, &q);
        case.check(divergence, &case.expected()["divergence_base_2"]);
        case.check(divergence.sqrt(), &case.expected()["base_2"]);
        case.check((divergence * std::f64::consts::LN_2).sqrt(), &case.expected()["base_e"]);
        assert_eq!(jensen_shannon(&[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }

    /// Both distances of values are those of bins that hold one value each.
    #[test]
    fn published_distances() {
        let case = Case::named("ks_wasserstein_mw");
        let (a, b) = (numbers(&case.input()["a"]), numbers(&case.input()["b"]));
        let mut places = [a.clone(), b.clone()].concat();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let within = |values: &[f64]| {
            let count = |place: &f64| values.iter().filter(|value| *value == place).count() as u64;
            parts(&places.iter().map(count).collect::<Vec<_>>())
        };
        case.check(kolmogorov_smirnov(&within(&a), &within(&b)), &case.expected()["ks"]);
        case.check(wasserstein(&within(&a), &within(&b), &places), &case.expected()["wasserstein"]);
    }

    /// The candidate's value at which drift is told, for deciles of a normal law that is moved by `shift`.
    fn told(seed: u64, shift: f64, most: u64, alpha: f64) -> Option<u64> {
        let edges: Vec<f64> = (1..10).map(|tenth| normal_quantile(f64::from(tenth) / 10.0)).collect();
        let mut chance = SmallRng::seed_from_u64(seed);
        let (mut candidate, mut base, mut values) = ([0; 10], [0; 10], 0);
        while values < most {
            let own = chance.random::<f64>() < 0.2;
            let z = normal_quantile(chance.random::<f64>().clamp(1e-12, 1.0 - 1e-12));
            let x = if own { z + shift } else { z };
            let bin = edges.partition_point(|edge| *edge < x);
            *(if own { &mut candidate[bin] } else { &mut base[bin] }) += 1;
            values += u64::from(own);
            if ln_e(&candidate, &base, 0.2) >= -alpha.ln() {
                return Some(values);
            }
        }
        None
    }

    #[test]
    fn a_drift_of_a_tenth_is_found_and_none_is_not() {
        let mut found: Vec<u64> =
            (0..101).map(|seed| told(seed, 0.33, 2_000, 0.01).unwrap_or(u64::MAX)).collect();
        found.sort_unstable();
        assert!(found[50] <= 320, "an index of 0.10 after {} values", found[50]);
        let wrong = (0..200).filter(|seed| told(*seed, 0.0, 400, 0.05).is_some()).count();
        assert!(wrong <= 10, "{wrong} of 200");
    }
}
