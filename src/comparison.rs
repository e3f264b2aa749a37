//! Two answers to one call held against each other, output by output, and what many such pairs prove. Pure.
//!
//! Answers of the Open Inference Protocol are read down to the values of their tensors, each compared by the measure
//! that its output is declared with, or by one that its type suggests, which is then said. What else can differ (the
//! status, the number of messages, a type, a shape, bytes that are not what they say) has a kind of its own, for a
//! number of "values that differ" would hide it. Of other protocols the status, the sizes and the bytes are compared.
//! Whatever a server sends, the worst that comes of it is the name of what is wrong.
//!
//! | file | what it holds |
//! |---|---|
//! | [`found`] | what a comparison says, as a plain value |
//! | [`message`] | the outputs of an answer's messages |
//! | [`tensor`] | types, and the values of one output |
//! | [`numeric`] | number by number |
//! | [`rows`] | classes, scores, rankings, embeddings: row by row |
//! | [`judge`] | what many pairs prove |
//! | [`drift`] | how outputs are distributed, pairs or not |
//! | [`shown`] | values for people to read |

use std::time::Duration;

use bytes::Bytes;

use crate::config::{Compare, Measure};
use crate::fault::Code;
use crate::protocol::Peek;

pub mod drift;
pub mod found;
pub mod judge;
pub mod message;
pub mod numeric;
pub mod rows;
pub mod shown;
pub mod tensor;

pub use found::{Comparison, Kind, Output};
use message::{Outputs, Said};
use tensor::{Content, Dtype, Tensor};

/// Outputs of one answer that are compared; those beyond are not, and that is said.
pub const OUTPUTS: usize = 64;

/// One of two answers.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// How it ended.
    pub status: Code,
    /// Whole messages.
    pub messages: u64,
    /// Message bytes as its server sent them, prefixes included.
    pub bytes: u64,
    /// Those bytes, cut anywhere; none where they are not there any more.
    pub chunks: Option<&'a [Bytes]>,
    /// How its messages are compressed: the value of `grpc-encoding`.
    pub encoding: Option<&'a [u8]>,
    /// From its request to its end.
    pub latency: Duration,
}

/// How answers of a method are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Of the Open Inference Protocol; none: their bytes say nothing.
    pub peek: Option<Peek>,
    /// What is declared of outputs.
    pub rules: &'a [Compare],
    /// Bytes that one message may have once it is inflated.
    pub limit: usize,
}

/// Holds a candidate's answer against the one that was served; none where their bytes would have to be there and are
/// not.
pub fn compare(reading: &Reading<'_>, served: &Answer<'_>, candidate: &Answer<'_>) -> Option<Comparison> {
    let latency = candidate.latency.as_secs_f64() - served.latency.as_secs_f64();
    let whole = |kind| Comparison { kind, latency, ..Comparison::default() };
    if served.status != candidate.status {
        return Some(whole(Some(Kind::Status)));
    }
    if served.messages != candidate.messages {
        return Some(whole(Some(Kind::Messages)));
    }
    if served.bytes == 0 && candidate.bytes == 0 {
        return Some(whole(None));
    }
    let Some(peek) = reading.peek else {
        let kind = if served.bytes == candidate.bytes {
            (!same_bytes(served.chunks?, candidate.chunks?)).then_some(Kind::Bytes)
        } else {
            Some(Kind::Size)
        };
        return Some(whole(kind));
    };
    let (one, other) = (served.chunks?, candidate.chunks?);
    let read = |chunks, encoding| message::messages(chunks, encoding, reading.limit);
    let (Ok(read_one), Ok(read_other)) = (read(one, served.encoding), read(other, candidate.encoding)) else {
        return Some(whole((!same_bytes(one, other)).then_some(Kind::Unreadable)));
    };
    let mut found = whole(None);
    for (one, other) in read_one.iter().zip(&read_other) {
        match (message::said(one, peek), message::said(other, peek)) {
            (Said::Outputs(one), Said::Outputs(other)) => outputs(reading.rules, &one, &other, &mut found),
            (Said::Error, Said::Error) => {}
            // What nobody can read is the same all the same where its bytes are.
            (Said::Unreadable, Said::Unreadable) if one == other => {}
            (Said::Unreadable, _) | (_, Said::Unreadable) => found.worsen(Kind::Unreadable),
            // One answers where the other says an error inside an OK stream.
            (Said::Error, Said::Outputs(_)) | (Said::Outputs(_), Said::Error) => found.worsen(Kind::Status),
        }
    }
    for rule in reading.rules.iter().filter(|rule| rule.measure != Measure::Ignore) {
        let known = found.outputs.iter().any(|output| output.name == rule.output);
        if !known && found.kind.is_none() {
            found.absent.push(rule.output.clone());
        }
    }
    Some(found)
}

