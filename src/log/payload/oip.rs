//! Messages of the Open Inference Protocol: without what is masked, and as the protocol's JSON. Pure.
//!
//! The JSON is the body that servers of the protocol take over HTTP, and a line of a file of warm-up requests. Data are
//! flat. BYTES that are no UTF-8 stand as `{"base64": …}`, numbers that JSON has no word for as `"NaN"`, `"Infinity"` and
//! `"-Infinity"`. A tensor that is masked keeps its name, datatype and shape, and has `"masked": true` for its data.

use std::collections::HashMap;

use base64::Engine as _;
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};

use super::Secret;
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::model_infer_request::InferInputTensor;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};

/// A message that cannot be read, so that nobody knows what in it is masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read: {0}")]
pub struct Unread(String);

/// A request without its secrets, and whether it had any.
///
/// # Errors
/// See [`Unread`].
pub fn masked_request(bytes: &Bytes, secret: &Secret<'_>) -> Result<(Bytes, bool), Unread> {
    let mut message = request(bytes)?;
    let mut masked = forget(&mut message.parameters, secret);
    masked |= blank(&mut message.inputs, &mut message.raw_input_contents, secret)?;
    Ok((if masked { message.encode_to_vec().into() } else { bytes.clone() }, masked))
}

/// An answer without its secrets, and whether it had any.
///
/// # Errors
/// See [`Unread`].
pub fn masked_response(bytes: &Bytes, secret: &Secret<'_>) -> Result<(Bytes, bool), Unread> {
    let mut message = response(bytes)?;
    let mut masked = forget(&mut message.parameters, secret);
    let mut tensors = inputs(&message.outputs);
    masked |= blank(&mut tensors, &mut message.raw_output_contents, secret)?;
    for (output, tensor) in message.outputs.iter_mut().zip(tensors) {
        (output.contents, output.parameters) = (tensor.contents, tensor.parameters);
    }
    Ok((if masked { message.encode_to_vec().into() } else { bytes.clone() }, masked))
}

/// A request as JSON, without its secrets, and whether it had any.
///
/// # Errors
/// See [`Unread`].
pub fn request_json(bytes: &Bytes, secret: &Secret<'_>) -> Result<(String, bool), Unread> {
    let mut message = request(bytes)?;
    let mut masked = forget(&mut message.parameters, secret);
    let mut out = head(&message.id, (&message.model_name, &message.model_version), &message.parameters);
    let (tensors, some) = list(message.inputs, &message.raw_input_contents, secret)?;
    masked |= some;
    out.insert("inputs".into(), tensors);
    let mut asked = Vec::with_capacity(message.outputs.len());
    for mut one in message.outputs {
        masked |= forget(&mut one.parameters, secret);
        let mut output = Map::from_iter([("name".to_owned(), Value::from(one.name))]);
        put(&mut output, &one.parameters);
        asked.push(Value::Object(output));
    }
    if !asked.is_empty() {
        out.insert("outputs".into(), asked.into());
    }
    Ok((Value::Object(out).to_string(), masked))
}

/// An answer as JSON, without its secrets, and whether it had any.
///
/// # Errors
/// See [`Unread`].
pub fn response_json(bytes: &Bytes, secret: &Secret<'_>) -> Result<(String, bool), Unread> {
    let mut message = response(bytes)?;
    let mut masked = forget(&mut message.parameters, secret);
    let mut out = head(&message.id, (&message.model_name, &message.model_version), &message.parameters);
    let (tensors, some) = list(inputs(&message.outputs), &message.raw_output_contents, secret)?;
    masked |= some;
    out.insert("outputs".into(), tensors);
    Ok((Value::Object(out).to_string(), masked))
}

fn request(bytes: &Bytes) -> Result<ModelInferRequest, Unread> {
    ModelInferRequest::decode(bytes.clone()).map_err(|error| Unread(error.to_string()))
}

fn response(bytes: &Bytes) -> Result<ModelInferResponse, Unread> {
    ModelInferResponse::decode(bytes.clone()).map_err(|error| Unread(error.to_string()))
}

