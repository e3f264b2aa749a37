//! A YAML file of another kind than the sidecar's own, read with the same care: every error at once, each with its
//! path, its place in the text and what would be right.
//!
//! Such a file may hold parts of a model in the very words of the configuration; they are checked as those are.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::check::check;
use super::problem::{Errors, Problem};
use super::shape::shape;
use super::source::{self, File, Source};
use super::{Environment, Model, raw};

/// Where a document's parts of a model stand in a configuration.
const BELOW: [&str; 2] = ["models", "simulated"];

/// A file that was read, and what was wrong with it so far.
#[derive(Debug)]
pub struct Document {
    source: Source,
    problems: Vec<Problem>,
}

impl Document {
    /// Reads the YAML file at `path`.
    ///
    /// # Errors
    /// What makes it unreadable, or no YAML map.
    pub fn read(path: &Path) -> Result<Self, Errors> {
        Self::parse(&source::read(path)?)
    }

    /// Reads a text; `name` is what its problems call the file.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn of_text(name: &str, text: &str) -> Result<Self, Errors> {
        Self::parse(&[File { name: name.to_owned(), text: text.to_owned() }])
    }

    fn parse(files: &[File]) -> Result<Self, Errors> {
        let mut source = source::parse(files).map_err(Errors)?;
        let problems = std::mem::take(&mut source.problems);
        Ok(Document { source, problems })
    }

    /// Takes out the entries `keys` of the document, as those of a model with these variants.
    pub fn model(&mut self, keys: &[&str], variants: &[&str]) -> Option<Arc<Model>> {
        let endpoints = variants.iter().zip(1..).map(|(name, port)| {
            ((*name).to_owned(), json!({"endpoint": format!("http://127.0.0.1:{port}")}))
        });
        let variants = Value::Object(endpoints.collect());
        let mut source = self.source.graft(keys, &BELOW, Map::from_iter([("variants".to_owned(), variants)]));
        self.source.without(keys);
        let file: raw::File = shape(&mut source);
        match check(source, &file, "", &Environment::default()) {
            Ok(loaded) => loaded.config.models.first().cloned(),
            Err(Errors(problems)) => {
                self.problems.extend(problems.into_iter().map(here));
                None
            }
        }
    }

    /// What stands at that place as it was written, before anybody checks it.
    pub fn written(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(&self.source.value, |value, key| value.get(key))
    }

    /// What is left of the document as a `T`.
    pub fn shape<T: DeserializeOwned + Default>(&mut self) -> T {
        let shaped = shape(&mut self.source);
        self.problems.append(&mut self.source.problems);
        shaped
    }

    /// Notes another problem, with its place, unless there is one at that path already.
    pub fn refuse(&mut self, problem: Problem) {
        if self.problems.iter().any(|known| known.path == problem.path) {
            return;
        }
        let place = self.source.place(&problem.path);
        self.problems.push(problem.with_place(place));
    }

    /// What is wrong with it, in the order of the text.
    ///
    /// # Errors
    /// All of it.
    pub fn finish(mut self) -> Result<(), Errors> {
        self.source.sort(&mut self.problems);
        if self.problems.is_empty() { Ok(()) } else { Err(Errors(self.problems)) }
    }
}

/// The problem as of the document itself.
fn here(mut problem: Problem) -> Problem {
    let below = format!("{}.", BELOW.join("."));
    problem.path = problem.path.strip_prefix(&below).unwrap_or(&problem.path).to_owned();
    problem
}
