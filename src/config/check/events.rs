//! Who is told of calls as CloudEvents: where, of what, and how it is believed.

use std::sync::Arc;

use url::{Host, Url};

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::{Address, ClientTls, CloudEvents, EventMode, raw};

const URL: &str =
    "write where events are taken, like http://broker-ingress.knative-eventing.svc/models/default";
/// Longest path that is asked for, and longest attribute.
const LONGEST: usize = 1024;

impl Check<'_> {
    pub(super) fn cloudevents(
        &mut self,
        path: &str,
        raw: &raw::CloudEvents,
        payloads: bool,
    ) -> Option<CloudEvents> {
        let at = |key: &str| join(path, key);
        let place = match raw.url.as_deref() {
            None => {
                self.missing(&at("url"), URL);
                None
            }
            Some(url) => match place(url) {
                Ok(place) => Some(place),
                Err(wrong) => {
                    // Whatever it is, it may hold a secret.
                    self.error(Problem::new(at("url"), wrong).with_hint(URL));
                    None
                }
            },
        };
        let own = raw.tls.as_ref().map(|raw| self.client_tls(&at("tls"), raw));
        let secure = place.as_ref().is_none_or(|(.., secure)| *secure);
        if own.is_some() && !secure {
            let problem = Problem::new(at("tls"), "is for a receiver that is not reached by TLS");
            self.error(problem.with_hint("write https:// in `url`, or remove it"));
        }
        if !payloads {
            let problem =
                Problem::new(path, "tells of calls without their messages, for `log.payloads` is not given");
            let hint = "say `payloads: {as: decoded, sample: 100%}`; the events of calls whose messages are not kept have no data";
            self.warn(problem.with_hint(hint));
        }
        let mode = self.event_mode(&at("mode"), raw.mode.as_deref());
        let source = self.attribute(&at("source"), raw.source.as_deref()).unwrap_or("/parhelion").to_owned();
        if source.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let problem = Problem::new(at("source"), "is no URI reference").with_value(format!("{source:?}"));
            self.error(problem.with_hint("use visible ASCII characters, like //models.svc/fraud"));
        }
        let namespace = self.attribute(&at("namespace"), raw.namespace.as_deref()).map(str::to_owned);
        let (address, path, secure) = place?;
        let tls = secure.then(|| own.unwrap_or_else(|| Arc::new(ClientTls::default())));
        Some(CloudEvents { address, path, tls, mode, source, namespace })
    }

    fn event_mode(&mut self, path: &str, word: Option<&str>) -> EventMode {
        let Some(word) = word else { return EventMode::All };
        EventMode::ALL.into_iter().find(|mode| mode.name() == word).unwrap_or_else(|| {
            let problem = Problem::new(path, "is none of all, request and response");
            let hint = suggestion(word, &EventMode::ALL.map(EventMode::name));
            self.error(problem.with_value(format!("{word:?}")).with_hint(hint));
            EventMode::All
        })
    }

    /// A text that is neither empty nor longer than receivers must take.
    fn attribute<'t>(&mut self, path: &str, text: Option<&'t str>) -> Option<&'t str> {
        let text = text?;
        let wrong = if text.is_empty() {
            "is empty"
        } else if text.len() > LONGEST {
            "is longer than 1024 bytes"
        } else {
            return Some(text);
        };
        self.error(Problem::new(path, wrong).with_hint("write a short name, or leave it out"));
        Some(text)
    }
}

/// Address, path, and whether by TLS; else what is wrong.
fn place(text: &str) -> Result<(Address, Arc<str>, bool), String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err("is neither http://HOST/PATH nor https://HOST/PATH".to_owned()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a secret".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which no server is told".to_owned());
    }
    let host: Arc<str> = match url.host() {
        Some(Host::Domain(name)) => name.into(),
        Some(Host::Ipv4(address)) => address.to_string().into(),
        Some(Host::Ipv6(address)) => address.to_string().into(),
        None => return Err("names no host".to_owned()),
    };
    let port = url.port_or_known_default().filter(|port| *port > 0).ok_or("has no port from 1 to 65535")?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    if path.len() > LONGEST {
        return Err(format!("has a path of more than {LONGEST} bytes"));
    }
    Ok((Address::Tcp { host, port }, path.into(), secure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_known_by_their_urls() {
        for (good, address, path, by_tls) in [
            (
                "http://broker-ingress.knative-eventing.svc/models/default",
                "broker-ingress.knative-eventing.svc:80",
                "/models/default",
                false,
            ),
            ("https://[::1]:8443", "[::1]:8443", "/", true),
            ("http://127.0.0.1:9/a b?c=d", "127.0.0.1:9", "/a%20b?c=d", false),
        ] {
            let (found, at, secure) = place(good).unwrap();
            assert_eq!((&*found.to_string(), &*at, secure), (address, path, by_tls));
        }
        for (bad, wrong) in [
            ("receiver:8080", "is neither"),
            ("receiver/path", "is no URL"),
            ("ftp://host/x", "is neither"),
            ("http://", "is no URL"),
            ("http://user:secret@host/", "a secret"),
            ("http://host/#a", "a fragment"),
            ("http://host:0/", "no port"),
        ] {
            let said = place(bad).unwrap_err();
            assert!(said.contains(wrong), "{bad} {said}");
        }
    }
}
