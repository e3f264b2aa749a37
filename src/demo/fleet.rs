//! A scenario of many: three sidecars share one rollout through a redis-server that the demo starts, kills and starts
//! again.
//!
//! The demo decides nothing here either. It makes the calls, breaks and mends the candidate, plays the person who lets
//! it try again, and tells what each replica's own status and audit trail say.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::caller::{self, Called, Known, Script};
use super::model::Model;
use super::play::{Folder, Servers};
use super::rows::Row;
use super::scenario::{self, Named, Place, Scenario, Shared};
use super::server::manner::{Asked, Trouble};
use super::shadow::Shadow;
use super::tally::Tally;
use super::{Configuration, Demo, DemoError, PERSON, Sidecar, program};
use crate::rollout::{Actor, AuditRecord, Status};
use crate::tasks::Tasks;
use crate::verdict::State;

mod acts;
mod ending;
mod store;
mod words;

use acts::{Act, Deed, Scene};
pub(super) use ending::Ending;
use store::Store;

/// How many share the rollout, and what they are called.
const REPLICAS: usize = NAMES.len();
const NAMES: [&str; 3] = ["pod-a", "pod-b", "pod-c"];
/// Calls per second where none said how many, of all replicas together.
const RATE: u32 = 400;
/// Calls at a time at each replica.
const CALLERS: u32 = 12;
/// All scenes together take no longer.
const LIMIT: Duration = Duration::from_secs(110);
const TICK: Duration = Duration::from_millis(20);
/// How often each replica is asked where it stands; what it decides is heard at once.
const LOOK: Duration = Duration::from_millis(100);

/// What stands around the sidecars.
struct World {
    model: String,
    variants: [Known; 2],
    servers: Servers,
    store: Store,
    folder: Folder,
}

impl World {
    async fn start() -> Result<World, DemoError> {
        let program = Store::find()?;
        let folder = Folder::new()?;
        let store = Store::start(program, folder.path()).await?;
        let [first, second, _] = Model::bundled()?;
        let model = first.name().to_owned();
        let versions = [&first, &second].map(|model| model.version().to_owned());
        let servers = Servers::start([first, second], Scenario::Fleet.servers()).map_err(DemoError::Bind)?;
        let mut known = servers.addresses().into_iter().zip(["v1", "v2"]).zip(versions);
        let mut next = || {
            let ((server, name), version) = known.next()?;
            Some(Known { name: name.to_owned(), variant: name.to_owned(), version, server })
        };
        let variants = next().zip(next()).ok_or(DemoError::NotReady)?.into();
        Ok(World { model, variants, servers, store, folder })
    }

    /// What a replica starts with.
    fn configuration(&self, replica: &str) -> String {
        let variants = self.variants.each_ref().map(|Known { name, version, server, .. }| Named {
            name,
            version,
            server: *server,
        });
        let shared = Some(Shared { replica, store: self.store.address() });
        let (model, state) = (&self.model, &self.folder.place(replica));
        let place = Place { model, variants: &variants, servers: &[], others: &[], shared, state };
        scenario::configuration(Scenario::Fleet, &place)
    }

    fn script<S: Sidecar>(&self, sidecar: &S, rate: Option<u32>) -> Script {
        let rate = rate.unwrap_or(RATE);
        Script {
            data: sidecar.data(),
            model: self.model.clone(),
            variants: self.variants.clone(),
            calls: None,
            rate: Some(rate.div_ceil(REPLICAS as u32)).filter(|rate| *rate > 0),
            users: None,
            callers: CALLERS,
            direct: false,
        }
    }
}

/// What has happened so far.
struct Course {
    began: Instant,
    scene: Scene,
    /// Since when what the scene waits for holds.
    holds: Option<Instant>,
    tallies: [Tally; REPLICAS],
    /// What each replica's changes were last looked at, and the last of its records that was told.
    news: Vec<watch::Receiver<u64>>,
    told: [u64; REPLICAS],
    /// Whom is looked at first: who decides, or was told to.
    ahead: usize,
    /// Who told a record first, and when, by what makes it that one.
    first: HashMap<(u64, u32, String), (usize, Instant)>,
    /// What each said last, and when that was.
    seen: Option<[Status; REPLICAS]>,
    looked: Option<Instant>,
    together: Option<Act>,
    alone: Option<Act>,
    /// The decision of all.
    decided: Option<Arc<AuditRecord>>,
    /// When the store came back, and how long it took from there until all had one plan.
    back: Option<Instant>,
    agreed: Option<(Duration, u64)>,
    /// Whether a person took part: then nothing is due at any time.
    person: bool,
    staying: bool,
}

