//! What the answers of one model's variants prove of how they are distributed: each beside the baseline's, and each
//! beside a reference.
//!
//! Nobody answers the same call twice here, so the two sides are told apart by chance alone: which variant a call was
//! given to. That toss is what the evidence rests on ([`crate::comparison::drift`]), so only calls count that chance
//! gave away, each with the odds that it met, by one row of its answer; of a unit that keeps its variant, one call a
//! day.
//!
//! Days are looked at apart: each begins with all units and no evidence, and the d-th (from 0) must bring
//! (d + 1)(d + 2) times as much. So what changes after long sameness is found as soon as what is there from the start,
//! and the chance that what never drifted is ever accused stays below `alpha`, for 1/2 + 1/6 + 1/12 + … = 1. It is
//! split evenly over all that is compared, too. An alarm asks for more than proof: a stability index above 0.1, and above
//! what chance exceeds once in a thousand times, for with enough calls anything is proven.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::Units;
use crate::comparison::OUTPUTS;
use crate::comparison::drift::{Against, Drift, Drifted, Reference, Side, Values};

/// How long evidence is gathered before it begins anew.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A stability index that nobody needs to be told of.
pub(super) const SMALL: f64 = 0.1;
/// Bytes of an output's name that are kept.
const NAME: usize = 128;

/// Distributions that were kept, by output.
pub type References = BTreeMap<Arc<str>, Reference>;

/// What is compared: whose output, and with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The variant.
    pub variant: Arc<str>,
    /// Its output.
    pub output: Arc<str>,
    /// With what.
    pub with: With,
}

/// What an output is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum With {
    /// What the baseline answers in the same time.
    Baseline,
    /// What was kept.
    Reference,
}

impl With {
    /// The word used in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            With::Baseline => "baseline",
            With::Reference => "reference",
        }
    }
}

/// An answer that is counted.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Who answered.
    pub variant: &'a Arc<str>,
    /// The arms that chance could have given the call to, the baseline aside, with the odds for each as part of those for
    /// it and the baseline; empty where chance did not decide.
    pub odds: &'a [(Arc<str>, f64)],
    /// Whether the baseline answered.
    pub baseline: bool,
    /// One row of each output.
    pub values: &'a [(Arc<str>, Values)],
    /// Keyed hash of the unit, where the call brought one.
    pub unit: Option<u64>,
}

/// Everything that is remembered of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When this day began, and how many were before it.
    begun: Duration,
    day: u32,
    units: Units,
    /// By variant and output: all that was answered, to make a reference of.
    served: Vec<(Subject, Drift)>,
    beside: Vec<(Subject, Drift)>,
    against: Vec<(Subject, Against)>,
    found: Vec<Found>,
}

/// A drift that was proven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Found {
    subject: Subject,
    since: Duration,
    drifted: Drifted,
}

/// What is known of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub subject: Subject,
    /// Today's figures; none before both sides were counted.
    pub today: Option<Drifted>,
    /// ln E at which it is proven.
    pub enough: f64,
    /// When a drift was proven first, since 1970, and what it was then.
    pub found: Option<(Duration, Drifted)>,
}

impl Evidence {
    /// Counts an answer; whether it was counted, for a unit counts once a day. Each draw is 64 fair bits.
    pub fn add(
        &mut self,
        answered: &Answered<'_>,
        references: &References,
        now: Duration,
        mut draw: impl FnMut() -> u64,
    ) -> bool {
        if self.begun.is_zero() {
            self.begun = now;
        }
        if now.saturating_sub(self.begun) >= DAY {
            self.renew(now);
        }
        if answered.unit.is_some_and(|unit| !self.units.first(unit)) {
            return false;
        }
        for (output, values) in answered.values.iter().filter(|(output, _)| output.len() <= NAME) {
            let subject = |variant: &Arc<str>, with| Subject {
                variant: Arc::clone(variant),
                output: Arc::clone(output),
                with,
            };
            if let Some(served) =
                of(&mut self.served, subject(answered.variant, With::Baseline), Drift::default)
            {
                served.add(Side::Base, 0.5, values);
            }
            for (arm, share) in answered.odds.iter().filter(|(_, share)| *share > 0.0 && *share < 1.0) {
                let side = match answered.baseline {
                    true => Side::Base,
                    false if arm == answered.variant => Side::Candidate,
                    false => continue,
                };
                if let Some(drift) = of(&mut self.beside, subject(arm, With::Baseline), Drift::default) {
                    drift.add(side, *share, values);
                }
            }
            if let Some(reference) = references.get(output)
                && let Some(against) =
                    of(&mut self.against, subject(answered.variant, With::Reference), || reference.begin())
            {
                against.add(values, &mut draw);
            }
        }
        true
    }

