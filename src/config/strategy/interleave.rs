//! Rankers that answer the same call together, and how it is found out whose lists people prefer.

use std::sync::Arc;
use std::time::Duration;

use super::{Arm, OnFail, OnPass};
use crate::config::Key;
use crate::config::units::Size;
use crate::protocol::oip::ranking::Outputs;
use crate::strategy::interleave::Method;

/// Several variants whose lists are merged into one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Interleave {
    /// The one in use: what is no list of an answer is its, and it answers what cannot be merged.
    pub baseline: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// Those beside the baseline; one to six, each below 64.
    pub arms: Vec<Arm>,
    /// Which outputs are the ranking.
    pub outputs: Outputs,
    /// How lists are merged.
    pub method: Method,
    /// Slots of a merged list at most; none: as many as the baseline's list has.
    pub length: Option<usize>,
    /// What names a list that is asked for page by page; none: every call is a list of its own.
    pub draft: Option<Key>,
    /// What credits the rankers.
    pub credit: Credit,
    /// Chance that a ranker that nobody prefers ever wins or loses, over all of them; above 0, at most 0.2.
    pub alpha: f64,
    /// The least preference of interest: so much of the decisive sessions more, or less, than half.
    pub least: f64,
    /// Nothing is decided on fewer decisive sessions.
    pub min_sessions: u64,
    /// Without a verdict for so long it is inconclusive.
    pub max_duration: Duration,
    /// What becomes of a ranker that is preferred.
    pub on_pass: OnPass,
    /// What becomes of one that the baseline is preferred to.
    pub on_fail: OnFail,
}

/// What credits the rankers for what they showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Credit {
    /// Its name in [`crate::config::Model::feedback`].
    pub feedback: Arc<str>,
    /// How reports say what they are about.
    pub by: By,
    /// Which reports of a session count.
    pub count: Count,
    /// What a session says.
    pub weigh: Weigh,
    /// Values below it are nothing, and above it something; none: each is what it is.
    pub at_least: Option<f64>,
    /// A session ends when its unit reports nothing for so long.
    pub session_gap: Duration,
    /// Sessions of one unit that vote in a day.
    pub max_votes: u16,
    /// Bytes that may be remembered of what was shown.
    pub memory: Size,
}

/// How reports say what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By the slot: the prediction's id says whose it is.
    Slot,
    /// By the item too: what was shown is remembered.
    Item,
}

/// Which reports of a session count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// All of them.
    All,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// What a session says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weigh {
    /// Which ranker it prefers, and not by how much.
    Votes,
    /// How much more a ranker earned than the baseline.
    Rewards,
}

impl By {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            By::Slot => "slot",
            By::Item => "item",
        }
    }
}

impl Count {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Count::All => "all",
            Count::First => "first",
            Count::Last => "last",
        }
    }
}

impl Weigh {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Weigh::Votes => "votes",
            Weigh::Rewards => "rewards",
        }
    }
}

impl Interleave {
    /// All who are asked, the baseline first.
    pub fn rankers(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.baseline).chain(self.arms.iter().map(|arm| arm.variant))
    }
}
