//! A split that learns: who earned more is given more, and nobody who may still be the best is given nothing.
//!
//! `murmur3(salt / epoch / unit)` says where a unit falls. The epoch is in it, so that a unit that comes back in another
//! epoch is drawn anew: only then is the share that holds at the moment how likely its arm really was. Shares change from
//! one epoch to the next and never within one; they are worked out off the request path by [`Progress`], from what
//! feedback says. A policy that tells calls apart has shares for each call: see [`context`] and `scores`.

use std::ops::Range;
use std::sync::Arc;

use crate::assignment::{ARMS, Assignment, Reason};
use crate::call::Call;
use crate::config::{self, BanditPolicy as Policy};
use crate::stats::hash::platforms::PLACES;
use crate::stats::{hash, ridge};

pub mod context;
mod judge;
mod memory;
pub mod plan;
mod policy;
mod progress;
mod scores;
mod shares;

pub use progress::Progress;
pub use shares::Shares;

/// What is known beside the shares, where a call needs more than them.
#[derive(Debug, Clone, PartialEq)]
pub struct Beliefs {
    /// What the bandit would give, where it is an apprentice; else what is given.
    pub wished: Shares,
    /// By arm: what calls are told apart by. Empty where they are not.
    pub lines: Vec<ridge::Model>,
}

/// What was drawn for a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// How likely each arm was meant to be.
    pub shares: Shares,
    /// What an apprentice would have drawn, a variant, and how likely that would have been; none where there is none.
    pub wished: Option<(usize, f64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Bandit {
    baseline: usize,
    control: usize,
    salt: Arc<str>,
    /// By arm.
    variants: Vec<usize>,
    policy: Policy,
    context: context::Reader,
    floor: f64,
    /// 1, or −1 where less is better.
    sign: f64,
    apprentice: bool,
}

/// What a call is given by: its shares, and what an apprentice wishes.
type Given = (Shares, Option<Shares>);

impl Bandit {
    pub(super) fn new(config: &config::Bandit) -> Self {
        Bandit {
            baseline: config.baseline,
            control: config.control(),
            salt: Arc::clone(&config.salt),
            variants: config.arms.iter().map(|arm| arm.variant).collect(),
            policy: config.policy,
            context: context::Reader::new(&config.context),
            floor: config.floor,
            sign: if config.reward.lower_is_better { -1.0 } else { 1.0 },
            apprentice: config.apprentice,
        }
    }

    /// What a call is told apart by.
    pub(super) fn context(&self) -> &context::Reader {
        &self.context
    }

    /// Where a unit falls in that epoch.
    pub(super) fn place(&self, epoch: u32, unit: &str) -> u32 {
        let mut digits = [0; 10];
        let mut first = digits.len();
        let mut left = epoch;
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let parts = [self.salt.as_bytes(), b"/", &digits[first..], b"/", unit.as_bytes()];
        hash::bucket(hash::murmur3_x86_32(0, &parts), PLACES)
    }

    /// Which places belong to whom.
    pub(super) fn intervals(&self, shares: &Shares) -> Vec<(usize, Range<u32>)> {
        let each = shares.intervals();
        each.filter_map(|(arm, places)| Some((*self.variants.get(arm)?, places))).collect()
    }

    /// Tells how likely each variant is, as they are ready now.
    pub(super) fn each(
        &self,
        shares: &Shares,
        ready: &dyn Fn(usize) -> bool,
        tell: &mut impl FnMut(usize, f64),
    ) {
        let mut others = 0;
        for (variant, share) in self.variants.iter().zip(shares.as_slice()) {
            if *variant != self.baseline && *share > 0 && ready(*variant) {
                others += share;
                tell(*variant, f64::from(*share) / f64::from(PLACES));
            }
        }
        tell(self.baseline, f64::from(PLACES - others) / f64::from(PLACES));
    }

    /// Whether every variant with a share can take it.
    pub(super) fn is_whole(&self, shares: &Shares, ready: &dyn Fn(usize) -> bool) -> bool {
        let mut each = self.variants.iter().zip(shares.as_slice());
        each.all(|(variant, share)| *share == 0 || *variant == self.baseline || ready(*variant))
    }

    pub(super) fn assign(
        &self,
        (epoch, shares, beliefs): (u32, &Shares, Option<&Beliefs>),
        (call, unit): (&Call<'_>, Option<&str>),
        draw: u32,
        ready: &dyn Fn(usize) -> bool,
    ) -> (Assignment, Option<Drawn>) {
        let Some((shares, wished)) = self.given(shares, beliefs, call) else {
            let none = Assignment { variant: self.baseline, reason: Reason::NoContext, propensity: 1.0 };
            return (none, None);
        };
        let place = unit.map_or_else(|| hash::bucket(draw, PLACES), |unit| self.place(epoch, unit));
        let variant = |arm: Option<usize>| arm.and_then(|arm| self.variants.get(arm)).copied();
        let chosen = variant(shares.at(place)).unwrap_or(self.baseline);
        let wished = wished.and_then(|wished| {
            let arm = wished.at(place)?;
            Some((*self.variants.get(arm)?, wished.get(arm)))
        });
        let drawn = Some(Drawn { shares, wished });
        let reason = if unit.is_some() { Reason::Split } else { Reason::Draw };
        if chosen != self.baseline && ready(chosen) {
            let arm = self.variants.iter().position(|known| *known == chosen).unwrap_or(self.control);
            return (Assignment { variant: chosen, reason, propensity: shares.get(arm) }, drawn);
        }
        let mut propensity = 1.0;
        self.each(&shares, ready, &mut |variant, likely| {
            if variant == self.baseline {
                propensity = likely;
            }
        });
        let reason = if chosen == self.baseline { reason } else { Reason::NotReady };
        (Assignment { variant: self.baseline, reason, propensity }, drawn)
    }

    /// How likely each arm is for that call; none where its context is not as declared.
    fn given(&self, shares: &Shares, beliefs: Option<&Beliefs>, call: &Call<'_>) -> Option<Given> {
        let Some(beliefs) = beliefs else { return Some((*shares, None)) };
        if self.context.is_empty() {
            return Some((*shares, self.apprentice.then_some(beliefs.wished)));
        }
        let mut features = [0.0; context::MOST];
        let x = self.context.read(call, &mut features)?;
        let open = beliefs.wished.as_slice().iter().map(|share| *share > 0);
        let mut floors = [0.0; ARMS];
        floors
            .iter_mut()
            .zip(open)
            .for_each(|(floor, open)| *floor = if open { self.floor } else { f64::NAN });
        let arms = self.variants.len().min(ARMS);
        let wished = scores::shares(self.policy, self.sign, &beliefs.lines, x, &floors[..arms]);
        Some(if self.apprentice { (*shares, Some(wished)) } else { (wished, None) })
    }
}

#[cfg(test)]
mod tests;
