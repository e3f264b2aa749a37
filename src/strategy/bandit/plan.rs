//! What a bandit asks for before any call: what it would need if it shared calls evenly until the end.
//!
//! It does not: it gives the better arm more, and so needs longer to be as sure, and loses less meanwhile. How much of
//! either is for [`crate::simulate`] to say.

use std::time::Duration;

use crate::config::units::Percent;
use crate::config::{Ab, Bandit, Judge};
use crate::stats::hash::platforms::{PLACES, Platform};

/// The time in which the least difference is asked for that can be seen: a bandit itself has no end.
const LONGEST: Duration = Duration::from_secs(28 * 86_400);

/// The comparison that shares calls evenly between the same arms and asks the same of them.
pub fn evenly(bandit: &Bandit) -> Ab {
    let others = bandit.arms.iter().filter(|arm| arm.variant != bandit.baseline);
    let share = PLACES / bandit.arms.len().max(1) as u32;
    let part = |parts: u32| Percent::from_thousandths(parts).unwrap_or(Percent::NONE);
    let rest = PLACES - share * (bandit.arms.len().max(1) as u32 - 1);
    let weights = others.clone().map(|arm| (arm.variant, part(share)));
    Ab {
        baseline: bandit.baseline,
        salt: bandit.salt.clone(),
        hash: Platform::Flagd,
        weights: weights.chain([(bandit.baseline, part(rest))]).collect(),
        segments: Vec::new(),
        judge: Some(Judge {
            arms: others.cloned().collect(),
            metrics: vec![bandit.metric.clone()],
            guards: bandit.guards.clone(),
            warmup: bandit.warmup,
            test: Default::default(),
            alpha: bandit.alpha,
            min_units: bandit.min_units,
            max_duration: LONGEST,
            on_pass: bandit.on_pass,
            on_fail: bandit.on_fail,
        }),
    }
}
