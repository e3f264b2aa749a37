//! The containers and volumes that a pod gets, as values.

use serde_json::{Map, Value, json};

use super::place::Kind;
use super::pod::names;
use super::settings::{Settings, VARIANT};

/// Where configuration, keys and tokens are mounted.
const CONFIG_DIRECTORY: &str = "/etc/parhelion";
/// Where the state directory is mounted.
const STATE_DIRECTORY: &str = "/var/lib/parhelion";
/// The binary in the image.
const BINARY: &str = "/parhelion";
/// Seconds that the sidecar may take to start: it waits for nothing, so this is for slow disks.
const START: u64 = 30;
/// Annotations of a pod that become resource attributes, by OpenTelemetry's custom.
const RESOURCE: &str = "resource.opentelemetry.io/";

/// What the sidecar's container depends on besides the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// Whether it is native, plain or for Knative.
    pub kind: Kind,
    /// Where the model listens.
    pub model_port: u16,
    /// The name that its port has.
    pub port_name: &'a str,
    /// The pod's metadata, for what it says of its resource.
    pub metadata: Option<&'a Value>,
    /// The name of its Deployment, if that is what makes it.
    pub deployment: Option<&'a str>,
}

/// The sidecar's container.
pub(super) fn container(settings: &Settings, around: &Around<'_>) -> Value {
    let knative = around.kind == Kind::Knative;
    let mut container = json!({
        "name": names::SIDECAR,
        "image": settings.image,
        "args": ["run", "-c", CONFIG_DIRECTORY],
    });
    let mut put = |key: &str, value: Value| {
        container[key] = value;
    };
    if !knative && !settings.plain {
        put("restartPolicy", json!("Always"));
    }
    let mut ports = vec![json!({"name": around.port_name, "containerPort": settings.listen_port})];
    if !knative {
        ports.push(json!({"name": names::HEALTH_PORT, "containerPort": settings.health_port}));
    }
    put("ports", Value::Array(ports));
    put("env", Value::Array(environment(settings, around)));
    let probe = |path: &str, period: u64, failures: u64| {
        let get = json!({"path": path, "port": settings.health_port});
        json!({"httpGet": get, "periodSeconds": period, "failureThreshold": failures})
    };
    if !knative {
        put("startupProbe", probe("/livez", 1, START));
        put("livenessProbe", probe("/livez", 10, 3));
        put("lifecycle", json!({"preStop": {"exec": {"command": [BINARY, "drain"]}}}));
    }
    put("readinessProbe", probe("/readyz", 2, 2));
    put(
        "resources",
        json!({
            "requests": {"cpu": settings.cpu, "memory": settings.memory},
            "limits": {"memory": settings.memory},
        }),
    );
    put("securityContext", security(json!({"runAsUser": settings.uid, "runAsGroup": settings.uid}), &[]));
    let mut mounts = vec![json!({"name": names::CONFIG, "mountPath": CONFIG_DIRECTORY, "readOnly": true})];
    mounts.push(json!({"name": names::STATE, "mountPath": STATE_DIRECTORY}));
    put("volumeMounts", Value::Array(mounts));
    container
}

/// The init container that redirects the model's port to the sidecar's.
pub(super) fn intercept(settings: &Settings, model_port: u16) -> Value {
    let args = [
        "intercept".to_owned(),
        format!("--from={model_port}"),
        format!("--to={}", settings.listen_port),
        format!("--uid={}", settings.uid),
    ];
    json!({
        "name": names::INTERCEPT,
        "image": settings.image,
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        // The pod's network is changed, nothing else: that needs the one capability, which only root gets.
        "securityContext": security(json!({"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false}), &["NET_ADMIN"]),
    })
}

/// The volumes that the sidecar mounts.
pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let mut sources = vec![json!({"configMap": {"name": settings.config_map}})];
    if let Some(secret) = &settings.secret {
        sources.push(json!({"secret": {"name": secret}}));
    }
    let state = match &settings.state_claim {
        Some(claim) => json!({"name": names::STATE, "persistentVolumeClaim": {"claimName": claim}}),
        None => json!({"name": names::STATE, "emptyDir": {"sizeLimit": "256Mi"}}),
    };
    vec![json!({"name": names::CONFIG, "projected": {"sources": sources}}), state]
}

/// Nothing but what is asked for.
fn security(own: Value, capabilities: &[&str]) -> Value {
    let mut context = match own {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    context.entry("runAsNonRoot").or_insert(json!(true));
    context.insert("allowPrivilegeEscalation".to_owned(), json!(false));
    context.insert("readOnlyRootFilesystem".to_owned(), json!(true));
    let mut all = json!({"drop": ["ALL"]});
    if !capabilities.is_empty() {
        all["add"] = json!(capabilities);
    }
    context.insert("capabilities".to_owned(), all);
    context.insert("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}));
    Value::Object(context)
}

fn environment(settings: &Settings, around: &Around<'_>) -> Vec<Value> {
    let mut variables = Vec::new();
    let mut resource = vec![format!("k8s.container.name={}", names::SIDECAR)];
    // Knative hands the downward API on only where its administrator allows it.
    if around.kind != Kind::Knative {
        let label = format!("metadata.labels['{VARIANT}']");
        let fields = [
            (crate::config::LOCAL, label.as_str()),
            ("K8S_NAMESPACE", "metadata.namespace"),
            ("K8S_POD", "metadata.name"),
            ("K8S_POD_UID", "metadata.uid"),
            ("K8S_NODE", "spec.nodeName"),
        ];
        for (name, field) in fields {
            variables.push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}));
        }
        for (attribute, variable) in [
            ("k8s.namespace.name", "$(K8S_NAMESPACE)"),
            ("k8s.pod.name", "$(K8S_POD)"),
            ("k8s.pod.uid", "$(K8S_POD_UID)"),
            ("k8s.node.name", "$(K8S_NODE)"),
        ] {
            resource.push(format!("{attribute}={variable}"));
        }
        resource.push(format!("service.instance.id=$(K8S_NAMESPACE).$(K8S_POD).{}", names::SIDECAR));
    } else if let Some(variant) = around.metadata.and_then(|all| all.get("labels")?.get(VARIANT)?.as_str()) {
        variables.push(json!({"name": crate::config::LOCAL, "value": variant}));
    }
    if let Some(name) = around.deployment {
        resource.push(format!("k8s.deployment.name={name}"));
    }
    let annotations = around.metadata.and_then(|all| all.get("annotations")).and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        if let (Some(attribute), Some(text)) = (key.strip_prefix(RESOURCE), value.as_str()) {
            // As OpenTelemetry wants what separates pairs.
            let text = text.replace('%', "%25").replace(',', "%2C").replace('=', "%3D").replace(' ', "%20");
            resource.push(format!("{attribute}={text}"));
        }
    }
    let endpoint = format!("http://127.0.0.1:{}", around.model_port);
    variables.push(json!({"name": crate::config::LOCAL_ENDPOINT, "value": endpoint}));
    variables.push(json!({"name": "OTEL_RESOURCE_ATTRIBUTES", "value": resource.join(",")}));
    debug_assert!(settings.listen_port != around.model_port, "looked at before");
    variables
}
