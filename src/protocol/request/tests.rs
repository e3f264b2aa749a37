use std::collections::HashMap;

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb::inference::infer_parameter::ParameterChoice;
use crate::pb::inference::model_infer_request::InferInputTensor;
use crate::pb::inference::{InferParameter, ModelInferRequest};
use crate::protocol::tests::cut;

fn choice() -> impl Strategy<Value = ParameterChoice> {
    prop_oneof![
        any::<bool>().prop_map(ParameterChoice::BoolParam),
        any::<i64>().prop_map(ParameterChoice::Int64Param),
        "[ -~é]{0,12}".prop_map(ParameterChoice::StringParam),
        (-1e9..1e9).prop_map(ParameterChoice::DoubleParam),
        any::<u64>().prop_map(ParameterChoice::Uint64Param),
    ]
}

prop_compose! {
    pub(crate) fn message()(
        model_name in "[a-zé]{0,12}",
        model_version in "[0-9.]{0,6}",
        id in "[ -~]{0,40}",
        parameters in hash_map("[a-z]{0,6}", proptest::option::of(choice()), 0..4),
        names in vec("[a-z]{0,6}", 0..3),
        raw in vec(vec(any::<u8>(), 0..60), 0..3),
    ) -> ModelInferRequest {
        let parameters = parameters
            .into_iter()
            .map(|(key, parameter_choice)| (key, InferParameter { parameter_choice }))
            .collect();
        let inputs = names.into_iter().map(|name| InferInputTensor { name, ..Default::default() }).collect();
        let raw_input_contents = raw.into_iter().map(Into::into).collect();
        ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs: vec![], raw_input_contents }
    }
}

fn text(parameter: &InferParameter) -> String {
    match &parameter.parameter_choice {
        None => String::new(),
        Some(ParameterChoice::BoolParam(value)) => value.to_string(),
        Some(ParameterChoice::Int64Param(value)) => value.to_string(),
        Some(ParameterChoice::StringParam(value)) => value.clone(),
        Some(ParameterChoice::DoubleParam(value)) => value.to_string(),
        Some(ParameterChoice::Uint64Param(value)) => value.to_string(),
    }
}

fn scan(want_parameters: bool, chunks: &[&[u8]]) -> Result<Head, ScanError> {
    let mut scan = RequestScan::new(want_parameters);
    for chunk in chunks {
        scan.feed(chunk)?;
    }
    scan.finish()?;
    assert!(scan.enough());
    Ok(scan.into_head())
}

/// The fields of a message one by one, for tests that put them into another order.
fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut rest, mut walker) = (Vec::new(), bytes, Walker::default());
    let mut start = 0;
    while let Some(token) = walker.next(&mut rest).unwrap() {
        if matches!(token, Token::Close | Token::Scalar { .. }) {
            let end = bytes.len() - rest.len();
            out.push(bytes[start..end].to_vec());
            start = end;
        }
    }
    out
}

#[test]
fn a_call_can_go_as_soon_as_a_tensor_is_met() {
    let request = ModelInferRequest {
        model_name: "iris".into(),
        id: "7".into(),
        inputs: vec![InferInputTensor { name: "x".into(), ..Default::default() }],
        ..Default::default()
    };
    let bytes = request.encode_to_vec();
    let mut scan = RequestScan::new(false);
    // 6 bytes of name, 3 of id, then the tensor's tag and length.
    scan.feed(&bytes[..9]).unwrap();
    assert_eq!((scan.head().model.as_str(), scan.enough()), ("iris", false));
    scan.feed(&bytes[9..11]).unwrap();
    assert!(scan.enough());
    assert_eq!(scan.head().id, "7");
}

#[test]
fn a_name_behind_the_tensors_is_waited_for_and_an_id_learnt_later() {
    let mut scan = RequestScan::new(false);
    scan.feed(b"\x2a\x02ab").unwrap();
    assert!(!scan.enough());
    scan.feed(b"\x0a\x04iris").unwrap();
    assert!(scan.enough());
    scan.feed(b"\x1a\x01").unwrap();
    scan.feed(b"9").unwrap();
    assert_eq!((scan.finish(), scan.head().id.as_str()), (Ok(()), "9"));
}

#[test]
fn what_would_be_kept_is_bounded() {
    let mut long = Vec::new();
    crate::protocol::token::put(&mut long, 3, &[b'x'; CAP + 1]);
    let error = ScanError::TooLong { field: 3, length: CAP as u64 + 1, cap: CAP };
    assert_eq!(scan(false, &[&long]), Err(error));
    // A length that lies allocates nothing.
    let lie = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    assert!(matches!(scan(false, &[lie]), Err(ScanError::TooLong { field: 1, .. })));
    // A tensor may be of any length.
    assert_eq!(scan(false, &[b"\x3a\xff\xff\xff\xff\x0fxy"]), Err(ScanError::CutOff));
    let many = [0x22, 0].repeat(PARAMETERS_CAP / 64 + 1);
    assert!(matches!(scan(true, &[&many]), Err(ScanError::TooLong { field: 4, .. })));
    assert!(scan(false, &[&many]).is_ok());
}

