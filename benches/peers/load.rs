//! A caller in a closed loop: so many connections, so many streams on each, a new call as soon as one is answered.
//!
//! Closed, because the bench asks what a call costs and not how long a queue grows. Every answer is compared to the
//! byte. When nothing ends for [`PATIENCE`], what is left counts as hung, so that a proxy that loses calls ends the
//! run too.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::answer::Tally;
use crate::call::{Exchange, Link};
use crate::message;

/// Without the end of any call for this long, the open ones are given up.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The server to call.
    #[arg(long)]
    to: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Concurrent calls on each connection.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// Calls in all.
    #[arg(long, default_value_t = 10_000)]
    calls: u64,
    /// Bytes of the request's message.
    #[arg(long, default_value_t = 300)]
    payload: usize,
    /// Bytes of the expected answer's message.
    #[arg(long, default_value_t = 300)]
    answer: usize,
    /// Model to ask for.
    #[arg(long, default_value = "bench")]
    model: String,
    /// Model name in the expected answer; the model asked for where it is not given.
    #[arg(long)]
    answer_model: Option<String>,
    /// Model version in the expected answer.
    #[arg(long, default_value = "1")]
    version: String,
}

/// What all streams share.
struct Run {
    exchange: Exchange,
    left: AtomicU64,
    tally: Mutex<Tally>,
}

/// Makes the calls and prints `{"calls", "failed", "failures", "seconds", "calls_per_second", "latency_us"}`.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let answer_model = arguments.answer_model.as_ref().unwrap_or(&arguments.model);
    let run = Arc::new(Run {
        exchange: Exchange::new(
            arguments.to,
            "/inference.GRPCInferenceService/ModelInfer",
            message::request(&arguments.model, arguments.payload),
            message::response(answer_model, &arguments.version, arguments.answer),
        )?,
        left: AtomicU64::new(arguments.calls),
        tally: Mutex::default(),
    });
    let started = Instant::now();
    let mut streams = JoinSet::new();
    for _ in 0..arguments.connections {
        let link = Arc::new(Link::new(arguments.to));
        for _ in 0..arguments.streams {
            streams.spawn(stream(Arc::clone(&run), Arc::clone(&link)));
        }
    }
    watch(&run, streams, arguments.calls).await;
    let took = started.elapsed();
    let mut tally = run.tally();
    let hung = arguments.calls.saturating_sub(tally.ended());
    if hung > 0 {
        tally.fail(format!("hung for {} s", PATIENCE.as_secs()), hung);
    }
    crate::say(&tally.report(took).to_string())
}

/// Waits for the streams, says how far they are, and gives up when nothing moves.
async fn watch(run: &Run, mut streams: JoinSet<()>, calls: u64) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ended, mut moved, mut said) = (0, Instant::now(), Instant::now());
    loop {
        tokio::select! {
            joined = streams.join_next() => if joined.is_none() { return },
            _ = tick.tick() => {
                let now = run.tally().ended();
                if now != ended {
                    (ended, moved) = (now, Instant::now());
                }
                if moved.elapsed() > PATIENCE {
                    return;
                }
                if said.elapsed() > Duration::from_secs(5) {
                    said = Instant::now();
                    eprintln!("{now} of {calls} calls, {} failed", run.tally().failed());
                }
            }
        }
    }
}

/// Calls until none is left.
async fn stream(run: Arc<Run>, link: Arc<Link>) {
    let mut number = 0;
    let mut sender = None;
    while run.take() {
        let begun = Instant::now();
        let result = loop {
            let usable = match sender.take() {
                None => None,
                Some(held) => h2::client::SendRequest::ready(held).await.ok(),
            };
            match usable {
                Some(mut usable) => {
                    let result = run.exchange.unary(&mut usable).await;
                    sender = Some(usable);
                    break result;
                }
                None => match link.newer(number).await {
                    Ok((newer, opened)) => (number, sender) = (newer, Some(opened)),
                    Err(failure) => break Err(failure),
                },
            }
        };
        run.tally().add(result.map(|()| begun.elapsed()));
    }
}

impl Run {
    /// Takes one of the calls that are left.
    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
