//! `parhelion plan`: how many calls, and how long, until a rollout finds something out, and how small a difference it can
//! see in its time. Nothing of it is a number of its own: canaries are asked as `check` asks them, comparisons through
//! the score that will judge them.
//!
//! What nobody can know before, like how much is bought today, is given, or assumed and said to be.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{REFUSED, fail, pretty, print};
use crate::config::units::{Percent, percent};
use crate::config::{self, Config, Model, Source, Strategy};

mod data;
mod made;
mod text;

pub(super) use made::SPREAD;

/// What is asked of `parhelion plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion plan -c parhelion.yaml --rate 50              at 50 calls a second of each model
  parhelion plan -c FILE --units 20000 --model fraud      at 20,000 new users a day, each of whom counts once
  parhelion plan -c FILE --rate 50 --mean bought=12% --reports 20%
  parhelion plan -c FILE --rate 50 --mean minutes=14 --deviation minutes=6
  parhelion plan -c FILE --rate 50 --json | jq '.fraud.stages[].seconds'

It is said of a candidate that is exactly as good as the baseline where it must be no worse, and of several differences
where it must be better. Chance makes half of all rollouts end somewhat sooner, and some much later; `parhelion
simulate` shows how much. Exit code 2: the file or an option was refused.")]
pub(super) struct Options {
    /// YAML file, or a directory of them
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,
    /// Calls a second, of each model
    #[arg(long, value_name = "CALLS", value_parser = rate, conflicts_with = "units", required_unless_present = "units")]
    rate: Option<f64>,
    /// Units a day that were not there before, instead of calls: each counts once
    #[arg(long, value_name = "N", value_parser = daily)]
    units: Option<f64>,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Part of the baseline's calls that fail, and that are refused
    #[arg(long, value_name = "PART", default_value = "1%", value_parser = part)]
    failing: Percent,
    /// Part of the predictions that bring a report, of feedback without a default
    #[arg(long, value_name = "PART", default_value = "100%", value_parser = part)]
    reports: Percent,
    /// What the baseline's mean of a feedback is, like bought=12% or minutes=14
    #[arg(long, value_name = "NAME=MEAN", value_parser = named)]
    mean: Vec<(String, f64)>,
    /// The standard deviation of a feedback that is not 0 or 1, in its own unit
    #[arg(long, value_name = "NAME=DEVIATION", value_parser = named)]
    deviation: Vec<(String, f64)>,
    /// One JSON object, by model
    #[arg(long)]
    json: bool,
}

/// What is known, or assumed, of the traffic.
#[derive(Debug, Clone)]
struct Traffic {
    /// Calls, or units, a second.
    rate: f64,
    /// Whether those are units.
    units: bool,
    failing: f64,
    reports: f64,
    mean: Vec<(String, f64)>,
    deviation: Vec<(String, f64)>,
}

fn positive(text: &str) -> Option<f64> {
    text.trim()
        .replace(['_', ','], "")
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number > 0.0)
}

fn rate(text: &str) -> Result<f64, String> {
    let number = positive(text.strip_suffix("/s").unwrap_or(text));
    number.ok_or_else(|| "is no number of calls a second above 0, like 50".to_owned())
}

fn daily(text: &str) -> Result<f64, String> {
    let number = positive(text.strip_suffix("/day").unwrap_or(text));
    number.ok_or_else(|| "is no number of units a day above 0, like 20000".to_owned())
}

fn part(text: &str) -> Result<Percent, String> {
    let part = percent(text).ok().filter(|part| *part > Percent::NONE);
    part.ok_or_else(|| "is no share above 0% and at most 100%, like 1%".to_owned())
}

fn named(text: &str) -> Result<(String, f64), String> {
    let wrong = || "is not like bought=12% or minutes=14".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (number, times) = match value.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (value, 1.0),
    };
    let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.map(|number| (name.to_owned(), number * times)).ok_or_else(wrong)
}

/// Plans, and prints that.
///
/// # Errors
/// Those of writing.
pub(super) fn run(options: &Options) -> io::Result<ExitCode> {
    let loaded = match config::load(&options.config, &config::Environment::of_process()) {
        Ok(loaded) => loaded,
        refused => {
            let report = config::report(&refused);
            return Ok(fail(&format!("the configuration is refused\n{report}"), REFUSED));
        }
    };
    let traffic = Traffic {
        rate: options.rate.or(options.units.map(|units| units / 86_400.0)).unwrap_or_default(),
        units: options.units.is_some(),
        failing: options.failing.probability(),
        reports: options.reports.probability(),
        mean: options.mean.clone(),
        deviation: options.deviation.clone(),
    };
    if let Err(problem) = sound(&loaded.config, options, &traffic) {
        return Ok(fail(&problem, REFUSED));
    }
    let wanted =
        |model: &&std::sync::Arc<Model>| options.model.as_ref().is_none_or(|name| **name == *model.name);
    let plans: Vec<made::Plan> =
        loaded.config.models.iter().filter(wanted).map(|model| made::plan(model, &traffic)).collect();
    print(&if options.json { pretty(&data::all(&plans, &traffic)) } else { text::all(&plans, &traffic) })?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses names that the file does not know, and means that values cannot have.
fn sound(config: &Config, options: &Options, traffic: &Traffic) -> Result<(), String> {
    if let Some(name) = &options.model
        && !config.models.iter().any(|model| *model.name == **name)
    {
        let known: Vec<&str> = config.models.iter().map(|model| &*model.name).collect();
        return Err(format!("--model {name}: the file has no such model; it has {}", known.join(", ")));
    }
    let declared = || config.models.iter().flat_map(|model| &model.feedback);
    for (key, given) in [("mean", &traffic.mean), ("deviation", &traffic.deviation)] {
        for (name, value) in given {
            let Some(feedback) = declared().find(|feedback| *feedback.name == **name) else {
                let mut known: Vec<&str> = declared().map(|feedback| &*feedback.name).collect();
                known.dedup();
                let known = if known.is_empty() { "declares none".into() } else { known.join(", ") };
                return Err(format!("--{key} {name}: no model declares such feedback; the file has {known}"));
            };
            let binary = feedback.kind == config::FeedbackKind::Binary;
            if key == "mean" && binary && !(*value > 0.0 && *value < 1.0) {
                return Err(format!(
                    "--mean {name}={value}: values are 0 or 1, so their mean is between, like {name}=12%"
                ));
            }
            if key == "deviation" && (binary || *value <= 0.0) {
                let why = if binary {
                    "that of values that are 0 or 1 follows from their mean"
                } else {
                    "is not above 0"
                };
                return Err(format!("--deviation {name}={value}: {why}"));
            }
        }
    }
    Ok(())
}

/// Whether a metric's values come by calls, or by reports.
fn is_reported(source: &Source) -> bool {
    matches!(source, Source::Feedback { .. })
}

/// What `strategy` is called where it is one of several stages.
fn name(strategy: &Strategy, stage: Option<&str>) -> String {
    match stage {
        Some(stage) if stage != strategy.kind() => format!("{stage} ({})", strategy.kind()),
        _ => strategy.kind().to_owned(),
    }
}

/// So many at so many a second.
fn time(number: f64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number / rate).unwrap_or(Duration::MAX)
}
