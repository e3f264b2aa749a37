//! The chance of one merge: a hash of the rollout's salt, the draft's key and the step, so that whoever knows the three
//! draws the same again. Pure.

use crate::stats::hash::murmur3_x86_32;

/// Steps that one round of a draft may take.
const STEPS: u32 = 8;

/// Where the chance of one draft comes from.
#[derive(Debug, Clone, Copy)]
pub struct Chance<'a> {
    /// Of the rollout.
    pub salt: &'a str,
    /// What tells the draft from others: the prediction, or what the caller names a search by.
    pub key: &'a [u8],
}

impl Chance<'_> {
    /// 32 even bits for one step of a round.
    pub fn bits(&self, round: u32, step: u32) -> u32 {
        let at = round.wrapping_mul(STEPS).wrapping_add(step).to_be_bytes();
        murmur3_x86_32(0, &[self.salt.as_bytes(), b"/draft/", self.key, &at])
    }

    /// From 0 to below 1.
    pub fn part(&self, round: u32, step: u32) -> f64 {
        f64::from(self.bits(round, step)) / (f64::from(u32::MAX) + 1.0)
    }

    /// Puts what is in `order` into an order that any is as likely as another (Fisher and Yates).
    pub fn shuffle(&self, round: u32, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            let bits = u64::from(self.bits(round, last as u32));
            let other = (bits * (last as u64 + 1)) >> 32;
            order.swap(last, other as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_as_likely_as_another() {
        let mut seen = std::collections::HashMap::new();
        for key in 0..6_000_u32 {
            let bytes = key.to_be_bytes();
            let chance = Chance { salt: "m/2", key: &bytes };
            let mut order = [0, 1, 2];
            chance.shuffle(key % 5, &mut order);
            *seen.entry(order).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|count| (880..1_120).contains(count)), "{seen:?}");
    }
}
