//! What the rows of an output are counted as: labels, places of the largest score, or numbers.

use std::borrow::Cow;
use std::sync::Arc;

use crate::comparison::message::{Said, messages, said};
use crate::comparison::numeric::{Number, by_type, numbers};
use crate::comparison::tensor::{Content, Dtype, Tensor};
use crate::comparison::{Answer, Reading, infer, rows};
use crate::config::Measure;

/// Rows of one answer that are counted.
const ROWS: usize = 256;
/// Characters of a label.
const TEXT: usize = 64;

/// What rows of one output gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Labels, or places of the largest score.
    Labels(Vec<Box<str>>),
    /// Numbers: values, means of rows of them, or lengths of vectors.
    Numbers(Vec<f64>),
}

impl Values {
    /// The same with a hash in the place of each label, to be written down where nobody asked for what was answered.
    pub fn hidden(&self) -> Cow<'_, Values> {
        let Values::Labels(labels) = self else { return Cow::Borrowed(self) };
        let hash = |label: &str| blake3::hash(label.as_bytes()).to_hex()[..16].into();
        Cow::Owned(Values::Labels(labels.iter().map(|label| hash(label)).collect()))
    }

    /// One of them, by a draw that knows nothing of them; none where there are none.
    pub fn one(&self, draw: u64) -> Option<Values> {
        let place = |all: usize| draw.checked_rem(all as u64).map(|at| at as usize);
        Some(match self {
            Values::Labels(labels) => Values::Labels(vec![labels.get(place(labels.len())?)?.clone()]),
            Values::Numbers(numbers) => Values::Numbers(vec![*numbers.get(place(numbers.len())?)?]),
        })
    }
}

/// What the rows of an answer's outputs give, by output.
pub fn values(reading: &Reading<'_>, answer: &Answer<'_>) -> Vec<(Arc<str>, Values)> {
    let Some((chunks, peek)) = answer.chunks.zip(reading.peek) else { return Vec::new() };
    let mut all = Vec::new();
    for message in messages(chunks, answer.encoding, reading.limit).iter().flatten() {
        let Said::Outputs(outputs) = said(message, peek) else { continue };
        for tensor in &outputs.tensors {
            let rule = reading.rules.iter().find(|rule| *rule.output == *tensor.name);
            let measure = rule.map_or_else(|| by_content(tensor), |rule| rule.measure);
            if let Some(values) = of(tensor, &measure) {
                all.push((tensor.name.into(), values));
            }
        }
    }
    all
}

/// How an output is read that nobody declared: as it would be compared, but for rows that are parts of 1, whose mean
/// says nothing.
fn by_content(tensor: &Tensor<'_>) -> Measure {
    let scores = match (tensor.content.as_ref(), tensor.dtype) {
        (Ok(Content::Fixed(bytes)), Dtype::Known(kind)) if kind.is_float() => {
            by_type!(kind, begins_with_parts(bytes, rows::by_row(tensor).max(1)), false)
        }
        _ => false,
    };
    if scores { Measure::Scores { tolerance: 0.0 } } else { infer(tensor) }
}

fn begins_with_parts<T: Number>(bytes: &[u8], rows: usize) -> bool {
    let width = (bytes.len() / rows).max(T::WIDTH);
    let first: Vec<f64> = numbers::<T>(&bytes[..width.min(bytes.len())]).map(T::value).collect();
    rows::is_distribution(&first)
}

fn of(tensor: &Tensor<'_>, measure: &Measure) -> Option<Values> {
    let whole = matches!(
        measure,
        Measure::Class { .. } | Measure::Scores { .. } | Measure::Ranking { .. } | Measure::Embedding { .. }
    );
    let float = matches!(tensor.dtype, Dtype::Known(kind) if kind.is_float());
    let rows = if whole && float { rows::by_row(tensor) } else { tensor.rows() }.max(1);
    match (tensor.content.as_ref().ok()?, tensor.dtype) {
        _ if *measure == Measure::Ignore => None,
        (Content::Texts(texts), _) => {
            let width = (texts.len() / rows).max(1);
            let label = |text: &&[u8]| {
                String::from_utf8_lossy(&text[..text.len().min(4 * TEXT)])
                    .chars()
                    .take(TEXT)
                    .collect::<String>()
            };
            Some(Values::Labels(
                texts.iter().step_by(width).take(ROWS).map(|text| label(text).into()).collect(),
            ))
        }
        (Content::Fixed(bytes), Dtype::Known(kind)) => {
            let labels = !kind.is_float() && !matches!(measure, Measure::Numeric(_));
            by_type!(kind, counted(measure, labels, bytes, rows), None)
        }
        _ => None,
    }
}

fn counted<T: Number>(measure: &Measure, labels: bool, bytes: &[u8], rows: usize) -> Option<Values> {
    let width = (bytes.len() / rows).max(T::WIDTH);
    let rows = bytes.chunks_exact(width).take(ROWS);
    let single = width == T::WIDTH;
    if labels {
        let label = |row| numbers::<T>(row).next().map(|value| value.place().to_string().into());
        return Some(Values::Labels(rows.filter_map(label).collect()));
    }
    if matches!(measure, Measure::Class { .. } | Measure::Scores { .. } | Measure::Ranking { .. }) && !single
    {
        let place = |row| rows::largest::<T>(row).0.to_string().into();
        return Some(Values::Labels(rows.map(place).collect()));
    }
    let number = |row| {
        let values = || numbers::<T>(row).map(T::value);
        match measure {
            Measure::Embedding { .. } => values().map(|value| value * value).sum::<f64>().sqrt(),
            _ => values().sum::<f64>() / (width / T::WIDTH) as f64,
        }
    };
    Some(Values::Numbers(rows.map(number).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_stands_for_an_answer() {
        let numbers = Values::Numbers(vec![1.0, 2.0, 3.0]);
        assert_eq!(numbers.one(7), Some(Values::Numbers(vec![2.0])));
        let labels = Values::Labels(vec!["cat".into(), "dog".into()]);
        assert_eq!(labels.one(u64::MAX), Some(Values::Labels(vec!["dog".into()])));
        assert_eq!(Values::Numbers(Vec::new()).one(0), None);
    }

    fn tensor<'a>(shape: &[i64], bytes: &'a [u8]) -> Tensor<'a> {
        let content = Ok(Content::Fixed(bytes.into()));
        let dtype = Dtype::Known(crate::comparison::tensor::Type::F32);
        Tensor { name: "y", dtype, shape: shape.to_vec(), content }
    }

    #[test]
    fn parts_of_one_are_read_by_their_largest_and_other_numbers_by_their_mean() {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let read = |shape: &[i64], values: &[f32]| {
            let bytes = bytes(values);
            let tensor = tensor(shape, &bytes);
            of(&tensor, &by_content(&tensor)).unwrap()
        };
        let labels = |labels: &[&str]| Values::Labels(labels.iter().map(|label| (*label).into()).collect());
        assert_eq!(read(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.3, 0.2]), labels(&["1", "0"]));
        assert_eq!(read(&[3], &[0.1, 0.2, 0.7]), labels(&["2"]), "a vector is one row");
        assert_eq!(read(&[2, 2], &[1.0, 3.0, -1.0, 2.0]), Values::Numbers(vec![2.0, 0.5]));
        assert_eq!(read(&[2], &[1.0, 3.0]), Values::Numbers(vec![1.0, 3.0]));
    }
}
