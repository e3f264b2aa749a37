//! The outputs of an answer: from chunks to messages, from a message to its tensors.

use std::borrow::Cow;

use bytes::Bytes;

use super::OUTPUTS;
use super::tensor::Tensor;
use crate::protocol::frame::{Event, Messages};
use crate::protocol::response::Shape;
use crate::protocol::token::{Token, Walker};
use crate::protocol::{Peek, ResponseScan, encoding, oip};

/// Why an answer's bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// What one message says.
#[derive(Debug)]
pub enum Said<'a> {
    /// Outputs.
    Outputs(Outputs<'a>),
    /// An error inside a stream.
    Error,
    /// It is no message of the protocol.
    Unreadable,
}

/// The outputs of one message.
#[derive(Debug, Default)]
pub struct Outputs<'a> {
    /// In the order of the message.
    pub tensors: Vec<Tensor<'a>>,
    /// Whether there are more.
    pub cut: bool,
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A varint, or the bits of a fixed-width number, with its wire type.
    Scalar(u8, u64),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// The messages of an answer, inflated where they are compressed; together at most `limit` bytes where they are.
///
/// # Errors
/// When a message is cut off, or compressed in a way that is not read.
pub fn messages<'a>(
    chunks: &'a [Bytes],
    encoded: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Cow<'a, [u8]>>, Unreadable> {
    let mut walk = Messages::new(usize::MAX);
    let mut found: Vec<Cow<'a, [u8]>> = Vec::new();
    let (mut current, mut compressed, mut left) = (Cow::Borrowed(&[][..]), 0, limit);
    let mut broken = false;
    for chunk in chunks {
        let walked = walk.walk(chunk, |event| match event {
            Event::Start { compressed: flag, .. } => (current, compressed) = (Cow::Borrowed(&[][..]), flag),
            // One that came in one piece is not copied.
            Event::Payload(part) if current.is_empty() => current = Cow::Borrowed(part),
            Event::Payload(part) => current.to_mut().extend_from_slice(part),
            Event::End => {
                let message = std::mem::take(&mut current);
                match compressed {
                    0 => found.push(message),
                    _ => match encoding::inflate(encoded.unwrap_or_default(), &message, left) {
                        Ok(plain) => {
                            left -= plain.len();
                            found.push(Cow::Owned(plain));
                        }
                        Err(_) => broken = true,
                    },
                }
            }
        });
        if walked.is_err() || broken {
            return Err(Unreadable);
        }
    }
    if walk.unfinished() { Err(Unreadable) } else { Ok(found) }
}

/// What a message says.
pub fn said(message: &[u8], peek: Peek) -> Said<'_> {
    let inner = match peek {
        Peek::Unary => Some(message),
        Peek::Stream => match unwrapped(message) {
            Some(inner) => inner,
            None => return Said::Error,
        },
    };
    match inner.ok_or(Unreadable).and_then(outputs) {
        Ok(outputs) => Said::Outputs(outputs),
        Err(Unreadable) => Said::Unreadable,
    }
}

/// The inference response that a stream's message is or holds; none: it is an error. The inner none: it holds none.
fn unwrapped(message: &[u8]) -> Option<Option<&[u8]>> {
    let mut scan = ResponseScan::new(Peek::Stream, message.len());
    // What it cannot read, it says by its form.
    let _ = scan.feed(message).and_then(|()| scan.finish());
    if scan.in_band_error().is_some() {
        return None;
    }
    if scan.shape() == Some(Shape::Bare) {
        return Some(Some(message));
    }
    let mut inner = Some(&[][..]);
    let read = fields(message, |field, value| {
        if let (oip::INFER_RESPONSE, Value::Bytes(bytes)) = (field, value) {
            // A second one is merged into the first by whoever parses it; a server has no reason to send it so.
            inner = inner.filter(|known: &&[u8]| known.is_empty()).map(|_| bytes);
        }
        Ok(())
    });
    Some(inner.filter(|_| read.is_ok()))
}

fn outputs(message: &[u8]) -> Result<Outputs<'_>, Unreadable> {
    let (mut tensors, mut raw, mut cut) = (Vec::new(), Vec::new(), false);
    fields(message, |field, value| {
        let Value::Bytes(bytes) = value else { return Ok(()) };
        match field {
            oip::TENSORS if tensors.len() < OUTPUTS => tensors.push(Tensor::read(bytes)?),
            oip::RAW_OUTPUTS if raw.len() < OUTPUTS => raw.push(bytes),
            oip::TENSORS | oip::RAW_OUTPUTS => cut = true,
            _ => {}
        }
        Ok(())
    })?;
    if !raw.is_empty() {
        for (at, tensor) in tensors.iter_mut().enumerate() {
            tensor.raw(raw.get(at).copied());
        }
    }
    Ok(Outputs { tensors, cut })
}

/// Goes over the fields of a message that is there whole.
pub(super) fn fields<'a>(
    message: &'a [u8],
    mut visit: impl FnMut(u32, Value<'a>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let (mut walker, mut rest) = (Walker::default(), message);
    let (mut open, mut body) = (0, &[][..]);
    while let Some(token) = walker.next(&mut rest).map_err(|_| Unreadable)? {
        match token {
            Token::Scalar { field, wire, value } => visit(field, Value::Scalar(wire, value))?,
            Token::Open { field, .. } => (open, body) = (field, &[]),
            Token::Bytes(bytes) => body = bytes,
            Token::Close => visit(open, Value::Bytes(body))?,
        }
    }
    if walker.is_between() { Ok(()) } else { Err(Unreadable) }
}
