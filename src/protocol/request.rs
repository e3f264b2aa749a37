//! What a request message says of itself: one pass over an inference request as it comes in.
//!
//! Name, version, id and, where wanted, the scalar parameters are kept; tensors are stepped over. The last of a
//! repeated field counts, as it does for the server. A call can be dispatched as soon as a tensor was met and the
//! name is known; the scan may still be fed the rest, so that an id behind the tensors is learnt too.

use std::sync::Arc;

use super::oip;
use super::oip::tensor::{self, Answer};
use super::token::{self, Part, ScanError, Token, Walker, each};

/// The most bytes kept of one name, version or id.
pub const CAP: usize = 4096;
/// The most bytes kept of all parameters together; each counts 64 bytes beside its own.
pub const PARAMETERS_CAP: usize = 32 * 1024;
/// The most bytes of an input tensor that is kept.
pub const INPUT_CAP: usize = 64 * 1024;
/// What it costs to keep a parameter, so that many empty ones are bounded too.
const ENTRY: usize = 64;

/// What the fields before the tensors say. Absent strings are empty, which in protobuf is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The model that is asked for.
    pub model: String,
    /// The version that is asked for.
    pub version: String,
    /// The caller's own id of the request.
    pub id: String,
    /// In the order they came, the last of a name counts; scalars as plain text: `true`, `-3`, `0.5`. One that
    /// holds no value is there as empty text, so that it still hides an earlier one of its name.
    pub parameters: Vec<(String, String)>,
    /// Input tensors that were wanted and are there, see [`RequestScan::wanting`].
    pub inputs: Vec<Input>,
}

/// An input tensor that somebody wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// The tensor as it came, and its raw contents, where they are apart.
    encoded: Vec<u8>,
    raw: Option<Vec<u8>>,
}

impl Input {
    /// Its numbers; none where it cannot be read, or has none.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        // An answer is written in the same way, so what reads its outputs reads this.
        let mut message = Vec::with_capacity(self.encoded.len() + self.raw.as_ref().map_or(0, Vec::len) + 16);
        token::put(&mut message, oip::TENSORS, &self.encoded);
        if let Some(raw) = &self.raw {
            token::put(&mut message, oip::RAW_OUTPUTS, raw);
        }
        Answer::read(&message.into()).ok()?.tensor(&self.name).ok()?.numbers()
    }
}

/// Where a wanted tensor's contents are.
#[derive(Debug, Clone, Default)]
struct Wanting {
    names: Option<Arc<[Arc<str>]>>,
    /// Tensors so far whose contents are apart, and raw contents so far.
    apart: usize,
    raws: usize,
    /// By place in [`Head::inputs`]: which raw contents are theirs, where they are still to come.
    due: Vec<(usize, usize)>,
}

/// The scan of one request message.
#[derive(Debug, Clone)]
pub struct RequestScan {
    walker: Walker,
    want_parameters: bool,
    /// Only the model's name is kept.
    only_model: bool,
    /// For protocols that are not looked into.
    blind: bool,
    /// The field being kept.
    open: Option<u32>,
    buffer: Vec<u8>,
    /// Of [`PARAMETERS_CAP`].
    spent: usize,
    head: Head,
    wanting: Wanting,
    tensors: bool,
    finished: bool,
    broken: Option<ScanError>,
}

impl RequestScan {
    /// A scan of a `ModelInferRequest`.
    pub fn new(want_parameters: bool) -> Self {
        RequestScan {
            walker: Walker::default(),
            want_parameters,
            only_model: false,
            blind: false,
            open: None,
            buffer: Vec::new(),
            spent: 0,
            head: Head::default(),
            wanting: Wanting::default(),
            tensors: false,
            finished: false,
            broken: None,
        }
    }

    /// The same, keeping input tensors of these names too, of 64 KiB at most: it has not seen enough before they are
    /// there, or the message ends.
    #[must_use]
    pub fn wanting(self, names: Option<&Arc<[Arc<str>]>>) -> Self {
        RequestScan { wanting: Wanting { names: names.cloned(), ..Wanting::default() }, ..self }
    }

