//! Balanced interleaving: chance says which of two lists begins, and then the next item of each is shown in turn, if it
//! is not shown yet. Pure.
//!
//! Down to the lowest click both lists are cut at the depth at which one of them has that item; each is credited for the
//! clicks on items that it has above the cut. Sources: Joachims, "Optimizing search engines using clickthrough data"
//! (2002); Chapelle, Joachims, Radlinski, Yue, "Large-scale validation and analysis of interleaved search evaluation"
//! (2012), who also show that it can prefer one of two lists that differ little under clicks at random.

use super::chance::Chance;
use super::list::Lists;
use super::merge::{Pick, Sources};

/// Merges the first two of `lists` to at most `length` items.
pub(super) fn merge(lists: &Lists, length: usize, chance: &Chance<'_>) -> Vec<Pick> {
    let [first, second] = [0, 1].map(|ranker| lists.lists.get(ranker).map_or(&[][..], |list| list.items()));
    let begins = usize::from(chance.bits(0, 0) >> 31 == 1);
    let both = [first, second];
    let mut heads = [0, 0];
    let mut shown = vec![false; lists.items];
    let mut picks = Vec::with_capacity(length.min(lists.items));
    while picks.len() < length {
        let turn = match heads[0].cmp(&heads[1]) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Equal => begins,
        };
        // Behind the end of one list the other goes on alone.
        let ranker = if heads[turn] < both[turn].len() { turn } else { 1 - turn };
        let Some(item) = both[ranker].get(heads[ranker]).copied() else { break };
        let place = lists.lists.get(ranker).and_then(|list| list.place(heads[ranker])).unwrap_or(0);
        heads[ranker] += 1;
        if let Some(known) = shown.get_mut(item as usize).filter(|known| !**known) {
            *known = true;
            picks.push(Pick { ranker, place, item, team: None });
        }
    }
    picks
}

/// Clicks that each of both is credited for.
pub(super) fn credit(sources: &Sources, clicks: &[usize]) -> Vec<f64> {
    let Some(lowest) = clicks.iter().max() else { return vec![0.0; 2] };
    let behind = |ranker: usize| usize::from(sources.lengths.get(ranker).copied().unwrap_or(0));
    let depth = |ranker: usize| sources.rank(*lowest, ranker).min(behind(ranker));
    let cut = depth(0).min(depth(1));
    let of = |ranker: usize| clicks.iter().filter(|slot| sources.rank(**slot, ranker) <= cut).count() as f64;
    vec![of(0), of(1)]
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::sources;
    use super::*;
    use crate::stats::oracle::{Case, counts, number};

    #[test]
    fn published_credit() {
        let case = Case::named("balanced_credit");
        let list = |name: &str| counts(&case.input()[name]);
        let sources = sources(&[list("A"), list("B")], &list("shown"));
        for row in case.rows() {
            let clicks: Vec<usize> = counts(&row["clicks"]).into_iter().map(|slot| slot as usize).collect();
            assert_eq!(credit(&sources, &clicks), [number(&row["h_a"]), number(&row["h_b"])], "{row}");
        }
        assert_eq!(credit(&sources, &[]), [0.0, 0.0]);
    }

    #[test]
    fn chance_says_who_begins() {
        let lists = Lists::number(&[vec![1, 2, 3, 4], vec![2, 4, 3, 5]]);
        let mut seen = std::collections::HashSet::new();
        for key in 0..20_u32 {
            let bytes = key.to_be_bytes();
            let picks = merge(&lists, 4, &Chance { salt: "s", key: &bytes });
            seen.insert(picks.iter().map(|pick| pick.item).collect::<Vec<_>>());
        }
        // As numbered: the items 1, 2, 3, 4, 5 are 0 to 4.
        assert_eq!(seen, [vec![0, 1, 3, 2], vec![1, 0, 3, 2]].into());
    }
}