/// Outputs have the same fields as inputs.
fn inputs(outputs: &[InferOutputTensor]) -> Vec<InferInputTensor> {
    let input = |one: &InferOutputTensor| InferInputTensor {
        name: one.name.clone(),
        datatype: one.datatype.clone(),
        shape: one.shape.clone(),
        parameters: one.parameters.clone(),
        contents: one.contents.clone(),
    };
    outputs.iter().map(input).collect()
}

/// Which raw contents belong to which tensor: to all of them in order, or to those without typed contents.
fn raw_places(tensors: &[InferInputTensor], raws: usize) -> Result<Vec<Option<usize>>, Unread> {
    let untyped = tensors.iter().filter(|one| one.contents.is_none()).count();
    let all = raws == tensors.len();
    if raws > 0 && !all && raws != untyped {
        return Err(Unread(format!("{raws} raw contents for {} tensors", tensors.len())));
    }
    let mut next = 0;
    let place = |one: &InferInputTensor| {
        let has = raws > 0 && (all || one.contents.is_none());
        next += usize::from(has);
        has.then(|| next - 1)
    };
    Ok(tensors.iter().map(place).collect())
}

/// Takes secrets out of tensors.
fn blank(tensors: &mut [InferInputTensor], raws: &mut [Bytes], secret: &Secret<'_>) -> Result<bool, Unread> {
    let places = raw_places(tensors, raws.len())?;
    let mut masked = false;
    for (one, place) in tensors.iter_mut().zip(places) {
        masked |= forget(&mut one.parameters, secret);
        if !secret.tensors.contains(&one.name) {
            continue;
        }
        masked = true;
        if one.contents.is_some() {
            one.contents = Some(InferTensorContents::default());
        }
        if let Some(raw) = place.and_then(|place| raws.get_mut(place)) {
            *raw = Bytes::new();
        }
    }
    Ok(masked)
}

/// Takes parameters out that are secret; whether there were any.
fn forget(parameters: &mut HashMap<String, InferParameter>, secret: &Secret<'_>) -> bool {
    let before = parameters.len();
    parameters.retain(|name, _| !secret.parameters.contains(&&**name));
    parameters.len() < before
}

fn head(
    id: &str,
    (model, version): (&str, &str),
    parameters: &HashMap<String, InferParameter>,
) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in [("id", id), ("model_name", model), ("model_version", version)] {
        if !value.is_empty() {
            out.insert(key.into(), value.into());
        }
    }
    put(&mut out, parameters);
    out
}

/// Parameters, in the order of their names: a map has none.
fn put(out: &mut Map<String, Value>, parameters: &HashMap<String, InferParameter>) {
    let mut sorted: Vec<_> = parameters.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => (*value).into(),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::DoubleParam(value)) => number(*value),
        Some(ParameterChoice::StringParam(value)) => value.as_str().into(),
        None => Value::Null,
    };
    let map: Map<String, Value> = sorted.into_iter().map(|(name, one)| (name.clone(), value(one))).collect();
    if !map.is_empty() {
        out.insert("parameters".into(), map.into());
    }
}

/// Tensors as JSON, and whether one had secrets.
fn list(
    tensors: Vec<InferInputTensor>,
    raws: &[Bytes],
    secret: &Secret<'_>,
) -> Result<(Value, bool), Unread> {
    let places = raw_places(&tensors, raws.len())?;
    let (mut all, mut masked) = (Vec::with_capacity(tensors.len()), false);
    for (mut one, place) in tensors.into_iter().zip(places) {
        masked |= forget(&mut one.parameters, secret);
        let mut out = Map::new();
        out.insert("name".into(), one.name.as_str().into());
        out.insert("datatype".into(), one.datatype.as_str().into());
        out.insert("shape".into(), one.shape.as_slice().into());
        put(&mut out, &one.parameters);
        if secret.tensors.contains(&one.name) {
            masked = true;
            out.insert("masked".into(), true.into());
        } else {
            let raw = place.and_then(|place| raws.get(place));
            let data = match (raw, &one.contents) {
                (Some(raw), _) => of_raw(&one.datatype, raw)?,
                (None, Some(contents)) => of_typed(&one.datatype, contents)?,
                (None, None) => Vec::new(),
            };
            out.insert("data".into(), data.into());
        }
        all.push(out.into());
    }
    Ok((Value::Array(all), masked))
}

