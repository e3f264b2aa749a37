//! How an output is distributed on either side, whether or not its answers come in pairs.
//!
//! Each row gives one thing that is counted ([`values()`]): a label, the place of the largest score, or a number. The bins
//! are fixed by the first values of the served side, which count for nothing else: labels that came, or tenths of the
//! numbers. From then on both sides are counted in them, and [`crate::stats::bins`] says whether and how much they
//! differ. Where the share of a side changes, counts begin anew beside the old ones, and their evidence multiplies.
//! Instead of a served side there may be a distribution that was kept ([`mod@reference`]).

use serde::{Deserialize, Serialize};

use crate::stats::bins;

pub mod reference;
pub mod values;

pub use reference::{Against, Reference};
pub use values::{Values, values};

/// Values that fix the bins.
const FIRST: usize = 500;
/// Labels that have a bin of their own; others share one.
const LABELS: usize = 50;
/// Changes of the share that are kept apart; beyond it the oldest is forgotten.
const EPOCHS: usize = 16;

/// Whose values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is served, or was.
    Base,
    /// What is compared with it.
    Candidate,
}

/// What is counted of one output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    bins: Bins,
    epochs: Vec<Counts>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bins {
    /// The first values of either sort.
    First { labels: Vec<Box<str>>, numbers: Vec<f64> },
    /// Each label its own; others, and what is no label, in the last.
    Labels(Vec<Box<str>>),
    /// Between these numbers; what is no number in the last.
    Edges(Vec<f64>),
}

impl Default for Bins {
    fn default() -> Self {
        Bins::First { labels: Vec::new(), numbers: Vec::new() }
    }
}

/// Both sides while one had this share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counts {
    share: f64,
    base: Vec<u64>,
    candidate: Vec<u64>,
}

/// What the counts say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// ln E against "both are distributed the same".
    pub ln_e: f64,
    /// The population stability index, and what it seldom exceeds by chance.
    pub stability: f64,
    /// See [`bins::chance_stability`].
    pub by_chance: Option<f64>,
    /// The Jensen–Shannon distance to base 2, 0 to 1.
    pub jensen_shannon: f64,
    /// The Kolmogorov–Smirnov distance; none of labels.
    pub kolmogorov_smirnov: Option<f64>,
    /// Wasserstein-1 in the output's own unit; none of labels.
    pub wasserstein: Option<f64>,
    /// Values of the served side.
    pub base: u64,
    /// Of the candidate.
    pub candidate: u64,
}

impl Drift {
    /// Counts values of one side, which has `share` of all: 1/2 where each call has both.
    pub fn add(&mut self, side: Side, share: f64, values: &Values) {
        if let Bins::First { labels, numbers } = &mut self.bins {
            if side == Side::Base {
                match values {
                    Values::Labels(more) => labels.extend(more.iter().take(FIRST).cloned()),
                    // What is no number fixes nothing, and could not be written down.
                    Values::Numbers(more) => {
                        numbers.extend(more.iter().filter(|number| number.is_finite()).take(FIRST));
                    }
                }
                if labels.len().max(numbers.len()) >= FIRST {
                    self.bins = fixed(labels, numbers);
                }
            }
            return;
        }
        let all = self.bins.count();
        let known = self.epochs.iter().position(|counts| counts.share == share);
        let at = known.unwrap_or_else(|| {
            if self.epochs.len() >= EPOCHS {
                self.epochs.remove(0);
            }
            self.epochs.push(Counts { share, base: vec![0; all], candidate: vec![0; all] });
            self.epochs.len() - 1
        });
        let counts = &mut self.epochs[at];
        let counts = if side == Side::Base { &mut counts.base } else { &mut counts.candidate };
        self.bins.place(values, |bin| counts[bin.min(all - 1)] += 1);
    }

