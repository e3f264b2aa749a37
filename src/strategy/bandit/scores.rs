//! How likely each arm is for one call, by what a regression says of its context. On the request path: no memory is taken.
//!
//! LinUCB gives everything but the floor to the largest bound. For LinTS the beliefs about the arms' means at x are
//! independent normal laws N(x·A⁻¹b, v²xᵀA⁻¹x), so the probability that an arm is the best is one integral,
//! ∫ φ(t) Π_j Φ((m_i + s_i t − m_j)/s_j) dt, and no posterior need be drawn from. It is taken at 16 nodes of Gauss and
//! Hermite with Φ from a table: right to a percent or so where widths are very different, to 1e-4 elsewhere. The action
//! is drawn from these very numbers, so as propensities they are exact whatever they miss of the integral.

use std::sync::LazyLock;

use super::Shares;
use crate::assignment::ARMS;
use crate::config::BanditPolicy as Policy;
use crate::stats::ridge::Model;
use crate::stats::special::normal_cdf;

/// Nodes and weights of the Gauss–Hermite rule of 16 points for the standard normal law: half of them, for the others
/// mirror them, and without the three outermost, which together weigh 3e-5.
const HALF: [(f64, f64); 5] = [
    (0.386_760_604_500_557_4, 0.286_568_521_238_012),
    (1.163_829_100_554_964_8, 0.158_338_372_750_949_7),
    (1.951_980_345_716_333_4, 0.047_284_752_354_014_06),
    (2.760_245_047_630_701_4, 0.007_266_937_601_184_749),
    (3.600_873_624_171_548_7, 5.259_849_265_739_087e-4),
];

/// Φ at steps of 1/STEPS from −REACH to REACH.
const REACH: f64 = 6.5;
const STEPS: f64 = 64.0;
static NORMAL: LazyLock<Vec<f64>> = LazyLock::new(|| {
    (0..=(2.0 * REACH * STEPS) as u32).map(|k| normal_cdf(f64::from(k) / STEPS - REACH)).collect()
});

/// Φ(z) to about 1e-5.
fn phi(table: &[f64], z: f64) -> f64 {
    let at = (z.clamp(-REACH, REACH) + REACH) * STEPS;
    let place = (at as usize).min(table.len().saturating_sub(2));
    let part = at - place as f64;
    match table.get(place..place + 2) {
        Some([low, high]) => low + part * (high - low),
        _ => 0.5,
    }
}

/// How likely each arm is at `x`; `floors` has the least share of each arm, no number where it is out. `sign` is −1 where
/// less is better.
pub(super) fn shares(policy: Policy, sign: f64, lines: &[Model], x: &[f64], floors: &[f64]) -> Shares {
    let (mut mean, mut deviation) = ([0.0; ARMS], [0.0; ARMS]);
    let times = match policy {
        Policy::LinUcb { width, .. } => width,
        Policy::LinTs { deviation, .. } => deviation,
        _ => 0.0,
    };
    for ((mean, deviation), line) in mean.iter_mut().zip(&mut deviation).zip(lines) {
        *mean = sign * line.expected(x);
        *deviation = times * line.uncertainty(x);
    }
    let arms = floors.len().min(lines.len()).min(ARMS);
    let open = |arm: usize| !floors[arm].is_nan();
    let mut best = [0.0; ARMS];
    if matches!(policy, Policy::LinUcb { .. }) {
        let bound = |arm: usize| mean[arm] + deviation[arm];
        let top = (0..arms).filter(|arm| open(*arm)).fold(f64::NEG_INFINITY, |top, arm| top.max(bound(arm)));
        let winners = (0..arms).filter(|arm| open(*arm) && bound(*arm) >= top).count().max(1) as f64;
        (0..arms).filter(|arm| open(*arm) && bound(*arm) >= top).for_each(|arm| best[arm] = 1.0 / winners);
    } else {
        probable(&mean[..arms], &deviation[..arms], &open, &mut best);
    }
    let all: f64 = best[..arms].iter().sum();
    let floored: f64 = floors[..arms].iter().filter(|floor| !floor.is_nan()).sum();
    for arm in 0..arms {
        best[arm] = if open(arm) { floors[arm] + (1.0 - floored) * best[arm] / all.max(1e-300) } else { 0.0 };
    }
    Shares::new(&best[..arms])
}