fn of_typed(datatype: &str, contents: &InferTensorContents) -> Result<Vec<Value>, Unread> {
    fn all<T: Copy + Into<Value>>(values: &[T]) -> Vec<Value> {
        values.iter().map(|value| (*value).into()).collect()
    }
    Ok(match datatype {
        "BOOL" => all(&contents.bool_contents),
        "INT8" | "INT16" | "INT32" => all(&contents.int_contents),
        "INT64" => all(&contents.int64_contents),
        "UINT8" | "UINT16" | "UINT32" => all(&contents.uint_contents),
        "UINT64" => all(&contents.uint64_contents),
        "FP32" => contents.fp32_contents.iter().map(|value| single(*value)).collect(),
        "FP64" => contents.fp64_contents.iter().map(|value| number(*value)).collect(),
        "BYTES" => contents.bytes_contents.iter().map(|value| text(value)).collect(),
        other => return Err(Unread(format!("typed contents of the datatype {other:?}"))),
    })
}

fn of_raw(datatype: &str, raw: &[u8]) -> Result<Vec<Value>, Unread> {
    fn each<const N: usize>(raw: &[u8], value: impl Fn([u8; N]) -> Value) -> Result<Vec<Value>, Unread> {
        let (parts, rest) = raw.as_chunks::<N>();
        match rest {
            [] => Ok(parts.iter().map(|part| value(*part)).collect()),
            _ => Err(Unread("raw contents end inside an element".to_owned())),
        }
    }
    match datatype {
        "BOOL" => each(raw, |[byte]: [u8; 1]| (byte != 0).into()),
        "UINT8" => each(raw, |[byte]: [u8; 1]| byte.into()),
        "INT8" => each(raw, |part| i8::from_le_bytes(part).into()),
        "INT16" => each(raw, |part| i16::from_le_bytes(part).into()),
        "UINT16" => each(raw, |part| u16::from_le_bytes(part).into()),
        "INT32" => each(raw, |part| i32::from_le_bytes(part).into()),
        "UINT32" => each(raw, |part| u32::from_le_bytes(part).into()),
        "INT64" => each(raw, |part| i64::from_le_bytes(part).into()),
        "UINT64" => each(raw, |part| u64::from_le_bytes(part).into()),
        "FP16" => each(raw, |part| number(half(u16::from_le_bytes(part)))),
        // The upper half of a single.
        "BF16" => each(raw, |part| single(f32::from_bits(u32::from(u16::from_le_bytes(part)) << 16))),
        "FP32" => each(raw, |part| single(f32::from_le_bytes(part))),
        "FP64" => each(raw, |part| number(f64::from_le_bytes(part))),
        "BYTES" => texts(raw),
        other => Err(Unread(format!("the datatype {other:?}, which the protocol does not have"))),
    }
}

