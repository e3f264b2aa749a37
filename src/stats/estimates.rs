//! Estimators that other tools report: CUPED, AIPW and the ratio of two sums.
//!
//! CUPED takes out of a reward what was known before: y − θ(x − x̄) with θ = cov(y, x)/var(x) (Deng, Xu, Kohavi,
//! Walker, 2013). AIPW turns each unit into an unbiased estimate of the effect, from predictions of both arms (Robins,
//! Rotnitzky, Zhao, 1994). A ratio of sums over buckets gets its error by the delta method.

/// What CUPED makes of rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjusted {
    /// θ, the slope of rewards over the covariate.
    pub theta: f64,
    /// The rewards less what the covariate explains.
    pub rewards: Vec<f64>,
    /// The variance left over, of 1: 1 − corr².
    pub variance_ratio: f64,
}

/// Adjusts rewards by a covariate known before the experiment; `None` without two different values of both, or where
/// the lengths differ.
pub fn cuped(rewards: &[f64], covariate: &[f64]) -> Option<Adjusted> {
    let count = rewards.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(covariate), mean(rewards));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (y, x) in rewards.iter().zip(covariate) {
        let (dx, dy) = (x - x_mean, y - y_mean);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    if rewards.len() != covariate.len() || xx <= 0.0 || yy <= 0.0 {
        return None;
    }
    let theta = xy / xx;
    let rewards = rewards.iter().zip(covariate).map(|(y, x)| y - theta * (x - x_mean)).collect();
    Some(Adjusted { theta, rewards, variance_ratio: 1.0 - xy * xy / (xx * yy) })
}

/// One unit's estimate of the effect: m₁ − m₀ + (A/π)(Y − m₁) − ((1 − A)/(1 − π))(Y − m₀), with predictions `m` of
/// the control's and the treatment's reward from earlier data alone, and π strictly between 0 and 1.
pub fn aipw(treated: bool, propensity: f64, m: (f64, f64), reward: f64) -> f64 {
    let correction = if treated { (reward - m.1) / propensity } else { -(reward - m.0) / (1.0 - propensity) };
    m.1 - m.0 + correction
}

/// Σy / Σn over buckets of units, with its variance (s_yy − 2R s_yn + R² s_nn)/(B n̄²); `None` below two buckets or
/// with Σn = 0.
pub fn ratio(buckets: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = buckets.len() as f64;
    let (y, n) = buckets.iter().fold((0.0, 0.0), |sum, bucket| (sum.0 + bucket.0, sum.1 + bucket.1));
    if buckets.len() < 2 || n == 0.0 {
        return None;
    }
    let ratio = y / n;
    // Σ(y − ȳ − R(n − n̄))² / (B − 1) is the sum of the three moments.
    let residual = |bucket: &(f64, f64)| (bucket.0 - y / count) - ratio * (bucket.1 - n / count);
    let spread = buckets.iter().map(|bucket| residual(bucket).powi(2)).sum::<f64>() / (count - 1.0);
    Some((ratio, spread / (count * (n / count).powi(2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, numbers};

    #[test]
    fn published_adjustment() {
        let case = Case::named("cuped");
        let got = cuped(&numbers(&case.input()["y"]), &numbers(&case.input()["x"])).unwrap();
        let want = case.expected();
        case.check(got.theta, &want["theta"]);
        case.check(got.variance_ratio, &want["variance_ratio"]);
        let adjusted = want["adjusted"].as_array().unwrap();
        assert_eq!(adjusted.len(), got.rewards.len());
        got.rewards.iter().zip(adjusted).for_each(|(got, want)| case.check(*got, want));
        assert_eq!(cuped(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(cuped(&[1.0, 2.0], &[3.0]), None);
    }

    #[test]
    fn published_pseudo_outcomes() {
        let case = Case::named("aipw");
        let rows = case.input()["data"].as_array().unwrap();
        assert_eq!(rows.len(), case.rows().len());
        for (row, want) in rows.iter().zip(case.rows()) {
            let row = numbers(row);
            case.check(aipw(row[0] == 1.0, row[1], (row[2], row[3]), row[4]), want);
        }
    }

    #[test]
    fn a_ratio_of_equal_buckets_is_certain() {
        let (value, variance) = ratio(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]).unwrap();
        assert!((value - 0.1).abs() < 1e-15 && variance < 1e-30);
        // With one observation per bucket it is the mean and its variance.
        let (value, variance) = ratio(&[(1.0, 1.0), (2.0, 1.0), (6.0, 1.0)]).unwrap();
        assert!((value - 3.0).abs() < 1e-15 && (variance - 7.0 / 3.0).abs() < 1e-12);
        assert_eq!(ratio(&[(1.0, 1.0)]), None);
    }
}