#[test]
fn malformed_requests_are_errors_that_stay() {
    for (bytes, want) in [
        (&b"\x08\x01"[..], ScanError::WireType { field: 1, wire: 0 }),
        (b"\x2d\0\0\0\0", ScanError::WireType { field: 5, wire: 5 }),
        (b"\x0a\x02\xff\xfe", ScanError::NotText(1)),
        (b"\x00", ScanError::Tag(0)),
        (b"\x22\x02\x08\x01", ScanError::WireType { field: 1, wire: 0 }),
        (b"\x22\x04\x12\x02\x0a\x00", ScanError::WireType { field: 1, wire: 2 }),
        (b"\x22\x01\x0a", ScanError::CutOff),
    ] {
        let mut scan = RequestScan::new(true);
        assert_eq!(scan.feed(bytes), Err(want), "{bytes:?}");
        assert_eq!(scan.feed(b""), Err(want));
        assert_eq!(scan.finish(), Err(want));
    }
}

#[test]
fn a_parameter_without_a_value_hides_an_earlier_one() {
    let head = scan(true, &[b"\x22\x08\x0a\x01a\x12\x03\x1a\x01x\x22\x03\x0a\x01a"]).unwrap();
    assert_eq!(head.parameters, [("a".to_owned(), "x".to_owned()), ("a".to_owned(), String::new())]);
}

proptest! {
    #[test]
    fn a_scan_knows_what_a_decoder_knows(request in message(), at in vec(any::<usize>(), 0..8), swaps in vec(any::<(usize, usize)>(), 0..4)) {
        let mut parts = fields(&request.encode_to_vec());
        for (a, b) in swaps {
            let count = parts.len().max(1);
            if !parts.is_empty() {
                parts.swap(a % count, b % count);
            }
        }
        let bytes = parts.concat();
        let head = scan(true, &cut(&bytes, &at)).unwrap();
        prop_assert_eq!(&head.model, &request.model_name);
        prop_assert_eq!(&head.version, &request.model_version);
        prop_assert_eq!(&head.id, &request.id);
        let seen: HashMap<String, String> = head.parameters.into_iter().collect();
        let want = request.parameters.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        prop_assert_eq!(seen, want);
    }

    #[test]
    fn the_last_of_a_repeated_field_wins(first in message(), second in message(), at in vec(any::<usize>(), 0..8)) {
        let bytes = [first.encode_to_vec(), second.encode_to_vec()].concat();
        let merged = ModelInferRequest::decode(&*bytes).unwrap();
        let head = scan(true, &cut(&bytes, &at)).unwrap();
        prop_assert_eq!((head.model, head.version, head.id), (merged.model_name, merged.model_version, merged.id));
        let seen: HashMap<String, String> = head.parameters.into_iter().collect();
        let want = merged.parameters.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        prop_assert_eq!(seen, want);
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in vec(prop_oneof![Just(0x0a_u8), Just(0x12), Just(0x22), Just(1), Just(2), Just(4), any::<u8>()], 0..64),
        at in vec(any::<usize>(), 0..8),
    ) {
        let want = scan(true, &[&bytes]);
        prop_assert_eq!(scan(true, &cut(&bytes, &at)), want.clone());
        // What a decoder takes, the scan takes too and reads the same; it is laxer only about what it steps over.
        if let (Ok(request), Ok(head)) = (ModelInferRequest::decode(&*bytes), want) {
            prop_assert_eq!((head.model, head.version, head.id), (request.model_name, request.model_version, request.id));
        }
    }
}

proptest! {
    /// A scan that goes on with a stream's later messages knows each one's model, as one made for it would.
    #[test]
    fn a_scan_that_goes_on_knows_each_messages_model(
        messages in vec(message(), 1..5),
        broken in any::<bool>(),
        at in vec(any::<usize>(), 0..3),
    ) {
        let mut going_on = RequestScan::new(true);
        going_on.finish().unwrap();
        for message in messages {
            going_on.restart();
            if broken {
                prop_assert!(going_on.feed(b"\x0b").is_err());
                going_on.restart();
            }
            let bytes = message.encode_to_vec();
            for chunk in cut(&bytes, &at) {
                going_on.feed(chunk).unwrap();
            }
            going_on.finish().unwrap();
            prop_assert_eq!(&going_on.head().model, &message.model_name);
        }
    }
}
