//! The last exported trace of each latency bucket, so that a bar in a histogram leads to a call that made it.
//!
//! Only traces which a collector took are kept: an exemplar that leads nowhere is worse than none. There are never
//! more than the series have buckets.

use std::time::{Duration, SystemTime};

use dashmap::DashMap;

use super::shard::{Label, bucket};
use crate::outcome::Outcome;

/// One call that a bucket can be explained by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemplar {
    /// Of its server span.
    pub trace_id: u128,
    /// Of its server span.
    pub span_id: u64,
    /// Its total latency.
    pub latency: Duration,
    /// When it ended.
    pub ended: SystemTime,
    label: Label,
}

impl Exemplar {
    /// The exemplar that a call could be; `None` for one that was never routed.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        let route = outcome.route.as_ref()?;
        let variant = route.model.variants.get(route.assigned.variant)?;
        Some(Exemplar {
            trace_id: outcome.trace.trace_id,
            span_id: outcome.trace.span_id,
            latency: outcome.latency.total,
            ended: outcome.started + outcome.latency.total,
            label: Label { model: route.model.name.clone(), variant: variant.name.clone() },
        })
    }
}

/// Those of the calls whose spans leave together, one of each bucket: the last.
#[derive(Debug, Default)]
pub(super) struct Gathered(Vec<Exemplar>);

impl Gathered {
    pub(super) fn add(&mut self, exemplar: Exemplar) {
        let bucket_of = |one: &Exemplar| bucket(one.latency);
        let same =
            |one: &&mut Exemplar| bucket_of(one) == bucket_of(&exemplar) && one.label == exemplar.label;
        match self.0.iter_mut().find(same) {
            Some(earlier) => *earlier = exemplar,
            None => self.0.push(exemplar),
        }
    }

    /// Each.
    pub(super) fn all(self) -> Vec<Exemplar> {
        self.0
    }
}

/// By series and bucket.
#[derive(Debug, Default)]
pub struct Exemplars(DashMap<(Label, usize), Exemplar>);

impl Exemplars {
    pub(super) fn keep(&self, exemplar: Exemplar) {
        self.0.insert((exemplar.label.clone(), bucket(exemplar.latency)), exemplar);
    }

    /// The exemplar of one bucket of a series.
    pub fn get(&self, label: &Label, bucket: usize) -> Option<Exemplar> {
        self.0.get(&(label.clone(), bucket)).map(|entry| entry.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::example::outcome;

    #[test]
    fn the_last_of_each_bucket_is_gathered() {
        let exemplar = |span_id, latency| {
            let mut call = outcome();
            call.trace.span_id = span_id;
            call.latency.total = Duration::from_millis(latency);
            Exemplar::of(&call).unwrap()
        };
        let mut gathered = Gathered::default();
        for one in [exemplar(1, 3), exemplar(2, 700), exemplar(3, 4)] {
            gathered.add(one);
        }
        let kept: Vec<_> = gathered.all().iter().map(|one| one.span_id).collect();
        assert_eq!(kept, [3, 2]);
    }
}
