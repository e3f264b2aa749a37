//! `parhelion inject`: the sidecar put into manifests, in whatever they are written.
//!
//! A stream of documents is read; each one that holds a pod of a model gets a container, volumes, a preStop and, where
//! calls cannot be caught by port, a redirect. What is to change is said once (module `plan`), in terms of the value, and
//! becomes insertions into the text here and a JSON patch in the webhook. What is injected already is undone first, so
//! doing it twice is doing it once. Nothing is written where anything is wrong: half a stream would be applied.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path as FilePath, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::config::Problem;
use crate::yaml::edit::{self, Edit};
use crate::yaml::{self, Change, Document, Path};

mod admit;
mod fleet;
mod place;
mod plan;
mod pod;
mod settings;
mod sidecar;
mod undo;
mod value;
mod way;

pub use admit::{Admitted, admit};
use fleet::Fleet;
pub use place::Place;
pub use plan::{DRAINED, Planned, plan};
pub use settings::{INJECTED, Intercept, Settings};
use way::{Services, Way};

/// `parhelion inject`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  parhelion inject -f deployment.yaml | kubectl apply -f -
  kustomize build . | parhelion inject -f - --image registry.example.org/parhelion:0.1.0 | kubectl apply -f -
  parhelion inject -f deployment.yaml --port 8001 > injected.yaml
  parhelion inject -f injected.yaml --uninject

A workload is injected if one of its ports is named grpc or h2c, if --port says which it is, or if its pods are
annotated parhelion/inject: \"true\"; never if it says \"false\". What is not known passes unchanged.

Exit codes: 0 as asked, 2 something is wrong: then nothing is written, and every problem is told.")]
pub struct Options {
    /// Manifests as YAML or JSON, - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Take the sidecar out again
    #[arg(long)]
    uninject: bool,
    /// How calls get to the sidecar
    #[arg(long, value_enum, default_value = "auto")]
    intercept: Intercept,
    #[command(flatten)]
    settings: Settings,
}

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The whole stream.
    pub text: String,
    /// What happened to whom, and what is worth knowing, for people.
    pub notes: Vec<String>,
}

/// Runs it; `Err` has what cannot be read or written, `Ok(false)` says that the manifests were refused.
///
/// # Errors
/// When a file cannot be read or the result not written.
pub fn run(options: &Options) -> io::Result<bool> {
    let name = options.file.display().to_string();
    let name = if name == "-" { "standard input" } else { &name };
    let text = read(&options.file).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::InvalidData => "is no text in UTF-8: manifests are".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("{name}: {what}"))
    })?;
    let result = match options.uninject {
        true => uninject(name, &text),
        false => inject(name, &text, &Settings { intercept: options.intercept, ..options.settings.clone() }),
    };
    let mut log = io::stderr().lock();
    match result {
        Ok(outcome) => {
            for note in &outcome.notes {
                let _ = writeln!(log, "{note}");
            }
            let mut out = io::stdout().lock();
            out.write_all(outcome.text.as_bytes())?;
            out.flush()?;
            Ok(true)
        }
        Err(problems) => {
            for problem in &problems {
                let _ = writeln!(log, "{problem}");
            }
            let count = problems.len();
            let _ =
                writeln!(log, "\n{count} problem{}; nothing was written", if count == 1 { "" } else { "s" });
            Ok(false)
        }
    }
}

