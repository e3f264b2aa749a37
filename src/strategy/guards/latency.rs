//! Whether the candidate is slower than it may be: a quantile of its latency beside the baseline's.
//!
//! Latencies are counts in logarithmic buckets. While the candidate's share stays the same, both arms meet the same
//! times of day in the same proportion and their counts may be compared; so each stretch of one share is a test of
//! its own, and the evidence of stretches multiplies. As with failures, a part of the capital is put in later: the
//! counts are kept in segments, a bet that starts with a segment sees the calls from there on, and of many segments
//! eight are kept whose ages grow from one to the next. The same test with the arms changed over shows that a
//! candidate is not slower than allowed. Calls that end after their share has changed are left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ln_sum;
use crate::config::LatencyGuard;
use crate::stats::quantile::{BUCKETS, GROWTH, QuantileTest, upper_edge};
use crate::verdict::{Estimate, Interval};

/// Segments that are kept.
const SEGMENTS: usize = 8;
/// A segment has at least so many calls of the candidate, and at least an eighth of those before it.
const SHORTEST: u64 = 100;
/// How much capital bets from the first call on.
const AT_FIRST: f64 = 0.8;
/// Evidence is weighed again after this time at the earliest, and after so many calls of the candidate: a part of
/// those it rests on, up to a limit. Whatever is passed over is lost to nobody but the clock.
const PACE: Duration = Duration::from_millis(100);
const PART: u64 = 50;
const MOST: u64 = 200;

/// Calls per bucket, in growing order of buckets, none of them zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts(Vec<(u16, u64)>);

/// What was seen between two starts of bets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Segment {
    /// ln of the capital that bets from here on, by guard.
    capital: Vec<f64>,
    candidate: Counts,
    baseline: Counts,
}

/// What one guard's evidence comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Weighed {
    /// ln of the evidence that the candidate is slower than allowed.
    pub(in crate::strategy) ln_worse: f64,
    /// ln of the evidence that it is not.
    pub(in crate::strategy) ln_sound: f64,
}

/// All that is remembered of latency, for all guards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Latency {
    /// The share of this stretch.
    share: f64,
    segments: Vec<Segment>,
    /// ln of the evidence of the stretches before this one that the candidate is not slower, by guard.
    sound: Vec<f64>,
    /// Bets started so far.
    starts: u32,
    weighed: Vec<Weighed>,
    /// When that was, and the candidate's calls since.
    weighed_at: Duration,
    since: u64,
}

impl Latency {
    pub(in crate::strategy) fn new(guards: usize, now: Duration) -> Self {
        Latency {
            share: 0.0,
            segments: vec![Segment::start(vec![AT_FIRST.ln(); guards])],
            sound: vec![0.0; guards],
            starts: 0,
            weighed: vec![Weighed { ln_worse: AT_FIRST.ln(), ln_sound: 0.0 }; guards],
            weighed_at: now,
            since: 0,
        }
    }

    /// Adds what a stretch of one share showed.
    pub(in crate::strategy) fn add(
        &mut self,
        guards: &[LatencyGuard],
        share: f64,
        candidate: &[(u16, u32)],
        baseline: &[(u16, u32)],
    ) {
        if share != self.share {
            self.next_stretch(guards, share);
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.candidate.add(candidate.iter().map(|(bucket, count)| (*bucket, u64::from(*count))));
            segment.baseline.add(baseline.iter().map(|(bucket, count)| (*bucket, u64::from(*count))));
        }
        self.since += candidate.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        self.start_bets(guards.len());
    }

    /// Closes this stretch: what each bet has won so far is what it has in the next one.
    fn next_stretch(&mut self, guards: &[LatencyGuard], share: f64) {
        let (worse, sound) = (self.worse(guards), self.sound(guards));
        self.segments = vec![Segment::start(worse)];
        self.sound = sound;
        self.share = share;
    }

    /// Puts in 1/(j(j + 1)) of what was kept back, for the j-th start.
    fn start_bets(&mut self, guards: usize) {
        let now = self.segments.last().map_or(0, |segment| segment.candidate.total());
        let all: u64 = self.segments.iter().map(|segment| segment.candidate.total()).sum();
        if now < SHORTEST.max((all - now) / 8) {
            return;
        }
        self.starts = self.starts.saturating_add(1);
        let start = f64::from(self.starts);
        let bit = ((1.0 - AT_FIRST) / (start * (start + 1.0))).ln();
        self.segments.push(Segment::start(vec![bit; guards]));
        if self.segments.len() > SEGMENTS {
            self.forget_one();
        }
    }

