//! The types of the Open Inference Protocol, and one output with its values.
//!
//! Values are kept as the bytes of raw contents: little-endian, one after the other. Typed contents of floats have
//! that form on the wire already, so neither costs a copy; whole numbers, which are varints there, are written out up to
//! a bound.

use std::borrow::Cow;

use super::found::Kind;
use super::message::{Unreadable, Value, fields};

/// Bytes that typed contents are written out to at most, and texts times 16: a varint may unfold to eight bytes.
const WRITTEN: usize = 16 << 20;

/// A type of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// One byte, 0 or 1.
    Bool,
    /// `UINT8`.
    U8,
    /// `UINT16`.
    U16,
    /// `UINT32`.
    U32,
    /// `UINT64`.
    U64,
    /// `INT8`.
    I8,
    /// `INT16`.
    I16,
    /// `INT32`.
    I32,
    /// `INT64`.
    I64,
    /// `FP16`.
    F16,
    /// `BF16`.
    Bf16,
    /// `FP32`.
    F32,
    /// `FP64`.
    F64,
    /// Texts, or any bytes.
    Bytes,
}

/// A type as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype<'a> {
    /// One of the protocol's.
    Known(Type),
    /// Any other word.
    Unknown(&'a str),
}

/// The values of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// Numbers, each of its type's width.
    Fixed(Cow<'a, [u8]>),
    /// Texts.
    Texts(Vec<&'a [u8]>),
    /// Of a type that nobody knows.
    Opaque(&'a [u8]),
}

/// One output.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    /// As the model names it.
    pub name: &'a str,
    /// Of its values.
    pub dtype: Dtype<'a>,
    /// As it came.
    pub shape: Vec<i64>,
    /// Its values, or what is wrong with them.
    pub content: Result<Content<'a>, Kind>,
}

impl Type {
    /// Every type by its word.
    const NAMES: [(&'static str, Type); 14] = [
        ("BOOL", Type::Bool),
        ("UINT8", Type::U8),
        ("UINT16", Type::U16),
        ("UINT32", Type::U32),
        ("UINT64", Type::U64),
        ("INT8", Type::I8),
        ("INT16", Type::I16),
        ("INT32", Type::I32),
        ("INT64", Type::I64),
        ("FP16", Type::F16),
        ("BF16", Type::Bf16),
        ("FP32", Type::F32),
        ("FP64", Type::F64),
        ("BYTES", Type::Bytes),
    ];

    fn named(word: &str) -> Option<Self> {
        Type::NAMES.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
    }

    /// The protocol's word.
    pub fn name(self) -> &'static str {
        Type::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Bytes of one value; none of texts.
    pub fn width(self) -> Option<usize> {
        match self {
            Type::Bool | Type::U8 | Type::I8 => Some(1),
            Type::U16 | Type::I16 | Type::F16 | Type::Bf16 => Some(2),
            Type::U32 | Type::I32 | Type::F32 => Some(4),
            Type::U64 | Type::I64 | Type::F64 => Some(8),
            Type::Bytes => None,
        }
    }

    /// Whether its values are no whole numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Type::F16 | Type::Bf16 | Type::F32 | Type::F64)
    }

    /// The field of `InferTensorContents` that holds its values; none: they come raw only.
    fn field(self) -> Option<u32> {
        match self {
            Type::Bool => Some(1),
            Type::I8 | Type::I16 | Type::I32 => Some(2),
            Type::I64 => Some(3),
            Type::U8 | Type::U16 | Type::U32 => Some(4),
            Type::U64 => Some(5),
            Type::F32 => Some(6),
            Type::F64 => Some(7),
            Type::Bytes => Some(8),
            Type::F16 | Type::Bf16 => None,
        }
    }
}

impl<'a> Tensor<'a> {
    /// Reads an `InferOutputTensor`; raw contents, which lie beside it, come by [`Tensor::raw`].
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        let (mut name, mut word, mut shape, mut contents) = ("", "", Vec::new(), None);
        fields(message, |field, value| {
            match (field, value) {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => word = text(bytes)?,
                (3, Value::Scalar(0, size)) => push(&mut shape, size)?,
                (3, Value::Bytes(packed)) => {
                    let mut rest = packed;
                    while !rest.is_empty() {
                        push(&mut shape, varint(&mut rest)?)?;
                    }
                }
                (5, Value::Bytes(bytes)) => contents = Some(bytes),
                _ => {}
            }
            Ok(())
        })?;
        let dtype = Type::named(word).map_or(Dtype::Unknown(word), Dtype::Known);
        let mut tensor = Tensor { name, dtype, shape, content: Err(Kind::Length) };
        let typed = match dtype {
            Dtype::Known(kind) => typed(kind, contents.unwrap_or_default()),
            Dtype::Unknown(_) => Ok(Content::Opaque(contents.unwrap_or_default())),
        };
        tensor.content = typed.and_then(|content| tensor.fitting(content));
        Ok(tensor)
    }

    /// Takes raw contents in the place of typed ones; `None`: there are none for this output, but for others.
    pub(super) fn raw(&mut self, bytes: Option<&'a [u8]>) {
        let Some(bytes) = bytes else {
            self.content = Err(Kind::Length);
            return;
        };
        let content = match self.dtype {
            Dtype::Known(Type::Bytes) => texts(bytes).map(Content::Texts),
            Dtype::Known(kind) => match bytes.len() % kind.width().unwrap_or(1) {
                0 => Ok(Content::Fixed(Cow::Borrowed(bytes))),
                _ => Err(Kind::Truncated),
            },
            Dtype::Unknown(_) => Ok(Content::Opaque(bytes)),
        };
        self.content = content.and_then(|content| self.fitting(content));
    }

    /// The content, if it is as much as the shape says.
    fn fitting(&self, content: Content<'a>) -> Result<Content<'a>, Kind> {
        let values = match (&content, self.dtype) {
            (Content::Fixed(bytes), Dtype::Known(kind)) => bytes.len() / kind.width().unwrap_or(1),
            (Content::Texts(texts), _) => texts.len(),
            _ => return Ok(content),
        };
        if self.values() == Some(values) { Ok(content) } else { Err(Kind::Length) }
    }

    /// Values that the shape says; none where it is none that values can have.
    pub fn values(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |all, size| all.checked_mul(usize::try_from(*size).ok()?))
    }

    /// Rows that are compared one by one: the first dimension, be it the only one.
    pub fn rows(&self) -> usize {
        self.shape.first().map_or(1, |rows| usize::try_from(*rows).unwrap_or(0))
    }

    /// Values in a row.
    pub fn row_width(&self) -> usize {
        self.values().unwrap_or(0) / self.rows().max(1)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable)
}

