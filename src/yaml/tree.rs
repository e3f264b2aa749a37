//! Documents as trees whose nodes know where in the text they stand.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::change::{Path, Step};

/// Aliases are written out when a value is read; a document may not grow beyond so many nodes by it.
const LARGEST: usize = 100_000;

/// One document of a stream.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its content; an empty document has a scalar without text.
    pub root: Node,
    /// Its first line, counted from 1.
    pub line: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Bytes of the text, without anchor and tag; of a block collection from its first key or item to its last.
    pub span: Range<usize>,
    /// Counted from 1.
    pub line: usize,
    /// Of the first byte, counted from 0.
    pub column: usize,
    /// Whether it has an anchor (`&name`), so that changing it would change its aliases too.
    pub anchored: bool,
    /// What it is.
    pub shape: Shape,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A text, number, boolean or nothing.
    Scalar {
        /// Without quotes.
        text: String,
        /// How it is written.
        style: Style,
    },
    /// Keys and values in the order of the text.
    Map {
        /// Whether it is written in braces.
        flow: bool,
        /// As written: a key may stand twice.
        entries: Vec<(Node, Node)>,
    },
    /// Items.
    List {
        /// Whether it is written in brackets.
        flow: bool,
        /// In their order.
        items: Vec<Node>,
    },
    /// `*name`, with what it stands for.
    Alias(Arc<Node>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, a boolean or nothing.
    Plain,
    /// In quotes, or tagged as a text.
    Quoted,
    /// After `|` or `>`.
    Block,
}

/// A document that is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl Node {
    /// The node at `path` below this one, through aliases too; of a key that stands twice the last counts.
    pub fn get(&self, path: &[Step]) -> Option<&Node> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let below = match (&self.shape, step) {
            (Shape::Alias(target), _) => return target.get(path),
            (Shape::Map { entries, .. }, Step::Key(name)) => {
                entries.iter().rev().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
            }
            (Shape::List { items, .. }, Step::Index(index)) => items.get(*index),
            _ => None,
        };
        below?.get(rest)
    }

    /// The first node on the way to `path` whose change would change something else too: an alias, a node with an
    /// anchor, or a map into which another one is merged (`<<`).
    pub fn shared_on(&self, path: &Path) -> Option<&Node> {
        let steps = path.steps();
        (0..=steps.len()).filter_map(|length| self.get_direct(&steps[..length])).find(|node| {
            let merged = match &node.shape {
                Shape::Map { entries, .. } => entries.iter().any(|(key, _)| key.text() == Some("<<")),
                Shape::Alias(_) => true,
                _ => false,
            };
            merged || node.anchored
        })
    }

    /// As [`Node::get`], but an alias is the end of the way.
    fn get_direct(&self, path: &[Step]) -> Option<&Node> {
        match (&self.shape, path.is_empty()) {
            (Shape::Alias(_), false) => None,
            (_, true) => Some(self),
            _ => {
                let (first, rest) = path.split_at(1);
                self.get(first)?.get_direct(rest)
            }
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether nothing is written here: `key:`.
    pub fn is_absent(&self) -> bool {
        self.span.is_empty() && matches!(&self.shape, Shape::Scalar { style: Style::Plain, .. })
    }

    /// Its value as Kubernetes would read it; `None` if aliases make it enormous.
    pub fn value(&self) -> Option<Value> {
        let mut left = LARGEST;
        self.value_within(&mut left)
    }

    fn value_within(&self, left: &mut usize) -> Option<Value> {
        *left = left.checked_sub(1)?;
        match &self.shape {
            Shape::Scalar { text, style: Style::Plain } => Some(plain(text)),
            Shape::Scalar { text, .. } => Some(Value::String(text.clone())),
            Shape::Alias(target) => target.value_within(left),
            Shape::List { items, .. } => items.iter().map(|item| item.value_within(left)).collect(),
            Shape::Map { entries, .. } => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let value = value.value_within(left)?;
                    match (key.text(), value) {
                        (Some("<<"), Value::Object(merged)) => merge(&mut map, merged),
                        (Some("<<"), Value::Array(several)) => {
                            several.into_iter().for_each(|one| {
                                if let Value::Object(merged) = one {
                                    merge(&mut map, merged);
                                }
                            });
                        }
                        (Some(name), value) => {
                            map.insert(name.to_owned(), value);
                        }
                        // A key that is no text means nothing to Kubernetes.
                        (None, _) => {}
                    }
                }
                Some(Value::Object(map))
            }
        }
    }
}

/// What is said in the map itself wins over what is merged into it.
fn merge(map: &mut Map<String, Value>, merged: Map<String, Value>) {
    for (key, value) in merged {
        map.entry(key).or_insert(value);
    }
}

/// What an unquoted scalar means.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let starts = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            let number = starts.then(|| text.parse::<i64>().ok().map(Value::from)).flatten();
            let float = || {
                let float = starts.then(|| text.parse::<f64>().ok()).flatten()?;
                serde_json::Number::from_f64(float).map(Value::Number)
            };
            number.or_else(float).unwrap_or_else(|| Value::String(text.to_owned()))
        }
    }
}

