//! What many runs of one scenario come to, with intervals, and whether it is what was expected.

use serde::Serialize;

use super::figure::{Figure, figures};
use super::file::Scenario;
use super::stream::Course;
use crate::verdict::{State, Verdict};

/// What many runs came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many there were.
    pub runs: u64,
    /// Rollouts whose candidate got everything, or won.
    pub promoted: Share,
    /// Those whose candidate was taken out.
    pub rolled_back: Share,
    /// Those that got no verdict in time, or one that leaves all to a person.
    pub held: Share,
    /// Those that were still going on, or waited for a person, when time was up.
    pub open: Share,
    /// Of comparisons: those that found a winner or a loser, those whose samples were said to be broken, and those whose
    /// interval of the first metric held the true difference when they ended; none where nothing is compared.
    pub decided: Option<Share>,
    /// Samples said to be broken.
    pub blocked: Option<Share>,
    /// The interval held the truth.
    pub covered: Option<Share>,
    /// Of rankers: decisive sessions of all runs, those that preferred the candidate; none where nobody ranks.
    pub preferred: Option<Share>,
    /// Of bandits that ended with a winner: those whose winner no other is better than; none where none did.
    pub right: Option<Share>,
    /// Of bandits: what was lost until the end against always taking the best variant.
    pub regret: Option<Mean>,
    /// Runs in which a z-test read each minute ever said "worse"; none where it was not asked for.
    pub naive: Option<Share>,
    /// Of those promoted.
    pub until_promoted: Option<Lengths>,
    /// Of those rolled back.
    pub until_rolled_back: Option<Lengths>,
    /// Of those whose samples were said to be broken.
    pub until_blocked: Option<Lengths>,
    /// Of replicas that decided something: seconds of the longest that any decision took until all served it.
    pub until_told: Option<Spread>,
    /// Calls of the candidate that `check` announces until it can be promoted; none: a guard can never pass, or
    /// waits for feedback.
    pub announced: Option<u64>,
    /// What was expected, beside what was measured.
    pub figures: Vec<Figure>,
}

/// A share of all runs, with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// The share, 0 to 1.
    pub share: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The mean of all runs, with its 95 % interval (normal).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// How long it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// Seconds since the candidate's first call.
    pub seconds: Spread,
    /// Calls of both arms.
    pub calls: Spread,
    /// Calls of the candidate.
    pub candidate_calls: Spread,
    /// Failed and refused calls of the candidate that counted.
    pub candidate_failures: Spread,
    /// Values of the first guard's feedback, of both arms; none where none was learnt.
    pub feedback: Option<Spread>,
}

/// The middle and the end of many values, and the median's 95 % interval (order statistics).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// Half of all are below.
    pub median: f64,
    /// Lower end of the median's interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// 1 % is above.
    pub p99: f64,
    /// For a plot: how many values fall into each of equal parts of the range up to `p99`.
    #[serde(skip)]
    pub parts: Vec<u64>,
}

/// Sums up `courses`, of which there is at least one.
pub(super) fn sum_up(scenario: &Scenario, courses: &[Course]) -> Summary {
    let share = |is: &dyn Fn(&Course) -> bool| {
        Share::of(courses.iter().filter(|course| is(course)).count() as u64, courses.len() as u64)
    };
    let ended = |is: &dyn Fn(&Course) -> bool| {
        let ended: Vec<&Course> = courses.iter().filter(|course| is(course)).collect();
        Lengths::of(&ended)
    };
    let compares = scenario.compares();
    let won =
        move |course: &Course| course.end == State::Promoted || (compares && course.end == State::Passed);
    let lost = |course: &Course| course.end == State::RolledBack;
    let blocked = |course: &Course| course.verdict == Verdict::Invalid;
    let held = |course: &Course| course.end == State::Held;
    let mut summary = Summary {
        runs: courses.len() as u64,
        promoted: share(&won),
        rolled_back: share(&lost),
        held: share(&held),
        open: share(&|course| !won(course) && !lost(course) && !held(course)),
        decided: compares.then(|| share(&|course| won(course) || lost(course))),
        blocked: compares.then(|| share(&blocked)),
        covered: (compares && courses.iter().all(|course| course.covered.is_some()))
            .then(|| share(&|course| course.covered == Some(true))),
        preferred: preferred(courses),
        right: right(courses),
        regret: Mean::of(&courses.iter().filter_map(|course| course.lost).collect::<Vec<_>>()),
        naive: scenario.naive.then(|| share(&|course| course.naive)),
        until_promoted: ended(&won),
        until_rolled_back: ended(&lost),
        until_blocked: ended(&blocked),
        until_told: Spread::of(
            courses.iter().filter_map(|course| course.told).map(|told| told.as_secs_f64()).collect(),
        ),
        announced: scenario.announced(),
        figures: Vec::new(),
    };
    summary.figures = figures(scenario, &summary);
    summary
}

