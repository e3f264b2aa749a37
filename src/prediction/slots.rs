//! Who filled which slot of a merged list, in three bits each. Pure.
//!
//! In an id it is the tail of a prediction whose reason is `interleaved`: a byte for how many lists were merged at once,
//! one for how many slots each has, and then the slots, eight in three bytes, the first in the highest bits. Seven is
//! nobody, else it is the arm.

/// Slots at most, of all lists of one call together.
pub const SLOTS: usize = 64;
/// Bytes at most.
pub const BYTES: usize = 2 + SLOTS * BITS / 8;
const BITS: usize = 3;
/// What stands for nobody.
const NOBODY: u8 = 7;

/// Who filled which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    rows: u8,
    length: u8,
    /// By slot; what is beyond the last is nobody's.
    arms: [u8; SLOTS],
}

impl Slots {
    /// Of `rows` lists with `length` slots each, all of them nobody's; none where that is none at all, or more than
    /// [`SLOTS`].
    pub fn new(rows: usize, length: usize) -> Option<Self> {
        let fits = (1..=SLOTS).contains(&rows.checked_mul(length)?);
        // Neither is more than the product then.
        fits.then_some(Slots { rows: rows as u8, length: length as u8, arms: [NOBODY; SLOTS] })
    }

    /// Lists.
    pub fn rows(&self) -> usize {
        usize::from(self.rows)
    }

    /// Slots of each list.
    pub fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// Says whose a slot is, counted over all lists; arms are below seven, and no other is written.
    pub fn set(&mut self, slot: usize, arm: u8) {
        if let Some(place) = self.arms.get_mut(slot).filter(|_| arm < NOBODY) {
            *place = arm;
        }
    }

    /// Where the slot of a list is among all of them, both counted from 0; none: there is no such slot.
    pub fn index(&self, row: usize, slot: usize) -> Option<usize> {
        (row < self.rows() && slot < self.length()).then(|| row * self.length() + slot)
    }

    /// The arm that filled that slot, counted over all lists; none: nobody.
    pub fn get(&self, slot: usize) -> Option<u8> {
        self.arms.get(slot).copied().filter(|arm| *arm != NOBODY)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows() * self.length()
    }

    /// Writes it to the front of `bytes`, which has room for [`BYTES`]; returns how many bytes that are.
    pub(super) fn write(&self, bytes: &mut [u8]) -> usize {
        let [rows, length, packed @ ..] = bytes else { return 0 };
        (*rows, *length) = (self.rows, self.length);
        let used = (self.count() * BITS).div_ceil(8);
        for (slot, arm) in self.arms.iter().take(self.count()).enumerate() {
            for bit in 0..BITS {
                let at = slot * BITS + bit;
                let set = arm >> (BITS - 1 - bit) & 1;
                if let Some(byte) = packed.get_mut(at / 8) {
                    *byte |= set << (7 - at % 8);
                }
            }
        }
        2 + used
    }

    /// The reverse of [`Slots::write`]; none where it was not written so.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [rows, length, packed @ ..] = bytes else { return None };
        let mut slots = Slots::new(usize::from(*rows), usize::from(*length))?;
        if packed.len() != (slots.count() * BITS).div_ceil(8) {
            return None;
        }
        for slot in 0..slots.count() {
            let arm = (0..BITS).fold(0, |arm, bit| {
                let at = slot * BITS + bit;
                arm << 1 | packed.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1)
            });
            slots.set(slot, arm);
        }
        Some(slots)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_read_back(rows in 1..8_usize, length in 1..12_usize, arms in prop::collection::vec(0..8_u8, SLOTS)) {
            let Some(mut slots) = Slots::new(rows, length) else {
                prop_assert!(rows * length > SLOTS);
                return Ok(());
            };
            for (slot, arm) in arms.iter().take(slots.count()).enumerate() {
                slots.set(slot, *arm);
                prop_assert_eq!(slots.get(slot), (*arm < 7).then_some(*arm));
            }
            let mut bytes = [0; BYTES];
            let written = slots.write(&mut bytes);
            prop_assert_eq!(Slots::read(&bytes[..written]), Some(slots));
            prop_assert_eq!(Slots::read(&bytes[..written - 1]), None);
        }
    }

    #[test]
    fn there_is_room_for_sixty_four_and_no_more() {
        assert!(Slots::new(1, 64).is_some() && Slots::new(8, 8).is_some());
        assert!(
            Slots::new(1, 65).is_none() && Slots::new(0, 5).is_none() && Slots::new(usize::MAX, 2).is_none()
        );
        let slots = Slots::new(2, 10).unwrap();
        assert_eq!((slots.index(1, 3), slots.index(1, 10), slots.index(2, 0)), (Some(13), None, None));
        assert_eq!((BYTES, slots.get(70)), (26, None));
    }
}