    /// ln E against "both are distributed the same".
    pub fn ln_e(&self) -> f64 {
        let split = self.epochs.iter().filter(|counts| counts.share > 0.0 && counts.share < 1.0);
        split.map(|counts| bins::ln_e(&counts.candidate, &counts.base, counts.share)).sum()
    }

    /// What both sides show; none before both were counted.
    pub fn report(&self) -> Option<Drifted> {
        let all = self.bins.count();
        let (mut base, mut candidate) = (vec![0; all], vec![0; all]);
        for counts in &self.epochs {
            base.iter_mut().zip(&counts.base).for_each(|(sum, more)| *sum += more);
            candidate.iter_mut().zip(&counts.candidate).for_each(|(sum, more)| *sum += more);
        }
        Some(Drifted { ln_e: self.ln_e(), ..self.bins.distances(&base, &candidate)? })
    }

    /// Begins to count anew, in the same bins.
    pub fn renew(&mut self) {
        self.epochs.clear();
    }

    /// The served side's counts, as a reference for later: bins and counts. None before there are any.
    pub fn reference(&self) -> Option<Reference> {
        let all = self.bins.count();
        let mut counts = vec![0; all];
        for epoch in &self.epochs {
            counts.iter_mut().zip(&epoch.base).for_each(|(sum, more)| *sum += more);
        }
        let (labels, edges) = match &self.bins {
            Bins::First { .. } => return None,
            Bins::Labels(labels) => (Some(labels.clone()), None),
            Bins::Edges(edges) => (None, Some(edges.clone())),
        };
        (counts.iter().sum::<u64>() > 0).then_some(Reference { labels, edges, counts })
    }
}

impl Bins {
    fn count(&self) -> usize {
        match self {
            Bins::First { .. } => 1,
            Bins::Labels(labels) => labels.len() + 1,
            Bins::Edges(edges) => edges.len() + 2,
        }
    }

    fn place(&self, values: &Values, mut add: impl FnMut(usize)) {
        match (self, values) {
            (Bins::Labels(known), Values::Labels(labels)) => {
                let of =
                    |label: &str| known.binary_search_by(|one| (**one).cmp(label)).unwrap_or(known.len());
                labels.iter().for_each(|label| add(of(label)));
            }
            (Bins::Edges(edges), Values::Numbers(numbers)) => {
                let of = |number: &f64| match number.is_nan() {
                    true => edges.len() + 1,
                    false => edges.partition_point(|edge| edge < number),
                };
                numbers.iter().for_each(|number| add(of(number)));
            }
            // An output of another sort than its bins has nothing in any of them.
            (_, Values::Labels(labels)) => labels.iter().for_each(|_| add(usize::MAX)),
            (_, Values::Numbers(numbers)) => numbers.iter().for_each(|_| add(usize::MAX)),
        }
    }

    /// Everything but the evidence; none where one side has nothing.
    fn distances(&self, base: &[u64], candidate: &[u64]) -> Option<Drifted> {
        let (p, q) = (bins::parts(base), bins::parts(candidate));
        if p.is_empty() || q.is_empty() {
            return None;
        }
        let (n, m) = (base.iter().sum(), candidate.iter().sum());
        let used = base.iter().zip(candidate).filter(|(one, other)| **one + **other > 0).count();
        let places = match self {
            Bins::Edges(edges) => Some(middles(edges)),
            _ => None,
        };
        Some(Drifted {
            ln_e: 0.0,
            stability: bins::stability(&q, &p),
            by_chance: Some(bins::chance_stability(used, n, m)).filter(|most| most.is_finite()),
            jensen_shannon: bins::jensen_shannon(&p, &q).sqrt(),
            kolmogorov_smirnov: places.as_ref().map(|_| bins::kolmogorov_smirnov(&p, &q)),
            wasserstein: places.map(|places| bins::wasserstein(&p, &q, &places)),
            base: n,
            candidate: m,
        })
    }
}

