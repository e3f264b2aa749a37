//! The outputs of an inference response, taken apart and put together again: typed or raw, with every datatype that the
//! protocol knows. Pure.
//!
//! Whatever the form, a tensor here is its elements in their raw encoding: little-endian numbers, or texts of bytes. What
//! is not asked for is never decoded, and goes on as the bytes it came in.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::pb::inference::InferTensorContents;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::protocol::oip::{RAW_OUTPUTS, TENSORS};
use crate::protocol::token::{self, Part, ScanError, each};

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words of the protocol")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// Why an output cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The message is no protobuf.
    #[error("the answer cannot be read: {0}")]
    Message(#[from] ScanError),
    /// A tensor in it is none.
    #[error("an output cannot be read: {0}")]
    Output(String),
    /// There are raw contents for some outputs only, and nobody can say for which.
    #[error("{raw} raw contents for {outputs} outputs")]
    Contents {
        /// How many there are.
        raw: usize,
        /// How many outputs.
        outputs: usize,
    },
    /// No such output.
    #[error("output {0} is missing")]
    Missing(String),
    /// A datatype that nobody knows.
    #[error("output {output} is of the datatype {datatype:?}, which the protocol does not have")]
    Datatype {
        /// Its name.
        output: String,
        /// As written.
        datatype: String,
    },
    /// Its shape and its elements do not fit together.
    #[error("output {output} has the shape {shape:?}, but {elements} elements")]
    Shape {
        /// Its name.
        output: String,
        /// As written.
        shape: Vec<i64>,
        /// As there are.
        elements: usize,
    },
    /// Its raw contents end inside an element.
    #[error("the raw contents of output {0} end inside an element")]
    CutOff(String),
}

/// Elements in their raw encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cells {
    /// Numbers of one size, in bytes.
    Numbers(usize, Bytes),
    /// Texts.
    Texts(Vec<Bytes>),
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// What its elements are.
    pub datatype: Datatype,
    /// The number of elements is the product.
    pub shape: Vec<usize>,
    /// The elements.
    pub cells: Cells,
}

/// An inference response whose outputs can be read and replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// All but the outputs and their raw contents, as it came.
    rest: Vec<u8>,
    outputs: Vec<Output>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Output {
    name: String,
    /// As it came.
    encoded: Bytes,
    raw: Option<Bytes>,
}

impl Datatype {
    /// Every value.
    pub const ALL: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];

    /// As the protocol writes it.
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Bytes of an element; none for texts.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }

    /// Whether its elements are numbers with a sign, which grows with them.
    fn is_signed(self) -> bool {
        matches!(self, Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64)
    }
}

