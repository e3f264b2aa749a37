//! TLS: certificates of ports and towards servers, who is let in, and how files change while calls run.
//!
//! A port has a [`server::Server`], a kind of server to be reached has a [`client::Client`]; both are made from files,
//! look at them again when told to, and keep the last good ones. [`Store`] holds all of a process, [`follow`] is the
//! task that tells them. A handshake takes what is in force at its moment, and a connection that stands keeps what it
//! was made with, so a change of certificates ends nothing. What is shaken hands with becomes a
//! [`crate::wire::socket::Socket`], like one without TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use rustls::crypto::CryptoProvider;

use crate::config::{ClientTls, Config, Problem, ServerTls};

pub mod certificate;
pub mod client;
pub mod follow;
mod held;
pub mod name;
mod pem;
pub mod refusal;
pub mod server;
mod verify;

use client::Client;
pub use held::Look;
pub use pem::TlsError;
use server::{Inside, Server};

const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// What can be done where the library refuses what it offers itself.
const PROVIDED: &str = "this is a fault of the program";

/// The one provider of cryptography, chosen here and nowhere else.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// A port of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Callers.
    Listen,
    /// People and scripts.
    Admin,
    /// Platforms.
    Health,
}

impl Port {
    /// All of them.
    pub const ALL: [Port; 3] = [Port::Listen, Port::Admin, Port::Health];

    /// As the file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Port::Listen => "listen",
            Port::Admin => "admin",
            Port::Health => "health",
        }
    }

    fn settings(self, config: &Config) -> Option<&Arc<ServerTls>> {
        match self {
            Port::Listen => config.tls.listen.as_ref(),
            Port::Admin => config.tls.admin.as_ref(),
            Port::Health => config.tls.health.as_ref(),
        }
    }

    fn inside(self) -> Inside {
        match self {
            Port::Listen => Inside::Grpc,
            Port::Admin | Port::Health => Inside::Web,
        }
    }
}

/// All certificates of a process.
#[derive(Debug, Default)]
pub struct Store {
    ports: [ArcSwapOption<Server>; 3],
    clients: DashMap<Arc<ClientTls>, Arc<Client>>,
}

/// One file in force and until when it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `listen`, `admin`, `health`, or `client`.
    pub used: &'static str,
    /// Which file.
    pub file: PathBuf,
    /// Until when.
    pub until: SystemTime,
}

impl Store {
    /// Everything that `config` names.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(config: &Config) -> Result<Arc<Self>, TlsError> {
        let store = Store::default();
        store.adopt(config)?;
        Ok(Arc::new(store))
    }

    /// Goes over to what `config` names, and forgets what it does not.
    ///
    /// # Errors
    /// The first file that cannot be used; what stands behind it stays as it was.
    pub fn adopt(&self, config: &Config) -> Result<(), TlsError> {
        for port in Port::ALL {
            let (place, wanted) = (&self.ports[port as usize], port.settings(config));
            if place.load().as_ref().map(|server| server.settings()) == wanted {
                continue;
            }
            let server = wanted.map(|settings| Server::load(settings, port.inside())).transpose()?;
            place.store(server.map(Arc::new));
        }
        let wanted = config.tls_clients();
        for settings in &wanted {
            self.client(settings)?;
        }
        self.clients.retain(|settings, _| wanted.contains(settings));
        Ok(())
    }

    /// The certificate of a port; none: it speaks without TLS.
    pub fn port(&self, port: Port) -> Option<Arc<Server>> {
        self.ports[port as usize].load_full()
    }

    /// What servers of that kind are reached with.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn client(&self, settings: &Arc<ClientTls>) -> Result<Arc<Client>, TlsError> {
        if let Some(known) = self.clients.get(settings) {
            return Ok(Arc::clone(&known));
        }
        let client = Arc::new(Client::load(settings)?);
        self.clients.insert(Arc::clone(settings), Arc::clone(&client));
        Ok(client)
    }

    /// Until when everything in force is good.
    pub fn ends(&self) -> Vec<End> {
        let mut all = Vec::new();
        for port in Port::ALL {
            let ends = self.port(port).map(|server| server.ends()).unwrap_or_default();
            all.extend(ends.into_iter().map(|(file, until)| End { used: port.name(), file, until }));
        }
        for client in &self.clients {
            let ends = client.ends().into_iter();
            all.extend(ends.map(|(file, until)| End { used: "client", file, until }));
        }
        all.sort_by(|one, other| (one.used, &one.file).cmp(&(other.used, &other.file)));
        all.dedup();
        all
    }

    /// Why the newest files are not in force; empty: they are.
    pub fn refused(&self) -> Vec<TlsError> {
        let ports = Port::ALL.into_iter().filter_map(|port| self.port(port)?.refused());
        let mut all: Vec<TlsError> = ports.collect();
        all.extend(self.clients.iter().filter_map(|client| client.refused()));
        all.dedup();
        all
    }
}

/// Whether every file that `config` names for TLS can be used.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for port in Port::ALL {
        let settings = port.settings(config);
        if let Some(Err(error)) = settings.map(|settings| Server::load(settings, port.inside())) {
            problems.push(Problem::new(format!("tls.{}", port.name()), error.to_string()));
        }
    }
    for (path, settings) in config.tls_places() {
        if let Err(error) = Client::load(settings) {
            problems.push(Problem::new(path, error.to_string()));
        }
    }
    problems
}
