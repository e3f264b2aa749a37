//! Two rankings of items, and two rankings of the same things: how far they agree.
//!
//! Rank-biased overlap weighs the agreement of the first d items by p^d, so that the top counts most and the lists need
//! not hold the same items. Kendall's τ-b counts pairs in the same and in the other order, corrected for ties.
//! Sources: Webber, Moffat, Zobel, "A similarity measure for indefinite rankings" (2010), equation 32; Kendall (1945).

use std::collections::HashMap;
use std::hash::Hash;

use crate::stats::special::normal_cdf;

/// How much each rank weighs beside the one before it: at 0.9 the first ten carry 86 %.
pub const PERSISTENCE: f64 = 0.9;

/// Items that both lists have among their first d, for each d up to the longer length. Items that a list has twice
/// count at their first place.
fn overlaps<T: Eq + Hash>(one: &[T], other: &[T]) -> Vec<f64> {
    let mut seen: HashMap<&T, (bool, bool)> = HashMap::new();
    let mut common = 0.0;
    let depth = one.len().max(other.len());
    let mut all = Vec::with_capacity(depth);
    for at in 0..depth {
        for (item, first) in [(one.get(at), true), (other.get(at), false)] {
            let Some(item) = item else { continue };
            let entry = seen.entry(item).or_default();
            let before = entry.0 && entry.1;
            *(if first { &mut entry.0 } else { &mut entry.1 }) = true;
            common += f64::from(u8::from(!before && entry.0 && entry.1));
        }
        all.push(common);
    }
    all
}

/// Rank-biased overlap, extrapolated beyond the lists: 0 (nothing in common) to 1 (the same). `p` is in (0, 1).
///
/// Two empty lists are the same.
pub fn biased_overlap<T: Eq + Hash>(one: &[T], other: &[T], p: f64) -> f64 {
    let (short, long) = (one.len().min(other.len()), one.len().max(other.len()));
    if long == 0 {
        return 1.0;
    }
    if short == 0 {
        return 0.0;
    }
    let common = overlaps(one, other);
    let (at_short, at_long) = (common[short - 1], common[long - 1]);
    let (s, l) = (short as f64, long as f64);
    let mut weight = 1.0;
    let (mut sum, mut beyond) = (0.0, 0.0);
    for (at, common) in common.iter().enumerate() {
        weight *= p;
        let d = (at + 1) as f64;
        sum += common / d * weight;
        if at >= short {
            beyond += at_short * (d - s) / (s * d) * weight;
        }
    }
    (1.0 - p) / p * (sum + beyond) + ((at_long - at_short) / l + at_short / s) * weight
}

/// The part of the first `depth` items that both have, of the shorter list's where it is shorter; 1 without any.
pub fn overlap_at<T: Eq + Hash>(one: &[T], other: &[T], depth: usize) -> f64 {
    let (one, other) = (&one[..one.len().min(depth)], &other[..other.len().min(depth)]);
    let most = one.len().max(other.len());
    if most == 0 { 1.0 } else { overlaps(one, other).last().copied().unwrap_or(0.0) / most as f64 }
}

/// Kendall's τ-b of paired values: 1 (the same order) to −1 (the reverse); none where one side has no order at all.
pub fn kendall(one: &[f64], other: &[f64]) -> Option<f64> {
    let (mut balance, mut first, mut second) = (0.0, 0.0, 0.0);
    for (at, pair) in one.iter().zip(other).enumerate() {
        for before in one.iter().zip(other).take(at) {
            let (a, b) = (sign(pair.0 - before.0), sign(pair.1 - before.1));
            balance += a * b;
            first += a.abs();
            second += b.abs();
        }
    }
    (first > 0.0 && second > 0.0).then(|| balance / (first * second).sqrt())
}

