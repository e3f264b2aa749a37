//! What cannot work is refused at the start: exit code 2, a message with place and remedy, and no port was open.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{self, LONG, Model, PORTS, Sidecar, infer, one, program, run_to_end};

const MODEL: &str = "models: {m: {variants: {v1: {endpoint: 'http://127.0.0.1:9'}}}}\n";

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `run` on a file and knocks at its ports all the while; returns what it wrote once it refused.
fn refused(config: &str, environment: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let ports = [free(), free(), free()];
    let text = format!("listen: {}\nhealth: {}\nadmin: {}\n{config}", ports[0], ports[1], ports[2]);
    let path = process::file(directory.path(), &text);
    let mut command = program();
    command.args(["run", "-c"]).arg(&path).envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        for port in ports {
            assert!(TcpStream::connect(port).is_err(), "{port} is open");
        }
        if start.elapsed() > LONG {
            child.kill().unwrap();
            panic!("it was not refused: {}", stderr(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    stderr(&output)
}

/// All parts are in the message, in that order.
fn says(message: &str, parts: &[&str]) {
    let mut rest = message;
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => panic!("{part:?} is missing in:\n{message}"),
        }
    }
}

#[test]
fn a_bad_file_is_refused_with_place_and_remedy() {
    let two = "variants: {v1: {endpoint: 'http://127.0.0.1:9'}, v2: {endpoint: 'http://127.0.0.1:9'}}";
    let ab = format!("models: {{m: {{{two}, strategy: {{kind: ab, weights: {{v1: 0%, v2: 0%}}}}}}}}\n");
    let unused = format!("models: {{m: {{{two}, strategy: {{kind: ab, weights: {{v1: 100%}}}}}}}}\n");
    let cases: &[(&str, &[&str])] = &[
        ("models: [", &["parhelion.yaml:4", "no valid YAML", "→"]),
        (
            &format!("{MODEL}lisen: x\n"),
            &["lisen", "parhelion.yaml:5", "not a known key", "did you mean listen?"],
        ),
        (&ab, &["models.m.strategy.weights", "parhelion.yaml:4", "sums to nothing", "must sum to 100%"]),
        (&unused, &["models.m.variants.v2", "parhelion.yaml:4", "never uses", "remove it"]),
        ("workers: 1\n", &["models", "→"]),
        (&format!("{MODEL}limits: {{stall: 30}}\n"), &["limits.stall", ":5", "has no unit", "30s"]),
        (
            &format!("{MODEL}telemetry: {{otlp: 'ftp://c:4317'}}\n"),
            &["telemetry.otlp", ":5", "is no http://", "http://c:4317"],
        ),
    ];
    for (config, parts) in cases {
        says(&refused(config, &[]), parts);
    }
}

#[test]
fn what_the_file_names_must_be_usable() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().display().to_string();
    std::fs::write(directory.path().join("file"), "").unwrap();
    std::fs::write(directory.path().join("garbled"), "# ours\nno key at all\n").unwrap();
    std::fs::write(directory.path().join("empty"), "# nothing\n").unwrap();
    let cases: &[(&str, &[&str])] = &[
        (&format!("keys: {here}/none\n"), &["keys", "/none", "cannot be read", "→"]),
        (&format!("keys: {here}\n"), &["keys", "is a directory", "→"]),
        (&format!("keys: {here}/garbled\n"), &["/garbled:2", "a line is `ID HEX64`", "openssl rand"]),
        (&format!("keys: {here}/empty\n"), &["/empty", "holds no key", "openssl rand"]),
    ];
    for (config, parts) in cases {
        says(&refused(&format!("{MODEL}{config}"), &[]), parts);
    }
    // The sidecar would serve all the same, so it is `check` that refuses these. Nobody may write to /proc, not even root.
    let cases: &[(&str, &[&str])] = &[
        ("state: /proc\n", &["state", "/proc", "cannot be written", "→"]),
        (&format!("state: {here}/file/below\n"), &["state", "cannot be a directory", "→"]),
    ];
    for (config, parts) in cases {
        let path = process::file(directory.path(), &format!("{MODEL}{config}"));
        let output = run_to_end(&["check", &path.display().to_string()], &[]);
        assert_eq!(output.status.code(), Some(2));
        says(&stderr(&output), parts);
    }
    assert!(!directory.path().join("below").exists());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken_at = taken.local_addr().unwrap();
    for key in ["listen", "health", "admin"] {
        let directory = tempfile::tempdir().unwrap();
        let ports = ["listen", "health", "admin"].map(|each| {
            let address = if each == key { taken_at } else { free() };
            format!("{each}: {address}\n")
        });
        let path = process::file(directory.path(), &format!("{}{MODEL}", ports.concat()));
        let output = run_to_end(&["run", "-c", &path.display().to_string()], &[]);
        assert_eq!(output.status.code(), Some(2));
        let place = format!("{key}: {taken_at}");
        says(&stderr(&output), &[&place, "in use", "another process listens there"]);
    }
}

