//! What one worker has counted of copies, by model and shadow: never mixed into the counts of live calls.
//!
//! The law, exact whenever no copy is under way: `copied` and all of `skipped` together are `eligible`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shard::{CODES, Count, Histogram, Label, Shard};
use crate::comparison::Comparison;
use crate::evidence::Copies;
use crate::fault::{Blame, Code};
use crate::shadow::record::{RESULTS, Skip, result};

/// What was counted for one shadow of one model by one worker. Only that worker may add.
#[derive(Debug, Default)]
pub struct Series {
    eligible: Count,
    copied: Count,
    skipped: [Count; Skip::ALL.len()],
    calls: [[Count; Blame::ALL.len()]; CODES],
    /// Added to by who compares, as is `lost`; all else by the worker.
    comparisons: [Count; RESULTS],
    /// Answers that found no room on the way to be compared.
    crowded: Count,
    in_flight: Count,
    pinned: Count,
    beside: Count,
    /// Calls beside which copies were held, by whose fault they ended so.
    blamed: [Count; Blame::ALL.len()],
    lost: Count,
    /// Copies, from their start to their end.
    pub latency: Histogram,
    /// The last attempts of their calls, where those had ended too.
    pub primary: Histogram,
}

impl Series {
    /// A call could be copied.
    pub fn add_eligible(&self) {
        self.eligible.add(1);
    }

    /// It was not, for this reason.
    pub fn add_skipped(&self, skip: Skip) {
        self.skipped[skip.index()].add(1);
    }

    /// It was, and the copy ended so.
    pub fn add_copied(&self, status: Code, blame: Blame, latency: std::time::Duration) {
        self.copied.add(1);
        self.calls[(status.0 as usize).min(CODES - 1)][blame.index()].add(1);
        self.latency.add(latency);
    }

    /// A copy was made of a call that took so long by whose fault, where that is known.
    pub fn add_primary(&self, primary: Option<(std::time::Duration, Blame)>) {
        if let Some((latency, blame)) = primary {
            self.primary.add(latency);
            self.blamed[blame.index()].add(1);
        }
    }

    /// A copy's answer was held beside its call's; only by who compares.
    pub fn add_compared(&self, comparison: Option<&Comparison>) {
        self.comparisons[result(comparison)].add(1);
    }

    /// It found no room on its way there.
    pub fn add_crowded(&self) {
        self.crowded.add(1);
    }

    /// What copies proved so far. Never a copy's failure without the copy.
    pub fn proof(&self) -> Copies {
        let copies = |blame: Blame| (0..CODES).map(|code| self.calls[code][blame.index()].get()).sum::<u64>();
        let primary = |blame: Blame| self.blamed[blame.index()].get();
        let pair = |blame: Blame| [primary(blame), copies(blame)];
        let (errors, rejections) = (pair(Blame::Upstream), pair(Blame::Rejection));
        Copies { calls: self.copied(), errors, rejections }
    }

    /// A copy's span was wanted and never built, for the exporter was behind.
    pub fn add_lost(&self) {
        self.lost.add(1);
    }

    /// How many copies are under way now.
    pub fn set_in_flight(&self, copies: usize) {
        self.in_flight.set(copies as u64);
    }

    /// How many bytes they hold now.
    pub fn set_pinned(&self, bytes: u64) {
        self.pinned.set(bytes);
    }

    /// How many bytes of pairs wait to be compared now.
    pub fn set_beside(&self, bytes: u64) {
        self.beside.set(bytes);
    }

    /// Calls that could be copied.
    pub fn eligible(&self) -> u64 {
        self.eligible.get()
    }

    /// Calls that were.
    pub fn copied(&self) -> u64 {
        self.copied.get()
    }

    /// Calls that were not, for this reason.
    pub fn skipped(&self, skip: Skip) -> u64 {
        self.skipped[skip.index()].get()
    }

    /// Copies that ended so.
    pub fn calls(&self, code: Code, blame: Blame) -> u64 {
        self.calls[(code.0 as usize).min(CODES - 1)][blame.index()].get()
    }

    /// Comparisons with this result, a place of [`RESULTS`].
    pub fn compared(&self, result: usize) -> u64 {
        let crowded = if result + 1 == RESULTS { self.crowded.get() } else { 0 };
        self.comparisons.get(result).map_or(0, Count::get) + crowded
    }

    /// Copies under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    /// Bytes that they hold, pairs that wait to be compared included.
    pub fn pinned(&self) -> u64 {
        self.pinned.get() + self.beside.get()
    }

    /// Spans that were wanted and never built.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// What became of the calls that one shadow could get copies of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The model.
    pub model: Arc<str>,
    /// The shadow.
    pub variant: Arc<str>,
    /// Calls that could be copied.
    pub eligible: u64,
    /// Those that were.
    pub copied: u64,
    /// Those that were not, by the reason's word; reasons that never held are left out.
    pub skipped: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Calls whose copies are still under way: 0 once all is quiet, or the books are wrong.
    pub fn open(&self) -> i128 {
        let closed =
            i128::from(self.copied) + self.skipped.values().map(|count| i128::from(*count)).sum::<i128>();
        i128::from(self.eligible) - closed
    }
}

/// All workers' series of each shadow.
pub(super) fn merged(shards: &[Arc<Shard>]) -> BTreeMap<Label, Vec<Arc<Series>>> {
    let mut merged: BTreeMap<Label, Vec<Arc<Series>>> = BTreeMap::new();
    for (label, series) in shards.iter().flat_map(|shard| shard.each_shadow()) {
        merged.entry(label).or_default().push(series);
    }
    merged
}

/// Everything that is known, by model and shadow.
pub(super) fn ledgers(shards: &[Arc<Shard>]) -> Vec<Ledger> {
    let ledger = |(label, series): (Label, Vec<Arc<Series>>)| {
        let sum = |part: &dyn Fn(&Series) -> u64| series.iter().map(|one| part(one)).sum::<u64>();
        let skipped = Skip::ALL.iter().map(|skip| (skip.name(), sum(&|one| one.skipped(*skip))));
        Ledger {
            eligible: sum(&Series::eligible),
            copied: sum(&Series::copied),
            skipped: skipped.filter(|(_, count)| *count > 0).collect(),
            model: label.model,
            variant: label.variant,
        }
    };
    merged(shards).into_iter().map(ledger).collect()
}
