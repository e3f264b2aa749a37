//! What happens in the demo of a fleet, one scene after the other, and what is noted of each act. Pure: time comes in.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::REPLICAS;
use crate::demo::server::manner::Asked;
use crate::rollout::{AuditRecord, Status};
use crate::verdict::State;

/// How long things stand before the next one is done, and calls go on after the last.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Calls that were under way when the last replica left the candidate have arrived by then.
pub(super) const ARRIVED: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// All replicas are at the second step.
    Begins,
    /// The candidate fails: all leave it together.
    Together,
    /// A person let it try again: all give it calls.
    Again,
    /// The store was killed: each takes itself for parted from the others.
    Parts,
    /// The candidate fails anew: each leaves it by itself.
    Alone,
    /// The store is back: all have one plan.
    Meets,
    /// Calls go on.
    After,
    /// That was it.
    Over,
}

/// What is to be done when a scene is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Let the candidate fail.
    Break,
    /// Mend it, and let it try again.
    Resume,
    /// Take the store away.
    Kill,
    /// Bring it back.
    Restart,
    /// Note that all agree.
    Agree,
    /// End.
    End,
}

impl Scene {
    /// In words, for somebody who waited in vain.
    pub(super) fn waits_for(self) -> &'static str {
        match self {
            Scene::Begins => "all replicas are at the second step",
            Scene::Together | Scene::Alone => "all replicas have left the candidate",
            Scene::Again => "all replicas give the candidate calls again",
            Scene::Parts => "all replicas notice that the store is gone",
            Scene::Meets => "all replicas have one plan again",
            Scene::After | Scene::Over => "the end",
        }
    }

    /// Whether what is waited for holds, by what each replica says of itself.
    pub(super) fn holds(self, seen: &[Status; REPLICAS]) -> bool {
        let all = |is: fn(&Status) -> bool| seen.iter().all(is);
        let left = |status: &Status| status.report.state == State::RolledBack;
        match self {
            Scene::Begins => all(|one| one.report.step.is_some_and(|(step, _)| step > 0)),
            Scene::Together | Scene::Alone => all(left),
            Scene::Again => all(|one| one.report.state == State::Running),
            Scene::Parts => all(|one| one.fleet.as_ref().is_some_and(|fleet| fleet.parted)),
            Scene::Meets => all(left) && plan(seen).is_some(),
            Scene::After | Scene::Over => true,
        }
    }

    /// How long it must hold, what is done then, and what comes next.
    pub(super) fn next(self) -> (Duration, Deed, Scene) {
        match self {
            Scene::Begins => (PAUSE, Deed::Break, Scene::Together),
            Scene::Together => (PAUSE, Deed::Resume, Scene::Again),
            Scene::Again => (PAUSE, Deed::Kill, Scene::Parts),
            Scene::Parts => (Duration::ZERO, Deed::Break, Scene::Alone),
            Scene::Alone => (PAUSE, Deed::Restart, Scene::Meets),
            Scene::Meets => (Duration::ZERO, Deed::Agree, Scene::After),
            Scene::After | Scene::Over => (PAUSE, Deed::End, Scene::Over),
        }
    }
}

/// The plan that all serve; none where they do not, or know nothing of each other.
pub(super) fn plan(seen: &[Status; REPLICAS]) -> Option<u64> {
    let version = |status: &Status| {
        let fleet = status.fleet.as_ref()?;
        let knows = !fleet.parted && fleet.trouble.is_none() && fleet.version > 0;
        knows.then_some(fleet.version)
    };
    let first = version(&seen[0])?;
    seen.iter().all(|status| version(status) == Some(first)).then_some(first)
}

/// One time that the candidate failed.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// What its server had been asked before.
    before: Asked,
    left: [Option<Instant>; REPLICAS],
    /// Decisions to leave it, by when they were made and, of those made alone, by whom.
    decisions: BTreeSet<(u64, Option<usize>)>,
    /// When the first call failed.
    first: Option<Instant>,
    failures: u64,
    /// Calls of all when those under way had arrived, and those of the candidate.
    arrived: Option<(u64, u64)>,
    /// The same at its end.
    ended: Option<(u64, u64)>,
}

