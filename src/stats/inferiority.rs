//! Whether a candidate's error rate is good enough to go on.
//!
//! A candidate may go on when its error rate is shown to be below the baseline's plus the larger of an absolute and a
//! relative margin. That is a bet against "it is at or above": of each call Z = A·Y/w − (1 − A)·Y/(1 − w) is looked
//! at (A: to the candidate, by chance with probability w; Y: failed), whose mean is the difference of the two rates,
//! whatever they are at that moment. Against a difference of δ or more, Π(1 + λ(δ − Z)) is an e-process for each
//! λ ≥ 0 that keeps it positive; so is the mean of several. Against a relative margin r the same is done with
//! Z = A·Y/w − (1 + r)(1 − A)·Y/(1 − w) and δ = 0. Who breaks the larger margin breaks both, so bets against either
//! may share one purse. Since Z has three values, three counts are enough, and an outage of both arms, a drift or
//! no error at all need no approximation: a worse candidate passes with probability α at most.
//! Kin: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (2023).

use serde::{Deserialize, Serialize};

use crate::stats::special::{ln_add_exp, ln_normal_cdf, normal_cdf};

/// How far the highest bet goes: at 1 a single error of the candidate would end it.
const BOLDEST: f64 = 0.98;

/// Calls and errors of both arms while the split stayed the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Calls {
    /// Calls given to either arm by chance.
    pub all: u64,
    /// Errors of the candidate among them.
    pub candidate_errors: u64,
    /// Errors of the baseline among them.
    pub baseline_errors: u64,
}

impl std::ops::AddAssign<&Self> for Calls {
    fn add_assign(&mut self, other: &Self) {
        self.all += other.all;
        self.candidate_errors += other.candidate_errors;
        self.baseline_errors += other.baseline_errors;
    }
}

/// What a candidate's rate may be above the baseline's: the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// In errors per call, 0.001 for one more of a thousand.
    pub absolute: f64,
    /// In parts of the baseline's rate, 0.25 for a quarter more.
    pub relative: f64,
}

/// "The candidate's error rate is above the baseline's by the margin or more", at one share of the calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Inferiority {
    share: f64,
    bets: Vec<Bet>,
}

/// ln of the factors that a bet's money is multiplied by at a call.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bet {
    ln_weight: f64,
    fraction: f64,
    candidate_error: f64,
    baseline_error: f64,
    other: f64,
}

impl Bet {
    /// `fraction`: the part of the money that an error of the candidate costs.
    fn new(weight: f64, fraction: f64, share: f64, margin: Margin) -> Self {
        let stake = fraction * share;
        let factor = |z: f64| (stake * (margin.absolute - z)).ln_1p();
        Self {
            ln_weight: weight.ln(),
            fraction,
            candidate_error: factor(1.0 / share),
            baseline_error: factor(-(1.0 + margin.relative) / (1.0 - share)),
            other: factor(0.0),
        }
    }

    /// ln of its money.
    fn ln_e(&self, candidate_errors: f64, baseline_errors: f64, others: f64) -> f64 {
        self.ln_weight
            + candidate_errors * self.candidate_error
            + baseline_errors * self.baseline_error
            + others * self.other
    }
}

impl Inferiority {
    /// `share` in (0, 1): the part of these calls that chance gives to the candidate. Without a margin nothing can
    /// ever be shown, and E stays 1.
    pub fn new(share: f64, margin: Margin) -> Self {
        let comparable = share > 0.0 && share < 1.0;
        let mut bets = if comparable { Self::purse(share, margin) } else { Vec::new() };
        let spent: f64 = bets.iter().map(|bet| bet.ln_weight.exp()).sum();
        bets.iter_mut().for_each(|bet| bet.ln_weight -= spent.ln());
        Self { share, bets }
    }

    /// Bets that are best at some error rates of two equal arms. Above absolute / relative the relative margin is
    /// the larger one, and its best bet is the same at all rates. That a flawless candidate passes early gets the
    /// largest part.
    fn purse(share: f64, Margin { absolute, relative }: Margin) -> Vec<Bet> {
        let mut bets = Vec::new();
        if absolute > 0.0 {
            let turn = if relative > 0.0 { 1.0 / relative } else { 16.0 };
            for (weight, rate) in [(0.35, 0.0), (0.10, 0.3), (0.15, 1.0), (0.10, turn)] {
                let fraction = best_fraction(rate, share);
                bets.push(Bet::new(weight, fraction, share, Margin { absolute, relative: 0.0 }));
            }
        }
        if relative > 0.0 {
            let best = (1.0 - share) * relative / (1.0 + relative);
            for (weight, fraction) in [(0.25, best), (0.05, (2.5 * best).min(BOLDEST))] {
                bets.push(Bet::new(weight, fraction, share, Margin { absolute: 0.0, relative }));
            }
        }
        bets
    }

