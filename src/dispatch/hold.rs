//! An answer of another variant than the baseline is held back until its end is known, for only then is it known
//! whether the baseline must answer instead.
//!
//! What is held counts with what it pins. Over the bound the answer is committed: it goes to the caller as it comes, and
//! what happens to it then is for the caller to see.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::response::Parts;

use super::fallback::Reserve;
use super::upload::SMALL;
use crate::fault::Code;
use crate::outcome::Fallback;
use crate::serving::Rollout;

/// What a chunk costs beside its bytes.
const ENTRY: usize = 64;

/// Holds the answers of one call's attempts at its variant.
pub(super) struct Hold<'a> {
    reserve: &'a Reserve,
    rollout: &'a Rollout,
    deadline: Option<Instant>,
    stage: Cell<Stage>,
    refused: Cell<Option<Fallback>>,
    /// Whether the variant waits for the caller's own bytes.
    waiting: Cell<bool>,
    /// When it last stopped waiting for them.
    resumed: Cell<Option<Instant>>,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The caller knows nothing of it.
    Held,
    /// It was thrown away, for the baseline to answer.
    GivenUp,
    /// It goes to the caller, come what may.
    Committed,
}

/// What is held of one answer.
pub(super) struct Held {
    /// Its headers; `None` once they are out.
    pub(super) head: Option<Parts>,
    /// As it came.
    pub(super) chunks: Vec<Bytes>,
    pinned: usize,
}

impl<'a> Hold<'a> {
    pub(super) fn new(reserve: &'a Reserve, rollout: &'a Rollout, deadline: Option<Instant>) -> Self {
        Hold {
            reserve,
            rollout,
            deadline,
            stage: Cell::new(Stage::Held),
            refused: Cell::new(None),
            waiting: Cell::new(false),
            resumed: Cell::new(None),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Why the baseline was not asked, where that was looked into.
    pub(super) fn refused(&self) -> Option<Fallback> {
        self.refused.get()
    }

    pub(super) fn commit(&self) {
        self.stage.set(Stage::Committed);
    }

    /// Most bytes to hold.
    pub(super) fn limit(&self) -> usize {
        self.reserve.settings.hold.bytes()
    }

    /// Whether an answer that ends so is thrown away; `bad` where something is wrong with it beside its status.
    pub(super) fn gives_up(&self, status: Code, bad: bool, repeatable: bool) -> bool {
        let given_up = (bad || status.may_fall_back()) && self.may_fall_back(repeatable);
        if given_up {
            self.stage.set(Stage::GivenUp);
        }
        given_up
    }

    /// Whether the baseline may be asked now, which is taken from its budget. `repeatable`: all that was sent is kept.
    pub(super) fn may_fall_back(&self, repeatable: bool) -> bool {
        let now = Instant::now();
        let refused = if !repeatable {
            Some(Fallback::TooLarge)
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Some(Fallback::NoTime)
        } else if !self.rollout.variants[self.reserve.baseline].upstream.is_ready() {
            Some(Fallback::NotReady)
        } else if !self.reserve.take(now) {
            Some(Fallback::Budget)
        } else {
            None
        };
        self.refused.set(refused);
        refused.is_none()
    }

    /// Says whether the variant waits for the caller's own bytes.
    pub(super) fn waits_for_caller(&self, waits: bool) {
        if self.waiting.replace(waits) && !waits {
            self.resumed.set(Some(Instant::now()));
        }
    }

    /// When to look again at a variant that had `patience` and has not answered; `None` if it had all of it for itself.
    pub(super) fn extended(&self, patience: Duration, now: Instant) -> Option<Instant> {
        let from = if self.waiting.get() { Some(now) } else { self.resumed.get() };
        from.map(|from| from + patience).filter(|until| *until > now)
    }
}

impl Held {
    pub(super) fn new(head: Parts) -> Self {
        Held { head: Some(head), chunks: Vec::new(), pinned: 0 }
    }

    /// Keeps a chunk; false if that is more than `limit`.
    pub(super) fn keep(&mut self, chunk: Bytes, limit: usize) -> bool {
        self.pinned += chunk.len() + ENTRY;
        // A slice of a few bytes would pin a whole read buffer.
        self.chunks.push(if chunk.len() < SMALL { Bytes::copy_from_slice(&chunk) } else { chunk });
        self.pinned <= limit
    }
}
