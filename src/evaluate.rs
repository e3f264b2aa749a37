//! `parhelion evaluate`: what another policy would have earned on the calls that were logged, from their propensities.
//!
//! A round is a call that was split or drawn, joined with what was reported of it. Everything is summed by unit, in 256
//! parts, and intervals are made by leaving each part out (delete-a-group jackknife), so that a user who calls a hundred
//! times counts as one user and not as a hundred. The estimators are those of [`crate::stats::off_policy`]; the model of
//! rewards that the direct and the doubly robust method need is each variant's mean reward, learnt on the parts that the
//! round is not in.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use crate::log::ask::{Ended, Moment, complain, open, passed_over};
use crate::log::read::{Reader, Wanted};
use crate::log::segment;
use crate::log::table::Table;
use crate::stats::off_policy::{Estimate, Round, Sums};

mod export;
mod policy;
mod rounds;

use policy::Policy;
use rounds::{Logged, PARTS, Rounds};

/// Standard errors on each side of a 95 % interval; with 256 parts t differs from it by 0.5 %.
const WIDTH: f64 = 1.97;

/// Which log, which policy, which reward.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion evaluate --log DIR --feedback approved --policy v2                       had v2 answered everybody
  parhelion evaluate --log DIR --feedback approved --policy v1=20%,v2=80%
  parhelion evaluate --log DIR --feedback approved --policy file:policy.csv          a probability for each call
  parhelion evaluate --log DIR --feedback approved --policy v2 --export rounds.json  for the Open Bandit Pipeline

A policy file has a line `prediction_uuid,VARIANT,…` with the variants' names, and then one line for each call with the
probabilities that your policy would have given them. Calls that it does not name are left out.")]
pub struct Options {
    /// The directory of `log.dir`
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// What is to be judged: a variant, shares like v1=20%,v2=80%, or file:PATH
    #[arg(long, value_name = "POLICY")]
    policy: Policy,
    /// The feedback that is the reward
    #[arg(long, value_name = "NAME")]
    feedback: String,
    /// Only this model's calls; needed where the log has several
    #[arg(long)]
    model: Option<String>,
    /// The reward of calls that got no report; without it they are left out
    #[arg(long, value_name = "REWARD", allow_negative_numbers = true, value_parser = finite)]
    default: Option<f64>,
    /// From this moment: `2h` ago, or a time like 2026-11-29T07:30
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Until this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Write the rounds with the keys of the Open Bandit Pipeline: to a .json or .csv file
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "is no finite number".to_owned())
}

/// Does what the options say.
///
/// # Errors
/// When the output cannot be written.
pub fn run(options: &Options, now: SystemTime) -> io::Result<Ended> {
    let Some(mut reader) = open(&options.log) else { return Ok(Ended::Refused) };
    let policy = match options.policy.read() {
        Ok(policy) => policy,
        Err(wrong) => {
            complain(&wrong);
            return Ok(Ended::Refused);
        }
    };
    let rounds = Rounds::read(&mut reader, options, now);
    passed_over(&reader);
    let rounds = match rounds {
        Ok(rounds) => rounds,
        Err(wrong) => {
            complain(&wrong);
            return Ok(Ended::Refused);
        }
    };
    if let Some(path) = &options.export
        && let Err(error) = export::write(path, &rounds)
    {
        complain(&format!("{}: {error}", path.display()));
        return Ok(Ended::Refused);
    }
    let judged = match judge(&rounds, &policy) {
        Ok(judged) => judged,
        Err(wrong) => {
            complain(&wrong);
            return Ok(Ended::Refused);
        }
    };
    let mut out = io::stdout().lock();
    match options.json {
        true => writeln!(out, "{:#}", judged.json(&rounds))?,
        false => judged.tell(&rounds, &mut out)?,
    }
    Ok(if judged.all.rounds() == 0 { Ended::Nothing } else { Ended::Done })
}

/// What came out.
struct Judged {
    all: Sums,
    /// As the log did itself.
    logged: Interval,
    /// By the estimators' names.
    by: [(&'static str, Option<Interval>); 4],
    /// Parts that have rounds.
    parts: usize,
    /// Rounds that the policy says nothing of.
    unsaid: u64,
}

/// A value with the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    value: f64,
    low: f64,
    high: f64,
}

fn judge(rounds: &Rounds, policy: &policy::Ready) -> Result<Judged, String> {
    policy.check(&rounds.actions, &rounds.counts())?;
    let model = Means::of(rounds);
    let (mut parts, mut plain) = (vec![Sums::default(); PARTS], vec![Sums::default(); PARTS]);
    let mut unsaid = 0;
    for logged in &rounds.all {
        let Some(chances) = policy.chances(logged, &rounds.actions) else {
            unsaid += 1;
            continue;
        };
        let chance = chances.get(logged.action).copied().unwrap_or(0.0);
        let q = model.without(logged.part);
        // What cannot have been logged was left out when it was read.
        if let Some(round) = Round::new(logged.reward, chance, logged.propensity) {
            parts[usize::from(logged.part)].add(&round.modelled(logged.action, &chances, &q));
        }
        if let Some(round) = Round::new(logged.reward, 1.0, 1.0) {
            plain[usize::from(logged.part)].add(&round);
        }
    }
    let groups = Groups::new(parts);
    let by = [
        ("ips", groups.interval(Sums::ips)),
        ("snips", groups.interval(Sums::snips)),
        ("dm", groups.interval(Sums::dm)),
        ("dr", groups.interval(Sums::dr)),
    ];
    let logged = Groups::new(plain).interval(Sums::ips);
    let logged = logged.unwrap_or(Interval { value: f64::NAN, low: f64::NAN, high: f64::NAN });
    Ok(Judged { all: groups.all, logged, by, parts: groups.without.len(), unsaid })
}

/// The sums of all parts, and of all but each.
struct Groups {
    all: Sums,
    without: Vec<Sums>,
}

impl Groups {
    fn new(parts: Vec<Sums>) -> Self {
        let parts: Vec<Sums> = parts.into_iter().filter(|part| part.rounds() > 0).collect();
        // From the front and from the back, so that each part is left out by one addition.
        let mut before = vec![Sums::default()];
        for part in &parts {
            let mut next = before.last().copied().unwrap_or_default();
            next += part;
            before.push(next);
        }
        let (mut behind, mut without) = (Sums::default(), Vec::with_capacity(parts.len()));
        for (part, before) in parts.iter().zip(&before).rev() {
            let mut rest = *before;
            rest += &behind;
            without.push(rest);
            behind += part;
        }
        Groups { all: behind, without }
    }

