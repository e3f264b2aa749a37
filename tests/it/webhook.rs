//! `parhelion webhook` as an API server meets it: real sockets, real certificates, pods as they are sent, and everything
//! that is none.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::inject;
use crate::support::process::{LONG, beside, collect, get, program, run_to_end, until};
use crate::support::soon;
use crate::support::tls::{Authority, GOOD, caller, shake};

const WEB: &[&[u8]] = &[b"http/1.1"];

/// A webhook in a process of its own.
struct Webhook {
    child: Child,
    log: Arc<Mutex<String>>,
    authority: Authority,
    directory: tempfile::TempDir,
    listen: SocketAddr,
    health: SocketAddr,
}

impl Webhook {
    async fn start(options: &[&str]) -> Self {
        let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let (cert, key) = authority.sign("localhost", GOOD).write(directory.path(), "tls");
        let mut command = program();
        command.args(["webhook", "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0", "--cert"]);
        command.arg(cert).arg("--key").arg(key).args(options).env("RUST_LOG", "debug");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let ports = || {
            let log = log.lock().unwrap();
            let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let record = records.into_iter().find(|record| record["message"] == "serving")?;
            let port = |name: &str| record[name].as_str()?.parse().ok();
            Some((port("listen")?, port("health")?))
        };
        until("the webhook's ports", || async { ports().is_some() }).await;
        let (listen, health) = ports().unwrap();
        Webhook { child, log, authority, directory, listen, health }
    }

    /// Sends `body` and returns status and text, over HTTP/1.1.
    async fn post(&self, kind: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /inject HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes(), body).await
    }

    async fn send(&self, head: &[u8], body: &[u8]) -> (u16, String) {
        let mut socket = shake(self.listen, caller(&self.authority.pem, None, WEB)).await.unwrap();
        socket.write_all(head).await.unwrap();
        // Who is refused by its head may find the connection closed.
        let _ = socket.write_all(body).await;
        let mut answer = Vec::new();
        let _ = soon("the answer", socket.read_to_end(&mut answer)).await;
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, body.to_owned())
    }

    /// The response to a review of `pod`.
    async fn review(&self, pod: &Value) -> Value {
        let (status, body) = self.post("application/json", review(pod).to_string().as_bytes()).await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"], &answer["response"]["uid"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"), &json!("705ab4f5-6393"))
        );
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        answer["response"].clone()
    }

    async fn counted(&self, result: &str) -> u64 {
        let (_, page) = get(self.health, "/metrics").await;
        let line = format!("parhelion_webhook_reviews_total{{result=\"{result}\"}} ");
        page.lines()
            .find_map(|one| one.strip_prefix(&line))
            .unwrap_or_else(|| panic!("{page}"))
            .parse()
            .unwrap()
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the webhook's log:\n{}", self.log());
        }
    }
}

fn review(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// A pod as a ReplicaSet makes it and as the API server has filled it in.
fn pod(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "fraud-6d5f7-",
            "namespace": "shop",
            "labels": {"app": "fraud", "parhelion/variant": "v1", "pod-template-hash": "6d5f7"},
            "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "fraud-6d5f7", "uid": "1", "controller": true},
            ],
        },
        "spec": {
            "containers": [{
                "name": "model",
                "image": "registry.example.org/fraud:1.4.0",
                "ports": [{"name": "grpc", "containerPort": 8001, "protocol": "TCP"}],
                "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets", "readOnly": true}],
            }],
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
        },
    })
}

fn asking() -> Value {
    pod(&json!({"parhelion/inject": "true"}))
}

/// What an API server makes of a response's patch.
fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let mut pod = pod.clone();
    for operation in serde_json::from_slice::<Vec<Value>>(&patch).unwrap() {
        assert_eq!(operation["op"], "add", "nothing is taken away");
        let (parent, last) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        match pod.pointer_mut(parent).unwrap_or_else(|| panic!("{operation}")) {
            Value::Array(items) => items.insert(last.parse().unwrap(), operation["value"].clone()),
            map => map[last.replace("~1", "/")] = operation["value"].clone(),
        }
    }
    pod
}

