//! Several rankers answer one call together: their lists are merged, and whoever put what people want is preferred.
//!
//! One person sees the items of all of them in one list, so people are compared with themselves: that takes some hundred
//! sessions where a split takes tens of thousands. It finds who is preferred, not by how much. Everything here is pure:
//! [`Method`] merges and credits, [`Progress`] judges the votes of sessions.

use super::{Out, Split};
use crate::assignment::{Assignment, Reason};
use crate::config;

mod balanced;
mod chance;
mod draft;
mod judge;
mod list;
mod merge;
mod pairwise;
pub mod plan;
mod probabilistic;
mod progress;

pub use chance::Chance;
pub use draft::Round;
pub use list::{Lists, RANKERS};
pub use merge::{Method, Pick, Sources};
pub use progress::Progress;

/// Who is asked, and what is of whom.
#[derive(Debug, Clone)]
pub(super) struct Interleave {
    baseline: usize,
    /// The baseline first.
    rankers: Vec<usize>,
}

impl Interleave {
    pub(super) fn new(config: &config::Interleave) -> Self {
        Interleave { baseline: config.baseline, rankers: config.rankers().collect() }
    }

    /// All are asked; what is no list is the baseline's.
    pub(super) fn assign(&self) -> Assignment {
        Assignment { variant: self.baseline, reason: Reason::Interleaved, propensity: 1.0 }
    }

    /// Who is asked, the baseline first.
    pub(super) fn rankers(&self, split: Split) -> Vec<usize> {
        let out = match split {
            Split::Without(out) => out,
            Split::Configured | Split::Candidate(_) | Split::Only(_) | Split::Shares(_) => Out::NONE,
        };
        self.rankers.iter().copied().filter(|ranker| !out.has(*ranker)).collect()
    }
}

#[cfg(test)]
mod tests;
