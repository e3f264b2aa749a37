//! A canary as it happens: callers, two servers, one of which may get into trouble, and the decisions of the sidecar.
//!
//! The demo decides nothing. It makes the calls, starts the trouble, and tells what the sidecar's own audit trail and
//! status say; how long a decision took is measured from the first call that met the trouble until the decision was
//! read there. For every answer the callers report whether it was right, which a guard of the rollout looks at.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::caller::{self, Called, Known, Script};
use super::model::Model;
use super::reporter::{Reported, Reporter};
use super::rows::Row;
use super::scenario::{self, BEFORE_TROUBLE, Named, Scenario, TROUBLE_AT};
use super::server::{self, Standing};
use super::shadow::Shadow;
use super::tally::Tally;
use super::{Demo, DemoError, Sidecar, program};
use crate::rollout::{Actor, AuditRecord};
use crate::tasks::Tasks;
use crate::verdict::{Action, State};

mod ending;
mod folder;
mod words;

pub use ending::Ending;
use folder::Folder;

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
/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(20);

/// Two versions of one model.
struct World {
    model: String,
    variants: [Known; 2],
    /// Of the candidate.
    candidate: Standing,
    _baseline: Standing,
    folder: Folder,
}

impl World {
    fn start() -> Result<World, DemoError> {
        let [first, second, _] = Model::bundled()?;
        let model = first.name().to_owned();
        let versions = [&first, &second].map(|model| model.version().to_owned());
        let stand = |model: Model| server::start(Arc::new(model), 0).map_err(DemoError::Bind);
        let (baseline, candidate) = (stand(first)?, stand(second)?);
        let [first, second] = versions;
        let known = |name: &str, version, server: &Standing| Known {
            name: name.to_owned(),
            version,
            server: server.address(),
        };
        let variants = [known("v1", first, &baseline), known("v2", second, &candidate)];
        Ok(World { model, variants, candidate, _baseline: baseline, folder: Folder::new()? })
    }

    fn configuration(&self) -> String {
        let variants = self.variants.each_ref().map(|Known { name, version, server }| Named {
            name,
            version,
            server: *server,
        });
        scenario::configuration(&self.model, &variants, &self.folder.state())
    }

    fn script(&self, data: SocketAddr, rate: Option<u32>) -> Script {
        Script {
            data,
            model: self.model.clone(),
            variants: self.variants.clone(),
            calls: None,
            rate: Some(rate.unwrap_or(RATE)).filter(|rate| *rate > 0),
            users: None,
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
    /// When the trouble is due, while it has not begun.
    trouble: Option<Instant>,
    decided: Option<Decided>,
    /// Calls, and those that the candidate's server was asked, when those under way at the decision had arrived.
    arrived: Option<(u64, u64)>,
    /// Whether a person has taken part: then nothing is due at any time.
    person: bool,
    /// Whether it was told that calls go on after the end.
    staying: bool,
    /// What became of the callers' feedback.
    reported: Reported,
}

/// The last word on the candidate.
struct Decided {
    record: Arc<AuditRecord>,
    at: Instant,
}

impl<W: Write> Demo<W> {
    /// Runs a scenario to its end.
    pub(super) async fn canary<S: Sidecar>(
        mut self,
        scenario: Scenario,
        start: impl AsyncFnOnce(String) -> Result<S, String>,
    ) -> Result<Ending, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let world = World::start()?;
        let text = world.configuration();
        world.folder.write(&text)?;
        let sidecar = start(text.clone()).await.map_err(DemoError::Sidecar)?;
        self.until_ready(&sidecar).await?;
        self.screen.say(&words::opening(scenario, &text, world.folder.file()))?;
        self.screen.say(&words::meanwhile(&program(), &world.model, sidecar.admin(), sidecar.health()))?;

        let script = world.script(sidecar.data(), self.options.rate);
        let answers = caller::start(script, Row::bundled()?.into(), &tasks).await?;
        let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
        let mut course = Course {
            scenario,
            began: Instant::now(),
            tally: Tally::new(variants, Shadow::default()),
            told: 0,
            trouble: None,
            decided: None,
            arrived: None,
            person: false,
            staying: false,
            reported: Reported::default(),
        };
        let mut reporter = Reporter::start(sidecar.data(), &tasks).await?;
        self.follow(&world, &sidecar, &mut course, (answers, &mut reporter)).await?;
        let end = async {
            course.reported = reporter.end().await;
            sidecar.stop().await
        };
        tokio::select! {
            _ = end => {}
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        let ending = course.ending(&world).ok_or(DemoError::Interrupted)?;
        self.screen.say(&words::closing(&course, &ending, world.candidate.manner().asked()))?;
        self.screen.say(&words::next(&program(), scenario))?;
        Ok(ending)
    }

    /// Counts answers, reports how they were, tells decisions, and starts the trouble, until the story is over and its
    /// callers have ended.
    async fn follow<S: Sidecar>(
        &mut self,
        world: &World,
        sidecar: &S,
        course: &mut Course,
        (mut answers, reporter): (mpsc::Receiver<Called>, &mut Reporter),
    ) -> Result<(), DemoError> {
        let mut changes = sidecar.changes();
        let between = if self.screen.live() { Duration::from_millis(250) } else { Duration::from_secs(2) };
        let (mut draw, mut tick) = (tokio::time::interval(between), tokio::time::interval(TICK));
        draw.tick().await;
        loop {
            tokio::select! {
                biased;
                Some(()) = self.interrupts.recv() => answers.close(),
                Ok(()) = changes.changed() => self.tell(world, sidecar, course)?,
                _ = tick.tick() => {
                    self.screen.say(&course.trouble_due(world))?;
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
                        called.iter().for_each(|answer| reporter.report(answer));
                        course.tally.add(called);
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn draw<S: Sidecar>(&mut self, world: &World, sidecar: &S, course: &Course) -> io::Result<()> {
        let Some(status) = sidecar.rollout(&world.model) else { return Ok(()) };
        let now = words::Now { course, status: &status, asked: world.candidate.manner().asked() };
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
    fn take(&mut self, record: &Arc<AuditRecord>) {
        let now = Instant::now();
        self.told = record.sequence;
        self.person |= matches!(record.actor, Actor::Operator { .. });
        if record.change.action == Action::Advanced && record.change.step == Some(TROUBLE_AT) {
            self.trouble = self.scenario.trouble().map(|_| now + BEFORE_TROUBLE);
        }
        if matches!(record.change.to, State::Promoted | State::RolledBack | State::Held) {
            self.decided.get_or_insert(Decided { record: Arc::clone(record), at: now });
        }
    }

    /// Starts the trouble once it is due; what is told of it.
    fn trouble_due(&mut self, world: &World) -> Vec<String> {
        let Some(trouble) = self.scenario.trouble() else { return Vec::new() };
        if self.decided.is_some() || self.trouble.is_none_or(|due| due > Instant::now()) {
            return Vec::new();
        }
        self.trouble = None;
        world.candidate.manner().begin(trouble);
        words::trouble(self.began.elapsed(), trouble)
    }

    fn look_after(&mut self, world: &World) {
        if self.decided.as_ref().is_some_and(|decided| decided.at.elapsed() >= ARRIVED) {
            let asked = world.candidate.manner().asked().calls;
            self.arrived.get_or_insert((self.tally.calls(), asked));
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
        let asked = world.candidate.manner().asked();
        let (calls, failed) = (self.tally.calls(), self.tally.failed);
        let ending = Ending::new(self.scenario, &decided.record, (calls, failed), asked.failures);
        Some(ending.with_feedback(&self.reported))
    }
}
