//! From files to one tree of values, with the line each of them stands on.
//!
//! A path is one YAML file, or a directory whose `*.yaml` and `*.yml` are merged in the order of their names: a
//! ConfigMap is mounted like that, and its hidden `..data` entries are skipped. The files of a directory share the
//! models and services among them; any other key may stand in one of them only. Keys given twice, values left out
//! and texts that are no YAML are found here; what the keys mean is not known here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::problem::Problem;
use yaml::{Data, Entries};

mod yaml;

/// Larger files are refused; a ConfigMap holds 1 MiB.
const LARGEST: u64 = 4 << 20;

/// A text and the name it is known by in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
}

/// Where a value stands.
#[derive(Debug, Clone)]
struct Place {
    file: usize,
    line: u64,
    /// A number as it was written, `1.10`.
    written: Option<String>,
}

/// What the files say, before anybody knows what it means.
#[derive(Debug)]
pub(super) struct Source {
    /// A map, for everything else was refused.
    pub(super) value: Value,
    /// What was wrong with it so far.
    pub(super) problems: Vec<Problem>,
    names: Vec<String>,
    places: HashMap<String, Place>,
}

/// The files of `path`, in the order they are merged.
pub(super) fn read(path: &Path) -> Result<Vec<File>, Problem> {
    let unreadable = |path: &Path, error: &io::Error| {
        Problem::new("", format!("cannot be read: {error}"))
            .with_value(path.display().to_string())
            .with_hint("give a YAML file, or a directory that holds some")
    };
    let is_directory = fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_dir();
    if !is_directory {
        return Ok(vec![read_file(path).map_err(|error| unreadable(path, &error))?]);
    }
    let paths = list(path).map_err(|error| unreadable(path, &error))?;
    if paths.is_empty() {
        return Err(Problem::new("", "holds no *.yaml and no *.yml").with_value(path.display().to_string()));
    }
    paths.iter().map(|path| read_file(path).map_err(|error| unreadable(path, &error))).collect()
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !hidden && yaml && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_file(path: &Path) -> io::Result<File> {
    let length = fs::metadata(path)?.len();
    if length > LARGEST {
        return Err(io::Error::other(format!("it has {length} bytes, more than the {LARGEST} allowed")));
    }
    Ok(File { name: path.display().to_string(), text: fs::read_to_string(path)? })
}

/// First 12 hexadecimal digits of the hash of the texts and, where they are several, their order.
pub(super) fn revision(files: &[File]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.text.len() as u64).to_le_bytes());
        hasher.update(file.text.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(12).collect()
}

/// Reads all files and merges them; `Err` where one of them is no YAML map.
pub(super) fn parse(files: &[File]) -> Result<Source, Vec<Problem>> {
    let mut source = Source {
        value: Value::Null,
        problems: Vec::new(),
        names: files.iter().map(|file| file.name.clone()).collect(),
        places: HashMap::new(),
    };
    let mut merged = Map::new();
    let mut broken = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match yaml::parse(file) {
            Ok(entries) => source.merge(&mut merged, entries, index, &file.text),
            Err(problem) => broken.push(problem),
        }
    }
    source.value = Value::Object(merged);
    if broken.is_empty() { Ok(source) } else { Err(broken) }
}

/// Keys whose entries may come from several files.
const SHARED: [&str; 2] = ["models", "services"];

impl Source {
    /// Adds what one file says.
    fn merge(&mut self, merged: &mut Map<String, Value>, entries: Entries, file: usize, text: &str) {
        let mut walk =
            Walk { name: &self.names[file], file, text, places: HashMap::new(), problems: Vec::new() };
        let said = walk.map("", entries);
        let Walk { places, mut problems, .. } = walk;
        for (key, value) in said {
            match (merged.get_mut(&key), value) {
                (None, value) => {
                    merged.insert(key, value);
                }
                (Some(Value::Object(before)), Value::Object(more)) if SHARED.contains(&key.as_str()) => {
                    for (name, value) in more {
                        let path = format!("{key}.{name}");
                        if before.contains_key(&name) {
                            problems.push(self.twice(&path, places.get(&path)));
                        } else {
                            before.insert(name, value);
                        }
                    }
                }
                (Some(_), _) => problems.push(self.twice(&key, places.get(&key))),
            }
        }
        for (path, place) in places {
            self.places.entry(path).or_insert(place);
        }
        self.problems.append(&mut problems);
    }