/// How likely each normal belief is the largest, but for a common factor.
fn probable(mean: &[f64], deviation: &[f64], open: &impl Fn(usize) -> bool, best: &mut [f64; ARMS]) {
    let table = NORMAL.as_slice();
    let mut inverse = [0.0; ARMS];
    inverse.iter_mut().zip(deviation).for_each(|(inverse, deviation)| *inverse = 1.0 / deviation.max(1e-12));
    for (arm, best) in best.iter_mut().enumerate().take(mean.len()).filter(|(arm, _)| open(*arm)) {
        let at = |t: f64| {
            let y = mean[arm] + deviation[arm] * t;
            let others = (0..mean.len()).filter(|other| *other != arm && open(*other));
            others.map(|other| phi(table, (y - mean[other]) * inverse[other])).product::<f64>()
        };
        *best = HALF.iter().map(|(node, weight)| weight * (at(*node) + at(-node))).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::best_arm::{Law, best};
    use crate::stats::ridge::Sums;

    const UCB: Policy = Policy::LinUcb { width: 1.25, ridge: 1.0 };
    const TS: Policy = Policy::LinTs { deviation: 0.5, ridge: 1.0 };

    fn lines() -> Vec<Model> {
        let mut arms = [Sums::default(), Sums::default(), Sums::default()];
        for (place, x) in [[1.0, 0.5], [1.0, -0.2], [1.0, 0.3], [1.0, 1.0], [1.0, -1.0]].iter().enumerate() {
            arms[place % 2].see(x, 1.0);
            arms[place % 2].earn(x, f64::from(u8::from(x[1] > 0.2)));
        }
        arms.iter().map(|arm| arm.model(2, 1.0)).collect()
    }

    #[test]
    fn the_largest_bound_gets_all_but_the_floor() {
        let lines = lines();
        let x = [1.0, 0.4];
        let bounds: Vec<f64> =
            lines.iter().map(|line| line.expected(&x) + 1.25 * line.uncertainty(&x)).collect();
        let top = (0..3).max_by(|a, b| bounds[*a].total_cmp(&bounds[*b])).unwrap();
        let got = shares(UCB, 1.0, &lines, &x, &[0.01; 3]);
        assert_eq!((got.get(top), got.as_slice().iter().sum::<u32>()), (0.98, 100_000));
        let mut floors = [0.01; 3];
        floors[top] = f64::NAN;
        let without = shares(UCB, 1.0, &lines, &x, &floors);
        assert_eq!((without.get(top), without.as_slice().iter().max()), (0.0, Some(&99_000)));
    }

    #[test]
    fn beliefs_become_the_probabilities_that_they_are_of() {
        let (mut largest, lines) = (0.0_f64, lines());
        for feature in [-2.0, -0.5, 0.0, 0.4, 1.0, 3.0] {
            let x = [1.0, feature];
            let laws = lines
                .iter()
                .map(|line| Law::Normal { mean: line.expected(&x), deviation: 0.5 * line.uncertainty(&x) });
            let want = best(&laws.collect::<Vec<_>>());
            let got = shares(TS, 1.0, &lines, &x, &[0.0; 3]);
            let off = want.iter().enumerate().map(|(arm, want)| (got.get(arm) - want).abs());
            largest = off.fold(largest, f64::max);
        }
        assert!(largest < 2e-3, "{largest}");
    }

    #[test]
    fn where_less_is_better_the_others_win() {
        let mut low = Sums::default();
        for _ in 0..50 {
            low.see(&[1.0], 1.0);
        }
        let mut high = low.clone();
        high.earn(&[1.0], 50.0);
        let lines = [low.model(1, 1.0), high.model(1, 1.0)];
        assert!(shares(TS, 1.0, &lines, &[1.0], &[0.0; 2]).get(1) > 0.99);
        assert!(shares(TS, -1.0, &lines, &[1.0], &[0.0; 2]).get(0) > 0.99);
    }

    #[test]
    fn weights_of_the_rule_are_those_of_a_normal_law() {
        let moment = |power: i32| HALF.iter().map(|(x, w)| 2.0 * w * x.powi(power)).sum::<f64>();
        assert!(
            (moment(0) - 1.0).abs() < 1e-4
                && (moment(2) - 1.0).abs() < 2e-3
                && (moment(4) - 3.0).abs() < 0.05
        );
        assert!((phi(&NORMAL, 1.0) - 0.841_344_7).abs() < 1e-5 && phi(&NORMAL, 90.0) > 0.999_999);
    }
}
