//! One replica of a rollout: what it says next, and what it makes of an answer or of none. Pure: time comes in, nothing
//! goes out but values.
//!
//! It keeps every part of its own evidence until a plan that it holds rests on it, by number, so that whatever the store
//! lost can be told again. While an exchange is in doubt, for no answer came, the same part is said again as it was, and
//! what comes meanwhile waits in one further part: so there is never more to keep than a few, however long it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exchange::{Answer, Ask, Commit, Mark, Plan, Rolled, Want};
use super::ledger::READ;
use super::part::Part;

mod lead;
mod own;

use lead::Lead;
use own::Own;

/// Without an answer for so long a replica takes itself for parted, and its own guards act.
pub const PARTED: Duration = Duration::from_secs(3);
/// How often it tells of itself; and how often it asks who else there is, where it decides or somebody wants to know.
const STATUS: Duration = Duration::from_secs(5);
/// How often it asks so else, for each that there is: what all are told of all must not grow with their square.
const CENSUS: Duration = Duration::from_millis(500);
/// How long all but failures waits, at least: somewhat less than the second between two turns.
const WHOLE: Duration = Duration::from_millis(900);
/// How often the evidence behind a plan is written down where nothing is decided.
const BEAT: Duration = Duration::from_secs(10);
/// Parts in the store at which that is done at once, and how many of each replica where that is more.
const CROWDED: u64 = 1024;
const CROWDED_EACH: u64 = 2;
/// Replicas that a plan remembers; beyond it those that are gone are forgotten.
const MANY: usize = 4_096;

/// One replica's place in one rollout.
#[derive(Debug, Clone)]
pub struct Member {
    name: Arc<str>,
    plan: Option<Plan>,
    own: Own,
    lead: Option<Lead>,
    proposal: Option<Commit>,
    /// What any replica rolled back alone; it only grows.
    rolled: BTreeMap<u32, Rolled>,
    /// Those of it that the store is known to have.
    told: Vec<u32>,
    began: Duration,
    answered: Option<Duration>,
    /// The store's clock less this replica's, in milliseconds.
    skew: i64,
    /// Fleet time never goes back.
    latest: Duration,
    holder: Arc<str>,
    status: Option<String>,
    said: Option<Duration>,
    /// When it was last told of the others, how many they were, and whether somebody wants to know again.
    counted: Option<Duration>,
    others: u32,
    curious: bool,
    /// When all that it had was last said.
    whole: Option<Duration>,
    fresh: bool,
    audit: u64,
    ends: bool,
    /// Parts that no plan will rest on, for nobody knows any more which they are.
    lost: u64,
}

/// What is kept on the replica's own disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The plan that was served last.
    pub plan: Option<Plan>,
    /// What was rolled back.
    pub rolled: Vec<Rolled>,
    /// Audit records that were read, by number.
    #[serde(default)]
    pub audit: u64,
}

/// A change that is to be everybody's.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Where the rollout stands then.
    pub saved: Arc<str>,
    /// One try of the candidate.
    pub generation: u32,
    /// Whether it is rolled back.
    pub rolled_back: bool,
    /// Whether all are to serve it; else only evidence was added.
    pub serves: bool,
    /// Of a decision.
    pub record: Option<Arc<str>>,
    /// Builds that are blocked, with why, or let go.
    pub blocks: Vec<(String, Option<String>)>,
}

/// What follows from an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// Serve this from now on.
    pub adopt: Option<Plan>,
    /// Nobody has a plan, and this replica may make the first: propose one.
    pub begin: bool,
    /// This replica decides from now on, and from here.
    pub lead: Option<Plan>,
    /// What it is to decide on beside.
    pub absorb: Vec<Part>,
    /// It decides no longer.
    pub deposed: bool,
    /// What was proposed holds, or does not.
    pub committed: Option<bool>,
    /// Records of decisions that are new here.
    pub records: Vec<Arc<str>>,
    /// What is blocked, where that was asked.
    pub blocks: Vec<(String, String)>,
    /// There is more to say at once.
    pub again: bool,
    /// The store's plan is older than the one that is held: give it that one, by [`Member::refill`].
    pub refill: bool,
}

