//! The mean of rewards within [0, 1], exactly: confidence sequences that need no normal approximation.
//!
//! Both bet on the rewards to come with stakes set from the earlier ones:
//! λₜ = sqrt(2 ln(2/α) / (σ²ₜ₋₁ t ln(1 + t))), σ²ₜ = (¼ + Σ(x − μ)²)/(t + 1), μₜ = (½ + Σx)/(t + 1).
//! The empirical Bernstein one has a closed form; the hedged one is narrower and tries a grid of means.
//! Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (2023).

/// The largest part that is ever staked.
const MOST: f64 = 0.5;

/// The stakes of each step, from what came before it.
fn stakes(rewards: &[f64], alpha: f64) -> impl Iterator<Item = f64> {
    let (mut sum, mut squares, mut spread) = (0.5, 0.25, 0.25);
    rewards.iter().enumerate().map(move |(at, x)| {
        let t = (at + 1) as f64;
        let stake = (2.0 * (2.0 / alpha).ln() / (spread * t * t.ln_1p())).sqrt();
        sum += x;
        squares += (x - sum / (t + 1.0)).powi(2);
        spread = squares / (t + 1.0);
        stake
    })
}

/// The predictable empirical Bernstein interval of all rewards, within [0, 1]; each end holds at α/2.
pub fn empirical_bernstein(rewards: &[f64], alpha: f64) -> (f64, f64) {
    let mirrored: Vec<f64> = rewards.iter().map(|x| 1.0 - x).collect();
    (lower_end(rewards, alpha), 1.0 - lower_end(&mirrored, alpha))
}

/// (Σλx − ln(2/α) − Σ(x − x̄ₜ₋₁)²(−ln(1 − λ) − λ)) / Σλ, where the mean of no reward is 0.
fn lower_end(rewards: &[f64], alpha: f64) -> f64 {
    let (mut weight, mut centre, mut spread) = (0.0, 0.0, 0.0);
    let (mut sum, mut mean) = (0.0, 0.0);
    for (at, (x, stake)) in rewards.iter().zip(stakes(rewards, alpha)).enumerate() {
        let stake = stake.min(MOST);
        weight += stake;
        centre += stake * x;
        spread += (x - mean).powi(2) * (-(-stake).ln_1p() - stake);
        sum += x;
        mean = sum / (at + 1) as f64;
    }
    if weight == 0.0 { 0.0 } else { ((centre - (2.0 / alpha).ln() - spread) / weight).max(0.0) }
}

/// The hedged betting interval: all means of a grid of `grid` steps, and one step more at each end, that neither the
/// bet on a higher nor the one on a lower mean has refuted.
pub fn hedged(rewards: &[f64], alpha: f64, grid: u32) -> (f64, f64) {
    let stakes: Vec<f64> = stakes(rewards, alpha).collect();
    let refuted = |mean: f64| {
        let (mut higher, mut lower) = (0.0, 0.0);
        for (x, stake) in rewards.iter().zip(&stakes) {
            higher += (stake.min(MOST / mean) * (x - mean)).ln_1p();
            lower += (-stake.min(MOST / (1.0 - mean)) * (x - mean)).ln_1p();
            if f64::max(higher, lower) >= (2.0 / alpha).ln() {
                return true;
            }
        }
        false
    };
    let step = 1.0 / f64::from(grid);
    let kept = || (0..=grid).map(|at| f64::from(at) * step).filter(|mean| !refuted(*mean));
    let low = kept().next().map_or(0.0, |mean| mean - step);
    let high = kept().next_back().map_or(1.0, |mean| mean + step);
    (low.max(0.0), high.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number, numbers};

    #[test]
    fn published_intervals() {
        let hedge = Case::named("hedged_betting_cs");
        let rewards = numbers(&hedge.input()["x"]);
        let alpha = number(&hedge.input()["alpha"]);
        for row in hedge.rows() {
            let (low, high) = hedged(&rewards[..row["t"].as_u64().unwrap() as usize], alpha, 1000);
            hedge.check(low, &row["lower"]);
            hedge.check(high, &row["upper"]);
        }
        let closed = Case::named("predmix_empirical_bernstein_cs");
        for row in closed.rows() {
            let (low, high) = empirical_bernstein(&rewards[..row["t"].as_u64().unwrap() as usize], alpha);
            closed.check(low, &row["lower"]);
            closed.check(high, &row["upper"]);
        }
    }

    #[test]
    fn nothing_is_known_of_no_rewards() {
        assert_eq!(empirical_bernstein(&[], 0.05), (0.0, 1.0));
        assert_eq!(hedged(&[], 0.05, 100), (0.0, 1.0));
    }
}
