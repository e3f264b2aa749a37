//! The file that grows: segments of one table, appended and synced, until it is sealed.
//!
//! What an append could not finish is cut off again, so that a full disk leaves no half segment behind. After a failed
//! sync nobody knows what the disk has, so nothing is tried again on the same file: its segment counts as lost, and the
//! next one begins another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::frame;
use super::table::Table;
use super::tally::Cause;
use crate::failpoint;

/// The folder of spools, in the log's directory.
pub const FOLDER: &str = "spool";

/// A spool that is written to.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    length: u64,
    usable: bool,
}

/// Why a segment is not on the disk.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {error}", path = path.display())]
pub struct Failed {
    /// How its rows are counted.
    pub cause: Cause,
    doing: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl Failed {
    fn new(doing: &'static str, path: &Path, error: io::Error) -> Self {
        let cause = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::DiskFull,
            _ if doing == SYNCING => Cause::Sync,
            _ => Cause::Write,
        };
        Failed { cause, doing, path: path.to_owned(), error }
    }
}

const SYNCING: &str = "syncing";

impl Spool {
    /// Begins the spool of that table and id in `directory`, a log's.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(directory: &Path, table: Table, id: Uuid) -> Result<Self, Failed> {
        let folder = directory.join(FOLDER);
        let path = folder.join(format!("{}-{id}.spool", table.name()));
        let make = || {
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            sync_folder(&folder)?;
            Ok(file)
        };
        match make() {
            Ok(file) => Ok(Spool { file, path, length: 0, usable: true }),
            Err(error) => Err(Failed::new("making", &path, error)),
        }
    }

    /// Appends a segment; when this returns well it outlives the process and the machine.
    ///
    /// # Errors
    /// When it is not on the disk; then it never will be, and [`Spool::is_usable`] says whether another may follow.
    pub fn append(&mut self, rows: u32, segment: &[u8]) -> Result<(), Failed> {
        let header = frame::header(rows, segment);
        // Fails in the middle, as a disk does.
        let written = self.file.write_all(&header);
        let written = written.and_then(|()| failpoint::fails("log.append"));
        let written = written.and_then(|()| self.file.write_all(segment));
        if let Err(error) = written {
            self.usable = self.cut();
            return Err(Failed::new("writing", &self.path, error));
        }
        if let Err(error) = failpoint::fails("log.sync").and_then(|()| self.file.sync_data()) {
            self.usable = false;
            self.cut();
            return Err(Failed::new(SYNCING, &self.path, error));
        }
        self.length += (header.len() + segment.len()) as u64;
        Ok(())
    }

    /// Whether more may be appended.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes back what is no whole segment.
    fn cut(&mut self) -> bool {
        self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length))).is_ok()
    }
}

/// The id in a spool's name, and its table; none where it is no spool's name.
pub fn named(path: &Path) -> Option<(Table, Uuid)> {
    let (table, id) = path.file_name()?.to_str()?.strip_suffix(".spool")?.split_once('-')?;
    Some((Table::named(table)?, Uuid::try_parse(id).ok()?))
}

/// Makes what was made, renamed or removed in a folder outlive the machine.
///
/// # Errors
/// When the system says that it does not.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the log's directory and the folder of spools, where they are not there.
///
/// # Errors
/// When they cannot be made.
pub fn make_folders(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory.join(FOLDER))?;
    sync_folder(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::Segments;

    #[test]
    fn what_was_appended_is_there_and_a_half_segment_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        make_folders(directory.path()).unwrap();
        let id = Uuid::from_u128(5);
        let mut spool = Spool::create(directory.path(), Table::Feedback, id).unwrap();
        assert_eq!(named(spool.path()), Some((Table::Feedback, id)));
        spool.append(2, b"one").unwrap();
        // As an append leaves it that the disk did not take whole.
        spool.file.write_all(b"half of a segm").unwrap();
        assert!(spool.cut());
        spool.append(3, b"three").unwrap();
        let mut segments = Segments::new(File::open(spool.path()).unwrap()).unwrap();
        let rows: Vec<u32> =
            std::iter::from_fn(|| segments.next_segment().unwrap()).map(|one| one.rows).collect();
        assert_eq!((rows, segments.damage().places), (vec![2, 3], 0));
        assert_eq!(spool.length(), fs::metadata(spool.path()).unwrap().len());
        assert!(Spool::create(directory.path(), Table::Feedback, id).is_err(), "no spool is overwritten");
    }

    #[test]
    fn other_names_are_no_spools() {
        for name in
            ["feedback.spool", "feedback-5.spool", "x-00000000-0000-0000-0000-000000000005.spool", "a.tmp"]
        {
            assert_eq!(named(Path::new(name)), None, "{name}");
        }
    }
}
