//! Upper confidence indices of arms whose rewards lie in [0, 1], and what no policy can beat.
//!
//! Sources: Auer, Cesa-Bianchi & Fischer 2002 (UCB1); Garivier & Cappé 2011 (KL-UCB, c = 0); Lai & Robbins 1985.

/// Halvings of the interval that an index lies in.
const HALVINGS: u32 = 60;

/// m + √(2 ln t / n), for n values of mean `mean` among t of all arms; infinite without values.
pub fn ucb1(mean: f64, n: f64, t: f64) -> f64 {
    if n > 0.0 { mean + (2.0 * t.max(1.0).ln() / n).sqrt() } else { f64::INFINITY }
}

/// max{q: n·kl(mean, q) ≤ ln t}, at most 1; infinite without values.
pub fn kl_ucb(mean: f64, n: f64, t: f64) -> f64 {
    if n <= 0.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (mean.clamp(0.0, 1.0), 1.0);
    let room = t.max(1.0).ln() / n;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *(if kl(mean, middle) <= room { &mut low } else { &mut high }) = middle;
    }
    low
}

/// The Kullback–Leibler divergence of two Bernoulli laws, p from q; infinite where q rules out what p allows.
pub fn kl(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// Σ Δ/kl(μ, μ*) over arms of 0 and 1 that are not the best: regret grows at least so many times ln T, in the end.
pub fn lai_robbins(means: &[f64]) -> f64 {
    let best = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    means.iter().filter(|mean| **mean < best).map(|mean| (best - mean) / kl(*mean, best)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number, numbers};

    #[test]
    fn published_indices() {
        let case = Case::named("kl_ucb_ucb1");
        for row in case.rows() {
            let [s, n, t] = ["successes", "n", "t"].map(|key| number(&row[key]));
            case.check(kl_ucb(s / n, n, t), &row["kl_ucb"]);
            case.check(ucb1(s / n, n, t), &row["ucb1"]);
        }
        assert_eq!((ucb1(0.5, 0.0, 9.0), kl_ucb(0.5, 0.0, 9.0)), (f64::INFINITY, f64::INFINITY));
        assert_eq!(kl_ucb(1.0, 10.0, 100.0), 1.0);
    }

    #[test]
    fn published_constants() {
        let case = Case::named("lai_robbins");
        let rounds = number(&case.input()["T"]);
        for row in case.rows() {
            let constant = lai_robbins(&numbers(&row["means"]));
            case.check(constant, &row["constant"]);
            case.check(constant * rounds.ln(), &row["bound"]);
        }
        assert_eq!(lai_robbins(&[0.3, 0.3]), 0.0);
    }
}
