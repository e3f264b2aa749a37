//! One replica of a rollout with its machine: what a plan becomes here, who decides, and what a replica does alone.
//! Pure, as [`Member`] is; what a machine is, [`World`] says.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::{Answer, Plan};
use super::member::{Heard, Member, Proposal};
use super::part::Part;

/// A change as it is written down, and the builds that it blocks, with why, or lets go.
pub type Record = (Arc<str>, Vec<(String, Option<String>)>);

/// What a rollout is to a fleet. All times are the fleet's.
pub trait World {
    /// Where a rollout stands, and moves.
    type Machine: Clone;
    /// A change of plan.
    type Change;

    /// A machine as it was written down; none where it is of something else.
    fn read(&self, saved: &str, now: Duration) -> Option<Self::Machine>;
    /// As it is written down.
    fn write(&self, machine: &Self::Machine) -> Arc<str>;
    /// The first one, where nobody has any; none: nobody can know yet.
    fn begin(&mut self) -> Option<Self::Machine>;
    /// One try of the candidate.
    fn generation(&self, machine: &Self::Machine) -> u32;
    /// Whether that try was rolled back.
    fn is_rolled_back(&self, machine: &Self::Machine) -> bool;
    /// Adds evidence.
    fn absorb(&self, machine: &mut Self::Machine, part: &Part, now: Duration);
    /// Moves by one, where that is due.
    fn look(&mut self, machine: &mut Self::Machine, now: Duration) -> Option<Self::Change>;
    /// Changes by itself what calls are given by, without a decision, where that is due; whether it did.
    fn refresh(&self, machine: &mut Self::Machine, now: Duration) -> bool;
    /// The same as [`World::look`] where a replica looks alone beside that many others: rolls back on evidence that would be enough
    /// though all of them looked, and does nothing else.
    fn look_alone(
        &mut self,
        machine: &mut Self::Machine,
        others: usize,
        now: Duration,
    ) -> Option<Self::Change>;
    /// Takes the candidate out, for somebody rolled it back; `everywhere`: for all, and to be written down.
    fn roll_back(
        &mut self,
        machine: &mut Self::Machine,
        why: &str,
        everywhere: bool,
        now: Duration,
    ) -> Self::Change;
    /// Why, in words.
    fn why(&self, change: &Self::Change) -> String;
    /// A change as it is written down, and what it blocks, with why, or lets go.
    fn record(&self, machine: &Self::Machine, change: &Self::Change, now: Duration) -> Record;
}

/// One replica's place.
#[derive(Debug, Clone)]
pub struct Seat<M> {
    member: Member,
    /// What it decides on, where it decides.
    lead: Option<M>,
    others: usize,
}

/// What became of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The machine that is served is another one.
    pub adopted: bool,
    /// Whether what was proposed holds.
    pub committed: Option<bool>,
    /// Audit records that are new here.
    pub records: Vec<Arc<str>>,
    /// Blocked builds that are new here.
    pub blocks: Vec<(String, String)>,
    /// There is more to say at once.
    pub again: bool,
    /// What is to be said is the plan, see [`Member::refill`].
    pub refill: bool,
    /// A plan that cannot be read here, in words.
    pub foreign: Option<String>,
}

impl<M: Clone> Seat<M> {
    /// A replica at its start.
    pub fn new(member: Member) -> Self {
        Seat { member, lead: None, others: 1 }
    }

    /// What it says and keeps.
    pub fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// The same, to be looked at.
    pub fn seen(&self) -> &Member {
        &self.member
    }

    /// The machine that decides, where this replica does.
    pub fn lead(&mut self) -> Option<&mut M> {
        self.lead.as_mut()
    }

    /// The same, to be looked at.
    pub fn leading(&self) -> Option<&M> {
        self.lead.as_ref()
    }

    /// The plan that an earlier process left, as a machine.
    pub fn recall<W: World<Machine = M>>(&mut self, world: &mut W, now: Duration) -> Option<M> {
        let plan = self.member.plan()?.clone();
        let mut view = None;
        self.adopt(world, &mut view, &plan, now);
        self.overlay(world, &mut view, now);
        view
    }

    /// Takes an answer in. `view` is the machine that is served; `now`: this replica's clock.
    pub fn hear<W: World<Machine = M>>(
        &mut self,
        world: &mut W,
        view: &mut Option<M>,
        answer: Answer,
        now: Duration,
    ) -> Outcome {
        if !answer.neighbours.is_empty() {
            self.others = answer.neighbours.len();
        }
        let heard = self.member.hear(answer, now);
        let time = self.member.time(now);
        let Heard { adopt, begin, lead, absorb, deposed, committed, records, blocks, again, refill } = heard;
        let mut outcome = Outcome { committed, records, blocks, again, refill, ..Outcome::default() };
        if deposed || !self.member.leads() {
            self.lead = None;
        }
        if let Some(plan) = &adopt {
            outcome.adopted = self.adopt(world, view, plan, time);
            outcome.foreign = (!outcome.adopted).then(|| plan.id.to_string());
        }
        if begin && let Some(machine) = world.begin() {
            self.propose(world, &machine, (None, true), now);
            outcome.again = true;
        }
        if let Some(plan) = &lead {
            self.lead = world.read(&plan.saved, time);
        }
        if let Some(machine) = &mut self.lead {
            absorb.iter().for_each(|part| world.absorb(machine, part, time));
        }
        outcome.again |= self.decide(world, now);
        outcome.adopted |= self.overlay(world, view, time);
        outcome
    }

