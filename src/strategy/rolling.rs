//! A variant's servers replaced in place, a batch of endpoints at a time, while the others answer.
//!
//! Waiting until the servers say what they run → running → promoted. Each batch is cordoned (no new call), drained,
//! replaced by whoever runs the servers, seen to run the new version, warmed and readmitted; then the next. No batch
//! is cordoned unless `min_ready` others are ready, so fewer serve only when servers fail by themselves. What goes
//! wrong stops it, and walks it back the same way. All that is remembered is plain data: a restart goes on where it
//! was.
//!
//! What replaced servers answer is judged by fixed limits, all of them together: they run one version. A batch begins
//! only when those before have served for `hold`, so that a version which fails has shown it by then.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Standing;
use crate::config::units::rough_duration;
use crate::config::{OnFail, Rolling};
use crate::evidence::Gain;
use crate::strategy::limits::{Evidence, failing};
use crate::verdict::{Action, Change, Finding, State};

mod command;
mod member;
mod telling;

use member::Member;
pub use member::{Place, Seen};

/// A cordon reaches every worker long before this: no endpoint counts as drained earlier.
const SETTLE: Duration = Duration::from_millis(200);
/// A server that is not ready for so long is gone.
const GONE: Duration = Duration::from_secs(5);

/// Everything one rolling update remembers. `now` is always the time since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    state: State,
    /// The file's version.
    to: Arc<str>,
    /// What servers ran before, as the first of them said.
    from: Option<Arc<str>>,
    /// Whether it walks back.
    back: bool,
    /// Whether it has walked back all the way.
    restored: bool,
    /// When it came to be as it is.
    entered: Duration,
    /// When somebody last let it go on: no wait is longer than since then.
    resumed: Duration,
    members: Vec<Member>,
    /// What the replaced servers have answered, on the way forward.
    #[serde(default)]
    evidence: Evidence,
    /// When an endpoint last got calls again.
    #[serde(default)]
    readmitted: Option<Duration>,
    /// Why the file's version may replace nothing, where it was rolled back before.
    #[serde(default)]
    blocked: Option<String>,
}

/// How one endpoint stands, for a status page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// `host:port` or `unix:/path`.
    pub address: Arc<str>,
    /// Where it is on its way.
    pub place: Place,
    /// Whether it is ready.
    pub ready: bool,
    /// What its server runs, as far as that is known.
    pub runs: Option<Arc<str>>,
    /// What its server is to be replaced by; none where it may stay.
    pub wanted: Option<Arc<str>>,
    /// Calls under way there.
    pub in_flight: u64,
}

impl Progress {
    /// Nothing is known of the servers yet.
    pub fn begin(rolling: &Rolling, now: Duration) -> Self {
        Progress {
            state: State::Waiting,
            to: Arc::clone(&rolling.version),
            from: None,
            back: false,
            restored: false,
            entered: now,
            resumed: now,
            members: Vec::new(),
            evidence: Evidence::default(),
            readmitted: None,
            blocked: None,
        }
    }

    /// The file's version was rolled back before: it replaces nothing, and what it replaced goes back, until a person
    /// lets it.
    pub fn block(&mut self, why: String) {
        (self.state, self.back, self.blocked) = (State::RolledBack, true, Some(why));
    }

    /// Takes over what `before`, the update of an earlier file, knew of the same servers: which are drained, and what
    /// each runs.
    pub fn inherit(&mut self, before: &Progress) {
        if before.to == self.to {
            (self.state, self.back, self.restored) = (before.state, before.back, before.restored);
            self.from.clone_from(&before.from);
            self.blocked = self.blocked.take().or_else(|| before.blocked.clone());
        }
        self.members.clone_from(&before.members);
        for (place, member) in self.members.iter_mut().enumerate() {
            member.restart(before.wanted(place), self.entered);
        }
    }

