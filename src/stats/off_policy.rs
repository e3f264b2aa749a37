//! What another policy would have earned, from what a logging policy did and how likely that was.
//!
//! A round is worth w = π(a)/p(a) of itself: π is the probability that the policy to be judged gives the action that was
//! taken, p the logged one. IPS is the mean of w·r (Horvitz & Thompson 1952). SNIPS is Σw·r / Σw: a little biased, far
//! less spread (Swaminathan & Joachims 2015). DM trusts a model q of rewards alone: the mean of Σₐ π(a)q(a). DR is the
//! model, corrected where there is data: the mean of Σₐ π(a)q(a) + w(r − q(a)), right if either is (Dudík, Langford & Li
//! 2011). The definitions are those of the Open Bandit Pipeline. Everything adds up in any order.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// One logged round as the policy to be judged sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// What came of the action that was taken.
    pub reward: f64,
    /// w: how likely the judged policy is to take it, over how likely the logging policy was; finite, 0 or more.
    pub weight: f64,
    /// q of the action that was taken; 0 where there is no model.
    pub predicted: f64,
    /// Σₐ π(a)q(a) over all actions; 0 where there is no model.
    pub expected: f64,
}

impl Round {
    /// A round without a model of rewards: `policy` is π(a), `logged` is p(a) of the action that was taken. `None` where
    /// p is not above 0 or a number is not finite: such a round cannot have been logged.
    pub fn new(reward: f64, policy: f64, logged: f64) -> Option<Self> {
        let weight = policy / logged;
        let sound = logged > 0.0 && policy >= 0.0 && weight.is_finite() && reward.is_finite();
        sound.then_some(Round { reward, weight, predicted: 0.0, expected: 0.0 })
    }

    /// The same with a model: `q` and `policy` by action, `action` is the one that was taken.
    #[must_use]
    pub fn modelled(self, action: usize, policy: &[f64], q: &[f64]) -> Self {
        let expected = policy.iter().zip(q).map(|(p, q)| p * q).sum();
        Round { predicted: q.get(action).copied().unwrap_or(0.0), expected, ..self }
    }
}

/// The sums that all estimates are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    rounds: u64,
    weights: f64,
    weights_squared: f64,
    earned: f64,
    earned_squared: f64,
    /// Σ w·(w·r): how weights and what they earn go together.
    crossed: f64,
    expected: f64,
    expected_squared: f64,
    corrected: f64,
    corrected_squared: f64,
}

/// A value per round, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// In the reward's own unit.
    pub value: f64,
    /// Of that value; 0 from a single round.
    pub error: f64,
}

impl Sums {
    /// Adds a round.
    pub fn add(&mut self, round: &Round) {
        let Round { reward, weight, predicted, expected } = *round;
        let earned = weight * reward;
        let corrected = expected + weight * (reward - predicted);
        self.rounds += 1;
        self.weights += weight;
        self.weights_squared += weight * weight;
        self.earned += earned;
        self.earned_squared += earned * earned;
        self.crossed += weight * earned;
        self.expected += expected;
        self.expected_squared += expected * expected;
        self.corrected += corrected;
        self.corrected_squared += corrected * corrected;
    }

    /// Adds `n` rounds of one weight without a model, whose rewards sum to `sum` and their squares to `squares`.
    pub fn add_alike(&mut self, weight: f64, n: u64, sum: f64, squares: f64) {
        let (count, square) = (n as f64, weight * weight);
        self.rounds += n;
        self.weights += weight * count;
        self.weights_squared += square * count;
        self.earned += weight * sum;
        self.earned_squared += square * squares;
        self.crossed += square * sum;
        self.corrected += weight * sum;
        self.corrected_squared += square * squares;
    }

    /// Puts `after` in the place of a round that was added before; of none, adds it.
    pub fn replace(&mut self, before: Option<&Round>, after: &Round) {
        if let Some(before) = before {
            let mut old = Sums::default();
            old.add(before);
            *self += &Sums { rounds: 0, ..old.times(-1.0, -1.0) };
            self.rounds = self.rounds.saturating_sub(1);
        }
        self.add(after);
    }

