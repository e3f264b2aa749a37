//! One declared feedback of one model: what is remembered of its reports, and the evidence they make. Pure.
//!
//! Without a default a report is evidence when it comes. With one, every prediction has a value from the start, so
//! nothing is evidence before its window has closed: until then predictions are summed as if the default were the
//! truth, in bins of a sixtieth of the window, and a report adds the difference to the bin of its prediction. What is
//! expected of a value is the mean of all that was known before the first of its bin, so that it never knows the value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::{Kept, Place};
use super::ledger::{Entry, Joined, Ledger, join};
use super::rate::Rate;
use super::weigh::{Change, Gathered, Who};
use super::{Evidence, Receipt, Taken};
use crate::config::{Feedback, FeedbackKind, Join};
use crate::evidence::Total;

/// Bins that a window is divided into, at least a second each.
const BINS: u32 = 60;

/// One declared feedback.
#[derive(Debug)]
pub(super) struct Track {
    id: u32,
    ledger: Ledger,
    bins: BTreeMap<u32, Bin>,
    /// All that is known of its values.
    known: Total,
    gains: BTreeMap<u32, Gathered>,
    changed: BTreeSet<(u32, u64)>,
    stirred: BTreeSet<u32>,
    rates: Vec<Rate>,
    /// Whether a bin's predictions are summed under the first epoch that is seen in it: where epochs are short.
    coarse: bool,
}

/// Predictions of one sixtieth of a window that is still open, as if the default were the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Bin {
    expected: f32,
    epochs: BTreeMap<u32, Gathered>,
}

/// A report that may be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    /// When the prediction was made, since the Unix epoch.
    pub(super) made: Duration,
    /// Of its split.
    pub(super) epoch: u32,
    /// Whose it is.
    pub(super) who: Who<'a>,
    /// Tells the prediction from others; the highest bit is not set.
    pub(super) key: u64,
    /// Tells the report from others about it, where it can be told.
    pub(super) mark: Option<u64>,
    /// The number, or the bits of a label's hash.
    pub(super) value: f64,
    /// When it was learnt, in milliseconds after the prediction.
    pub(super) at: u32,
    /// What becomes of it, if nothing came before.
    pub(super) evidence: Evidence,
}

/// What became of a report that was remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    pub(super) receipt: Receipt,
    /// What was known of its prediction before.
    pub(super) before: Option<Entry>,
    /// What is known now; none: it stays.
    pub(super) now: Option<Entry>,
}

impl Bin {
    pub(super) fn new(expected: f32) -> Self {
        Bin { expected, epochs: BTreeMap::new() }
    }

    /// What is summed of that epoch; `coarse`: of the first one that was seen.
    fn at(&mut self, epoch: u32, coarse: bool) -> &mut Gathered {
        let first = self.epochs.keys().next().copied().filter(|_| coarse);
        self.epochs.entry(first.unwrap_or(epoch)).or_default()
    }
}

impl Track {
    /// Nothing yet; `id` is what it is known by on disk, `sources` the ways that reports come in by.
    pub(super) fn new(id: u32, sources: usize) -> Self {
        Track {
            id,
            ledger: Ledger::default(),
            bins: BTreeMap::new(),
            known: Total::default(),
            gains: BTreeMap::new(),
            changed: BTreeSet::new(),
            stirred: BTreeSet::new(),
            rates: vec![Rate::default(); sources],
            coarse: false,
        }
    }

    /// Says whether epochs are so short that those of one bin count as one.
    pub(super) fn set_coarse(&mut self, coarse: bool) {
        self.coarse = coarse;
    }

    /// What it is known by on disk.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Entries that it remembers.
    pub(super) fn len(&self) -> usize {
        self.ledger.len()
    }

    /// Whether one more report may come in this way at `now`.
    pub(super) fn admits(&mut self, source: usize, most: u32, now: Duration) -> bool {
        self.rates.get_mut(source).is_some_and(|rate| rate.take(most, now))
    }

    /// The value that a report joins; none: it is the first.
    pub(super) fn value(&self, feedback: &Feedback, told: &Told<'_>) -> Option<f64> {
        self.ledger.get(bin(feedback, told.made), told.key).map(|entry| entry.value)
    }

    /// Takes a report; none where it would need an entry and there is no `room` for one.
    pub(super) fn take(&mut self, feedback: &Feedback, told: &Told<'_>, room: bool) -> Option<Receipt> {
        let Noted { receipt, before, now } = self.note(feedback, told, room)?;
        let changed = |now: &Entry| before.is_none_or(|before| before.value != now.value);
        if let Some(now) = now.filter(changed) {
            self.gather(feedback, told, before.as_ref(), &now);
        }
        Some(receipt)
    }

