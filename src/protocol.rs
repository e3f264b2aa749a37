//! What the bytes of a call say, without decoding them.
//!
//! A path is recognised by one [`Adapter`], and an adapter is pure functions: which methods may be peeked into, how
//! their messages are scanned for the few fields that matter here, and which bytes give a message another name.
//! Bytes stay bytes: a scan walks top-level protobuf tags and steps over tensors by their length, and a rename is
//! appended, for the last value of a protobuf field wins. So whatever the two ends know and this house does not
//! goes through unchanged.

use bytes::Bytes;

pub mod encoding;
pub mod frame;
pub mod oip;
pub mod opaque;
pub mod request;
pub mod response;
pub mod timeout;
pub mod token;

pub use request::{Head, RequestScan};
pub use response::ResponseScan;
pub use token::ScanError;

/// How a method is read, where its first message may be waited for.
///
/// Of any other method the arity is unknown and a peer may wait for the answer before it sends a message, so its
/// call is dispatched at its headers and never looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peek {
    /// One message each way.
    Unary,
    /// Any number of messages each way; the call is planned by its first.
    Stream,
}

/// A protocol that calls may speak.
///
/// The provided functions are those of a protocol that is never looked into. One that peeks overrides them all.
pub trait Adapter: Sync + std::fmt::Debug {
    /// The word used in spans: `oip` or `opaque`.
    fn name(&self) -> &'static str;

    /// How the method at `path` is read; `None`: not at all.
    fn peek(&self, _path: &str) -> Option<Peek> {
        None
    }

    /// Scans one request message; parameters are kept only where they are wanted.
    fn request_scan(&self, _want_parameters: bool) -> RequestScan {
        RequestScan::blind()
    }

    /// Scans one response message of `length` bytes.
    fn response_scan(&self, _peek: Peek, _length: usize) -> ResponseScan {
        ResponseScan::blind()
    }

    /// What to append to a request message so that it asks for `name` and `version`; `None` leaves a field as it is.
    fn rename_request(&self, _name: Option<&str>, _version: Option<&str>) -> Bytes {
        Bytes::new()
    }

    /// What to append to the response message that `scan` has seen, so that it bears `name` and `version`.
    ///
    /// `None`: this cannot be said before more of the message is fed to the scan; never so once it is finished, nor
    /// for unary methods.
    fn rename_response(
        &self,
        _peek: Peek,
        _name: Option<&str>,
        _version: Option<&str>,
        _scan: &ResponseScan,
    ) -> Option<Bytes> {
        Some(Bytes::new())
    }
}

/// The adapter for a path, `/pkg.Service/Method`.
pub fn recognise(path: &str) -> &'static dyn Adapter {
    if path.starts_with(oip::SERVICE) { &oip::Oip } else { &opaque::Opaque }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bytes in chunks, cut at some places.
    pub(crate) fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = at.iter().map(|place| place % (bytes.len() + 1)).collect();
        at.sort_unstable();
        let mut start = 0;
        let mut chunks = Vec::new();
        for place in at.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[start..place]);
            start = place;
        }
        chunks
    }

    #[test]
    fn a_path_finds_its_adapter_and_how_it_is_read() {
        for (path, name, peek) in [
            ("/inference.GRPCInferenceService/ModelInfer", "oip", Some(Peek::Unary)),
            ("/inference.GRPCInferenceService/ModelStreamInfer", "oip", Some(Peek::Stream)),
            ("/inference.GRPCInferenceService/ModelReady", "oip", None),
            ("/inference.GRPCInferenceService/ModelInferX", "oip", None),
            ("/inference.GRPCInferenceServiceX/ModelInfer", "opaque", None),
            ("/grpc.health.v1.Health/Check", "opaque", None),
            ("", "opaque", None),
            ("*", "opaque", None),
        ] {
            let adapter = recognise(path);
            assert_eq!((adapter.name(), adapter.peek(path)), (name, peek), "{path}");
        }
    }

    #[test]
    fn opaque_sees_and_changes_nothing() {
        let adapter = recognise("/any.Service/Method");
        let mut request = adapter.request_scan(true);
        assert!(request.enough());
        assert_eq!(request.feed(b"\xff\xff not protobuf"), Ok(()));
        assert_eq!(request.finish(), Ok(()));
        assert_eq!(request.head(), &Head::default());
        let mut response = adapter.response_scan(Peek::Stream, 3);
        assert_eq!(response.feed(b"\x0a\x01x"), Ok(()));
        assert_eq!(response.finish(), Ok(()));
        assert!(response.settled());
        assert_eq!((response.reported_name(), response.in_band_error()), (None, None));
        assert!(adapter.rename_request(Some("a"), Some("b")).is_empty());
        let renamed = adapter.rename_response(Peek::Unary, Some("a"), Some("b"), &response);
        assert_eq!(renamed, Some(Bytes::new()));
    }
}
