//! One replica of a simulated fleet: what it counted, what it serves, and whether it waits for an answer.

use std::time::Duration;

use crate::config::Model;
use crate::evidence::{ArmGain, Gain};
use crate::fleet::member::{Kept, Member};
use crate::fleet::pace::Pace;
use crate::fleet::{Part, Seat};
use crate::rollout::Machine;
use crate::strategy::Standing;

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) seat: Seat<Machine>,
    /// What it serves; none: nobody has told it yet, and the baseline has everything.
    pub(super) view: Option<Machine>,
    /// Where that stands, as calls know it.
    pub(super) served: Option<Standing>,
    /// The candidate's share there, in thousandths of a percent, and whether all is over there.
    pub(super) share: u32,
    pub(super) over: bool,
    /// Of the plan that it holds.
    pub(super) version: u64,
    /// What calls showed that was not gathered yet.
    counted: Vec<ArmGain>,
    pub(super) pace: Pace,
    /// It waits for its turn or for an answer, and whether it was woken meanwhile.
    pub(super) busy: bool,
    pub(super) woken: bool,
    /// How many questions it asked, when the last one, and the one whose answer it waits for.
    pub(super) question: u64,
    pub(super) asked: Duration,
    pub(super) waits: Option<u64>,
    /// Exchanges of this turn.
    pub(super) rounds: usize,
}

impl Replica {
    pub(super) fn new(index: usize, model: &Model) -> Self {
        let mut member = Member::new(format!("replica-{index}").into(), Kept::default(), Duration::ZERO);
        member.set_status("here".to_owned());
        Replica {
            seat: Seat::new(member),
            view: None,
            served: None,
            share: 0,
            over: false,
            version: 0,
            counted: vec![ArmGain::default(); model.variants.len()],
            pace: Pace::default(),
            busy: false,
            woken: false,
            question: 0,
            asked: Duration::ZERO,
            waits: None,
            rounds: 0,
        }
    }

    pub(super) fn standing(&self, model: &Model) -> Standing {
        self.view.as_ref().map_or(Standing::CONFIGURED, |machine| machine.standing(model))
    }

    /// Where a call of that variant is counted.
    pub(super) fn counted(&mut self, variant: usize) -> &mut ArmGain {
        &mut self.counted[variant]
    }

    /// Counts how long a call of that variant took.
    pub(super) fn time(&mut self, variant: usize, bucket: u16) {
        let latency = &mut self.counted[variant].latency;
        match latency.binary_search_by(|(known, _)| known.cmp(&bucket)) {
            Ok(place) => latency[place].1 += 1,
            Err(place) => latency.insert(place, (bucket, 1)),
        }
    }

    /// Takes in what was counted, in the epoch that it was served in.
    pub(super) fn gather(&mut self, model: &Model, now: Duration) {
        if self.counted.iter().all(|arm| *arm == ArmGain::default()) {
            return;
        }
        let none = vec![ArmGain::default(); self.counted.len()];
        let arms = std::mem::replace(&mut self.counted, none);
        // Calls that came before any plan was known are nobody's evidence.
        let Some(epoch) = self.served.as_ref().map(|standing| standing.epoch) else { return };
        let gain = Gain { epoch, segment: None, arms };
        self.learn(model, now, |part| part.gain(&gain));
    }

    /// Takes in what `add` says, as evidence to be handed over and as its own.
    pub(super) fn learn(&mut self, model: &Model, now: Duration, add: impl Fn(&mut Part)) {
        let mut part = Part::default();
        add(&mut part);
        let member = self.seat.member();
        let time = member.time(now);
        member.gained(|open| add(open));
        if let Some(machine) = &mut self.view {
            machine.absorb_part(model, &part, time);
        }
    }
}
