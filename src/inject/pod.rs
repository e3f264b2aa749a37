//! What a pod has already: which container is the model's and on which port, and what stands in the sidecar's way.

use serde_json::Value;

use super::place::{Kind, Place};
use super::settings::{INJECTED, Settings};
use crate::config::Problem;
use crate::yaml::Path;

/// The names of what is added to a pod.
pub(super) mod names {
    /// The sidecar's container.
    pub(crate) const SIDECAR: &str = "parhelion";
    /// The init container that redirects.
    pub(crate) const INTERCEPT: &str = "parhelion-intercept";
    /// The volume with configuration and keys.
    pub(crate) const CONFIG: &str = "parhelion-config";
    /// The volume for the state directory.
    pub(crate) const STATE: &str = "parhelion-state";
    /// The model's port, where its own name has gone to the sidecar.
    pub(crate) const MODEL_PORT: &str = "parhelion-model";
    /// The sidecar's port, where no name has come to it.
    pub(crate) const PORT: &str = "parhelion";
    /// The sidecar's health port.
    pub(crate) const HEALTH_PORT: &str = "sidecar-health";
}

/// The frameworks that an InferenceService may have instead of containers; KServe makes the container.
const FRAMEWORKS: [&str; 12] = [
    "model",
    "triton",
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
    "mlflow",
];

/// The model in a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    /// Its container.
    pub container: Path,
    /// Where it listens.
    pub port: u16,
    /// Its port in the container's list, and that port's name.
    pub declared: Option<(usize, Option<String>)>,
}

/// Why a pod cannot be injected as it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unfit {
    /// Nothing says that it is a model: unless somebody asks for it, it is left alone.
    Unclear(Problem),
    /// Something is wrong.
    Wrong(Vec<Problem>),
}

/// A container and where it stands.
struct Container<'a> {
    path: Path,
    value: &'a Value,
}

impl Container<'_> {
    fn name(&self) -> &str {
        self.value.get("name").and_then(Value::as_str).unwrap_or("kserve-container")
    }

    /// Index, number and name of its TCP ports.
    fn ports(&self) -> impl Iterator<Item = (usize, u16, Option<&str>)> {
        let ports = self.value.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate();
        ports.filter_map(|(index, port)| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            let number = u16::try_from(port.get("containerPort")?.as_u64()?).ok()?;
            (protocol == "TCP").then(|| (index, number, port.get("name").and_then(Value::as_str)))
        })
    }
}

/// The model of the pod at `place`.
///
/// # Errors
/// What is unclear, or in the sidecar's way.
pub(super) fn model(document: &Value, place: &Place, settings: &Settings) -> Result<Model, Unfit> {
    let spec = place.spec.find(document).filter(|spec| spec.is_object());
    let spec = spec.ok_or_else(|| wrong(&place.spec, "has no pod", "give it spec and containers"))?;
    let containers = containers(spec, place)?;
    let found = choose(&containers, settings)?;
    let problems = hurdles(document, place, spec, &containers, (settings, found.port));
    if problems.is_empty() { Ok(found) } else { Err(Unfit::Wrong(problems)) }
}

fn wrong(path: &Path, message: &str, hint: &str) -> Unfit {
    Unfit::Wrong(vec![Problem::new(path.to_string(), message).with_hint(hint)])
}

fn containers<'a>(spec: &'a Value, place: &Place) -> Result<Vec<Container<'a>>, Unfit> {
    let at = place.spec.key("containers");
    let items = match spec.get("containers") {
        Some(Value::Array(items)) if !items.is_empty() => items,
        None | Some(Value::Null | Value::Array(_)) => {
            let framework = FRAMEWORKS.iter().find_map(|name| Some((*name, spec.get(name)?)));
            let (name, value) =
                framework.ok_or_else(|| wrong(&at, "there are no containers", "a pod needs one at least"))?;
            if place.kind == Kind::Knative {
                let hint =
                    "annotate serving.kserve.io/deploymentMode: RawDeployment, or write `containers` out";
                return Err(wrong(&place.spec.key(name), "its ports are the ServingRuntime's to say", hint));
            }
            return Ok(vec![Container { path: place.spec.key(name), value }]);
        }
        Some(_) => return Err(wrong(&at, "is no list", "it is a list of containers")),
    };
    let strange = items.iter().position(|item| !item.is_object());
    if let Some(index) = strange {
        return Err(wrong(&at.index(index), "is no container", "a container is a map with name and image"));
    }
    let of = |(index, value)| Container { path: at.index(index), value };
    Ok(items.iter().enumerate().map(of).collect())
}

