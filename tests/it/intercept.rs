//! The redirect in a network namespace of its own, with real sockets: who gets where. Only root can make one; without
//! that, or without `ip` and `setpriv`, each test says that it was skipped.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const BINARY: &str = env!("CARGO_BIN_EXE_parhelion");
const SIDECAR: &str = "65532";

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

/// A pod's network, and another one that reaches it; both go with it.
struct Pod {
    name: String,
    outside: String,
}

impl Pod {
    /// `None`, and a word about it, where this machine cannot make one.
    fn new(name: &str) -> Option<Self> {
        let pod = Pod {
            name: format!("p{}-{name}", std::process::id()),
            outside: format!("o{}-{name}", std::process::id()),
        };
        if !ip(&format!("netns add {}", pod.name)) {
            eprintln!("skipped: network namespaces need root and `ip`");
            return None;
        }
        let (inside, outside) = (&pod.name, &pod.outside);
        assert!(ip(&format!("netns add {outside}")));
        assert!(ip(&format!("-n {outside} link add eth0 type veth peer name eth0 netns {inside}")));
        for (space, end) in [(inside, 1), (outside, 2)] {
            assert!(ip(&format!("-n {space} addr add 10.99.0.{end}/24 dev eth0")));
            assert!(ip(&format!("-n {space} addr add fd99::{end}/64 dev eth0 nodad")));
            assert!(ip(&format!("-n {space} link set lo up")) && ip(&format!("-n {space} link set eth0 up")));
        }
        Some(pod)
    }

    /// Answers every connection to `port` in the pod with `word`.
    fn answer(&self, port: u16, word: &'static str) {
        let space = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let (tell, bound) = std::sync::mpsc::channel();
        thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network))
                .unwrap();
            let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
            tell.send(()).unwrap();
            for connection in listener.incoming() {
                let _ = connection.unwrap().write_all(word.as_bytes());
            }
        });
        bound.recv().unwrap();
    }

    fn intercept(&self, arguments: &[&str]) -> Output {
        output(Command::new("ip").args(["netns", "exec", &self.name, BINARY, "intercept"]).args(arguments))
    }

    /// Who answers `user` in `space` at `address`; nobody is an empty text.
    fn asks(space: &str, user: &str, address: &str, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/{address}/{port} && cat <&3");
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            space,
            "setpriv",
            "--reuid",
            user,
            "--clear-groups",
            "bash",
            "-c",
            &script,
        ]);
        let mut text = String::new();
        output(&mut command).stdout.as_slice().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
        ip(&format!("netns del {}", self.outside));
    }
}

fn redirects(name: &str, by: &str) {
    let Some(pod) = Pod::new(name) else { return };
    pod.answer(8001, "model");
    pod.answer(9000, "sidecar");
    let (inside, outside) = (pod.name.as_str(), pod.outside.as_str());
    assert_eq!(Pod::asks(outside, "0", "10.99.0.1", 8001), "model", "before there is a redirect");

    let arguments = ["--from", "8001", "--to", "9000", "--uid", SIDECAR, "--by", by];
    // Twice is once.
    for _ in 0..2 {
        let output = pod.intercept(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for (space, user, address, port, who) in [
        (outside, "0", "10.99.0.1", 8001, "sidecar"),
        (outside, "0", "fd99::1", 8001, "sidecar"),
        // The same user elsewhere is a caller like any other.
        (outside, SIDECAR, "10.99.0.1", 8001, "sidecar"),
        (outside, "0", "10.99.0.1", 9000, "sidecar"),
        (inside, "0", "127.0.0.1", 8001, "sidecar"),
        (inside, "1000", "10.99.0.1", 8001, "sidecar"),
        (inside, "1000", "::1", 8001, "sidecar"),
        (inside, SIDECAR, "127.0.0.1", 8001, "model"),
        (inside, SIDECAR, "10.99.0.1", 8001, "model"),
        (inside, SIDECAR, "::1", 8001, "model"),
    ] {
        assert_eq!(
            Pod::asks(space, user, address, port),
            who,
            "{user} in {space} at {address}:{port} by {by}"
        );
    }

    let output = pod.intercept(&[&arguments[..], &["--undo"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Pod::asks(outside, "0", "10.99.0.1", 8001), "model", "after it is undone");
}

#[test]
fn all_calls_but_the_sidecars_own_come_to_it() {
    redirects("nft", "nftables");
}

#[test]
fn so_they_do_where_the_kernel_has_iptables_only() {
    let has = Command::new("iptables").arg("--version").output().is_ok_and(|output| output.status.success());
    if has { redirects("ipt", "iptables") } else { println!("skipped: there is no iptables") }
}

#[test]
fn what_cannot_be_is_said() {
    let run = |arguments: &[&str]| {
        let output = output(Command::new(BINARY).arg("intercept").args(arguments));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["--from", "9000", "--to", "9000"]);
    assert_eq!((code, told.contains("--from and --to are both 9000")), (Some(2), true), "{told}");
    let (code, told) = run(&["--from", "0", "--to", "9000"]);
    assert!(code == Some(2) && told.contains("0 is not in 1.."), "{told}");

    let Some(pod) = Pod::new("no") else { return };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &pod.name, "setpriv", "--reuid", "1000", "--clear-groups", BINARY]);
    let output = output(command.args(["intercept", "--from", "8001", "--to", "9000"]));
    let told = String::from_utf8_lossy(&output.stderr);
    // The binary itself may be where that user cannot go.
    let forbidden = told.contains("NET_ADMIN") || told.contains("Permission denied");
    assert!(!output.status.success() && forbidden, "{told}");
}
