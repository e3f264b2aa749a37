//! Messages that were logged as the protocol's JSON, as messages again, with raw contents: those have every type.

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pb::inference::model_infer_request::InferInputTensor;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{ModelInferRequest, ModelInferResponse};
use crate::warm::file::{Wanted, number, parameters, text};

/// What both kinds of messages have.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model_name: String,
    #[serde(default)]
    model_version: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(flatten)]
    head: Head,
    inputs: Vec<Tensor>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(flatten)]
    head: Head,
    outputs: Vec<Tensor>,
}

#[derive(Debug, Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Vec<Value>,
}

/// A request; none where the JSON is none of one.
pub(super) fn request(json: &str) -> Option<Bytes> {
    let Request { head, inputs, outputs } = serde_json::from_str(json).ok()?;
    let input = |one: &Tensor| {
        Some(InferInputTensor {
            name: one.name.clone(),
            datatype: one.datatype.clone(),
            shape: one.shape.clone(),
            parameters: parameters(&one.parameters)?,
            contents: None,
        })
    };
    let message = ModelInferRequest {
        inputs: inputs.iter().map(input).collect::<Option<_>>()?,
        outputs: outputs.into_iter().map(Wanted::message).collect::<Option<_>>()?,
        raw_input_contents: inputs.iter().map(raw).collect::<Option<_>>()?,
        parameters: parameters(&head.parameters)?,
        id: head.id,
        model_name: head.model_name,
        model_version: head.model_version,
    };
    Some(message.encode_to_vec().into())
}

/// An answer; none where the JSON is none of one.
pub(super) fn response(json: &str) -> Option<Bytes> {
    let Response { head, outputs } = serde_json::from_str(json).ok()?;
    let output = |one: &Tensor| {
        Some(InferOutputTensor {
            name: one.name.clone(),
            datatype: one.datatype.clone(),
            shape: one.shape.clone(),
            parameters: parameters(&one.parameters)?,
            contents: None,
        })
    };
    let message = ModelInferResponse {
        outputs: outputs.iter().map(output).collect::<Option<_>>()?,
        raw_output_contents: outputs.iter().map(raw).collect::<Option<_>>()?,
        parameters: parameters(&head.parameters)?,
        id: head.id,
        model_name: head.model_name,
        model_version: head.model_version,
    };
    Some(message.encode_to_vec().into())
}

/// The values of a tensor one after the other, little-endian.
fn raw(tensor: &Tensor) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(tensor.data.len() * 8);
    for value in &tensor.data {
        put(&tensor.datatype, value, &mut out)?;
    }
    Some(out.freeze())
}

