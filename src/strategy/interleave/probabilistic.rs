//! Probabilistic interleaving: chance says for each slot which ranker fills it, and draws an item of that ranker's list,
//! the one of rank r with a weight of 1/r³ among those not shown yet. Pure.
//!
//! Who filled a slot is not asked afterwards. A click is credited by how likely each ranker was to have put the item
//! there, over all the ways the list could have come about: for two rankers the chance of having more clicks than the
//! other, for more the clicks that each is expected to have earned. Any item of a list may be shown anywhere, so it shows
//! worse lists than a draft. Sources: Hofmann, Whiteson, de Rijke, "A probabilistic method for inferring preferences from
//! clicks" (2011); Schuth et al., "Probabilistic multileave for online retrieval evaluation" (2015).

use super::chance::Chance;
use super::list::{List, Lists};
use super::merge::{Pick, Sources};

/// How steeply the weight of an item falls with its rank.
const TAU: i32 = 3;

/// Of the item of that rank, from 0.
fn weight(rank: usize) -> f64 {
    ((rank + 1) as f64).powi(-TAU)
}

/// Merges `lists` to at most `length` items.
pub(super) fn merge(lists: &Lists, length: usize, chance: &Chance<'_>) -> Vec<Pick> {
    let mut shown = vec![false; lists.items];
    let mut picks = Vec::with_capacity(length.min(lists.items));
    let mut round = 0;
    while picks.len() < length {
        let open: Vec<usize> = (0..lists.lists.len())
            .filter(|ranker| lists.lists.get(*ranker).is_some_and(|list| has_more(list, &shown)))
            .collect();
        let turn = (chance.part(round, 0) * open.len() as f64) as usize;
        let Some(ranker) = open.get(turn).copied() else { break };
        let Some(list) = lists.lists.get(ranker) else { break };
        let Some((rank, item)) = drawn(list, &shown, chance.part(round, 1)) else { break };
        if let Some(known) = shown.get_mut(item as usize) {
            *known = true;
        }
        picks.push(Pick { ranker, place: list.place(rank).unwrap_or(0), item, team: None });
        round += 1;
    }
    picks
}

fn has_more(list: &List, shown: &[bool]) -> bool {
    list.items().iter().any(|item| shown.get(*item as usize) == Some(&false))
}

/// The item where the weights of those not shown, one after the other, pass that part of their sum.
fn drawn(list: &List, shown: &[bool], part: f64) -> Option<(usize, u32)> {
    let left = || {
        let ranked = list.items().iter().copied().enumerate();
        ranked.filter(|(_, item)| shown.get(*item as usize) == Some(&false))
    };
    let mut rest = part * left().map(|(rank, _)| weight(rank)).sum::<f64>();
    let found = left().find(|(rank, _)| {
        rest -= weight(*rank);
        rest < 0.0
    });
    found.or(left().next_back())
}

/// By slot, then by ranker: how likely it was to have put that item there, had it been its turn.
fn likely(sources: &Sources) -> Vec<Vec<f64>> {
    let whole = |length: &u16| (0..usize::from(*length)).map(weight).sum::<f64>();
    let mut left: Vec<f64> = sources.lengths.iter().map(whole).collect();
    let of = |ranks: &Vec<Option<u16>>| {
        let one = |(rank, left): (&Option<u16>, &mut f64)| {
            let Some(rank) = rank else { return 0.0 };
            let own = weight(usize::from(*rank));
            let part = if *left > 0.0 { own / *left } else { 0.0 };
            *left = (*left - own).max(0.0);
            part
        };
        ranks.iter().zip(&mut left).map(one).collect()
    };
    sources.ranks.iter().map(of).collect()
}

/// The mass of the ways in which the first of two rankers has more of the clicks, and in which the second has.
fn outcomes(sources: &Sources, clicks: &[usize]) -> (f64, f64) {
    // By clicks of the first less those of the second, from -n to n.
    let middle = clicks.len();
    let mut mass = vec![0.0; 2 * middle + 1];
    mass[middle] = 1.0;
    for (slot, parts) in likely(sources).iter().enumerate() {
        let [first, second] = [0, 1].map(|ranker| parts.get(ranker).copied().unwrap_or(0.0));
        if !clicks.contains(&slot) {
            mass.iter_mut().for_each(|mass| *mass *= first + second);
            continue;
        }
        let at = |place: Option<usize>| place.and_then(|place| mass.get(place)).copied().unwrap_or(0.0);
        mass = (0..mass.len())
            .map(|place| first * at(place.checked_sub(1)) + second * at(Some(place + 1)))
            .collect();
    }
    (mass[middle + 1..].iter().sum(), mass[..middle].iter().rev().sum())
}

/// What each ranker is credited, from 0 to the number of clicks.
pub(super) fn credit(sources: &Sources, clicks: &[usize]) -> Vec<f64> {
    if sources.rankers() == 2 {
        let (first, second) = outcomes(sources, clicks);
        let all = first + second;
        return if all > 0.0 { vec![first / all, second / all] } else { vec![0.0; 2] };
    }
    let likely = likely(sources);
    let mut credit = vec![0.0; sources.rankers()];
    for parts in clicks.iter().filter_map(|slot| likely.get(*slot)) {
        let all: f64 = parts.iter().sum();
        for (credit, part) in credit.iter_mut().zip(parts).filter(|_| all > 0.0) {
            *credit += part / all;
        }
    }
    credit
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::sources;
    use super::*;
    use crate::stats::oracle::{Case, counts};

    #[test]
    fn published_credit() {
        let case = Case::named("probabilistic_credit");
        let list = |name: &str| counts(&case.input()[name]);
        let sources = sources(&[list("A"), list("B")], &list("shown"));
        for row in case.rows() {
            let clicks: Vec<usize> = counts(&row["clicks"]).into_iter().map(|slot| slot as usize).collect();
            let (first, second) = outcomes(&sources, &clicks);
            case.check(first, &row["outcome"]["0"]);
            case.check(second, &row["outcome"]["1"]);
            let credit = credit(&sources, &clicks);
            assert_eq!(credit[0] > credit[1], first > second);
        }
    }

    #[test]
    fn more_than_two_share_each_click() {
        let sources = sources(&[vec![1, 2, 3], vec![3, 2, 1], vec![2, 3]], &[2, 1, 3]);
        let credit = credit(&sources, &[0, 1]);
        assert!((credit.iter().sum::<f64>() - 2.0).abs() < 1e-12, "{credit:?}");
        assert!(credit[2] < 1.0 && credit[0] > credit[1], "{credit:?}");
    }

    #[test]
    fn better_items_are_more_likely_and_none_is_impossible() {
        let lists = Lists::number(&[vec![1, 2, 3], vec![1, 2, 3]]);
        let mut firsts = [0; 3];
        for key in 0..4_000_u32 {
            let bytes = key.to_be_bytes();
            let picks = merge(&lists, 3, &Chance { salt: "s", key: &bytes });
            firsts[picks[0].item as usize] += 1;
        }
        // 1 : 1/8 : 1/27.
        assert!((3_350..3_530).contains(&firsts[0]) && (70..190).contains(&firsts[2]), "{firsts:?}");
    }
}
