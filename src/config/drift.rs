//! Of which answers the distribution is watched, and what it is held against.

use std::path::PathBuf;

use super::Compare;
use super::units::{Percent, Size};

/// What is looked at of a model's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Share of the calls whose answers are looked at; above 0 %.
    pub sample: Percent,
    /// Bytes that answers may hold until they are counted, per worker; at least 16 KiB.
    pub bytes: Size,
    /// How outputs are read; others by what their type suggests.
    pub outputs: Vec<Compare>,
    /// File with distributions that were kept; none: nothing is held against any.
    pub reference: Option<PathBuf>,
    /// Chance that a drift is ever told where there is none, above 0 and below 1.
    pub alpha: f64,
}

impl Default for Drift {
    fn default() -> Self {
        Drift {
            sample: Percent::from_thousandths(10_000).unwrap_or(Percent::ALL),
            bytes: Size(16 << 20),
            outputs: Vec::new(),
            reference: None,
            alpha: 0.01,
        }
    }
}
