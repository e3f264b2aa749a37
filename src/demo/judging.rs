//! Shadows that are judged: a served version that makes noise, a second instance of it as the control, and three
//! shadows, of which one is the same, one only jitters, and one flips labels. It ends when all three are judged.
//!
//! The demo knows which is which, and the sidecar does not: its verdicts come from the answers alone.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::caller::{self, Known, Script};
use super::model::Model;
use super::play::folder::Folder;
use super::rows::Row;
use super::scenario::shadow::{FLIPS, JITTERS, TWIN};
use super::scenario::{self, Named, Place, Scenario};
use super::server::manner::Habit;
use super::server::{self, Standing};
use super::shadow::Shadow;
use super::tally::Tally;
use super::{Configuration, Demo, DemoError, Sidecar, program};
use crate::comparison::judge::Judgement;
use crate::shadow::judges::Judged;
use crate::tasks::Tasks;

/// Calls per second where none said how many.
const RATE: u32 = 400;
const CALLERS: u32 = 16;
/// By then all are judged, or something is wrong.
const LIMIT: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(250);

/// What became of it, for scripts.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdicts {
    scenario: &'static str,
    calls: u64,
    failed: u64,
    seconds: f64,
    /// By the shadow's name.
    shadows: BTreeMap<String, Said>,
}

/// What was said of one shadow.
#[derive(Debug, Clone, Serialize)]
struct Said {
    verdict: &'static str,
    why: String,
    pairs: u64,
    disagreeing: u64,
    triples: u64,
    outputs: BTreeMap<String, Output>,
}

/// How one output did.
#[derive(Debug, Clone, Serialize)]
struct Output {
    measure: Option<Box<str>>,
    inferred: bool,
    disagreement: f64,
    noise: Option<f64>,
    verdict: &'static str,
}

impl Verdicts {
    /// Whether each shadow was told for what it is, and no call failed.
    pub(super) fn are_right(&self) -> bool {
        let said = |name: &str| self.shadows.get(name).map(|said| said.verdict);
        let wanted =
            [(TWIN, Judgement::Equivalent), (JITTERS, Judgement::Equivalent), (FLIPS, Judgement::Different)];
        self.failed == 0 && wanted.iter().all(|(name, wanted)| said(name) == Some(wanted.name()))
    }
}

/// The servers, and where the configuration lies.
struct World {
    model: String,
    version: String,
    servers: Vec<(&'static str, Standing)>,
    folder: Folder,
}

impl World {
    fn start() -> Result<World, DemoError> {
        let habits = [
            ("v1", Some(Habit::Jitters)),
            ("v1b", Some(Habit::Jitters)),
            (TWIN, None),
            (JITTERS, Some(Habit::Jitters)),
            (FLIPS, Some(Habit::Flips)),
        ];
        let [first, ..] = Model::bundled()?;
        let (model, version) = (first.name().to_owned(), first.version().to_owned());
        let first = Arc::new(first);
        let mut servers = Vec::new();
        for (name, habit) in habits {
            let server = server::start(Arc::clone(&first), 0).map_err(DemoError::Bind)?;
            if let Some(habit) = habit {
                server.manner().take_up(habit);
            }
            servers.push((name, server));
        }
        Ok(World { model, version, servers, folder: Folder::new()? })
    }

    fn configuration(&self) -> String {
        let state = self.folder.state();
        let named: Vec<Named<'_>> = self
            .servers
            .iter()
            .map(|(name, server)| Named { name, version: &self.version, server: server.address() })
            .collect();
        let [served, control, others @ ..] = &named[..] else { return String::new() };
        let variants = [served.clone(), control.clone()];
        let (model, variants) = (&self.model, &variants);
        let place = Place { model, variants, servers: &[], others, shared: None, state: &state };
        scenario::configuration(Scenario::Shadow, &place)
    }

