//! An incremental walk over the fields of one protobuf message.
//!
//! It is fed chunks cut anywhere and gives back tokens that borrow from them, so a tensor costs one step per chunk
//! and nothing is kept of it. It knows the wire format only; which field means what is its callers' knowledge.
//! Groups, which no current compiler writes, are refused.

/// Where a message is not what was expected. The bytes are the caller's to pass on: its server knows better how to
/// answer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A varint of more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// A tag whose field number is zero or too large.
    #[error("{0} is not a protobuf tag")]
    Tag(u64),
    /// A wire type that does not exist, is a group, or is not the field's.
    #[error("field {field} has the wire type {wire}")]
    WireType {
        /// Field number.
        field: u32,
        /// 0 to 7.
        wire: u8,
    },
    /// A field that would be kept is too long for that, or there are too many.
    #[error("field {field} of {length} bytes goes over the {cap} bytes kept of it")]
    TooLong {
        /// Field number.
        field: u32,
        /// Bytes it has.
        length: u64,
        /// Bytes it may have, together with others of its number.
        cap: usize,
    },
    /// A string that is not UTF-8.
    #[error("field {0} is not UTF-8")]
    NotText(u32),
    /// The message ended inside a field.
    #[error("the message ends inside a field")]
    CutOff,
}

/// A step of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A whole scalar field; fixed-width values as their little-endian bits.
    Scalar {
        /// Field number.
        field: u32,
        /// 0, 1 or 5.
        wire: u8,
        /// As it stands on the wire.
        value: u64,
    },
    /// A length-delimited field begins.
    Open {
        /// Field number.
        field: u32,
        /// Bytes it will have.
        length: u64,
    },
    /// Some of the open field's bytes, never none.
    Bytes(&'a [u8]),
    /// The open field has ended.
    Close,
}

/// The state of a walk between two chunks.
#[derive(Debug, Clone)]
pub struct Walker(State);

#[derive(Debug, Clone, Copy)]
enum State {
    Tag(Varint),
    Length { field: u32, varint: Varint },
    Value { field: u32, varint: Varint },
    Fixed { field: u32, wire: u8, have: u8, value: u64 },
    Body(u64),
}

const NEXT: State = State::Tag(Varint { value: 0, have: 0 });

impl Default for Walker {
    fn default() -> Self {
        Walker(NEXT)
    }
}

impl Walker {
    /// Whether the message may end here: between two fields.
    pub fn is_between(&self) -> bool {
        matches!(self.0, State::Tag(Varint { have: 0, .. }))
    }

    /// The next token of `rest`, which is shortened by what was read; `None` where more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are not protobuf. The walk cannot go on then.
    #[inline]
    pub fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Token<'a>>, ScanError> {
        loop {
            match &mut self.0 {
                State::Tag(varint) => {
                    // Nearly every field is a short one with a low number.
                    if let ([key @ 0x08..0x80, length @ ..0x80, after @ ..], 0) = (*rest, varint.have)
                        && key & 7 == 2
                    {
                        *rest = after;
                        self.0 = State::Body(u64::from(*length));
                        let (field, length) = (u32::from(key >> 3), u64::from(*length));
                        return Ok(Some(Token::Open { field, length }));
                    }
                    let Some(key) = varint.take(rest)? else { return Ok(None) };
                    self.0 = after_tag(key)?;
                }
                State::Length { field, varint } => {
                    let Some(length) = varint.take(rest)? else { return Ok(None) };
                    let field = *field;
                    self.0 = State::Body(length);
                    return Ok(Some(Token::Open { field, length }));
                }
                State::Body(0) => {
                    self.0 = NEXT;
                    return Ok(Some(Token::Close));
                }
                State::Body(left) => {
                    let take = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let (part, after) = rest.split_at(take);
                    *left -= take as u64;
                    *rest = after;
                    return Ok((!part.is_empty()).then_some(Token::Bytes(part)));
                }
                State::Value { field, varint } => {
                    let Some(value) = varint.take(rest)? else { return Ok(None) };
                    let field = *field;
                    self.0 = NEXT;
                    return Ok(Some(Token::Scalar { field, wire: 0, value }));
                }
                State::Fixed { field, wire, have, value } => {
                    let size = if *wire == 1 { 8 } else { 4 };
                    while *have < size {
                        let Some((byte, after)) = rest.split_first() else { return Ok(None) };
                        *value |= u64::from(*byte) << (8 * u32::from(*have));
                        *have += 1;
                        *rest = after;
                    }
                    let token = Token::Scalar { field: *field, wire: *wire, value: *value };
                    self.0 = NEXT;
                    return Ok(Some(token));
                }
            }
        }
    }
}

fn after_tag(key: u64) -> Result<State, ScanError> {
    let wire = (key & 7) as u8;
    let field = u32::try_from(key).map_err(|_| ScanError::Tag(key))? >> 3;
    if field == 0 {
        return Err(ScanError::Tag(key));
    }
    match wire {
        0 => Ok(State::Value { field, varint: Varint::default() }),
        1 | 5 => Ok(State::Fixed { field, wire, have: 0, value: 0 }),
        2 => Ok(State::Length { field, varint: Varint::default() }),
        _ => Err(ScanError::WireType { field, wire }),
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Varint {
    value: u64,
    have: u8,
}

impl Varint {
    /// Reads on; `None` where `rest` ended first.
    #[inline]
    fn take(&mut self, rest: &mut &[u8]) -> Result<Option<u64>, ScanError> {
        while let Some((byte, after)) = rest.split_first() {
            *rest = after;
            // Nine bytes hold 63 bits, so of the tenth only one is left.
            if self.have == 9 && *byte > 1 {
                return Err(ScanError::Varint);
            }
            self.value |= u64::from(byte & 0x7f) << (7 * u32::from(self.have));
            self.have += 1;
            if *byte < 0x80 {
                return Ok(Some(self.value));
            }
        }
        Ok(None)
    }
}

/// A field of a message that is wholly there.
pub(super) enum Part<'a> {
    /// As [`Token::Scalar`].
    Scalar {
        /// 0, 1 or 5.
        wire: u8,
        /// As it stands on the wire.
        value: u64,
    },
    /// All bytes of a length-delimited one.
    Bytes(&'a [u8]),
}

/// Visits the fields of a message that is wholly there.
///
/// # Errors
/// When the bytes are not protobuf, and those of `visit`.
pub(super) fn each<'a>(
    mut rest: &'a [u8],
    mut visit: impl FnMut(u32, Part<'a>) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut walker = Walker::default();
    let mut open = 0;
    let mut body: &[u8] = &[];
    while let Some(token) = walker.next(&mut rest)? {
        match token {
            Token::Scalar { field, wire, value } => visit(field, Part::Scalar { wire, value })?,
            Token::Open { field, .. } => (open, body) = (field, &[]),
            Token::Bytes(part) => body = part,
            Token::Close => visit(open, Part::Bytes(body))?,
        }
    }
    if walker.is_between() { Ok(()) } else { Err(ScanError::CutOff) }
}

/// Writes a scalar field as it stands on the wire.
pub(super) fn put_scalar(out: &mut Vec<u8>, field: u32, wire: u8, value: u64) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire));
    match wire {
        1 => out.extend_from_slice(&value.to_le_bytes()),
        5 => out.extend_from_slice(&(value as u32).to_le_bytes()),
        _ => put_varint(out, value),
    }
}

/// Writes a length-delimited field.
pub fn put(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
