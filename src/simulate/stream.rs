//! One canary in one world, on a virtual clock: the very code that judges live calls, fed with drawn ones.
//!
//! Arrivals are Poisson, so calls that fail and calls that do not, of either arm, are Poisson streams of their own:
//! failures are drawn one by one, each judged at its instant, and what lies between two of them is drawn as counts.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::chance::{Law, gap, poisson};
use super::file::Scenario;
use super::fleet::Fleet;
use super::judged::Judged;
use super::learnt::Learning;
use super::naive::Naive;
use super::ranked::Ranked;
use super::strange::Callers;
use super::weather::{Outages, busy, times};
use super::world::{Arrivals, Failing, Latency, Learnt, World};
use crate::config::Strategy;
use crate::evidence::{ArmGain, Gain};
use crate::stats::quantile;
use crate::verdict::{State, Verdict};

/// Within which a burst of one unit's failures lies.
const BURST: f64 = 20.0;
/// What calls take where a world says nothing of latency.
const UNKNOWN: Duration = Duration::from_millis(20);

/// What became of one canary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    /// Where it ended, or where it was when time was up.
    pub(super) end: State,
    /// What all of it said then.
    pub(super) verdict: Verdict,
    /// Whether the first metric's interval held the true difference then.
    pub(super) covered: Option<bool>,
    /// When it ended, since the candidate's first call; of a fleet: at the last of its replicas.
    pub(super) time: Duration,
    /// Of a fleet: the longest that any decision took until all replicas served it.
    pub(super) told: Option<Duration>,
    /// Calls of both arms until then, and of the candidate.
    pub(super) calls: u64,
    pub(super) candidate_calls: u64,
    /// Failures of the candidate that counted until then; rejections too.
    pub(super) hurt: u64,
    /// Values of the first guard's feedback until then, of both arms.
    pub(super) feedback: u64,
    /// Whether the naive test ever said that the candidate is worse.
    pub(super) naive: bool,
    /// Of rankers: decisive sessions until then, and those that preferred the candidate.
    pub(super) decisive: (u64, u64),
    /// Of a bandit: what was lost against always taking the best.
    pub(super) lost: Option<f64>,
    /// Of a bandit that ended with a winner: whether none is better.
    pub(super) right: Option<bool>,
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
///
/// None where its strategy decides nothing.
pub(super) fn run(scenario: &Scenario, laws: Option<&Laws>, rng: &mut impl Rng) -> Option<Course> {
    let judged = Judged::begin(scenario, rng)?;
    let outages =
        [&scenario.world.errors, &scenario.world.rejections].map(|failing| Outages::new(failing, rng));
    let patience = scenario.world.latency.map_or(UNKNOWN, |latency| latency.baseline.median);
    let strange = scenario.world.strange.as_ref();
    let strange = strange.map(|world| Callers::new(world, scenario.units(), patience, &judged, rng));
    let mut stream = Stream {
        scenario,
        laws,
        judged,
        now: 0.0,
        outages,
        strange,
        learning: Learning::new(scenario, rng),
        ranked: Ranked::new(scenario),
        due: Vec::new(),
        naive: Naive::default(),
        counts: vec![0; quantile::BUCKETS],
        course: Course {
            end: State::Waiting,
            verdict: Verdict::NotEnoughData,
            covered: None,
            time: Duration::ZERO,
            told: None,
            calls: 0,
            candidate_calls: 0,
            hurt: 0,
            feedback: 0,
            naive: false,
            decisive: (0, 0),
            lost: None,
            right: None,
        },
    };
    stream.look();
    while !stream.is_over() {
        stream.tick(rng);
    }
    let Stream { mut course, judged, naive, learning, ranked, now, .. } = stream;
    course.decisive = ranked.map_or((0, 0), |ranked| ranked.decisive);
    course.end = judged.state();
    let end = Duration::from_secs_f64(now);
    course.time = end - judged.fleet().map_or(Duration::ZERO, Fleet::began).min(end);
    course.told = judged.fleet().and_then(Fleet::told);
    course.verdict = judged.verdict(end);
    course.covered = covered(scenario, &judged, end);
    if let Some(earned) = learning.as_ref().and_then(Learning::earned) {
        (course.calls, course.candidate_calls) = (earned.calls, earned.of_others);
        course.lost = Some(earned.lost);
        course.right = judged.winner().and_then(|winner| right(scenario, winner, now));
    }
    course.naive = naive.said_worse() || learning.is_some_and(|learning| learning.naive_differs());
    Some(course)
}

