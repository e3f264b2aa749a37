//! What was made from files, and is made anew when they change: all or nothing, and the last good goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::pem::{self, TlsError};

/// What became of a look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// They are as before.
    Same,
    /// They are others, and in force.
    Taken,
    /// They are others, and cannot be used: those before go on.
    Refused(TlsError),
}

/// Something that was made, and when the first of its certificates ends.
#[derive(Debug)]
pub(super) struct Made<T> {
    pub(super) value: Arc<T>,
    /// By file: until when what it holds is good.
    pub(super) ends: Vec<(PathBuf, SystemTime)>,
}

#[derive(Debug)]
pub(super) struct Held<T> {
    files: Vec<PathBuf>,
    current: ArcSwap<Made<T>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    hash: blake3::Hash,
    /// Why the newest files are not in force.
    refused: Option<TlsError>,
}

impl<T> Held<T> {
    pub(super) fn new(
        files: Vec<PathBuf>,
        make: impl FnOnce() -> Result<Made<T>, TlsError>,
    ) -> Result<Self, TlsError> {
        // Before the files are read: what changes between the two is seen at the next look.
        let hash = hash(&files);
        let current = ArcSwap::from_pointee(make()?);
        Ok(Held { files, current, seen: Mutex::new(Seen { hash, refused: None }) })
    }

    pub(super) fn value(&self) -> Arc<T> {
        Arc::clone(&self.current.load().value)
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn ends(&self) -> Vec<(PathBuf, SystemTime)> {
        self.current.load().ends.clone()
    }

    /// Why the newest files are not in force; none: they are.
    pub(super) fn refused(&self) -> Option<TlsError> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// Whether the files are others than at the last look.
    pub(super) fn differs(&self) -> bool {
        hash(&self.files) != self.seen.lock().unwrap_or_else(PoisonError::into_inner).hash
    }

    pub(super) fn look(&self, make: impl FnOnce() -> Result<Made<T>, TlsError>) -> Look {
        let now = hash(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.hash == now {
            return Look::Same;
        }
        seen.hash = now;
        match make() {
            Ok(made) => {
                self.current.store(Arc::new(made));
                seen.refused = None;
                Look::Taken
            }
            Err(error) => {
                seen.refused = Some(error.clone());
                Look::Refused(error)
            }
        }
    }
}

/// Of everything the files hold, or that they cannot be read.
fn hash(files: &[PathBuf]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        match pem::read(Path::new(file)) {
            Ok(text) => hasher.update(&(text.len() as u64).to_le_bytes()).update(&text),
            Err(error) => hasher.update(&u64::MAX.to_le_bytes()).update(error.what.as_bytes()),
        };
    }
    hasher.finalize()
}
