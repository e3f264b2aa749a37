//! gRPC messages as bytes: framing them, taking them apart again, and sending them as the window allows.

use std::future::poll_fn;
use std::io::Write;

use bytes::{Buf, Bytes, BytesMut};
use h2::SendStream;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A message with its prefix.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = vec![flag];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

/// Compressed as `grpc-encoding: gzip` means it.
pub(crate) fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// A stream of messages, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Deframer(BytesMut);

impl Deframer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message and its flag.
    pub(crate) fn next(&mut self) -> Option<(u8, Bytes)> {
        let length = u32::from_be_bytes(self.0.get(1..5)?.try_into().ok()?) as usize;
        if self.0.len() < 5 + length {
            return None;
        }
        let flag = self.0[0];
        self.0.advance(5);
        Some((flag, self.0.split_to(length).freeze()))
    }
}

/// Sends all of `bytes` as the peer's window allows; the error is the peer's reset.
pub(crate) async fn push(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        if stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room?,
                // Closed: the reset says why.
                None => return Err(poll_fn(|cx| stream.poll_reset(cx)).await?.into()),
            };
        }
        let room = stream.capacity().min(bytes.len());
        if room > 0 {
            stream.send_data(bytes.split_to(room), false)?;
        }
    }
    if end { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// Headers from pairs, repeated names in order.
pub(crate) fn pairs(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}