    /// The same rounds by a policy that takes the action so many times as often. Only without a model.
    #[must_use]
    pub fn scaled(&self, by: f64) -> Self {
        self.times(by, by * by)
    }

    fn times(&self, once: f64, twice: f64) -> Self {
        Sums {
            rounds: self.rounds,
            weights: self.weights * once,
            weights_squared: self.weights_squared * twice,
            earned: self.earned * once,
            earned_squared: self.earned_squared * twice,
            crossed: self.crossed * twice,
            expected: self.expected * once,
            expected_squared: self.expected_squared * twice,
            corrected: self.corrected * once,
            corrected_squared: self.corrected_squared * twice,
        }
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// (Σw)²/Σw²: as many rounds of the judged policy itself would tell as much.
    pub fn effective_rounds(&self) -> f64 {
        if self.weights_squared > 0.0 { self.weights * self.weights / self.weights_squared } else { 0.0 }
    }

    /// The mean of w; 1 but for chance, where the logged probabilities are true and no action of the policy is missing.
    pub fn mean_weight(&self) -> Option<f64> {
        (self.rounds > 0).then(|| self.weights / self.rounds as f64)
    }

    /// Inverse propensity score: the mean of w·r. `None` without rounds.
    pub fn ips(&self) -> Option<Estimate> {
        self.mean(self.earned, self.earned_squared)
    }

    /// Self-normalised: Σw·r / Σw, its error by the delta method. `None` while all weights are 0.
    pub fn snips(&self) -> Option<Estimate> {
        if self.weights <= 0.0 {
            return None;
        }
        let value = self.earned / self.weights;
        // Σ w²(r − value)².
        let spread = self.earned_squared - 2.0 * value * self.crossed + value * value * self.weights_squared;
        Some(Estimate { value, error: spread.max(0.0).sqrt() / self.weights })
    }

    /// Direct method: what the model alone expects. `None` without rounds.
    pub fn dm(&self) -> Option<Estimate> {
        self.mean(self.expected, self.expected_squared)
    }

    /// Doubly robust. Without a model it is [`Self::ips`]. `None` without rounds.
    pub fn dr(&self) -> Option<Estimate> {
        self.mean(self.corrected, self.corrected_squared)
    }

    fn mean(&self, sum: f64, squares: f64) -> Option<Estimate> {
        let n = self.rounds as f64;
        (self.rounds > 0).then(|| {
            let value = sum / n;
            let spread = (squares / n - value * value).max(0.0);
            Estimate { value, error: (spread / (n - 1.0).max(1.0)).sqrt() }
        })
    }
}

impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        self.rounds += other.rounds;
        for (sum, more) in [
            (&mut self.weights, other.weights),
            (&mut self.weights_squared, other.weights_squared),
            (&mut self.earned, other.earned),
            (&mut self.earned_squared, other.earned_squared),
            (&mut self.crossed, other.crossed),
            (&mut self.expected, other.expected),
            (&mut self.expected_squared, other.expected_squared),
            (&mut self.corrected, other.corrected),
            (&mut self.corrected_squared, other.corrected_squared),
        ] {
            *sum += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, counts, numbers};

    fn rounds(case: &Case) -> Vec<Round> {
        let (policy, q) = (numbers(&case.input()["pi"]), numbers(&case.input()["q_hat"]));
        let (rewards, logged) = (numbers(&case.input()["reward"]), numbers(&case.input()["pscore"]));
        let actions = counts(&case.input()["action"]);
        let each = rewards.into_iter().zip(logged).zip(actions);
        each.map(|((reward, logged), action)| {
            let action = action as usize;
            Round::new(reward, policy[action], logged).unwrap().modelled(action, &policy, &q)
        })
        .collect()
    }

