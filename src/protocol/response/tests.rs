use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{ModelInferResponse, ModelStreamInferResponse};
use crate::protocol::tests::cut;

prop_compose! {
    pub(crate) fn message()(
        model_name in "[a-zé]{0,12}",
        model_version in "[0-9a-z.]{0,6}",
        id in "[ -~]{1,40}",
        names in vec("[a-z]{0,6}", 0..3),
        raw in vec(vec(any::<u8>(), 0..60), 0..3),
    ) -> ModelInferResponse {
        let outputs = names.into_iter().map(|name| InferOutputTensor { name, ..Default::default() }).collect();
        let raw_output_contents = raw.into_iter().map(Into::into).collect();
        ModelInferResponse { model_name, model_version, id, outputs, raw_output_contents, ..Default::default() }
    }
}

pub(crate) fn scan(peek: Peek, chunks: &[&[u8]]) -> Result<ResponseScan, ScanError> {
    let mut scan = ResponseScan::new(peek, chunks.iter().map(|chunk| chunk.len()).sum());
    let mut early = None;
    for chunk in chunks {
        scan.feed(chunk)?;
        early = early.or(scan.shape());
    }
    scan.finish()?;
    assert!(early.is_none() || early == scan.shape(), "a shape once known stays");
    Ok(scan)
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn answer() -> ModelInferResponse {
    ModelInferResponse {
        model_name: "iris".into(),
        model_version: "2".into(),
        id: "9".into(),
        raw_output_contents: vec![vec![7; 1000].into()],
        ..Default::default()
    }
}

#[test]
fn a_unary_answer_is_settled_at_its_tensors() {
    let bytes = answer().encode_to_vec();
    let mut scan = ResponseScan::new(Peek::Unary, bytes.len());
    scan.feed(&bytes[..20]).unwrap();
    assert!(scan.settled());
    assert_eq!((scan.reported_name(), scan.reported_version()), (Some("iris"), Some("2")));
    // Not looked at any more, so not even protobuf.
    assert_eq!((scan.feed(b"\0\0"), scan.finish(), scan.in_band_error()), (Ok(()), Ok(()), None));
}

#[test]
fn the_first_bytes_of_a_streams_answer_tell_its_form() {
    let bare = answer().encode_to_vec();
    let wrapped = ModelStreamInferResponse { infer_response: Some(answer()), ..Default::default() };
    let nameless = ModelInferResponse { model_name: String::new(), model_version: String::new(), ..answer() };
    for (bytes, want) in [
        (bare, Shape::Bare),
        (wrapped.encode_to_vec(), Shape::Wrapped),
        (nameless.encode_to_vec(), Shape::Bare),
    ] {
        let mut scan = ResponseScan::new(Peek::Stream, bytes.len());
        scan.feed(&bytes[..16]).unwrap();
        assert_eq!(scan.shape(), Some(want));
    }
}

#[test]
fn an_in_band_error_is_said_at_the_end() {
    let inner = ModelInferResponse { id: "9".into(), ..Default::default() };
    for infer_response in [None, Some(inner)] {
        let failed = ModelStreamInferResponse { error_message: "no such model".into(), infer_response };
        let bytes = failed.encode_to_vec();
        let mut scan = ResponseScan::new(Peek::Stream, bytes.len());
        scan.feed(&bytes).unwrap();
        assert_eq!((scan.in_band_error(), scan.shape()), (None, None));
        scan.finish().unwrap();
        assert_eq!((scan.in_band_error(), scan.shape()), (Some("no such model"), Some(Shape::Failed)));
        assert_eq!(scan.reported_version(), None);
    }
    let long = ModelStreamInferResponse { error_message: "é".repeat(CAP), ..Default::default() };
    let scan = scan(Peek::Stream, &[&long.encode_to_vec()]).unwrap();
    assert_eq!(scan.in_band_error(), Some("é".repeat(CAP / 2).as_str()));
}

#[test]
fn answers_that_say_little() {
    assert_eq!(scan(Peek::Stream, &[]).unwrap().shape(), Some(Shape::Empty));
    assert_eq!(scan(Peek::Unary, &[]).unwrap().reported_version(), None);
    // An inference response that is there and empty.
    assert_eq!(scan(Peek::Stream, &[b"\x12\0"]).unwrap().shape(), Some(Shape::Wrapped));
    // A name and a version, no more.
    let scan = scan(Peek::Stream, &[b"\x0a\x01a\x12\x012"]).unwrap();
    assert_eq!((scan.shape(), scan.reported_version()), (Some(Shape::Bare), Some("2")));
}

#[test]
fn malformed_answers_are_errors_that_stay() {
    for bytes in [&b"\x08\x01"[..], b"\x00", b"\x1d\0\0\0\0"] {
        let mut scan = ResponseScan::new(Peek::Stream, bytes.len());
        let error = scan.feed(bytes).unwrap_err();
        assert_eq!((scan.feed(b""), scan.finish()), (Err(error), Err(error)));
    }
    assert_eq!(scan(Peek::Unary, &[b"\x0a\x05a"]).unwrap_err(), ScanError::CutOff);
}

proptest! {
    #[test]
    fn a_scan_knows_what_a_decoder_knows(message in message(), at in vec(any::<usize>(), 0..8)) {
        let bytes = message.encode_to_vec();
        for peek in [Peek::Unary, Peek::Stream] {
            let scan = scan(peek, &cut(&bytes, &at)).unwrap();
            prop_assert_eq!(scan.shape(), Some(Shape::Bare));
            prop_assert_eq!(scan.reported_name(), some(&message.model_name));
            prop_assert_eq!(scan.reported_version(), some(&message.model_version));
        }
    }

    #[test]
    fn a_streams_answer_is_known_for_what_it_is(
        infer_response in option::of(message()),
        error_message in "[ -~]{0,30}",
        at in vec(any::<usize>(), 0..8),
    ) {
        let message = ModelStreamInferResponse { error_message, infer_response };
        let bytes = message.encode_to_vec();
        let scan = scan(Peek::Stream, &cut(&bytes, &at)).unwrap();
        prop_assert_eq!(scan.in_band_error(), some(&message.error_message));
        let want = match (&message.infer_response, scan.in_band_error()) {
            (_, Some(_)) => Shape::Failed,
            (Some(_), None) => Shape::Wrapped,
            (None, None) => Shape::Empty,
        };
        prop_assert_eq!(scan.shape(), Some(want));
        if let (Shape::Wrapped, Some(inner)) = (want, &message.infer_response) {
            prop_assert_eq!(scan.reported_name(), some(&inner.model_name));
            prop_assert_eq!(scan.reported_version(), some(&inner.model_version));
        }
    }

    #[test]
    fn any_bytes_end_the_same_however_they_are_cut(
        bytes in vec(prop_oneof![Just(0x0a_u8), Just(0x12), Just(1), Just(2), Just(4), any::<u8>()], 0..64),
        at in vec(any::<usize>(), 0..8),
        stream: bool,
    ) {
        let peek = if stream { Peek::Stream } else { Peek::Unary };
        let end = |chunks: &[&[u8]]| {
            let mut scan = ResponseScan::new(peek, bytes.len());
            for chunk in chunks {
                let _ = scan.feed(chunk);
            }
            let result = scan.finish();
            let version = scan.reported_version().map(str::to_owned);
            (result, scan.shape().expect("known once finished"), version, scan.in_band_error().map(str::to_owned))
        };
        prop_assert_eq!(end(&cut(&bytes, &at)), end(&[&bytes]));
    }
}

proptest! {
    /// A scan that goes on with a stream's later answers says of each what one made for it says.
    #[test]
    fn a_scan_that_goes_on_says_of_each_answer_what_its_own_would(
        answers in vec((option::of(message()), "[ -~]{0,20}", any::<bool>()), 1..6),
        only_error in any::<bool>(),
        at in vec(any::<usize>(), 0..3),
    ) {
        let mut going_on = ResponseScan::new(Peek::Stream, 0);
        for (infer_response, error_message, bare) in answers {
            let bytes = match infer_response {
                Some(response) if bare => response.encode_to_vec(),
                infer_response => ModelStreamInferResponse { error_message, infer_response }.encode_to_vec(),
            };
            let chunks = cut(&bytes, &at);
            let own = scan(Peek::Stream, &chunks).unwrap();
            going_on.restart(bytes.len(), only_error);
            for chunk in &chunks {
                going_on.feed(chunk).unwrap();
            }
            going_on.finish().unwrap();
            prop_assert_eq!(going_on.in_band_error(), own.in_band_error());
            prop_assert_eq!(going_on.shape(), own.shape());
            if !only_error {
                prop_assert_eq!(going_on.reported_version(), own.reported_version());
                prop_assert_eq!(going_on.reported_name(), own.reported_name());
            }
        }
    }
}
