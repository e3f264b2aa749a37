//! A call's messages, where they are logged: taken while they pass, masked and written later, on the log's own thread.
//!
//! Unary calls only: one message each way. What is chosen is in the prediction's own random bits, so it needs no draw.
//! While a call runs its bytes are references; all that is held for the log together is bounded by [`ROOM`], and what
//! finds no room is counted. Tensors that are masked, and parameters that units are read from, never reach the disk.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use super::rows::prediction::Kept;
use super::tally::{Figure, Tally};
use crate::config::{Key, Model, Payloads, PayloadsAs};
use crate::protocol::encoding::inflate;
use crate::protocol::frame::PREFIX;

pub mod oip;

/// Bytes of messages that may be held for the log at once.
pub const ROOM: usize = 64 << 20;
/// What holding a piece costs beside its bytes; a piece may have a buffer of its own.
const PIECE: usize = 96;

/// Which calls' messages are kept, and how.
#[derive(Debug)]
pub struct Rule {
    config: Payloads,
    masked: BTreeSet<String>,
    held: AtomicUsize,
    tally: Arc<Tally>,
}

impl Rule {
    /// As the file says.
    pub fn new(config: &Payloads, tally: Arc<Tally>) -> Arc<Self> {
        let masked = config.mask.iter().cloned().collect();
        Arc::new(Rule { config: config.clone(), masked, held: AtomicUsize::new(0), tally })
    }

    /// Whether a prediction's messages are kept: by other random bits than those that say whether it is logged, but for
    /// two of them. The two above those are none, for a UUID says there what kind it is of.
    pub fn wants(&self, prediction: Uuid) -> bool {
        super::door::falls(prediction.as_u128() >> 30, self.config.sample)
    }

    /// Begins to keep a call's.
    pub fn begin(self: &Arc<Self>) -> Capture {
        let held = Held { rule: Arc::clone(self), bytes: 0 };
        Capture(RefCell::new(Taken {
            request: Vec::new(),
            response: Vec::new(),
            sizes: [0; 2],
            lost: None,
            held,
        }))
    }
}

/// A part of the room.
#[derive(Debug)]
struct Held {
    rule: Arc<Rule>,
    bytes: usize,
}

impl Held {
    fn take(&mut self, bytes: usize) -> bool {
        let before = self.rule.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= ROOM
    }

    fn give(&mut self) {
        self.rule.held.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give();
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Response,
}

/// A call's messages while it runs.
#[derive(Debug)]
pub struct Capture(RefCell<Taken>);

/// A call's messages.
#[derive(Debug)]
pub struct Taken {
    request: Vec<Bytes>,
    response: Vec<Bytes>,
    sizes: [usize; 2],
    lost: Option<Lost>,
    held: Held,
}

/// Why messages are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    TooLarge,
    NoRoom,
}

impl Capture {
    /// Bytes of the request, each once.
    pub fn request(&self, data: &Bytes) {
        self.add(Way::Request, data);
    }

    /// Bytes of the answer, each once.
    pub fn answer(&self, data: &Bytes) {
        self.add(Way::Response, data);
    }

    fn add(&self, way: Way, data: &Bytes) {
        let taken = &mut *self.0.borrow_mut();
        if taken.lost.is_some() || data.is_empty() {
            return;
        }
        taken.sizes[way as usize] += data.len();
        let lost = if taken.sizes[way as usize] > taken.held.rule.config.size.bytes() + PREFIX {
            Some(Lost::TooLarge)
        } else if !taken.held.take(data.len() + PIECE) {
            Some(Lost::NoRoom)
        } else {
            None
        };
        if lost.is_some() {
            (taken.lost, taken.request, taken.response) = (lost, Vec::new(), Vec::new());
            taken.held.give();
            return;
        }
        // A slice keeps the whole buffer alive that it was read into.
        let alone = Bytes::copy_from_slice(data);
        match way {
            Way::Request => taken.request.push(alone),
            Way::Response => taken.response.push(alone),
        }
    }

    /// What there is once the call has ended; nothing more is kept after.
    pub fn take(&self) -> Arc<Taken> {
        let taken = &mut *self.0.borrow_mut();
        let held = Held { rule: Arc::clone(&taken.held.rule), bytes: std::mem::take(&mut taken.held.bytes) };
        Arc::new(Taken {
            request: std::mem::take(&mut taken.request),
            response: std::mem::take(&mut taken.response),
            sizes: taken.sizes,
            lost: taken.lost,
            held,
        })
    }
}

/// A call's messages as they are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// What became of them: a word.
    pub fate: &'static str,
    /// The request's message, where messages are kept raw.
    pub request: Option<Bytes>,
    /// The answer's.
    pub response: Option<Bytes>,
    /// The request as JSON, where they are kept decoded.
    pub request_json: Option<String>,
    /// The answer.
    pub response_json: Option<String>,
}

