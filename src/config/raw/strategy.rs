//! How the file says who gets which call, what a canary is judged on, and what is learnt later.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Amount, Bytes, Count, Feature, Match, Named, OrOff, Ratio, Refresh, Reward, Several, Share, Span, Stop,
    Tuning,
};

/// How a call is given to a variant.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Strategy {
    /// `pinned`: always the same variant. `ab`: by weight, sticky by unit. `canary`: a growing share for a candidate
    /// that is judged all the time. `staged`: several of them in order, for one candidate. `shadow`: copies for the
    /// candidate, judged; only as a stage. `rolling`: one variant, whose servers are replaced in place, a batch of
    /// endpoints at a time, when its `version` changes. `bandit`: more to whoever earns more of a feedback, while it
    /// learns. `interleave`: several rankers answer together, their lists merged into one.
    #[schemars(extend("enum" = ["pinned", "ab", "canary", "staged", "rolling", "bandit", "interleave", "shadow"]))]
    pub(in crate::config) kind: Option<String>,
    /// `pinned`, `rolling`: the variant that answers. `pinned`: another one than before is switched to at once, when it is ready and warm.
    pub(in crate::config) variant: Option<String>,
    /// `pinned`: how long after a switch the variant before is kept for an instant way back. Default 30m.
    pub(in crate::config) revert_window: Option<Span>,
    /// `pinned`: a switch whose variant is not ready and warm for so long holds, and an alert says so. Default 1h.
    pub(in crate::config) max_wait: Option<Span>,
    /// `ab`, `canary`, `bandit`, `interleave`: gets what the other variants cannot take. Left out: the first variant.
    pub(in crate::config) baseline: Option<String>,
    /// `ab`, `canary`, `bandit`, `interleave`: makes this rollout's split independent of all others; never used again by another. Left out:
    /// the model's name and the digests, versions or names of the variants that are not the baseline.
    pub(in crate::config) salt: Option<String>,
    /// `ab`: whose hash says where a unit falls, for tests that came from there. Default flagd.
    #[schemars(extend("enum" = ["flagd", "growthbook", "optimizely", "statsig"]))]
    pub(in crate::config) hash: Option<String>,
    /// `ab`, `canary`, `staged`, `bandit`, `interleave`: units that take part in no rollout with the same holdout. Default none.
    pub(in crate::config) holdout: Option<Holdout>,
    /// `ab`, `canary`, `staged`, `bandit`, `interleave`: the part of a layer's units that takes part here, and in no other rollout of the
    /// layer. Default all units.
    pub(in crate::config) layer: Option<Layer>,
    /// `ab`: share of each variant; they sum to 100 %.
    pub(in crate::config) weights: Option<Named<Share>>,
    /// `ab`: calls that are split differently; the first that matches decides.
    pub(in crate::config) segments: Option<Vec<Option<Segment>>>,
    /// `canary`: the variant that must prove itself. Left out: the only one that is neither the baseline nor a shadow.
    pub(in crate::config) candidate: Option<String>,
    /// `canary`: the candidate's shares, growing. Default 1%, 5%, 10%, 25%, 50%.
    pub(in crate::config) steps: Option<Vec<Option<Step>>>,
    /// `ab`: what a winner is better at than the baseline. Without `metrics` and `guards` nothing is compared.
    pub(in crate::config) metrics: Option<Metrics>,
    /// `canary`, `ab`, `bandit`: what a candidate is judged on, or each arm. `pinned`: the fixed limits that a new
    /// variant is judged by within `revert_window`; default none. `rolling`: those that the replaced servers are judged by; default
    /// errors of at most 10%.
    pub(in crate::config) guards: Option<Guards>,
    /// `canary`, `pinned`, `rolling`: what a variant is sent before it is given calls; `canary`, `ab`, `bandit`:
    /// when the latency of a candidate, or of an arm, begins to count.
    pub(in crate::config) warmup: Option<Warmup>,
    /// `canary`, `pinned`, `rolling`: chance that a variant as good as its guards allow is ever rolled back. Default 1%. `ab`:
    /// chance that an arm that is no better ever wins, over all metrics and arms; `bandit` likewise. `interleave`: chance
    /// that a ranker that is as good as the baseline ever wins or loses. Default 5% for these three.
    pub(in crate::config) alpha: Option<Share>,
    /// `canary`: a step that found no verdict for so long holds, and an alert says so. Default 1h, or twice
    /// the longest `hold` or feedback window it waits for, where that is more.
    pub(in crate::config) max_step_time: Option<Span>,
    /// `ab`: how a metric is judged. `overlap`: right while shares change. `asympcs`: the difference of means, as other
    /// platforms have it. `bounded`: exact, for values between bounds. The last two only where shares never change.
    /// Default overlap.
    #[schemars(extend("enum" = ["overlap", "asympcs", "bounded"]))]
    pub(in crate::config) test: Option<String>,
    /// `ab`: nothing is decided on a metric with fewer values than that in either arm. `bandit`: until it has so many
    /// values an arm has an even share. Default 100.
    pub(in crate::config) min_units: Option<Count>,
    /// `ab`, `interleave`: without a verdict for so long it is inconclusive. Default 28d.
    pub(in crate::config) max_duration: Option<Span>,
    /// What becomes of a candidate that passed the last step (`canary`), or of a winner (`ab`, `bandit`, `interleave`). `promote`: it
    /// gets everything. `wait`: a person decides. Default promote for a canary, wait for the others.
    #[schemars(extend("enum" = ["promote", "wait"]))]
    pub(in crate::config) on_pass: Option<String>,
    /// What becomes of a variant that fails (`canary`, `pinned`, `rolling`), or of an arm that is worse (`ab`,
    /// `bandit`, `interleave`).
    /// `rollback`: it gets nothing; servers that were replaced are replaced again by the version before. `hold`: it
    /// stays where it is, and an alert says so. Default rollback.
    #[schemars(extend("enum" = ["rollback", "hold"]))]
    pub(in crate::config) on_fail: Option<String>,
    /// `rolling`: endpoints that are replaced at once. Default 1.
    pub(in crate::config) batch: Option<Count>,
    /// `rolling`: an endpoint is taken out only where so many others are ready. Default all but a batch.
    pub(in crate::config) min_ready: Option<Count>,
    /// `rolling`: how long calls under way may take before an endpoint counts as drained all the same. Default 30s.
    pub(in crate::config) drain_timeout: Option<Span>,
    /// `rolling`: an endpoint that is not replaced, ready and warm for so long after it was drained fails. Default
    /// 10m.
    pub(in crate::config) replace_timeout: Option<Span>,
    /// `rolling`: how it is known what a server runs. `model`: one of the versions that its `ModelMetadata` answers.
    /// `server`: the version that its `ServerMetadata` answers. `connection`: it went away and came back. Default
    /// model.
    #[schemars(extend("enum" = ["model", "server", "connection"]))]
    pub(in crate::config) report: Option<String>,
    /// `interleave`: the variants whose lists are merged, the baseline among them; two to seven. Left out: all that are no
    /// shadows.
    pub(in crate::config) rankers: Option<Vec<Option<String>>>,
    /// `interleave`: which outputs of the model are the ranking.
    pub(in crate::config) ranking: Option<Ranking>,
    /// `interleave`: how lists are merged, and clicks credited. Default team_draft.
    #[schemars(extend("enum" = ["team_draft", "classic_team_draft", "balanced", "probabilistic", "pairwise"]))]
    pub(in crate::config) merge: Option<String>,
    /// `interleave`: slots of a merged list at most. Left out: as many as the baseline's list has.
    pub(in crate::config) length: Option<Count>,
    /// `interleave`: what names a list that is asked for page by page, `metadata:NAME` or `parameter:NAME`. Its pages are
    /// one draft. Left out: every call is a list of its own.
    pub(in crate::config) draft: Option<String>,
    /// `interleave`: what credits the rankers.
    pub(in crate::config) credit: Option<Credit>,
    /// `interleave`: the least preference of interest, as a part of the decisive sessions above one half: 5% means 55 of
    /// 100. Default 2%.
    pub(in crate::config) least: Option<Share>,
    /// `interleave`: nothing is decided on fewer decisive sessions. Default 20.
    pub(in crate::config) min_sessions: Option<Count>,
    /// `staged`: strategies in order, each without `baseline`, `candidate` and `salt`, which are those of the whole.
    pub(in crate::config) stages: Option<Vec<Option<Strategy>>>,
    /// A stage: what it is called. Left out: its kind.
    pub(in crate::config) name: Option<String>,
    /// `shadow`: it lasts at least this long. Default 5m. `rolling`: replaced servers serve at least this long before the
    /// next batch begins, and before the update ends. Default 10s.
    pub(in crate::config) hold: Option<Span>,
    /// `shadow`: and at least so many copies. Default 200.
    pub(in crate::config) calls: Option<Count>,
    /// `bandit`: the feedback that it learns from.
    pub(in crate::config) reward: Option<Reward>,
    /// `bandit`: how what is known becomes shares. Default thompson.
    #[schemars(extend("enum" = ["thompson", "top_two", "kl_ucb", "ucb1", "epsilon_greedy", "exp3", "lin_ucb", "lin_ts"]))]
    pub(in crate::config) policy: Option<String>,
    /// `bandit`: numbers of the policy.
    pub(in crate::config) tuning: Option<Tuning>,
    /// `bandit`: what calls are told apart by, for `lin_ucb` and `lin_ts`.
    pub(in crate::config) context: Option<Vec<Option<Feature>>>,
    /// `bandit`: no variant gets less. Default 1%.
    pub(in crate::config) floor: Option<Share>,
    /// `bandit`: when shares are worked out anew.
    pub(in crate::config) refresh: Option<Refresh>,
    /// `bandit`: a value counts half as much, so much later. Default: all count alike.
    pub(in crate::config) half_life: Option<Span>,
    /// `bandit`: a value does not count any more, so much later. Default: all count.
    pub(in crate::config) window: Option<Span>,
    /// `bandit`: when the best variant is known well enough; `off`: never. Default off for `lin_ucb` and `lin_ts`.
    pub(in crate::config) stop: Option<OrOff<Stop>>,
    /// `bandit`: `live`, or `apprentice`: the baseline answers all but the floor, and what the bandit would have done,
    /// and what that would have been worth, is only told. Default live.
    #[schemars(extend("enum" = ["live", "apprentice"]))]
    pub(in crate::config) mode: Option<String>,
}

