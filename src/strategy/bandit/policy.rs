//! How what is known of each arm becomes the probability that a call is given to it.
//!
//! Probabilities, not draws: what a policy says holds for a whole epoch, so each call's propensity is exact, whoever
//! makes the call and wherever it is made. Policies that would always take the largest index put everything on it; the
//! exploration floor then leaves the others a little.

use crate::config::{BanditPolicy as Policy, Reward};
use crate::evidence::Moments;
use crate::stats::best_arm::{self, Law};
use crate::stats::indices::{kl_ucb, ucb1};

/// Of normal beliefs: so many values' worth of the spread of all arms is mixed into each arm's own.
const SHRINK: f64 = 10.0;

/// What is believed of each arm's mean, by arm; where less is better, of its negative. None: too little is known.
pub(super) fn laws(reward: &Reward, arms: &[Moments]) -> Option<Vec<Law>> {
    if reward.gaussian {
        return normal(reward, arms);
    }
    let (low, high) = reward.range.unwrap_or((0.0, 1.0));
    let sign = if reward.lower_is_better { -1.0 } else { 1.0 };
    let law = |known: &Moments| {
        let successes = ((known.sum - low * known.n) / (high - low)).clamp(0.0, known.n);
        Law::Beta { a: 1.0 + successes, b: 1.0 + known.n - successes, low: sign * low, high: sign * high }
    };
    Some(arms.iter().map(law).collect())
}

/// Normal beliefs of a flat prior: mean m, variance s²/n, where s² leans on the spread of all arms as long as an arm
/// has few values.
fn normal(reward: &Reward, arms: &[Moments]) -> Option<Vec<Law>> {
    if arms.iter().any(|known| known.n < 2.0) {
        return None;
    }
    let own = |known: &Moments| (known.squares - known.sum * known.sum / known.n).max(0.0);
    let all: f64 = arms.iter().map(own).sum();
    let degrees: f64 = arms.iter().map(|known| known.n - 1.0).sum();
    let pooled = all / degrees.max(1.0);
    let sign = if reward.lower_is_better { -1.0 } else { 1.0 };
    let law = |known: &Moments| {
        let mean = known.sum / known.n;
        let spread = (own(known) + SHRINK * pooled) / (known.n - 1.0 + SHRINK);
        // Values that never differ are known exactly; a law still needs a width.
        let deviation = (spread / known.n).sqrt().max(1e-9 * mean.abs()).max(1e-12);
        Law::Normal { mean: sign * mean, deviation }
    };
    Some(arms.iter().map(law).collect())
}

/// The probability of each arm by that policy alone, before any floor; they sum to 1.
pub(super) fn shares(policy: Policy, reward: &Reward, arms: &[Moments]) -> Vec<f64> {
    let even = || vec![1.0 / arms.len().max(1) as f64; arms.len()];
    let best = || laws(reward, arms).map_or_else(even, |laws| best_arm::best(&laws));
    match policy {
        Policy::Thompson => best(),
        Policy::TopTwo => top_two(&best()),
        Policy::KlUcb => largest(&index(reward, arms, kl_ucb)),
        Policy::Ucb1 => largest(&index(reward, arms, ucb1)),
        Policy::EpsilonGreedy { epsilon } => {
            // By what is believed: one success and one failure more than were seen, so that one early failure is no end.
            let believed = |mean: f64, n: f64, _: f64| match reward.range {
                Some(_) => (mean * n + 1.0) / (n + 2.0),
                None if n > 0.0 => mean,
                None => f64::INFINITY,
            };
            let greedy = largest(&index(reward, arms, believed));
            greedy.iter().map(|share| (1.0 - epsilon) * share + epsilon / arms.len() as f64).collect()
        }
        Policy::Exp3 { gamma } => exp3(gamma, reward, arms),
        // These ask each call: what is told of all calls together is that nobody is favoured.
        Policy::LinUcb { .. } | Policy::LinTs { .. } => even(),
    }
}

/// A draw of the best, and with probability ½ another draw that is repeated until it is another arm (Russo 2016).
fn top_two(best: &[f64]) -> Vec<f64> {
    let others =
        |arm: usize| best.iter().enumerate().filter(|(other, _)| *other != arm).map(|(_, p)| p).sum::<f64>();
    let count = best.len().saturating_sub(1).max(1) as f64;
    let second = |arm: usize| {
        let from = best.iter().enumerate().filter(|(first, _)| *first != arm);
        let each = from.map(|(first, p)| match others(first) {
            // One that is certainly the best leaves nothing to say which of the others is the second.
            left if left > 0.0 => p * best[arm] / left,
            _ => p / count,
        });
        each.sum::<f64>()
    };
    (0..best.len()).map(|arm| 0.5 * best[arm] + 0.5 * second(arm)).collect()
}

/// An index by arm, of rewards brought to [0, 1], where more is better.
fn index(reward: &Reward, arms: &[Moments], of: impl Fn(f64, f64, f64) -> f64) -> Vec<f64> {
    let t: f64 = arms.iter().map(|known| known.n).sum();
    let each = arms.iter().map(|known| {
        let mean = if known.n > 0.0 { unit(reward, known.sum / known.n) } else { 0.0 };
        of(mean, known.n, t)
    });
    each.collect()
}

/// A value brought to [0, 1], where more is better; of unbounded rewards only turned over, where less is better.
fn unit(reward: &Reward, value: f64) -> f64 {
    let unit = match reward.range {
        Some((low, high)) => (value - low) / (high - low),
        None => value,
    };
    match (reward.lower_is_better, reward.range) {
        (false, _) => unit,
        (true, Some(_)) => 1.0 - unit,
        (true, None) => -unit,
    }
}

