//! How two answers to one call are held against each other, and what difference is allowed.

use std::sync::Arc;

use super::Variant;
use super::units::{Percent, Size};

/// How a shadow's answers are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judging {
    /// What is declared of outputs; others are compared by what their type suggests.
    pub compare: Vec<Compare>,
    /// Another instance of the served version; none: its noise is not known.
    pub control: Option<Control>,
    /// Disagreement that is allowed, above 0 % and below 100 %.
    pub disagreement: Option<Percent>,
    /// Chance that an equivalent shadow is ever called different, above 0 and below 1.
    pub alpha: f64,
    /// What is kept of calls whose answers are furthest apart.
    pub offenders: Offenders,
}

/// Another instance of the served version, which gets some of the copied calls too.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Where it is reached, and what it is called there. Of an address it has that as its name.
    pub variant: Variant,
    /// Its index among the model's variants; none: an address that is no variant's.
    pub index: Option<usize>,
    /// Share of the copied calls that it gets a copy of; above 0 %.
    pub sample: Percent,
}

/// What is kept of calls whose answers are furthest apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Offenders {
    /// How many, at least 1.
    pub keep: usize,
    /// Bytes of the values of either answer; none: no values.
    pub values: Option<Size>,
    /// Outputs whose values are never kept; `*`: of none.
    pub mask: Vec<Arc<str>>,
}

impl Default for Judging {
    fn default() -> Self {
        Judging {
            compare: Vec::new(),
            control: None,
            disagreement: None,
            alpha: 0.01,
            offenders: Offenders { keep: 10, values: None, mask: Vec::new() },
        }
    }
}

/// How one output is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    /// As the model names it.
    pub output: Arc<str>,
    /// By what.
    pub measure: Measure,
}

/// What of an output counts, and how far two may be apart and still agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Every bit.
    Exact,
    /// Each number.
    Numeric(Numeric),
    /// The label, or the place of the largest score of each row; `top`: how many of the largest are looked at beside.
    Class {
        /// At least 1.
        top: usize,
    },
    /// The distribution that each row is, by the Jensen–Shannon divergence to base 2, 0 to 1.
    Scores {
        /// The largest divergence of rows that agree.
        tolerance: f64,
    },
    /// The order of each row's items, by 1 − rank-biased overlap, 0 to 1.
    Ranking {
        /// The largest distance of rows that agree.
        tolerance: f64,
        /// Items from the top that are looked at; at least 1.
        depth: usize,
    },
    /// The direction of each row, by 1 − cosine, 0 to 2.
    Embedding {
        /// The largest distance of rows that agree.
        tolerance: f64,
    },
    /// Nothing: it may differ as it likes.
    Ignore,
}

/// When two numbers are the same: numpy's `isclose`, or so many steps of their type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numeric {
    /// In the output's own unit; none of both: what is usual for its type.
    pub absolute: Option<f64>,
    /// As part of the served number's size.
    pub relative: Option<f64>,
    /// Numbers of the type that may lie between.
    pub ulp: Option<u64>,
    /// Whether NaN is the same as NaN.
    pub equal_nan: bool,
}

impl Default for Numeric {
    fn default() -> Self {
        Numeric { absolute: None, relative: None, ulp: None, equal_nan: true }
    }
}

impl Measure {
    /// As written in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Measure::Exact => "exact",
            Measure::Numeric(_) => "numeric",
            Measure::Class { .. } => "class",
            Measure::Scores { .. } => "scores",
            Measure::Ranking { .. } => "ranking",
            Measure::Embedding { .. } => "embedding",
            Measure::Ignore => "ignore",
        }
    }
}