/// Which outputs of a model are its ranking.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ranking {
    /// The items, INT64 or BYTES, the best first: one list (`[n]`), or several of one call (`[rows, n]`).
    #[schemars(example = &"item_ids")]
    pub(in crate::config) items: Option<String>,
    /// Their scores, which must fall. Left out: nobody looks at them.
    pub(in crate::config) scores: Option<String>,
    /// Other outputs with values for each item, which go along with it. All that is not named here is the baseline's.
    pub(in crate::config) along: Option<Vec<Option<String>>>,
}

/// What credits rankers for what they showed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Credit {
    /// A feedback that the model declares. Its reports name a `slot`, or an `item`.
    #[schemars(example = &"clicks")]
    pub(in crate::config) feedback: Option<String>,
    /// How reports say what they are about. `slot`: by its place in the list, which any replica can credit. `item`: by
    /// the item too; what was shown is remembered where it was shown. Default slot for team drafts, else item.
    #[schemars(extend("enum" = ["slot", "item"]))]
    pub(in crate::config) by: Option<String>,
    /// Which reports of a session count, by when they were learnt. Default all.
    #[schemars(extend("enum" = ["all", "first", "last"]))]
    pub(in crate::config) count: Option<String>,
    /// What a session says. `votes`: whom it prefers. `rewards`: by how much more one earned. Default votes.
    #[schemars(extend("enum" = ["votes", "rewards"]))]
    pub(in crate::config) weigh: Option<String>,
    /// Values from here on are 1, like seconds that somebody stayed, and those below are nothing; values below 0 are
    /// dislikes and stay what they are. Left out: each value is what it is.
    pub(in crate::config) at_least: Option<Amount>,
    /// A session ends when its unit reports nothing for so long, and votes then. Default 30m.
    pub(in crate::config) session_gap: Option<Span>,
    /// Sessions of one unit that vote in a day. Default 10.
    pub(in crate::config) max_votes: Option<Count>,
    /// What may be remembered of lists that were shown. Default 64MiB.
    pub(in crate::config) memory: Option<Bytes>,
}

