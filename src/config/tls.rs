//! What the file says of TLS: where certificates lie and who is let in. Whether the files can be used is said by
//! [`crate::tls::check`].

use std::path::PathBuf;
use std::sync::Arc;

use super::Config;
use crate::tls::name::Pattern;

/// The ports' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The data port; none: without TLS.
    pub listen: Option<Arc<ServerTls>>,
    /// The admin port; none: without TLS.
    pub admin: Option<Arc<ServerTls>>,
    /// The health port; none: without TLS.
    pub health: Option<Arc<ServerTls>>,
}

/// The certificate of a port, and who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// PEM file with the chain.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the authorities that callers' certificates are signed by; none: callers show none.
    pub client_ca: Option<PathBuf>,
    /// Names that callers' certificates may have; empty: any.
    pub allow: Vec<Pattern>,
    /// Whether a caller may come in without a certificate, because it proves itself in another way.
    pub optional: bool,
}

/// What is believed of a server, and what is shown to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// PEM file with the authorities that its certificate is signed by; none: those of this system.
    pub ca: Option<PathBuf>,
    /// PEM files with a chain and its key, for servers that want to know who calls.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// What the server is called, where that is not its address.
    pub server_name: Option<Arc<str>>,
    /// Names that its certificate may have, instead of what it is called; empty: what it is called.
    pub allow: Vec<Pattern>,
}

impl Config {
    /// With what servers are reached, each kind once.
    pub fn tls_clients(&self) -> Vec<Arc<ClientTls>> {
        let mut all: Vec<Arc<ClientTls>> = Vec::new();
        for (_, settings) in self.tls_places() {
            if !all.contains(settings) {
                all.push(Arc::clone(settings));
            }
        }
        all
    }

    /// With what servers are reached, and where the file says so.
    pub fn tls_places(&self) -> Vec<(String, &Arc<ClientTls>)> {
        let collector = self.telemetry.tls.iter().map(|settings| ("tls.collector".to_owned(), settings));
        let events = self.log.as_ref().and_then(|log| log.cloudevents.as_ref()?.tls.as_ref());
        let events = events.map(|settings| ("log.cloudevents.tls".to_owned(), settings));
        let mut all: Vec<_> = collector.chain(events).collect();
        for model in &self.models {
            for variant in &model.variants {
                for settings in variant.endpoints.iter().filter_map(|endpoint| endpoint.tls.as_ref()) {
                    all.push((format!("models.{}.variants.{}", model.name, variant.name), settings));
                }
            }
        }
        all
    }
}
