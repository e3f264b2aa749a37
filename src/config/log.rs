//! Where predictions are logged, and what of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::units::{Percent, Size};
use super::{Address, ClientTls};

/// The prediction log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The directory.
    pub dir: PathBuf,
    /// Share of predictions that are logged, with their copies and reports.
    pub sample: Percent,
    /// How long a row lies in memory at most: what a `kill -9` can take.
    pub flush: Duration,
    /// How large a spool grows before it is sealed.
    pub seal_size: Size,
    /// How old a spool gets before it is sealed.
    pub seal_every: Duration,
    /// What the directory may hold.
    pub disk: Size,
    /// What goes where it holds that.
    pub full: Full,
    /// URL of the store that sealed files go to; none: they stay.
    pub upload: Option<String>,
    /// Whose messages are kept, and how; none: nobody's.
    pub payloads: Option<Payloads>,
    /// Who is told of calls as CloudEvents; none: nobody.
    pub cloudevents: Option<CloudEvents>,
}

/// Who is told of calls as CloudEvents of the types of KServe's logger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvents {
    /// Where it is; always TCP.
    pub address: Address,
    /// From the first `/` on.
    pub path: Arc<str>,
    /// How it is believed; none: it is reached without TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// Of which side of a call.
    pub mode: EventMode,
    /// The events' `source`, a URI reference.
    pub source: String,
    /// The events' `namespace`; none: they have none.
    pub namespace: Option<String>,
}

/// Which events a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventMode {
    /// Both.
    All,
    /// The request's.
    Request,
    /// The response's.
    Response,
}

impl EventMode {
    /// Every value.
    pub const ALL: [EventMode; 3] = [EventMode::All, EventMode::Request, EventMode::Response];

    /// As written in the file, and by KServe.
    pub fn name(self) -> &'static str {
        match self {
            EventMode::All => "all",
            EventMode::Request => "request",
            EventMode::Response => "response",
        }
    }
}

impl CloudEvents {
    /// As it is written in the file.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.path)
    }
}

/// Whose messages are kept, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Payloads {
    /// Share of the logged unary calls.
    pub sample: Percent,
    /// Bytes of one message; of a call with a larger one nothing is kept.
    pub size: Size,
    /// How they stand in the row.
    pub kept_as: PayloadsAs,
    /// Names of tensors whose contents are left out.
    pub mask: Vec<String>,
}

/// How messages stand in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadsAs {
    /// As protobuf.
    Raw,
    /// As JSON.
    Decoded,
}

impl PayloadsAs {
    /// Every value.
    pub const ALL: [PayloadsAs; 2] = [PayloadsAs::Raw, PayloadsAs::Decoded];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            PayloadsAs::Raw => "raw",
            PayloadsAs::Decoded => "decoded",
        }
    }
}

/// What goes where the directory holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The oldest sealed files.
    DropOldest,
    /// What comes now.
    DropNewest,
}

impl Full {
    /// Every value.
    pub const ALL: [Full; 2] = [Full::DropOldest, Full::DropNewest];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Full::DropOldest => "drop_oldest",
            Full::DropNewest => "drop_newest",
        }
    }
}
