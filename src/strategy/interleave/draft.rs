//! Team draft: rankers take turns, as captains do who choose their players. Pure.
//!
//! In each round chance says in which order they draft, and each drafts the best of its items that is not shown yet. A
//! slot is credited to whoever filled it. Where the next best of all of them is the same item it is shown for nobody: who
//! would have got it says nothing of either. Where a list has come to its end the others' items follow, for nobody.
//! So no ranker ever has two slots more than another, and lists that are the same credit nobody at all.
//!
//! Sources: Radlinski, Kurup, Joachims, "How does clickthrough data reflect retrieval quality?" (2008), of which
//! [`Rule::Classic`] is the rule; for more than two Schuth et al., "Multileaved comparisons" (2014).

use super::chance::Chance;
use super::list::{List, Lists, RANKERS};
use super::merge::Pick;

/// Whose an item is that several would show next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nobody's, where it is the next of all.
    Neutral,
    /// Whoever drafts first in that round, as it was published.
    Classic,
}

/// What a draft goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round(pub u32);

/// Merges `lists` to at most `length` items, going on from `round`.
pub(super) fn draft(
    lists: &Lists,
    rule: Rule,
    length: usize,
    chance: &Chance<'_>,
    round: &mut Round,
) -> Vec<Pick> {
    let mut table = Table {
        shown: vec![false; lists.items],
        heads: vec![0; lists.lists.len()],
        lists: &lists.lists,
        picks: Vec::with_capacity(length.min(lists.items)),
        length,
    };
    let rankers = lists.lists.len().min(RANKERS);
    while !table.is_full() {
        let mut next = [None; RANKERS];
        for (ranker, next) in next.iter_mut().enumerate().take(rankers) {
            *next = table.next(ranker);
        }
        let best = next.get(..rankers).unwrap_or(&next);
        let left = best.iter().flatten().count();
        if left == 0 {
            break;
        }
        let same = best.windows(2).all(|pair| pair[0] == pair[1]);
        let ended = left < best.len();
        match rule {
            Rule::Neutral if same => table.take(0, None),
            Rule::Neutral if ended => {
                for ranker in 0..best.len() {
                    table.take(ranker, None);
                }
            }
            Rule::Neutral | Rule::Classic => {
                let mut order: [usize; RANKERS] = std::array::from_fn(|ranker| ranker);
                let order = order.get_mut(..rankers).unwrap_or_default();
                chance.shuffle(round.0, order);
                for ranker in order.iter().copied() {
                    table.take(ranker, Some(ranker));
                }
            }
        }
        round.0 = round.0.wrapping_add(1);
    }
    table.picks
}

struct Table<'a> {
    lists: &'a [List],
    /// By item.
    shown: Vec<bool>,
    /// By ranker: what is before it is shown.
    heads: Vec<usize>,
    picks: Vec<Pick>,
    length: usize,
}

