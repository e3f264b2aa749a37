//! What a strategy would do in a world that is written down: thousands of rollouts on a virtual clock.
//!
//! It is the very code that judges live calls. Only the calls are drawn, from a seed, so that a scenario has the same
//! outcome on every machine. What calls are like is a `world`: `stream` passes through it, with its `strange` callers
//! and what is `learnt` later. It knows of who is judged there only what `judged` says, which may be many replicas, a
//! `fleet`. `tally` sums up many runs.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Args;
use rand::SeedableRng;
use rand::rngs::StdRng;

mod chance;
mod figure;
mod file;
mod fleet;
mod judged;
mod learnt;
mod naive;
mod print;
mod ranked;
mod strange;
mod stream;
mod tally;
mod weather;
mod world;

pub use figure::Figure;
pub use file::{Scenario, read, read_text};
use stream::{Course, Laws};
pub use tally::{Lengths, Mean, Share, Spread, Summary};

/// The variants of simulated models: the first two of every one, more of a bandit that asks for them.
const VARIANTS: [&str; 8] = ["stable", "next", "third", "fourth", "fifth", "sixth", "seventh", "eighth"];

/// What to simulate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion simulate canary.yaml             one scenario, as often as it says
  parhelion simulate --table scenarios/      all in a directory; one line for each figure
  parhelion simulate --runs 200 --seed 7 FILE  fewer runs, other chances
  parhelion simulate --json FILE | jq .rolled_back  for machines, one object for each scenario

A scenario is a world (calls, errors, latency, feedback), a strategy in the words of the configuration, and what is
expected. Exit code 1 says that something was not as expected. docs/simulate.md has all keys.")]
pub struct Options {
    /// Scenarios, as YAML, or directories of such files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object for each scenario
    #[arg(long)]
    json: bool,
    /// Print what was expected beside what was measured, one line for each figure, and nothing else
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// How often, instead of what the scenario says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Where chance begins, instead of what the scenario says
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All scenarios as expected.
    AsExpected,
    /// One at least was not.
    Otherwise,
    /// One at least could not be read; none was run.
    Refused,
}

/// Simulates, and prints what came of it.
///
/// # Errors
/// Those of writing.
pub fn simulate(options: &Options) -> io::Result<Ended> {
    let (scenarios, refusals) = read_all(&options.files);
    if !refusals.is_empty() {
        writeln!(io::stderr(), "{}", refusals.join("\n"))?;
        return Ok(Ended::Refused);
    }
    let mut rows = Vec::new();
    for (place, (name, scenario)) in scenarios.iter().enumerate() {
        let scenario = scenario.with(options.runs, options.seed);
        let label = format!("{name} ({} of {})", place + 1, scenarios.len());
        let summary = scenario.play(&|done, all| report(&label, done, all));
        if options.json {
            writeln!(io::stdout(), "{}", json(name, &scenario, &summary))?;
        } else if !options.table {
            writeln!(io::stdout(), "{}", scenario.text(name, &summary))?;
        }
        rows.push((name.clone(), summary));
    }
    if options.table {
        writeln!(io::stdout(), "{}", print::table(&rows))?;
    }
    let expected = rows.iter().all(|(_, summary)| summary.is_as_expected());
    Ok(if expected { Ended::AsExpected } else { Ended::Otherwise })
}

/// All scenarios by their names, and what was refused, in words.
fn read_all(paths: &[PathBuf]) -> (Vec<(String, Scenario)>, Vec<String>) {
    let (mut scenarios, mut refusals) = (Vec::new(), Vec::new());
    for path in paths {
        let files = scenarios_in(path).unwrap_or_else(|error| {
            refusals.push(format!("parhelion: {} is refused: {error}", path.display()));
            Vec::new()
        });
        for file in files {
            let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            match read(&file) {
                Ok(scenario) => scenarios.push((name, scenario)),
                Err(errors) => {
                    refusals.push(format!("parhelion: {} is refused\n{errors}", file.display()));
                }
            }
        }
    }
    (scenarios, refusals)
}

/// The file itself, or all `.yaml` files in and below that directory, by name.
///
/// # Errors
/// A directory that cannot be read, or has none.
pub fn scenarios_in(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(io::Error::other("no .yaml file is in it; name a scenario, or a directory of scenarios"));
    }
    Ok(files)
}

/// Says how far it is, where somebody looks on.
fn report(name: &str, done: u64, all: u64) {
    let mut out = io::stderr().lock();
    if out.is_terminal() {
        // Where even this cannot be written nobody looks on.
        let _ = write!(out, "\r\x1b[K");
        if done < all {
            let _ = write!(out, "{name}: {done} of {all} runs");
        }
        let _ = out.flush();
    }
}

fn json(name: &str, scenario: &Scenario, summary: &Summary) -> String {
    let mut object =
        serde_json::json!({"scenario": name, "seed": scenario.seed, "ok": summary.is_as_expected()});
    if let (Some(object), Ok(serde_json::Value::Object(more))) =
        (object.as_object_mut(), serde_json::to_value(summary))
    {
        object.extend(more);
    }
    object.to_string()
}

impl Scenario {
    /// The same with other runs and another seed, where they are given.
    pub fn with(&self, runs: Option<u64>, seed: Option<u64>) -> Scenario {
        Scenario { runs: runs.unwrap_or(self.runs), seed: seed.unwrap_or(self.seed), ..self.clone() }
    }

    /// How often it is run where time is short, in tests.
    pub fn quick(&self) -> u64 {
        self.quick
    }

    /// Runs it as often as it says, on all cores; `progress` is told how many of how many runs are done.
    pub fn play(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Summary {
        let laws = self.world.latency.as_ref().map(Laws::new);
        let next = AtomicU64::new(0);
        let work = || {
            let mut courses = Vec::new();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= self.runs {
                    return courses;
                }
                if run.is_multiple_of(64) {
                    progress(run, self.runs);
                }
                courses.push((run, self.run(run, laws.as_ref())));
            }
        };
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut courses: Vec<(u64, Option<Course>)> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut courses = work();
            for other in others {
                // A thread that panicked has said so, and its runs are missed below.
                courses.extend(other.join().unwrap_or_default());
            }
            courses
        });
        progress(self.runs, self.runs);
        courses.sort_by_key(|(run, _)| *run);
        let courses: Vec<Course> = courses.into_iter().filter_map(|(_, course)| course).collect();
        tally::sum_up(self, &courses)
    }

    fn run(&self, run: u64, laws: Option<&Laws>) -> Option<Course> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&run.to_le_bytes());
        stream::run(self, laws, &mut StdRng::from_seed(seed))
    }

    /// A summary of it, for people.
    pub fn text(&self, name: &str, summary: &Summary) -> String {
        print::text(name, &format!("{} ({} runs, seed {})", self.about, summary.runs, self.seed), summary)
    }
}
