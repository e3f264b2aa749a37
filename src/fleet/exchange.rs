//! What a replica says to the store and what it hears there: plain data. One exchange is one round trip, and one step
//! that no other replica comes between.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How far a plan is: decisions first, then how often the evidence behind it was written down. Greater is newer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Counts decisions, from 1; 0: there is no plan.
    pub version: u64,
    /// Counts everything that was ever written.
    pub beat: u64,
}

/// What all replicas serve, with what the next decision goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How far it is.
    pub mark: Mark,
    /// Names its decision. Where a store lost what it had a version may be given again: the names differ.
    pub id: Arc<str>,
    /// One try of the candidate: what a rollback ends for good.
    pub generation: u32,
    /// Whether that try was rolled back.
    pub rolled_back: bool,
    /// Where the rollout stands, as it is written down.
    pub saved: Arc<str>,
    /// The last part of each replica that it rests on.
    pub absorbed: Arc<BTreeMap<Arc<str>, u64>>,
}

impl Plan {
    /// The last part of that replica that it rests on; 0: none.
    pub fn has_of(&self, replica: &str) -> u64 {
        self.absorbed.get(replica).copied().unwrap_or(0)
    }
}

/// One replica's part on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The number of the part before it.
    pub from: u64,
    /// Its own.
    pub to: u64,
    /// A [`Part`](super::Part) as JSON.
    pub text: String,
}

/// A part of somebody, as the store had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Whose.
    pub replica: Arc<str>,
    /// Which.
    pub sent: Sent,
}

/// A plan that is to take the place of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// What it was decided from; nothing is written where the store has another.
    pub base: Mark,
    /// The right to decide; none: a person decided, and needs none.
    pub fence: Option<u64>,
    /// The new one.
    pub plan: Plan,
    /// Parts before this place are in it, and need not be kept.
    pub taken: u64,
    /// Parts came that follow on none that it rests on, for the store lost some: each replica is to tell again what comes
    /// after those that are in it.
    pub resync: bool,
    /// The audit record of the decision; none: only evidence was added.
    pub record: Option<Arc<str>>,
    /// Builds that it blocks, with why, or lets go.
    pub blocks: Vec<(String, Option<String>)>,
}

/// A generation that a replica rolled back by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolled {
    /// Which.
    pub generation: u32,
    /// Who.
    pub replica: Arc<str>,
    /// Why, in words.
    pub why: String,
}

/// What becomes of the lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Want {
    /// Not for this replica: it cannot decide.
    #[default]
    Nothing,
    /// It would hold it, or goes on holding it.
    Lease,
    /// It ends, and lets it go.
    Release,
}

/// What a replica says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// Who.
    pub replica: Arc<str>,
    /// The name of the decision that it serves; empty: none.
    pub held: Arc<str>,
    /// Whether it wants the plan even so.
    pub fresh: bool,
    /// What its calls showed.
    pub part: Option<Sent>,
    /// Whether whoever decides should look at once.
    pub urgent: bool,
    /// About the lease.
    pub want: Want,
    /// It decides, and has read all parts before this place.
    pub read: Option<u64>,
    /// What it decided.
    pub commit: Option<Commit>,
    /// A plan that the store should have, for its own is older.
    pub refill: Option<Plan>,
    /// What it rolled back by itself.
    pub rolled: Vec<Rolled>,
    /// What others shall know of it.
    pub status: Option<String>,
    /// Whether it wants to know of all others.
    pub census: bool,
    /// Whether it wants to know what is blocked.
    pub blocks: bool,
    /// Audit records that it has, by number; those after it are wanted.
    pub audit: u64,
}

/// Who decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// Empty: nobody.
    pub holder: Arc<str>,
    /// Grows whenever another one holds it.
    pub fence: u64,
}

/// What a replica said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub replica: Arc<str>,
    /// When it last said so, in milliseconds since 1970 by the store's clock.
    pub at: u64,
    /// What.
    pub status: String,
}

/// What it hears, after all that it said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Milliseconds since 1970, by the store's clock.
    pub now: u64,
    /// Of the plan in the store.
    pub mark: Mark,
    /// The plan, where the asker serves another decision or wanted it.
    pub plan: Option<Plan>,
    /// The last part of the asker that the store took.
    pub seen: u64,
    /// Who decides.
    pub lease: Lease,
    /// Whether the commit holds.
    pub committed: bool,
    /// The place of the first of `parts`.
    pub first: u64,
    /// For whoever decides.
    pub parts: Vec<Delivered>,
    /// Everything that was ever rolled back by a replica alone.
    pub rolled: Vec<Rolled>,
    /// Audit records, each with its number.
    pub records: Vec<(u64, Arc<str>)>,
    /// Where they were asked for.
    pub neighbours: Vec<Neighbour>,
    /// Likewise.
    pub blocks: Vec<(String, String)>,
    /// The last part of each that the store took, for whoever decides and asked for the others.
    pub sees: Vec<(Arc<str>, u64)>,
}
