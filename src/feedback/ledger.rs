//! What is remembered of the reports of one feedback, so that nothing counts twice: 32 bytes of each prediction, and as
//! much of each report's id where reports are summed. Pure.
//!
//! It is kept in bins by the time of the prediction, not of the report: a bin is gone as a whole when its window has
//! closed, and whatever comes to a prediction, early or late, finds its own bin.

use std::collections::BTreeMap;

use super::table::Table;
use crate::config::Join;

/// What one entry takes in memory, see [`Table`].
pub(super) const BYTES: usize = 32;

/// What is remembered of one prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// Its value so far; for labels the bits of a hash.
    pub(super) value: f64,
    /// When that was learnt, in milliseconds after the prediction.
    pub(super) at: u32,
    /// What was expected of it beforehand; no number: it is no evidence.
    pub(super) expected: f32,
}

/// What a report makes of the value before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Joined {
    /// It becomes this, learnt then.
    Becomes(f64, u32),
    /// It stays.
    Stays,
}

/// Entries by bin and key.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bins: BTreeMap<u32, Table>,
    entries: usize,
}

impl Ledger {
    /// The entry of that key.
    pub(super) fn get(&self, bin: u32, key: u64) -> Option<Entry> {
        self.bins.get(&bin)?.get(key)
    }

    /// Writes an entry in the place of what was there.
    pub(super) fn put(&mut self, bin: u32, key: u64, entry: Entry) {
        self.entries += usize::from(self.bins.entry(bin).or_default().put(key, entry));
    }

    /// Forgets all bins before that one.
    pub(super) fn forget(&mut self, before: u32) {
        while let Some(first) = self.bins.first_entry().filter(|first| *first.key() < before) {
            self.entries -= first.remove().len();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }
}

/// What a report of `value`, learnt `at`, makes of what was there.
///
/// The first and the last are so by the time they were learnt, so that no order of coming makes a difference; of two
/// that were learnt at once the first keeps its place as the first, and the later one to come takes that of the last.
pub(super) fn join(how: Join, before: Option<&Entry>, value: f64, at: u32) -> Joined {
    let Some(before) = before else { return Joined::Becomes(value, at) };
    let becomes = match how {
        Join::First => at < before.at,
        Join::Last => at >= before.at,
        Join::Max => value > before.value,
        Join::Sum => return Joined::Becomes(before.value + value, at.max(before.at)),
    };
    if becomes { Joined::Becomes(value, at) } else { Joined::Stays }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(how: Join, reports: &[(f64, u32)]) -> f64 {
        let mut entry: Option<Entry> = None;
        for (value, at) in reports {
            if let Joined::Becomes(value, at) = join(how, entry.as_ref(), *value, *at) {
                entry = Some(Entry { value, at, expected: 0.0 });
            }
        }
        entry.unwrap().value
    }

    #[test]
    fn each_join_does_what_its_name_says() {
        let reports = [(2.0, 10), (5.0, 20), (1.0, 30)];
        assert_eq!(joined(Join::First, &reports), 2.0);
        assert_eq!(joined(Join::Last, &reports), 1.0);
        assert_eq!(joined(Join::Max, &reports), 5.0);
        assert_eq!(joined(Join::Sum, &reports), 8.0);
    }

    proptest! {
        #[test]
        fn no_order_makes_a_difference(values in prop::collection::vec(-8_i8..8, 1..8), seed: prop::sample::Index) {
            // Learnt at different times, for what is learnt at once has no order.
            let reports: Vec<_> = values.iter().enumerate().map(|(at, value)| (f64::from(*value), at as u32)).collect();
            let mut other = reports.clone();
            other.rotate_left(seed.index(reports.len()));
            other.reverse();
            for how in [Join::First, Join::Last, Join::Max, Join::Sum] {
                prop_assert_eq!(joined(how, &reports), joined(how, &other));
            }
        }
    }

    #[test]
    fn a_bin_goes_as_a_whole() {
        let mut ledger = Ledger::default();
        let entry = Entry { value: 1.0, at: 0, expected: 0.0 };
        for (bin, key) in [(1, 1), (1, 2), (2, 1), (2, 1), (3, 9)] {
            ledger.put(bin, key, entry);
        }
        assert_eq!(ledger.len(), 4);
        ledger.forget(3);
        assert_eq!((ledger.len(), ledger.get(3, 9), ledger.get(2, 1)), (1, Some(entry), None));
    }
}
