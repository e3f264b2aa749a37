//! A shadow's books: how many copies are under way, how many bytes they hold, and what became of each call.
//!
//! A [`Ticket`] is a copy's entry: it is settled exactly once, by its end or, where that never comes, by being
//! dropped. A [`Pinned`] is the bytes that it holds; they are given back when it is dropped. So neither a panic nor
//! the end of the process can leave the books wrong.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Pass};
use super::record::Skip;
use crate::fault::{Blame, Code};
use crate::telemetry::shadow::Series;

/// What outlives a reload.
#[derive(Debug)]
pub struct State {
    series: Arc<Series>,
    breaker: RefCell<Breaker>,
    calls: Cell<usize>,
    pinned: Cell<u64>,
    /// Bytes of pairs that wait to be compared, elsewhere.
    beside: Arc<AtomicU64>,
}

/// Bytes of a pair of answers on its way to be compared: they count as held until it is dropped, on any thread.
#[derive(Debug)]
pub struct Beside {
    all: Arc<AtomicU64>,
    series: Arc<Series>,
    bytes: u64,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let left = self.all.fetch_sub(self.bytes, Ordering::Relaxed) - self.bytes;
        self.series.set_beside(left);
    }
}

impl State {
    /// Of a shadow that is counted in `series`.
    pub fn new(series: Arc<Series>) -> Self {
        State {
            series,
            breaker: RefCell::default(),
            calls: Cell::new(0),
            pinned: Cell::new(0),
            beside: Arc::default(),
        }
    }

    /// Copies under way.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Bytes that they hold, and pairs that wait to be compared.
    pub fn pinned(&self) -> u64 {
        self.pinned.get() + self.beside.load(Ordering::Relaxed)
    }

    /// Counts `bytes` as held until what is returned is dropped.
    pub fn beside(&self, bytes: u64) -> Beside {
        let all = self.beside.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.series.set_beside(all);
        Beside { all: Arc::clone(&self.beside), series: Arc::clone(&self.series), bytes }
    }

    /// Whether the breaker lets a copy go.
    pub fn allows(&self, now: Instant) -> bool {
        self.breaker.borrow().allows(now)
    }

    /// The counts.
    pub fn series(&self) -> &Arc<Series> {
        &self.series
    }

    /// Enters a copy that shall be made. Only where [`State::allows`] was just true.
    pub fn enter(self: &Rc<Self>) -> Ticket {
        self.set_calls(self.calls() + 1);
        let pass = Some(self.breaker.borrow_mut().pass());
        Ticket { state: Rc::clone(self), pass, settled: false }
    }

    fn set_calls(&self, calls: usize) {
        self.calls.set(calls);
        self.series.set_in_flight(calls);
    }

    fn set_pinned(&self, bytes: u64) {
        self.pinned.set(bytes);
        self.series.set_pinned(bytes);
    }
}

/// One copy's entry.
#[derive(Debug)]
pub struct Ticket {
    state: Rc<State>,
    pass: Option<Pass>,
    settled: bool,
}

impl Ticket {
    /// Tells the breaker how the shadow did; not told, nothing was learnt.
    pub fn report(&mut self, failed: bool, now: Instant) {
        if let Some(pass) = self.pass.take() {
            self.state.breaker.borrow_mut().report(pass, failed, now);
        }
    }

    /// The call was not copied after all.
    pub fn skipped(&mut self, skip: Skip) {
        if !std::mem::replace(&mut self.settled, true) {
            self.state.series.add_skipped(skip);
        }
    }

    /// The call was copied, and that ended so.
    pub fn copied(&mut self, status: Code, blame: Blame, latency: Duration) {
        if !std::mem::replace(&mut self.settled, true) {
            self.state.series.add_copied(status, blame, latency);
        }
    }

    /// The call it is a copy of took so long, and ended so by whose fault.
    pub fn beside(&self, primary: Option<(Duration, Blame)>) {
        self.state.series.add_primary(primary);
    }

    /// Its answer found no room on the way to be compared.
    pub fn crowded(&self) {
        self.state.series.add_crowded();
    }

    /// The shadow's books.
    pub fn state(&self) -> &Rc<State> {
        &self.state
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.skipped(Skip::Aborted);
        if let Some(pass) = self.pass.take() {
            self.state.breaker.borrow_mut().forget(pass, Instant::now());
        }
        self.state.set_calls(self.state.calls() - 1);
    }
}

/// Bytes that one copy holds, of those that all of them may hold.
#[derive(Debug)]
pub struct Pinned {
    state: Rc<State>,
    cap: u64,
    held: u64,
}

impl Pinned {
    /// None yet; all copies together may hold `cap`.
    pub fn new(state: &Rc<State>, cap: u64) -> Self {
        Pinned { state: Rc::clone(state), cap, held: 0 }
    }

    /// Holds `bytes` more, if they fit.
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        if self.state.pinned() + bytes > self.cap {
            return false;
        }
        self.held += bytes;
        self.state.set_pinned(self.state.pinned.get() + bytes);
        true
    }

    /// Gives `bytes` back, of those that were taken.
    pub fn give(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.state.set_pinned(self.state.pinned.get() - bytes);
    }

    /// The most that may be held.
    pub fn cap(&self) -> u64 {
        self.cap
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.give(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_is_settled_once() {
        let series = Arc::new(Series::default());
        let state = Rc::new(State::new(Arc::clone(&series)));
        let mut one = state.enter();
        let mut two = state.enter();
        let three = state.enter();
        assert_eq!((state.calls(), series.in_flight()), (3, 3));
        one.copied(Code::OK, Blame::Nobody, Duration::from_millis(1));
        one.skipped(Skip::Deadline);
        two.skipped(Skip::TooLarge);
        drop((one, two, three));
        assert_eq!((series.copied(), series.skipped(Skip::TooLarge)), (1, 1));
        assert_eq!((series.skipped(Skip::Aborted), series.skipped(Skip::Deadline)), (1, 0));
        assert_eq!((state.calls(), series.in_flight()), (0, 0));
    }

    #[test]
    fn a_trial_that_is_dropped_leaves_the_breaker_ready_for_the_next() {
        let state = Rc::new(State::new(Arc::default()));
        let now = Instant::now();
        for _ in 0..super::super::breaker::FAILURES {
            state.enter().report(true, now);
        }
        assert!(!state.allows(now));
        let later = now + super::super::breaker::FIRST;
        assert!(state.allows(later));
        let trial = state.enter();
        assert!(!state.allows(later));
        drop(trial);
        assert!(state.allows(later.max(Instant::now())));
    }

    #[test]
    fn bytes_are_held_up_to_the_cap_and_come_back() {
        let series = Arc::new(Series::default());
        let state = Rc::new(State::new(Arc::clone(&series)));
        let (mut one, mut two) = (Pinned::new(&state, 100), Pinned::new(&state, 100));
        assert!(one.take(60) && !two.take(41) && two.take(40) && !one.take(1));
        assert_eq!(series.pinned(), 100);
        one.give(1000);
        assert_eq!(series.pinned(), 40);
        drop(two);
        assert_eq!((state.pinned(), series.pinned()), (0, 0));
        let beside = state.beside(70);
        assert_eq!((state.pinned(), series.pinned(), one.take(31), one.take(30)), (70, 70, false, true));
        drop(beside);
        assert_eq!((state.pinned(), series.pinned()), (30, 30));
    }
}
