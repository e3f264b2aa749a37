//! `parhelion replay`: logged calls to a candidate, and its answers judged beside those that were served.
//!
//! Calls are sent as they were logged, under the candidate's own name of the model, as fast as it answers with so many
//! at once, at a rate, or with the pauses that they came with. Answers are compared and judged by what compares and
//! judges those of shadows. Nothing of it reaches a rollout: it is for a candidate that no live call has seen.
//!
//! | file | what it holds |
//! |---|---|
//! | `recorded` | calls of a log that can be sent again |
//! | `message` | from the protocol's JSON back to messages |
//! | `rules` | how answers are compared, on the command line |
//! | `candidate` | who is asked |
//! | `judged` | what the answers prove |
//! | `summary` | what came of it, in words and as JSON |

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::time::{Instant, sleep_until};

use crate::comparison::judge::Judgement;
use crate::config::units::{self, Percent};
use crate::log::ask::{Ended, Moment, complain, open, passed_over};
use crate::tasks::Tasks;

mod candidate;
mod judged;
mod message;
mod recorded;
mod rules;
mod summary;

use candidate::{Candidate, Found};
use judged::Verdict;
use recorded::{Calls, Reading, Recorded};
use summary::Summary;

/// Which log, to whom, how fast.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion replay --log DIR -c parhelion.yaml --model fraud --variant v2
  parhelion replay --log DIR --to http://127.0.0.1:8002 --rate 200
  parhelion replay --log DIR --to http://127.0.0.1:8002 --as-recorded --since 1h --json
  parhelion replay --log DIR --to http://127.0.0.1:8002 --compare label=class --compare scores=numeric,absolute=1e-3
  parhelion replay --log DIR --to http://127.0.0.1:8002 --control http://127.0.0.1:8001 --disagreement 2%
  parhelion replay --log DIR --to http://127.0.0.1:8002 --served v1                  beside answers of v1 only
  parhelion replay --log DIR --model fraud --samples > warm.jsonl      a file to warm variants with

It needs messages in the log (`log.payloads`). What was masked cannot be sent, and is counted. Exit codes: 0 the
candidate is equivalent, or that is not known yet; 1 it is different, or nothing was sent; 2 it cannot begin.")]
pub struct Options {
    /// The directory of `log.dir`
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only this model's calls
    #[arg(long)]
    model: Option<String>,
    /// Only calls that this variant answered, where several did
    #[arg(long, value_name = "VARIANT")]
    served: Option<String>,
    /// The configuration that knows the candidate, or the control
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The candidate: a variant of the configuration, judged as its shadow of that name where there is one
    #[arg(long, requires = "config", conflicts_with = "to")]
    variant: Option<String>,
    /// The candidate: where it is reached, http://HOST:PORT
    #[arg(long, value_name = "URL", required_unless_present_any = ["variant", "samples"])]
    to: Option<String>,
    /// What the server at --to calls the model, where it differs
    #[arg(long, value_name = "NAME", requires = "to")]
    model_name: Option<String>,
    /// Another instance of what was served, which is sent every call too, so that its own noise does not count against
    /// the candidate: http://HOST:PORT, or a variant of the configuration
    #[arg(long, value_name = "URL_OR_VARIANT", conflicts_with = "samples")]
    control: Option<String>,
    /// Calls a second
    #[arg(long, value_name = "N", conflicts_with = "as_recorded", value_parser = above_zero)]
    rate: Option<f64>,
    /// With the pauses that they came with
    #[arg(long)]
    as_recorded: bool,
    /// Calls under way at once
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    at_once: u16,
    /// For one answer
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = above_zero)]
    patience: f64,
    /// From this moment: `2h` ago, or a time like 2026-11-29T07:30
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Until this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Calls at most, the first of them
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    limit: usize,
    /// How an output is compared: OUTPUT=MEASURE[,KEY=VALUE…], in the words of `shadows[].compare`; others by their type
    #[arg(long, value_name = "RULE")]
    compare: Vec<String>,
    /// Disagreement that is allowed, beyond the control's where there is one: the mean part of an output's rows
    #[arg(long, value_name = "SHARE", value_parser = part)]
    disagreement: Option<Percent>,
    /// Send nothing: write the requests as lines of JSON
    #[arg(long, conflicts_with_all = ["to", "variant"])]
    samples: bool,
    /// One JSON object
    #[arg(long, conflicts_with = "samples")]
    json: bool,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "is no number above 0".to_owned())
}

fn part(text: &str) -> Result<Percent, String> {
    let share = units::percent(text).map_err(|refused| format!("{refused}; {}", refused.hint))?;
    let between = share != Percent::NONE && share != Percent::ALL;
    if between {
        Ok(share)
    } else {
        Err("allows nothing, or everything; write a share between, like 1%".to_owned())
    }
}

/// What is still to be sent, and what came of the rest.
struct Shared {
    waiting: Mutex<VecDeque<(Duration, Recorded)>>,
    summary: Mutex<Summary>,
}