/// What a winner is better at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Metrics {
    /// Means of feedback.
    pub(in crate::config) feedback: Option<Several<FeedbackGuard>>,
    /// Share of calls that fail by the variant's own fault.
    pub(in crate::config) errors: Option<OrOff<RateGuard>>,
    /// Share of calls that the variant refuses for what they ask.
    pub(in crate::config) rejections: Option<OrOff<RateGuard>>,
    /// Mean of the logarithm of latency.
    pub(in crate::config) latency: Option<OrOff<LatencyMetric>>,
}

/// How much faster.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LatencyMetric {
    /// The least effect of interest, as part of the baseline's geometric mean. Default 2%.
    pub(in crate::config) relative: Option<Ratio>,
}

/// Units that take part in nothing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Holdout {
    /// Of all units, at most 20 %.
    pub(in crate::config) share: Option<Share>,
    /// The same in all rollouts that the units are held out of. Default `holdout`.
    pub(in crate::config) salt: Option<String>,
}

/// Rollouts of one layer share the units out between them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Layer {
    /// Its name, the same in all its rollouts.
    pub(in crate::config) name: Option<String>,
    /// Where this rollout's part of the units begins. Default 0%.
    pub(in crate::config) from: Option<Share>,
    /// Where it ends. Default 100%.
    pub(in crate::config) to: Option<Share>,
}

