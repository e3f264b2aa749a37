//! Changes as insertions and deletions in the text, at the positions that the parser told.
//!
//! In blocks whole lines come and go: a new entry stands behind the last one of its map, a new item before or behind
//! its neighbour, both as far to the right as those are. In braces and brackets JSON is put in, for it is YAML too. What
//! is not said by a change is not touched, so comments and order stay.

use std::cmp::Reverse;
use std::ops::Range;

use serde_json::Value;

use super::change::{Change, Path, Step};
use super::render::{self, Layout};
use super::tree::{Node, Shape, Style};

/// A change that cannot be made in this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Refused {
    /// Where in the document.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// Why.
    pub problem: &'static str,
}

const SHARED: &str = "it has an anchor, is an alias or has another map merged into it, so what stands here would change \
     elsewhere too: write it out";
const MISSING: &str = "it is not there";

/// One place of the text, and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Empty where something is only put in.
    pub at: Range<usize>,
    /// May be empty.
    pub text: String,
    /// How deep in the document: of what is put in at one place the deepest comes first, for it belongs to what stands
    /// before.
    pub depth: usize,
}

/// What `changes` of the document `root` are in `text`.
///
/// # Errors
/// The first change whose place is shared with another part of the document.
pub fn edits(text: &str, root: &Node, changes: &[Change]) -> Result<Vec<Edit>, Refused> {
    let editor = Editor { text, root, layout: layout(text, root), line_end: line_end(text) };
    let mut edits = Vec::new();
    for change in changes {
        let (at, text) = editor.edit(change)?;
        edits.push(Edit { at, text, depth: change.parent().steps().len() });
    }
    Ok(edits)
}

/// `text` with all `edits`, which may come in any order; those at one place and of one depth keep theirs.
pub fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.at.start, Reverse(edit.depth)));
    let mut result =
        String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut done = 0;
    for edit in edits {
        result.push_str(text.get(done..edit.at.start).unwrap_or_default());
        result.push_str(&edit.text);
        done = done.max(edit.at.end);
    }
    result.push_str(text.get(done..).unwrap_or_default());
    result
}