/// A tensor of more dimensions is none.
fn push(shape: &mut Vec<i64>, size: u64) -> Result<(), Unreadable> {
    if shape.len() >= 64 {
        return Err(Unreadable);
    }
    // As protobuf has it: negative sizes are large varints.
    shape.push(size.cast_signed());
    Ok(())
}

/// The next varint of `rest`, which is shortened by it.
fn varint(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Unreadable)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unreadable)
}

/// Texts of raw contents: each with its length before it, in four bytes.
fn texts(mut rest: &[u8]) -> Result<Vec<&[u8]>, Kind> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Kind::Truncated)?;
        let (text, after) =
            after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(Kind::Ragged)?;
        if found.len() >= WRITTEN / 16 {
            return Err(Kind::TooLarge);
        }
        found.push(text);
        rest = after;
    }
    Ok(found)
}

/// The values in an `InferTensorContents`.
fn typed(kind: Type, message: &[u8]) -> Result<Content<'_>, Kind> {
    let Some(wanted) = kind.field() else { return Ok(Content::Fixed(Cow::Borrowed(&[]))) };
    let mut numbers: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let (mut texts, mut failed) = (Vec::new(), None);
    let read = fields(message, |field, value| {
        if field != wanted {
            return Ok(());
        }
        let room = numbers.len() <= WRITTEN && texts.len() < WRITTEN / 16;
        match value {
            _ if !room => failed = Some(Kind::TooLarge),
            Value::Bytes(text) if kind == Type::Bytes => texts.push(text),
            // All of them in one piece, as they stand.
            Value::Bytes(packed) if kind.is_float() && numbers.is_empty() => numbers = Cow::Borrowed(packed),
            Value::Bytes(packed) if kind.is_float() => numbers.to_mut().extend_from_slice(packed),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() && numbers.len() <= WRITTEN {
                    write(kind, varint(&mut packed)?, numbers.to_mut())?;
                }
                if !packed.is_empty() {
                    failed = Some(Kind::TooLarge);
                }
            }
            Value::Scalar(_, bits) => write(kind, bits, numbers.to_mut())?,
        }
        Ok(())
    });
    match (read, failed) {
        (Err(Unreadable), _) => Err(Kind::Unreadable),
        (_, Some(kind)) => Err(kind),
        _ if kind == Type::Bytes => Ok(Content::Texts(texts)),
        _ if !numbers.len().is_multiple_of(kind.width().unwrap_or(1)) => Err(Kind::Truncated),
        _ => Ok(Content::Fixed(numbers)),
    }
}

/// Writes a number of typed contents as raw ones have it; what does not fit its type is no such number.
fn write(kind: Type, bits: u64, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let signed = bits.cast_signed();
    match kind {
        Type::Bool => out.push(u8::from(bits != 0)),
        Type::U8 => out.push(u8::try_from(bits).map_err(|_| Unreadable)?),
        Type::U16 => out.extend(u16::try_from(bits).map_err(|_| Unreadable)?.to_le_bytes()),
        Type::U32 => out.extend(u32::try_from(bits).map_err(|_| Unreadable)?.to_le_bytes()),
        Type::U64 | Type::I64 | Type::F64 => out.extend(bits.to_le_bytes()),
        Type::I8 => out.extend(i8::try_from(signed).map_err(|_| Unreadable)?.to_le_bytes()),
        Type::I16 => out.extend(i16::try_from(signed).map_err(|_| Unreadable)?.to_le_bytes()),
        // Of a negative one some writers send only the low half.
        Type::I32 => out.extend((bits as u32).to_le_bytes()),
        Type::F32 => out.extend((bits as u32).to_le_bytes()),
        Type::F16 | Type::Bf16 | Type::Bytes => return Err(Unreadable),
    }
    Ok(())
}
