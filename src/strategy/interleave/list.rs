//! The lists of one call as drafts read them: each item once, as a number that stands for it in all of them. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

/// Lists that are merged at most; a slot is told of with three bits, of which one value means nobody.
pub const RANKERS: usize = 7;

/// One ranker's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Items, the best first, each once.
    items: Vec<u32>,
    /// Where each stood in the list as it came.
    places: Vec<usize>,
}

/// Several lists of the same items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// In the order of the rankers.
    pub lists: Vec<List>,
    /// How many different items there are: their numbers are below it.
    pub items: usize,
    /// Items that stood in a list a second time, which are left out there.
    pub duplicates: usize,
}

impl List {
    /// Its items, the best first.
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// Where the item of that rank, from 0, stood as the list came.
    pub fn place(&self, rank: usize) -> Option<usize> {
        self.places.get(rank).copied()
    }

    /// The rank of each of `items` items, from 0; none for those that are not in it.
    pub fn ranks(&self, items: usize) -> Vec<Option<usize>> {
        let mut ranks = vec![None; items];
        for (rank, item) in self.items.iter().enumerate() {
            if let Some(place) = ranks.get_mut(*item as usize) {
                *place = Some(rank);
            }
        }
        ranks
    }
}

impl Lists {
    /// Numbers the items of `lists`, which are in the order of the rankers.
    pub fn number<K: Eq + Hash + Copy>(lists: &[Vec<K>]) -> Self {
        let most = lists.iter().map(Vec::len).sum();
        let mut known: HashMap<K, u32, Quick> = HashMap::with_capacity_and_hasher(most, Quick::default());
        // In which list an item was met last.
        let mut met: Vec<usize> = Vec::with_capacity(most);
        let mut duplicates = 0;
        let lists = lists.iter().enumerate().map(|(index, keys)| {
            let room = keys.len();
            let mut list = List { items: Vec::with_capacity(room), places: Vec::with_capacity(room) };
            for (place, key) in keys.iter().enumerate() {
                let next = met.len() as u32;
                let item = *known.entry(*key).or_insert(next);
                if item == next {
                    met.push(usize::MAX);
                }
                let Some(last) = met.get_mut(item as usize) else { continue };
                if *last == index {
                    duplicates += 1;
                    continue;
                }
                *last = index;
                list.items.push(item);
                list.places.push(place);
            }
            list
        });
        let lists = lists.collect();
        Lists { lists, items: known.len(), duplicates }
    }

    /// Whether all of them are the same: whoever is credited then is credited for nothing.
    pub fn are_the_same(&self) -> bool {
        self.lists.windows(2).all(|pair| pair[0].items == pair[1].items)
    }
}

/// Hashes items with a multiplication each, and begins where chance of this process says: lists are short and there are
/// many of them.
#[derive(Clone, Copy)]
struct Quick(u64);

/// One such hash.
struct Hashing(u64);

impl Default for Quick {
    fn default() -> Self {
        static BEGIN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        Quick(*BEGIN)
    }
}

impl BuildHasher for Quick {
    type Hasher = Hashing;

    fn build_hasher(&self) -> Hashing {
        Hashing(self.0)
    }
}

impl Hasher for Hashing {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(place, byte)| *place = *byte);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_one_number_in_all_lists_and_once_in_each() {
        let lists = Lists::number(&[vec!["a", "b", "a", "c"], vec!["c", "d"], vec![]]);
        assert_eq!((lists.items, lists.duplicates), (4, 1));
        assert_eq!(lists.lists[0].items(), [0, 1, 2]);
        assert_eq!((lists.lists[0].place(2), lists.lists[0].place(3)), (Some(3), None));
        assert_eq!(lists.lists[1].items(), [2, 3]);
        assert_eq!(lists.lists[1].ranks(4), [None, None, Some(0), Some(1)]);
        assert!(!lists.are_the_same());
        assert!(Lists::number(&[vec![1, 2, 2], vec![1, 1, 2]]).are_the_same());
    }
}
