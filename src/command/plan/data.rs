//! A plan for programs: times in seconds, shares and differences as parts or in the metric's own unit.

use serde_json::{Map, Value, json};

use super::Traffic;
use super::made::{Better, Plan, Stage, What};

/// All plans, by model.
pub(super) fn all(plans: &[Plan], traffic: &Traffic) -> Value {
    let of = |plan: &Plan| {
        let stages: Vec<Value> = plan.stages.iter().map(stage).collect();
        let value = json!({
            "kind": plan.kind,
            "per_second": traffic.rate,
            "of": if traffic.units { "units" } else { "calls" },
            "stages": stages,
        });
        (plan.model.clone(), value)
    };
    Value::Object(plans.iter().map(of).collect())
}

fn stage(stage: &Stage) -> Value {
    let mut value = match &stage.what {
        What::Nothing => json!({}),
        What::NoWorse { margins, legs, feedback, limit } => {
            let guards: Map<String, Value> =
                margins.iter().map(|(guard, calls)| (guard.clone(), json!(calls))).collect();
            let steps = legs.as_ref().map(|legs| {
                let step = |leg: &crate::strategy::canary::plan::Leg| {
                    json!({"share": leg.share.probability(), "calls": leg.calls, "seconds": leg.time.as_secs_f64()})
                };
                legs.iter().map(step).collect::<Vec<_>>()
            });
            json!({
                "guards": guards,
                "steps": steps,
                "waits_for_feedback": feedback,
                "max_seconds_of_a_step": limit.as_secs_f64(),
            })
        }
        What::Better { metrics, limit } => json!({
            "metrics": metrics.iter().map(better).collect::<Vec<_>>(),
            "max_seconds": limit.as_secs_f64(),
        }),
        What::Preferred { rows, limit } => {
            let rows = rows.iter().map(|row| {
                let seconds = row.time.map(|time| time.as_secs_f64());
                json!({"preferred_by": row.part, "decisive_sessions": row.sessions, "seconds": seconds})
            });
            json!({"preferences": rows.collect::<Vec<_>>(), "max_seconds": limit.as_secs_f64()})
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("name".to_owned(), json!(stage.name));
        object.insert("seconds".to_owned(), json!(stage.time().map(|time| time.as_secs_f64())));
    }
    value
}

fn better(better: &Better) -> Value {
    let rows = better.rows.iter().map(|row| {
        let seconds = row.time.map(|time| time.as_secs_f64());
        json!({"difference": row.difference, "values": row.values, "in_all": row.calls, "seconds": seconds})
    });
    json!({
        "metric": better.metric,
        "variant": better.variant,
        "mean": better.expected.mean,
        "deviation": better.expected.deviation,
        "assumed": better.assumed,
        "differences": rows.collect::<Vec<_>>(),
        "smallest_in_time": better.smallest,
    })
}