    /// Decides, where this replica does and something is due; whether there is something to say at once.
    pub fn decide<W: World<Machine = M>>(&mut self, world: &mut W, now: Duration) -> bool {
        if self.member.is_proposing() || !self.member.leads() {
            return false;
        }
        let time = self.member.time(now);
        let must = self.member.must_roll_back().map(|rolled| {
            format!("{} rolled it back while it was parted from the others: {}", rolled.replica, rolled.why)
        });
        let Some(mut machine) = self.lead.take() else { return false };
        let change = match must {
            Some(why) => Some(world.roll_back(&mut machine, &why, true, time)),
            None => world.look(&mut machine, time),
        };
        let refreshed = change.is_none() && world.refresh(&mut machine, time);
        let again = change.is_some() || refreshed || self.member.is_astray();
        if again || self.member.is_due(now) {
            let record = change.map(|change| world.record(&machine, &change, time));
            self.propose(world, &machine, (record, refreshed), now);
        }
        self.lead = Some(machine);
        again
    }

    /// Looks at what is served without the others, where this replica is parted from them; whether it rolled back.
    pub fn look_alone<W: World<Machine = M>>(
        &mut self,
        world: &mut W,
        view: &mut Option<M>,
        now: Duration,
    ) -> Option<W::Change> {
        if !self.member.parted(now) {
            return None;
        }
        // What it decided for all it cannot tell anybody: from here on it is one like the others.
        self.member.depose();
        self.lead = None;
        let time = self.member.time(now);
        let change = world.look_alone(view.as_mut()?, self.others, time)?;
        self.member.roll_back(world.why(&change));
        Some(change)
    }

    /// Proposes what a person makes of the machine that decides, or of the plan that is held; none where there is
    /// neither.
    ///
    /// # Errors
    /// Those of `act`; nothing is proposed then.
    pub fn command<W: World<Machine = M>, E>(
        &mut self,
        world: &W,
        now: Duration,
        act: impl FnOnce(&mut M) -> Result<W::Change, E>,
    ) -> Option<Result<(), E>> {
        let time = self.member.time(now);
        let mut machine = match &self.lead {
            Some(machine) => machine.clone(),
            None => world.read(&self.member.plan()?.saved, time)?,
        };
        Some(act(&mut machine).map(|change| {
            let record = world.record(&machine, &change, time);
            self.propose(world, &machine, (Some(record), true), now);
            self.lead = self.lead.take().map(|_| machine);
        }))
    }

    /// Proposes a machine, with the record of what was decided; `serves`: all are to serve it, else only evidence came
    /// to it.
    fn propose<W: World<Machine = M>>(
        &mut self,
        world: &W,
        machine: &M,
        (record, serves): (Option<Record>, bool),
        now: Duration,
    ) {
        let (record, blocks) = record.map_or((None, Vec::new()), |(record, blocks)| (Some(record), blocks));
        let proposal = Proposal {
            saved: world.write(machine),
            generation: world.generation(machine),
            rolled_back: world.is_rolled_back(machine),
            serves: serves || record.is_some(),
            record,
            blocks,
        };
        self.member.propose(proposal, now);
    }

    /// Serves a plan: its machine, and beside it what this replica has shown since.
    fn adopt<W: World<Machine = M>>(
        &mut self,
        world: &W,
        view: &mut Option<M>,
        plan: &Plan,
        now: Duration,
    ) -> bool {
        let Some(mut machine) = world.read(&plan.saved, now) else { return false };
        world.absorb(&mut machine, &self.member.beyond(plan), now);
        *view = Some(machine);
        true
    }

    /// Serves no generation that anybody rolled back; whether that changed anything.
    fn overlay<W: World<Machine = M>>(&self, world: &mut W, view: &mut Option<M>, now: Duration) -> bool {
        let Some(machine) = view.as_mut().filter(|machine| !world.is_rolled_back(machine)) else {
            return false;
        };
        let Some(rolled) = self.member.rolled() else { return false };
        let why =
            format!("{} rolled it back while it was parted from the others: {}", rolled.replica, rolled.why);
        world.roll_back(machine, &why, false, now);
        true
    }
}