    /// A scan that takes anything and learns nothing.
    pub fn blind() -> Self {
        RequestScan { blind: true, ..RequestScan::new(false) }
    }

    /// Begins with the next message of the same stream, of which only the model's name is asked. What the scan holds
    /// its memory in is used again.
    pub fn restart(&mut self) {
        self.walker = Walker::default();
        self.head.model.clear();
        (self.want_parameters, self.only_model) = (false, true);
        self.wanting = Wanting::default();
        (self.open, self.tensors, self.finished, self.broken) = (None, false, false, None);
    }

    /// Reads the next bytes of the message, without prefix and not compressed.
    ///
    /// # Errors
    /// When they are no protobuf, or a field that is kept is not what it should be. What was learnt before stays;
    /// every later call gives the same error.
    pub fn feed(&mut self, payload: &[u8]) -> Result<(), ScanError> {
        if self.blind {
            return Ok(());
        }
        self.standing()?;
        let result = self.read(payload);
        self.keep(result)
    }

    /// Says that the message ended.
    ///
    /// # Errors
    /// When it ended inside a field, and those of [`RequestScan::feed`].
    pub fn finish(&mut self) -> Result<(), ScanError> {
        self.standing()?;
        self.finished = true;
        let result = if self.walker.is_between() { Ok(()) } else { Err(ScanError::CutOff) };
        self.keep(result)
    }

    /// What is known so far.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What was learnt.
    pub fn into_head(self) -> Head {
        self.head
    }

    /// Whether the call can be dispatched: the name is known and a tensor was met, or the message has ended.
    pub fn enough(&self) -> bool {
        let wanted = || {
            let found = !self.head.inputs.is_empty() && self.wanting.due.is_empty();
            self.wanting.names.is_none() || found
        };
        self.blind || self.finished || (self.tensors && !self.head.model.is_empty() && wanted())
    }

    fn standing(&self) -> Result<(), ScanError> {
        self.broken.map_or(Ok(()), Err)
    }

    fn keep(&mut self, result: Result<(), ScanError>) -> Result<(), ScanError> {
        self.broken = result.err();
        result
    }

