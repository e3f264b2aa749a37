//! What the votes of sessions prove of each ranker beside the baseline.
//!
//! A session votes for whom it credits more, the ranker or the baseline; where both are alike a vote is a fair coin,
//! whatever people click on and wherever they look, so the sign test is exact. Where rewards are weighed, the
//! difference of what both earned is such a coin times what was earned, and its sum is judged with its variance over
//! buckets of units. Several rankers are held to one level together (e-BH).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Interleave, Weigh};
use crate::evidence::Votes;
use crate::stats::mixture::TwoSided;
use crate::stats::multiplicity::e_bh;
use crate::stats::sign;
use crate::strategy::Out;
use crate::verdict::{Aim, Estimate, Finding, Interval, Scale, Verdict};

/// Sessions at which rewards are judged most sharply.
const SESSIONS: f64 = 1000.0;

/// Everything that is remembered of all rankers, in the order of the arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence(Vec<Votes>);

impl Evidence {
    pub(super) fn new(config: &Interleave) -> Self {
        Evidence(vec![Votes::default(); config.arms.len()])
    }

    /// Adds votes, which are by variant.
    pub(super) fn add(&mut self, config: &Interleave, votes: &[Votes]) {
        for (arm, sum) in config.arms.iter().zip(&mut self.0) {
            if let Some(more) = votes.get(arm.variant) {
                sum.merge(more);
            }
        }
    }

    /// ln of the evidence that a ranker is preferred or not, by arm.
    fn ln_e(&self, config: &Interleave) -> Vec<f64> {
        self.0.iter().map(|votes| ln_e(config, votes)).collect()
    }

    /// What is found of each, by arm.
    pub(super) fn verdicts(&self, config: &Interleave) -> Vec<Verdict> {
        let decided = e_bh(&self.ln_e(config), config.alpha);
        let of = |(arm, votes): (usize, &Votes)| {
            if decided.contains(&arm) {
                return if lead(config, votes) > 0.0 { Verdict::Pass } else { Verdict::Fail };
            }
            match interval(config, votes) {
                Some((low, high))
                    if -margin(config) < low && high < margin(config) && enough(config, votes) =>
                {
                    Verdict::Equivalent
                }
                _ => Verdict::NotEnoughData,
            }
        };
        self.0.iter().enumerate().map(of).collect()
    }

    /// How strongly that arm is preferred.
    pub(super) fn strength(&self, config: &Interleave, arm: usize) -> f64 {
        self.0.get(arm).map_or(0.0, |votes| ln_e(config, votes))
    }

    /// Sessions that preferred that arm, those that preferred the baseline, and ties.
    pub(super) fn counts(&self, arm: usize) -> (u64, u64, u64) {
        self.0.get(arm).map_or((0, 0, 0), |votes| (votes.wins, votes.losses, votes.ties))
    }

    /// What is found, of all that are not out and of those that are.
    pub(super) fn findings(&self, config: &Interleave, out: Out) -> Vec<Finding> {
        let verdicts = self.verdicts(config);
        let all = config.arms.len().max(1) as f64;
        let of = |((arm, votes), verdict): ((&crate::config::Arm, &Votes), Verdict)| {
            let (baseline, candidate) = estimates(config, votes);
            let harm = interval(config, votes).map(|(low, high)| Interval {
                low: -high,
                middle: -preference(config, votes),
                high: -low,
            });
            let missing = match verdict {
                Verdict::NotEnoughData if !out.has(arm.variant) => missing(config, votes),
                _ => 0,
            };
            Finding {
                guard: Arc::from(format!("preference {}", config.credit.feedback)),
                aim: Aim::Success,
                variant: Arc::clone(&arm.name),
                verdict,
                baseline,
                candidate,
                harm,
                margin: margin(config),
                scale: match config.credit.weigh {
                    Weigh::Votes => Scale::Share,
                    Weigh::Rewards => Scale::Mean,
                },
                ln_e: ln_e(config, votes),
                threshold: (all / config.alpha).ln(),
                missing,
            }
        };
        config.arms.iter().zip(&self.0).zip(verdicts).map(of).collect()
    }
}

