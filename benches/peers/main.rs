//! The two tools that `benches/peers/run` measures proxies with: a model server that costs next to nothing and a
//! caller that checks every answer.
//!
//! Both stand on `h2` alone with one thread each, so that neither the server nor the caller is what limits a proxy.
//! They are a bench target and not a binary of the package, because nobody who installs the sidecar needs them.

mod answer;
mod call;
mod framing;
mod load;
mod message;
mod spans;
mod streamed;
mod tls;
mod upstream;
mod wire;

use std::error::Error;
use std::io::Write as _;

use clap::{Parser, Subcommand};

/// Tools of the peer bench; `benches/peers/run` starts them.
#[derive(Parser)]
#[command(name = "peers")]
struct Arguments {
    #[command(subcommand)]
    tool: Option<Tool>,
    /// Passed by `cargo bench`; measures nothing by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Tool {
    /// Calls a server, checks every answer, prints one JSON object.
    Load(load::Arguments),
    /// Makes certificates for loopback.
    Certificates(tls::Arguments),
    /// Serves the Open Inference Protocol with one fixed answer, and counts spans; runs until it is killed.
    Upstream(upstream::Arguments),
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Arguments::parse().tool {
        Some(Tool::Certificates(arguments)) => tls::certificates(&arguments),
        Some(Tool::Load(arguments)) => runtime.block_on(load::run(arguments)),
        Some(Tool::Upstream(arguments)) => runtime.block_on(upstream::run(arguments)),
        None => say("this target only holds tools: see benches/peers/run --help"),
    }
}

/// One line on standard output, at once.
fn say(line: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
