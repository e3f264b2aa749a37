//! How many fallbacks the baseline can bear: a share of its own calls, so that a broken variant never doubles its load.
//!
//! The baseline's calls and the fallbacks of the last ten seconds are counted by the second. In any ten seconds there
//! are at most `share` × (the baseline's calls per second) × 10 s fallbacks, and never fewer than [`FLOOR`] are
//! allowed, so that a model with little traffic can fall back too. The rate is taken over what was seen, one second at
//! least: a worker that has just begun knows its rate before the ten seconds are full.
//!
//! Pure: time is given.

use std::time::{Duration, Instant};

use crate::config::units::Percent;

/// Seconds that are counted, the one that runs among them.
const SLOTS: usize = 10;
/// Fallbacks in ten seconds that are allowed whatever the baseline does.
pub const FLOOR: u64 = 10;

/// One model's budget on one worker.
#[derive(Debug)]
pub struct Budget {
    began: Instant,
    slots: [Slot; SLOTS],
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which second, since the budget began.
    second: u64,
    baseline: u64,
    fallbacks: u64,
}

impl Budget {
    /// One that has counted nothing; no later call may give an instant before `now`.
    pub fn new(now: Instant) -> Self {
        Budget { began: now, slots: [Slot::default(); SLOTS] }
    }

    /// Says that the baseline was given a call of its own.
    pub fn called(&mut self, now: Instant) {
        self.slot(now).baseline += 1;
    }

    /// Takes one fallback from the budget, where `share` of the baseline's rate leaves one.
    pub fn take(&mut self, share: Percent, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.began);
        let first = (elapsed.as_secs() + 1).saturating_sub(SLOTS as u64);
        let recent = self.slots.iter().filter(|slot| slot.second >= first);
        let (calls, spent) =
            recent.fold((0, 0), |(calls, spent), slot| (calls + slot.baseline, spent + slot.fallbacks));
        let seen = elapsed.saturating_sub(Duration::from_secs(first)).max(Duration::from_secs(1));
        let rate = calls as f64 / seen.as_secs_f64();
        let allowed = share.probability() * rate * SLOTS as f64;
        if (spent as f64) < allowed.max(FLOOR as f64) {
            self.slot(now).fallbacks += 1;
            return true;
        }
        false
    }

    fn slot(&mut self, now: Instant) -> &mut Slot {
        let second = now.saturating_duration_since(self.began).as_secs();
        let slot = &mut self.slots[(second % SLOTS as u64) as usize];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIFTH: u32 = 20_000;

    fn share(thousandths: u32) -> Percent {
        Percent::from_thousandths(thousandths).unwrap()
    }

    /// Fallbacks that are allowed at `now`, all of which are taken.
    fn drain(budget: &mut Budget, now: Instant) -> u64 {
        (0..1_000_000).take_while(|_| budget.take(share(FIFTH), now)).count() as u64
    }

    #[test]
    fn without_traffic_there_is_the_floor_and_it_comes_back() {
        let began = Instant::now();
        let mut budget = Budget::new(began);
        assert_eq!(drain(&mut budget, began), FLOOR);
        assert_eq!(drain(&mut budget, began + Duration::from_millis(9_999)), 0);
        assert_eq!(drain(&mut budget, began + Duration::from_secs(10)), FLOOR);
        assert_eq!(drain(&mut budget, began + Duration::from_secs(86_400)), FLOOR);
    }

    #[test]
    fn a_fifth_of_the_baselines_calls_may_fall_back() {
        let began = Instant::now();
        let mut budget = Budget::new(began);
        for call in 0..20_000_u64 {
            budget.called(began + Duration::from_millis(call));
        }
        // 1,000 calls a second: 200 fallbacks a second, 2,000 in ten.
        let now = began + Duration::from_millis(19_999);
        let allowed = drain(&mut budget, now);
        assert!((1_990..=2_010).contains(&allowed), "{allowed}");
        assert_eq!(drain(&mut budget, now), 0);
    }

    #[test]
    fn a_worker_that_has_just_begun_goes_by_the_rate_it_has_seen() {
        let began = Instant::now();
        let mut budget = Budget::new(began);
        for call in 0..2_000_u64 {
            budget.called(began + Duration::from_micros(500 * call));
        }
        // 2,000 a second, and a fifth of what ten seconds of it would be.
        assert_eq!(drain(&mut budget, began + Duration::from_secs(1)), 4_000);
    }

    #[test]
    fn what_is_longer_ago_is_forgotten() {
        let began = Instant::now();
        let mut budget = Budget::new(began);
        for _ in 0..100_000 {
            budget.called(began);
        }
        assert_eq!(drain(&mut budget, began + Duration::from_secs(10)), FLOOR);
    }

    proptest! {
        #[test]
        fn no_ten_seconds_see_more_than_the_highest_rate_allows(
            gaps in prop::collection::vec((0_u64..400, any::<bool>()), 1..400),
        ) {
            let began = Instant::now();
            let mut budget = Budget::new(began);
            let (mut now, mut calls) = (began, 0_u64);
            let mut taken = Vec::new();
            for (gap, is_call) in gaps {
                now += Duration::from_millis(gap);
                if is_call {
                    budget.called(now);
                    calls += 1;
                } else if budget.take(share(FIFTH), now) {
                    taken.push(now);
                }
            }
            // Never more than if all calls had come within one second.
            let most = (calls * 2).max(FLOOR);
            for from in &taken {
                let within = |at: &&Instant| **at >= *from && **at < *from + Duration::from_secs(9);
                prop_assert!(taken.iter().filter(within).count() as u64 <= most);
            }
        }
    }
}