impl<W: Write> Demo<W> {
    /// Runs it to its end.
    pub(super) async fn share<S: Sidecar>(
        mut self,
        start: impl AsyncFn(Configuration) -> Result<S, String>,
    ) -> Result<Ending, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let mut world = World::start().await?;
        let mut sidecars = Vec::new();
        for name in NAMES {
            let file = world.folder.place(&format!("{name}.yaml"));
            std::fs::write(&file, world.configuration(name))?;
            sidecars.push(start(Configuration::File(file)).await.map_err(DemoError::Sidecar)?);
        }
        for sidecar in &sidecars {
            self.until_ready(sidecar).await?;
        }
        let text = world.configuration(NAMES[0]);
        self.screen.say(&words::opening(&text, world.folder.path()))?;
        let ports: Vec<_> = sidecars.iter().map(|one| (one.admin(), one.health())).collect();
        self.screen.say(&words::meanwhile(&program(), &world.model, &ports))?;

        let rows: Arc<[Row]> = Row::bundled()?.into();
        let mut answers = Vec::new();
        for sidecar in &sidecars {
            let script = world.script(sidecar, self.options.rate);
            answers.push(caller::start(script, Arc::clone(&rows), &tasks).await?);
        }
        let mut course = Course::new(&world, &sidecars);
        self.follow_all(&mut world, &sidecars, &mut course, answers).await?;
        let ends = async {
            if let Ok([a, b, c]) = <[S; REPLICAS]>::try_from(sidecars) {
                tokio::join!(a.stop(), b.stop(), c.stop());
            }
        };
        tokio::select! {
            () = ends => {}
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        let ending = Ending::of(&course, world.servers.asked()).ok_or(DemoError::Interrupted)?;
        self.screen.say(&words::closing(&course, &ending, world.servers.asked()))?;
        self.screen.say(&super::play::words::next(&program(), Scenario::Fleet))?;
        Ok(ending)
    }

