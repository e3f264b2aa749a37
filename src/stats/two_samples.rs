//! Two samples side by side: distances and tests that other tools report, and the sequential test of one quantile.
//!
//! Kolmogorov–Smirnov, Wasserstein-1, Mann–Whitney and the Hodges–Lehmann shift are right when looked at once; none
//! of them may be looked at again and again. [`quantile_ln_e`] may: it is the two-sided test of Howard & Ramdas,
//! "Sequential estimation of quantiles with applications to A/B testing and best-arm identification" (2022).

use crate::stats::beta_mixture::TwoSidedBeta;
use crate::stats::special::normal_cdf;

/// A sample in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
}

impl Sample {
    /// Puts values into order; none of them may be NaN.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { values }
    }

    /// How many values are below x, and how many are at most x.
    fn around(&self, x: f64) -> (usize, usize) {
        (self.values.partition_point(|value| *value < x), self.values.partition_point(|value| *value <= x))
    }

    fn share_up_to(&self, x: f64) -> f64 {
        self.around(x).1 as f64 / self.values.len() as f64
    }
}

/// All values of both samples in order.
fn pooled(a: &Sample, b: &Sample) -> Vec<f64> {
    Sample::new([a.values.as_slice(), b.values.as_slice()].concat()).values
}

/// The largest distance between the two distribution functions.
pub fn kolmogorov_smirnov(a: &Sample, b: &Sample) -> f64 {
    pooled(a, b).iter().map(|x| (a.share_up_to(*x) - b.share_up_to(*x)).abs()).fold(0.0, f64::max)
}

/// The chance of a Kolmogorov–Smirnov distance as large as this one in two samples of one continuous law, exactly: by
/// counting the orders of both in which the distance stays smaller. Takes time in proportion to the product of sizes.
pub fn kolmogorov_smirnov_p(a: &Sample, b: &Sample) -> f64 {
    let distance = kolmogorov_smirnov(a, b);
    let (m, n) = (a.values.len(), b.values.len());
    let near = |i: usize, j: usize| (i as f64 / m as f64 - j as f64 / n as f64).abs() < distance - 1e-12;
    // The chance that a random order of both passes (i, j) and was near all the way.
    let mut row = vec![0.0; n + 1];
    for i in 0..=m {
        for j in 0..=n {
            let before = (i + j) as f64;
            let from_left = if j > 0 { row[j - 1] * (n - j + 1) as f64 } else { 0.0 };
            let from_below = if i > 0 { row[j] * (m - i + 1) as f64 } else { 0.0 };
            let open = (m + n) as f64 - before + 1.0;
            row[j] = match (i + j, near(i, j)) {
                (0, _) => 1.0,
                (_, true) => (from_left + from_below) / open,
                (_, false) => 0.0,
            };
        }
    }
    1.0 - row[n]
}

/// The area between the two distribution functions: how far mass must be moved on the mean.
pub fn wasserstein(a: &Sample, b: &Sample) -> f64 {
    let part = |pair: &[f64]| (a.share_up_to(pair[0]) - b.share_up_to(pair[0])).abs() * (pair[1] - pair[0]);
    pooled(a, b).windows(2).map(part).sum()
}

/// What the Mann–Whitney test says of b against a.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which b's value is above a's, with a half for each tie.
    pub u: f64,
    /// U over all pairs: the chance that a value of b is above one of a.
    pub effect: f64,
    /// The two-sided p-value by the normal law, corrected for ties and continuity.
    pub p: f64,
}

/// The Mann–Whitney test of b against a.
pub fn mann_whitney(a: &Sample, b: &Sample) -> MannWhitney {
    let (m, n) = (a.values.len() as f64, b.values.len() as f64);
    let above = |x: &f64| {
        let (below, at_most) = a.around(*x);
        0.5 * (below + at_most) as f64
    };
    let u: f64 = b.values.iter().map(above).sum();
    let all = m + n;
    let ties: f64 = pooled(a, b)
        .chunk_by(|x, y| x == y)
        .map(|tied| (tied.len() as f64).powi(3) - tied.len() as f64)
        .sum();
    let deviation = (m * n / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)))).sqrt();
    let z = ((u - m * n / 2.0).abs() - 0.5) / deviation;
    MannWhitney { u, effect: u / (m * n), p: (2.0 * normal_cdf(-z)).min(1.0) }
}