    /// The same key in two files.
    fn twice(&self, path: &str, second: Option<&Place>) -> Problem {
        let first = self.place(path).unwrap_or_default();
        let place = second.and_then(|place| Some(format!("{}:{}", self.names.get(place.file)?, place.line)));
        Problem::new(path, format!("is given twice, first at {first}"))
            .with_place(place)
            .with_hint("keep one of them")
    }

    /// `FILE:LINE` of the path, or of what encloses it.
    pub(super) fn place(&self, path: &str) -> Option<String> {
        let place = self.find(path)?;
        Some(format!("{}:{}", self.names.get(place.file)?, place.line))
    }

    fn find(&self, path: &str) -> Option<&Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            let cut = path.rfind(['.', '['])?;
            path = path.get(..cut)?;
        }
    }

    /// Brings problems into the order of the text.
    pub(super) fn sort(&self, problems: &mut [Problem]) {
        problems.sort_by_key(|problem| {
            let place = self.find(&problem.path);
            place.map_or((0, 0), |place| (place.file + 1, place.line))
        });
    }

    /// These entries and no others, moved to `below`, where `beside` stands already.
    pub(super) fn graft(&self, keys: &[&str], below: &[&str], beside: Map<String, Value>) -> Source {
        let moved = keys.iter().filter_map(|key| Some(((*key).to_owned(), self.value.get(key)?.clone())));
        let inner = Value::Object(beside.into_iter().chain(moved).collect());
        let wrap = |inner: Value, key: &&str| Value::Object(Map::from_iter([((*key).to_owned(), inner)]));
        let value = below.iter().rev().fold(inner, wrap);
        let places = self.places.iter().map(|(path, place)| (join(&below.join("."), path), place.clone()));
        Source { value, problems: Vec::new(), names: self.names.clone(), places: places.collect() }
    }

    /// Takes entries away.
    pub(super) fn without(&mut self, keys: &[&str]) {
        if let Value::Object(map) = &mut self.value {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }

    /// The number at `path` as it was written.
    pub(super) fn written(&self, path: &str) -> Option<&str> {
        self.places.get(path)?.written.as_deref()
    }
}

/// Turns the nodes of one file into values and notes where they stand.
struct Walk<'a> {
    name: &'a str,
    file: usize,
    text: &'a str,
    places: HashMap<String, Place>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn map(&mut self, path: &str, entries: Entries) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, node) in entries {
            let path = join(path, &key.value);
            let line = key.defined.line();
            let place = Some(format!("{}:{line}", self.name));
            if map.contains_key(&key.value) {
                let first = self.places.get(&path).map_or(0, |place| place.line);
                self.problems.push(
                    Problem::new(path, format!("is given twice, first in line {first}"))
                        .with_place(place)
                        .with_hint("keep one of them"),
                );
                continue;
            }
            self.note(&path, line, &node);
            if matches!(node.value, Data::Null) {
                let hint = "give it one, or leave the key out";
                self.problems.push(Problem::new(&*path, "has no value").with_place(place).with_hint(hint));
            }
            let value = self.value(&path, node.value);
            map.insert(key.value, value);
        }
        map
    }

    fn value(&mut self, path: &str, data: Data) -> Value {
        match data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(value),
            Data::Number(value) => Value::Number(value),
            Data::Text(value) => Value::String(value),
            Data::Map(entries) => Value::Object(self.map(path, entries)),
            Data::List(nodes) => Value::Array(
                nodes
                    .into_iter()
                    .enumerate()
                    .map(|(index, node)| {
                        let path = format!("{path}[{index}]");
                        let line = node.defined.line();
                        self.note(&path, line, &node);
                        if matches!(node.value, Data::Null) {
                            let place = Some(format!("{}:{line}", self.name));
                            let problem = Problem::new(&*path, "has no value").with_place(place);
                            self.problems.push(problem.with_hint("remove the empty `-`"));
                        }
                        self.value(&path, node.value)
                    })
                    .collect(),
            ),
        }
    }

    fn note(&mut self, path: &str, line: u64, node: &Spanned<Data>) {
        let written = match node.value {
            Data::Number(_) => self.spelling(node).map(str::to_owned),
            _ => None,
        };
        self.places.insert(path.to_owned(), Place { file: self.file, line, written });
    }

    /// The text of a node.
    fn spelling(&self, node: &Spanned<Data>) -> Option<&str> {
        let span = node.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        self.text.get(start..start.checked_add(length)?).map(str::trim)
    }
}

/// The path of an entry of what is at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
