//! Whether too many calls of the candidate fail: bets on every call, that pay when the margin is broken.
//!
//! Before each call chance gives it to the candidate with probability w. A bet with stake λ multiplies its capital by
//! 1 + λ(c/w − (1 + r)·b/(1 − w) − a), where c (b) is 1 when the call failed and was the candidate's (the
//! baseline's). As long as p_c ≤ p_b + a + r·p_b the factor's mean is at most 1, whatever the rates are at that
//! moment, so capital is an e-value: it holds at every look, through ramps, drift and outages that hit both. A margin
//! is the larger of its two parts, and their sum is never less: so no candidate within its margin is ever judged too
//! fast, at the price of a narrow strip in which one neither fails nor passes. Without `a` only failures count, and
//! this is the e-value on the candidate's share of all errors (Lindon & Malek 2022) with a law of a few points.
//!
//! Some capital is kept back and put in at later times, so that a regression after long good behaviour does not have
//! to win back first what the good time lost (mixture over restarts; e-detectors of Shin, Ramdas & Rinaldo 2024).
//! Bets with the signs turned prove the contrary: that the candidate is within its margin.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PASS, ln_sum};
use crate::config::Margin;
use crate::verdict::{Estimate, Interval};

/// How many times the largest rate allowed a failing candidate may have, and how much of the capital bets on each.
const RATIOS: [(f64, f64); 6] =
    [(1.5, 0.12), (2.0, 0.28), (3.0, 0.25), (5.0, 0.13), (10.0, 0.14), (40.0, 0.08)];
/// Stakes on "within the absolute margin", as parts of the largest that cannot ruin, and how much bets on each: the
/// lower the rates, the higher the best stake.
const STAKES: [(f64, f64); 8] = [
    (0.98, 0.25),
    (0.6, 0.2),
    (0.35, 0.15),
    (0.2, 0.12),
    (0.1, 0.1),
    (0.05, 0.08),
    (0.025, 0.06),
    (0.0125, 0.04),
];
/// How many times the baseline's rate a sound candidate may have, and how much of the capital bets on each.
const SOUND: [(f64, f64); 4] = [(1.0, 0.6), (0.85, 0.2), (0.6, 0.12), (0.25, 0.08)];
/// How much capital bets from the first call on; the rest is put in bit by bit.
const AT_FIRST: f64 = 0.8;
/// Shares that are told apart for the interval.
const SHARES: usize = 128;
/// After which time, or after how many failures, a bit more is put in.
const WINDOW: (Duration, u64) = (Duration::from_secs(60), 100);

/// Calls of one arm, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::strategy) struct Count {
    pub(in crate::strategy) calls: u64,
    pub(in crate::strategy) hits: u64,
}

/// What was seen while the candidate had one share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Seen {
    share: f64,
    candidate: Count,
    baseline: Count,
}

/// All that is remembered of one rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Rate {
    /// ln of the capital that bets against "no worse than allowed", by [`RATIOS`].
    worse: Vec<f64>,
    /// ln of the capital that bets against "worse than allowed", in the order of [`Bets`].
    sound: Vec<f64>,
    /// By share, for the interval.
    seen: Vec<Seen>,
    /// Times that capital was put in, when that was last, and failures since then.
    starts: u32,
    started: Duration,
    since: u64,
    #[serde(skip)]
    known: Known,
}

/// The odds at the last share, for they are asked for at every failure: against "no worse", then against "worse".
#[derive(Debug, Clone, Default)]
struct Known {
    share: f64,
    worse: Vec<Odds>,
    sound: Vec<Odds>,
}

/// What was worked out already is not part of what is remembered.
impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// ln of what one bet's capital is multiplied by.
#[derive(Debug, Clone, Copy)]
struct Odds {
    candidate_hit: f64,
    baseline_hit: f64,
    other: f64,
}

