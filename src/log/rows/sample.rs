//! One of each to test on: a call, its copy, a report about it, a change; and rows as they are read back.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::assignment::{Odds, Reason};
use crate::config::{Feedback, FeedbackKind, Join, Model};
use crate::feedback::{self, Evidence, Receipt, Taken};
use crate::log::columns::{Columns, Row};
use crate::log::segment::cell;
use crate::log::table::Table;
use crate::outcome::Outcome;
use crate::prediction::Prediction;
use crate::rollout::{Actor, AuditRecord};
use crate::shadow::record::CopyOutcome;
use crate::telemetry::example;
use crate::telemetry::feedback::Seen;
use crate::verdict::{Action, Change, State};

/// What `write` writes, as JSON.
pub(crate) fn row(table: Table, write: impl FnOnce(&mut Row<'_>)) -> Map<String, Value> {
    let mut columns = Columns::new(table);
    write(&mut columns.row());
    let batch = columns.finish().unwrap();
    let fields = batch.schema();
    let cells = fields.fields().iter().zip(batch.columns());
    cells.map(|(field, column)| (field.name().clone(), cell(column, 0))).collect()
}

fn odds() -> Odds {
    let mut odds = Odds::new(2);
    odds.set(0, 0.5);
    odds.set(1, 0.5);
    odds
}

/// Unit 0xbeef asked for `fraud-latest`, got v2 of `fraud`.
pub(crate) fn outcome() -> Outcome {
    let mut outcome = example::outcome();
    if let Some(route) = &mut outcome.route {
        (route.odds, route.epoch) = (odds(), 2);
    }
    outcome
}

/// A copy of it, which did not answer in time.
pub(crate) fn copy() -> CopyOutcome {
    example::copy()
}

/// That it was approved, a minute after it was made, in this revision of the rollout.
pub(crate) fn seen(revision: u32) -> Seen {
    let approved = Feedback {
        name: "approved".into(),
        kind: FeedbackKind::Binary,
        window: Duration::from_secs(86_400),
        default: None,
        join: Join::First,
        max_rate: 1000,
    };
    let model = Arc::new(Model { feedback: vec![approved], ..(*example::model("fraud")).clone() });
    let made = Duration::from_secs(1_700_000_000);
    let prediction = Prediction {
        uuid: uuid::Builder::from_unix_timestamp_millis(made.as_millis() as u64, &[7; 10]).into_uuid(),
        rollout: 1,
        revision,
        epoch: 2,
        assigned: 1,
        served: 1,
        reason: Reason::Split,
        unit: Some(0xbeef),
        bucket: 3,
        odds: odds(),
        slots: None,
    };
    let receipt = Receipt { taken: Taken::First, evidence: Evidence::Now, value: Some(1.0) };
    let at = UNIX_EPOCH + made + Duration::from_secs(60);
    let value = Some(feedback::Value::Number(1.0));
    Seen { prediction, model, feedback: 0, value, receipt, slot: None, at }
}

/// That an operator held it.
pub(crate) fn record() -> AuditRecord {
    let change = Change {
        action: Action::Held,
        why: "no verdict in time".to_owned(),
        from: State::Running,
        to: State::Running,
        step: Some(1),
        share: 0.05,
        variants: Vec::new(),
        findings: Vec::new(),
    };
    AuditRecord {
        sequence: 3,
        millis: 1_700_000_000_000,
        model: "fraud".into(),
        revision: 1,
        epoch: 2,
        config: "0123456789ab".into(),
        actor: Actor::Operator { name: "ann".to_owned(), reason: "lunch".to_owned() },
        change,
    }
}
