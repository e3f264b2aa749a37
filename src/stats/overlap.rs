//! The effect of a treatment, right while the split changes: the overlap-weighted score.
//!
//! Per unit with its reward Y: D = (A − π)(Y − μ), where A says whether it got the treatment, π is the probability it
//! had to get it, and μ a prediction made before Y was known. S = ΣD, V = ΣD², I = Σπ(1 − π); the effect is S / I,
//! the average over units weighted by how open their assignment was. A unit whose arm was certain (π of 0 or 1)
//! weighs nothing, so ramps, pauses and drift bias nothing. μ may be anything known before: a good one makes V small.
//! Units that come back are no independent observations: then V is taken over 256 buckets of units.
//! Everything adds up in any order. Kin: Ham, Bojinov, Lindon, Tingley, "Design-based confidence sequences" (2023).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::stats::mixture::{OneSided, TwoSided};

/// How many buckets the units of a clustered metric fall into.
pub const BUCKETS: usize = 256;
/// The least variance, and the least number of buckets in use, at which the normal approximation may decide.
const LEAST_VARIANCE: f64 = 10.0;
const LEAST_BUCKETS: usize = 64;

/// One unit's reward, with what is needed to weigh it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Whether the unit had the treatment; otherwise it had the control.
    pub treated: bool,
    /// The probability of the treatment given that the unit has one of the two: p₁ / (p₀ + p₁).
    pub propensity: f64,
    /// The reward.
    pub reward: f64,
    /// The prediction of it, from earlier data alone.
    pub predicted: f64,
}

impl Observation {
    /// D: what it adds to the score.
    pub fn score(&self) -> f64 {
        (f64::from(u8::from(self.treated)) - self.propensity) * (self.reward - self.predicted)
    }

    /// π(1 − π): what it adds to the information.
    pub fn information(&self) -> f64 {
        self.propensity * (1.0 - self.propensity)
    }
}

/// The sums of one metric for one pair of arms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sums {
    score: f64,
    squares: f64,
    information: f64,
    /// The score per bucket of units; empty as long as no clustered unit was seen.
    buckets: Vec<f64>,
    /// Of the buckets, where they were last added to as a whole; they are asked for many times at each look.
    #[serde(skip)]
    spread: Option<Spread>,
}

/// What the buckets come to.
#[derive(Debug, Clone, Copy)]
struct Spread {
    /// B/(B − 1) Σ(S_b − mean)².
    variance: f64,
    /// How many are not 0.
    used: usize,
}

/// Sums that are added at once, so that a processor can do it.
const LANES: usize = 8;

impl Spread {
    fn of(buckets: &[f64]) -> Self {
        let all = buckets.len() as f64;
        let mean = lanes(buckets, |value| value) / all;
        let squares = lanes(buckets, |value| (value - mean) * (value - mean));
        let used = lanes(buckets, |value| f64::from(u8::from(value != 0.0)));
        Spread { variance: squares * all / (all - 1.0), used: used as usize }
    }
}

/// The sum of what `of` makes of each value.
fn lanes(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (parts, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for part in parts {
        for lane in 0..LANES {
            sums[lane] += of(part[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| of(*value)).sum::<f64>()
}

impl PartialEq for Sums {
    fn eq(&self, other: &Self) -> bool {
        let sums = |sums: &Self| (sums.score, sums.squares, sums.information);
        sums(self) == sums(other) && self.buckets == other.buckets
    }
}

impl Sums {
    /// Adds a unit that is seen once.
    pub fn add(&mut self, observation: &Observation) {
        let score = observation.score();
        self.add_sums(score, score * score, observation.information());
    }

    /// Adds a unit that may come back, in its bucket (modulo [`BUCKETS`]).
    pub fn add_clustered(&mut self, observation: &Observation, bucket: u8) {
        self.add(observation);
        self.add_to_bucket(bucket, observation.score());
    }

    /// Adds sums gathered elsewhere: ΣD, ΣD² and ΣI.
    pub fn add_sums(&mut self, score: f64, squares: f64, information: f64) {
        self.score += score;
        self.squares += squares;
        self.information += information;
    }

    /// Adds ΣD of one bucket of units, which [`Self::add_sums`] is given as well.
    pub fn add_to_bucket(&mut self, bucket: u8, score: f64) {
        self.buckets.resize(BUCKETS, 0.0);
        self.spread = None;
        if let Some(sum) = self.buckets.get_mut(usize::from(bucket)) {
            *sum += score;
        }
    }

    /// S.
    pub fn score(&self) -> f64 {
        self.score
    }

    /// I.
    pub fn information(&self) -> f64 {
        self.information
    }

    /// ΣD², whether units are clustered or not.
    pub fn squares(&self) -> f64 {
        self.squares
    }

    /// V: ΣD², or B/(B − 1) Σ(S_b − mean)² over the buckets if units are clustered.
    pub fn variance(&self) -> f64 {
        if self.buckets.is_empty() {
            return self.squares;
        }
        self.spread().variance
    }

    fn spread(&self) -> Spread {
        self.spread.unwrap_or_else(|| Spread::of(&self.buckets))
    }

    /// Whether there is enough for a decision: V ≥ 10, and 64 buckets in use if units are clustered.
    pub fn may_decide(&self) -> bool {
        self.variance() >= LEAST_VARIANCE && self.enough_buckets()
    }

    /// Whether 64 buckets are in use, if units are clustered.
    pub fn enough_buckets(&self) -> bool {
        self.buckets.is_empty() || self.spread().used >= LEAST_BUCKETS
    }

    /// S / I; `None` as long as nobody's assignment was open.
    pub fn effect(&self) -> Option<f64> {
        (self.information > 0.0).then(|| self.score / self.information)
    }

    /// The confidence sequence of the effect at level 1 − α: valid at all times together.
    pub fn interval(&self, mixture: &TwoSided, alpha: f64) -> Option<(f64, f64)> {
        let half = mixture.bound(self.variance(), alpha) / self.information;
        self.effect().map(|effect| (effect - half, effect + half))
    }

    /// ln E against "no effect".
    pub fn ln_e_effect(&self, mixture: &TwoSided) -> f64 {
        mixture.ln_e(self.score, self.variance())
    }

    /// ln E against "the effect is −margin or less": large when the treatment is not worse by more than `margin`.
    pub fn ln_e_above(&self, margin: f64, mixture: &OneSided) -> f64 {
        mixture.ln_e(margin.mul_add(self.information, self.score), self.variance())
    }

    /// ln E against "the effect is margin or more": large when the treatment is not more by `margin`.
    pub fn ln_e_below(&self, margin: f64, mixture: &OneSided) -> f64 {
        mixture.ln_e(margin.mul_add(self.information, -self.score), self.variance())
    }
}

impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        self.add_sums(other.score, other.squares, other.information);
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
        }
        self.spread = (!self.buckets.is_empty()).then(|| Spread::of(&self.buckets));
    }
}

#[cfg(test)]
mod tests;
