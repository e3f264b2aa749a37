//! The prediction log: every prediction, copy, report and change as a row on the local disk, and from there to a store.
//!
//! A row is made of what the rest of the house says once: an outcome, the end of a copy, a report that was taken, an
//! audit record. It lies in memory for `log.flush` at most, then in a spool, which a `kill -9` cannot take away, then in a
//! sealed Parquet file, which never changes. Nothing here is waited for by a call: what finds no room is counted by cause.
//!
//! ```text
//! workers ──▶ Door ──▶ thread `log` ──▶ spool ──▶ thread `log-seal` ──▶ Parquet ──▶ thread `log-upload` ──▶ store
//!         bounded       rows become            Arrow IPC          temp, fsync,
//!         queues        columns                segments           rename, fsync
//!                          └──────▶ thread `log-events` ──▶ receiver of CloudEvents
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`table`] | the four tables and their fields |
//! | [`rows`] | from what happened to a row |
//! | [`columns`] | rows of one table, model and hour, side by side |
//! | [`partition`] | where a row belongs |
//! | [`frame`] | segments with checksums in a file, and what is left of it after a crash |
//! | [`segment`] | columns as bytes, and back |
//! | [`spool`] | the file that grows |
//! | [`seal`] | from a spool to Parquet |
//! | [`shelf`] | what lies in the directory, and the cap on it |
//! | [`door`] | the way in |
//! | [`payload`] | messages of calls, where they are kept |
//! | [`store`] | the object store |
//! | [`events`] | calls as CloudEvents |
//! | [`ask`] | `parhelion log` |
//! | [`tally`] | what became of every row |
//! | [`read`] | what lies in a directory, row by row |
//! | [`directory`] | the directory as one process holds it |
//! | `writer` | the thread that writes |
//! | `sealer` | the thread that seals |
//! | `uploader` | the thread that uploads |

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config;
use crate::tasks::text;

pub mod ask;
pub mod columns;
pub mod directory;
pub mod door;
pub mod events;
pub mod frame;
pub mod partition;
pub mod payload;
pub mod read;
pub mod rows;
pub mod seal;
mod sealer;
pub mod segment;
pub mod shelf;
pub mod spool;
pub mod store;
pub mod table;
pub mod tally;
mod uploader;
mod writer;

pub use door::Door;
pub use tally::Tally;

use payload::Rule;
use sealer::Sealer;
use shelf::Shelf;
use tally::{Cause, Part};
use uploader::Uploader;
use writer::{Command, Settings, Writer};

/// How long a thread that panicked rests.
const REST: Duration = Duration::from_millis(100);

/// A log that is written. Dropping it ends it as [`Log::close`] does, without waiting.
#[derive(Debug)]
pub struct Log {
    /// One for each worker, and the last for all else.
    doors: Vec<Door>,
    tally: Arc<Tally>,
    commands: mpsc::Sender<Command>,
    /// True once every thread has ended.
    ended: watch::Receiver<bool>,
}

impl Log {
    /// Begins to write, for so many workers.
    ///
    /// # Errors
    /// When the system gives no thread. A directory that cannot be used is none: it is tried again.
    pub fn start(config: &config::Log, workers: usize) -> io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let payloads = config.payloads.as_ref().map(|payloads| Rule::new(payloads, Arc::clone(&tally)));
        let door = |index| Door::new(index < workers, config.sample, payloads.clone(), Arc::clone(&tally));
        let doors: Vec<Door> = (0..=workers).map(door).collect();
        let oldest_goes = config.full == config::Full::DropOldest;
        let shelf = Arc::new(Shelf::new(&config.dir, config.disk.0, oldest_goes, Arc::clone(&tally)));
        let settings = Settings { flush: config.flush, size: config.seal_size.0, every: config.seal_every };
        let (commands, commanded) = mpsc::channel();
        let (order, orders) = mpsc::channel();
        let (alive, ended) = watch::channel(false);
        let (alive, sealed) = (Arc::new(Alive(alive)), watch::Sender::new(0));
        let told = config.cloudevents.as_ref().and_then(|config| match events::open(config, &tally) {
            Ok(opened) => Some(opened),
            Err(why) => {
                tally.trouble(Part::Events, Some(format!("{}: {why}", config.url())));
                None
            }
        });
        let (told, lanes) = told.unzip();
        if let Some(lanes) = lanes {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut lanes = Some(lanes);
            let tell = move || {
                if let Some(lanes) = lanes.take() {
                    runtime.block_on(events::run(lanes));
                }
            };
            thread("log-events", (&alive, &tally), tell)?;
        }
        let out = (order, told);
        let mut writer = Writer::new(doors.clone(), Arc::clone(&shelf), settings, Arc::clone(&tally), out);
        if let Some(url) = &config.upload {
            match store::open(url, std::env::vars()) {
                Ok(place) => {
                    let mut work =
                        Uploader::new(place, Arc::clone(&shelf), Arc::clone(&tally), sealed.subscribe());
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    thread("log-upload", (&alive, &tally), move || runtime.block_on(work.run()))?;
                }
                // What is sealed waits below the cap for a start that knows the store.
                Err(why) => tally.trouble(Part::Upload, Some(format!("{url}: {why}"))),
            }
        }
        let mut sealer = Sealer::new(shelf, Arc::clone(&tally), sealed);
        thread("log", (&alive, &tally), move || writer.run(&commanded))?;
        thread("log-seal", (&alive, &tally), move || sealer.run(&orders))?;
        Ok(Log { doors, tally, commands, ended })
    }

    /// The way in of that worker, counted from 0, or, for any other number, that of all else.
    pub fn door(&self, worker: usize) -> Option<Door> {
        self.doors.get(worker).or(self.doors.last()).cloned()
    }

    /// What became of every row.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Writes what waits and seals it; what takes longer than `patience` is left for the next start.
    pub async fn close(&self, patience: Duration) {
        // It fails only where the thread has ended already.
        let _ = self.commands.send(Command::End);
        let mut ended = self.ended.clone();
        let _ = tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await;
    }
}

/// Held by every thread of a log; whoever drops it last says that all have ended.
struct Alive(watch::Sender<bool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Starts a thread that goes on after a panic: what it had in hand counts as lost.
fn thread(
    name: &'static str,
    (alive, tally): (&Arc<Alive>, &Arc<Tally>),
    mut work: impl FnMut() + Send + 'static,
) -> io::Result<()> {
    let (alive, tally) = (Arc::clone(alive), Arc::clone(tally));
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
            tally.lose(Cause::Panic, 1);
            tracing::error!(
                thread = name,
                panic = text(&*panic),
                "a thread of the prediction log panicked; it goes on"
            );
            std::thread::sleep(REST);
        }
        // Whoever works for this one hears of its end before anybody is told.
        drop(work);
        drop(alive);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