impl Member {
    /// A replica whose `name` no other process ever has; `kept`: what an earlier process left.
    pub fn new(name: Arc<str>, kept: Kept, now: Duration) -> Self {
        let rolled: BTreeMap<u32, Rolled> =
            kept.rolled.into_iter().map(|rolled| (rolled.generation, rolled)).collect();
        Member {
            name,
            plan: kept.plan,
            own: Own::default(),
            lead: None,
            proposal: None,
            rolled,
            told: Vec::new(),
            began: now,
            answered: None,
            skew: 0,
            latest: Duration::ZERO,
            holder: Arc::from(""),
            status: None,
            said: None,
            counted: None,
            others: 0,
            curious: false,
            whole: None,
            fresh: false,
            audit: kept.audit,
            ends: false,
            lost: 0,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The plan that it holds.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What belongs on the replica's own disk.
    pub fn kept(&self) -> Kept {
        Kept { plan: self.plan.clone(), rolled: self.rolled.values().cloned().collect(), audit: self.audit }
    }

    /// Who decides, as far as it is known; empty: nobody.
    pub fn holder(&self) -> &Arc<str> {
        &self.holder
    }

    /// Whether it is this one.
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    /// How long no answer has come.
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.answered.unwrap_or(self.began))
    }

    /// Whether any answer ever came.
    pub fn was_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Whether it takes itself for parted from the others.
    pub fn parted(&self, now: Duration) -> bool {
        self.silence(now) > PARTED
    }

    /// The store's clock less this replica's, in milliseconds.
    pub fn skew(&self) -> i64 {
        self.skew
    }

    /// Parts of its own that the store is not known to have.
    pub fn waiting(&self) -> u64 {
        self.own.last - self.own.taken.min(self.own.last) + u64::from(!self.own.open.is_empty())
    }

    /// Parts that will never count.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Why the generation that it serves was rolled back by somebody alone, where it was and the plan does not say so.
    pub fn rolled(&self) -> Option<&Rolled> {
        let plan = self.plan.as_ref().filter(|plan| !plan.rolled_back)?;
        self.rolled.get(&plan.generation)
    }

    /// The same of the plan that it decides from.
    pub fn must_roll_back(&self) -> Option<&Rolled> {
        let lead = self.lead.as_ref().filter(|lead| !lead.rolled_back)?;
        self.rolled.get(&lead.generation)
    }

    /// The time that all replicas go by, whatever their own clocks say. It never goes back.
    pub fn time(&mut self, now: Duration) -> Duration {
        let skew = Duration::from_millis(self.skew.unsigned_abs());
        let time = if self.skew < 0 { now.saturating_sub(skew) } else { now + skew };
        self.latest = self.latest.max(time);
        self.latest
    }

    /// Adds to its evidence.
    pub fn gained(&mut self, add: impl FnOnce(&mut Part)) {
        add(&mut self.own.open);
    }

    /// Whoever decides should hear at once of what was gained, for a call failed.
    pub fn press(&mut self) {
        self.own.urgent = true;
    }

    /// Whether whoever decides should hear at once of what was not said yet.
    pub fn is_urgent(&self) -> bool {
        self.own.urgent
    }

    /// What it has shown that the plan it holds does not rest on.
    pub fn beyond(&self, plan: &Plan) -> Part {
        let has = plan.has_of(&self.name);
        let mut all = Part::default();
        let own = self.own.parts.iter().filter(|numbered| numbered.from >= has);
        own.for_each(|numbered| all.merge(&numbered.part));
        all.merge(&self.own.open);
        all
    }

    /// What others shall know of it.
    pub fn set_status(&mut self, status: String) {
        self.status = Some(status);
    }

    /// Asks for the newest plan with the next exchange, whichever it serves, and for all others.
    pub fn refresh(&mut self) {
        self.fresh = true;
        self.curious = true;
    }

    /// Whether it is to ask for the others.
    fn counts(&self, now: Duration) -> bool {
        let soon = self.curious || self.lead.is_some();
        let often = if soon { STATUS } else { STATUS.max(CENSUS * self.others) };
        self.counted.is_none_or(|counted| now.saturating_sub(counted) >= often)
    }

    /// Lets the lease go with the next exchange.
    pub fn end(&mut self) {
        self.ends = true;
    }

    /// Rolls back alone what it serves.
    pub fn roll_back(&mut self, why: String) {
        let Some(plan) = &self.plan else { return };
        let rolled = Rolled { generation: plan.generation, replica: Arc::clone(&self.name), why };
        self.rolled.entry(plan.generation).or_insert(rolled);
    }

    /// Decides no longer; what it proposed stays on its way.
    pub fn depose(&mut self) {
        self.lead = None;
    }

    /// Whether a proposal is on its way.
    pub fn is_proposing(&self) -> bool {
        self.proposal.is_some()
    }

    /// Takes a proposal back; whether the store has it already nobody knows.
    pub fn withdraw(&mut self) {
        self.proposal = None;
        self.lead = None;
    }

