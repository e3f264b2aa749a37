//! What a response message says of the model that made it.
//!
//! An answer of `ModelInfer` is an inference response. An answer of `ModelStreamInfer` is a message that holds an
//! error text (1) or an inference response (2), or both; but some servers answer that method with the bare inference
//! response, in which 1 and 2 are the model's name and version. They are told apart so:
//!
//! - field 2 that reads as a message whose first field is one of an inference response (numbers 1 to 6, all of them
//!   length-delimited) is the wrapped form; a version text never reads so, short of one made for it;
//! - any other field 2, or a field above 2 before any field 2, is the bare form;
//! - field 1 alone is an in-band error, for a bare answer without id, parameters and tensors answers nothing; an error
//!   text may also stand before a response that says whose error it is, and answers nothing either.
//!
//! Mostly the first bytes decide, which is what lets a renamed stream flow on without being held back.

use super::token::{ScanError, Token, Walker};
use super::{Peek, oip};

/// The most bytes kept of a name, a version or an error.
pub const CAP: usize = 4096;

/// Which form an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An inference response.
    Bare,
    /// A stream's answer that holds an inference response.
    Wrapped,
    /// A stream's answer that says an error.
    Failed,
    /// A stream's answer without any field, or one that is not protobuf: there is nothing to rename.
    Empty,
}

/// The scan of one response message.
#[derive(Debug, Clone)]
pub struct ResponseScan {
    walker: Walker,
    /// `None`: for protocols that are not looked into.
    peek: Option<Peek>,
    /// Only an in-band error is looked for.
    only_error: bool,
    /// The message's bytes, as its prefix says, and how many were read.
    length: u64,
    read: u64,
    shape: Option<Shape>,
    first: Capture,
    second: Capture,
    inner: Inner,
    open: u32,
    /// A field above 2 was met; a tensor was met.
    beyond: bool,
    tensors: bool,
    finished: bool,
    broken: Option<ScanError>,
}

impl ResponseScan {
    /// A scan of one answer of `length` bytes.
    pub fn new(peek: Peek, length: usize) -> Self {
        ResponseScan {
            walker: Walker::default(),
            peek: Some(peek),
            only_error: false,
            length: length as u64,
            read: 0,
            shape: (peek == Peek::Unary).then_some(Shape::Bare),
            first: Capture::default(),
            second: Capture::default(),
            inner: Inner::default(),
            open: 0,
            beyond: false,
            tensors: false,
            finished: false,
            broken: None,
        }
    }

    /// A scan that takes anything and learns nothing.
    pub fn blind() -> Self {
        ResponseScan { peek: None, ..ResponseScan::new(Peek::Unary, 0) }
    }

    /// Begins with the next answer of the same stream, of `length` bytes; `only_error`: nothing of it is asked but
    /// whether it is an in-band error. What the scan holds its memory in is used again.
    pub fn restart(&mut self, length: usize, only_error: bool) {
        self.walker = Walker::default();
        self.only_error = only_error;
        (self.length, self.read) = (length as u64, 0);
        self.shape = (self.peek == Some(Peek::Unary)).then_some(Shape::Bare);
        self.first.reset();
        self.second.reset();
        self.inner.reset();
        (self.open, self.beyond, self.tensors) = (0, false, false);
        (self.finished, self.broken) = (false, None);
    }

    /// Reads the next bytes of the message, without prefix and not compressed.
    ///
    /// # Errors
    /// When they are no protobuf, or a known field is not of its type; every later call gives the same error.
    pub fn feed(&mut self, payload: &[u8]) -> Result<(), ScanError> {
        if self.settled() {
            return Ok(());
        }
        self.standing()?;
        let result = self.walk(payload);
        self.broken = result.err();
        result
    }

    /// Says that the message ended.
    ///
    /// # Errors
    /// When it ended inside a field, and those of [`ResponseScan::feed`].
    pub fn finish(&mut self) -> Result<(), ScanError> {
        if self.broken.is_none() && !self.settled() && !self.walker.is_between() {
            self.broken = Some(ScanError::CutOff);
        }
        self.finished = true;
        let last = if self.broken.is_some() { Shape::Empty } else { self.last_shape() };
        self.shape.get_or_insert(last);
        self.standing()
    }

    /// Whether there is nothing more to learn, so that feeding may stop.
    pub fn settled(&self) -> bool {
        match self.peek {
            None => true,
            Some(Peek::Unary) => self.finished || (self.tensors && self.second.is_whole()),
            Some(Peek::Stream) => {
                self.finished || self.only_error && matches!(self.shape, Some(Shape::Bare | Shape::Wrapped))
            }
        }
    }

    /// Which form the answer has, as soon as it is known; always once finished.
    pub fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// The version that the server names; `None` where it names none, an empty one, or it is not known yet.
    pub fn reported_version(&self) -> Option<&str> {
        match self.shape? {
            Shape::Bare => self.second.whole(),
            Shape::Wrapped => self.inner.version.whole(),
            Shape::Failed | Shape::Empty => None,
        }
    }

    /// The model name that the server gives, with an in-band error too; `None` as for the version.
    pub fn reported_name(&self) -> Option<&str> {
        match self.shape? {
            Shape::Bare => self.first.whole(),
            Shape::Wrapped | Shape::Failed => self.inner.name.whole(),
            Shape::Empty => None,
        }
    }

    /// The error that an answer of a stream says in-band, its first [`CAP`] bytes; `None` before it is finished.
    pub fn in_band_error(&self) -> Option<&str> {
        (self.finished && self.shape == Some(Shape::Failed)).then(|| self.first.start())
    }

    fn standing(&self) -> Result<(), ScanError> {
        self.broken.map_or(Ok(()), Err)
    }

