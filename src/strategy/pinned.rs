//! One variant gets every call; [`switch`] is how another one takes its place.
//!
//! There is no other to stand in for it, so its readiness is not asked: a call finds out by being sent.

use crate::assignment::{Assignment, Reason};

pub mod switch;

#[derive(Debug, Clone, Copy)]
pub(super) struct Pinned(usize);

impl Pinned {
    pub(super) fn new(variant: usize) -> Self {
        Pinned(variant)
    }

    pub(super) fn assign(self) -> Assignment {
        Assignment { variant: self.0, reason: Reason::Pinned, propensity: 1.0 }
    }
}
