//! Sample requests that are kept from live calls: whole, unary, small, answered OK, and few.
//!
//! A call is chosen at its beginning and hands over references to the bytes that pass; only its end, when the answer is
//! out, puts the sample into its place. Until enough are kept every call may be one, then one a second, so that the
//! samples are like the calls of today. Of the caller's metadata only what says how the message is encoded is kept: no
//! credentials, no units, no trace.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};

use crate::protocol::Adapter;
use crate::protocol::frame::PREFIX;

/// Samples of one model.
const MOST: usize = 32;
/// Bytes of one sample, and of all of a model's.
const LARGEST: usize = 256 << 10;
const ALL: usize = 4 << 20;
/// Between two samples of one worker, once enough are kept.
const PAUSE: Duration = Duration::from_secs(1);
/// What says how the message is encoded.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::TE, HeaderName::from_static("grpc-encoding")];

/// A request that may be sent again, to anybody.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The method.
    pub path: http::uri::PathAndQuery,
    /// How the message is encoded.
    pub headers: HeaderMap,
    /// Who reads it.
    pub adapter: &'static dyn Adapter,
    /// The model that it asks for, where it names one.
    pub asked: Option<String>,
    /// One message, framed.
    pub message: Bytes,
}

/// Those of one model.
#[derive(Debug, Default)]
pub struct Samples(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    all: VecDeque<Sample>,
    bytes: usize,
}

