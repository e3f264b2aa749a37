//! The plan of each model: what its stages need of the traffic that there is.

use std::time::Duration;

use super::{Traffic, is_reported, name, time};
use crate::config::units::Percent;
use crate::config::{
    Ab, Arm, Canary, Feedback, FeedbackKind, Interleave, Judge, Metric, Model, Source, Strategy,
};
use crate::strategy::ab::plan::{Expected, Outlook};
use crate::strategy::bandit::plan::evenly;
use crate::strategy::canary::plan::{self, Leg};
use crate::strategy::interleave::plan::sessions;

/// Spread of latency: the standard deviation of its natural logarithm, as a model server's often is.
pub(in crate::command) const SPREAD: f64 = 0.5;
/// Of values that are 0 or 1 where nobody says it.
const MEAN: f64 = 0.1;
/// Differences for which it is said, as multiples of the least of interest.
const TIMES: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// What is said of one model.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) kind: &'static str,
    pub(super) stages: Vec<Stage>,
}

/// One strategy of it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Nothing is found out in it.
    Nothing,
    /// A candidate must be no worse.
    NoWorse {
        margins: Vec<(String, Option<u64>)>,
        /// None: a guard can never pass.
        legs: Option<Vec<Leg>>,
        /// Feedback that it waits for as well.
        feedback: Vec<String>,
        limit: Duration,
    },
    /// One of several must be better.
    Better { metrics: Vec<Better>, limit: Duration },
    /// One of several rankers must be preferred.
    Preferred { rows: Vec<Preference>, limit: Duration },
}

/// How strongly a ranker is preferred.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preference {
    /// Its part of the decisive sessions.
    pub(super) part: f64,
    /// How many of these; none: no number is enough.
    pub(super) sessions: Option<u64>,
    pub(super) time: Option<Duration>,
}

/// One metric of one arm.
#[derive(Debug)]
pub(super) struct Better {
    pub(super) metric: String,
    pub(super) variant: String,
    pub(super) expected: Expected,
    /// Whether that was not given.
    pub(super) assumed: bool,
    pub(super) source: Source,
    pub(super) rows: Vec<Row>,
    /// The least difference that is seen in the time that there is.
    pub(super) smallest: Option<f64>,
}

/// One difference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) difference: f64,
    /// Values of the arm; none: no number is enough.
    pub(super) values: Option<u64>,
    /// Calls, or units, of all.
    pub(super) calls: Option<u64>,
    pub(super) time: Option<Duration>,
}

/// The plan of `model`.
pub(super) fn plan(model: &Model, traffic: &Traffic) -> Plan {
    let names: Vec<Option<&str>> = match &model.strategy {
        Strategy::Staged(staged) => staged.stages.iter().map(|stage| Some(&*stage.name)).collect(),
        _ => vec![None],
    };
    let stages = model.strategy.stages().zip(names).enumerate();
    let stages = stages.map(|(index, (strategy, stage))| Stage {
        name: name(strategy, stage),
        what: what(model, strategy, index, traffic),
    });
    Plan { model: model.name.to_string(), kind: model.strategy.kind(), stages: stages.collect() }
}

fn what(model: &Model, strategy: &Strategy, stage: usize, traffic: &Traffic) -> What {
    match strategy {
        Strategy::Canary(canary) => no_worse(canary, traffic, traffic.rate),
        Strategy::Shadow(canary) => {
            let of_stage = |shadow: &&crate::config::Shadow| {
                shadow.variant == canary.candidate
                    && u32::try_from(stage).is_ok_and(|stage| shadow.is_copied_in(stage))
            };
            let copied = model.shadows.iter().find(of_stage);
            let sample = copied.map_or(Percent::ALL, |shadow| shadow.sample).probability();
            // The stage counts a copied call for both sides, as if each had half of twice as many.
            no_worse(canary, traffic, 2.0 * sample * traffic.rate)
        }
        Strategy::Ab(ab) => match &ab.judge {
            Some(judge) => better(model, (ab, judge), traffic),
            None => What::Nothing,
        },
        Strategy::Interleave(interleave) => preferred(interleave, traffic),
        Strategy::Rolling(_) => What::Nothing,
        Strategy::Bandit(bandit) => {
            let ab = evenly(bandit);
            ab.judge.as_ref().map_or(What::Nothing, |judge| better(model, (&ab, judge), traffic))
        }
        Strategy::Pinned(_) | Strategy::Staged(_) => What::Nothing,
    }
}

fn no_worse(canary: &Canary, traffic: &Traffic, rate: f64) -> What {
    let expected = plan::Expected { rate: traffic.failing, spread: SPREAD };
    let needs = plan::needs(canary, &expected);
    What::NoWorse {
        margins: needs.into_iter().map(|need| (need.guard.to_string(), need.calls)).collect(),
        legs: plan::legs(canary, &expected, rate),
        feedback: canary.guards.feedback.iter().map(|guard| guard.name.to_string()).collect(),
        limit: canary.max_step_time,
    }
}

