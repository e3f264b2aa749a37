//! How calls get from the model's port to the sidecar: by the Service's port where nothing can go around that, else by
//! a redirect in the pod's own network.
//!
//! A Service that leads to the port by its name follows that name to the sidecar; one that has its number is edited.
//! Only Services of the same stream can be seen to. A headless one gives callers the address of the pod, and they
//! choose the port themselves: only a redirect catches those.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::place::{Kind, Place};
use super::pod::{Model, names};
use super::settings::{INJECTED, Intercept};
use crate::config::Problem;
use crate::yaml::{Change, Path};

/// How one pod's calls are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The sidecar has the name of the model's port, or one of its own that Services lead to.
    Port,
    /// The pod's network redirects.
    Transparent,
    /// Not at all.
    None,
}

/// Changes of other documents, by their index.
pub(super) type ByDocument = Vec<(usize, Vec<Change>)>;

/// A Service of the stream.
#[derive(Debug, Clone)]
struct Service {
    /// Which document it is.
    index: usize,
    /// Whether it leads to pods too that get no sidecar, so that its port cannot be moved.
    shared: bool,
    value: Value,
}

/// All Services of a stream, found by the labels of a pod: a stream may have thousands of both.
#[derive(Debug, Clone, Default)]
pub struct Services {
    all: Vec<Service>,
    /// By namespace, and by key and value of one entry of the selector.
    by_label: HashMap<(String, String, String), Vec<usize>>,
}

impl Services {
    /// Takes a document in if it is a Service for pods.
    pub fn take(&mut self, index: usize, value: &Value) {
        let Some(service) = Service::of(index, value) else { return };
        let Some((key, label)) = service.selector().and_then(|selector| selector.iter().next()) else {
            return;
        };
        let label = label.as_str().unwrap_or_default();
        let place = (service.namespace().to_owned(), key.clone(), label.to_owned());
        self.by_label.entry(place).or_default().push(self.all.len());
        self.all.push(service);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that lead to pods with that metadata, in their order.
    fn of_pod(&self, place: &Place, metadata: Option<&Value>) -> Vec<usize> {
        let labels = metadata.and_then(|all| all.get("labels")).and_then(Value::as_object);
        let mut found = Vec::new();
        for (key, value) in labels.into_iter().flatten() {
            let label = value.as_str().unwrap_or_default();
            let near = self.by_label.get(&(place.namespace.clone(), key.clone(), label.to_owned()));
            let near = near.into_iter().flatten().copied();
            found.extend(near.filter(|index| self.all[*index].selects(place, metadata)));
        }
        found.sort_unstable();
        found
    }

    /// Those that lead to such pods cannot be led elsewhere, for these get no sidecar.
    pub fn share(&mut self, place: &Place, metadata: Option<&Value>) {
        for index in self.of_pod(place, metadata) {
            self.all[index].shared = true;
        }
    }
}

/// What a Service's port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Name,
    Number,
    Elsewhere,
}

impl Service {
    /// A document that is a Service for pods.
    fn of(index: usize, value: &Value) -> Option<Self> {
        let is_service =
            value.get("kind")?.as_str()? == "Service" && value.get("apiVersion")?.as_str()? == "v1";
        let selects =
            value.pointer("/spec/selector")?.as_object().is_some_and(|selector| !selector.is_empty());
        (is_service && selects).then(|| Service { index, shared: false, value: value.clone() })
    }

    fn namespace(&self) -> &str {
        self.value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default()
    }

    fn selector(&self) -> Option<&Map<String, Value>> {
        self.value.pointer("/spec/selector").and_then(Value::as_object)
    }

    /// Whether it leads to pods with that metadata.
    fn selects(&self, place: &Place, metadata: Option<&Value>) -> bool {
        let labels = metadata.and_then(|all| all.get("labels"));
        self.namespace() == place.namespace
            && self.selector().is_some_and(|selector| {
                selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
            })
    }

    fn is_headless(&self) -> bool {
        self.value.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None")
    }

    fn ports(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.value.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten().enumerate()
    }

    fn target(port: &Value, model: &Model) -> Target {
        let name = model.declared.as_ref().and_then(|(_, name)| name.as_deref());
        match port.get("targetPort").filter(|target| !target.is_null()).or(port.get("port")) {
            Some(Value::String(target)) if Some(target.as_str()) == name => Target::Name,
            Some(target) if target.as_u64() == Some(model.port.into()) => Target::Number,
            _ => Target::Elsewhere,
        }
    }