/// Bins of the first values.
fn fixed(labels: &[Box<str>], numbers: &[f64]) -> Bins {
    if labels.len() >= numbers.len() {
        let mut known = labels.to_vec();
        known.sort();
        let mut counted: Vec<(usize, Box<str>)> =
            known.chunk_by(|one, other| one == other).map(|same| (same.len(), same[0].clone())).collect();
        counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let mut known: Vec<Box<str>> = counted.into_iter().take(LABELS).map(|(_, label)| label).collect();
        known.sort();
        return Bins::Labels(known);
    }
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|number| number.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let tenth = |tenth: usize| sorted.get(tenth * sorted.len() / 10).copied();
    let mut edges: Vec<f64> = (1..10).filter_map(tenth).collect();
    // A number that comes often is the edge of several tenths.
    edges.dedup();
    Bins::Edges(edges)
}

/// Where the mass of each bin between `edges` lies: in its middle, at the edge of those without an end.
fn middles(edges: &[f64]) -> Vec<f64> {
    let (first, last) = (edges.first().copied().unwrap_or(0.0), edges.last().copied().unwrap_or(0.0));
    let inner = edges.windows(2).map(|pair| 0.5 * (pair[0] + pair[1]));
    // What is no number has no place: its bin is laid on the last.
    [first].into_iter().chain(inner).chain([last, last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: impl IntoIterator<Item = f64>) -> Values {
        Values::Numbers(values.into_iter().collect())
    }

    /// Numbers that fill 0 to 1 evenly.
    fn even(count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |at| f64::from(at * 7919 % count) / f64::from(count))
    }

    #[test]
    fn what_moves_is_seen_and_what_stays_is_not() {
        let mut drift = Drift::default();
        drift.add(Side::Candidate, 0.5, &numbers([3.0]));
        assert_eq!((drift.report(), drift.reference()), (None, None));
        drift.add(Side::Base, 0.5, &numbers(even(500)));
        for _ in 0..4 {
            drift.add(Side::Base, 0.5, &numbers(even(100)));
            drift.add(Side::Candidate, 0.5, &numbers(even(100)));
        }
        let same = drift.report().unwrap();
        assert!(same.ln_e < 0.0 && same.stability < 0.02 && (same.base, same.candidate) == (400, 400));
        for _ in 0..4 {
            drift.add(Side::Candidate, 0.25, &numbers(even(100).map(|x| 0.5 + x / 2.0)));
            drift.add(Side::Base, 0.25, &numbers(even(300)));
        }
        let moved = drift.report().unwrap();
        assert!(moved.ln_e > 20.0 && moved.stability > 0.1, "{moved:?}");
        assert!(moved.kolmogorov_smirnov.unwrap() > 0.15 && moved.wasserstein.unwrap() > 0.05);
    }

    #[test]
    fn labels_that_are_new_share_a_bin_and_no_number_has_its_own() {
        let labels = |text: &str, count| Values::Labels(vec![text.into(); count]);
        let mut drift = Drift::default();
        drift.add(Side::Base, 0.5, &labels("cat", 300));
        drift.add(Side::Base, 0.5, &labels("dog", 200));
        drift.add(Side::Base, 0.5, &labels("cat", 10));
        drift.add(Side::Candidate, 0.5, &labels("cow", 10));
        let found = drift.report().unwrap();
        assert_eq!((found.jensen_shannon, found.wasserstein), (1.0, None));
        let mut drift = Drift::default();
        drift.add(Side::Base, 0.5, &numbers(even(500)));
        drift.add(Side::Base, 0.5, &numbers(even(10)));
        drift.add(Side::Candidate, 0.5, &numbers([f64::NAN; 10]));
        assert_eq!(drift.report().unwrap().jensen_shannon, 1.0);
        // A text where numbers were is in no bin of theirs either.
        drift.add(Side::Candidate, 0.5, &labels("cow", 10));
        assert_eq!(drift.report().unwrap().candidate, 20);
    }
}
