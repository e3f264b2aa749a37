//! Integrals of smooth functions, and of products of them with what lies below: panels of Gauss and Legendre.
//!
//! A range is cut into panels, each with the 16 nodes of the Gauss–Legendre rule. The polynomial through them is also
//! integrated up to each node, so that a density gives its distribution at the same nodes, without a function of its own.

use std::sync::LazyLock;

/// Nodes of a panel: polynomials up to degree 31 are exact.
pub const NODES: usize = 16;

/// The rule on (−1, 1).
#[derive(Debug)]
pub struct Rule {
    /// Where, growing.
    pub nodes: [f64; NODES],
    /// How much each counts; they sum to 2.
    pub weights: [f64; NODES],
    /// By node: what the value at each node adds to the integral from −1 up to that node.
    pub below: [[f64; NODES]; NODES],
}

/// The rule.
pub static RULE: LazyLock<Rule> = LazyLock::new(Rule::new);

impl Rule {
    fn new() -> Self {
        let (mut nodes, mut weights) = ([0.0; NODES], [0.0; NODES]);
        for (place, (node, weight)) in nodes.iter_mut().zip(&mut weights).enumerate() {
            // Newton's steps to the root of the Legendre polynomial, from where it nearly is (Tricomi).
            let angle = std::f64::consts::PI * (NODES as f64 - place as f64 - 0.25) / (NODES as f64 + 0.5);
            let mut x = angle.cos();
            let mut slope = 1.0;
            for _ in 0..8 {
                let p = legendre(x);
                slope = NODES as f64 * (p[NODES - 1] - x * p[NODES]) / (1.0 - x * x);
                x -= p[NODES] / slope;
            }
            *node = x;
            *weight = 2.0 / ((1.0 - x * x) * slope * slope);
        }
        let values = nodes.map(legendre);
        let mut below = [[0.0; NODES]; NODES];
        for (row, (until, at_until)) in below.iter_mut().zip(nodes.iter().zip(&values)) {
            for (entry, (weight, at)) in row.iter_mut().zip(weights.iter().zip(&values)) {
                // The Lagrange polynomial of a node in Legendre's, each integrated: ∫P_k = (P_{k+1} − P_{k−1})/(2k + 1).
                let higher: f64 = (1..NODES).map(|k| at[k] * (at_until[k + 1] - at_until[k - 1])).sum();
                *entry = 0.5 * weight * (until + 1.0 + higher);
            }
        }
        Rule { nodes, weights, below }
    }
}

/// P₀ to P₁₆ at x.
fn legendre(x: f64) -> [f64; NODES + 1] {
    let mut p = [1.0; NODES + 1];
    p[1] = x;
    for k in 1..NODES {
        let n = k as f64;
        p[k + 1] = ((2.0 * n + 1.0) * x * p[k] - n * p[k - 1]) / (n + 1.0);
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_and_what_lies_below_each_node_are_exact() {
        let rule = &*RULE;
        assert!((rule.weights.iter().sum::<f64>() - 2.0).abs() < 1e-14);
        assert!(rule.nodes.windows(2).all(|pair| pair[0] < pair[1]));
        for degree in 0..=31 {
            let sum: f64 = rule.nodes.iter().zip(&rule.weights).map(|(x, w)| w * x.powi(degree)).sum();
            let want = if degree % 2 == 0 { 2.0 / f64::from(degree + 1) } else { 0.0 };
            assert!((sum - want).abs() < 1e-13, "{degree}: {sum}");
        }
        for degree in 0..16 {
            for (until, row) in rule.nodes.iter().zip(&rule.below) {
                let sum: f64 = rule.nodes.iter().zip(row).map(|(x, w)| w * x.powi(degree)).sum();
                let end = |x: f64| x.powi(degree + 1) / f64::from(degree + 1);
                assert!((sum - (end(*until) - end(-1.0))).abs() < 1e-12, "{degree} to {until}");
            }
        }
    }
}
