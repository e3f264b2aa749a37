//! A distribution that was kept, and values that are held against it.
//!
//! What was kept is a sample too, so it is no law that others could be measured by. Values of it are drawn without
//! putting back, as many before each new value as a fair coin says: then whose value comes next is a toss that knows
//! nothing of the values, and the evidence is the one of two sides with half of all each. It ends when all that was kept
//! is drawn; the distances go on.

use serde::{Deserialize, Serialize};

use super::{Bins, Drifted, Values};
use crate::stats::bins;

/// A distribution that was kept, to hold others against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Labels that have a bin of their own, sorted, before the last one; none of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Box<str>>>,
    /// Numbers between the bins, growing; none of labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<Vec<f64>>,
    /// Values in each bin: one more than labels, two more than edges.
    pub counts: Vec<u64>,
}

impl Reference {
    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let bins = match (&self.labels, &self.edges) {
            (Some(labels), None) if labels.windows(2).all(|pair| pair[0] < pair[1]) => labels.len() + 1,
            (Some(_), None) => return Some("its labels are not sorted"),
            (None, Some(edges)) if edges.windows(2).all(|pair| pair[0] < pair[1]) => edges.len() + 2,
            (None, Some(_)) => return Some("its edges do not grow"),
            _ => return Some("it must have either labels or edges"),
        };
        if self.counts.len() != bins {
            return Some("it has another number of counts than of bins");
        }
        (self.counts.iter().sum::<u64>() == 0).then_some("it counts nothing")
    }

    /// How many values it has.
    pub fn values(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A drift that is held against this: the served side is what was kept.
    pub fn begin(&self) -> Against {
        let bins = match (&self.labels, &self.edges) {
            (Some(labels), _) => Bins::Labels(labels.clone()),
            (None, Some(edges)) => Bins::Edges(edges.clone()),
            (None, None) => Bins::Labels(Vec::new()),
        };
        let none = vec![0; self.counts.len()];
        let (left, kept) = (self.counts.clone(), self.counts.clone());
        Against { bins, kept, left, drawn: none.clone(), beside: none.clone(), seen: none }
    }
}

/// Values that are held against a distribution that was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    bins: Bins,
    kept: Vec<u64>,
    /// What of it was not drawn yet, and what was.
    left: Vec<u64>,
    drawn: Vec<u64>,
    /// Values that came while there was something left.
    beside: Vec<u64>,
    seen: Vec<u64>,
}

impl Against {
    /// Counts values; each draw is 64 fair bits.
    pub fn add(&mut self, values: &Values, mut draw: impl FnMut() -> u64) {
        let last = self.kept.len().saturating_sub(1);
        let Against { bins, left, drawn, beside, seen, .. } = self;
        bins.place(values, |bin| {
            let bin = bin.min(last);
            seen[bin] += 1;
            // Tosses until one says that it is the new value's turn.
            for _ in 0..draw().trailing_ones() {
                if !take(left, drawn, draw()) {
                    return;
                }
            }
            if left.iter().any(|count| *count > 0) {
                beside[bin] += 1;
            }
        });
    }

    /// Begins anew, with all that was kept.
    pub fn renew(&mut self) {
        self.left.clone_from(&self.kept);
        for counts in [&mut self.drawn, &mut self.beside, &mut self.seen] {
            counts.fill(0);
        }
    }

    /// ln E against "they are distributed as what was kept".
    pub fn ln_e(&self) -> f64 {
        bins::ln_e(&self.beside, &self.drawn, 0.5)
    }

    /// What they show; none before there are any.
    pub fn report(&self) -> Option<Drifted> {
        Some(Drifted { ln_e: self.ln_e(), ..self.bins.distances(&self.kept, &self.seen)? })
    }
}

/// Takes one of what is left, by the draw; false where nothing is.
fn take(left: &mut [u64], drawn: &mut [u64], draw: u64) -> bool {
    let all: u64 = left.iter().sum();
    let Some(mut at) = draw.checked_rem(all) else { return false };
    for (left, drawn) in left.iter_mut().zip(drawn) {
        if at < *left {
            *left -= 1;
            *drawn += 1;
            return true;
        }
        at -= *left;
    }
    false
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, RngExt as _, SeedableRng as _};

    use super::super::{Drift, Side};
    use super::*;

    fn kept(seed: u64, count: usize) -> Reference {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut values = |count| Values::Numbers((0..count).map(|_| chance.random::<f64>()).collect());
        let mut drift = Drift::default();
        drift.add(Side::Base, 0.5, &values(500));
        drift.add(Side::Base, 0.5, &values(count));
        drift.reference().unwrap()
    }

    /// ln E at its highest, and how many values it took to be beyond `enough`.
    fn told(seed: u64, change: impl Fn(f64) -> f64, (most, enough): (u64, f64)) -> Option<u64> {
        let mut against = kept(seed, 10_000).begin();
        let (mut chance, mut tosses) = (SmallRng::seed_from_u64(seed + 1), SmallRng::seed_from_u64(seed + 2));
        (1..=most).find(|_| {
            let value = Values::Numbers(vec![change(chance.random::<f64>())]);
            against.add(&value, || tosses.next_u64());
            against.ln_e() >= enough
        })
    }

    #[test]
    fn it_is_written_and_read_and_a_broken_one_is_named() {
        let kept = kept(1, 1_000);
        let text = serde_json::to_string(&kept).unwrap();
        let read: Reference = serde_json::from_str(&text).unwrap();
        assert_eq!((read.problem(), read.values(), &read), (None, 1_000, &kept));
        assert_eq!(kept.begin().report(), None);
        let broken = Reference { counts: vec![1], ..kept.clone() };
        assert!(broken.problem().is_some());
        assert!(Reference { labels: Some(Vec::new()), ..kept }.problem().is_some());
        let labels = |labels: &[&str]| Reference {
            labels: Some(labels.iter().map(|label| (*label).into()).collect()),
            edges: None,
            counts: vec![1; labels.len() + 1],
        };
        assert_eq!(labels(&["a", "b"]).problem(), None);
        assert!(labels(&["b", "a"]).problem().is_some(), "they are looked up by halves");
    }

    #[test]
    fn what_moved_is_found_and_what_did_not_is_seldom_accused() {
        let found = (0..20).filter_map(|seed| told(seed, |x| x * x, (1_000, 100.0_f64.ln()))).count();
        assert_eq!(found, 20);
        let wrong = (100..220).filter(|seed| told(*seed, |x| x, (1_000, 20.0_f64.ln())).is_some()).count();
        assert!(wrong <= 12, "{wrong} of 120 at 5 %");
    }

    #[test]
    fn when_all_of_it_is_drawn_the_evidence_rests_and_the_distances_go_on() {
        let mut against = kept(1, 50).begin();
        let mut chance = SmallRng::seed_from_u64(9);
        let mut add = |against: &mut Against, count| {
            let values = Values::Numbers(vec![0.99; count]);
            against.add(&values, || chance.next_u64());
            against.report().unwrap()
        };
        let first = add(&mut against, 500);
        assert_eq!(against.left.iter().sum::<u64>(), 0);
        let later = add(&mut against, 500);
        assert_eq!((first.ln_e, first.candidate, later.candidate), (later.ln_e, 500, 1_000));
        against.renew();
        assert_eq!(against, kept(1, 50).begin());
    }
}
