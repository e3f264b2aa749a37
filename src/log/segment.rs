//! Columns as the bytes of a segment and back: an Arrow IPC stream of one batch, whose metadata says which table, model and
//! hour it belongs to, so that a segment is whole by itself.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Metadata, Schema};
use serde_json::{Map, Value};

use super::partition::Partition;
use super::table::{Table, VERSION};

/// Says which version of the tables a file is of.
pub const SCHEMA: &str = "parhelion.schema";
/// Says which table it is.
pub const TABLE: &str = "parhelion.table";
/// Says which model its rows are of; left out where they are of none.
pub const MODEL: &str = "parhelion.model";
/// Says which hour, in hours since 1970.
pub const HOUR: &str = "parhelion.hour";

/// What a segment holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which table.
    pub table: Table,
    /// Whose rows, of when.
    pub partition: Partition,
    /// The rows.
    pub batch: RecordBatch,
}

/// Why a segment that is whole cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// A later version wrote it.
    #[error("is of schema {0}, and this program reads {VERSION}: a newer one wrote it")]
    Newer(u32),
    /// It was written by something else.
    #[error("was not written by a prediction log: {0}")]
    Foreign(&'static str),
    /// It is no Arrow stream.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// What says where rows belong, for the metadata of a file.
pub fn metadata(table: Table, partition: &Partition) -> Metadata {
    let mut metadata = Metadata::from([
        (SCHEMA.to_owned(), VERSION.to_string()),
        (TABLE.to_owned(), table.name().to_owned()),
        (HOUR.to_owned(), partition.hour.to_string()),
    ]);
    if let Some(model) = &partition.model {
        metadata.insert(MODEL.to_owned(), model.to_string());
    }
    metadata
}

/// Rows as the bytes of a segment.
///
/// # Errors
/// None that a batch of our tables could give.
pub fn write(table: Table, partition: &Partition, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let schema = Schema::new(batch.schema().fields().clone()).with_metadata(metadata(table, partition));
    let batch = RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec())?;
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    stream.write(&batch)?;
    stream.into_inner()
}

/// The reverse of [`write()`].
///
/// # Errors
/// See [`Unread`].
pub fn read(bytes: &[u8]) -> Result<Held, Unread> {
    let mut stream = StreamReader::try_new(Cursor::new(bytes), None)?;
    let schema = stream.schema();
    let (table, partition) = place(schema.metadata())?;
    let batch = stream.next().ok_or(Unread::Foreign("it holds no rows"))??;
    Ok(Held { table, partition, batch })
}

/// Where rows with this metadata belong.
///
/// # Errors
/// See [`Unread`].
pub fn place(metadata: &Metadata) -> Result<(Table, Partition), Unread> {
    let version = metadata.get(SCHEMA).and_then(|version| version.parse().ok());
    match version {
        Some(version) if version > VERSION => return Err(Unread::Newer(version)),
        Some(_) => {}
        None => return Err(Unread::Foreign("it names no schema")),
    }
    let table = metadata.get(TABLE).and_then(|name| Table::named(name));
    let hour = metadata.get(HOUR).and_then(|hour| hour.parse().ok());
    let table = table.ok_or(Unread::Foreign("it names no table"))?;
    let hour = hour.ok_or(Unread::Foreign("it names no hour"))?;
    Ok((table, Partition { model: metadata.get(MODEL).map(|model| model.as_str().into()), hour }))
}

/// A row as JSON: times in microseconds since 1970, bytes as base64, what is null as null.
pub fn row(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect()
}

/// One value as JSON; null also where it is of a kind that no table has.
pub fn cell(column: &dyn Array, row: usize) -> Value {
    if row >= column.len() || column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Timestamp(..) => match column.as_primitive_opt::<TimestampMicrosecondType>() {
            Some(times) => times.value(row).into(),
            None => Value::Null,
        },
        DataType::Binary => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(column.as_binary::<i32>().value(row)).into()
        }
        DataType::Map(..) => {
            let pairs = column.as_map().value(row);
            let (keys, values) = (pairs.column(0), pairs.column(1));
            let pair = |at| Some((cell(keys, at).as_str()?.to_owned(), cell(values, at)));
            Value::Object((0..pairs.len()).filter_map(pair).collect())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::columns::Columns;
    use crate::log::rows::sample;

    fn held() -> (Partition, RecordBatch) {
        let mut columns = Columns::new(Table::Shadows);
        crate::log::rows::copy::write(&sample::copy(), &mut columns.row());
        (Partition { model: Some("fraud".into()), hour: 472_222 }, columns.finish().unwrap())
    }

    #[test]
    fn rows_come_back_with_where_they_belong() {
        let (partition, batch) = held();
        let held = read(&write(Table::Shadows, &partition, &batch).unwrap()).unwrap();
        assert_eq!((held.table, held.partition), (Table::Shadows, partition));
        assert_eq!(row(&held.batch, 0), row(&batch, 0));
    }

    #[test]
    fn what_a_newer_version_or_something_else_wrote_is_named() {
        let (partition, batch) = held();
        let mut said = metadata(Table::Shadows, &partition);
        said.insert(SCHEMA.to_owned(), "9".to_owned());
        assert!(matches!(place(&said), Err(Unread::Newer(9))));
        said.remove(SCHEMA);
        assert!(matches!(place(&said), Err(Unread::Foreign(_))));
        let mut foreign = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        foreign.write(&batch).unwrap();
        assert!(matches!(read(&foreign.into_inner().unwrap()), Err(Unread::Foreign(_))));
        assert!(matches!(read(b"nothing of the kind"), Err(Unread::Arrow(_))));
    }

    #[test]
    fn whatever_the_bytes_are_reading_them_ends_in_an_answer() {
        let (partition, batch) = held();
        let bytes = write(Table::Shadows, &partition, &batch).unwrap();
        for at in 0..bytes.len() {
            drop(read(&bytes[..at]));
        }
    }
}