/// Each call, or unit, is taken for a session, and those that bring a report for decisive.
fn preferred(interleave: &Interleave, traffic: &Traffic) -> What {
    let row = |times: f64| {
        let more = times * interleave.least;
        let sessions = sessions(interleave, more);
        let time = sessions.map(|sessions| time(sessions as f64 / traffic.reports, traffic.rate));
        Preference { part: 0.5 + more, sessions, time }
    };
    let below_all = |times: &f64| times * interleave.least < 0.5;
    let rows = TIMES.into_iter().filter(below_all).map(row).collect();
    What::Preferred { rows, limit: interleave.max_duration }
}

fn better(model: &Model, (ab, judge): (&Ab, &Judge), traffic: &Traffic) -> What {
    let mut metrics = Vec::new();
    for (index, metric) in judge.metrics.iter().enumerate() {
        for arm in &judge.arms {
            metrics.extend(one(model, (ab, judge), (index, metric), arm, traffic));
        }
    }
    What::Better { metrics, limit: judge.max_duration }
}

fn one(
    model: &Model,
    (ab, judge): (&Ab, &Judge),
    (index, metric): (usize, &Metric),
    arm: &Arm,
    traffic: &Traffic,
) -> Option<Better> {
    let (expected, assumed) = expected(model, &metric.source, traffic);
    let outlook = Outlook::new((ab, judge), arm, index, expected)?;
    let feedback = feedback(model, &metric.source);
    let with_default = feedback.is_some_and(|feedback| feedback.default.is_some());
    let reports = if is_reported(&metric.source) && !with_default { traffic.reports } else { 1.0 };
    // With a default a value counts when its window has closed.
    let wait = feedback.filter(|_| with_default).map_or(Duration::ZERO, |feedback| feedback.window);
    let per_value = 1.0 / (outlook.share * reports);
    let row = |times: f64| {
        let difference = times * outlook.least();
        let values = outlook.values(difference);
        let calls = values.map(|values| values as f64 * per_value);
        let time = calls.map(|calls| time(calls, traffic.rate).saturating_add(wait));
        Row { difference, values, calls: calls.map(|calls| calls.ceil() as u64), time }
    };
    let possible = judge.max_duration.saturating_sub(wait).as_secs_f64() * traffic.rate / per_value;
    Some(Better {
        metric: words(&metric.source),
        variant: arm.name.to_string(),
        expected,
        assumed,
        source: metric.source.clone(),
        rows: TIMES.map(row).into(),
        smallest: outlook.smallest(possible as u64),
    })
}

fn feedback<'a>(model: &'a Model, source: &Source) -> Option<&'a Feedback> {
    let Source::Feedback { name, .. } = source else { return None };
    model.feedback.iter().find(|feedback| feedback.name == *name)
}

/// What the baseline's values are like, and whether that was not given.
fn expected(model: &Model, source: &Source, traffic: &Traffic) -> (Expected, bool) {
    let rate = |rate: f64| Expected { mean: rate, deviation: (rate * (1.0 - rate)).sqrt() };
    let Source::Feedback { name, .. } = source else {
        return match source {
            Source::Latency => (Expected { mean: 0.0, deviation: SPREAD }, true),
            _ => (rate(traffic.failing), false),
        };
    };
    let given =
        |given: &[(String, f64)]| given.iter().find(|(known, _)| **known == **name).map(|(_, value)| *value);
    let (mean, deviation) = (given(&traffic.mean), given(&traffic.deviation));
    let assumed = mean.is_none();
    let expected = match feedback(model, source).map(|feedback| feedback.kind) {
        Some(FeedbackKind::Binary) => return (rate(mean.unwrap_or(MEAN)), assumed),
        // A quarter of the range, as values spread evenly over most of it have.
        Some(FeedbackKind::Bounded { min, max }) => Expected {
            mean: mean.unwrap_or(f64::midpoint(min, max)),
            deviation: deviation.unwrap_or((max - min) / 4.0),
        },
        _ => {
            let mean = mean.unwrap_or(1.0);
            Expected { mean, deviation: deviation.unwrap_or(mean.abs().max(f64::MIN_POSITIVE)) }
        }
    };
    (expected, assumed || deviation.is_none())
}

fn words(source: &Source) -> String {
    match source {
        Source::Feedback { name, .. } => format!("feedback {name}"),
        Source::Errors => "errors".to_owned(),
        Source::Rejections => "rejections".to_owned(),
        Source::Latency => "latency".to_owned(),
    }
}

impl Stage {
    /// How long it takes until it may end; none: nobody can say. Of a comparison that of the least difference of
    /// interest, by its fastest metric.
    pub(super) fn time(&self) -> Option<Duration> {
        match &self.what {
            What::Nothing => None,
            What::NoWorse { legs, feedback, .. } => {
                let legs = legs.as_ref().filter(|_| feedback.is_empty())?;
                Some(legs.iter().fold(Duration::ZERO, |sum, leg| sum.saturating_add(leg.time)))
            }
            What::Better { metrics, .. } => {
                metrics.iter().filter_map(|metric| metric.rows.first()?.time).min()
            }
            What::Preferred { rows, .. } => rows.first()?.time,
        }
    }
}
