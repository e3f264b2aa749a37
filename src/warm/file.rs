//! Warm-up requests that a person wrote: one a line, as JSON of the Open Inference Protocol.
//!
//! `{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1.5]}]}`, the body that servers of the
//! protocol take over HTTP. Data may be nested as the shape says; `"NaN"`, `"Infinity"` and `"-Infinity"` are numbers, and
//! `{"base64": …}` is BYTES that are no text. FP16 and BF16 have no place in typed contents, so they are refused. Empty
//! lines and lines that begin with `#` are passed over.

use std::collections::HashMap;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::sample::Sample;
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::pb::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use crate::protocol::frame::prefix;

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// What is wrong with a parameter.
const PARAMETER: &str = "a parameter is neither true, false, a number nor a text";
/// Requests of one file.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

/// An output that is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

impl Wanted {
    /// As a message has it; none where a parameter is none.
    pub(crate) fn message(self) -> Option<InferRequestedOutputTensor> {
        Some(InferRequestedOutputTensor { parameters: parameters(&self.parameters)?, name: self.name })
    }
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Value,
}

/// The requests of a file's `text`, for a model that its server calls `name`, in `version` where it is not empty.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn read(text: &str, name: &str, version: &str) -> Result<Vec<Sample>, String> {
    let mut found = Vec::new();
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let request: Request =
            serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        let message = message(request, name, version).map_err(|why| format!("line {number}: {why}"))?;
        found.push(sample(&message, name));
        if found.len() > MOST {
            return Err(format!("line {number}: more than {MOST} requests"));
        }
    }
    if found.is_empty() {
        return Err("it holds no request; write one a line".to_owned());
    }
    Ok(found)
}

fn sample(message: &ModelInferRequest, name: &str) -> Sample {
    let bytes = message.encode_to_vec();
    // No line of a file is near 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Sample {
        path: http::uri::PathAndQuery::from_static(PATH),
        headers,
        adapter: crate::protocol::recognise(PATH),
        asked: Some(name.to_owned()),
        message: Bytes::from([&prefix(0, length)[..], &bytes].concat()),
    }
}

fn message(request: Request, name: &str, version: &str) -> Result<ModelInferRequest, String> {
    let inputs = request.inputs.into_iter().map(|input| {
        let data = flat(&input.data);
        let elements = input.shape.iter().product::<i64>();
        if i64::try_from(data.len()) != Ok(elements) {
            return Err(format!(
                "input {}: the shape {:?} has {elements} elements, the data {}",
                input.name,
                input.shape,
                data.len()
            ));
        }
        let contents =
            contents(&input.datatype, &data).map_err(|why| format!("input {}: {why}", input.name))?;
        Ok(InferInputTensor {
            name: input.name,
            datatype: input.datatype,
            shape: input.shape,
            parameters: parameters(&input.parameters).ok_or(PARAMETER)?,
            contents: Some(contents),
        })
    });
    Ok(ModelInferRequest {
        model_name: name.to_owned(),
        model_version: version.to_owned(),
        id: request.id,
        parameters: parameters(&request.parameters).ok_or(PARAMETER)?,
        inputs: inputs.collect::<Result<_, String>>()?,
        outputs: request.outputs.into_iter().map(Wanted::message).collect::<Option<_>>().ok_or(PARAMETER)?,
        ..ModelInferRequest::default()
    })
}

