//! From values to the shape of a file: every key that is unknown and every value of the wrong kind, all in one go.
//!
//! Serde stops at the first error. So what it stumbles over is noted and taken out, and it starts again, until it
//! gets through; a file has few errors and is small, so this costs nothing. What was taken out is known by its
//! problem: `check` does not call missing what was only wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::problem::{Problem, suggestion};
use super::source::{Source, join};

/// The file as a `T`, and what did not fit is added to the problems of `source`.
pub(super) fn shape<T: DeserializeOwned + Default>(source: &mut Source) -> T {
    let mut value = source.value.clone();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let segments: Vec<Segment> = error.path().iter().cloned().collect();
        let path = segments.iter().fold(String::new(), |path, segment| step(&path, segment));
        let message = error.into_inner().to_string();
        let unknown = message.starts_with("unknown field");
        let Some(found) = take_out(&mut value, &segments, unknown) else {
            source.problems.push(Problem::new(path, message));
            return T::default();
        };
        let problem = describe(source, &path, &message, &found);
        source.problems.push(problem);
    }
}

fn step(path: &str, segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("{path}[{index}]"),
        Segment::Map { key } => join(path, key),
        Segment::Enum { .. } | Segment::Unknown => path.to_owned(),
    }
}

/// Removes an unknown key, or leaves null in the place of a wrong value, and returns what was there.
fn take_out(value: &mut Value, segments: &[Segment], unknown: bool) -> Option<Value> {
    let (last, before) = segments.split_last()?;
    let mut inner = value;
    for segment in before {
        inner = match segment {
            Segment::Seq { index } => inner.get_mut(index)?,
            Segment::Map { key } => inner.get_mut(key)?,
            Segment::Enum { .. } | Segment::Unknown => inner,
        };
    }
    match last {
        Segment::Map { key } if unknown => inner.as_object_mut()?.shift_remove(key),
        Segment::Map { key } => inner.get_mut(key).map(Value::take).filter(|found| !found.is_null()),
        Segment::Seq { index } => inner.get_mut(index).map(Value::take).filter(|found| !found.is_null()),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// Says in our words what serde said in its own.
fn describe(source: &Source, path: &str, message: &str, found: &Value) -> Problem {
    let place = source.place(path);
    if message.starts_with("unknown field") {
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let (name, known) = quoted.split_first().map_or((path, &[][..]), |(name, known)| (*name, known));
        return Problem::new(path, "is not a known key").with_hint(suggestion(name, known)).with_place(place);
    }
    let expected = message.split_once(", expected ").map_or(message, |(_, expected)| expected);
    let (expected, is_map) = match expected {
        "a string" => ("a text", false),
        "a boolean" => ("true or false", false),
        "a sequence" => ("a list", false),
        expected if expected.starts_with("struct ") => ("a map of keys and values", true),
        expected => (expected, expected.starts_with("a map")),
    };
    let problem = Problem::new(path, format!("is not {expected}")).with_value(written(source, path, found));
    let problem = problem.with_place(place);
    match found {
        _ if matches!(path, "listen" | "admin" | "health") => {
            problem.with_hint("write an IP address and a port, like 0.0.0.0:9000")
        }
        Value::Number(_) | Value::Bool(_) if expected == "a text" => {
            let text = source.written(path).map_or_else(|| found.to_string(), str::to_owned);
            problem.with_hint(format!("write it in quotes: \"{text}\""))
        }
        Value::String(text) if expected == "true or false" => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => problem.with_hint("write true"),
            "no" | "off" | "false" => problem.with_hint("write false"),
            _ => problem,
        },
        Value::String(text) if expected == "a list" => problem.with_hint(format!("write [{text}]")),
        Value::String(text) if is_map && text.contains(':') => {
            problem.with_hint("YAML wants a space after the colon of a key")
        }
        Value::Array(_) if is_map => problem.with_hint("write names with colons, not items with dashes"),
        Value::String(_) if is_map => problem.with_hint("write its keys below it, or leave it out"),
        _ => problem,
    }
}

/// A value as its author sees it.
pub(super) fn written(source: &Source, path: &str, value: &Value) -> String {
    match value {
        Value::Number(number) => source.written(path).map_or_else(|| number.to_string(), str::to_owned),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
