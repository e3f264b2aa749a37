//! `docker/kubernetes`: every object is what Kubernetes reads, what they say of each other agrees, and what they run is
//! there. Where `kubectl` is, kustomize makes the whole of it; elsewhere that one test says that it was skipped.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::{apps, core, networking, policy};
use serde_json::{Value, json};

use crate::inject::{folder, manifests, read};
use crate::support::process::run_to_end;

const BASE: &str = "docker/kubernetes/webhook/base";

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of a file.
fn objects(file: &str) -> Vec<Value> {
    manifests(&text(&folder(file)))
}

/// What is custom, by the fields that their definitions have and that matter here.
fn custom(object: &Value) {
    let spec = &object["spec"];
    let wanted = |pointers: &[&str]| {
        for pointer in pointers {
            assert!(object.pointer(pointer).is_some(), "{pointer} is missing: {object:#}");
        }
    };
    match (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()) {
        ("monitoring.coreos.com/v1", "PodMonitor") => {
            wanted(&["/spec/selector"]);
            for endpoint in spec["podMetricsEndpoints"].as_array().unwrap() {
                assert!(endpoint["port"].is_string() && endpoint["path"] == "/metrics", "{endpoint}");
            }
        }
        ("cert-manager.io/v1", "Issuer") => {
            let known = spec["selfSigned"] == json!({}) || spec["ca"]["secretName"].is_string();
            assert!(known, "{object:#}");
        }
        ("cert-manager.io/v1", "Certificate") => {
            wanted(&[
                "/spec/secretName",
                "/spec/issuerRef/name",
                "/spec/duration",
                "/spec/privateKey/algorithm",
            ]);
        }
        other => panic!("what is {other:?}?"),
    }
}

fn known(object: &Value) {
    match object["kind"].as_str().unwrap() {
        "Namespace" => read::<core::v1::Namespace>(object),
        "ServiceAccount" => read::<core::v1::ServiceAccount>(object),
        "Service" => read::<core::v1::Service>(object),
        "Secret" => read::<core::v1::Secret>(object),
        "Deployment" => read::<apps::v1::Deployment>(object),
        "PodDisruptionBudget" => read::<policy::v1::PodDisruptionBudget>(object),
        "NetworkPolicy" => read::<networking::v1::NetworkPolicy>(object),
        "MutatingWebhookConfiguration" => read::<MutatingWebhookConfiguration>(object),
        _ => custom(object),
    }
}

/// Every object of a kustomization's folder, which names all files that are there.
fn all(of: &str) -> Vec<Value> {
    let kustomization = &objects(&format!("{of}/kustomization.yaml"))[0];
    let mut listed: Vec<String> = kustomization["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .filter(|one| !one.starts_with("../"))
        .collect();
    let mut there: Vec<String> = std::fs::read_dir(folder(of))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
        .collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there, "{of}");
    listed.iter().flat_map(|file| objects(&format!("{of}/{file}"))).collect()
}