/// Everything to the largest, evenly where several are.
fn largest(index: &[f64]) -> Vec<f64> {
    let most = index.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let winners = index.iter().filter(|value| **value == most).count().max(1) as f64;
    index.iter().map(|value| if *value == most { 1.0 / winners } else { 0.0 }).collect()
}

/// w = exp(γ Ĝ/K), where Ĝ is the sum of r/p: p = (1 − γ) w/W + γ/K (Auer, Cesa-Bianchi, Freund & Schapire 2002).
fn exp3(gamma: f64, reward: &Reward, arms: &[Moments]) -> Vec<f64> {
    let count = arms.len().max(1) as f64;
    let (low, high) = reward.range.unwrap_or((0.0, 1.0));
    let gained = |known: &Moments| {
        // Σ r/p of the reward brought to [0, 1].
        let plain = (known.weighted - low * known.inverse) / (high - low);
        if reward.lower_is_better { known.inverse - plain } else { plain }
    };
    let gains: Vec<f64> = arms.iter().map(gained).collect();
    let most = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = gains.iter().map(|gain| (gamma * (gain - most) / count).exp()).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|weight| (1.0 - gamma) * weight / all + gamma / count).collect()
}

#[cfg(test)]
mod regret;
#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn binary() -> Reward {
        Reward {
            name: "bought".into(),
            range: Some((0.0, 1.0)),
            binary: true,
            lower_is_better: false,
            gaussian: false,
        }
    }

    fn known(n: f64, mean: f64) -> Moments {
        Moments { n, sum: n * mean, squares: n * mean, weighted: 2.0 * n * mean, inverse: 2.0 * n }
    }

    const ALL: [Policy; 6] = [
        Policy::Thompson,
        Policy::TopTwo,
        Policy::KlUcb,
        Policy::Ucb1,
        Policy::EpsilonGreedy { epsilon: 0.1 },
        Policy::Exp3 { gamma: 0.1 },
    ];

    #[test]
    fn every_policy_favours_who_earned_more_and_turned_over_who_earned_less() {
        let arms = [known(400.0, 0.2), known(400.0, 0.5), known(400.0, 0.3)];
        for policy in ALL {
            let more = shares(policy, &binary(), &arms);
            assert!((more.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{policy:?}: {more:?}");
            assert!(more[1] > 0.49 && more[1] > more[2], "{policy:?}: {more:?}");
            let less = shares(policy, &Reward { lower_is_better: true, ..binary() }, &arms);
            assert!(less[0] > 0.49 && less[0] > less[1], "{policy:?}: {less:?}");
        }
    }

    #[test]
    fn a_range_of_its_own_changes_no_share() {
        let wide = Reward { range: Some((-3.0, 7.0)), ..binary() };
        let arms = [known(50.0, 0.2), known(60.0, 0.4)];
        let moved = arms.map(|known| Moments {
            sum: 10.0 * known.sum - 3.0 * known.n,
            weighted: 10.0 * known.weighted - 3.0 * known.inverse,
            ..known
        });
        for policy in ALL {
            let (one, other) = (shares(policy, &binary(), &arms), shares(policy, &wide, &moved));
            one.iter().zip(&other).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{policy:?}: {a} {b}"));
        }
    }

    #[test]
    fn nothing_known_favours_nobody() {
        for policy in ALL {
            let got = shares(policy, &binary(), &[Moments::default(); 4]);
            got.iter().for_each(|share| assert!((share - 0.25).abs() < 1e-9, "{policy:?}: {got:?}"));
        }
        let gaussian = Reward { range: None, gaussian: true, ..binary() };
        assert_eq!(shares(Policy::Thompson, &gaussian, &[Moments::default(); 2]), [0.5, 0.5]);
    }

    #[test]
    fn top_two_never_gives_more_than_half_and_a_little_to_who_is_surely_best() {
        assert_eq!(top_two(&[1.0, 0.0, 0.0]), [0.5, 0.25, 0.25]);
        let got = top_two(&[0.9, 0.08, 0.02]);
        assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // First drawn 0.9, half of them kept; else the other two in the proportion 4 to 1; and back from those.
        assert!((got[1] - (0.04 + 0.45 * 0.8 + 0.01 * 0.08 / 0.98)).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn normal_beliefs_are_of_the_spread_that_is_seen() {
        let gaussian = Reward { range: None, gaussian: true, ..binary() };
        let values = |mean: f64, spread: f64| Moments {
            n: 100.0,
            sum: 100.0 * mean,
            squares: 100.0 * mean * mean + 99.0 * spread * spread,
            ..Moments::default()
        };
        let laws = laws(&gaussian, &[values(3.0, 2.0), values(3.5, 2.0)]).unwrap();
        assert_eq!(laws[0].mean(), 3.0);
        assert!((laws[0].deviation() - 0.2).abs() < 1e-3, "{laws:?}");
        // The difference of 0.5 has a deviation of √2 · 0.2.
        let got = shares(Policy::Thompson, &gaussian, &[values(3.0, 2.0), values(3.5, 2.0)]);
        assert!((got[1] - 0.9615).abs() < 2e-3, "{got:?}");
        let constant = shares(Policy::Thompson, &gaussian, &[values(3.0, 0.0), values(3.0, 0.0)]);
        assert!((constant[0] - 0.5).abs() < 1e-6, "{constant:?}");
    }
}
