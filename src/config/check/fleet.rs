//! Checks where replicas meet: the URL of `state`, and `fleet`.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::fleet::{Fleet, PORT, SENTINEL, Servers};
use super::super::raw;
use super::{Check, Problem};
use crate::config::{Model, Strategy};

/// What is allowed, in words.
const FORMS: &str = "write redis://HOST:PORT/DATABASE, redis-sentinel://HOST:PORT,HOST:PORT/NAME or \
                     redis-cluster://HOST:PORT,HOST:PORT; `rediss` for TLS; a user as USER@ before the hosts";

impl Check<'_> {
    /// The directory that `state` names, or that is kept beside a shared store, and that store.
    pub(super) fn state(&mut self, file: &raw::File) -> (Option<PathBuf>, Option<Arc<Fleet>>) {
        let text = file.state.as_deref();
        // Somebody who forgets a slash means no folder.
        let is_url = |text: &&str| text.contains("://") || text.starts_with("redis") && text.contains(':');
        let Some(url) = text.filter(is_url) else {
            if file.fleet.is_some() {
                let what = "says how replicas share their state, and `state` does not say where";
                let hint = "write `state: redis://HOST:PORT`, or leave `fleet` out";
                self.error(Problem::new("fleet", what).with_hint(hint));
            }
            return (self.path("state", text), None);
        };
        let empty = raw::Fleet::default();
        let raw = file.fleet.as_ref().unwrap_or(&empty);
        let cache = self.path("fleet.cache", raw.cache.as_deref());
        let fleet = self.fleet(url, raw);
        if fleet.is_some() && raw.cache.is_none() {
            let what = "is not given, so a replica that starts while the store is away knows no plan, and gives the \
                        baseline everything until it answers";
            let hint = "name a directory of this replica's own, like /var/lib/parhelion";
            self.warn(Problem::new("fleet.cache", what).with_hint(hint));
        }
        (cache, fleet.map(Arc::new))
    }

    fn fleet(&mut self, url: &str, raw: &raw::Fleet) -> Option<Fleet> {
        let parsed = parse(url);
        if let Err(why) = &parsed {
            // A password that stands there is no matter for a log.
            let shown = url.split_once('@').map_or_else(|| url.to_owned(), |(_, rest)| format!("…@{rest}"));
            self.error(Problem::new("state", why.clone()).with_value(format!("{shown:?}")).with_hint(FORMS));
        }
        let password_file = self.path("fleet.password_file", raw.password_file.as_deref());
        let ca = self.path("fleet.ca", raw.ca.as_deref());
        let cert = self.path("fleet.cert", raw.cert.as_deref());
        let key = self.path("fleet.key", raw.key.as_deref());
        let pair = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => {
                self.error(Problem::new("fleet.key", "is missing").with_hint("name the key of `fleet.cert`"));
                None
            }
            (None, Some(_)) => {
                let hint = "name the certificate of `fleet.key`";
                self.error(Problem::new("fleet.cert", "is missing").with_hint(hint));
                None
            }
            (None, None) => None,
        };
        let prefix = raw.prefix.as_deref().unwrap_or("parhelion");
        self.plain("fleet.prefix", prefix);
        if let Some(replica) = &raw.replica {
            self.plain("fleet.replica", replica);
        }
        let (servers, hosts, tls, user) = parsed.ok()?;
        if !tls && (ca.is_some() || pair.is_some()) {
            let what = "names certificates, and the servers are reached without TLS";
            self.error(Problem::new("fleet", what).with_hint("write rediss:// in `state`"));
        }
        let prefix = prefix.into();
        let replica = raw.replica.as_deref().map(Into::into);
        Some(Fleet { servers, hosts, tls, user, password_file, ca, pair, prefix, replica })
    }

    /// Says that something cannot be part of a key.
    fn plain(&mut self, path: &str, text: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if text.is_empty() || text.len() > 100 || !text.chars().all(plain) {
            let problem = Problem::new(path, "is no plain word").with_value(format!("{text:?}"));
            self.error(problem.with_hint("1 to 100 letters, digits, and - _ . :"));
        }
    }

    /// Says what each replica decides for itself all the same.
    pub(super) fn apart_from_fleet(&mut self, fleet: bool, models: &[Model]) {
        let rolling = |model: &&Model| matches!(model.strategy, Strategy::Rolling(_));
        for model in models.iter().filter(rolling).filter(|_| fleet) {
            let path = format!("models.{}.strategy", model.name);
            let what =
                "is not shared: each replica replaces the servers that it knows, by what it sees itself";
            self.warn(Problem::new(path, what).with_hint("let one replica serve a rolling update"));
        }
    }
}

