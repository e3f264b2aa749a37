//! An answer's outputs for people to read: the first values of each, cut at a number of bytes, masked where that is
//! wanted.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::message::{Said, messages, said};
use super::numeric::{Number, by_type, numbers};
use super::tensor::{Content, Dtype, Tensor};
use super::{Answer, Reading};

/// Values of one output that are shown.
const VALUES: usize = 32;
/// Characters of one text.
const TEXT: usize = 64;

/// What of an answer is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Showing {
    /// Outputs of which only type and shape are shown; `*` stands for all.
    pub mask: Vec<Arc<str>>,
    /// Bytes of JSON that one answer may take; 0: nothing is shown but its status and size.
    pub bytes: usize,
}

/// An answer as JSON: status, size and, of protocols that are read, its outputs.
pub fn show(reading: &Reading<'_>, answer: &Answer<'_>, showing: &Showing) -> Value {
    let mut map = Map::new();
    map.insert("status".to_owned(), answer.status.name().into());
    map.insert("bytes".to_owned(), answer.bytes.into());
    map.insert("latency".to_owned(), answer.latency.as_secs_f64().into());
    let read = answer.chunks.zip(reading.peek).filter(|_| showing.bytes > 0);
    let Some((chunks, peek)) = read else { return Value::Object(map) };
    let mut outputs = Map::new();
    let mut left = showing.bytes;
    for message in messages(chunks, answer.encoding, reading.limit).iter().flatten() {
        let Said::Outputs(found) = said(message, peek) else { continue };
        for tensor in &found.tensors {
            let shown = output(tensor, showing);
            let size = shown.to_string().len() + tensor.name.len();
            match left.checked_sub(size) {
                Some(rest) => {
                    left = rest;
                    outputs.insert(tensor.name.to_owned(), shown);
                }
                None => {
                    map.insert("cut".to_owned(), true.into());
                }
            }
        }
    }
    map.insert("outputs".to_owned(), Value::Object(outputs));
    Value::Object(map)
}

fn output(tensor: &Tensor<'_>, showing: &Showing) -> Value {
    let dtype = match tensor.dtype {
        Dtype::Known(kind) => kind.name().to_owned(),
        Dtype::Unknown(word) => word.chars().take(TEXT).collect(),
    };
    let mut map = Map::new();
    map.insert("dtype".to_owned(), dtype.into());
    map.insert("shape".to_owned(), json!(tensor.shape));
    if showing.mask.iter().any(|masked| **masked == *tensor.name || &**masked == "*") {
        map.insert("masked".to_owned(), true.into());
        return Value::Object(map);
    }
    let values = match (&tensor.content, tensor.dtype) {
        (Ok(Content::Fixed(bytes)), Dtype::Known(kind)) => by_type!(kind, first(bytes), Value::Null),
        (Ok(Content::Texts(texts)), _) => texts.iter().take(VALUES).map(|text| readable(text)).collect(),
        (Ok(_), _) => Value::Null,
        (Err(kind), _) => {
            map.insert("problem".to_owned(), kind.name().into());
            return Value::Object(map);
        }
    };
    map.insert("values".to_owned(), values);
    Value::Object(map)
}

fn first<T: Number>(bytes: &[u8]) -> Value {
    let shown = |value: f64| match value.is_finite() {
        true => json!(value),
        // JSON has no such numbers.
        false => Value::from(value.to_string()),
    };
    numbers::<T>(bytes).take(VALUES).map(|value| shown(value.value())).collect()
}

fn readable(text: &[u8]) -> Value {
    let text: String =
        String::from_utf8_lossy(&text[..text.len().min(4 * TEXT)]).chars().take(TEXT).collect();
    text.into()
}