/// All documents of a stream.
///
/// # Errors
/// Every document that is no YAML.
pub fn parse(text: &str) -> Result<Vec<Document>, Vec<Broken>> {
    let mut parser = Parser::new_from_str(text);
    let (mut documents, mut broken) = (Vec::new(), Vec::new());
    let mut building: Option<Builder> = None;
    while let Some(next) = parser.next_event() {
        match next {
            Ok((Event::DocumentStart(..), span)) => building = Some(Builder::new(span.start.line())),
            Ok((Event::DocumentEnd, _)) => {
                documents.extend(building.take().and_then(Builder::finish));
            }
            Ok((event, span)) => {
                if let Some(builder) = &mut building {
                    builder.take(event, &span);
                }
            }
            Err(error) => {
                broken.push(describe(&error));
                building = None;
                match parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        }
    }
    if broken.is_empty() { Ok(documents) } else { Err(broken) }
}

fn describe(error: &ScanError) -> Broken {
    Broken { line: error.marker().line(), message: error.info() }
}

/// Puts the events of one document together.
struct Builder {
    line: usize,
    /// Collections that are not closed yet, with the anchor of each; of a map the key whose value is next.
    open: Vec<(Node, usize, Option<Node>)>,
    anchors: Vec<(usize, Arc<Node>)>,
    root: Option<Node>,
}

impl Builder {
    fn new(line: usize) -> Self {
        Builder { line, open: Vec::new(), anchors: Vec::new(), root: None }
    }

    fn finish(self) -> Option<Document> {
        Some(Document { root: self.root?, line: self.line })
    }

    fn take(&mut self, event: Event<'_>, span: &Span) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let shape = scalar(text, style, tag.as_deref());
                self.add(node(span, anchor, shape), anchor);
            }
            Event::Alias(id) => {
                let target = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                if let Some((_, target)) = target {
                    let shape = Shape::Alias(Arc::clone(target));
                    self.add(node(span, 0, shape), 0);
                }
            }
            Event::MappingStart(style, anchor, _) => {
                let shape = Shape::Map { flow: style == StructureStyle::Flow, entries: Vec::new() };
                self.open.push((node(span, anchor, shape), anchor, None));
            }
            Event::SequenceStart(style, anchor, _) => {
                let shape = Shape::List { flow: style == StructureStyle::Flow, items: Vec::new() };
                self.open.push((node(span, anchor, shape), anchor, None));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some((mut done, anchor, _)) = self.open.pop() {
                    done.close(span);
                    self.add(done, anchor);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.push((anchor, Arc::new(node.clone())));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((parent, _, key)) => match &mut parent.shape {
                Shape::List { items, .. } => items.push(node),
                Shape::Map { entries, .. } => match key.take() {
                    Some(key) => entries.push((key, node)),
                    None => *key = Some(node),
                },
                Shape::Scalar { .. } | Shape::Alias(_) => {}
            },
        }
    }
}

impl Node {
    /// A flow collection ends behind its bracket, a block one where its last part does.
    fn close(&mut self, span: &Span) {
        let last = match &self.shape {
            Shape::Map { flow: false, entries } => entries.last().map(|(_, value)| value.span.end),
            Shape::List { flow: false, items } => items.last().map(|item| item.span.end),
            _ => span.byte_range().map(|range| range.end),
        };
        self.span.end = last.unwrap_or(self.span.end);
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Shape {
    let style = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        ScalarStyle::Plain if tag.is_none() => Style::Plain,
        _ => Style::Quoted,
    };
    Shape::Scalar { text: text.into_owned(), style }
}

fn node(span: &Span, anchor: usize, shape: Shape) -> Node {
    Node {
        span: span.byte_range().unwrap_or_default(),
        line: span.start.line(),
        column: span.start.col(),
        anchored: anchor != 0,
        shape,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0).root
    }

    #[test]
    fn values_are_what_kubernetes_reads() {
        let text = "a: 1\nb: '1'\nc: 0.5\nd: yes\ne:\nf: [x, {y: true}]\ng: |\n  two\n  lines\nh: 1.2.3\n";
        let value = json!({
            "a": 1, "b": "1", "c": 0.5, "d": "yes", "e": null, "f": ["x", {"y": true}], "g": "two\nlines\n",
            "h": "1.2.3"
        });
        assert_eq!(one(text).value(), Some(value));
    }

    #[test]
    fn aliases_and_merges_are_written_out_within_bounds() {
        let text = "a: &a {x: 1, y: 2}\nb: *a\nc:\n  y: 3\n  <<: *a\n";
        let value = one(text).value().unwrap();
        assert_eq!(value["b"], json!({"x": 1, "y": 2}));
        assert_eq!(value["c"], json!({"y": 3, "x": 1}));

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..6 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", ")));
        }
        assert_eq!(one(&bomb).value(), None);
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let text = "# c\na:\n  b: [1, 2]   # d\n  c: x\n";
        let root = one(text);
        let list = root.get(&[Step::key("a"), Step::key("b")]).unwrap();
        assert_eq!((&text[list.span.clone()], list.line, list.column), ("[1, 2]", 3, 5));
        let map = root.get(&[Step::key("a")]).unwrap();
        assert_eq!(&text[map.span.clone()], "b: [1, 2]   # d\n  c: x");
    }

    #[test]
    fn every_broken_document_is_told() {
        let broken = parse("a: 1\n---\nb: [\n---\nc: 2\n---\nd: {{ x }}: y: z\n").unwrap_err();
        let lines: Vec<usize> = broken.iter().map(|one| one.line).collect();
        assert_eq!(lines.len(), 2, "{broken:?}");
    }

    #[test]
    fn what_is_shared_is_seen_on_the_way() {
        let text = "a: &a {x: {z: 1}}\nb: *a\nc: {<<: *a, w: 1}\nd: {e: 1}\n";
        let root = one(text);
        let shared = |path: &str| root.shared_on(&Path::of(path)).map(|node| node.line);
        assert_eq!(shared("/a/x/z"), Some(1));
        assert_eq!(shared("/b/x"), Some(2));
        assert_eq!(shared("/c/w"), Some(3));
        assert_eq!(shared("/d/e"), None);
    }
}
