//! How an exchange with an upstream ended.

use http::{HeaderMap, HeaderValue};

use crate::fault::Code;
use crate::protocol::frame::FrameError;
use crate::server::respond::{GRPC_MESSAGE, GRPC_STATUS, percent_decode};

/// Who may owe something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debtor {
    /// The caller, the rest of a message.
    Caller,
    /// The caller, who takes nothing of the answer.
    Reader,
    /// The model server: to take what is sent, or the rest of a message.
    Server,
}

/// How an exchange ended.
#[derive(Debug)]
pub enum End {
    /// The caller has the upstream's own answer, to its last byte.
    Answered {
        /// As the upstream said it.
        status: Code,
        /// Its message, for people.
        message: Option<Box<str>>,
    },
    /// The upstream's own answer, which failed by this status, was thrown away: the caller knows nothing of it.
    GivenUp(Code),
    /// The upstream broke off.
    Broken(h2::Error),
    /// The caller gave up, or left.
    Cancelled,
    /// A message of the caller is over the limit.
    RequestTooLarge(FrameError),
    /// A message of the upstream is over the limit.
    ResponseTooLarge(FrameError),
    /// Somebody took nothing, or left a message unfinished, for too long.
    Stalled(Debtor),
}

/// The end of an answer that ended by itself, as its last headers say it.
pub(super) fn answered(headers: &HeaderMap, http: u16) -> End {
    let text = |value: &HeaderValue| percent_decode(value.as_bytes()).into_boxed_str();
    End::Answered { status: answered_by(headers, http), message: headers.get(&GRPC_MESSAGE).map(text) }
}

/// The status that headers or trailers carry.
pub(crate) fn answered_by(headers: &HeaderMap, http: u16) -> Code {
    match headers.get(&GRPC_STATUS) {
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).map_or(Code::UNKNOWN, Code),
        None => Code::from_http(http),
    }
}
