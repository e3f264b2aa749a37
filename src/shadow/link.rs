//! What passes from a call to one copy of it: request bytes as they come, the call's answer, and how it ended.
//!
//! The call's side never waits. Everything that lies here is counted against the shadow's bytes; what does not fit
//! ends the copy (request) or the comparison (answers), and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;

use super::ledger::{Pinned, State};
use super::record::{PrimaryEnd, Skip};

/// What the library below may hold of a stream that is sent but not gone: still counted as held.
const UNSENT: u64 = 256 * 1024;

/// Between a call and one copy of it.
#[derive(Debug)]
pub struct Link(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Bytes>,
    /// Request bytes so far, and those of them that are sent and still counted as held.
    request: u64,
    sent: u64,
    end: End,
    answers: Option<Answers>,
    primary: Primary,
    cancelled: bool,
    pinned: Pinned,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum End {
    More,
    Whole(Option<HeaderMap>),
    Taken,
    Broken(Skip),
}

/// Both answers, as their servers sent them.
#[derive(Debug, Default)]
pub struct Answers {
    /// The call's.
    pub primary: Vec<Bytes>,
    /// The shadow's.
    pub shadow: Vec<Bytes>,
}

/// Whose answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The call's.
    Primary,
    /// The shadow's.
    Shadow,
}

#[derive(Debug)]
enum Primary {
    Running,
    Ended(Option<PrimaryEnd>),
}

/// What comes next of the request.
#[derive(Debug)]
pub enum Part {
    /// Bytes.
    Data(Bytes),
    /// The end, with trailers where there are any.
    End(Option<HeaderMap>),
    /// It will never be whole.
    Broken(Skip),
}

impl Link {
    /// For a copy that may hold what fits beside all others of `state`, up to `cap` bytes.
    pub fn new(state: &Rc<State>, cap: u64) -> Rc<Self> {
        Rc::new(Link(RefCell::new(Inner {
            queue: VecDeque::new(),
            request: 0,
            sent: 0,
            end: End::More,
            answers: Some(Answers::default()),
            primary: Primary::Running,
            cancelled: false,
            pinned: Pinned::new(state, cap),
            waker: None,
        })))
    }

    /// Takes request bytes; the reason where they do not fit.
    pub fn push(&self, data: &Bytes) -> Option<Skip> {
        let mut inner = self.0.borrow_mut();
        if !matches!(inner.end, End::More) || data.is_empty() {
            return None;
        }
        let size = data.len() as u64;
        inner.request += size;
        if !inner.pinned.take(size) {
            let alone = inner.request > inner.pinned.cap();
            let skip = if alone { Skip::TooLarge } else { Skip::BytesCap };
            inner.give_up(skip);
            return Some(skip);
        }
        inner.queue.push_back(data.clone());
        inner.wake();
        None
    }

    /// The request is whole.
    pub fn whole(&self, trailers: Option<HeaderMap>) {
        let mut inner = self.0.borrow_mut();
        if matches!(inner.end, End::More) {
            inner.end = End::Whole(trailers);
            inner.wake();
        }
    }

    /// The call has ended, so; `None` where that is not known.
    pub fn primary_ended(&self, end: Option<PrimaryEnd>) {
        let mut inner = self.0.borrow_mut();
        if !matches!(inner.primary, Primary::Running) {
            return;
        }
        let cancelled = end.is_some_and(|end| end.cancelled);
        inner.primary = Primary::Ended(end);
        inner.cancelled = cancelled;
        if matches!(inner.end, End::More) {
            inner.give_up(if cancelled { Skip::Cancelled } else { Skip::Incomplete });
        }
        inner.wake();
    }

    /// Whether the request will never be whole, and why.
    pub fn broken(&self) -> Option<Skip> {
        match self.0.borrow().end {
            End::Broken(skip) => Some(skip),
            _ => None,
        }
    }

    /// Whether the caller gave up.
    pub fn is_cancelled(&self) -> bool {
        self.0.borrow().cancelled
    }

    /// Request bytes so far.
    pub fn request_bytes(&self) -> u64 {
        self.0.borrow().request
    }

    /// The next part of the request; each once.
    pub fn poll_part(&self, cx: &Context<'_>) -> Poll<Part> {
        let inner = &mut *self.0.borrow_mut();
        inner.listen(cx);
        if let Some(data) = inner.queue.pop_front() {
            inner.sent += data.len() as u64;
            let gone = inner.sent.saturating_sub(UNSENT);
            inner.sent -= gone;
            inner.pinned.give(gone);
            return Poll::Ready(Part::Data(data));
        }
        match std::mem::replace(&mut inner.end, End::Taken) {
            End::Whole(trailers) => Poll::Ready(Part::End(trailers)),
            End::Broken(skip) => {
                inner.end = End::Broken(skip);
                Poll::Ready(Part::Broken(skip))
            }
            other => {
                inner.end = other;
                Poll::Pending
            }
        }
    }

    /// The copy is off the wire: gives back what the request held, the last of which the library may have kept.
    pub fn sent(&self) {
        let inner = &mut *self.0.borrow_mut();
        let queued: u64 = inner.queue.iter().map(|data| data.len() as u64).sum();
        inner.queue.clear();
        inner.pinned.give(inner.sent + queued);
        inner.sent = 0;
        if matches!(inner.end, End::More) {
            inner.end = End::Taken;
        }
    }

