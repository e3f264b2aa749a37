//! Conditions on a field: `variant=v2`, `rpc_status_code!=OK`, `latency_total_us>20000`, `message~timeout`. Pure.

use std::str::FromStr;

use serde_json::Value;

use super::Row;

/// One condition; null fulfils `!=` alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The field.
    pub field: String,
    how: How,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Is,
    IsNot,
    Above,
    Below,
    Holds,
}

/// Longer ones first.
const WAYS: [(&str, How); 5] =
    [("!=", How::IsNot), ("=", How::Is), (">", How::Above), ("<", How::Below), ("~", How::Holds)];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = WAYS.iter().filter_map(|(sign, how)| Some((text.find(sign)?, *sign, *how)));
        // The first sign in the text counts, and of two at one place the longer.
        let (at, sign, how) = found
            .min_by_key(|(at, sign, _)| (*at, usize::MAX - sign.len()))
            .ok_or_else(|| format!("{text:?} is no condition; write FIELD=VALUE, or !=, >, <, ~ for `=`"))?;
        let (field, value) = (text[..at].trim().to_owned(), text[at + sign.len()..].trim().to_owned());
        if matches!(how, How::Above | How::Below) && value.parse::<f64>().is_err() {
            return Err(format!("{text:?} compares with {value:?}, which is no number"));
        }
        Ok(Filter { field, how, value })
    }
}

impl Filter {
    /// Whether a row fulfils it.
    pub fn admits(&self, row: &Row) -> bool {
        let found = row.get(&self.field).unwrap_or(&Value::Null);
        match self.how {
            How::Is => self.is(found),
            How::IsNot => !self.is(found),
            How::Above => self.number(found).is_some_and(|(found, value)| found > value),
            How::Below => self.number(found).is_some_and(|(found, value)| found < value),
            How::Holds => found.as_str().is_some_and(|found| found.contains(&self.value)),
        }
    }

    fn is(&self, found: &Value) -> bool {
        match found {
            Value::Null => self.value == "null",
            Value::String(text) => *text == self.value,
            Value::Bool(flag) => self.value == if *flag { "true" } else { "false" },
            Value::Number(_) => self.number(found).is_some_and(|(found, value)| found == value),
            Value::Array(_) | Value::Object(_) => false,
        }
    }

    fn number(&self, found: &Value) -> Option<(f64, f64)> {
        Some((found.as_f64()?, self.value.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold_or_not() {
        let row =
            serde_json::json!({"variant": "v2", "latency": 20, "message": "a=b", "none": null, "flag": true});
        let Value::Object(row) = row else { unreachable!() };
        for (text, holds) in [
            ("variant=v2", true),
            ("variant!=v2", false),
            ("latency>19.5", true),
            ("latency<20", false),
            ("latency=20.0", true),
            ("message=a=b", true),
            ("message~=", true),
            ("none=null", true),
            ("none!=x", true),
            ("none>1", false),
            ("flag=true", true),
            ("absent=null", true),
        ] {
            assert_eq!(text.parse::<Filter>().unwrap().admits(&row), holds, "{text}");
        }
        for text in ["variant", "latency>fast"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
