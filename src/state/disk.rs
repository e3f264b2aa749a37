//! The file in the state directory: one database, its tables, and what a later process reads of it.
//!
//! Every write is one transaction that is on the disk when it returns, so a process that is killed leaves all of it or
//! nothing. A file of a newer schema is not touched.

use std::collections::HashMap;
use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _};
use redb::{StorageError, TableDefinition};

use super::batch::{Batch, Mark};
use crate::failpoint;

/// What this program writes. 1: progress, blocks, audit, marks, and evidence, which the first programs of this schema
/// neither know nor touch.
const SCHEMA: u64 = 1;
/// Its name in the directory.
const FILE: &str = "rollouts.redb";
/// What is held of it in memory.
const CACHE: usize = 1 << 20;
/// Audit records that are kept: the newest.
pub const RECORDS: u64 = 2048;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const PROGRESS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("progress");
const BLOCKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("blocks");
const EVIDENCE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("evidence");
const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
const MARKS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("marks");

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or the file.
    #[error("{}: {source}; `state` must be a directory that the sidecar may write to", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{}: another process has it open; give each sidecar a `state` directory of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Its name was taken away while it was open.
    #[error("{}: was deleted or replaced while it was in use; it is made anew, with all that stood in it", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later program.
    #[error(
        "{}: schema {found} is newer than {SCHEMA}, which this program knows; run the newer program, or move the file away to begin anew",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
    /// It was open, and an operation failed.
    #[error("{}: {source}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

/// What an earlier process left.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Left {
    /// By key.
    pub progress: HashMap<String, Vec<u8>>,
    /// By key.
    pub blocks: HashMap<String, Vec<u8>>,
    /// By key.
    pub evidence: HashMap<String, Vec<u8>>,
    /// In the order of their numbers.
    pub audit: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    database: Database,
    /// The device and the number of the file.
    identity: Option<(u64, u64)>,
}

