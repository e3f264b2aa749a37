//! The four tables and their fields. `docs/log.md` documents the same fields; a test compares.
//!
//! The version is raised by every change of a field; a field once written keeps its meaning for ever. Model, date and hour
//! are no fields: they are the folders that a file lies in.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::MapFieldNames;
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit};

use super::rows;

/// Of the tables, written into every file.
pub const VERSION: u32 = 2;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Microseconds since 1970, UTC.
    Time,
    /// A word that many rows share.
    Text,
    /// A text that few rows share.
    Id,
    /// True or false.
    Flag,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// Names of variants with how likely each was.
    Odds,
    /// Bytes.
    Bytes,
}

/// One field of a table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As in the files: that of the span attribute without its prefix, where there is one.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it means, with its unit, and when it is null.
    pub text: &'static str,
}

/// A field, in one line.
pub(super) const fn field(name: &'static str, kind: Kind, text: &'static str) -> Field {
    Field { name, kind, text }
}

/// A table of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One row per call that ended.
    Predictions,
    /// One row per copy that was begun to be sent.
    Shadows,
    /// One row per report that was taken.
    Feedback,
    /// One row per change of a rollout.
    Audit,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 4] = [Table::Predictions, Table::Shadows, Table::Feedback, Table::Audit];

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Predictions => "predictions",
            Table::Shadows => "shadows",
            Table::Feedback => "feedback",
            Table::Audit => "audit",
        }
    }

    /// The table of that name.
    pub fn named(name: &str) -> Option<Self> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its fields, in the order of its rows.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Table::Predictions => &rows::prediction::FIELDS,
            Table::Shadows => &rows::copy::FIELDS,
            Table::Feedback => &rows::report::FIELDS,
            Table::Audit => &rows::change::FIELDS,
        }
    }

    /// The same for Arrow. Every field may be null, so that one which a later version leaves out can be.
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 4]> = LazyLock::new(|| Table::ALL.map(build));
        Arc::clone(&SCHEMAS[self as usize])
    }
}

fn build(table: Table) -> SchemaRef {
    let fields = table.fields().iter().map(|field| ArrowField::new(field.name, field.kind.arrow(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Kind {
    /// As Arrow calls it.
    pub fn arrow(self) -> DataType {
        match self {
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Text | Kind::Id => DataType::Utf8,
            Kind::Flag => DataType::Boolean,
            Kind::Whole => DataType::Int64,
            Kind::Number => DataType::Float64,
            Kind::Odds => {
                let names = names();
                let pair = Fields::from(vec![
                    ArrowField::new(names.key, DataType::Utf8, false),
                    ArrowField::new(names.value, DataType::Float64, true),
                ]);
                DataType::Map(Arc::new(ArrowField::new(names.entry, DataType::Struct(pair), false)), false)
            }
            Kind::Bytes => DataType::Binary,
        }
    }

    /// The word in the documentation, which is DuckDB's.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Time => "TIMESTAMPTZ",
            Kind::Text | Kind::Id => "VARCHAR",
            Kind::Flag => "BOOLEAN",
            Kind::Whole => "BIGINT",
            Kind::Number => "DOUBLE",
            Kind::Odds => "MAP(VARCHAR, DOUBLE)",
            Kind::Bytes => "BLOB",
        }
    }
}

/// As the Parquet format names the parts of a map.
pub(super) fn names() -> MapFieldNames {
    MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tables_are_found_by_name_and_name_each_field_once() {
        for (index, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table as usize, index);
            assert_eq!(Table::named(table.name()), Some(table));
            let names: BTreeSet<_> = table.fields().iter().map(|field| field.name).collect();
            assert_eq!(names.len(), table.fields().len());
            assert_eq!(table.schema().fields().len(), table.fields().len());
            assert!(
                ["time", "prediction_uuid"].iter().all(|name| names.contains(name)) || table == Table::Audit
            );
            assert!(!["model", "date", "hour"].iter().any(|name| names.contains(name)));
        }
        assert_eq!(Table::named("spool"), None);
    }

    #[test]
    fn the_page_has_every_field_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/log.md");
        let page = std::fs::read_to_string(page).unwrap();
        for table in Table::ALL {
            let heading = format!("### `{}`\n", table.name());
            let (_, part) = page.split_once(&heading).unwrap_or_else(|| panic!("{heading}"));
            let part = part.split("\n#").next().unwrap();
            let written: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
            let line =
                |field: &Field| format!("| `{}` | {} | {} |", field.name, field.kind.name(), field.text);
            assert_eq!(written, table.fields().iter().map(line).collect::<Vec<_>>(), "{}", table.name());
        }
    }
}
