//! What the demo shows where no scenario is named: a split between two versions, and a third that is their shadow.
//!
//! Two versions answer, each caller is told which, and a small collector receives the sidecar's spans unless the
//! environment names another. Between the calls the same ones go directly to the servers, so what the sidecar adds
//! is measured in the same run.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::caller::{self, Called, Known, Script};
use super::rows::Row;
use super::shadow::{Copies, Shadow};
use super::tally::{Summary, Tally};
use super::{Configuration, Demo, DemoError, Ended, Ports, Sidecar, program};
use crate::tasks::Tasks;

mod telling;
mod words;
pub(super) mod world;

use telling::Telling;
use world::World;

/// Calls where nobody sees a screen and none said how many.
const CALLS_UNSEEN: u64 = 2_000;
/// Calls at a time.
const CALLERS: u32 = 8;
/// Calls per second where none said how many.
const RATE: u32 = 1_000;
/// There in a clone of the repository only.
const AB: &str = "examples/ab/config.yaml";
/// How long copies that are under way at the end may take, before they are cut and counted as such.
const SETTLE: Duration = Duration::from_secs(3);

impl<W: Write> Demo<W> {
    /// Runs it; whether no call failed.
    pub(super) async fn split<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(Configuration) -> Result<S, String>,
    ) -> Result<bool, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let collect = !self.options.models_only && own_collector();
        let world = World::start(&tasks, collect, self.options.shadow)?;
        if self.options.models_only {
            self.screen.say(&[world.configuration(Ports::Usual)])?;
            self.interrupts.recv().await;
            return Ok(true);
        }
        let sidecar =
            start(Configuration::Text(world.configuration(Ports::Free))).await.map_err(DemoError::Sidecar)?;
        self.until_ready(&sidecar).await?;
        self.open(&world, &sidecar)?;
        let script = self.script(&world, sidecar.data());
        let rows: Arc<[Row]> = Row::bundled()?.into();
        let calls = script.calls;
        let answers = caller::start(script, rows, &tasks).await?;
        let (mut tally, told) = self.watch(&world, &sidecar, answers, calls).await?;

        let end = async {
            settle(&sidecar).await;
            sidecar.stop().await
        };
        let Ended { mut spans, copies } = tokio::select! {
            ended = end => ended,
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        };
        if let Some((collector, _)) = &world.collector {
            spans.exported = collector.spans();
        }
        tally.shadow.copies = copies;
        let summary = tally.summary(spans);
        self.close(&world, &tally, &summary, told)?;
        Ok(summary.failed == 0)
    }

    fn script(&self, world: &World, data: SocketAddr) -> Script {
        let unseen = (!self.screen.live()).then_some(CALLS_UNSEEN);
        Script {
            data,
            model: world.model.clone(),
            variants: world.variants.clone(),
            calls: self.options.calls.or(unseen),
            rate: Some(self.options.rate.unwrap_or(RATE)).filter(|rate| *rate > 0),
            users: self.options.users,
            callers: CALLERS,
            direct: true,
        }
    }

    fn open<S: Sidecar>(&mut self, world: &World, sidecar: &S) -> io::Result<()> {
        if self.options.json {
            return Ok(());
        }
        let [data, health, admin] =
            [sidecar.data(), sidecar.health(), sidecar.admin()].map(|at| at.to_string());
        self.screen.say(&words::opening(&world.model, &data, &health, &admin))
    }

    /// Counts answers until there are no more, shows them meanwhile, and tells the story once its spans are there.
    async fn watch<S: Sidecar>(
        &mut self,
        world: &World,
        sidecar: &S,
        mut answers: mpsc::Receiver<Called>,
        calls: Option<u64>,
    ) -> Result<(Tally, Telling), DemoError> {
        let variants = world.variants.iter().map(|known| (known.name.as_str(), known.version.as_str()));
        let Known { name, version, .. } = world.shadow.clone();
        let mut tally = Tally::new(variants, Shadow { name, version, copies: Copies::default() });
        let mut telling = Telling::default();
        let between = self.screen.every(Duration::from_secs(1));
        let mut draw = tokio::time::interval(between);
        draw.tick().await;
        loop {
            tokio::select! {
                called = answers.recv() => {
                    let Some(called) = called else { return Ok((tally, telling)) };
                    telling.look_at(&called, tally.calls());
                    tally.add(called);
                }
                _ = draw.tick(), if !self.options.json => {
                    if let Some(story) = telling.due(world, false) {
                        self.screen.say(&words::story(&story))?;
                    }
                    tally.shadow.copies = sidecar.copies();
                    let (block, line) = (words::block(&tally, calls, world.spans()), words::plain(&tally, world.spans()));
                    self.screen.show(&block, &line)?;
                }
                Some(()) = self.interrupts.recv() => answers.close(),
            }
        }
    }

    fn close(
        &mut self,
        world: &World,
        tally: &Tally,
        summary: &Summary,
        mut telling: Telling,
    ) -> io::Result<()> {
        if self.options.json {
            return self.screen.say(&[serde_json::to_string(summary)?]);
        }
        // The last spans are here now, or will never be: a story without spans is still one.
        let story = telling.due(world, true).or_else(|| telling.untold());
        if let Some(story) = story {
            self.screen.say(&words::story(&story))?;
        }
        self.screen.say(&words::closing(tally, summary))?;
        self.screen.say(&words::next(&program(), Some(AB).filter(|path| Path::new(path).exists())))
    }
}

/// Waits until no copy is under way, for a while.
async fn settle<S: Sidecar>(sidecar: &S) {
    let quiet = async {
        while !sidecar.copies().settled() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Those that take longer are cut by the end of the sidecar, which counts them.
    let _ = tokio::time::timeout(SETTLE, quiet).await;
}

/// Whether spans go to the demo's own collector: the variables of the specification name no other.
fn own_collector() -> bool {
    let named = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !named("OTEL_EXPORTER_OTLP_ENDPOINT") && !named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
}