impl Disk {
    /// Opens the file, and makes it where there is none.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        let unusable = |source| StateError::Directory { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(unusable)?;
        let identity = identity(&file.metadata().map_err(unusable)?);
        let opened = Database::builder().set_cache_size(CACHE).create_file(file);
        let database = match opened {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::Locked { path }),
            Err(DatabaseError::Storage(StorageError::Io(source))) => return Err(unusable(source)),
            Err(error) => return Err(StateError::Storage { path, source: Box::new(error.into()) }),
        };
        Ok(Disk { identity: Some(identity), ..Self::over(path, database)? })
    }

    /// Over an open database.
    pub(super) fn over(path: PathBuf, database: Database) -> Result<Self, StateError> {
        let disk = Disk { path, database, identity: None };
        let found = disk.schema().map_err(|error| disk.failed(error))?;
        if found > SCHEMA {
            return Err(StateError::Newer { path: disk.path, found });
        }
        Ok(disk)
    }

    /// The schema of the file; a new one is given this program's.
    fn schema(&self) -> Result<u64, redb::Error> {
        let transaction = self.database.begin_write()?;
        let schema = {
            let mut meta = transaction.open_table(META)?;
            let known = meta.get("schema")?.map(|value| value.value());
            match known {
                Some(known) => known,
                None => {
                    meta.insert("schema", SCHEMA)?;
                    SCHEMA
                }
            }
        };
        if schema <= SCHEMA {
            transaction.open_table(PROGRESS)?;
            transaction.open_table(BLOCKS)?;
            transaction.open_table(EVIDENCE)?;
            transaction.open_table(AUDIT)?;
            transaction.open_table(MARKS)?;
            transaction.commit()?;
        }
        Ok(schema)
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still leads to this file. Where that cannot be said, for instance because the directory cannot
    /// be searched now, it does.
    pub(super) fn is_there(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(found) => self.identity.is_none_or(|known| known == identity(&found)),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// All of it, to be written elsewhere.
    pub(super) fn all(&self) -> Result<Batch, StateError> {
        let Left { progress, blocks, evidence, audit } = self.left()?;
        let some = |values: HashMap<String, Vec<u8>>| {
            values.into_iter().map(|(key, value)| (key, Some(value))).collect()
        };
        let mut marks = Vec::new();
        self.marks(0, |mark, value| marks.push((mark, value.to_vec())))?;
        let (progress, blocks, evidence) = (some(progress), some(blocks), some(evidence));
        Ok(Batch { progress, blocks, evidence, audit, marks, expired: None })
    }

    /// What an earlier process left.
    pub(super) fn left(&self) -> Result<Left, StateError> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let mut left = Left {
                progress: all(&transaction.open_table(PROGRESS)?)?,
                blocks: all(&transaction.open_table(BLOCKS)?)?,
                evidence: all(&transaction.open_table(EVIDENCE)?)?,
                audit: Vec::new(),
            };
            for entry in transaction.open_table(AUDIT)?.iter()? {
                let (number, record) = entry?;
                left.audit.push((number.value(), record.value().to_vec()));
            }
            Ok(left)
        };
        read().map_err(|error| self.failed(error))
    }

    /// Writes all of it, or nothing.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), StateError> {
        self.transact(batch).map_err(|error| self.failed(error))
    }

    fn transact(&self, batch: &Batch) -> Result<(), redb::Error> {
        failpoint::panics("state");
        let mut transaction = self.database.begin_write()?;
        // Costs a little at each commit, and spares a look at the whole file at the start after a kill.
        transaction.set_quick_repair(true);
        {
            put(&mut transaction.open_table(PROGRESS)?, &batch.progress)?;
            put(&mut transaction.open_table(BLOCKS)?, &batch.blocks)?;
            put(&mut transaction.open_table(EVIDENCE)?, &batch.evidence)?;
            let mut audit = transaction.open_table(AUDIT)?;
            for (number, record) in &batch.audit {
                audit.insert(number, &record[..])?;
            }
            while audit.len()? > RECORDS {
                audit.pop_first()?;
            }
            let mut marks = transaction.open_table(MARKS)?;
            for (mark, value) in &batch.marks {
                marks.insert(&mark.bytes(), &value[..])?;
            }
            if let Some(before) = batch.expired {
                let end = Mark { expires: before, key: [0; 16] }.bytes();
                marks.retain_in::<&[u8; 20], _>(..&end, |_, _| false)?;
            }
        }
        failpoint::fails("state.write").map_err(redb::Error::Io)?;
        transaction.commit()?;
        Ok(())
    }

    /// The value of a mark.
    pub(super) fn find(&self, mark: Mark) -> Result<Option<Vec<u8>>, StateError> {
        let read = || {
            let marks = self.database.begin_read()?.open_table(MARKS)?;
            Ok(marks.get(&mark.bytes())?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| self.failed(error))
    }

    /// Every mark that expires in `from` or later, in the order of their expiry.
    pub(super) fn marks(&self, from: u32, mut each: impl FnMut(Mark, &[u8])) -> Result<(), StateError> {
        let mut read = || {
            let marks = self.database.begin_read()?.open_table(MARKS)?;
            let begin = Mark { expires: from, key: [0; 16] }.bytes();
            for entry in marks.range::<&[u8; 20]>(&begin..)? {
                let (mark, value) = entry?;
                each(Mark::read(mark.value()), value.value());
            }
            Ok(())
        };
        read().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: redb::Error) -> StateError {
        StateError::Storage { path: self.path.clone(), source: Box::new(source) }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn all(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<HashMap<String, Vec<u8>>, redb::Error> {
    let mut found = HashMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        found.insert(key.value().to_owned(), value.value().to_vec());
    }
    Ok(found)
}

fn put(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    values: &HashMap<String, Option<Vec<u8>>>,
) -> Result<(), redb::Error> {
    for (key, value) in values {
        match value {
            Some(value) => table.insert(&**key, &value[..])?,
            None => table.remove(&**key)?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
