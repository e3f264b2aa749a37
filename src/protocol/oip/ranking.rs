//! Rankings in inference responses: which items a model puts in which order, what else it says of each, and one answer
//! made of several. Pure.
//!
//! The items are an output of INT64 or BYTES, of one list (`[n]`) or of several that a call asks for at once
//! (`[rows, n]`). Outputs that go along with the items have a value, or several, for each of them, so their shape begins
//! like that of the items. All others are said once for the whole answer.

use std::sync::Arc;

use bytes::Bytes;

use super::tensor::{Answer, Cells, Datatype, Tensor, TensorError};

/// Which outputs are the ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// The items, the best first.
    pub items: Arc<str>,
    /// Their scores, which must fall; none: there are none, or nobody looks at them.
    pub scores: Option<Arc<str>>,
    /// Other outputs that have values for each item.
    pub along: Vec<Arc<str>>,
}

/// Why an answer is no ranking that could be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unranked {
    /// Its outputs cannot be read, or one is missing.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The items are of a datatype that items are not of.
    #[error("output {output} is {}: items are INT64 or BYTES", datatype.name())]
    Items {
        /// Its name.
        output: Arc<str>,
        /// As it came.
        datatype: Datatype,
    },
    /// The items are no list, nor several.
    #[error("output {output} has {dimensions} dimensions: a list has one, several have two")]
    Dimensions {
        /// Its name.
        output: Arc<str>,
        /// As it came.
        dimensions: usize,
    },
    /// An output that should go along does not.
    #[error(
        "output {output} has the shape {shape:?}, which does not begin like that of the items, {items:?}"
    )]
    Along {
        /// Its name.
        output: Arc<str>,
        /// Its shape.
        shape: Vec<usize>,
        /// That of the items.
        items: Vec<usize>,
    },
    /// Scores are no numbers.
    #[error("output {output} is {}: scores are numbers that can be compared", datatype.name())]
    Scores {
        /// Its name.
        output: Arc<str>,
        /// As it came.
        datatype: Datatype,
    },
    /// Scores and items contradict each other.
    #[error("the scores of list {row} do not fall: item {place} has a better one than the item before it")]
    Unsorted {
        /// Which list, from 0.
        row: usize,
        /// Which item, from 0.
        place: usize,
    },
    /// Two answers do not fit together.
    #[error("output {0} has another datatype, or another shape, than the other answer's")]
    Differs(Arc<str>),
    /// Two answers have lists for different numbers of questions.
    #[error("{0} lists, where the other answer has {1}")]
    Rows(usize, usize),
}

/// One item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key<'a> {
    /// INT64.
    Number(i64),
    /// BYTES.
    Text(&'a [u8]),
}

/// One item of a list, with all that is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    item: Cells,
    /// In the order of [`Outputs::all`], without the items.
    parts: Vec<Cells>,
}

/// A model's answer as lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    answer: Answer,
    /// Whether there is one list only, whose shape has no dimension for that.
    single: bool,
    /// The lists.
    pub rows: Vec<Vec<Entry>>,
    layout: Vec<Layout>,
}

/// What every item's value of one output is like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    datatype: Datatype,
    /// The shape of one item's.
    inner: Vec<usize>,
}

impl Outputs {
    /// All of them, the items first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.items).chain(&self.scores).chain(&self.along)
    }
}

/// An output as a model's metadata says it: its name, its datatype and its shape, -1 where a size may be any.
pub type Declared = (String, String, Vec<i64>);

impl Outputs {
    /// What is declared here and the model itself says otherwise, in words; none: nothing, or it says nothing.
    pub fn mismatch(&self, said: &[Declared]) -> Option<String> {
        if said.is_empty() {
            return None;
        }
        let known = || said.iter().map(|(name, ..)| &**name).collect::<Vec<_>>().join(", ");
        let of = |wanted: &str| said.iter().find(|(name, ..)| name == wanted);
        let Some((_, items, shape)) = of(&self.items) else {
            return Some(format!("its metadata has no output {}, but {}", self.items, known()));
        };
        if !matches!(&**items, "INT64" | "BYTES") {
            return Some(format!(
                "its metadata says that {} is {items}: items are INT64 or BYTES",
                self.items
            ));
        }
        if !shape.is_empty() && shape.len() > 2 {
            return Some(format!(
                "its metadata says that {} has {} dimensions: one or two are lists",
                self.items,
                shape.len()
            ));
        }
        for name in self.all().skip(1) {
            let Some((_, datatype, own)) = of(name) else {
                return Some(format!("its metadata has no output {name}, but {}", known()));
            };
            if self.scores.as_ref() == Some(name) && matches!(&**datatype, "BYTES" | "BOOL") {
                return Some(format!("its metadata says that {name} is {datatype}: scores are numbers"));
            }
            let like = |(size, items): (&i64, &i64)| size == items || *size < 0 || *items < 0;
            if own.len() < shape.len() || !own.iter().zip(shape).all(like) {
                return Some(format!(
                    "its metadata says that {name} is {own:?}, which does not begin like {}, {shape:?}",
                    self.items
                ));
            }
        }
        None
    }
}

