//! How much may come at once: so many a second by each way in, and so many a minute about one unit. Pure.

use std::time::Duration;

/// Reports a minute about one unit.
pub(super) const UNIT: u16 = 600;
const CELLS: usize = 1 << 13;

/// So many a second, of which a whole second's may come at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    /// What is used of one second's, in seconds.
    used: f64,
    at: Duration,
}

impl Rate {
    /// Whether one more may come at `now`.
    pub(super) fn take(&mut self, most: u32, now: Duration) -> bool {
        let since = now.saturating_sub(self.at).as_secs_f64();
        let used = (self.used - since).max(0.0) + 1.0 / f64::from(most.max(1));
        self.at = self.at.max(now);
        // The last of a second's is one, whatever rounding left of it.
        let fits = used <= 1.0 + 1e-9;
        self.used = if fits { used } else { (self.used - since).max(0.0) };
        fits
    }
}

/// Bounds reports about each unit.
#[derive(Debug)]
pub(super) struct Units(Cells);

impl Default for Units {
    fn default() -> Self {
        Units(Cells::new(Duration::from_secs(60)))
    }
}

impl Units {
    /// Whether one more may come about `unit` at `now`.
    pub(super) fn take(&mut self, unit: u64, now: Duration) -> bool {
        self.0.take(unit, UNIT, now)
    }
}

/// Counts by unit in a fixed space, anew in each period: each unit counts in two cells and the lower one says how many there were at most,
/// so that few units share a bound with another, and none gets more than it.
#[derive(Debug)]
pub(super) struct Cells {
    period: Duration,
    /// Which period it is.
    now: u64,
    cells: Box<[u16]>,
}

impl Cells {
    /// For periods of that length, at least a second.
    pub(super) fn new(period: Duration) -> Self {
        Cells { period, now: 0, cells: vec![0; 2 * CELLS].into() }
    }

    /// Whether one more of at most `most` in a period may come about `unit` at `now`.
    pub(super) fn take(&mut self, unit: u64, most: u16, now: Duration) -> bool {
        let period = now.as_secs() / self.period.as_secs().max(1);
        if period != self.now {
            self.cells.fill(0);
            self.now = period;
        }
        let (one, other) = (unit as usize % CELLS, CELLS + (unit >> 32) as usize % CELLS);
        if self.cells[one].min(self.cells[other]) >= most {
            return false;
        }
        self.cells[one] = self.cells[one].saturating_add(1);
        self.cells[other] = self.cells[other].saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_and_no_more() {
        let mut rate = Rate::default();
        let start = Duration::from_secs(1_000);
        assert_eq!((0..50).filter(|_| rate.take(10, start)).count(), 10);
        assert_eq!((0..50).filter(|_| rate.take(10, start + Duration::from_millis(300))).count(), 3);
        assert_eq!(
            (0..50).filter(|_| rate.take(10, start)).count(),
            0,
            "a clock that goes back gives nothing"
        );
        assert_eq!((0..50).filter(|_| rate.take(10, start + Duration::from_secs(60))).count(), 10);
    }

    #[test]
    fn a_unit_has_its_own_bound_each_minute() {
        let mut units = Units::default();
        let now = Duration::from_secs(600);
        assert_eq!((0..1_000).filter(|_| units.take(7, now)).count(), usize::from(UNIT));
        assert!(units.take(8, now), "another unit is not bound by it");
        assert!(units.take(7, now + Duration::from_secs(60)));
    }
}