    /// Counts answers, tells decisions and does what comes next, until the story is over and its callers have ended.
    async fn follow_all<S: Sidecar>(
        &mut self,
        world: &mut World,
        sidecars: &[S],
        course: &mut Course,
        mut answers: Vec<mpsc::Receiver<Called>>,
    ) -> Result<(), DemoError> {
        let between = self.screen.every(Duration::from_secs(2));
        let (mut draw, mut tick) = (tokio::time::interval(between), tokio::time::interval(TICK));
        draw.tick().await;
        loop {
            tokio::select! {
                biased;
                Some(()) = self.interrupts.recv() => answers.iter_mut().for_each(mpsc::Receiver::close),
                _ = tick.tick() => {
                    self.hear_all(world, sidecars, course)?;
                    self.go_on(world, sidecars, course).await?;
                    if course.scene == Scene::Over && self.options.stay {
                        self.screen.say(&course.stay())?;
                    } else if course.scene == Scene::Over {
                        answers.iter_mut().for_each(mpsc::Receiver::close);
                    } else if !course.person && course.began.elapsed() >= LIMIT {
                        return Err(DemoError::Stuck(course.scene.waits_for()));
                    }
                }
                _ = draw.tick() => {
                    let now = words::Now { course, asked: world.servers.asked() };
                    self.screen.show(&words::block(&now), &words::line(&now))?;
                }
                called = next(&mut answers) => match called {
                    Some((replica, called)) => course.tallies[replica].add(called),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Tells what was decided since the last time, at each replica.
    fn hear_all<S: Sidecar>(
        &mut self,
        world: &World,
        sidecars: &[S],
        course: &mut Course,
    ) -> Result<(), DemoError> {
        let ahead = course.ahead;
        for (replica, sidecar) in sidecars.iter().enumerate().cycle().skip(ahead).take(REPLICAS) {
            if !course.news[replica].has_changed().unwrap_or(false) {
                continue;
            }
            course.news[replica].mark_unchanged();
            let now = Instant::now();
            let mut records = sidecar.audit(&world.model);
            records.retain(|record| record.sequence > course.told[replica]);
            for record in records.into_iter().rev() {
                course.told[replica] = record.sequence;
                let known = course.take(replica, &record, now);
                self.screen.say(&words::event(course.began.elapsed(), NAMES[replica], &record, known))?;
            }
            let status = sidecar.rollout(&world.model);
            if let Some(status) = status.filter(|status| status.report.state == State::RolledBack) {
                let alone = status.fleet.is_some_and(|fleet| fleet.parted);
                course.leave(replica, &sidecar.audit(&world.model), alone, now);
            }
        }
        Ok(())
    }

    /// Does what comes next, where what it follows on has held for long enough.
    async fn go_on<S: Sidecar>(
        &mut self,
        world: &mut World,
        sidecars: &[S],
        course: &mut Course,
    ) -> Result<(), DemoError> {
        let now = Instant::now();
        let asked = world.servers.asked();
        course.watch(asked, now);
        if course.scene == Scene::Over || !course.is_due(world, sidecars, now) {
            return Ok(());
        }
        let (_, deed, next_scene) = course.scene.next();
        let elapsed = course.began.elapsed();
        match deed {
            Deed::Break => {
                let act = Some(Act::new(asked));
                *(if next_scene == Scene::Together { &mut course.together } else { &mut course.alone }) = act;
                world.servers.begin(Trouble::Fails);
                self.screen.say(&words::broken(elapsed))?;
            }
            Deed::Resume => {
                // Any replica will do: one that does not decide.
                let follows = |one: &Status| one.fleet.as_ref().is_some_and(|fleet| !fleet.leads);
                let replica =
                    course.seen.as_ref().and_then(|seen| seen.iter().position(follows)).unwrap_or(0);
                world.servers.mend();
                course.ahead = replica;
                self.screen.say(&words::mended(elapsed, NAMES[replica]))?;
                let told = sidecars[replica].resume(&world.model, "v2 is mended").await;
                told.map_err(DemoError::Sidecar)?;
            }
            Deed::Kill => {
                world.store.kill();
                self.screen.say(&words::killed(elapsed))?;
            }
            Deed::Restart => {
                world.store.start_again().await?;
                course.back = Some(Instant::now());
                self.screen.say(&words::restarted(elapsed))?;
            }
            Deed::Agree => {
                let version = course.seen.as_ref().and_then(acts::plan).unwrap_or_default();
                course.agreed = course.back.map(|back| (now.saturating_duration_since(back), version));
                self.screen.say(&words::agreed(elapsed, version))?;
            }
            Deed::End => {}
        }
        (course.scene, course.holds) = (next_scene, None);
        // What held before says nothing of what is waited for now.
        (course.seen, course.looked) = (None, None);
        Ok(())
    }
}

/// The next answer of any replica; none once there are no more.
async fn next(answers: &mut [mpsc::Receiver<Called>]) -> Option<(usize, Called)> {
    let [a, b, c] = answers else { return None };
    tokio::select! {
        Some(called) = a.recv() => Some((0, called)),
        Some(called) = b.recv() => Some((1, called)),
        Some(called) = c.recv() => Some((2, called)),
        else => None,
    }
}

impl Course {
    fn new<S: Sidecar>(world: &World, sidecars: &[S]) -> Course {
        let tally = || {
            let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
            Tally::new(variants, Shadow::default())
        };
        let mut news: Vec<_> = sidecars.iter().map(Sidecar::changes).collect();
        // What happened already is news too.
        news.iter_mut().for_each(watch::Receiver::mark_changed);
        Course {
            began: Instant::now(),
            scene: Scene::Begins,
            holds: None,
            tallies: [tally(), tally(), tally()],
            news,
            told: [0; REPLICAS],
            ahead: 0,
            first: HashMap::new(),
            seen: None,
            looked: None,
            together: None,
            alone: None,
            decided: None,
            back: None,
            agreed: None,
            person: false,
            staying: false,
        }
    }

    /// Takes a record; who had it first, and how long ago, where that was another replica.
    fn take(&mut self, replica: usize, record: &AuditRecord, now: Instant) -> Option<(usize, Duration)> {
        if let Actor::Operator { name, .. } = &record.actor {
            self.person |= name != PERSON;
        }
        let which = (record.millis, record.epoch, record.change.why.clone());
        let (first, at) = *self.first.entry(which).or_insert((replica, now));
        (first != replica).then(|| (first, now.saturating_duration_since(at)))
    }

    /// Notes that a replica has left the candidate, by the newest of its records.
    fn leave(&mut self, replica: usize, records: &[Arc<AuditRecord>], alone: bool, now: Instant) {
        let left = records.iter().find(|record| record.change.to == State::RolledBack);
        let act = match self.scene {
            Scene::Together => self.together.as_mut(),
            Scene::Alone => self.alone.as_mut(),
            _ => None,
        };
        if let Some((act, record)) = act.zip(left) {
            act.leave(replica, record, alone, now);
            if self.scene == Scene::Together {
                self.decided.get_or_insert_with(|| Arc::clone(record));
            }
        }
    }

    fn watch(&mut self, asked: Asked, now: Instant) {
        let calls = self.calls();
        let act = match self.scene {
            Scene::Together => self.together.as_mut(),
            Scene::Alone | Scene::Meets | Scene::After => self.alone.as_mut(),
            Scene::Begins | Scene::Again | Scene::Parts | Scene::Over => None,
        };
        if let Some(act) = act {
            act.watch(asked, calls, now);
        }
    }

    /// Looks at what each replica says of itself.
    fn look<S: Sidecar>(&mut self, world: &World, sidecars: &[S]) {
        let seen: Option<Vec<Status>> = sidecars.iter().map(|one| one.rollout(&world.model)).collect();
        if let Some(seen) = seen.and_then(|seen| <[Status; REPLICAS]>::try_from(seen).ok()) {
            let leads = |one: &Status| one.fleet.as_ref().is_some_and(|fleet| fleet.leads);
            self.ahead = seen.iter().position(leads).unwrap_or(self.ahead);
            self.seen = Some(seen);
        }
    }

    /// Whether what the scene waits for has held for as long as it must.
    fn is_due<S: Sidecar>(&mut self, world: &World, sidecars: &[S], now: Instant) -> bool {
        if self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            self.looked = Some(now);
            self.look(world, sidecars);
        }
        let holds = self.seen.as_ref().is_some_and(|seen| self.scene.holds(seen));
        self.holds = if holds { self.holds.or(Some(now)) } else { None };
        let (pause, _, _) = self.scene.next();
        self.holds.is_some_and(|since| now.saturating_duration_since(since) >= pause)
    }

    fn stay(&mut self) -> Vec<String> {
        let told = std::mem::replace(&mut self.staying, true);
        if told { Vec::new() } else { super::play::words::staying(self.began.elapsed()) }
    }

    fn calls(&self) -> u64 {
        self.tallies.iter().map(Tally::calls).sum()
    }

    fn failed(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.failed).sum()
    }

    fn fallbacks(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.fallbacks).sum()
    }
}

#[cfg(test)]
fn record() -> AuditRecord {
    let change = crate::verdict::Change {
        action: crate::verdict::Action::RolledBack,
        why: "worse than its margin allows: errors".to_owned(),
        from: State::Running,
        to: State::RolledBack,
        step: None,
        share: 0.0,
        variants: Vec::new(),
        findings: Vec::new(),
    };
    AuditRecord {
        sequence: 1,
        millis: 1,
        model: "digits".into(),
        revision: 1,
        epoch: 3,
        config: "c".into(),
        actor: Actor::Judge,
        change,
    }
}

/// A replica's status, with the plan that it serves.
#[cfg(test)]
fn example(state: State, version: u64) -> Status {
    use crate::rollout::{FleetStatus, Kept};
    use crate::verdict::{Report, Verdict};
    let report = Report {
        state,
        step: None,
        stage: None,
        shares: vec![1.0, 0.0],
        calls: vec![0, 0],
        since: Duration::ZERO,
        findings: Vec::new(),
        verdict: Verdict::NotEnoughData,
        waits_for: String::new(),
        learning: None,
    };
    let fleet = FleetStatus {
        replica: "pod-a/1".into(),
        holder: "pod-b/2".into(),
        leads: false,
        version,
        silence: Duration::ZERO,
        parted: false,
        waiting: 0,
        lost: 0,
        skew: 0,
        trouble: None,
        replicas: Vec::new(),
    };
    Status {
        model: "digits".into(),
        kind: "canary".to_owned(),
        revision: 1,
        epoch: 1,
        config: "c".into(),
        variants: Vec::new(),
        report,
        differs: None,
        kept: Kept::Fleet,
        endpoints: Vec::new(),
        shadows: Vec::new(),
        drift: None,
        fleet: Some(fleet),
    }
}
