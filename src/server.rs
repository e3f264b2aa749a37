//! The side that callers see: sockets, connections, deadlines, admission.

use std::time::{Duration, Instant, SystemTime};

use h2::RecvStream;
use http::request::Parts;

use respond::Responder;

pub mod cgroup;
pub mod connection;
pub mod heap;
pub mod layers;
pub mod listener;
pub mod memory;
pub mod parting;
pub mod respond;
pub mod watchdog;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Takes connections and calls.
    Serving,
    /// Takes no more of either; calls under way go on.
    Draining,
    /// Calls under way are ended.
    Cut,
}

/// A call whose headers were read, and nothing else.
#[derive(Debug)]
pub struct Inbound {
    /// Method, path and metadata.
    pub head: Parts,
    /// The caller's messages.
    pub body: RecvStream,
    /// The way back.
    pub respond: Responder,
    /// When the headers were read, on the monotonic clock.
    pub arrived: Instant,
    /// The same instant on the wall clock, for records.
    pub started: SystemTime,
}

/// The stream of a caller whose request was answered before it ended.
pub type Rest = Option<RecvStream>;

/// `body`, if its end has not come yet.
pub fn rest(body: RecvStream) -> Rest {
    (!body.is_end_stream()).then_some(body)
}

/// A call that was admitted and has a deadline, or none.
#[derive(Debug)]
pub struct Admitted {
    /// The call.
    pub inbound: Inbound,
    /// What the caller allowed, from [`Inbound::arrived`].
    pub timeout: Option<Duration>,
}
