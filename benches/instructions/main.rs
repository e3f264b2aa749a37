//! What `benches/instructions/run` counts instructions and allocations of: a whole sidecar in one thread with its
//! caller, its model server and its collector, and single functions.
//!
//! A run with more calls less one with fewer leaves what the calls cost alone; a path less the direct one leaves what
//! the sidecar costs. Without valgrind, a function's time is printed.

#![expect(clippy::disallowed_methods, reason = "what is no part of the sidecar has no use for its tasks")]

mod comparisons;
mod functions;
mod looks;
#[path = "../peers/message.rs"]
mod message;
mod paths;
mod peers;
#[path = "../peers/spans.rs"]
mod spans;

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Calls something so many times, for instructions to be counted.
#[derive(Parser)]
#[command(name = "instructions")]
struct Arguments {
    /// What is called.
    #[arg(value_enum)]
    what: Option<What>,
    /// How often.
    #[arg(long, default_value_t = 2000)]
    calls: usize,
    /// Passed by `cargo bench`; counts nothing by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Caller and model server without a sidecar.
    Direct,
    /// One pinned variant, no spans.
    Forward,
    /// `ab` by unit, a copy of every call, spans of every call over OTLP.
    Everything,
    /// The same with 1 % of the spans.
    Default,
    /// A call is given to a variant by its unit.
    Assign,
    /// The same by the shares of a bandit.
    Bandit,
    /// The same by what is learnt of its context: 16 features, four variants.
    Contextual,
    /// Two lists of 100 items are merged.
    Merge,
    /// The front of a ModelInfer is read.
    Parse,
    /// An outcome is counted whose span nobody wants.
    Observe,
    /// The keeper looks at a canary because a call failed.
    LookError,
    /// It looks at everything, latency too.
    LookLatency,
    /// A report of feedback is taken.
    Report,
    /// Two answers of 600 KB of floats are compared.
    CompareFloats,
    /// Two answers of 1,000 vectors of scores are compared by class.
    CompareClasses,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { what, calls, .. } = Arguments::parse();
    let took = match what {
        None => return say("this target only holds what is counted: see benches/instructions/run --help"),
        Some(What::Direct) => paths::direct(calls)?,
        Some(What::Forward) => paths::sidecar(paths::FORWARD, calls)?,
        Some(What::Everything) => paths::sidecar(paths::EVERYTHING, calls)?,
        Some(What::Default) => paths::sidecar(paths::DEFAULT, calls)?,
        Some(What::Assign) => functions::assign(calls)?,
        Some(What::Bandit) => functions::bandit(calls)?,
        Some(What::Contextual) => functions::contextual(calls)?,
        Some(What::Merge) => functions::merge(calls)?,
        Some(What::Parse) => functions::parse(calls)?,
        Some(What::Observe) => functions::observe(calls)?,
        Some(What::LookError) => return each(looks::errors(calls)?),
        Some(What::LookLatency) => return each(looks::latency(calls)?),
        Some(What::Report) => return each(looks::reports(calls)?),
        Some(What::CompareFloats) => return each(comparisons::floats(calls)?),
        Some(What::CompareClasses) => return each(comparisons::classes(calls)?),
    };
    say(&serde_json::json!({ "calls": calls, "ns_per_call": per_call(took, calls) }).to_string())
}

/// Says the mean, and above which time hardly any was.
fn each(mut took: Vec<Duration>) -> Result<(), Box<dyn Error>> {
    took.sort_unstable();
    let all: Duration = took.iter().sum();
    let p99 = took.get(took.len() * 99 / 100).map(Duration::as_nanos);
    let told =
        serde_json::json!({"calls": took.len(), "ns_per_call": per_call(all, took.len()), "ns_p99": p99});
    say(&told.to_string())
}

fn per_call(took: Duration, calls: usize) -> Option<f64> {
    (calls > 0).then(|| took.as_nanos() as f64 / calls as f64)
}

fn say(line: &str) -> Result<(), Box<dyn Error>> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
