//! Calls as CloudEvents of the types of KServe's logger, over HTTP/1.1: so that what reads those reads gRPC calls too.
//!
//! A call that was given to a model has an event of its request and, where it ended well, one of its response; both
//! carry the variant and its version, which KServe's do not. The messages are those that are kept with the row, masked
//! as there. What is to be told waits in bounded queues, one for each connection: both events of a call are in one, so
//! that they come in their order. The thread that writes the log puts them there and never waits; what finds no room is
//! counted, and so is what the receiver does not take. What it took, but did not say so, is told again: at least once.
//!
//! | file | what it holds |
//! |---|---|
//! | `event` | one event, and its form on the wire |
//! | `lane` | one connection, and what is told over it |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::payload::Written;
use super::tally::{Missed, Tally};
use crate::config::{CloudEvents, EventMode};
use crate::outcome::Outcome;
use crate::tasks::Tasks;
use crate::tls::TlsError;
use crate::tls::client::Client;

mod event;
mod lane;

use event::Event;
use lane::{Lane, Receiver};

/// Connections to the receiver.
const LANES: usize = 8;
/// Events that wait for one of them.
const WAITING: usize = 512;
/// Bytes of messages that wait for all of them.
const ROOM: usize = 32 << 20;

/// Which side of a call an event is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What was asked.
    Request,
    /// What was answered.
    Response,
}

impl Side {
    /// Both, in the order of the enum.
    pub const ALL: [Side; 2] = [Side::Request, Side::Response];

    /// The word used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Response => "response",
        }
    }

    fn is_in(self, mode: EventMode) -> bool {
        match mode {
            EventMode::All => true,
            EventMode::Request => self == Side::Request,
            EventMode::Response => self == Side::Response,
        }
    }
}

/// The way in: where events wait.
#[derive(Debug)]
pub(super) struct Events {
    mode: EventMode,
    lanes: Vec<mpsc::Sender<Event>>,
    held: Arc<AtomicUsize>,
    tally: Arc<Tally>,
}

/// The way out: what tells them, for [`run`].
#[derive(Debug)]
pub(super) struct Lanes(Vec<Lane>);

/// Both, not under way yet.
///
/// # Errors
/// A certificate's file that cannot be used.
pub(super) fn open(config: &CloudEvents, tally: &Arc<Tally>) -> Result<(Events, Lanes), TlsError> {
    let client = config.tls.as_ref().map(Client::load).transpose()?;
    let receiver = Arc::new(Receiver::new(config, client));
    let (mut ins, mut lanes) = (Vec::with_capacity(LANES), Vec::with_capacity(LANES));
    for _ in 0..LANES {
        let (way, waiting) = mpsc::channel(WAITING);
        ins.push(way);
        lanes.push(Lane::new(Arc::clone(&receiver), waiting, Arc::clone(tally)));
    }
    let events = Events { mode: config.mode, lanes: ins, held: Arc::default(), tally: Arc::clone(tally) };
    Ok((events, Lanes(lanes)))
}

/// Tells what comes until no more will.
pub(super) async fn run(lanes: Lanes) {
    let tasks = Tasks::new(Arc::default());
    let running: Vec<_> = lanes.0.into_iter().map(|lane| tasks.spawn("log events", lane.run())).collect();
    for lane in running {
        // A panic is logged where tasks are.
        let _ = lane.await;
    }
}

impl Events {
    /// Tells of a call that has ended, and of its messages where they are kept.
    pub(super) fn tell(&self, outcome: &Outcome, messages: Option<&Written>, now: SystemTime) {
        for side in Side::ALL {
            if side.is_in(self.mode)
                && let Some(event) = Event::of(outcome, side, messages, now)
            {
                self.wait(event);
            }
        }
    }

    fn wait(&self, mut event: Event) {
        let lane = event.prediction().as_u128() as usize % self.lanes.len();
        let told = event.hold(&self.held, ROOM) && self.lanes[lane].try_send(event).is_ok();
        if !told {
            self.tally.miss(Missed::Queue);
        }
    }
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
struct Hold {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Hold {
    /// None where there is no room.
    fn take(held: &Arc<AtomicUsize>, bytes: usize, most: usize) -> Option<Self> {
        let before = held.fetch_add(bytes, Ordering::Relaxed);
        let hold = Hold { held: Arc::clone(held), bytes };
        (before + bytes <= most).then_some(hold)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