    /// Takes the servers for running `version`, where nothing else is known of them.
    pub fn suppose(&mut self, addresses: impl Iterator<Item = Arc<str>>, version: &Arc<str>) {
        if self.members.is_empty() {
            self.members = addresses.map(|address| Member::new(address, Some(Arc::clone(version)))).collect();
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the call path must know: which endpoints get calls is told to those who choose among them.
    pub fn standing(&self) -> Standing {
        Standing::CONFIGURED
    }

    /// The endpoints that shall get no new calls.
    pub fn cordoned(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().filter(|member| !member.serves()).map(|member| &member.address)
    }

    /// The endpoints that must be warm before they are readmitted.
    pub fn warms(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().filter(|member| member.warms()).map(|member| &member.address)
    }

    /// Whether what replaced servers answer is judged now.
    pub fn is_judged(&self, rolling: &Rolling) -> bool {
        let forward = matches!(self.state, State::Running | State::Paused | State::Held) && !self.back;
        forward && rolling.guards.count() > 0
    }

    /// Adds what calls of servers showed that run the file's version.
    pub fn absorb(&mut self, rolling: &Rolling, gain: &Gain) {
        if let Some(arm) = gain.arms.get(rolling.variant).filter(|_| self.is_judged(rolling)) {
            self.evidence.add(&rolling.guards, arm);
        }
    }

    /// Takes in how the endpoints are, all of them, in the order of the file.
    pub fn observe(&mut self, rolling: &Rolling, seen: &[Seen], now: Duration) {
        let known = std::mem::take(&mut self.members);
        self.members = seen
            .iter()
            .map(|seen| {
                let same = known.iter().find(|member| member.address == seen.address);
                same.cloned().unwrap_or_else(|| Member::new(Arc::clone(&seen.address), None))
            })
            .collect();
        for (place, seen) in seen.iter().enumerate() {
            let wanted = self.wanted(place);
            if let Some(member) = self.members.get_mut(place) {
                member.observe(rolling, seen, wanted.as_ref(), now);
            }
        }
    }

    /// Moves by one, where that is due.
    pub fn look(&mut self, rolling: &Rolling, now: Duration) -> Option<Change> {
        let change = self.step(rolling, now)?;
        Some(self.proven(rolling, change))
    }

    fn step(&mut self, rolling: &Rolling, now: Duration) -> Option<Change> {
        match self.state {
            State::Waiting => self.start(now),
            State::RolledBack if self.from.is_none() => {
                self.find_way_back();
                None
            }
            State::Running | State::Paused | State::Held | State::RolledBack => self
                .advance(rolling, now)
                .or_else(|| self.fault(rolling, now).and_then(|why| self.fail(rolling, why, now)))
                .or_else(|| self.complete(rolling, now))
                .or_else(|| self.cordon(rolling, now)),
            _ => None,
        }
    }

    fn start(&mut self, now: Duration) -> Option<Change> {
        let (to, total) = (Arc::clone(&self.to), self.members.len());
        let other = self.members.iter().filter_map(|member| member.runs.clone()).find(|runs| *runs != to);
        if let Some(from) = other {
            let done = self.done();
            let why =
                format!("{done} of {total} endpoints run version {to}: the others, of {from}, are replaced");
            self.from = Some(from);
            self.entered = now;
            self.resumed = now;
            return Some(self.change(Action::Began, State::Running, why));
        }
        if total == 0 || self.members.iter().any(|member| member.runs.is_none()) {
            return None;
        }
        self.entered = now;
        let why = format!("every endpoint runs version {to} already");
        Some(self.change(Action::Settled, State::Steady, why))
    }

    /// Where to go back to, for a version that may replace nothing: what any server runs but that.
    fn find_way_back(&mut self) {
        let others = || self.members.iter().filter_map(|member| member.runs.as_ref());
        self.from = others().find(|runs| **runs != self.to).cloned();
        // Where it replaced none there is nothing to undo.
        self.restored =
            self.from.is_some() && others().count() == others().filter(|runs| **runs != self.to).count();
    }

    /// The next thing that is due of those endpoints that are on their way.
    fn advance(&mut self, rolling: &Rolling, now: Duration) -> Option<Change> {
        let short = self.serving() < rolling.min_ready;
        let from = self.state;
        for place in 0..self.members.len() {
            let wanted = self.wanted(place);
            let member = self.members.get_mut(place)?;
            if let Some((action, why)) = member.advance(rolling, short, wanted.as_ref(), now) {
                if action == Action::Readmitted {
                    self.readmitted = Some(now);
                }
                return Some(self.change(action, from, why));
            }
        }
        None
    }

    /// Whether the last batch has served for long enough.
    fn has_held(&self, rolling: &Rolling, now: Duration) -> bool {
        self.back || self.readmitted.is_none_or(|since| now.saturating_sub(since) >= rolling.hold)
    }

    /// What has gone wrong, as far as that stops it.
    fn fault(&self, rolling: &Rolling, now: Duration) -> Option<String> {
        if !matches!(self.state, State::Running | State::Paused) {
            return None;
        }
        if let Some(failed) = failing(&self.evidence.findings(&rolling.guards, rolling.alpha)) {
            return Some(format!("what runs version {} breaks its limit: {failed}", self.to));
        }
        let patience = (self.state == State::Running).then_some(self.resumed);
        let to = &self.to;
        self.members.iter().find_map(|member| {
            let address = &member.address;
            if member.serves() && member.runs.as_ref() == Some(to) && member.gone_for(now) >= GONE {
                return Some(format!("{address}, replaced by version {to}, is not ready any more"));
            }
            member.fault(rolling, to, patience, now)
        })
    }

    fn fail(&mut self, rolling: &Rolling, why: String, now: Duration) -> Option<Change> {
        self.entered = now;
        if rolling.on_fail == OnFail::Hold {
            return Some(self.change(Action::Held, State::Held, why));
        }
        Some(self.turn_back(why, now))
    }

    /// What is drained and untouched is readmitted by the next look; the rest is replaced again.
    fn turn_back(&mut self, why: String, now: Duration) -> Change {
        self.direct(true, now);
        self.change(Action::RolledBack, State::RolledBack, why)
    }

    /// Forward, or back.
    fn direct(&mut self, back: bool, now: Duration) {
        let wanted: Vec<Option<Arc<str>>> = (0..self.members.len()).map(|place| self.wanted(place)).collect();
        (self.back, self.restored, self.entered, self.resumed) = (back, false, now, now);
        (self.readmitted, self.blocked) = (None, None);
        if !back {
            self.evidence = Evidence::default();
        }
        for (member, wanted) in self.members.iter_mut().zip(wanted) {
            member.restart(wanted, now);
        }
    }

    /// All are where they should be.
    fn complete(&mut self, rolling: &Rolling, now: Duration) -> Option<Change> {
        let all = self.members.iter().all(Member::serves) && self.done() == self.members.len();
        if !all || self.members.is_empty() || self.restored || !self.has_held(rolling, now) {
            return None;
        }
        self.restored = self.back;
        self.entered = now;
        let wanted = self.wanted(0);
        let version = wanted.as_deref().unwrap_or_default();
        let why = format!("every endpoint runs version {version}");
        Some(match self.back {
            true => self.change(Action::Restored, State::RolledBack, format!("{why} again")),
            false => self.change(Action::Promoted, State::Promoted, why),
        })
    }

    /// Begins the next batch, as far as enough others serve.
    fn cordon(&mut self, rolling: &Rolling, now: Duration) -> Option<Change> {
        if !matches!(self.state, State::Running | State::RolledBack)
            || self.members.iter().any(|member| !member.serves())
            || !self.has_held(rolling, now)
        {
            return None;
        }
        let mut serving = self.serving();
        let mut places: Vec<usize> =
            (0..self.members.len()).filter(|place| self.is_due(*place, now)).collect();
        // What serves nobody goes first, for it costs nothing.
        places.sort_by_key(|place| self.members.get(*place).is_some_and(Member::is_serving));
        let mut batch: Vec<Arc<str>> = Vec::new();
        for place in places {
            let Some(member) = self.members.get_mut(place) else { continue };
            let cost = usize::from(member.is_serving());
            if batch.len() >= rolling.batch || serving < rolling.min_ready + cost {
                continue;
            }
            serving -= cost;
            member.cordon(now);
            batch.push(Arc::clone(&member.address));
        }
        if batch.is_empty() {
            return None;
        }
        let wanted = if self.back { self.from.as_ref() } else { Some(&self.to) };
        let why = format!(
            "no new calls for {}, which version {} is to replace; {serving} others serve",
            batch.join(", "),
            wanted.map_or("", |version| version),
        );
        let state = self.state;
        Some(self.change(Action::Cordoned, state, why))
    }

    /// Whether that endpoint has yet to be replaced, and it is known enough of it for that.
    fn is_due(&self, place: usize, now: Duration) -> bool {
        let Some(member) = self.members.get(place) else { return false };
        let known = member.runs.is_some() || member.gone_for(now) >= GONE;
        known && member.runs != self.wanted(place)
    }

    /// What that endpoint's server shall run.
    fn wanted(&self, place: usize) -> Option<Arc<str>> {
        if !self.back {
            return Some(Arc::clone(&self.to));
        }
        let before = self.members.get(place).and_then(|member| member.before.clone());
        before.filter(|before| *before != self.to).or_else(|| self.from.clone())
    }

    /// Endpoints whose server runs what it shall.
    fn done(&self) -> usize {
        let places = 0..self.members.len();
        places
            .filter(|place| self.members.get(*place).is_some_and(|member| member.runs == self.wanted(*place)))
            .count()
    }

    /// Endpoints that are ready and get calls.
    fn serving(&self) -> usize {
        self.members.iter().filter(|member| member.is_serving()).count()
    }

    /// With what the guards found, where something is decided.
    fn proven(&self, rolling: &Rolling, change: Change) -> Change {
        let decided = matches!(change.action, Action::Promoted | Action::RolledBack | Action::Held);
        Change { findings: if decided { self.findings(rolling) } else { Vec::new() }, ..change }
    }

    /// What the guards found, once an update has begun.
    fn findings(&self, rolling: &Rolling) -> Vec<Finding> {
        if self.from.is_none() {
            return Vec::new();
        }
        self.evidence.findings(&rolling.guards, rolling.alpha)
    }

    fn change(&mut self, action: Action, to: State, why: String) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        let new = self.members.iter().filter(|member| member.runs.as_ref() == Some(&self.to)).count();
        #[expect(clippy::cast_precision_loss, reason = "a number of endpoints")]
        let share = new as f64 / self.members.len().max(1) as f64;
        let step = u32::try_from(self.done()).ok();
        Change { action, why, from, to, step, share, variants: Vec::new(), findings: Vec::new() }
    }
}

/// How long ago, for people.
fn ago(since: Duration, now: Duration) -> String {
    rough_duration(now.saturating_sub(since))
}

#[cfg(test)]
mod tests;
