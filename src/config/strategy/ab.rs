//! A split that sticks to the unit, and what its arms are compared on.

use std::sync::Arc;
use std::time::Duration;

use super::{Guards, Margin, OnFail, OnPass, Segment, Warmup};
use crate::config::units::Percent;
use crate::stats::hash::platforms::Platform;

/// A split that sticks to the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Ab {
    /// Gets what names no unit of an arm: other services, and the share of arms that are not ready.
    pub baseline: usize,
    /// Never used by another rollout.
    pub salt: Arc<str>,
    /// Whose hash says where a unit falls. With any but flagd's the variants lie one after the other, in the order of
    /// `weights`, as they do there.
    pub hash: Platform,
    /// (variant, share); shares sum to 100 %.
    pub weights: Vec<(usize, Percent)>,
    /// The first that matches a call decides; none: `weights`.
    pub segments: Vec<Segment>,
    /// How the arms are compared; none: it is a split that decides nothing.
    pub judge: Option<Judge>,
}

/// How the arms of a split are compared with its baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    /// Those beside the baseline, in the order of `weights`; at least one, each with a share of its own.
    pub arms: Vec<Arm>,
    /// What a winner is better at, the most important first; none: nobody can win.
    pub metrics: Vec<Metric>,
    /// How a metric is judged.
    pub test: Test,
    /// What a winner is not worse at, and who is takes no calls any more.
    pub guards: Guards,
    /// An arm's latency counts after both of these.
    pub warmup: Warmup,
    /// Chance that an arm that is no better than the baseline ever wins, over all metrics and arms; above 0, at most
    /// 0.2.
    pub alpha: f64,
    /// Nothing is decided on a metric with fewer of them in either arm.
    pub min_units: u64,
    /// Without a verdict for so long it is inconclusive.
    pub max_duration: Duration,
    /// What becomes of a winner.
    pub on_pass: OnPass,
    /// What becomes of an arm that is worse.
    pub on_fail: OnFail,
}

/// A variant beside the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Index into [`crate::config::Model::variants`], below 64.
    pub variant: usize,
    /// Its name there.
    pub name: Arc<str>,
}

/// Something that a winner is better at.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Where its values come from.
    pub source: Source,
    /// The least effect of interest: within it arms are equivalent.
    pub least: Margin,
    /// Whether less is better.
    pub lower_is_better: bool,
}

/// How a metric is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Test {
    /// The overlap-weighted score: right while shares change.
    #[default]
    Overlap,
    /// The difference of the two means (AsympCS, which is the normal mSPRT): only where shares never change.
    Asympcs,
    /// The score against a bound that needs no limit theorem: only values between bounds, of units that come once, where
    /// shares never change.
    Bounded,
}

impl Test {
    /// All of them.
    pub const ALL: [Test; 3] = [Test::Overlap, Test::Asympcs, Test::Bounded];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Test::Overlap => "overlap",
            Test::Asympcs => "asympcs",
            Test::Bounded => "bounded",
        }
    }
}

/// Where the values of a metric come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Values of a feedback.
    Feedback {
        /// Its name in [`crate::config::Model::feedback`].
        name: Arc<str>,
        /// Whether they are 0 or 1.
        binary: bool,
        /// How far apart two of them can be; none: as far as they like.
        width: Option<f64>,
    },
    /// 1 for each call that failed by the variant's own fault, else 0.
    Errors,
    /// 1 for each call that the variant refused for what it asked, else 0.
    Rejections,
    /// The natural logarithm of a call's latency, to the bucket it falls into.
    Latency,
}
