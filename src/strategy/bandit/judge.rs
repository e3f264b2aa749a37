//! What calls and feedback prove of the arms: who fails a guard, how large effects are, and whether the best is known.
//!
//! A bandit gives most calls to who seems best, so plain means of its arms flatter some and wrong others. Effects are told
//! by overlap scores, which weigh every unit by the chance it had: against the baseline that of the pair, between any
//! two arms that of all arms together. The best arm is known when little could be gained by any other, when the interval
//! of its effect against each of them leaves no room for the least effect of interest, and, where it is not the baseline,
//! when it is better than the baseline for certain. All of it may be looked at after every reward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::Known;
use super::{Shares, policy};
use crate::config::{Arm as Of, Bandit, Test};
use crate::evidence::{ArmGain, Gain, Moments, Rewards};
use crate::stats::best_arm::{Law, value_remaining, within};
use crate::stats::contrast::{self, Contrast};
use crate::stats::mixture::TwoSided;
use crate::strategy::Out;
use crate::strategy::ab::metric::{Rule, Score, name, scale};
use crate::strategy::course::Learnt;
use crate::strategy::guards::{Evidence as Guards, Terms};
use crate::verdict::{Aim, Estimate, Finding, Interval, Verdict};

/// Chance that a guard ever fails an arm that is within its margins, over all guards of that arm.
const HARM: f64 = 0.01;
/// Values at which an effect's interval is sharpest.
const UNITS: f64 = 5000.0;
/// The least information on which an effect between two arms decides.
const LEAST: f64 = 40.0;
/// And the least variance, where values are 0 or 1.
const LEAST_VARIANCE: f64 = 10.0;
/// How sure it must be that little could be gained.
const SURE: f64 = 0.95;
/// A stretch of latency goes on while its odds stay within this factor: calls beyond it are left out by chance.
const STRETCH: f64 = 4.0;

/// Everything that is remembered of all arms but what is learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// By arm; the baseline's stays empty.
    arms: Vec<Against>,
    /// By which arms were open, a bit each, then by arm.
    contrasts: BTreeMap<u8, Vec<contrast::Arm>>,
}

/// One arm beside the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Against {
    guards: Guards,
    score: Score,
    /// The share that its latency is compared at.
    latency: f64,
}

/// What is known of the best arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Best {
    pub(super) arm: usize,
    /// Of itself, with a probability of 95 %.
    pub(super) remaining: f64,
}

/// What may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This arm is the best.
    Winner(usize),
    /// None is better than the baseline by more than the least effect of interest.
    Equal,
}

impl Evidence {
    pub(super) fn new(bandit: &Bandit, now: Duration) -> Self {
        let against = |_: &Of| Against {
            guards: Guards::new(&bandit.guards, now),
            score: Score::default(),
            latency: 0.0,
        };
        Evidence { arms: bandit.arms.iter().map(against).collect(), contrasts: BTreeMap::new() }
    }

    /// Adds what calls showed that were given by these shares; `late`: they are not any more.
    pub(super) fn absorb(
        &mut self,
        bandit: &Bandit,
        (shares, late): (&Shares, bool),
        gain: &Gain,
        now: Duration,
    ) {
        let control = shares.get(bandit.control());
        for (arm, (of, against)) in bandit.arms.iter().zip(&mut self.arms).enumerate() {
            let treated = shares.get(arm);
            if of.variant == bandit.baseline || treated <= 0.0 || control <= 0.0 {
                continue;
            }
            let share = treated / (treated + control);
            let odds = |share: f64| share / (1.0 - share);
            let apart = odds(share) / odds(against.latency.clamp(1e-9, 1.0 - 1e-9));
            if !(1.0 / STRETCH..=STRETCH).contains(&apart) {
                against.latency = share;
            }
            let [slow, treated] = thinned(gain, (bandit.baseline, of.variant), share, against.latency);
            let latency = (against.latency, [&slow[..], &treated[..]]);
            against.guards.add_at(&terms(bandit, of), share, late, gain, latency, now);
        }
    }

