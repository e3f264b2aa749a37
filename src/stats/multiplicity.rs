//! Many tests at once: e-BH, which holds the share of false discoveries under any dependence.
//! Source: Wang & Ramdas, "False discovery rate control with e-values" (2022).

/// Which of the tests reject, by index, in their order: the k largest, k = max{k: k·e₍k₎/K ≥ 1/α}.
pub fn e_bh(ln_e: &[f64], alpha: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ln_e.len()).collect();
    order.sort_by(|one, other| ln_e[*other].total_cmp(&ln_e[*one]));
    let all = ln_e.len() as f64;
    let enough = |k: usize| ((k + 1) as f64 / all).ln() + ln_e[order[k]] >= -alpha.ln() - 1e-12;
    let rejected = (0..order.len()).rev().find(|k| enough(*k)).map_or(0, |k| k + 1);
    order.truncate(rejected);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, counts, number, numbers};

    #[test]
    fn published_rejections() {
        let case = Case::named("e_bh");
        let ln_e: Vec<f64> = numbers(&case.input()["e"]).iter().map(|e| e.ln()).collect();
        let got = e_bh(&ln_e, number(&case.input()["alpha"]));
        assert_eq!(got.len() as u64, case.expected()["k"].as_u64().unwrap());
        assert_eq!(got.iter().map(|at| *at as u64).collect::<Vec<_>>(), counts(&case.expected()["rejected"]));
    }

    #[test]
    fn one_test_is_held_to_its_level_and_none_to_nothing() {
        assert_eq!(e_bh(&[f64::ln(20.0)], 0.05), [0]);
        assert!(e_bh(&[f64::ln(19.9)], 0.05).is_empty());
        assert!(e_bh(&[], 0.05).is_empty());
    }
}
