//! Reading a log's directory, also while a sidecar writes to it: sealed files first, then spools.
//!
//! Each row is read once. Files of a spool that is still there are not: they may not be all, and the spool has their rows.
//! What cannot be read is named and passed over; all else is read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::Metadata;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::directory;
use super::frame::Segments;
use super::partition::Partition;
use super::segment::{self, Unread};
use super::shelf::{Contents, Sealed};
use super::spool;
use super::table::Table;

/// Rows that are read at once.
const ROWS: usize = 4096;

/// A directory that is read.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    contents: Contents,
    problems: BTreeSet<String>,
}

/// Why a directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The system.
    #[error("{path}: {error}", path = path.display())]
    Disk {
        /// The directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// It holds none.
    #[error("{path} holds no prediction log; name the directory of log.dir", path = .0.display())]
    None(PathBuf),
}

/// What of a table is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The table.
    pub table: Table,
    /// Only these fields; all where there are none.
    pub fields: &'a [&'a str],
    /// Only this model's rows.
    pub model: Option<&'a str>,
    /// Only rows of these hours since 1970, both included.
    pub hours: (u32, u32),
}

impl<'a> Wanted<'a> {
    /// All of a table.
    pub fn all(table: Table) -> Self {
        Wanted { table, fields: &[], model: None, hours: (0, u32::MAX) }
    }

    fn has(&self, partition: &Partition) -> bool {
        let model = self.model.is_none_or(|model| partition.model.as_deref() == Some(model));
        model && (self.hours.0..=self.hours.1).contains(&partition.hour)
    }
}

impl Reader {
    /// Looks into `directory`.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn open(directory: &Path) -> Result<Self, Unreadable> {
        let disk = |error| Unreadable::Disk { path: directory.to_owned(), error };
        // An empty directory that cannot be listed would look like one without a log.
        std::fs::read_dir(directory).map_err(disk)?;
        let contents = Contents::read(directory).map_err(disk)?;
        if contents.sealed.is_empty()
            && contents.spools.is_empty()
            && !directory.join(directory::SCHEMA).exists()
        {
            return Err(Unreadable::None(directory.to_owned()));
        }
        let mut problems = BTreeSet::new();
        if let Some(refused) = directory::check(directory) {
            problems.insert(refused.to_string());
        }
        for path in &contents.foreign {
            problems.insert(format!("{}: no prediction log has written this", path.display()));
        }
        Ok(Reader { directory: directory.to_owned(), contents, problems })
    }

    /// What was passed over so far, in words.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().map(String::as_str)
    }

    /// Hours of which there may be rows of that table, and models, newest first. Those of spools are not known.
    pub fn hours(&self, wanted: &Wanted<'_>) -> Vec<u32> {
        let sealed =
            self.contents.finished().filter(|one| one.table == wanted.table && wanted.has(&one.partition));
        let hours: BTreeSet<u32> = sealed.map(|one| one.partition.hour).collect();
        hours.into_iter().rev().collect()
    }

    /// Calls `each` with all rows that are wanted, until it breaks.
    pub fn rows(
        &mut self,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) {
        if self.sealed_rows(wanted, &mut each).is_continue() {
            self.spools(wanted, each);
        }
    }

    /// The same of sealed files alone.
    pub fn sealed_rows(
        &mut self,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let its = |one: &&Sealed| one.table == wanted.table && wanted.has(&one.partition);
        let files: Vec<Sealed> = self.contents.finished().filter(its).cloned().collect();
        files.iter().try_for_each(|one| self.sealed(wanted, one, &mut each))
    }

    /// The same of spools alone: what is newest.
    pub fn spools(
        &mut self,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) {
        let its =
            |(path, _): &&(PathBuf, u64)| spool::named(path).is_some_and(|(table, _)| table == wanted.table);
        for (path, _) in self.contents.spools.iter().filter(its).cloned().collect::<Vec<_>>() {
            if self.spool(wanted, &path, &mut each).is_break() {
                return;
            }
        }
    }

    fn sealed(
        &mut self,
        wanted: &Wanted<'_>,
        one: &Sealed,
        each: &mut impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let path = self.directory.join(&one.place);
        match batches(&path, wanted.fields) {
            Ok(batches) => {
                for batch in batches {
                    match batch {
                        Ok(batch) => each(&one.partition, &batch)?,
                        Err(error) => {
                            self.problems.insert(format!("{}: {error}", path.display()));
                            break;
                        }
                    }
                }
            }
            // Uploaded meanwhile.
            Err(Problem::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(problem) => drop(self.problems.insert(format!("{}: {problem}", path.display()))),
        }
        ControlFlow::Continue(())
    }

    fn spool(
        &mut self,
        wanted: &Wanted<'_>,
        path: &Path,
        each: &mut impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut segments = match File::open(path).and_then(Segments::new) {
            Ok(segments) => segments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.was_sealed(wanted, path, each);
            }
            Err(error) => {
                self.problems.insert(format!("{}: {error}", path.display()));
                return ControlFlow::Continue(());
            }
        };
        loop {
            match segments.next_segment() {
                Ok(Some(found)) => match segment::read(&found.bytes) {
                    Ok(held) if wanted.has(&held.partition) => each(&held.partition, &held.batch)?,
                    Ok(_) => {}
                    Err(unread) => {
                        self.problems.insert(format!("{}: a segment {unread}", path.display()));
                    }
                },
                Ok(None) => return ControlFlow::Continue(()),
                Err(error) => {
                    self.problems.insert(format!("{}: {error}", path.display()));
                    return ControlFlow::Continue(());
                }
            }
        }
    }

    /// Files that a spool has become since the directory was looked at.
    fn was_sealed(
        &mut self,
        wanted: &Wanted<'_>,
        path: &Path,
        each: &mut impl FnMut(&Partition, &RecordBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let id: Option<Uuid> = spool::named(path).map(|(_, id)| id);
        let now = Contents::read(&self.directory).unwrap_or_default();
        let its = now.sealed.into_iter().filter(|one| Some(one.id) == id && wanted.has(&one.partition));
        its.collect::<Vec<_>>().iter().try_for_each(|one| self.sealed(wanted, one, each))
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("is no whole Parquet file: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error(transparent)]
    Unread(#[from] Unread),
}

/// The rows of a Parquet file.
fn batches(
    path: &Path,
    fields: &[&str],
) -> Result<impl Iterator<Item = Result<RecordBatch, arrow_schema::ArrowError>> + use<>, Problem> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let said = reader.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let said = said.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)));
    segment::place(&said.collect::<Metadata>())?;
    let mask = match fields {
        [] => ProjectionMask::all(),
        fields => ProjectionMask::columns(reader.parquet_schema(), fields.iter().copied()),
    };
    Ok(reader.with_projection(mask).with_batch_size(ROWS).build()?)
}