/// Whether none is better than that one.
fn right(scenario: &Scenario, winner: usize, now: f64) -> Option<bool> {
    let Strategy::Bandit(bandit) = &scenario.model.strategy else { return None };
    let reward = |learnt: &&Learnt| scenario.model.feedback[learnt.feedback].name == bandit.reward.name;
    let learnt = scenario.world.feedback.iter().find(reward)?;
    let sign = if bandit.reward.lower_is_better { -1.0 } else { 1.0 };
    let worth = || learnt.means_at(now, scenario.until.as_secs_f64()).map(|mean| sign * mean);
    let own = worth().nth(winner)?;
    Some(worth().all(|other| other <= own))
}

/// Whether the interval of the first metric holds the true difference, where there is one at all times: none where
/// nothing is compared, or the difference changes.
fn covered(scenario: &Scenario, judged: &Judged<'_>, now: Duration) -> Option<bool> {
    let learnt = scenario.world.feedback.first()?;
    let &[mean, other, ..] = &learnt.means[..] else { return None };
    let (low, high) = judged.difference(now)?;
    let truth = other - mean;
    let changes = |(_, means): &(Duration, Vec<f64>)| means.get(1).zip(means.first()).map(|(a, b)| a - b);
    let changed = learnt.then.as_ref().and_then(changes);
    let steady = changed.is_none_or(|then| then == truth) && (truth == 0.0 || learnt.drift == 1.0);
    steady.then_some(low <= truth && truth <= high)
}

/// A time of the run in which all that a world says of it stays as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// In seconds since the candidate's first call.
    pub(super) from: f64,
    pub(super) until: f64,
    /// A second, of all callers.
    pub(super) calls: f64,
    /// The candidate's, and in which split it had that.
    pub(super) share: f64,
    pub(super) epoch: u32,
}

