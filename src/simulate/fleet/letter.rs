//! What happens later to somebody of a fleet: the earliest first, and of what happens at once what was sent first.

use std::cmp::Ordering;
use std::time::Duration;

use crate::fleet::{Answer, Ask};

/// Something on its way.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Duration,
    /// Counts all that were sent.
    pub(super) number: u64,
    pub(super) what: What,
}

/// To whom, and what. Replicas by their places.
#[derive(Debug)]
pub(super) enum What {
    /// A second is over.
    Tick(usize),
    /// There is something to hear.
    News(usize),
    /// Its turn has come.
    Turn(usize),
    /// To the store.
    Ask { replica: usize, question: u64, ask: Box<Ask> },
    /// From it.
    Answer { replica: usize, question: u64, answer: Box<Answer> },
    /// No answer is waited for any more.
    Silence { replica: usize, question: u64 },
}

impl Ord for Letter {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Letter {}
