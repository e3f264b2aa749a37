//! Rows side by side: what one table, model and hour gained since the last flush.
//!
//! A row is written field by field in the order of the table. A value of the wrong kind, one too many or one too few is a
//! bug, which the tests of each kind of row would show; here it becomes null rather than a broken file.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, MapBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::ArrowError;
use uuid::Uuid;

use super::table::{Kind, Table, names};

/// What a row costs beside its texts and bytes.
const ROW: usize = 160;

/// The columns of one table.
#[derive(Debug)]
pub struct Columns {
    table: Table,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Column {
    Time(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Flag(BooleanBuilder),
    Whole(Int64Builder),
    Number(Float64Builder),
    /// In a box, for it is several times larger than the others.
    Odds(Box<MapBuilder<StringBuilder, Float64Builder>>),
    Bytes(BinaryBuilder),
}

impl Column {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Time => Column::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Text | Kind::Id => Column::Text(StringBuilder::new()),
            Kind::Flag => Column::Flag(BooleanBuilder::new()),
            Kind::Whole => Column::Whole(Int64Builder::new()),
            Kind::Number => Column::Number(Float64Builder::new()),
            Kind::Odds => Column::Odds(Box::new(MapBuilder::new(
                Some(names()),
                StringBuilder::new(),
                Float64Builder::new(),
            ))),
            Kind::Bytes => Column::Bytes(BinaryBuilder::new()),
        }
    }

    fn null(&mut self) {
        match self {
            Column::Time(column) => column.append_null(),
            Column::Text(column) => column.append_null(),
            Column::Flag(column) => column.append_null(),
            Column::Whole(column) => column.append_null(),
            Column::Number(column) => column.append_null(),
            // Keys and values are always as many, so this always holds.
            Column::Odds(column) => drop(column.append(false)),
            Column::Bytes(column) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Time(column) => Arc::new(column.finish()),
            Column::Text(column) => Arc::new(column.finish()),
            Column::Flag(column) => Arc::new(column.finish()),
            Column::Whole(column) => Arc::new(column.finish()),
            Column::Number(column) => Arc::new(column.finish()),
            Column::Odds(column) => ArrayBuilder::finish(&mut **column),
            Column::Bytes(column) => Arc::new(column.finish()),
        }
    }
}

impl Columns {
    /// Without rows.
    pub fn new(table: Table) -> Self {
        let columns = table.fields().iter().map(|field| Column::new(field.kind)).collect();
        Columns { table, columns, rows: 0, bytes: 0 }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a row; it is whole when what is returned is dropped.
    pub fn row(&mut self) -> Row<'_> {
        self.rows += 1;
        self.bytes += ROW;
        Row { columns: self, at: 0 }
    }

    /// All rows, and begins anew.
    ///
    /// # Errors
    /// When columns are not equally long, which would be a bug here.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        (self.rows, self.bytes) = (0, 0);
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        RecordBatch::try_new(self.table.schema(), columns)
    }
}

/// One row, written field by field.
#[derive(Debug)]
pub struct Row<'a> {
    columns: &'a mut Columns,
    at: usize,
}

impl Row<'_> {
    fn next(&mut self) -> Option<&mut Column> {
        let at = self.at;
        self.at += 1;
        self.columns.columns.get_mut(at)
    }

    /// A moment.
    pub fn time(&mut self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.next() {
            Some(Column::Time(column)) => column.append_value(micros(since)),
            other => wrong(other),
        }
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.columns.bytes += text.len();
        match self.next() {
            Some(Column::Text(column)) => column.append_value(text),
            other => wrong(other),
        }
    }

    /// A text, or null.
    pub fn maybe(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// A UUID, as text.
    pub fn uuid(&mut self, uuid: Uuid) {
        self.text(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }

    /// So many hexadecimal digits of a number, at most 32.
    pub fn hex(&mut self, value: u128, digits: usize) {
        let mut text = [b'0'; 32];
        let (mut rest, digits) = (value, digits.min(32));
        for place in text[..digits].iter_mut().rev() {
            *place = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        // ASCII is UTF-8.
        self.text(std::str::from_utf8(&text[..digits]).unwrap_or_default());
    }

    /// True or false.
    pub fn flag(&mut self, flag: bool) {
        match self.next() {
            Some(Column::Flag(column)) => column.append_value(flag),
            other => wrong(other),
        }
    }

    /// A whole number; what is more than 63 bits hold is cut to that.
    pub fn whole(&mut self, number: u64) {
        match self.next() {
            Some(Column::Whole(column)) => column.append_value(i64::try_from(number).unwrap_or(i64::MAX)),
            other => wrong(other),
        }
    }

    /// How long something took, in microseconds.
    pub fn micros(&mut self, duration: Duration) {
        match self.next() {
            Some(Column::Whole(column)) => column.append_value(micros(duration)),
            other => wrong(other),
        }
    }

    /// A number.
    pub fn number(&mut self, number: f64) {
        match self.next() {
            Some(Column::Number(column)) => column.append_value(number),
            other => wrong(other),
        }
    }

    /// How likely each of several was.
    pub fn odds<'n>(&mut self, odds: impl Iterator<Item = (&'n str, f64)>) {
        match self.next() {
            Some(Column::Odds(column)) => {
                for (name, odds) in odds {
                    column.keys().append_value(name);
                    column.values().append_value(odds);
                }
                // Keys and values are always as many, so this always holds.
                let _ = column.append(true);
            }
            other => wrong(other),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.columns.bytes += bytes.len();
        match self.next() {
            Some(Column::Bytes(column)) => column.append_value(bytes),
            other => wrong(other),
        }
    }

    /// Nothing.
    pub fn null(&mut self) {
        if let Some(column) = self.next() {
            column.null();
        }
    }

    /// What `write` writes, or null.
    pub fn or_null<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }
}

/// Microseconds, as many as 63 bits hold: 292,000 years.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A value of another kind than its field.
fn wrong(column: Option<&mut Column>) {
    debug_assert!(false, "a value of another kind than its field: {column:?}");
    if let Some(column) = column {
        column.null();
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        debug_assert!(
            self.at == self.columns.columns.len() || std::thread::panicking(),
            "{} fields",
            self.at
        );
        while let Some(column) = self.next() {
            column.null();
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;

    use super::*;
    use crate::log::rows::sample;

    #[test]
    fn rows_become_columns_and_the_next_begin_anew() {
        let mut columns = Columns::new(Table::Predictions);
        for _ in 0..3 {
            crate::log::rows::prediction::write(&sample::outcome(), &[0, 1], None, &mut columns.row());
        }
        assert_eq!(columns.rows(), 3);
        assert!(columns.bytes() > 3 * 300);
        let batch = columns.finish().unwrap();
        assert_eq!((batch.num_rows(), columns.rows(), columns.bytes()), (3, 0, 0));
        let trace = batch.column_by_name("trace_id").unwrap().as_string::<i32>();
        assert_eq!(trace.value(2), "00000000000000000000000000000abc");
        assert_eq!(columns.finish().unwrap().num_rows(), 0);
        let odds = batch.column_by_name("odds").unwrap();
        assert_eq!(odds.len(), 3);
    }
}
