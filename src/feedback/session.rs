//! Sessions of people who saw merged lists, and what each says in the end. Pure.
//!
//! A session is what one unit reports without a pause of `session_gap`, about predictions that were made in it. It has
//! one vote, which falls when it closes; what comes later about its predictions is counted, and votes no more. Who brings
//! no unit is a session of one prediction. So somebody who clicks on everything has one vote, and a robot that comes back
//! all day has `max_votes` of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::{Kept, Place};
use super::rate::Cells;
use crate::config::{Count, Credit};
use crate::evidence::Votes;

/// Sessions that are open at once.
const MOST: usize = 1 << 16;
const DAY: Duration = Duration::from_secs(86_400);

/// Whose report it is, and about which prediction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    /// The unit's hash, or the prediction's own.
    pub(super) who: u64,
    /// Whether that is a unit, which may come back.
    pub(super) unit: bool,
    pub(super) bucket: u8,
    pub(super) epoch: u32,
    /// When the prediction was made, since the Unix epoch.
    pub(super) made: Duration,
}

/// What a report changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// By ranker: so much more or less credit.
    Credit(Vec<f64>),
    /// That ranker's slot was worth so much, learnt at that time; where the first or the last counts.
    Event { at: u64, ranker: usize, worth: f64 },
    /// Nobody's.
    Nothing,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It votes with its session.
    Open,
    /// Its session has closed.
    Closed,
    /// There are too many sessions.
    Full,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Session {
    unit: bool,
    bucket: u8,
    epoch: u32,
    began: Duration,
    last: Duration,
    /// By ranker.
    credit: Vec<f64>,
    event: Option<(u64, usize, f64)>,
}

/// All sessions of one model.
#[derive(Debug)]
pub(super) struct Sessions {
    /// What they are known by on disk.
    track: u32,
    open: HashMap<u64, Session>,
    voted: Cells,
    /// By epoch, then by ranker.
    votes: BTreeMap<u32, Vec<Votes>>,
    changed: HashSet<u64>,
    /// Sessions that closed since the last look, and when they began.
    over: Vec<(u64, Duration)>,
}

impl Sessions {
    /// None yet, of a model whose sessions are known so on disk.
    pub(super) fn new(track: u32) -> Self {
        Sessions {
            track,
            open: HashMap::new(),
            voted: Cells::new(DAY),
            votes: BTreeMap::new(),
            changed: HashSet::new(),
            over: Vec::new(),
        }
    }

    /// What they are known by on disk.
    pub(super) fn track(&self) -> u32 {
        self.track
    }

    /// Whether a report that comes at `now` about such a prediction votes, or would.
    pub(super) fn hears(&self, credit: &Credit, whose: &Whose, now: Duration) -> Heard {
        match self.open.get(&whose.who) {
            Some(session) if session.last + credit.session_gap > now => {
                // What is older belongs to a session before it.
                if whose.made + credit.session_gap < session.began { Heard::Closed } else { Heard::Open }
            }
            _ if whose.made + credit.session_gap <= now => Heard::Closed,
            None if self.open.len() >= MOST => Heard::Full,
            _ => Heard::Open,
        }
    }