/// The Hodges–Lehmann shift: the median of all differences b − a; `None` without any.
pub fn hodges_lehmann(a: &Sample, b: &Sample) -> Option<f64> {
    let all = b.values.iter().flat_map(|y| a.values.iter().map(move |x| y - x)).collect();
    let differences = Sample::new(all).values;
    let middle = differences.len() / 2;
    let upper = differences.get(middle)?;
    let even = differences.len().is_multiple_of(2);
    Some(if even { 0.5 * (differences[middle - 1] + upper) } else { *upper })
}

/// ln E against "both q-quantiles are the same", tightest at `count` values: the least product over all points that
/// both quantiles could be.
pub fn quantile_ln_e(a: &Sample, b: &Sample, q: f64, count: f64) -> f64 {
    let mixture = TwoSidedBeta::new(q, count);
    let least_at = |sample: &Sample, x: f64| {
        let (below, at_most) = sample.around(x);
        // Any number of values between these may be counted below x; E is least where it is nearest to q.
        let all = sample.values.len();
        let wanted = q * all as f64;
        [wanted.floor(), wanted.ceil()]
            .map(|hits| (hits as usize).clamp(below, at_most))
            .map(|hits| mixture.ln_e(hits as u64, (all - hits) as u64))
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    };
    let least =
        pooled(a, b).into_iter().map(|x| least_at(a, x) + least_at(b, x)).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::beta_mixture::TUNED_FOR;
    use crate::stats::oracle::{Case, number, numbers};

    fn sample(case: &Case, name: &str) -> Sample {
        Sample::new(numbers(&case.input()[name]))
    }

    #[test]
    fn published_distances() {
        let case = Case::named("ks_wasserstein_mw");
        let (a, b) = (sample(&case, "a"), sample(&case, "b"));
        let want = case.expected();
        case.check(kolmogorov_smirnov(&a, &b), &want["ks"]);
        // The published p is that of one sample of round(mn/(m + n)) values, a common approximation. Ours is exact:
        // the share of the lattice paths of both sizes that go as far, counted in whole numbers.
        assert!((kolmogorov_smirnov_p(&a, &b) - 0.004_796_698_304_049_274).abs() < 1e-12);
        assert!((kolmogorov_smirnov_p(&a, &b) - number(&want["ks_p"])).abs() < 2e-3);
        case.check(wasserstein(&a, &b), &want["wasserstein"]);
        let test = mann_whitney(&a, &b);
        case.check(test.u, &want["u"]);
        case.check(test.p, &want["p"]);
        case.check(test.effect, &want["cles"]);
        case.check(hodges_lehmann(&a, &b).unwrap(), &want["hodges_lehmann"]);
    }

    #[test]
    fn published_sequential_p_values() {
        let case = Case::named("quantile_ab_p");
        assert_eq!(number(&case.input()["alpha_opt"]), TUNED_FOR);
        let (a, b, same) = (sample(&case, "a"), sample(&case, "b"), sample(&case, "b_null"));
        let count = number(&case.input()["t_opt"]);
        for row in case.rows() {
            let p = |other: &Sample| (-quantile_ln_e(&a, other, number(&row["q"]), count)).exp().min(1.0);
            case.check(p(&b), &row["p"]);
            case.check(p(&same), &row["p_null"]);
        }
    }

    #[test]
    fn samples_of_nothing_say_nothing() {
        let none = Sample::new(Vec::new());
        assert_eq!(hodges_lehmann(&none, &none), None);
        assert_eq!(quantile_ln_e(&none, &none, 0.5, 100.0), 0.0);
        assert_eq!(wasserstein(&none, &none), 0.0);
    }
}
