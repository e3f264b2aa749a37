//! Whose latency is measured: of each unit at most one call a minute, chosen when the call begins.
//!
//! The arms are compared by these samples, so whether a call is in them may hang on its unit and on the moment, never
//! on how many calls its own arm gets: what was slow for a while for everybody would else weigh more in the arm that
//! gets fewer. So who was measured is remembered exactly, but for a part in a hundred, and where there are more than
//! can be remembered, units are left out by their hash, of all arms the same in the same moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bits that remember the units of one variant in one minute.
const BITS: u32 = 1 << 20;
/// How many of them are a unit's.
const OF_A_UNIT: u32 = 4;
/// After so many units of one variant in one minute only half as many go on to be measured, of every variant: then
/// few bits are set by chance (Bloom 1970: at 65,536 units a part in 400).
const STEP: u32 = 32_768;

/// Who was measured, of all variants.
#[derive(Debug)]
pub(super) struct Measured {
    arms: Box<[Arm]>,
    /// A [`Thinned`].
    thinned: AtomicU64,
}

#[derive(Debug, Default)]
struct Arm {
    /// Made at the first call.
    bits: OnceLock<Box<[AtomicU32]>>,
    /// The minute that they are of, and units in it.
    minute: AtomicU32,
    units: AtomicU32,
}

/// How often the units that are measured were halved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thinned {
    minute: u32,
    /// When the minute began, and since then.
    before: u16,
    since: u16,
}

impl Thinned {
    fn read(word: u64) -> Self {
        Thinned { minute: (word >> 32) as u32, before: (word >> 16) as u16, since: word as u16 }
    }

    fn word(self) -> u64 {
        u64::from(self.minute) << 32 | u64::from(self.before) << 16 | u64::from(self.since)
    }

    fn halvings(self) -> u32 {
        u32::from(self.before) + u32::from(self.since)
    }

    /// As a later minute begins: so that a minute like the last one has one halving.
    fn next(self, minute: u32) -> Self {
        let before = (self.before + self.since).saturating_sub(1);
        Thinned { minute, before, since: 0 }
    }
}

impl Measured {
    /// Nobody yet, of so many variants.
    pub(super) fn new(variants: usize) -> Self {
        Measured { arms: (0..variants).map(|_| Arm::default()).collect(), thinned: AtomicU64::new(0) }
    }

    /// Whether a call of this unit that begins in this minute is measured. Clocks of workers may differ by a moment:
    /// what is told of the minute before counts for the one that has begun.
    pub(super) fn take(&self, variant: usize, unit: u64, minute: u32) -> bool {
        let Some(arm) = self.arms.get(variant) else { return false };
        let hash = mix(unit);
        // Other bits of the hash than those that the unit is remembered by.
        if (hash >> 40).trailing_zeros() < self.thinned(minute).halvings() || !arm.is_first(hash, minute) {
            return false;
        }
        let units = arm.units.fetch_add(1, Ordering::Relaxed) + 1;
        if units.is_multiple_of(STEP) {
            self.halve();
        }
        true
    }

    fn thinned(&self, minute: u32) -> Thinned {
        let now = Thinned::read(self.thinned.load(Ordering::Relaxed));
        if minute <= now.minute {
            return now;
        }
        let next = now.next(minute);
        match self.thinned.compare_exchange(now.word(), next.word(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(newer) => Thinned::read(newer),
        }
    }

    fn halve(&self) {
        // The low 16 bits are `since`, and sixty halvings leave nobody.
        self.thinned.fetch_add(1, Ordering::Relaxed);
    }
}

impl Arm {
    /// Whether a unit comes for the first time in this minute.
    fn is_first(&self, hash: u64, minute: u32) -> bool {
        let bits = self.bits.get_or_init(|| (0..BITS / 32).map(|_| AtomicU32::new(0)).collect());
        let of = self.minute.load(Ordering::Relaxed);
        let turns = minute > of
            && self.minute.compare_exchange(of, minute, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if turns {
            // Who is entered meanwhile by another worker may be forgotten, and measured twice.
            self.units.store(0, Ordering::Relaxed);
            bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        let (first, step) = (hash as u32, (hash >> 20) as u32 | 1);
        let mut is_first = false;
        for turn in 0..OF_A_UNIT {
            let bit = first.wrapping_add(step.wrapping_mul(turn)) % BITS;
            let Some(word) = bits.get((bit / 32) as usize) else { continue };
            let mask = 1 << (bit % 32);
            if word.load(Ordering::Relaxed) & mask == 0 {
                is_first |= word.fetch_or(mask, Ordering::Relaxed) & mask == 0;
            }
        }
        is_first
    }
}

/// Spreads a unit over 64 bits, also where units are numbers that follow each other (the finalizer of SplitMix64,
/// Steele, Lea & Flood 2014).
fn mix(unit: u64) -> u64 {
    let mut mixed = unit.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_measured_at_most_once_a_minute() {
        let measured = Measured::new(2);
        assert!(measured.take(0, 5, 0) && !measured.take(0, 5, 0));
        assert!(measured.take(1, 5, 0), "of each variant");
        assert!(measured.take(0, 5, 1) && !measured.take(0, 5, 1));
        assert!(!measured.take(0, 5, 0), "a clock that is a moment behind");
        assert!(!measured.take(2, 5, 1), "no such variant");
    }

    /// Units that come in turn, a fifth of them the second variant's: of how many in each twelfth of a minute a call was
    /// measured, of both.
    fn minute(measured: &Measured, minute: u32, calls: u64, units: u64) -> Vec<[u64; 2]> {
        let mut counted = vec![[0; 2]; 12];
        for call in 0..calls {
            let unit = call % units;
            let variant = usize::from(mix(unit ^ 0xabcd).is_multiple_of(5));
            let taken = measured.take(variant, unit, minute);
            counted[(call * 12 / calls) as usize][variant] += u64::from(taken);
        }
        counted
    }

    #[test]
    fn at_any_time_both_arms_are_measured_in_the_proportion_of_their_calls() {
        for (calls, units) in [(12_000, 100_003), (120_000, 100_003), (3_000_000, 1_000_003)] {
            let measured = Measured::new(2);
            for number in 0..4 {
                for [one, other] in minute(&measured, number, calls, units) {
                    let (share, all) = (other as f64 / (one + other) as f64, (one + other) as f64);
                    // Four standard deviations of a sample of that size.
                    let noise = 4.0 * (0.16 / all).sqrt();
                    assert!(all == 0.0 || (share - 0.2).abs() < noise, "{calls} calls: {share} of {all}");
                }
            }
        }
    }

    #[test]
    fn nobody_is_left_out_until_there_are_too_many_and_then_no_more_than_must_be() {
        let total = |counted: Vec<[u64; 2]>| counted.iter().flatten().sum::<u64>();
        let measured = Measured::new(2);
        let some = total(minute(&measured, 1, 30_000, 30_000));
        assert!((29_900..=30_000).contains(&some), "{some}");
        for number in 2..6 {
            minute(&measured, number, 3_000_000, 3_000_000);
        }
        let many = total(minute(&measured, 6, 3_000_000, 3_000_000));
        let most = 5 * u64::from(STEP) / 2;
        assert!((u64::from(STEP)..most).contains(&many), "{many}");
        for number in 7..20 {
            minute(&measured, number, 30_000, 30_000);
        }
        let some = total(minute(&measured, 20, 30_000, 30_000));
        assert!(some > 29_900, "a quiet time forgets it: {some}");
    }
}
