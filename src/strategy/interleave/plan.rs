//! What a comparison of rankers asks for before any call: how many decisive sessions until a preference is seen.

use crate::config::Interleave;
use crate::stats::sign;

/// Decisive sessions until a ranker that gets one half and `more` of their votes has won; none: no number is enough.
/// Chance makes most comparisons end sooner than that, and a few much later.
pub fn sessions(config: &Interleave, more: f64) -> Option<u64> {
    let alpha = config.alpha / config.arms.len().max(1) as f64;
    sign::votes_for(more, alpha).map(|votes| votes.max(config.min_sessions))
}
