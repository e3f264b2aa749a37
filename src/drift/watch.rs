//! The call's side: a sampled answer is held as it passes, and handed on when the call has ended. It waits for nothing
//! and cannot fail; what finds no room is counted as such.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;

use super::board::{Drifts, Fate, Tally};
use crate::assignment::{Odds, Reason};
use crate::config::units::Percent;
use crate::config::{Drift, Model};
use crate::shadow::link::{alone, cost};

/// What answers of one model are held by, on one worker.
#[derive(Debug)]
pub struct Watch {
    share: Percent,
    /// Bytes that all of them may hold.
    most: u64,
    held: Arc<AtomicU64>,
    drifts: Arc<Drifts>,
    tally: Arc<Tally>,
}

/// An answer that is being held.
#[derive(Debug)]
pub struct Watching {
    watch: Rc<Watch>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    chunks: Vec<Bytes>,
    encoding: Option<HeaderValue>,
    held: Held,
    /// Whether it found no room.
    over: bool,
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
struct Held {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whose answer it is, and what was left to chance.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The model.
    pub model: Arc<Model>,
    /// Index of the variant that was assigned, and answered.
    pub variant: usize,
    /// Why it was.
    pub reason: Reason,
    /// How likely each arm was.
    pub odds: Odds,
    /// Keyed hash of the unit.
    pub unit: Option<u64>,
    /// The prediction.
    pub prediction: Uuid,
    /// Bytes that one message may have.
    pub limit: usize,
}

/// A whole answer on its way to be counted.
#[derive(Debug)]
pub struct Seen {
    /// Whose it is.
    pub origin: Origin,
    /// Its bytes, cut anywhere.
    pub chunks: Vec<Bytes>,
    /// How its messages are compressed: the value of `grpc-encoding`.
    pub encoding: Option<HeaderValue>,
    _held: Held,
}

impl Watch {
    /// For calls of a model whose answers are looked at.
    pub fn new(model: &Model, drift: &Drift, drifts: &Arc<Drifts>) -> Rc<Self> {
        Rc::new(Watch {
            share: drift.sample,
            most: drift.bytes.0,
            held: Arc::default(),
            tally: drifts.tally(&model.name),
            drifts: Arc::clone(drifts),
        })
    }

    /// Begins to hold the answer of a call, where the draw, uniform in 32 bits, says so.
    pub fn begin(self: &Rc<Self>, draw: u32) -> Option<Watching> {
        let held = || Held { bytes: 0, all: Arc::clone(&self.held) };
        let inner = || Inner { chunks: Vec::new(), encoding: None, held: held(), over: false };
        self.share.takes(draw).then(|| Watching { watch: Rc::clone(self), inner: RefCell::new(inner()) })
    }
}

impl Watching {
    /// How the messages of the answer are compressed.
    pub fn encoding(&self, value: Option<&HeaderValue>) {
        self.inner.borrow_mut().encoding = value.cloned();
    }

    /// Bytes of the answer.
    pub fn answer(&self, data: &Bytes) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.over {
            return;
        }
        let cost = cost(data);
        if self.watch.held.fetch_add(cost, Ordering::Relaxed) + cost > self.watch.most {
            self.watch.held.fetch_sub(cost, Ordering::Relaxed);
            // What it held is free again.
            inner.held = Held { bytes: 0, all: Arc::clone(&self.watch.held) };
            (inner.over, inner.chunks) = (true, Vec::new());
            return;
        }
        inner.held.bytes += cost;
        inner.chunks.push(alone(data));
    }

    /// The call was answered so: hands it on.
    pub fn end(&self, origin: impl FnOnce() -> Origin) {
        let watch = &self.watch;
        let none = Inner {
            chunks: Vec::new(),
            encoding: None,
            held: Held { bytes: 0, all: Arc::clone(&watch.held) },
            over: false,
        };
        let Inner { chunks, encoding, held, over } = self.inner.replace(none);
        if over {
            return watch.tally.add(Fate::NoRoom);
        }
        let seen = Seen { origin: origin(), chunks, encoding, _held: held };
        if !watch.drifts.offer(seen) {
            watch.tally.add(Fate::NoRoom);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Size;
    use crate::telemetry::example;

    fn watch(share: Percent, most: u64) -> (Rc<Watch>, Arc<Drifts>) {
        let (model, drifts) = (example::model("fraud"), Arc::new(Drifts::default()));
        let drift = Drift { sample: share, bytes: Size(most), ..Drift::default() };
        (Watch::new(&model, &drift, &drifts), drifts)
    }

    fn origin() -> Origin {
        Origin {
            model: example::model("fraud"),
            variant: 0,
            reason: Reason::Split,
            odds: Odds::NONE,
            unit: None,
            prediction: Uuid::from_u128(7),
            limit: 1 << 20,
        }
    }

    #[test]
    fn an_answer_is_handed_on_whole_and_what_it_held_is_given_back() {
        let (watch, drifts) = watch(Percent::ALL, 1_000);
        assert!(watch.begin(u32::MAX).is_some());
        let watching = watch.begin(0).unwrap();
        watching.answer(&Bytes::from_static(b"ab"));
        watching.answer(&Bytes::from_static(b"c"));
        assert!(watch.held.load(Ordering::Relaxed) > 3);
        watching.end(origin);
        let seen = drifts.take().unwrap();
        assert_eq!(seen.chunks, ["ab", "c"]);
        drop(seen);
        assert_eq!(watch.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_holds_nothing() {
        let (watch, drifts) = watch(Percent::ALL, 1_000);
        let watching = watch.begin(0).unwrap();
        watching.answer(&Bytes::from_static(&[7; 500]));
        watching.answer(&Bytes::from_static(&[7; 500]));
        assert_eq!(watch.held.load(Ordering::Relaxed), 0);
        watching.end(origin);
        assert!(drifts.take().is_none());
        assert_eq!(drifts.tally("fraud").get(Fate::NoRoom), 1);
        // A call that is given up leaves nothing behind.
        let watching = watch.begin(0).unwrap();
        watching.answer(&Bytes::from_static(b"ab"));
        drop(watching);
        assert_eq!(watch.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn calls_that_are_not_drawn_hold_nothing() {
        assert!(watch(Percent::NONE, 1_000).0.begin(0).is_none());
    }
}
