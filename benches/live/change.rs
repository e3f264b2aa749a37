//! Changes that somebody asks for while all is well: a switch and its way back, and a rollout of several stages. What
//! they are held to is that no caller notices.
//!
//! Whether a call went to the wrong variant is judged by when it *reached the server*, which is never before it was
//! assigned; records tell whole milliseconds, rounded down. Both make the figures larger than they are.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Options;
use crate::caller::{self, Script, Seen};
use crate::plans;
use crate::rows::{CALM, Row};
use crate::server::{self, Server};
use crate::sidecar::Sidecar;

/// So long after its record a change holds for every call.
const SOON: Duration = Duration::from_millis(5);
/// A switch has flipped by then.
const FLIPPED: Duration = Duration::from_secs(20);
/// Calls go on so long after each change.
const AFTER: Duration = Duration::from_secs(2);
/// A rollout of several stages is at its end by then.
const ENDED: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);

/// One figure of a round, and what it must not exceed.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) words: &'static str,
    pub(crate) value: f64,
    /// None where it is only told.
    pub(crate) most: Option<f64>,
}

impl Figure {
    fn holds(&self) -> bool {
        self.most.is_none_or(|most| self.value <= most)
    }
}

/// What a round came to.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) figures: Vec<Figure>,
    /// Calls that failed, by how.
    failures: String,
}

impl Round {
    /// Whether every bound was held.
    pub(crate) fn holds(&self) -> bool {
        self.figures.iter().all(Figure::holds)
    }

    /// In a line, while it goes on.
    pub(crate) fn line(&self) -> String {
        let told = self.figures.iter().map(|figure| {
            let broken = if figure.holds() { "" } else { " NOT HELD" };
            format!("{}: {}{broken}", figure.words, plain(figure.value))
        });
        format!("{}{}", told.collect::<Vec<_>>().join(", "), self.failures)
    }

    pub(crate) fn json(&self) -> Value {
        let one = |figure: &Figure| (figure.name.to_owned(), json!(figure.value));
        Value::Object(self.figures.iter().map(one).collect())
    }
}

