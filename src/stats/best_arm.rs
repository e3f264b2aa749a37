//! Which of several arms is the best, by what is believed of each: probabilities, and how much could still be gained.
//!
//! Arms are independent, so P(i is best) = ∫ f_i(x) Π_{j≠i} F_j(x) dx: one pass over panels that all laws share, right
//! to about 1e-9. The value remaining is how much better the best arm could be than the one that seems best (Scott 2010);
//! "θ* is above the others even if they are cut by v" is the same integral with one law stretched, so no draws are needed.

use super::quadrature::{NODES, RULE};
use super::special::ln_beta;

/// What is believed of the mean of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// low + (high − low)·Beta(a, b), with a, b ≥ 1; `high` may be below `low`.
    Beta {
        /// Successes and one more.
        a: f64,
        /// Failures and one more.
        b: f64,
        /// The value of nothing but failures.
        low: f64,
        /// The value of nothing but successes.
        high: f64,
    },
    /// The normal law; its deviation is above 0.
    Normal {
        /// Of the law.
        mean: f64,
        /// Of the law.
        deviation: f64,
    },
}

/// How far from the mean a law's mass reaches, in standard deviations: below 1e-8 lies beyond, of exponential tails too.
const REACH: f64 = 20.0;
/// Where panels begin and end, in standard deviations from the mean.
const CUTS: [f64; 13] = [-REACH, -10.0, -6.0, -4.0, -2.5, -1.2, 0.0, 1.2, 2.5, 4.0, 6.0, 10.0, REACH];
/// Quantiles are halved so often: to a millionth of what there is.
const HALVINGS: u32 = 40;

impl Law {
    /// A share of successes among values of 0 and 1.
    pub fn share(successes: f64, failures: f64) -> Self {
        Law::Beta { a: 1.0 + successes, b: 1.0 + failures, low: 0.0, high: 1.0 }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        match *self {
            Law::Beta { a, b, low, high } => low + (high - low) * a / (a + b),
            Law::Normal { mean, .. } => mean,
        }
    }

    /// The standard deviation.
    pub fn deviation(&self) -> f64 {
        match *self {
            Law::Beta { a, b, low, high } => {
                let sum = a + b;
                (high - low).abs() * (a * b / (sum + 1.0)).sqrt() / sum
            }
            Law::Normal { deviation, .. } => deviation,
        }
    }

    /// The same law of so much more: everything times 1 + part for values above 0, times 1 − part below.
    fn raised(&self, part: f64) -> Self {
        let by = part * self.mean().abs();
        match *self {
            Law::Normal { mean, deviation } => Law::Normal { mean: mean + by, deviation },
            Law::Beta { a, b, low, high } => {
                let times = |end: f64| if end < 0.0 { end * (1.0 - part) } else { end * (1.0 + part) };
                Law::Beta { a, b, low: times(low), high: times(high) }
            }
        }
    }

