//! `traceparent` of the W3C Trace Context recommendation, level 1.
//!
//! Version 00 is 55 characters exactly. A later version is read by its first 55, which must be followed by nothing or a
//! dash; version ff is invalid. Of the flags only *sampled* is known: others are read past and written as zero. More
//! than one `traceparent` is as bad as none.

use http::header::{HeaderMap, HeaderValue};

use super::{Parent, TRACEPARENT, hex, id, value};
use crate::outcome::Trace;

/// The caller's context; `None` where there is none, or none that is valid.
pub(super) fn read(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let text = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    parse(text)
}

fn parse(text: &[u8]) -> Option<Parent> {
    let (head, rest) = text.split_at_checked(55)?;
    if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
        return None;
    }
    let version = byte(&head[..2])?;
    let flags = byte(&head[53..])?;
    let whole = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.first().is_none_or(|next| *next == b'-'),
    };
    if !whole {
        return None;
    }
    Some(Parent {
        trace_id: id(&head[3..35])?,
        span_id: id(&head[36..52])? as u64,
        sampled: Some(flags & 1 == 1),
    })
}

/// Two lower-case hexadecimal digits; zero is a value here.
fn byte(digits: &[u8]) -> Option<u8> {
    if digits == b"00" {
        return Some(0);
    }
    id(digits).and_then(|number| u8::try_from(number).ok())
}

/// `00-<trace>-<span>-<flags>`.
pub(super) fn write(trace: &Trace, span: u64) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    hex(&mut text[3..35], trace.trace_id);
    hex(&mut text[36..52], u128::from(span));
    if trace.sampled {
        text[54] = b'1';
    }
    let mut value = value(&text);
    // Never seen again: not for the HPACK tables.
    value.set_sensitive(true);
    value
}
