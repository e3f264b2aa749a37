//! One pod with a sidecar: every change that its manifest needs, for the text and the JSON patch alike.

use serde_json::{Map, Value, json};

use super::place::{self, Kind, Place};
use super::pod::{Model, Unfit, model, names};
use super::settings::{Intercept, Settings, Wish};
use super::sidecar::{self, Around};
use super::way::{self, ByDocument, Services, Way};
use crate::config::Problem;
use crate::yaml::{Change, Path};

/// The path of the health port that answers when the sidecar has no calls any more.
pub const DRAINED: &str = "/drained";
/// What a pod gets for its end where its manifest does not say, in seconds.
const GRACE: u64 = 30;
/// What is left of it for the model and the sidecar to exit after the drain, in seconds.
const EXIT: u64 = 5;

/// What becomes of one manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// It gets a sidecar.
    Injected {
        /// Of its own document.
        changes: Vec<Change>,
        /// Of Services, by document.
        services: ByDocument,
        /// How calls are caught.
        way: Way,
        /// Worth knowing.
        warnings: Vec<Problem>,
    },
    /// It is left alone, and why; nothing where it asked for that itself.
    Left(Option<Problem>),
}

/// What `document` needs for a sidecar.
///
/// `services` are those that may lead to it; none: they cannot be seen. `drain` is how long the sidecar's end may take by
/// its configuration, in seconds, where that is known.
///
/// # Errors
/// What keeps a pod that is a model's from getting one.
pub fn plan(
    document: &Value,
    place: &Place,
    settings: &Settings,
    services: Option<&Services>,
    drain: Option<u64>,
) -> Result<Planned, Vec<Problem>> {
    let (settings, wish) = settings.with(place.metadata(document))?;
    if wish == Wish::No {
        return Ok(Planned::Left(None));
    }
    let asked_for = wish == Wish::Yes || settings.port.is_some() && settings.certain;
    let model = match model(document, place, &settings) {
        Ok(model) => model,
        Err(Unfit::Unclear(problem)) if asked_for => return Err(vec![problem]),
        Err(Unfit::Unclear(problem)) => return Ok(Planned::Left(Some(problem))),
        Err(Unfit::Wrong(problems)) => return Err(problems),
    };
    let (way, services) = way::choose(document, place, &model, settings.intercept, services)
        .map_err(|problem| vec![problem])?;
    let mut planner = Planner {
        document,
        place,
        settings: &settings,
        model: &model,
        way,
        changes: Vec::new(),
        was: Map::new(),
    };
    planner.containers();
    planner.volumes();
    planner.model_port();
    let mut warnings = planner.end_of_the_model(drain);
    planner.warn(&mut warnings);
    let changes = planner.finish();
    Ok(Planned::Injected { changes, services, way, warnings })
}

struct Planner<'a> {
    document: &'a Value,
    place: &'a Place,
    settings: &'a Settings,
    model: &'a Model,
    way: Way,
    changes: Vec<Change>,
    was: Map<String, Value>,
}