type Parsed = (Servers, Vec<(String, u16)>, bool, Option<String>);

fn parse(url: &str) -> Result<Parsed, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let (tls, kind) = match scheme {
        "redis" => (false, ""),
        "rediss" => (true, ""),
        "redis-sentinel" => (false, "sentinel"),
        "rediss-sentinel" => (true, "sentinel"),
        "redis-cluster" => (false, "cluster"),
        "rediss-cluster" => (true, "cluster"),
        other => return Err(format!("names a store that is not known here: {other}")),
    };
    let (user, rest) = match rest.split_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err(
                "has a password in it; put it into a file, and name that as `fleet.password_file`".to_owned()
            );
        }
        Some((user, rest)) if !user.is_empty() => (Some(user.to_owned()), rest),
        Some((_, rest)) => (None, rest),
        None => (None, rest),
    };
    if rest.contains(['?', '#']) {
        return Err("has more than hosts and a path".to_owned());
    }
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let default = if kind == "sentinel" { SENTINEL } else { PORT };
    let hosts: Result<Vec<_>, String> = hosts.split(',').map(|host| address(host, default)).collect();
    let hosts = hosts?;
    let path = path.trim_end_matches('/');
    let database = |text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| format!("has no database {text:?}: databases are numbers from 0")),
    };
    let servers = match kind {
        "sentinel" => {
            let (name, rest) = path.split_once('/').unwrap_or((path, ""));
            if name.is_empty() {
                return Err("does not say what its sentinels call the server".to_owned());
            }
            Servers::Sentinel { name: name.into(), database: database(rest)? }
        }
        "cluster" if path.is_empty() => Servers::Cluster,
        "cluster" => return Err("names a database, and a cluster has only one".to_owned()),
        _ if hosts.len() == 1 => Servers::One { database: database(path)? },
        _ => return Err("names several servers, and not how they stand together".to_owned()),
    };
    Ok((servers, hosts, tls, user))
}

/// `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn address(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    let port = match port {
        None => default,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(format!("has no port {port:?}: ports are numbers from 1 to 65535")),
            Ok(port) => port,
        },
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        let (servers, hosts, tls, user) = parse(url).unwrap();
        let (prefix, replica) = ("p".into(), None);
        let (password_file, ca, pair) = (None, None, None);
        Fleet { servers, hosts, tls, user, password_file, ca, pair, prefix, replica }.to_string()
    }

    #[test]
    fn every_form_is_read_and_written_as_it_was() {
        for url in [
            "redis://cache:6379",
            "rediss://ann@cache:6380/2",
            "redis://[::1]:6379",
            "redis-sentinel://a:26379,b:26379/main",
            "rediss-sentinel://a:26379/main/3",
            "redis-cluster://a:7000,b:7001",
        ] {
            assert_eq!(shown(url), url);
        }
        assert_eq!(shown("redis://cache"), "redis://cache:6379");
        assert_eq!(shown("redis-sentinel://a/main"), "redis-sentinel://a:26379/main");
    }

    #[test]
    fn what_is_none_of_them_is_told_why() {
        for (url, why) in [
            ("mysql://a", "not known here: mysql"),
            ("redis://ann:secret@a", "has a password in it"),
            ("redis://", "has no host"),
            ("redis://a:0", "has no port"),
            ("redis://a/x", "has no database"),
            ("redis://a,b", "several servers"),
            ("redis-sentinel://a", "what its sentinels call"),
            ("redis-cluster://a/1", "a cluster has only one"),
            ("redis://a?b=c", "more than hosts"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
