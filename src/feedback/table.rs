//! Entries by key, in as little room as they need: 28 bytes each, and half a chain's head. Pure.
//!
//! Entries lie one behind the other in pages that never move, each with the place of the next one of its chain. A chain
//! is split in two whenever there is one too few (linear hashing, Litwin 1980). So nothing is ever half empty, as a
//! table that doubles or the nodes of a tree are, and no report waits for a million others to be moved. Keys must be
//! hashes already: their low bits say the chain.

use super::ledger::Entry;

/// Entries of a page: 28 KiB.
const PAGE: usize = 1024;
/// Entries of a chain, on the average.
const FULL: usize = 2;
/// The end of a chain.
const END: u32 = u32::MAX;

/// An entry where it lies, without the gap that its alignment would leave.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Slot {
    key: u64,
    value: f64,
    at: u32,
    expected: f32,
    /// The place of the next entry of the chain.
    next: u32,
}

/// Entries by key.
#[derive(Debug)]
pub(super) struct Table {
    /// All of them full but the last.
    pages: Vec<Vec<Slot>>,
    /// The first place of each chain.
    heads: Vec<u32>,
    /// How many chains there were when this round of splits began: a power of two.
    round: usize,
    /// The chain that is split next.
    split: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { pages: vec![Vec::new()], heads: vec![END], round: 1, split: 0 }
    }
}

impl Table {
    /// The entry of that key.
    pub(super) fn get(&self, key: u64) -> Option<Entry> {
        let slot = self.slot(self.find(key)?)?;
        Some(Entry { value: slot.value, at: slot.at, expected: slot.expected })
    }

    /// Writes an entry in the place of what was there; whether there was nothing.
    pub(super) fn put(&mut self, key: u64, entry: Entry) -> bool {
        let Entry { value, at, expected } = entry;
        if let Some(slot) = self.find(key).and_then(|place| self.slot_mut(place)) {
            *slot = Slot { value, at, expected, ..*slot };
            return false;
        }
        let (chain, place) = (self.chain(key), self.len());
        let (Some(head), Ok(place)) = (self.heads.get_mut(chain), u32::try_from(place)) else { return false };
        let next = std::mem::replace(head, place);
        self.push(Slot { key, value, at, expected, next });
        if self.len() > self.heads.len() * FULL {
            self.split();
        }
        true
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        (self.pages.len() - 1) * PAGE + self.pages.last().map_or(0, Vec::len)
    }

    fn push(&mut self, slot: Slot) {
        match self.pages.last_mut().filter(|page| page.len() < PAGE) {
            // The first page grows as any list does, for most feedback has few reports.
            Some(page) => page.push(slot),
            None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(slot);
                self.pages.push(page);
            }
        }
    }

    /// The chain of a key.
    fn chain(&self, key: u64) -> usize {
        let chain = key as usize & (self.round - 1);
        if chain < self.split { key as usize & (2 * self.round - 1) } else { chain }
    }

    /// The place of a key.
    fn find(&self, key: u64) -> Option<u32> {
        let mut place = *self.heads.get(self.chain(key))?;
        while let Some(slot) = self.slot(place) {
            if slot.key == key {
                return Some(place);
            }
            place = slot.next;
        }
        None
    }

    /// What lies there; nothing at the end of a chain.
    fn slot(&self, place: u32) -> Option<&Slot> {
        self.pages.get(place as usize / PAGE)?.get(place as usize % PAGE)
    }

    fn slot_mut(&mut self, place: u32) -> Option<&mut Slot> {
        self.pages.get_mut(place as usize / PAGE)?.get_mut(place as usize % PAGE)
    }

    /// Makes two of the next chain: its entries are told apart by one more bit of their keys.
    fn split(&mut self) {
        let (round, split) = (self.round, self.split);
        let mut place = self.heads.get(split).copied().unwrap_or(END);
        let [mut stays, mut moves] = [END; 2];
        while let Some(slot) = self.slot_mut(place) {
            let head = if slot.key as usize & round == 0 { &mut stays } else { &mut moves };
            let next = slot.next;
            slot.next = std::mem::replace(head, place);
            place = next;
        }
        self.heads[split] = stays;
        self.heads.push(moves);
        self.split += 1;
        if self.split == round {
            (self.round, self.split) = (2 * round, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::stats::hash;

    fn entry(value: u32) -> Entry {
        Entry { value: f64::from(value), at: value, expected: 0.5 }
    }

    /// Keys as they come: hashes.
    fn key(number: u32) -> u64 {
        let half = |seed| u64::from(hash::murmur3_x86_32(seed, &[&number.to_be_bytes()]));
        (half(1) << 32 | half(2)) >> 1
    }

    proptest! {
        #[test]
        fn it_is_a_map(puts in prop::collection::vec((0_u32..900, any::<u16>()), 0..1_500)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (number, value) in puts {
                let value = entry(value.into());
                prop_assert_eq!(table.put(key(number), value), map.insert(key(number), value).is_none());
                prop_assert_eq!(table.len(), map.len());
            }
            for number in 0..900 {
                prop_assert_eq!(table.get(key(number)), map.get(&key(number)).copied());
            }
        }
    }

    #[test]
    fn however_many_there_are_each_takes_thirty_bytes() {
        let mut table = Table::default();
        for number in 0..100_000 {
            assert!(table.put(key(number), entry(number)));
            if number > 5_000 && number % 1_009 == 0 {
                let slots: usize = table.pages.iter().map(Vec::capacity).sum();
                let bytes = slots * size_of::<Slot>() + table.heads.len() * size_of::<u32>();
                let each = bytes as f64 / table.len() as f64;
                assert!((30.0..36.0).contains(&each), "{number}: {each}");
            }
        }
        let longest = |head: &u32| {
            let mut place = *head;
            std::iter::from_fn(|| table.slot(place).map(|slot| place = slot.next)).count()
        };
        let longest = table.heads.iter().map(longest).max().unwrap();
        assert!(longest < 10 * FULL, "a chain of {longest}");
    }
}