    /// Remembers a report, and leaves it to [`Track::settle`] what it is evidence of.
    pub(super) fn note(&mut self, feedback: &Feedback, told: &Told<'_>, room: bool) -> Option<Noted> {
        let bin = bin(feedback, told.made);
        let before = self.ledger.get(bin, told.key);
        let stays = |taken| {
            let receipt = receipt(feedback, taken, told.evidence, before);
            Some(Noted { receipt, before, now: None })
        };
        if told.mark.is_some_and(|mark| self.ledger.get(bin, mark).is_some()) {
            return stays(Taken::Repeated);
        }
        if !room && (before.is_none() || told.mark.is_some()) {
            return None;
        }
        if let Some(mark) = told.mark {
            self.put(bin, mark, Entry { value: 0.0, at: 0, expected: f32::NAN });
        }
        let Joined::Becomes(value, at) = join(feedback.join, before.as_ref(), told.value, told.at) else {
            return stays(Taken::Unchanged);
        };
        let expected = match before {
            Some(before) => before.expected,
            None => self.expect(feedback, bin, told),
        };
        let entry = Entry { value, at, expected };
        let evidence = if before.is_some() && expected.is_nan() && told.evidence.is_evidence() {
            Evidence::Revision
        } else {
            told.evidence
        };
        self.put(bin, told.key, entry);
        let taken = match before {
            None => Taken::First,
            Some(before) if before.value == value => Taken::Unchanged,
            Some(_) => Taken::Joined,
        };
        let receipt = receipt(feedback, taken, evidence, Some(entry));
        Some(Noted { receipt, before, now: Some(entry) })
    }

    /// Makes a report that was noted evidence, by what all replicas knew `before` it; where they knew nothing that much was
    /// `expected`. Returns what it became; none where it changed nothing.
    pub(super) fn settle(
        &mut self,
        feedback: &Feedback,
        told: &Told<'_>,
        before: Option<Entry>,
        expected: f32,
    ) -> Option<Entry> {
        let joined = join(feedback.join, before.as_ref(), told.value, told.at);
        let Joined::Becomes(value, at) = joined else { return None };
        let now = Entry { value, at, expected: before.map_or(expected, |before| before.expected) };
        let bin = bin(feedback, told.made);
        // What came here since is ahead of it; of a sum each replica answers what it knows itself.
        let known = self.ledger.get(bin, told.key).filter(|_| feedback.join != Join::Sum);
        if let Some(known) = known
            && let Joined::Becomes(value, at) = join(feedback.join, Some(&known), now.value, now.at)
        {
            self.put(bin, told.key, Entry { value, at, ..known });
        }
        if before.is_some_and(|before| before.value == value) {
            return None;
        }
        if feedback.default.is_some() {
            // Its window may have closed while it waited for the others.
            self.open(feedback, bin);
        }
        self.gather(feedback, told, before.as_ref(), &now);
        Some(now)
    }

    /// The bin of a prediction that was made then, and when it may be forgotten, since the Unix epoch.
    pub(super) fn bin_of(feedback: &Feedback, made: Duration) -> (u32, Duration) {
        let bin = bin(feedback, made);
        (bin, closes(feedback, bin))
    }

    /// Counts a prediction that was told to a caller, as if the default were the truth.
    pub(super) fn expose(&mut self, feedback: &Feedback, made: Duration, epoch: u32, who: &Who<'_>) {
        let Some(default) = feedback.default else { return };
        let bin = bin(feedback, made);
        let expected = self.open(feedback, bin);
        let change = Change { from: None, to: default, expected: f64::from(expected) };
        if let Some(open) = self.bins.get_mut(&bin) {
            open.at(epoch, self.coarse).add(who, &change);
            self.stirred.insert(bin);
        }
    }

    /// Forgets what windows have closed over at `now`; what they held becomes evidence.
    pub(super) fn close(&mut self, feedback: &Feedback, now: Duration) {
        let first = bin(feedback, now.saturating_sub(feedback.window));
        while let Some(closed) = self.bins.first_entry().filter(|closed| *closed.key() < first) {
            let (bin, closed) = closed.remove_entry();
            self.stirred.insert(bin);
            for (epoch, gathered) in closed.epochs {
                self.known.add(gathered.total());
                self.gains.entry(epoch).or_default().merge(&gathered);
            }
        }
        self.ledger.forget(first);
    }

    /// What was gained since the last look, by epoch.
    pub(super) fn gained(&mut self) -> BTreeMap<u32, Gathered> {
        std::mem::take(&mut self.gains)
    }

