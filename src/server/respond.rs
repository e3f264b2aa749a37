//! The way back to one caller. Every error that the sidecar itself makes becomes a gRPC status here, and a call that
//! is dropped half way, by a panic for instance, still ends with INTERNAL_ERROR on its stream.

use std::fmt::Write as _;
use std::task::{Context, Poll};

use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::fault::Failure;
use crate::wire::piece::Piece;

/// How a call ended, as a number.
pub static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same for people, percent-encoded.
pub static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The way back to one caller.
#[derive(Debug)]
pub struct Responder(Stage);

#[derive(Debug)]
enum Stage {
    /// Nothing was said yet.
    Silent(SendResponse<Piece>),
    /// Headers are out.
    Open(SendStream<Piece>),
    Ended,
}

impl Responder {
    /// For a stream just accepted.
    pub fn new(respond: SendResponse<Piece>) -> Self {
        Responder(Stage::Silent(respond))
    }

    /// Whether nothing was said yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.0, Stage::Silent(_))
    }

    /// Whether all was said.
    pub fn is_ended(&self) -> bool {
        matches!(self.0, Stage::Ended)
    }

    /// Sends response headers; `end` for a response that is headers only.
    ///
    /// # Errors
    /// When the stream or its connection is gone.
    pub fn headers(&mut self, status: StatusCode, headers: HeaderMap, end: bool) -> Result<(), h2::Error> {
        let Stage::Silent(respond) = &mut self.0 else { return Ok(()) };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let stream = respond.send_response(response, end)?;
        self.0 = if end { Stage::Ended } else { Stage::Open(stream) };
        Ok(())
    }

    /// The stream for messages, once headers are out.
    pub fn stream(&mut self) -> Option<&mut SendStream<Piece>> {
        match &mut self.0 {
            Stage::Open(stream) => Some(stream),
            Stage::Silent(_) | Stage::Ended => None,
        }
    }

    /// Says that all was sent through [`Responder::stream`].
    pub fn end(&mut self) {
        self.0 = Stage::Ended;
    }

    /// Ends the response with trailers.
    ///
    /// # Errors
    /// When the stream or its connection is gone.
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        let Stage::Open(stream) = &mut self.0 else { return Ok(()) };
        let result = stream.send_trailers(trailers);
        self.0 = Stage::Ended;
        result
    }

    /// Ends the call with a status of the sidecar's own: trailers-only while nothing was said, else trailers.
    /// `tags` go where headers are still possible.
    pub fn fail(&mut self, failure: &Failure, tags: HeaderMap) {
        let result = if self.is_silent() {
            let mut headers = tags;
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            status_into(&mut headers, failure);
            self.headers(StatusCode::OK, headers, true)
        } else {
            let mut trailers = HeaderMap::with_capacity(2);
            status_into(&mut trailers, failure);
            self.trailers(trailers)
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the caller left before it could be told {}", failure.code);
        }
    }

    /// Ends the call with a bare HTTP status, for requests that are not gRPC.
    pub fn refuse(&mut self, status: StatusCode) {
        if let Err(error) = self.headers(status, HeaderMap::new(), true) {
            tracing::debug!(%error, "the caller left before it could be told {status}");
        }
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.0 {
            Stage::Silent(respond) => respond.send_reset(reason),
            Stage::Open(stream) => stream.send_reset(reason),
            Stage::Ended => {}
        }
        self.0 = Stage::Ended;
    }

    /// Ready when the caller gave the call up, or its connection is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Stage::Silent(respond) => respond.poll_reset(cx).map(|_| ()),
            Stage::Open(stream) => stream.poll_reset(cx).map(|_| ()),
            Stage::Ended => Poll::Pending,
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
    }
}

/// Writes `grpc-status` and `grpc-message`.
fn status_into(headers: &mut HeaderMap, failure: &Failure) {
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(failure.code.0));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(&failure.message)) {
        headers.insert(GRPC_MESSAGE.clone(), message);
    }
}

/// The encoding of `grpc-message`: printable ASCII but `%` stays, every other byte becomes `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Reads `grpc-message` for people: what is no valid escape stays as it is.
pub fn percent_decode(bytes: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escape = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escape
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encode("plain: 5 of 7"), "plain: 5 of 7");
        assert_eq!(percent_encode("100%\r\nü"), "100%25%0D%0A%C3%BC");
        assert_eq!(percent_decode(b"100%25%0D%0A%C3%BC"), "100%\r\nü");
        assert_eq!(percent_decode(b"50% of %zz%4"), "50% of %zz%4");
    }
}