fn warnings(response: &Value) -> String {
    let all = response["warnings"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_pod_that_asks_gets_a_sidecar_that_kubernetes_reads() {
    let webhook = Webhook::start(&["--image", "registry.example.org/parhelion:9", "--secret", "keys"]).await;
    let response = webhook.review(&asking()).await;
    let after = patched(&asking(), &response);
    inject::read::<Pod>(&after);
    let spec = &after["spec"];
    let names = |list: &str| -> Vec<String> {
        let all = spec[list].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("initContainers"), ["parhelion-intercept", "parhelion"]);
    assert_eq!(names("containers"), ["model"]);
    assert_eq!(names("volumes"), ["kube-api-access-x", "parhelion-config", "parhelion-state"]);
    let sidecar = &spec["initContainers"][1];
    assert_eq!(sidecar["image"], "registry.example.org/parhelion:9");
    assert!(sidecar["env"].to_string().contains("k8s.deployment.name=fraud\""), "{sidecar}");
    let stop = &spec["containers"][0]["lifecycle"]["preStop"]["httpGet"];
    assert_eq!(*stop, json!({"path": "/drained", "port": 9901}));
    assert_eq!(response["auditAnnotations"]["result"], "injected");
    assert_eq!(warnings(&response), "");

    // Twice is once, and who does not ask stays as it is.
    let again = webhook.review(&after).await;
    assert!(again["patch"].is_null() && again["warnings"].is_null(), "{again}");
    let untouched = webhook.review(&pod(&json!({}))).await;
    assert!(untouched["patch"].is_null() && untouched["warnings"].is_null(), "{untouched}");
    for result in ["injected", "already", "not_asked"] {
        assert_eq!(webhook.counted(result).await, 1, "{result}");
    }
    assert!(webhook.log().contains("\"pod\":\"fraud-6d5f7-\",\"result\":\"injected\""), "{}", webhook.log());
}

#[tokio::test]
async fn it_is_what_inject_makes_of_the_same_pod() {
    let webhook = Webhook::start(&[]).await;
    let mut asked = asking();
    asked["metadata"]["name"] = json!("fraud-1");
    let after = patched(&asked, &webhook.review(&asked).await);
    let file = webhook.directory.path().join("pod.json");
    std::fs::write(&file, asked.to_string()).unwrap();
    let output = run_to_end(&["inject", "--intercept", "transparent", "-f", file.to_str().unwrap()], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(inject::manifests(&text), [after]);
}

#[tokio::test]
async fn who_cannot_have_one_is_made_all_the_same_and_told_why() {
    let webhook = Webhook::start(&[]).await;
    let mut host = asking();
    host["spec"]["hostNetwork"] = json!(true);
    let mut two = asking();
    let other = json!({"name": "other", "image": "o", "ports": [{"name": "metrics", "containerPort": 8001}]});
    two["spec"]["containers"].as_array_mut().unwrap().push(other);
    two["metadata"]["annotations"]["parhelion/container"] = json!("model");
    let mut taken = asking();
    taken["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9901);
    let mut foreign = asking();
    foreign["spec"]["initContainers"] =
        json!([{"name": "parhelion", "image": "theirs", "restartPolicy": "Always"}]);
    let mut unclear = asking();
    unclear["spec"]["containers"][0]["ports"][0]["name"] = json!("http");
    let unknown = pod(&json!({"parhelion/inject": "true", "parhelion/injct": "x"}));
    for (pod, what, remedy) in [
        (host, "/spec/hostNetwork: the pod has the node's network", "a network of its own"),
        (two, "port 8001 is declared by model and by other", "another"),
        (taken, "port 9901 is the model's and the sidecar's too", "--health-port"),
        (foreign, "a container is named parhelion already", "another name"),
        (unclear, "no port is named grpc or h2c", "annotation parhelion/port"),
        (unknown, "annotation parhelion/injct: x is no annotation of Parhelion's", "did you mean inject?"),
        (pod(&json!({"parhelion/inject": "yes"})), "yes is neither true nor false", "\"true\" or \"false\""),
    ] {
        let response = webhook.review(&pod).await;
        let told = warnings(&response);
        assert!(told.contains(what) && told.contains(remedy), "{what}:\n{told}");
        assert!(told.starts_with("parhelion: this pod gets no sidecar"), "{told}");
        assert!(told.lines().all(|line| line.len() <= 256), "{told}");
        assert!(response["patch"].is_null());
    }
    assert_eq!(webhook.counted("refused").await, 7);
    let port = pod(&json!({"parhelion/inject": "true", "parhelion/intercept": "port"}));
    let response = webhook.review(&port).await;
    assert!(warnings(&response).contains("calls are redirected"), "{response}");
    assert!(response["patch"].is_string());
}

#[tokio::test]
async fn what_is_no_review_is_answered_clearly_and_counted() {
    let webhook = Webhook::start(&[]).await;
    let of_version = |version: &str| {
        let mut other = review(&asking());
        other["apiVersion"] = json!(version);
        other.to_string().into_bytes()
    };
    let mut large = asking();
    large["metadata"]["annotations"]["note"] = json!("x".repeat(4 << 20));
    let json = "application/json";
    for (kind, body, status, part, result) in [
        (json, of_version("admission.k8s.io/v1beta1"), 400, "admissionReviewVersions: [v1]", "version"),
        (
            json,
            of_version("admission.k8s.io/v2"),
            400,
            "\"admission.k8s.io/v2\" is not understood",
            "version",
        ),
        (json, b"{\"kind\": \"AdmissionReview\", ".to_vec(), 400, "the body is no JSON", "unreadable"),
        (json, Vec::new(), 400, "the body is no JSON", "unreadable"),
        (json, b"\xff\xfe".to_vec(), 400, "the body is no JSON", "unreadable"),
        (json, "[".repeat(1 << 20).into_bytes(), 400, "the body is no JSON", "unreadable"),
        (json, asking().to_string().into_bytes(), 400, "kind \"Pod\" is no AdmissionReview", "unreadable"),
        (json, review(&large).to_string().into_bytes(), 413, "more than 4194304 bytes", "too_large"),
        ("text/plain", of_version("admission.k8s.io/v1"), 415, "not application/json", "unreadable"),
    ] {
        let before = webhook.counted(result).await;
        let (found, text) = webhook.post(kind, &body).await;
        assert!(found == status && text.contains(part), "{part}: {found} {text}");
        assert_eq!(webhook.counted(result).await, before + 1, "{part}");
    }
    // One that does not say how large it is.
    let head = b"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 0x10_0000], b"\r\n"].concat();
    let (status, text) = webhook.send(head, &[chunk.repeat(5), b"0\r\n\r\n".to_vec()].concat()).await;
    assert!(status == 413 && text.contains("more than"), "{status} {text}");
    // Something else than a pod that is made is let through, and said.
    let mut update = review(&asking());
    update["request"]["operation"] = json!("UPDATE");
    let (status, body) = webhook.post(json, update.to_string().as_bytes()).await;
    assert!(status == 200 && body.contains("CREATE of pods") && body.contains("\"allowed\":true"), "{body}");
    let (status, text) =
        webhook.send(b"GET /inject HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await;
    assert_eq!(status, 405, "{text}");
    let (status, text) = webhook.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await;
    assert!(status == 404 && text.contains("POST /inject"), "{text}");
    // After all that it works as before.
    assert!(webhook.review(&asking()).await["patch"].is_string());
}

#[tokio::test]
async fn many_reviews_go_over_one_http2_connection_as_an_api_server_sends_them() {
    let webhook = Webhook::start(&[]).await;
    let socket = shake(webhook.listen, caller(&webhook.authority.pem, None, &[b"h2"])).await.unwrap();
    let (client, connection) = soon("the handshake", h2::client::handshake(socket)).await.unwrap();
    beside(async move {
        let _ = connection.await;
    });
    let mut client = client.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..40 {
        let request = Request::post("https://localhost/inject").header("content-type", "application/json");
        client = client.ready().await.unwrap();
        let (answer, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
        send.send_data(Bytes::from(review(&asking()).to_string()), true).unwrap();
        answers.push(answer);
    }
    for answer in answers {
        let mut body = soon("an answer", answer).await.unwrap().into_body();
        let mut text = Vec::new();
        while let Some(chunk) = soon("its body", body.data()).await {
            let chunk = chunk.unwrap();
            body.flow_control().release_capacity(chunk.len()).unwrap();
            text.extend(chunk);
        }
        let answer: Value = serde_json::from_slice(&text).unwrap();
        assert!(answer["response"]["patch"].is_string(), "{answer}");
    }
    assert_eq!(webhook.counted("injected").await, 40);
}

/// Renames a file into place, as those who write certificates do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn certificates_are_read_again_and_a_bad_one_changes_nothing() {
    let webhook = Webhook::start(&[]).await;
    let at = |name: &str| webhook.directory.path().join(name);
    let shown = || async {
        let socket = shake(webhook.listen, caller(&webhook.authority.pem, None, WEB)).await.unwrap();
        socket.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let metric = |line: &'static str| {
        let health = webhook.health;
        async move { get(health, "/metrics").await.1.lines().any(|one| one == line) }
    };
    let next = webhook.authority.sign("localhost", GOOD);
    replace(&at("tls.crt"), &next.cert);
    replace(&at("tls.key"), &next.key);
    until("the next certificate", || async { next.is(&shown().await) }).await;
    replace(&at("tls.crt"), &webhook.authority.sign("localhost", (-9, -2)).cert);
    until("the refusal", || metric("parhelion_certificates_current 0")).await;
    assert!(next.is(&shown().await), "the last good one goes on");
    assert!(webhook.review(&asking()).await["patch"].is_string());
}

#[tokio::test]
async fn at_its_end_it_is_not_ready_answers_what_still_comes_and_exits_well() {
    let mut webhook = Webhook::start(&["--lag", "2s"]).await;
    assert_eq!(get(webhook.health, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(webhook.health, "/healthz").await.0, 200);
    webhook.signal("TERM");
    until("not ready", || async { get(webhook.health, "/readyz").await.0 == 503 }).await;
    assert!(webhook.review(&asking()).await["patch"].is_string(), "the cluster has not heard yet");
    let begun = std::time::Instant::now();
    let status = loop {
        if let Some(status) = webhook.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < LONG, "it does not end");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(status.success(), "{status}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = authority.sign("localhost", GOOD).write(directory.path(), "good");
    let other = authority.sign("localhost", GOOD).write(directory.path(), "other");
    let expired = authority.sign("localhost", (-9, -2)).write(directory.path(), "expired");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key) = (path(&good.0), path(&good.1));
    let pair = ["--cert", cert.as_str(), "--key", key.as_str()];
    let ports = ["--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"];
    let missing = path(&directory.path().join("none"));
    let (other, old) = (path(&other.0), [path(&expired.0), path(&expired.1)]);
    for (options, parts) in [
        (vec!["--cert", &missing, "--key", &key], ["cannot be read", "mount it there"]),
        (vec!["--cert", &other, "--key", &key], ["is not the certificate of the key", "put both there"]),
        (vec!["--cert", &old[0], "--key", &old[1]], ["expired on", "newer one"]),
        (
            [&pair[..], &["--listen", &taken]].concat(),
            ["--listen: 127.0.0.1", "another process listens there"],
        ),
        ([&pair[..], &["--lag", "5"]].concat(), ["has no unit", "5s"]),
        ([&pair[..], &["--health-port", "9000"]].concat(), ["are both 9000", "two ports"]),
        ([&pair[..], &["--image", ""]].concat(), ["is no image", "write it as registry.example.org"]),
    ] {
        let all: Vec<&str> = match options.contains(&"--listen") {
            true => [&["webhook", "--health", "127.0.0.1:0"], &options[..]].concat(),
            false => [&["webhook"], &ports[..], &options[..]].concat(),
        };
        let output = run_to_end(&all, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
    }
}
