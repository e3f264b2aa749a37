//! Manifests as people have them go through `parhelion inject`: what comes out is what Kubernetes reads, everything that
//! was there is there, twice is once, and the way back leads to the very same text.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::{apps, batch, core};
use parhelion::yaml;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_parhelion");

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "txt"));
    files.sort();
    files
}

fn inject(text: &str, options: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["inject", "-f", "-"]).args(options);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    output
}

fn injected(text: &str, options: &[&str]) -> (String, String) {
    let output = inject(text, options);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}\n{text}");
    (String::from_utf8(output.stdout).unwrap(), notes)
}

/// What the first line asks for: `# options: …`.
fn options(text: &str) -> Vec<&str> {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("# options: ").map(|options| options.split(' ').collect()).unwrap_or_default()
}

/// All manifests of a stream, those in lists too.
pub(crate) fn manifests(text: &str) -> Vec<Value> {
    let documents = yaml::parse(text).unwrap_or_else(|broken| panic!("{broken:?}\n{text}"));
    let values = documents.iter().map(|document| document.root.value().unwrap());
    values.flat_map(|value| value["items"].as_array().cloned().unwrap_or_else(|| vec![value])).collect()
}

/// `value` as Kubernetes reads it: a field that it does not know or that has another type there fails.
pub(crate) fn read<T: DeserializeOwned + Serialize>(value: &Value) {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}\n{value:#}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *value, "a field that Kubernetes does not know");
}

fn known_to_kubernetes(manifest: &Value) {
    match (manifest["apiVersion"].as_str(), manifest["kind"].as_str()) {
        (Some("v1"), Some("Pod")) => read::<core::v1::Pod>(manifest),
        (Some("v1"), Some("Service")) => read::<core::v1::Service>(manifest),
        (Some("apps/v1"), Some("Deployment")) => read::<apps::v1::Deployment>(manifest),
        (Some("apps/v1"), Some("StatefulSet")) => read::<apps::v1::StatefulSet>(manifest),
        (Some("apps/v1"), Some("DaemonSet")) => read::<apps::v1::DaemonSet>(manifest),
        (Some("batch/v1"), Some("Job")) => read::<batch::v1::Job>(manifest),
        (Some("batch/v1"), Some("CronJob")) => read::<batch::v1::CronJob>(manifest),
        (Some("serving.knative.dev/v1"), _) => {
            read::<core::v1::PodSpec>(&manifest["spec"]["template"]["spec"]);
        }
        (Some("serving.kserve.io/v1beta1"), _) => {
            let mut pod = manifest["spec"]["predictor"].clone();
            let map = pod.as_object_mut().unwrap();
            map.remove("minReplicas");
            if let Some(mut model) = map.remove("model") {
                let fields = model.as_object_mut().unwrap();
                fields.retain(|key, _| {
                    !["modelFormat", "protocolVersion", "storageUri"].contains(&key.as_str())
                });
                fields.insert("name".to_owned(), json!("kserve-container"));
                map.insert("containers".to_owned(), json!([model]));
            }
            read::<core::v1::PodSpec>(&pod);
        }
        _ => {}
    }
}

/// Whether all of `before` is in `after` still, but for the few values that an injection changes.
fn kept(path: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let moved = after.get(key).is_none() && key == "ports";
                if !moved {
                    kept(&format!("{path}/{key}"), value, &after[key]);
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let ours = |item: &&Value| {
                item["name"].as_str().is_some_and(|name| name.starts_with("parhelion"))
                    && item["containerPort"].is_null()
            };
            let theirs: Vec<&Value> = after.iter().filter(|item| !ours(item)).collect();
            assert_eq!(before.len(), theirs.len(), "{path}");
            for (index, (before, after)) in before.iter().zip(theirs).enumerate() {
                kept(&format!("{path}/{index}"), before, after);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            let known =
                after == "parhelion-model" || path.ends_with("/targetPort") || path.contains("Probe/");
            assert!(known, "{path}: {before} became {after}");
        }
    }
}

