//! What was shown of merged lists, for credit that hangs on more than the slot: items, and where each ranker had put them.
//!
//! Calls write here as they are answered, reports read. It is bounded in bytes, the oldest goes first, and what is
//! remembered is written down with the rest of the state. Beside it stand drafts that go on from page to page; those are
//! of this process alone.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::intake::key;
use super::kept::{Kept, Place};
use super::lock;
use crate::protocol::oip::ranking::Entry;
use crate::stats::hash::murmur3_x86_32;
use crate::strategy::interleave::Sources;

/// What an entry costs beside what it holds.
const COST: u64 = 160;
/// Parts of the tables: workers and the control thread seldom meet in one.
const PARTS: usize = 8;

/// What was shown of one prediction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Slots of each list.
    pub length: usize,
    /// [`item`] of each, of all lists one after the other.
    pub items: Vec<u64>,
    /// Where each ranker had put them, by list; empty where slots have owners.
    pub sources: Vec<Sources>,
    /// Slots that were reported as liked, and as disliked, counted over all lists.
    #[serde(default)]
    pub liked: u64,
    /// Disliked.
    #[serde(default)]
    pub disliked: u64,
}

/// A draft that goes on.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The round that comes next.
    pub round: u32,
    /// [`item`] of all that was shown.
    pub shown: HashSet<u64>,
    /// What each ranker has left, by variant.
    pub left: Vec<(usize, Vec<Entry>)>,
}

/// What one model's calls have shown.
#[derive(Debug)]
pub struct Exposures {
    /// What it is known by on disk.
    track: u32,
    most: AtomicU64,
    bytes: AtomicU64,
    shown: DashMap<u64, (u64, Shown)>,
    drafts: DashMap<u64, (u64, Draft)>,
    /// In the order in which they came, each with the time at which it may be forgotten.
    order: Mutex<VecDeque<(Duration, Which)>>,
    changed: Mutex<HashSet<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Shown(u64),
    Draft(u64),
}

/// What an item is known by: 64 bits of its decimal digits, or of its text.
pub fn item(text: &[u8]) -> u64 {
    u64::from(murmur3_x86_32(0x1ea5, &[text])) << 32 | u64::from(murmur3_x86_32(0x17e5, &[text]))
}

/// What a draft is known by: what names it, and whose it is.
pub fn draft(name: &str, unit: Option<u64>) -> u64 {
    item(&[name.as_bytes(), b"\0", &unit.unwrap_or(0).to_be_bytes()].concat())
}

impl Shown {
    fn bytes(&self) -> u64 {
        let rank = size_of::<Option<u16>>();
        let sources = self.sources.iter().map(|of| of.slots() * (of.rankers() * rank + 24 + 2));
        COST + (self.items.len() * 8 + sources.sum::<usize>()) as u64
    }

    /// The slot of that item in that list, counted over all lists.
    pub fn slot(&self, row: usize, item: u64) -> Option<usize> {
        let first = row.checked_mul(self.length)?;
        let list = self.items.get(first..first.checked_add(self.length)?)?;
        list.iter().position(|shown| *shown == item).map(|slot| first + slot)
    }
}

impl Draft {
    fn bytes(&self) -> u64 {
        let entries = self.left.iter().flat_map(|(_, list)| list).map(|entry| entry.bytes() + COST as usize);
        COST + (self.shown.len() * 16 + entries.sum::<usize>()) as u64
    }
}

impl Exposures {
    /// Of that model, at most so many bytes.
    pub(super) fn new(model: &str, most: u64) -> Arc<Self> {
        Arc::new(Exposures {
            track: (item(&[b"shown ", model.as_bytes()].concat()) >> 32) as u32,
            most: AtomicU64::new(most),
            bytes: AtomicU64::new(0),
            shown: DashMap::with_shard_amount(PARTS),
            drafts: DashMap::with_shard_amount(PARTS),
            order: Mutex::default(),
            changed: Mutex::default(),
        })
    }

    /// From now on at most so many bytes.
    pub(super) fn bound(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
        self.make_room();
    }

    /// What it is known by on disk.
    pub(super) fn track(&self) -> u32 {
        self.track
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Remembers what a prediction showed, until that time since 1970.
    pub fn remember(&self, uuid: Uuid, shown: Shown, until: Duration) {
        let key = key(uuid, &[]);
        let bytes = shown.bytes();
        let before = self.shown.insert(key, (until.as_secs(), shown));
        self.grow(bytes, before.map(|(_, before)| before.bytes()));
        lock(&self.order).push_back((until, Which::Shown(key)));
        lock(&self.changed).insert(key);
        self.make_room();
    }

    /// Reads, and perhaps changes, what a prediction showed; none where that is not known here.
    pub(super) fn with<T>(&self, uuid: Uuid, read: impl FnOnce(&mut Shown) -> (T, bool)) -> Option<T> {
        let key = key(uuid, &[]);
        let mut found = self.shown.get_mut(&key)?;
        let (told, changed) = read(&mut found.value_mut().1);
        drop(found);
        if changed {
            lock(&self.changed).insert(key);
        }
        Some(told)
    }

    /// Takes the draft of that key, to go on with it.
    pub fn take_draft(&self, key: u64) -> Option<Draft> {
        let (_, (_, draft)) = self.drafts.remove(&key)?;
        self.bytes.fetch_sub(draft.bytes(), Ordering::Relaxed);
        Some(draft)
    }

    /// Keeps a draft until that time since 1970.
    pub fn keep_draft(&self, key: u64, draft: Draft, until: Duration) {
        let bytes = draft.bytes();
        let before = self.drafts.insert(key, (until.as_secs(), draft));
        self.grow(bytes, before.map(|(_, before)| before.bytes()));
        lock(&self.order).push_back((until, Which::Draft(key)));
        self.make_room();
    }

    fn grow(&self, more: u64, less: Option<u64>) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
        if let Some(less) = less {
            self.bytes.fetch_sub(less, Ordering::Relaxed);
        }
    }

