//! What the rows of an output are counted as: labels, places of the largest score, or numbers.

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
            let measure = rule.map_or_else(|| infer(tensor), |rule| rule.measure);
            if let Some(values) = of(tensor, &measure) {
                all.push((tensor.name.into(), values));
            }
        }
    }
    all
}

fn of(tensor: &Tensor<'_>, measure: &Measure) -> Option<Values> {
    let rows = tensor.rows().max(1);
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
}
