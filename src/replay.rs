//! `parhelion replay`: logged calls to a candidate, and its answers beside those that were served.
//!
//! Calls are sent as they were logged, under the candidate's own name of the model, as fast as it answers with so many
//! at once, at a rate, or with the pauses that they came with. Nothing of it reaches a rollout: it is for a candidate
//! that no live call has seen.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::time::{Instant, sleep_until};

use crate::log::ask::{Ended, Moment, complain, open, passed_over};
use crate::tasks::Tasks;

mod beside;
mod candidate;
mod recorded;
mod summary;

use beside::Beside;
use candidate::Candidate;
use recorded::{Reading, Recorded};
use summary::Summary;

/// Which log, to whom, how fast.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion replay --log DIR -c parhelion.yaml --model fraud --variant v2
  parhelion replay --log DIR --to http://127.0.0.1:8002 --rate 200
  parhelion replay --log DIR --to http://127.0.0.1:8002 --as-recorded --since 1h --json
  parhelion replay --log DIR --model fraud --samples > warm.jsonl      a file to warm variants with

It needs messages in the log (`log.payloads`). What was masked cannot be sent, and is counted. The exit code is 1 where
nothing was sent, or more answers differ than --most-different allows.")]
pub struct Options {
    /// The directory of `log.dir`
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only this model's calls
    #[arg(long)]
    model: Option<String>,
    /// The configuration that knows the candidate
    #[arg(short, long, value_name = "PATH", requires = "variant")]
    config: Option<PathBuf>,
    /// The candidate: a variant of the configuration
    #[arg(long, requires = "config", conflicts_with = "to")]
    variant: Option<String>,
    /// The candidate: where it is reached, http://HOST:PORT
    #[arg(long, value_name = "URL", required_unless_present_any = ["variant", "samples"])]
    to: Option<String>,
    /// What the server at --to calls the model, where it differs
    #[arg(long, value_name = "NAME", requires = "to")]
    model_name: Option<String>,
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
    /// How far numbers of both answers may be apart and still be the same
    #[arg(long, default_value_t = 0.0, value_name = "DISTANCE")]
    compare: f64,
    /// Share of answers that may differ, in percent
    #[arg(long, value_name = "PERCENT")]
    most_different: Option<f64>,
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
    let Some(mut reader) = open(&options.log) else { return Ok(Ended::Refused) };
    let reading = Reading {
        model: options.model.as_deref(),
        since: options.since.map_or(i64::MIN, |moment| moment.micros(now)),
        until: options.until.map_or(i64::MAX, |moment| moment.micros(now)),
        most: options.limit,
    };
    let (recorded, skipped) = recorded::read(&mut reader, &reading);
    passed_over(&reader);
    if options.samples {
        return samples(&recorded);
    }
    let candidate = match Candidate::connect(&options).await {
        Ok(candidate) => candidate,
        Err(why) => {
            complain(&why);
            return Ok(Ended::Refused);
        }
    };
    let summary = replay(&options, candidate, recorded, skipped).await;
    let mut out = io::stdout().lock();
    match options.json {
        true => writeln!(out, "{:#}", summary.json())?,
        false => summary.tell(&mut out)?,
    }
    let too_many = options.most_different.is_some_and(|most| summary.different() * 100.0 > most);
    Ok(if summary.sent() == 0 || too_many { Ended::Nothing } else { Ended::Done })
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

async fn replay(
    options: &Options,
    candidate: Candidate,
    recorded: Vec<Recorded>,
    skipped: std::collections::BTreeMap<&'static str, u64>,
) -> Summary {
    let first = recorded.first().map_or(0, |one| one.time);
    let due = |(number, one): (usize, Recorded)| {
        let due = match options.rate {
            Some(rate) => Duration::from_secs_f64(number as f64 / rate),
            None if options.as_recorded => {
                Duration::from_micros(u64::try_from(one.time - first).unwrap_or(0))
            }
            None => Duration::ZERO,
        };
        (due, one)
    };
    let waiting = Mutex::new(recorded.into_iter().enumerate().map(due).collect());
    let shared = Arc::new(Shared { waiting, summary: Mutex::new(Summary::new(skipped)) });
    let tasks = Tasks::new(Arc::default());
    let (patience, tolerance) = (Duration::from_secs_f64(options.patience), options.compare);
    let start = Instant::now();
    let senders: Vec<_> = (0..options.at_once)
        .map(|_| {
            let (shared, mut candidate) = (Arc::clone(&shared), candidate.clone());
            tasks.spawn("replay", async move {
                while let Some((due, one)) = pop(&shared) {
                    sleep_until(start + due).await;
                    let begun = Instant::now();
                    let answer = candidate.ask(&one, patience).await;
                    let took = begun.elapsed();
                    let beside = Beside::new(&one, &answer, tolerance);
                    let mut summary = shared.summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(&one, &answer, took, &beside);
                }
            })
        })
        .collect();
    for sender in senders {
        // A panic is logged where tasks are; what it was sending is missing in the sum.
        let _ = sender.await;
    }
    let mut summary = shared.summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
    summary.took(start.elapsed());
    summary
}

fn pop(shared: &Shared) -> Option<(Duration, Recorded)> {
    shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

#[cfg(test)]
mod tests;