/// Parameters as a message has them; none where a value is none that they can have.
pub(crate) fn parameters(written: &Map<String, Value>) -> Option<HashMap<String, InferParameter>> {
    let choice = |value: &Value| match value {
        Value::Bool(flag) => Some(ParameterChoice::BoolParam(*flag)),
        Value::String(text) => Some(ParameterChoice::StringParam(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Some(ParameterChoice::Int64Param(number)),
            (None, Some(number)) => Some(ParameterChoice::Uint64Param(number)),
            (None, None) => number.as_f64().map(ParameterChoice::DoubleParam),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let one = |(name, value): (&String, &Value)| {
        Some((name.clone(), InferParameter { parameter_choice: Some(choice(value)?) }))
    };
    written.iter().map(one).collect()
}

/// A number, or one of the words for what JSON has none for.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A text, or bytes that are none.
pub(crate) fn text(value: &Value) -> Option<Bytes> {
    if let Some(text) = value.as_str() {
        return Some(Bytes::copy_from_slice(text.as_bytes()));
    }
    let coded = value.get("base64")?.as_str()?;
    base64::engine::general_purpose::STANDARD.decode(coded).ok().map(Bytes::from)
}

/// Nested lists in row-major order.
fn flat(data: &Value) -> Vec<&Value> {
    match data {
        Value::Array(parts) => parts.iter().flat_map(flat).collect(),
        one => vec![one],
    }
}

fn contents(datatype: &str, data: &[&Value]) -> Result<InferTensorContents, String> {
    fn all<T>(datatype: &str, data: &[&Value], read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
        let one = |value: &&Value| read(value).ok_or_else(|| format!("{value} is no {datatype}"));
        data.iter().map(one).collect()
    }
    let mut contents = InferTensorContents::default();
    let signed = |bits: u32| {
        let limit = 1_i64 << (bits - 1);
        move |value: &Value| value.as_i64().filter(|number| (-limit..limit).contains(number))
    };
    let unsigned = |bits: u32| move |value: &Value| value.as_u64().filter(|number| *number < 1 << bits);
    match datatype {
        "BOOL" => contents.bool_contents = all(datatype, data, Value::as_bool)?,
        "INT8" | "INT16" | "INT32" => {
            let bits = match datatype {
                "INT8" => 8,
                "INT16" => 16,
                _ => 32,
            };
            contents.int_contents = all(datatype, data, |value| {
                signed(bits)(value).and_then(|number| i32::try_from(number).ok())
            })?;
        }
        "INT64" => contents.int64_contents = all(datatype, data, Value::as_i64)?,
        "UINT8" | "UINT16" | "UINT32" => {
            let bits = match datatype {
                "UINT8" => 8,
                "UINT16" => 16,
                _ => 32,
            };
            contents.uint_contents = all(datatype, data, |value| {
                unsigned(bits)(value).and_then(|number| u32::try_from(number).ok())
            })?;
        }
        "UINT64" => contents.uint64_contents = all(datatype, data, Value::as_u64)?,
        "FP32" => {
            contents.fp32_contents = all(datatype, data, |value| number(value).map(|number| number as f32))?
        }
        "FP64" => contents.fp64_contents = all(datatype, data, number)?,
        "BYTES" => contents.bytes_contents = all(datatype, data, text)?,
        other => return Err(format!("datatype {other} cannot be written in JSON here")),
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::PREFIX;

    #[test]
    fn a_request_is_what_a_server_would_get() {
        let text = "# two requests\n\n\
            {\"inputs\": [{\"name\": \"x\", \"shape\": [2, 2], \"datatype\": \"FP32\", \"data\": [[1, 2], [3, 4.5]]}]}\n\
            {\"id\": \"7\", \"inputs\": [{\"name\": \"t\", \"shape\": [1], \"datatype\": \"BYTES\", \"data\": [\"hi\"]}, \
            {\"name\": \"n\", \"shape\": [1], \"datatype\": \"INT8\", \"data\": [-128]}]}\n\
            {\"parameters\": {\"user_id\": \"ann\"}, \"outputs\": [{\"name\": \"y\"}], \"inputs\": [{\"name\": \"t\", \"shape\": [1], \"datatype\": \"BYTES\", \
            \"data\": [{\"base64\": \"/w==\"}]}, {\"name\": \"y\", \"shape\": [1], \"datatype\": \"FP64\", \"data\": [\"-Infinity\"]}]}\n";
        let samples = read(text, "fraud-next", "2").unwrap();
        assert_eq!(samples.len(), 3);
        let third = ModelInferRequest::decode(&samples[2].message[PREFIX..]).unwrap();
        assert_eq!(third.inputs[0].contents.as_ref().unwrap().bytes_contents, [&b"\xff"[..]]);
        assert_eq!(third.inputs[1].contents.as_ref().unwrap().fp64_contents, [f64::NEG_INFINITY]);
        assert!(third.parameters.contains_key("user_id") && third.outputs[0].name == "y");
        let first = ModelInferRequest::decode(&samples[0].message[PREFIX..]).unwrap();
        assert_eq!((&*first.model_name, &*first.model_version), ("fraud-next", "2"));
        assert_eq!(first.inputs[0].contents.as_ref().unwrap().fp32_contents, [1.0, 2.0, 3.0, 4.5]);
        let second = ModelInferRequest::decode(&samples[1].message[PREFIX..]).unwrap();
        assert_eq!(second.inputs[0].contents.as_ref().unwrap().bytes_contents, ["hi"]);
        assert_eq!(second.inputs[1].contents.as_ref().unwrap().int_contents, [-128]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let input = |shape: &str, datatype: &str, data: &str| {
            format!(
                "\n{{\"inputs\": [{{\"name\": \"x\", \"shape\": {shape}, \"datatype\": \"{datatype}\", \"data\": {data}}}]}}"
            )
        };
        for (text, part) in [
            (String::new(), "no request"),
            ("{".to_owned(), "line 1"),
            (input("[3]", "FP32", "[1, 2]"), "line 2: input x: the shape [3] has 3 elements, the data 2"),
            (input("[1]", "INT8", "[128]"), "128 is no INT8"),
            (input("[1]", "UINT8", "[-1]"), "-1 is no UINT8"),
            (input("[1]", "FP16", "[1]"), "FP16"),
            ("{\"parameters\": {\"a\": []}, \"inputs\": []}".to_owned(), "line 1: a parameter is neither"),
        ] {
            let why = read(&text, "m", "").unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
