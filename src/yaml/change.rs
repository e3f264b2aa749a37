//! What shall be different in a document, in terms of its value: the same for a text and for a JSON patch.

use std::fmt;

use serde_json::Value;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// An item.
    Index(usize),
}

impl Step {
    /// The value of `name`.
    pub fn key(name: &str) -> Self {
        Step::Key(name.to_owned())
    }
}

/// From a document's root to a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(Vec<Step>);

impl Path {
    /// From a JSON pointer without escapes; steps of digits alone are items.
    pub fn of(pointer: &str) -> Self {
        let step = |part: &str| part.parse().map_or_else(|_| Step::key(part), Step::Index);
        Path(pointer.split('/').filter(|part| !part.is_empty()).map(step).collect())
    }

    /// One step further, to a key.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::key(name));
        Path(steps)
    }

    /// One step further, to an item.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Path(steps)
    }

    /// This path, and then `further`.
    #[must_use]
    pub fn join(&self, further: &Path) -> Self {
        Path([self.steps(), further.steps()].concat())
    }

    /// All of it.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// What is there in `value`.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Key(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }
}

/// As a JSON pointer.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Key(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => write!(f, "/{index}"),
        })
    }
}

/// One difference. Paths and indexes are those of the document before any change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A map gets this entry, as its last one if the key is new, else in the place of the old value.
    Put {
        /// The map.
        map: Path,
        /// In it.
        key: String,
        /// What it has then.
        value: Value,
    },
    /// A list gets these items before the one at `index`, or at its end.
    Insert {
        /// The list.
        list: Path,
        /// At most its length.
        index: usize,
        /// In their order.
        values: Vec<Value>,
    },
    /// An entry or item goes.
    Remove(Path),
}

impl Change {
    /// The map or list that is changed.
    pub fn parent(&self) -> Path {
        match self {
            Change::Put { map, .. } => map.clone(),
            Change::Insert { list, .. } => list.clone(),
            Change::Remove(path) => Path(path.0[..path.0.len().saturating_sub(1)].to_vec()),
        }
    }

    /// The same for a document that stands at `above` in another one.
    #[must_use]
    pub fn below(&self, above: &Path) -> Self {
        match self.clone() {
            Change::Put { map, key, value } => Change::Put { map: above.join(&map), key, value },
            Change::Insert { list, index, values } => {
                Change::Insert { list: above.join(&list), index, values }
            }
            Change::Remove(path) => Change::Remove(above.join(&path)),
        }
    }
}

/// `changes` as the operations of a JSON patch (RFC 6902), for changes that remove nothing.
///
/// Operations are applied one after the other, so of one list the last index comes first.
pub fn to_patch(changes: &[Change]) -> Vec<Value> {
    let mut operations = Vec::new();
    let mut inserts: Vec<(&Path, usize, &Vec<Value>)> = Vec::new();
    for change in changes {
        match change {
            Change::Put { map, key, value } => {
                operations.push(operation("add", &map.key(key), Some(value)));
            }
            Change::Insert { list, index, values } => inserts.push((list, *index, values)),
            Change::Remove(path) => operations.push(operation("remove", path, None)),
        }
    }
    // A longer path goes through a shorter one, so what is deep goes first: it still knows the old indexes.
    inserts.sort_by_key(|(path, index, _)| (std::cmp::Reverse(path.0.len()), std::cmp::Reverse(*index)));
    for (list, index, values) in inserts {
        for value in values.iter().rev() {
            operations.push(operation("add", &list.index(index), Some(value)));
        }
    }
    operations
}

fn operation(op: &str, path: &Path, value: Option<&Value>) -> Value {
    let mut operation = serde_json::json!({"op": op, "path": path.to_string()});
    if let (Some(value), Some(map)) = (value, operation.as_object_mut()) {
        map.insert("value".to_owned(), value.clone());
    }
    operation
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Applies a patch as an API server does.
    pub(crate) fn patched(document: &Value, operations: &[Value]) -> Value {
        let mut value = document.clone();
        for operation in operations {
            let path = operation["path"].as_str().unwrap();
            let (parent, last) = path.rsplit_once('/').unwrap();
            let last = last.replace("~1", "/").replace("~0", "~");
            let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"));
            match (operation["op"].as_str().unwrap(), parent) {
                ("add", Value::Array(items)) => {
                    items.insert(last.parse().unwrap(), operation["value"].clone())
                }
                ("add", Value::Object(map)) => {
                    map.insert(last, operation["value"].clone());
                }
                (op, parent) => panic!("{op} {path} {parent}"),
            }
        }
        value
    }

    #[test]
    fn paths_are_json_pointers() {
        let path = Path::of("/spec/containers/0").key("a/b~c");
        assert_eq!(path.to_string(), "/spec/containers/0/a~1b~0c");
        let document = json!({"spec": {"containers": [{"a/b~c": 7}]}});
        assert_eq!(path.find(&document), Some(&json!(7)));
    }

    #[test]
    fn a_patch_does_what_the_changes_say() {
        let document = json!({"a": {"b": [1, 2, 3]}, "c": [{"d": [9]}]});
        let changes = [
            Change::Insert { list: Path::of("/a/b"), index: 0, values: vec![json!("x"), json!("y")] },
            Change::Insert { list: Path::of("/a/b"), index: 3, values: vec![json!("z")] },
            Change::Insert { list: Path::of("/c"), index: 0, values: vec![json!("new")] },
            Change::Insert { list: Path::of("/c/0/d"), index: 1, values: vec![json!(10)] },
            Change::Put { map: Path::of("/c/0"), key: "e".to_owned(), value: json!({"f": 1}) },
        ];
        let after =
            json!({"a": {"b": ["x", "y", 1, 2, 3, "z"]}, "c": ["new", {"d": [9, 10], "e": {"f": 1}}]});
        assert_eq!(patched(&document, &to_patch(&changes)), after);
    }
}