    /// Gives up the bet whose age is nearest to those of its neighbours. The first one stays.
    fn forget_one(&mut self) {
        let mut ages = vec![0.0; self.segments.len()];
        let mut age = 1.0;
        for (index, segment) in self.segments.iter().enumerate().rev() {
            age += segment.candidate.total() as f64;
            ages[index] = age;
        }
        let crowded = (1..self.segments.len() - 1).min_by(|a, b| {
            let gap = |index: &usize| ages[index - 1] / ages[index + 1];
            gap(a).total_cmp(&gap(b))
        });
        if let Some(index) = crowded {
            let gone = self.segments.remove(index);
            let before = &mut self.segments[index - 1];
            before.candidate.add(gone.candidate.0);
            before.baseline.add(gone.baseline.0);
        }
    }

    /// Weighs the evidence again, unless it was weighed just now or nothing is new.
    pub(in crate::strategy) fn weigh(&mut self, guards: &[LatencyGuard], now: Duration) {
        let seen: u64 = self.segments.iter().map(|segment| segment.candidate.total()).sum();
        if self.since <= (seen / PART).min(MOST) || now.saturating_sub(self.weighed_at) < PACE {
            return;
        }
        (self.weighed_at, self.since) = (now, 0);
        let (worse, sound) = (self.worse(guards), self.sound(guards));
        let both = worse.into_iter().zip(sound);
        self.weighed = both.map(|(ln_worse, ln_sound)| Weighed { ln_worse, ln_sound }).collect();
    }

    /// As weighed last, by guard.
    pub(in crate::strategy) fn weighed(&self) -> &[Weighed] {
        &self.weighed
    }

    /// ln of the evidence against "not slower than allowed", by guard: all bets together.
    fn worse(&self, guards: &[LatencyGuard]) -> Vec<f64> {
        let mut bets = vec![Vec::new(); guards.len()];
        let (mut candidate, mut baseline) = (vec![0; BUCKETS], vec![0; BUCKETS]);
        for segment in self.segments.iter().rev() {
            segment.candidate.pour(&mut candidate);
            segment.baseline.pour(&mut baseline);
            for ((guard, bets), capital) in guards.iter().zip(&mut bets).zip(&segment.capital) {
                let test = QuantileTest::new(guard.quantile, guard.relative);
                bets.push(capital + test.ln_e(&candidate, &baseline));
            }
        }
        bets.into_iter().map(ln_sum).collect()
    }

    /// ln of the evidence against "slower than allowed", by guard.
    fn sound(&self, guards: &[LatencyGuard]) -> Vec<f64> {
        let (candidate, baseline) = self.stretch();
        let now = guards.iter().map(|guard| {
            let shift = shift(guard.relative);
            ln_faster(guard.quantile, shift, &candidate, &baseline)
        });
        now.zip(&self.sound).map(|(now, before)| now + before).collect()
    }

    /// All of this stretch: (candidate, baseline).
    fn stretch(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut candidate, mut baseline) = (vec![0; BUCKETS], vec![0; BUCKETS]);
        for segment in &self.segments {
            segment.candidate.pour(&mut candidate);
            segment.baseline.pour(&mut baseline);
        }
        (candidate, baseline)
    }

    /// The quantile in this stretch, in seconds: (baseline, candidate).
    pub(in crate::strategy) fn estimates(&self, guard: &LatencyGuard) -> (Estimate, Estimate) {
        let (candidate, baseline) = self.stretch();
        (estimate(&baseline, guard.quantile), estimate(&candidate, guard.quantile))
    }

    /// How much slower the candidate's quantile is in this stretch, as a ratio less one: one-sided at `alpha` below
    /// and at `beta` above, for all time.
    pub(in crate::strategy) fn harm(&self, guard: &LatencyGuard, alpha: f64, beta: f64) -> Option<Interval> {
        let (candidate, baseline) = self.stretch();
        let place = |counts: &[u64]| place(counts, guard.quantile).map(|place| place as i32);
        let middle = place(&candidate)? - place(&baseline)?;
        let most = BUCKETS as i32;
        let slower = |shift: i32| ln_slower(guard.quantile, shift, &candidate, &baseline) >= -alpha.ln();
        let faster = |shift: i32| ln_faster(guard.quantile, shift, &candidate, &baseline) >= -beta.ln();
        let ratio = |shift: i32| GROWTH.powi(shift) - 1.0;
        let low = nearest(-most, middle, slower).map_or(-1.0, ratio);
        let high = nearest(most, middle, faster).map_or(f64::INFINITY, ratio);
        Some(Interval { low, middle: ratio(middle), high })
    }

    /// Calls of a candidate as fast as the baseline that the guard still needs before it can pass.
    pub(in crate::strategy) fn missing(&self, guard: &LatencyGuard, share: f64, ln_needed: f64) -> u64 {
        let (candidate, baseline) = self.stretch();
        let seen: u64 = candidate.iter().sum();
        if baseline.iter().all(|count| *count == 0) {
            return 1;
        }
        needed(guard, &baseline, share, ln_needed).map_or(u64::MAX, |calls| calls.saturating_sub(seen).max(1))
    }
}

