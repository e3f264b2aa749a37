//! One endpoint as one worker sees it: its connections, how it did lately, and whether it is taken out.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::Notify;

use super::connection::{Connection, handshake};
use super::dial::reach;
use super::readiness::{Readiness, Target, Traffic};
use crate::tasks;
use crate::telemetry::counter::{Counter, Counters};
use crate::tls;
use crate::wire::Scratch;
use crate::wire::windows::Windows;

/// Connections to one endpoint at most; another is made when the peer allows no more streams on those there are.
const CONNECTIONS: usize = 4;
/// Failures in a row after which an endpoint is taken out.
const FAILURES: u32 = 5;
/// How long it is out the first time; each further time in a row twice as long, up to [`EJECTION_MAX`].
const EJECTION: Duration = Duration::from_secs(1);
const EJECTION_MAX: Duration = Duration::from_secs(4);
/// Wait before connecting again after a failure; doubled each time up to [`BACKOFF_MAX`], with jitter.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What an endpoint shares with the others of its worker.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The worker's buffers.
    pub scratch: Rc<Scratch>,
    /// The process's counters.
    pub counters: Arc<Counters>,
    /// Certificates.
    pub tls: Arc<tls::Store>,
    /// Where its connections run.
    pub tasks: tasks::Local,
    /// Whether what its servers send is taken at a pace, for nobody waits for it.
    pub paced: bool,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    target: Target,
    name: Arc<str>,
    windows: Windows,
    surroundings: Surroundings,
    readiness: Arc<Readiness>,
    connections: RefCell<Vec<Rc<Connection>>>,
    connecting: Cell<bool>,
    connected: Notify,
    backoff: RefCell<Option<Backoff>>,
    turn: Cell<usize>,
    traffic: Arc<Traffic>,
    started: Cell<u64>,
    /// [`Readiness::moves`] when the connections were last compared with the name's addresses.
    moves: Cell<u64>,
    health: Cell<Health>,
}

/// The last failure to connect.
#[derive(Debug)]
struct Backoff {
    until: Instant,
    wait: Duration,
    /// [`Readiness::changes`] then: a probe that found the endpoint since makes the wait void.
    changes: u64,
    error: String,
}

/// How calls to an endpoint ended lately.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    failures: u32,
    ejections: u32,
    ejected_until: Option<Instant>,
}

impl Endpoint {
    /// A new one, not connected.
    pub fn new(
        target: Target,
        readiness: Arc<Readiness>,
        windows: Windows,
        surroundings: Surroundings,
    ) -> Rc<Self> {
        Rc::new(Endpoint {
            name: target.endpoint.address.to_string().into(),
            target,
            windows,
            surroundings,
            traffic: readiness.traffic(),
            readiness,
            connections: RefCell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
            backoff: RefCell::default(),
            turn: Cell::new(0),
            started: Cell::new(0),
            moves: Cell::new(0),
            health: Cell::default(),
        })
    }

    /// What it serves.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// `host:port` or `unix:/path`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The windows its connections are made with.
    pub fn windows(&self) -> Windows {
        self.windows
    }

    /// What probes found.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Calls in flight, those that wait for a connection too.
    pub fn in_flight(&self) -> usize {
        self.traffic.under_way()
    }

    /// Calls started since the worker knows it.
    pub fn started(&self) -> u64 {
        self.started.get()
    }