impl Rate {
    pub(in crate::strategy) fn new(margin: &Margin, now: Duration) -> Self {
        Rate {
            worse: RATIOS.iter().map(|(_, part)| (AT_FIRST * part).ln()).collect(),
            sound: Bets::new(margin, 0.5).bets.iter().map(|(capital, _)| *capital).collect(),
            seen: Vec::new(),
            starts: 0,
            started: now,
            since: 0,
            known: Known::default(),
        }
    }

    /// Adds calls that chance gave to the candidate with probability `share`, which is neither 0 nor 1.
    pub(in crate::strategy) fn add(
        &mut self,
        margin: &Margin,
        share: f64,
        candidate: Count,
        baseline: Count,
        now: Duration,
    ) {
        self.put_in(now);
        let seen = Seen { share, candidate, baseline };
        if self.known.share != share {
            self.known = Known::at(margin, share);
        }
        for (capital, odds) in self.worse.iter_mut().zip(&self.known.worse) {
            *capital += odds.gain(&seen);
        }
        for (capital, odds) in self.sound.iter_mut().zip(&self.known.sound) {
            *capital += odds.gain(&seen);
        }
        self.since += candidate.hits + baseline.hits;
        let (gap, full) = (|before: &Seen| (before.share - share).abs(), self.seen.len() >= SHARES);
        match self.seen.iter_mut().min_by(|one, other| gap(one).total_cmp(&gap(other))) {
            // Of many shares the nearest one is near enough for an interval; capital is exact at each.
            Some(nearest) if full || gap(nearest) == 0.0 => nearest.add(&seen),
            _ => self.seen.push(seen),
        }
    }

    /// Puts in 1/(j(j + 1)) of what was kept back, for the j-th window.
    fn put_in(&mut self, now: Duration) {
        if now.saturating_sub(self.started) < WINDOW.0 && self.since < WINDOW.1 {
            return;
        }
        self.starts = self.starts.saturating_add(1);
        (self.started, self.since) = (now, 0);
        let start = f64::from(self.starts);
        let bit = (1.0 - AT_FIRST) / (start * (start + 1.0));
        for (capital, (_, part)) in self.worse.iter_mut().zip(RATIOS) {
            *capital = ln_sum(vec![*capital, (bit * part).ln()]);
        }
    }

    /// ln of the evidence that the candidate is worse than allowed.
    pub(in crate::strategy) fn ln_worse(&self) -> f64 {
        ln_sum(self.worse.clone())
    }

    /// ln of the evidence that it is not.
    pub(in crate::strategy) fn ln_sound(&self) -> f64 {
        ln_sum(self.sound.clone())
    }

    /// Both arms: (baseline, candidate).
    pub(in crate::strategy) fn estimates(&self) -> (Estimate, Estimate) {
        let sum = |of: fn(&Seen) -> Count| {
            let all = self.seen.iter().map(of).fold(Count::default(), Count::plus);
            Estimate { n: all.calls, value: (all.calls > 0).then(|| all.hits as f64 / all.calls as f64) }
        };
        (sum(|seen| seen.baseline), sum(|seen| seen.candidate))
    }

    /// The difference of the two rates: one-sided intervals at `alpha` below and `beta` above, for all time.
    pub(in crate::strategy) fn harm(&self, alpha: f64, beta: f64) -> Option<Interval> {
        let middle = self.difference()?;
        let low = edge(-1.0, middle, |margin| self.ln_worse_than(margin) >= -alpha.ln());
        let high = edge(1.0, middle, |margin| self.ln_sound_within(margin) >= -beta.ln());
        Some(Interval { low, middle, high })
    }

