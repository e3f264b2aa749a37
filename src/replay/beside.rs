//! A candidate's answer beside the one that was served: outputs by name, their types, shapes and values. Pure.
//!
//! What servers say of themselves (their model's name and version, the request's id) is no difference.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use tonic::Status;

use super::recorded::{Recorded, to_json};
use crate::fault::Code;

/// What is said of one pair.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Beside {
    /// Nothing differs.
    Same,
    /// These outputs do.
    Outputs(BTreeSet<String>),
    /// One of both failed, or both by other words.
    Status,
    /// One of both is no answer that can be read.
    Unread,
}

impl Beside {
    /// Holds an answer against what was served; numbers may be so far apart.
    pub(super) fn new(served: &Recorded, answer: &Result<Bytes, Status>, tolerance: f64) -> Self {
        let status = match answer {
            Ok(_) => Code::OK,
            Err(status) => Code(status.code() as u32),
        };
        if status.name() != served.status {
            return Beside::Status;
        }
        let Ok(answer) = answer else { return Beside::Same };
        let answer = to_json(answer).and_then(|json| serde_json::from_str::<Value>(&json).ok());
        let (Some(one), Some(other)) = (&served.response, &answer) else { return Beside::Unread };
        let names = outputs(one).chain(outputs(other)).map(|(name, _)| name.to_owned());
        let find = |answer: &Value, name: &str| {
            outputs(answer).find(|(found, _)| *found == name).map(|(_, output)| output.clone())
        };
        let differs = |name: &String| !alike(&find(one, name).into(), &find(other, name).into(), tolerance);
        let different: BTreeSet<String> = names.filter(differs).collect();
        if different.is_empty() { Beside::Same } else { Beside::Outputs(different) }
    }
}

fn outputs(answer: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = answer.get("outputs").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|output| Some((output.get("name")?.as_str()?, output)))
}

/// Whether two values are the same, but for numbers that are near.
fn alike(one: &Value, other: &Value, tolerance: f64) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a != b => {
            a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= tolerance)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, value): (&String, &Value)| {
                key == "parameters" || b.get(key).is_some_and(|other| alike(value, other, tolerance))
            };
            a.iter().all(same)
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::pb::inference::model_infer_response::InferOutputTensor;
    use crate::pb::inference::{InferTensorContents, ModelInferResponse};

    fn answer(version: &str, scores: &[f64], label: i64) -> Bytes {
        let output = |name: &str, datatype: &str, shape: i64, contents| InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![shape],
            contents: Some(contents),
            ..InferOutputTensor::default()
        };
        let numbers =
            InferTensorContents { fp64_contents: scores.to_vec(), ..InferTensorContents::default() };
        let labels = InferTensorContents { int64_contents: vec![label], ..InferTensorContents::default() };
        let message = ModelInferResponse {
            model_version: version.to_owned(),
            outputs: vec![
                output("scores", "FP64", scores.len() as i64, numbers),
                output("label", "INT64", 1, labels),
            ],
            ..ModelInferResponse::default()
        };
        message.encode_to_vec().into()
    }

    fn served(status: &str) -> Recorded {
        let response =
            to_json(&answer("1", &[0.25, 0.75], 1)).map(|json| serde_json::from_str(&json).unwrap());
        Recorded {
            prediction: String::new(),
            time: 0,
            path: String::new(),
            request: Bytes::new(),
            response: response.filter(|_| status == "OK"),
            status: status.to_owned(),
            latency: 1000,
        }
    }

    #[test]
    fn outputs_are_compared_by_name_and_value_and_versions_are_not() {
        let beside = |answer, tolerance| Beside::new(&served("OK"), &Ok(answer), tolerance);
        let only = |names: &[&str]| Beside::Outputs(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(beside(answer("2", &[0.25, 0.75], 1), 0.0), Beside::Same);
        assert_eq!(beside(answer("2", &[0.2501, 0.75], 1), 1e-3), Beside::Same);
        assert_eq!(beside(answer("2", &[0.2501, 0.75], 1), 1e-5), only(&["scores"]));
        assert_eq!(beside(answer("2", &[0.25, 0.75, 0.0], 0), 0.0), only(&["label", "scores"]));
        assert_eq!(
            beside(ModelInferResponse::default().encode_to_vec().into(), 0.0),
            only(&["label", "scores"])
        );
        assert_eq!(beside(Bytes::from_static(b"\xff"), 0.0), Beside::Unread);
    }

    #[test]
    fn a_failure_is_the_same_only_as_that_failure() {
        let failed = Err(Status::invalid_argument("bad"));
        assert_eq!(Beside::new(&served("OK"), &failed, 0.0), Beside::Status);
        assert_eq!(Beside::new(&served("INVALID_ARGUMENT"), &failed, 0.0), Beside::Same);
        assert_eq!(Beside::new(&served("INTERNAL"), &failed, 0.0), Beside::Status);
        assert!(alike(&json!("NaN"), &json!("NaN"), 0.0) && !alike(&json!("NaN"), &json!(1.0), 9.0));
    }
}
