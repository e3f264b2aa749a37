//! `parhelion intercept`: redirects the model's port to the sidecar's in the network namespace it runs in.
//!
//! An init container of the pod does this once. Two rules: what comes from outside for the model's port goes to the
//! sidecar's, and so does what other containers of the pod send there; the sidecar's own calls, known by its user, go
//! through. The rules are written straight to the kernel's nftables, so the image needs no tool; where the kernel has
//! none, the command `iptables` is used if it is there. Doing it twice is doing it once.

use std::io;
use std::process::{Command, Output};

use clap::{Args, ValueEnum};

use rules::Redirect;

mod netlink;
mod rules;

/// The table, and the chains of `iptables`, that are ours.
const NAME: &str = "parhelion";

/// `parhelion intercept`.
#[derive(Debug, Args)]
#[command(after_help = "Example, as root in the pod's network namespace:
  parhelion intercept --from 8001 --to 9000 --uid 65532
  nft list table inet parhelion                    what it wrote, where nft is installed

Exit codes: 0 as asked, 1 the kernel refused, 2 arguments that mean nothing.")]
pub struct Options {
    /// The model's port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    from: u16,
    /// The sidecar's port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    to: u16,
    /// The user that the sidecar runs as
    #[arg(long, default_value_t = 65532)]
    uid: u32,
    /// How the rules are written
    #[arg(long, value_enum, default_value = "auto")]
    by: By,
    /// Take the rules away again
    #[arg(long)]
    undo: bool,
}

/// How rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The kernel's nftables if it has them, else the command iptables.
    Auto,
    /// The kernel's nftables.
    Nftables,
    /// The commands iptables and ip6tables.
    Iptables,
}

/// Why nothing is redirected.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It would redirect a port to itself.
    #[error("--from and --to are both {0}: the sidecar's port is another than the model's")]
    Same(u16),
    /// The right is missing.
    #[error(
        "the kernel lets nobody change the network without the capability NET_ADMIN: run it as root with it"
    )]
    Forbidden,
    /// There are no nftables.
    #[error("the kernel has no nftables ({0}), and there is no command iptables")]
    Missing(io::Error),
    /// Something else.
    #[error("{0}: {1}")]
    Refused(&'static str, io::Error),
    /// A command that ended badly.
    #[error("{command}: {said}")]
    Tool {
        /// All of it.
        command: String,
        /// On its standard error.
        said: String,
    },
}

/// Runs it; returns what was done, for people.
///
/// # Errors
/// When nothing could be redirected; then nothing is.
pub fn run(options: &Options) -> Result<String, Failure> {
    if options.from == options.to {
        return Err(Failure::Same(options.from));
    }
    let redirect = Redirect { from: options.from, to: options.to, uid: options.uid };
    let by = match options.by {
        By::Iptables => by_iptables(redirect, options.undo).map(|()| "iptables")?,
        By::Nftables => by_nftables(redirect, options.undo).map(|()| "nftables")?,
        By::Auto => match by_nftables(redirect, options.undo) {
            Ok(()) => "nftables",
            Err(Failure::Missing(_)) if which("iptables") => {
                by_iptables(redirect, options.undo).map(|()| "iptables")?
            }
            Err(failure) => return Err(failure),
        },
    };
    Ok(match options.undo {
        true => format!("port {} is redirected no more, by {by}", options.from),
        false => format!(
            "port {} is redirected to {}, but for what user {} sends, by {by}",
            options.from, options.to, options.uid
        ),
    })
}

fn by_nftables(redirect: Redirect, undo: bool) -> Result<(), Failure> {
    let messages = if undo { rules::removal(NAME) } else { rules::table(NAME, redirect) };
    netlink::send(&messages).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Forbidden,
        // Neither the protocol nor the expressions are known to such a kernel.
        _ if netlink::is_unsupported(&error) => Failure::Missing(error),
        _ => Failure::Refused("nftables", error),
    })
}

fn which(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The same rules by commands, once for each family of addresses; IPv6 may be missing.
fn by_iptables(redirect: Redirect, undo: bool) -> Result<(), Failure> {
    for (tool, needed) in [("iptables", true), ("ip6tables", false)] {
        let done = remove_chains(tool).and_then(|()| if undo { Ok(()) } else { add_chains(tool, redirect) });
        if needed {
            done?;
        }
    }
    Ok(())
}

/// What was there before goes; nothing is said of what was not.
fn remove_chains(tool: &'static str) -> Result<(), Failure> {
    for chain in ["PREROUTING", "OUTPUT"] {
        let own = format!("{}-{chain}", NAME.to_uppercase());
        while command(tool, &["-D", chain, "-j", &own])?.status.success() {}
        command(tool, &["-F", &own])?;
        command(tool, &["-X", &own])?;
    }
    Ok(())
}

fn add_chains(tool: &'static str, redirect: Redirect) -> Result<(), Failure> {
    let (from, to, uid) = (redirect.from.to_string(), redirect.to.to_string(), redirect.uid.to_string());
    let ends = ["-p", "tcp", "--dport", &from, "-j", "REDIRECT", "--to-ports", &to];
    let outside = ["!", "-i", "lo"];
    let others = ["-o", "lo", "-m", "owner", "!", "--uid-owner", &uid];
    for (chain, which) in [("PREROUTING", &outside[..]), ("OUTPUT", &others[..])] {
        let own = format!("{}-{chain}", NAME.to_uppercase());
        let rule = [&["-A", &own], which, &ends].concat();
        for arguments in [&["-N", &own][..], &rule, &["-A", chain, "-j", &own]] {
            let output = command(tool, arguments)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if said.contains("Permission denied") {
                    return Err(Failure::Forbidden);
                }
                return Err(Failure::Tool {
                    command: format!("{tool} -t nat {}", arguments.join(" ")),
                    said,
                });
            }
        }
    }
    Ok(())
}

fn command(tool: &'static str, arguments: &[&str]) -> Result<Output, Failure> {
    let output = Command::new(tool).args(["-w", "5", "-t", "nat"]).args(arguments).output();
    output.map_err(|error| Failure::Refused(tool, error))
}
