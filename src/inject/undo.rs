//! An injected manifest as it was before, by what its annotation says of that.

use serde_json::{Value, json};

use super::place::Place;
use super::plan::DRAINED;
use super::pod::names;
use super::settings::INJECTED;
use crate::yaml::{Change, Path};

/// What takes the sidecar out of `document`; nothing where there is none of ours.
pub(super) fn undo(document: &Value) -> Vec<Change> {
    let place = Place::of(document);
    let holder = place.as_ref().map(|place| place.holder.clone()).unwrap_or_default();
    let annotations = holder.key("metadata").key("annotations");
    let noted = annotations.key(INJECTED).find(document).and_then(Value::as_str);
    let Some(noted) = noted else { return Vec::new() };
    let was: Value = serde_json::from_str(noted).unwrap_or_default();
    let mut undoing = Undoing { document, was, changes: Vec::new() };
    match place {
        Some(place) => undoing.pod(&place.spec),
        None => undoing.service(),
    }
    undoing.emptied(&annotations, |key, _| key == INJECTED);
    undoing.changes
}

struct Undoing<'a> {
    document: &'a Value,
    was: Value,
    changes: Vec<Change>,
}

impl Undoing<'_> {
    fn service(&mut self) {
        let targets = self.was.get("targetPorts").and_then(Value::as_object).cloned().unwrap_or_default();
        for (index, target) in targets {
            let map = Path::of("/spec/ports").index(index.parse().unwrap_or(usize::MAX));
            if map.find(self.document).is_some() {
                self.put_back(&map, "targetPort", target);
            }
        }
    }

    fn pod(&mut self, spec: &Path) {
        let ours = |value: &Value, known: &[&str]| {
            value.get("name").and_then(Value::as_str).is_some_and(|name| known.contains(&name))
        };
        let containers = [names::SIDECAR, names::INTERCEPT];
        self.items(&spec.key("initContainers"), |item| ours(item, &containers));
        self.items(&spec.key("containers"), |item| ours(item, &containers));
        self.items(&spec.key("volumes"), |item| ours(item, &[names::CONFIG, names::STATE]));
        if self.was.get("grace").is_some() {
            self.changes.push(Change::Remove(spec.key("terminationGracePeriodSeconds")));
        }
        let count = spec.key("containers").find(self.document).and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..count {
            self.container(&spec.key("containers").index(index));
        }
        // The framework of an InferenceService, whichever it is.
        let keys = spec.find(self.document).and_then(Value::as_object);
        let maps: Vec<Path> = keys
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| value.get("lifecycle").map(|_| spec.key(key)))
            .collect();
        maps.iter().for_each(|map| self.container(map));
    }

    fn container(&mut self, container: &Path) {
        let of = |path: Path, document| path.find(document).cloned();
        let hook = of(container.key("lifecycle").key("preStop").key("httpGet").key("path"), self.document);
        if hook == Some(json!(DRAINED)) {
            self.emptied(&container.key("lifecycle"), |key, _| key == "preStop");
        }
        let is_sidecar = of(container.key("name"), self.document) == Some(json!(names::SIDECAR));
        if let Some(ports) = self.was.get("ports").filter(|_| !is_sidecar).cloned() {
            if container.key("ports").find(self.document).is_none() {
                self.put_back(container, "ports", ports);
            }
            return;
        }
        let ports = of(container.key("ports"), self.document);
        let moved = ports.as_ref().and_then(Value::as_array).into_iter().flatten();
        let moved = moved.enumerate().find(|(_, port)| port.get("name") == Some(&json!(names::MODEL_PORT)));
        let Some((index, _)) = moved else { return };
        let name = self.was.get("port").cloned().unwrap_or(Value::Null);
        self.put_back(&container.key("ports").index(index), "name", name.clone());
        let probes = self.was.get("probes").and_then(Value::as_array).cloned().unwrap_or_default();
        for probe in probes.iter().filter_map(Value::as_str) {
            let handler = probe.split('/').fold(container.clone(), |path, step| path.key(step));
            if handler.find(self.document).is_some() {
                self.put_back(&handler, "port", name.clone());
            }
        }
    }

    /// The value that was there, or none.
    fn put_back(&mut self, map: &Path, key: &str, value: Value) {
        self.changes.push(match value {
            Value::Null => Change::Remove(map.key(key)),
            value => Change::Put { map: map.clone(), key: key.to_owned(), value },
        });
    }

    /// Items that go; with the last one the list goes too.
    fn items(&mut self, list: &Path, goes: impl Fn(&Value) -> bool) {
        let items = list.find(self.document).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let gone: Vec<usize> = (0..items.len()).filter(|index| goes(&items[*index])).collect();
        if !gone.is_empty() && gone.len() == items.len() {
            self.changes.push(Change::Remove(list.clone()));
        } else {
            self.changes.extend(gone.into_iter().map(|index| Change::Remove(list.index(index))));
        }
    }

    /// Entries that go; with the last one the map goes too.
    fn emptied(&mut self, map: &Path, goes: impl Fn(&str, &Value) -> bool) {
        let Some(entries) = map.find(self.document).and_then(Value::as_object) else { return };
        let gone: Vec<&String> =
            entries.iter().filter(|(key, value)| goes(key, value)).map(|(key, _)| key).collect();
        if !gone.is_empty() && gone.len() == entries.len() {
            self.changes.push(Change::Remove(map.clone()));
        } else {
            self.changes.extend(gone.into_iter().map(|key| Change::Remove(map.key(key))));
        }
    }
}