    /// Takes what a report changes that is heard at `now`.
    pub(super) fn take(&mut self, credit: &Credit, whose: &Whose, effect: &Effect, now: Duration) {
        if self.open.get(&whose.who).is_some_and(|session| session.last + credit.session_gap <= now) {
            self.close_one(credit, whose.who, now);
        }
        let session = self.open.entry(whose.who).or_insert_with(|| Session {
            unit: whose.unit,
            bucket: whose.bucket,
            epoch: whose.epoch,
            began: whose.made,
            last: now,
            credit: Vec::new(),
            event: None,
        });
        session.last = session.last.max(now);
        match effect {
            Effect::Nothing => {}
            Effect::Credit(more) => {
                session.credit.resize(session.credit.len().max(more.len()), 0.0);
                session.credit.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
            Effect::Event { at, ranker, worth } => {
                let later = |(before, ..): (u64, usize, f64)| match credit.count {
                    Count::Last => *at >= before,
                    Count::All | Count::First => *at < before,
                };
                if session.event.is_none_or(later) {
                    session.event = Some((*at, *ranker, *worth));
                }
            }
        }
        self.changed.insert(whose.who);
    }

    /// Closes what has come to its end at `now`.
    pub(super) fn close(&mut self, credit: &Credit, now: Duration) {
        let ended = |session: &Session| session.last + credit.session_gap <= now;
        let over: Vec<u64> =
            self.open.iter().filter(|(_, session)| ended(session)).map(|(who, _)| *who).collect();
        over.into_iter().for_each(|who| self.close_one(credit, who, now));
    }

    /// Its vote falls.
    fn close_one(&mut self, credit: &Credit, who: u64, now: Duration) {
        let Some(session) = self.open.remove(&who) else { return };
        self.changed.remove(&who);
        self.over.push((who, session.began));
        if session.unit && !self.voted.take(who, credit.max_votes, now) {
            return;
        }
        let mut earned = session.credit;
        if let Some((_, ranker, worth)) = session.event {
            earned.resize(earned.len().max(ranker + 1), 0.0);
            if let Some(place) = earned.get_mut(ranker) {
                *place += worth;
            }
        }
        let bucket = session.unit.then_some(session.bucket);
        let of = |ranker: usize| earned.get(ranker).copied().unwrap_or(0.0);
        let votes = self.votes.entry(session.epoch).or_default();
        for ranker in 1..RANKERS {
            votes.resize_with(votes.len().max(ranker + 1), Votes::default);
            if let Some(votes) = votes.get_mut(ranker) {
                votes.add(of(0), of(ranker), bucket);
            }
        }
    }

    /// Votes that fell since the last look, by epoch, and then by ranker; the first, the baseline, has none.
    pub(super) fn voted(&mut self) -> BTreeMap<u32, Vec<Votes>> {
        std::mem::take(&mut self.votes)
    }

    /// What changed since the last look and must be remembered; `window`: of the feedback.
    pub(super) fn kept(&mut self, window: Duration) -> Vec<Kept> {
        let mut kept = Vec::with_capacity(self.changed.len() + self.over.len());
        let track = self.track;
        let place = |who: u64| Place { track, bin: 0, key: who >> 1 };
        // A session that closed and began anew is written last.
        for (who, began) in std::mem::take(&mut self.over) {
            kept.push(place(who).kept(began + window + DAY, Vec::new()));
        }
        for who in std::mem::take(&mut self.changed) {
            if let Some(session) = self.open.get(&who) {
                // Numbers only, so this always holds; nothing at all is read back as nothing.
                let bytes = serde_json::to_vec(&(who, session)).unwrap_or_default();
                kept.push(place(who).kept(session.began + window + DAY, bytes));
            }
        }
        kept
    }

    /// Takes back what was kept.
    pub(super) fn restore(&mut self, value: &[u8]) {
        if let Ok((who, session)) = serde_json::from_slice::<(u64, Session)>(value) {
            self.open.insert(who, session);
        }
    }
}

/// Rankers that votes are kept of.
const RANKERS: usize = crate::strategy::interleave::RANKERS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Size;
    use crate::config::{By, Weigh};

    const GAP: Duration = Duration::from_secs(1800);

    fn credit(count: Count) -> Credit {
        Credit {
            feedback: "clicks".into(),
            by: By::Slot,
            count,
            weigh: Weigh::Votes,
            at_least: None,
            session_gap: GAP,
            max_votes: 3,
            memory: Size(1 << 20),
        }
    }