    fn read(&mut self, mut rest: &[u8]) -> Result<(), ScanError> {
        while let Some(token) = self.walker.next(&mut rest)? {
            match token {
                Token::Open { field, length } => self.open(field, length)?,
                Token::Bytes(part) if self.open.is_some() => self.buffer.extend_from_slice(part),
                Token::Bytes(_) => {}
                Token::Close => {
                    if let Some(field) = self.open.take() {
                        self.close(field)?;
                    }
                }
                // Every field that the protocol knows is length-delimited.
                Token::Scalar { field, wire, .. } if field <= 7 => {
                    return Err(ScanError::WireType { field, wire });
                }
                Token::Scalar { .. } => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, field: u32, length: u64) -> Result<(), ScanError> {
        let (cap, spent) = match field {
            oip::VERSION | oip::ID if self.only_model => return Ok(()),
            oip::NAME | oip::VERSION | oip::ID => (CAP, 0),
            oip::PARAMETERS if self.want_parameters => (PARAMETERS_CAP, self.spent + ENTRY),
            oip::TENSORS | oip::RAW_INPUTS if self.wants(field) && length <= INPUT_CAP as u64 => {
                self.tensors = true;
                (INPUT_CAP, 0)
            }
            oip::TENSORS.. => {
                self.tensors = true;
                self.pass(field);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let room = usize::try_from(length).unwrap_or(usize::MAX);
        let total = room.saturating_add(spent);
        if total > cap {
            return Err(ScanError::TooLong { field, length, cap });
        }
        if field == oip::PARAMETERS {
            self.spent = total;
        }
        self.buffer.clear();
        self.buffer.reserve_exact(room);
        self.open = Some(field);
        Ok(())
    }

    fn close(&mut self, field: u32) -> Result<(), ScanError> {
        if field == oip::PARAMETERS {
            let entry = parameter(&self.buffer)?;
            self.head.parameters.push(entry);
            return Ok(());
        }
        if field == oip::TENSORS || field == oip::RAW_INPUTS {
            return self.input(field);
        }
        if self.only_model {
            let name = std::str::from_utf8(&self.buffer).map_err(|_| ScanError::NotText(field))?;
            self.head.model.clear();
            self.head.model.push_str(name);
            return Ok(());
        }
        let text = text(field, std::mem::take(&mut self.buffer))?;
        match field {
            oip::NAME => self.head.model = text,
            oip::VERSION => self.head.version = text,
            _ => self.head.id = text,
        }
        Ok(())
    }
}

impl RequestScan {
    /// Whether a tensor, or these raw contents, may be wanted.
    fn wants(&self, field: u32) -> bool {
        let due = |(_, place): &(usize, usize)| *place == self.wanting.raws;
        self.wanting.names.is_some() && (field == oip::TENSORS || self.wanting.due.iter().any(due))
    }

    /// Steps over one that is not wanted, or too large.
    fn pass(&mut self, field: u32) {
        match field {
            oip::TENSORS => self.wanting.apart += 1,
            oip::RAW_INPUTS => self.wanting.raws += 1,
            _ => {}
        }
    }

    /// Keeps a tensor of a wanted name, or raw contents that one waits for.
    fn input(&mut self, field: u32) -> Result<(), ScanError> {
        if field == oip::RAW_INPUTS {
            let place = self.wanting.raws;
            self.wanting.raws += 1;
            if let Some(found) = self.wanting.due.iter().position(|(_, due)| *due == place) {
                let (input, _) = self.wanting.due.swap_remove(found);
                if let Some(input) = self.head.inputs.get_mut(input) {
                    input.raw = Some(std::mem::take(&mut self.buffer));
                }
            }
            return Ok(());
        }
        let (name, typed) = tensor::peek(&self.buffer)?;
        let names = self.wanting.names.as_deref().unwrap_or_default();
        if names.iter().any(|wanted| **wanted == *name) {
            if !typed {
                self.wanting.due.push((self.head.inputs.len(), self.wanting.apart));
            }
            let encoded = std::mem::take(&mut self.buffer);
            self.head.inputs.push(Input { name, encoded, raw: None });
        }
        self.wanting.apart += usize::from(!typed);
        Ok(())
    }
}

fn text(field: u32, bytes: Vec<u8>) -> Result<String, ScanError> {
    String::from_utf8(bytes).map_err(|_| ScanError::NotText(field))
}

/// A map entry: key (1) and `InferParameter` (2).
fn parameter(entry: &[u8]) -> Result<(String, String), ScanError> {
    let (mut key, mut value) = (String::new(), String::new());
    each(entry, |field, part| {
        match (field, part) {
            (1, Part::Bytes(bytes)) => key = text(oip::PARAMETERS, bytes.to_vec())?,
            (2, Part::Bytes(bytes)) => scalar(bytes, &mut value)?,
            (1 | 2, Part::Scalar { wire, .. }) => return Err(ScanError::WireType { field, wire }),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

/// The one value of an `InferParameter`, the last wins.
fn scalar(choice: &[u8], value: &mut String) -> Result<(), ScanError> {
    each(choice, |field, part| {
        *value = match (field, part) {
            (1, Part::Scalar { wire: 0, value }) => (value != 0).to_string(),
            (2, Part::Scalar { wire: 0, value }) => value.cast_signed().to_string(),
            (3, Part::Bytes(bytes)) => text(oip::PARAMETERS, bytes.to_vec())?,
            (4, Part::Scalar { wire: 1, value }) => f64::from_bits(value).to_string(),
            (5, Part::Scalar { wire: 0, value }) => value.to_string(),
            (1..=5, Part::Scalar { wire, .. }) => return Err(ScanError::WireType { field, wire }),
            (1..=5, Part::Bytes(_)) => return Err(ScanError::WireType { field, wire: 2 }),
            _ => return Ok(()),
        };
        Ok(())
    })
}

#[cfg(test)]
pub(super) mod tests;
