//! What is known of each arm's rewards, dated by when their calls were made: all of them, or the newer ones more.
//!
//! With a half-life sums are kept as of one moment and fade as it moves on; a value that is late counts as much as its
//! age leaves. With a window they are kept by sixtieths of it. Either adds up in any order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Bandit, Memory};
use crate::evidence::{Moments, Rewards};
use crate::stats::{off_policy, ridge};

/// Parts that a window is kept in.
const PARTS: u32 = 60;
/// Epochs whose beginning is known, at most.
const DATES: usize = 4096;

/// What is known of all arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// In the order of the arms.
    arms: Vec<Knows>,
    /// When epochs began: (the first epoch of its kind, since when), growing.
    dates: VecDeque<(u32, Duration)>,
}

/// What is known of one arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Knows {
    name: Arc<str>,
    /// Everything that was ever seen.
    ever: Moments,
    offered: off_policy::Sums,
    /// What still counts, as of `at`.
    faded: Moments,
    at: Duration,
    /// By part of a window.
    parts: BTreeMap<u64, Moments>,
    line: ridge::Sums,
}

impl Known {
    pub(super) fn new(bandit: &Bandit, now: Duration) -> Self {
        let arms =
            bandit.arms.iter().map(|arm| Knows { name: Arc::clone(&arm.name), at: now, ..Knows::default() });
        Known { arms: arms.collect(), dates: VecDeque::from([(0, now)]) }
    }

    /// An epoch begins.
    pub(super) fn date(&mut self, epoch: u32, now: Duration) {
        self.dates.push_back((epoch, now));
        if self.dates.len() > DATES {
            // Every other one: what is old is dated less finely.
            let mut place = 0_usize;
            self.dates.retain(|_| {
                place += 1;
                place % 2 == 1 || place > DATES / 2
            });
        }
    }

    /// When that epoch began, as near as it is known.
    fn dated(&self, epoch: u32) -> Duration {
        let before = self.dates.partition_point(|(first, _)| *first <= epoch);
        self.dates.get(before.saturating_sub(1)).map_or(Duration::ZERO, |(_, began)| *began)
    }

    /// Adds what was earned by calls of that epoch.
    pub(super) fn learn(&mut self, memory: Memory, epoch: u32, rewards: &Rewards) {
        let dated = self.dated(epoch);
        for (arm, knows) in self.arms.iter_mut().enumerate() {
            if let Some(more) = rewards.arms.get(arm) {
                knows.add(memory, dated, more);
            }
            if let Some(offered) = rewards.offered.get(arm) {
                knows.offered += offered;
            }
            if let Some(line) = rewards.lines.get(arm) {
                // The moments before it have moved the date on already.
                knows.line.merge(line, knows.weight(memory, dated));
            }
        }
    }

    /// Takes over what was known of an arm before; `build` of it is the same.
    pub(super) fn inherit(
        &mut self,
        name: &str,
        before: &Moments,
        line: Option<&ridge::Sums>,
        (memory, now): (Memory, Duration),
    ) {
        if let Some(knows) = self.arms.iter_mut().find(|knows| *knows.name == *name) {
            knows.add(memory, now, before);
            if let Some(line) = line {
                knows.line.merge(line, 1.0);
            }
        }
    }

    /// What still counts of each arm at `now`: its name, moments and regression.
    pub(super) fn leave(&self, memory: Memory, now: Duration) -> Vec<(Arc<str>, Moments, ridge::Sums)> {
        let current = self.current(memory, now);
        let each = self.arms.iter().zip(current);
        each.map(|(knows, moments)| (Arc::clone(&knows.name), moments, knows.line.clone())).collect()
    }

    /// What still counts of each arm at `now`.
    pub(super) fn current(&self, memory: Memory, now: Duration) -> Vec<Moments> {
        self.arms.iter().map(|knows| knows.current(memory, now)).collect()
    }

    /// Values of each arm, ever.
    pub(super) fn ever(&self) -> impl Iterator<Item = f64> {
        self.arms.iter().map(|knows| knows.ever.n)
    }

    /// What a policy that always takes that arm would have earned, by what was seen in this revision.
    pub(super) fn offered(&self, arm: usize) -> Option<&off_policy::Sums> {
        self.arms.get(arm).map(|knows| &knows.offered)
    }

    /// The regression of each arm on `features`, as of now.
    pub(super) fn lines(
        &self,
        (features, ridge): (usize, f64),
        memory: Memory,
        now: Duration,
    ) -> Vec<ridge::Model> {
        let of = |knows: &Knows| {
            let mut line = knows.line.clone();
            line.fade(knows.faded_by(memory, now));
            line.model(features, ridge)
        };
        self.arms.iter().map(of).collect()
    }

    /// Lets go what does not count any more.
    pub(super) fn forget(&mut self, memory: Memory, now: Duration) {
        if let Memory::Window(window) = memory {
            let first = part(window, now.saturating_sub(window));
            self.arms.iter_mut().for_each(|knows| knows.parts.retain(|part, _| *part >= first));
        }
    }
}