/// What one message's outputs add.
fn outputs(rules: &[Compare], served: &Outputs<'_>, candidate: &Outputs<'_>, found: &mut Comparison) {
    for tensor in &served.tensors {
        let rule = rules.iter().find(|rule| *rule.output == *tensor.name).map(|rule| &rule.measure);
        if rule == Some(&Measure::Ignore) {
            continue;
        }
        let other = candidate.tensors.iter().find(|other| other.name == tensor.name);
        let output = match other {
            Some(other) => hold(rule, tensor, other),
            None => Output::failed(tensor, rule, Kind::Missing),
        };
        found.add(output);
    }
    for tensor in &candidate.tensors {
        let rule = rules.iter().find(|rule| *rule.output == *tensor.name).map(|rule| &rule.measure);
        let known = served.tensors.iter().any(|other| other.name == tensor.name);
        if !known && rule != Some(&Measure::Ignore) {
            found.add(Output::failed(tensor, rule, Kind::Extra));
        }
    }
    found.cut |= served.cut || candidate.cut;
}

/// One output of both answers.
fn hold(rule: Option<&Measure>, served: &Tensor<'_>, candidate: &Tensor<'_>) -> Output {
    let failed = |kind| Output::failed(served, rule, kind);
    if served.dtype != candidate.dtype {
        return failed(Kind::Dtype);
    }
    if served.shape != candidate.shape {
        return failed(Kind::Shape);
    }
    let (one, other) = match (&served.content, &candidate.content) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(kind), _) | (_, Err(kind)) => return failed(*kind),
    };
    let measure = rule.copied().unwrap_or_else(|| infer(served));
    let rows = served.rows();
    let held = match (&measure, served.dtype, one, other) {
        (Measure::Numeric(numeric), Dtype::Known(kind), Content::Fixed(one), Content::Fixed(other)) => {
            numeric::compare(numeric, kind, (one, other), rows)
        }
        (Measure::Numeric(_), ..) => Err(Kind::Unsupported),
        (Measure::Exact | Measure::Ignore, ..) => Ok(rows::exact(one, other, rows)),
        _ => rows::compare(&measure, served, (one, other), rows),
    };
    match held {
        Ok(held) => Output::held(served, (measure, rule.is_none()), held),
        Err(kind) => failed(kind),
    }
}

/// What an output that nobody declared is compared by: labels where there is one a row, all bits of other whole numbers
/// and texts, and else number by number.
pub fn infer(tensor: &Tensor<'_>) -> Measure {
    match tensor.dtype {
        Dtype::Known(kind) if kind.is_float() => Measure::Numeric(crate::config::Numeric::default()),
        Dtype::Known(_) if tensor.row_width() == 1 => Measure::Class { top: 1 },
        _ => Measure::Exact,
    }
}

/// Whether two answers of equal length have the same bytes, wherever they are cut.
fn same_bytes(one: &[Bytes], other: &[Bytes]) -> bool {
    let (mut one, mut other) = (one.iter(), other.iter());
    let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
    loop {
        while a.is_empty() {
            match one.next() {
                Some(chunk) => a = chunk,
                None => return b.is_empty() && other.all(|chunk| chunk.is_empty()),
            }
        }
        while b.is_empty() {
            match other.next() {
                Some(chunk) => b = chunk,
                None => return false,
            }
        }
        let both = a.len().min(b.len());
        if a[..both] != b[..both] {
            return false;
        }
        (a, b) = (&a[both..], &b[both..]);
    }
}

#[cfg(test)]
mod tests;