    /// Candidate's rate less the baseline's, weighted by what each share tells, so that drift does not bias it.
    fn difference(&self) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for seen in self.seen.iter().filter(|seen| seen.candidate.calls > 0 && seen.baseline.calls > 0) {
            let tells = 1.0 / (1.0 / seen.candidate.calls as f64 + 1.0 / seen.baseline.calls as f64);
            sum += tells * (seen.candidate.rate() - seen.baseline.rate());
            weight += tells;
        }
        (weight > 0.0).then(|| sum / weight)
    }

    /// Calls of a candidate as good as the baseline that are still needed until "within the margin" is proven.
    pub(in crate::strategy) fn missing(&self, margin: &Margin, share: f64) -> u64 {
        let (baseline, candidate) = self.estimates();
        let hits = |one: Estimate| one.value.unwrap_or(0.0) * one.n as f64;
        let calls = (baseline.n + candidate.n).max(1);
        let rate = (hits(baseline) + hits(candidate)) / calls as f64;
        let mut bets = Bets::new(margin, if share > 0.0 { share } else { 0.5 });
        for ((capital, _), so_far) in bets.bets.iter_mut().zip(&self.sound) {
            *capital = *so_far;
        }
        bets.until(rate, -PASS.ln()).map_or(u64::MAX, |calls| calls.max(1))
    }

    fn ln_worse_than(&self, margin: f64) -> f64 {
        let margin = Margin { absolute: margin, relative: 0.0 };
        let capital =
            |(ratio, part): (f64, f64)| part.ln() + self.won(|share| Odds::worse(&margin, share, ratio));
        ln_sum(RATIOS.into_iter().map(capital).collect())
    }

    fn ln_sound_within(&self, margin: f64) -> f64 {
        let capital =
            |(stake, part): (f64, f64)| part.ln() + self.won(|share| Odds::within(margin, share, stake));
        ln_sum(STAKES.into_iter().map(capital).collect())
    }

    /// ln of what a bet would have won on all that was seen.
    fn won(&self, odds: impl Fn(f64) -> Odds) -> f64 {
        self.seen.iter().map(|seen| odds(seen.share).gain(seen)).sum()
    }
}

impl Known {
    fn at(margin: &Margin, share: f64) -> Self {
        Known {
            share,
            worse: RATIOS.iter().map(|(ratio, _)| Odds::worse(margin, share, *ratio)).collect(),
            sound: Bets::new(margin, share).bets.into_iter().map(|(_, odds)| odds).collect(),
        }
    }
}

impl Odds {
    /// Of the bet that wins most when the candidate's rate is `ratio` times the largest allowed.
    fn worse(margin: &Margin, share: f64, ratio: f64) -> Self {
        let more = 1.0 + margin.relative;
        let allowed = share * more / (share * more + 1.0 - share);
        let instead = allowed * ratio / (allowed * ratio + 1.0 - allowed);
        // Part of the capital that an error of the baseline costs; all of it would be ruin.
        let part = 1.0 - (1.0 - instead) / (1.0 - allowed);
        let stake = part / (more / (1.0 - share) + margin.absolute.max(0.0));
        Odds {
            candidate_hit: (stake * (1.0 / share - margin.absolute)).ln_1p(),
            baseline_hit: (-stake * (more / (1.0 - share) + margin.absolute)).ln_1p(),
            other: (-stake * margin.absolute).ln_1p(),
        }
    }

    /// Of the bet that the candidate is within an absolute margin, with `part` of the largest stake that cannot ruin.
    fn within(absolute: f64, share: f64, part: f64) -> Self {
        let stake = part / (1.0 / share - absolute.min(0.0));
        Odds {
            candidate_hit: (-stake * (1.0 / share - absolute)).ln_1p(),
            baseline_hit: (stake * (1.0 / (1.0 - share) + absolute)).ln_1p(),
            other: (stake * absolute).ln_1p(),
        }
    }

    /// Of the bet that it is within a relative one, that wins most when its rate is `ratio` times the baseline's.
    fn sound(relative: f64, share: f64, ratio: f64) -> Self {
        let part = |times: f64| share * times / (share * times + 1.0 - share);
        let (allowed, instead) = (part(1.0 + relative), part(ratio));
        Odds {
            candidate_hit: (instead / allowed).ln(),
            baseline_hit: ((1.0 - instead) / (1.0 - allowed)).ln(),
            other: 0.0,
        }
    }