    fn walk(&mut self, mut rest: &[u8]) -> Result<(), ScanError> {
        let end = self.read + rest.len() as u64;
        while let Some(token) = self.walker.next(&mut rest)? {
            self.read = end - rest.len() as u64;
            match token {
                Token::Open { field, length } => self.open(field, length),
                Token::Bytes(part) => self.take(part),
                Token::Close => self.close(),
                Token::Scalar { field, wire, .. } if field <= 6 => {
                    return Err(ScanError::WireType { field, wire });
                }
                Token::Scalar { .. } => self.beyond = true,
            }
            // Both after each token, so that the answer does not hang on how the chunks were cut.
            if self.shape.is_none() {
                self.shape = self.early_shape();
            }
            if self.settled() {
                break;
            }
        }
        self.read = end;
        Ok(())
    }

    fn open(&mut self, field: u32, length: u64) {
        self.open = field;
        match field {
            1 => self.first.begin(length),
            2 => {
                self.second.begin(length);
                // Nothing before it and nothing after it: no error text can be in this message.
                let alone = !self.first.met && !self.beyond && self.read + length == self.length;
                self.inner.begin(alone);
            }
            _ => {
                self.beyond = true;
                self.tensors |= field >= oip::TENSORS;
            }
        }
    }

    fn take(&mut self, part: &[u8]) {
        match self.open {
            1 => self.first.take(part),
            2 => {
                if !self.only_error {
                    self.second.take(part);
                }
                if self.peek == Some(Peek::Stream) {
                    self.inner.read(part, self.only_error);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        match self.open {
            1 => self.first.end(),
            2 => {
                self.second.end();
                self.inner.end();
            }
            _ => {}
        }
        self.open = 0;
    }

    /// What can be said before the end. Nobody writes a field above 2 before field 2, so the first of them decides.
    fn early_shape(&self) -> Option<Shape> {
        if self.second.met {
            if self.inner.alone && self.inner.fields > 0 {
                return Some(Shape::Wrapped);
            }
            return self.inner.foreign.then_some(Shape::Bare);
        }
        self.beyond.then_some(Shape::Bare)
    }

    fn last_shape(&self) -> Shape {
        match (self.second.met, self.first.is_empty()) {
            (true, _) if self.inner.foreign => Shape::Bare,
            (true, true) => Shape::Wrapped,
            (_, false) => Shape::Failed,
            (false, true) => Shape::Empty,
        }
    }
}

/// Field 2 of a stream's answer, read as an inference response until it proves not to be one.
#[derive(Debug, Clone, Default)]
struct Inner {
    walker: Walker,
    name: Capture,
    version: Capture,
    open: u32,
    /// Fields met in it, before it proved not to be one.
    fields: u64,
    /// It is the only field of the message.
    alone: bool,
    /// It is not an inference response.
    foreign: bool,
}

impl Inner {
    fn begin(&mut self, alone: bool) {
        self.walker = Walker::default();
        self.alone = alone;
    }

    fn reset(&mut self) {
        self.walker = Walker::default();
        self.name.reset();
        self.version.reset();
        (self.open, self.fields, self.alone, self.foreign) = (0, 0, false, false);
    }

    /// Reads on; `briefly`: not beyond what decides the answer's form.
    fn read(&mut self, mut rest: &[u8], briefly: bool) {
        while !(self.foreign || briefly && self.alone && self.fields > 0) {
            match self.walker.next(&mut rest) {
                Ok(None) => return,
                Ok(Some(token)) => self.step(token),
                Err(_) => self.foreign = true,
            }
        }
    }

    fn step(&mut self, token: Token<'_>) {
        match token {
            Token::Open { field, length } => {
                self.foreign |= self.fields == 0 && field > 6;
                self.fields += u64::from(!self.foreign);
                self.open = field;
                match field {
                    oip::NAME => self.name.begin(length),
                    oip::VERSION => self.version.begin(length),
                    _ => {}
                }
            }
            Token::Bytes(part) => match self.open {
                oip::NAME => self.name.take(part),
                oip::VERSION => self.version.take(part),
                _ => {}
            },
            Token::Close => match self.open {
                oip::NAME => self.name.end(),
                oip::VERSION => self.version.end(),
                _ => {}
            },
            Token::Scalar { field, .. } => {
                self.foreign |= self.fields == 0 || field <= 6;
                self.fields += u64::from(!self.foreign);
            }
        }
    }

    fn end(&mut self) {
        self.foreign |= !self.walker.is_between();
    }
}

/// A string field of which the first [`CAP`] bytes are kept; the last one counts.
#[derive(Debug, Clone, Default)]
struct Capture {
    bytes: Vec<u8>,
    /// There is such a field.
    met: bool,
    /// All of it is in `bytes`.
    whole: bool,
    cut: bool,
}

impl Capture {
    fn reset(&mut self) {
        self.bytes.clear();
        (self.met, self.whole, self.cut) = (false, false, false);
    }

    fn begin(&mut self, length: u64) {
        self.bytes.clear();
        (self.met, self.whole, self.cut) = (true, false, length > CAP as u64);
    }

    fn take(&mut self, part: &[u8]) {
        let room = CAP - self.bytes.len();
        self.bytes.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end(&mut self) {
        self.whole = !self.cut;
    }

    fn is_whole(&self) -> bool {
        self.whole
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The text, where all of it is there and it is not empty.
    fn whole(&self) -> Option<&str> {
        let text = if self.whole { std::str::from_utf8(&self.bytes).ok()? } else { return None };
        (!text.is_empty()).then_some(text)
    }

    /// As much as is text.
    fn start(&self) -> &str {
        let (text, _) = match std::str::from_utf8(&self.bytes) {
            Ok(text) => return text,
            Err(error) => self.bytes.split_at(error.valid_up_to()),
        };
        std::str::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests;