    /// The least and the largest value it can have.
    fn ends(&self) -> (f64, f64) {
        match *self {
            Law::Beta { low, high, .. } => (low.min(high), low.max(high)),
            Law::Normal { .. } => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}

/// A law made ready for many points.
struct Density {
    law: Law,
    /// ln of what the density is multiplied by.
    ln_scale: f64,
    from: f64,
    until: f64,
}

impl Density {
    fn new(law: Law) -> Self {
        let (mean, deviation, (least, most)) = (law.mean(), law.deviation(), law.ends());
        let ln_scale = match law {
            Law::Beta { a, b, low, high } => -ln_beta(a, b) - (high - low).abs().ln(),
            Law::Normal { deviation, .. } => -0.5 * std::f64::consts::TAU.ln() - deviation.ln(),
        };
        let (from, until) = (mean - REACH * deviation, mean + REACH * deviation);
        Density { law, ln_scale, from: from.max(least), until: until.min(most) }
    }

    fn at(&self, y: f64) -> f64 {
        let ln = match self.law {
            Law::Beta { a, b, low, high } => {
                let x = (y - low) / (high - low);
                (a - 1.0) * x.ln() + (b - 1.0) * (-x).ln_1p()
            }
            Law::Normal { mean, deviation } => -0.5 * ((y - mean) / deviation).powi(2),
        };
        (ln + self.ln_scale).exp()
    }
}

/// How likely each arm is the best, the one with the largest mean; they sum to 1. Empty for no arms.
pub fn best(laws: &[Law]) -> Vec<f64> {
    if laws.len() < 2 {
        return vec![1.0; laws.len()];
    }
    let densities: Vec<Density> = laws.iter().map(|law| Density::new(*law)).collect();
    let cuts = cuts(&densities);
    let (mut best, mut below) = (vec![0.0; laws.len()], vec![0.0; laws.len()]);
    let mut values = vec![([0.0; NODES], [0.0; NODES]); laws.len()];
    for pair in cuts.windows(2) {
        panel(&densities, (pair[0], pair[1]), &mut below, &mut values, &mut best);
    }
    let sum: f64 = best.iter().sum();
    best.iter().map(|mass| mass / sum).collect()
}

/// Where panels begin and end, growing.
fn cuts(densities: &[Density]) -> Vec<f64> {
    let mut cuts = Vec::with_capacity(densities.len() * CUTS.len());
    for density in densities {
        let (mean, deviation) = (density.law.mean(), density.law.deviation());
        cuts.extend(CUTS.iter().map(|cut| (mean + cut * deviation).clamp(density.from, density.until)));
    }
    for density in densities {
        // Where a density has a root of a broken power at an end of its range, panels shrink towards it.
        if let Law::Beta { a, b, low, high } = density.law {
            let near = [0.1, 0.01, 1e-3, 1e-4].map(|part| part * (high - low));
            cuts.extend(
                near.iter().filter(|_| a < 2.0).map(|step| (low + step).clamp(density.from, density.until)),
            );
            cuts.extend(
                near.iter().filter(|_| b < 2.0).map(|step| (high - step).clamp(density.from, density.until)),
            );
        }
    }
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    cuts
}

/// Adds what one panel holds to `best`, and to what lies `below` the next one.
fn panel(
    densities: &[Density],
    (from, until): (f64, f64),
    below: &mut [f64],
    values: &mut [([f64; NODES], [f64; NODES])],
    best: &mut [f64],
) {
    let rule = &*RULE;
    let (half, middle) = (0.5 * (until - from), 0.5 * (until + from));
    for ((density, below), (f, cumulated)) in densities.iter().zip(&mut *below).zip(&mut *values) {
        if middle <= density.from || middle >= density.until {
            (*f, *cumulated) = ([0.0; NODES], [*below; NODES]);
            continue;
        }
        *f = rule.nodes.map(|node| density.at(half.mul_add(node, middle)));
        for (place, row) in cumulated.iter_mut().zip(&rule.below) {
            let mass: f64 = row.iter().zip(&*f).map(|(weight, f)| weight * f).sum();
            *place = *below + half * mass;
        }
        *below += half * rule.weights.iter().zip(&*f).map(|(weight, f)| weight * f).sum::<f64>();
    }
    for (node, weight) in rule.weights.iter().enumerate() {
        let mut others = 1.0;
        // What lies before an arm, times what lies behind it: no division where one is 0.
        for (arm, best) in best.iter_mut().enumerate() {
            let f = values[arm].0[node];
            if f > 0.0 {
                let behind: f64 = values[arm + 1..].iter().map(|(_, cumulated)| cumulated[node]).product();
                *best += half * weight * f * others * behind;
            }
            others *= values[arm].1[node];
        }
    }
}

/// How likely the arm `chosen` is at most the part `v` of itself below the best: P(max θ ≤ θ_chosen + v·|θ_chosen|).
pub fn within(laws: &[Law], chosen: usize, v: f64) -> f64 {
    let mut laws = laws.to_vec();
    if let Some(law) = laws.get_mut(chosen) {
        *law = law.raised(v);
    }
    best(&laws).get(chosen).copied().unwrap_or(0.0)
}

/// The quantile `q` of the value remaining: with that probability no arm is better than `chosen` by a larger part of it.
/// At most 100, which is ten thousand percent.
pub fn value_remaining(laws: &[Law], chosen: usize, q: f64) -> f64 {
    let enough = |v: f64| within(laws, chosen, v) >= q;
    if enough(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 0.01);
    while !enough(high) {
        (low, high) = (high, high * 2.0);
        if high > 100.0 {
            return 100.0;
        }
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *(if enough(middle) { &mut high } else { &mut low }) = middle;
        if high - low < 1e-6 * high {
            break;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::oracle::{Case, numbers};
    use crate::stats::special::normal_cdf;

    #[test]
    fn published_probabilities() {
        for name in ["prob_best_two", "prob_best_four"] {
            let case = Case::named(name);
            let laws: Vec<Law> = case.input()["beta"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| {
                    let row = numbers(row);
                    Law::share(row[0] - 1.0, row[1] - 1.0)
                })
                .collect();
            let got = best(&laws);
            assert_eq!(got.len(), case.rows().len());
            got.iter().zip(case.rows()).for_each(|(got, want)| case.check(*got, want));
        }
    }

    /// P(B > A) of two beta laws with whole parameters, as a sum (Miller 2015).
    fn two(a: (f64, f64), b: (f64, f64)) -> f64 {
        let mut sum = 0.0;
        let mut i = 0.0;
        while i < b.0 {
            sum += (ln_beta(a.0 + i, a.1 + b.1) - (b.1 + i).ln() - ln_beta(1.0 + i, b.1) - ln_beta(a.0, a.1))
                .exp();
            i += 1.0;
        }
        sum
    }

    #[test]
    fn two_arms_are_as_the_sum_says_from_nothing_known_to_very_much() {
        let all = [
            (1.0, 1.0),
            (1.0, 900.0),
            (2.0, 1.0),
            (500.0, 2.0),
            (40.0, 60.0),
            (4200.0, 5800.0),
            (41_000.0, 59_000.0),
        ];
        for a in all {
            for b in all {
                let law = |of: (f64, f64)| Law::share(of.0 - 1.0, of.1 - 1.0);
                let got = best(&[law(a), law(b)])[1];
                assert!((got - two(a, b)).abs() < 1e-7, "{a:?} {b:?}: {got} instead of {}", two(a, b));
            }
        }
    }

    #[test]
    fn normal_arms_are_as_their_difference_is() {
        for (mean, deviation) in [(0.0, 1.0), (0.3, 2.0), (-40.0, 0.1), (2.0, 1e-3)] {
            let got = best(&[Law::Normal { mean: 0.0, deviation: 1.0 }, Law::Normal { mean, deviation }])[1];
            let want = normal_cdf(mean / (1.0 + deviation * deviation).sqrt());
            assert!((got - want).abs() < 1e-7, "{mean} {deviation}: {got} instead of {want}");
        }
    }

    #[test]
    fn a_value_where_less_is_better_is_a_law_turned_over() {
        let law = |successes: f64, turned: bool| {
            let (low, high) = if turned { (0.0, -1.0) } else { (0.0, 1.0) };
            Law::Beta { a: 1.0 + successes, b: 101.0 - successes, low, high }
        };
        let (more, less) =
            (best(&[law(20.0, false), law(30.0, false)]), best(&[law(20.0, true), law(30.0, true)]));
        assert!((more[0] - less[1]).abs() < 1e-9 && (more[1] - less[0]).abs() < 1e-9);
    }

    #[test]
    fn what_could_still_be_gained_falls_with_what_is_known() {
        let laws = |n: f64| [Law::share(0.5 * n, 0.5 * n), Law::share(0.4 * n, 0.6 * n)];
        let left: Vec<f64> = [30.0, 300.0, 3000.0].map(|n| value_remaining(&laws(n), 0, 0.95)).into();
        assert!(left[0] > 0.05 && left[0] > left[1] && left[1] >= left[2] && left[2] == 0.0, "{left:?}");
        // Arms alike: the difference has a deviation of √2 · 0.5/√n; 95 % of its mass lie below 1.645 of them.
        let same = [Law::share(5000.0, 5000.0), Law::share(5000.0, 5000.0)];
        let want = 1.645 * (2.0_f64 * 0.25 / 10_000.0).sqrt() / 0.5;
        assert!((value_remaining(&same, 0, 0.95) / want - 1.0).abs() < 0.03);
        let normal =
            [Law::Normal { mean: -2.0, deviation: 0.01 }, Law::Normal { mean: -2.0, deviation: 0.01 }];
        let want = 1.6449 * 0.01 * 2.0_f64.sqrt() / 2.0;
        assert!((value_remaining(&normal, 0, 0.95) / want - 1.0).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_equals_share_alike(a in 0.0..2e4f64, b in 0.0..2e4f64, arms in 2usize..8) {
            let got = best(&vec![Law::share(a, b); arms]);
            for p in got {
                prop_assert!((p - 1.0 / arms as f64).abs() < 1e-7, "{}", p);
            }
        }
    }
}