fn put(datatype: &str, value: &Value, out: &mut BytesMut) -> Option<()> {
    fn signed<T: TryFrom<i64>>(value: &Value) -> Option<T> {
        value.as_i64()?.try_into().ok()
    }
    fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
        value.as_u64()?.try_into().ok()
    }
    match datatype {
        "BOOL" => out.put_u8(value.as_bool()?.into()),
        "UINT8" => out.put_u8(unsigned(value)?),
        "UINT16" => out.put_u16_le(unsigned(value)?),
        "UINT32" => out.put_u32_le(unsigned(value)?),
        "UINT64" => out.put_u64_le(unsigned(value)?),
        "INT8" => out.put_i8(signed(value)?),
        "INT16" => out.put_i16_le(signed(value)?),
        "INT32" => out.put_i32_le(signed(value)?),
        "INT64" => out.put_i64_le(signed(value)?),
        "FP16" => out.put_u16_le(f16::from_f64(number(value)?).to_bits()),
        "BF16" => out.put_u16_le(bf16::from_f64(number(value)?).to_bits()),
        "FP32" => out.put_f32_le(number(value)? as f32),
        "FP64" => out.put_f64_le(number(value)?),
        "BYTES" => {
            let text = text(value)?;
            out.put_u32_le(u32::try_from(text.len()).ok()?);
            out.put_slice(&text);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::log::payload::{Secret, oip};
    use crate::pb::inference::InferTensorContents;

    fn nothing() -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn output(name: &str, datatype: &str, shape: i64) -> InferOutputTensor {
        InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![shape],
            ..InferOutputTensor::default()
        }
    }

    #[test]
    fn every_type_comes_back_from_json_to_the_last_bit() {
        let none = nothing();
        let secret = Secret { tensors: &none, parameters: Vec::new() };
        let texts = b"\x02\0\0\0ok\x01\0\0\0\xff".to_vec();
        let tensors: [(&str, i64, Vec<u8>); 14] = [
            ("BOOL", 2, vec![1, 0]),
            ("UINT8", 2, vec![0, 255]),
            ("UINT16", 1, vec![255, 255]),
            ("UINT32", 1, u32::MAX.to_le_bytes().to_vec()),
            ("UINT64", 1, u64::MAX.to_le_bytes().to_vec()),
            ("INT8", 1, vec![128]),
            ("INT16", 1, i16::MIN.to_le_bytes().to_vec()),
            ("INT32", 1, i32::MIN.to_le_bytes().to_vec()),
            ("INT64", 1, i64::MIN.to_le_bytes().to_vec()),
            ("FP16", 3, [0x3555_u16, 0x0001, 0x7c00].iter().flat_map(|bits| bits.to_le_bytes()).collect()),
            ("BF16", 2, [0x3eab_u16, 0xff80].iter().flat_map(|bits| bits.to_le_bytes()).collect()),
            (
                "FP32",
                3,
                [0.1_f32, f32::MIN_POSITIVE, f32::NEG_INFINITY]
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect(),
            ),
            ("FP64", 2, [1.0_f64 / 3.0, 5e-324].iter().flat_map(|x| x.to_le_bytes()).collect()),
            ("BYTES", 2, texts),
        ];
        let message = ModelInferResponse {
            model_name: "m".to_owned(),
            outputs: tensors.iter().map(|(datatype, shape, _)| output(datatype, datatype, *shape)).collect(),
            raw_output_contents: tensors.iter().map(|(.., bytes)| bytes.clone().into()).collect(),
            ..ModelInferResponse::default()
        };
        let (json, _) = oip::response_json(&message.encode_to_vec().into(), &secret).unwrap();
        assert_eq!(ModelInferResponse::decode(response(&json).unwrap()).unwrap(), message);
    }

    #[test]
    fn typed_contents_come_back_raw_and_what_is_no_message_does_not() {
        let none = nothing();
        let secret = Secret { tensors: &none, parameters: Vec::new() };
        let contents =
            InferTensorContents { fp32_contents: vec![0.5, f32::NAN], ..InferTensorContents::default() };
        let typed = InferOutputTensor { contents: Some(contents), ..output("x", "FP32", 2) };
        let message = ModelInferResponse { outputs: vec![typed], ..ModelInferResponse::default() };
        let (json, _) = oip::response_json(&message.encode_to_vec().into(), &secret).unwrap();
        let back = ModelInferResponse::decode(response(&json).unwrap()).unwrap();
        assert_eq!(back.raw_output_contents[0][..4], 0.5_f32.to_le_bytes());
        for json in [
            "",
            "7",
            r#"{"outputs": [{"name": "x", "datatype": "FP99", "shape": [1], "data": [1]}]}"#,
            r#"{"outputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [128]}]}"#,
            r#"{"outputs": [{"name": "x", "datatype": "FP32", "shape": [1], "masked": true}]}"#,
        ] {
            assert_eq!(response(json), None, "{json}");
        }
        let asked = r#"{"model_name": "m", "parameters": {"user": "ann", "k": 3}, "inputs": [{"name": "h", "datatype": "FP16", "shape": [1], "data": ["NaN"]}], "outputs": [{"name": "y"}]}"#;
        let back = ModelInferRequest::decode(request(asked).unwrap()).unwrap();
        assert_eq!(back.outputs[0].name, "y");
        assert_eq!(
            (back.model_name.as_str(), back.parameters.len(), back.raw_input_contents.len()),
            ("m", 2, 1)
        );
    }
}
