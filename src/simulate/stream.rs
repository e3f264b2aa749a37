//! One canary in one world, on a virtual clock: the very code that judges live calls, fed with drawn ones.
//!
//! Arrivals are Poisson, so calls that fail and calls that do not, of either arm, are Poisson streams of their own:
//! failures are drawn one by one, each judged at its instant, and what lies between two of them is drawn as counts.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::chance::{Law, gap, poisson};
use super::file::{Arrivals, Change, Failing, Latency, Scenario, VARIANTS, World};
use super::naive::Naive;
use crate::evidence::{ArmGain, Gain};
use crate::stats::quantile;
use crate::strategy::Split;
use crate::strategy::canary::Progress;
use crate::verdict::State;

/// Within which a burst of one unit's failures lies.
const BURST: f64 = 20.0;
const DAY: f64 = 86_400.0;

/// What became of one canary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    /// Where it ended, or where it was when time was up.
    pub(super) end: State,
    /// When it ended.
    pub(super) time: Duration,
    /// Calls of both arms until then, and of the candidate.
    pub(super) calls: u64,
    pub(super) candidate_calls: u64,
    /// Failures of the candidate that counted until then; rejections too.
    pub(super) hurt: u64,
    /// Whether the naive test ever said that the candidate is worse.
    pub(super) naive: bool,
}

/// Laws of latency, drawn up once for all runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Laws {
    baseline: Law,
    candidate: Law,
    after: f64,
}

impl Laws {
    pub(super) fn new(latency: &Latency) -> Self {
        Laws {
            baseline: Law::new(&latency.baseline),
            candidate: Law::new(&latency.candidate),
            after: latency.after.as_secs_f64(),
        }
    }
}

/// Runs one canary to its end.
pub(super) fn run(scenario: &Scenario, laws: Option<&Laws>, rng: &mut impl Rng) -> Course {
    let progress = Progress::begin(&scenario.canary, Duration::ZERO);
    let outages =
        [&scenario.world.errors, &scenario.world.rejections].map(|failing| Outages::new(failing, rng));
    let mut stream = Stream {
        scenario,
        laws,
        progress,
        now: 0.0,
        outages,
        due: Vec::new(),
        naive: Naive::default(),
        counts: vec![0; quantile::BUCKETS],
        course: Course {
            end: State::Waiting,
            time: Duration::ZERO,
            calls: 0,
            candidate_calls: 0,
            hurt: 0,
            naive: false,
        },
    };
    stream.look();
    while !stream.is_over() {
        stream.tick(rng);
    }
    let Stream { mut course, progress, naive, now, .. } = stream;
    course.end = progress.state();
    course.time = Duration::from_secs_f64(now);
    course.naive = naive.said_worse();
    course
}

struct Stream<'a> {
    scenario: &'a Scenario,
    laws: Option<&'a Laws>,
    progress: Progress,
    /// Seconds since the candidate's first call.
    now: f64,
    outages: [Outages; 2],
    /// Failures of bursts that are still to come.
    due: Vec<Due>,
    naive: Naive,
    counts: Vec<u32>,
    course: Course,
}

/// A failure that comes later.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: f64,
    failure: Failure,
    /// Whether it counts, for its unit is not known.
    counts: bool,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    candidate: bool,
    rejected: bool,
}