#[test]
fn a_server_that_speaks_http1_is_told_apart() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let message = refused(&one(address), &[]);
    says(&message, &["models.m.variants.v1", &address.to_string(), "HTTP/1.1", "gRPC port"]);
}

#[test]
fn variables_that_cannot_be_heeded_are_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
            &["OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "4317"],
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "ftp://c:4317",
            &["OTEL_EXPORTER_OTLP_ENDPOINT=ftp://c:4317", "https://"],
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "no host",
            &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://no host"],
        ),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/a.key", &["OTEL_EXPORTER_OTLP_CLIENT_KEY=/a.key", "together"]),
        ("PARHELION_LOCAL", "v9", &["PARHELION_LOCAL", "v9", "v1"]),
    ];
    for (name, value, parts) in cases {
        says(&refused(MODEL, &[(name, value)]), parts);
    }
}

#[tokio::test]
async fn variables_that_make_no_sense_are_warned_of() {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::start_with(
        &one(model.address),
        &[("OTEL_TRACES_SAMPLER_ARG", "2"), ("OTEL_TRACES_SAMPLER", "odd")],
        None,
    )
    .await;
    sidecar.become_ready().await;
    assert!(sidecar.log().contains("OTEL_TRACES_SAMPLER=odd is ignored"), "{}", sidecar.log());
}

#[test]
fn check_tells_everything_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = process::file(
        directory.path(),
        &format!("{PORTS}{MODEL}lisen: x\nlimits: {{stall: 30, message: 1XB}}\ndrain: {{grace: -1s}}\n"),
    );
    let path = path.display().to_string();
    let output = run_to_end(&["check", &path], &[]);
    assert_eq!(output.status.code(), Some(2));
    says(&stderr(&output), &["lisen", "limits.message", "limits.stall", "drain.grace", "4 problems"]);

    let output = run_to_end(&["check", "--json", &path], &[]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    let paths: Vec<&str> = problems.iter().map(|problem| problem["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["lisen", "limits.message", "limits.stall", "drain.grace"]);
    for problem in problems {
        let place = problem["place"].as_str().unwrap();
        assert!(place.contains("parhelion.yaml:"), "{problem}");
        assert!(!problem["hint"].as_str().unwrap().is_empty(), "{problem}");
    }
}

#[test]
fn check_says_when_all_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = process::file(directory.path(), &format!("{PORTS}{MODEL}")).display().to_string();
    let output = run_to_end(&["check", &path], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("ok: 1 model, 1 variant (revision "), "{text}");

    let json = run_to_end(&["check", "--json", &path], &[]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["ok"], report["problems"].as_array().unwrap().len()), (&true.into(), 0));
    let revision = report["revision"].as_str().unwrap();
    assert!(text.contains(revision), "{text} {revision}");

    let effective = run_to_end(&["check", "--effective", &path], &[]);
    let config: serde_json::Value = serde_json::from_slice(&effective.stdout).unwrap();
    assert_eq!(config["drain"]["grace"], "25s");
    // What is printed is what a file may say.
    let again = process::file(directory.path(), &config.to_string()).display().to_string();
    let output = run_to_end(&["check", &again], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_schema_knows_every_key_of_the_effective_configuration() {
    let output = run_to_end(&["schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = process::file(directory.path(), &format!("{PORTS}{MODEL}")).display().to_string();
    let effective = run_to_end(&["check", "--effective", &path], &[]);
    let config: serde_json::Value = serde_json::from_slice(&effective.stdout).unwrap();
    let known = schema["properties"].as_object().unwrap();
    for key in config.as_object().unwrap().keys() {
        assert!(known.contains_key(key), "{key} is not in the schema");
    }
}

#[test]
fn help_shows_examples() {
    for command in ["run", "check", "schema", "demo"] {
        let output = run_to_end(&[command, "--help"], &[]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Example"), "{command}: {text}");
        assert!(text.contains(&format!("  parhelion {command}")), "{command}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command}: {text}");
    }
    for (arguments, part) in
        [(&["rum"][..], "similar"), (&["run"], "--config"), (&["check"], "<PATH>"), (&["schema", "x"], "x")]
    {
        let output = run_to_end(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn the_variant_at_home_is_the_one_beside_the_sidecar() {
    let (first, second) = (Model::start("1.0.0"), Model::start("2.0.0"));
    let config = format!(
        "models:\n  m:\n    variants:\n      v1: {{endpoint: 'http://{}'}}\n      v2: {{endpoint: 'http://127.0.0.1:9'}}\n    \
         strategy: {{kind: ab, weights: {{v1: 0%, v2: 100%}}}}\n",
        first.address
    );
    let home = format!("http://{}", second.address);
    let set = [("PARHELION_LOCAL", "m/v2"), ("PARHELION_LOCAL_ENDPOINT", home.as_str())];
    let sidecar = Sidecar::start_with(&config, &set, None).await;
    sidecar.counts("parhelion_endpoint_ready", 2).await;
    let answer = infer(&sidecar.client(), "").await.unwrap();
    assert_eq!(answer.get_ref().model_version, "2.0.0");
    assert_eq!(answer.metadata().get("parhelion-variant").unwrap(), "v2");
}