    #[test]
    fn published_values() {
        let case = Case::named("ope_ips_snips_dr");
        let mut sums = Sums::default();
        rounds(&case).iter().for_each(|round| sums.add(round));
        let want = case.expected();
        case.check(sums.ips().unwrap().value, &want["ips"]);
        case.check(sums.snips().unwrap().value, &want["snips"]);
        case.check(sums.dr().unwrap().value, &want["dr"]);
        // By hand: 0.6 · 0.6 + 0.1 · 0.3 + 0.3 · 0.4 whatever was done.
        assert!((sums.dm().unwrap().value - 0.51).abs() < 1e-12 && sums.dm().unwrap().error < 1e-7);
        assert_eq!(sums.rounds(), 8);
    }

    #[test]
    fn parts_add_up_in_any_order() {
        let rounds = rounds(&Case::named("ope_ips_snips_dr"));
        let (mut whole, mut one, mut other) = (Sums::default(), Sums::default(), Sums::default());
        for (place, round) in rounds.iter().enumerate() {
            whole.add(round);
            (if place % 3 == 0 { &mut one } else { &mut other }).add(round);
        }
        other += &one;
        let near = |a: Option<Estimate>, b: Option<Estimate>| {
            let (a, b) = (a.unwrap(), b.unwrap());
            (a.value - b.value).abs() < 1e-12 && (a.error - b.error).abs() < 1e-7
        };
        assert!(near(whole.ips(), other.ips()) && near(whole.snips(), other.snips()));
        assert!(near(whole.dr(), other.dr()) && near(whole.dm(), other.dm()));
        assert!((whole.effective_rounds() - other.effective_rounds()).abs() < 1e-12);
    }

    #[test]
    fn rounds_alike_count_as_one_by_one() {
        let (mut each, mut alike) = (Sums::default(), Sums::default());
        for reward in [1.0, 0.0, 0.5, 1.0] {
            each.add(&Round::new(reward, 0.3, 0.6).unwrap());
        }
        alike.add_alike(0.5, 4, 2.5, 2.25);
        assert_eq!((each.ips(), each.snips(), each.dr()), (alike.ips(), alike.snips(), alike.dr()));
        assert_eq!(each.effective_rounds(), 4.0);
    }

    #[test]
    fn a_round_that_is_replaced_leaves_nothing_behind() {
        let round = |reward| Round::new(reward, 1.0, 0.25).unwrap();
        let (mut replaced, mut plain) = (Sums::default(), Sums::default());
        replaced.replace(None, &round(2.0));
        replaced.replace(Some(&round(2.0)), &round(3.0));
        plain.add(&round(3.0));
        assert_eq!(replaced, plain);
        let half = plain.scaled(0.5);
        assert_eq!(half.ips().map(|ips| ips.value), Some(6.0));
        assert_eq!((half.snips(), half.effective_rounds()), (plain.snips(), plain.effective_rounds()));
    }

    #[test]
    fn the_logging_policy_itself_is_worth_the_mean_with_its_error() {
        let mut sums = Sums::default();
        for reward in [1.0, 2.0, 3.0, 6.0] {
            sums.add(&Round::new(reward, 0.25, 0.25).unwrap());
        }
        // Standard deviation 2.16 over √4; the delta method divides by n where the other takes n − 1.
        let ips = sums.ips().unwrap();
        assert!((ips.value - 3.0).abs() < 1e-12 && (ips.error - (14.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        let snips = sums.snips().unwrap();
        assert!((snips.value - 3.0).abs() < 1e-12 && (snips.error - 14.0_f64.sqrt() / 4.0).abs() < 1e-12);
        assert_eq!(sums.mean_weight(), Some(1.0));
    }

    #[test]
    fn what_cannot_have_been_logged_is_no_round() {
        for (reward, policy, logged) in [
            (1.0, 0.5, 0.0),
            (1.0, 0.5, -0.1),
            (f64::NAN, 0.5, 0.5),
            (1.0, f64::INFINITY, 0.5),
            (1.0, -0.1, 0.5),
        ] {
            assert_eq!(Round::new(reward, policy, logged), None);
        }
        assert_eq!((Sums::default().ips(), Sums::default().snips()), (None, None));
    }
}
