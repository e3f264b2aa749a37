//! What calls were told apart by, kept until their rewards' windows close: it does not fit into a prediction's id.
//!
//! It is on the replica that served the call, bounded, and written down with the rest of the state. Where there is no room
//! a context is not kept, and its reward teaches no regression.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use uuid::Uuid;

use super::intake::key;
use super::kept::{Kept, Place};
use super::shown::item;

/// The most bytes that all contexts may take.
const BYTES: usize = 64 << 20;
/// What an entry takes beside its numbers.
const ENTRY: usize = 96;

/// Contexts by prediction.
#[derive(Debug)]
pub(super) struct Contexts {
    /// What they are known by on disk.
    track: u32,
    /// By [`key`] of the prediction.
    known: DashMap<u64, Context>,
    bytes: AtomicUsize,
    /// Those that found no room.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Context {
    /// The second since 1970 after which it may be forgotten.
    until: u64,
    /// Whether it was written down.
    written: bool,
    features: Box<[f64]>,
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts {
            track: (item(b"contexts") >> 32) as u32,
            known: DashMap::new(),
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }
}

impl Contexts {
    /// What they are known by on disk.
    pub(super) fn track(&self) -> u32 {
        self.track
    }

    /// Keeps one for so long.
    pub(super) fn keep(&self, prediction: Uuid, features: Box<[f64]>, until: Duration) {
        let context = Context { until: until.as_secs() + 1, written: false, features };
        if !self.put(key(prediction, &[]), context) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&self, key: u64, context: Context) -> bool {
        let size = size(&context.features);
        if self.bytes.load(Ordering::Relaxed) + size > BYTES {
            return false;
        }
        if self.known.insert(key, context).is_none() {
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
        true
    }

    /// That of a prediction; none where it is not kept here.
    pub(super) fn of(&self, prediction: Uuid) -> Option<Box<[f64]>> {
        self.known.get(&key(prediction, &[])).map(|context| context.features.clone())
    }

    /// Lets those go whose time is over, and gives those that must be written down since this was last asked.
    pub(super) fn kept(&self, now: Duration) -> Vec<Kept> {
        let now = now.as_secs();
        let mut kept = Vec::new();
        self.known.retain(|key, context| {
            if context.until < now {
                self.bytes.fetch_sub(size(&context.features), Ordering::Relaxed);
                return false;
            }
            if !std::mem::replace(&mut context.written, true) {
                let until = u32::try_from(context.until).unwrap_or(u32::MAX);
                let place = Place { track: self.track, bin: until, key: *key };
                let bytes = context.features.iter().flat_map(|feature| feature.to_be_bytes()).collect();
                kept.push(place.kept(Duration::from_secs(context.until), bytes));
            }
            true
        });
        kept
    }

    /// Takes one back that an earlier process wrote down.
    pub(super) fn restore(&self, place: Place, value: &[u8]) {
        let (features, rest) = value.as_chunks::<8>();
        if features.is_empty() || !rest.is_empty() {
            return;
        }
        let features = features.iter().map(|feature| f64::from_be_bytes(*feature)).collect();
        let context = Context { until: u64::from(place.bin), written: true, features };
        if !self.put(place.key, context) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that found no room, since this was last asked.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

fn size(features: &[f64]) -> usize {
    size_of_val(features) + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_kept_until_its_time_and_there_is_an_end_to_it() {
        let contexts = Contexts::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        contexts.keep(one, vec![1.0, 2.0].into(), Duration::from_secs(10));
        contexts.keep(other, vec![3.0].into(), Duration::from_secs(20));
        contexts.keep(one, vec![1.0, 2.0].into(), Duration::from_secs(10));
        assert_eq!(contexts.of(one).as_deref(), Some(&[1.0, 2.0][..]));
        contexts.kept(Duration::from_secs(15));
        assert_eq!((contexts.of(one), contexts.of(other).as_deref()), (None, Some(&[3.0][..])));
        contexts.kept(Duration::from_secs(90));
        assert_eq!(contexts.bytes.load(Ordering::Relaxed), 0);
        for number in 0..3 {
            contexts.keep(Uuid::from_u128(number), vec![0.0; BYTES / 16 - 100].into(), Duration::ZERO);
        }
        assert_eq!((contexts.take_lost(), contexts.take_lost()), (1, 0));
    }

    #[test]
    fn each_is_written_down_once_and_another_process_takes_it_back() {
        let (contexts, one) = (Contexts::default(), Uuid::from_u128(1));
        contexts.keep(one, vec![1.0, -0.25].into(), Duration::from_secs(7_000));
        let kept = contexts.kept(Duration::from_secs(1));
        assert_eq!((kept.len(), kept[0].expires), (1, 2), "until the hour is over that it counts in");
        assert_eq!(contexts.kept(Duration::from_secs(2)), []);
        let after = Contexts::default();
        after.restore(Place::read(&kept[0].key), &kept[0].value);
        assert_eq!(after.of(one).as_deref(), Some(&[1.0, -0.25][..]));
        assert_eq!(after.kept(Duration::from_secs(3)), [], "it is on disk already");
        for spoilt in [&[][..], &kept[0].value[1..]] {
            let nothing = Contexts::default();
            nothing.restore(Place::read(&kept[0].key), spoilt);
            assert_eq!(nothing.of(one), None);
        }
        assert_eq!(after.kept(Duration::from_secs(7_100)), []);
        assert_eq!((after.of(one), after.bytes.load(Ordering::Relaxed)), (None, 0));
    }
}
