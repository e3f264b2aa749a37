//! Which manifests hold a pod, and where in them it is.

use serde_json::Value;

use crate::yaml::Path;

/// A pod within a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Of the whole manifest.
    pub kind: Kind,
    /// `Deployment/fraud`, with its namespace if it names one: how messages call it.
    pub name: String,
    /// As the manifest says it; empty where it does not.
    pub namespace: String,
    /// The pod's specification: what has `containers`.
    pub spec: Path,
    /// What has the `metadata` that the pod gets.
    pub holder: Path,
    /// How many pods there will be, where the manifest says so.
    pub replicas: Option<u64>,
}

/// What a manifest is, as far as pods differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Pod`, and what makes pods that are to run on: `Deployment`, `StatefulSet`, `DaemonSet` and the older ones.
    Pod,
    /// `Job` and `CronJob`, whose pods end.
    Job,
    /// Of KServe, as Deployments.
    InferenceService,
    /// Of Knative, and of KServe on Knative: no init containers, one container has the ports.
    Knative,
}

/// KServe's annotation for how its pods are made, with the words for plain Deployments.
const DEPLOYMENT_MODE: &str = "serving.kserve.io/deploymentMode";
const KNATIVE_MODES: [&str; 2] = ["Serverless", "Knative"];

impl Place {
    /// The pod of a manifest; `None` for what has none or is not known.
    pub fn of(document: &Value) -> Option<Self> {
        let kind = document.get("kind")?.as_str()?;
        let (group, _) = document.get("apiVersion")?.as_str()?.rsplit_once('/').unwrap_or_default();
        let template = || (Path::of("/spec/template/spec"), Path::of("/spec/template"));
        let (is, (spec, holder)) = match (group, kind) {
            ("", "Pod") if owner(document, "Job").is_some() => {
                (Kind::Job, (Path::of("/spec"), Path::default()))
            }
            ("", "Pod") => (Kind::Pod, (Path::of("/spec"), Path::default())),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => (Kind::Pod, template()),
            ("", "ReplicationController") => (Kind::Pod, template()),
            ("batch", "Job") => (Kind::Job, template()),
            ("batch", "CronJob") => {
                let holder = Path::of("/spec/jobTemplate/spec/template");
                (Kind::Job, (holder.key("spec"), holder))
            }
            ("serving.kserve.io", "InferenceService") => {
                let is = if is_knative(document) { Kind::Knative } else { Kind::InferenceService };
                (is, (Path::of("/spec/predictor"), Path::default()))
            }
            ("serving.knative.dev", "Service") => (Kind::Knative, template()),
            _ => return None,
        };
        let metadata = |key: &str| document.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
        let namespace = metadata("namespace").unwrap_or_default().to_owned();
        let name = metadata("name").or(metadata("generateName")).unwrap_or("?");
        let name = match namespace.is_empty() {
            true => format!("{kind}/{name}"),
            false => format!("{kind}/{name} in {namespace}"),
        };
        let replicas = document.pointer("/spec/replicas").and_then(Value::as_u64);
        Some(Place { kind: is, name, namespace, spec, holder, replicas })
    }

    /// The pod's metadata, if it has some.
    pub fn metadata<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.holder.key("metadata").find(document)
    }

    /// The name of the Deployment that makes the pod, as far as the manifest says: of a pod its ReplicaSet's name does.
    pub fn deployment<'a>(&'a self, document: &'a Value) -> Option<&'a str> {
        let named = self.name.strip_prefix("Deployment/").and_then(|name| name.split(' ').next());
        let of_pod = || {
            let hash = self.noted(document, "labels", "pod-template-hash")?;
            owner(document, "ReplicaSet")?.strip_suffix(hash)?.strip_suffix('-')
        };
        named.or_else(of_pod)
    }

    /// An entry of the pod's annotations or labels.
    pub fn noted<'a>(&self, document: &'a Value, map: &str, key: &str) -> Option<&'a str> {
        self.metadata(document)?.get(map)?.get(key)?.as_str()
    }
}

/// The name of the owner of that kind, if the document has one.
fn owner<'a>(document: &'a Value, kind: &str) -> Option<&'a str> {
    let owners = document.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|one| one["kind"] == kind)?.get("name")?.as_str()
}

fn is_knative(document: &Value) -> bool {
    let annotations = document.pointer("/metadata/annotations");
    let mode = annotations.and_then(|all| all.get(DEPLOYMENT_MODE)).and_then(Value::as_str);
    mode.is_some_and(|mode| KNATIVE_MODES.contains(&mode))
}

/// Whether nothing says how KServe makes the pods of `document`, so that it is the cluster's to say.
pub(super) fn is_undecided(document: &Value) -> bool {
    let annotations = document.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(DEPLOYMENT_MODE)).is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_where_their_kind_has_them() {
        let place = |api: &str, kind: &str| {
            let document =
                json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x", "namespace": "n"}});
            Place::of(&document).map(|place| (place.kind, place.spec.to_string(), place.holder.to_string()))
        };
        let owned = |kind, spec: &str, holder: &str| Some((kind, spec.to_owned(), holder.to_owned()));
        assert_eq!(place("v1", "Pod"), owned(Kind::Pod, "/spec", ""));
        assert_eq!(place("apps/v1", "Deployment"), owned(Kind::Pod, "/spec/template/spec", "/spec/template"));
        let inner = "/spec/jobTemplate/spec/template";
        assert_eq!(place("batch/v1", "CronJob"), owned(Kind::Job, &format!("{inner}/spec"), inner));
        let kserve = place("serving.kserve.io/v1beta1", "InferenceService");
        assert_eq!(kserve, owned(Kind::InferenceService, "/spec/predictor", ""));
        let knative = place("serving.knative.dev/v1", "Service");
        assert_eq!(knative, owned(Kind::Knative, "/spec/template/spec", "/spec/template"));
        assert_eq!(place("v1", "Service"), None);
        assert_eq!(place("example.org/v1", "Deployment"), None);
    }

    #[test]
    fn a_pod_says_by_its_owner_what_made_it() {
        let pod = |kind: &str, name: &str| {
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": "fraud-6d5f7-",
                    "labels": {"pod-template-hash": "6d5f7"},
                    "ownerReferences": [{"kind": kind, "name": name}],
                },
            })
        };
        let document = pod("ReplicaSet", "fraud-6d5f7");
        let place = Place::of(&document).unwrap();
        assert_eq!((place.kind, place.deployment(&document)), (Kind::Pod, Some("fraud")));
        let document = pod("ReplicaSet", "by-hand");
        assert_eq!(Place::of(&document).unwrap().deployment(&document), None);
        assert_eq!(Place::of(&pod("Job", "nightly")).unwrap().kind, Kind::Job);
    }
}
