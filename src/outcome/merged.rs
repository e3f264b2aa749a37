//! What happened to a call that several rankers were asked for: who answered, who did not and why, and what was made of it.

use crate::config::Model;
use crate::prediction::slots::Slots;
use crate::strategy::interleave::Method;

/// A call that several rankers were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// How lists are merged.
    pub method: Method,
    /// All who were asked, the baseline first.
    pub rankers: Vec<Ranker>,
    /// Lists that were merged at once, and slots of each as it was served; zeros where nothing was.
    pub rows: usize,
    /// Slots of each.
    pub length: usize,
    /// Who filled which slot, where that is evidence.
    pub slots: Option<Slots>,
    /// Why it is no evidence.
    pub unanalysed: Option<Unanalysed>,
}

/// One who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranker {
    /// Index into the model's variants.
    pub variant: usize,
    /// Why its list is no part of the answer; none: it is.
    pub dropped: Option<Dropped>,
    /// Items of its lists.
    pub items: usize,
    /// Those that stood in one of its lists before, and were left out.
    pub duplicates: usize,
}

/// Why a ranker's list is no part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// It was not ready.
    NotReady,
    /// Another had answered, and its time was over.
    Late,
    /// It failed.
    Failed,
    /// It answered, but not with a ranking as the file declares it.
    Malformed,
    /// Its scores do not fall as its items do.
    Unsorted,
}

/// Why a call is no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unanalysed {
    /// The request is longer than what is kept of it, or not one message: the baseline answered alone.
    Request,
    /// A ranker dropped out.
    Dropped,
    /// There are more slots than an id tells of.
    TooLong,
    /// There is no slot.
    Empty,
}

impl Dropped {
    /// Every value.
    pub const ALL: [Dropped; 5] =
        [Dropped::NotReady, Dropped::Late, Dropped::Failed, Dropped::Malformed, Dropped::Unsorted];

    /// The word used in metrics, spans and response metadata.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::NotReady => "not_ready",
            Dropped::Late => "late",
            Dropped::Failed => "failed",
            Dropped::Malformed => "malformed",
            Dropped::Unsorted => "unsorted",
        }
    }
}

impl Unanalysed {
    /// Every value.
    pub const ALL: [Unanalysed; 4] =
        [Unanalysed::Request, Unanalysed::Dropped, Unanalysed::TooLong, Unanalysed::Empty];

    /// The word used in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Unanalysed::Request => "request",
            Unanalysed::Dropped => "dropped",
            Unanalysed::TooLong => "too_long",
            Unanalysed::Empty => "empty",
        }
    }
}

impl Merged {
    /// Of which nothing is known but that it is no evidence.
    pub fn none(method: Method, why: Unanalysed) -> Self {
        Merged { method, rankers: Vec::new(), rows: 0, length: 0, slots: None, unanalysed: Some(why) }
    }

    /// Whose each slot is, by name, `-` where it is nobody's, with commas between; none where the call is no evidence.
    pub fn teams(&self, model: &Model) -> Option<String> {
        let (slots, arms) = (self.slots.as_ref()?, model.arms());
        let of = |slot: usize| {
            let variant = arms.get(usize::from(slots.get(slot)?))?;
            model.variants.get(*variant).map(|variant| &*variant.name)
        };
        let names: Vec<&str> = (0..slots.count()).map(|slot| of(slot).unwrap_or("-")).collect();
        Some(names.join(","))
    }

    /// Whether lists of two rankers at least are in the answer.
    pub fn is_merged(&self) -> bool {
        self.rows > 0 && self.rankers.iter().filter(|ranker| ranker.dropped.is_none()).count() > 1
    }
}