    /// Forgets the oldest until the rest fits.
    fn make_room(&self) {
        while self.bytes() > self.most.load(Ordering::Relaxed) {
            let Some((until, which)) = lock(&self.order).pop_front() else { return };
            self.forget(which, until);
        }
    }

    /// Forgets what may be forgotten at `now`.
    pub(super) fn expire(&self, now: Duration) {
        loop {
            let mut order = lock(&self.order);
            let Some((until, which)) = order.front().copied().filter(|(until, _)| *until <= now) else {
                return;
            };
            order.pop_front();
            drop(order);
            self.forget(which, until);
        }
    }

    /// Forgets an entry, unless it was written anew since and lasts longer.
    fn forget(&self, which: Which, until: Duration) {
        let gone = match which {
            Which::Shown(key) => {
                let gone = self.shown.remove_if(&key, |_, (last, _)| *last <= until.as_secs());
                gone.map(|(_, (_, shown))| shown.bytes())
            }
            Which::Draft(key) => {
                let gone = self.drafts.remove_if(&key, |_, (last, _)| *last <= until.as_secs());
                gone.map(|(_, (_, draft))| draft.bytes())
            }
        };
        self.bytes.fetch_sub(gone.unwrap_or(0), Ordering::Relaxed);
    }

    /// What changed since the last look and must be written down.
    pub(super) fn kept(&self) -> Vec<Kept> {
        let changed = std::mem::take(&mut *lock(&self.changed));
        let of = |key: u64| {
            let found = self.shown.get(&key)?;
            let (until, shown) = found.value();
            // Numbers and lists of numbers only, so this always holds.
            let value = serde_json::to_vec(shown).ok()?;
            let place = Place { track: self.track, bin: u32::try_from(*until).unwrap_or(u32::MAX), key };
            Some(place.kept(Duration::from_secs(*until), value))
        };
        changed.into_iter().filter_map(of).collect()
    }

    /// Takes back what was written down.
    pub(super) fn restore(&self, place: Place, value: &[u8]) {
        let Ok(shown) = serde_json::from_slice::<Shown>(value) else { return };
        let until = Duration::from_secs(u64::from(place.bin));
        self.grow(shown.bytes(), None);
        self.shown.insert(place.key, (until.as_secs(), shown));
        lock(&self.order).push_back((until, Which::Shown(place.key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(items: &[&str]) -> Shown {
        let items: Vec<u64> = items.iter().map(|text| item(text.as_bytes())).collect();
        Shown { length: items.len(), items, ..Shown::default() }
    }

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_over_goes_too() {
        let one = shown(&["a", "b"]);
        let memory = Exposures::new("m", 3 * one.bytes());
        for number in 0..5 {
            memory.remember(uuid(number), one.clone(), Duration::from_secs(100 + number as u64));
        }
        let known = |number| memory.with(uuid(number), |shown| (shown.items.len(), false));
        assert_eq!((known(1), known(2), known(4)), (None, Some(2), Some(2)));
        assert_eq!(memory.bytes(), 3 * one.bytes());
        memory.expire(Duration::from_secs(103));
        assert_eq!((known(3), known(4)), (None, Some(2)));
        memory.bound(0);
        assert_eq!((known(4), memory.bytes()), (None, 0));
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let memory = Exposures::new("m", 1 << 20);
        memory.remember(uuid(7), shown(&["a", "b"]), Duration::from_secs(4_000));
        memory.with(uuid(7), |shown| (shown.liked = 2, true));
        let kept = memory.kept();
        assert_eq!((kept.len(), kept[0].expires, memory.kept().len()), (1, 2, 0));
        let other = Exposures::new("m", 1 << 20);
        let place = Place::read(&kept[0].key);
        assert_eq!(place.track, other.track());
        other.restore(place, &kept[0].value);
        assert_eq!(other.with(uuid(7), |shown| (shown.liked, false)), Some(2));
        assert_eq!(other.bytes(), memory.bytes());
    }

    #[test]
    fn an_item_is_found_in_its_own_list() {
        let shown = Shown { length: 2, ..shown(&["a", "b", "b", "c"]) };
        let slot = |row, text: &str| shown.slot(row, item(text.as_bytes()));
        assert_eq!((slot(0, "b"), slot(1, "b"), slot(1, "a"), slot(2, "a")), (Some(1), Some(2), None, None));
    }

    #[test]
    fn a_draft_is_taken_once() {
        let memory = Exposures::new("m", 1 << 20);
        let key = draft("search 7", Some(3));
        assert_ne!(key, draft("search 7", None));
        memory.keep_draft(key, Draft { round: 2, ..Draft::default() }, Duration::from_secs(10));
        assert_eq!(memory.take_draft(key).map(|draft| draft.round), Some(2));
        assert!(memory.take_draft(key).is_none() && memory.bytes() == 0);
    }
}
