//! Which part of the calls each variant gets, in the strategy's own split and in each segment: a stratum each, for what
//! chance was in one it was not in another.

use crate::config::Ab;
use crate::strategy::Split;

/// The share of each variant that has one, 0 to 1, of calls that `segment` matches or none. Fewer than two: chance
/// decides nothing there.
pub fn split_of(ab: &Ab, split: Split, segment: Option<usize>) -> Vec<(usize, f64)> {
    if let Split::Only(variant) = split {
        return vec![(variant, 1.0)];
    }
    let weights = match segment {
        None => &ab.weights,
        Some(segment) => ab.segments.get(segment).map_or(&ab.weights, |segment| &segment.weights),
    };
    let mut shares: Vec<(usize, f64)> = Vec::new();
    for (variant, share) in weights.iter().filter(|(_, share)| share.thousandths() > 0) {
        let owner = if split.out().has(*variant) { ab.baseline } else { *variant };
        match shares.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, sum)) => *sum += share.probability(),
            None => shares.push((owner, share.probability())),
        }
    }
    shares
}

/// How likely `arm` was, given that it was that or the baseline; none where chance did not decide between the two.
pub(super) fn propensity(shares: &[(usize, f64)], baseline: usize, arm: usize) -> Option<f64> {
    let of = |variant: usize| shares.iter().find(|(known, _)| *known == variant).map(|(_, share)| *share);
    let (treated, control) = (of(arm)?, of(baseline)?);
    (arm != baseline).then(|| treated / (treated + control))
}
