//! One data-plane thread: its own runtime, listener, connections and counts. Nothing on the request path leaves it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::config::Config;
use crate::config::units::Percent;
use crate::dispatch::stall::Clock;
use crate::feedback::Door;
use crate::hop::{self, Hop};
use crate::keys::Keys;
use crate::outcome::Trace;
use crate::proxy::Proxy;
use crate::rollout::{self, Rollouts};
use crate::server::listener::{Acceptor, Listener};
use crate::server::memory::Pressure;
use crate::server::{Phase, connection, heap, layers, parting};
use crate::serving::{Base, Serving};
use crate::shadow;
use crate::tasks::Local;
use crate::telemetry::counter::{Counter, Counters};
use crate::telemetry::propagate::span_id;
use crate::telemetry::recorder::Recorder;
use crate::tls;
use crate::upstream::endpoint::Surroundings;
use crate::upstream::readiness::Board;
use crate::wire::Scratch;

/// What a worker is given when it starts.
#[derive(Debug)]
pub struct Parts {
    /// The worker's own listener.
    pub listener: Listener,
    /// Generations of the configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
    /// The worker's way to telemetry.
    pub recorder: Recorder,
    /// The process's counters.
    pub counters: Arc<Counters>,
    /// The process's keys.
    pub keys: Arc<Keys>,
    /// Certificates.
    pub tls: Arc<tls::Store>,
    /// Readiness of all endpoints.
    pub board: Arc<Board>,
    /// How tight memory is.
    pub pressure: Arc<Pressure>,
    /// The worker's way in for feedback.
    pub feedback: Door,
    /// Where rollouts stand.
    pub rollouts: Arc<Rollouts>,
    /// Which of the workers this is, from 0.
    pub index: usize,
}

/// A worker as its calls see it.
#[derive(Debug)]
pub struct Worker {
    serving: RefCell<Rc<Serving>>,
    /// Outcomes go here.
    pub recorder: Recorder,
    /// The process's counters.
    pub counters: Arc<Counters>,
    /// The process's keys.
    pub keys: Arc<Keys>,
    /// Where feedback goes in.
    pub feedback: Door,
    /// How tight memory is.
    pub pressure: Arc<Pressure>,
    /// Ticks for streams that stand still.
    pub stalls: Clock,
    /// Says to every call under way that it must end now.
    pub cut: Notify,
    /// Which of the workers this is, from 0.
    pub index: usize,
    /// What evidence is timed by.
    pub clock: rollout::Clock,
    chance: RefCell<SmallRng>,
}

impl Worker {
    /// The generation that a call beginning now is served by.
    pub fn serving(&self) -> Rc<Serving> {
        Rc::clone(&self.serving.borrow())
    }

    /// A uniform 32-bit draw.
    pub fn draw(&self) -> u32 {
        self.chance.borrow_mut().next_u32()
    }