/// Of all decisive sessions.
fn preferred(courses: &[Course]) -> Option<Share> {
    let all = courses.iter().map(|course| course.decisive);
    let (decisive, wins) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (decisive > 0).then(|| Share::of(wins, decisive))
}

/// Of all that ended with a winner.
fn right(courses: &[Course]) -> Option<Share> {
    let ended: Vec<bool> = courses.iter().filter_map(|course| course.right).collect();
    let right = ended.iter().filter(|right| **right).count() as u64;
    (!ended.is_empty()).then(|| Share::of(right, ended.len() as u64))
}

impl Summary {
    /// Whether all is as expected.
    pub fn is_as_expected(&self) -> bool {
        self.figures.iter().all(|figure| figure.passed)
    }
}

impl Share {
    pub(super) fn of(count: u64, all: u64) -> Self {
        const Z: f64 = 1.96;
        let (n, share) = (all as f64, count as f64 / all as f64);
        let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Share { count, share, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }
}

impl Mean {
    /// None without values.
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let half = 1.96 * (spread / n).sqrt();
        Some(Mean { mean, low: mean - half, high: mean + half })
    }
}

impl Lengths {
    fn of(courses: &[&Course]) -> Option<Self> {
        let spread =
            |of: &dyn Fn(&Course) -> f64| Spread::of(courses.iter().map(|course| of(course)).collect());
        Some(Lengths {
            seconds: spread(&|course| course.time.as_secs_f64())?,
            calls: spread(&|course| course.calls as f64)?,
            candidate_calls: spread(&|course| course.candidate_calls as f64)?,
            candidate_failures: spread(&|course| course.hurt as f64)?,
            feedback: spread(&|course| course.feedback as f64).filter(|feedback| feedback.p99 > 0.0),
        })
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        const PARTS: usize = 24;
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |place: f64| values[(place.max(0.0) as usize).min(last)];
        let n = values.len() as f64;
        let half = 0.98 * n.sqrt();
        let p99 = at((0.99 * n).ceil() - 1.0);
        let mut parts = vec![0; PARTS];
        for value in values.iter().filter(|value| **value <= p99) {
            let part = if p99 > 0.0 { value / p99 * PARTS as f64 } else { 0.0 };
            parts[(part as usize).min(PARTS - 1)] += 1;
        }
        Some(Spread {
            median: at((n / 2.0).ceil() - 1.0),
            low: at(n / 2.0 - half),
            high: at(n / 2.0 + half),
            p99,
            parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_its_interval() {
        let share = Share::of(13, 1000);
        assert!((share.low - 0.0076).abs() < 1e-4 && (share.high - 0.0221).abs() < 1e-4, "{share:?}");
        assert_eq!((Share::of(0, 10).low, Share::of(10, 10).high), (0.0, 1.0));
    }

    #[test]
    fn a_mean_has_its_interval() {
        // A standard deviation of 2 among 100 values: 1.96 · 0.2.
        let values: Vec<f64> = (0..100).map(|place| if place % 2 == 0 { 8.0 } else { 12.0 }).collect();
        let mean = Mean::of(&values).unwrap();
        assert!((mean.mean - 10.0).abs() < 1e-9 && (mean.high - 10.394).abs() < 2e-3, "{mean:?}");
        assert!(Mean::of(&[]).is_none());
    }

    #[test]
    fn a_spread_has_its_median_and_its_end() {
        let spread = Spread::of((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.median, spread.p99), (500.0, 990.0));
        assert!(spread.low > 460.0 && spread.low < 480.0 && spread.high > 520.0 && spread.high < 540.0);
        assert_eq!(spread.parts.iter().sum::<u64>(), 990);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