fn read(path: &FilePath) -> io::Result<String> {
    if path != FilePath::new("-") {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// What a stream is told whose documents all pass as they are.
const NO_PODS: &str = "nothing in it has pods, so nothing was injected; pods are looked for in Pod, Deployment, \
                       StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, KServe's InferenceService and Knative's \
                       Service";

/// What a stream is told in which nothing was injected.
const NOTHING_IN: &str = "nothing in it was injected, so it is as it was";

/// One manifest of a stream: a document, or an item of a `List`.
struct Manifest {
    document: usize,
    /// In the document.
    at: Path,
    line: usize,
    value: Value,
}

struct Stream<'a> {
    name: &'a str,
    text: &'a str,
    documents: Vec<Document>,
    manifests: Vec<Manifest>,
}

impl<'a> Stream<'a> {
    fn parse(name: &'a str, text: &'a str) -> Result<Self, Vec<Problem>> {
        let documents = yaml::parse(text).map_err(|broken| {
            let templated = "a template is rendered first: helm template … | parhelion inject -f -";
            let problem = |one: yaml::Broken| {
                let problem =
                    Problem::new(format!("{name}:{}", one.line), format!("is no YAML: {}", one.message));
                if text.contains("{{") { problem.with_hint(templated) } else { problem }
            };
            broken.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        let mut manifests = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            // What aliases make enormous is nothing that Kubernetes would take.
            let Some(value) = document.root.value() else { continue };
            collect(&mut manifests, index, document, &Path::default(), value);
        }
        Ok(Stream { name, text, documents, manifests })
    }

    /// The text with `changes`, by manifest.
    fn edited(&self, changes: &HashMap<usize, Vec<Change>>) -> Result<String, Vec<Problem>> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut problems = Vec::new();
        let mut order: Vec<&usize> = changes.keys().collect();
        order.sort();
        for index in order {
            let manifest = &self.manifests[*index];
            let moved: Vec<Change> = changes[index].iter().map(|change| change.below(&manifest.at)).collect();
            match edit::edits(self.text, &self.documents[manifest.document].root, &moved) {
                Ok(more) => edits.extend(more),
                Err(refused) => {
                    let name = Place::of(&manifest.value).map(|place| place.name + " ").unwrap_or_default();
                    let place = Some(format!("{}:{}", self.name, refused.line));
                    problems.push(Problem::new(name + &refused.path, refused.problem).with_place(place));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut text = edit::apply(self.text, edits);
        if !self.text.ends_with('\n') {
            text.truncate(text.trim_end().len());
        }
        Ok(text)
    }

    /// A problem of a manifest, with the manifest's name and its line.
    fn placed(&self, manifest: &Manifest, place: &Place, problem: Problem) -> Problem {
        let path = match problem.path.strip_prefix("annotation ") {
            Some(key) => place.holder.key("metadata").key("annotations").key(key),
            None => Path::of(&problem.path),
        };
        let node = self.documents[manifest.document].root.get(manifest.at.join(&path).steps());
        let line = node.filter(|_| !path.steps().is_empty()).map_or(manifest.line, |node| node.line);
        let path = format!("{} {}", place.name, problem.path);
        Problem { path: path.trim_end().to_owned(), ..problem }
            .with_place(Some(format!("{}:{line}", self.name)))
    }
}

fn collect(manifests: &mut Vec<Manifest>, index: usize, document: &Document, at: &Path, value: Value) {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match value.get("items").and_then(Value::as_array) {
        Some(items) if is_list => {
            for (item, value) in items.iter().enumerate() {
                collect(manifests, index, document, &at.key("items").index(item), value.clone());
            }
        }
        _ => {
            let line = document.root.get(at.steps()).map_or(document.line, |node| node.line);
            manifests.push(Manifest { document: index, at: at.clone(), line, value });
        }
    }
}

/// `text` without the sidecars that were put into it.
///
/// # Errors
/// Everything that is wrong with the stream.
pub fn uninject(name: &str, text: &str) -> Result<Outcome, Vec<Problem>> {
    let stream = Stream::parse(name, text)?;
    let undone: HashMap<usize, Vec<Change>> = stream
        .manifests
        .iter()
        .enumerate()
        .map(|(index, manifest)| (index, undo::undo(&manifest.value)))
        .filter(|(_, changes)| !changes.is_empty())
        .collect();
    let text = stream.edited(&undone)?;
    let mut notes: Vec<(usize, String)> = undone
        .keys()
        .filter_map(|index| {
            Some((*index, format!("{}: uninjected", Place::of(&stream.manifests[*index].value)?.name)))
        })
        .collect();
    notes.sort();
    let mut notes: Vec<String> = notes.into_iter().map(|(_, note)| note).collect();
    if notes.is_empty() {
        notes.push(format!("warning: {name}: {NOTHING_IN}"));
    }
    Ok(Outcome { text, notes })
}

/// `text` with sidecars, by `settings` and the annotations in it.
///
/// # Errors
/// Everything that is wrong with the stream or keeps a pod from getting one.
pub fn inject(name: &str, text: &str, settings: &Settings) -> Result<Outcome, Vec<Problem>> {
    let undone;
    let text = match text.contains(INJECTED) {
        true => {
            undone = uninject(name, text)?.text;
            undone.as_str()
        }
        false => text,
    };
    let stream = Stream::parse(name, text)?;
    let pods = stream.manifests.iter().filter(|manifest| Place::of(&manifest.value).is_some()).count();
    // Where there is one pod only, the port that was named is said of that one.
    let settings = &Settings { certain: settings.port.is_some() && pods == 1, ..settings.clone() };
    let mut injection =
        Injection { stream: &stream, settings, fleet: Fleet::default(), services: Services::default() };
    for (index, manifest) in stream.manifests.iter().enumerate() {
        injection.fleet.take(&manifest.value);
        injection.services.take(index, &manifest.value);
    }
    injection.mark_shared();
    injection.all()
}

struct Injection<'a> {
    stream: &'a Stream<'a>,
    settings: &'a Settings,
    fleet: Fleet,
    services: Services,
}

impl Injection<'_> {
    fn pods(&self) -> impl Iterator<Item = (usize, &Manifest, Place)> {
        let manifests = self.stream.manifests.iter().enumerate();
        manifests.filter_map(|(index, manifest)| Some((index, manifest, Place::of(&manifest.value)?)))
    }

    /// A Service that leads to a pod without a sidecar too cannot be led elsewhere.
    fn mark_shared(&mut self) {
        if self.services.is_empty() {
            return;
        }
        let mut services = self.services.clone();
        for (_, manifest, place) in self.pods() {
            if !matches!(self.one(manifest, &place), Ok((Planned::Injected { .. }, _))) {
                services.share(&place, place.metadata(&manifest.value));
            }
        }
        self.services = services;
    }

    fn all(&self) -> Result<Outcome, Vec<Problem>> {
        let (mut changes, mut notes, mut problems) = (HashMap::new(), Vec::new(), Vec::new());
        for (index, manifest, place) in self.pods() {
            let placed = |problem| self.stream.placed(manifest, &place, problem);
            match self.one(manifest, &place) {
                Err(several) => problems.extend(several.into_iter().map(placed)),
                Ok((Planned::Left(None), _)) => notes.push(format!("{}: left alone, as it says", place.name)),
                Ok((Planned::Left(Some(why)), _)) => {
                    let hint = why.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                    notes.push(format!("{}: left alone: {}{hint}", place.name, why.message));
                }
                Ok((Planned::Injected { changes: own, services, way, warnings }, known)) => {
                    changes.insert(index, own);
                    for (service, more) in services.into_iter().filter(|(_, more)| !more.is_empty()) {
                        let before = changes.entry(service).or_insert_with(|| more.clone());
                        if *before != more {
                            let name = self.stream.manifests[service].value.pointer("/metadata/name");
                            let hint = "give their pods the same port and port name";
                            let message =
                                format!("another workload behind Service {name:?} has another port");
                            problems.push(placed(Problem::new("", message).with_hint(hint)));
                        }
                    }
                    let how = match way {
                        Way::Port => "by port",
                        Way::Transparent => "transparently",
                        Way::None => "calls are not caught",
                    };
                    notes.push(format!("{}: injected, {how}", place.name));
                    notes.extend(
                        warnings.into_iter().chain(known).map(|one| format!("warning: {}", placed(one))),
                    );
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        if self.pods().next().is_none() {
            notes.push(format!("warning: {}: {NO_PODS}", self.stream.name));
        }
        Ok(Outcome { text: self.stream.edited(&changes)?, notes })
    }

    fn one(&self, manifest: &Manifest, place: &Place) -> Result<(Planned, Vec<Problem>), Vec<Problem>> {
        let document = &manifest.value;
        let (own, _) = self.settings.with(place.metadata(document))?;
        let known = self.fleet.know(document, place, &own);
        let (listen, health, drain) = match &known {
            Ok(Some(known)) => (known.listen, known.health, Some(known.drain)),
            Ok(None) | Err(_) => (own.listen_port, own.health_port, None),
        };
        let settings = Settings { listen_port: listen, health_port: health, ..self.settings.clone() };
        let planned = plan(document, place, &settings, Some(&self.services), drain)?;
        // Only who gets a sidecar needs its configuration to be good.
        match planned {
            Planned::Left(_) => Ok((planned, Vec::new())),
            Planned::Injected { .. } => Ok((planned, known?.map(|known| known.warnings).unwrap_or_default())),
        }
    }
}
