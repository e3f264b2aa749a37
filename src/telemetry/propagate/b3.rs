//! b3, as one header (`b3: <trace>-<span>-<sampled>-<parent>`) and as many (`x-b3-traceid` and its companions).
//!
//! Trace ids have 16 or 32 digits. The decision is `1`, `0`, or `d` (debug, which is sampled); without one it is open. A
//! decision may come alone: then the trace is new and the decision holds for it.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Found, Parent, hex, id, value};
use crate::outcome::Trace;

static SINGLE: HeaderName = HeaderName::from_static("b3");
static TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
static SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
static PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
static SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// All of them.
pub(super) static NAMES: [&HeaderName; 6] = [&SINGLE, &TRACE_ID, &SPAN_ID, &PARENT_ID, &SAMPLED, &FLAGS];

pub(super) fn has_single(headers: &HeaderMap) -> bool {
    headers.contains_key(&SINGLE)
}

pub(super) fn has_multi(headers: &HeaderMap) -> bool {
    headers.contains_key(&TRACE_ID)
}

pub(super) fn read_single(headers: &HeaderMap) -> Found {
    let Some(text) = headers.get(&SINGLE).map(HeaderValue::as_bytes) else {
        return Found::Nothing;
    };
    if let Some(decision) = decision(text) {
        return Found::Decision(decision);
    }
    match parse(text) {
        Some(parent) => Found::Parent(parent),
        None => Found::Nothing,
    }
}

fn parse(text: &[u8]) -> Option<Parent> {
    let mut parts = text.split(|byte| *byte == b'-');
    let trace_id = trace(parts.next()?)?;
    let span_id = span(parts.next()?)?;
    let sampled = match parts.next() {
        None => None,
        Some(word) => Some(decision(word)?),
    };
    if let Some(parent) = parts.next() {
        span(parent)?;
    }
    parts.next().is_none().then_some(Parent { trace_id, span_id, sampled })
}

pub(super) fn read_multi(headers: &HeaderMap) -> Found {
    let text = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let sampled = text(&SAMPLED).and_then(decision);
    let Some(digits) = text(&TRACE_ID) else {
        return sampled.map_or(Found::Nothing, Found::Decision);
    };
    let sampled = if text(&FLAGS) == Some(b"1") { Some(true) } else { sampled };
    match (trace(digits).zip(text(&SPAN_ID).and_then(span)), sampled) {
        (Some((trace_id, span_id)), sampled) => Found::Parent(Parent { trace_id, span_id, sampled }),
        (None, Some(sampled)) => Found::Decision(sampled),
        (None, None) => Found::Nothing,
    }
}

/// `true` and `false` are what early senders wrote.
fn decision(word: &[u8]) -> Option<bool> {
    match word {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

fn trace(digits: &[u8]) -> Option<u128> {
    if matches!(digits.len(), 16 | 32) { id(digits) } else { None }
}

fn span(digits: &[u8]) -> Option<u64> {
    if digits.len() == 16 { id(digits).map(|number| number as u64) } else { None }
}

pub(super) fn write_single(headers: &mut HeaderMap, trace: &Trace, span: u64) {
    let mut text = *b"00000000000000000000000000000000-0000000000000000-0";
    hex(&mut text[..32], trace.trace_id);
    hex(&mut text[33..49], u128::from(span));
    if trace.sampled {
        text[50] = b'1';
    }
    headers.insert(SINGLE.clone(), value(&text));
}

pub(super) fn write_multi(headers: &mut HeaderMap, trace: &Trace, span: u64) {
    let mut digits = [0; 32];
    hex(&mut digits, trace.trace_id);
    headers.insert(TRACE_ID.clone(), value(&digits));
    hex(&mut digits[..16], u128::from(span));
    headers.insert(SPAN_ID.clone(), value(&digits[..16]));
    hex(&mut digits[..16], u128::from(trace.span_id));
    headers.insert(PARENT_ID.clone(), value(&digits[..16]));
    headers.insert(SAMPLED.clone(), HeaderValue::from_static(if trace.sampled { "1" } else { "0" }));
    headers.remove(&FLAGS);
}