impl Written {
    /// As the row has them.
    pub fn kept(&self) -> Kept<'_> {
        Kept {
            payload: self.fate,
            request: self.request.as_deref(),
            response: self.response.as_deref(),
            request_json: self.request_json.as_deref(),
            response_json: self.response_json.as_deref(),
        }
    }

    fn none(fate: &'static str) -> Self {
        Written { fate, ..Written::default() }
    }
}

impl Taken {
    /// As they are written: inflated, without what is masked, raw or decoded. `model` is the call's, `protocol` who read it.
    pub fn write(&self, model: Option<&Model>, protocol: &str) -> Written {
        let rule = &self.held.rule;
        match self.lost {
            Some(Lost::TooLarge) => return Written::none("too_large"),
            Some(Lost::NoRoom) => {
                rule.tally.add(Figure::PayloadsDropped, 1);
                return Written::none("no_room");
            }
            None => {}
        }
        let most = rule.config.size.bytes();
        let (request, response) = match (message(&self.request, most), message(&self.response, most)) {
            (Ok(request), Ok(response)) => (request, response),
            (Err(fate), _) | (_, Err(fate)) => return Written::none(fate),
        };
        let secret = Secret { tensors: &rule.masked, parameters: unit_parameters(model) };
        let known = protocol == "oip";
        match rule.config.kept_as {
            PayloadsAs::Raw if secret.is_none() || !known && rule.masked.is_empty() => {
                Written { request, response, ..Written::none("kept") }
            }
            _ if !known => Written::none("unread"),
            PayloadsAs::Raw => {
                let (request, one) = unzip(request.map(|bytes| oip::masked_request(&bytes, &secret)));
                let (response, other) = unzip(response.map(|bytes| oip::masked_response(&bytes, &secret)));
                match (request, response) {
                    (Ok(request), Ok(response)) => {
                        Written { request, response, ..Written::none(fate(one | other)) }
                    }
                    _ => Written::none("unread"),
                }
            }
            PayloadsAs::Decoded => {
                let (request, one) = unzip(request.map(|bytes| oip::request_json(&bytes, &secret)));
                let (response, other) = unzip(response.map(|bytes| oip::response_json(&bytes, &secret)));
                match (request, response) {
                    (Ok(request_json), Ok(response_json)) => {
                        Written { request_json, response_json, ..Written::none(fate(one | other)) }
                    }
                    _ => Written::none("unread"),
                }
            }
        }
    }
}

fn fate(masked: bool) -> &'static str {
    if masked { "masked" } else { "kept" }
}

fn unzip<T>(found: Option<Result<(T, bool), oip::Unread>>) -> (Result<Option<T>, oip::Unread>, bool) {
    match found {
        None => (Ok(None), false),
        Some(Ok((value, masked))) => (Ok(Some(value)), masked),
        Some(Err(unread)) => (Err(unread), false),
    }
}

/// What must not be written.
#[derive(Debug)]
pub struct Secret<'a> {
    /// Names of tensors whose contents are left out.
    pub tensors: &'a BTreeSet<String>,
    /// Names of parameters that units are read from.
    pub parameters: Vec<&'a str>,
}

impl Secret<'_> {
    fn is_none(&self) -> bool {
        self.tensors.is_empty() && self.parameters.is_empty()
    }
}

fn unit_parameters(model: Option<&Model>) -> Vec<&str> {
    let keys = model.into_iter().flat_map(|model| &model.unit);
    keys.filter_map(|key| match key {
        Key::Parameter(name) => Some(&**name),
        Key::Metadata(_) => None,
    })
    .collect()
}

/// The one message in framed bytes, inflated to at most so many bytes; none where there are no bytes, and a word where
/// they are no such message.
fn message(chunks: &[Bytes], most: usize) -> Result<Option<Bytes>, &'static str> {
    let all = match chunks {
        [] => return Ok(None),
        [one] => one.clone(),
        several => several.concat().into(),
    };
    let Some((prefix, body)) = all.split_first_chunk::<PREFIX>() else { return Err("unread") };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if body.len() != length {
        return Err("unread");
    }
    match prefix[0] {
        0 => Ok(Some(all.slice(PREFIX..))),
        // An answer's headers are not kept: of the two encodings that are read one fits, or none.
        1 => {
            let inflated =
                [&b"gzip"[..], b"deflate"].into_iter().find_map(|way| inflate(way, body, most).ok());
            inflated.map(|message| Some(message.into())).ok_or("compressed")
        }
        _ => Err("unread"),
    }
}
