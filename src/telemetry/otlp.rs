//! Spans in the bytes that a collector takes, written where they leave from: protobuf of OTLP's `trace.proto`. Pure.
//!
//! The three spans of a call have some seventy attributes. As values of a library each of them is allocated, cloned for
//! the attempt to send it, and copied into its message, which cost more than all the rest of the call's telemetry.
//! Here an attribute is a few bytes, written once. What is rare goes the library's way: [`foreign`] and [`resource`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::TraceState;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{self as proto, status::StatusCode};
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::span::Limits;
use crate::outcome::Trace;
use crate::protocol::frame::PREFIX;

/// `spans` of `ScopeSpans`.
const SPAN: u8 = delimited(2);
/// `attributes` of `Span`, `key` and `value` of `KeyValue`.
const ATTRIBUTE: u8 = delimited(9);
const KEY: u8 = delimited(1);
const VALUE: u8 = delimited(2);
/// What `AnyValue` may be.
const TEXT: u8 = delimited(1);
const INTEGER: u8 = varint(3);
const FLOAT: u8 = fixed64(4);
/// Bytes that are left for a span's length; one of another size moves.
const ROOM: usize = 2;
/// Bytes of name and text, below which an attribute of both is shorter than 128.
const SHORT: usize = 0x80 - 6;
/// `flags`: whether a parent is remote is known, and whether it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

const fn varint(field: u8) -> u8 {
    field << 3
}

const fn fixed64(field: u8) -> u8 {
    field << 3 | 1
}

const fn delimited(field: u8) -> u8 {
    field << 3 | 2
}

/// Where a span stands in its trace, and when; parent 0 is none.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) span: u64,
    pub(super) parent: u64,
    pub(super) remote: bool,
    pub(super) kind: SpanKind,
    pub(super) start: SystemTime,
    pub(super) elapsed: Duration,
}

/// One span that is being written, within its bounds. It has to come to its [`Span::end`].
pub(super) struct Span<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    attributes: usize,
    dropped: u32,
    limits: Limits,
}

impl<'b> Span<'b> {
    /// Begins a span after all that is in `out`.
    pub(super) fn begin(out: &'b mut Vec<u8>, limits: Limits) -> Self {
        out.push(SPAN);
        let start = out.len();
        out.extend_from_slice(&[0; ROOM]);
        Span { out, start, attributes: 0, dropped: 0, limits }
    }

