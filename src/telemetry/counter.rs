//! Counters of what happens beside a call's own outcome: one relaxed add each, no labels built at run time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that is counted. The metric's name and labels are in [`super::names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A caller's connection was accepted.
    ConnectionsAccepted,
    /// A connection ended by the peer's will, or by drain.
    ConnectionsClosed,
    /// A connection was closed for its first bytes, preface, SETTINGS acknowledgement or header block came too late.
    ConnectionsTimedOut,
    /// A connection was closed for breaking HTTP/2 or for a flood.
    ConnectionsViolated,
    /// A connection was refused, for there were as many as allowed.
    ConnectionsRefused,
    /// A connection was told to go away for its age.
    ConnectionsAged,
    /// `accept` failed, for instance for want of file descriptors.
    AcceptErrors,
    /// A connection to an upstream was made.
    UpstreamConnects,
    /// A connection to an upstream could not be made.
    UpstreamConnectErrors,
    /// A connection to an upstream was replaced before its stream or reset numbers ran out, or its name moved.
    UpstreamRotations,
    /// A stream was sent again, for the upstream provably never processed it.
    RetriesTransparent,
    /// A stream could not be sent again, for more than `limits.retain` had been sent.
    RetriesTooLarge,
    /// An endpoint was taken out for failing calls.
    Ejections,
    /// An endpoint was passed over, for it answered neither probes nor calls.
    Suspicions,
    /// A request was refused that is not gRPC: its method, content type, `te` or `grpc-timeout`.
    NotGrpc,
    /// A call was refused: too many in flight.
    ShedInFlight,
    /// A call ended: a message over `limits.message`.
    ShedMessage,
    /// A call was refused: more headers than the model server takes.
    ShedHeaders,
    /// A call was refused or ended: memory is nearly used up.
    ShedMemory,
    /// A stream was cut: its peer took nothing, or left a message unfinished, for `limits.stall`.
    Stalls,
    /// `parhelion-variant` from a caller who may not force.
    ForceStripped,
    /// `parhelion-hop` that no key verifies.
    HopUnverified,
    /// A hop after a hop.
    HopRefused,
    /// A later message of a stream names another model than its first.
    ForeignModel,
    /// An outcome that found the queue to telemetry full.
    OutcomesDropped,
    /// A caller's TLS handshake failed: it showed no certificate.
    TlsNoCertificate,
    /// A caller's TLS handshake failed: it showed a certificate of an authority that is not believed.
    TlsUnknownAuthority,
    /// A caller's TLS handshake failed: it showed a certificate whose time is over.
    TlsExpired,
    /// A caller's TLS handshake failed: it showed a certificate whose time has not come.
    TlsNotYetValid,
    /// A caller's TLS handshake failed: it has none of the names that are let in.
    TlsName,
    /// A caller's TLS handshake failed: it can do no version or cipher that is safe.
    TlsVersion,
    /// A caller's TLS handshake failed: it did not ask for HTTP/2.
    TlsAlpn,
    /// A caller's TLS handshake failed: it refused our certificate.
    TlsPeer,
    /// A caller's TLS handshake failed: it broke off, or spoke no TLS.
    TlsBroken,
    /// A caller's TLS handshake failed: it took too long.
    TlsTimedOut,
    /// Certificates were read again, and are in force.
    CertificatesTaken,
    /// Certificates that were read again cannot be used, and those before go on.
    CertificatesRefused,
    /// A worker task panicked; the call got INTERNAL.
    Panics,
}

impl Counter {
    /// Every counter, in the order of the enum.
    pub const ALL: [Counter; 38] = [
        Counter::ConnectionsAccepted,
        Counter::ConnectionsClosed,
        Counter::ConnectionsTimedOut,
        Counter::ConnectionsViolated,
        Counter::ConnectionsRefused,
        Counter::ConnectionsAged,
        Counter::AcceptErrors,
        Counter::UpstreamConnects,
        Counter::UpstreamConnectErrors,
        Counter::UpstreamRotations,
        Counter::RetriesTransparent,
        Counter::RetriesTooLarge,
        Counter::Ejections,
        Counter::Suspicions,
        Counter::NotGrpc,
        Counter::ShedInFlight,
        Counter::ShedMessage,
        Counter::ShedHeaders,
        Counter::ShedMemory,
        Counter::Stalls,
        Counter::ForceStripped,
        Counter::HopUnverified,
        Counter::HopRefused,
        Counter::ForeignModel,
        Counter::OutcomesDropped,
        Counter::TlsNoCertificate,
        Counter::TlsUnknownAuthority,
        Counter::TlsExpired,
        Counter::TlsNotYetValid,
        Counter::TlsName,
        Counter::TlsVersion,
        Counter::TlsAlpn,
        Counter::TlsPeer,
        Counter::TlsBroken,
        Counter::TlsTimedOut,
        Counter::CertificatesTaken,
        Counter::CertificatesRefused,
        Counter::Panics,
    ];
}

/// One process's counters.
#[derive(Debug)]
pub struct Counters([AtomicU64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Adds one.
    pub fn add(&self, counter: Counter) {
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the process started.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}
