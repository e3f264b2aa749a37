//! The real program with TLS on its other ways: the admin port by certificate, `ctl`, the health port, the collector,
//! and a file that changes while it runs.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Files;
use crate::support::process::{Model, Sidecar, infer, one, program, run_to_end, until};
use crate::support::tls::{Authority, GOOD, Pair, caller, server, shake};

const READER: &str = "spiffe://shop.example/ns/ops/sa/dashboard";
const RELEASE: &str = "spiffe://shop.example/ns/ops/sa/release";
const TOKEN: &str = "00112233445566778899aabbccddeeff";

/// `tls.PORT`, with or without the callers' authority.
fn port(files: &Files, name: &str, mutual: bool) -> String {
    let at = files.path().display();
    let ca = if mutual { format!(", client_ca: {at}/ca.crt") } else { String::new() };
    format!("{name}: {{cert: {at}/tls.crt, key: {at}/tls.key{ca}}}")
}

/// `parhelion ctl` as the holder of `pair`: the exit code and all that was said.
fn ctl(files: &Files, sidecar: &Sidecar, pair: Option<&Pair>, arguments: &[&str]) -> (i32, String) {
    let admin = format!("https://localhost:{}", sidecar.admin.port());
    let ca = files.path().join("ca.crt").display().to_string();
    let mut all = vec!["ctl".to_owned(), "--admin".to_owned(), admin, "--ca".to_owned(), ca];
    if let Some(pair) = pair {
        let (cert, key) = pair.write(files.path(), "caller");
        let paths = [cert, key].map(|path| path.display().to_string());
        all.extend(["--cert".to_owned(), paths[0].clone(), "--key".to_owned(), paths[1].clone()]);
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let output = program().args(all).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_certificate_says_who_may_read_and_who_may_act() {
    let files = Files::new();
    let model = Model::start("1.0.0");
    let rights = format!("control: {{read: ['spiffe://shop.example/ns/ops/*'], act: ['{RELEASE}']}}\n");
    let tls = format!("tls: {{{}}}\n", port(&files, "admin", true));
    let sidecar = Sidecar::ready(&format!("{rights}{tls}{}", one(model.address))).await;
    let of = |name: &str| files.authority.sign(name, GOOD);
    let pin = ["pin", "m", "v1", "--reason", "a try"];
    let (code, said) = ctl(&files, &sidecar, Some(&of(READER)), &["list"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = ctl(&files, &sidecar, Some(&of(READER)), &pin);
    assert!(code == 1 && said.contains("act"), "{code} {said}");
    let (code, said) = ctl(&files, &sidecar, Some(&of(RELEASE)), &pin);
    assert_eq!(code, 0, "{said}");
    let (_, audit) = ctl(&files, &sidecar, Some(&of(READER)), &["audit", "m", "--json"]);
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert!(audit.to_string().contains(RELEASE), "{audit}");
    // Somebody whom the authority knows, and nobody gave a right.
    let (code, said) = ctl(&files, &sidecar, Some(&of("spiffe://shop.example/ns/shop/sa/web")), &["list"]);
    assert!(code == 1 && said.contains("control.read"), "{code} {said}");
    for stranger in [None, Some(&Authority::new().sign(RELEASE, GOOD))] {
        let (code, said) = ctl(&files, &sidecar, stranger, &["list"]);
        assert_eq!(code, 3, "{said}");
    }
    // Without TLS nobody is understood, and is told so.
    let (code, said) = sidecar.ctl(&["list"]);
    assert_eq!(code, 3, "{said}");
    sidecar.counts("parhelion_tls_handshakes_refused_total{reason=\"no_certificate\"}", 1).await;
    sidecar.counts("parhelion_tls_handshakes_refused_total{reason=\"unknown_authority\"}", 1).await;
    // The expiry is on the health port.
    let ends = sidecar.metric("parhelion_certificate_expiry_timestamp_seconds{use=\"admin\"").await;
    assert!(ends > 2 * 1_700_000_000, "{ends}");
}

#[tokio::test]
async fn a_token_is_enough_where_tokens_are_asked_for_and_a_certificate_is_too() {
    let files = Files::new();
    let tokens = files.path().join("tokens");
    std::fs::write(&tokens, format!("ann act {TOKEN}\n")).unwrap();
    let model = Model::start("1.0.0");
    let rights = format!("control: {{tokens: {}, read: ['{READER}']}}\n", tokens.display());
    let tls = format!("tls: {{{}}}\n", port(&files, "admin", true));
    let sidecar = Sidecar::ready(&format!("{rights}{tls}{}", one(model.address))).await;
    let own = files.path().join("own-token");
    std::fs::write(&own, TOKEN).unwrap();
    let token = ["--token-file", own.to_str().unwrap(), "pin", "m", "v1", "--reason", "a try"];
    let (code, said) = ctl(&files, &sidecar, None, &token);
    assert_eq!(code, 0, "{said}");
    let reader = files.authority.sign(READER, GOOD);
    assert_eq!(ctl(&files, &sidecar, Some(&reader), &["list"]).0, 0);
    assert_eq!(ctl(&files, &sidecar, None, &["list"]).0, 1);
}

#[tokio::test]
async fn the_health_port_answers_probes_by_tls() {
    let files = Files::new();
    let model = Model::start("1.0.0");
    let tls = format!("tls: {{{}}}\n", port(&files, "health", false));
    let sidecar = Sidecar::start(&format!("{tls}{}", one(model.address))).await;
    let ask = async || {
        let config = caller(&files.authority.pem, None, &[b"http/1.1"]);
        let mut socket = shake(sidecar.health, config).await.unwrap();
        socket
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text).await;
        text
    };
    until("readiness", || async { ask().await.starts_with("HTTP/1.1 200") }).await;
}

/// Takes TLS connections and passes what is in them on to `to`.
async fn terminate(config: rustls::ServerConfig, to: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    crate::support::process::beside(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            crate::support::process::beside(async move {
                let Ok(mut inner) = acceptor.accept(socket).await else { return };
                let Ok(mut outer) = tokio::net::TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn spans_leave_by_tls_with_a_certificate_by_file_and_by_environment() {
    let files = Files::new();
    files.web().write(files.path(), "client");
    let at = files.path().display().to_string();
    let model = Model::start("1.0.0");
    let inner = crate::collector::Stub::start();
    let pair = files.authority.sign("localhost", GOOD);
    let collector = terminate(server(&pair, Some(&files.authority.pem), &[b"h2"]), inner.address).await;
    let quick = ("OTEL_BSP_SCHEDULE_DELAY", "100");
    let telemetry = format!("telemetry: {{otlp: 'https://localhost:{}', sample: 100%}}\n", collector.port());
    let tls =
        format!("tls: {{collector: {{ca: {at}/ca.crt, cert: {at}/client.crt, key: {at}/client.key}}}}\n");
    let by_file = format!("{}{telemetry}{tls}", one(model.address));
    let by_environment = format!("{}telemetry: {{sample: 100%}}\n", one(model.address));
    let endpoint = format!("https://localhost:{}", collector.port());
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| format!("{at}/{name}"));
    let set = [
        quick,
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*ca),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*cert),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &*key),
    ];
    for (config, set) in [(by_file, &set[..1]), (by_environment, &set[..])] {
        let before = inner.spans().len();
        let sidecar = Sidecar::start_with(&config, set, None).await;
        sidecar.become_ready().await;
        infer(&sidecar.client(), "").await.unwrap();
        until("spans", || async { inner.spans().len() > before }).await;
    }
}

#[tokio::test]
async fn the_list_of_callers_changes_while_it_runs_and_whether_there_is_tls_does_not() {
    let files = Files::new();
    let model = Model::start("1.0.0");
    let allow = |name: &str| format!("{}{}", files.mutual(&format!(", allow: [{name}]")), one(model.address));
    let sidecar = Sidecar::start(&allow("web.shop.svc")).await;
    until("readiness", || async { crate::support::process::get(sidecar.health, "/readyz").await.0 == 200 })
        .await;
    let comes_in = async |name: &str| {
        let config = caller(&files.authority.pem, Some(&files.authority.sign(name, GOOD)), &[b"h2"]);
        let Ok(mut socket) = shake(sidecar.data, config).await else { return false };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        socket.write_all(preface).await.is_ok() && socket.read(&mut [0; 9]).await.is_ok_and(|n| n > 0)
    };
    assert!(comes_in("web.shop.svc").await && !comes_in("api.shop.svc").await);
    sidecar.rewrite(&allow("api.shop.svc"));
    until("the other list", || async { comes_in("api.shop.svc").await }).await;
    assert!(!comes_in("web.shop.svc").await);
    sidecar.rewrite(&one(model.address));
    sidecar.counts("parhelion_config_reloads_total{result=\"refused\"}", 1).await;
    assert!(sidecar.log().contains("tls.listen") && comes_in("api.shop.svc").await, "{}", sidecar.log());
    // A file that cannot be used refuses the configuration as a whole.
    let broken = allow("api.shop.svc").replace("ca.crt", "nowhere.crt");
    sidecar.rewrite(&broken);
    sidecar.counts("parhelion_config_reloads_total{result=\"refused\"}", 2).await;
    assert!(comes_in("api.shop.svc").await);
}

#[test]
fn a_bad_file_is_an_error_of_the_start_that_says_where_and_what_to_do() {
    let files = Files::new();
    let at = files.path();
    let other = Authority::new();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    let expired = files.authority.sign("localhost", (-9, -2));
    let early = files.authority.sign("localhost", (2, 9));
    let good = files.authority.sign("localhost", GOOD);
    let cases: [(&str, &str, &str, &str, &str); 8] = [
        (
            &other.sign("localhost", GOOD).cert,
            &good.key,
            "",
            "is not the certificate of the key",
            "put both there",
        ),
        (&expired.cert, &expired.key, "", "expired on ", "newer one"),
        (&early.cert, &early.key, "", "is not good before ", "clock"),
        ("", &good.key, "", "holds no certificate", "PEM"),
        (&good.cert, "", "", "holds no private key", "not encrypted"),
        (&good.cert, &good.key, "", "holds no certificate, so nobody could be believed", "authorities"),
        (&good.cert, &good.key, &expired.cert, "holds only expired certificates, the last on ", "newer one"),
        (
            &good.cert,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "",
            "private key",
            "key",
        ),
    ];
    for (cert, key, ca, what, remedy) in cases {
        write("tls.crt", cert);
        write("tls.key", key);
        write("ca.crt", ca);
        let config = format!("{}{}", files.mutual(""), one("127.0.0.1:1".parse().unwrap()));
        let path = crate::support::process::file(at, &config);
        for command in ["check", "run"] {
            let option = if command == "run" { vec!["run", "-c"] } else { vec!["check"] };
            let output = run_to_end(&[&option[..], &[path.to_str().unwrap()]].concat(), &[]);
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("tls") && said.contains(what) && said.contains(remedy), "{what}: {said}");
            let secret = good.key.lines().nth(1).unwrap();
            assert!(!said.contains(secret), "a key is shown: {said}");
        }
    }
}

/// What `/status` says of a variant of the one model there is.
fn said(status: &Value, variant: &str) -> String {
    let variants = status["models"][0]["variants"].as_array().unwrap();
    variants.iter().find(|found| found["name"] == variant).unwrap().to_string()
}

#[tokio::test]
async fn a_server_that_is_not_believed_gets_no_calls_and_says_why() {
    let files = Files::new();
    let at = files.path().display();
    let model = Model::start("1.0.0");
    let ours = server(&files.authority.sign("localhost", GOOD), None, &[b"h2"]);
    let stranger = server(&Authority::new().sign("localhost", GOOD), None, &[b"h2"]);
    let web = server(&files.authority.sign("localhost", GOOD), None, &[b"http/1.1"]);
    let expired = server(&files.authority.sign("localhost", (-9, -2)), None, &[b"h2"]);
    let mut endpoints = Vec::new();
    for (name, config, host) in [
        ("good", ours.clone(), "localhost"),
        ("stranger", stranger, "localhost"),
        ("elsewhere", ours, "127.0.0.1"),
        ("web", web, "localhost"),
        ("expired", expired, "localhost"),
    ] {
        let address = terminate(config, model.address).await;
        endpoints.push(format!("      {name}: {{endpoint: 'https://{host}:{}'}}\n", address.port()));
    }
    endpoints.push(format!("      plain: {{endpoint: 'https://localhost:{}'}}\n", model.address.port()));
    let config = format!(
        "tls: {{endpoints: {{ca: {at}/ca.crt}}}}\nmodels:\n  m:\n    variants:\n{}    strategy: {{kind: pinned, variant: good}}\n",
        endpoints.concat()
    );
    let sidecar = Sidecar::ready(&config).await;
    infer(&sidecar.client(), "").await.unwrap();
    for (name, why) in [
        ("stranger", "signed by none of"),
        ("elsewhere", "is not for 127.0.0.1; say another `server_name`"),
        ("web", "HTTP/2 (ALPN h2)"),
        ("expired", "has expired"),
        ("plain", "does not speak TLS; write http://"),
    ] {
        until(&format!("{name}: {why}"), || async { said(&sidecar.status().await, name).contains(why) })
            .await;
    }
}
