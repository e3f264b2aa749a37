//! How the file says what a bandit learns from, and how.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Amount, Count, Ratio, Share, Span};

/// What a bandit learns from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Reward {
    /// Of a feedback that the model declares.
    pub(in crate::config) name: Option<String>,
    /// Which values are better. Default higher.
    #[schemars(extend("enum" = ["higher", "lower"]))]
    pub(in crate::config) better: Option<String>,
    /// What is believed of its mean: `beta` for values in a range, `gaussian` for any. Default beta for binary and
    /// bounded feedback, gaussian for real.
    #[schemars(extend("enum" = ["beta", "gaussian"]))]
    pub(in crate::config) posterior: Option<String>,
}

/// Numbers of a policy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tuning {
    /// `epsilon_greedy`: the part that is spread evenly. Default 10%.
    pub(in crate::config) epsilon: Option<Share>,
    /// `exp3`: the part that is spread evenly, and the step of learning. Default 5%.
    pub(in crate::config) gamma: Option<Share>,
    /// `lin_ucb`: standard errors that the bound is above the mean. Default 1.
    pub(in crate::config) width: Option<Amount>,
    /// `lin_ts`: standard deviation of a reward around its mean. Default half of the reward's range.
    pub(in crate::config) deviation: Option<Amount>,
    /// `lin_ucb`, `lin_ts`: λ of the ridge regression. Default 1.
    pub(in crate::config) ridge: Option<Amount>,
}

/// When shares are worked out anew.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Refresh {
    /// After so long, where something was learnt. Default 1s.
    pub(in crate::config) time: Option<Span>,
    /// As soon as so many values came. Default 500.
    pub(in crate::config) values: Option<Count>,
}

/// When the best arm is known well enough.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Stop {
    /// With a probability of 95 % no arm is better than the best one by more than this part of it. Default 1%.
    pub(in crate::config) value_remaining: Option<Ratio>,
    /// The least effect of interest, in the reward's own unit.
    pub(in crate::config) absolute: Option<Amount>,
    /// And as part of the baseline's mean; the larger of the two counts. Default 2%.
    pub(in crate::config) relative: Option<Ratio>,
}

/// Where features of a call come from: one of `metadata`, `parameter` and `input`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Feature {
    /// A number, or one of `values`, in request metadata.
    pub(in crate::config) metadata: Option<String>,
    /// The same, in a parameter of the inference request.
    pub(in crate::config) parameter: Option<String>,
    /// Numbers of an input tensor.
    pub(in crate::config) input: Option<String>,
    /// `input`: how many numbers it must have.
    pub(in crate::config) size: Option<Count>,
    /// Words: a feature for each, 1 where it is that one.
    pub(in crate::config) values: Option<Vec<Option<String>>>,
    /// What is taken from each number. Default 0.
    pub(in crate::config) offset: Option<Amount>,
    /// What each is divided by then. Default 1.
    pub(in crate::config) scale: Option<Amount>,
}