    /// Adds what feedback showed; whether anything asks for it.
    pub(super) fn learn(&mut self, bandit: &Bandit, learnt: &Learnt<'_>) -> bool {
        let reward = *bandit.reward.name == *learnt.feedback;
        let mut asked = reward;
        for (of, against) in bandit.arms.iter().zip(&mut self.arms) {
            let Some(scores) = learnt.variants.get(of.variant) else { continue };
            for (index, guard) in bandit.guards.feedback.iter().enumerate() {
                if *guard.name == *learnt.feedback {
                    against.guards.add_feedback(index, scores);
                    asked = true;
                }
            }
            if reward {
                against.score.add(scores);
            }
        }
        if let (true, Some(rewards)) = (reward, learnt.rewards) {
            self.compare(rewards);
        }
        asked
    }

    fn compare(&mut self, rewards: &Rewards) {
        for (open, more) in &rewards.contrasts {
            let known = self.contrasts.entry(*open).or_default();
            known.resize_with(known.len().max(more.len()), contrast::Arm::default);
            known.iter_mut().zip(more).for_each(|(known, more)| *known += more);
        }
    }

    /// Weighs what is too costly to weigh at every call.
    pub(super) fn weigh(&mut self, bandit: &Bandit, now: Duration) {
        for (of, against) in bandit.arms.iter().zip(&mut self.arms) {
            against.guards.weigh(&terms(bandit, of), now);
        }
    }

    /// The first arm, not out yet, that fails a guard.
    pub(super) fn failing(&self, bandit: &Bandit, out: Out) -> Option<usize> {
        let mut each = bandit.arms.iter().zip(&self.arms).enumerate();
        let fails = |of: &Of, against: &Against| against.guards.fails(&terms(bandit, of));
        each.find(|(_, (of, against))| {
            of.variant != bandit.baseline && !out.has(of.variant) && fails(of, against)
        })
        .map(|(arm, _)| arm)
    }

    /// S, V and I of one arm against another, over all units that could have had either.
    fn contrast(&self, one: usize, other: usize) -> (Contrast, f64) {
        let bit = |arm: usize| 1_u8.checked_shl(arm as u32).unwrap_or(0);
        let both = bit(one) | bit(other);
        let mut sum = Contrast { score: 0.0, variance: 0.0, enough_buckets: false };
        let mut information = 0.0;
        for arms in self.contrasts.iter().filter(|(open, _)| **open & both == both).map(|(_, arms)| arms) {
            let (Some(first), Some(second)) = (arms.get(one), arms.get(other)) else { continue };
            let part = first.against(second);
            sum.score += part.score;
            sum.variance += part.variance;
            sum.enough_buckets |= part.enough_buckets;
            information += arms.iter().map(contrast::Arm::information).sum::<f64>();
        }
        (sum, information)
    }

    /// How much better one arm is than another, where more is better: the interval for all time. None: too little is known.
    pub(super) fn effect(
        &self,
        bandit: &Bandit,
        (one, other): (usize, usize),
        values: f64,
    ) -> Option<Interval> {
        let (sum, information) = self.contrast(one, other);
        let least = if bandit.reward.binary { LEAST_VARIANCE } else { f64::MIN_POSITIVE };
        if information < LEAST || sum.variance < least || !sum.enough_buckets {
            return None;
        }
        let alpha = bandit.alpha / (bandit.arms.len() - 1).max(1) as f64;
        let usual = sum.variance * UNITS / values.max(1.0);
        let half = TwoSided::new(usual, alpha).bound(sum.variance, alpha) / information;
        let sign = if bandit.metric.lower_is_better { -1.0 } else { 1.0 };
        let middle = sign * sum.score / information;
        Some(Interval { low: middle - half, middle, high: middle + half })
    }

    /// The arm that seems best, and how much better another could be; none: too little is known.
    pub(super) fn best(bandit: &Bandit, current: &[Moments], out: Out) -> Option<Best> {
        let (arm, laws, place) = Self::seeming(bandit, current, out)?;
        Some(Best { arm, remaining: value_remaining(&laws, place, SURE) })
    }

