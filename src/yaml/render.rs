//! Values as YAML text: blocks as a person writes them, or JSON where the surroundings are in braces.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How blocks are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How far the dashes of a list stand from the key that has it, 0 or 2.
    pub dash: usize,
}

/// `key: value` as whole lines with `column` spaces before them.
pub fn entry(key: &str, value: &Value, column: usize, layout: Layout) -> String {
    let mut text = String::new();
    push_entry(&mut text, key, value, column, layout);
    text
}

/// A list's item as whole lines with `column` spaces before its dash.
pub fn item(value: &Value, column: usize, layout: Layout) -> String {
    let mut text = String::new();
    push_item(&mut text, value, column, layout);
    text
}

/// In one line, as JSON, which YAML understands; short maps and lists too.
pub fn flow(value: &Value) -> String {
    value.to_string()
}

fn push_entry(text: &mut String, key: &str, value: &Value, column: usize, layout: Layout) {
    let _ = write!(text, "{:column$}{}:", "", string(key));
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            push_map(text, map, column + 2, layout);
        }
        Value::Array(items) if items.iter().any(|item| !is_short(item)) => {
            text.push('\n');
            items.iter().for_each(|one| push_item(text, one, column + layout.dash, layout));
        }
        other => {
            let _ = writeln!(text, " {}", inline(other));
        }
    }
}

fn push_map(text: &mut String, map: &Map<String, Value>, column: usize, layout: Layout) {
    for (key, value) in map {
        push_entry(text, key, value, column, layout);
    }
}

fn push_item(text: &mut String, value: &Value, column: usize, layout: Layout) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut below = String::new();
            push_map(&mut below, map, column + 2, layout);
            let _ = write!(text, "{:column$}- {}", "", &below[column + 2..]);
        }
        other => {
            let _ = writeln!(text, "{:column$}- {}", "", inline(other));
        }
    }
}

/// Whether a list of such values reads well in one line.
fn is_short(value: &Value) -> bool {
    match value {
        Value::Object(_) | Value::Array(_) => false,
        Value::String(text) => text.len() < 40,
        _ => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        other => flow(other),
    }
}

/// Without quotes where nobody could take it for anything but a text.
fn string(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if begins && text.chars().all(plain) && !word {
        return text.to_owned();
    }
    if text.contains('"') && !text.contains('\'') && !text.contains(char::is_control) {
        return format!("'{text}'");
    }
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::parse;

    #[test]
    fn what_is_written_is_read_the_same() {
        let value = json!({
            "plain": "a-b_c.d/e", "digit": "9000", "yes": "yes", "empty": "", "colon": "a: b", "n": 9000, "t": true,
            "none": null, "map": {}, "list": [], "short": ["run", "-c", "/x"], "deep": [{"a": 1, "b": {"c": [2]}}, "x"],
            "line": "two\nlines", "comment": "a #b",
        });
        for dash in [0, 2] {
            let text = entry("key", &value, 0, Layout { dash });
            let read = parse(&text).unwrap().remove(0).root.value().unwrap();
            assert_eq!(read["key"], value, "{text}");
            let text = item(&value, 4, Layout { dash });
            let read = parse(&text).unwrap().remove(0).root.value().unwrap();
            assert_eq!(read[0], value, "{text}");
        }
    }

    #[test]
    fn blocks_look_as_people_write_them() {
        let value = json!([{"name": "x", "args": ["run", "-c"], "ports": [{"containerPort": 9000}]}]);
        let text = entry("containers", &value, 2, Layout { dash: 0 });
        let expected =
            "  containers:\n  - name: x\n    args: [run, -c]\n    ports:\n    - containerPort: 9000\n";
        assert_eq!(text, expected.replace("-c]", "\"-c\"]"));
    }
}
