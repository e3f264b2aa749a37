//! What must hold for any bytes: run by the fuzz targets, and over their corpus by the unit tests.
//!
//! Whoever includes this file has the rooms that it names in scope beside it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use http::HeaderValue;

use super::keys::Keys;
use super::prediction::Prediction;
use super::protocol::frame::{Event, FrameError, Messages};
use super::protocol::request::{Head, RequestScan};
use super::protocol::{ScanError, timeout};
use super::tls::certificate::Facts;
use super::tls::name::{Names, Pattern};
use super::wire::watch::FrameWatch;
use super::{config, hop};

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

/// The bytes as a hop, and as the name of a variant: what one of our keys signed is believed, nothing else is.
pub(super) fn hop(bytes: &[u8]) {
    let keys = keys_of("1");
    if let Ok(value) = HeaderValue::from_bytes(bytes)
        && let Some(found) = hop::verify(&keys, &value)
    {
        assert!(hop::verify(&keys_of("2"), &value).is_none());
        assert_eq!(hop::verify(&keys, &hop::sign(&keys, found.prediction, &found.variant)), Some(found));
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && name.len() <= 63
    {
        let value = hop::sign(&keys, uuid::Uuid::nil(), name);
        assert_eq!(hop::verify(&keys, &value).map(|found| found.variant).as_deref(), Some(name));
        let text = value.to_str().expect("visible ASCII");
        for at in 0..text.len() {
            let mut altered = text.as_bytes().to_vec();
            altered[at] ^= 1;
            let altered = HeaderValue::from_bytes(&altered);
            assert!(altered.is_ok_and(|value| hop::verify(&keys, &value).is_none()), "altered at {at}");
        }
    }
}

/// A file that is accepted says the same when it is written out, but for what is hidden.
pub(super) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let environment = config::Environment::default();
    let Ok(loaded) = config::read("fuzz.yaml", text, &environment) else { return };
    let written = config::effective(&loaded.config).to_string();
    if written.contains(config::HIDDEN) {
        return;
    }
    let again = config::read("again.yaml", &written, &environment).expect("what we write, we read");
    let mut again = (*again.config).clone();
    again.revision = std::sync::Arc::clone(&loaded.config.revision);
    assert!(again == *loaded.config);
}

/// The first byte says where to cut: the same is seen as without a cut.
pub(super) fn watch(bytes: &[u8]) {
    let Some((at, stream)) = bytes.split_first() else { return };
    let (head, tail) = stream.split_at(usize::from(*at).min(stream.len()));
    for new in [FrameWatch::of_client, FrameWatch::of_server] {
        assert_eq!(seen(new(), &[head, tail]), seen(new(), &[stream]));
    }
}

type Seen = (bool, bool, bool, bool, Option<u64>, Option<u32>, u32);

fn seen(mut watch: FrameWatch, chunks: &[&[u8]]) -> Seen {
    chunks.iter().for_each(|chunk| watch.feed(chunk));
    (
        watch.has_started(),
        watch.is_http2(),
        watch.awaits_preface(),
        watch.settings_acked(),
        watch.unfinished(),
        watch.goaway(),
        watch.newest_stream(),
    )
}

/// The bytes as a certificate, and as a pattern of names: a pattern lets in its own name, and is read as it is shown.
pub(super) fn certificate(bytes: &[u8]) {
    if let Ok(facts) = Facts::read(&bytes.into()) {
        assert!(!facts.names.shown().is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(pattern) = Pattern::parse(text) else { return };
    assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
    let name = pattern.to_string();
    let names = match name.strip_prefix("spiffe://").is_some() {
        true => Names { uris: vec![name.replace('*', "x")], ..Names::default() },
        false => Names { dns: vec![name.replace('*', "x")], ..Names::default() },
    };
    assert!(pattern.matches(&names), "{names:?}");
    assert!(!pattern.matches(&Names::default()));
}

/// Keys that are accepted sign what they believe, and no text of theirs is in an error.
pub(super) fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Keys::parse(text, Path::new("keys")) {
        Ok(keys) => {
            let value = hop::sign(&keys, uuid::Uuid::nil(), "v1");
            assert!(value.len() > 256 || hop::verify(&keys, &value).is_some());
        }
        Err(error) => {
            let told = error.to_string();
            let secret = text.split_whitespace().find(|word| word.len() >= 32 && told.contains(word));
            assert!(secret.is_none(), "a key is shown");
        }
    }
}