impl Planner<'_> {
    fn containers(&mut self) {
        let (settings, place) = (self.settings, self.place);
        let around = Around {
            kind: place.kind,
            model_port: self.model.port,
            port_name: if self.way == Way::Port { way::sidecar_port(self.model) } else { names::PORT },
            metadata: place.metadata(self.document),
            deployment: place.deployment(self.document),
        };
        let sidecar = sidecar::container(settings, &around);
        let is_plain = settings.plain || place.kind == Kind::Knative;
        let mut first = Vec::new();
        if self.way == Way::Transparent {
            first.push(sidecar::intercept(settings, self.model.port));
        }
        if !is_plain {
            first.push(sidecar.clone());
        }
        self.list("initContainers", 0, first);
        if is_plain {
            self.list("containers", usize::MAX, vec![sidecar]);
        }
    }

    fn volumes(&mut self) {
        self.list("volumes", usize::MAX, sidecar::volumes(self.settings));
    }

    /// More items for a list of the pod, which is made if need be.
    fn list(&mut self, key: &str, index: usize, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        let spec = self.place.spec.clone();
        let list = spec.key(key);
        let length = list.find(self.document).and_then(Value::as_array).map(Vec::len);
        self.changes.push(match length {
            Some(length) if length > 0 => Change::Insert { list, index: index.min(length), values },
            _ => Change::Put { map: spec, key: key.to_owned(), value: Value::Array(values) },
        });
    }

    /// By port: the name of the model's port goes to the sidecar, and what asked for the port by its name in the model's
    /// own container gets its number.
    fn model_port(&mut self) {
        let Some((index, name)) = self.model.declared.clone().filter(|_| self.way == Way::Port) else {
            return;
        };
        let container = self.model.container.clone();
        if self.place.kind == Kind::Knative {
            // One container has ports, and that is the sidecar then.
            let ports = container.key("ports");
            self.was.insert("ports".to_owned(), ports.find(self.document).cloned().unwrap_or(Value::Null));
            self.changes.push(Change::Remove(ports));
            return;
        }
        let Some(name) = name else { return };
        let map = container.key("ports").index(index);
        self.changes.push(Change::Put { map, key: "name".to_owned(), value: json!(names::MODEL_PORT) });
        let mut probes = Vec::new();
        for (probe, handler) in PROBES.iter().flat_map(|probe| HANDLERS.map(|handler| (*probe, handler))) {
            let map = container.key(probe).key(handler);
            let port = map.key("port").find(self.document).and_then(Value::as_str);
            if port == Some(name.as_str()) {
                self.changes.push(Change::Put { map, key: "port".to_owned(), value: json!(self.model.port) });
                probes.push(format!("{probe}/{handler}"));
            }
        }
        self.was.insert("port".to_owned(), json!(name));
        self.was.insert("probes".to_owned(), json!(probes));
    }

    /// The model waits until the sidecar has no calls any more. Knative's queue-proxy sees to that itself.
    fn end_of_the_model(&mut self, drain: Option<u64>) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if self.place.kind == Kind::Knative {
            return warnings;
        }
        let container = self.model.container.clone();
        let lifecycle = container.key("lifecycle");
        let hook = json!({"httpGet": {"path": DRAINED, "port": self.settings.health_port}});
        let put = |map: &Path, key: &str, value| Change::Put { map: map.clone(), key: key.to_owned(), value };
        match lifecycle.find(self.document).filter(|value| value.is_object()) {
            None => self.changes.push(put(&container, "lifecycle", json!({"preStop": hook}))),
            Some(own) if own.get("preStop").is_none_or(Value::is_null) => {
                self.changes.push(put(&lifecycle, "preStop", hook));
            }
            Some(_) => warnings.push(
                Problem::new(lifecycle.key("preStop").to_string(), "the model has a preStop of its own, which stays")
                    .with_hint(format!(
                        "let it wait until http://127.0.0.1:{}{DRAINED} answers, so that the model outlives its calls",
                        self.settings.health_port
                    )),
            ),
        }
        let path = self.place.spec.key("terminationGracePeriodSeconds");
        let said = path.find(self.document).and_then(Value::as_u64);
        let needed = drain.map(|drain| drain + EXIT);
        match (said, needed) {
            (None, Some(needed)) if needed > GRACE => {
                let key = "terminationGracePeriodSeconds".to_owned();
                self.changes.push(Change::Put { map: self.place.spec.clone(), key, value: json!(needed) });
                self.was.insert("grace".to_owned(), Value::Null);
            }
            (Some(said), Some(needed)) if said < needed => warnings.push(
                Problem::new(
                    path.to_string(),
                    "is shorter than drain.lag and drain.grace of the configuration need",
                )
                .with_value(said.to_string())
                .with_hint(format!("give it {needed} at least, or shorten those")),
            ),
            _ => {}
        }
        warnings
    }

    fn warn(&self, warnings: &mut Vec<Problem>) {
        let mut warn = |path: String, message: &str, hint: &str| {
            warnings.push(Problem::new(path, message).with_hint(hint));
        };
        if self.place.kind == Kind::InferenceService && place::is_undecided(self.document) {
            warn(
                "/metadata/annotations".to_owned(),
                "does not say how KServe makes its pods; taken for plain Deployments",
                "annotate serving.kserve.io/deploymentMode: RawDeployment, or Serverless where it runs on Knative",
            );
        }
        for (probe, handler) in PROBES.iter().flat_map(|probe| HANDLERS.map(|handler| (*probe, handler))) {
            let path = self.model.container.key(probe).key(handler).key("port");
            let name = self.model.declared.as_ref().and_then(|(_, name)| name.as_deref());
            let hits = path.find(self.document).is_some_and(|port| {
                port.as_u64() == Some(self.model.port.into()) || name.is_some() && port.as_str() == name
            });
            if self.way == Way::Transparent && hits && handler == "tcpSocket" {
                warn(
                    path.to_string(),
                    "with a redirect this connects to the sidecar, which tells nothing of the model",
                    "probe it by `grpc`, which goes through, or on another port",
                );
            }
        }
        if self.way == Way::None && self.settings.intercept == Intercept::None {
            warn(
                String::new(),
                "nothing leads calls to the sidecar",
                "tell callers its port, or leave parhelion/intercept out",
            );
        }
    }

    fn finish(mut self) -> Vec<Change> {
        let noted = Value::Object(std::mem::take(&mut self.was)).to_string();
        self.changes.push(way::annotate(self.document, &self.place.holder, &noted));
        self.changes
    }
}

/// The probes of a container, and how they may ask for a port by name.
pub(super) const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];
/// See [`PROBES`]; `grpc` takes a number only.
pub(super) const HANDLERS: [&str; 2] = ["httpGet", "tcpSocket"];
