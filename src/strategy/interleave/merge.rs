//! Which item of which list is shown where: the ways to merge, and what credit for a click needs to be known later. Pure.

use serde::{Deserialize, Serialize};

use super::chance::Chance;
use super::draft::{Round, Rule, draft};
use super::list::{List, Lists};
use super::{balanced, pairwise, probabilistic};

/// How lists are merged, and clicks credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Rankers draft in turns; what all would show next is nobody's.
    TeamDraft,
    /// Rankers draft in turns, as it was published.
    ClassicTeamDraft,
    /// Two lists, one item of each in turn; who placed what was clicked higher is credited.
    Balanced,
    /// Each slot is drawn from a ranker's list, its better items the more likely.
    Probabilistic,
    /// Each slot is any of what some ranker would have shown by then; pairs of items are credited.
    Pairwise,
}

/// One slot of a merged list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Whose list it is taken from.
    pub ranker: usize,
    /// Where it stood there, as the list came.
    pub place: usize,
    /// Its number, see [`Lists`].
    pub item: u32,
    /// Who is credited for it; none: nobody.
    pub team: Option<usize>,
}

/// What must be remembered of a merged list to credit clicks by where each ranker had put the items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// By slot, then by ranker: its rank there, from 0; none where it is not in that list.
    pub ranks: Vec<Vec<Option<u16>>>,
    /// By ranker: how long its list is.
    pub lengths: Vec<u16>,
    /// By depth, from 1: how many different items all lists have down to there.
    pub reach: Vec<u16>,
}

impl Method {
    /// Every value.
    pub const ALL: [Method; 5] = [
        Method::TeamDraft,
        Method::ClassicTeamDraft,
        Method::Balanced,
        Method::Probabilistic,
        Method::Pairwise,
    ];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Method::TeamDraft => "team_draft",
            Method::ClassicTeamDraft => "classic_team_draft",
            Method::Balanced => "balanced",
            Method::Probabilistic => "probabilistic",
            Method::Pairwise => "pairwise",
        }
    }

    /// Whether each slot is somebody's or nobody's, so that clicks are credited by slots alone.
    pub fn has_teams(self) -> bool {
        matches!(self, Method::TeamDraft | Method::ClassicTeamDraft)
    }

    /// Merges `lists` to at most `length` items; a team draft goes on from `round`.
    pub fn merge(self, lists: &Lists, length: usize, chance: &Chance<'_>, round: &mut Round) -> Vec<Pick> {
        match self {
            Method::TeamDraft => draft(lists, Rule::Neutral, length, chance, round),
            Method::ClassicTeamDraft => draft(lists, Rule::Classic, length, chance, round),
            Method::Balanced => balanced::merge(lists, length, chance),
            Method::Probabilistic => probabilistic::merge(lists, length, chance),
            Method::Pairwise => pairwise::merge(lists, length, chance),
        }
    }

    /// What each ranker is credited for clicks on these slots, in their order; none where `method` has teams, which
    /// need no sources.
    pub fn credit(self, sources: &Sources, clicks: &[usize]) -> Option<Vec<f64>> {
        match self {
            Method::TeamDraft | Method::ClassicTeamDraft => None,
            Method::Balanced => Some(balanced::credit(sources, clicks)),
            Method::Probabilistic => Some(probabilistic::credit(sources, clicks)),
            Method::Pairwise => Some(pairwise::credit(sources, clicks)),
        }
    }
}