    /// Counts a call until the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> Load {
        self.traffic.enter();
        self.started.set(self.started.get() + 1);
        Load(Rc::clone(self))
    }

    /// A connection that takes another stream; made where there is none.
    ///
    /// # Errors
    /// At once while the endpoint is known not to accept connections.
    pub async fn connection(self: &Rc<Self>) -> Result<Rc<Connection>, String> {
        loop {
            let waiting = self.connected.notified();
            if let Some(connection) = self.usable() {
                return Ok(connection);
            }
            if let Some(error) = self.backing_off(Instant::now()) {
                return Err(error);
            }
            self.connect();
            waiting.await;
        }
    }

    /// The open connection with the fewest streams; starts another one where all are full.
    fn usable(self: &Rc<Self>) -> Option<Rc<Connection>> {
        if self.moves.get() != self.readiness.moves() {
            self.follow();
        }
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| {
            if connection.is_worn() && connection.retire() {
                self.surroundings.counters.add(Counter::UpstreamRotations);
            }
            connection.is_open()
        });
        let best = connections.iter().min_by_key(|connection| connection.in_flight()).cloned()?;
        let full = !best.has_room() && connections.len() < CONNECTIONS;
        drop(connections);
        if full && self.backing_off(Instant::now()).is_none() {
            self.connect();
        }
        Some(best)
    }

    fn backing_off(&self, now: Instant) -> Option<String> {
        let backoff = self.backoff.borrow();
        let backoff = backoff.as_ref()?;
        (now < backoff.until && backoff.changes == self.readiness.changes()).then(|| backoff.error.clone())
    }

    fn connect(self: &Rc<Self>) {
        if self.connecting.replace(true) {
            return;
        }
        let endpoint = Rc::clone(self);
        self.surroundings.tasks.spawn("connect", async move {
            let mut result = endpoint.dial().await;
            if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionAborted) {
                // It sends all connections away, this one by accident too: that is no failure yet.
                result = endpoint.dial().await;
            }
            match result {
                Ok(connection) => {
                    endpoint.surroundings.counters.add(Counter::UpstreamConnects);
                    *endpoint.backoff.borrow_mut() = None;
                    endpoint.connections.borrow_mut().push(connection);
                }
                Err(error) => {
                    endpoint.surroundings.counters.add(Counter::UpstreamConnectErrors);
                    endpoint.back_off(&error);
                    endpoint.readiness.doubt();
                }
            }
            endpoint.connecting.set(false);
            endpoint.connected.notify_waiters();
        });
    }

    async fn dial(self: &Rc<Self>) -> io::Result<Rc<Connection>> {
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let Surroundings { scratch, tls, paced, .. } = &self.surroundings;
        let (socket, peer) = reach(&self.target.endpoint, tls, turn).await?;
        let (connection, driver) = handshake(socket, peer, self.windows, *paced, scratch).await?;
        self.surroundings.tasks.spawn("upstream connection", driver);
        Ok(connection)
    }

    fn back_off(&self, error: &io::Error) {
        let mut backoff = self.backoff.borrow_mut();
        let wait = backoff.as_ref().map_or(BACKOFF, |before| (before.wait * 2).min(BACKOFF_MAX));
        // Half fixed, half by chance: a thousand sidecars must not knock at the same instant.
        let jittered = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
        *backoff = Some(Backoff {
            until: Instant::now() + jittered,
            wait,
            changes: self.readiness.changes(),
            error: error.to_string(),
        });
    }

    /// Whether it is known not to accept connections.
    pub fn is_unreachable(&self, now: Instant) -> bool {
        self.connections.borrow().is_empty() && self.backing_off(now).is_some()
    }

    /// Whether it is taken out for failing.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.health.get().ejected_until.is_some_and(|until| now < until)
    }

    /// Says that the server answered a call.
    pub fn answered(&self) {
        self.traffic.answer();
    }

    /// Says how a call ended. Failures in a row take the endpoint out and ask the prober for a look.
    pub fn report(&self, failed: bool, now: Instant) {
        let mut health = self.health.get();
        if !failed {
            if health.failures > 0 {
                self.health.set(Health::default());
            }
            return;
        }
        health.failures += 1;
        if health.failures >= FAILURES && !self.is_ejected(now) {
            let out = (EJECTION * 2u32.saturating_pow(health.ejections)).min(EJECTION_MAX);
            health.ejected_until = Some(now + out);
            health.ejections += 1;
            // Back from its time out it has one try, not five.
            health.failures = FAILURES - 1;
            self.surroundings.counters.add(Counter::Ejections);
            self.readiness.doubt();
            tracing::warn!(endpoint = %self.name, ?out, "endpoint taken out: calls to it fail in a row");
        }
        self.health.set(health);
    }

    /// Retires connections whose address the endpoint's name no longer has.
    fn follow(&self) {
        self.moves.set(self.readiness.moves());
        let addresses = self.readiness.addresses();
        for connection in self.connections.borrow().iter() {
            if connection.peer().is_some_and(|peer| !addresses.contains(&peer)) && connection.retire() {
                self.surroundings.counters.add(Counter::UpstreamRotations);
                tracing::info!(endpoint = %self.name, "the name has moved to other addresses; connecting anew");
            }
        }
    }
}

/// A call counted at its endpoint until it is dropped.
#[derive(Debug)]
pub struct Load(Rc<Endpoint>);

impl Load {
    /// The endpoint.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.traffic.leave();
    }
}
