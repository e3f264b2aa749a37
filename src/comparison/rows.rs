//! Two outputs row by row: labels, scores, rankings, embeddings.
//!
//! A row is what one thing that was asked about got: an output of shape [8, 10] has eight of ten values each. A vector
//! is one row for the measures that look at a row's values together, and has a row in each value for labels.

use super::found::{Held, Kind};
use super::numeric::{Number, by_type, numbers};
use super::tensor::{Content, Dtype, Tensor, Type};
use crate::config::Measure;
use crate::stats::{bins, ranks};

/// Items of a row that a ranking is made of at most.
const ITEMS: usize = 1 << 16;
/// Of the first of them Kendall's τ is computed, for it takes the square of that.
const PAIRED: usize = 64;

/// What the rows of an output add up to.
#[derive(Debug, Default)]
struct Rows {
    rows: u64,
    differing: u64,
    distance: f64,
    non_finite: bool,
    figures: Vec<(&'static str, f64)>,
}

impl Rows {
    /// Adds a row: whether it differs, how far it is apart, and its figures; those named `max…` are kept at their
    /// largest, of others the mean.
    fn add<const N: usize>(&mut self, differs: bool, distance: f64, figures: [(&'static str, f64); N]) {
        self.rows += 1;
        self.differing += u64::from(differs);
        self.distance = self.distance.max(distance);
        if self.figures.is_empty() {
            self.figures = figures.iter().map(|(name, _)| (*name, 0.0)).collect();
        }
        for ((name, sum), (_, value)) in self.figures.iter_mut().zip(figures) {
            *sum = if name.starts_with("max") { sum.max(value) } else { *sum + value };
        }
    }

    fn held(mut self) -> Held {
        let rows = self.rows.max(1) as f64;
        let means = self.figures.iter_mut().filter(|(name, _)| !name.starts_with("max"));
        means.for_each(|(_, sum)| *sum /= rows);
        let Rows { rows, differing, distance, non_finite, figures } = self;
        Held { rows, differing, distance, non_finite, figures }
    }
}

/// Every bit.
pub(super) fn exact(served: &Content<'_>, candidate: &Content<'_>, rows: usize) -> Held {
    let differing = match (served, candidate) {
        (Content::Fixed(one), Content::Fixed(other)) => {
            let width = (one.len() / rows.max(1)).max(1);
            one.chunks(width).zip(other.chunks(width)).filter(|(one, other)| one != other).count()
        }
        (Content::Texts(one), Content::Texts(other)) => {
            let width = (one.len() / rows.max(1)).max(1);
            one.chunks(width).zip(other.chunks(width)).filter(|(one, other)| one != other).count()
        }
        // Nobody knows where their rows end.
        (one, other) => return Held { rows: 1, differing: u64::from(one != other), ..Held::default() },
    };
    let part = differing as f64 / rows.max(1) as f64;
    let figures = vec![("differing", part)];
    Held { rows: rows as u64, differing: differing as u64, distance: part, non_finite: false, figures }
}

/// By a measure of rows.
///
/// # Errors
/// [`Kind::Unsupported`] where the type has no such rows, [`Kind::TooLarge`] where one is too long.
pub(super) fn compare(
    measure: &Measure,
    tensor: &Tensor<'_>,
    (served, candidate): (&Content<'_>, &Content<'_>),
    rows: usize,
) -> Result<Held, Kind> {
    let labels = !matches!(tensor.dtype, Dtype::Known(kind) if kind.is_float());
    let single = tensor.row_width() <= 1 && tensor.shape.len() > 1;
    match (measure, tensor.dtype, served, candidate) {
        (Measure::Class { .. }, Dtype::Known(_), ..) if labels || single => {
            let held = exact(served, candidate, rows);
            Ok(Held { figures: vec![("flips", held.distance)], ..held })
        }
        (
            Measure::Ranking { tolerance, depth },
            Dtype::Known(Type::Bytes),
            Content::Texts(one),
            Content::Texts(other),
        ) => {
            let width = one.len() / by_row(tensor).max(1);
            rankings((*tolerance, *depth), one.chunks(width.max(1)), other.chunks(width.max(1)))
        }
        (_, Dtype::Known(kind), Content::Fixed(one), Content::Fixed(other)) if kind != Type::Bool => {
            let rows = by_row(tensor);
            by_type!(kind, numbered(measure, labels, (one, other), rows), Err(Kind::Unsupported))
        }
        _ => Err(Kind::Unsupported),
    }
}

/// Rows of measures that look at all values of one together: a vector is one.
pub(super) fn by_row(tensor: &Tensor<'_>) -> usize {
    if tensor.shape.len() > 1 { tensor.rows() } else { 1 }
}

fn numbered<T: Number>(
    measure: &Measure,
    labels: bool,
    (served, candidate): (&[u8], &[u8]),
    rows: usize,
) -> Result<Held, Kind> {
    let width = (served.len() / rows.max(1)).max(T::WIDTH);
    let pairs = served.chunks_exact(width).zip(candidate.chunks_exact(width));
    let mut all = Rows::default();
    match measure {
        Measure::Class { top } => pairs.for_each(|(one, other)| class::<T>(&mut all, *top, one, other)),
        Measure::Scores { .. } if labels => return Err(Kind::Unsupported),
        Measure::Scores { tolerance } => {
            pairs.for_each(|(one, other)| scores::<T>(&mut all, *tolerance, one, other));
        }
        Measure::Embedding { tolerance } => {
            pairs.for_each(|(one, other)| embedding::<T>(&mut all, *tolerance, one, other));
        }
        Measure::Ranking { .. } if width / T::WIDTH > ITEMS => return Err(Kind::TooLarge),
        // Whole numbers are the items themselves, best first; of scores the order is that of their size.
        Measure::Ranking { tolerance, depth } => {
            for (one, other) in pairs {
                let items = |row: &[u8]| match labels {
                    true => numbers::<T>(row).map(T::place).collect(),
                    false => order::<T>(row),
                };
                let (one, other): (Vec<i64>, Vec<i64>) = (items(one), items(other));
                ranking(&mut all, (*tolerance, *depth), &one, &other);
            }
        }
        Measure::Exact | Measure::Numeric(_) | Measure::Ignore => return Err(Kind::Unsupported),
    }
    Ok(all.held())
}

/// The place of the largest, and how much it is above the second; NaN is never the largest.
pub(super) fn largest<T: Number>(row: &[u8]) -> (usize, f64) {
    let (mut at, mut first, mut second) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
    for (place, value) in numbers::<T>(row).map(T::value).enumerate() {
        if value > first {
            (at, first, second) = (place, value, first);
        } else if value > second {
            second = value;
        }
    }
    let margin = first - second;
    (at, if margin.is_finite() { margin } else { 0.0 })
}

/// Places of the largest `top`, in no order.
fn largest_few<T: Number>(row: &[u8], top: usize) -> Vec<usize> {
    let mut few: Vec<(usize, f64)> = Vec::with_capacity(top + 1);
    for (place, value) in numbers::<T>(row).map(T::value).enumerate() {
        if few.len() == top && few.last().is_some_and(|(_, least)| value <= *least || value.is_nan()) {
            continue;
        }
        let at = few.partition_point(|(_, known)| *known >= value);
        few.insert(at, (place, value));
        few.truncate(top);
    }
    few.into_iter().map(|(place, _)| place).collect()
}

/// Whether NaN or infinity is on one side alone.
fn odd<T: Number>(one: &[u8], other: &[u8]) -> bool {
    let finite = |row| numbers::<T>(row).map(T::value).all(f64::is_finite);
    finite(one) != finite(other)
}

fn class<T: Number>(all: &mut Rows, top: usize, one: &[u8], other: &[u8]) {
    if one == other {
        return all.add(false, 0.0, [("flips", 0.0), ("top_overlap", 1.0), ("max_margin", 0.0)]);
    }
    let ((served, margin), (candidate, _)) = (largest::<T>(one), largest::<T>(other));
    let flipped = served != candidate;
    let overlap = if top > 1 {
        let (few, others) = (largest_few::<T>(one, top), largest_few::<T>(other, top));
        few.iter().filter(|place| others.contains(place)).count() as f64 / few.len().max(1) as f64
    } else {
        f64::from(u8::from(!flipped))
    };
    all.non_finite |= flipped && odd::<T>(one, other);
    let flip = f64::from(u8::from(flipped));
    all.add(flipped, flip, [("flips", flip), ("top_overlap", overlap), ("max_margin", flip * margin)]);
}

fn scores<T: Number>(all: &mut Rows, tolerance: f64, one: &[u8], other: &[u8]) {
    if one == other {
        return all.add(false, 0.0, [("max_js", 0.0), ("flips", 0.0), ("max_margin", 0.0)]);
    }
    if odd::<T>(one, other) {
        all.non_finite = true;
        return all.add(true, 1.0, [("max_js", 1.0), ("flips", 1.0), ("max_margin", 0.0)]);
    }
    let (p, q) = (distribution::<T>(one), distribution::<T>(other));
    let divergence = bins::jensen_shannon(&p, &q);
    let divergence = if divergence.is_finite() { divergence } else { 1.0 };
    let ((served, margin), (candidate, _)) = (largest::<T>(one), largest::<T>(other));
    let flip = f64::from(u8::from(served != candidate));
    let figures = [("max_js", divergence), ("flips", flip), ("max_margin", flip * margin)];
    all.add(divergence > tolerance, divergence, figures);
}

/// A row of scores as parts of 1: as it is where it sums to 1, one number within 0 to 1 as the chance of a yes, and
/// anything else, being logits, by softmax.
fn distribution<T: Number>(row: &[u8]) -> Vec<f64> {
    let values: Vec<f64> = numbers::<T>(row).map(T::value).collect();
    let sum: f64 = values.iter().sum();
    match values.as_slice() {
        [yes] if (0.0..=1.0).contains(yes) => vec![*yes, 1.0 - yes],
        [_] => vec![1.0],
        values if is_distribution(values) => values.iter().map(|value| value / sum).collect(),
        _ => {
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = values.iter().map(|value| (value - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
    }
}

/// Whether these are parts of 1, as far as a model's rounding goes.
pub(super) fn is_distribution(values: &[f64]) -> bool {
    let sum: f64 = values.iter().sum();
    values.len() > 1 && (sum - 1.0).abs() < 1e-2 && values.iter().all(|value| *value >= 0.0)
}

fn embedding<T: Number>(all: &mut Rows, tolerance: f64, one: &[u8], other: &[u8]) {
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (a, b) in numbers::<T>(one).map(T::value).zip(numbers::<T>(other).map(T::value)) {
        both += a * b;
        first += a * a;
        second += b * b;
    }
    let length = f64::sqrt(first) * f64::sqrt(second);
    let cosine = if one == other {
        1.0
    } else if length > 0.0 {
        both / length
    } else {
        f64::from(u8::from(first == second))
    };
    let far = if cosine.is_finite() { (1.0 - cosine).max(0.0) } else { 2.0 };
    all.non_finite |= odd::<T>(one, other);
    all.add(far > tolerance, far, [("max_far", far), ("cosine", 1.0 - far)]);
}

/// Places by the size of their scores, the largest first.
fn order<T: Number>(row: &[u8]) -> Vec<i64> {
    let values: Vec<f64> = numbers::<T>(row).map(T::value).collect();
    let mut places: Vec<usize> = (0..values.len()).collect();
    // By place where they are as large, so that it is one order.
    places.sort_by(|one, other| values[*other].total_cmp(&values[*one]).then(one.cmp(other)));
    places.into_iter().map(|place| place as i64).collect()
}

fn rankings<'r, T: Eq + std::hash::Hash + 'r>(
    terms: (f64, usize),
    served: impl Iterator<Item = &'r [T]>,
    candidate: impl Iterator<Item = &'r [T]>,
) -> Result<Held, Kind> {
    let mut all = Rows::default();
    for (one, other) in served.zip(candidate) {
        if one.len() > ITEMS {
            return Err(Kind::TooLarge);
        }
        ranking(&mut all, terms, one, other);
    }
    Ok(all.held())
}

fn ranking<T: Eq + std::hash::Hash>(
    all: &mut Rows,
    (tolerance, depth): (f64, usize),
    one: &[T],
    other: &[T],
) {
    let (one, other) = (&one[..one.len().min(depth)], &other[..other.len().min(depth)]);
    let far = if one == other {
        0.0
    } else {
        (1.0 - ranks::biased_overlap(one, other, ranks::PERSISTENCE)).max(0.0)
    };
    let overlap = ranks::overlap_at(one, other, depth);
    let figures =
        [("max_far", far), ("rbo", 1.0 - far), ("overlap", overlap), ("kendall", common_order(one, other))];
    all.add(far > tolerance, far, figures);
}

/// Kendall's τ of the places of items that both have; 1 where there are fewer than two.
fn common_order<T: Eq + std::hash::Hash>(one: &[T], other: &[T]) -> f64 {
    let one = &one[..one.len().min(PAIRED)];
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (place, item) in one.iter().enumerate() {
        if let Some(elsewhere) = other.iter().position(|known| known == item) {
            first.push(place as f64);
            second.push(elsewhere as f64);
        }
    }
    ranks::kendall(&first, &second).unwrap_or(1.0)
}
