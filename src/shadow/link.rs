//! What passes from a call to one copy of it: request bytes as they come, the call's answer, and how it ended.
//!
//! The call's side never waits. Everything that lies here is counted against the shadow's bytes, and what a copy costs
//! beside it; what does not fit ends the copy (request) or the comparison (answers), and nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::ledger::{Pinned, State};
use super::record::{PrimaryEnd, Skip};

/// What the library below may hold of a stream that is sent but not gone: still counted as held.
const UNSENT: u64 = 256 * 1024;

/// A slice keeps the buffer alive that it was read into, up to 64 KiB, and who is copied one call in ten would keep
/// one such buffer for each: a piece below this is copied.
const ALONE: usize = 32 * 1024;

/// What holding a piece costs beside its bytes, so that a shadow cannot fill memory with pieces of one byte. Measured.
const PIECE: u64 = 96;

/// What holding a piece of an answer costs. One that is no copy may have a buffer of twice its size to itself.
pub(crate) fn cost(data: &Bytes) -> u64 {
    let size = data.len() as u64;
    PIECE + if data.len() < ALONE { size } else { 2 * size }
}

/// The same bytes, to be held: in a buffer of their own where they are few.
pub(crate) fn alone(data: &Bytes) -> Bytes {
    if data.len() < ALONE { Bytes::copy_from_slice(data) } else { data.clone() }
}

/// Between a call and one copy of it.
#[derive(Debug)]
pub struct Link(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Bytes>,
    /// What the copy costs beside what it carries.
    own: u64,
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
    /// How the messages of either are compressed: the value of `grpc-encoding`.
    pub encodings: [Option<HeaderValue>; 2],
}

