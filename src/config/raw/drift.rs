//! How the file says of which answers the distribution is watched.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Bytes, Share};

/// Of which answers the distribution is watched, and what it is held against.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Drift {
    /// Share of the calls whose answers are looked at. Default 10%.
    pub(in crate::config) sample: Option<Share>,
    /// Memory that answers may hold until they are counted, per worker; a larger answer is not looked at. Default 16MiB.
    pub(in crate::config) bytes: Option<Bytes>,
    /// How outputs are read; those that are not named by what their type suggests. Default none.
    pub(in crate::config) outputs: Option<Vec<Option<Output>>>,
    /// File with the distributions that answers are held against; `parhelion ctl reference` makes one. Left out: none.
    #[schemars(example = &"/etc/parhelion/fraud.reference.json")]
    pub(in crate::config) reference: Option<String>,
    /// Chance that a drift is ever told where there is none, over all that is compared. Default 1%.
    pub(in crate::config) alpha: Option<Share>,
}

/// How one output is read.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Output {
    /// As the model names it.
    pub(in crate::config) output: Option<String>,
    /// `class`, `scores`, `ranking`: the label, or the place of the largest score. `numeric`: the number, or the mean of
    /// a row. `embedding`: the length of a row. `exact`: by its type. `ignore`: not at all.
    #[serde(rename = "as")]
    #[schemars(extend("enum" = ["exact", "numeric", "class", "scores", "ranking", "embedding", "ignore"]))]
    pub(in crate::config) measure: Option<String>,
}
