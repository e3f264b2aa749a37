//! The thread that owns the file: opens it, writes what waits, and begins anew after a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{Disk, StateError};
use super::{Batch, Errand, FLUSH, Shared};
use crate::tasks::text;

/// How long a directory that failed is left alone.
const RETRY: Duration = Duration::from_secs(2);

impl Shared {
    /// Works until the end is asked for; after a panic it begins anew, with what waited then.
    pub(super) fn work(&self, mut open: bool, errand: &Errand, mut done: bool) {
        let _ended = Ended(self);
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run(open, errand, done))) {
            tracing::error!(
                panic = text(&*panic),
                "the thread that keeps the state panicked; it begins anew"
            );
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.set_disk(None);
            (open, done) = (false, false);
        }
    }

    /// Works until the end is asked for and nothing waits any more, or cannot be written.
    fn run(&self, mut open: bool, errand: &Errand, mut done: bool) {
        let mut next = Instant::now() + if open { FLUSH } else { RETRY };
        let mut again = Instant::now() + RETRY;
        loop {
            let waiting = self.wait(next, open);
            let ends = waiting.ends;
            drop(waiting);
            if open && let Some(gone) = self.gone() {
                open = self.begin_anew(gone);
                done = false;
            } else if !open {
                open = self.open();
            }
            open = open && self.flush();
            if !done && (ends || Instant::now() >= again) {
                done = self.attempt(errand);
                again = Instant::now() + RETRY;
            }
            if ends {
                break;
            }
            next = Instant::now() + if open { FLUSH } else { RETRY };
        }
        self.set_disk(None);
    }

    /// Tries the errand; whether it is done.
    pub(super) fn attempt(&self, errand: &Errand) -> bool {
        let why: Option<Arc<str>> = errand(&self.directory).err().map(Into::into);
        self.errors.fetch_add(u64::from(why.is_some()), Ordering::Relaxed);
        let done = why.is_none();
        let known = self.undone.send_replace(why.clone());
        match why {
            Some(error) if known.as_ref() != Some(&error) => {
                tracing::error!(%error, "the state directory cannot be used; calls go on, and it is tried again");
            }
            None if known.is_some() => {
                tracing::info!(directory = %self.directory.display(), "the state directory can be used again");
            }
            Some(_) | None => {}
        }
        done
    }

    /// The open file, where its name is no longer its own.
    fn gone(&self) -> Option<Arc<Disk>> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        (!disk.is_there()).then_some(disk)
    }

    /// Makes the file anew with all that `gone` had, which can still be read as long as it is open.
    fn begin_anew(&self, gone: Arc<Disk>) -> bool {
        self.failed(&StateError::Gone { path: gone.path().to_owned() });
        match gone.all() {
            Ok(mut batch) => {
                let mut waiting = self.waiting();
                let later = std::mem::take(&mut waiting.batch);
                let lost = batch.add(later);
                self.lost.fetch_add(lost as u64, Ordering::Relaxed);
                waiting.batch = batch;
            }
            Err(error) => {
                self.failed(&error);
            }
        }
        drop(gone);
        self.set_disk(None);
        self.open()
    }

    /// Opens the file, and tells what an earlier process left if nobody knows yet.
    pub(super) fn open(&self) -> bool {
        let opened = Disk::open(&self.directory).and_then(|disk| {
            let left = if self.left.borrow().is_none() { Some(disk.left()?) } else { None };
            Ok((disk, left))
        });
        match opened {
            Ok((disk, left)) => {
                self.set_disk(Some(Arc::new(disk)));
                if let Some(left) = left {
                    self.left.send_replace(Some(Arc::new(left)));
                }
                self.well();
                true
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Writes what waits; false: it waits on, and the file must be opened again.
    fn flush(&self) -> bool {
        let (batch, ticket) = {
            let mut waiting = self.waiting();
            waiting.urgent = false;
            (std::mem::take(&mut waiting.batch), waiting.ticket)
        };
        let Some(disk) = self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return false;
        };
        if !batch.is_empty() {
            let mut batch = Unwritten { shared: self, batch };
            if let Err(error) = disk.write(&batch.batch) {
                drop(batch);
                drop(disk);
                self.set_disk(None);
                return self.failed(&error);
            }
            batch.batch = Batch::default();
        }
        self.written.send_replace(ticket);
        self.well();
        true
    }

    fn set_disk(&self, disk: Option<Arc<Disk>>) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    fn well(&self) {
        if self.trouble.send_replace(None).is_some() {
            tracing::info!(directory = %self.directory.display(), "the state is kept again");
        }
    }

    fn failed(&self, error: &StateError) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text: Arc<str> = error.to_string().into();
        let known = self.trouble.send_replace(Some(Arc::clone(&text)));
        if known.as_ref() != Some(&text) {
            tracing::error!(error = %text, "the state cannot be kept; calls go on, and it is tried again");
        }
        false
    }
}

/// What is being written: dropped before that is done, it waits again, before all that came since.
struct Unwritten<'a> {
    shared: &'a Shared,
    batch: Batch,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut waiting = self.shared.waiting();
        let later = std::mem::replace(&mut waiting.batch, std::mem::take(&mut self.batch));
        let lost = waiting.batch.add(later);
        self.shared.lost.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// Says that the thread has ended, however it did.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
    }
}
