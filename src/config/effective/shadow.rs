//! Who gets copies and how their answers are judged, in the words of the file.

use serde_json::{Map, Value, json};

use super::put;
use crate::config::units::write_duration;
use crate::config::{Compare, Judging, Measure, Model, Shadow};

pub(super) fn shadow(model: &Model, shadow: &Shadow) -> Value {
    let mut map = Map::new();
    put(&mut map, "variant", model.variants.get(shadow.variant).map(|variant| &*variant.name));
    map.insert("sample".into(), shadow.sample.to_string().into());
    map.insert("deadline".into(), write_duration(shadow.deadline).into());
    map.insert("calls".into(), shadow.calls.into());
    map.insert("bytes".into(), shadow.bytes.to_string().into());
    map.insert("on_cancel".into(), shadow.on_cancel.name().into());
    map.insert("strip".into(), shadow.strip.iter().map(|name| Value::from(name.as_str())).collect());
    put(&mut map, "trace_sample", shadow.trace_sample.map(|share| share.to_string()));
    match &shadow.judging {
        Some(found) => judging(found, &mut map),
        None => put(&mut map, "compare", Some("off")),
    }
    Value::Object(map)
}

fn judging(judging: &Judging, map: &mut Map<String, Value>) {
    map.insert("compare".into(), judging.compare.iter().map(compare).collect());
    let control = judging.control.as_ref().map(|control| {
        // What is no variant is said by its address, which it has for a name.
        json!({"to": *control.variant.name, "sample": control.sample.to_string()})
    });
    put(map, "control", control);
    put(map, "disagreement", judging.disagreement.map(|share| share.to_string()));
    map.insert("alpha".into(), super::share(judging.alpha).into());
    let offenders = &judging.offenders;
    let mut kept = Map::new();
    kept.insert("keep".into(), offenders.keep.into());
    put(&mut kept, "values", offenders.values.map(|size| size.to_string()));
    kept.insert("mask".into(), offenders.mask.iter().map(|name| Value::from(&**name)).collect());
    map.insert("offenders".into(), Value::Object(kept));
}

fn compare(rule: &Compare) -> Value {
    let mut map = Map::new();
    map.insert("output".into(), (*rule.output).into());
    map.insert("as".into(), rule.measure.name().into());
    match rule.measure {
        Measure::Exact | Measure::Ignore => {}
        Measure::Numeric(numeric) => {
            put(&mut map, "absolute", numeric.absolute);
            put(&mut map, "relative", numeric.relative);
            put(&mut map, "ulp", numeric.ulp);
            map.insert("equal_nan".into(), numeric.equal_nan.into());
        }
        Measure::Class { top } => put(&mut map, "top", Some(top)),
        Measure::Scores { tolerance } | Measure::Embedding { tolerance } => {
            put(&mut map, "tolerance", Some(tolerance));
        }
        Measure::Ranking { tolerance, depth } => {
            put(&mut map, "tolerance", Some(tolerance));
            put(&mut map, "depth", Some(depth));
        }
    }
    Value::Object(map)
}