    fn gain(&self, seen: &Seen) -> f64 {
        let (candidate, baseline) = (seen.candidate, seen.baseline);
        let others = (candidate.calls + baseline.calls).saturating_sub(candidate.hits + baseline.hits);
        candidate.hits as f64 * self.candidate_hit
            + baseline.hits as f64 * self.baseline_hit
            + others as f64 * self.other
    }
}

impl Seen {
    fn add(&mut self, more: &Seen) {
        self.candidate = self.candidate.plus(more.candidate);
        self.baseline = self.baseline.plus(more.baseline);
    }
}

impl Count {
    fn plus(self, more: Count) -> Count {
        Count { calls: self.calls + more.calls, hits: self.hits + more.hits }
    }

    fn rate(self) -> f64 {
        self.hits as f64 / self.calls as f64
    }
}

/// Calls of a candidate as good as the baseline until "within the margin" is proven, when this part of the calls of
/// either fails; none where no number of calls is enough.
pub(in crate::strategy) fn needed(margin: &Margin, share: f64, rate: f64, ln_needed: f64) -> Option<u64> {
    Bets::new(margin, share).until(rate, ln_needed)
}

/// The bets on "within the margin" at one share: ln of the capital and its odds.
struct Bets {
    share: f64,
    bets: Vec<(f64, Odds)>,
}

impl Bets {
    fn new(margin: &Margin, share: f64) -> Self {
        // What allows nothing can not be proven: no capital is wasted on it.
        let on_absolute = match (margin.absolute > 0.0, margin.relative > 0.0) {
            (true, true) => 0.5,
            (true, false) => 1.0,
            (false, _) => 0.0,
        };
        let absolute = STAKES
            .iter()
            .map(|(stake, part)| ((on_absolute * part).ln(), Odds::within(margin.absolute, share, *stake)));
        let relative = SOUND.iter().map(|(ratio, part)| {
            (((1.0 - on_absolute) * part).ln(), Odds::sound(margin.relative, share, *ratio))
        });
        let bets = absolute.chain(relative).filter(|(capital, _)| capital.is_finite());
        Bets { share, bets: bets.collect() }
    }

    /// The least number of the candidate's calls with which what is to be expected is enough.
    fn until(&self, rate: f64, ln_needed: f64) -> Option<u64> {
        const MOST: f64 = 1e12;
        let (mut low, mut high) = (0.0, 1.0);
        while self.expected(rate, high) < ln_needed {
            (low, high) = (high, high * 2.0);
            if high > MOST {
                return None;
            }
        }
        while high - low > 0.5 {
            let middle = f64::midpoint(low, high);
            *(if self.expected(rate, middle) < ln_needed { &mut low } else { &mut high }) = middle;
        }
        Some(high.ceil() as u64)
    }

    /// ln of the capital after so many calls of the candidate, and as many of the baseline as go with them.
    fn expected(&self, rate: f64, calls: f64) -> f64 {
        let others = calls * (1.0 - self.share) / self.share;
        let gain = |odds: &Odds| {
            rate * (calls * odds.candidate_hit + others * odds.baseline_hit)
                + (1.0 - rate) * (calls + others) * odds.other
        };
        ln_sum(self.bets.iter().map(|(capital, odds)| capital + gain(odds)).collect())
    }
}

/// The place nearest to `middle`, between `end` and it, at which `proven` holds; `end` where it holds nowhere.
fn edge(end: f64, middle: f64, proven: impl Fn(f64) -> bool) -> f64 {
    const PRECISION: f64 = 1e-6;
    let (mut out, mut inner) = (end, middle);
    if !proven(out) {
        return end;
    }
    while (out - inner).abs() > PRECISION {
        let half = f64::midpoint(out, inner);
        *(if proven(half) { &mut out } else { &mut inner }) = half;
    }
    out
}