/// Calls of a candidate that is as fast as the baseline, whose latencies are like `law`, until the guard passes; none
/// where no number of calls is enough.
pub(in crate::strategy) fn needed(
    guard: &LatencyGuard,
    law: &[u64],
    share: f64,
    ln_needed: f64,
) -> Option<u64> {
    let all = law.iter().sum::<u64>() as f64;
    let expected = |calls: f64| -> Vec<u64> {
        // Rounding each bucket would lose the tail; rounding what is below each edge does not.
        let (mut below, mut poured) = (0, 0);
        law.iter()
            .map(|count| {
                below += count;
                let until = (below as f64 / all * calls).round() as u64;
                let here = until - poured;
                poured = until;
                here
            })
            .collect()
    };
    let passes = |calls: u64| {
        let baseline = expected(calls as f64 * (1.0 - share) / share);
        let shift = shift(guard.relative);
        ln_faster(guard.quantile, shift, &expected(calls as f64), &baseline) >= ln_needed
    };
    const ENDLESS: u64 = 1 << 40;
    let mut high = 64;
    while !passes(high) {
        high *= 2;
        if high > ENDLESS {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > high / 64 + 1 {
        let middle = low.midpoint(high);
        *(if passes(middle) { &mut high } else { &mut low }) = middle;
    }
    Some(high)
}

/// A tolerance in buckets.
fn shift(relative: f64) -> i32 {
    (relative.ln_1p() / GROWTH.ln()).round() as i32
}

/// ln of the evidence that the candidate's quantile is more than `shift` buckets above the baseline's.
fn ln_slower(q: f64, shift: i32, candidate: &[u64], baseline: &[u64]) -> f64 {
    QuantileTest::new(q, 0.0).ln_e(&shifted(candidate, -shift), &shifted(baseline, shift))
}

/// ln of the evidence that it is less than that.
fn ln_faster(q: f64, shift: i32, candidate: &[u64], baseline: &[u64]) -> f64 {
    QuantileTest::new(q, 0.0).ln_e(&shifted(baseline, shift), &shifted(candidate, -shift))
}

/// The counts moved up by `by` buckets, where that is positive.
fn shifted(counts: &[u64], by: i32) -> Vec<u64> {
    let by = usize::try_from(by).unwrap_or(0);
    std::iter::repeat_n(0, by).chain(counts.iter().copied()).collect()
}

/// The bucket that holds the quantile.
fn place(counts: &[u64], q: f64) -> Option<usize> {
    let wanted = q * counts.iter().sum::<u64>() as f64;
    let mut below = 0;
    counts.iter().position(|count| {
        below += count;
        *count > 0 && below as f64 >= wanted
    })
}

fn estimate(counts: &[u64], q: f64) -> Estimate {
    let value = place(counts, q).map(|place| upper_edge(place as u16).as_secs_f64());
    Estimate { n: counts.iter().sum(), value }
}

/// The shift nearest to `middle` on the side of `end` that is proven; none where even `end` is not.
fn nearest(end: i32, middle: i32, proven: impl Fn(i32) -> bool) -> Option<i32> {
    let (mut out, mut inner) = (end, middle);
    if !proven(out) {
        return None;
    }
    while (out - inner).abs() > 1 {
        let half = out.midpoint(inner);
        *(if proven(half) { &mut out } else { &mut inner }) = half;
    }
    Some(out)
}

impl Segment {
    fn start(capital: Vec<f64>) -> Self {
        Segment { capital, candidate: Counts::default(), baseline: Counts::default() }
    }
}

impl Counts {
    fn add(&mut self, more: impl IntoIterator<Item = (u16, u64)>) {
        for (bucket, count) in more.into_iter().filter(|(_, count)| *count > 0) {
            match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(at) => self.0[at].1 += count,
                Err(at) => self.0.insert(at, (bucket, count)),
            }
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn pour(&self, into: &mut [u64]) {
        for (bucket, count) in &self.0 {
            if let Some(all) = into.get_mut(usize::from(*bucket)) {
                *all += count;
            }
        }
    }
}
