//! What may be learnt about a prediction after it was made.

use std::sync::Arc;
use std::time::Duration;

/// Something that is learnt about predictions after they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// As reported.
    pub name: Arc<str>,
    /// What its values are.
    pub kind: FeedbackKind,
    /// How long after the prediction it still counts.
    pub window: Duration,
    /// The value of a prediction whose window closed without any; none: such a prediction says nothing.
    pub default: Option<f64>,
    /// What several values for one prediction make.
    pub join: Join,
    /// Reports that are taken per second and worker; more are refused.
    pub max_rate: u32,
}

/// What the values of a feedback are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeedbackKind {
    /// 0 or 1.
    Binary,
    /// A number from `min` to `max`.
    Bounded {
        /// The least.
        min: f64,
        /// The most; more than `min`.
        max: f64,
    },
    /// Any finite number.
    Real,
    /// A word: what the answer should have been.
    Label,
    /// Clicks on parts of the answer: positive for, negative against.
    Clicks,
}

/// What several values for one prediction make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The first that comes.
    First,
    /// The last that comes.
    Last,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
}

impl FeedbackKind {
    /// Whether `value` may be reported as a number; else what is wrong with it.
    ///
    /// # Errors
    /// The text says what it is not.
    pub fn admits(self, value: f64) -> Result<(), &'static str> {
        match self {
            _ if !value.is_finite() => Err("is no finite number"),
            FeedbackKind::Binary if value != 0.0 && value != 1.0 => Err("is neither 0 nor 1"),
            FeedbackKind::Bounded { min, max } if value < min || value > max => {
                Err("is outside of `min` to `max`")
            }
            FeedbackKind::Label => Err("is a number, where a label is a word"),
            FeedbackKind::Binary
            | FeedbackKind::Bounded { .. }
            | FeedbackKind::Real
            | FeedbackKind::Clicks => Ok(()),
        }
    }

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            FeedbackKind::Binary => "binary",
            FeedbackKind::Bounded { .. } => "bounded",
            FeedbackKind::Real => "real",
            FeedbackKind::Label => "label",
            FeedbackKind::Clicks => "clicks",
        }
    }
}

impl Join {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Join::First => "first",
            Join::Last => "last",
            Join::Sum => "sum",
            Join::Max => "max",
        }
    }
}