    fn known(&self, at: usize) -> Known {
        let (name, server) = &self.servers[at];
        let name = (*name).to_owned();
        Known { variant: name.clone(), name, version: self.version.clone(), server: server.address() }
    }
}

impl<W: Write> Demo<W> {
    /// Runs until all shadows are judged.
    pub(super) async fn judge<S: Sidecar>(
        mut self,
        start: impl AsyncFnOnce(Configuration) -> Result<S, String>,
    ) -> Result<Verdicts, DemoError> {
        let tasks = Tasks::new(Arc::default());
        let world = World::start()?;
        let text = world.configuration();
        world.folder.write(&text)?;
        let file = Configuration::File(world.folder.file().to_owned());
        let sidecar = start(file).await.map_err(DemoError::Sidecar)?;
        self.until_ready(&sidecar).await?;
        self.screen.say(&opening(&text, &world, &sidecar))?;
        let script = Script {
            data: sidecar.data(),
            model: world.model.clone(),
            variants: [world.known(0), world.known(1)],
            calls: None,
            rate: Some(self.options.rate.unwrap_or(RATE)).filter(|rate| *rate > 0),
            users: None,
            callers: CALLERS,
            direct: false,
        };
        let mut answers = caller::start(script, Row::bundled()?.into(), &tasks).await?;
        let (name, version) = (world.servers[0].0, world.version.as_str());
        let mut tally = Tally::new([(name, version)], Shadow::default());
        let began = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        let mut last = Duration::ZERO;
        let mut judged: Vec<Judged> = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = self.interrupts.recv() => answers.close(),
                _ = tick.tick() => {
                    judged = sidecar.rollout(&world.model).map_or_else(Vec::new, |status| status.shadows);
                    let open = |one: &Judged| one.report.verdict == Judgement::NotEnoughData;
                    let over = !judged.is_empty() && !judged.iter().any(open);
                    let elapsed = began.elapsed();
                    if self.screen.live() || elapsed - last >= Duration::from_secs(2) {
                        last = elapsed;
                        self.screen.show(&block(&judged, &tally), &line(&judged, elapsed))?;
                    }
                    if (over || elapsed >= LIMIT) && !self.options.stay {
                        answers.close();
                    }
                }
                called = answers.recv() => match called {
                    Some(called) => tally.add(called),
                    None => break,
                },
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        tokio::select! {
            _ = sidecar.stop() => {}
            Some(()) = self.interrupts.recv() => return Err(DemoError::Interrupted),
        }
        let verdicts = verdicts(&judged, &tally, seconds);
        self.screen.say(&closing(&judged, &verdicts))?;
        Ok(verdicts)
    }
}

fn verdicts(judged: &[Judged], tally: &Tally, seconds: f64) -> Verdicts {
    let said = |one: &Judged| {
        let outputs = one.report.outputs.iter().map(|output| {
            let said = Output {
                measure: output.measure.clone(),
                inferred: output.inferred,
                disagreement: output.disagreement,
                noise: output.noise,
                verdict: output.verdict.name(),
            };
            (output.name.to_string(), said)
        });
        let said = Said {
            verdict: one.report.verdict.name(),
            why: one.report.why.clone(),
            pairs: one.report.pairs,
            disagreeing: one.report.disagreeing,
            triples: one.report.triples,
            outputs: outputs.collect(),
        };
        (one.variant.to_string(), said)
    };
    Verdicts {
        scenario: Scenario::Shadow.name(),
        calls: tally.calls(),
        failed: tally.failed,
        seconds,
        shadows: judged.iter().map(said).collect(),
    }
}

fn opening<S: Sidecar>(text: &str, world: &World, sidecar: &S) -> Vec<String> {
    let file = world.folder.file().display();
    let mut lines = vec![
        format!("Shadows that are judged: {}", Scenario::Shadow.story()),
        String::new(),
        format!("{file}:"),
    ];
    lines.extend(text.lines().map(|line| format!("  {line}")));
    lines.extend([String::new(), "In another terminal:".to_owned()]);
    let (program, model) = (program(), &world.model);
    lines.push(format!("  {program} ctl --admin {} status {model}", sidecar.admin()));
    lines.push(format!("  curl -s http://{}/metrics | grep shadow_verdict", sidecar.health()));
    lines.push(String::new());
    lines
}

fn word(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Equivalent => "equivalent",
        Judgement::Different => "different",
        Judgement::NotEnoughData => "not enough data",
    }
}

fn row(one: &Judged) -> String {
    let report = &one.report;
    let output = |output: &crate::comparison::judge::OutputReport| {
        let noise = output.noise.map_or("–".to_owned(), |noise| format!("{:.1}", noise * 100.0));
        format!("{} {:.1} % ({noise} %)", output.name, output.disagreement * 100.0)
    };
    let outputs: Vec<String> = report.outputs.iter().skip(1).map(output).collect();
    format!(
        "  {:<8} {:<16} {:>6} pairs  {}",
        one.variant,
        word(report.verdict),
        report.pairs,
        outputs.join(", ")
    )
}

fn block(judged: &[Judged], tally: &Tally) -> Vec<String> {
    let mut lines =
        vec![format!("{} calls, {} failed; disagreement (the control's):", tally.calls(), tally.failed)];
    lines.extend(judged.iter().map(row));
    lines
}

fn line(judged: &[Judged], elapsed: Duration) -> String {
    let each = judged.iter().map(|one| format!("{} {}", one.variant, word(one.report.verdict)));
    format!("{:>5.1} s  {}", elapsed.as_secs_f64(), each.collect::<Vec<_>>().join(", "))
}

fn closing(judged: &[Judged], verdicts: &Verdicts) -> Vec<String> {
    let mut lines = vec![String::new(), "Disagreement with what was served (the control's):".to_owned()];
    lines.extend(judged.iter().map(row));
    lines.push(String::new());
    lines.extend(judged.iter().map(|one| format!("  {}: {}", one.variant, one.report.why)));
    let right = if verdicts.are_right() {
        "Each is told for what it is, by its answers alone."
    } else {
        "That is not what they are: twin and jitters are equivalent, flips is not."
    };
    let (calls, failed, seconds) = (verdicts.calls, verdicts.failed, verdicts.seconds);
    lines.push(String::new());
    lines.push(format!("{right} {calls} calls in {seconds:.1} s, {failed} failed."));
    lines
}
