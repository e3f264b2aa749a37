//! `parhelion ctl`: the client of `parhelion.v1.Control`, for people at a terminal and for scripts.
//!
//! Each command is one call, and its answer is shown for people, in 80 columns, or with `--json` as one JSON value a
//! line. It keeps nothing and decides nothing: what it shows is what the sidecar said. Exit codes: 0 as asked, 1
//! refused by the sidecar, 2 arguments that mean nothing, 3 no answer, for instance because nobody listens there.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::admin::tokens::{self, Right};
use crate::pb::v1;

mod audit;
mod compare;
mod connect;
mod drift;
mod explain;
mod json;
mod learning;
mod log;
mod paint;
mod plot;
mod screen;
mod shadow;
mod status;
mod text;
mod watch;

use connect::{Client, Failure, Word};
use paint::Paint;

/// Where it goes, where nobody says otherwise.
const ADMIN: &str = "127.0.0.1:9900";

/// `parhelion ctl`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion ctl list
  parhelion ctl status fraud
  parhelion ctl watch
  parhelion ctl --admin 127.0.0.1:9900 --token-file ~/.parhelion-token rollback fraud --reason 'complaints'
  parhelion ctl --admin https://sidecar.models.svc:9900 --ca ca.crt --cert me.crt --key me.key list
  parhelion ctl status --json | jq '.[].verdict'

