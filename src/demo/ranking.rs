//! A scenario of its own kind: two rankers answer every call together, and what people click on decides.
//!
//! The demo decides nothing here either: it makes the visits and the clicks, and tells what the sidecar says of them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::play::{Counted, Ending, Folder};
use super::scenario::{self, Named, Place, Scenario};
use super::server::{self, Standing};
use super::{Configuration, Demo, DemoError, Sidecar, program};
use crate::rollout::AuditRecord;
use crate::tasks::Tasks;
use crate::verdict::State;

mod films;
mod people;
mod ranker;
mod words;

use films::Ranker;
use people::Visit;
use ranker::RankerServer;

const MODEL: &str = "films";
/// Visits a second where none said how many.
const RATE: u32 = 100;
const PEOPLE: u32 = 16;
/// A comparison that finds nothing is held by its `max_duration` before this.
const LIMIT: Duration = Duration::from_secs(118);
/// How long visits go on after the decision.
const AFTER: Duration = Duration::from_millis(1_000);
const TICK: Duration = Duration::from_millis(20);

/// What has been seen so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    visits: u64,
    /// Saw a list of both.
    merged: u64,
    clicks: u64,
    failed: u64,
}

impl Seen {
    fn add(&mut self, visit: &Result<Visit, String>) {
        self.visits += 1;
        match visit {
            Ok(visit) => {
                self.merged += u64::from(visit.from.contains(','));
                self.clicks += u64::from(visit.clicked.is_some());
            }
            Err(_) => self.failed += 1,
        }
    }
}

/// A comparison as it happens.
struct Course {
    began: Instant,
    seen: Seen,
    told: u64,
    decided: Option<(Arc<AuditRecord>, Instant)>,
    /// The first visit that failed.
    wrong: Option<String>,
}

impl<W: Write> Demo<W> {
    /// Runs it to its end.
    pub(super) async fn rank<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(Configuration) -> Result<S, String>,
    ) -> Result<Ending, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let servers = [("v1", "1.0.0", Ranker::Popular), ("v2", "2.0.0", Ranker::Personal)]
            .map(|(name, version, ranker)| stand(version, ranker).map(|server| (name, version, server)));
        let [first, second] = servers;
        let (first, second) = (first.map_err(DemoError::Bind)?, second.map_err(DemoError::Bind)?);
        let folder = Folder::new()?;
        let named = |(name, version, server): &(&'static str, &'static str, Standing)| {
            (*name, *version, server.address())
        };
        let text = configuration([named(&first), named(&second)], &folder);
        folder.write(&text)?;
        let file = Configuration::File(folder.file().to_owned());
        let sidecar = start(file).await.map_err(DemoError::Sidecar)?;
        self.until_ready(&sidecar).await?;
        self.screen.say(&words::opening(&text, &folder.file().display().to_string()))?;
        self.screen.say(&words::meanwhile(&program(), MODEL, sidecar.admin()))?;
        let rate = self.options.rate.unwrap_or(RATE);
        let script = people::Script { data: sidecar.data(), model: MODEL.to_owned(), rate, people: PEOPLE };
        let visits = people::start(script, &tasks).await?;
        let mut course =
            Course { began: Instant::now(), seen: Seen::default(), told: 0, decided: None, wrong: None };
        self.see(&sidecar, &mut course, visits).await?;
        tokio::select! {
            _ = sidecar.stop() => {}
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        let (record, at) = course.decided.clone().ok_or(DemoError::Interrupted)?;
        let counted = Counted { calls: course.seen.visits, failed: course.seen.failed, ..Counted::default() };
        let ending = Ending::new(Scenario::Interleave, &record, counted).with_wrong(course.wrong);
        self.screen.say(&words::closing(&course.seen, &ending, at.duration_since(course.began)))?;
        Ok(ending)
    }

    async fn see<S: Sidecar>(
        &mut self,
        sidecar: &S,
        course: &mut Course,
        mut visits: mpsc::Receiver<Result<Visit, String>>,
    ) -> Result<(), DemoError> {
        let mut changes = sidecar.changes();
        let between = self.screen.every(Duration::from_secs(2));
        let (mut draw, mut tick) = (tokio::time::interval(between), tokio::time::interval(TICK));
        draw.tick().await;
        loop {
            tokio::select! {
                biased;
                Some(()) = self.interrupts.recv() => visits.close(),
                Ok(()) = changes.changed() => self.hear(sidecar, course)?,
                _ = tick.tick() => {
                    let over = course.decided.as_ref().is_some_and(|(_, at)| at.elapsed() >= AFTER);
                    if over && !self.options.stay {
                        visits.close();
                    } else if course.decided.is_none() && course.began.elapsed() >= LIMIT {
                        return Err(DemoError::Undecided);
                    }
                }
                _ = draw.tick() => self.show(sidecar, course)?,
                visit = visits.recv() => match visit {
                    Some(visit) => {
                        course.seen.add(&visit);
                        match visit {
                            Ok(visit) if !visit.titles.is_empty() => {
                                self.screen.say(&words::first(&visit.titles))?;
                            }
                            Ok(_) => {}
                            Err(why) => {
                                course.wrong.get_or_insert(why);
                            }
                        }
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn show<S: Sidecar>(&mut self, sidecar: &S, course: &Course) -> io::Result<()> {
        let (status, elapsed) = (sidecar.rollout(MODEL), course.began.elapsed());
        let block = words::block(&course.seen, status.as_ref(), elapsed);
        self.screen.show(&block, &words::line(&course.seen, status.as_ref(), elapsed))
    }

    /// Tells what was decided since the last time.
    fn hear<S: Sidecar>(&mut self, sidecar: &S, course: &mut Course) -> io::Result<()> {
        let mut records = sidecar.audit(MODEL);
        records.retain(|record| record.sequence > course.told);
        for record in records.into_iter().rev() {
            course.told = record.sequence;
            if matches!(record.change.to, State::Promoted | State::RolledBack | State::Held) {
                course.decided.get_or_insert((Arc::clone(&record), Instant::now()));
            }
            self.screen.say(&words::event(course.began.elapsed(), &record))?;
        }
        Ok(())
    }
}

fn stand(version: &str, ranker: Ranker) -> io::Result<Standing> {
    let service = RankerServer { ranker, version: version.to_owned() };
    server::serve(service, Arc::default(), 0)
}

fn configuration(servers: [(&str, &str, SocketAddr); 2], folder: &Folder) -> String {
    let variants = servers.map(|(name, version, server)| Named { name, version, server });
    let servers = servers.map(|(_, _, server)| server);
    let (servers, others, shared, state) = (&servers[..], &[], None, &folder.state());
    let place = Place { model: MODEL, variants: &variants, servers, others, shared, state };
    scenario::configuration(Scenario::Interleave, &place)
}
