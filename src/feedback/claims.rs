//! Reports that wait until the store which replicas share says what it knows of them. Pure.
//!
//! Each was taken and answered already: what waits is the evidence that it makes. What was sent is sent again as it was
//! until an answer comes, and what comes meanwhile waits behind it. No more than so many wait: beyond it reports are
//! refused, so that whoever sends them knows.

use std::collections::VecDeque;
use std::time::Duration;

use super::credit::Spot;
use super::ledger::Entry;
use crate::config::Join;
use crate::fleet::reports::{Batch, Claim, Known, Shelf};
use crate::prediction::Prediction;

/// Reports of one model that may wait.
const MOST: usize = 1 << 16;
/// Reports that are sent at once.
const BATCH: usize = 2048;
/// For so long nothing new is taken where the store had no room.
const REST: Duration = Duration::from_secs(10);

/// A report whose evidence waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// The feedback, by what it is known by on disk, and the prediction's bin there.
    pub(super) track: u32,
    pub(super) bin: u32,
    /// When that bin may be forgotten, since the Unix epoch.
    pub(super) closes: Duration,
    pub(super) prediction: Prediction,
    pub(super) key: u64,
    pub(super) mark: Option<u64>,
    pub(super) join: Join,
    /// As reported, with what was expected of it.
    pub(super) told: Entry,
    /// What was known here before.
    pub(super) known: Option<Entry>,
    pub(super) context: Option<Box<[f64]>>,
    /// What of a list it is about, where it credits rankers.
    pub(super) spot: Option<Spot>,
}

/// What became of those that waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Wait now.
    pub waiting: u64,
    /// Changed what all replicas know, since the start.
    pub counted: u64,
    /// Changed nothing: another replica had them, or newer ones.
    pub repeated: u64,
    /// Count for nothing: the store had no room.
    pub full: u64,
}

/// Those of one model.
#[derive(Debug, Default)]
pub(super) struct Claims {
    waiting: VecDeque<Waiting>,
    /// How many of them, from the front, are on their way, and under which number.
    sent: Option<(u64, usize)>,
    number: u64,
    full_until: Duration,
    pub(super) tally: Claimed,
}

impl Claims {
    /// Whether no more may come.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST
    }

    /// Whether the store had no room a moment ago.
    pub(super) fn is_at_rest(&self, now: Duration) -> bool {
        now < self.full_until
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
        self.tally.waiting = self.waiting.len() as u64;
    }

    /// What is to be told at `now`; none: nothing waits.
    pub(super) fn batch(&mut self, now: Duration) -> Option<Batch> {
        if self.waiting.is_empty() {
            return None;
        }
        let (number, count) = match self.sent {
            Some(sent) => sent,
            None => {
                self.number += 1;
                *self.sent.insert((self.number, self.waiting.len().min(BATCH)))
            }
        };
        let mut shelves: Vec<Shelf> = Vec::new();
        let claims = self.waiting.iter().take(count).map(|one| {
            let same = |shelf: &Shelf| (shelf.track, shelf.bin) == (one.track, one.bin);
            let shelf = shelves.iter().position(same).unwrap_or_else(|| {
                // A little longer than its windows are open, for clocks differ.
                let lasts = one.closes.saturating_sub(now) + Duration::from_secs(60);
                shelves.push(Shelf { track: one.track, bin: one.bin, lasts });
                shelves.len() - 1
            });
            let known = |entry: Entry| Known { value: entry.value, at: entry.at, expected: entry.expected };
            Claim {
                shelf,
                key: one.key,
                mark: one.mark,
                join: one.join,
                told: known(one.told),
                known: one.known.map(known),
            }
        });
        let claims = claims.collect();
        Some(Batch { number, shelves, claims })
    }

    /// Those that were told under that number; none of any other.
    pub(super) fn told(&mut self, number: u64) -> Vec<Waiting> {
        let Some((_, count)) = self.sent.take_if(|(sent, _)| *sent == number) else { return Vec::new() };
        let told = self.waiting.drain(..count).collect();
        self.tally.waiting = self.waiting.len() as u64;
        told
    }

    /// Notes that the store had no room.
    pub(super) fn rest(&mut self, now: Duration) {
        self.full_until = now + REST;
    }

    /// Forgets what waits: it is of a rollout that is over.
    pub(super) fn begin_anew(&mut self) {
        self.waiting.clear();
        (self.sent, self.tally.waiting) = (None, 0);
    }
}

#[cfg(test)]
mod tests;
