//! TLS of the tools: certificates made on the spot, and both sides, each of which asks the other for its own.
//!
//! There is one version and one cipher, so that no proxy is cheaper than another by what it likes to choose: TLS 1.3 with
//! AES-128-GCM.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Who signs.
const AUTHORITY: &str = "ca.crt";
/// The one certificate that everybody shows, its key, and both in a file, as HAProxy wants it.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const TOGETHER: &str = "tls.pem";

/// A socket of either kind.
pub(crate) type Socket = Box<dyn Both>;

/// Both directions.
pub(crate) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to write `ca.crt`, `tls.crt`, `tls.key` and `tls.pem`
    folder: PathBuf,
}

/// Makes an authority and a certificate for loopback that is good for both sides of a connection.
pub(crate) fn certificates(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut params = named("bench authority", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let mut params = named("bench", vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress(HERE));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    let key = key.serialize_pem();
    let together = format!("{certificate}{key}");
    for (name, text) in
        [(AUTHORITY, &authority), (CERTIFICATE, &certificate), (KEY, &key), (TOGETHER, &together)]
    {
        fs::write(arguments.folder.join(name), text)?;
    }
    Ok(())
}

/// Of different names: OpenSSL takes a certificate that is named as its authority is for one that signed itself.
fn named(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// The server's side, with what lies in `folder`.
pub(crate) fn acceptor(folder: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let roots = Arc::new(believed(folder)?);
    let callers = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let (chain, key) = own(folder)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(callers)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

/// The client's.
pub(crate) fn connector(folder: &Path) -> Result<TlsConnector, Box<dyn Error>> {
    let (chain, key) = own(folder)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(believed(folder)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

/// The server's half of a connection, with TLS where there is an acceptor.
pub(crate) async fn accept(socket: TcpStream, tls: Option<&TlsAcceptor>) -> std::io::Result<Socket> {
    socket.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(socket),
        Some(tls) => Box::new(tls.accept(socket).await?),
    })
}

/// The client's half.
pub(crate) async fn connect(socket: TcpStream, tls: Option<&TlsConnector>) -> std::io::Result<Socket> {
    socket.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(socket),
        Some(tls) => Box::new(tls.connect(ServerName::from(HERE), socket).await?),
    })
}

fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..default_provider() })
}

fn believed(folder: &Path) -> Result<RootCertStore, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join(AUTHORITY))?)?;
    Ok(roots)
}

fn own(folder: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE))?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_file(folder.join(KEY))?))
}
