//! Ends streams that stand still, without a timer for each.
//!
//! Registering a timer costs a wake of the runtime's driver, and on small calls somebody owes something for a few
//! microseconds all the time. So a worker has one slow clock, which ticks a few times in `limits.stall`, and a stream
//! on which somebody owes something only counts its ticks.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Ticks in one `limits.stall`. A stall is seen after one stall and at most one tick more.
const TICKS: u32 = 4;

/// A worker's slow clock.
#[derive(Debug, Default)]
pub struct Clock {
    now: Cell<u32>,
    tick: Arc<Notify>,
}

impl Clock {
    /// Ticks for ever; `stall` is asked for `limits.stall` before each tick.
    pub async fn run(&self, stall: impl Fn() -> Duration) {
        loop {
            tokio::time::sleep(stall() / TICKS).await;
            self.now.set(self.now.get().wrapping_add(1));
            self.tick.notify_waiters();
        }
    }
}

/// How long one stream has stood still.
#[derive(Debug, Default)]
pub struct Stall(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    tick: Pin<Box<OwnedNotified>>,
    since: u32,
}

impl Stall {
    /// Says that nobody owes anything.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Says that somebody owes something, and whether anything `moved` since this was last said. Ready once nothing
    /// has moved for as long as is allowed.
    pub fn poll(&mut self, cx: &mut Context<'_>, clock: &Clock, moved: bool) -> Poll<()> {
        let fresh = || Box::pin(Arc::clone(&clock.tick).notified_owned());
        let waiting = self.0.get_or_insert_with(|| Waiting { tick: fresh(), since: clock.now.get() });
        if moved {
            waiting.since = clock.now.get();
        }
        while waiting.tick.as_mut().poll(cx).is_ready() {
            // The first tick may come right after the start: it counts for nothing.
            if clock.now.get().wrapping_sub(waiting.since) > TICKS {
                return Poll::Ready(());
            }
            waiting.tick = fresh();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// How long a stream lasts of which something moves at each of these instants.
    async fn lasts(moves: &[u64]) -> Duration {
        let clock = Clock::default();
        let mut stall = Stall::default();
        let began = tokio::time::Instant::now();
        let mut due = moves.iter().map(|second| began + Duration::from_secs(*second));
        let stalled = async {
            loop {
                let next = due.next();
                let moved = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = poll_fn(|cx| stall.poll(cx, &clock, false)) => return began.elapsed(),
                    () = moved => {
                        let polled = poll_fn(|cx| Poll::Ready(stall.poll(cx, &clock, true))).await;
                        assert!(polled.is_pending());
                    }
                }
            }
        };
        tokio::select! {
            lasted = stalled => lasted,
            () = clock.run(|| STALL) => unreachable!("a clock has no end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_cut_after_one_stall_and_at_most_a_tick_more() {
        let began = Instant::now();
        for moves in [&[][..], &[1], &[30, 61, 100], &[50, 100, 150, 200]] {
            let last = Duration::from_secs(moves.last().copied().unwrap_or(0));
            let lasted = lasts(moves).await - last;
            assert!(lasted >= STALL && lasted <= STALL + STALL / 2, "{moves:?}: {lasted:?}");
        }
        assert!(began.elapsed() < STALL, "time is only pretended");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_owes_nothing_is_cut() {
        let clock = Clock::default();
        let mut stall = Stall::default();
        let poll = poll_fn(|cx| Poll::Ready(stall.poll(cx, &clock, false)));
        assert!(poll.await.is_pending());
        stall.clear();
        let run = tokio::time::timeout(4 * STALL, clock.run(|| STALL)).await;
        assert!(run.is_err());
        let again = poll_fn(|cx| Poll::Ready(stall.poll(cx, &clock, false)));
        assert!(again.await.is_pending());
    }
}