    /// ln E. At ln(1/α) and more the candidate is good enough, at level α.
    pub fn ln_e(&self, calls: &Calls) -> f64 {
        let errors = calls.candidate_errors + calls.baseline_errors;
        let others = calls.all.saturating_sub(errors) as f64;
        self.ln_mean(calls.candidate_errors as f64, calls.baseline_errors as f64, others)
    }

    fn ln_mean(&self, candidate_errors: f64, baseline_errors: f64, others: f64) -> f64 {
        if self.bets.is_empty() {
            return 0.0;
        }
        let each = self.bets.iter().map(|bet| bet.ln_e(candidate_errors, baseline_errors, others));
        each.fold(f64::NEG_INFINITY, ln_add_exp)
    }

    /// The upper confidence bound, at level 1 − α and at any time, of how much the candidate's rate is above the
    /// baseline's: between 0 and 1.
    pub fn upper_excess(&self, calls: &Calls, alpha: f64) -> f64 {
        let shown = |absolute: f64| {
            let margin = Margin { absolute, relative: 0.0 };
            // The bets stay as they are; only what they are held against moves.
            let moved = |bet: &Bet| Bet::new(bet.ln_weight.exp(), bet.fraction, self.share, margin);
            let bets = self.bets.iter().map(moved).collect();
            Self { share: self.share, bets }.ln_e(calls) >= -alpha.ln()
        };
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            *(if shown(middle) { &mut high } else { &mut low }) = middle;
        }
        high
    }

    /// How many calls of the candidate it takes, in the median, until it passes at level α when both arms fail at
    /// `rate`; `None` if it never does within 10^12.
    pub fn calls_needed(&self, rate: f64, alpha: f64) -> Option<u64> {
        let passes = |ln_calls: f64| {
            let errors = ln_calls.exp() * rate;
            let others = (ln_calls.exp() - errors) / self.share;
            self.ln_mean(errors, errors * (1.0 - self.share) / self.share, others) >= -alpha.ln()
        };
        let (mut low, mut high) = (0.0, f64::ln(1e12));
        if !passes(high) {
            return None;
        }
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            *(if passes(middle) { &mut high } else { &mut low }) = middle;
        }
        Some((high.exp() * self.median_over_mean(rate, high.exp())).ceil() as u64)
    }

    /// When half of the candidates have passed, over when one whose errors fall exactly as expected passes: who is
    /// lucky passes early. The money of the bet that is ahead then is a random walk with a drift.
    fn median_over_mean(&self, rate: f64, calls: f64) -> f64 {
        let candidate = rate;
        let baseline = rate * (1.0 - self.share) / self.share;
        let others = (1.0 - rate) / self.share;
        let ahead = |bet: &&Bet| bet.ln_e(calls * candidate, calls * baseline, calls * others);
        let Some(bet) = self.bets.iter().max_by(|one, other| ahead(one).total_cmp(&ahead(other))) else {
            return 1.0;
        };
        // Per call of the candidate.
        let drift = candidate * bet.candidate_error + baseline * bet.baseline_error + others * bet.other;
        let spread = candidate * bet.candidate_error.powi(2) + baseline * bet.baseline_error.powi(2);
        if spread == 0.0 { 1.0 } else { inverse_gaussian_median(drift * drift * calls / spread) }
    }
}

/// The median of the inverse Gaussian law of mean 1: the time a random walk with drift takes to its goal.
fn inverse_gaussian_median(shape: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let m = 0.5 * (low + high);
        let root = (shape / m).sqrt();
        let reached = normal_cdf(root * (m - 1.0)) + (2.0 * shape + ln_normal_cdf(-root * (m + 1.0))).exp();
        *(if reached < 0.5 { &mut low } else { &mut high }) = m;
    }
    high
}

/// The fraction whose money grows fastest when both arms fail at `rate` absolute margins per call: where the
/// derivative 1 + rate/(1 + f·w/(1 − w)) − rate/(1 − f) of its growth changes its sign.
fn best_fraction(rate: f64, share: f64) -> f64 {
    let odds = share / (1.0 - share);
    let (mut low, mut high) = (0.0, BOLDEST);
    for _ in 0..60 {
        let f = 0.5 * (low + high);
        let slope = 1.0 + rate / (1.0 + f * odds) - rate / (1.0 - f);
        *(if slope > 0.0 { &mut low } else { &mut high }) = f;
    }
    high
}

#[cfg(test)]
mod tests;