impl Key<'_> {
    /// For people, and as reports name it: decimal digits, or the text.
    pub fn text(&self) -> String {
        match self {
            Key::Number(number) => number.to_string(),
            Key::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

impl Entry {
    /// The item.
    pub fn key(&self) -> Key<'_> {
        let cell = self.item.cell(0).unwrap_or_default();
        match &self.item {
            Cells::Numbers(..) => Key::Number(cell.try_into().map_or(0, i64::from_le_bytes)),
            Cells::Texts(_) => Key::Text(cell),
        }
    }

    /// A copy that holds no more memory than it has bytes.
    pub fn apart(&self) -> Entry {
        Entry { item: self.item.apart(), parts: self.parts.iter().map(Cells::apart).collect() }
    }

    /// Bytes of all its values.
    pub fn bytes(&self) -> usize {
        self.item.bytes() + self.parts.iter().map(Cells::bytes).sum::<usize>()
    }
}

impl Ranking {
    /// The lists of a message of an inference response.
    ///
    /// # Errors
    /// See [`Unranked`].
    pub fn read(message: &Bytes, outputs: &Outputs) -> Result<Self, Unranked> {
        let answer = Answer::read(message)?;
        let items = answer.tensor(&outputs.items)?;
        if !matches!(items.datatype, Datatype::Int64 | Datatype::Bytes) {
            return Err(Unranked::Items { output: Arc::clone(&outputs.items), datatype: items.datatype });
        }
        let (single, rows, length) = match items.shape[..] {
            [length] => (true, 1, length),
            [rows, length] => (false, rows, length),
            _ => {
                let (output, dimensions) = (Arc::clone(&outputs.items), items.shape.len());
                return Err(Unranked::Dimensions { output, dimensions });
            }
        };
        let mut others = Vec::new();
        for name in outputs.all().skip(1) {
            others.push(along(&answer, name, &items.shape)?);
        }
        if let Some((name, (tensor, _))) = outputs.scores.as_ref().zip(others.first()) {
            falling(name, tensor, length)?;
        }
        let entry = |row: usize, place: usize| {
            let at = row * length + place;
            let part = |(tensor, each): &(Tensor, usize)| tensor.cells.part(at * each, *each);
            Entry { item: items.cells.part(at, 1), parts: others.iter().map(part).collect() }
        };
        let lists = (0..rows).map(|row| (0..length).map(|place| entry(row, place)).collect()).collect();
        let inner = |tensor: &Tensor| tensor.shape.get(items.shape.len()..).unwrap_or_default().to_vec();
        let layout = std::iter::once(&items).chain(others.iter().map(|(tensor, _)| tensor));
        let layout =
            layout.map(|tensor| Layout { datatype: tensor.datatype, inner: inner(tensor) }).collect();
        Ok(Ranking { answer, single, rows: lists, layout })
    }

    /// Whether lists of both may be merged.
    ///
    /// # Errors
    /// What is different.
    pub fn fits(&self, other: &Ranking, outputs: &Outputs) -> Result<(), Unranked> {
        if self.rows.len() != other.rows.len() {
            return Err(Unranked::Rows(self.rows.len(), other.rows.len()));
        }
        let mut pairs = outputs.all().zip(self.layout.iter().zip(&other.layout));
        match pairs.find(|(_, (one, other))| one != other) {
            Some((name, _)) => Err(Unranked::Differs(Arc::clone(name))),
            None => Ok(()),
        }
    }

    /// The message again, with these lists in the place of its own; all are cut to the shortest of them.
    ///
    /// # Errors
    /// When an output cannot be read.
    pub fn with(&self, lists: &[Vec<&Entry>], outputs: &Outputs) -> Result<Bytes, Unranked> {
        let length = lists.iter().map(Vec::len).min().unwrap_or(0);
        let front: Vec<usize> = if self.single { vec![length] } else { vec![lists.len(), length] };
        let tensors: Vec<Tensor> = (self.layout.iter().enumerate())
            .map(|(index, layout)| {
                let part = |entry: &'_ &Entry| match index.checked_sub(1) {
                    None => Some(entry.item.clone()),
                    Some(index) => entry.parts.get(index).cloned(),
                };
                let parts: Vec<Cells> =
                    lists.iter().flat_map(|list| list.iter().take(length)).filter_map(part).collect();
                Tensor {
                    datatype: layout.datatype,
                    shape: front.iter().chain(&layout.inner).copied().collect(),
                    cells: Cells::joined(layout.datatype, parts.iter()),
                }
            })
            .collect();
        let named: Vec<(&str, &Tensor)> = outputs.all().map(|name| &**name).zip(&tensors).collect();
        Ok(self.answer.with(&named)?)
    }
}

/// An output that goes along with items of that shape, and how many elements each item has.
fn along(answer: &Answer, name: &Arc<str>, items: &[usize]) -> Result<(Tensor, usize), Unranked> {
    let tensor = answer.tensor(name)?;
    if !tensor.shape.starts_with(items) {
        let output = Arc::clone(name);
        return Err(Unranked::Along { output, shape: tensor.shape, items: items.to_vec() });
    }
    let each = tensor.shape[items.len()..].iter().product();
    Ok((tensor, each))
}

/// Whether each list's scores fall, or stay; what is no number is no order.
fn falling(name: &Arc<str>, tensor: &Tensor, length: usize) -> Result<(), Unranked> {
    let wrong = || Unranked::Scores { output: Arc::clone(name), datatype: tensor.datatype };
    let scores = tensor.numbers().ok_or_else(wrong)?;
    for (row, scores) in scores.chunks(length.max(1)).enumerate() {
        // Written so that NaN is out of order too.
        let sorted = |pair: &[f64]| pair[0] >= pair[1];
        if let Some(place) = scores.windows(2).position(|pair| !sorted(pair)) {
            return Err(Unranked::Unsorted { row, place: place + 1 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