    fn whose(who: u64, made: u64) -> Whose {
        Whose { who, unit: true, bucket: who as u8, epoch: 0, made: at(made) }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn tell(
        sessions: &mut Sessions,
        rules: &Credit,
        (who, made, now): (u64, u64, u64),
        effect: Effect,
    ) -> Heard {
        let whose = whose(who, made);
        let heard = sessions.hears(rules, &whose, at(now));
        if heard == Heard::Open {
            sessions.take(rules, &whose, &effect, at(now));
        }
        heard
    }

    fn votes(sessions: &mut Sessions) -> (u64, u64, u64) {
        let all = sessions.voted();
        let first = all.get(&0).and_then(|votes| votes.get(1)).cloned().unwrap_or_default();
        (first.wins, first.losses, first.ties)
    }

    #[test]
    fn a_session_has_one_vote_when_it_closes() {
        let (mut sessions, rules) = (Sessions::new(1), credit(Count::All));
        for now in [10, 20, 1_000] {
            let heard = tell(&mut sessions, &rules, (7, 5, now), Effect::Credit(vec![0.0, 1.0]));
            assert_eq!(heard, Heard::Open);
        }
        tell(&mut sessions, &rules, (8, 5, 30), Effect::Credit(vec![1.0, 0.0]));
        sessions.close(&rules, at(2_000));
        assert_eq!(votes(&mut sessions), (0, 1, 0), "one has closed, the other is open");
        sessions.close(&rules, at(2_800));
        assert_eq!(votes(&mut sessions), (1, 0, 0), "whatever it clicked on");
        assert_eq!(tell(&mut sessions, &rules, (7, 5, 2_900), Effect::Nothing), Heard::Closed);
        assert_eq!(tell(&mut sessions, &rules, (7, 2_850, 2_900), Effect::Nothing), Heard::Open);
        sessions.close(&rules, at(9_999));
        assert_eq!(votes(&mut sessions), (0, 0, 1), "somebody reported, and preferred nobody");
    }

    #[test]
    fn a_dislike_is_a_vote_against() {
        let (mut sessions, rules) = (Sessions::new(1), credit(Count::All));
        tell(&mut sessions, &rules, (7, 5, 10), Effect::Credit(vec![0.0, -1.0]));
        sessions.close(&rules, at(9_999));
        assert_eq!(votes(&mut sessions), (0, 1, 0));
    }

    #[test]
    fn the_first_or_the_last_may_count_in_whatever_order_they_come() {
        for (count, expected) in [(Count::First, (0, 1, 0)), (Count::Last, (1, 0, 0))] {
            let (mut sessions, rules) = (Sessions::new(1), credit(count));
            for (at, ranker) in [(200, 0), (300, 1), (100, 0)] {
                tell(&mut sessions, &rules, (7, 5, 10), Effect::Event { at, ranker, worth: 1.0 });
            }
            sessions.close(&rules, at(9_999));
            assert_eq!(votes(&mut sessions), expected, "{count:?}");
        }
    }

    #[test]
    fn a_unit_has_so_many_votes_a_day_and_no_more() {
        let (mut sessions, rules) = (Sessions::new(1), credit(Count::All));
        for round in 0..10 {
            let now = 100 + round * 2_000;
            tell(&mut sessions, &rules, (7, now, now), Effect::Credit(vec![0.0, 1.0]));
            sessions.close(&rules, at(now + 1_900));
        }
        assert_eq!(votes(&mut sessions), (3, 0, 0));
        let tomorrow = 86_400 + 100;
        tell(&mut sessions, &rules, (7, tomorrow, tomorrow), Effect::Credit(vec![0.0, 1.0]));
        sessions.close(&rules, at(tomorrow + 1_900));
        assert_eq!(votes(&mut sessions), (1, 0, 0));
    }

    #[test]
    fn open_sessions_outlive_the_process_and_closed_ones_do_not() {
        let (mut sessions, rules) = (Sessions::new(1), credit(Count::All));
        tell(&mut sessions, &rules, (7, 5, 10), Effect::Credit(vec![0.0, 1.0]));
        let kept = sessions.kept(at(86_400));
        assert_eq!((kept.len(), sessions.kept(at(86_400)).len()), (1, 0));
        let mut other = Sessions::new(1);
        other.restore(&kept[0].value);
        other.close(&rules, at(9_999));
        assert_eq!(votes(&mut other), (1, 0, 0));
        let gone = other.kept(at(86_400));
        assert_eq!((&gone[0].key, gone[0].expires), (&kept[0].key, kept[0].expires));
        assert!(gone[0].value.is_empty());
    }
}