/// Calls that are split differently.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Segment {
    /// Said in spans. Left out: `segment-N`, counted from 1.
    pub(in crate::config) name: Option<String>,
    /// Which calls: all pairs must be equal.
    #[serde(rename = "match")]
    pub(in crate::config) matches: Option<Match>,
    /// The variant that answers all of them.
    pub(in crate::config) variant: Option<String>,
    /// Share of each variant; they sum to 100 %.
    pub(in crate::config) weights: Option<Named<Share>>,
}

/// One step of a canary.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Step {
    /// The candidate's share.
    pub(in crate::config) share: Option<Share>,
    /// It lasts at least this long. Default 5m.
    pub(in crate::config) hold: Option<Span>,
    /// And at least so many calls of the candidate. Default 200.
    pub(in crate::config) calls: Option<Count>,
}

/// What a canary is judged on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Guards {
    /// Share of calls that fail by the variant's own fault. Default {absolute: 0.1%, relative: 25%}.
    pub(in crate::config) errors: Option<OrOff<ErrorGuard>>,
    /// Share of calls that the variant refuses for what they ask. Default {absolute: 0.1%, relative: 25%}.
    pub(in crate::config) rejections: Option<OrOff<RateGuard>>,
    /// Quantiles of latency. Default the median by 10% and the 95% and 99% quantiles by 15%.
    pub(in crate::config) latency: Option<Several<LatencyGuard>>,
    /// Means of feedback. Default none.
    pub(in crate::config) feedback: Option<Several<FeedbackGuard>>,
    /// What the servers of both variants use, as their `metrics` say. It can stop a canary and gates no step.
    /// Default none.
    pub(in crate::config) resources: Option<ResourcesGuard>,
    /// Whether the candidate's answers to copies of the baseline's calls must be equivalent; how is said under
    /// `shadows`. Default false.
    pub(in crate::config) shadow: Option<bool>,
}

/// How often calls may fail: more than with the baseline by the larger of two, or a fixed share.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ErrorGuard {
    /// `pinned`: the largest share of all calls.
    pub(in crate::config) at_most: Option<Share>,
    /// By so many of all calls.
    pub(in crate::config) absolute: Option<Share>,
    /// By so much of the baseline's share.
    pub(in crate::config) relative: Option<Ratio>,
}