impl Sources {
    /// Of a merge of `lists` that made `picks`.
    pub fn of(lists: &Lists, picks: &[Pick]) -> Self {
        let ranks: Vec<Vec<Option<usize>>> = lists.lists.iter().map(|list| list.ranks(lists.items)).collect();
        let narrow = |rank: usize| u16::try_from(rank).ok();
        let of = |pick: &Pick| {
            let rank = |ranks: &Vec<Option<usize>>| ranks.get(pick.item as usize).copied().flatten();
            ranks.iter().map(|ranks| rank(ranks).and_then(narrow)).collect()
        };
        let length = |list: &List| u16::try_from(list.items().len()).unwrap_or(u16::MAX);
        Sources {
            ranks: picks.iter().map(of).collect(),
            lengths: lists.lists.iter().map(length).collect(),
            reach: reach(lists, picks.len()),
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.ranks.len()
    }

    /// How many rankers there are.
    pub fn rankers(&self) -> usize {
        self.lengths.len()
    }

    /// The rank that a ranker gave to what is in that slot; behind all of its own where it has it not.
    pub(super) fn rank(&self, slot: usize, ranker: usize) -> usize {
        let own = self.ranks.get(slot).and_then(|ranks| ranks.get(ranker)).copied().flatten();
        own.map_or(usize::MAX, usize::from)
    }
}

fn reach(lists: &Lists, depth: usize) -> Vec<u16> {
    let mut met = vec![false; lists.items];
    let mut count = 0_u16;
    let mut reach = Vec::with_capacity(depth);
    for rank in 0..depth {
        for item in lists.lists.iter().filter_map(|list| list.items().get(rank)) {
            if let Some(met) = met.get_mut(*item as usize).filter(|met| !**met) {
                *met = true;
                count = count.saturating_add(1);
            }
        }
        reach.push(count);
    }
    reach
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sources of a list that was shown, whichever way it came about.
    pub(in crate::strategy::interleave) fn sources(lists: &[Vec<u64>], shown: &[u64]) -> Sources {
        let numbered = Lists::number(lists);
        let picks = shown.iter().map(|item| {
            let place = |list: &Vec<u64>| list.iter().position(|other| other == item);
            let ranker = lists.iter().position(|list| list.contains(item)).unwrap();
            let rank = place(&lists[ranker]).unwrap();
            let item = numbered.lists[ranker].items()[rank];
            Pick { ranker, place: rank, item, team: None }
        });
        Sources::of(&numbered, &picks.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_remembered_says_where_each_ranker_had_it() {
        let sources = sources(&[vec![1, 2, 3], vec![3, 9]], &[3, 1, 9]);
        assert_eq!(sources.ranks, [[Some(2), Some(0)], [Some(0), None], [None, Some(1)]]);
        assert_eq!((sources.lengths, sources.reach), (vec![3, 2], vec![2, 4, 4]));
    }

    #[test]
    #[ignore = "a measurement: cargo test --release --lib interleave::merge -- --ignored --nocapture"]
    fn a_merge_costs_little() {
        const TIMES: u32 = 20_000;
        let one: Vec<u64> = (0..100).collect();
        // Half of the items are common, in another order.
        let other: Vec<u64> = (0..100).map(|item| 50 + (item * 37) % 100).collect();
        let lists = [one, other];
        for method in Method::ALL {
            let begin = std::time::Instant::now();
            for call in 0..TIMES {
                let numbered = Lists::number(std::hint::black_box(&lists));
                let key = call.to_be_bytes();
                let chance = Chance { salt: "films/0", key: &key };
                std::hint::black_box(method.merge(&numbered, 100, &chance, &mut Round::default()));
            }
            eprintln!("{}: {:?} for two lists of 100", method.name(), begin.elapsed() / TIMES);
        }
    }

    proptest! {
        #[test]
        fn whichever_way_the_same_lists_credit_nobody(
            items in prop::collection::vec(0..40_u64, 0..20), rankers in 2..5_usize, key: u32, clicks: u32,
        ) {
            let bytes = key.to_be_bytes();
            let chance = Chance { salt: "m/v2", key: &bytes };
            for method in Method::ALL.into_iter().filter(|method| !method.has_teams()) {
                let rankers = if method == Method::Balanced { 2 } else { rankers };
                let lists = Lists::number(&vec![items.clone(); rankers]);
                let picks = method.merge(&lists, 10, &chance, &mut Round::default());
                let sources = Sources::of(&lists, &picks);
                let clicked: Vec<usize> = (0..picks.len()).filter(|slot| clicks >> slot & 1 == 1).collect();
                let credit = method.credit(&sources, &clicked).unwrap();
                prop_assert!(credit.iter().all(|one| *one == credit[0]), "{:?}: {:?}", method, credit);
            }
        }

        #[test]
        fn every_way_shows_what_there_is_and_nothing_twice(
            lists in prop::collection::vec(prop::collection::vec(0..30_u64, 0..15), 2..5), length in 0..30_usize, key: u32,
        ) {
            let bytes = key.to_be_bytes();
            let chance = Chance { salt: "m/v2", key: &bytes };
            for method in Method::ALL {
                let lists = if method == Method::Balanced { &lists[..2] } else { &lists[..] };
                let numbered = Lists::number(lists);
                let picks = method.merge(&numbered, length, &chance, &mut Round::default());
                let different: std::collections::HashSet<u32> = picks.iter().map(|pick| pick.item).collect();
                prop_assert_eq!(different.len(), picks.len());
                prop_assert_eq!(picks.len(), length.min(numbered.items), "{:?}", method);
                for pick in &picks {
                    prop_assert!(lists[pick.ranker].get(pick.place).is_some());
                }
            }
        }
    }
}