#[test]
fn all_that_was_there_stays_and_kubernetes_reads_the_rest() {
    let all = [files("tests/manifests/valid"), files("examples/kubernetes")].concat();
    assert_eq!(all.len(), 12, "a manifest more or less: {all:?}");
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let (after, notes) = injected(&text, &options(&text));
        let (before, manifests) = (manifests(&text), manifests(&after));
        for (before, after) in before.iter().zip(&manifests) {
            kept(&file.display().to_string(), before, after);
            known_to_kubernetes(after);
        }
        let comments =
            |text: &str| text.lines().filter(|line| line.contains(" # ") || line.starts_with('#')).count();
        assert_eq!(comments(&text), comments(&after), "comments of {}", file.display());
        assert_eq!(injected(&after, &options(&text)).0, after, "twice is once: {}", file.display());

        let (back, _) = injected(&after, &["--uninject"]);
        let by_value = file.ends_with("knative.yaml");
        let same = if by_value { self::manifests(&back) == before } else { back == text };
        assert!(same, "the way back of {}:\n{back}", file.display());
        let expects = file.ends_with("unknown-kinds.yaml");
        assert_eq!(notes.contains(": injected"), !expects, "{notes}");
        assert_eq!(text == after, expects);
    }
}

#[test]
fn what_is_wrong_is_told_where_it_is_and_nothing_is_written() {
    let all = files("tests/manifests/refused");
    assert_eq!(all.len(), 16, "a manifest more or less: {all:?}");
    for file in all {
        let output = inject(&std::fs::read_to_string(&file).unwrap(), &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        let expected = std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        assert_eq!(told, expected, "{}", file.display());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    }
}

#[test]
fn calls_are_caught_by_port_only_where_nothing_goes_around_it() {
    let how = |name: &str| {
        let text = std::fs::read_to_string(folder("tests/manifests/valid").join(name)).unwrap();
        injected(&text, &options(&text))
    };
    let (text, notes) = how("named-port.yaml");
    assert!(notes.contains("by port"), "{notes}");
    let all = manifests(&text);
    let container = &all[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["ports"][1]["name"], "parhelion-model");
    assert_eq!(container["livenessProbe"]["tcpSocket"]["port"], 8001);
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], "metrics");
    let sidecar = &all[0]["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(sidecar["ports"][0], json!({"name": "grpc", "containerPort": 9000}));
    assert_eq!(all[1]["spec"]["ports"][0]["targetPort"], "grpc");
    assert_eq!(
        (&all[2]["spec"]["ports"][0]["targetPort"], &all[2]["spec"]["ports"][1]["targetPort"]),
        (&json!("grpc"), &json!("grpc"))
    );

    for transparent in
        ["statefulset-headless.yaml", "shared-service.yaml", "pod.json", "configured-ports.yaml"]
    {
        let (text, notes) = how(transparent);
        assert!(notes.contains("transparently"), "{notes}");
        assert!(text.contains("parhelion-intercept"));
    }
    let (text, notes) = how("configured-ports.yaml");
    assert!(
        text.contains("--to=9090") && text.contains("terminationGracePeriodSeconds: 60"),
        "{notes}{text}"
    );
}