impl Stream<'_> {
    fn is_over(&self) -> bool {
        let over = matches!(self.progress.state(), State::Promoted | State::RolledBack | State::Held);
        over || self.now >= self.scenario.until.as_secs_f64()
    }

    /// The candidate's share of calls.
    fn share(&self) -> f64 {
        match self.progress.standing().split {
            Split::Candidate(share) => share.probability(),
            Split::Only(variant) => f64::from(u8::from(variant == self.scenario.canary.candidate)),
            Split::Configured => 0.0,
        }
    }

    /// Passes over a time in which all rates stay as they are, or until something is decided.
    fn tick(&mut self, rng: &mut impl Rng) {
        let world = &self.scenario.world;
        let share = self.share();
        let calls = world.calls * busy(world.arrivals, self.now);
        let end = (self.now + self.length(calls * share)).min(self.scenario.until.as_secs_f64());
        let epoch = self.progress.standing().epoch;
        let rates = self.rates(rng);
        let begun = self.now;
        while self.now < end && self.progress.standing().epoch == epoch && !self.is_over() {
            self.until_next_failure(rng, (calls, share), &rates, end);
        }
        self.latencies(rng, calls * (self.now - begun), share, epoch);
        self.look();
        if self.scenario.naive {
            self.naive.look(self.now);
        }
    }

    /// Seconds: some ten calls of the candidate where latency is judged, for it is judged once in each.
    fn length(&self, candidate_rate: f64) -> f64 {
        let most = if self.scenario.world.arrivals == Arrivals::Bursts { 5.0 } else { 10.0 };
        match self.laws {
            Some(_) if candidate_rate > 0.0 => (10.0 / candidate_rate).clamp(0.1, most),
            _ => most,
        }
    }

    /// Parts of calls that fail now: by kind, then (baseline, candidate).
    fn rates(&mut self, rng: &mut impl Rng) -> [(f64, f64); 2] {
        let World { errors, rejections, .. } = &self.scenario.world;
        let over = self.now / self.scenario.until.as_secs_f64();
        let mut rates = [(0.0, 0.0); 2];
        for ((rate, failing), outages) in rates.iter_mut().zip([errors, rejections]).zip(&mut self.outages) {
            let usual = failing.rate * (1.0 + (failing.drift - 1.0) * over);
            *rate = (usual, usual * times(&failing.candidate, self.now));
            if let Some(all) = outages.rate(self.now, rng) {
                *rate = (rate.0.max(all), rate.1.max(all));
            }
        }
        rates
    }

    /// Goes on to the next failure, or to `end`, and has it judged.
    fn until_next_failure(
        &mut self,
        rng: &mut impl Rng,
        (calls, share): (f64, f64),
        rates: &[(f64, f64); 2],
        end: f64,
    ) {
        let next = self.next_failure(rng, (calls, share), rates);
        let next = if next.0 < end { next } else { (end, None) };
        let due = self.due.iter().enumerate().min_by(|(_, a), (_, b)| a.at.total_cmp(&b.at));
        let due = due.filter(|(_, due)| due.at < next.0).map(|(index, _)| index);
        let until = due.map_or(next.0, |index| self.due[index].at);
        let failing = rates.iter().fold((0.0, 0.0), |sum, rate| (sum.0 + rate.0, sum.1 + rate.1));
        let good = calls * (until - self.now);
        let baseline = poisson(rng, good * (1.0 - share) * (1.0 - failing.0).max(0.0));
        let candidate = poisson(rng, good * share * (1.0 - failing.1).max(0.0));
        self.now = until;
        match (due, next.1) {
            (Some(index), _) => {
                let Due { failure, counts, .. } = self.due.swap_remove(index);
                self.absorb(baseline, candidate, Some((failure, counts)));
            }
            (None, Some(failure)) => {
                self.spread(failure, rng, share);
                self.absorb(baseline, candidate, Some((failure, true)));
            }
            (None, None) => self.absorb(baseline, candidate, None),
        }
    }

    /// When the next burst of failures begins, and whose it is.
    fn next_failure(
        &self,
        rng: &mut impl Rng,
        (calls, share): (f64, f64),
        rates: &[(f64, f64); 2],
    ) -> (f64, Option<Failure>) {
        let World { errors, rejections, .. } = &self.scenario.world;
        let per_second = |failing: &Failing, part: f64| calls * part / failing.burst as f64;
        let kinds = [
            per_second(errors, rates[0].0 * (1.0 - share)),
            per_second(errors, rates[0].1 * share),
            per_second(rejections, rates[1].0 * (1.0 - share)),
            per_second(rejections, rates[1].1 * share),
        ];
        let all: f64 = kinds.iter().sum();
        let at = self.now + gap(rng, all);
        let mut place = rng.random::<f64>() * all;
        let kind = kinds.iter().position(|part| {
            place -= part;
            place < 0.0
        });
        (at, kind.map(|kind| Failure { candidate: kind % 2 == 1, rejected: kind >= 2 }))
    }

    /// The other failures of a burst. A unit stays with its arm, and counts once a minute; without units each call is
    /// given to an arm by itself.
    fn spread(&mut self, failure: Failure, rng: &mut impl Rng, share: f64) {
        let World { errors, rejections, .. } = &self.scenario.world;
        let burst = if failure.rejected { rejections.burst } else { errors.burst };
        for _ in 1..burst {
            let at = self.now + BURST * rng.random::<f64>();
            let units = self.scenario.units;
            let candidate = if units { failure.candidate } else { rng.random::<f64>() < share };
            self.due.push(Due { at, failure: Failure { candidate, ..failure }, counts: !units });
        }
    }

    /// Hands over calls that went well, and then one that did not.
    fn absorb(&mut self, baseline: u64, candidate: u64, failure: Option<(Failure, bool)>) {
        let mut arms = vec![ArmGain::default(); VARIANTS.len()];
        let canary = &self.scenario.canary;
        arms[canary.baseline].calls = baseline;
        arms[canary.candidate].calls = candidate;
        if let Some((failure, counts)) = failure {
            let arm = &mut arms[if failure.candidate { canary.candidate } else { canary.baseline }];
            arm.calls += 1;
            let hits = u64::from(counts);
            *(if failure.rejected { &mut arm.rejections } else { &mut arm.errors }) += hits;
            self.course.hurt += if failure.candidate { hits } else { 0 };
            self.naive.add_failure(failure.candidate);
        }
        self.course.calls += arms.iter().map(|arm| arm.calls).sum::<u64>();
        self.course.candidate_calls += arms[canary.candidate].calls;
        self.naive.add_calls(arms[canary.baseline].calls, arms[canary.candidate].calls);
        let gain = Gain { epoch: self.progress.standing().epoch, arms };
        self.progress.absorb(canary, &gain, Duration::from_secs_f64(self.now));
        if failure.is_some() {
            self.look();
        }
    }

    /// How long the calls of this tick took.
    fn latencies(&mut self, rng: &mut impl Rng, calls: f64, share: f64, epoch: u32) {
        let Some(laws) = self.laws else { return };
        let canary = &self.scenario.canary;
        let slower = if self.now >= laws.after { &laws.candidate } else { &laws.baseline };
        let mut arms = vec![ArmGain::default(); VARIANTS.len()];
        for (variant, law, share) in
            [(canary.baseline, &laws.baseline, 1.0 - share), (canary.candidate, slower, share)]
        {
            let calls = poisson(rng, calls * share);
            arms[variant].latency = law.draw(rng, calls, &mut self.counts);
        }
        self.progress.absorb(canary, &Gain { epoch, arms }, Duration::from_secs_f64(self.now));
    }

    fn look(&mut self) {
        let now = Duration::from_secs_f64(self.now);
        while self.progress.look(&self.scenario.canary, true, now).is_some() {}
    }
}

