//! What the comparison of two answers says: a plain value, for spans, logs and judges.

use std::sync::Arc;

use serde::Serialize;

use super::tensor::Tensor;
use crate::config::Measure;
use crate::config::units::short_number;

/// In what way two answers, or two outputs, differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The gRPC status, or an error inside a stream that only one of them says.
    Status,
    /// How many messages there are.
    Messages,
    /// How many bytes, of protocols that are not read.
    Size,
    /// The bytes, likewise.
    Bytes,
    /// One of them is not what its protocol says.
    Unreadable,
    /// An output that was served is not there.
    Missing,
    /// An output is there that was not served.
    Extra,
    /// The type of the values.
    Dtype,
    /// The shape.
    Shape,
    /// There are more or fewer values than the shape says, in either.
    Length,
    /// Raw contents end inside a value, in either.
    Truncated,
    /// A text among raw contents is longer than what is left of them, in either.
    Ragged,
    /// More than is ever compared.
    TooLarge,
    /// What it is declared as cannot be read from its type.
    Unsupported,
    /// One has a NaN or an infinity where the other has a number.
    NonFinite,
    /// The values are further apart than they may be.
    Values,
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: [Kind; 16] = [
        Kind::Status,
        Kind::Messages,
        Kind::Size,
        Kind::Bytes,
        Kind::Unreadable,
        Kind::Missing,
        Kind::Extra,
        Kind::Dtype,
        Kind::Shape,
        Kind::Length,
        Kind::Truncated,
        Kind::Ragged,
        Kind::TooLarge,
        Kind::Unsupported,
        Kind::NonFinite,
        Kind::Values,
    ];

    /// Position in [`Kind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in metrics, spans and status.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Status => "status",
            Kind::Messages => "messages",
            Kind::Size => "size",
            Kind::Bytes => "bytes",
            Kind::Unreadable => "unreadable",
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Dtype => "dtype",
            Kind::Shape => "shape",
            Kind::Length => "length",
            Kind::Truncated => "truncated",
            Kind::Ragged => "ragged",
            Kind::TooLarge => "too_large",
            Kind::Unsupported => "unsupported",
            Kind::NonFinite => "non_finite",
            Kind::Values => "values",
        }
    }
}

/// What two answers to one call show.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// In what way they differ as a whole, where they do; then nothing is said of what could not be compared.
    pub kind: Option<Kind>,
    /// Each output that one of them has, but for those that are ignored.
    pub outputs: Vec<Output>,
    /// Declared outputs that neither has.
    pub absent: Vec<Arc<str>>,
    /// How much longer the candidate took, in seconds; below 0: shorter.
    pub latency: f64,
    /// Whether there are more outputs than are compared.
    pub cut: bool,
}

/// One output of two answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// As the model names it.
    pub name: Arc<str>,
    /// What it was compared by; none where it could not be told.
    pub measure: Option<&'static str>,
    /// Whether that was told from its type, for nobody declared it.
    pub inferred: bool,
    /// In what way they differ; none: they agree.
    pub kind: Option<Kind>,
    /// Rows, or single values, that were compared; 1 where they could not be.
    pub rows: u64,
    /// Those that do not agree.
    pub differing: u64,
    /// How far they are apart, in the measure's own number: see [`Output::figures`].
    pub distance: f64,
    /// More that is known, each by its name; the same ones for each measure.
    pub figures: Vec<(&'static str, f64)>,
}

/// What holding one output of both against each other gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// As [`Output::rows`].
    pub rows: u64,
    /// As [`Output::differing`].
    pub differing: u64,
    /// As [`Output::distance`].
    pub distance: f64,
    /// Whether a NaN or an infinity is among the reasons.
    pub non_finite: bool,
    /// As [`Output::figures`].
    pub figures: Vec<(&'static str, f64)>,
}

impl Comparison {
    /// Whether nothing differs that may not.
    pub fn agrees(&self) -> bool {
        self.kind.is_none() && self.outputs.iter().all(|output| output.kind.is_none())
    }

    /// The word for all of it: `same`, or the kind of the first difference.
    pub fn name(&self) -> &'static str {
        let first = self.outputs.iter().find_map(|output| output.kind);
        self.kind.or(first).map_or("same", Kind::name)
    }

    /// The output that differs most, by the part of its rows, then by its distance.
    pub fn worst(&self) -> Option<&Output> {
        let differing = self.outputs.iter().filter(|output| output.kind.is_some());
        differing.max_by(|one, other| {
            one.part().total_cmp(&other.part()).then(one.distance.total_cmp(&other.distance))
        })
    }

    pub(super) fn worsen(&mut self, kind: Kind) {
        self.kind.get_or_insert(kind);
    }

    /// Adds an output of one message: to that of the messages before, where there is one of its name.
    pub(super) fn add(&mut self, output: Output) {
        match self.outputs.iter_mut().find(|known| known.name == output.name) {
            Some(known) => known.merge(output),
            None => self.outputs.push(output),
        }
    }
}

impl Output {
    /// One that was held.
    pub(super) fn held(tensor: &Tensor<'_>, (measure, inferred): (Measure, bool), held: Held) -> Self {
        let kind = match held {
            Held { differing: 0, .. } => None,
            Held { non_finite: true, .. } => Some(Kind::NonFinite),
            _ => Some(Kind::Values),
        };
        Output {
            name: tensor.name.into(),
            measure: Some(measure.name()),
            inferred,
            kind,
            rows: held.rows,
            differing: held.differing,
            distance: held.distance,
            figures: held.figures,
        }
    }

    /// One that could not be held.
    pub(super) fn failed(tensor: &Tensor<'_>, rule: Option<&Measure>, kind: Kind) -> Self {
        Output {
            name: tensor.name.into(),
            measure: rule.map(Measure::name),
            inferred: false,
            kind: Some(kind),
            rows: 1,
            differing: 1,
            distance: 0.0,
            figures: Vec::new(),
        }
    }

    /// The part of its rows that differ, 0 to 1.
    pub fn part(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.differing as f64 / self.rows as f64 }
    }

    /// The output and how it differs, in a few words for people: `scores: values, 3 of 8 rows, max_abs 0.25`.
    pub fn words(&self) -> String {
        let Some(kind) = self.kind else { return format!("{}: same", self.name) };
        let mut text = format!("{}: {}", self.name, kind.name());
        if matches!(kind, Kind::Values | Kind::NonFinite) {
            text.push_str(&format!(", {} of {} rows", self.differing, self.rows));
            if let Some((name, value)) = self.figures.first() {
                text.push_str(&format!(", {name} {}", short_number(*value)));
            }
        }
        text
    }

    fn merge(&mut self, more: Output) {
        let (one, other) = (self.rows as f64, more.rows as f64);
        let whole = (one + other).max(1.0);
        for (figure, value) in &mut self.figures {
            if let Some((_, more)) = more.figures.iter().find(|(name, _)| name == figure) {
                *value = match figure.strip_prefix("max") {
                    Some(_) => value.max(*more),
                    None => (*value * one + more * other) / whole,
                };
            }
        }
        self.kind = self.kind.or(more.kind);
        self.rows += more.rows;
        self.differing += more.differing;
        self.distance = self.distance.max(more.distance);
    }
}