    /// What changed since the last look and must be remembered.
    pub(super) fn kept(&mut self, feedback: &Feedback) -> Vec<Kept> {
        let mut kept = Vec::with_capacity(self.changed.len() + self.stirred.len());
        for (bin, key) in std::mem::take(&mut self.changed) {
            if let Some(entry) = self.ledger.get(bin, key) {
                let place = Place { track: self.id, bin, key };
                kept.push(place.kept(closes(feedback, bin), entry.bytes()));
            }
        }
        for bin in std::mem::take(&mut self.stirred) {
            let bytes = self.bins.get(&bin).map(Bin::bytes).unwrap_or_default();
            kept.push(Place::open(self.id, bin).kept(closes(feedback, bin), bytes));
        }
        kept
    }

    /// Takes back what was kept.
    pub(super) fn restore(&mut self, place: Place, value: &[u8]) {
        if place.is_open() {
            self.bins.extend(Bin::read(value).map(|bin| (place.bin, bin)));
        } else if let Some(entry) = Entry::read(value) {
            self.ledger.put(place.bin, place.key, entry);
        }
    }

    /// Forgets evidence of a rollout that is over; what was reported is still remembered.
    pub(super) fn begin_anew(&mut self) {
        self.gains.clear();
        self.stirred.extend(self.bins.keys());
        self.bins.clear();
    }

    fn put(&mut self, bin: u32, key: u64, entry: Entry) {
        self.ledger.put(bin, key, entry);
        self.changed.insert((bin, key));
    }

    /// What is expected of a prediction that has no value yet; no number where it is no evidence.
    fn expect(&mut self, feedback: &Feedback, bin: u32, told: &Told<'_>) -> f32 {
        match told.evidence {
            Evidence::AtClose => self.open(feedback, bin),
            // The very first value of any size is expected as it is, and says nothing.
            Evidence::Now => narrow(self.known.mean().or(middle(feedback)).unwrap_or(told.value)),
            Evidence::Kind | Evidence::Certain | Evidence::Revision | Evidence::Session => f32::NAN,
        }
    }

    /// Sees to it that the bin is open; returns what is expected of its predictions.
    fn open(&mut self, feedback: &Feedback, bin: u32) -> f32 {
        let mean = self.known.mean().or(feedback.default).unwrap_or(0.0);
        self.bins.entry(bin).or_insert_with(|| Bin::new(narrow(mean))).expected
    }

    /// Adds what a value changes; nothing where it is no evidence.
    fn gather(&mut self, feedback: &Feedback, told: &Told<'_>, before: Option<&Entry>, now: &Entry) {
        if now.expected.is_nan() {
            return;
        }
        let change = Change {
            from: before.map(|before| before.value).or(feedback.default),
            to: now.value,
            expected: f64::from(now.expected),
        };
        let bin = bin(feedback, told.made);
        if feedback.default.is_none() {
            let gained = self.gains.entry(told.epoch).or_default();
            gained.add(&told.who, &change);
            if change.from.is_none() {
                gained.join(&told.who);
            }
            self.known.add(Total {
                n: u64::from(change.from.is_none()),
                sum: change.to - change.from.unwrap_or(0.0),
            });
        } else if let Some(open) = self.bins.get_mut(&bin) {
            open.at(told.epoch, self.coarse).add(&told.who, &change);
            self.stirred.insert(bin);
        }
    }
}

impl Evidence {
    fn is_evidence(self) -> bool {
        matches!(self, Evidence::Now | Evidence::AtClose)
    }
}

fn receipt(feedback: &Feedback, taken: Taken, evidence: Evidence, entry: Option<Entry>) -> Receipt {
    let value = entry.map(|entry| entry.value).filter(|_| feedback.kind != FeedbackKind::Label);
    Receipt { taken, evidence, value }
}

/// Exact enough for what is expected, and never infinite.
fn narrow(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// What a value of that kind is expected to be where nothing is known.
fn middle(feedback: &Feedback) -> Option<f64> {
    match feedback.kind {
        FeedbackKind::Binary => Some(0.5),
        FeedbackKind::Bounded { min, max } => Some(f64::midpoint(min, max)),
        FeedbackKind::Real | FeedbackKind::Label | FeedbackKind::Clicks => None,
    }
}

/// Whether reports sent again can only be known by a mark of their own.
pub(super) fn needs_mark(join: Join) -> bool {
    join == Join::Sum
}

fn width(feedback: &Feedback) -> u64 {
    u64::try_from((feedback.window / BINS).as_millis()).unwrap_or(u64::MAX).max(1000)
}

fn bin(feedback: &Feedback, made: Duration) -> u32 {
    let bin = made.as_millis() / u128::from(width(feedback));
    u32::try_from(bin).unwrap_or(u32::MAX)
}

/// When the last window of a bin closes, since the Unix epoch.
fn closes(feedback: &Feedback, bin: u32) -> Duration {
    Duration::from_millis((u64::from(bin) + 1).saturating_mul(width(feedback)))
        .saturating_add(feedback.window)
}

#[cfg(test)]
mod tests;
