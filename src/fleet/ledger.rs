//! What the store does with what replicas say: the rule of the house, as the server's script carries it out. Pure.
//!
//! It is what simulations play with; the script is held against it at a real server, in `tests/it/fleet`. A copy of a
//! ledger is a store that was restored from an old one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exchange::{Answer, Ask, Commit, Delivered, Lease, Mark, Neighbour, Plan, Rolled, Want};

/// How long a lease holds that nobody renews, in milliseconds.
pub const LEASE: u64 = 3_000;
/// Parts that wait for whoever decides; no more are taken.
pub const MOST: u64 = 65_536;
/// Parts that are read at once.
pub const READ: u64 = 1_024;
/// Audit records that are kept, and that are read at once.
pub const RECORDS: u64 = 2_048;
/// See [`RECORDS`].
pub const TOLD: u64 = 256;

/// Everything about one rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    plan: Option<Plan>,
    parts: Vec<Delivered>,
    /// The place of the first of them.
    first: u64,
    seen: BTreeMap<Arc<str>, u64>,
    lease: Lease,
    until: u64,
    rolled: BTreeMap<u32, Rolled>,
    records: Vec<Arc<str>>,
    /// The number of the last of them: never less than anybody has read, whatever was lost.
    audits: u64,
    neighbours: BTreeMap<Arc<str>, (u64, String)>,
    blocks: BTreeMap<String, String>,
    told: Told,
}

/// Whom an exchange concerns beside the one who made it: they are told that there is something to hear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// All: another plan is there, a rollback, or nobody decides any more.
    pub everybody: bool,
    /// Whoever decides: a call failed.
    pub holder: bool,
}

impl Ledger {
    /// Who was told of the last exchange.
    pub fn told(&self) -> Told {
        self.told
    }

    /// Who holds the lease, or held it last; empty: nobody ever did.
    pub fn holder(&self) -> &str {
        &self.lease.holder
    }

    /// Of the plan.
    pub fn mark(&self) -> Mark {
        self.plan.as_ref().map_or(Mark::default(), |plan| plan.mark)
    }

    /// The plan.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Takes one exchange; `now`: milliseconds since 1970 by its own clock.
    pub fn exchange(&mut self, ask: &Ask, now: u64) -> Answer {
        self.told = Told::default();
        if let Some(plan) = &ask.refill {
            self.refill(plan);
        }
        self.audits = self.audits.max(ask.audit);
        for rolled in &ask.rolled {
            self.told.everybody |= !self.rolled.contains_key(&rolled.generation);
            self.rolled.entry(rolled.generation).or_insert_with(|| rolled.clone());
        }
        let committed = ask.commit.as_ref().is_some_and(|commit| self.commit(&ask.replica, commit));
        self.take(ask);
        self.lend(ask, now);
        if let Some(status) = &ask.status {
            self.neighbours.insert(Arc::clone(&ask.replica), (now, status.clone()));
        }
        self.answer(ask, now, committed)
    }

    /// Puts back what somebody holds, where that is newer.
    fn refill(&mut self, plan: &Plan) {
        if plan.mark > self.mark() {
            self.rebuild(plan);
            self.write(plan);
        }
    }

    fn write(&mut self, plan: &Plan) {
        self.told.everybody |= self.plan.as_ref().is_none_or(|known| known.id != plan.id);
        self.plan = Some(plan.clone());
    }

    /// Keeps only parts that follow on those which a plan rests on.
    fn rebuild(&mut self, plan: &Plan) {
        self.seen = BTreeMap::clone(&plan.absorbed);
        let seen = &mut self.seen;
        let parts = std::mem::take(&mut self.parts);
        self.first += parts.len() as u64;
        let follows = |delivered: &Delivered| {
            let known = seen.entry(Arc::clone(&delivered.replica)).or_default();
            let follows = *known == delivered.sent.from;
            *known = if follows { delivered.sent.to } else { *known };
            follows
        };
        self.parts = parts.into_iter().filter(follows).collect();
    }

