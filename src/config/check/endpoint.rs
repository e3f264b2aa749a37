//! Addresses: where this process listens, and where it connects to.
//!
//! To listen takes an IP address, for a name may mean another one tomorrow; to connect takes a name or an address,
//! and always a port, for gRPC has no usual one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Check, LONGEST_SOCKET};
use crate::config::problem::Problem;
use crate::config::units::Refused;
use crate::config::{Address, Endpoint, Listen, ServerTls, raw};

impl Check<'_> {
    pub(super) fn listen(&mut self, path: &str, text: &str) -> Option<Listen> {
        if text.starts_with("unix:") {
            return match unix(text) {
                Ok(socket) => Some(Listen::Unix(socket)),
                Err(refused) => self.refused(path, text, refused),
            };
        }
        self.address(path, text).map(Listen::Tcp)
    }

    /// The admin port: on loopback, or guarded by tokens, or by certificates.
    pub(super) fn admin(
        &mut self,
        text: &str,
        (tokens, tls): (bool, Option<&ServerTls>),
    ) -> Option<SocketAddr> {
        let address = self.address("admin", text)?;
        if tokens && tls.is_none() && !address.ip().is_loopback() {
            let problem = Problem::new(
                "admin",
                "is reachable from other machines, and tokens travel to it in the clear",
            );
            let hint = "give the port a certificate: `tls: {admin: {cert: /PATH, key: /PATH}}`";
            self.warn(problem.with_value(text).with_hint(hint));
        }
        let certificates = tls.is_some_and(|tls| tls.client_ca.is_some());
        if tokens || certificates || address.ip().is_loopback() {
            return Some(address);
        }
        let refused = Refused {
            message: "is reachable from other machines, and `control.tokens` names no file".to_owned(),
            hint: format!(
                "write 127.0.0.1:{}, or `control: {{tokens: /PATH}}`, or ask for certificates with `tls.admin.client_ca`",
                address.port()
            ),
        };
        self.refused("admin", text, refused)
    }

    pub(super) fn address(&mut self, path: &str, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let hint = match (text.rsplit_once(':'), port) {
            _ if text == "::1" || text == "::" => format!("write the port too: [{text}]:9000"),
            (_, None) if text.parse::<IpAddr>().is_ok() => {
                format!("write the port too: {}:9000", bracket(text))
            }
            (None, Some(port)) => format!("write the address too: 0.0.0.0:{port}"),
            (Some((host, _)), Some(port)) => match host {
                "" | "*" => format!("for all addresses write 0.0.0.0:{port} or [::]:{port}"),
                "localhost" => format!("write 127.0.0.1:{port}"),
                host if host.parse::<Ipv6Addr>().is_ok() => format!("write [{host}]:{port}"),
                _ => "write an IP address and a port, like 0.0.0.0:9000".to_owned(),
            },
            _ => "write an IP address and a port, like 0.0.0.0:9000".to_owned(),
        };
        let message = "is no IP address with a port".to_owned();
        self.refused(path, text, Refused { message, hint })
    }

    pub(super) fn endpoint(&mut self, path: &str, raw: &raw::Endpoint) -> Option<Endpoint> {
        let (path, url, hop, own) = match raw {
            raw::Endpoint::Url(url) => (path.to_owned(), url, None, None),
            raw::Endpoint::Full(full) => {
                let own = full.tls.as_ref().map(|raw| self.client_tls(&format!("{path}.tls"), raw));
                let path = format!("{path}.url");
                let Some(url) = &full.url else {
                    self.missing(&path, "write where it is reached, like http://127.0.0.1:8001");
                    return None;
                };
                (path, url, full.hop, own)
            }
        };
        match address(url) {
            Ok((address, secure)) => {
                if own.is_some() && !secure {
                    let problem = Problem::new(&*path, "is reached without TLS, and `tls` is said beside it");
                    let hint = match &address {
                        Address::Tcp { .. } => format!("write https://{address}, or remove `tls`"),
                        Address::Unix(_) => "remove `tls`: no other machine reaches a unix socket".to_owned(),
                    };
                    self.error(problem.with_value(format!("{url:?}")).with_hint(hint));
                }
                let hop = hop.unwrap_or_else(|| !is_local(&address));
                let tls = secure.then(|| own.unwrap_or_else(|| Arc::clone(&self.https)));
                Some(Endpoint { address, hop, tls })
            }
            Err(refused) => self.refused(&path, url, refused),
        }
    }

    pub(super) fn collector(&mut self, url: &str) -> Option<String> {
        match address(url) {
            Ok((address @ Address::Tcp { port, .. }, secure)) => {
                if port == 4318 {
                    let problem = Problem::new("telemetry.otlp", "has the usual port of OTLP over HTTP");
                    self.warn(
                        problem.with_value(url).with_hint("spans are sent over gRPC, usually to port 4317"),
                    );
                }
                Some(format!("{}://{address}", if secure { "https" } else { "http" }))
            }
            Ok((Address::Unix(_), _)) => {
                let message = "is no http://HOST:PORT".to_owned();
                let hint = "write where the collector takes OTLP over gRPC, like http://otel-collector:4317";
                self.refused("telemetry.otlp", url, Refused { message, hint: hint.to_owned() })
            }
            Err(refused) => self.refused("telemetry.otlp", url, refused),
        }
    }

    pub(super) fn refused<T>(&mut self, path: &str, text: &str, refused: Refused) -> Option<T> {
        let problem = Problem::new(path, refused.message).with_value(format!("{text:?}"));
        self.error(problem.with_hint(refused.hint));
        None
    }
}