    /// What is known of everything that is compared.
    pub fn reports(&self, alpha: f64) -> Vec<Report> {
        let enough = self.enough(alpha);
        let report = |(subject, today): (&Subject, Option<Drifted>)| Report {
            subject: subject.clone(),
            today,
            enough,
            found: self
                .found
                .iter()
                .find(|found| found.subject == *subject)
                .map(|found| (found.since, found.drifted)),
        };
        let mut reports: Vec<Report> = self.all().map(report).collect();
        reports.sort_by(|one, other| one.subject.cmp(&other.subject));
        reports
    }

    /// What a variant answered so far, to hold others against; empty before some 500 values are known of an output.
    pub fn references(&self, variant: &str) -> References {
        let own = self.served.iter().filter(|(subject, _)| *subject.variant == *variant);
        own.filter_map(|(subject, drift)| Some((Arc::clone(&subject.output), drift.reference()?))).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&Subject, Option<Drifted>)> {
        let beside = self.beside.iter().map(|(subject, drift)| (subject, drift.report()));
        beside.chain(self.against.iter().map(|(subject, against)| (subject, against.report())))
    }

    /// ln E at which one subject's drift is proven today.
    fn enough(&self, alpha: f64) -> f64 {
        let (subjects, day) = ((self.beside.len() + self.against.len()).max(1), f64::from(self.day));
        (subjects as f64 * (day + 1.0) * (day + 2.0) / alpha).ln()
    }

    /// Looks whether a drift is proven that was not; the evidence holds however often this is done.
    pub fn look(&mut self, alpha: f64, now: Duration) {
        let enough = self.enough(alpha);
        let beside = self.beside.iter().filter(|(_, drift)| drift.ln_e() >= enough);
        let beside = beside.map(|(subject, drift)| (subject, drift.report()));
        let against = self.against.iter().filter(|(_, against)| against.ln_e() >= enough);
        let against = against.map(|(subject, against)| (subject, against.report()));
        let large = |drifted: &Drifted| {
            drifted.by_chance.is_some_and(|by_chance| drifted.stability > by_chance.max(SMALL))
        };
        let known = |subject: &Subject| self.found.iter().any(|found| found.subject == *subject);
        let new: Vec<Found> = beside
            .chain(against)
            .filter(|(subject, _)| !known(subject))
            .filter_map(|(subject, drifted)| Some((subject, drifted.filter(large)?)))
            .map(|(subject, drifted)| Found { subject: subject.clone(), since: now, drifted })
            .collect();
        self.found.extend(new);
    }

    /// The next day.
    fn renew(&mut self, now: Duration) {
        self.begun = now;
        self.day = self.day.saturating_add(1);
        self.units.clear();
        self.beside.iter_mut().for_each(|(_, drift)| drift.renew());
        self.against.iter_mut().for_each(|(_, against)| against.renew());
    }
}

/// What belongs to a subject; none beyond as many outputs as are kept of each variant.
fn of<T>(all: &mut Vec<(Subject, T)>, subject: Subject, new: impl FnOnce() -> T) -> Option<&mut T> {
    let at = match all.iter().position(|(known, _)| *known == subject) {
        Some(at) => at,
        None if all.iter().filter(|(known, _)| known.variant == subject.variant).count() >= OUTPUTS => {
            return None;
        }
        None => {
            all.push((subject, new()));
            all.len() - 1
        }
    };
    all.get_mut(at).map(|(_, kept)| kept)
}

#[cfg(test)]
mod tests;
