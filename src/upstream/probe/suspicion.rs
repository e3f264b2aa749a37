//! How long a server may say nothing before calls prefer others.
//!
//! Suspicion is no verdict. An endpoint that is suspected gets calls only where there is no other, and whatever its
//! server says next, to the prober or to a caller, ends it; so it may come long before the prober gives the endpoint
//! up. A server that was suspected and then spoke is slow to answer and does not hang: it is given twice the time from
//! then on, and that shrinks again while it answers sooner.

use std::time::Duration;

use super::PATIENCE;
use crate::upstream::readiness::Readiness;

/// Silence that makes a server suspected which was never slow.
const SHORTEST: Duration = Duration::from_millis(300);
/// What each answer in time leaves of the patience.
const SHRINK: f64 = 0.95;

/// What is known of one server's silences.
#[derive(Debug)]
pub(super) struct Suspicion {
    patience: Duration,
}

impl Default for Suspicion {
    fn default() -> Self {
        Suspicion { patience: SHORTEST }
    }
}

impl Suspicion {
    /// How long neither the prober nor any caller may be answered, from 300 ms to the prober's own patience.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Nobody was answered for that long. Returns whether the endpoint is suspected from now on.
    pub(super) fn nothing(&self, readiness: &Readiness) -> bool {
        readiness.is_ready() && readiness.suspect(true)
    }

    /// The server said something.
    pub(super) fn spoke(&mut self, readiness: &Readiness) {
        let wrongly = readiness.suspect(false);
        let patience = if wrongly { self.patience * 2 } else { self.patience.mul_f64(SHRINK) };
        self.patience = patience.clamp(SHORTEST, PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_only_slow_is_given_more_time_and_loses_it_by_answering() {
        let (mut suspicion, readiness) = (Suspicion::default(), Readiness::default());
        assert!(!suspicion.nothing(&readiness), "who gets no calls need not be suspected");
        readiness.set(true);
        for patience in [300, 600, 1000, 1000] {
            assert_eq!(suspicion.patience(), Duration::from_millis(patience));
            assert!(suspicion.nothing(&readiness) && readiness.is_suspected());
            assert!(!suspicion.nothing(&readiness), "once");
            suspicion.spoke(&readiness);
            assert!(!readiness.is_suspected());
        }
        for _ in 0..30 {
            suspicion.spoke(&readiness);
        }
        assert_eq!(suspicion.patience(), SHORTEST);
    }
}