impl Samples {
    /// Keeps one more; the oldest goes where there is no room.
    pub fn put(&self, sample: Sample) {
        let mut kept = self.lock();
        kept.bytes += sample.message.len();
        kept.all.push_back(sample);
        while kept.all.len() > MOST || kept.bytes > ALL {
            let Some(oldest) = kept.all.pop_front() else { break };
            kept.bytes -= oldest.message.len();
        }
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> Vec<Sample> {
        self.lock().all.iter().cloned().collect()
    }

    fn is_full(&self) -> bool {
        let kept = self.lock();
        kept.all.len() >= MOST || kept.bytes > ALL - LARGEST
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // What it guards is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's way to a model's samples.
#[derive(Debug)]
pub struct Keep {
    samples: Arc<Samples>,
    next: Cell<Option<Instant>>,
    taking: Cell<bool>,
}

/// A call whose request becomes a sample, if all goes well.
#[derive(Debug)]
pub struct Taking {
    keep: Rc<Keep>,
    parts: RefCell<Option<Parts>>,
}

#[derive(Debug)]
struct Parts {
    sample: Sample,
    chunks: Vec<Bytes>,
    length: usize,
    whole: bool,
}

impl Keep {
    /// A worker's way to `samples`.
    pub fn new(samples: Arc<Samples>) -> Rc<Self> {
        Rc::new(Keep { samples, next: Cell::new(None), taking: Cell::new(false) })
    }

    /// Whether the call that begins `now` is to be a sample: one at a time, and seldom once enough are kept.
    pub fn wants(&self, now: Instant) -> bool {
        !self.taking.get() && self.next.get().is_none_or(|next| now >= next)
    }

    /// Begins with a call's request; `headers` are its metadata.
    pub fn take(
        self: &Rc<Self>,
        path: http::uri::PathAndQuery,
        headers: &HeaderMap,
        (adapter, asked): (&'static dyn Adapter, Option<String>),
    ) -> Taking {
        self.taking.set(true);
        let mut kept = HeaderMap::new();
        for name in KEPT {
            if let Some(value) = headers.get(&name) {
                kept.insert(name, value.clone());
            }
        }
        let sample = Sample { path, headers: kept, adapter, asked, message: Bytes::new() };
        let parts = Parts { sample, chunks: Vec::new(), length: 0, whole: false };
        Taking { keep: Rc::clone(self), parts: RefCell::new(Some(parts)) }
    }
}

impl Taking {
    /// Request bytes, each once.
    pub fn request(&self, data: &Bytes) {
        let mut taken = self.parts.borrow_mut();
        let Some(parts) = &mut *taken else { return };
        parts.length += data.len();
        if parts.length > LARGEST {
            *taken = None;
            return;
        }
        parts.chunks.push(data.clone());
    }

    /// The request is whole.
    pub fn whole(&self) {
        if let Some(parts) = &mut *self.parts.borrow_mut() {
            parts.whole = true;
        }
    }

    /// The call has ended; `well`: it was answered OK.
    pub fn end(&self, well: bool, now: Instant) {
        let Some(Parts { sample, chunks, whole, .. }) = self.parts.take() else { return };
        let message = Bytes::from(chunks.concat());
        if !well || !whole || !is_one_message(&message) {
            return;
        }
        let samples = &self.keep.samples;
        samples.put(Sample { message, ..sample });
        self.keep.next.set(samples.is_full().then(|| now + PAUSE));
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.keep.taking.set(false);
    }
}

/// Whether these bytes are one whole message and nothing else: what has several may belong to a conversation.
fn is_one_message(bytes: &[u8]) -> bool {
    let length = bytes.get(1..PREFIX).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    length.is_some_and(|length| bytes.len() == PREFIX + length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(keep: &Rc<Keep>) -> Taking {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
        headers.insert("x-user-id", "ann".parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "application/grpc".parse().unwrap());
        let path = http::uri::PathAndQuery::from_static("/p.S/M");
        keep.take(path, &headers, (crate::protocol::recognise("/p.S/M"), None))
    }

    fn message(size: usize) -> Bytes {
        let mut bytes = crate::protocol::frame::prefix(0, size as u32).to_vec();
        bytes.resize(PREFIX + size, 7);
        bytes.into()
    }

    #[test]
    fn a_whole_call_that_went_well_is_kept_without_its_callers_metadata() {
        let samples = Arc::new(Samples::default());
        let keep = Keep::new(Arc::clone(&samples));
        let now = Instant::now();
        let one = taking(&keep);
        assert!(!keep.wants(now), "one at a time");
        let bytes = message(10);
        one.request(&bytes.slice(..3));
        one.request(&bytes.slice(3..));
        one.whole();
        one.end(true, now);
        drop(one);
        let kept = samples.all();
        assert_eq!((kept.len(), &kept[0].message), (1, &bytes));
        assert_eq!(kept[0].headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
        assert!(keep.wants(now));
    }

    #[test]
    fn what_is_cut_failed_large_or_several_is_not() {
        let samples = Arc::new(Samples::default());
        let keep = Keep::new(Arc::clone(&samples));
        let two = Bytes::from([message(4), message(4)].concat());
        for (bytes, whole, well) in [
            (message(4), false, true),
            (message(4), true, false),
            (two, true, true),
            (message(LARGEST), true, true),
            (Bytes::new(), true, true),
        ] {
            let one = taking(&keep);
            one.request(&bytes);
            if whole {
                one.whole();
            }
            one.end(well, Instant::now());
        }
        assert!(samples.all().is_empty());
    }

    #[test]
    fn they_are_few_and_new() {
        let samples = Arc::new(Samples::default());
        let keep = Keep::new(Arc::clone(&samples));
        let now = Instant::now();
        for size in 0..MOST + 5 {
            let one = taking(&keep);
            one.request(&message(size));
            one.whole();
            one.end(true, now);
        }
        let sizes: Vec<usize> = samples.all().iter().map(|sample| sample.message.len() - PREFIX).collect();
        assert_eq!((sizes.len(), sizes[0], sizes[MOST - 1]), (MOST, 5, MOST + 4));
        assert!(!keep.wants(now) && keep.wants(now + PAUSE));
        for _ in 0..MOST {
            let one = taking(&keep);
            one.request(&message(LARGEST - PREFIX));
            one.whole();
            one.end(true, now);
        }
        assert!(samples.lock().bytes <= ALL && samples.all().len() == ALL / LARGEST);
    }
}