/// The two-sided chance of a τ-b as far from 0 as this one between values that have nothing to do with each other, by
/// the normal law, corrected for ties.
pub fn kendall_p(one: &[f64], other: &[f64]) -> Option<f64> {
    let tau = kendall(one, other)?;
    let n = one.len().min(other.len()) as f64;
    let (x, y) = (Ties::of(one), Ties::of(other));
    let pairs = n * (n - 1.0);
    let variance = (pairs * (2.0 * n + 5.0) - x.fives - y.fives) / 18.0
        + 2.0 * x.pairs * y.pairs / pairs
        + x.triples * y.triples / (9.0 * pairs * (n - 2.0));
    let scale = ((pairs / 2.0 - x.pairs) * (pairs / 2.0 - y.pairs)).sqrt();
    Some((2.0 * normal_cdf(-(tau * scale).abs() / variance.sqrt())).min(1.0))
}

/// Spearman's ρ: the correlation of ranks, those of ties being their mean; none where one side has no order.
pub fn spearman(one: &[f64], other: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(one), ranks(other));
    let n = a.len() as f64;
    let mean = (n + 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let (xx, yy) = (sum(&a, &a), sum(&b, &b));
    (xx > 0.0 && yy > 0.0).then(|| sum(&a, &b) / (xx * yy).sqrt())
}

fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let same = values.iter().filter(|other| *other == value).count() as f64;
        below + (same + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// What ties take off.
struct Ties {
    pairs: f64,
    triples: f64,
    fives: f64,
}

impl Ties {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut ties = Ties { pairs: 0.0, triples: 0.0, fives: 0.0 };
        for tied in sorted.chunk_by(|a, b| a == b) {
            let t = tied.len() as f64;
            ties.pairs += t * (t - 1.0) / 2.0;
            ties.triples += t * (t - 1.0) * (t - 2.0);
            ties.fives += t * (t - 1.0) * (2.0 * t + 5.0);
        }
        ties
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number, numbers};

    fn list(value: &serde_json::Value) -> Vec<String> {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn published_overlaps() {
        let case = Case::named("rbo");
        let (s, t, short) =
            (list(&case.input()["S"]), list(&case.input()["T"]), list(&case.input()["T_short"]));
        let p = number(&case.input()["p"]);
        case.check(biased_overlap(&s, &t, p), &case.expected()["rbo_ext"]);
        case.check(biased_overlap(&s, &short, p), &case.expected()["rbo_ext_uneven"]);
        case.check(biased_overlap(&short, &s, p), &case.expected()["rbo_ext_uneven"]);
        case.check(overlap_at(&s, &t, 10), &case.expected()["overlap_top10"]);
        let (common, weight) = (overlaps(&s, &t), |d: i32| p.powi(d) * (1.0 - p) / p);
        let truncated: f64 = (1..).zip(&common).map(|(d, common)| common / f64::from(d) * weight(d)).sum();
        case.check(truncated, &case.expected()["rbo_truncated"]);
        let common = common.last().unwrap();
        case.check(common / (20.0 - common), &case.expected()["jaccard_top10"]);
    }

    #[test]
    fn published_correlations() {
        let case = Case::named("kendall_tau_b");
        let (a, b) = (numbers(&case.input()["a"]), numbers(&case.input()["b"]));
        case.check(kendall(&a, &b).unwrap(), &case.expected()["tau_b"]);
        case.check(kendall_p(&a, &b).unwrap(), &case.expected()["p"]);
        case.check(spearman(&a, &b).unwrap(), &case.expected()["spearman"]);
        assert_eq!((kendall(&[1.0, 1.0], &[1.0, 2.0]), kendall(&[], &[])), (None, None));
    }

    #[test]
    fn ends_of_the_scale() {
        let none: [u8; 0] = [];
        assert_eq!(biased_overlap(&none, &none, 0.9), 1.0);
        assert_eq!(biased_overlap(&[1], &none, 0.9), 0.0);
        assert!((biased_overlap(&[1, 2, 3], &[1, 2, 3], 0.9) - 1.0).abs() < 1e-12);
        assert_eq!(biased_overlap(&[1, 2, 3], &[4, 5, 6], 0.9), 0.0);
        // A list that holds one item again and again is no agreement.
        assert!(biased_overlap(&[1, 1, 1], &[1, 2, 3], 0.9) < 0.9);
        assert_eq!((overlap_at(&none, &none, 3), overlap_at(&[1, 2], &[2, 1], 1)), (1.0, 0.0));
    }
}
