//! What a report says, read as its feedback takes it: the value, and what tells it from others. Pure.

use std::fmt::Write as _;
use std::sync::Arc;

use uuid::Uuid;

use crate::config::{Feedback, FeedbackKind, Join};
use crate::feedback::track::needs_mark;
use crate::feedback::{MAX_WORD, Refusal, Report, Value};

/// Beyond it sums of squares would be none any more.
const MAX_NUMBER: f64 = 1e100;

/// The value as a number; of a label the bits of its hash.
pub(super) fn value(feedback: &Feedback, value: Option<&Value>) -> Result<f64, Refusal> {
    let refuse = |value: String, wrong| {
        let kind = in_words(feedback.kind);
        Err(Refusal::Value { name: Arc::clone(&feedback.name), value, wrong, kind })
    };
    match (feedback.kind, value) {
        (_, None) => refuse("the value".to_owned(), "is missing"),
        (FeedbackKind::Label, Some(Value::Label(label))) if label.is_empty() => {
            refuse("\"\"".to_owned(), "is empty")
        }
        (FeedbackKind::Label, Some(Value::Label(label))) if label.len() > MAX_WORD => {
            refuse(format!("{:?}", short(label)), "is longer than 256 bytes")
        }
        (FeedbackKind::Label, Some(Value::Label(label))) => {
            Ok(f64::from_bits(hash(&[label.as_bytes()]) >> 2))
        }
        (_, Some(Value::Label(label))) => refuse(format!("{:?}", short(label)), "is a word"),
        (kind, Some(Value::Number(number))) => match kind.admits(*number) {
            Ok(()) if number.abs() > MAX_NUMBER => refuse(number.to_string(), "is beyond 1e100"),
            Ok(()) => Ok(*number),
            Err(wrong) => refuse(number.to_string(), wrong),
        },
    }
}

fn in_words(kind: FeedbackKind) -> String {
    let mut words = kind.name().to_owned();
    let written = match kind {
        FeedbackKind::Binary => write!(words, ": 0 or 1"),
        FeedbackKind::Bounded { min, max } => write!(words, ": {min} to {max}"),
        FeedbackKind::Real | FeedbackKind::Clicks => write!(words, ": a finite number"),
        FeedbackKind::Label => write!(words, ": a word"),
    };
    // Writing to a String cannot fail.
    let _ = written;
    words
}

/// What tells a report from others about its prediction, where that must be remembered: the first and the largest are
/// the same however often they are sent.
pub(super) fn mark(feedback: &Feedback, uuid: Uuid, report: &Report) -> Result<Option<u64>, Refusal> {
    if report.id.len() > MAX_WORD {
        return Err(Refusal::Value {
            name: Arc::clone(&feedback.name),
            value: format!("id {:?}", short(&report.id)),
            wrong: "is longer than 256 bytes",
            kind: in_words(feedback.kind),
        });
    }
    let at = report.at.map(u64::to_be_bytes);
    match (feedback.join, report.id.is_empty(), at) {
        (Join::Sum | Join::Last, false, _) => Ok(Some(key(uuid, &[b"id", report.id.as_bytes()]))),
        (Join::Sum, true, Some(at)) => Ok(Some(key(uuid, &[b"at", &at]))),
        (join, true, None) if needs_mark(join) => Err(Refusal::Anonymous(Arc::clone(&feedback.name))),
        _ => Ok(None),
    }
}

/// The same of a report about a slot, of which there is one at most that has no id and no time of its own.
pub(super) fn placed_mark(
    feedback: &Feedback,
    uuid: Uuid,
    report: &Report,
    place: &[u8],
) -> Result<Option<u64>, Refusal> {
    if feedback.join == Join::Sum && report.id.is_empty() {
        let at = report.at.map(u64::to_be_bytes).unwrap_or_default();
        return Ok(Some(key(uuid, &[b"place", place, &at])));
    }
    let mark = mark(feedback, uuid, report)?;
    Ok(mark.map(|mark| hash(&[&mark.to_be_bytes(), place]) >> 1))
}

/// What a feedback is known by on disk: another one where a value would mean something else.
pub(super) fn track_id(model: &str, feedback: &Feedback) -> u32 {
    let Feedback { name, kind, window, default, join, max_rate: _ } = feedback;
    let said = format!("{model:?} {name:?} {kind:?} {window:?} {default:?} {join:?}");
    (hash(&[said.as_bytes()]) >> 32) as u32
}

/// The highest bit is not set: that is for bins.
pub(in crate::feedback) fn key(uuid: Uuid, parts: &[&[u8]]) -> u64 {
    let mut all = vec![&uuid.as_bytes()[..]];
    all.extend_from_slice(parts);
    hash(&all) >> 1
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The beginning of what somebody sent.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