#[test]
fn a_native_sidecar_starts_before_everything_else_of_the_pod() {
    let text = std::fs::read_to_string(folder("tests/manifests/valid/statefulset-headless.yaml")).unwrap();
    let pod = &manifests(&injected(&text, &options(&text)).0)[1]["spec"]["template"]["spec"];
    let names: Vec<_> = pod["initContainers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["parhelion-intercept", "parhelion", "fetch"]);
    let sidecar = &pod["initContainers"][1];
    assert_eq!(
        (&sidecar["restartPolicy"], &sidecar["image"]),
        (&json!("Always"), &json!("registry.example.org/parhelion:9"))
    );
    let sources = &pod["volumes"][1]["projected"]["sources"];
    assert_eq!(
        *sources,
        json!([{"configMap": {"name": "parhelion"}}, {"secret": {"name": "parhelion-keys"}}])
    );
    let attributes = sidecar["env"].as_array().unwrap().last().unwrap()["value"].as_str().unwrap();
    assert!(attributes.ends_with("team=a%2C%20b%3Dc"), "{attributes}");
    let lifecycle = &pod["containers"][0]["lifecycle"];
    assert_eq!(lifecycle["preStop"]["httpGet"], json!({"path": "/drained", "port": 9901}));
    assert!(lifecycle["postStart"].is_object());
}

#[test]
fn a_port_that_is_named_is_that_of_the_only_workload_though_nobody_declares_it() {
    let one = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n  name: a\n  annotations: \
               {serving.kserve.io/deploymentMode: RawDeployment}\nspec:\n  predictor:\n    model:\n      \
               modelFormat: {name: sklearn}\n";
    let (text, notes) = injected(one, &["--port", "8081"]);
    assert!(notes.contains("InferenceService/a: injected, transparently"), "{notes}");
    assert!(text.contains("--from=8081"), "{text}");
    let two = format!("{one}---\n{}", one.replace("name: a", "name: b"));
    let (text, notes) = injected(&two, &["--port", "8081"]);
    assert_eq!(text, two);
    assert_eq!(notes.matches("left alone: no container has the port 8081").count(), 2, "{notes}");
}

#[test]
fn options_that_no_cluster_takes_are_refused() {
    let text = std::fs::read_to_string(folder("examples/kubernetes/deployment.yaml")).unwrap();
    for (option, value, part) in [
        ("--image", "", "is no image: write it as"),
        ("--config-map", "A B", "is no name of an object"),
        ("--secret", "", "is no name of an object"),
        ("--state-claim", "a_b", "is no name of an object"),
        ("--cpu", "x", "is no amount of CPU: write it as 100m or 0.5"),
        ("--memory", "256m", "write 256Mi"),
        ("--uid", "0", "0 is not in 1.."),
        ("--listen-port", "0", "0 is not in 1.."),
        ("--health-port", "70000", "70000 is not in 1..=65535"),
    ] {
        let output = inject(&text, &[option, value]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(option) && told.contains(part), "{told}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{told}");
    }
}

#[test]
fn a_stream_in_which_nothing_was_injected_is_given_back_as_it_is_and_told_so() {
    let text = std::fs::read_to_string(folder("examples/kubernetes/deployment.yaml")).unwrap();
    let (out, notes) = injected(&text, &["--uninject"]);
    assert_eq!(out, text);
    assert_eq!(notes, "warning: standard input: nothing in it was injected, so it is as it was\n");
}

#[test]
fn what_is_worth_knowing_is_said() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: parhelion}\ndata:\n  a.yaml: |\n    models:\n      \
         m:\n        variants:\n          v1: {endpoint: 'http://127.0.0.1:8001', version: '1'}\n          v2: \
         {endpoint: 'http://v2:9000', version: '2'}\n        unit: [metadata:u]\n        strategy: {kind: canary, baseline: v1, \
         candidate: v2, steps: [{share: 10%}], guards: {errors: {absolute: 1%}}}\n---\napiVersion: apps/v1\nkind: \
         Deployment\nmetadata: {name: m}\nspec:\n  replicas: 3\n  template:\n    metadata: {labels: {app: m}}\n    \
         spec:\n      terminationGracePeriodSeconds: 10\n      containers:\n      - name: model\n        ports: [{name: grpc, \
         containerPort: 8001}]\n        livenessProbe: {tcpSocket: {port: 8001}}\n        lifecycle: {preStop: {sleep: {seconds: 5}}}\n";
    let (after, notes) = injected(text, &[]);
    for part in [
        "ConfigMap/parhelion: models.m.strategy",
        "3 replicas decide each for itself",
        "10: is shorter than drain.lag and drain.grace",
        "the model has a preStop of its own, which stays",
        "with a redirect this connects to the sidecar",
    ] {
        assert!(notes.contains(part), "{part} is missing:\n{notes}");
    }
    assert!(after.contains("preStop: {sleep: {seconds: 5}}"));
}

#[test]
fn long_streams_are_quick() {
    let one = std::fs::read_to_string(folder("tests/manifests/valid/named-port.yaml")).unwrap();
    let text = (0..50).map(|n| one.replace("fraud", &format!("fraud-{n}"))).collect::<Vec<_>>().join("---\n");
    let (after, notes) = injected(&text, &[]);
    assert_eq!((notes.matches("by port").count(), manifests(&after).len()), (50, 150), "{notes}");
}

#[test]
fn a_stream_without_pods_passes_as_it_is_and_says_so() {
    let text = "# ours\nkind: Foo\napiVersion: example.org/v1\n";
    let (out, notes) = injected(text, &[]);
    assert_eq!(out, text);
    assert!(notes.contains("standard input: nothing in it has pods"), "{notes}");
}