    /// The arm that seems best, what is believed of all that are not out, and its place there.
    fn seeming(bandit: &Bandit, current: &[Moments], out: Out) -> Option<(usize, Vec<Law>, usize)> {
        let laws = policy::laws(&bandit.reward, current)?;
        let open: Vec<usize> = (0..laws.len()).filter(|arm| !out.has(bandit.arms[*arm].variant)).collect();
        let laws: Vec<Law> = open.iter().map(|arm| laws[*arm]).collect();
        let place = (0..laws.len()).max_by(|one, other| laws[*one].mean().total_cmp(&laws[*other].mean()))?;
        Some((*open.get(place)?, laws, place))
    }

    /// Whether it can end, and how.
    pub(super) fn outcome(
        &self,
        bandit: &Bandit,
        known: &Known,
        current: &[Moments],
        out: Out,
    ) -> Option<Outcome> {
        let stop = bandit.stop.as_ref()?;
        let ever: Vec<f64> = known.ever().collect();
        let open = |arm: usize| !out.has(bandit.arms[arm].variant);
        let arms: Vec<usize> = (0..bandit.arms.len()).filter(|arm| open(*arm)).collect();
        if arms.iter().any(|arm| ever.get(*arm).is_none_or(|n| *n < bandit.min_units as f64)) {
            return None;
        }
        let (best, laws, place) = Self::seeming(bandit, current, out)?;
        if within(&laws, place, stop.value_remaining) < SURE {
            return None;
        }
        let control = bandit.control();
        let least = self.least(bandit);
        let values = |one: usize, other: usize| ever[one] + ever[other];
        for rival in arms.iter().copied().filter(|arm| *arm != best) {
            let effect = self.effect(bandit, (best, rival), values(best, rival))?;
            if effect.low <= -least {
                return None;
            }
        }
        let others = || arms.iter().copied().filter(|arm| *arm != control);
        let beside = |arm: usize| self.effect(bandit, (arm, control), values(arm, control));
        let won = match best == control {
            true => others().all(|arm| beside(arm).is_some_and(|effect| effect.high < 0.0)),
            false => beside(best).is_some_and(|effect| effect.low > 0.0),
        };
        if won {
            return Some(Outcome::Winner(best));
        }
        let equal = others().all(|arm| beside(arm).is_some_and(|effect| effect.high < least));
        equal.then_some(Outcome::Equal)
    }

    /// The least effect of interest, in the reward's own unit.
    pub(super) fn least(&self, bandit: &Bandit) -> f64 {
        let mean = self.arms.iter().find_map(|against| against.score.estimates(&bandit.metric).0.value);
        let margin = bandit.metric.least;
        margin.absolute.max(margin.relative * mean.unwrap_or(0.0).abs())
    }

    /// What is found of each arm: its reward beside the baseline's, then its guards.
    pub(super) fn findings(&self, bandit: &Bandit, known: &Known) -> Vec<Finding> {
        let alpha = bandit.alpha / (bandit.arms.len() - 1).max(1) as f64;
        let rule = Rule { metric: &bandit.metric, test: Test::Overlap, alpha, min_units: bandit.min_units };
        let mut findings = Vec::new();
        for (arm, (of, against)) in bandit.arms.iter().zip(&self.arms).enumerate() {
            if of.variant == bandit.baseline {
                continue;
            }
            let values: f64 =
                [arm, bandit.control()].into_iter().filter_map(|arm| known.ever().nth(arm)).sum();
            let better = self.effect(bandit, (arm, bandit.control()), values);
            findings.push(of_reward(bandit, &rule, (of, arm), (&against.score, better), known));
            let guards = against.guards.findings(&terms(bandit, of)).into_iter();
            findings.extend(guards.map(|found| Finding { variant: Arc::clone(&of.name), ..found }));
        }
        findings
    }
}

