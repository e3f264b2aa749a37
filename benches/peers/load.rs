//! A caller. Closed loop: so many connections, so many streams on each, a new call as soon as one is answered; this asks
//! what a call costs. Open loop: calls begin at a given rate whatever became of the others; this asks how long a caller
//! waits, from the moment its call was due.
//!
//! Every answer is compared to the byte. When nothing ends for [`PATIENCE`], what is left counts as hung, so that a
//! proxy that loses calls ends the run too.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::answer::{Failure, Tally};
use crate::call::{Exchange, Link, Method};
use crate::{message, streamed, tls};

/// Without the end of any call for this long, the open ones are given up.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The server to call.
    #[arg(long)]
    to: SocketAddr,
    /// Speak TLS, with the certificates that lie there.
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Concurrent calls on each connection; in an open loop there are as many as it takes.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// Calls in all.
    #[arg(long, default_value_t = 10_000)]
    calls: u64,
    /// Calls that begin in a second: an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// What is called.
    #[arg(long, value_enum, default_value_t = Method::Unary)]
    method: Method,
    /// Messages of a stream, in each direction that has many.
    #[arg(long, default_value_t = 1000)]
    messages: usize,
    /// Callers with an `x-user-id` of their own, in turn; 0: calls carry none.
    #[arg(long, default_value_t = 0)]
    users: usize,
    /// Bytes of the request's message.
    #[arg(long, default_value_t = 300)]
    payload: usize,
    /// Bytes of the expected answer's message.
    #[arg(long, default_value_t = 300)]
    answer: usize,
    /// Model to ask for.
    #[arg(long, default_value = "bench")]
    model: String,
    /// Model version in the expected answer.
    #[arg(long, default_value = "1")]
    version: String,
    /// Say `{"connected"}` once all connections are open, begin at the next line on standard input, and keep them open
    /// after the report until there is another: what connections cost is then not among the calls.
    #[arg(long)]
    hold: bool,
}

/// What all streams share.
struct Run {
    exchange: Exchange,
    left: AtomicU64,
    tally: Mutex<Tally>,
}

/// Makes the calls and prints `{"calls", "failed", "failures", "seconds", "calls_per_second", "latency_us"}`.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { to, method, calls, ref model, ref version, .. } = arguments;
    let expected = match method {
        Method::Unary => message::response(model, version, arguments.answer),
        Method::ServerStream | Method::Bidi => streamed::response(model, version, arguments.answer),
    };
    let messages = (message::request(model, arguments.payload), expected);
    let run = Arc::new(Run {
        exchange: Exchange::new(to, (method, arguments.messages), arguments.users, messages)?,
        left: AtomicU64::new(calls),
        tally: Mutex::default(),
    });
    let tls = arguments.tls.as_deref().map(tls::connector).transpose()?;
    let links: Vec<_> = (0..arguments.connections).map(|_| Arc::new(Link::new(to, tls.clone()))).collect();
    if arguments.hold {
        for link in &links {
            // Who cannot be connected to is counted with the calls.
            let _ = link.newer(0).await;
        }
        crate::say(&serde_json::json!({ "connected": links.len() }).to_string())?;
        line().await;
    }
    let started = Instant::now();
    let mut streams = JoinSet::new();
    match arguments.rate {
        Some(rate) => drop(streams.spawn(open_loop(Arc::clone(&run), links.clone(), calls, rate))),
        None => {
            let places = links.len() * arguments.streams;
            for link in links.iter().cycle().take(places) {
                streams.spawn(closed_loop(Arc::clone(&run), Arc::clone(link)));
            }
        }
    }
    watch(&run, streams, calls).await;
    let took = started.elapsed();
    let report = {
        let mut tally = run.tally();
        let hung = calls.saturating_sub(tally.ended());
        if hung > 0 {
            tally.fail(format!("hung for {} s", PATIENCE.as_secs()), hung);
        }
        tally.report(took)
    };
    crate::say(&report.to_string())?;
    if arguments.hold {
        line().await;
    }
    Ok(())
}

/// The next line on standard input, or its end.
async fn line() {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        // An end, an error and a line all mean: go on.
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = tell.send(());
    });
    let _ = told.await;
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
async fn closed_loop(run: Arc<Run>, link: Arc<Link>) {
    let mut place = Place::default();
    while run.take() {
        let begun = Instant::now();
        let result = place.call(&run, &link).await;
        run.tally().add(result.map(|()| begun.elapsed()));
    }
}

/// Begins calls when they are due, on all connections in turn.
async fn open_loop(run: Arc<Run>, links: Vec<Arc<Link>>, calls: u64, rate: f64) {
    let (tell, mut due) = mpsc::unbounded_channel();
    // A thread of its own sleeps to within 100 µs; the runtime's own timer only to a millisecond.
    std::thread::spawn(move || {
        let begun = Instant::now();
        for call in 0..calls {
            let at = begun + Duration::from_secs_f64(call as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if tell.send(at).is_err() {
                return;
            }
        }
    });
    let mut under_way = JoinSet::new();
    for link in links.iter().cycle() {
        let Some(at) = due.recv().await else { break };
        let (run, link) = (Arc::clone(&run), Arc::clone(link));
        under_way.spawn(async move {
            let result = Place::default().call(&run, &link).await;
            run.tally().add(result.map(|()| at.elapsed()));
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// Where a stream stands among its connections: the number of the newest it knows, and its sender.
#[derive(Default)]
struct Place {
    number: u64,
    sender: Option<SendRequest<Bytes>>,
}

impl Place {
    /// One call, on a newer connection where the one at hand has ended.
    async fn call(&mut self, run: &Run, link: &Link) -> Result<(), Failure> {
        loop {
            let usable = match self.sender.take() {
                None => None,
                Some(held) => held.ready().await.ok(),
            };
            match usable {
                Some(mut usable) => {
                    let result = run.exchange.call(&mut usable).await;
                    self.sender = Some(usable);
                    return result;
                }
                None => {
                    let (number, opened) = link.newer(self.number).await?;
                    (self.number, self.sender) = (number, Some(opened));
                }
            }
        }
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
