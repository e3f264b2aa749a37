//! The difference of two means at a constant split: asymptotic confidence sequences, which are the normal mSPRT.
//!
//! Only for a split that never changes; otherwise the overlap score is right and this is not. Kept because other
//! tools report it, with their tuning.
//! Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic
//! confidence sequences" (2024).

/// Count, sum and sum of squares of one arm's rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// How many rewards.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Moments {
    /// The mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The variance, of a sample.
    pub fn variance(&self) -> f64 {
        (self.squares - self.sum * self.sum / self.count) / (self.count - 1.0)
    }
}

/// ρ² that is best after `count` rewards: (−2 ln α + ln(1 − 2 ln α)) / count, a good approximation.
pub fn rho_squared(count: f64, alpha: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    (twice + twice.ln_1p()) / count
}

/// The exact best ρ²: (−W₋₁(−α² e^(α² − 1)) − 1) / count, with the lower branch of Lambert's W.
pub fn rho_squared_exact(count: f64, alpha: f64) -> f64 {
    // y = −W solves y − ln y = 1 − α² − 2 ln α, y > 1.
    let target = 1.0 - alpha * alpha - 2.0 * alpha.ln();
    let mut y = target + target.ln();
    for _ in 0..50 {
        y -= (y - y.ln() - target) / (1.0 - 1.0 / y);
    }
    (y - 1.0) / count
}

/// The half width of the two-sided sequence at variance 1: sqrt(2(tρ² + 1)/(t²ρ²) · ln(sqrt(tρ² + 1)/α)).
pub fn half_width(count: f64, rho_squared: f64, alpha: f64) -> f64 {
    let grown = count * rho_squared + 1.0;
    (2.0 * grown / (count * count * rho_squared) * (grown.sqrt() / alpha).ln()).sqrt()
}

/// The width to one side, with ρ² tuned at 2α: sqrt(2(tρ² + 1)/(tρ)² · ln(1 + sqrt(tρ² + 1)/(2α))).
pub fn one_sided_width(count: f64, rho_squared: f64, alpha: f64) -> f64 {
    let grown = count * rho_squared + 1.0;
    (2.0 * grown / (count * count * rho_squared) * (grown.sqrt() / (2.0 * alpha)).ln_1p()).sqrt()
}

/// An estimate with its standard error, and how many rewards are behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The estimate.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    count: f64,
}

impl Difference {
    /// Of the means: b − a.
    pub fn absolute(a: &Moments, b: &Moments) -> Self {
        let error = (a.variance() / a.count + b.variance() / b.count).sqrt();
        Self { value: b.mean() - a.mean(), error, count: a.count + b.count }
    }

    /// Of the means, over that of a: (b − a)/a, with its error by the delta method.
    pub fn relative(a: &Moments, b: &Moments) -> Self {
        let (base, mean) = (a.mean(), b.mean());
        let square =
            b.variance() / b.count / base.powi(2) + a.variance() / a.count * mean.powi(2) / base.powi(4);
        Self { value: (mean - base) / base, error: square.sqrt(), count: a.count + b.count }
    }

    /// The two-sided confidence sequence, narrowest at `best` rewards.
    pub fn interval(&self, best: f64, alpha: f64) -> (f64, f64) {
        let half = self.error * self.count.sqrt() * half_width(self.count, rho_squared(best, alpha), alpha);
        (self.value - half, self.value + half)
    }

    /// The lower and the upper bound, each of which holds alone.
    pub fn one_sided_bounds(&self, best: f64, alpha: f64) -> (f64, f64) {
        let width = one_sided_width(self.count, rho_squared(best, 2.0 * alpha), alpha);
        let half = self.error * self.count.sqrt() * width;
        (self.value - half, self.value + half)
    }

    /// ln E against "no difference", with ρ² as above: that of the normal mSPRT with prior variance τ² = ρ² N V.
    pub fn ln_e(&self, rho_squared: f64) -> f64 {
        let grown = self.count * rho_squared + 1.0;
        let z = self.value / self.error;
        0.5 * (z * z * self.count * rho_squared / grown - grown.ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number};

    fn moments(value: &serde_json::Value) -> Moments {
        Moments {
            count: number(&value["n"]),
            sum: number(&value["sum"]),
            squares: number(&value["sum_squares"]),
        }
    }

    #[test]
    fn published_tuning_and_width() {
        let case = Case::named("asympcs_rho2");
        let (alpha, best) = (number(&case.input()["alpha"]), number(&case.input()["t_opt"]));
        case.check(rho_squared(best, alpha), &case.expected()["approx"]);
        case.check(rho_squared_exact(best, alpha), &case.expected()["exact"]);
        let case = Case::named("asympcs_margin_unit_variance");
        for row in case.rows() {
            let got = half_width(number(&row["t"]), rho_squared_exact(best, alpha), alpha);
            case.check(got, &row["margin"]);
        }
    }

    #[test]
    fn published_two_sided_intervals() {
        let case = Case::named("growthbook_sequential_two_sided");
        let (a, b) = (moments(&case.input()["a"]), moments(&case.input()["b"]));
        let (alpha, best) = (number(&case.input()["alpha"]), number(&case.input()["t_opt"]));
        for (name, got) in
            [("absolute", Difference::absolute(&a, &b)), ("relative", Difference::relative(&a, &b))]
        {
            let want = &case.expected()[name];
            case.check(got.value, &want["expected"]);
            case.check(got.error, &want["stderr"]);
            let (low, high) = got.interval(best, alpha);
            case.check(low, &want["ci"][0]);
            case.check(high, &want["ci"][1]);
            case.check((-got.ln_e(rho_squared(best, alpha))).exp().min(1.0), &want["p_value"]);
        }
    }

    #[test]
    fn published_one_sided_bounds() {
        let case = Case::named("growthbook_sequential_one_sided");
        let (a, b) = (moments(&case.input()["a"]), moments(&case.input()["b"]));
        let (alpha, best) = (number(&case.input()["alpha"]), number(&case.input()["t_opt"]));
        let want = case.expected();
        let absolute = Difference::absolute(&a, &b);
        case.check(absolute.value, &want["point"]);
        case.check(absolute.one_sided_bounds(best, alpha).0, &want["lower"]);
        case.check(absolute.one_sided_bounds(best, alpha).1, &want["upper_of_other_side"]);
        let relative = Difference::relative(&a, &b);
        case.check(relative.one_sided_bounds(best, alpha).0, &want["relative"]["lower"]);
        case.check(relative.one_sided_bounds(best, alpha).1, &want["relative"]["upper"]);
        // At the published p-value, with the tuning as it was, the lower bound is zero; to four places.
        let p = number(&want["p_value_greater"]);
        let count = a.count + b.count;
        let width = one_sided_width(count, rho_squared(best, 2.0 * alpha), p);
        assert!((absolute.value - absolute.error * count.sqrt() * width).abs() < 1e-4);
    }

    #[test]
    fn the_interval_ends_where_the_sequential_ratio_test_would_reject() {
        let a = Moments { count: 900.0, sum: 90.0, squares: 90.0 };
        let b = Moments { count: 1100.0, sum: 140.0, squares: 140.0 };
        let got = Difference::absolute(&a, &b);
        let end = Difference { value: got.interval(5000.0, 0.05).1 - got.value, ..got };
        assert!((end.ln_e(rho_squared(5000.0, 0.05)) - f64::ln(20.0)).abs() < 1e-9);
    }
}
