//! What must outlive the process: where rollouts stand, which builds are blocked, who decided what, and what feedback
//! was seen.
//!
//! One thread owns the file, so nothing else ever waits for a disk. Changes of plan are written at once and may be
//! waited for; evidence waits for the next flush and comes along with it. A directory that is full, read-only or gone
//! is said so, counted, and tried again: what was to be written waits in memory, within bounds. A file that is deleted
//! or replaced while it is open is made anew, with all that stood in it. Without a directory all of this costs nothing
//! and keeps nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

mod batch;
mod disk;
mod thread;

pub use batch::{Batch, Changed, Mark};
use disk::Disk;
pub use disk::{Left, RECORDS, StateError};

/// What else is to get into the directory: done at the start, again whenever the directory had to be made anew, and
/// tried again until it is done. The error says why it cannot be.
pub type Errand = Box<dyn Fn(&Path) -> Result<(), String> + Send>;

/// How long evidence waits to be written.
pub const FLUSH: Duration = Duration::from_secs(1);

/// The way to what is kept. Dropping it writes what waits, and lets the file go.
#[derive(Debug)]
pub struct State(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    waiting: Mutex<Waiting>,
    told: Condvar,
    /// The last ticket that is on the disk.
    written: watch::Sender<u64>,
    /// None while the file was never open.
    left: watch::Sender<Option<Arc<Left>>>,
    trouble: watch::Sender<Option<Arc<str>>>,
    /// Why the errand cannot be done now.
    undone: watch::Sender<Option<Arc<str>>>,
    ended: watch::Sender<bool>,
    disk: Mutex<Option<Arc<Disk>>>,
    errors: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// Of the newest batch.
    ticket: u64,
    /// Whether somebody waits for it.
    urgent: bool,
    ends: bool,
}

impl State {
    /// Nothing is kept.
    pub fn memory() -> Self {
        State(None)
    }

    /// Keeps it in `directory`. Where that cannot be read now, [`State::left`] says so by staying empty until it can.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(directory: &Path) -> std::io::Result<Self> {
        Self::start_with(directory, Box::new(|_| Ok(())))
    }

    /// The same, with an errand.
    ///
    /// # Errors
    /// As [`State::start`].
    pub fn start_with(directory: &Path, errand: Errand) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            waiting: Mutex::default(),
            told: Condvar::new(),
            written: watch::Sender::new(0),
            left: watch::Sender::new(None),
            trouble: watch::Sender::new(None),
            undone: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            disk: Mutex::default(),
            errors: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        // The first try is made here, so that a rollout goes on where it was from the first call.
        let open = shared.open();
        let done = shared.attempt(&errand);
        let state = State(Some(Arc::clone(&shared)));
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || shared.work(open, &errand, done))?;
        Ok(state)
    }

    /// What an earlier process left; none until the file could be read. Always there where nothing is kept.
    pub fn left(&self) -> watch::Receiver<Option<Arc<Left>>> {
        match &self.0 {
            Some(shared) => shared.left.subscribe(),
            None => watch::channel(Some(Arc::default())).1,
        }
    }

    /// Whether anything is kept.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Why nothing can be written now.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.0.as_ref().and_then(|shared| shared.trouble.borrow().clone())
    }

    /// Why the errand is not done.
    pub fn undone(&self) -> Option<Arc<str>> {
        self.0.as_ref().and_then(|shared| shared.undone.borrow().clone())
    }

    /// Failures to read or write since the start.
    pub fn errors(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.errors.load(Ordering::Relaxed))
    }

    /// Records and marks that were never written, for the directory took nothing for too long.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.lost.load(Ordering::Relaxed))
    }

    /// Writes `batch` with the next flush.
    pub fn defer(&self, batch: Batch) {
        self.add(batch, false);
    }

    /// Writes `batch` now, and with it whatever waits; true once it is on the disk, false if that takes longer than
    /// `patience`: it goes on waiting then. False also where nothing is kept.
    pub async fn commit(&self, batch: Batch, patience: Duration) -> bool {
        let Some(ticket) = self.add(batch, true) else { return false };
        let Some(shared) = &self.0 else { return false };
        let mut written = shared.written.subscribe();
        let done = written.wait_for(|written| *written >= ticket);
        matches!(tokio::time::timeout(patience, done).await, Ok(Ok(_)))
    }

    /// The value of a mark that was flushed. Reads the disk: not for the request path, nor for a runtime's thread.
    ///
    /// # Errors
    /// When the file cannot be read. Nothing is found where nothing is kept, or while the file is not open.
    pub fn find(&self, mark: Mark) -> Result<Option<Vec<u8>>, StateError> {
        match self.disk() {
            Some(disk) => disk.find(mark),
            None => Ok(None),
        }
    }

    /// Calls `each` for every flushed mark that expires in hour `from` or later. Reads the disk, as [`State::find`].
    ///
    /// # Errors
    /// As [`State::find`].
    pub fn marks(&self, from: u32, each: impl FnMut(Mark, &[u8])) -> Result<(), StateError> {
        match self.disk() {
            Some(disk) => disk.marks(from, each),
            None => Ok(()),
        }
    }

    /// Writes what waits and lets the file go; what takes longer than `patience` is left behind.
    pub async fn close(&self, patience: Duration) {
        let Some(shared) = &self.0 else { return };
        shared.end();
        let mut ended = shared.ended.subscribe();
        let _ = tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await;
    }

    fn disk(&self) -> Option<Arc<Disk>> {
        let shared = self.0.as_ref()?;
        shared.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, batch: Batch, urgent: bool) -> Option<u64> {
        let shared = self.0.as_ref()?;
        let mut waiting = shared.waiting();
        let lost = waiting.batch.add(batch);
        shared.lost.fetch_add(lost as u64, Ordering::Relaxed);
        waiting.ticket += 1;
        waiting.urgent |= urgent;
        if waiting.urgent {
            shared.told.notify_one();
        }
        Some(waiting.ticket)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.end();
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What it guards is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.waiting().ends = true;
        self.told.notify_one();
    }

    /// Waits until there is something to do: at `until`, or before where it is urgent and `eager`.
    fn wait(&self, until: Instant, eager: bool) -> MutexGuard<'_, Waiting> {
        let mut waiting = self.waiting();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if waiting.ends || left.is_zero() || eager && waiting.urgent {
                return waiting;
            }
            let woken = self.told.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests;