/// Calls now, as a multiple of the average.
fn busy(arrivals: Arrivals, now: f64) -> f64 {
    match arrivals {
        Arrivals::Steady => 1.0,
        Arrivals::Day => 1.0 + 0.8 * (std::f64::consts::TAU * now / DAY).sin(),
        Arrivals::Bursts => {
            let (often, busy, times) = (300.0, 10.0, 10.0);
            let quiet = often / (often + busy * (times - 1.0));
            if now % often < busy { times * quiet } else { quiet }
        }
    }
}

/// What the candidate's rate is multiplied by now.
fn times(change: &Change, now: f64) -> f64 {
    if now >= change.after.as_secs_f64() { change.times } else { 1.0 }
}

/// When the next outage begins and ends.
#[derive(Debug, Clone, Copy)]
struct Outages {
    every: f64,
    last: f64,
    rate: f64,
    next: f64,
}

impl Outages {
    fn new(failing: &Failing, rng: &mut impl Rng) -> Self {
        let Some((every, last, rate)) = failing.outages else {
            return Outages { every: 0.0, last: 0.0, rate: 0.0, next: f64::INFINITY };
        };
        let every = every.as_secs_f64();
        Outages { every, last: last.as_secs_f64(), rate, next: gap(rng, 1.0 / every) }
    }

    /// Part of all calls that fails now.
    fn rate(&mut self, now: f64, rng: &mut impl Rng) -> Option<f64> {
        while now > self.next + self.last {
            self.next += self.last + gap(rng, 1.0 / self.every);
        }
        (now >= self.next).then_some(self.rate)
    }
}
