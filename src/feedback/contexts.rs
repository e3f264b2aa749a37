//! What calls were told apart by, kept until their rewards' windows close: it does not fit into a prediction's id.
//!
//! It is on the replica that served the call, in memory, and bounded: where there is no room a context is not kept, and the
//! reward teaches no regression.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use uuid::Uuid;

/// The most bytes that all contexts may take.
const BYTES: usize = 64 << 20;
/// What an entry takes beside its numbers.
const ENTRY: usize = 96;

/// Contexts by prediction.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    /// With the second since 1970 after which it may be forgotten.
    kept: DashMap<u128, (u64, Box<[f64]>)>,
    bytes: AtomicUsize,
    /// Those that found no room.
    lost: AtomicU64,
}

impl Contexts {
    /// Keeps one for so long.
    pub(super) fn keep(&self, prediction: Uuid, context: Box<[f64]>, until: Duration) {
        let size = size(&context);
        if self.bytes.load(Ordering::Relaxed) + size > BYTES {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.kept.insert(prediction.as_u128(), (until.as_secs() + 1, context)).is_none() {
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// That of a prediction; none where it is not kept here.
    pub(super) fn of(&self, prediction: Uuid) -> Option<Box<[f64]>> {
        self.kept.get(&prediction.as_u128()).map(|kept| kept.1.clone())
    }

    /// Lets those go whose time is over.
    pub(super) fn forget(&self, now: Duration) {
        let now = now.as_secs();
        self.kept.retain(|_, (until, context)| {
            let keep = *until >= now;
            if !keep {
                self.bytes.fetch_sub(size(context), Ordering::Relaxed);
            }
            keep
        });
    }

    /// Those that found no room, since this was last asked.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

fn size(context: &[f64]) -> usize {
    size_of_val(context) + ENTRY
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
        contexts.forget(Duration::from_secs(15));
        assert_eq!((contexts.of(one), contexts.of(other).as_deref()), (None, Some(&[3.0][..])));
        contexts.forget(Duration::from_secs(90));
        assert_eq!(contexts.bytes.load(Ordering::Relaxed), 0);
        for number in 0..3 {
            contexts.keep(Uuid::from_u128(number), vec![0.0; BYTES / 16 - 100].into(), Duration::ZERO);
        }
        assert_eq!((contexts.take_lost(), contexts.take_lost()), (1, 0));
    }
}
