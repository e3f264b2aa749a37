//! Values that are a number or a text: quantities with their units, and what they look like in the schema.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A number or a text; which of them is right is for `check` to say.
#[derive(Debug, Clone)]
pub(in crate::config) enum Written {
    Number(serde_json::Number),
    Text(String),
}

impl Written {
    /// As it is shown to its author.
    pub(in crate::config) fn shown(&self) -> String {
        match self {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => format!("{text:?}"),
        }
    }
}

struct Scalar(&'static str);

impl Visitor<'_> for Scalar {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Text(value.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Number(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Written, E> {
        let number = serde_json::Number::from_f64(value);
        Ok(number.map_or_else(|| Written::Text(value.to_string()), Written::Number))
    }
}

/// Scalars with a schema of their own: name, what is expected, schema.
macro_rules! scalars {
    ($($(#[$doc:meta])* $name:ident, $expected:literal, $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(in crate::config) struct $name(pub(in crate::config) Written);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Scalar($expected)).map($name)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

scalars! {
    /// `5%`.
    Share, "a share like 5%", {
        "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$", "examples": ["5%", "0.1%"]
    };
    /// `25%`, and more than everything where something may more than double.
    Ratio, "a part like 25%", {
        "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$", "examples": ["15%", "200%"]
    };
    /// `0.5%` or `0.2`.
    Amount, "a number, or a share like 0.5%", {
        "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$"}],
        "examples": ["0.5%", 0.2]
    };
    /// `250ms`.
    Span, "a duration like 250ms", {
        "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h|d)\s*$", "examples": ["250ms", "30s"]
    };
    /// `5m` or `none`.
    SpanOrNone, "a duration like 30m, or none", {
        "type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h|d)|none)\s*$", "examples": ["30m", "none"]
    };
    /// `250ms` or `auto`.
    SpanOrAuto, "a duration like 250ms, or auto", {
        "type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h|d)|auto)\s*$", "examples": ["auto", "250ms"]
    };
    /// `4MiB`.
    Bytes, "a size like 4MiB", {
        "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|KB|MB|GB)\s*$", "examples": ["64KiB", "4MiB"]
    };
    /// `256MiB`, `auto` or `none`.
    BytesOrAuto, "a size like 256MiB, auto or none", {
        "type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|KB|MB|GB)|auto|none)\s*$", "examples": ["auto", "256MiB"]
    };
    /// A whole number above 0.
    Count, "a whole number", {"type": "integer", "minimum": 1, "examples": [1000]};
    /// A whole number above 0, or `auto`.
    Workers, "a whole number, or auto", {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 256}, {"const": "auto"}], "examples": [1, "auto"]
    };
}