/// Which container and port are the model's.
fn choose(containers: &[Container<'_>], settings: &Settings) -> Result<Model, Unfit> {
    let unclear = |message: String, hint: &str| Unfit::Unclear(Problem::new("", message).with_hint(hint));
    let named: Vec<&Container<'_>> = match &settings.container {
        Some(name) => containers.iter().filter(|one| one.name() == name).collect(),
        None => containers.iter().collect(),
    };
    if named.is_empty() {
        let known: Vec<&str> = containers.iter().map(Container::name).collect();
        let wanted = settings.container.clone().unwrap_or_default();
        let message = format!("no container is named {wanted}");
        return Err(unclear(message, &format!("its containers are {}", known.join(", "))));
    }
    let mut ports = Vec::new();
    for container in &named {
        ports.extend(container.ports().map(|port| (*container, port)));
    }
    let wanted = settings.port.as_deref();
    let fits = |(_, (_, number, name)): &(&Container<'_>, (usize, u16, Option<&str>))| match wanted {
        Some(wanted) => number.to_string() == wanted || *name == Some(wanted),
        None => name.is_some_and(speaks_grpc),
    };
    let mut fitting: Vec<_> = ports.iter().filter(|port| fits(port)).collect();
    if fitting.is_empty() && wanted.is_none() && ports.len() == 1 && settings.container.is_some() {
        // Somebody named the container, and it has no other port.
        fitting = ports.iter().collect();
    }
    match (fitting.as_slice(), wanted.map(|wanted| wanted.parse::<u16>())) {
        ([(container, (index, number, name))], _) => Ok(Model {
            container: container.path.clone(),
            port: *number,
            declared: Some((*index, name.map(str::to_owned))),
        }),
        ([], Some(Ok(port))) if port != 0 && named.len() == 1 && settings.certain => {
            Ok(Model { container: named[0].path.clone(), port, declared: None })
        }
        ([], Some(_)) => Err(unclear(
            format!("no container has the port {}", wanted.unwrap_or_default()),
            "declare it in `ports`, or name the container too (annotation parhelion/container)",
        )),
        ([], None) => Err(unclear(
            "no port is named grpc or h2c".to_owned(),
            "name the model's port so, or say which it is: annotation parhelion/port, or --port",
        )),
        (several, _) => {
            let several: Vec<String> = several
                .iter()
                .map(|(container, port)| format!("{} of {}", port.1, container.name()))
                .collect();
            Err(unclear(
                format!("several ports may be the model's: {}", several.join(", ")),
                "say which: annotation parhelion/port, and parhelion/container where two have it",
            ))
        }
    }
}

/// Whether a port of that name speaks gRPC by the customs of Kubernetes, Istio and Knative.
fn speaks_grpc(name: &str) -> bool {
    name.split('-').any(|word| word == "grpc" || word == "h2c")
}

/// What stands in the sidecar's way.
fn hurdles(
    document: &Value,
    place: &Place,
    spec: &Value,
    containers: &[Container<'_>],
    (settings, port): (&Settings, u16),
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |path: &Path, message: String, hint: &str| {
        problems.push(Problem::new(path.to_string(), message).with_hint(hint));
    };
    if spec.get("hostNetwork").is_some_and(is_true) {
        refuse(
            &place.spec.key("hostNetwork"),
            "the pod has the node's network, so its ports and redirects would be the node's".to_owned(),
            "give it a network of its own, or annotate parhelion/inject: \"false\"",
        );
    }
    let windows = |pointer| spec.pointer(pointer).and_then(Value::as_str) == Some("windows");
    if windows("/os/name") || windows("/nodeSelector/kubernetes.io~1os") {
        refuse(
            &place.spec,
            "the pod runs on Windows, and the sidecar is a program for Linux".to_owned(),
            "annotate parhelion/inject: \"false\"",
        );
    }
    let listen = settings.listen_port;
    if listen == settings.health_port {
        let hint = "give `listen` and `health` of its configuration two ports, and --listen-port and --health-port too";
        refuse(&place.spec, format!("port {listen} is the sidecar's for callers and for health"), hint);
    }
    if port == listen || port == settings.health_port {
        refuse(
            &place.spec,
            format!("port {port} is the model's and the sidecar's too"),
            "give the sidecar another: `listen` or `health` of its configuration, and --listen-port or --health-port",
        );
    }
    let init = spec.get("initContainers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let at = place.spec.key("initContainers");
    let all = init.iter().enumerate().map(|(index, value)| Container { path: at.index(index), value });
    let all: Vec<_> = all.collect();
    for container in containers.iter().chain(&all) {
        if [names::SIDECAR, names::INTERCEPT].contains(&container.name()) {
            let message =
                format!("a container is named {} already, and is not of our making", container.name());
            refuse(&container.path, message, "give it another name, or annotate parhelion/inject: \"false\"");
        }
        for (index, number, _) in container.ports() {
            let path = container.path.key("ports").index(index);
            if number != port && (number == listen || number == settings.health_port) {
                let message = format!("port {number} is of {} and of the sidecar", container.name());
                refuse(
                    &path,
                    message,
                    "give the sidecar another: `listen` or `health` of its configuration, and \
                     --listen-port or --health-port",
                );
            }
        }
    }
    let sharing: Vec<&Container<'_>> =
        containers.iter().filter(|one| one.ports().any(|(_, number, _)| number == port)).collect();
    if let [first, second, ..] = sharing.as_slice() {
        let message = format!("port {port} is declared by {} and by {}", first.name(), second.name());
        refuse(
            &second.path.key("ports"),
            message,
            "containers of a pod share its ports: give one of them another",
        );
    }
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (index, volume) in volumes {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        if [names::CONFIG, names::STATE].contains(&name) {
            let message = format!("a volume is named {name} already, and is not of our making");
            refuse(&place.spec.key("volumes").index(index), message, "give it another name");
        }
    }
    if place.kind == Kind::Job && settings.plain {
        refuse(
            &place.spec.key("containers"),
            "a plain container keeps a Job from ending".to_owned(),
            "leave --plain out: a native sidecar ends with the Job",
        );
    }
    debug_assert!(place.noted(document, "annotations", INJECTED).is_none(), "injected ones are undone first");
    problems
}

/// As Kubernetes reads it, with the old words of YAML.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true)
        || value.as_str().is_some_and(|text| matches!(text, "yes" | "on" | "Yes" | "On" | "y"))
}
