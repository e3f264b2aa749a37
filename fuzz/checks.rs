//! What must hold for any bytes: run by the fuzz targets, and over their corpus by the unit tests.
//!
//! Whoever includes this file has `keys`, `prediction` and `protocol` in scope beside it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::keys::Keys;
use super::prediction::Prediction;
use super::protocol::frame::{Event, FrameError, Messages};
use super::protocol::request::{Head, RequestScan};
use super::protocol::{ScanError, timeout};

/// The first byte says where to cut: the messages are the same as without a cut, and no event has bytes of another.
pub(super) fn frames(bytes: &[u8]) {
    let Some((at, stream)) = bytes.split_first() else { return };
    let (head, tail) = stream.split_at(usize::from(*at).min(stream.len()));
    assert_eq!(messages(&[head, tail]), messages(&[stream]));
}

type Ends = (Result<(), FrameError>, Vec<(u8, Vec<u8>)>, bool);

fn messages(chunks: &[&[u8]]) -> Ends {
    let mut splitter = Messages::new(256);
    let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut result = Ok(());
    for chunk in chunks {
        result = result.and_then(|()| {
            splitter.walk(chunk, |event| match event {
                Event::Start { compressed, .. } => seen.push((compressed, Vec::new())),
                Event::Payload(part) => seen.last_mut().expect("a message").1.extend_from_slice(part),
                Event::End => {}
            })
        });
    }
    let ended = seen.len() as u64 - splitter.count();
    assert!(ended <= 1 && (ended == 0 || splitter.unfinished()));
    (result, seen, splitter.is_between())
}

/// The first byte says where to cut: the head is the same as without a cut, and never larger than the message.
pub(super) fn request(bytes: &[u8]) {
    let Some((at, message)) = bytes.split_first() else { return };
    let (front, back) = message.split_at(usize::from(*at).min(message.len()));
    let whole = scan(&[message]);
    assert_eq!(scan(&[front, back]), whole);
    if let Ok(head) = whole {
        assert!(head.model.len() + head.version.len() + head.id.len() <= message.len());
    }
}

fn scan(chunks: &[&[u8]]) -> Result<Head, ScanError> {
    let mut scan = RequestScan::new(true);
    for chunk in chunks {
        scan.feed(chunk)?;
    }
    scan.finish()?;
    Ok(scan.into_head())
}

/// What is read can be written again: never longer, and exact but for what eight digits cannot hold.
pub(super) fn timeout(bytes: &[u8]) {
    if let Ok(read) = timeout::parse(bytes) {
        let again = timeout::parse(timeout::encode(read).as_bytes()).expect("what we write, we read");
        assert_eq!(again, read.max(std::time::Duration::from_nanos(1)));
    }
}

/// The bytes as the text of an id, and as what one says, signed: what is believed is written again as the same text,
/// and under another key it is not believed.
pub(super) fn prediction(bytes: &[u8]) {
    let keys = keys_of("1");
    if let Ok(text) = std::str::from_utf8(bytes) {
        believed(text, &keys);
    }
    let Some(body) = bytes.get(2..) else { return };
    let key = keys.first();
    let mut signed = [&[1, key.mark()], body].concat();
    signed.extend_from_slice(&key.prediction_mac(&signed));
    let opened = believed(&URL_SAFE_NO_PAD.encode(signed), &keys);
    assert!(opened || bytes.len() != 46 || bytes[36] > 8, "all fields of an id without odds make sense");
}

fn believed(text: &str, keys: &Keys) -> bool {
    let open = |keys| Prediction::open(text, keys, Duration::from_millis(1 << 48), Duration::MAX);
    let Ok(prediction) = open(keys) else { return false };
    assert_eq!(prediction.seal(keys).as_bytes(), text.as_bytes());
    assert!(open(&keys_of("2")).is_err());
    true
}

fn keys_of(digit: &str) -> Keys {
    Keys::parse(&format!("fuzz {}", digit.repeat(64)), Path::new("keys")).expect("a key")
}