impl Cells {
    /// None of that datatype.
    pub fn none(datatype: Datatype) -> Self {
        datatype.size().map_or(Cells::Texts(Vec::new()), |size| Cells::Numbers(size, Bytes::new()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Cells::Numbers(size, bytes) => bytes.len() / size,
            Cells::Texts(texts) => texts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` of them from `first` on, as far as there are so many.
    pub fn part(&self, first: usize, count: usize) -> Cells {
        let all = self.len();
        let (from, to) = (first.min(all), first.saturating_add(count).min(all));
        match self {
            Cells::Numbers(size, bytes) => Cells::Numbers(*size, bytes.slice(from * size..to * size)),
            Cells::Texts(texts) => Cells::Texts(texts[from..to].to_vec()),
        }
    }

    /// One of them as bytes: little-endian, or the text.
    pub fn cell(&self, index: usize) -> Option<&[u8]> {
        match self {
            Cells::Numbers(size, bytes) => bytes.chunks_exact(*size).nth(index),
            Cells::Texts(texts) => texts.get(index).map(|text| &text[..]),
        }
    }

    /// All of `parts`, one after the other.
    pub fn joined<'a>(datatype: Datatype, parts: impl Iterator<Item = &'a Cells>) -> Cells {
        match datatype.size() {
            Some(size) => {
                let mut all = BytesMut::new();
                for part in parts {
                    if let Cells::Numbers(_, bytes) = part {
                        all.extend_from_slice(bytes);
                    }
                }
                Cells::Numbers(size, all.freeze())
            }
            None => {
                let texts = parts.filter_map(|part| match part {
                    Cells::Texts(texts) => Some(texts),
                    Cells::Numbers(..) => None,
                });
                Cells::Texts(texts.flatten().cloned().collect())
            }
        }
    }

    /// A copy that holds no more memory than it has bytes.
    pub fn apart(&self) -> Cells {
        match self {
            Cells::Numbers(size, bytes) => Cells::Numbers(*size, Bytes::copy_from_slice(bytes)),
            Cells::Texts(texts) => {
                Cells::Texts(texts.iter().map(|text| Bytes::copy_from_slice(text)).collect())
            }
        }
    }

    /// Bytes of all elements together.
    pub fn bytes(&self) -> usize {
        match self {
            Cells::Numbers(_, bytes) => bytes.len(),
            Cells::Texts(texts) => texts.iter().map(Bytes::len).sum(),
        }
    }

    fn raw(&self) -> Bytes {
        match self {
            Cells::Numbers(_, bytes) => bytes.clone(),
            Cells::Texts(texts) => {
                let mut all = BytesMut::with_capacity(texts.iter().map(|text| text.len() + 4).sum());
                for text in texts {
                    // A text came with such a length, or in a message that is shorter than its bound.
                    all.put_u32_le(text.len() as u32);
                    all.extend_from_slice(text);
                }
                all.freeze()
            }
        }
    }
}

impl Tensor {
    /// Its elements as numbers, as near as a double comes; none for texts and for numbers of 16 bits that are no integers.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let Cells::Numbers(size, bytes) = &self.cells else { return None };
        if matches!(self.datatype, Datatype::Fp16 | Datatype::Bf16) {
            return None;
        }
        let number = |cell: &[u8]| {
            let mut wide = [0; 8];
            wide[..cell.len()].copy_from_slice(cell);
            let bits = u64::from_le_bytes(wide);
            let empty = 64 - 8 * cell.len() as u32;
            match self.datatype {
                Datatype::Fp32 => f64::from(f32::from_bits(bits as u32)),
                Datatype::Fp64 => f64::from_bits(bits),
                signed if signed.is_signed() => ((bits << empty).cast_signed() >> empty) as f64,
                _ => bits as f64,
            }
        };
        Some(bytes.chunks_exact(*size).map(number).collect())
    }
}

impl Answer {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When it is none, or has raw contents of which nobody can say whose they are.
    pub fn read(message: &Bytes) -> Result<Self, TensorError> {
        let (mut rest, mut outputs, mut raws) = (Vec::new(), Vec::new(), Vec::new());
        each(message, |field, part| {
            match (field, part) {
                (TENSORS, Part::Bytes(bytes)) => outputs.push(message.slice_ref(bytes)),
                (RAW_OUTPUTS, Part::Bytes(bytes)) => raws.push(message.slice_ref(bytes)),
                (field, Part::Bytes(bytes)) => token::put(&mut rest, field, bytes),
                (field, Part::Scalar { wire, value }) => token::put_scalar(&mut rest, field, wire, value),
            }
            Ok(())
        })?;
        let named = outputs.into_iter().map(|encoded: Bytes| {
            let (name, typed) = peek(&encoded)?;
            Ok((Output { name, encoded, raw: None }, typed))
        });
        let mut outputs: Vec<(Output, bool)> = named.collect::<Result<_, ScanError>>()?;
        let untyped = outputs.iter().filter(|(_, typed)| !typed).count();
        let all = raws.len() == outputs.len();
        if !all && raws.len() != untyped && !raws.is_empty() {
            return Err(TensorError::Contents { raw: raws.len(), outputs: outputs.len() });
        }
        let mut raws = raws.into_iter();
        for (output, _) in outputs.iter_mut().filter(|(_, typed)| all || !typed) {
            output.raw = raws.next();
        }
        Ok(Answer { rest, outputs: outputs.into_iter().map(|(output, _)| output).collect() })
    }

    /// The names of its outputs, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| &*output.name)
    }

    /// Decodes the output of that name.
    ///
    /// # Errors
    /// When there is none, or it makes no sense.
    pub fn tensor(&self, name: &str) -> Result<Tensor, TensorError> {
        let found = self.outputs.iter().find(|output| output.name == name);
        let output = found.ok_or_else(|| TensorError::Missing(name.to_owned()))?;
        let decoded = InferOutputTensor::decode(output.encoded.clone())
            .map_err(|error| TensorError::Output(error.to_string()))?;
        let InferOutputTensor { datatype, shape, contents, .. } = decoded;
        let Some(datatype) = Datatype::named(&datatype) else {
            return Err(TensorError::Datatype { output: name.to_owned(), datatype });
        };
        let cells = match &output.raw {
            Some(raw) => cells_of(datatype, raw).ok_or_else(|| TensorError::CutOff(name.to_owned()))?,
            None => typed_cells(datatype, contents.unwrap_or_default()),
        };
        let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
        let product =
            |sizes: &Vec<usize>| sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        match sizes.filter(|sizes| product(sizes) == Some(cells.len())) {
            Some(shape) => Ok(Tensor { datatype, shape, cells }),
            None => Err(TensorError::Shape { output: name.to_owned(), shape, elements: cells.len() }),
        }
    }

    /// The message again, with these outputs in place of those of their names; each in the form that it came in.
    ///
    /// # Errors
    /// When an output cannot be read.
    pub fn with(&self, replaced: &[(&str, &Tensor)]) -> Result<Bytes, TensorError> {
        let mut out = self.rest.clone();
        let mut raws = Vec::new();
        for output in &self.outputs {
            let Some((_, tensor)) = replaced.iter().find(|(name, _)| *name == output.name) else {
                token::put(&mut out, TENSORS, &output.encoded);
                raws.extend(output.raw.clone());
                continue;
            };
            let mut encoded = InferOutputTensor::decode(output.encoded.clone())
                .map_err(|error| TensorError::Output(error.to_string()))?;
            encoded.shape =
                tensor.shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
            encoded.contents = None;
            if output.raw.is_some() {
                raws.push(tensor.cells.raw());
            } else {
                encoded.contents = Some(contents_of(tensor));
            }
            token::put(&mut out, TENSORS, &encoded.encode_to_vec());
        }
        for raw in raws {
            token::put(&mut out, RAW_OUTPUTS, &raw);
        }
        Ok(out.into())
    }
}

/// The name of an output, and whether its contents are in it.
pub(in crate::protocol) fn peek(encoded: &[u8]) -> Result<(String, bool), ScanError> {
    const NAME: u32 = 1;
    const CONTENTS: u32 = 5;
    let (mut name, mut typed) = (String::new(), false);
    each(encoded, |field, part| {
        match (field, part) {
            (NAME, Part::Bytes(bytes)) => {
                name = String::from_utf8(bytes.to_vec()).map_err(|_| ScanError::NotText(NAME))?;
            }
            (CONTENTS, Part::Bytes(bytes)) => typed |= !bytes.is_empty(),
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, typed))
}

/// From raw contents; none where they end inside an element.
fn cells_of(datatype: Datatype, raw: &Bytes) -> Option<Cells> {
    if let Some(size) = datatype.size() {
        return raw.len().is_multiple_of(size).then(|| Cells::Numbers(size, raw.clone()));
    }
    let mut texts = Vec::new();
    let mut rest = &raw[..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (text, after) = after.split_at_checked(length)?;
        texts.push(raw.slice_ref(text));
        rest = after;
    }
    rest.is_empty().then_some(Cells::Texts(texts))
}

/// From contents in fields of their own; those of other datatypes are not looked at.
fn typed_cells(datatype: Datatype, contents: InferTensorContents) -> Cells {
    let Some(size) = datatype.size() else { return Cells::Texts(contents.bytes_contents) };
    let mut all = BytesMut::new();
    let mut put = |wide: [u8; 8]| all.extend_from_slice(&wide[..size]);
    let wide = |number: i64| number.to_le_bytes();
    match datatype {
        Datatype::Bool => contents.bool_contents.iter().for_each(|flag| put(wide(i64::from(*flag)))),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => {
            contents.int_contents.iter().for_each(|number| put(wide(i64::from(*number))));
        }
        Datatype::Int64 => contents.int64_contents.iter().for_each(|number| put(number.to_le_bytes())),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => {
            contents.uint_contents.iter().for_each(|number| put(wide(i64::from(*number))));
        }
        Datatype::Uint64 => contents.uint64_contents.iter().for_each(|number| put(number.to_le_bytes())),
        Datatype::Fp32 => {
            contents.fp32_contents.iter().for_each(|number| put(wide(i64::from(number.to_bits()))));
        }
        Datatype::Fp64 => contents.fp64_contents.iter().for_each(|number| put(number.to_le_bytes())),
        // They have no field of their own: they are only ever raw.
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Bytes => {}
    }
    Cells::Numbers(size, all.freeze())
}

/// The reverse of [`typed_cells`].
fn contents_of(tensor: &Tensor) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    let (size, bytes) = match &tensor.cells {
        Cells::Texts(texts) => {
            contents.bytes_contents.clone_from(texts);
            return contents;
        }
        Cells::Numbers(size, bytes) => (*size, bytes),
    };
    let signed = tensor.datatype.is_signed();
    let wide = |cell: &[u8]| {
        let minus = signed && cell.last().is_some_and(|last| last >> 7 == 1);
        let mut wide = [if minus { u8::MAX } else { 0 }; 8];
        wide[..cell.len()].copy_from_slice(cell);
        u64::from_le_bytes(wide)
    };
    let cells = bytes.chunks_exact(size).map(wide);
    match tensor.datatype {
        Datatype::Bool => contents.bool_contents = cells.map(|cell| cell != 0).collect(),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => {
            contents.int_contents = cells.map(|cell| (cell as u32).cast_signed()).collect();
        }
        Datatype::Int64 => contents.int64_contents = cells.map(u64::cast_signed).collect(),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => {
            contents.uint_contents = cells.map(|cell| cell as u32).collect();
        }
        Datatype::Uint64 => contents.uint64_contents = cells.collect(),
        Datatype::Fp32 => {
            contents.fp32_contents = cells.map(|cell| f32::from_bits(cell as u32)).collect();
        }
        Datatype::Fp64 => contents.fp64_contents = cells.map(f64::from_bits).collect(),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Bytes => {}
    }
    contents
}

#[cfg(test)]
mod tests;
