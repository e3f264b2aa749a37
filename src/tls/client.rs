//! The side that connects: whom it believes, and what it shows of itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsConnector;

use super::held::{Held, Look, Made};
use super::pem::{self, TlsError};
use super::refusal::advice;
use super::verify::Servers;
use super::{H2, HTTP1, PROVIDED, provider};
use crate::config::ClientTls;
use crate::wire::secure::Secure;
use crate::wire::socket::Socket;

/// What servers are believed by, and the certificate that is shown to them, as they are now.
#[derive(Debug)]
pub struct Client {
    settings: Arc<ClientTls>,
    held: Held<ClientConfig>,
}

impl Client {
    /// From the files that `settings` name, or the authorities of this system.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(settings: &Arc<ClientTls>) -> Result<Self, TlsError> {
        let mut files: Vec<PathBuf> = settings.ca.iter().cloned().collect();
        files.extend(settings.pair.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        let held = Held::new(files, || make(settings, SystemTime::now()))?;
        Ok(Client { settings: Arc::clone(settings), held })
    }

    /// Shakes hands with the server that is called `host`, and agrees on HTTP/2. For how long is the caller's affair.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn connect(&self, host: &str, socket: Socket) -> io::Result<Socket> {
        let (socket, spoken) = self.shake(self.held.value(), host, socket).await?;
        if spoken.as_deref() != Some(H2) {
            let what = "it speaks TLS, but does not agree on HTTP/2 (ALPN h2); use the server's gRPC port";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(socket)
    }

    /// The same with a server of HTTP/1.1, which need not say that it speaks that.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn connect_http1(&self, host: &str, socket: Socket) -> io::Result<Socket> {
        let mut config = ClientConfig::clone(&self.held.value());
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(self.shake(Arc::new(config), host, socket).await?.0)
    }

    /// The socket with TLS on it, and what the server agreed to speak.
    async fn shake(
        &self,
        config: Arc<ClientConfig>,
        host: &str,
        socket: Socket,
    ) -> io::Result<(Socket, Option<Vec<u8>>)> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let shaken = TlsConnector::from(config).connect(server, socket).await;
        let (socket, session) = shaken.map_err(|error| advice(error, name, &self.settings))?.into_inner();
        let spoken = session.alpn_protocol().map(<[u8]>::to_vec);
        Ok((Socket::Tls(Box::new(Secure::new(socket, session.into()))), spoken))
    }

    /// Looks at the files again, and takes what they hold if it is good.
    pub fn look(&self) -> Look {
        self.held.look(|| make(&self.settings, SystemTime::now()))
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

fn make(settings: &ClientTls, now: SystemTime) -> Result<Made<ClientConfig>, TlsError> {
    let mut ends = Vec::new();
    let roots = match &settings.ca {
        Some(path) => {
            let (roots, until) = pem::authorities(path, now)?;
            ends.push((path.clone(), until));
            roots
        }
        None => pem::of_system()?,
    };
    let wrong = |what: String| TlsError {
        file: settings.ca.clone().unwrap_or_else(|| PathBuf::from("ca")),
        what,
        remedy: PROVIDED,
    };
    let roots = Arc::new(roots);
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
    let inner = inner.map_err(|error| wrong(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(error.to_string()))?;
    let verifier = Servers { inner, roots, allow: settings.allow.clone() };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.pair {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let pair = pem::pair(cert, key, now)?;
            ends.push((cert.clone(), pair.facts.until));
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key)))
        }
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(Made { value: Arc::new(config), ends })
}