/// How much more often something may happen: the larger of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateGuard {
    /// By so many of all calls.
    pub(in crate::config) absolute: Option<Share>,
    /// By so much of the baseline's share.
    pub(in crate::config) relative: Option<Ratio>,
}

/// How slow: a quantile beside the baseline's, or a fixed share of calls that may take longer than a given time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LatencyGuard {
    /// `pinned`: what counts as slow.
    pub(in crate::config) slower_than: Option<Span>,
    /// `pinned`: the largest share of slow calls.
    pub(in crate::config) at_most: Option<Share>,
    /// Which quantile, 50% is the median.
    pub(in crate::config) quantile: Option<Share>,
    /// By so much of the baseline's.
    pub(in crate::config) relative: Option<Ratio>,
}

/// How much worse a mean may become: by the larger of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FeedbackGuard {
    /// Of a feedback that the model declares.
    pub(in crate::config) name: Option<String>,
    /// In the feedback's own unit: `0.5%` of a binary one, or a number.
    pub(in crate::config) absolute: Option<Amount>,
    /// By so much of the baseline's mean.
    pub(in crate::config) relative: Option<Ratio>,
    /// Which values are better. Default higher.
    #[schemars(extend("enum" = ["higher", "lower"]))]
    pub(in crate::config) better: Option<String>,
}

/// What the candidate's server may use beside the baseline's.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ResourcesGuard {
    /// How much more its resident memory may grow than the baseline's. Left out: memory is not judged.
    pub(in crate::config) memory: Option<Use>,
    /// How much more processor time a call may take. Left out: processor time is not judged.
    pub(in crate::config) cpu: Option<Use>,
    /// What is compared at once. Default 1m.
    pub(in crate::config) window: Option<Span>,
    /// What becomes of a candidate that fails it. `hold`: it stays where it is, and an alert says so. `rollback`: it
    /// gets nothing. Default hold.
    #[schemars(extend("enum" = ["hold", "rollback"]))]
    pub(in crate::config) on_fail: Option<String>,
}

/// How much more of one resource.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Use {
    /// By so much of what the baseline uses.
    pub(in crate::config) relative: Option<Ratio>,
}

/// What a variant is sent before it is given calls, and when its latency begins to count.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Warmup {
    /// `canary`: latency counts so long after the candidate's first call. Default 30s.
    pub(in crate::config) time: Option<Span>,
    /// `canary`: and after so many of its calls. Default 50.
    pub(in crate::config) calls: Option<Count>,
    /// Each endpoint must have answered so many requests before it is given calls. Default 20 for `pinned`, none for
    /// `canary`.
    pub(in crate::config) requests: Option<Count>,
    /// After this it is given calls without them, unless it failed at all of them. Default 1m.
    pub(in crate::config) timeout: Option<Span>,
    /// A file of such requests, each on a line of its own, as JSON of the Open Inference Protocol. Left out: they are
    /// kept from live calls.
    pub(in crate::config) file: Option<String>,
}

/// Something that is learnt about predictions after they were made.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Feedback {
    /// What its values are. `binary`: 0 or 1. `bounded`: from `min` to `max`. `real`: any number. `label`: a word.
    /// `clicks`: parts of the answer that were taken, or turned down.
    #[schemars(extend("enum" = ["binary", "bounded", "real", "label", "clicks"]))]
    pub(in crate::config) kind: Option<String>,
    /// `bounded`: the least value.
    pub(in crate::config) min: Option<Amount>,
    /// `bounded`: the largest value.
    pub(in crate::config) max: Option<Amount>,
    /// How long after its prediction it counts. Default 24h.
    pub(in crate::config) window: Option<Span>,
    /// The value of predictions that got none within the window. Left out: those say nothing.
    pub(in crate::config) default: Option<Amount>,
    /// What several values for one prediction make. Default last; for clicks sum.
    #[schemars(extend("enum" = ["first", "last", "sum", "max"]))]
    pub(in crate::config) join: Option<String>,
    /// Reports that are taken per second and worker. Default 10000.
    pub(in crate::config) max_rate: Option<Count>,
}
