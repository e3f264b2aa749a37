//! What a fleet costs the store that it shares, measured at a real server by its own counters.
//!
//! Replicas are the sidecar's own members with a real canary, and ask through the sidecar's own client; only their clock is
//! made, so that a thousand of them fit on one machine. Each phase says how many exchanges, bytes and microseconds of the
//! server's processor one replica costs in a second, against what is promised.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

mod counters;
mod fleet;
#[path = "../../tests/it/fleet/server.rs"]
mod server;

use counters::{Cost, Counters};
use fleet::Fleet;
use server::Server;

/// What one replica may cost in a second, for each model.
const ROUND_TRIPS: f64 = 2.0;
const BYTES: f64 = 4096.0;
/// Made seconds of each phase.
const SECONDS: u32 = 10;
const REPLICAS: [usize; 3] = [10, 100, 1_000];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let asked = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let asked: Vec<usize> = asked.map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let all = if asked.is_empty() { REPLICAS.to_vec() } else { asked };
    let Some(server) = Server::start("benches/fleet/run")? else { return Ok(ExitCode::FAILURE) };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:>8}  {:<22}{:>10}{:>12}{:>12}{:>14}{:>14}",
        "replicas", "a second", "exchanges", "bytes there", "bytes back", "us/exchange", "of one core"
    )?;
    let mut kept = true;
    for replicas in all {
        kept &= rows(&server, replicas, &mut out)?;
    }
    let verdict = if kept { "kept" } else { "NOT KEPT" };
    writeln!(
        out,
        "at most {ROUND_TRIPS} exchanges and {BYTES} bytes of a replica, model and second: {verdict}"
    )?;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The phases of a fleet of that size; whether it keeps its promise.
fn rows(server: &Server, replicas: usize, out: &mut impl Write) -> Result<bool, Box<dyn Error>> {
    let mut fleet = Fleet::begin(server.port, replicas)?;
    let mut counters = Counters::of(server.connect()?)?;
    let phases = [("without calls", 0, 0), ("1,000 calls", 1_000, 0), ("1,000 calls, some fail", 1_000, 2)];
    let mut kept = true;
    for (name, calls, failures) in phases {
        let before = fleet.renewals;
        let cost = counters.cost(|| (0..SECONDS).try_for_each(|_| fleet.second(calls, failures)))?;
        let Cost { exchanges, there, back, micros } = cost;
        let exchanges = exchanges - f64::from(fleet.renewals - before);
        let each = f64::from(SECONDS) * replicas as f64;
        writeln!(
            out,
            "{replicas:>8}  {name:<22}{:>10.2}{:>12.0}{:>12.0}{:>14.0}{:>12.1} %",
            exchanges / each,
            there / each,
            back / each,
            micros / exchanges,
            micros / f64::from(SECONDS) / 1e4
        )?;
        kept &= exchanges / each <= ROUND_TRIPS && (there + back) / each <= BYTES;
    }
    let cost = counters.cost(|| fleet.decide())?;
    writeln!(
        out,
        "{replicas:>8}  {:<22}{:>10.2}{:>12.0}{:>12.0}{:>14.0}{:>12.3} s",
        "(one decision)",
        cost.exchanges / replicas as f64,
        cost.there / replicas as f64,
        cost.back / replicas as f64,
        cost.micros / cost.exchanges,
        cost.micros / 1e6
    )?;
    Ok(kept)
}