impl Knows {
    fn add(&mut self, memory: Memory, dated: Duration, more: &Moments) {
        self.ever.add(more, 1.0);
        match memory {
            Memory::Whole => self.faded.add(more, 1.0),
            Memory::HalfLife(_) => {
                if dated > self.at {
                    let by = self.faded_by(memory, dated);
                    let old = self.faded;
                    self.faded = Moments::default();
                    self.faded.add(&old, by);
                    self.line.fade(by);
                    self.at = dated;
                }
                self.faded.add(more, self.weight(memory, dated));
            }
            Memory::Window(window) => self.parts.entry(part(window, dated)).or_default().add(more, 1.0),
        }
    }

    /// How much a value of `dated` counts as of `at`.
    fn weight(&self, memory: Memory, dated: Duration) -> f64 {
        match memory {
            Memory::HalfLife(half) => halved(half, self.at.saturating_sub(dated)),
            Memory::Whole | Memory::Window(_) => 1.0,
        }
    }

    /// What is left at `now` of what counts as of `at`.
    fn faded_by(&self, memory: Memory, now: Duration) -> f64 {
        match memory {
            Memory::HalfLife(half) => halved(half, now.saturating_sub(self.at)),
            Memory::Whole | Memory::Window(_) => 1.0,
        }
    }

    fn current(&self, memory: Memory, now: Duration) -> Moments {
        let mut current = Moments::default();
        current.add(&self.faded, self.faded_by(memory, now));
        if let Memory::Window(window) = memory {
            let first = part(window, now.saturating_sub(window));
            self.parts.range(first..).for_each(|(_, more)| current.add(more, 1.0));
        }
        current
    }
}

fn halved(half: Duration, age: Duration) -> f64 {
    (-age.as_secs_f64() / half.as_secs_f64()).exp2()
}

/// Which part of a window a moment is in.
fn part(window: Duration, at: Duration) -> u64 {
    let width = (window / PARTS).as_millis().max(1);
    u64::try_from(at.as_millis() / width).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_was_taken_over_fades_and_is_forgotten_as_what_came_then() {
        let inherited = Moments { n: 8.0, sum: 8.0, ..Moments::default() };
        for (memory, later) in [
            (Memory::Whole, [8.0, 8.0]),
            (Memory::HalfLife(HOUR), [4.0, 1.0]),
            (Memory::Window(HOUR * 2), [8.0, 0.0]),
        ] {
            let mut known = known();
            known.inherit("", &inherited, None, (memory, HOUR * 4));
            let n = |at: u32| known.current(memory, HOUR * at)[0].n;
            assert_eq!([n(5), n(7)], later, "{memory:?}");
            assert_eq!(known.ever().collect::<Vec<_>>(), [8.0]);
        }
    }

    fn rewards(n: f64, sum: f64) -> Rewards {
        Rewards { arms: vec![Moments { n, sum, ..Moments::default() }], ..Rewards::default() }
    }

    fn known() -> Known {
        let arms = vec![Knows::default()];
        let mut known = Known { arms, dates: VecDeque::from([(0, Duration::ZERO)]) };
        (1..=4).for_each(|epoch| known.date(epoch, HOUR * epoch));
        known
    }

    #[test]
    fn half_of_what_is_a_half_life_old_is_left_whenever_it_came() {
        let memory = Memory::HalfLife(HOUR);
        let (mut early, mut late) = (known(), known());
        for (epoch, n) in [(1, 8.0), (2, 4.0), (4, 2.0)] {
            early.learn(memory, epoch, &rewards(n, n));
        }
        for (epoch, n) in [(4, 2.0), (1, 8.0), (2, 4.0)] {
            late.learn(memory, epoch, &rewards(n, n));
        }
        for known in [early, late] {
            assert!((known.current(memory, HOUR * 4)[0].n - 4.0).abs() < 1e-9);
            assert!((known.current(memory, HOUR * 5)[0].sum - 2.0).abs() < 1e-9);
            assert_eq!(known.ever().collect::<Vec<_>>(), [14.0]);
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let memory = Memory::Window(HOUR * 2);
        let mut known = known();
        for (epoch, n) in [(1, 8.0), (2, 4.0), (4, 2.0)] {
            known.learn(memory, epoch, &rewards(n, n));
        }
        let n = |known: &Known, at: u32| known.current(memory, HOUR * at)[0].n;
        assert_eq!([3, 4, 5, 7].map(|at| n(&known, at)), [14.0, 6.0, 2.0, 0.0]);
        known.forget(memory, HOUR * 5);
        assert_eq!(n(&known, 5), 2.0);
    }

    #[test]
    fn dates_stay_few_and_near() {
        let mut known = known();
        (5..20_000).for_each(|epoch| known.date(epoch, Duration::from_secs(u64::from(epoch))));
        assert!(known.dates.len() <= DATES + 1);
        assert_eq!(known.dated(19_990), Duration::from_secs(19_990));
        let old = known.dated(9_000).as_secs();
        assert!((8_000..=9_000).contains(&old), "{old}");
    }
}
