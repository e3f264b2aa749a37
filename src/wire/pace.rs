//! How much a connection may bring at a time, for peers that nobody waits for.
//!
//! A connection is read until nothing is left, so a peer that never stops sending would have its thread for itself.
//! What is beyond the pace stays in the socket, and TCP holds its sender back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of one poll, after which others have their turn: some 20 µs of reading.
pub(super) const TURN: usize = 64 * 1024;
/// Bytes of one [`PERIOD`], 128 to 256 MiB a second by the coarseness of timers: about a twentieth of a core.
pub(super) const BURST: usize = 256 * 1024;
/// Counted from the first byte of a burst.
const PERIOD: Duration = Duration::from_millis(1);

/// What may still be read.
#[derive(Debug)]
pub(super) struct Pace {
    /// In this poll.
    turn: usize,
    /// In this period, which ends then.
    burst: usize,
    until: Instant,
    /// Where the period is waited for.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { turn: TURN, burst: BURST, until: Instant::now(), pause: None }
    }

    /// A poll of the connection begins.
    pub(super) fn begin(&mut self) {
        self.turn = TURN;
    }

    /// Ready with how many bytes may be read now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.turn == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.burst == 0 {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(self.until)));
            ready!(pause.as_mut().poll(cx));
            (self.pause, self.burst) = (None, BURST);
        }
        Poll::Ready(self.turn.min(self.burst))
    }

    /// So many were read.
    pub(super) fn took(&mut self, bytes: usize) {
        let now = Instant::now();
        if now >= self.until {
            (self.burst, self.until) = (BURST, now + PERIOD);
        }
        self.turn = self.turn.saturating_sub(bytes);
        self.burst = self.burst.saturating_sub(bytes);
    }
}