    /// Holds a piece of an answer for the comparison, or gives the comparison up where it does not fit.
    pub fn hold(&self, side: Side, data: &Bytes) {
        let inner = &mut *self.0.borrow_mut();
        let Some(answers) = &mut inner.answers else { return };
        if inner.pinned.take(data.len() as u64) {
            match side {
                Side::Primary => answers.primary.push(data.clone()),
                Side::Shadow => answers.shadow.push(data.clone()),
            }
        } else {
            inner.drop_answers();
        }
    }

    /// Whether answers are still held.
    pub fn is_comparing(&self) -> bool {
        self.0.borrow().answers.is_some()
    }

    /// Shows the shadow's answer, where it is held.
    pub fn with_shadow<T>(&self, look: impl FnOnce(&[Bytes]) -> Option<T>) -> Option<T> {
        look(&self.0.borrow().answers.as_ref()?.shadow)
    }

    /// Both answers, where they could be held; they still count as held until the link is dropped.
    pub fn take_answers(&self) -> Option<Answers> {
        self.0.borrow_mut().answers.take()
    }

    /// Ready with how the call ended, once it has.
    pub fn poll_primary(&self, cx: &Context<'_>) -> Poll<Option<PrimaryEnd>> {
        let mut inner = self.0.borrow_mut();
        inner.listen(cx);
        match inner.primary {
            Primary::Running => Poll::Pending,
            Primary::Ended(end) => Poll::Ready(end),
        }
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn listen(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn give_up(&mut self, skip: Skip) {
        let queued: u64 = self.queue.iter().map(|data| data.len() as u64).sum();
        self.queue.clear();
        self.pinned.give(queued);
        self.end = End::Broken(skip);
        self.drop_answers();
        self.wake();
    }

    fn drop_answers(&mut self) {
        if let Some(answers) = self.answers.take() {
            let held = answers.primary.iter().chain(&answers.shadow).map(|data| data.len() as u64).sum();
            self.pinned.give(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::shadow::Series;

    fn link(cap: u64) -> (Rc<Link>, Arc<Series>) {
        let series = Arc::new(Series::default());
        (Link::new(&Rc::new(State::new(Arc::clone(&series))), cap), series)
    }

    fn next(link: &Link) -> Poll<Part> {
        link.poll_part(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_pushed_comes_out_once_in_order() {
        let (link, series) = link(100);
        assert_eq!(link.push(&Bytes::from_static(b"ab")), None);
        assert_eq!(link.push(&Bytes::from_static(b"c")), None);
        assert_eq!(series.pinned(), 3);
        assert!(matches!(next(&link), Poll::Ready(Part::Data(data)) if data == "ab"));
        assert!(matches!(next(&link), Poll::Ready(Part::Data(data)) if data == "c"));
        assert!(next(&link).is_pending());
        link.whole(None);
        assert!(matches!(next(&link), Poll::Ready(Part::End(None))));
        assert!(next(&link).is_pending());
        assert_eq!(series.pinned(), 3, "sent is not gone yet");
        link.sent();
        assert_eq!(series.pinned(), 0);
    }

    #[test]
    fn what_does_not_fit_ends_the_copy_and_is_given_back() {
        let (link, series) = link(4);
        link.hold(Side::Primary, &Bytes::from_static(b"xyz"));
        assert_eq!(link.push(&Bytes::from_static(b"ab")), Some(Skip::BytesCap));
        assert_eq!((series.pinned(), link.is_comparing()), (0, false));
        assert!(matches!(next(&link), Poll::Ready(Part::Broken(Skip::BytesCap))));
        let (link, series) = self::link(4);
        assert_eq!(link.push(&Bytes::from_static(b"abc")), None);
        assert_eq!(link.push(&Bytes::from_static(b"de")), Some(Skip::TooLarge));
        assert_eq!((series.pinned(), link.broken()), (0, Some(Skip::TooLarge)));
        assert_eq!(link.push(&Bytes::from_static(b"f")), None, "said once");
    }

    #[test]
    fn answers_that_do_not_fit_end_the_comparison_only() {
        let (link, series) = link(5);
        assert_eq!(link.push(&Bytes::from_static(b"ab")), None);
        link.hold(Side::Shadow, &Bytes::from_static(b"xy"));
        link.hold(Side::Primary, &Bytes::from_static(b"xy"));
        assert_eq!((series.pinned(), link.is_comparing(), link.broken()), (2, false, None));
        drop(link);
        assert_eq!(series.pinned(), 0);
    }

    #[test]
    fn a_call_that_ends_early_breaks_only_what_is_not_whole() {
        let end = |cancelled| PrimaryEnd {
            variant: None,
            status: crate::fault::Code::OK,
            cancelled,
            latency: Default::default(),
            response_bytes: 0,
            response_messages: 0,
        };
        for (cancelled, skip) in [(true, Skip::Cancelled), (false, Skip::Incomplete)] {
            let (link, _) = link(5);
            link.primary_ended(Some(end(cancelled)));
            assert_eq!((link.broken(), link.is_cancelled()), (Some(skip), cancelled));
            let (link, _) = self::link(5);
            link.whole(None);
            link.primary_ended(Some(end(cancelled)));
            assert_eq!((link.broken(), link.is_cancelled()), (None, cancelled));
        }
    }
}