impl Act {
    pub(super) fn new(before: Asked) -> Self {
        Act {
            before,
            left: [None; REPLICAS],
            decisions: BTreeSet::new(),
            first: None,
            failures: 0,
            arrived: None,
            ended: None,
        }
    }

    /// Notes that a replica has left the candidate; `alone`: while it was parted from the others.
    pub(super) fn leave(&mut self, replica: usize, record: &AuditRecord, alone: bool, now: Instant) {
        if self.left[replica].is_none() {
            self.left[replica] = Some(now);
            self.decisions.insert((record.millis, alone.then_some(replica)));
        }
    }

    /// Notes what the candidate's server was asked by now, and how many calls were made.
    pub(super) fn watch(&mut self, asked: Asked, calls: u64, now: Instant) {
        self.first = self.first.or(asked.first);
        self.failures = asked.failures - self.before.failures;
        if self.last().is_some_and(|last| now.saturating_duration_since(last) >= ARRIVED) {
            self.arrived.get_or_insert((calls, asked.calls));
            self.ended = Some((calls, asked.calls));
        }
    }

    /// When the last replica had left it; none: not all have.
    fn last(&self) -> Option<Instant> {
        let left: Option<Vec<Instant>> = self.left.iter().copied().collect();
        left?.into_iter().max()
    }

    /// Decisions that were made.
    pub(super) fn decisions(&self) -> usize {
        self.decisions.len()
    }

    /// Calls that the candidate failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// From the first call that failed until the last replica had left it.
    pub(super) fn took(&self) -> Option<Duration> {
        Some(self.last()?.saturating_duration_since(self.first?))
    }

    /// Calls since all had left it, and how many of them the candidate was asked.
    pub(super) fn after(&self) -> (u64, u64) {
        let ((calls, candidate), (then, asked)) =
            (self.arrived.unwrap_or_default(), self.ended.unwrap_or_default());
        (then.saturating_sub(calls), asked.saturating_sub(candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::fleet::example;

    #[test]
    fn scenes_follow_each_other_to_the_end() {
        let (mut scene, mut deeds) = (Scene::Begins, Vec::new());
        while scene != Scene::Over {
            let (_, deed, next) = scene.next();
            deeds.push(deed);
            scene = next;
        }
        let expected =
            [Deed::Break, Deed::Resume, Deed::Kill, Deed::Break, Deed::Restart, Deed::Agree, Deed::End];
        assert_eq!(deeds, expected);
    }

    #[test]
    fn they_agree_where_each_has_the_same_plan_and_knows_the_others() {
        let all = |versions: [u64; 3]| versions.map(|version| example(State::RolledBack, version));
        assert_eq!(plan(&all([4, 4, 4])), Some(4));
        assert!(Scene::Meets.holds(&all([4, 4, 4])));
        assert_eq!(plan(&all([4, 5, 4])), None);
        assert_eq!(plan(&all([0, 0, 0])), None);
        let mut parted = all([4, 4, 4]);
        parted[1].fleet.as_mut().unwrap().parted = true;
        assert_eq!(plan(&parted), None);
        assert!(!Scene::Parts.holds(&parted) && Scene::Alone.holds(&parted));
        assert!(!Scene::Again.holds(&parted));
    }

    #[test]
    fn an_act_counts_what_came_while_it_lasted() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let asked = |calls, failures| Asked { calls, failures, first: Some(began) };
        let mut act = Act::new(Asked { calls: 100, failures: 7, first: None });
        let record = |millis| AuditRecord { millis, ..crate::demo::fleet::record() };
        for replica in 0..3 {
            assert_eq!(act.took(), None);
            act.leave(replica, &record(5), false, at(10 * (1 + replica as u64)));
        }
        act.watch(asked(110, 12), 500, at(40));
        assert_eq!((act.decisions(), act.failures(), act.after()), (1, 5, (0, 0)));
        act.watch(asked(111, 12), 600, at(200));
        act.watch(asked(111, 12), 900, at(900));
        assert_eq!((act.took(), act.after()), (Some(Duration::from_millis(30)), (300, 0)));
        let mut alone = Act::new(Asked::default());
        (0..3).for_each(|replica| alone.leave(replica, &record(5), true, at(1)));
        assert_eq!(alone.decisions(), 3);
    }
}