impl Answers {
    /// What holding them costs.
    pub fn cost(&self) -> u64 {
        self.primary.iter().chain(&self.shadow).map(cost).sum()
    }
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
    /// For a copy that may hold what fits beside all others of `state`, up to `cap` bytes, and that itself costs `own`.
    /// It is broken from the start where that does not fit.
    /// Without `compared` no answers are held.
    pub fn new(state: &Rc<State>, (cap, compared): (u64, bool), own: u64) -> Rc<Self> {
        let mut pinned = Pinned::new(state, cap);
        let fits = pinned.take(own);
        Rc::new(Link(RefCell::new(Inner {
            queue: VecDeque::new(),
            own,
            request: 0,
            sent: 0,
            end: if fits { End::More } else { End::Broken(Skip::BytesCap) },
            answers: compared.then(Answers::default),
            primary: Primary::Running,
            cancelled: false,
            pinned,
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
        if !inner.pinned.take(PIECE + size) {
            let alone = inner.own + inner.request > inner.pinned.cap();
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

    /// Whether more of the request may come.
    pub fn is_open(&self) -> bool {
        matches!(self.0.borrow().end, End::More)
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
            inner.pinned.give(PIECE + gone);
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
        inner.clear();
        let sent = std::mem::take(&mut inner.sent);
        inner.pinned.give(sent);
        if matches!(inner.end, End::More) {
            inner.end = End::Taken;
        }
    }

    /// Holds a piece of an answer for the comparison, or gives the comparison up where it does not fit.
    pub fn hold(&self, side: Side, data: &Bytes) {
        let inner = &mut *self.0.borrow_mut();
        let Some(answers) = &mut inner.answers else { return };
        if inner.pinned.take(cost(data)) {
            match side {
                Side::Primary => answers.primary.push(data.clone()),
                Side::Shadow => answers.shadow.push(data.clone()),
            }
        } else {
            inner.drop_answers();
        }
    }

    /// Says how the messages of an answer are compressed.
    pub fn encoding(&self, side: Side, value: Option<&HeaderValue>) {
        if let Some(answers) = &mut self.0.borrow_mut().answers {
            answers.encodings[usize::from(side == Side::Shadow)] = value.cloned();
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

    /// The copy is over: gives everything back, though the call may go on for hours.
    pub fn over(&self) {
        self.sent();
        let inner = &mut *self.0.borrow_mut();
        inner.answers = None;
        inner.pinned.give(u64::MAX);
    }

    /// Both answers, where they could be held; they still count as held until [`Link::over`].
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

    /// Drops what waits to be sent.
    fn clear(&mut self) {
        let queued = self.queue.drain(..).map(|data| PIECE + data.len() as u64).sum();
        self.pinned.give(queued);
    }

    fn give_up(&mut self, skip: Skip) {
        self.clear();
        self.end = End::Broken(skip);
        self.drop_answers();
        self.wake();
    }

    fn drop_answers(&mut self) {
        if let Some(answers) = self.answers.take() {
            self.pinned.give(answers.cost());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::shadow::Series;

    fn link(cap: u64) -> (Rc<Link>, Arc<Series>) {
        costly(cap, 0)
    }

    fn costly(cap: u64, own: u64) -> (Rc<Link>, Arc<Series>) {
        let series = Arc::new(Series::default());
        (Link::new(&Rc::new(State::new(Arc::clone(&series))), (cap, true), own), series)
    }

    fn next(link: &Link) -> Poll<Part> {
        link.poll_part(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_pushed_comes_out_once_in_order() {
        let (link, series) = link(1000);
        assert_eq!(link.push(&Bytes::from_static(b"ab")), None);
        assert_eq!(link.push(&Bytes::from_static(b"c")), None);
        assert_eq!(series.pinned(), 2 * PIECE + 3);
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
        let (link, series) = link(150);
        link.hold(Side::Primary, &Bytes::from_static(b"xyz"));
        assert_eq!(link.push(&Bytes::from_static(b"ab")), Some(Skip::BytesCap));
        assert_eq!((series.pinned(), link.is_comparing()), (0, false));
        assert!(matches!(next(&link), Poll::Ready(Part::Broken(Skip::BytesCap))));
        let (link, series) = self::link(100);
        assert_eq!(link.push(&Bytes::from_static(b"abc")), None);
        assert_eq!(link.push(&Bytes::from_static(&[0; 98])), Some(Skip::TooLarge));
        assert_eq!((series.pinned(), link.broken()), (0, Some(Skip::TooLarge)));
        assert_eq!(link.push(&Bytes::from_static(b"f")), None, "said once");
    }

    #[test]
    fn answers_that_do_not_fit_end_the_comparison_only() {
        let (link, series) = link(250);
        assert_eq!(link.push(&Bytes::from_static(b"ab")), None);
        link.hold(Side::Shadow, &Bytes::from_static(b"xy"));
        link.hold(Side::Primary, &Bytes::from_static(b"xy"));
        assert_eq!((series.pinned(), link.is_comparing(), link.broken()), (PIECE + 2, false, None));
        drop(link);
        assert_eq!(series.pinned(), 0);
    }

    #[test]
    fn what_a_copy_costs_itself_counts_until_it_is_over() {
        let (link, series) = costly(300, 60);
        assert_eq!((series.pinned(), link.broken()), (60, None));
        assert_eq!(link.push(&Bytes::from_static(b"abc")), None);
        link.hold(Side::Primary, &Bytes::from_static(b"xy"));
        link.sent();
        assert_eq!(series.pinned(), 62 + PIECE);
        link.over();
        assert_eq!((series.pinned(), link.is_comparing()), (0, false));
        link.hold(Side::Primary, &Bytes::from_static(b"xy"));
        assert_eq!(link.push(&Bytes::from_static(b"abc")), None);
        assert_eq!(series.pinned(), 0, "what the call goes on with is nobody's");
        let (link, series) = costly(100, 98);
        assert_eq!(link.push(&Bytes::from_static(b"abc")), Some(Skip::TooLarge));
        assert_eq!(series.pinned(), 98);
        let (link, series) = costly(100, 101);
        assert_eq!((link.broken(), series.pinned()), (Some(Skip::BytesCap), 0));
    }

    #[test]
    fn a_slice_of_a_read_buffer_counts_twice_and_a_small_one_gets_its_own() {
        let (large, small) = (Bytes::from(vec![7; ALONE]), Bytes::from(vec![7; ALONE - 1]));
        assert_eq!((cost(&large), cost(&small)), (PIECE + 2 * ALONE as u64, PIECE + ALONE as u64 - 1));
        assert_eq!(alone(&large).as_ptr(), large.as_ptr());
        assert_ne!(alone(&small).as_ptr(), small.as_ptr());
        assert_eq!(alone(&small), small);
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
