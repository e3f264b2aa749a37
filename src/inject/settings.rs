//! What an injected pod shall be like: options for all, and annotations of a pod for itself.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::value;
use crate::config::{Problem, suggestion};

/// Begins the annotations and labels that are ours.
pub(super) const PREFIX: &str = "parhelion/";
/// Annotation or label: whether this pod gets a sidecar, `true` or `false`.
pub(super) const INJECT: &str = "parhelion/inject";
/// Label: the variant whose container this pod has.
pub(super) const VARIANT: &str = "parhelion/variant";
/// Annotation that an injected manifest carries: what was there before.
pub const INJECTED: &str = "parhelion/injected";

/// The annotations that steer, without the prefix.
const ANNOTATIONS: [&str; 12] = [
    "inject",
    "injected",
    "image",
    "config-map",
    "secret",
    "container",
    "port",
    "intercept",
    "plain",
    "cpu",
    "memory",
    "state-claim",
];

/// How calls get from the model's port to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Intercept {
    /// By port where that cannot be bypassed, else transparent.
    Auto,
    /// The Service's port leads to the sidecar.
    Port,
    /// A redirect in the pod's own network.
    Transparent,
    /// Not at all: callers are told to use the sidecar's port.
    None,
}

/// How pods are injected.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Settings {
    /// The sidecar's image
    #[arg(long, value_parser = value::image, default_value = concat!("parhelion:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// ConfigMap with the configuration, in the pod's namespace
    #[arg(long, value_name = "NAME", value_parser = value::name, default_value = "parhelion")]
    pub config_map: String,
    /// Secret with keys and tokens, in the pod's namespace: its entries stand beside the configuration in /etc/parhelion
    #[arg(long, value_name = "NAME", value_parser = value::name)]
    pub secret: Option<String>,
    /// The model's container; left out: the only one, or the one with a gRPC port
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// The model's port, by number or name; left out: the one that is named grpc or h2c
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Whether the port is said of one pod, which need not declare it then
    #[arg(skip)]
    pub certain: bool,
    /// How calls get to the sidecar.
    #[arg(skip = Intercept::Auto)]
    pub intercept: Intercept,
    /// A container like any other instead of a native sidecar, for Kubernetes before 1.29
    #[arg(long)]
    pub plain: bool,
    /// `listen` of the configuration, where its ConfigMap is not in the stream
    #[arg(long, value_name = "PORT", default_value_t = 9000, value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: u16,
    /// `health` of the configuration, where its ConfigMap is not in the stream
    #[arg(long, value_name = "PORT", default_value_t = 9901, value_parser = clap::value_parser!(u16).range(1..))]
    pub health_port: u16,
    /// The user that the sidecar runs as, never root; its own calls to the model are not redirected
    #[arg(long, default_value_t = 65532, value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: u32,
    /// CPU that is requested
    #[arg(long, value_name = "QUANTITY", value_parser = value::cpu, default_value = "100m")]
    pub cpu: String,
    /// Memory that is requested and allowed
    #[arg(long, value_name = "QUANTITY", value_parser = value::memory, default_value = "256Mi")]
    pub memory: String,
    /// PersistentVolumeClaim for the state directory; left out: it lives as long as the pod
    #[arg(long, value_name = "NAME", value_parser = value::name)]
    pub state_claim: Option<String>,
}

/// What a pod says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// `parhelion/inject: "true"`.
    Yes,
    /// `parhelion/inject: "false"`.
    No,
    /// Nothing.
    Unsaid,
}

impl Settings {
    /// These settings with what the annotations of one pod say, and its wish.
    ///
    /// # Errors
    /// Annotations of ours that are not known or mean nothing.
    pub fn with(&self, metadata: Option<&Value>) -> Result<(Settings, Wish), Vec<Problem>> {
        let none = Map::new();
        let map =
            |key: &str| metadata.and_then(|all| all.get(key)).and_then(Value::as_object).unwrap_or(&none);
        let mut reader = Reader { settings: self.clone(), wish: Wish::Unsaid, problems: Vec::new() };
        if let Some(label) = map("labels").get(INJECT) {
            reader.take("inject", label);
        }
        for (key, value) in map("annotations") {
            if let Some(name) = key.strip_prefix(PREFIX) {
                reader.take(name, value);
            }
        }
        if reader.problems.is_empty() { Ok((reader.settings, reader.wish)) } else { Err(reader.problems) }
    }
}

struct Reader {
    settings: Settings,
    wish: Wish,
    problems: Vec<Problem>,
}

impl Reader {
    fn take(&mut self, name: &str, value: &Value) {
        let Some(text) = value.as_str() else {
            let written = value.to_string();
            self.refuse(
                name,
                &written,
                "is no text",
                format!("annotations are texts: quote it, \"{written}\""),
            );
            return;
        };
        match name {
            "inject" => {
                if let Some(wish) = self.boolean(name, text) {
                    self.wish = if wish { Wish::Yes } else { Wish::No };
                }
            }
            "injected" => {}
            "image" => {
                if let Some(image) = self.checked(name, text, value::image) {
                    self.settings.image = image;
                }
            }
            "config-map" => {
                if let Some(map) = self.checked(name, text, value::name) {
                    self.settings.config_map = map;
                }
            }
            "secret" => self.settings.secret = self.checked(name, text, value::name),
            "container" => self.settings.container = Some(text.to_owned()),
            "port" => {
                self.settings.port = Some(text.to_owned());
                self.settings.certain = true;
            }
            "cpu" => {
                if let Some(cpu) = self.checked(name, text, value::cpu) {
                    self.settings.cpu = cpu;
                }
            }
            "memory" => {
                if let Some(memory) = self.checked(name, text, value::memory) {
                    self.settings.memory = memory;
                }
            }
            "state-claim" => self.settings.state_claim = self.checked(name, text, value::name),
            "plain" => self.settings.plain = self.boolean(name, text).unwrap_or(self.settings.plain),
            "intercept" => match Intercept::from_str(text, false) {
                Ok(intercept) => self.settings.intercept = intercept,
                Err(_) => {
                    let hint = "it is auto, port, transparent or none".to_owned();
                    self.refuse(name, text, "is no way to intercept", hint);
                }
            },
            unknown => {
                let hint = suggestion(unknown, &ANNOTATIONS);
                self.refuse(unknown, text, "is no annotation of Parhelion's", hint);
            }
        }
    }

    /// What an annotation says, if it may.
    fn checked(
        &mut self,
        name: &str,
        text: &str,
        check: fn(&str) -> Result<String, String>,
    ) -> Option<String> {
        check(text)
            .map_err(|wrong| {
                let (message, hint) = wrong.split_once(": ").unwrap_or((&wrong, ""));
                self.refuse(name, text, message, hint.to_owned());
            })
            .ok()
    }

    fn boolean(&mut self, name: &str, text: &str) -> Option<bool> {
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(name, text, "is neither true nor false", "it is \"true\" or \"false\"".to_owned());
        }
        value
    }

    fn refuse(&mut self, name: &str, value: &str, message: &str, hint: String) {
        let path = format!("annotation {PREFIX}{name}");
        self.problems.push(Problem::new(path, message).with_value(value).with_hint(hint));
    }
}
