//! How the file says who gets copies of live calls, and what is made of their answers.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::several::{Either, WordOr};
use super::{Amount, Bytes, Count, Several, Share, Span};

/// A variant that gets copies of live calls and answers nobody.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Shadow {
    /// The variant that gets the copies; one that the strategy gives no calls.
    pub(in crate::config) variant: Option<String>,
    /// Share of the calls that are copied. Default 100%.
    pub(in crate::config) sample: Option<Share>,
    /// From the start of a copy to its end. Default 2s.
    pub(in crate::config) deadline: Option<Span>,
    /// Copies under way at once, per worker. Default 100.
    pub(in crate::config) calls: Option<Count>,
    /// Memory that all its copies may hold at once, per worker. Default 64MiB.
    pub(in crate::config) bytes: Option<Bytes>,
    /// What becomes of a copy whose caller gives up. `end`: it ends too. `keep`: it goes on, if its request is
    /// whole. Default end.
    #[schemars(extend("enum" = ["end", "keep"]))]
    pub(in crate::config) on_cancel: Option<String>,
    /// Metadata that is taken out of its copies, credentials for instance. Default none.
    #[schemars(example = ["authorization", "cookie"])]
    pub(in crate::config) strip: Option<Vec<Option<String>>>,
    /// Share of its copies whose spans are exported. Left out: those whose call's trace is sampled.
    pub(in crate::config) trace_sample: Option<Share>,
    /// How outputs are compared, one or a list; those that are not named by what their type suggests. `off`: answers
    /// are not compared at all.
    pub(in crate::config) compare: Option<Several<Compare>>,
    /// Another instance of the served version, whose disagreement with what was served is taken off: a variant that
    /// the strategy gives no calls, the baseline, or an address. Left out: none.
    pub(in crate::config) control: Option<Second>,
    /// Disagreement that is allowed, beyond the control's where there is one: the mean part of an output's rows.
    /// Left out: none beyond a control's, and 1% without a control.
    pub(in crate::config) disagreement: Option<Share>,
    /// Chance that an equivalent shadow is ever called different, over all outputs. Default 1%.
    pub(in crate::config) alpha: Option<Share>,
    /// The calls whose answers are furthest apart, for people to look at.
    pub(in crate::config) offenders: Option<Offenders>,
}

/// How one output is compared.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Compare {
    /// As the model names it.
    pub(in crate::config) output: Option<String>,
    /// `exact`: every bit. `numeric`: each number. `class`: the label, or the place of the largest score. `scores`:
    /// each row as a distribution. `ranking`: the order of items. `embedding`: the direction. `ignore`: not at all.
    #[serde(rename = "as")]
    #[schemars(extend("enum" = ["exact", "numeric", "class", "scores", "ranking", "embedding", "ignore"]))]
    pub(in crate::config) measure: Option<String>,
    /// `scores`: the largest Jensen–Shannon divergence of rows that agree, 0 to 1; default 0.001. `ranking`: 1 −
    /// rank-biased overlap; default 0.05. `embedding`: 1 − cosine; default 0.001.
    pub(in crate::config) tolerance: Option<Amount>,
    /// `numeric`: how far two numbers may be apart. Default: what is usual for the type, where none of the three is given; else 0.
    pub(in crate::config) absolute: Option<Amount>,
    /// `numeric`: the same, as part of the served number.
    pub(in crate::config) relative: Option<Amount>,
    /// `numeric`: or so many numbers of the type may lie between. Default 0.
    pub(in crate::config) ulp: Option<Count>,
    /// `numeric`: whether NaN is the same as NaN. Default true.
    pub(in crate::config) equal_nan: Option<bool>,
    /// `class`: how many of the largest scores are looked at beside. Default 5.
    pub(in crate::config) top: Option<Count>,
    /// `ranking`: items from the top that are looked at. Default 10.
    pub(in crate::config) depth: Option<Count>,
}

/// Another instance of the served version.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(in crate::config) enum Second {
    /// A variant's name, or an address.
    To(String),
    /// With a share.
    Full(FullSecond),
}

/// Another instance of the served version, and how many of the copied calls it gets.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FullSecond {
    /// A variant's name, or an address.
    pub(in crate::config) to: Option<String>,
    /// Share of the copied calls that it gets a copy of too. Default 10%.
    pub(in crate::config) sample: Option<Share>,
}

/// What is kept of calls whose answers are furthest apart.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Offenders {
    /// How many. Default 10.
    pub(in crate::config) keep: Option<Count>,
    /// Bytes of the values of either answer that are kept. Left out: no values, only what differs and by how much.
    pub(in crate::config) values: Option<Bytes>,
    /// Outputs whose values are never kept; `*`: of none. Default none.
    pub(in crate::config) mask: Option<Vec<Option<String>>>,
}

impl<'de> Deserialize<'de> for Second {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = WordOr("a variant's name, an address, or a map with `to`", PhantomData);
        Ok(match deserializer.deserialize_any(visitor)? {
            Either::Word(to) => Second::To(to),
            Either::Map(full) => Second::Full(full),
        })
    }
}
