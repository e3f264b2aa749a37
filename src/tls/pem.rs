//! Certificates and keys from PEM files, and everything that can be wrong with them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{Age, Facts};
use super::provider;

/// More than any sensible bundle of certificates, and a bound for a path that turns out to be a device.
const MAX_FILE: u64 = 4 << 20;

/// Why files are refused. What a key file holds is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}; {remedy}", file.display())]
pub struct TlsError {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// A chain with its key, and what its first certificate says.
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: Facts,
}

impl TlsError {
    fn new(file: &Path, what: impl Into<String>, remedy: &'static str) -> Self {
        TlsError { file: file.to_owned(), what: what.into(), remedy }
    }
}

/// The chain in `cert` with the key in `key`, good at `now`.
pub(super) fn pair(cert: &Path, key: &Path, now: SystemTime) -> Result<Pair, TlsError> {
    let chain =
        certificates(cert, "holds no certificate", "put the chain there as PEM, the server's own first")?;
    let text = read(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let what = match error {
            pem::Error::NoItemsFound => "holds no private key",
            _ => "holds a private key that cannot be read",
        };
        TlsError::new(key, what, "put the key of the certificate there as PEM, not encrypted")
    })?;
    let signer = provider().key_provider.load_private_key(secret).map_err(|_| {
        let remedy = "make a key for ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more";
        TlsError::new(key, "holds a private key of a kind that is not supported", remedy)
    })?;
    let facts = chain.first().map_or_else(|| Err("holds no certificate".to_owned()), Facts::read);
    let facts = facts.map_err(|what| TlsError::new(cert, what, "make the certificate anew"))?;
    let pair = CertifiedKey::new(chain, signer);
    if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = pair.keys_match() {
        let what = format!("is not the certificate of the key in {}", key.display());
        return Err(TlsError::new(cert, what, "put both there at once, by renaming a folder or a link"));
    }
    let day = |time| crate::admin::rfc3339(time);
    match facts.age(now) {
        Age::Good => Ok(Pair { key: Arc::new(pair), facts }),
        Age::Expired => {
            Err(TlsError::new(cert, format!("expired on {}", day(facts.until)), "put a newer one there"))
        }
        Age::NotYet => {
            let what = format!("is not good before {}", day(facts.from));
            Err(TlsError::new(cert, what, "wait, look at this machine's clock, or put another one there"))
        }
    }
}

/// The authorities in `path`; those whose time is over are left out.
pub(super) fn authorities(path: &Path, now: SystemTime) -> Result<(RootCertStore, SystemTime), TlsError> {
    let remedy = "put the certificates of the authorities there as PEM";
    let found = certificates(path, "holds no certificate, so nobody could be believed", remedy)?;
    let mut store = RootCertStore::empty();
    let mut until: Option<SystemTime> = None;
    let mut old = None;
    for der in found {
        let facts = Facts::read(&der).map_err(|what| TlsError::new(path, what, remedy))?;
        if facts.age(now) == Age::Expired {
            old = Some(facts.until);
            continue;
        }
        store.add(der).map_err(|error| {
            TlsError::new(path, format!("holds a certificate that cannot be an authority: {error}"), remedy)
        })?;
        until = Some(until.map_or(facts.until, |known| known.max(facts.until)));
    }
    match until {
        Some(until) => Ok((store, until)),
        None => {
            let last =
                old.map_or_else(String::new, |old| format!(", the last on {}", crate::admin::rfc3339(old)));
            Err(TlsError::new(
                path,
                format!("holds only expired certificates{last}"),
                "put a newer one there",
            ))
        }
    }
}

/// The authorities that this system believes.
pub(super) fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let what = "this system has no certificates of authorities (the image has none)";
        let remedy = "name a file with `ca`, or set SSL_CERT_FILE";
        return Err(TlsError::new(Path::new("ca"), what, remedy));
    }
    Ok(store)
}

fn certificates(
    path: &Path,
    none: &'static str,
    remedy: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| TlsError::new(path, "is no PEM file that can be read", remedy))?;
    if found.is_empty() { Err(TlsError::new(path, none, remedy)) } else { Ok(found) }
}

/// The text of `path`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read as _;
    let io = |error: io::Error| {
        TlsError::new(path, format!("cannot be read: {error}"), "mount it there, and let this user read it")
    };
    let file = std::fs::File::open(path).map_err(io)?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(TlsError::new(path, "is a directory", "name the file in it"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(io)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(TlsError::new(path, "is larger than 4 MiB", "name a file of certificates or a key")),
        false => Ok(text),
    }
}
