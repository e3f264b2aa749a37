//! Leaves a shadow alone for a while that fails in a row, so that a dead one costs next to nothing.
//!
//! Closed: copies go. After [`FAILURES`] in a row it opens for a second, each further time twice as long up to
//! [`LONGEST`]; then it is half open: one copy goes, and its end closes the breaker or opens it again. Pure: the
//! time is an argument.

use std::time::{Duration, Instant};

/// Failures in a row after which it opens.
pub const FAILURES: u32 = 5;
/// How long it is open the first time.
pub const FIRST: Duration = Duration::from_secs(1);
/// How long it is open at most.
pub const LONGEST: Duration = Duration::from_secs(10);

/// One shadow's breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    openings: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// One copy is out to see.
    Trying,
}

/// What a copy is to the breaker that let it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One of many.
    Usual,
    /// The one that goes while it is half open: how it ends must be said, or that nothing was learnt.
    Trial,
}

impl Breaker {
    /// Whether a copy may go now; says nothing about whether it does.
    pub fn allows(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => until <= now,
            State::Trying => false,
        }
    }

    /// Lets a copy go. Only where [`Breaker::allows`] was just true.
    pub fn pass(&mut self) -> Pass {
        if self.state == State::Closed {
            return Pass::Usual;
        }
        self.state = State::Trying;
        Pass::Trial
    }

    /// Says how a copy ended.
    pub fn report(&mut self, pass: Pass, failed: bool, now: Instant) {
        // Copies that left before it opened say nothing about the time after.
        if pass == Pass::Usual && self.state != State::Closed {
            return;
        }
        if !failed {
            *self = Breaker::default();
            return;
        }
        self.failures += 1;
        if pass == Pass::Trial || self.failures >= FAILURES {
            let longer = 2u32.saturating_pow(self.openings);
            self.state = State::Open { until: now + FIRST.saturating_mul(longer).min(LONGEST) };
            self.openings += 1;
        }
    }

    /// Says that a copy ended and that nothing was learnt from it: the next one tries.
    pub fn forget(&mut self, pass: Pass, now: Instant) {
        if pass == Pass::Trial {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now: Instant) {
        let pass = breaker.pass();
        breaker.report(pass, true, now);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES {
                fail(&mut breaker, now);
            }
            breaker.report(Pass::Usual, false, now);
        }
        assert!(breaker.allows(now));
        for _ in 0..FAILURES {
            assert!(breaker.allows(now));
            fail(&mut breaker, now);
        }
        assert!(!breaker.allows(now) && !breaker.allows(now + FIRST - Duration::from_nanos(1)));
        assert!(breaker.allows(now + FIRST));
    }

    #[test]
    fn half_open_lets_one_copy_through_and_each_time_out_is_longer() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            fail(&mut breaker, now);
        }
        for seconds in [1, 2, 4, 8, 10, 10] {
            let open = Duration::from_secs(seconds);
            assert!(!breaker.allows(now + open - Duration::from_millis(1)), "{seconds}");
            now += open;
            assert!(breaker.allows(now));
            assert_eq!(breaker.pass(), Pass::Trial);
            assert!(!breaker.allows(now), "one is out to see");
            breaker.report(Pass::Usual, false, now);
            assert!(!breaker.allows(now), "who left before says nothing");
            breaker.report(Pass::Trial, true, now);
        }
        now += LONGEST;
        assert!(breaker.allows(now));
        let pass = breaker.pass();
        breaker.forget(pass, now);
        assert!(breaker.allows(now), "nothing was learnt: the next one tries");
        let pass = breaker.pass();
        breaker.report(pass, false, now);
        assert_eq!(breaker.pass(), Pass::Usual);
        for _ in 0..FAILURES {
            fail(&mut breaker, now);
        }
        assert!(breaker.allows(now + FIRST), "all is forgotten");
    }
}
