//! Rollouts over real sockets: how soon a candidate in trouble is out, and what callers notice of that, of a switch and
//! its way back, and of a rollout of several stages.
//!
//! The sidecar is the real program in a process of its own; its two model servers and its callers are threads of this
//! one. Calls begin 2,000 times a second whatever became of those before. The moment of the decision is that of the
//! sidecar's own audit record, which `parhelion ctl audit` is asked for when the calls are over: nothing is polled
//! meanwhile. Each row is held to its bounds, and the worst of its rounds counts.

mod caller;
mod change;
mod costs;
#[path = "../peers/message.rs"]
mod message;
mod plans;
mod play;
mod ranked;
mod report;
mod rows;
mod server;
mod sidecar;
#[path = "../peers/wire.rs"]
mod wire;

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use rows::Row;

/// Plays candidates that get into trouble, a switch and a rollout of stages, on a real sidecar, and says what its callers
/// noticed.
#[derive(Debug, Parser)]
#[command(
    name = "live",
    after_help = "Examples:
  cargo bench --bench live                                  every row, three rounds: about six minutes
  cargo bench --bench live -- --rows fail,hang --rounds 9
  cargo bench --bench live -- --rows switch,staged
  cargo bench --bench live -- --share 1 --json
  cargo bench --bench live -- --costs
  cargo bench --bench live -- --rows strange --rollouts 100 --rounds 10     1,000 rollouts

Exit code 1: a bound was not held."
)]
struct Options {
    /// Which rows
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL)]
    rows: Vec<Row>,
    /// How often each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Calls that begin in a second
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// The candidate's share, in percent
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=50))]
    share: u32,
    /// Rollouts that row `strange` has at once; the other rows have one
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rollouts: u32,
    /// Instead of the rows: what an idle rollout, a report of feedback and a call that two rankers answer cost, about
    /// two minutes
    #[arg(long)]
    costs: bool,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Another program than the one that was built with this
    #[arg(long, value_name = "BINARY", default_value = env!("CARGO_BIN_EXE_parhelion"))]
    parhelion: PathBuf,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The configuration of so many rollouts at the same two servers.
    fn models(&self, at: [SocketAddr; 2], rollouts: u32) -> String {
        plans::canaries(at, rollouts, self.share, rows::ATTEMPT)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let (told, held) = if options.costs { of_costs(&options)? } else { of_rows(&options)? };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", told.trim_end())?;
    out.flush()?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said of the rows, and whether all bounds were held.
fn of_rows(options: &Options) -> Result<(String, bool), Box<dyn Error>> {
    let mut played = Vec::new();
    let mut changed = Vec::new();
    for row in &options.rows {
        if row.is_asked_for() {
            changed.push(of_change(*row, options)?);
            continue;
        }
        let mut rounds = Vec::new();
        for number in 1..=options.rounds {
            let round = play::play(*row, options)?;
            writeln!(std::io::stderr(), "{} {number}: {}", row.name(), round.line())?;
            rounds.push(round);
        }
        played.push(report::Played { row: *row, rounds });
    }
    let held = played.iter().all(report::Played::holds) && changed.iter().all(report::Changed::holds);
    let told = match options.json {
        true => report::json(&played, &changed, options).to_string(),
        false => report::tables(&played, &changed),
    };
    Ok((told, held))
}

/// All rounds of a change that somebody asks for.
fn of_change(row: Row, options: &Options) -> Result<report::Changed, Box<dyn Error>> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let round = change::play(row, options)?;
        writeln!(std::io::stderr(), "{} {number}: {}", row.name(), round.line())?;
        rounds.push(round);
    }
    Ok(report::Changed { row, rounds })
}

/// The same of the costs.
fn of_costs(options: &Options) -> Result<(String, bool), Box<dyn Error>> {
    let costs = costs::all(options)?;
    let told = match options.json {
        true => costs.iter().map(costs::Cost::json).collect::<serde_json::Value>().to_string(),
        false => costs.iter().map(|cost| cost.line() + "\n").collect(),
    };
    Ok((told, costs.iter().all(costs::Cost::holds)))
}
