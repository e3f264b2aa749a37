//! At most one per unit and minute: what keeps a user with many calls from being taken for many users.
//!
//! Failures need an exact set, for few of them decide. A unit that goes on failing minute after minute, like a caller
//! who sends nothing but rubbish, counts again after two minutes, then four, then eight: so it is never taken for many
//! however long it goes on, and where units are few a broken variant is still found out. Latency needs a fair sample,
//! chosen when a call begins and so before anybody knows how long it takes: [`measured`](super::measured).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Failing units of one epoch that are told apart.
const FAILURES: usize = 65_536;

/// What can befall a unit once a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Rejection,
}

/// Failures that were counted.
#[derive(Debug)]
pub(super) struct Failed {
    seen: DashMap<(u64, bool), Spell>,
    len: AtomicUsize,
    refused: AtomicU64,
}

/// Failures of one unit with no minute between them that is without any.
#[derive(Debug, Clone, Copy)]
struct Spell {
    /// The latest minute that had one.
    last: u32,
    /// The latest that counted, and how many minutes later the next one counts.
    counted: u32,
    wait: u32,
}

impl Spell {
    fn begin(minute: u32) -> Self {
        Spell { last: minute, counted: minute, wait: 2 }
    }

    /// One more failure; whether it counts.
    fn goes_on(&mut self, minute: u32) -> bool {
        if minute > self.last.saturating_add(1) {
            *self = Spell::begin(minute);
            return true;
        }
        self.last = self.last.max(minute);
        if minute.saturating_sub(self.counted) < self.wait {
            return false;
        }
        (self.counted, self.wait) = (minute, self.wait.saturating_mul(2));
        true
    }
}

impl Default for Failed {
    fn default() -> Self {
        Failed { seen: DashMap::with_shard_amount(2), len: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }
}

impl Failed {
    /// Whether this failure of the unit counts. A full set says no, and counts that it did.
    pub(super) fn first(&self, unit: u64, minute: u32, kind: Kind) -> bool {
        let key = (unit, kind == Kind::Rejection);
        if let Some(mut spell) = self.seen.get_mut(&key) {
            return spell.goes_on(minute);
        }
        if self.len.load(Ordering::Relaxed) >= FAILURES {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match self.seen.entry(key) {
            Entry::Occupied(mut spell) => spell.get_mut().goes_on(minute),
            Entry::Vacant(place) => {
                place.insert(Spell::begin(minute));
                self.len.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Forgets units that fail no more; the minute before is kept, for workers' clocks are read at different moments.
    pub(super) fn forget(&self, minute: u32) {
        if self.len.load(Ordering::Relaxed) > 0 {
            self.seen.retain(|_, spell| spell.last.saturating_add(1) >= minute);
            self.len.store(self.seen.len(), Ordering::Relaxed);
        }
    }

    /// Failures that were not counted for want of room.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_fails_once_a_minute_of_each_kind() {
        let failed = Failed::default();
        assert!(failed.first(7, 1, Kind::Error) && !failed.first(7, 1, Kind::Error));
        assert!(failed.first(7, 1, Kind::Rejection) && !failed.first(7, 2, Kind::Error));
        assert!(failed.first(8, 1, Kind::Error));
        assert!(failed.first(7, 3, Kind::Error), "a burst is over after a minute");
        failed.forget(4);
        assert!(!failed.first(7, 4, Kind::Error), "the minute before is remembered");
        assert!(failed.first(8, 1, Kind::Error), "those before are not");
    }

    #[test]
    fn a_unit_that_fails_all_the_time_counts_ever_less_often() {
        let failed = Failed::default();
        let counted = |minutes: std::ops::Range<u32>| -> Vec<u32> {
            let fails = |minute: &u32| {
                failed.forget(*minute);
                failed.first(3, *minute, Kind::Rejection)
            };
            minutes.filter(fails).collect()
        };
        assert_eq!(counted(10..200), [10, 12, 16, 24, 40, 72, 136]);
        assert_eq!(counted(202..210), [202, 204, 208], "a minute without any ends it");
    }

    #[test]
    fn beyond_its_room_nothing_is_counted_and_that_is_told() {
        let failed = Failed::default();
        for unit in 0..FAILURES as u64 {
            assert!(failed.first(unit, 1, Kind::Error));
        }
        assert!(!failed.first(u64::MAX, 1, Kind::Error) && !failed.first(0, 1, Kind::Error));
        assert_eq!(failed.refused(), 1, "a repetition is no loss");
        failed.forget(9);
        assert!(failed.first(u64::MAX, 9, Kind::Error));
    }
}
