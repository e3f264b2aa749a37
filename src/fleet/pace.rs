//! When a replica says something to the store: once a second, and at once where there is something to tell or to hear, but
//! not without end. Pure.

use std::time::Duration;

/// How often a replica says something by itself.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Exchanges that may follow on one answer, as for a decision to be written down.
pub const ROUNDS: usize = 8;
/// What there is between two turns, on average, however much there is to tell: two a second.
const EACH: Duration = Duration::from_millis(500);
/// Turns that may come one upon the other after some quiet: for some failures, and the decision on them.
const AT_ONCE: u32 = 10;

/// One replica's turns: ten of them may come at once, and one more every half second (a leaky bucket).
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// When all turns so far would be over, if each took its half second.
    full: Duration,
}

impl Pace {
    /// Takes the next turn; how long to wait for it. `now`: time since some moment, which never goes back.
    pub fn turn(&mut self, now: Duration) -> Duration {
        let free = self.full.saturating_sub(EACH * (AT_ONCE - 1));
        let at = now.max(free);
        self.full = self.full.max(at) + EACH;
        at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn turns_come_at_once_after_quiet_and_twice_a_second_else() {
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..13).map(|_| pace.turn(at(10_000)).as_millis() as u64).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 500, 1_000, 1_500]);
        assert_eq!(pace.turn(at(20_000)), at(0), "all is forgotten after some quiet");
        let mut pace = Pace::default();
        let ticks = (0..100).map(|second| pace.turn(at(1_000 * second)));
        assert!(ticks.into_iter().all(|wait| wait.is_zero()), "a turn a second never waits");
    }

    #[test]
    fn however_much_there_is_to_tell_two_turns_a_second_are_the_most() {
        let (mut pace, mut now, mut turns) = (Pace::default(), at(0), 0);
        while now < at(60_000) {
            now += pace.turn(now) + at(1);
            turns += 1;
        }
        assert!((120..=130).contains(&turns), "{turns} turns in a minute");
    }
}