    /// The trace that a call belongs to, and a new UUIDv7 for its prediction.
    pub fn identify(&self, headers: &HeaderMap, now: SystemTime) -> (Trace, Uuid) {
        let chance = &mut *self.chance.borrow_mut();
        let trace = self.recorder.extract(headers, chance);
        let mut random = [0; 10];
        chance.fill_bytes(&mut random);
        let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        (trace, uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Tells an upstream attempt its trace; returns the attempt's span.
    pub fn trace_attempt(&self, headers: &mut HeaderMap, trace: &Trace) -> u64 {
        let span = span_id(&mut *self.chance.borrow_mut());
        self.recorder.inject(headers, trace, span);
        span
    }

    /// A trace of its own for a copy of a call; `share` of them are sampled, where it is given, else those whose call is.
    pub fn trace_copy(&self, call: &Trace, share: Option<Percent>) -> Trace {
        self.recorder.beside(call, share, &mut *self.chance.borrow_mut())
    }

    /// What `parhelion-hop` says, where a key of ours signed it.
    pub fn verify_hop(&self, value: &HeaderValue) -> Option<Hop> {
        let hop = hop::verify(&self.keys, value);
        if hop.is_none() {
            self.counters.add(Counter::HopUnverified);
        }
        hop
    }
}

/// Runs a worker on the current thread until its connections are drained, or cut.
///
/// # Errors
/// When its runtime or its listener cannot be set up.
pub fn run(parts: Parts) -> io::Result<()> {
    // Not a `LocalSet` on a runtime: each wake of its tasks from outside a poll of it costs a write to an eventfd.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(serve(parts))
}

/// The same on the current runtime, which must be a local one: for several parts of a whole on one thread.
///
/// # Errors
/// When its listener cannot be set up.
pub async fn serve(parts: Parts) -> io::Result<()> {
    let Parts { listener, recorder, counters, keys, tls, board, pressure, feedback, rollouts, index, .. } =
        parts;
    let (mut config, mut phase) = (parts.config, parts.phase);
    let clock = rollouts.clock();
    let scratch = Scratch::new();
    let surroundings = Surroundings {
        scratch: Rc::clone(&scratch),
        counters: Arc::clone(&counters),
        tls: Arc::clone(&tls),
        tasks: Local::new(Arc::clone(&counters)),
        paced: false,
    };
    let shard = Arc::clone(recorder.shard());
    let shadows = shadow::Ground {
        // Their connections are counted apart, so that what a shadow does never looks like a live variant's doing.
        surroundings: Surroundings {
            counters: Arc::clone(shard.shadow_counters()),
            paced: true,
            ..surroundings.clone()
        },
        shard,
        copies: Local::new(Arc::clone(&counters)),
    };
    let unit_key = keys.unit_key();
    let base = Base { unit_key, board, surroundings: surroundings.clone(), shadows, rollouts };
    let first = Arc::clone(&config.borrow_and_update());
    let build = |config: &Arc<Config>, before: Option<&Serving>| Rc::new(Serving::new(config, &base, before));
    let worker = Rc::new(Worker {
        serving: RefCell::new(build(&first, None)),
        recorder,
        counters: Arc::clone(&counters),
        keys,
        feedback,
        pressure: Arc::clone(&pressure),
        stalls: Clock::default(),
        cut: Notify::new(),
        index,
        clock,
        chance: RefCell::new(SmallRng::try_from_rng(&mut rand::rngs::SysRng).map_err(io::Error::other)?),
    });
    let in_flight = Rc::new(Cell::new(first.limits.in_flight));
    let context = Rc::new(connection::Context {
        service: RefCell::new(layers::stack(
            Rc::clone(&in_flight),
            Arc::clone(&pressure),
            Arc::clone(&counters),
            Proxy::new(Rc::clone(&worker)),
        )),
        worker: Rc::clone(&worker),
        scratch,
        calls: Local::new(Arc::clone(&counters)),
        connections: Local::new(counters),
        tls,
        phase: phase.clone(),
    });
    let ticking = Rc::clone(&worker);
    surroundings.tasks.spawn("stalls", async move {
        ticking.stalls.run(|| ticking.serving().config.limits.stall).await;
    });
    let (mut dire, mut tidy) = (pressure.dire(), pressure.tidy());
    let mut acceptor = Acceptor::new(listener)?;
    loop {
        tokio::select! {
            socket = acceptor.accept(&worker.counters) => context.open(socket),
            changed = config.changed() => {
                if changed.is_err() {
                    break;
                }
                let next = Arc::clone(&config.borrow_and_update());
                let before = worker.serving();
                in_flight.set(next.limits.in_flight);
                *worker.serving.borrow_mut() = build(&next, Some(&before));
            }
            // The sender is the pressure itself, which this worker holds.
            Ok(()) = dire.changed() => worker.cut.notify_waiters(),
            Ok(()) = tidy.changed() => heap::give_back(),
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
        }
    }
    // What the kernel accepted before the drain is a caller that must not be refused.
    while let Some(socket) = acceptor.accept_queued() {
        context.open(socket);
    }
    drop(acceptor);
    tokio::select! {
        () = context.connections.idle() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Cut) => {
            worker.cut.notify_waiters();
            // Connections see the same change, and let the calls have their last word.
            let _ = tokio::time::timeout(parting::LAST_WORDS, context.connections.idle()).await;
        }
    }
    Ok(())
}
