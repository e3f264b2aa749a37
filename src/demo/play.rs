//! A scenario as it happens: callers, two servers, one of which may get into trouble, and the decisions of the sidecar.
//!
//! The demo decides nothing. It makes the calls, starts the trouble or changes the file, and tells what the sidecar's
//! own audit trail and status say; how long a decision took is measured from the first call that met the trouble until
//! the decision was read there. For every answer the callers report whether it was right, where a guard looks at that.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::caller::{self, Answer, Called, Known, Script};
use super::model::Model;
use super::reporter::{Reported, Reporter};
use super::rows::Row;
use super::scenario::{self, Deed, Named, Place, Scenario};
use super::shadow::Shadow;
use super::tally::Tally;
use super::{Configuration, Demo, DemoError, Sidecar, program};
use crate::rollout::{Actor, AuditRecord, Status};
use crate::strategy::rolling::EndpointReport;
use crate::strategy::rolling::Place::Serving;
use crate::tasks::Tasks;
use crate::verdict::{Action, State};

mod ending;
pub(super) mod folder;
mod moves;
mod servers;
pub(super) mod words;

pub(super) use ending::Counted;
pub use ending::Ending;
pub(super) use folder::Folder;
use moves::Moves;
pub(super) use servers::Servers;

/// Calls per second where none said how many: enough to decide soon, few enough for a machine that does much else.
const RATE: u32 = 400;
/// Calls at a time: enough to keep the pace while a slow candidate has some of them.
const CALLERS: u32 = 32;
/// A rollout that decides nothing is held by its `max_step_time` before this.
const LIMIT: Duration = Duration::from_secs(118);
/// How long calls go on after the decision, to show what becomes of them.
const AFTER: Duration = Duration::from_millis(1_500);
/// Calls that were under way at the decision have arrived by then.
const ARRIVED: Duration = Duration::from_millis(100);
/// In what a switch waits for, while it warms.
const WARMED: &str = "warmed";
/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(20);

/// Two versions of one model.
struct World {
    model: String,
    variants: [Known; 2],
    servers: Servers,
    addresses: Vec<SocketAddr>,
    folder: Folder,
}

impl World {
    fn start(scenario: Scenario) -> Result<World, DemoError> {
        let [first, second, _] = Model::bundled()?;
        let model = first.name().to_owned();
        let versions = [&first, &second].map(|model| model.version().to_owned());
        let servers = Servers::start([first, second], scenario.servers()).map_err(DemoError::Bind)?;
        let addresses = servers.addresses();
        let [first, second] = versions;
        let known = |place: usize, name: &str, version| Known {
            name: name.to_owned(),
            variant: scenario.variants()[place].to_owned(),
            version,
            server: addresses[place],
        };
        let variants = [known(0, "v1", first), known(1, "v2", second)];
        Ok(World { model, variants, servers, addresses, folder: Folder::new()? })
    }

    /// What is made of the place where this stands.
    fn place<T>(&self, make: impl FnOnce(&Place<'_>) -> T) -> T {
        let variants = self.variants.each_ref().map(|Known { name, version, server, .. }| Named {
            name,
            version,
            server: *server,
        });
        let (model, servers, state) = (&self.model, &self.addresses[..], &self.folder.state());
        make(&Place { model, variants: &variants, servers, others: &[], shared: None, state })
    }

    fn script(&self, data: SocketAddr, rate: Option<u32>, users: Option<u64>) -> Script {
        Script {
            data,
            model: self.model.clone(),
            variants: self.variants.clone(),
            calls: None,
            rate: Some(rate.unwrap_or(RATE)).filter(|rate| *rate > 0),
            users,
            callers: CALLERS,
            direct: false,
        }
    }
}

/// What has happened so far.
struct Course {
    scenario: Scenario,
    began: Instant,
    tally: Tally,
    /// The last audit record that was told.
    told: u64,
    /// What the demo does next, and when.
    due: Option<(Instant, Deed)>,
    /// Calls that had failed when the trouble began.
    failed_before: Option<u64>,
    decided: Option<Decided>,
    /// When those under way at the decision had arrived.
    arrived: Option<Arrived>,
    /// Users who went from one variant to the other.
    moves: Moves,
    /// What the rollout was last said to wait for.
    waits_for: String,
    /// Whether a person has taken part: then nothing is due at any time.
    person: bool,
    /// Whether it was told that calls go on after the end.
    staying: bool,
    /// What became of the callers' feedback.
    reported: Reported,
    /// How many servers got calls when fewest did, once the file had changed.
    fewest: Option<usize>,
}

/// The last word on the candidate.
struct Decided {
    record: Arc<AuditRecord>,
    at: Instant,
}

/// A moment after the decision.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    calls: u64,
    failed: u64,
    /// Calls that the candidate's server was asked.
    candidate: u64,
}

