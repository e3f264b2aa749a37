//! TLS with real sockets: who is let in, who is not and why, and certificates that change while calls run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parhelion::telemetry::counter::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::process::beside;
use crate::support::tls::{Authority, GOOD, Pair, caller, connect, server, shake};
use crate::support::{Incoming, Sidecar, Upstream, eventually, pinned, soon};

mod ports;

const H2: &[&[u8]] = &[b"h2"];
const WEB: &str = "spiffe://shop.example/ns/shop/sa/web";

/// A folder with what a port needs: its certificate for `localhost`, and the authority of callers.
struct Files {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Files { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        files.authority.sign("localhost", GOOD).write(files.path(), "tls");
        std::fs::write(files.path().join("ca.crt"), &files.authority.pem).unwrap();
        files
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `tls.listen` with the callers' authority.
    fn mutual(&self, more: &str) -> String {
        let at = self.path().display();
        format!("tls: {{listen: {{cert: {at}/tls.crt, key: {at}/tls.key, client_ca: {at}/ca.crt{more}}}}}\n")
    }

    fn web(&self) -> Pair {
        self.authority.sign(WEB, GOOD)
    }
}

const PATH: &str = "/any.Service/Method";

#[tokio::test]
async fn calls_go_through_tls_on_both_sides_small_and_large() {
    let files = Files::new();
    let model = server(&files.authority.sign("127.0.0.1", GOOD), Some(&files.authority.pem), H2);
    let upstream = Upstream::secure(model, Incoming::echo).await;
    let at = files.path().display();
    files.web().write(files.path(), "client");
    let towards = format!("endpoints: {{ca: {at}/ca.crt, cert: {at}/client.crt, key: {at}/client.key}}");
    let listen = files.mutual(&format!(", allow: ['{WEB}']"));
    let config = format!("{}{}", listen.trim_end().trim_end_matches('}'), format_args!("}}, {towards}}}\n"));
    let sidecar = Sidecar::start(&format!("{config}{}", pinned(&[&upstream.url]))).await;
    let client = connect(sidecar.address, caller(&files.authority.pem, Some(&files.web()), H2)).await;
    for size in [0, 300, 16_384, 20_000, 1 << 20, 20 << 20] {
        let message: Vec<u8> = (0..=255).cycle().take(size).collect();
        let answer = client.unary(PATH, &[], &message).await;
        assert_eq!(answer.status(), Some(0), "{size}: {}", answer.message());
        assert!(answer.texts() == [&message[..]], "{size}: another message came back");
    }
    // Many at once share the connection and its records.
    let mut calls = Vec::new();
    for number in 0..200_u32 {
        let mut call = client.open(PATH, &[]).await;
        call.send(&number.to_le_bytes().repeat(1000)).await;
        calls.push(call);
    }
    for (number, mut call) in calls.into_iter().enumerate() {
        call.send_last(b"end").await;
        let answer = call.answer().await;
        assert_eq!(answer.texts()[0], (number as u32).to_le_bytes().repeat(1000));
    }
}

/// What a caller hears: the end, at the latest at its first byte after the handshake.
async fn refused(address: std::net::SocketAddr, config: rustls::ClientConfig) {
    let started = Instant::now();
    if let Ok(mut socket) = shake(address, config).await {
        // By TLS 1.3 a caller that is refused hears of it after its own part of the handshake.
        let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let heard = soon("the end", socket.read(&mut [0; 64])).await;
        assert!(!heard.is_ok_and(|n| n > 0), "it was served");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn who_is_not_let_in_is_refused_at_once_and_counted_by_reason() {
    let files = Files::new();
    let upstream = Upstream::start(Incoming::echo).await;
    let mutual = files.mutual(", allow: ['spiffe://shop.example/ns/shop/*', admin.shop.svc]");
    let sidecar = Sidecar::start(&format!("{mutual}{}", pinned(&[&upstream.url]))).await;
    let (ours, other) = (&files.authority, Authority::new());
    let of = |pair: &Pair| caller(&ours.pem, Some(pair), H2);
    let strangers = [
        (Counter::TlsNoCertificate, caller(&ours.pem, None, H2)),
        (Counter::TlsUnknownAuthority, of(&other.sign(WEB, GOOD))),
        (Counter::TlsExpired, of(&ours.sign(WEB, (-9, -2)))),
        (Counter::TlsNotYetValid, of(&ours.sign(WEB, (2, 9)))),
        (Counter::TlsName, of(&ours.sign("spiffe://shop.example/ns/other/sa/web", GOOD))),
        (Counter::TlsName, of(&ours.sign("shop.svc", GOOD))),
        (Counter::TlsAlpn, caller(&ours.pem, Some(&files.web()), &[])),
        (Counter::TlsAlpn, caller(&ours.pem, Some(&files.web()), &[b"http/1.1"])),
        (Counter::TlsPeer, caller(&other.pem, Some(&files.web()), H2)),
    ];
    for (counter, config) in strangers {
        let before = sidecar.count(counter);
        refused(sidecar.address, config).await;
        eventually(&format!("{counter:?}"), || (sidecar.count(counter) == before + 1).then_some(())).await;
    }
    for name in [WEB, "admin.shop.svc"] {
        let client = connect(sidecar.address, of(&ours.sign(name, GOOD))).await;
        assert_eq!(client.unary(PATH, &[], b"hello").await.status(), Some(0), "{name}");
    }
}

/// A ClientHello that offers `version` and nothing newer.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // No session, one cipher of that time, no compression, no extension.
    body.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[tokio::test]
async fn old_versions_silence_plain_text_and_endless_certificates_are_refused() {
    let files = Files::new();
    let upstream = Upstream::start(Incoming::echo).await;
    let limits = "limits: {handshake: 300ms}\n";
    let sidecar = Sidecar::start(&format!("{}{limits}{}", files.mutual(""), pinned(&[&upstream.url]))).await;
    // A chain of 200 certificates: more than a handshake may hold.
    let pair = files.web();
    let chain = Pair { cert: pair.cert.repeat(200), ..pair };
    refused(sidecar.address, caller(&files.authority.pem, Some(&chain), H2)).await;
    let mut endless = vec![22, 3, 3, 0x40, 0];
    endless.extend([11, 0xff, 0xff, 0xff]);
    endless.extend([0; 0x4000 - 4]);
    let cases: [(&str, Vec<u8>, Counter); 5] = [
        ("TLS 1.0", hello([3, 1]), Counter::TlsVersion),
        ("TLS 1.1", hello([3, 2]), Counter::TlsVersion),
        ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Counter::TlsBroken),
        ("a message of 16 MiB", endless, Counter::TlsBroken),
        ("silence", Vec::new(), Counter::TlsTimedOut),
    ];
    for (name, bytes, counter) in cases {
        let before = sidecar.count(counter);
        let mut socket = TcpStream::connect(sidecar.address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        let mut heard = Vec::new();
        let _ = soon(name, socket.read_to_end(&mut heard)).await;
        assert!(heard.is_empty() || heard[0] == 21, "{name}: no alert: {heard:?}");
        eventually(name, || (sidecar.count(counter) > before).then_some(())).await;
    }
    assert!(sidecar.count(Counter::TlsBroken) >= 3, "the long chain is counted too");
}

/// Renames a file into place, as those who write certificates do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn certificates_change_under_calls_and_nobody_notices() {
    let files = Files::new();
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&format!("{}{}", files.mutual(""), pinned(&[&upstream.url]))).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let config = caller(&files.authority.pem, Some(&files.web()), H2);
    let (address, stopped, good) = (sidecar.address, Arc::clone(&stop), Arc::clone(&calls));
    let lasting = config.clone();
    // One connection that lasts, and a new one for each call.
    let beside = beside(async move {
        let client = connect(address, lasting).await;
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(client.unary(PATH, &[], b"lasting").await.status(), Some(0));
            let fresh = connect(address, config.clone()).await;
            assert_eq!(fresh.unary(PATH, &[], b"fresh").await.status(), Some(0));
            good.fetch_add(2, Ordering::Relaxed);
        }
    });
    for round in 1..=5 {
        let next = files.authority.sign("localhost", GOOD);
        // A moment in which the certificate and the key do not match.
        replace(&files.path().join("tls.crt"), &next.cert);
        replace(&files.path().join("tls.key"), &next.key);
        let taken = || (sidecar.count(Counter::CertificatesTaken) >= round).then_some(());
        eventually("the next certificate", taken).await;
        let served = calls.load(Ordering::Relaxed);
        eventually("further calls", || (calls.load(Ordering::Relaxed) > served + 4).then_some(())).await;
        let shown =
            shake(sidecar.address, caller(&files.authority.pem, Some(&files.web()), H2)).await.unwrap();
        let shown = shown.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert!(next.is(&shown), "round {round}: another certificate is shown");
    }
    stop.store(true, Ordering::Relaxed);
    soon("the caller", beside).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_the_last_good_goes_on() {
    let files = Files::new();
    let upstream = Upstream::start(Incoming::echo).await;
    let sidecar = Sidecar::start(&format!("{}{}", files.mutual(""), pinned(&[&upstream.url]))).await;
    let (cert, ca) = (files.path().join("tls.crt"), files.path().join("ca.crt"));
    let before = std::fs::read_to_string(&cert).unwrap();
    let expired = files.authority.sign("localhost", (-9, -2));
    let mut refusals = 0;
    let bad: [(&Path, &str, &str); 5] = [
        (&cert, "of another key", &files.authority.sign("localhost", GOOD).cert),
        (&cert, "expired", &expired.cert),
        (&cert, "no certificate", "nothing of the kind"),
        (&ca, "empty", ""),
        (&ca, "expired authorities", &expired.cert),
    ];
    for (path, what, text) in bad {
        let good = std::fs::read_to_string(path).unwrap();
        replace(path, text);
        let refused = || (sidecar.count(Counter::CertificatesRefused) > refusals).then_some(());
        eventually(what, refused).await;
        let client = connect(sidecar.address, caller(&files.authority.pem, Some(&files.web()), H2)).await;
        assert_eq!(client.unary(PATH, &[], b"hello").await.status(), Some(0), "{what}");
        let taken = sidecar.count(Counter::CertificatesTaken);
        replace(path, &good);
        eventually("good again", || (sidecar.count(Counter::CertificatesTaken) > taken).then_some(())).await;
        refusals = sidecar.count(Counter::CertificatesRefused);
    }
    assert_eq!(std::fs::read_to_string(&cert).unwrap(), before);
}

#[tokio::test]
async fn a_secret_that_is_swapped_by_its_link_is_followed() {
    let files = Files::new();
    let upstream = Upstream::start(Incoming::echo).await;
    let at = files.path();
    let lay = |folder: &str, pair: &Pair| {
        std::fs::create_dir(at.join(folder)).unwrap();
        std::fs::write(at.join(folder).join("tls.crt"), &pair.cert).unwrap();
        std::fs::write(at.join(folder).join("tls.key"), &pair.key).unwrap();
        let link = at.join("..data_tmp");
        std::os::unix::fs::symlink(folder, &link).unwrap();
        std::fs::rename(&link, at.join("..data")).unwrap();
    };
    lay("..first", &files.authority.sign("localhost", GOOD));
    for name in ["tls.crt", "tls.key"] {
        std::fs::remove_file(at.join(name)).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), at.join(name)).unwrap();
    }
    let sidecar = Sidecar::start(&format!("{}{}", files.mutual(""), pinned(&[&upstream.url]))).await;
    let next = files.authority.sign("localhost", GOOD);
    lay("..second", &next);
    eventually("the swap", || (sidecar.count(Counter::CertificatesTaken) == 1).then_some(())).await;
    let shown = shake(sidecar.address, caller(&files.authority.pem, Some(&files.web()), H2)).await.unwrap();
    assert!(next.is(&shown.get_ref().1.peer_certificates().unwrap()[0]));
    assert_eq!(sidecar.count(Counter::CertificatesRefused), 0);
}