fn line_end(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// As the first list in the document has it.
fn layout(text: &str, root: &Node) -> Layout {
    fn first(text: &str, node: &Node) -> Option<usize> {
        match &node.shape {
            Shape::Map { flow: false, entries } => {
                entries.iter().find_map(|(key, value)| match &value.shape {
                    Shape::List { flow: false, items } => {
                        let dash = dash(text, items.first()?)?;
                        Some(column(text, dash).saturating_sub(key.column))
                    }
                    _ => first(text, value),
                })
            }
            Shape::List { flow: false, items } => items.iter().find_map(|item| first(text, item)),
            _ => None,
        }
    }
    Layout { dash: first(text, root).unwrap_or(0) }
}

/// Where the dash of a block list's item is.
fn dash(text: &str, item: &Node) -> Option<usize> {
    let mut before = text.get(..item.span.start)?;
    loop {
        let start = line_start(before, before.len());
        let line = &before[start..];
        // What stands between the dash and the item is an anchor, a tag, or a comment and a new line.
        let code = line.find(" #").map_or(line, |comment| &line[..comment]);
        let found =
            code.rfind("- ").or_else(|| code.trim_end().ends_with('-').then(|| code.trim_end().len() - 1));
        if let Some(found) = found.filter(|_| !code.trim_start().starts_with('#')) {
            return Some(start + found);
        }
        before = before.get(..start.checked_sub(1)?)?;
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Behind the end of the line that `at` is in.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// Where, and what stands there instead.
type Place = (Range<usize>, String);

struct Editor<'a> {
    text: &'a str,
    root: &'a Node,
    layout: Layout,
    line_end: &'static str,
}

impl Editor<'_> {
    fn edit(&self, change: &Change) -> Result<Place, Refused> {
        let parent = change.parent();
        if let Some(shared) = self.root.shared_on(&parent) {
            return Err(Refused { path: parent.to_string(), line: shared.line, problem: SHARED });
        }
        let node = self.find(&parent)?;
        match change {
            Change::Put { key, value, .. } => match node.get(&[Step::key(key)]) {
                Some(old) => self.replace(&parent, key, old, value),
                None => self.add(&parent, node, key, value),
            },
            Change::Insert { index, values, .. } => self.insert(&parent, node, *index, values),
            Change::Remove(path) => self.remove(path),
        }
    }

    fn find(&self, path: &Path) -> Result<&Node, Refused> {
        self.root.get(path.steps()).ok_or_else(|| self.missing(path))
    }

    fn missing(&self, path: &Path) -> Refused {
        Refused { path: path.to_string(), line: self.root.line, problem: MISSING }
    }

    /// A new entry of a map.
    fn add(&self, path: &Path, map: &Node, key: &str, value: &Value) -> Result<Place, Refused> {
        match &map.shape {
            Shape::Map { flow: false, entries } => {
                let column = entries.first().map_or(map.column, |(key, _)| key.column);
                Ok(self.lines_behind(map, &render::entry(key, value, column, self.layout)))
            }
            Shape::Map { entries, .. } => {
                let text =
                    format!("{}: {}", render::flow(&Value::String(key.to_owned())), render::flow(value));
                Ok(self.within(map, entries.is_empty(), &text))
            }
            _ => Err(self.missing(path)),
        }
    }

    /// New items of a list.
    fn insert(&self, path: &Path, list: &Node, index: usize, values: &[Value]) -> Result<Place, Refused> {
        match &list.shape {
            Shape::List { flow: false, items } => {
                let neighbour = items.get(index).or(items.last()).ok_or_else(|| self.missing(path))?;
                let dash = dash(self.text, neighbour).ok_or_else(|| self.missing(path))?;
                let column = column(self.text, dash);
                let lines: String =
                    values.iter().map(|value| render::item(value, column, self.layout)).collect();
                if index >= items.len() {
                    return Ok(self.lines_behind(list, &lines));
                }
                // Before the comments of the item that comes next, where there is a line to stand on.
                let at = match index.checked_sub(1).and_then(|before| items.get(before)) {
                    Some(before) => next_line(self.text, self.end(before)),
                    None => self.first_line_of(path, dash),
                };
                Ok((at..at, self.ended(&lines)))
            }
            Shape::List { items, .. } => {
                let texts: Vec<String> = values.iter().map(render::flow).collect();
                match items.get(index) {
                    Some(next) => {
                        let at = next.span.start;
                        Ok((at..at, format!("{}, ", texts.join(", "))))
                    }
                    None => Ok(self.within(list, items.is_empty(), &texts.join(", "))),
                }
            }
            _ => Err(self.missing(path)),
        }
    }

    /// Where a list begins: behind the line of its key, else at its first dash.
    fn first_line_of(&self, list: &Path, dash: usize) -> usize {
        let steps = list.steps();
        let key =
            steps.split_last().and_then(|(last, above)| match (last, self.root.get(above)?.shape.clone()) {
                (Step::Key(name), Shape::Map { entries, .. }) => {
                    entries.into_iter().rev().map(|(key, _)| key).find(|key| key.text() == Some(name))
                }
                _ => None,
            });
        key.map_or(line_start(self.text, dash), |key| next_line(self.text, key.span.end))
    }

    /// Another value for a key.
    fn replace(&self, map: &Path, key: &str, old: &Node, value: &Value) -> Result<Place, Refused> {
        if old.anchored || matches!(old.shape, Shape::Alias(_)) {
            return Err(Refused { path: map.key(key).to_string(), line: old.line, problem: SHARED });
        }
        let in_braces = matches!(self.find(map)?.shape, Shape::Map { flow: true, .. });
        let is_short = !matches!(value, Value::Object(_) | Value::Array(_));
        if old.is_absent() {
            let text = render::entry("x", value, self.key_column(map), self.layout);
            return Ok(match (in_braces || is_short, text.split_once('\n')) {
                (false, Some((_, lines))) if !lines.is_empty() => self.lines_behind(old, lines),
                _ => {
                    // The parser tells the place before the colon.
                    let colon = self.text[old.span.end..].find(':').map_or(0, |colon| colon + 1);
                    let at = old.span.end + colon;
                    (at..at, format!(" {}", render::flow(value)))
                }
            });
        }
        let in_line = matches!(&old.shape, Shape::Scalar { style: Style::Plain | Style::Quoted, .. })
            || matches!(&old.shape, Shape::Map { flow: true, .. } | Shape::List { flow: true, .. });
        if in_line {
            let is_plain = matches!(&old.shape, Shape::Scalar { style: Style::Plain, .. });
            let text =
                if in_braces && !is_plain { render::flow(value) } else { in_one_line(value, self.layout) };
            return Ok((old.span.clone(), text));
        }
        let gone = self.lines_of_entry(map, key)?;
        let lines = render::entry(key, value, self.key_column(map), self.layout);
        Ok((gone, self.ended(&lines)))
    }

    fn key_column(&self, map: &Path) -> usize {
        match self.root.get(map.steps()).map(|node| &node.shape) {
            Some(Shape::Map { entries, .. }) => entries.first().map_or(0, |(key, _)| key.column),
            _ => 0,
        }
    }

    fn remove(&self, path: &Path) -> Result<Place, Refused> {
        let parent = Change::Remove(path.clone()).parent();
        let node = self.find(&parent)?;
        let last = path.steps().last().ok_or_else(|| self.missing(path))?;
        match (&node.shape, last) {
            (Shape::Map { flow: false, .. }, Step::Key(key)) => {
                let at = self.lines_of_entry(&parent, key)?;
                Ok((at, String::new()))
            }
            (Shape::List { flow: false, items }, Step::Index(index)) => {
                let item = items.get(*index).ok_or_else(|| self.missing(path))?;
                let dash = dash(self.text, item).ok_or_else(|| self.missing(path))?;
                let at = line_start(self.text, dash)..self.behind(item);
                Ok((at, String::new()))
            }
            (Shape::Map { entries, .. }, Step::Key(key)) => {
                let found = entries.iter().position(|(name, _)| name.text() == Some(key));
                let index = found.ok_or_else(|| self.missing(path))?;
                let parts: Vec<Range<usize>> =
                    entries.iter().map(|(key, value)| key.span.start..value.span.end).collect();
                Ok(cut(&parts, index))
            }
            (Shape::List { items, .. }, Step::Index(index)) if *index < items.len() => {
                let parts: Vec<Range<usize>> = items.iter().map(|item| item.span.clone()).collect();
                Ok(cut(&parts, *index))
            }
            _ => Err(self.missing(path)),
        }
    }

    /// The whole lines of a block map's entry.
    fn lines_of_entry(&self, map: &Path, key: &str) -> Result<Range<usize>, Refused> {
        let Shape::Map { entries, .. } = &self.find(map)?.shape else { return Err(self.missing(map)) };
        let entry = entries.iter().rev().find(|(name, _)| name.text() == Some(key));
        let (name, value) = entry.ok_or_else(|| self.missing(map))?;
        Ok(line_start(self.text, name.span.start)..self.behind(value))
    }

    /// Where the lines behind a value begin.
    fn behind(&self, node: &Node) -> usize {
        let end = self.end(node);
        if self.text[..end].ends_with('\n') { end } else { next_line(self.text, end) }
    }

    /// Whole lines behind the last line of `node`.
    fn lines_behind(&self, node: &Node, lines: &str) -> Place {
        let at = self.behind(node);
        let text = self.ended(lines);
        if at > 0 && !self.text[..at].ends_with('\n') {
            // The last line of the text has no end, and shall have none.
            let text = format!("{}{}", self.line_end, text.trim_end());
            return (at..at, text);
        }
        (at..at, text)
    }

    /// Behind the last byte that belongs to `node`.
    fn end(&self, node: &Node) -> usize {
        let last = match &node.shape {
            Shape::Map { flow: false, entries } => entries.last().map(|(_, value)| value),
            Shape::List { flow: false, items } => items.last(),
            _ => None,
        };
        match last {
            Some(last) => self.end(last),
            None if matches!(&node.shape, Shape::Scalar { style: Style::Block, .. }) => {
                self.end_of_block(node)
            }
            None => node.span.end,
        }
    }

    /// Empty lines behind a block scalar belong to it only where it keeps them (`|+`).
    fn end_of_block(&self, node: &Node) -> usize {
        let written = &self.text[node.span.clone()];
        let keeps = node.text().is_some_and(|text| text.ends_with("\n\n"));
        let length = match keeps {
            true => written.rfind('\n').map_or(written.len(), |newline| newline + 1),
            false => written.trim_end().len(),
        };
        node.span.start + length
    }

    /// Something more before the closing bracket of a flow collection.
    fn within(&self, node: &Node, is_empty: bool, text: &str) -> Place {
        let close = node.span.end.saturating_sub(1);
        let inside = self.text[node.span.start..close].trim_end();
        let at = node.span.start + inside.len();
        let comma = !is_empty && !inside.ends_with(',');
        let gap = if is_empty { "" } else { " " };
        (at..at, format!("{}{gap}{text}", if comma { "," } else { "" }))
    }

    fn ended(&self, lines: &str) -> String {
        if self.line_end == "\n" { lines.to_owned() } else { lines.replace('\n', self.line_end) }
    }
}

fn in_one_line(value: &Value, layout: Layout) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => render::flow(value),
        short => {
            let text = render::item(short, 0, layout);
            text.trim_start_matches("- ").trim_end().to_owned()
        }
    }
}

/// One part of a flow collection with the comma that belongs to it.
fn cut(parts: &[Range<usize>], index: usize) -> Place {
    let at = match (parts.get(index + 1), index.checked_sub(1).and_then(|before| parts.get(before))) {
        (_, Some(before)) => before.end..parts[index].end,
        (Some(next), None) => parts[index].start..next.start,
        (None, None) => parts[index].clone(),
    };
    (at, String::new())
}

#[cfg(test)]
mod tests;