    /// Adds an attribute; its text is cut where it is too long.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        let cut = self.limits.value_length.and_then(|most| text.char_indices().nth(most));
        let text = cut.map_or(text, |(end, _)| &text[..end]);
        if name.len() + text.len() < SHORT {
            self.short(name, text);
        } else if self.attribute(name, 1 + encoded_len_varint(text.len() as u64) + text.len()) {
            self.field(TEXT, text.as_bytes());
        }
    }

    /// Adds a number in that many hexadecimal digits, at most 32.
    pub(super) fn hex(&mut self, name: &'static str, number: u128, digits: usize) {
        let mut text = [0; 32];
        let text = &mut text[..digits.min(32)];
        super::propagate::hex(text, number);
        self.text(name, str::from_utf8(text).unwrap_or_default());
    }

    /// Adds a whole number.
    pub(super) fn whole(&mut self, name: &'static str, number: u64) {
        // As the signed 64 bits of the format.
        let number = number.min(i64::MAX.cast_unsigned());
        if self.attribute(name, 1 + encoded_len_varint(number)) {
            self.out.push(INTEGER);
            encode_varint(number, self.out);
        }
    }

    /// Adds a number.
    pub(super) fn float(&mut self, name: &'static str, number: f64) {
        if self.attribute(name, 9) {
            self.out.push(FLOAT);
            self.out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Adds a link to another span.
    pub(super) fn link(&mut self, (trace, span): (u128, u64)) {
        const FLAGS: [u8; 5] = [6 << 3 | 5, 0, 1, 0, 0];
        const _: () = assert!(KNOWN == 0x100, "as those flags say");
        head(self.out, delimited(13), 2 + 16 + 2 + 8 + FLAGS.len());
        self.ids(trace, span);
        self.out.extend_from_slice(&FLAGS);
    }

    /// Writes the rest; `error` says what failed, where something did.
    pub(super) fn end(self, place: &Place<'_>, trace: &Trace, error: Option<&str>) {
        let mut this = self;
        this.ids(trace.trace_id, place.span);
        if let Some(state) = &trace.state {
            let state: Option<TraceState> = state.to_str().ok().and_then(|state| state.parse().ok());
            this.field(delimited(3), state.unwrap_or_default().header().as_bytes());
        }
        if place.parent != 0 {
            this.field(delimited(4), &place.parent.to_be_bytes());
        }
        this.field(delimited(5), place.name.as_bytes());
        this.out.extend_from_slice(&[varint(6), place.kind as u8]);
        for (tag, at) in [(fixed64(7), place.start), (fixed64(8), place.start + place.elapsed)] {
            this.out.push(tag);
            this.out.extend_from_slice(&nanoseconds(at).to_le_bytes());
        }
        if this.dropped > 0 {
            this.out.push(varint(10));
            encode_varint(u64::from(this.dropped), this.out);
        }
        if let Some(message) = error {
            let length = 1 + encoded_len_varint(message.len() as u64) + message.len() + 2;
            head(this.out, delimited(15), length);
            this.field(delimited(2), message.as_bytes());
            this.out.extend_from_slice(&[varint(3), StatusCode::Error as u8]);
        }
        let remote = if place.remote { REMOTE } else { 0 };
        // Field 16, of 32 bits: the only one whose tag takes two bytes.
        this.out.extend_from_slice(&[0x85, 0x01]);
        this.out.extend_from_slice(&(u32::from(trace.sampled) | KNOWN | remote).to_le_bytes());
        this.close();
    }

    /// Puts the length before the span.
    fn close(self) {
        let first = self.start + ROOM;
        let length = self.out.len() - first;
        if (0x80..0x4000).contains(&length) {
            let length = [length as u8 | 0x80, (length >> 7) as u8];
            self.out[self.start..first].copy_from_slice(&length);
        } else {
            let mut other = Vec::new();
            encode_varint(length as u64, &mut other);
            self.out.splice(self.start..first, other);
        }
    }

    /// Adds what nearly all attributes are: a text in which every length takes one byte.
    fn short(&mut self, name: &'static str, text: &str) {
        if self.room() {
            let (key, value) = (name.len() as u8, text.len() as u8);
            self.out.extend_from_slice(&[ATTRIBUTE, 2 + key + 4 + value, KEY, key]);
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(&[VALUE, 2 + value, TEXT, value]);
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    /// Whether one more attribute may be written; counts it either way.
    fn room(&mut self) -> bool {
        let room = self.attributes < self.limits.attributes;
        if room {
            self.attributes += 1;
        } else {
            self.dropped += 1;
        }
        room
    }

    /// Begins an attribute whose `AnyValue` is that long; false where there are too many.
    fn attribute(&mut self, name: &'static str, value: usize) -> bool {
        if !self.room() {
            return false;
        }
        let key = 1 + encoded_len_varint(name.len() as u64) + name.len();
        head(self.out, ATTRIBUTE, key + 1 + encoded_len_varint(value as u64) + value);
        self.field(KEY, name.as_bytes());
        head(self.out, VALUE, value);
        true
    }

    fn field(&mut self, tag: u8, bytes: &[u8]) {
        head(self.out, tag, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    fn ids(&mut self, trace: u128, span: u64) {
        self.field(delimited(1), &trace.to_be_bytes());
        self.field(delimited(2), &span.to_be_bytes());
    }
}

/// Tag and length of what follows.
#[inline]
fn head(out: &mut Vec<u8>, tag: u8, length: usize) {
    if length < 0x80 {
        out.extend_from_slice(&[tag, length as u8]);
    } else {
        out.push(tag);
        encode_varint(length as u64, out);
    }
}

/// Since the Unix epoch; 0 before it.
fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Adds a span that a library made.
pub(super) fn foreign(span: SpanData, out: &mut Vec<u8>) {
    out.push(SPAN);
    out.extend_from_slice(&proto::Span::from(span).encode_length_delimited_to_vec());
}

/// Who says it all: `resource` of `ResourceSpans`.
pub(super) fn resource(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    let attribute = |(name, value): (&String, &String)| KeyValue {
        key: name.clone(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
        ..KeyValue::default()
    };
    let attributes = attributes.iter().map(attribute).collect();
    Resource { attributes, ..Resource::default() }.encode_to_vec()
}

/// What stands before `spans` bytes of spans in the message of an export: the prefix of gRPC, the resource, the scope.
pub(super) fn front(resource: &[u8], spans: usize) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "parhelion".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope = whole(delimited(1), &scope.encode_to_vec());
    let spans_of_scope = open(delimited(2), scope.len() + spans);
    let resource = whole(delimited(1), resource);
    let of_resource = resource.len() + spans_of_scope.len() + scope.len() + spans;
    let of_request = open(delimited(1), of_resource);
    let length = (of_request.len() + of_resource) as u32;
    let mut front = Vec::with_capacity(PREFIX + of_request.len() + of_resource - spans);
    front.push(0);
    front.extend_from_slice(&length.to_be_bytes());
    for part in [of_request, resource, spans_of_scope, scope] {
        front.extend_from_slice(&part);
    }
    front
}

fn open(tag: u8, length: usize) -> Vec<u8> {
    let mut field = vec![tag];
    encode_varint(length as u64, &mut field);
    field
}

fn whole(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = open(tag, bytes.len());
    field.extend_from_slice(bytes);
    field
}

#[cfg(test)]
mod tests;