Exit codes: 0 as asked, 1 refused by the sidecar, 2 bad arguments, 3 the sidecar was not reached.")]
pub struct Options {
    /// The sidecar's admin port, HOST:PORT or https://HOST:PORT; else PARHELION_ADMIN, else 127.0.0.1:9900
    #[arg(long, global = true, value_name = "ADDR")]
    admin: Option<String>,
    /// File that holds the token to send; else PARHELION_TOKEN has the token itself
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: connect::Tls,
    /// JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All rollouts, one line each
    #[command(after_help = "Example:\n  parhelion ctl list")]
    List,
    /// Where a rollout is, what it waits for, how sure it is, and what comes next
    #[command(after_help = "Examples:
  parhelion ctl status                    all rollouts
  parhelion ctl status fraud
  parhelion ctl status fraud --json | jq '.guards[] | {name, verdict, missing}'")]
    Status {
        /// Left out: all
        model: Option<String>,
    },
    /// The same, live: the share over time, and each guard's interval against its margin
    #[command(after_help = "Examples:
  parhelion ctl watch                     arrow keys choose the model, q ends it
  parhelion ctl watch fraud
  parhelion ctl watch fraud | tee log     without a terminal: one line for each change
  parhelion ctl watch --json              one JSON object a line for each change")]
    Watch {
        /// Left out: all
        model: Option<String>,
    },
    /// Give the candidate everything now
    #[command(after_help = "Example:\n  parhelion ctl promote fraud --reason 'offline evaluation is enough'")]
    Promote(Told),
    /// Take the candidate out now, and block its build
    #[command(after_help = "Example:\n  parhelion ctl rollback fraud --reason 'complaints from support'")]
    Rollback(Told),
    /// Stay at this step; guards stay active
    #[command(after_help = "Example:\n  parhelion ctl pause fraud --reason 'over the weekend'")]
    Pause(Told),
    /// Go on after a pause, a hold or a pin
    #[command(after_help = "Example:\n  parhelion ctl resume fraud")]
    Resume(Told),
    /// Give everything to one variant
    #[command(after_help = "Example:\n  parhelion ctl pin fraud v1 --reason 'audit day'")]
    Pin {
        /// Its model
        model: String,
        /// The variant
        variant: String,
        /// Said in the audit trail
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Which variant a call would get, why, and where its hash falls
    #[command(after_help = "Examples:
  parhelion ctl explain fraud --unit ann
  parhelion ctl explain fraud --metadata x-user-id=ann --metadata x-tier=gold
  parhelion ctl explain fraud --parameter user_id=ann

The same question gives the same answer as long as the rollout stands at this epoch.")]
    Explain {
        /// The model that is called
        model: String,
        /// The unit of the call, whatever carries it
        #[arg(long, value_name = "UNIT", conflicts_with_all = ["metadata", "parameter"])]
        unit: Option<String>,
        /// Metadata of the call
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
        /// A parameter of the inference request
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        parameter: Vec<(String, String)>,
    },
    /// What was done, by whom, and on which evidence; the newest last
    #[command(after_help = "Examples:
  parhelion ctl audit
  parhelion ctl audit fraud --limit 5
  parhelion ctl audit fraud --json | jq '.[] | select(.action == \"rolled_back\")'")]
    Audit {
        /// Left out: all
        model: Option<String>,
        /// The most records
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// The part of the configuration file that agrees with what is in force
    #[command(after_help = "Example:\n  parhelion ctl export fraud > fraud.yaml")]
    Export {
        /// The model
        model: String,
    },
    /// How a variant's answers are distributed, as a file for `drift.reference`
    #[command(after_help = "Examples:
  parhelion ctl reference fraud > /etc/parhelion/fraud.reference.json
  parhelion ctl reference fraud --variant v2 | jq '.outputs | keys'

It needs `drift` in the file, and 501 answers at least; 5,000 and more make a good one.")]
    Reference {
        /// The model
        model: String,
        /// Whose answers; else the baseline's
        #[arg(long, value_name = "NAME", default_value = "")]
        variant: String,
    },
    /// Make a token for the admin port, and the line for the file that `control.tokens` names; asks no sidecar
    #[command(after_help = "Examples:
  parhelion ctl token ann act
  parhelion ctl token grafana read

The file holds only the token's hash; the token itself is shown once.")]
    Token {
        /// Whose it is, as audit records will say
        name: String,
        /// What it allows
        #[arg(value_parser = ["read", "act"])]
        right: String,
    },
}

/// What a person tells a rollout.
#[derive(Debug, Args)]
struct Told {
    /// Its model
    model: String,
    /// Said in the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Runs the command to its end; the exit code, or why nothing more can be written.
///
/// # Errors
/// Whatever standard output says, for instance that nobody reads it any more.
pub async fn run(options: Options) -> io::Result<u8> {
    match answer(options).await {
        Ok(()) => Ok(0),
        Err(Failure::Output(error)) => Err(error),
        Err(failure) => {
            // Where even this cannot be written nobody is there to read it.
            let _ = writeln!(io::stderr(), "parhelion ctl: {failure}");
            Ok(failure.exit_code())
        }
    }
}

async fn answer(options: Options) -> Result<(), Failure> {
    let Options { admin, token_file, tls, json, command } = options;
    if let Command::Token { name, right } = &command {
        return token(name, right, json);
    }
    let place = connect::Place::of(admin, token_file.as_deref(), &tls)?;
    let out = Out { json, paint: Paint::of_terminal() };
    match command {
        Command::Watch { model } => watch::run(&place, model.unwrap_or_default(), &out).await,
        command => one(&mut place.connect().await?, command, &out).await,
    }
}

/// A command that is one call.
async fn one(client: &mut Client, command: Command, out: &Out) -> Result<(), Failure> {
    match command {
        Command::List => out.rollouts(client.list().await?, status::list),
        Command::Status { model: None } => out.rollouts(client.list().await?, status::all),
        Command::Status { model: Some(model) } => {
            let rollout = client.get(model).await?;
            out.show(&rollout, json::rollout, status::status)
        }
        Command::Promote(told) => out.told(client, Word::Promote, told).await,
        Command::Rollback(told) => out.told(client, Word::Rollback, told).await,
        Command::Pause(told) => out.told(client, Word::Pause, told).await,
        Command::Resume(told) => out.told(client, Word::Resume, told).await,
        Command::Pin { model, variant, reason } => out.done(client.pin(model, variant, reason).await?),
        Command::Explain { model, unit, metadata, parameter } => {
            let map = |pairs: Vec<(String, String)>| pairs.into_iter().collect::<HashMap<_, _>>();
            let (metadata, parameters) = (map(metadata), map(parameter));
            let asked = v1::ExplainRequest { model, metadata, parameters, unit };
            out.show(&client.explain(asked).await?, json::explanation, explain::lines)
        }
        Command::Audit { model, limit } => {
            let mut records = client.audit(model.unwrap_or_default(), limit).await?;
            records.reverse();
            out.show(
                &records,
                |records| records.iter().map(json::audit).collect(),
                |records, paint| audit::trail(records, paint),
            )
        }
        Command::Export { model } => export(client.export(model).await?, out),
        // It is JSON already.
        Command::Reference { model, variant } => {
            say(&[client.reference(model, variant).await?.trim_end().to_owned()])
        }
        // Both are answered before anything is asked.
        Command::Watch { .. } | Command::Token { .. } => Ok(()),
    }
}

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
struct Out {
    json: bool,
    paint: Paint,
}

impl Out {
    fn show<T>(
        &self,
        value: &T,
        json: impl Fn(&T) -> serde_json::Value,
        lines: impl Fn(&T, Paint) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self.json {
            true => say(&[json(value).to_string()]),
            false => say(&lines(value, self.paint)),
        }
    }

    fn rollouts(
        &self,
        rollouts: Vec<v1::Rollout>,
        lines: impl Fn(&[v1::Rollout], Paint) -> Vec<String>,
    ) -> Result<(), Failure> {
        self.show(&rollouts, |all| all.iter().map(json::rollout).collect(), |all, paint| lines(all, paint))
    }

    async fn told(&self, client: &mut Client, word: Word, told: Told) -> Result<(), Failure> {
        self.done(client.tell(word, told.model, told.reason).await?)
    }

    fn done(&self, done: v1::CommandResponse) -> Result<(), Failure> {
        self.show(&done, json::done, audit::done)
    }
}

/// What a candidate's answers prove, for people.
pub(crate) fn judged_lines(judged: &v1::Shadow) -> Vec<String> {
    let paint = Paint::of_terminal();
    let mut lines = text::wrapped("  ", &shadow::brief(judged));
    lines.extend(shadow::titled("CANDIDATE", judged, paint));
    lines
}

/// The same for scripts.
pub(crate) fn judged_json(judged: &v1::Shadow) -> serde_json::Value {
    shadow::json(judged)
}

/// To standard output, flushed.
fn say(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// What stands in the file goes to standard output, the rest is said beside it.
fn export(exported: v1::ExportResponse, out: &Out) -> Result<(), Failure> {
    if out.json {
        return say(&[
            serde_json::json!({"yaml": exported.yaml, "differs": json::text(&exported.differs)}).to_string()
        ]);
    }
    if io::stderr().is_terminal() {
        let said = match exported.differs.as_str() {
            "" => "the file agrees with this already",
            differs => differs,
        };
        let _ = writeln!(io::stderr(), "# {said}");
    }
    say(&[exported.yaml.trim_end().to_owned()])
}

fn token(name: &str, right: &str, json: bool) -> Result<(), Failure> {
    if let Some(what) = tokens::refuse_name(name) {
        return Err(Failure::Usage(format!("{name:?}: {what}")));
    }
    let right = if right == "act" { Right::Act } else { Right::Read };
    let secret = connect::random().map_err(|why| {
        Failure::Usage(format!(
            "the system's random source fails ({why}); `openssl rand -hex 32` makes a token too"
        ))
    })?;
    let line = tokens::line(name, right, &secret);
    if json {
        return say(&[serde_json::json!({"token": secret, "line": line}).to_string()]);
    }
    say(&[
        "The token, for PARHELION_TOKEN or --token-file; it is not shown again:".to_owned(),
        secret,
        String::new(),
        "The line for the file that `control.tokens` names:".to_owned(),
        line,
    ])
}