#[test]
fn kubernetes_reads_every_object() {
    let mut kinds = Vec::new();
    for of in ["docker/kubernetes", BASE, "docker/kubernetes/webhook/cert-manager"] {
        for object in all(of) {
            known(&object);
            kinds.push(object["kind"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(all("docker/kubernetes/webhook/own-certificate"), Vec::<Value>::new());
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 10, "{kinds:?}");
}

/// The one object of a kind in the base.
fn one(kind: &str) -> Value {
    let mut found = all(BASE).into_iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    object
}

#[test]
fn what_they_say_of_each_other_agrees() {
    let (deployment, service, account) = (one("Deployment"), one("Service"), one("ServiceAccount"));
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(*labels, service["spec"]["selector"]);
    for selector in [
        &deployment["spec"]["selector"],
        &one("PodDisruptionBudget")["spec"]["selector"],
        &one("NetworkPolicy")["spec"]["podSelector"],
        &one("PodMonitor")["spec"]["selector"],
    ] {
        assert_eq!(selector["matchLabels"], *labels);
    }
    assert_eq!(pod["spec"]["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(account["automountServiceAccountToken"], false, "it asks the cluster for nothing");
    let container = &pod["spec"]["containers"][0];
    let ports: Vec<&Value> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    assert!(ports.contains(&&service["spec"]["ports"][0]["targetPort"]), "{ports:?}");
    assert!(ports.contains(&&one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"]), "{ports:?}");
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/etc/parhelion/tls", "where its certificate is by default");
    let secret = &pod["spec"]["volumes"][0]["secret"]["secretName"];
    let certificates = objects("docker/kubernetes/webhook/cert-manager/certificate.yaml");
    let certificate = certificates.iter().find(|one| one["spec"]["secretName"] == *secret).unwrap();
    let name = |key: &str| service["metadata"][key].as_str().unwrap();
    let host = format!("{}.{}.svc", name("name"), name("namespace"));
    assert_eq!(certificate["spec"]["dnsNames"], json!([host]));
    let issuers = certificates.iter().filter(|one| one["kind"] == "Issuer");
    let issuers: Vec<&Value> = issuers.map(|one| &one["metadata"]["name"]).collect();
    for one in certificates.iter().filter(|one| one["kind"] == "Certificate") {
        assert!(issuers.contains(&&one["spec"]["issuerRef"]["name"]), "{one:#}");
    }
    assert!(text(&folder("docker/kubernetes/webhook/own-certificate/make")).contains(&host));

    for webhook in one("MutatingWebhookConfiguration")["webhooks"].as_array().unwrap() {
        let asked = &webhook["clientConfig"]["service"];
        assert_eq!(
            (&asked["name"], &asked["namespace"], &asked["port"], &asked["path"]),
            (
                &json!(name("name")),
                &json!(name("namespace")),
                &service["spec"]["ports"][0]["port"],
                &json!("/inject")
            )
        );
        assert_eq!(
            (&webhook["failurePolicy"], &webhook["sideEffects"], &webhook["admissionReviewVersions"]),
            (&json!("Ignore"), &json!("None"), &json!(["v1"]))
        );
        assert_eq!(webhook["rules"][0]["resources"], json!(["pods"]));
        let namespaces = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(
            (&namespaces["key"], &namespaces["operator"]),
            (&json!("kubernetes.io/metadata.name"), &json!("NotIn"))
        );
        let left_out = namespaces["values"].as_array().unwrap();
        assert!(left_out.contains(&json!("kube-system")) && left_out.contains(&json!(name("namespace"))));
    }
}

#[test]
fn the_options_and_the_image_are_those_of_this_program() {
    let deployment = one("Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let image = concat!("parhelion:", env!("CARGO_PKG_VERSION"));
    assert_eq!((&container["image"], &container["env"][0]["value"]), (&json!(image), &json!(image)));
    for leaf in ["cert-manager", "own-certificate"] {
        let kustomization = &objects(&format!("docker/kubernetes/webhook/{leaf}/kustomization.yaml"))[0];
        assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
    }
    let help = run_to_end(&["webhook", "--help"], &[]);
    let help = String::from_utf8(help.stdout).unwrap();
    let arguments = container["args"].as_array().unwrap();
    assert_eq!(arguments[0], "webhook");
    for option in arguments[1..].iter().map(|one| one.as_str().unwrap()) {
        assert!(help.contains(option.split('=').next().unwrap()), "{option}\n{help}");
    }
    let security = &container["securityContext"];
    assert_eq!(
        (
            &security["readOnlyRootFilesystem"],
            &security["allowPrivilegeEscalation"],
            &security["capabilities"]
        ),
        (&json!(true), &json!(false), &json!({"drop": ["ALL"]}))
    );
}

/// `kubectl kustomize` of a folder; none where there is no `kubectl`.
fn kustomized(of: &Path) -> Option<Vec<Value>> {
    let output = match Command::new("kubectl").arg("kustomize").arg(of).output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("skipped: there is no kubectl");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(manifests(&String::from_utf8(output.stdout).unwrap()))
}

#[test]
fn kustomize_makes_the_whole_of_it() {
    let Some(pods) = kustomized(&folder("docker/kubernetes")) else { return };
    pods.iter().for_each(known);
    let managed = kustomized(&folder("docker/kubernetes/webhook/cert-manager")).unwrap();
    managed.iter().for_each(known);
    assert_eq!(managed.len(), 12);
    let webhook = managed.iter().find(|one| one["kind"] == "MutatingWebhookConfiguration").unwrap();
    assert_eq!(
        webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        "parhelion/parhelion-webhook"
    );

    // With a certificate of one's own, in a copy: it is made there.
    let directory = tempfile::tempdir().unwrap();
    let copy = |output: std::io::Result<std::process::Output>| assert!(output.unwrap().status.success());
    copy(
        Command::new("cp").arg("-r").arg(folder("docker/kubernetes/webhook")).arg(directory.path()).output(),
    );
    let own = directory.path().join("webhook/own-certificate");
    for _ in 0..2 {
        copy(Command::new(own.join("make")).output());
    }
    let all = kustomized(&own).unwrap();
    let find = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap();
    let secret = find("Secret");
    assert_eq!(
        (&secret["metadata"]["name"], &secret["type"]),
        (&json!("parhelion-webhook-tls"), &json!("kubernetes.io/tls"))
    );
    for webhook in find("MutatingWebhookConfiguration")["webhooks"].as_array().unwrap() {
        assert_eq!(webhook["clientConfig"]["caBundle"], secret["data"]["ca.crt"]);
    }
    assert_eq!(
        text(&own.join("ca.crt")).matches("BEGIN CERTIFICATE").count(),
        2,
        "the one before is believed too"
    );
}
