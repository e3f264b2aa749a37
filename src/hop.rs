//! `parhelion-hop`: how one sidecar tells the next that a call is assigned already.
//!
//! The value is `1.KEY.PREDICTION.VARIANT.MAC`: the id of the key that signed it, the prediction's UUID in 32
//! hexadecimal digits, the variant's name (bytes other than letters, digits, `-`, `_` and `.` as `%XX`), and the
//! first 16 bytes of BLAKE3, keyed, over all the text before the last dot. The MAC covers the text as it stands, so
//! no second spelling of a value verifies. All sidecars of one path need a common key, see [`crate::keys`].

use http::HeaderValue;
use uuid::Uuid;

use crate::keys::{Keys, hex, same, unhex};

/// The longest value that is looked at, in bytes.
pub const MAX_VALUE: usize = 288;

/// The longest variant name, in bytes, that always fits a value: each byte may take three.
pub const MAX_VARIANT: usize = 63;

const VERSION: &str = "1";

/// The request header that one sidecar sends to another.
pub const HEADER: http::HeaderName = http::HeaderName::from_static("parhelion-hop");

/// What a verified hop says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The prediction that the first sidecar told its caller.
    pub prediction: Uuid,
    /// The variant that the first sidecar assigned.
    pub variant: Box<str>,
}

/// The header for a call of that prediction, given to that variant.
///
/// A name over [`MAX_VARIANT`] bytes may make a value that is too long, and that no sidecar takes.
pub fn sign(keys: &Keys, prediction: Uuid, variant: &str) -> HeaderValue {
    let key = keys.first();
    let mut text = String::with_capacity(128);
    for part in [VERSION, ".", key.id(), "."] {
        text.push_str(part);
    }
    text.push_str(prediction.simple().encode_lower(&mut Uuid::encode_buffer()));
    text.push('.');
    escape(variant, &mut text);
    let mac = hex(&key.hop_mac(text.as_bytes()));
    text.push('.');
    text.push_str(&mac);
    // All of it is visible ASCII, so this always holds; an empty value would verify nowhere.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// What `value` says, if one of the keys signed it.
pub fn verify(keys: &Keys, value: &HeaderValue) -> Option<Hop> {
    if value.len() > MAX_VALUE {
        return None;
    }
    let (signed, mac) = value.to_str().ok()?.rsplit_once('.')?;
    let mut parts = signed.splitn(4, '.');
    if parts.next()? != VERSION {
        return None;
    }
    let key = keys.named(parts.next()?)?;
    if !same(&key.hop_mac(signed.as_bytes()), &unhex(mac)?) {
        return None;
    }
    let prediction = Uuid::from_bytes(unhex(parts.next()?)?);
    Some(Hop { prediction, variant: unescape(parts.next()?)?.into() })
}

fn escape(name: &str, into: &mut String) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push_str(&hex(&[byte]));
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.extend(unhex::<1>(escaped.get(..2)?)?);
        rest = escaped.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
