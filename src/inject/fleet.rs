//! The configuration that injected sidecars will have, where its ConfigMap is in the stream too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::place::Place;
use super::settings::{Settings, VARIANT};
use crate::config::{Config, Environment, Errors, Listen, Model, Problem, Strategy, read_all};

/// The ConfigMaps of a stream, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    maps: HashMap<(String, String), Texts>,
    /// What was read of them, by the variant at home too: thousands of pods may have the same one.
    read: RefCell<HashMap<Asked, Read>>,
}

/// Files and what they hold.
type Texts = Vec<(String, String)>;
/// Namespace and name of a ConfigMap, and the variant at home.
type Asked = (String, String, Option<String>);
type Read = Result<Arc<Config>, Vec<Problem>>;

/// What a configuration says that a pod must know.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its port for callers.
    pub listen: u16,
    /// Its health port.
    pub health: u16,
    /// Seconds that its sidecar's end may take.
    pub drain: u64,
    /// Worth knowing.
    pub warnings: Vec<Problem>,
}

impl Fleet {
    /// Takes `document` in if it is a ConfigMap.
    pub(super) fn take(&mut self, document: &Value) {
        if document.get("kind").and_then(Value::as_str) != Some("ConfigMap") {
            return;
        }
        let metadata = |key: &str| document.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
        let key = (metadata("namespace").unwrap_or_default(), metadata("name").unwrap_or_default());
        let data = document.get("data").and_then(Value::as_object);
        let texts = data.into_iter().flatten().filter_map(|(name, text)| {
            let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
            is_yaml.then(|| Some((name.clone(), text.as_str()?.to_owned())))?
        });
        self.maps.insert((key.0.to_owned(), key.1.to_owned()), texts.collect());
    }

    /// What the configuration of a pod says; `None` where it is not in the stream.
    ///
    /// # Errors
    /// What would keep the sidecar from starting, or calls from reaching it.
    pub(super) fn know(
        &self,
        document: &Value,
        place: &Place,
        settings: &Settings,
    ) -> Result<Option<Known>, Vec<Problem>> {
        let map = (place.namespace.clone(), settings.config_map.clone());
        let Some(texts) = self.maps.get(&map) else { return Ok(None) };
        let in_map = |problem: Problem| {
            let path = format!("ConfigMap/{}: {}", settings.config_map, problem.path);
            Problem { path: path.trim_end_matches([':', ' ']).to_owned(), ..problem }
        };
        let local = place.noted(document, "labels", VARIANT).map(str::to_owned);
        let mut read = self.read.borrow_mut();
        let read = read.entry((map.0, map.1, local)).or_insert_with_key(|(.., local)| {
            let environment = Environment { local: local.clone(), ..Environment::default() };
            let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            match read_all(texts, &environment) {
                Ok(loaded) => Ok(loaded.config),
                Err(Errors(problems)) => Err(problems.into_iter().map(in_map).collect()),
            }
        });
        let config = Arc::clone(read.as_ref().map_err(Clone::clone)?);
        let Listen::Tcp(listen) = config.listen else {
            let hint = "injected sidecars listen on a TCP port, such as 0.0.0.0:9000";
            let problem = Problem::new("listen", "is a unix socket, which no call from outside reaches");
            return Err(vec![in_map(problem.with_hint(hint))]);
        };
        let unreachable = [("listen", listen), ("health", config.health)]
            .into_iter()
            .filter(|(_, address)| address.ip().is_loopback());
        let unreachable: Vec<Problem> = unreachable
            .map(|(key, address)| {
                Problem::new(key, "is on loopback, where neither callers nor probes reach it")
                    .with_value(address.to_string())
                    .with_hint(format!("0.0.0.0:{}", address.port()))
            })
            .map(in_map)
            .collect();
        if !unreachable.is_empty() {
            return Err(unreachable);
        }
        let warnings = alone(&config, place).into_iter().map(in_map).collect();
        let drain = (config.drain.lag + config.drain.grace).as_secs_f64().ceil() as u64;
        Ok(Some(Known { listen: listen.port(), health: config.health.port(), drain, warnings }))
    }
}

/// Strategies that decide, in pods that do not share what they decide on.
fn alone(config: &Config, place: &Place) -> Vec<Problem> {
    let replicas = place.replicas.unwrap_or(1);
    let apart = |model: &Model| config.fleet.is_none() || matches!(model.strategy, Strategy::Rolling(_));
    let deciding = config.models.iter().filter(|model| model.strategy.decides() && apart(model));
    let warn = |model: &Arc<Model>| {
        Problem::new(
            format!("models.{}.strategy", model.name),
            format!("{replicas} replicas decide each for itself, on 1/{replicas} of the evidence"),
        )
        .with_hint("share what they decide on, by `state: redis://…`, or let one pod decide")
    };
    if replicas > 1 { deciding.map(warn).collect() } else { Vec::new() }
}
