//! From a spool to Parquet: one file for each model and hour that it has rows of.
//!
//! Each is written under another name in the folder of spools, synced, renamed to where readers look, and the folders on
//! the way are synced; only then is the spool removed. So whoever reads sees whole files only, and a crash anywhere
//! leaves a spool of which the same files are made again, under the same names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::ArrowError;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::frame::Segments;
use super::partition::Partition;
use super::segment::{self, Unread};
use super::shelf;
use super::spool::{self, sync_folder};
use super::table::{Kind, Table};

/// Rows of a row group at most: readers skip by them, and its pages lie in memory until it is written.
const ROW_GROUP: usize = 256 * 1024;

/// What came of a spool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Files that were made.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Places of the spool that could not be read.
    pub damaged: u64,
}

/// Why a spool is not sealed; it is still there.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk.
    #[error("{path}: {error}", path = path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A newer version wrote it.
    #[error("{path} {why}; it is left for that one", path = path.display())]
    Newer {
        /// Which spool.
        path: PathBuf,
        /// In words.
        why: Unread,
    },
    /// The writer of Parquet.
    #[error("{path}: {error}", path = path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// What it says.
        error: ParquetError,
    },
}

/// One file under way.
struct Open {
    writer: ArrowWriter<File>,
    path: PathBuf,
    rows: u64,
}

/// Makes the files of a spool, and removes it.
///
/// # Errors
/// See [`SealError`]; what was begun is removed, or made again by the next try.
pub fn seal(directory: &Path, spool: &Path) -> Result<Made, SealError> {
    let Some((table, id)) = spool::named(spool) else { return Ok(Made::default()) };
    let mut open = BTreeMap::new();
    let mut made = match fill(directory, (spool, table, id), &mut open) {
        Ok(made) => made,
        Err(error) => {
            for one in open.into_values() {
                // The next start removes what cannot be removed now.
                let _ = fs::remove_file(one.path);
            }
            return Err(error);
        }
    };
    for (partition, one) in open {
        made.rows += one.rows;
        made.files += 1;
        publish(directory, (table, id), &partition, one)?;
    }
    let removed = fs::remove_file(spool).and_then(|()| sync_folder(&directory.join(spool::FOLDER)));
    removed.map_err(|error| SealError::Disk { path: spool.to_owned(), error })?;
    Ok(made)
}

fn fill(
    directory: &Path,
    (spool, table, id): (&Path, Table, Uuid),
    open: &mut BTreeMap<Partition, Open>,
) -> Result<Made, SealError> {
    let disk = |error| SealError::Disk { path: spool.to_owned(), error };
    let mut segments = File::open(spool).and_then(Segments::new).map_err(disk)?;
    let mut unread = 0;
    while let Some(segment) = segments.next_segment().map_err(disk)? {
        let held = match segment::read(&segment.bytes) {
            Ok(held) if held.table == table => held,
            Err(why @ Unread::Newer(_)) => return Err(SealError::Newer { path: spool.to_owned(), why }),
            Ok(_) | Err(_) => {
                unread += 1;
                continue;
            }
        };
        let number = open.len();
        let one = match open.entry(held.partition) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let path = directory.join(spool::FOLDER).join(format!("{id}-{number}.tmp"));
                let new = begin(table, place.key(), path)?;
                place.insert(new)
            }
        };
        let parquet = |error| SealError::Parquet { path: one.path.clone(), error };
        let batch = conform(table, &held.batch).map_err(|error| parquet(error.into()))?;
        one.writer.write(&batch).map_err(parquet)?;
        one.rows += batch.num_rows() as u64;
    }
    Ok(Made { damaged: segments.damage().places + unread, ..Made::default() })
}

fn begin(table: Table, partition: &Partition, path: PathBuf) -> Result<Open, SealError> {
    let file = File::create(&path).map_err(|error| SealError::Disk { path: path.clone(), error })?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(table, partition))
        .with_skip_arrow_metadata(true);
    match ArrowWriter::try_new_with_options(file, table.schema(), options) {
        Ok(writer) => Ok(Open { writer, path, rows: 0 }),
        Err(error) => Err(SealError::Parquet { path, error }),
    }
}

/// Texts that repeat go into a dictionary, texts that do not stand as they are, numbers as their differences.
fn properties(table: Table, partition: &Partition) -> WriterProperties {
    let said = segment::metadata(table, partition).into_iter();
    let said = said.map(|(key, value)| KeyValue::new(key, value)).collect();
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("parhelion ", env!("CARGO_PKG_VERSION")).to_owned())
        // The least level: what is left to save are ids, which are random.
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_key_value_metadata(Some(said));
    for field in table.fields() {
        let column = ColumnPath::from(field.name);
        properties = match field.kind {
            Kind::Time | Kind::Whole => properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
            Kind::Id | Kind::Bytes => properties.set_column_dictionary_enabled(column, false),
            Kind::Text | Kind::Flag | Kind::Number | Kind::Odds => properties,
        };
    }
    properties.build()
}

/// A batch in today's fields: those that an older version did not have are null, those that are gone are left out.
fn conform(table: Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect())
}

/// Finishes a file and puts it where readers look.
fn publish(
    directory: &Path,
    (table, id): (Table, Uuid),
    partition: &Partition,
    one: Open,
) -> Result<(), SealError> {
    let Open { mut writer, path, rows } = one;
    let folder = directory.join(table.name()).join(partition.folder());
    writer.finish().map_err(|error| SealError::Parquet { path: path.clone(), error })?;
    let place = || {
        writer.inner().sync_all()?;
        fs::create_dir_all(&folder)?;
        fs::rename(&path, folder.join(shelf::file_name(id, rows)))?;
        // The folders on the way may be new too.
        folder.ancestors().take_while(|one| one.starts_with(directory)).try_for_each(sync_folder)
    };
    place().map_err(|error| SealError::Disk { path: path.clone(), error })
}

/// Removes what an earlier process had begun and not finished.
///
/// # Errors
/// When the folder cannot be read.
pub fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory.join(spool::FOLDER))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
