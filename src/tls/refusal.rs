//! Why a handshake failed: for callers a reason that is counted, for servers a word to those who configure.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::config::ClientTls;
use crate::telemetry::counter::Counter;

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It showed no certificate.
    NoCertificate,
    /// No authority that is believed signed for it.
    UnknownAuthority,
    /// Its certificate's time is over.
    Expired,
    /// Its certificate's time has not come.
    NotYetValid,
    /// It is none of those who are let in.
    Name,
    /// It cannot do TLS 1.2, or nothing that both can do is safe.
    Version,
    /// It did not ask for HTTP/2.
    Alpn,
    /// It refused us: most often it does not believe our authority.
    Peer,
    /// It went away, or said something that is no TLS.
    Broken,
    /// It took too long.
    TimedOut,
}

impl Refusal {
    /// Reads an error of a handshake.
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::NoCertificatesPresented) => Refusal::NoCertificate,
            Some(Error::InvalidCertificate(why)) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Refusal::NotYetValid
                }
                CertificateError::ApplicationVerificationFailure => Refusal::Name,
                _ => Refusal::UnknownAuthority,
            },
            Some(Error::PeerIncompatible(_)) => Refusal::Version,
            Some(Error::NoApplicationProtocol) => Refusal::Alpn,
            Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => Refusal::Version,
            Some(Error::AlertReceived(_)) => Refusal::Peer,
            _ => Refusal::Broken,
        }
    }

    /// What is counted.
    pub fn counter(self) -> Counter {
        match self {
            Refusal::NoCertificate => Counter::TlsNoCertificate,
            Refusal::UnknownAuthority => Counter::TlsUnknownAuthority,
            Refusal::Expired => Counter::TlsExpired,
            Refusal::NotYetValid => Counter::TlsNotYetValid,
            Refusal::Name => Counter::TlsName,
            Refusal::Version => Counter::TlsVersion,
            Refusal::Alpn => Counter::TlsAlpn,
            Refusal::Peer => Counter::TlsPeer,
            Refusal::Broken => Counter::TlsBroken,
            Refusal::TimedOut => Counter::TlsTimedOut,
        }
    }
}

/// An error of a handshake with a server that was called `name`, with what to do about it.
pub(super) fn advice(error: io::Error, name: &str, settings: &ClientTls) -> io::Error {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return error };
    let believed = match &settings.ca {
        Some(path) => format!("{}", path.display()),
        None => "this system's authorities (name others with `ca`)".to_owned(),
    };
    let what = match inner {
        Error::InvalidCertificate(why) => match why {
            // An authority of the same name, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("its certificate is signed by none of {believed}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not good yet; look at both clocks".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "its certificate is not for {name}; say another `server_name`, or who it is with `allow`"
                )
            }
            CertificateError::ApplicationVerificationFailure => {
                "its certificate has none of the names of `allow`".to_owned()
            }
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "its certificate is that of an authority; sign one for the server (CA:FALSE)".to_owned()
            }
            other => format!("its certificate is not believed: {other}"),
        },
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "it does not speak TLS; write http:// for a port without".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a client certificate; name one with `cert` and `key`".to_owned()
        }
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it does not agree on HTTP/2 (ALPN h2); use the server's gRPC port".to_owned()
        }
        Error::AlertReceived(alert) => format!("it refused the handshake ({alert:?})"),
        Error::PeerIncompatible(_) => format!("no common version or cipher: {inner}"),
        other => other.to_string(),
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}