    /// The value of all, and how far it moves when parts are left out.
    fn interval(&self, of: impl Fn(&Sums) -> Option<Estimate>) -> Option<Interval> {
        let all = of(&self.all)?;
        let each: Vec<f64> = self.without.iter().filter_map(&of).map(|one| one.value).collect();
        let groups = each.len() as f64;
        // With fewer the spread between them says little: then the rounds' own must do.
        let error = if each.len() >= 20 {
            let mean = each.iter().sum::<f64>() / groups;
            let spread: f64 = each.iter().map(|one| (one - mean).powi(2)).sum();
            (spread * (groups - 1.0) / groups).sqrt()
        } else {
            all.error
        };
        Some(Interval { value: all.value, low: all.value - WIDTH * error, high: all.value + WIDTH * error })
    }
}

/// Each action's rewards, in all and by part.
struct Means {
    actions: usize,
    all: Vec<(f64, f64)>,
    parts: Vec<Vec<(f64, f64)>>,
}

impl Means {
    fn of(rounds: &Rounds) -> Self {
        let actions = rounds.actions.len();
        let mut means =
            Means { actions, all: vec![(0.0, 0.0); actions], parts: vec![vec![(0.0, 0.0); actions]; PARTS] };
        for logged in &rounds.all {
            let part = &mut means.parts[usize::from(logged.part)];
            for sum in [&mut means.all, part] {
                let (rewards, count) = &mut sum[logged.action];
                *rewards += logged.reward;
                *count += 1.0;
            }
        }
        means
    }

    /// The mean reward of each action outside of a part; 0 where there is none.
    fn without(&self, part: u8) -> Vec<f64> {
        let part = &self.parts[usize::from(part)];
        let mean = |action: usize| {
            let ((rewards, count), (own, of_own)) = (self.all[action], part[action]);
            if count > of_own { (rewards - own) / (count - of_own) } else { 0.0 }
        };
        (0..self.actions).map(mean).collect()
    }
}

impl Judged {
    fn json(&self, rounds: &Rounds) -> Value {
        let interval = |one: &Interval| json!({"value": one.value, "low": one.low, "high": one.high});
        let by: serde_json::Map<String, Value> = self
            .by
            .iter()
            .map(|(name, one)| ((*name).to_owned(), one.as_ref().map_or(Value::Null, interval)))
            .collect();
        json!({
            "model": rounds.model,
            "rounds": self.all.rounds(),
            "effective_rounds": self.all.effective_rounds(),
            "mean_weight": self.all.mean_weight(),
            "parts": self.parts,
            "logged": interval(&self.logged),
            "estimates": by,
            "actions": rounds.counts(),
            "left_out": rounds.left_out.iter().map(|(why, count)| ((*why).to_owned(), json!(count)))
                .chain((self.unsaid > 0).then(|| ("not_in_policy".to_owned(), json!(self.unsaid))))
                .collect::<serde_json::Map<_, _>>(),
        })
    }

    fn tell(&self, rounds: &Rounds, out: &mut impl Write) -> io::Result<()> {
        let weight = self.all.mean_weight().unwrap_or(0.0);
        let effective = self.all.effective_rounds();
        writeln!(
            out,
            "{}: {} rounds, worth {effective:.0} of the policy's own; mean weight {weight:.3}",
            rounds.model.as_deref().unwrap_or("all"),
            self.all.rounds()
        )?;
        for (action, count) in rounds.counts() {
            writeln!(out, "  {action} was given {count} of them")?;
        }
        for (why, count) in &rounds.left_out {
            writeln!(out, "  left out: {count} {}", why.replace('_', " "))?;
        }
        if self.unsaid > 0 {
            writeln!(out, "  left out: {} not in the policy's file", self.unsaid)?;
        }
        writeln!(out, "\n           value   95 % interval")?;
        let mut line = |name: &str, one: &Interval| {
            writeln!(out, "{name:<7} {:>8.4}   {:.4} … {:.4}", one.value, one.low, one.high)
        };
        line("logged", &self.logged)?;
        for (name, one) in &self.by {
            if let Some(one) = one {
                line(name, one)?;
            }
        }
        if self.all.rounds() > 0 && (weight - 1.0).abs() > 0.1 {
            writeln!(
                out,
                "\nThe mean weight should be near 1. It is not: the policy does what was seldom or never logged, so believe `dr` and `snips` with care, and `ips` not at all."
            )?;
        }
        if self.parts < 20 && self.all.rounds() > 0 {
            writeln!(
                out,
                "\nThere are too few units to leave parts out: the intervals take each call for a unit of its own."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
