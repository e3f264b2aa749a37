//! The thread that uploads: every finished file, oldest first, under the name it has here, and then removes it here.
//!
//! A file is put only where there is none of its name: what a lost answer had stored already is found there, and counts
//! as stored. So each file is stored at least once, and never under a second name. While a store fails it is asked after
//! 1 s, 2 s, 4 s and so on up to a minute; until then files wait under the cap of the directory.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::shelf::{Contents, Sealed, Shelf};
use super::store::Store;
use super::tally::{Figure, Part, Tally};
use crate::failpoint;

/// How long a store that fails is left alone at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// At both ends of every Parquet file.
const MAGIC: &[u8] = b"PAR1";
/// How long one file may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The thread's own.
#[derive(Debug)]
pub(super) struct Uploader<S> {
    pub(super) store: S,
    pub(super) shelf: Arc<Shelf>,
    pub(super) tally: Arc<Tally>,
    /// Changes with each file that is sealed; gone when no more will be.
    pub(super) sealed: watch::Receiver<u64>,
}

impl<S: Store> Uploader<S> {
    pub(super) fn new(store: S, shelf: Arc<Shelf>, tally: Arc<Tally>, sealed: watch::Receiver<u64>) -> Self {
        Uploader { store, shelf, tally, sealed }
    }

    /// Works until nobody seals any more and what was sealed is stored, or cannot be now.
    pub(super) async fn run(&mut self) {
        let mut pause = FIRST;
        loop {
            let last = self.sealed.has_changed().is_err();
            let stored = self.pass().await;
            self.tally.trouble(Part::Upload, stored.clone().err());
            if last {
                return;
            }
            match stored {
                Ok(()) => {
                    pause = FIRST;
                    // An error says that no more will be sealed: one more pass.
                    let _ = self.sealed.changed().await;
                }
                Err(_) => {
                    self.wait(pause).await;
                    pause = (pause * 2).min(MOST);
                }
            }
        }
    }

    /// Waits so long, or until nobody seals any more.
    async fn wait(&mut self, pause: Duration) {
        let ended = async { while self.sealed.changed().await.is_ok() {} };
        let _ = timeout(pause, ended).await;
    }

    /// Uploads what there is; why the store takes nothing, where that is so.
    async fn pass(&mut self) -> Result<(), String> {
        let directory = self.shelf.directory().to_owned();
        let contents =
            Contents::read(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut unread = None;
        for sealed in contents.finished() {
            self.shelf.hold(Some(&sealed.place));
            let done = self.upload(sealed).await;
            self.shelf.hold(None);
            match done {
                Ok(()) => {}
                Err(Failed::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(Failed::Disk(error)) => unread = Some(format!("{}: {error}", sealed.place.display())),
                Err(Failed::Broken) => {
                    let what = "is no whole Parquet file, so it was not sealed here; it is left alone";
                    unread = Some(format!("{} {what}", sealed.place.display()));
                }
                Err(Failed::Store(why)) => {
                    self.tally.add(Figure::UploadErrors, 1);
                    return Err(why);
                }
            }
        }
        unread.map_or(Ok(()), Err)
    }

    async fn upload(&mut self, sealed: &Sealed) -> Result<(), Failed> {
        let path = self.shelf.directory().join(&sealed.place);
        failpoint::fails("log.upload")?;
        let bytes: Bytes = fs::read(&path)?.into();
        // Sealed files are whole from the first: what has such a name and is not was put there by something else.
        if !bytes.starts_with(MAGIC) || !bytes.ends_with(MAGIC) {
            return Err(Failed::Broken);
        }
        // Names are made of what can stand in a path anywhere.
        let name = sealed.place.to_string_lossy();
        match timeout(PATIENCE, self.store.put(&name, bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(Failed::Store(why)),
            Err(_) => return Err(Failed::Store(format!("no answer within {PATIENCE:?}"))),
        }
        fs::remove_file(&path)?;
        self.tally.add(Figure::Uploaded, 1);
        self.tally.add(Figure::UploadedBytes, sealed.bytes);
        self.tally.take(Figure::DiskBytes, sealed.bytes);
        self.tally.take(Figure::Waiting, 1);
        Ok(())
    }
}

/// Why a file is not stored.
enum Failed {
    Disk(io::Error),
    Broken,
    Store(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Disk(error)
    }
}

#[cfg(test)]
mod tests;
