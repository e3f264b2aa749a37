//! Pairwise preference multileaving: each slot is drawn evenly from all that some ranker would have shown by then. Pure.
//!
//! A clicked item is preferred to each one above it that was not clicked, and to the next below it. A pair counts only
//! where both could have stood in either place, and then by the inverse of the probability that it did so: 1 for rankers
//! that order it likewise, −1 for those that order it the other way. So clicks at random prefer nobody, however the lists
//! are. Source: Oosterhuis, de Rijke, "Sensitive and scalable online evaluation with theoretical guarantees" (2017).

use super::chance::Chance;
use super::list::Lists;
use super::merge::{Pick, Sources};

/// Merges `lists` to at most `length` items.
pub(super) fn merge(lists: &Lists, length: usize, chance: &Chance<'_>) -> Vec<Pick> {
    let mut open: Vec<Pick> = Vec::new();
    let mut met = vec![false; lists.items];
    let mut picks = Vec::with_capacity(length.min(lists.items));
    let deepest = lists.lists.iter().map(|list| list.items().len()).max().unwrap_or(0);
    let mut rank = 0;
    while picks.len() < length && (rank < deepest || !open.is_empty()) {
        for (ranker, list) in lists.lists.iter().enumerate() {
            let Some(item) = list.items().get(rank).copied() else { continue };
            if let Some(met) = met.get_mut(item as usize).filter(|met| !**met) {
                *met = true;
                open.push(Pick { ranker, place: list.place(rank).unwrap_or(0), item, team: None });
            }
        }
        let drawn = (chance.part(rank as u32, 0) * open.len() as f64) as usize;
        if drawn < open.len() {
            picks.push(open.remove(drawn));
        }
        rank += 1;
    }
    picks
}

/// What each ranker is credited.
pub(super) fn credit(sources: &Sources, clicks: &[usize]) -> Vec<f64> {
    let mut credit = vec![0.0; sources.rankers()];
    for (better, worse) in preferences(sources.slots(), clicks) {
        let Some(weight) = weight(sources, better, worse) else { continue };
        for (ranker, credit) in credit.iter_mut().enumerate() {
            match sources.rank(better, ranker).cmp(&sources.rank(worse, ranker)) {
                std::cmp::Ordering::Less => *credit += weight,
                std::cmp::Ordering::Greater => *credit -= weight,
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    credit
}

/// Slots that are preferred to others.
fn preferences(slots: usize, clicks: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let others = move |click: usize| (0..slots.min(click + 2)).filter(|slot| !clicks.contains(slot));
    clicks.iter().flat_map(move |click| others(*click).map(move |other| (*click, other)))
}

/// What a pair counts; none where one of both could not have stood as high as the other.
fn weight(sources: &Sources, one: usize, other: usize) -> Option<f64> {
    let best = |slot: usize| (0..sources.rankers()).map(|ranker| sources.rank(slot, ranker)).min();
    let (one_best, other_best) = (best(one)?, best(other)?);
    let (first, both) = (one_best.min(other_best), one_best.max(other_best));
    if one.min(other) < both {
        return None;
    }
    // That the one that could be shown first was not, until the other could be too.
    let chance: f64 = (first..both)
        .map(|rank| {
            let reach = usize::from(sources.reach.get(rank).copied().unwrap_or(u16::MAX));
            1.0 - 1.0 / reach.saturating_sub(rank).max(1) as f64
        })
        .product();
    (chance > 0.0).then(|| 1.0 / chance)
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::sources;
    use super::*;
    use crate::stats::oracle::{Case, counts};

    #[test]
    fn published_credit() {
        let case = Case::named("pairwise_preference_credit");
        let rankers: Vec<Vec<u64>> = case.input()["rankers"].as_array().unwrap().iter().map(counts).collect();
        let sources = sources(&rankers, &counts(&case.input()["shown"]));
        for row in case.rows() {
            let clicks: Vec<usize> = counts(&row["clicks"]).into_iter().map(|slot| slot as usize).collect();
            for (ranker, credit) in credit(&sources, &clicks).into_iter().enumerate() {
                case.check(credit, &row["scores"][ranker.to_string()]);
            }
        }
    }

    #[test]
    fn clicks_at_random_prefer_nobody() {
        let lists = Lists::number(&[vec![1, 2, 3, 4, 5], vec![2, 1, 4, 3, 9], vec![9, 5, 1, 2, 3]]);
        let mut sums = [0.0; 3];
        let mut squares = [0.0; 3];
        for key in 0..20_000_u32 {
            let bytes = key.to_be_bytes();
            let chance = Chance { salt: "s", key: &bytes };
            let picks = merge(&lists, 5, &chance);
            // Whoever clicks so looks at places, not at items.
            let clicks: Vec<usize> =
                (0..5).filter(|slot| chance.part(77, *slot as u32) < 1.0 / (1 + slot) as f64).collect();
            let credit = credit(&Sources::of(&lists, &picks), &clicks);
            for (ranker, credit) in credit.iter().enumerate() {
                sums[ranker] += credit;
                squares[ranker] += credit * credit;
            }
        }
        for (sum, squares) in sums.iter().zip(squares) {
            assert!(sum.abs() < 4.0 * f64::sqrt(squares), "{sums:?}");
        }
    }
}
