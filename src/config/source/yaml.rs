//! YAML as it is written: entries keep their order and may repeat, every node knows its line; and what to say of a
//! text that is no YAML.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::Spanned;

use super::File;
use crate::config::problem::Problem;

/// A map: keys and values with their places.
pub(super) type Entries = Vec<(Spanned<String>, Spanned<Data>)>;

/// The entries of a file, which must be a map.
pub(super) fn parse(file: &File) -> Result<Entries, Problem> {
    let blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    };
    if file.text.lines().all(blank) {
        return Err(Problem::new("", "is empty")
            .with_place(Some(file.name.clone()))
            .with_hint("the smallest configuration names one model with one variant and its endpoint"));
    }
    // `n`, `off` and `yes` are texts, as in YAML 1.2: a model may have such a name.
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
    };
    let node: Spanned<Data> =
        serde_saphyr::from_str_with_options(&file.text, options).map_err(|error| syntax(file, &error))?;
    match node.value {
        Data::Map(entries) => Ok(entries),
        other => Err(Problem::new("", "is not a map of keys and values")
            .with_place(Some(format!("{}:{}", file.name, node.defined.line().max(1))))
            .with_value(other.kind())
            .with_hint("start with a key, like `models:`")),
    }
}

/// A text that is no YAML: where, and what is usually behind it.
fn syntax(file: &File, error: &serde_saphyr::Error) -> Problem {
    let message = error.without_snippet().to_string();
    let location = error.location().filter(|location| location.line() > 0);
    let place = match location {
        Some(location) => format!("{}:{}:{}", file.name, location.line(), location.column()),
        None => file.name.clone(),
    };
    let line = location.and_then(|location| {
        file.text.lines().nth(usize::try_from(location.line()).unwrap_or(usize::MAX).saturating_sub(1))
    });
    let message = message.lines().next().unwrap_or("cannot be read");
    // The place is said beside the path.
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let message = if message.starts_with("multiple YAML documents") {
        "there is more than one document"
    } else {
        message
    };
    let problem = Problem::new("", format!("no valid YAML: {message}")).with_place(Some(place));
    let problem = match line.map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => problem.with_value(format!("`{line}`")),
        None => problem,
    };
    problem.with_hint(syntax_hint(message, line.unwrap_or("")))
}

/// What is usually behind such a message.
fn syntax_hint(message: &str, line: &str) -> &'static str {
    let odd = |quote: char| line.matches(quote).count() % 2 == 1;
    if message.contains("tab") {
        "indent with spaces: YAML allows no tabs there"
    } else if message.contains("document") {
        "one document only: remove the `---`, or make the documents files of a directory"
    } else if message.contains("anchor") {
        "an *alias repeats what was marked with &alias before; quote the value if it is none"
    } else if message.contains("quote") || odd('"') || odd('\'') {
        "a quote is not closed"
    } else if message.contains("flow") {
        "a `{` or `[` is not closed, or a comma is missing; it may begin some lines before"
    } else {
        "look at this line and the one before: indentation, or a `:` without a space after it"
    }
}

/// A YAML node whose entries keep their order and may repeat.
#[derive(Debug)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Data>>),
    Map(Entries),
}

impl Data {
    fn kind(&self) -> &'static str {
        match self {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Data::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Data, E> {
        Ok(Number::from_f64(value).map_or_else(|| Data::Text(value.to_string()), Data::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Data::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Data::Map(entries))
    }
}