    /// Puts a plan in the place of the one that it was decided from.
    fn commit(&mut self, replica: &Arc<str>, commit: &Commit) -> bool {
        if commit.fence.is_some_and(|fence| self.lease.holder != *replica || self.lease.fence != fence) {
            return false;
        }
        let id = self.plan.as_ref().map(|plan| &plan.id);
        if self.mark() == commit.plan.mark && id == Some(&commit.plan.id) {
            // It came already, and only the answer was lost.
            return true;
        }
        if self.mark() != commit.base {
            return false;
        }
        let taken = commit.taken.saturating_sub(self.first).min(self.parts.len() as u64) as usize;
        let rests = |delivered: &Delivered| delivered.sent.to <= commit.plan.has_of(&delivered.replica);
        // A store that was restored may have others in these places than were read there.
        if commit.resync || !self.parts.iter().take(taken).all(rests) {
            self.rebuild(&commit.plan);
        } else {
            self.parts.drain(..taken);
            self.first += taken as u64;
        }
        self.write(&commit.plan);
        self.records.extend(commit.record.clone());
        self.audits += u64::from(commit.record.is_some());
        for (build, why) in &commit.blocks {
            match why {
                Some(why) => self.blocks.insert(build.clone(), why.clone()),
                None => self.blocks.remove(build),
            };
        }
        true
    }

    /// Takes a part that follows the one before it.
    fn take(&mut self, ask: &Ask) {
        let Some(sent) = &ask.part else { return };
        let seen = self.seen.get(&ask.replica).copied().unwrap_or(0);
        if sent.from == seen && (self.parts.len() as u64) < MOST {
            self.seen.insert(Arc::clone(&ask.replica), sent.to);
            self.parts.push(Delivered { replica: Arc::clone(&ask.replica), sent: sent.clone() });
            let holder = &self.lease.holder;
            self.told.holder = ask.urgent && !holder.is_empty() && *holder != ask.replica;
        }
    }

    fn lend(&mut self, ask: &Ask, now: u64) {
        let own = self.lease.holder == ask.replica;
        match ask.want {
            Want::Lease if own => self.until = now + LEASE,
            Want::Lease if self.until <= now => {
                self.lease = Lease { holder: Arc::clone(&ask.replica), fence: self.lease.fence + 1 };
                self.until = now + LEASE;
            }
            Want::Release if own => {
                self.until = 0;
                self.told.everybody = true;
            }
            Want::Lease | Want::Release | Want::Nothing => {}
        }
    }

    fn answer(&self, ask: &Ask, now: u64, committed: bool) -> Answer {
        let plan = self.plan.as_ref().filter(|plan| ask.fresh || plan.id != ask.held);
        let leads = self.lease.holder == ask.replica && self.until > now;
        let read = ask.read.filter(|_| leads);
        let begin = read.map_or(0, |read| read.saturating_sub(self.first).min(self.parts.len() as u64));
        let parts = self.parts.iter().skip(begin as usize).take(READ as usize).filter(|_| read.is_some());
        let new = self.audits - ask.audit.max(self.audits.saturating_sub(TOLD));
        let new = new.min(self.records.len() as u64);
        let records = &self.records[self.records.len() - new as usize..];
        let records = (self.audits - new + 1..).zip(records);
        let neighbours = self.neighbours.iter().filter(|_| ask.census);
        Answer {
            now,
            mark: self.mark(),
            plan: plan.cloned(),
            seen: self.seen.get(&ask.replica).copied().unwrap_or(0),
            lease: match self.until > now {
                true => self.lease.clone(),
                false => Lease { holder: Arc::from(""), fence: self.lease.fence },
            },
            committed,
            first: self.first + begin,
            parts: parts.cloned().collect(),
            rolled: self.rolled.values().cloned().collect(),
            records: records.map(|(number, record)| (number, Arc::clone(record))).collect(),
            neighbours: neighbours
                .map(|(replica, (at, status))| Neighbour {
                    replica: Arc::clone(replica),
                    at: *at,
                    status: status.clone(),
                })
                .collect(),
            blocks: match ask.blocks {
                true => self.blocks.clone().into_iter().collect(),
                false => Vec::new(),
            },
            sees: match ask.census && read.is_some() {
                true => self.seen.clone().into_iter().collect(),
                false => Vec::new(),
            },
        }
    }
}