impl<W: Write> Demo<W> {
    /// Runs a scenario to its end.
    pub(super) async fn play<S: Sidecar>(
        mut self,
        scenario: Scenario,
        start: impl AsyncFnOnce(Configuration) -> Result<S, String>,
    ) -> Result<Ending, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let mut world = World::start(scenario)?;
        let text = world.place(|place| scenario::configuration(scenario, place));
        world.folder.write(&text)?;
        let file = Configuration::File(world.folder.file().to_owned());
        let sidecar = start(file).await.map_err(DemoError::Sidecar)?;
        self.until_ready(&sidecar).await?;
        self.screen.say(&words::opening(scenario, &text, world.folder.file()))?;
        self.screen.say(&words::meanwhile(&program(), &world.model, sidecar.admin(), sidecar.health()))?;

        let script = world.script(sidecar.data(), self.options.rate, scenario.users());
        let answers = caller::start(script, Row::bundled()?.into(), &tasks).await?;
        let mut course = Course::new(scenario, &world);
        let mut reporter = Reporter::start(sidecar.data(), &tasks).await?;
        self.follow(&mut world, &sidecar, &mut course, (answers, &mut reporter)).await?;
        let end = async {
            course.reported = reporter.end().await;
            sidecar.stop().await
        };
        tokio::select! {
            _ = end => {}
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        let ending = course.ending(&world).ok_or(DemoError::Interrupted)?;
        self.screen.say(&words::closing(&course, &ending, world.servers.asked()))?;
        self.screen.say(&words::next(&program(), scenario))?;
        Ok(ending)
    }