/// As short as it may be told.
pub(crate) fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Plays one round of `row`.
pub(crate) fn play(row: Row, options: &Options) -> Result<Round, Box<dyn Error>> {
    let [(v1, one), (v2, other)] = server::start()?;
    let at = [one, other];
    let plan = if row == Row::Switch { plans::pinned(at, "v1") } else { plans::staged(at) };
    let sidecar = Sidecar::start(&options.parhelion, &plan)?;
    let script =
        Script { to: sidecar.data, rate: options.rate, models: 1, users: row.users(), strangers: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (seen, mut figures) = match row {
        Row::Switch => {
            let turned = plans::pinned(at, "v2");
            let (seen, asked) = runtime.block_on(switch(script, &sidecar, &turned, &v2))?;
            (seen, of_switch(&sidecar.audit()?, [&v1, &v2], asked)?)
        }
        _ => {
            let (seen, took) = runtime.block_on(stages(script, &v1))?;
            let figures = of_stages(&sidecar.audit()?, &seen, took)?;
            (seen, figures)
        }
    };
    figures.insert(0, told("calls", "calls", seen.calls as f64));
    figures.insert(1, bound("failed", "failed", seen.failed() as f64, 0.0));
    figures.push(told("longest_wait_ms", "longest wait, ms", millis(seen.longest)));
    let failures = if seen.failed() > 0 { format!(" {:?}", seen.failures) } else { String::new() };
    Ok(Round { figures, failures })
}

/// All calls of a switch and of its way back; when the file changed, since 1970.
async fn switch(
    script: Script,
    sidecar: &Sidecar,
    turned: &str,
    v2: &Server,
) -> Result<(Seen, Duration), Box<dyn Error>> {
    let callers = caller::start(script);
    tokio::time::sleep(CALM).await;
    let asked = server::now();
    sidecar.rewrite(turned)?;
    until(FLIPPED, "the switch never flips", || v2.calls() > 0).await?;
    tokio::time::sleep(AFTER).await;
    let back = sidecar.ctl(&["rollback", "m0", "--reason", "the way back is measured"]);
    // Callers share this thread.
    tokio::task::spawn_blocking(move || back.run()).await?.map_err(|error| error.to_string())?;
    tokio::time::sleep(AFTER).await;
    Ok((callers.stop().await, Duration::from_nanos(asked)))
}

fn of_switch(
    audit: &[Value],
    [v1, v2]: [&Server; 2],
    asked: Duration,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let flip = at(audit, "flipped").ok_or("no record says that it flipped")?;
    let revert = at(audit, "rolled_back").ok_or("no record says that it was rolled back")?;
    let (old, new) = (v1.arrivals(), v2.arrivals());
    let between = |of: &[Duration], from: Duration, to: Duration| -> Vec<Duration> {
        of.iter().copied().filter(|moment| (from..to).contains(moment)).collect()
    };
    let late_flip = between(&old, flip, revert);
    let late_revert = between(&new, revert, Duration::MAX);
    let early = between(&new, Duration::ZERO, flip).len();
    let wrong = late_flip.iter().filter(|moment| **moment > flip + SOON).count()
        + late_revert.iter().filter(|moment| **moment > revert + SOON).count();
    let last = |late: &[Duration], since: Duration| {
        late.iter().max().map_or(0.0, |moment| millis(moment.saturating_sub(since)))
    };
    let most = millis(SOON);
    Ok(vec![
        told("flipped_after_ms", "file changed → flipped, ms", millis(flip.saturating_sub(asked))),
        bound("last_of_old_ms", "last call at v1 after the flip, ms", last(&late_flip, flip), most),
        bound("last_of_new_ms", "last call at v2 after the revert, ms", last(&late_revert, revert), most),
        bound("early", "calls at v2 before the flip", early as f64, 0.0),
        bound("wrong", "calls at the wrong variant later than 5 ms", wrong as f64, 0.0),
    ])
}

/// All calls of a rollout of several stages, and how long it took.
async fn stages(script: Script, v1: &Server) -> Result<(Seen, Duration), Box<dyn Error>> {
    let callers = caller::start(script);
    let began = Instant::now();
    until(ENDED, "the first call never comes", || v1.calls() > 0).await?;
    // The baseline has every call, or half of them at least, until the candidate has everything.
    let quiet = || v1.last().is_some_and(|last| Duration::from_nanos(server::now()) > last + AFTER);
    until(ENDED, "the rollout does not come to its end", quiet).await?;
    Ok((callers.stop().await, began.elapsed().saturating_sub(AFTER)))
}

fn of_stages(audit: &[Value], seen: &Seen, took: Duration) -> Result<Vec<Figure>, Box<dyn Error>> {
    at(audit, "promoted").ok_or("no record says that everything went to the candidate")?;
    let began = audit.iter().filter(|record| record["action"] == "began").count();
    Ok(vec![
        told("seconds", "copies → everything, s", took.as_secs_f64()),
        told("stages_and_steps", "changes of stage or step", steps(audit) as f64),
        bound("stages_missing", "stages that never began", 2_usize.saturating_sub(began) as f64, 0.0),
        told("returned", "calls of units that had v2 before", seen.returned as f64),
        bound("moved_back", "of them back at v1", seen.moved_back as f64, 0.0),
    ])
}

fn steps(audit: &[Value]) -> usize {
    let moved = ["began", "advanced", "promoted"];
    audit.iter().filter(|record| moved.iter().any(|action| record["action"] == *action)).count()
}

async fn until(
    patience: Duration,
    never: &str,
    mut what: impl FnMut() -> bool,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    while !what() {
        if began.elapsed() > patience {
            return Err(never.into());
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// When a change of that kind was made, since 1970.
fn at(audit: &[Value], action: &str) -> Option<Duration> {
    let record = audit.iter().find(|record| record["action"] == action)?;
    record["at_unix_ms"].as_u64().map(Duration::from_millis)
}

fn told(name: &'static str, words: &'static str, value: f64) -> Figure {
    Figure { name, words, value, most: None }
}

fn bound(name: &'static str, words: &'static str, value: f64, most: f64) -> Figure {
    Figure { name, words, value, most: Some(most) }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
