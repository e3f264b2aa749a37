use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::protocol::request::tests as requests;
use crate::protocol::response::tests as responses;

fn appended(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    [bytes, more].concat()
}

/// The bytes of a response as they leave, renamed.
fn renamed(peek: Peek, bytes: &[u8], name: Option<&str>, version: Option<&str>) -> Vec<u8> {
    let scan = responses::scan(peek, &[bytes]).unwrap();
    let more = Oip.rename_response(peek, name, version, &scan).expect("known once finished");
    appended(bytes, &more)
}

fn rename(message: &mut ModelInferResponse, name: Option<&str>, version: Option<&str>) {
    if let Some(name) = name {
        message.model_name = name.to_owned();
    }
    if let Some(version) = version {
        message.model_version = version.to_owned();
    }
}

#[test]
fn nothing_is_appended_where_nothing_is_to_be_renamed() {
    let message = ModelStreamInferResponse {
        infer_response: Some(ModelInferResponse { id: "1".into(), ..Default::default() }),
        ..Default::default()
    };
    let bytes = message.encode_to_vec();
    assert_eq!(renamed(Peek::Stream, &bytes, None, None), bytes);
    assert!(Oip.rename_request(None, None).is_empty());
    let failed = ModelStreamInferResponse { error_message: "broken".into(), ..message }.encode_to_vec();
    assert_eq!(renamed(Peek::Stream, &failed, Some("a"), Some("b")), failed);
    assert_eq!(renamed(Peek::Stream, b"", Some("a"), Some("b")), b"");
}

#[test]
fn an_error_that_names_its_model_is_renamed() {
    let inner = ModelInferResponse { model_name: "real".into(), id: "1".into(), ..Default::default() };
    let mut failed =
        ModelStreamInferResponse { error_message: "broken".into(), infer_response: Some(inner.clone()) };
    let out = renamed(Peek::Stream, &failed.encode_to_vec(), Some("asked"), None);
    failed.infer_response = Some(ModelInferResponse { model_name: "asked".into(), ..inner });
    assert_eq!(ModelStreamInferResponse::decode(&*out).unwrap(), failed);
}

#[test]
fn a_streams_answer_is_not_renamed_before_its_form_is_known() {
    let scan = Oip.response_scan(Peek::Stream, 100);
    assert_eq!(Oip.rename_response(Peek::Stream, Some("a"), None, &scan), None);
    let unary = Oip.response_scan(Peek::Unary, 100);
    assert_eq!(Oip.rename_response(Peek::Unary, Some("a"), None, &unary).as_deref(), Some(&b"\x0a\x01a"[..]));
}

proptest! {
    #[test]
    fn a_renamed_request_differs_in_its_names_alone(
        message in requests::message(),
        name in option::of("[a-zé]{0,200}"),
        version in option::of("[0-9]{0,8}"),
    ) {
        let (name, version) = (name.as_deref(), version.as_deref());
        let bytes = appended(&message.encode_to_vec(), &Oip.rename_request(name, version));
        let mut want = message;
        if let Some(name) = name {
            want.model_name = name.to_owned();
        }
        if let Some(version) = version {
            want.model_version = version.to_owned();
        }
        prop_assert_eq!(ModelInferRequest::decode(&*bytes).unwrap(), want);
    }

    #[test]
    fn a_renamed_answer_differs_in_its_names_alone(
        message in responses::message(),
        name in option::of("[a-zé]{0,200}"),
        version in option::of("[0-9]{0,8}"),
    ) {
        let (name, version) = (name.as_deref(), version.as_deref());
        let bytes = message.encode_to_vec();
        let wrapped = ModelStreamInferResponse { infer_response: Some(message.clone()), ..Default::default() };
        let mut want = message;
        rename(&mut want, name, version);
        for peek in [Peek::Unary, Peek::Stream] {
            let out = renamed(peek, &bytes, name, version);
            prop_assert_eq!(&ModelInferResponse::decode(&*out).unwrap(), &want);
        }
        let out = renamed(Peek::Stream, &wrapped.encode_to_vec(), name, version);
        let out = ModelStreamInferResponse::decode(&*out).unwrap();
        prop_assert_eq!((out.error_message, out.infer_response), (String::new(), Some(want)));
    }
}
