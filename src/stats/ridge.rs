//! Ridge regression of rewards on a few features: A = λI + Σxxᵀ, b = Σrx, and what follows from both.
//!
//! Sums are kept as a packed lower triangle, so that they add up in any order. What a call asks of them, x·A⁻¹b and
//! xᵀA⁻¹x, needs A⁻¹ once per epoch and some hundred multiplications per call. Source: Li, Chu, Langford & Schapire 2010
//! (LinUCB, disjoint models).

use serde::{Deserialize, Serialize};

/// Sums of one arm: Σxxᵀ and Σrx.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// The lower triangle of Σxxᵀ, row by row; empty as long as nothing was added.
    xx: Vec<f64>,
    xr: Vec<f64>,
}

/// What the sums say, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// A⁻¹b.
    coefficients: Vec<f64>,
    /// The lower triangle of A⁻¹ row by row, what lies beside the diagonal doubled: the form xᵀA⁻¹x then is one sum.
    form: Vec<f64>,
}

impl Sums {
    /// Nothing yet.
    pub fn is_empty(&self) -> bool {
        self.xx.is_empty()
    }

    /// Adds `weight` times xxᵀ: a unit of those features was seen.
    pub fn see(&mut self, x: &[f64], weight: f64) {
        self.grow(x.len());
        let mut place = 0;
        for (row, one) in x.iter().enumerate() {
            for other in &x[..=row] {
                if let Some(sum) = self.xx.get_mut(place) {
                    *sum += weight * one * other;
                }
                place += 1;
            }
        }
    }

    /// Adds `reward` times x.
    pub fn earn(&mut self, x: &[f64], reward: f64) {
        self.grow(x.len());
        self.xr.iter_mut().zip(x).for_each(|(sum, x)| *sum += reward * x);
    }

    /// Adds `weight` times others.
    pub fn merge(&mut self, other: &Sums, weight: f64) {
        self.grow(other.xr.len());
        self.xx.iter_mut().zip(&other.xx).for_each(|(sum, more)| *sum += weight * more);
        self.xr.iter_mut().zip(&other.xr).for_each(|(sum, more)| *sum += weight * more);
    }

    /// Multiplies all of it.
    pub fn fade(&mut self, by: f64) {
        self.xx.iter_mut().chain(&mut self.xr).for_each(|sum| *sum *= by);
    }

    fn grow(&mut self, length: usize) {
        if self.xr.len() < length {
            self.xr.resize(length, 0.0);
            self.xx.resize(length * (length + 1) / 2, 0.0);
        }
    }

    /// The regression of `length` features with λ = `ridge` above 0.
    pub fn model(&self, length: usize, ridge: f64) -> Model {
        let at = |row: usize, column: usize| row * (row + 1) / 2 + column;
        let mut a: Vec<f64> = self.xx.clone();
        a.resize(length * (length + 1) / 2, 0.0);
        (0..length).for_each(|row| a[at(row, row)] += ridge);
        // Cholesky: A = LLᵀ, L in the place of A.
        for row in 0..length {
            for column in 0..=row {
                let known: f64 = (0..column).map(|k| a[at(row, k)] * a[at(column, k)]).sum();
                let left = a[at(row, column)] - known;
                // Rounding may leave nothing of what λ put in; the diagonal stays above 0 all the same.
                a[at(row, column)] =
                    if row == column { left.max(ridge * 1e-12).sqrt() } else { left / a[at(column, column)] };
            }
        }
        // L⁻¹, then A⁻¹ = L⁻ᵀL⁻¹.
        let mut inverse = vec![0.0; a.len()];
        for row in 0..length {
            inverse[at(row, row)] = 1.0 / a[at(row, row)];
            for column in 0..row {
                let sum: f64 = (column..row).map(|k| a[at(row, k)] * inverse[at(k, column)]).sum();
                inverse[at(row, column)] = -sum / a[at(row, row)];
            }
        }
        let entry = |row: usize, column: usize| -> f64 {
            (row..length).map(|k| inverse[at(k, row)] * inverse[at(k, column)]).sum()
        };
        let mut form = Vec::with_capacity(a.len());
        for row in 0..length {
            form.extend((0..=row).map(|column| entry(row, column)));
        }
        let b = |k: usize| self.xr.get(k).copied().unwrap_or(0.0);
        let symmetric = |row: usize, column: usize| form[at(row.max(column), row.min(column))];
        let coefficients =
            (0..length).map(|row| (0..length).map(|k| symmetric(row, k) * b(k)).sum()).collect();
        for row in 0..length {
            (0..row).for_each(|column| form[at(row, column)] *= 2.0);
        }
        Model { coefficients, form }
    }
}

