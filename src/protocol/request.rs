//! What a request message says of itself: one pass over an inference request as it comes in.
//!
//! Name, version, id and, where wanted, the scalar parameters are kept; tensors are stepped over. The last of a
//! repeated field counts, as it does for the server. A call can be dispatched as soon as a tensor was met and the
//! name is known; the scan may still be fed the rest, so that an id behind the tensors is learnt too.

use super::oip;
use super::token::{Part, ScanError, Token, Walker, each};

/// The most bytes kept of one name, version or id.
pub const CAP: usize = 4096;
/// The most bytes kept of all parameters together; each counts 64 bytes beside its own.
pub const PARAMETERS_CAP: usize = 32 * 1024;
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
            tensors: false,
            finished: false,
            broken: None,
        }
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
        self.blind || self.finished || (self.tensors && !self.head.model.is_empty())
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
            oip::TENSORS.. => {
                self.tensors = true;
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