    /// Counts answers, reports how they were, tells decisions, and starts the trouble, until the story is over and its
    /// callers have ended.
    async fn follow<S: Sidecar>(
        &mut self,
        world: &mut World,
        sidecar: &S,
        course: &mut Course,
        (mut answers, reporter): (mpsc::Receiver<Called>, &mut Reporter),
    ) -> Result<(), DemoError> {
        let mut changes = sidecar.changes();
        let between = self.screen.every(Duration::from_secs(2));
        let (mut draw, mut tick) = (tokio::time::interval(between), tokio::time::interval(TICK));
        draw.tick().await;
        loop {
            tokio::select! {
                biased;
                Some(()) = self.interrupts.recv() => answers.close(),
                Ok(()) = changes.changed() => self.tell(world, sidecar, course)?,
                _ = tick.tick() => {
                    if let Some(status) = sidecar.rollout(&world.model) {
                        self.screen.say(&course.tended(world, &status)?)?;
                        self.screen.say(&course.waits(status))?;
                    }
                    self.screen.say(&course.deed_due(world)?)?;
                    course.look_after(world);
                    if course.is_over() && self.options.stay {
                        self.screen.say(&course.stay())?;
                    } else if course.is_over() {
                        answers.close();
                    } else if course.is_late() {
                        return Err(DemoError::Undecided);
                    }
                }
                _ = draw.tick() => self.draw(world, sidecar, course)?,
                called = answers.recv() => match called {
                    Some(called) => {
                        called.iter().for_each(|answer| course.heard(answer, reporter));
                        course.tally.add(called);
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn draw<S: Sidecar>(&mut self, world: &World, sidecar: &S, course: &Course) -> io::Result<()> {
        let Some(status) = sidecar.rollout(&world.model) else { return Ok(()) };
        let now = words::Now { course, status: &status, asked: world.servers.asked() };
        self.screen.show(&words::block(&now), &words::line(&now))
    }

    /// Tells what was decided since the last time.
    fn tell<S: Sidecar>(&mut self, world: &World, sidecar: &S, course: &mut Course) -> io::Result<()> {
        let mut records = sidecar.audit(&world.model);
        records.retain(|record| record.sequence > course.told);
        for record in records.into_iter().rev() {
            course.take(&record);
            self.screen.say(&words::event(course, &record))?;
        }
        Ok(())
    }
}

impl Course {
    fn new(scenario: Scenario, world: &World) -> Course {
        let began = Instant::now();
        let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
        Course {
            scenario,
            began,
            tally: Tally::new(variants, Shadow::default()),
            told: 0,
            due: scenario.first().map(|(after, deed)| (began + after, deed)),
            failed_before: None,
            decided: None,
            arrived: None,
            moves: Moves::default(),
            waits_for: String::new(),
            person: false,
            staying: false,
            reported: Reported::default(),
            fewest: None,
        }
    }

    /// What a caller does with its answer.
    fn heard(&mut self, answer: &Answer, reporter: &mut Reporter) {
        if self.scenario.has_feedback() {
            reporter.report(answer);
        }
        if self.scenario.users().is_some() {
            self.moves.add(answer);
        }
    }

    fn take(&mut self, record: &Arc<AuditRecord>) {
        let now = Instant::now();
        self.told = record.sequence;
        self.person |= matches!(record.actor, Actor::Operator { .. });
        if let Some((after, deed)) = self.scenario.after(&record.change) {
            self.due = Some((now + after, deed));
        }
        let over = matches!(record.change.to, State::Promoted | State::RolledBack | State::Held);
        // Where servers are replaced, the first thing that settles is that all run what the file says.
        let settled = record.change.action == Action::Settled && self.scenario.min_ready().is_none();
        if over || settled {
            self.decided.get_or_insert(Decided { record: Arc::clone(record), at: now });
        }
    }

    /// Does what is due; what is told of it.
    fn deed_due(&mut self, world: &World) -> io::Result<Vec<String>> {
        let Some((_, deed)) = self.due.filter(|(due, _)| self.decided.is_none() && *due <= Instant::now())
        else {
            return Ok(Vec::new());
        };
        self.due = None;
        let elapsed = self.began.elapsed();
        match deed {
            Deed::Trouble(trouble) => {
                self.failed_before = Some(self.tally.failed);
                world.servers.begin(trouble);
                Ok(words::trouble(elapsed, trouble))
            }
            Deed::Change => {
                let change = world.place(|place| scenario::changed(self.scenario, place));
                let Some((text, words)) = change else { return Ok(Vec::new()) };
                world.folder.write(&text)?;
                Ok(words::did(elapsed, "file", &words))
            }
        }
    }

    /// Replaces servers where the sidecar waits for that; what is told of it.
    fn tended(&mut self, world: &mut World, status: &Status) -> io::Result<Vec<String>> {
        let Some(total) = self.scenario.min_ready().map(|_| status.endpoints.len()) else {
            return Ok(Vec::new());
        };
        let serves = |one: &&EndpointReport| one.place == Serving && one.ready;
        let serving = status.endpoints.iter().filter(serves).count();
        if total > 0 && self.decided.is_none() {
            self.fewest = Some(self.fewest.unwrap_or(total).min(serving));
        }
        let did = world.servers.tend(&status.endpoints)?;
        Ok(did.iter().flat_map(|what| words::did(self.began.elapsed(), "servers", what)).collect())
    }

    /// How far the new variant of a switch is warmed, where that is news.
    fn waits(&mut self, status: Status) -> Vec<String> {
        let waits_for = status.report.waits_for;
        let waits = status.report.state == State::Waiting && waits_for.contains(WARMED);
        if self.scenario != Scenario::Switch || !waits || waits_for == self.waits_for {
            return Vec::new();
        }
        self.waits_for = waits_for;
        words::did(self.began.elapsed(), "waiting", &format!("for {}", self.waits_for))
    }

    fn look_after(&mut self, world: &World) {
        if self.decided.as_ref().is_some_and(|decided| decided.at.elapsed() >= ARRIVED) {
            let candidate = world.servers.asked().calls;
            let (calls, failed) = (self.tally.calls(), self.tally.failed);
            self.arrived.get_or_insert(Arrived { calls, failed, candidate });
        }
    }

    /// What is told, once, where calls go on after the end.
    fn stay(&mut self) -> Vec<String> {
        let told = std::mem::replace(&mut self.staying, true);
        if told { Vec::new() } else { words::staying(self.began.elapsed()) }
    }

    fn is_over(&self) -> bool {
        self.decided.as_ref().is_some_and(|decided| decided.at.elapsed() >= AFTER)
    }

    fn is_late(&self) -> bool {
        !self.person && self.decided.is_none() && self.began.elapsed() >= LIMIT
    }

    /// The result; none where nothing was decided.
    fn ending(&self, world: &World) -> Option<Ending> {
        let decided = self.decided.as_ref()?;
        let asked = world.servers.asked();
        let counted = Counted {
            calls: self.tally.calls(),
            failed: self.tally.failed,
            failed_before: self.failed_before,
            candidate: asked.failures,
            moved_back: self.moves.back(),
            fewest: self.fewest,
        };
        let ending = Ending::new(self.scenario, &decided.record, counted);
        Some(ending.with_feedback(&self.reported))
    }
}
