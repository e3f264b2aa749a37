//! The side that is connected to: a port with a certificate, and who may come in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsAcceptor;

use super::held::{Held, Look, Made};
use super::pem::{self, TlsError};
use super::refusal::Refusal;
use super::verify::Callers;
use super::{H2, HTTP1, PROVIDED, provider};
use crate::config::ServerTls;
use crate::wire::secure::Secure;
use crate::wire::socket::Socket;

/// Sessions that are remembered, so that who comes again need not show everything again.
const SESSIONS: usize = 256;

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/2, and a peer must say so (ALPN).
    Grpc,
    /// HTTP/2 or HTTP/1.1.
    Web,
}

/// A port's certificate and its callers' authorities, as they are now.
#[derive(Debug)]
pub struct Server {
    settings: Arc<ServerTls>,
    inside: Inside,
    held: Held<ServerConfig>,
}

impl Server {
    /// From the files that `settings` name.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(settings: &Arc<ServerTls>, inside: Inside) -> Result<Self, TlsError> {
        let mut files = vec![settings.cert.clone(), settings.key.clone()];
        files.extend(settings.client_ca.clone());
        let held = Held::new(files, || make(settings, inside, SystemTime::now()))?;
        Ok(Server { settings: Arc::clone(settings), inside, held })
    }

    /// What it was made from.
    pub fn settings(&self) -> &Arc<ServerTls> {
        &self.settings
    }

    /// Shakes hands. For how long is the caller's affair.
    ///
    /// # Errors
    /// Why the peer is not let in; it was told, as far as TLS can.
    pub async fn accept(&self, socket: Socket) -> Result<Socket, Refusal> {
        let shaken = TlsAcceptor::from(self.held.value()).accept(socket).await;
        let (socket, session) = shaken.map_err(|error| Refusal::of(&error))?.into_inner();
        if self.inside == Inside::Grpc && session.alpn_protocol() != Some(H2) {
            return Err(Refusal::Alpn);
        }
        Ok(Socket::Tls(Box::new(Secure::new(socket, session.into()))))
    }

    /// Looks at the files again, and takes what they hold if it is good.
    pub fn look(&self) -> Look {
        self.held.look(|| make(&self.settings, self.inside, SystemTime::now()))
    }

    /// Whether the files are others than at the last look.
    pub fn differs(&self) -> bool {
        self.held.differs()
    }

    /// The files that it is made from.
    pub fn files(&self) -> &[PathBuf] {
        self.held.files()
    }

    /// By file: until when what is in force is good.
    pub fn ends(&self) -> Vec<(PathBuf, SystemTime)> {
        self.held.ends()
    }

    /// Why the newest files are not in force; none: they are.
    pub fn refused(&self) -> Option<TlsError> {
        self.held.refused()
    }
}

fn make(settings: &ServerTls, inside: Inside, now: SystemTime) -> Result<Made<ServerConfig>, TlsError> {
    let pair = pem::pair(&settings.cert, &settings.key, now)?;
    let mut ends = vec![(settings.cert.clone(), pair.facts.until)];
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| settings.wrong(error.to_string(), PROVIDED))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (roots, until) = pem::authorities(path, now)?;
            ends.push((path.clone(), until));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = if settings.optional { verifier.allow_unauthenticated() } else { verifier };
            let inner =
                verifier.build().map_err(|error| settings.wrong(error.to_string(), "look at client_ca"))?;
            builder.with_client_cert_verifier(Arc::new(Callers { inner, allow: settings.allow.clone() }))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key)));
    config.alpn_protocols = match inside {
        Inside::Grpc => vec![H2.to_vec()],
        Inside::Web => vec![H2.to_vec(), HTTP1.to_vec()],
    };
    if settings.client_ca.is_some() {
        // A session that is resumed shows no certificate, and so would outlive it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.send_tls13_tickets = 1;
    }
    Ok(Made { value: Arc::new(config), ends })
}

impl ServerTls {
    fn wrong(&self, what: String, remedy: &'static str) -> TlsError {
        TlsError { file: self.cert.clone(), what, remedy }
    }
}