/// Does what the options say.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(options: Options, now: SystemTime) -> io::Result<Ended> {
    let rules = match rules::read(&options.compare) {
        Ok(rules) => rules,
        Err(why) => return Ok(refused(&why)),
    };
    let Some(mut reader) = open(&options.log) else { return Ok(Ended::Refused) };
    let mut reading = Reading {
        model: options.model.as_deref(),
        served: options.served.as_deref(),
        since: options.since.map_or(i64::MIN, |moment| moment.micros(now)),
        until: options.until.map_or(i64::MAX, |moment| moment.micros(now)),
        most: options.limit,
    };
    if options.samples {
        let calls = recorded::read(&mut reader, &reading);
        passed_over(&reader);
        return samples(&calls.all);
    }
    let mut found = match candidate::find(&options).await {
        Ok(found) => found,
        Err(why) => return Ok(refused(&why)),
    };
    reading.model = reading.model.or(found.model.as_deref());
    let calls = recorded::read(&mut reader, &reading);
    passed_over(&reader);
    let model = match several(&calls) {
        Ok(model) => model,
        Err(why) => return Ok(refused(&why)),
    };
    found.judging.compare = rules::over(&found.judging.compare, rules);
    found.judging.disagreement = options.disagreement.or(found.judging.disagreement);
    let (candidate, control) =
        (found.candidate.0.clone(), found.control.as_ref().map(|(name, _)| name.clone()));
    let shared = replay(&options, found, calls).await;
    let summary = shared.summary();
    let judged = summary.verdict.judged(&model, &candidate, control.as_ref());
    let mut out = io::stdout().lock();
    match options.json {
        true => writeln!(out, "{:#}", summary.json(&judged))?,
        false => summary.tell(&judged, &mut out)?,
    }
    let different = summary.verdict.judgement() == Judgement::Different;
    Ok(if summary.sent() == 0 || different { Ended::Nothing } else { Ended::Done })
}

fn refused(why: &str) -> Ended {
    complain(why);
    Ended::Refused
}

/// The one model that the calls are of.
fn several(calls: &Calls) -> Result<Arc<str>, String> {
    if calls.models.len() > 1 {
        let names: Vec<&str> = calls.models.iter().map(String::as_str).collect();
        return Err(format!("the log has several models; choose one: --model {}", names.join(", --model ")));
    }
    Ok(calls.models.first().map_or("".into(), |name| name.as_str().into()))
}

fn samples(recorded: &[Recorded]) -> io::Result<Ended> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for one in recorded {
        if let Some(line) = one.line() {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(if recorded.is_empty() { Ended::Nothing } else { Ended::Done })
}

async fn replay(options: &Options, found: Found, calls: Calls) -> Arc<Shared> {
    let first = calls.all.first().map_or(0, |one| one.time);
    let due = |(number, one): (usize, Recorded)| {
        let due = match options.rate {
            Some(rate) => seconds(number as f64 / rate),
            None if options.as_recorded => {
                Duration::from_micros(u64::try_from(one.time - first).unwrap_or(0))
            }
            None => Duration::ZERO,
        };
        (due, one)
    };
    let waiting = Mutex::new(calls.all.into_iter().enumerate().map(due).collect());
    let verdict = Verdict::new(found.judging, found.control.is_some());
    let shared = Arc::new(Shared { waiting, summary: Mutex::new(Summary::new(calls.skipped, verdict)) });
    let tasks = Tasks::new(Arc::default());
    let patience = seconds(options.patience);
    let start = Instant::now();
    let senders: Vec<_> = (0..options.at_once)
        .map(|_| {
            let shared = Arc::clone(&shared);
            let candidate = found.candidate.1.clone();
            let control = found.control.as_ref().map(|(_, control)| control.clone());
            tasks.spawn("replay", send(shared, (candidate, control), (start, patience)))
        })
        .collect();
    for sender in senders {
        // A panic is logged where tasks are; what it was sending is missing in the sum.
        let _ = sender.await;
    }
    shared.summary().took(start.elapsed());
    shared
}

/// Sends one call after the other until none waits.
async fn send(
    shared: Arc<Shared>,
    (mut candidate, mut control): (Candidate, Option<Candidate>),
    (start, patience): (Instant, Duration),
) {
    while let Some((due, one)) = shared.next() {
        sleep_until(start + due).await;
        let (answer, noise) = match &mut control {
            None => (candidate.ask(&one, patience).await, None),
            Some(control) => {
                let (answer, noise) =
                    tokio::join!(candidate.ask(&one, patience), control.ask(&one, patience));
                (answer, Some(noise))
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut summary = shared.summary();
        summary.count(&answer);
        summary.verdict.add(&one, &answer, noise.as_ref(), now);
    }
}

impl Shared {
    fn summary(&self) -> MutexGuard<'_, Summary> {
        // What it guards is whole between any two statements.
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(Duration, Recorded)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// At most a year: a clock has an end.
fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(number.min(31_536_000.0))
}

#[cfg(test)]
mod tests;