/// Whether there is enough to decide on.
fn enough(config: &Interleave, votes: &Votes) -> bool {
    let decisive = votes.wins + votes.losses >= config.min_sessions.max(1);
    match config.credit.weigh {
        Weigh::Votes => decisive,
        Weigh::Rewards => decisive && votes.sums.enough_buckets(),
    }
}

fn ln_e(config: &Interleave, votes: &Votes) -> f64 {
    if !enough(config, votes) {
        return 0.0;
    }
    match config.credit.weigh {
        Weigh::Votes => sign::ln_e(votes.wins, votes.losses),
        Weigh::Rewards => mixture(config, votes).map_or(0.0, |mixture| votes.sums.ln_e_effect(&mixture)),
    }
}

/// Sharpest at [`SESSIONS`] of the kind that was seen.
fn mixture(config: &Interleave, votes: &Votes) -> Option<TwoSided> {
    let usual = votes.sums.variance() * SESSIONS / (votes.wins + votes.losses).max(1) as f64;
    (usual > 0.0).then(|| TwoSided::new(usual, config.alpha))
}

/// Above 0 where the ranker is ahead.
fn lead(config: &Interleave, votes: &Votes) -> f64 {
    match config.credit.weigh {
        Weigh::Votes => votes.wins as f64 - votes.losses as f64,
        Weigh::Rewards => votes.sums.score(),
    }
}

/// The ranker's part of the decisive sessions less the baseline's; where rewards are weighed, by how much more it earned
/// in each.
fn preference(config: &Interleave, votes: &Votes) -> f64 {
    match config.credit.weigh {
        Weigh::Votes => match votes.wins + votes.losses {
            0 => 0.0,
            all => (votes.wins as f64 - votes.losses as f64) / all as f64,
        },
        Weigh::Rewards => votes.sums.effect().unwrap_or(0.0),
    }
}

/// Within which [`preference`] is nothing; rewards have no such.
fn margin(config: &Interleave) -> f64 {
    match config.credit.weigh {
        Weigh::Votes => 2.0 * config.least,
        Weigh::Rewards => 0.0,
    }
}

/// Within what [`preference`] is, for all times together; none where nothing is known.
fn interval(config: &Interleave, votes: &Votes) -> Option<(f64, f64)> {
    let alpha = config.alpha / config.arms.len().max(1) as f64;
    match config.credit.weigh {
        Weigh::Votes => {
            let (low, high) = sign::interval(votes.wins, votes.losses, alpha)?;
            Some((2.0 * low - 1.0, 2.0 * high - 1.0))
        }
        Weigh::Rewards => votes.sums.interval(&mixture(config, votes)?, alpha),
    }
}

/// (baseline, ranker): the part of the decisive sessions, or what was earned in each.
fn estimates(config: &Interleave, votes: &Votes) -> (Estimate, Estimate) {
    let decisive = votes.wins + votes.losses;
    let part = |n: u64| (decisive > 0).then(|| n as f64 / decisive as f64);
    let values = match config.credit.weigh {
        Weigh::Votes => [part(votes.losses), part(votes.wins)],
        Weigh::Rewards => [votes.baseline.mean(), votes.candidate.mean()],
    };
    let [baseline, candidate] = values.map(|value| Estimate { n: decisive, value });
    (baseline, candidate)
}

/// Decisive sessions that are still needed, were the preference what it seems, and not below what is of interest.
fn missing(config: &Interleave, votes: &Votes) -> u64 {
    let decisive = votes.wins + votes.losses;
    let alpha = config.alpha / config.arms.len().max(1) as f64;
    let seems = match config.credit.weigh {
        Weigh::Votes => (0.5 * preference(config, votes).abs()).max(config.least),
        Weigh::Rewards => config.least,
    };
    let needed = sign::votes_for(seems, alpha).unwrap_or(u64::MAX).max(config.min_sessions);
    needed.saturating_sub(decisive).max(1)
}