/// Means by what the chances of each call were, not plain ones; their difference by the overlap score.
fn of_reward(
    bandit: &Bandit,
    rule: &Rule<'_>,
    (of, arm): (&Of, usize),
    (score, better): (&Score, Option<Interval>),
    known: &Known,
) -> Finding {
    let mean = |arm: usize| {
        let offered = known.offered(arm);
        Estimate {
            n: offered.map_or(0, |offered| offered.rounds()),
            value: offered.and_then(|offered| offered.snips()).map(|snips| snips.value),
        }
    };
    // By the very interval that ends it. An arm that earns less is no failure: it is given less.
    let margin = score.margin(&bandit.metric);
    let verdict = match better {
        Some(better) if better.low > 0.0 => Verdict::Pass,
        Some(better) if better.low > -margin && better.high < margin => Verdict::Equivalent,
        _ => Verdict::NotEnoughData,
    };
    Finding {
        guard: Arc::from(name(&bandit.metric.source)),
        aim: Aim::Success,
        variant: Arc::clone(&of.name),
        verdict,
        baseline: mean(bandit.control()),
        candidate: mean(arm),
        harm: better.map(|better| Interval { low: -better.high, middle: -better.middle, high: -better.low }),
        margin,
        scale: scale(&bandit.metric.source),
        ln_e: score.ln_effect(rule),
        threshold: -rule.alpha.ln(),
        missing: 0,
    }
}

/// The terms of an arm's guards.
fn terms<'a>(bandit: &'a Bandit, of: &Of) -> Terms<'a> {
    Terms {
        guards: &bandit.guards,
        baseline: bandit.baseline,
        candidate: of.variant,
        warmup: bandit.warmup,
        alpha: HARM,
        on_fail: bandit.on_fail,
    }
}

/// Latencies of (baseline, arm) at the share `wanted`, where calls were split at `share`: of the side that has too many
/// each is kept with the probability that makes it so. Both then met the same times in the same proportion, whatever
/// became of the share. Which are kept hangs on nothing but their count and place, so it is the same in every run.
fn thinned(gain: &Gain, (baseline, arm): (usize, usize), share: f64, wanted: f64) -> [Vec<(u16, u32)>; 2] {
    let odds = |share: f64| share / (1.0 - share);
    let keep = odds(wanted) / odds(share);
    let of = |variant: usize, keep: f64| -> Vec<(u16, u32)> {
        let empty = ArmGain::default();
        let latency = &gain.arms.get(variant).unwrap_or(&empty).latency;
        let each = latency.iter().map(|(bucket, count)| (*bucket, kept(gain.epoch, *bucket, *count, keep)));
        each.filter(|(_, count)| *count > 0).collect()
    };
    [of(baseline, (1.0 / keep).min(1.0)), of(arm, keep.min(1.0))]
}

/// How many of `count` are kept.
fn kept(epoch: u32, bucket: u16, count: u32, keep: f64) -> u32 {
    if keep >= 1.0 {
        return count;
    }
    let line = (keep * f64::from(u32::MAX)) as u32;
    let draw = |place: u32| {
        crate::stats::hash::murmur3_x86_32(
            epoch,
            &[&bucket.to_le_bytes(), &count.to_le_bytes(), &place.to_le_bytes()],
        )
    };
    (0..count).filter(|place| draw(*place) < line).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_makes_the_share_the_wanted_one() {
        let arm = |count: u32| ArmGain { latency: vec![(300, count)], ..ArmGain::default() };
        let gain = Gain { epoch: 3, segment: None, arms: vec![arm(5_000), arm(5_000)] };
        let [baseline, treated] = thinned(&gain, (0, 1), 0.5, 0.2);
        assert_eq!(baseline, [(300, 5_000)]);
        assert!((1_100..1_400).contains(&treated[0].1), "{treated:?}");
        let [baseline, treated] = thinned(&gain, (0, 1), 0.5, 0.5);
        assert_eq!((baseline[0].1, treated[0].1), (5_000, 5_000));
        let [baseline, treated] = thinned(&gain, (0, 1), 0.2, 0.5);
        assert_eq!(treated[0].1, 5_000);
        assert!((1_100..1_400).contains(&baseline[0].1), "{baseline:?}");
    }
}
