//! One rollout while the process runs: what workers read of it, and what its owner keeps.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::sync::Notify;

use super::fleet::Shared;
use super::machine::{Machine, Saved, names, same};
use crate::config::{Model, Strategy};
use crate::evidence::epoch::Epoch;
use crate::evidence::exposed::Exposed;
use crate::evidence::gather::Gatherer;
use crate::evidence::{Copies, Readings};
use crate::feedback::{Ballot, FeedbackGain};
use crate::strategy::{Split, Standing, ab};
use crate::verdict::{Action, Change, State};

/// Epochs that may still have calls under way; beyond it the oldest is forgotten. Where epochs are seconds there may be
/// more of them.
const EPOCHS: usize = 16;
const SHORT_EPOCHS: usize = 128;

/// What a call must know of its rollout.
#[derive(Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub standing: Standing,
    /// What calls that count are counted in; none where no call does.
    pub epoch: Option<Arc<Epoch>>,
    /// The same of calls that a segment matched, by its index.
    pub segments: Vec<Option<Arc<Epoch>>>,
}

impl Snapshot {
    /// What calls of that segment, or of none, are counted in.
    pub fn epoch_of(&self, segment: Option<usize>) -> Option<&Arc<Epoch>> {
        match segment {
            None => self.epoch.as_ref(),
            Some(segment) => self.segments.get(segment)?.as_ref(),
        }
    }

    fn counts(&self) -> bool {
        self.epoch.is_some() || self.segments.iter().any(Option::is_some)
    }
}

/// One rollout.
#[derive(Debug)]
pub struct Live {
    published: Arc<ArcSwap<Snapshot>>,
    workers: usize,
    /// Units that were exposed since the process knows the rollout.
    exposed: Arc<Exposed>,
    inner: Mutex<Inner>,
    /// Held by who decides, from the decision until it is published.
    pub(super) order: tokio::sync::Mutex<()>,
    alarm: Arc<Notify>,
    raised: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// As the newest generation has it.
    pub(super) model: Arc<Model>,
    /// Revision of that generation.
    pub(super) config: Arc<str>,
    /// None: nobody knows yet where it stood.
    pub(super) machine: Option<Machine>,
    /// The epoch in force is the last one.
    gatherers: Vec<Gatherer>,
    /// Copies that were taken in, or were there before.
    copies: Option<Copies>,
    /// Whether there is something to write down.
    dirty: bool,
    /// Failures that were not counted in epochs that are over.
    uncounted: u64,
    /// Its place among other replicas, where they share it.
    pub(super) shared: Option<Shared>,
}

/// One worker's view of a rollout.
#[derive(Debug)]
pub struct View {
    live: Arc<Live>,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
}

impl View {
    /// Runs `read` with the rollout as it stands now.
    pub fn with<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(self.snapshot.borrow_mut().load())
    }

    /// Says that a candidate failed, so that somebody looks at once.
    pub fn alarm(&self) {
        // One wake for as many failures as come until somebody looks.
        if !self.live.raised.swap(true, Ordering::AcqRel) {
            self.live.alarm.notify_one();
        }
    }
}

impl Live {
    pub(super) fn new(
        model: &Arc<Model>,
        config: &Arc<str>,
        machine: Option<Machine>,
        (workers, alarm): (usize, &Arc<Notify>),
    ) -> Self {
        let unknown = Snapshot { standing: Standing::CONFIGURED, epoch: None, segments: Vec::new() };
        let live = Live {
            published: Arc::new(ArcSwap::from_pointee(unknown)),
            workers,
            exposed: Arc::default(),
            inner: Mutex::new(Inner {
                model: Arc::clone(model),
                config: Arc::clone(config),
                machine,
                gatherers: Vec::new(),
                copies: None,
                dirty: false,
                uncounted: 0,
                shared: None,
            }),
            order: tokio::sync::Mutex::default(),
            alarm: Arc::clone(alarm),
            raised: AtomicBool::new(false),
        };
        live.publish();
        live
    }

    /// A worker's way to it.
    pub fn view(self: &Arc<Self>) -> View {
        let snapshot = RefCell::new(Cache::new(Arc::clone(&self.published)));
        View { live: Arc::clone(self), snapshot }
    }

