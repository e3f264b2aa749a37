//! How long decisions take until every replica serves them.

use std::time::Duration;

/// Decisions on their way, and the longest that any was.
#[derive(Debug, Clone)]
pub(super) struct Decisions {
    replicas: usize,
    /// Of the newest plan.
    version: u64,
    /// Replicas that have no plan yet: until all have one they are starting.
    starting: usize,
    open: Vec<Open>,
    longest: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    version: u64,
    at: Duration,
    /// Replicas that serve what was before.
    left: usize,
}

impl Decisions {
    pub(super) fn new(replicas: usize) -> Self {
        Decisions { replicas, version: 0, starting: replicas, open: Vec::new(), longest: None }
    }

    /// The store has a plan of that version.
    pub(super) fn decided(&mut self, version: u64, now: Duration) {
        if version > self.version && self.starting == 0 {
            self.open.push(Open { version, at: now, left: self.replicas });
        }
        self.version = self.version.max(version);
    }

    /// A replica that held one version holds another.
    pub(super) fn held(&mut self, before: u64, version: u64, now: Duration) {
        if version <= before {
            return;
        }
        self.starting -= usize::from(before == 0);
        for open in self.open.iter_mut().filter(|open| (before + 1..=version).contains(&open.version)) {
            open.left -= 1;
            if open.left == 0 {
                self.longest = self.longest.max(Some(now.saturating_sub(open.at)));
            }
        }
        self.open.retain(|open| open.left > 0);
    }

    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_when_the_last_replica_has_it() {
        let at = Duration::from_millis;
        let mut decisions = Decisions::new(2);
        decisions.decided(1, at(0));
        decisions.held(0, 1, at(1));
        decisions.held(0, 1, at(900));
        assert_eq!(decisions.longest(), None, "that was the beginning");
        decisions.decided(2, at(1_000));
        decisions.held(1, 2, at(1_010));
        decisions.decided(3, at(1_020));
        decisions.held(1, 3, at(1_030));
        assert_eq!(decisions.longest(), Some(at(30)), "who has the third has the second too");
        decisions.held(2, 3, at(1_070));
        assert_eq!(decisions.longest(), Some(at(50)));
    }
}