struct Stream<'a> {
    scenario: &'a Scenario,
    laws: Option<&'a Laws>,
    judged: Judged<'a>,
    /// Seconds since the candidate's first call.
    now: f64,
    outages: [Outages; 2],
    strange: Option<Callers<'a>>,
    learning: Option<Learning<'a>>,
    ranked: Option<Ranked<'a>>,
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
        self.judged.is_over() || self.now >= self.scenario.until.as_secs_f64()
    }

    /// Passes over a time in which all rates stay as they are, or until something is decided.
    fn tick(&mut self, rng: &mut impl Rng) {
        let world = &self.scenario.world;
        let (share, split) = self.judged.split_of_all();
        let share = share * (1.0 - world.strays);
        self.judged.turn();
        let seen = self.judged.share() * (1.0 - world.strays);
        let all = world.calls * busy(world.arrivals, self.now);
        let calls = all * (1.0 - world.strange.as_ref().map_or(0.0, |strange| strange.share));
        let end = (self.now + self.length(calls * share)).min(self.scenario.until.as_secs_f64());
        let epoch = self.judged.standing().epoch;
        let rates = self.rates(rng);
        let begun = self.now;
        if self.judged.learns() {
            // Each call is drawn by itself, and what is learnt from it.
            let halt = self.judged.next();
            self.now = end.min(halt.max(self.now));
            if halt <= end {
                self.judged.pass();
            }
        }
        while self.now < end && self.judged.split_of_all().1 == split && !self.is_over() {
            self.until_next_failure(rng, (calls, share), &rates, end);
        }
        if self.judged.fleet().is_none() {
            self.latencies(rng, calls * (self.now - begun), share, epoch);
        }
        self.others(Stretch { from: begun, until: self.now, calls: all, share: seen, epoch }, rng);
        self.look();
        if self.scenario.naive {
            self.naive.look(self.now);
        }
    }

    /// Strange callers, and what is learnt.
    fn others(&mut self, stretch: Stretch, rng: &mut impl Rng) {
        if let Some(strange) = &mut self.strange {
            let (baseline, candidate) = strange.call(stretch, &mut self.judged, rng);
            self.course.calls += baseline + candidate;
            self.course.candidate_calls += candidate;
        }
        if let Some(learning) = &mut self.learning {
            self.course.feedback += learning.pass(stretch, &mut self.judged, rng);
        }
        if let Some(ranked) = &mut self.ranked {
            self.course.feedback += ranked.pass(stretch, &mut self.judged, rng);
        }
    }

    /// Seconds: some ten calls of the candidate where latency is judged, for it is judged once in each.
    fn length(&self, candidate_rate: f64) -> f64 {
        let learns = self.learning.is_some() || self.ranked.is_some();
        let most = match self.scenario.world.arrivals {
            // As often as a sidecar sums up what it was told.
            _ if learns => 1.0,
            Arrivals::Bursts => 5.0,
            _ => 10.0,
        };
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
        // Until somebody says or hears something: chance forgets what was to come after that.
        let halt = Some(self.judged.next()).filter(|halt| *halt < until);
        let until = halt.unwrap_or(until).max(self.now);
        let failing = rates.iter().fold((0.0, 0.0), |sum, rate| (sum.0 + rate.0, sum.1 + rate.1));
        let good = calls * (until - self.now);
        let baseline = poisson(rng, good * (1.0 - share) * (1.0 - failing.0).max(0.0));
        let candidate = poisson(rng, good * share * (1.0 - failing.1).max(0.0));
        let begun = std::mem::replace(&mut self.now, until);
        if self.judged.fleet().is_some() {
            // In the split that they were given in.
            self.latencies(rng, calls * (until - begun), share, 0);
        }
        match (due, next.1) {
            _ if halt.is_some() => {
                self.absorb(baseline, candidate, None);
                self.judged.pass();
            }
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
            let units = self.scenario.units();
            let candidate = if units { failure.candidate } else { rng.random::<f64>() < share };
            self.due.push(Due { at, failure: Failure { candidate, ..failure }, counts: !units });
        }
    }

    /// Hands over calls that went well, and then one that did not.
    fn absorb(&mut self, baseline: u64, candidate: u64, failure: Option<(Failure, bool)>) {
        let mut arms = vec![ArmGain::default(); self.judged.count()];
        let [of_baseline, of_candidate] = [false, true].map(|candidate| self.judged.variant(candidate));
        arms[of_baseline].calls = baseline;
        arms[of_candidate].calls = candidate;
        if let Some((failure, counts)) = failure {
            let arm = &mut arms[self.judged.variant(failure.candidate)];
            arm.calls += 1;
            let hits = u64::from(counts);
            *(if failure.rejected { &mut arm.rejections } else { &mut arm.errors }) += hits;
            self.course.hurt += if failure.candidate { hits } else { 0 };
            self.naive.add_failure(failure.candidate);
        }
        if !self.learning.as_ref().is_some_and(Learning::counts_units) {
            // Nobody comes back: each call is a unit.
            arms.iter_mut().for_each(|arm| arm.units = arm.calls);
        }
        self.course.calls += arms.iter().map(|arm| arm.calls).sum::<u64>();
        self.course.candidate_calls += arms[of_candidate].calls;
        self.naive.add_calls(arms[of_baseline].calls, arms[of_candidate].calls);
        let gain = Gain { epoch: self.judged.standing().epoch, segment: None, arms };
        self.judged.spread(&gain, Duration::from_secs_f64(self.now));
        if failure.is_some() {
            self.look();
        }
    }

    /// How long the calls of this tick took.
    fn latencies(&mut self, rng: &mut impl Rng, calls: f64, share: f64, epoch: u32) {
        let Some(laws) = self.laws else { return };
        let slower = if self.now >= laws.after { &laws.candidate } else { &laws.baseline };
        let mut arms = vec![ArmGain::default(); self.judged.count()];
        for (candidate, law, share) in [(false, &laws.baseline, 1.0 - share), (true, slower, share)] {
            let calls = poisson(rng, calls * share);
            arms[self.judged.variant(candidate)].latency = law.draw(rng, calls, &mut self.counts);
        }
        let gain = Gain { epoch, segment: None, arms };
        self.judged.spread(&gain, Duration::from_secs_f64(self.now));
    }

    fn look(&mut self) {
        self.judged.look(Duration::from_secs_f64(self.now));
    }
}