    /// Where it stands, as workers see it.
    pub fn standing(&self) -> Standing {
        self.published.load().standing.clone()
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // What it guards is whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a candidate failed since the last time this was asked.
    pub(super) fn was_raised(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    /// Lets workers see where the machine stands.
    pub(super) fn publish(&self) {
        let mut inner = self.inner();
        let Some(machine) = &inner.machine else { return };
        let standing = machine.standing(&inner.model);
        let known = self.published.load();
        let alone = machine.judges_alone(&inner.model);
        let next = self.counting(&standing, &inner.model, (alone, inner.shared.is_some()));
        if known.standing == standing && (known.counts() || !next.counts()) {
            return;
        }
        let most = if matches!(next.standing.split, Split::Shares(_)) { SHORT_EPOCHS } else { EPOCHS };
        let (baseline, epochs) = (inner.model.baseline(), most * (1 + next.segments.len()));
        for epoch in next.segments.iter().chain([&next.epoch]).flatten() {
            inner.gatherers.push(Gatherer::new(Arc::clone(epoch), baseline));
            if inner.gatherers.len() > epochs {
                let oldest = inner.gatherers.remove(0);
                inner.uncounted += oldest.epoch().uncounted();
            }
        }
        self.published.store(Arc::new(next));
    }

    /// What calls are counted in: where something is judged by them, and there is another variant to compare.
    fn counting(&self, standing: &Standing, model: &Model, (alone, shared): (bool, bool)) -> Snapshot {
        let of = |baseline| {
            let epoch = Epoch::new(standing.epoch, model.variants.len(), self.workers, baseline);
            if shared { epoch.shared() } else { epoch }
        };
        let new_epoch = || of(model.baseline());
        let new = || Arc::new(new_epoch());
        let (epoch, segments) = match (model.strategy.at(standing.stage), standing.split) {
            (Strategy::Canary(_), Split::Candidate(share)) if share.thousandths() > 0 => {
                (Some(new()), Vec::new())
            }
            (Strategy::Ab(ab), split) if ab.judge.is_some() => {
                let analysed = |segment| {
                    let epoch = of(ab.baseline);
                    let compares = ab::split_of(ab, split, segment).len() > 1;
                    compares.then(|| Arc::new(epoch.analysed(segment, &self.exposed)))
                };
                (analysed(None), (0..ab.segments.len()).map(|segment| analysed(Some(segment))).collect())
            }
            // A unit that fails again in the next epoch is the same one.
            (Strategy::Bandit(_), Split::Shares(_)) => {
                (Some(Arc::new(new_epoch().remembering(&self.published.load().epoch))), Vec::new())
            }
            _ if alone => {
                let epoch = new_epoch().alone();
                // Which calls a replaced server answers nobody knows before.
                let replaces = matches!(model.strategy, Strategy::Rolling(_));
                (Some(Arc::new(if replaces { epoch.unwatched() } else { epoch })), Vec::new())
            }
            _ => (None, Vec::new()),
        };
        Snapshot { standing: standing.clone(), epoch, segments }
    }
}

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Failures, as soon as they happen.
    Failures,
    /// Everything.
    All,
}

impl Inner {
    /// Whether `model` is the same rollout, so that it goes on.
    pub(super) fn fits(&self, model: &Model) -> bool {
        self.model.revision == model.revision && same(&names(&self.model), model)
    }

    /// Takes in what calls showed since the last time; whether there was anything.
    pub(super) fn gather(&mut self, depth: Depth, now: Duration) -> bool {
        let time = self.time(now);
        let Some(machine) = &mut self.machine else { return false };
        let mut gained = false;
        for gatherer in &mut self.gatherers {
            let gain = match depth {
                Depth::Failures => gatherer.failures(),
                Depth::All => gatherer.all(now),
            };
            if let Some(gain) = gain {
                if let Some(shared) = &mut self.shared {
                    let member = shared.seat.member();
                    member.gained(|part| part.gain(&gain));
                    if gain.fails() {
                        member.press();
                    }
                }
                machine.absorb(&self.model, gain, time);
                gained = true;
            }
        }
        self.dirty |= gained;
        if depth == Depth::All {
            self.forget();
        }
        gained
    }

    /// Changes by itself what calls are given by; whether they must be told.
    pub(super) fn refresh(&mut self, now: Duration) -> bool {
        if self.shared.is_some() {
            // Whoever decides for all does so for this replica too.
            return false;
        }
        let told = self.act(|machine, model| machine.refresh(model, now)).unwrap_or(false);
        self.dirty |= told;
        told
    }

    /// Takes in what copies showed, of which `all` have ended so far in this process.
    pub(super) fn copied(&mut self, all: Copies, now: Duration) {
        // What was copied before this rollout began is none of its evidence.
        let before = self.copies.replace(all).unwrap_or(all);
        if all != before {
            let gain = all.since(&before);
            if let Some(shared) = &mut self.shared {
                shared.seat.member().gained(|part| part.copy(&gain));
            }
            let now = self.time(now);
            self.dirty |= self.act(|machine, model| machine.absorb_copies(model, &gain, now)).is_some();
        }
    }

    /// Takes in what feedback showed.
    pub(super) fn learn(&mut self, gain: &FeedbackGain) {
        if gain.revision == self.model.revision
            && let Some(machine) = &mut self.machine
        {
            if let Some(shared) = &mut self.shared {
                shared.seat.member().gained(|part| part.learn(gain));
            }
            self.dirty |= machine.learn(&self.model, gain);
        }
    }

