//! The thread that seals: spools that are handed on, and those that an earlier process left.
//!
//! What cannot be sealed now, for the disk is full perhaps, is tried again every two seconds.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::seal::{self, Made, SealError};
use super::shelf::Shelf;
use super::tally::{Figure, Part, Tally};
use crate::failpoint;

/// How long what failed is left alone.
const RETRY: Duration = Duration::from_secs(2);

/// A spool that nobody writes to any more, to be sealed.
#[derive(Debug)]
pub(super) struct Order(pub(super) PathBuf);

/// The thread's own.
#[derive(Debug)]
pub(super) struct Sealer {
    pub(super) shelf: Arc<Shelf>,
    pub(super) tally: Arc<Tally>,
    /// Told after each file.
    pub(super) sealed: tokio::sync::watch::Sender<u64>,
    waiting: BTreeSet<PathBuf>,
    /// Left for a newer version.
    refused: BTreeSet<PathBuf>,
}

impl Sealer {
    pub(super) fn new(shelf: Arc<Shelf>, tally: Arc<Tally>, sealed: tokio::sync::watch::Sender<u64>) -> Self {
        Sealer { shelf, tally, sealed, waiting: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// Works until nobody hands spools on any more, and tries the last ones once.
    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = if self.waiting.is_empty() {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(RETRY)
            };
            match order {
                Ok(Order(spool)) => {
                    self.waiting.insert(spool);
                    self.waiting.extend(orders.try_iter().map(|Order(spool)| spool));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.seal();
                    return;
                }
            }
            self.seal();
        }
    }

    fn seal(&mut self) {
        let mut why = None;
        for spool in self.waiting.clone() {
            failpoint::panics("log.seal");
            match seal::seal(self.shelf.directory(), &spool) {
                Ok(made) => {
                    self.waiting.remove(&spool);
                    self.made(&made);
                }
                Err(error @ SealError::Newer { .. }) => {
                    self.waiting.remove(&spool);
                    self.refused.insert(spool);
                    why = Some(error.to_string());
                }
                Err(SealError::Disk { error, .. })
                    if error.kind() == std::io::ErrorKind::NotFound && !spool.exists() =>
                {
                    self.waiting.remove(&spool);
                }
                Err(error) => {
                    self.tally.add(Figure::SealErrors, 1);
                    why = Some(error.to_string());
                }
            }
        }
        match why {
            Some(why) => self.tally.trouble(Part::Seal, Some(why)),
            None if self.refused.is_empty() => self.tally.trouble(Part::Seal, None),
            None => {}
        }
        if let Err(error) = self.shelf.make_room(0) {
            self.failed(format!("{}: {error}", self.shelf.directory().display()));
        }
        // Whoever uploads looks for itself; nobody does where there is no store.
        self.sealed.send_modify(|times| *times += 1);
    }

    fn made(&self, made: &Made) {
        self.tally.add(Figure::Sealed, made.files as u64);
        self.tally.add(Figure::Damaged, made.damaged);
        if made.damaged > 0 {
            let Made { rows, damaged, .. } = made;
            tracing::warn!(
                rows,
                damaged,
                "a spool could not be read everywhere: its last segment was not finished, or it was damaged"
            );
        }
    }

    fn failed(&self, why: String) {
        self.tally.add(Figure::SealErrors, 1);
        self.tally.trouble(Part::Seal, Some(why));
    }
}
