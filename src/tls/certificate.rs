//! What a certificate says of itself: its names, and from when until when it is good. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::name::Names;

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Good from then.
    pub from: SystemTime,
    /// Good until then.
    pub until: SystemTime,
    /// What its holder is called.
    pub names: Names,
}

/// Why it is not good at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Its time has not come.
    NotYet,
    /// It is good.
    Good,
    /// Its time is over.
    Expired,
}

impl Facts {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no X.509 certificate, said for people.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate =
            Certificate::from_der(der).map_err(|error| format!("is no X.509 certificate: {error}"))?;
        let inner = &certificate.tbs_certificate;
        let names = inner
            .get::<SubjectAltName>()
            .map_err(|error| format!("has names that cannot be read: {error}"))?;
        let mut found = Names::default();
        for name in names.iter().flat_map(|(_, names)| &names.0) {
            match name {
                GeneralName::DnsName(name) => found.dns.push(name.as_str().to_ascii_lowercase()),
                GeneralName::UniformResourceIdentifier(name) => found.uris.push(name.as_str().to_owned()),
                _ => {}
            }
        }
        let at = |since: Duration| UNIX_EPOCH + since;
        Ok(Facts {
            from: at(inner.validity.not_before.to_unix_duration()),
            until: at(inner.validity.not_after.to_unix_duration()),
            names: found,
        })
    }

    /// Whether it is good at `now`.
    pub fn age(&self, now: SystemTime) -> Age {
        match () {
            () if now < self.from => Age::NotYet,
            () if now > self.until => Age::Expired,
            () => Age::Good,
        }
    }
}
