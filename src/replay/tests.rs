//! What is read of a log to be sent again.

use std::ops::ControlFlow;

use prost::Message as _;

use super::recorded::{Calls, Reading, read};
use crate::config::units::{Percent, Size};
use crate::config::{Full, Log as Config, Payloads, PayloadsAs};
use crate::fault::Code;
use crate::log::Log;
use crate::log::payload::Rule;
use crate::log::read::{Reader, Wanted};
use crate::log::rows::sample;
use crate::log::table::Table;
use crate::pb::inference::model_infer_request::InferInputTensor;
use crate::pb::inference::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::protocol::frame::prefix;

fn framed(message: &impl prost::Message) -> bytes::Bytes {
    let body = message.encode_to_vec();
    [&prefix(0, body.len() as u32)[..], &body].concat().into()
}

fn request() -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: vec![0.5, 1.5], ..InferTensorContents::default() };
    let input = InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, 2],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    ModelInferRequest { model_name: "fraud".to_owned(), inputs: vec![input], ..ModelInferRequest::default() }
}

async fn logged(payloads: Payloads) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let config = Config {
        dir: root.path().to_owned(),
        sample: Percent::ALL,
        flush: std::time::Duration::from_millis(10),
        seal_size: Size(1 << 20),
        seal_every: std::time::Duration::from_secs(600),
        disk: Size(1 << 30),
        full: Full::DropOldest,
        upload: None,
        payloads: Some(payloads),
        cloudevents: None,
    };
    let log = Log::start(&config, 1).unwrap();
    let door = log.door(0).unwrap();
    let capture = door.capture(sample::outcome().prediction).unwrap();
    let whole = framed(&request());
    // Cut anywhere.
    capture.request(&whole.slice(..7));
    capture.request(&whole.slice(7..));
    capture.answer(&framed(&ModelInferResponse { id: "a".to_owned(), ..ModelInferResponse::default() }));
    door.call(crate::outcome::Outcome { payload: Some(capture.take()), ..sample::outcome() });
    door.call(sample::outcome());
    log.close(std::time::Duration::from_secs(20)).await;
    root
}

fn payloads(kept_as: PayloadsAs, mask: &[&str]) -> Payloads {
    let mask = mask.iter().map(|name| (*name).to_owned()).collect();
    Payloads { sample: Percent::ALL, size: Size(1 << 20), kept_as, mask }
}

const ALL: Reading<'static> =
    Reading { model: None, served: None, since: i64::MIN, until: i64::MAX, most: 100 };

#[tokio::test]
async fn messages_are_sent_as_they_were_in_either_form() {
    for kept_as in PayloadsAs::ALL {
        let root = logged(payloads(kept_as, &[])).await;
        let Calls { all: found, skipped, models } = read(&mut Reader::open(root.path()).unwrap(), &ALL);
        assert_eq!((found.len(), models.len()), (1, 1), "{kept_as:?}");
        assert_eq!(skipped["without_messages"], 1);
        let sent = ModelInferRequest::decode(found[0].request.clone()).unwrap();
        assert_eq!(
            (&sent.model_name, &sent.inputs),
            (&request().model_name, &request().inputs),
            "{kept_as:?}"
        );
        let answer = ModelInferResponse::decode(found[0].response.clone().unwrap()).unwrap();
        assert_eq!((answer.id.as_str(), found[0].status), ("a", Code::OK));
        for (served, calls) in [("v2", 1), ("v1", 0)] {
            let reading = Reading { served: Some(served), ..ALL };
            assert_eq!(read(&mut Reader::open(root.path()).unwrap(), &reading).all.len(), calls, "{served}");
        }
        let line = found[0].line().unwrap();
        assert_eq!(crate::warm::file::read(&line, "fraud", "").unwrap().len(), 1, "it warms others too");
    }
}

#[tokio::test]
async fn what_was_masked_is_not_on_the_disk_and_not_sent() {
    for kept_as in PayloadsAs::ALL {
        let root = logged(payloads(kept_as, &["x"])).await;
        let Calls { all: found, skipped, .. } = read(&mut Reader::open(root.path()).unwrap(), &ALL);
        assert_eq!((found.len(), skipped["masked"]), (0, 1));
        let mut kept = 0;
        Reader::open(root.path()).unwrap().rows(&Wanted::all(Table::Predictions), |_, batch| {
            for row in 0..batch.num_rows() {
                let row = serde_json::Value::Object(crate::log::segment::row(batch, row)).to_string();
                kept += usize::from(row.contains("\"payload\":\"masked\""));
                assert!(!row.contains("0.5,1.5"), "{row}");
            }
            ControlFlow::Continue(())
        });
        assert_eq!(kept, 1);
    }
}

#[test]
fn messages_that_are_too_large_or_find_no_room_are_given_up() {
    let tally = std::sync::Arc::default();
    let rule = Rule::new(&Payloads { size: Size(1024), ..payloads(PayloadsAs::Raw, &[]) }, tally);
    let capture = rule.begin();
    (0..3).for_each(|_| capture.request(&vec![0; 400].into()));
    assert_eq!(capture.take().write(None, "oip").fate, "too_large");
    let capture = rule.begin();
    capture.request(&framed(&request()).slice(..9));
    assert_eq!(capture.take().write(None, "oip").fate, "unread", "a message that is not whole");
    let mut broken = framed(&request()).to_vec();
    broken[0] = 1;
    let capture = rule.begin();
    capture.request(&broken.into());
    assert_eq!(capture.take().write(None, "oip").fate, "compressed");
}

#[test]
fn a_share_of_the_messages_is_a_share_of_all_predictions_and_of_those_that_are_logged() {
    let tenth = Percent::from_thousandths(10_000).unwrap();
    let rule =
        Rule::new(&Payloads { sample: tenth, ..payloads(PayloadsAs::Raw, &[]) }, std::sync::Arc::default());
    let ids = (0..100_000_u64).map(|number| {
        let bits = blake3::hash(&number.to_le_bytes());
        let bits: &[u8; 10] = bits.as_bytes().first_chunk().unwrap();
        uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000, bits).into_uuid()
    });
    let (mut kept, mut both) = (0, 0);
    for id in ids.filter(|id| rule.wants(*id)) {
        kept += 1;
        both += u32::from(crate::log::door::falls(id.as_u128(), tenth));
    }
    assert!((9_500..=10_500).contains(&kept), "{kept}");
    assert!((850..=1150).contains(&both), "{both}");
}