    /// Makes it lead to the sidecar where it has the model's number; several pods may ask for the same.
    fn changes(&self, model: &Model) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut was = serde_json::Map::new();
        for (index, port) in self.ports().filter(|(_, port)| Self::target(port, model) == Target::Number) {
            was.insert(index.to_string(), port.get("targetPort").cloned().unwrap_or(Value::Null));
            let map = Path::of("/spec/ports").index(index);
            changes.push(Change::Put {
                map,
                key: "targetPort".to_owned(),
                value: json!(sidecar_port(model)),
            });
        }
        if !changes.is_empty() {
            let noted = json!({ "targetPorts": was }).to_string();
            changes.push(annotate(&self.value, &Path::default(), &noted));
        }
        changes
    }
}

/// The name that the sidecar's port has.
pub(super) fn sidecar_port(model: &Model) -> &str {
    model.declared.as_ref().and_then(|(_, name)| name.as_deref()).unwrap_or(names::PORT)
}

/// Notes in the annotations of `holder`'s metadata what was there before.
pub(super) fn annotate(document: &Value, holder: &Path, noted: &str) -> Change {
    let metadata = holder.key("metadata");
    let is_map = |path: &Path| path.find(document).is_some_and(Value::is_object);
    if is_map(&metadata.key("annotations")) {
        let map = metadata.key("annotations");
        return Change::Put { map, key: INJECTED.to_owned(), value: json!(noted) };
    }
    let annotations = json!({ INJECTED: noted });
    match is_map(&metadata) {
        true => Change::Put { map: metadata, key: "annotations".to_owned(), value: annotations },
        false => Change::Put {
            map: holder.clone(),
            key: "metadata".to_owned(),
            value: json!({ "annotations": annotations }),
        },
    }
}

/// The way for one pod, and the changes of Services that it needs, by document. Where Services cannot be seen its own
/// network redirects.
///
/// # Errors
/// When a way is asked for that this pod cannot have.
pub(super) fn choose(
    document: &Value,
    place: &Place,
    model: &Model,
    asked: Intercept,
    services: Option<&Services>,
) -> Result<(Way, ByDocument), Problem> {
    let Some(services) = services else {
        // What leads to the pod may change every minute, so nothing but the pod itself can be relied on.
        let way = if asked == Intercept::None { Way::None } else { Way::Transparent };
        return Ok((way, Vec::new()));
    };
    let metadata = place.metadata(document);
    let leading: Vec<&Service> = services
        .of_pod(place, metadata)
        .into_iter()
        .map(|index| &services.all[index])
        .filter(|service| service.ports().any(|(_, port)| Service::target(port, model) != Target::Elsewhere))
        .collect();
    let by_port = || leading.iter().map(|service| (service.index, service.changes(model))).collect();
    let can_be_bypassed =
        leading.is_empty() || leading.iter().any(|service| service.shared || service.is_headless());
    match (place.kind, asked) {
        (_, Intercept::None) => Ok((Way::None, Vec::new())),
        // The one way there is, and everything comes through the queue-proxy, which asks for the declared port.
        (Kind::Knative, Intercept::Auto | Intercept::Port) if model.declared.is_some() => {
            Ok((Way::Port, Vec::new()))
        }
        (Kind::Knative, _) => {
            let hint = "declare the model's port in `ports`, and leave parhelion/intercept out: Knative has no init \
                 containers that could redirect";
            Err(Problem::new("", "on Knative calls are caught by the declared port only").with_hint(hint))
        }
        (Kind::InferenceService, Intercept::Port) => {
            let hint = "leave parhelion/intercept out: then the pod's network redirects";
            Err(Problem::new("", "the Service of an InferenceService is KServe's to write").with_hint(hint))
        }
        (_, Intercept::Port)
            if leading.is_empty() && model.declared.as_ref().is_none_or(|port| port.1.is_none()) =>
        {
            let hint = "name the port and let the Service lead to that name, put the Service into the same stream, or \
                 leave parhelion/intercept out";
            Err(Problem::new("", "nothing leads calls to the sidecar by port").with_hint(hint))
        }
        (_, Intercept::Port) => Ok((Way::Port, by_port())),
        (Kind::Pod | Kind::Job, Intercept::Auto) if !can_be_bypassed => Ok((Way::Port, by_port())),
        (_, Intercept::Auto | Intercept::Transparent) => Ok((Way::Transparent, Vec::new())),
    }
}