/// Each behind its length, four bytes, little-endian.
fn texts(mut raw: &[u8]) -> Result<Vec<Value>, Unread> {
    let mut all = Vec::new();
    while !raw.is_empty() {
        let (length, rest) =
            raw.split_first_chunk().ok_or_else(|| Unread("a text has no length".to_owned()))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (one, rest) =
            rest.split_at_checked(length).ok_or_else(|| Unread("a text is cut off".to_owned()))?;
        all.push(text(one));
        raw = rest;
    }
    Ok(all)
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

/// With as many digits as a single has, and not those of the double that it becomes.
fn single(value: f32) -> Value {
    value.to_string().parse().map_or_else(|_| number(f64::from(value)), number)
}

fn number(value: f64) -> Value {
    match value {
        nan if nan.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        finite => finite.into(),
    }
}

/// A half of IEEE 754: 1 bit of sign, 5 of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tensor(name: &str, datatype: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
        InferInputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![2],
            contents,
            ..InferInputTensor::default()
        }
    }

    fn sample() -> Bytes {
        let floats =
            InferTensorContents { fp32_contents: vec![0.1, f32::NAN], ..InferTensorContents::default() };
        let user = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("ann".to_owned())) };
        let message = ModelInferRequest {
            model_name: "m".to_owned(),
            id: "r".to_owned(),
            parameters: HashMap::from([("user_id".to_owned(), user)]),
            inputs: vec![
                tensor("x", "FP32", Some(floats)),
                tensor("h", "FP16", None),
                tensor("t", "BYTES", None),
            ],
            raw_input_contents: vec![
                Bytes::from_static(&[0, 0x3c, 0, 0xc0]),
                Bytes::from_static(b"\x02\0\0\0ok\x01\0\0\0\xff"),
            ],
            ..ModelInferRequest::default()
        };
        message.encode_to_vec().into()
    }

    fn secrets(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_request_reads_as_the_json_of_its_protocol() {
        let none = secrets(&[]);
        let secret = Secret { tensors: &none, parameters: Vec::new() };
        let (json, masked) = request_json(&sample(), &secret).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(!masked);
        assert_eq!(json["parameters"], json!({"user_id": "ann"}));
        assert_eq!(json["inputs"][0]["data"], json!([0.1, "NaN"]));
        assert_eq!(json["inputs"][1]["data"], json!([1.0, -2.0]));
        assert_eq!(json["inputs"][2]["data"], json!(["ok", {"base64": "/w=="}]));
    }

    #[test]
    fn what_is_masked_is_in_neither_form() {
        let names = secrets(&["x", "t"]);
        let secret = Secret { tensors: &names, parameters: vec!["user_id"] };
        let (json, masked) = request_json(&sample(), &secret).unwrap();
        assert!(masked && !json.contains("ann") && !json.contains("0.1") && !json.contains("ok"), "{json}");
        assert!(json.contains("\"masked\":true") && json.contains("-2.0"), "{json}");
        let (bytes, masked) = masked_request(&sample(), &secret).unwrap();
        let message = ModelInferRequest::decode(bytes).unwrap();
        assert!(masked && message.parameters.is_empty());
        assert_eq!(message.inputs[0].contents, Some(InferTensorContents::default()));
        assert_eq!(message.raw_input_contents, [&[0, 0x3c, 0, 0xc0][..], &[]]);
        let none = secrets(&["other"]);
        let nothing = Secret { tensors: &none, parameters: Vec::new() };
        assert_eq!(masked_request(&sample(), &nothing).unwrap(), (sample(), false), "byte by byte");
    }

    #[test]
    fn answers_are_masked_likewise() {
        let output = |name: &str| InferOutputTensor {
            name: name.to_owned(),
            datatype: "INT64".to_owned(),
            shape: vec![1],
            ..InferOutputTensor::default()
        };
        let message = ModelInferResponse {
            outputs: vec![output("label"), output("secret")],
            raw_output_contents: vec![
                7_i64.to_le_bytes().to_vec().into(),
                8_i64.to_le_bytes().to_vec().into(),
            ],
            ..ModelInferResponse::default()
        };
        let bytes = Bytes::from(message.encode_to_vec());
        let names = secrets(&["secret"]);
        let secret = Secret { tensors: &names, parameters: Vec::new() };
        let json: Value = serde_json::from_str(&response_json(&bytes, &secret).unwrap().0).unwrap();
        assert_eq!((&json["outputs"][0]["data"], &json["outputs"][1]["masked"]), (&json!([7]), &json!(true)));
        let (masked, _) = masked_response(&bytes, &secret).unwrap();
        assert_eq!(ModelInferResponse::decode(masked).unwrap().raw_output_contents[1], Bytes::new());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_written_unmasked() {
        let none = secrets(&[]);
        let secret = Secret { tensors: &none, parameters: Vec::new() };
        for bytes in [&b"\xff\xff"[..], b"\x2a\x02\x0a\x05"] {
            assert!(masked_request(&Bytes::copy_from_slice(bytes), &secret).is_err());
        }
        for at in 0..sample().len() {
            drop(request_json(&sample().slice(..at), &secret));
        }
        let ragged = ModelInferRequest {
            inputs: vec![tensor("a", "INT64", None), tensor("b", "INT64", None)],
            raw_input_contents: vec![Bytes::new()],
            ..ModelInferRequest::default()
        };
        let said = request_json(&ragged.encode_to_vec().into(), &secret).unwrap_err().to_string();
        assert!(said.contains("1 raw contents for 2 tensors"), "{said}");
    }

    #[test]
    fn halves_are_those_of_the_standard() {
        for (bits, value) in
            [(0x3c00, 1.0), (0x7bff, 65504.0), (0x0001, 2_f64.powi(-24)), (0x8000, -0.0), (0xc400, -4.0)]
        {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }
}
