//! Requests that a variant's server answers for nobody, before it is given calls.
//!
//! A server that just started compiles, allocates and fills its caches on its first requests, and whoever sends them
//! waits. Here these are sample requests, kept from live calls or read from a file, sent over a connection of their own
//! and marked [`WARMUP`]. An endpoint is warm after so many of them were answered OK. When the time for that is over it
//! counts as warm all the same (there may be no calls to keep samples of), unless it failed at every one.
//!
//! Whoever is about to give an endpoint calls asks [`Warmer::warm`] for it until it is warm; what nobody asks for any
//! more stops.
//!
//! | file | what it holds |
//! |---|---|
//! | `sample` | requests that are kept from live calls |
//! | `file` | requests that a person wrote |
//! | `send` | one request on the wire |
//! | `work` | one endpoint, until it is warm |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::{self, Endpoint, Model};
use crate::keys::Keys;
use crate::tasks::Tasks;
use crate::telemetry::counter::Counters;
use crate::tls;
use crate::upstream::readiness::{Readiness, Target};
use sample::Samples;

pub mod file;
pub mod sample;
mod send;
mod work;

/// Request metadata of every warm-up request.
pub const WARMUP: http::HeaderName = http::HeaderName::from_static("parhelion-warmup");

/// Endpoints that are warmed at once; more wait for their turn.
const ORDERS: usize = 256;
/// What nobody has asked for so long is not wanted any more.
const WANTED: Duration = Duration::from_secs(2);

/// One endpoint of one variant that shall be warm.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose calls it will get.
    pub model: Arc<Model>,
    /// Index into [`Model::variants`].
    pub variant: usize,
    /// One of that variant's.
    pub endpoint: Endpoint,
    /// How.
    pub warming: config::Warming,
}

/// How far an endpoint is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warmth {
    /// Requests that it answered OK.
    pub answered: u64,
    /// Requests that it did not.
    pub failed: u64,
    /// So many must be answered.
    pub of: u64,
    /// Whether it may be given calls.
    pub done: bool,
    /// The latest trouble, or why it may be given calls with less than that; for people.
    pub why: Option<Arc<str>>,
}

/// One endpoint on its way.
#[derive(Debug)]
pub struct Warming {
    warmth: watch::Sender<Warmth>,
    /// [`Readiness::changes`] at the beginning: after another change there may be another server.
    changes: u64,
    wanted: Mutex<Instant>,
}

/// Everything that is warmed, and what with.
#[derive(Debug)]
pub struct Warmer {
    samples: DashMap<Arc<str>, Arc<Samples>>,
    warmings: DashMap<Target, Arc<Warming>>,
    counts: DashMap<(Arc<str>, Arc<str>), Arc<Counts>>,
    orders: mpsc::Sender<Started>,
}

/// Requests since the process started.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
}

/// What one variant was sent since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The model.
    pub model: Arc<str>,
    /// The variant.
    pub variant: Arc<str>,
    /// Requests that were answered OK.
    pub answered: u64,
    /// Those that were not.
    pub failed: u64,
}

/// What the task gets.
#[derive(Debug)]
struct Started {
    order: Order,
    warming: Arc<Warming>,
    samples: Arc<Samples>,
    readiness: Arc<Readiness>,
    counts: Arc<Counts>,
}

/// Where orders come out; for [`run`].
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Started>);

impl Order {
    /// Its endpoint as that variant's server.
    pub fn target(&self) -> Option<Target> {
        Some(Target::new(&self.model, self.model.variants.get(self.variant)?, &self.endpoint))
    }
}

impl Warmer {
    /// Nothing is warm.
    pub fn new() -> (Arc<Self>, Orders) {
        let (orders, taken) = mpsc::channel(ORDERS);
        let warmer =
            Warmer { samples: DashMap::new(), warmings: DashMap::new(), counts: DashMap::new(), orders };
        (Arc::new(warmer), Orders(taken))
    }

    /// Where samples of that model's calls are kept.
    pub fn samples(&self, model: &Arc<str>) -> Arc<Samples> {
        Arc::clone(&self.samples.entry(Arc::clone(model)).or_default())
    }

    /// How far the endpoint is, that is `readiness` ready; the first to ask sets it going, and it goes on while
    /// somebody asks at least every two seconds. A server that went and came again begins anew.
    pub fn warm(&self, order: &Order, readiness: &Arc<Readiness>) -> Warmth {
        let Some(target) = order.target() else { return Warmth::default() };
        let known = self.warmings.get(&target).map(|known| Arc::clone(&known));
        if let Some(warming) = known.filter(|known| known.serves(order, readiness)) {
            warming.want();
            return warming.warmth();
        }
        let warming = Arc::new(Warming {
            warmth: watch::Sender::new(Warmth { of: order.warming.requests, ..Warmth::default() }),
            changes: readiness.changes(),
            wanted: Mutex::new(Instant::now()),
        });
        let started = Started {
            order: order.clone(),
            warming: Arc::clone(&warming),
            samples: self.samples(&order.model.name),
            readiness: Arc::clone(readiness),
            counts: self.counts(order),
        };
        // Where too many wait, it is asked for again.
        if self.orders.try_send(started).is_ok() {
            self.warmings.insert(target, Arc::clone(&warming));
        }
        warming.warmth()
    }

    /// How far an endpoint is that somebody asked for before.
    pub fn find(&self, target: &Target) -> Option<Warmth> {
        self.warmings.get(target).map(|known| known.warmth())
    }

    /// What was sent to each variant so far, in the order of their names.
    pub fn sent(&self) -> Vec<Sent> {
        let mut all: Vec<Sent> = self
            .counts
            .iter()
            .map(|counted| Sent {
                model: Arc::clone(&counted.key().0),
                variant: Arc::clone(&counted.key().1),
                answered: counted.answered.load(Ordering::Relaxed),
                failed: counted.failed.load(Ordering::Relaxed),
            })
            .collect();
        all.sort_by(|one, other| (&one.model, &one.variant).cmp(&(&other.model, &other.variant)));
        all
    }

    fn counts(&self, order: &Order) -> Arc<Counts> {
        let variant = order.model.variants.get(order.variant).map(|variant| Arc::clone(&variant.name));
        let name = (Arc::clone(&order.model.name), variant.unwrap_or_default());
        Arc::clone(&self.counts.entry(name).or_default())
    }
}

impl Warming {
    /// How far it is now.
    fn warmth(&self) -> Warmth {
        self.warmth.borrow().clone()
    }

    fn serves(&self, order: &Order, readiness: &Readiness) -> bool {
        let warmth = self.warmth.borrow();
        let goes_on = warmth.done || self.is_wanted(Instant::now());
        self.changes == readiness.changes() && warmth.of == order.warming.requests && goes_on
    }

    fn want(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_wanted(&self, now: Instant) -> bool {
        now.saturating_duration_since(*self.wanted.lock().unwrap_or_else(PoisonError::into_inner)) < WANTED
    }
}

impl std::fmt::Display for Warmth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "warmed {} of {}", self.answered, self.of)?;
        match &self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// Warms what is ordered, each endpoint in a task of its own, for as long as it is polled.
pub async fn run(mut orders: Orders, (keys, tls): (Arc<Keys>, Arc<tls::Store>), counters: Arc<Counters>) {
    let tasks = Tasks::new(counters);
    while let Some(started) = orders.0.recv().await {
        let name = format!("warm {} {}", started.order.model.name, started.order.endpoint.address);
        tasks.spawn(name, work::run(started, (Arc::clone(&keys), Arc::clone(&tls))));
    }
}
