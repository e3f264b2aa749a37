//! The pairs whose answers are furthest apart, so that people can look at them: a bounded few of each shadow.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::comparison::Comparison;

/// One pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offender {
    /// UUID of the call's prediction.
    pub prediction: String,
    /// Its trace, 32 hexadecimal digits.
    pub trace: String,
    /// When it was copied, since 1970.
    pub at: Duration,
    /// The output that differs most; empty: the answer as a whole.
    pub output: Arc<str>,
    /// How, in a few words.
    pub how: String,
    /// The part of its rows that differ, and how far they are apart.
    pub far: (f64, f64),
    /// What was served, where values are kept; else its status and size alone.
    pub served: Value,
    /// What the shadow answered, likewise.
    pub shadow: Value,
}

/// The few that are furthest apart, the worst first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Offenders {
    kept: Vec<Offender>,
}

impl Offenders {
    /// Where a comparison would stand among them, of `keep`; none: it agrees, or others are worse.
    pub fn place(&self, found: &Comparison, keep: usize) -> Option<usize> {
        let far = far(found)?;
        let place = self.kept.partition_point(|known| known.far >= far);
        (place < keep).then_some(place)
    }

    /// Takes one in at its place.
    pub fn insert(&mut self, place: usize, offender: Offender, keep: usize) {
        self.kept.insert(place.min(self.kept.len()), offender);
        self.kept.truncate(keep);
    }

    /// All of them.
    pub fn all(&self) -> &[Offender] {
        &self.kept
    }
}

/// How far both answers are apart; none: they agree.
pub fn far(found: &Comparison) -> Option<(f64, f64)> {
    if found.kind.is_some() {
        return Some((1.0, f64::MAX));
    }
    found.worst().map(|output| (output.part(), output.distance))
}

/// Which output differs most, and how.
pub fn how(found: &Comparison) -> (Arc<str>, String) {
    match (found.kind, found.worst()) {
        (Some(kind), _) => (Arc::from(""), kind.name().to_owned()),
        (None, Some(output)) => (Arc::clone(&output.name), output.words()),
        (None, None) => (Arc::from(""), "same".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Kind, Output};

    fn found(part: u64, distance: f64) -> Comparison {
        let output = Output {
            name: "y".into(),
            measure: Some("numeric"),
            inferred: true,
            kind: (part > 0).then_some(Kind::Values),
            rows: 10,
            differing: part,
            distance,
            figures: vec![("max_abs", distance)],
        };
        Comparison { outputs: vec![output], ..Comparison::default() }
    }

    fn keep(offenders: &mut Offenders, found: &Comparison) {
        if let Some(place) = offenders.place(found, 3) {
            let (output, how) = how(found);
            let offender = Offender {
                prediction: String::new(),
                trace: String::new(),
                at: Duration::ZERO,
                output,
                how,
                far: far(found).unwrap(),
                served: Value::Null,
                shadow: Value::Null,
            };
            offenders.insert(place, offender, 3);
        }
    }

    #[test]
    fn the_worst_stay_in_their_order() {
        let mut offenders = Offenders::default();
        for (part, distance) in [(1, 0.5), (0, 0.0), (3, 0.1), (1, 0.9), (1, 0.2)] {
            keep(&mut offenders, &found(part, distance));
        }
        keep(&mut offenders, &Comparison { kind: Some(Kind::Status), ..Comparison::default() });
        let how: Vec<&str> = offenders.all().iter().map(|one| &*one.how).collect();
        assert_eq!(
            how,
            ["status", "y: values, 3 of 10 rows, max_abs 0.1", "y: values, 1 of 10 rows, max_abs 0.9"]
        );
    }
}