    /// Whether it decides, and the store lost parts that it has read.
    pub fn is_astray(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.astray)
    }

    /// Whether the evidence should be written down though nothing was decided.
    pub fn is_due(&self, now: Duration) -> bool {
        let most = |lead: &Lead| CROWDED.max(CROWDED_EACH * lead.absorbed.len() as u64);
        let crowded = |lead: &Lead| lead.next - lead.written > most(lead);
        let old = |lead: &Lead| now.saturating_sub(lead.beat) >= BEAT;
        let due = |lead: &Lead| lead.astray || lead.gained && (old(lead) || crowded(lead));
        self.proposal.is_none() && self.lead.as_ref().is_some_and(due)
    }

    /// Proposes what comes after the plan that it decides from, or, for a person, after the one that it holds.
    pub fn propose(&mut self, proposal: Proposal, now: Duration) {
        let Proposal { saved, generation, rolled_back, serves: decides, record, blocks } = proposal;
        let resync = self.lead.as_ref().is_some_and(|lead| lead.astray);
        let (base, id, absorbed, fence, taken) = match (&mut self.lead, &self.plan) {
            (Some(lead), _) => {
                (lead.gained, lead.written, lead.beat) = (false, lead.next, now);
                let absorbed = Arc::new(lead.absorbed.clone());
                (lead.mark, Arc::clone(&lead.id), absorbed, Some(lead.fence), lead.next)
            }
            (None, Some(plan)) => (plan.mark, Arc::clone(&plan.id), Arc::clone(&plan.absorbed), None, 0),
            (None, None) => (Mark::default(), Arc::from(""), Arc::default(), None, 0),
        };
        let first = base == Mark::default();
        let mark = Mark { version: base.version + u64::from(decides || first), beat: base.beat + 1 };
        let id = match decides || first {
            true => format!("{}/{}/{}", self.name, mark.version, now.as_millis()).into(),
            false => id,
        };
        let plan = Plan { mark, id, generation, rolled_back, saved, absorbed };
        self.proposal = Some(Commit { base, fence, plan, taken, resync, record, blocks });
    }

    /// What it says now.
    pub fn ask(&mut self, now: Duration) -> Ask {
        // What is urgent are failures. All else need not be told more than once a second.
        let hurries = self.own.urgent && !self.ends;
        let counts = hurries && self.whole.is_some_and(|whole| now.saturating_sub(whole) < WHOLE);
        self.whole = if counts { self.whole } else { Some(now) };
        let part = self.own.next(counts);
        let untold = self.rolled.values().filter(|rolled| !self.told.contains(&rolled.generation));
        let tells = self.said.is_none_or(|said| now.saturating_sub(said) >= STATUS);
        let want = match self.ends {
            true => Want::Release,
            false => Want::Lease,
        };
        Ask {
            replica: Arc::clone(&self.name),
            held: self.plan.as_ref().map_or_else(|| Arc::from(""), |plan| Arc::clone(&plan.id)),
            fresh: self.fresh,
            urgent: part.is_some() && self.own.pressing,
            part,
            want,
            read: self.lead.as_ref().map(|lead| lead.next),
            commit: self.proposal.clone(),
            refill: None,
            rolled: untold.cloned().collect(),
            status: self.status.clone().filter(|_| tells),
            census: self.counts(now),
            blocks: self.plan.is_none(),
            audit: self.audit,
        }
    }

    /// What it says to a store whose plan is older than the one it holds.
    pub fn refill(&mut self, now: Duration) -> Ask {
        Ask { refill: self.plan.clone(), commit: None, ..self.ask(now) }
    }

    /// No answer came.
    pub fn unheard(&mut self) {
        self.own.doubt = self.own.last > self.own.taken;
    }

    /// Takes an answer in; `now`: this replica's clock, in the middle between question and answer.
    pub fn hear(&mut self, answer: Answer, now: Duration) -> Heard {
        let mut heard = Heard::default();
        if self.answered.replace(now).is_none() {
            // Until now it went by its own clock.
            self.latest = Duration::ZERO;
        }
        let ours = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.skew = i64::try_from(answer.now).unwrap_or(i64::MAX).saturating_sub(ours);
        if self.status.is_some() && self.said.is_none_or(|said| now.saturating_sub(said) >= STATUS) {
            self.said = Some(now);
        }
        if !answer.neighbours.is_empty() {
            (self.counted, self.curious) = (Some(now), false);
            self.others = u32::try_from(answer.neighbours.len()).unwrap_or(u32::MAX);
        }
        self.note_rolled(&answer.rolled);
        self.holder = Arc::clone(&answer.lease.holder);
        for (number, record) in &answer.records {
            if *number > self.audit {
                self.audit = *number;
                heard.records.push(Arc::clone(record));
            }
        }
        heard.blocks = answer.blocks.clone();
        if let Some(lead) = &mut self.lead
            && !answer.neighbours.is_empty()
            && lead.absorbed.len() > MANY
        {
            // Of those that are gone nobody tells again what they showed.
            let here = |name: &Arc<str>| answer.neighbours.iter().any(|one| one.replica == *name);
            lead.absorbed.retain(|name, _| here(name));
        }
        self.settle(&answer, now, &mut heard);
        self.take_plan(&answer, &mut heard);
        if !heard.refill {
            // What a store has that lost its plan says nothing: it will be told again.
            self.lost += self.own.taken_until(answer.seen);
        }
        self.take_lease(&answer, now, &mut heard);
        heard
    }

    /// What became of a proposal.
    fn settle(&mut self, answer: &Answer, now: Duration, heard: &mut Heard) {
        let Some(proposal) = self.proposal.take() else { return };
        heard.committed = Some(answer.committed);
        if !answer.committed {
            heard.deposed |= self.lead.take().is_some();
            self.fresh = true;
            return;
        }
        let Commit { plan, resync, .. } = proposal;
        if let Some(lead) = &mut self.lead {
            if resync {
                (lead.astray, lead.next, lead.written) = (false, 0, 0);
            }
            lead.mark = plan.mark;
            lead.id = Arc::clone(&plan.id);
            (lead.generation, lead.rolled_back) = (plan.generation, plan.rolled_back);
            lead.beat = now;
        }
        let new = self.plan.as_ref().is_none_or(|held| held.id != plan.id);
        self.hold(&plan);
        heard.adopt = new.then_some(plan);
    }

    /// Holds the store's plan, unless its own is newer.
    fn take_plan(&mut self, answer: &Answer, heard: &mut Heard) {
        let held = self.plan.as_ref().map_or(Mark::default(), |plan| plan.mark);
        if held > answer.mark {
            // The store lost what it had: it is told again, beside all parts that the plan lacks.
            heard.refill = true;
            heard.deposed |= self.lead.take().is_some();
            return;
        }
        if let Some(plan) = answer.plan.as_ref().filter(|plan| plan.mark == answer.mark) {
            let known = self.plan.as_ref().is_some_and(|held| held.id == plan.id && !self.fresh);
            if !known {
                self.hold(plan);
                heard.adopt = Some(plan.clone());
            }
            self.fresh = false;
        }
    }

    fn hold(&mut self, plan: &Plan) {
        self.own.hold(&plan.id, plan.has_of(&self.name));
        self.plan = Some(plan.clone());
    }

    /// Decides, or does so no longer.
    fn take_lease(&mut self, answer: &Answer, now: Duration, heard: &mut Heard) {
        if answer.lease.holder != self.name || self.ends || heard.refill {
            heard.deposed |= self.lead.take().is_some();
            return;
        }
        if answer.mark == Mark::default() {
            heard.begin = self.plan.is_none() && self.proposal.is_none();
            return;
        }
        if let Some(lead) = &mut self.lead {
            if lead.fence == answer.lease.fence && lead.mark == answer.mark {
                heard.absorb = lead.read(answer);
                // There may be more of them.
                heard.again = answer.parts.len() as u64 >= READ;
                return;
            }
            // Somebody decided beside, or the store forgot: begin again from what stands there.
            self.lead = None;
            heard.deposed = true;
        }
        let newest = self.plan.as_ref().filter(|plan| plan.mark == answer.mark && answer.plan.is_some());
        let Some(plan) = newest.cloned() else {
            self.fresh = true;
            heard.again = true;
            return;
        };
        self.lead = Some(Lead {
            fence: answer.lease.fence,
            mark: plan.mark,
            id: Arc::clone(&plan.id),
            generation: plan.generation,
            rolled_back: plan.rolled_back,
            absorbed: BTreeMap::clone(&plan.absorbed),
            next: 0,
            gained: false,
            written: 0,
            beat: now,
            astray: false,
        });
        heard.lead = Some(plan);
        heard.again = true;
    }

    /// What was rolled back anywhere is so for ever.
    fn note_rolled(&mut self, rolled: &[Rolled]) {
        for rolled in rolled {
            self.rolled.entry(rolled.generation).or_insert_with(|| rolled.clone());
        }
        self.told = rolled.iter().map(|rolled| rolled.generation).collect();
    }
}

#[cfg(test)]
mod tests;