impl Model {
    /// x·A⁻¹b: what is expected.
    pub fn expected(&self, x: &[f64]) -> f64 {
        self.coefficients.iter().zip(x).map(|(beta, x)| beta * x).sum()
    }

    /// √(xᵀA⁻¹x): how uncertain that is, in units of a reward's own deviation.
    pub fn uncertainty(&self, x: &[f64]) -> f64 {
        let mut rows = self.form.as_slice();
        let mut sum = 0.0;
        for (row, one) in x.iter().enumerate() {
            let Some((entries, rest)) = rows.split_at_checked(row + 1) else { break };
            let inner: f64 = entries.iter().zip(x).map(|(entry, x)| entry * x).sum();
            sum += one * inner;
            rows = rest;
        }
        sum.max(0.0).sqrt()
    }

    /// Features it was made for.
    pub fn length(&self) -> usize {
        self.coefficients.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, counts, number, numbers};

    fn rows(case: &Case, key: &str) -> Vec<Vec<f64>> {
        case.input()[key].as_array().unwrap().iter().map(numbers).collect()
    }

    #[test]
    fn published_scores() {
        let case = Case::named("linucb");
        let [alpha, ridge] = ["alpha", "l2_lambda"].map(|key| number(&case.input()[key]));
        let mut arms = [Sums::default(), Sums::default()];
        let rewards = numbers(&case.input()["rewards"]);
        for ((x, arm), reward) in
            rows(&case, "contexts").iter().zip(counts(&case.input()["arms"])).zip(rewards)
        {
            arms[arm as usize].see(x, 1.0);
            arms[arm as usize].earn(x, reward);
        }
        let queries = rows(&case, "query");
        assert_eq!(queries.len(), case.rows().len());
        for (x, want) in queries.iter().zip(case.rows()) {
            for (arm, sums) in arms.iter().enumerate() {
                let model = sums.model(2, ridge);
                case.check(model.expected(x) + alpha * model.uncertainty(x), &want[arm.to_string()]);
            }
        }
    }

    #[test]
    fn parts_add_up_and_what_is_not_known_is_as_uncertain_as_the_ridge_says() {
        let xs = [[1.0, 0.3, -2.0], [1.0, -1.1, 0.4], [1.0, 2.0, 1.0], [1.0, 0.0, 0.7]];
        let (mut whole, mut one, mut other) = (Sums::default(), Sums::default(), Sums::default());
        for (place, x) in xs.iter().enumerate() {
            for sums in [&mut whole, if place < 2 { &mut one } else { &mut other }] {
                sums.see(x, 1.0);
                sums.earn(x, place as f64);
            }
        }
        let before = one.clone();
        one.merge(&other, 1.0);
        assert_eq!(one, whole);
        one.merge(&other, -1.0);
        let left = |a: &Sums, b: &Sums| a.model(3, 1.0).expected(&xs[0]) - b.model(3, 1.0).expected(&xs[0]);
        assert!(left(&one, &before).abs() < 1e-12);
        let nothing = Sums::default().model(3, 4.0);
        assert_eq!(nothing.expected(&xs[0]), 0.0);
        assert!((nothing.uncertainty(&[3.0, 0.0, 4.0]) - 2.5).abs() < 1e-12);
        // A·A⁻¹ = I, asked by the form: for x = A e₁ it is e₁·A e₁.
        let (model, ridge) = (whole.model(3, 0.5), 0.5);
        let column: Vec<f64> = (0..3).map(|k| xs.iter().map(|x| x[0] * x[k]).sum::<f64>()).collect();
        let column = [column[0] + ridge, column[1], column[2]];
        assert!((model.uncertainty(&column).powi(2) - column[0]).abs() < 1e-9);
    }

    #[test]
    fn what_is_known_for_certain_is_no_number_gone_wrong() {
        let mut sums = Sums::default();
        for _ in 0..100 {
            sums.see(&[1e6, 1e6], 1.0);
            sums.earn(&[1e6, 1e6], 1.0);
        }
        let model = sums.model(2, 1.0);
        assert!(model.expected(&[1.0, 1.0]).is_finite() && model.uncertainty(&[1.0, -1.0]).is_finite());
    }
}