/// Whether no other machine and no other network namespace is behind the address.
fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp { host, .. } => {
            **host == *"localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// Reads `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`; true where TLS is wanted.
pub(super) fn address(text: &str) -> Result<(Address, bool), Refused> {
    let refuse = |message: &str, hint: String| Err(Refused { message: message.to_owned(), hint });
    if text.starts_with("unix:") {
        return unix(text).map(|path| (Address::Unix(path), false));
    }
    let secure = text.starts_with("https://");
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        let rest = text.rsplit("://").next().unwrap_or(text);
        let hint = match host_and_port(rest) {
            Ok(_) => format!("write http://{rest}"),
            Err(_) => "write http://HOST:PORT, https://HOST:PORT or unix:/PATH".to_owned(),
        };
        return refuse("is no http://HOST:PORT, https://HOST:PORT or unix:/PATH", hint);
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some((authority, _)) = rest.split_once(['/', '?', '#']) {
        return refuse("has a path", format!("gRPC methods are their own paths: write http://{authority}"));
    }
    if rest.contains('@') {
        return refuse("has a user in it", "write http://HOST:PORT".to_owned());
    }
    let (host, port) = host_and_port(rest).map_err(|mut refused| {
        if secure {
            refused.hint = refused.hint.replace("http://", "https://");
        }
        refused
    })?;
    Ok((Address::Tcp { host: host.into(), port }, secure))
}

fn host_and_port(text: &str) -> Result<(&str, u16), Refused> {
    let refuse = |message: &str, hint: String| Err(Refused { message: message.to_owned(), hint });
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port.strip_prefix(':')),
        Some(_) => {
            return refuse("has no IPv6 address between its brackets", "write http://[::1]:8001".to_owned());
        }
        None if text.parse::<Ipv6Addr>().is_ok() => {
            return refuse("is an IPv6 address without brackets", format!("write http://[{text}]:8001"));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let bad = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_' || c == ':');
    if host.is_empty() || host.contains(bad) || host.len() > 253 {
        return refuse("has no host that could be looked up", "write http://HOST:PORT".to_owned());
    }
    let Some(port) = port else {
        return refuse("has no port", format!("say it, like http://{}:8001", bracket(host)));
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => refuse("has no port from 1 to 65535", format!("say it, like http://{}:8001", bracket(host))),
    }
}

fn bracket(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Reads `unix:/PATH`.
fn unix(text: &str) -> Result<PathBuf, Refused> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
    let refuse = |message: String, hint: String| Err(Refused { message, hint });
    if !path.starts_with('/') || path.len() < 2 || path.ends_with('/') || path.contains('\0') {
        let name = path.trim_matches('/');
        return refuse(
            "is no absolute path of a socket".to_owned(),
            format!("write unix:/run/{}", if name.is_empty() { "model.sock" } else { name }),
        );
    }
    if path.len() > LONGEST_SOCKET {
        return refuse(
            format!("is longer than the system allows for a socket ({LONGEST_SOCKET} bytes)"),
            "use a shorter path".to_owned(),
        );
    }
    Ok(PathBuf::from(path))
}
