//! A replica's own evidence: what is not on its way yet, what was sent, and what plans rest on. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fleet::exchange::Sent;
use crate::fleet::part::Part;

/// Decisions that somebody may still come back with, where a store lost what it had.
const DECISIONS: usize = 4;
/// Own parts that are kept apart; beyond it the oldest are kept as one.
const APART: usize = 128;

/// Its own evidence.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// Not on its way yet.
    pub(super) open: Part,
    /// Whether whoever decides should hear of that at once, and of what was sent and is not known to have come.
    pub(super) urgent: bool,
    pub(super) pressing: bool,
    /// Sent at least once, oldest first; each begins where the one before it ends.
    pub(super) parts: VecDeque<Numbered>,
    /// The last number.
    pub(super) last: u64,
    /// The last one that the store is known to have.
    pub(super) taken: u64,
    /// Whether parts after that one were sent, and nobody knows whether they came.
    pub(super) doubt: bool,
    /// Decisions that were held, oldest first, and the last part that each rested on when it was.
    pub(super) floors: VecDeque<(Arc<str>, u64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) part: Part,
}

impl Own {
    /// The part to be sent, what is in doubt as it was, else all that the store lacks.
    /// `counts`: of what is new only how many calls there were.
    pub(super) fn next(&mut self, counts: bool) -> Option<Sent> {
        if !self.doubt && !self.open.is_empty() {
            let part = if counts { self.open.take_counts() } else { std::mem::take(&mut self.open) };
            self.parts.push_back(Numbered { from: self.last, to: self.last + 1, part });
            self.last += 1;
            self.pressing |= std::mem::take(&mut self.urgent);
            self.gather();
        }
        let mut all = Part::default();
        let rest = self.parts.iter().filter(|numbered| numbered.from >= self.taken);
        rest.for_each(|numbered| all.merge(&numbered.part));
        // Parts are plain data: they can always be written.
        let text = serde_json::to_string(&all).ok().filter(|_| self.last > self.taken)?;
        Some(Sent { from: self.taken, to: self.last, text })
    }

    /// Keeps the oldest as one, where there are many; not across what a plan rests on.
    pub(super) fn gather(&mut self) {
        let mut place = 0;
        while self.parts.len() > APART && place + 1 < self.parts.len() {
            let end = self.parts[place].to;
            if self.floors.iter().any(|(_, floor)| *floor == end) {
                place += 1;
            } else if let Some(next) = self.parts.remove(place + 1) {
                self.parts[place].to = next.to;
                self.parts[place].part.merge(&next.part);
            }
        }
    }

    /// The store has the parts until that one; how many it can never be told of.
    pub(super) fn taken_until(&mut self, seen: u64) -> u64 {
        (self.doubt, self.taken) = (false, seen);
        let lost = match self.parts.iter_mut().find(|numbered| numbered.from >= seen) {
            Some(next) => std::mem::replace(&mut next.from, seen) - seen,
            None => self.last.saturating_sub(seen),
        };
        if self.parts.back().is_none_or(|newest| newest.to <= seen || newest.from < seen) {
            self.last = seen;
        }
        self.pressing &= self.last > seen;
        lost
    }

    /// A plan is held that rests on the parts until that one. Those that the plans of a few decisions rest on are kept,
    /// each back to where that decision was first held: with it somebody may fill a store that lost all later ones.
    pub(super) fn hold(&mut self, id: &Arc<str>, has: u64) {
        if self.floors.back().is_none_or(|(newest, _)| newest != id) {
            self.floors.push_back((Arc::clone(id), has));
        }
        if self.floors.len() > DECISIONS {
            self.floors.pop_front();
        }
        let least = self.floors.iter().map(|(_, floor)| *floor).min().unwrap_or(0);
        self.parts.retain(|numbered| numbered.to > least);
    }
}