impl Table<'_> {
    fn is_full(&self) -> bool {
        self.picks.len() >= self.length
    }

    /// The best item of a ranker that is not shown yet.
    fn next(&mut self, ranker: usize) -> Option<u32> {
        let items = self.lists.get(ranker)?.items();
        let head = self.heads.get_mut(ranker)?;
        while items.get(*head).is_some_and(|item| self.shown.get(*item as usize) == Some(&true)) {
            *head += 1;
        }
        items.get(*head).copied()
    }

    /// Shows it, for that team or for nobody.
    fn take(&mut self, ranker: usize, team: Option<usize>) {
        if self.is_full() {
            return;
        }
        let Some(item) = self.next(ranker) else { return };
        let rank = self.heads.get(ranker).copied().unwrap_or(0);
        let place = self.lists.get(ranker).and_then(|list| list.place(rank)).unwrap_or(0);
        if let Some(shown) = self.shown.get_mut(item as usize) {
            *shown = true;
        }
        self.picks.push(Pick { ranker, place, item, team });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::stats::oracle::Case;

    fn drafted(lists: &[Vec<u64>], rule: Rule, length: usize, key: u32) -> Vec<(u64, Option<usize>)> {
        let bytes = key.to_be_bytes();
        let chance = Chance { salt: "m/v2", key: &bytes };
        let picks = draft(&Lists::number(lists), rule, length, &chance, &mut Round::default());
        picks.iter().map(|pick| (lists[pick.ranker][pick.place], pick.team)).collect()
    }

    /// What was shown, and whose it was.
    fn told(row: &serde_json::Value) -> Vec<(u64, Option<usize>)> {
        let team = |name: &str| row[name].as_array().unwrap().clone();
        let (a, b) = (team("team_a"), team("team_b"));
        let items = row["list"].as_array().unwrap().iter();
        let of = |item: &serde_json::Value| {
            if a.contains(item) { Some(0) } else { b.contains(item).then_some(1) }
        };
        items.map(|item| (item.as_u64().unwrap(), of(item))).collect()
    }

    fn input(case: &Case) -> Vec<Vec<u64>> {
        let list = |name: &str| {
            let items = case.input()[name].as_array().unwrap().iter();
            items.map(|item| item.as_u64().unwrap()).collect()
        };
        vec![list("A"), list("B")]
    }

    #[test]
    fn published_drafts_are_among_those_that_chance_makes() {
        let case = Case::named("team_draft");
        let lists = input(&case);
        for row in case.rows() {
            let wanted = told(row);
            let found = (0..200).any(|key| drafted(&lists, Rule::Classic, 5, key) == wanted);
            assert!(found, "{wanted:?} was never drafted");
        }
    }

    #[test]
    fn each_published_draft_is_as_likely_as_published() {
        const DRAWN: u32 = 40_000;
        let case = Case::named("team_draft_distribution");
        let lists = input(&case);
        let mut seen: HashMap<Vec<(u64, Option<usize>)>, u32> = HashMap::new();
        for key in 0..DRAWN {
            *seen.entry(drafted(&lists, Rule::Classic, 4, key)).or_default() += 1;
        }
        let mut expected: HashMap<Vec<(u64, Option<usize>)>, f64> = HashMap::new();
        for row in case.rows() {
            *expected.entry(told(row)).or_default() += row["prob"].as_f64().unwrap();
        }
        let told: f64 = expected.values().sum();
        for (list, probability) in &expected {
            let part = f64::from(seen.get(list).copied().unwrap_or(0)) / f64::from(DRAWN);
            assert!((part - probability).abs() < 0.015, "{list:?}: {part} instead of {probability}");
        }
        let known: u32 = expected.keys().filter_map(|list| seen.get(list)).sum();
        assert!((f64::from(known) / f64::from(DRAWN) - told).abs() < 0.015, "{seen:?}");
    }

    #[test]
    fn what_both_would_show_is_nobodys() {
        for key in 0..50 {
            let shown = drafted(&[vec![1, 2, 3, 4], vec![1, 3, 2, 4]], Rule::Neutral, 4, key);
            assert_eq!((shown[0], shown[3]), ((1, None), (4, None)), "{shown:?}");
            let teams = [shown[1].1, shown[2].1];
            assert!(teams == [Some(0), Some(1)] || teams == [Some(1), Some(0)], "{shown:?}");
        }
    }

    #[test]
    fn short_and_empty_lists_are_filled_up_for_nobody() {
        let shown = drafted(&[vec![1, 2, 3, 4], vec![9]], Rule::Neutral, 4, 0);
        assert_eq!(shown.iter().filter(|(_, team)| team.is_some()).count(), 2, "{shown:?}");
        assert_eq!(shown[2..], [(2, None), (3, None)]);
        assert_eq!(drafted(&[vec![1, 2], vec![]], Rule::Neutral, 5, 0), [(1, None), (2, None)]);
        assert_eq!(drafted(&[vec![], vec![]], Rule::Neutral, 5, 0), []);
        assert_eq!(drafted(&[vec![1, 2], vec![2, 1]], Rule::Neutral, 0, 0), []);
    }

    fn list() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0..30_u64, 0..20)
    }

    proptest! {
        #[test]
        fn the_same_lists_credit_nobody(items in list(), rankers in 2..5_usize, length in 0..25_usize, key: u32) {
            let shown = drafted(&vec![items; rankers], Rule::Neutral, length, key);
            prop_assert!(shown.iter().all(|(_, team)| team.is_none()));
        }

        #[test]
        fn nothing_is_shown_twice_and_teams_are_even(
            lists in prop::collection::vec(list(), 2..6), length in 0..40_usize, key: u32,
        ) {
            let shown = drafted(&lists, Rule::Neutral, length, key);
            let different: std::collections::HashSet<u64> = shown.iter().map(|(item, _)| *item).collect();
            prop_assert_eq!(different.len(), shown.len());
            let all: std::collections::HashSet<u64> = lists.iter().flatten().copied().collect();
            prop_assert_eq!(shown.len(), length.min(all.len()));
            let sizes: Vec<usize> = (0..lists.len())
                .map(|team| shown.iter().filter(|(_, of)| *of == Some(team)).count())
                .collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", sizes);
        }
    }
}
