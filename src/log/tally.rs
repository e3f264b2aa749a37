//! What became of every row: written or lost, and of every file. Adds only; anybody may read it at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::table::Table;

/// Why rows were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The disk was slower than the calls: the queue to it was full.
    Queue,
    /// The disk was full.
    DiskFull,
    /// The disk took no bytes for another reason.
    Write,
    /// The disk took the bytes, but did not say that it has them.
    Sync,
    /// The directory cannot be used.
    Directory,
    /// The directory was at its cap.
    Cap,
    /// A thread of the log panicked: a fault of this program.
    Panic,
    /// The process ended first.
    Ended,
}

impl Cause {
    /// Every cause, in the order of the enum.
    pub const ALL: [Cause; 8] = [
        Cause::Queue,
        Cause::DiskFull,
        Cause::Write,
        Cause::Sync,
        Cause::Directory,
        Cause::Cap,
        Cause::Panic,
        Cause::Ended,
    ];

    /// The word used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Queue => "queue",
            Cause::DiskFull => "disk_full",
            Cause::Write => "write",
            Cause::Sync => "sync",
            Cause::Directory => "directory",
            Cause::Cap => "cap",
            Cause::Panic => "panic",
            Cause::Ended => "ended",
        }
    }
}

/// Something else that is counted or measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Figure {
    /// Files that were sealed.
    Sealed,
    /// Tries to seal that failed.
    SealErrors,
    /// Places in spools that could not be read.
    Damaged,
    /// Files that a store has taken.
    Uploaded,
    /// Bytes of those.
    UploadedBytes,
    /// Times that a store took nothing.
    UploadErrors,
    /// Calls whose messages were not kept for want of room.
    PayloadsDropped,
    /// Now: bytes in the directory.
    DiskBytes,
    /// Now: sealed files in the directory.
    Waiting,
}

/// How many figures there are.
const FIGURES: usize = Figure::Waiting as usize + 1;

/// All that is counted of one log.
#[derive(Debug, Default)]
pub struct Tally {
    written: [AtomicU64; Table::ALL.len()],
    lost: [AtomicU64; Cause::ALL.len()],
    figures: [AtomicU64; FIGURES],
    /// Why, by who finds it.
    troubles: Mutex<[Option<Arc<str>>; Part::ALL.len()]>,
}

/// Who has trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Writing rows.
    Disk,
    /// Sealing.
    Seal,
    /// The object store.
    Upload,
}

impl Part {
    /// All of them, in the order of the enum.
    pub const ALL: [Part; 3] = [Part::Disk, Part::Seal, Part::Upload];

    /// The word used in metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            Part::Disk => "disk",
            Part::Seal => "seal",
            Part::Upload => "upload",
        }
    }
}

impl Tally {
    /// So many rows are on the disk.
    pub fn write(&self, table: Table, rows: u64) {
        self.written[table as usize].fetch_add(rows, Ordering::Relaxed);
    }

    /// So many rows never will be, or no longer are.
    pub fn lose(&self, cause: Cause, rows: u64) {
        self.lost[cause as usize].fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts on.
    pub fn add(&self, figure: Figure, amount: u64) {
        self.figures[figure as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Says how much there is now.
    pub fn set(&self, figure: Figure, now: u64) {
        self.figures[figure as usize].store(now, Ordering::Relaxed);
    }

    /// Says that there is so much less now.
    pub fn take(&self, figure: Figure, amount: u64) {
        let figure = &self.figures[figure as usize];
        // It always succeeds, for there is always a next value.
        let _ =
            figure.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
    }

    /// Rows of a table that were written and synced.
    pub fn written(&self, table: Table) -> u64 {
        self.written[table as usize].load(Ordering::Relaxed)
    }

    /// Rows that were lost for this cause.
    pub fn lost(&self, cause: Cause) -> u64 {
        self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// What was counted.
    pub fn get(&self, figure: Figure) -> u64 {
        self.figures[figure as usize].load(Ordering::Relaxed)
    }

    /// Says what fails now, or that nothing does; logged when that changes.
    pub fn trouble(&self, part: Part, why: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut troubles[part as usize];
        match (&*known, &why) {
            (before, Some(why)) if before.as_deref() != Some(why) => {
                tracing::error!(part = part.name(), error = %why, "the prediction log fails; calls go on, and it is tried again");
            }
            (Some(_), None) => tracing::info!(part = part.name(), "the prediction log works again"),
            _ => {}
        }
        *known = why.map(Into::into);
    }

    /// What fails now, by part.
    pub fn troubles(&self) -> Vec<(Part, Arc<str>)> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        Part::ALL.into_iter().filter_map(|part| Some((part, troubles[part as usize].clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_those_of_now() {
        let tally = Tally::default();
        tally.trouble(Part::Seal, Some("no room".to_owned()));
        tally.trouble(Part::Disk, Some("full".to_owned()));
        tally.trouble(Part::Disk, None);
        assert_eq!(tally.troubles(), [(Part::Seal, "no room".into())]);
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