    /// Takes in votes of sessions.
    pub(super) fn vote(&mut self, ballot: &Ballot) {
        if ballot.revision == self.model.revision
            && let Some(machine) = &mut self.machine
        {
            if let Some(shared) = &mut self.shared {
                shared.seat.member().gained(|part| part.vote(ballot));
            }
            self.dirty |= machine.vote(&self.model, ballot);
        }
    }

    /// Takes in what the servers of both variants said of themselves, beside all calls until now.
    pub(super) fn read(&mut self, readings: &Readings, now: Duration) {
        self.gather(Depth::All, now);
        let now = self.time(now);
        self.dirty |= self.act_all(|machine, model| machine.absorb_readings(model, readings, now));
    }

    /// Lets epochs go that no call belongs to any more.
    fn forget(&mut self) {
        let last = self.gatherers.len().saturating_sub(1);
        let mut place = 0;
        let uncounted = &mut self.uncounted;
        self.gatherers.retain(|gatherer| {
            let keep = place == last || gatherer.is_open();
            place += 1;
            if !keep {
                *uncounted += gatherer.epoch().uncounted();
            }
            keep
        });
    }

    /// Failures that were not counted, for there were too many at once.
    pub(super) fn uncounted(&self) -> u64 {
        self.uncounted + self.gatherers.iter().map(|gatherer| gatherer.epoch().uncounted()).sum::<u64>()
    }

    /// Runs `act` on the machine and the model; none where the machine is not known yet.
    pub(super) fn act<T>(&mut self, act: impl FnOnce(&mut Machine, &Model) -> T) -> Option<T> {
        let model = Arc::clone(&self.model);
        self.machine.as_mut().map(|machine| act(machine, &model))
    }

    /// The same with the machine that decides for all replicas, where this one does.
    pub(super) fn act_lead<T>(&mut self, act: impl FnOnce(&mut Machine, &Model) -> T) -> Option<T> {
        let model = Arc::clone(&self.model);
        let lead = self.shared.as_mut().and_then(|shared| shared.seat.lead());
        lead.or(self.machine.as_mut()).map(|machine| act(machine, &model))
    }

    /// Runs `act` on what is served and on what decides for all replicas; whether there is anything.
    pub(super) fn act_all(&mut self, act: impl Fn(&mut Machine, &Model)) -> bool {
        let model = Arc::clone(&self.model);
        if let Some(lead) = self.shared.as_mut().and_then(|shared| shared.seat.lead()) {
            act(lead, &model);
        }
        self.act(|machine, model| act(machine, model)).is_some()
    }

    /// As it is written down; none where there is nothing worth it.
    pub(super) fn saved(&self) -> Option<Vec<u8>> {
        let machine = self.machine.clone()?;
        let saved = Saved { revision: self.model.revision, variants: names(&self.model), machine };
        // A machine is plain data: it can always be written.
        serde_json::to_vec(&saved).ok()
    }

    /// As it is written down, if it changed since the last time.
    pub(super) fn take_dirty(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.saved()
    }
}

/// Builds that a change blocks or lets go, and which of both. Of several variants only those are blocked that the
/// evidence took out; a person who ends a comparison says nothing against any.
pub(super) fn blocks(model: &Model, change: &Change) -> Vec<(String, bool)> {
    let of = |variant: usize| model.variants.get(variant).map(|variant| variant.build.to_string());
    // What everybody gets is never blocked; of a switch, or where servers are replaced, it is the new one itself.
    let switches = matches!(model.strategy, Strategy::Pinned(_) | Strategy::Rolling(_));
    let baseline = of(model.baseline()).filter(|_| !switches);
    let blocks = match (&model.strategy, change.action, change.from, change.to) {
        // It tells of answers and changes no plan.
        (_, Action::Judged, ..) => (Vec::new(), false),
        (Strategy::Ab(_) | Strategy::Bandit(_) | Strategy::Interleave(_), Action::RolledBack, ..) => {
            let taken = change.variants.iter().filter_map(|name| model.variant(name));
            (taken.collect(), true)
        }
        // Servers that go back one by one are no news of the build.
        (Strategy::Rolling(_), _, from, to) if from == to => (Vec::new(), false),
        (Strategy::Rolling(rolling), _, _, State::RolledBack) => (vec![rolling.variant], true),
        (strategy, _, _, State::RolledBack) => (strategy.candidate().into_iter().collect(), true),
        (strategy, _, State::RolledBack, _) => (strategy.judged(), false),
        _ => (Vec::new(), false),
    };
    let (variants, blocked): (Vec<usize>, bool) = blocks;
    let builds = variants.into_iter().filter_map(of).filter(|build| Some(build) != baseline.as_ref());
    builds.map(|build| (build, blocked)).collect()
}
