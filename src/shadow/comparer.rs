//! The one task that compares answers, on the control runtime: no call ever waits for it.
//!
//! Every few milliseconds it empties the workers' queues. What it cannot keep up with finds the queues full, and is
//! counted as not compared; what waits counts against the bytes of its shadow, so it cannot pile up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::judges::Judges;
use super::offenders::{Offender, far, how};
use super::pair::Pair;
use super::record::Role;
use crate::comparison::drift::{self, Side};
use crate::comparison::judge::Judgement;
use crate::comparison::shown::{Showing, show};
use crate::comparison::{Comparison, compare};
use crate::config::{Judging, Shadow};
use crate::failpoint;
use crate::log::Door;
use crate::rollout::Clock;
use crate::telemetry::copies::Copies;

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long it compares before others have their turn.
const TURN: Duration = Duration::from_millis(2);

/// What it works with.
#[derive(Debug, Clone)]
pub struct Comparer {
    /// Pairs come from here, and go on from here to spans.
    pub copies: Arc<Copies>,
    /// Who judges them.
    pub judges: Arc<Judges>,
    /// Where they are logged; none: nowhere.
    pub log: Option<Door>,
    /// What evidence is timed by.
    pub clock: Clock,
}

impl Comparer {
    /// Compares for as long as it is polled.
    pub async fn run(self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let mut begun = Instant::now();
            for worker in 0..self.copies.workers() {
                for _ in 0..self.copies.waiting(worker) {
                    let Some(pair) = self.copies.take(worker) else { break };
                    self.compare(worker, *pair);
                    if begun.elapsed() >= TURN {
                        tokio::task::yield_now().await;
                        begun = Instant::now();
                    }
                }
            }
        }
    }

    fn compare(&self, worker: usize, mut pair: Pair) {
        failpoint::panics("comparer");
        let now = self.clock.now();
        let model = Arc::clone(&pair.outcome.model);
        let name = Arc::clone(&pair.outcome.variant.name);
        let judged = model.shadows.iter().filter_map(|shadow| Some((shadow, shadow.judging.as_ref()?)));
        match pair.outcome.role {
            Role::Shadow => {
                let own = |shadow: &Shadow| {
                    model.variants.get(shadow.variant).is_some_and(|variant| variant.name == name)
                };
                let mut judged = judged;
                let Some((shadow, judging)) = judged.find(|(shadow, _)| own(shadow)) else {
                    return self.end(worker, pair);
                };
                let (found, verdict) = self.of_shadow((shadow, judging), &pair, now).unzip();
                if pair.outcome.skipped.is_none() {
                    pair.series.add_compared(found.as_deref());
                }
                (pair.outcome.comparison, pair.outcome.verdict) = (found, verdict.flatten());
            }
            Role::Control => {
                let beside = |judging: &Judging| {
                    judging.control.as_ref().is_some_and(|control| control.variant.name == name)
                };
                let mut first = None;
                for (shadow, judging) in judged.filter(|(_, judging)| beside(judging)) {
                    let Some(found) = held(judging, &pair) else { break };
                    first.get_or_insert_with(|| Arc::new(found.clone()));
                    let whose = (&*model, shadow, judging);
                    self.judges.control(whose, (pair.outcome.prediction, found), now);
                }
                if pair.outcome.skipped.is_none() {
                    pair.series.add_compared(first.as_deref());
                }
                pair.outcome.comparison = first;
            }
        }
        self.end(worker, pair);
    }

    /// On to the log, and to spans.
    fn end(&self, worker: usize, pair: Pair) {
        if let Some(log) = &self.log {
            log.copy(&pair.outcome);
        }
        self.copies.ended(worker, pair.outcome, &pair.series);
    }

    fn of_shadow(
        &self,
        (shadow, judging): (&Shadow, &Judging),
        pair: &Pair,
        now: Duration,
    ) -> Option<(Arc<Comparison>, Option<Judgement>)> {
        let found = Arc::new(held(judging, pair)?);
        let [served, candidate] = pair.answers()?;
        let outcome = &pair.outcome;
        let whose = (&*outcome.model, shadow, judging);
        let reading = pair.reading(&judging.compare);
        let showing = Showing {
            mask: judging.offenders.mask.clone(),
            bytes: judging.offenders.values.map_or(0, |size| size.bytes()),
        };
        let offender = || {
            let (output, how) = how(&found);
            Offender {
                prediction: outcome.prediction.hyphenated().to_string(),
                trace: format!("{:032x}", outcome.primary.0),
                at: now,
                output,
                how,
                far: far(&found).unwrap_or_default(),
                served: show(&reading, &served, &showing),
                shadow: show(&reading, &candidate, &showing),
            }
        };
        let took = ([served.latency, candidate.latency], pair.controlled);
        let verdict = self.judges.pair(whose, (outcome.prediction, &found), took, offender, now);
        if found.kind.is_none() {
            let (base, own) = (drift::values(&reading, &served), drift::values(&reading, &candidate));
            self.judges.add(&outcome.model, shadow, judging, |judge| {
                judge.values(Side::Base, 0.5, &base);
                judge.values(Side::Candidate, 0.5, &own);
            });
        }
        Some((found, verdict))
    }
}

/// Both answers held against each other.
fn held(judging: &Judging, pair: &Pair) -> Option<Comparison> {
    let [served, candidate] = pair.answers()?;
    compare(&pair.reading(&judging.compare), &served, &candidate)
}
