//! Which units were exposed to a rollout already: each is to be counted once, for a unit that comes back is no second
//! proof that units come in the proportions that were meant.
//!
//! The set is exact. When it is full, half of the units are left out from there on, by their hash and so without regard
//! to what they were given; counts made before stay as they are. It lives as long as the process: after a restart a
//! count begins anew, and whoever judges it must know.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

/// Units that are told apart.
const UNITS: usize = 65_536;

/// Units that were seen.
#[derive(Debug)]
pub struct Exposed {
    seen: DashMap<u64, ()>,
    len: AtomicUsize,
    /// Units with any of these bits are not in the sample.
    left_out: AtomicU64,
}

impl Default for Exposed {
    fn default() -> Self {
        let (len, left_out) = (AtomicUsize::new(0), AtomicU64::new(0));
        Exposed { seen: DashMap::with_shard_amount(2), len, left_out }
    }
}

impl Exposed {
    /// Whether this is the unit's first exposure, of the units in the sample. A set that is full says no until
    /// [`Exposed::thin`] makes room.
    pub fn first(&self, unit: u64) -> bool {
        if unit & self.left_out.load(Ordering::Relaxed) != 0 || self.seen.contains_key(&unit) {
            return false;
        }
        if self.len.load(Ordering::Relaxed) >= UNITS {
            return false;
        }
        let first = self.seen.insert(unit, ()).is_none();
        self.len.fetch_add(usize::from(first), Ordering::Relaxed);
        first
    }

    /// Makes room where there is none.
    pub fn thin(&self) {
        if self.len.load(Ordering::Relaxed) < UNITS {
            return;
        }
        let left_out = self.left_out.load(Ordering::Relaxed) << 1 | 1;
        self.left_out.store(left_out, Ordering::Relaxed);
        self.seen.retain(|unit, ()| unit & left_out == 0);
        self.len.store(self.seen.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_exposed_once() {
        let exposed = Exposed::default();
        assert!(exposed.first(7) && !exposed.first(7) && exposed.first(8));
    }

    #[test]
    fn a_full_set_goes_on_with_half_of_the_units_and_counts_none_twice() {
        let exposed = Exposed::default();
        // Spread over all bits, as hashes are.
        let units = |from: u64, to: u64| (from..to).map(|unit| unit.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let full = UNITS as u64;
        assert_eq!(units(0, full).filter(|unit| exposed.first(*unit)).count(), UNITS);
        assert!(!units(full, full + 1).any(|unit| exposed.first(unit)), "there is no room");
        exposed.thin();
        assert_eq!(units(0, full).filter(|unit| exposed.first(*unit)).count(), 0, "each was counted");
        let more = units(full, full + 20_000).filter(|unit| exposed.first(*unit)).count();
        assert!((9_000..11_000).contains(&more), "{more}");
        assert!(exposed.left_out.load(Ordering::Relaxed) == 1);
    }
}
