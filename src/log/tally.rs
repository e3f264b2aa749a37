//! What became of every row: written or lost, and of every file. Adds only; anybody may read it at any time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::events::Side;
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
    /// Times that the receiver of events did not take one.
    EventErrors,
    /// Now: bytes in the directory.
    DiskBytes,
    /// Now: sealed files in the directory.
    Waiting,
}

/// How many figures there are.
const FIGURES: usize = Figure::Waiting as usize + 1;

/// Why an event was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missed {
    /// The receiver was slower than the calls: too many waited, or too many bytes.
    Queue,
    /// The receiver does not want it.
    Refused,
    /// The receiver did not take it, however often it was tried.
    Unreached,
    /// The process ended first.
    Ended,
}

impl Missed {
    /// Every cause, in the order of the enum.
    pub const ALL: [Missed; 4] = [Missed::Queue, Missed::Refused, Missed::Unreached, Missed::Ended];

    /// The word used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Missed::Queue => "queue",
            Missed::Refused => "refused",
            Missed::Unreached => "unreached",
            Missed::Ended => "ended",
        }
    }
}

/// Foreign files that are named.
const NAMED: usize = 10;

/// All that is counted of one log.
#[derive(Debug, Default)]
pub struct Tally {
    written: [AtomicU64; Table::ALL.len()],
    lost: [AtomicU64; Cause::ALL.len()],
    figures: [AtomicU64; FIGURES],
    told: [AtomicU64; Side::ALL.len()],
    missed: [AtomicU64; Missed::ALL.len()],
    /// The latest of each part.
    troubles: Mutex<[Option<Trouble>; Part::ALL.len()]>,
    foreign: Mutex<Foreign>,
}

/// What went wrong in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why.
    pub why: Arc<str>,
    /// Since when, or, where it is over, since when it was like that.
    pub since: SystemTime,
    /// Whether it is so now.
    pub now: bool,
}

/// Files that no log has written, or finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// How many.
    pub files: u64,
    /// The first of them.
    pub named: Vec<PathBuf>,
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
    /// The receiver of events.
    Events,
}

impl Part {
    /// All of them, in the order of the enum.
    pub const ALL: [Part; 4] = [Part::Disk, Part::Seal, Part::Upload, Part::Events];

    /// The word used in metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            Part::Disk => "disk",
            Part::Seal => "seal",
            Part::Upload => "upload",
            Part::Events => "events",
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

    /// An event was told.
    pub fn tell(&self, side: Side) {
        self.told[side as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An event never will be.
    pub fn miss(&self, cause: Missed) {
        self.missed[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Events that were told.
    pub fn told(&self, side: Side) -> u64 {
        self.told[side as usize].load(Ordering::Relaxed)
    }

    /// Events that were not, for this cause.
    pub fn missed(&self, cause: Missed) -> u64 {
        self.missed[cause as usize].load(Ordering::Relaxed)
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
        let mut troubles = locked(&self.troubles);
        let known = &mut troubles[part as usize];
        match (known, why) {
            (Some(known), None) if known.now => {
                tracing::info!(part = part.name(), "the prediction log works again");
                known.now = false;
            }
            (Some(known), Some(why)) if known.now && *known.why == *why => {}
            (known, Some(why)) => {
                tracing::error!(part = part.name(), error = %why, "the prediction log fails; calls go on, and it is tried again");
                *known = Some(Trouble { why: why.into(), since: SystemTime::now(), now: true });
            }
            (_, None) => {}
        }
    }

    /// What fails now, by part.
    pub fn troubles(&self) -> Vec<(Part, Arc<str>)> {
        let now = self.latest().into_iter().filter(|(_, trouble)| trouble.now);
        now.map(|(part, trouble)| (part, trouble.why)).collect()
    }

    /// The latest trouble of each part that ever had one, be it over.
    pub fn latest(&self) -> Vec<(Part, Trouble)> {
        let troubles = locked(&self.troubles);
        Part::ALL.into_iter().filter_map(|part| Some((part, troubles[part as usize].clone()?))).collect()
    }

    /// Says which files in the directory no log has written; logged when there are others.
    pub fn see_foreign(&self, paths: &[PathBuf]) {
        let now = Foreign { files: paths.len() as u64, named: paths.iter().take(NAMED).cloned().collect() };
        let mut known = locked(&self.foreign);
        for path in now.named.iter().filter(|path| !known.named.contains(path)) {
            tracing::warn!(path = %path.display(), "no prediction log has written this; it is left alone");
        }
        *known = now;
    }

    /// Those files.
    pub fn foreign(&self) -> Foreign {
        locked(&self.foreign).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let latest = tally.latest();
        assert_eq!(
            latest.iter().map(|(part, one)| (*part, one.now)).collect::<Vec<_>>(),
            [(Part::Disk, false), (Part::Seal, true)]
        );
        tally.trouble(Part::Seal, Some("no room".to_owned()));
        assert_eq!(tally.latest()[1].1.since, latest[1].1.since, "it is the same trouble");
        let paths: Vec<PathBuf> = (0..20).map(|number| format!("a{number}").into()).collect();
        tally.see_foreign(&paths);
        assert_eq!((tally.foreign().files, tally.foreign().named.len()), (20, NAMED));
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
